//! What the services tell each other: each event has a name that stays, a topic, and the order's
//! number as its key, so that everything about one order stays in order.
//!
//! The library puts the envelope around them (CloudEvents headers). Every event carries the whole
//! order: each service has all it needs in the message and asks nobody.

use std::fmt;

use serde::{Deserialize, Serialize};
use wharf::Event;

/// Checkouts from the storefront.
pub(crate) const CHECKOUTS: &str = Checkout::TOPIC;
/// Orders placed.
pub(crate) const ORDERS: &str = OrderPlaced::TOPIC;
/// What became of the stock.
pub(crate) const STOCK: &str = StockReserved::TOPIC;
/// What became of the money.
pub(crate) const PAYMENTS: &str = PaymentCaptured::TOPIC;
/// Parcels.
pub(crate) const SHIPMENTS: &str = ParcelShipped::TOPIC;
/// How orders ended.
pub(crate) const OUTCOMES: &str = OrderCompleted::TOPIC;

/// Every topic the shop writes, dead letters apart.
pub const TOPICS: [&str; 6] = [CHECKOUTS, ORDERS, STOCK, PAYMENTS, SHIPMENTS, OUTCOMES];

/// The topics of the services that publish through the outbox, and through nothing else.
pub(crate) const PUBLISHED: [&str; 3] = [ORDERS, PAYMENTS, OUTCOMES];

/// One line of a basket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) sku: String,
    pub(crate) quantity: u32,
    pub(crate) price_cents: u64,
}

/// A customer's basket, paid by card. A second click sends the same order, and so the same id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(
    type = "shop.checkout.submitted",
    topic = "shop.checkouts",
    key = "order",
    id = "order"
)]
pub(crate) struct Checkout {
    pub(crate) order: String,
    pub(crate) customer: String,
    pub(crate) card: String,
    pub(crate) lines: Vec<Line>,
}

/// An order as every later event carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    #[serde(rename = "order")]
    pub(crate) number: String,
    pub(crate) customer: String,
    pub(crate) card: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) total_cents: u64,
}

/// Its number, which is the key of every event about it.
impl fmt::Display for Order {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.number)
    }
}

/// A checkout became an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
pub(crate) struct OrderPlaced {
    #[serde(flatten)]
    pub(crate) order: Order,
}

/// All lines are set aside for the order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(type = "shop.stock.reserved", topic = "shop.stock", key = "order")]
pub(crate) struct StockReserved {
    #[serde(flatten)]
    pub(crate) order: Order,
}

/// A shelf is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(type = "shop.stock.unavailable", topic = "shop.stock", key = "order")]
pub(crate) struct StockUnavailable {
    #[serde(flatten)]
    pub(crate) order: Order,
    pub(crate) reason: String,
}

/// What was reserved is back on the shelves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(type = "shop.stock.released", topic = "shop.stock", key = "order")]
pub(crate) struct StockReleased {
    #[serde(flatten)]
    pub(crate) order: Order,
}

/// The card was charged. A gateway that reports the same payment twice sends the same id twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(
    type = "shop.payment.captured",
    topic = "shop.payments",
    key = "order",
    id = "payment"
)]
pub(crate) struct PaymentCaptured {
    pub(crate) payment: String,
    #[serde(flatten)]
    pub(crate) order: Order,
}

/// The card was not charged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(type = "shop.payment.declined", topic = "shop.payments", key = "order")]
pub(crate) struct PaymentDeclined {
    #[serde(flatten)]
    pub(crate) order: Order,
    pub(crate) reason: String,
}

/// A parcel is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(type = "shop.parcel.shipped", topic = "shop.shipments", key = "order")]
pub(crate) struct ParcelShipped {
    #[serde(flatten)]
    pub(crate) order: Order,
}

/// An order ended well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(type = "shop.order.completed", topic = "shop.outcomes", key = "order")]
pub(crate) struct OrderCompleted {
    #[serde(flatten)]
    pub(crate) order: Order,
}

/// An order ended, and why it got no further.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(type = "shop.order.rejected", topic = "shop.outcomes", key = "order")]
pub(crate) struct OrderRejected {
    #[serde(flatten)]
    pub(crate) order: Order,
    pub(crate) reason: String,
}
