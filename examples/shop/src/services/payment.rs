//! The payment service: charges the card once the stock is reserved.
//!
//! Its gateway has days like any other: now and then a call fails, and the library tries again; now
//! and then it reports a payment twice, and the same event goes out twice, with the same id.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wharf::{Failure, Msg, Publish, Router, State, Unknown, group};

use super::{Service, TOGETHER};
use crate::event::{PaymentCaptured, PaymentDeclined, STOCK, StockReserved};
use crate::intake::Intake;
use crate::tally::Tally;

/// Cards ending in this are declined by the bank.
pub(crate) const DECLINED_CARD: &str = "0002";
/// One payment in so many is reported twice by the gateway.
const REPEAT_ONE_IN: u64 = 40;
/// One call of the gateway in so many fails.
const FAILS_ONE_IN: u64 = 60;

pub(super) const SERVICE: Service = Service {
    name: "payment",
    topics: &[STOCK],
    router,
};

/// The payment provider, as far as the shop knows it.
#[derive(Clone, Debug)]
struct Gateway {
    calls: Arc<AtomicU64>,
    charged: Arc<AtomicU64>,
    tally: Arc<Tally>,
}

impl Gateway {
    fn new(tally: Arc<Tally>) -> Self {
        Self {
            calls: Arc::default(),
            charged: Arc::default(),
            tally,
        }
    }

    /// Whether the card takes it.
    fn charge(&self, card: &str) -> Result<bool, GatewayError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if call.is_multiple_of(FAILS_ONE_IN) {
            self.tally.gateway_failures.add(1);
            return Err(GatewayError::Unreachable);
        }
        Ok(!card.ends_with(DECLINED_CARD))
    }

    /// How often it reports a payment.
    fn reports(&self) -> usize {
        let charged = self.charged.fetch_add(1, Ordering::Relaxed) + 1;
        if charged.is_multiple_of(REPEAT_ONE_IN) {
            self.tally.payments_repeated.add(1);
            return 2;
        }
        1
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error, Failure)]
enum GatewayError {
    #[error("the payment gateway does not answer")]
    #[failure(retry)]
    Unreachable,
}

fn router(tally: Arc<Tally>, intake: Intake) -> Router {
    let route = group(SERVICE.name)
        .on(charge)
        .unknown(Unknown::Skip)
        .concurrency(TOGETHER)
        .layer(intake);
    Router::new()
        .topics(SERVICE.topics.iter().copied(), route)
        .with_state(Gateway::new(tally))
}

/// Captured, once or twice, or declined.
type Charged = (
    Vec<Publish<PaymentCaptured>>,
    Option<Publish<PaymentDeclined>>,
);

async fn charge(
    State(gateway): State<Gateway>,
    Msg(StockReserved { order }): Msg<StockReserved>,
) -> Result<Charged, GatewayError> {
    if !gateway.charge(&order.card)? {
        gateway.tally.declined.add(1);
        let reason = "the card was declined".to_owned();
        return Ok((Vec::new(), Some(Publish(PaymentDeclined { order, reason }))));
    }
    gateway.tally.captured.add(1);
    let captured = Publish(PaymentCaptured {
        payment: format!("payment-{order}"),
        order,
    });
    Ok((vec![captured; gateway.reports()], None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Order;

    #[tokio::test]
    async fn one_call_in_so_many_fails_and_the_next_attempt_succeeds() {
        let gateway = Gateway::new(Arc::default());
        let order = Order {
            number: "o-1".to_owned(),
            customer: "c".to_owned(),
            card: "4711".to_owned(),
            lines: Vec::new(),
            total_cents: 100,
        };
        let mut failed = 0;
        for _ in 0..FAILS_ONE_IN + 1 {
            let reserved = StockReserved {
                order: order.clone(),
            };
            match charge(State(gateway.clone()), Msg(reserved)).await {
                Ok((captured, None)) => assert!(!captured.is_empty()),
                Ok((_, Some(declined))) => panic!("{declined:?}"),
                Err(GatewayError::Unreachable) => failed += 1,
            }
        }
        assert_eq!(failed, 1);
        assert_eq!(gateway.tally.captured.get(), FAILS_ONE_IN);
        assert_eq!(gateway.tally.payments_repeated.get(), 1);
    }
}
