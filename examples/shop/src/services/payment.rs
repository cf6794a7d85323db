//! The payment service: charges the card once the stock is reserved.
//!
//! Its gateway has days like any other: now and then a call fails, and the library tries again; now
//! and then it reports a payment twice, and the same event goes out twice, with the same id. Payments
//! are rows, and what is published is written beside them, as in the order service.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::Pool;
use wharf::{Failure, Msg, Router, SqlInbox, State, Tx, Unknown, group, outbox};

use super::{Kit, Service, TOGETHER};
use crate::database::{Database, Sql, Value};
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

    /// How often it reports that the card was charged; 0 when the card is declined.
    fn charge(&self, card: &str) -> Result<u64, GatewayError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if call.is_multiple_of(FAILS_ONE_IN) {
            self.tally.gateway_failures.add(1);
            return Err(GatewayError::Unreachable);
        }
        if card.ends_with(DECLINED_CARD) {
            return Ok(0);
        }
        let charged = self.charged.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(1 + u64::from(charged.is_multiple_of(REPEAT_ONE_IN)))
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error, Failure)]
enum GatewayError {
    #[error("the payment gateway does not answer")]
    #[failure(retry)]
    Unreachable,
}

fn router(kit: Kit) -> Router {
    let gateway = Gateway::new(kit.tally);
    match kit.database {
        Database::Sqlite(pool) => routes(pool, kit.intake, gateway),
        Database::Postgres(pool) => routes(pool, kit.intake, gateway),
    }
}

fn routes<D: Sql>(pool: Pool<D>, intake: Intake, gateway: Gateway) -> Router {
    let route = group(SERVICE.name)
        .on(charge::<D>)
        .unknown(Unknown::Skip)
        .concurrency(TOGETHER)
        .layer(Intake::behind_inbox())
        .inbox(SqlInbox::new(pool, SERVICE.name))
        .layer(intake);
    Router::new()
        .topics(SERVICE.topics.iter().copied(), route)
        .with_state(gateway)
}

async fn charge<D: Sql>(
    State(gateway): State<Gateway>,
    mut tx: Tx<D>,
    Msg(StockReserved { order }): Msg<StockReserved>,
) -> Result<(), wharf::Error> {
    let reports = gateway.charge(&order.card)?;
    let sql =
        "INSERT INTO payments (order_number, total_cents, reports, state) VALUES ($1, $2, $3, $4)";
    let row = [
        Value::Text(&order.number),
        Value::Number(order.total_cents),
        Value::Number(reports.max(1)),
        Value::Text(if reports > 0 { "captured" } else { "declined" }),
    ];
    D::change(&mut tx, sql, &row).await?;
    if reports == 0 {
        let reason = "the card was declined".to_owned();
        outbox::publish(&mut tx, &PaymentDeclined { order, reason }).await?;
        return Ok(());
    }
    let payment = format!("payment-{order}");
    let captured = PaymentCaptured { payment, order };
    for _ in 0..reports {
        outbox::publish(&mut tx, &captured).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_in_so_many_fails_and_one_payment_in_so_many_is_reported_twice() {
        let gateway = Gateway::new(Arc::default());
        let (mut failed, mut repeated) = (0, 0);
        for _ in 0..FAILS_ONE_IN + 1 {
            match gateway.charge("4711") {
                Ok(reports) => repeated += reports - 1,
                Err(GatewayError::Unreachable) => failed += 1,
            }
        }
        assert_eq!((failed, repeated), (1, 1));
        assert_eq!(gateway.tally.gateway_failures.get(), 1);
        assert_eq!(gateway.charge(DECLINED_CARD), Ok(0));
    }
}
