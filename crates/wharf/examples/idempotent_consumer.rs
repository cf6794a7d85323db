//! An idempotent consumer: each message is delivered twice, and has its effects once, by a row in the
//! database that the handler writes to.
//!
//! `cargo run -p wharf --features sqlite --example idempotent_consumer`; `WHARF_BUS=kafka://localhost:9092` (with the
//! feature `kafka`) runs it on a broker.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::Sqlite;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use tokio::sync::oneshot;
use wharf::{Bus, Event, Msg, Publish, Router, SqlInbox, TopicName, Tx, group};

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
struct OrderPlaced {
    order: String,
}

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "shop.order.stored", topic = "shop.stored", key = "order")]
struct OrderStored {
    order: String,
}

async fn store(
    mut tx: Tx<Sqlite>,
    Msg(placed): Msg<OrderPlaced>,
) -> Result<Publish<OrderStored>, wharf::Error> {
    let sql = "INSERT INTO orders (id) VALUES (?)";
    sqlx::query(sql)
        .bind(placed.order.clone())
        .execute(&mut *tx)
        .await?;
    Ok(Publish(OrderStored {
        order: placed.order,
    }))
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::var("WHARF_BUS").unwrap_or_else(|_| "memory:".to_owned());
    let folder = tempfile::tempdir()?;
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("shop.db"))
        .create_if_missing(true);
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await?;
    sqlx::query("CREATE TABLE orders (id TEXT)")
        .execute(&pool)
        .await?;
    let inbox = SqlInbox::new(pool.clone(), "orders");
    inbox.install().await?;

    let bus = Bus::connect(&address, "shop").await?;
    let router = Router::new().topic("shop.orders", group("orders").on(store).inbox(inbox));
    let (ready, subscribed) = oneshot::channel();
    tokio::spawn(bus.serve(router).tell_when_ready(ready).into_future());
    subscribed.await?;

    for number in 0..20 {
        let message = wharf::Message::new(format!(r#"{{"order":"o-{number}"}}"#))
            .with_header(wharf::header::CE_TYPE, OrderPlaced::TYPE)
            .with_header(wharf::header::CE_ID, format!("order-{number}"));
        for _ in 0..2 {
            bus.send(TopicName::new(OrderPlaced::TOPIC)?, message.clone())
                .await?;
        }
    }
    let all = async {
        while bus.ends().accepted < 40 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await?;
    let (rows,): (i64,) = sqlx::query_as("SELECT count(*) FROM orders")
        .fetch_one(&pool)
        .await?;
    assert_eq!(rows, 20);
    Ok(())
}
