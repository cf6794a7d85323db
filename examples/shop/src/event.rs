//! What the services tell each other: each event has a name that stays, a topic, and the order's
//! number as its key, so that everything about one order stays in order.
//!
//! The library puts the envelope around them (CloudEvents headers). Every event carries the whole
//! order: each service has all it needs in the message and asks nobody.

use std::fmt;

use serde::{Deserialize, Serialize};
use wharf::{Event, Schema};

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
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

/// A parcel is on its way. Its schema is made from the fields; where there is a registry it is written
/// and read with it, and nothing else gets into its topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(
    type = "shop.parcel.shipped",
    topic = "shop.shipments",
    key = "order",
    schema = "json"
)]
#[serde(transparent)]
pub(crate) struct ParcelShipped {
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

#[cfg(test)]
mod tests {
    use wharf_schema::model::SchemaType;
    use wharf_schema::{Limits, Parsed};

    use super::*;
    use crate::contract::SCHEMAS;

    fn text(subject: &str) -> &'static str {
        let mut all = SCHEMAS.iter();
        all.find(|(name, _)| *name == subject).unwrap().1
    }

    fn schema(subject: &str) -> Parsed {
        Parsed::parse(SchemaType::Json, text(subject), &[], &Limits::default()).unwrap()
    }

    /// Each event as it is sent, by its subject.
    fn samples() -> Vec<(&'static str, serde_json::Value)> {
        let line = Line {
            sku: "tea".to_owned(),
            quantity: 2,
            price_cents: 350,
        };
        let order = Order {
            number: "o-1".to_owned(),
            customer: "c-1".to_owned(),
            card: "4711".to_owned(),
            lines: vec![line],
            total_cents: 700,
        };
        let checkout = Checkout {
            order: order.number.clone(),
            customer: order.customer.clone(),
            card: order.card.clone(),
            lines: order.lines.clone(),
        };
        let reason = "the shelf is empty".to_owned();
        let payment = "p-1".to_owned();
        vec![
            ("shop.checkouts-value", json(&checkout)),
            (
                "shop.orders-value",
                json(&OrderPlaced {
                    order: order.clone(),
                }),
            ),
            (
                "shop.stock-shop.stock.reserved",
                json(&StockReserved {
                    order: order.clone(),
                }),
            ),
            (
                "shop.stock-shop.stock.unavailable",
                json(&StockUnavailable {
                    order: order.clone(),
                    reason: reason.clone(),
                }),
            ),
            (
                "shop.stock-shop.stock.released",
                json(&StockReleased {
                    order: order.clone(),
                }),
            ),
            (
                "shop.payments-shop.payment.captured",
                json(&PaymentCaptured {
                    payment,
                    order: order.clone(),
                }),
            ),
            (
                "shop.payments-shop.payment.declined",
                json(&PaymentDeclined {
                    order: order.clone(),
                    reason: reason.clone(),
                }),
            ),
            (
                "shop.shipments-value",
                json(&ParcelShipped {
                    order: order.clone(),
                }),
            ),
            (
                "shop.outcomes-shop.order.completed",
                json(&OrderCompleted {
                    order: order.clone(),
                }),
            ),
            (
                "shop.outcomes-shop.order.rejected",
                json(&OrderRejected { order, reason }),
            ),
        ]
    }

    #[test]
    fn every_event_is_what_its_schema_says() {
        let samples = samples();
        for (subject, sample) in &samples {
            let schema = schema(subject);
            schema.encode(sample, &[]).unwrap();
            // Nothing that the event does not say, and nothing less.
            let object = sample.as_object().unwrap();
            for name in object.keys() {
                let mut less = object.clone();
                less.remove(name);
                assert!(
                    schema.encode(&less.into(), &[]).is_err(),
                    "{subject}: {name}"
                );
            }
        }
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/schemas"));
        assert_eq!(folder.unwrap().count(), samples.len());
        assert_eq!(SCHEMAS.len(), samples.len());
    }

    #[test]
    fn the_schema_that_is_registered_for_parcels_is_the_one_the_code_writes() {
        let of_the_code = ParcelShipped::contract().unwrap().unwrap().text();
        let of_the_code: serde_json::Value = serde_json::from_str(of_the_code).unwrap();
        let kept = serde_json::to_string_pretty(&of_the_code).unwrap();
        assert_eq!(text("shop.shipments-value"), format!("{kept}\n"));
    }

    fn json(event: &impl Serialize) -> serde_json::Value {
        serde_json::to_value(event).unwrap()
    }
}
