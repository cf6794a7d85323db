//! What the services tell each other: topics, events, and the envelope around them.
//!
//! The envelope is CloudEvents 1.0 in Kafka's binary mode: attributes in `ce_` headers, the
//! payload as JSON. Ids are UUIDv5 of what caused the event, so a service that repeats its work
//! after a crash repeats the ids too, and its readers can tell.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

/// Checkouts from the storefront.
pub(crate) const CHECKOUTS: &str = "shop.checkouts";
/// Orders placed.
pub(crate) const ORDERS: &str = "shop.orders";
/// What became of the stock.
pub(crate) const STOCK: &str = "shop.stock";
/// What became of the money.
pub(crate) const PAYMENTS: &str = "shop.payments";
/// Parcels.
pub(crate) const SHIPMENTS: &str = "shop.shipments";
/// How orders ended.
pub(crate) const OUTCOMES: &str = "shop.outcomes";

/// Every topic the shop writes, dead letters apart.
pub const TOPICS: [&str; 6] = [CHECKOUTS, ORDERS, STOCK, PAYMENTS, SHIPMENTS, OUTCOMES];

/// One line of a basket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) sku: String,
    pub(crate) quantity: u32,
    pub(crate) price_cents: u64,
}

/// A customer's basket, paid by card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkout {
    pub(crate) order: String,
    pub(crate) customer: String,
    pub(crate) card: String,
    pub(crate) lines: Vec<Line>,
}

/// An order as every later event carries it: each service has all it needs in the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) order: String,
    pub(crate) customer: String,
    pub(crate) card: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) total_cents: u64,
}

/// An order and why it got no further.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    #[serde(flatten)]
    pub(crate) order: Order,
    pub(crate) reason: String,
}

/// The kinds of event, as `ce_type`.
pub(crate) mod kind {
    pub(crate) const CHECKOUT: &str = "shop.checkout.submitted";
    pub(crate) const PLACED: &str = "shop.order.placed";
    pub(crate) const RESERVED: &str = "shop.stock.reserved";
    pub(crate) const UNAVAILABLE: &str = "shop.stock.unavailable";
    pub(crate) const RELEASED: &str = "shop.stock.released";
    pub(crate) const CAPTURED: &str = "shop.payment.captured";
    pub(crate) const DECLINED: &str = "shop.payment.declined";
    pub(crate) const SHIPPED: &str = "shop.parcel.shipped";
    pub(crate) const COMPLETED: &str = "shop.order.completed";
    pub(crate) const REJECTED: &str = "shop.order.rejected";
}

/// A message as a service receives it.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Vec<u8>,
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) run: String,
    pub(crate) correlation: String,
    pub(crate) sent_millis: i64,
}

/// A message as a service sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) topic: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) order: String,
    pub(crate) payload: Vec<u8>,
    /// How often it is sent; 2 for a sender that repeats itself.
    pub(crate) times: u8,
}

impl Delivery {
    /// The payload as `T`, or why it cannot be read.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.payload).map_err(|error| error.to_string())
    }
}

impl Outgoing {
    /// An event about an order.
    pub(crate) fn new(
        topic: &'static str,
        kind: &'static str,
        order: &str,
        body: &impl Serialize,
    ) -> Self {
        let payload = serde_json::to_vec(body).expect("events are plain structs with string keys");
        Self {
            topic,
            kind,
            order: order.to_owned(),
            payload,
            times: 1,
        }
    }

    /// The id of this event: the same whenever `service` reacts to `cause` again.
    pub(crate) fn id(&self, service: &str, cause: &str) -> String {
        let name = format!("{service}/{cause}/{}", self.kind);
        Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string()
    }
}
