//! The notification service: one message to the customer for every order that ended.

use std::sync::Arc;

use crate::event::{Delivery, OUTCOMES, Order, Outgoing, Refusal, kind};
use crate::service::{Malformed, Service};
use crate::tally::Tally;

/// Tells customers.
#[derive(Debug)]
pub(crate) struct Notification {
    tally: Arc<Tally>,
}

impl Notification {
    pub(crate) fn new(tally: Arc<Tally>) -> Self {
        Self { tally }
    }
}

impl Service for Notification {
    fn name(&self) -> &'static str {
        "notification"
    }

    fn topics(&self) -> &'static [&'static str] {
        &[OUTCOMES]
    }

    fn handle(&mut self, delivery: &Delivery) -> Result<Vec<Outgoing>, Malformed> {
        match delivery.kind.as_str() {
            kind::COMPLETED => drop(delivery.read::<Order>().map_err(Malformed)?),
            kind::REJECTED => drop(delivery.read::<Refusal>().map_err(Malformed)?),
            _ => return Ok(Vec::new()),
        }
        self.tally.notified.add(1);
        Ok(Vec::new())
    }
}
