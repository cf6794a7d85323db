//! An event has a type and a topic, and names fields that are there.

use wharf::Event;

#[derive(serde::Serialize, serde::Deserialize, Event)]
#[event(type = "shop.order.placed")]
struct NoTopic;

#[derive(serde::Serialize, serde::Deserialize, Event)]
#[event(type = "shop.order.placed", topic = "shop orders")]
struct NoName;

#[derive(serde::Serialize, serde::Deserialize, Event)]
#[event(type = "shop.order.placed", topic = "orders", key = "ordre")]
struct NoField {
    order: String,
}

#[derive(serde::Serialize, serde::Deserialize, Event)]
#[event(kind = "shop.order.placed", topic = "orders")]
struct NoSuchSetting;

fn main() {}
