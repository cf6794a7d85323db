//! Retries, dead letters, and the order by key: one order fails for a while and one for ever; neither
//! holds up the others.
//!
//! `cargo run -p wharf --example retries_and_dead_letters`; `WHARF_BUS=kafka://localhost:9092` (with the
//! feature `kafka`) runs it on a broker.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use wharf::{Attempt, Bus, Event, Failure, Msg, Retry, Router, State, group};

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "shop.order.placed", topic = "shop.orders", key = "customer")]
struct OrderPlaced {
    customer: String,
    order: u32,
}

#[derive(Debug, thiserror::Error, Failure)]
enum ChargeError {
    #[error("the payment service does not answer")]
    #[failure(retry)]
    Unavailable,
    #[error("the card is unknown")]
    #[failure(dead_letter)]
    UnknownCard,
}

type Charged = Arc<Mutex<Vec<String>>>;

async fn charge(
    State(charged): State<Charged>,
    Attempt(attempt): Attempt,
    Msg(placed): Msg<OrderPlaced>,
) -> Result<(), ChargeError> {
    match (&*placed.customer, placed.order) {
        ("ann", 1) if attempt < 5 => return Err(ChargeError::Unavailable),
        ("bob", 1) => return Err(ChargeError::UnknownCard),
        _ => {}
    }
    let mut charged = charged
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    charged.push(format!("{} {}", placed.customer, placed.order));
    Ok(())
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::var("WHARF_BUS").unwrap_or_else(|_| "memory:".to_owned());
    let bus = Bus::connect(&address, "shop").await?;
    let charged = Charged::default();
    let retry = Retry::default()
        .immediate(1)
        .delayed(Duration::from_millis(50), 6);
    let route = group("payment").on(charge).retry(retry);
    let router = Router::new()
        .topic("shop.orders", route)
        .with_state(Arc::clone(&charged));
    let (ready, subscribed) = oneshot::channel();
    tokio::spawn(bus.serve(router).tell_when_ready(ready).into_future());
    subscribed.await?;

    for order in 1..=3 {
        for customer in ["ann", "bob", "cleo"] {
            bus.publish(&OrderPlaced {
                customer: customer.to_owned(),
                order,
            })
            .await?;
        }
    }
    let all = async {
        while bus.ends().accepted + bus.ends().dead_lettered < 9 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await?;
    let charged = charged
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .clone();
    let of = |customer: &str| {
        charged
            .iter()
            .filter(|one| one.starts_with(customer))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of("ann"),
        ["ann 1", "ann 2", "ann 3"],
        "the order of a key is kept"
    );
    assert_eq!(
        of("bob"),
        ["bob 2", "bob 3"],
        "the first one is in dlq.shop.orders.payment"
    );
    assert_eq!(bus.ends().dead_lettered, 1);
    Ok(())
}
