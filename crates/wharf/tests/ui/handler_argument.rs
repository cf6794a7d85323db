//! Which argument is no extractor.

use wharf::{Attempt, Msg, State};

#[derive(Clone)]
struct Shop;

#[derive(serde::Serialize, serde::Deserialize)]
struct Order;

#[wharf::handler]
async fn before_the_last(State(_): State<Shop>, order: String, Msg(_): Msg<String>) {}

#[wharf::handler]
async fn payload_first(Msg(_): Msg<Order>, Attempt(_): Attempt) {}

fn main() {}
