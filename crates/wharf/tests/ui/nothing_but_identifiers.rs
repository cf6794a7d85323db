//! An event that carries nothing but identifiers is warned about, unless it is meant.

#![deny(deprecated)]

use wharf::Event;

#[derive(serde::Serialize, serde::Deserialize, Event)]
#[event(type = "shop.order.placed", topic = "orders", key = "order_id")]
struct OrderPlaced {
    order_id: String,
    customer_id: u64,
}

#[derive(serde::Serialize, serde::Deserialize, Event)]
#[event(type = "shop.order.touched", topic = "orders", notification)]
struct OrderTouched {
    order_id: String,
}

#[derive(serde::Serialize, serde::Deserialize, Event)]
#[event(type = "shop.order.paid", topic = "orders")]
struct OrderPaid {
    order_id: String,
    cents: u64,
}

fn main() {}
