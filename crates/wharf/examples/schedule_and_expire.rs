//! Scheduled delivery, and messages that expire: a reservation that is given up after a while.
//!
//! `cargo run -p wharf --example schedule_and_expire`; `WHARF_BUS=kafka://localhost:9092` (with the
//! feature `kafka`) runs it on a broker.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use wharf::{Bus, Event, Msg, Router, Schedule, State, To, group};

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "shop.stock.reserved", topic = "shop.stock", key = "order")]
struct Reserved {
    order: String,
}

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(
    type = "shop.reservation.expired",
    topic = "shop.expiries",
    key = "order"
)]
struct ReservationExpired {
    order: String,
}

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "shop.offer", topic = "shop.offers")]
struct Offer {
    article: String,
}

/// How long a reservation lasts.
const PATIENCE: Duration = Duration::from_millis(300);

async fn reserve(Msg(reserved): Msg<Reserved>) -> Schedule<ReservationExpired> {
    Schedule::after(
        PATIENCE,
        ReservationExpired {
            order: reserved.order,
        },
    )
}

async fn give_up(State(tell): State<mpsc::Sender<String>>, Msg(expired): Msg<ReservationExpired>) {
    // Nobody listens any more: then nothing is lost by not telling.
    let _nobody_listens = tell.send(expired.order).await;
}

async fn look_at(State(tell): State<mpsc::Sender<String>>, Msg(offer): Msg<Offer>) {
    let _nobody_listens = tell.send(offer.article).await;
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::var("WHARF_BUS").unwrap_or_else(|_| "memory:".to_owned());
    let bus = Bus::connect(&address, "shop").await?;
    let offer = |article: &str| Offer {
        article: article.to_owned(),
    };
    // Nobody will have looked at the first one within a millisecond.
    bus.emit(To::its_topic(offer("old bread")).expires_after(Duration::from_millis(1)))
        .await?;
    tokio::time::sleep(Duration::from_millis(50)).await;

    let (tell, mut told) = mpsc::channel(10);
    let router = Router::new()
        .topic("shop.stock", group("stock").on(reserve))
        .topic("shop.expiries", group("stock-expiries").on(give_up))
        .topic("shop.offers", group("customers").on(look_at))
        .with_state(tell);
    let (ready, subscribed) = oneshot::channel();
    tokio::spawn(bus.serve(router).tell_when_ready(ready).into_future());
    subscribed.await?;

    let since = std::time::Instant::now();
    bus.publish(&Reserved {
        order: "o-1".to_owned(),
    })
    .await?;
    let order = tokio::time::timeout(Duration::from_secs(30), told.recv()).await?;
    assert_eq!(order.as_deref(), Some("o-1"));
    assert!(since.elapsed() >= PATIENCE, "not before its time");
    bus.publish(&offer("fresh bread")).await?;
    let seen = tokio::time::timeout(Duration::from_secs(30), told.recv()).await?;
    assert_eq!(
        seen.as_deref(),
        Some("fresh bread"),
        "the old one was passed over"
    );
    assert_eq!(bus.ends().expired, 1);
    Ok(())
}
