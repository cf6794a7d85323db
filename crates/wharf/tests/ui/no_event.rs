//! A type that was not made an event.

use wharf::{Msg, Router, group};

#[derive(serde::Serialize, serde::Deserialize)]
struct Order;

async fn handle(Msg(_): Msg<Order>) {}

fn main() {
    let _: Router = Router::new().topic("orders", group("g").on(handle));
}
