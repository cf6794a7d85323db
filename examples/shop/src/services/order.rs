//! The order service: accepts checkouts, follows every order to its end, and says how it ended.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use wharf::{Failure, Msg, Publish, Router, State, Unknown, group};

use super::{Service, TOGETHER};
use crate::event::{
    CHECKOUTS, Checkout, Line, Order, OrderCompleted, OrderPlaced, OrderRejected, PAYMENTS,
    ParcelShipped, PaymentDeclined, SHIPMENTS, STOCK, StockUnavailable,
};
use crate::intake::Intake;
use crate::tally::Tally;

pub(super) const SERVICE: Service = Service {
    name: "order",
    topics: &[CHECKOUTS, STOCK, PAYMENTS, SHIPMENTS],
    router,
};

/// Orders that are open, by number.
#[derive(Clone, Debug)]
struct Desk {
    open: Arc<Mutex<BTreeSet<String>>>,
    tally: Arc<Tally>,
}

impl Desk {
    fn new(tally: Arc<Tally>) -> Self {
        Self {
            open: Arc::default(),
            tally,
        }
    }

    fn open(&self, order: &Order) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(order.number.clone())
    }

    /// Whether it was open.
    fn close(&self, order: &Order) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&order.number)
    }

    fn reject(&self, order: Order, reason: String) -> Option<Publish<OrderRejected>> {
        self.close(&order).then(|| {
            self.tally.rejected.add(1);
            Publish(OrderRejected { order, reason })
        })
    }
}

/// A checkout that is no order, and never will be one.
#[derive(Debug, PartialEq, Eq, thiserror::Error, Failure)]
enum Unacceptable {
    #[error("the basket of {0} is empty")]
    #[failure(dead_letter)]
    EmptyBasket(String),
}

fn router(tally: Arc<Tally>, intake: Intake) -> Router {
    let route = group(SERVICE.name)
        .on(place)
        .on(turn_away)
        .on(refuse)
        .on(complete)
        .unknown(Unknown::Skip)
        .concurrency(TOGETHER)
        .layer(intake);
    Router::new()
        .topics(SERVICE.topics.iter().copied(), route)
        .with_state(Desk::new(tally))
}

async fn place(
    State(desk): State<Desk>,
    Msg(checkout): Msg<Checkout>,
) -> Result<Publish<OrderPlaced>, Unacceptable> {
    if checkout.lines.is_empty() || checkout.lines.iter().any(|line| line.quantity == 0) {
        return Err(Unacceptable::EmptyBasket(checkout.order));
    }
    let price = |line: &Line| line.price_cents.saturating_mul(line.quantity.into());
    let order = Order {
        total_cents: checkout
            .lines
            .iter()
            .map(price)
            .fold(0, u64::saturating_add),
        number: checkout.order,
        customer: checkout.customer,
        card: checkout.card,
        lines: checkout.lines,
    };
    desk.open(&order);
    desk.tally.placed.add(1);
    Ok(Publish(OrderPlaced { order }))
}

async fn turn_away(
    State(desk): State<Desk>,
    Msg(StockUnavailable { order, reason }): Msg<StockUnavailable>,
) -> Option<Publish<OrderRejected>> {
    desk.reject(order, reason)
}

async fn refuse(
    State(desk): State<Desk>,
    Msg(PaymentDeclined { order, reason }): Msg<PaymentDeclined>,
) -> Option<Publish<OrderRejected>> {
    desk.reject(order, reason)
}

async fn complete(
    State(desk): State<Desk>,
    Msg(ParcelShipped { order }): Msg<ParcelShipped>,
) -> Option<Publish<OrderCompleted>> {
    desk.close(&order).then(|| {
        desk.tally.completed.add(1);
        Publish(OrderCompleted { order })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_empty_basket_is_no_order() {
        let desk = Desk::new(Arc::default());
        let checkout = Checkout {
            order: "o-1".to_owned(),
            customer: "c".to_owned(),
            card: "4711".to_owned(),
            lines: Vec::new(),
        };
        let refused = place(State(desk.clone()), Msg(checkout)).await;
        assert_eq!(refused, Err(Unacceptable::EmptyBasket("o-1".to_owned())));
        assert_eq!(desk.tally.placed.get(), 0);
    }
}
