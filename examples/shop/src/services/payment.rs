//! The payment service: charges the card once the stock is reserved.
//!
//! Its gateway sometimes calls back twice; then the same event goes out twice, with the same id.

use std::sync::Arc;

use crate::event::{Delivery, Order, Outgoing, PAYMENTS, Refusal, STOCK, kind};
use crate::service::{Malformed, Service};
use crate::tally::Tally;

/// Cards ending in this are declined by the bank.
pub(crate) const DECLINED_CARD: &str = "0002";
/// One payment in so many is reported twice by the gateway.
const REPEAT_ONE_IN: u64 = 40;

/// Charges cards.
#[derive(Debug)]
pub(crate) struct Payment {
    charged: u64,
    tally: Arc<Tally>,
}

impl Payment {
    pub(crate) fn new(tally: Arc<Tally>) -> Self {
        Self { charged: 0, tally }
    }

    fn charge(&mut self, order: Order) -> Outgoing {
        let id = order.order.clone();
        if order.card.ends_with(DECLINED_CARD) {
            self.tally.declined.add(1);
            let reason = "the card was declined".to_owned();
            return Outgoing::new(PAYMENTS, kind::DECLINED, &id, &Refusal { order, reason });
        }
        self.charged += 1;
        self.tally.captured.add(1);
        let mut captured = Outgoing::new(PAYMENTS, kind::CAPTURED, &id, &order);
        if self.charged.is_multiple_of(REPEAT_ONE_IN) {
            captured.times = 2;
            self.tally.payments_repeated.add(1);
        }
        captured
    }
}

impl Service for Payment {
    fn name(&self) -> &'static str {
        "payment"
    }

    fn topics(&self) -> &'static [&'static str] {
        &[STOCK]
    }

    fn handle(&mut self, delivery: &Delivery) -> Result<Vec<Outgoing>, Malformed> {
        match delivery.kind.as_str() {
            kind::RESERVED => Ok(vec![self.charge(delivery.read().map_err(Malformed)?)]),
            _ => Ok(Vec::new()),
        }
    }
}
