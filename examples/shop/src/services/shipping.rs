//! The shipping service: sends a parcel for every captured payment.

use std::sync::Arc;

use crate::event::{Delivery, Order, Outgoing, PAYMENTS, SHIPMENTS, kind};
use crate::service::{Malformed, Service};
use crate::tally::Tally;

/// Sends parcels.
#[derive(Debug)]
pub(crate) struct Shipping {
    tally: Arc<Tally>,
}

impl Shipping {
    pub(crate) fn new(tally: Arc<Tally>) -> Self {
        Self { tally }
    }
}

impl Service for Shipping {
    fn name(&self) -> &'static str {
        "shipping"
    }

    fn topics(&self) -> &'static [&'static str] {
        &[PAYMENTS]
    }

    fn handle(&mut self, delivery: &Delivery) -> Result<Vec<Outgoing>, Malformed> {
        if delivery.kind != kind::CAPTURED {
            return Ok(Vec::new());
        }
        let order: Order = delivery.read().map_err(Malformed)?;
        self.tally.shipped.add(1);
        Ok(vec![Outgoing::new(
            SHIPMENTS,
            kind::SHIPPED,
            &order.order,
            &order,
        )])
    }
}
