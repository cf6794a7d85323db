//! The events of the tests, the service that handles them, and what it set aside.

use serde::{Deserialize, Serialize};
use wharf::testing::{TestBus, TestBusBuilder};
use wharf::{Event, Message, Router, Timestamp, TopicName, header};

pub(crate) const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(type = "shop.order.placed", topic = "orders", key = "order")]
pub(crate) struct OrderPlaced {
    pub(crate) order: String,
    pub(crate) quantity: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(type = "shop.stock.reserved", topic = "stock", key = "order")]
pub(crate) struct StockReserved {
    pub(crate) order: String,
}

pub(crate) fn order(name: &str, quantity: u32) -> OrderPlaced {
    OrderPlaced {
        order: name.to_owned(),
        quantity,
    }
}

pub(crate) fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

/// An order as a message that nobody has published yet.
pub(crate) fn placed(name: &str) -> Message {
    let payload = serde_json::to_vec(&order(name, 1)).unwrap();
    let message = Message::new(payload).with_key(name.to_owned());
    message.with_header(header::CE_TYPE, OrderPlaced::TYPE)
}

/// Serves a router as the service `inventory`.
pub(crate) async fn serve(router: Router) -> TestBus {
    serve_over(Vec::new(), router).await
}

/// The same, when these messages are among its orders already.
pub(crate) async fn serve_over(orders: Vec<Message>, router: Router) -> TestBus {
    let builder = TestBus::builder().service("inventory");
    let over = |builder: TestBusBuilder, message| builder.message("orders", message);
    orders.into_iter().fold(builder, over).start(router).await
}

pub(crate) fn text<'a>(message: &'a Message, name: &str) -> &'a str {
    message.headers.text(name).unwrap().unwrap_or_default()
}

/// The reason, attempts and error of a dead letter.
pub(crate) fn verdict(message: &Message) -> (&str, &str, &str) {
    let first = text(message, header::DLQ_ERROR)
        .lines()
        .next()
        .unwrap_or_default();
    (
        text(message, header::DLQ_REASON),
        text(message, header::DLQ_ATTEMPTS),
        first,
    )
}
