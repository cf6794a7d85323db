//! The order service: accepts checkouts, follows every order to its end, and says how it ended.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::event::{
    CHECKOUTS, Checkout, Delivery, ORDERS, OUTCOMES, Order, Outgoing, PAYMENTS, Refusal, SHIPMENTS,
    STOCK, kind,
};
use crate::service::{Malformed, Service};
use crate::tally::Tally;

/// Orders that are open, by id.
#[derive(Debug)]
pub(crate) struct OrderDesk {
    open: BTreeSet<String>,
    tally: Arc<Tally>,
}

impl OrderDesk {
    pub(crate) fn new(tally: Arc<Tally>) -> Self {
        Self {
            open: BTreeSet::new(),
            tally,
        }
    }

    fn place(&mut self, checkout: Checkout) -> Result<Vec<Outgoing>, Malformed> {
        if checkout.lines.is_empty() || checkout.lines.iter().any(|line| line.quantity == 0) {
            return Err(Malformed("the basket is empty".to_owned()));
        }
        let total_cents = checkout
            .lines
            .iter()
            .map(|line| line.price_cents * u64::from(line.quantity))
            .sum();
        let order = Order {
            order: checkout.order,
            customer: checkout.customer,
            card: checkout.card,
            lines: checkout.lines,
            total_cents,
        };
        self.open.insert(order.order.clone());
        self.tally.placed.add(1);
        Ok(vec![Outgoing::new(
            ORDERS,
            kind::PLACED,
            &order.order,
            &order,
        )])
    }

    fn complete(&mut self, order: &Order) -> Vec<Outgoing> {
        if !self.open.remove(&order.order) {
            return Vec::new();
        }
        self.tally.completed.add(1);
        vec![Outgoing::new(
            OUTCOMES,
            kind::COMPLETED,
            &order.order,
            order,
        )]
    }

    fn reject(&mut self, refusal: &Refusal) -> Vec<Outgoing> {
        if !self.open.remove(&refusal.order.order) {
            return Vec::new();
        }
        self.tally.rejected.add(1);
        vec![Outgoing::new(
            OUTCOMES,
            kind::REJECTED,
            &refusal.order.order,
            refusal,
        )]
    }
}

impl Service for OrderDesk {
    fn name(&self) -> &'static str {
        "order"
    }

    fn topics(&self) -> &'static [&'static str] {
        &[CHECKOUTS, STOCK, PAYMENTS, SHIPMENTS]
    }

    fn handle(&mut self, delivery: &Delivery) -> Result<Vec<Outgoing>, Malformed> {
        match delivery.kind.as_str() {
            kind::CHECKOUT => self.place(delivery.read().map_err(Malformed)?),
            kind::UNAVAILABLE | kind::DECLINED => {
                Ok(self.reject(&delivery.read().map_err(Malformed)?))
            }
            kind::SHIPPED => Ok(self.complete(&delivery.read().map_err(Malformed)?)),
            _ => Ok(Vec::new()),
        }
    }
}
