//! Request/reply with a deadline that travels with the request.
//!
//! `cargo run -p wharf --example request_reply`; `WHARF_BUS=kafka://localhost:9092` (with the
//! feature `kafka`) runs it on a broker.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use wharf::{Bus, BusError, Deadline, Event, Msg, Reply, Request, Router, group};

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "shop.price.asked", topic = "shop.prices")]
struct AskPrice {
    article: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(type = "shop.price", topic = "shop.prices")]
struct Price {
    cents: u64,
}

impl Request for AskPrice {
    type Reply = Price;
}

async fn answer(deadline: Deadline, Msg(asked): Msg<AskPrice>) -> Option<Reply<Price>> {
    // Nobody waits for what takes longer.
    let left = deadline.left().unwrap_or(Duration::MAX);
    let cents = 100 * u64::try_from(asked.article.len()).ok()?;
    (left > Duration::from_millis(10) && asked.article != "unknown")
        .then_some(Reply(Price { cents }))
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::var("WHARF_BUS").unwrap_or_else(|_| "memory:".to_owned());
    let bus = Bus::connect(&address, "shop").await?;
    let (tell, ready) = oneshot::channel();
    let router = Router::new().topic("shop.prices", group("prices").on(answer));
    tokio::spawn(bus.serve(router).tell_when_ready(tell).into_future());
    ready.await?;

    let price = bus
        .request(AskPrice {
            article: "tea".to_owned(),
        })
        .timeout(Duration::from_secs(10))
        .await?;
    assert_eq!(price, Price { cents: 300 });
    let none = bus
        .request(AskPrice {
            article: "unknown".to_owned(),
        })
        .timeout(Duration::from_millis(300));
    assert!(matches!(none.await, Err(BusError::NoReply { .. })));
    Ok(())
}
