//! Routes with an inbox: effects once, in a real database.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::Sqlite;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use tower::util::MapRequestLayer;
use wharf::testing::TestBus;
use wharf::{
    Attempt, Batch, Bus, Incoming, InvalidRoute, Message, Msg, Publish, Retry, Router, ServeError,
    SqlInbox, Tx, group, header,
};

use crate::support::{OrderPlaced, StockReserved, order, placed, serve, serve_over, text, verdict};

struct Shop {
    pool: SqlitePool,
    folder: tempfile::TempDir,
}

fn options(file: &Path, create: bool) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(create)
        .busy_timeout(Duration::from_secs(10))
}

impl Shop {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = options(&folder.path().join("shop.db"), true);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await
            .unwrap();
        sqlx::query("CREATE TABLE stock (article TEXT)")
            .execute(&pool)
            .await
            .unwrap();
        Self { pool, folder }
    }

    async fn inbox(&self) -> SqlInbox<Sqlite> {
        let inbox = SqlInbox::new(self.pool.clone(), "inventory");
        inbox.install().await.unwrap();
        inbox
    }

    async fn rows(&self) -> Vec<String> {
        let rows = sqlx::query_as::<_, (String,)>("SELECT article FROM stock ORDER BY article");
        rows.fetch_all(&self.pool)
            .await
            .unwrap()
            .into_iter()
            .map(|(row,)| row)
            .collect()
    }
}

async fn insert(tx: &mut Tx<Sqlite>, article: &str) -> Result<(), sqlx::Error> {
    let sql = "INSERT INTO stock VALUES (?)";
    sqlx::query(sql)
        .bind(article.to_owned())
        .execute(&mut **tx)
        .await
        .map(drop)
}

#[wharf::handler]
async fn reserve(
    Attempt(attempt): Attempt,
    mut tx: Tx<Sqlite>,
    Msg(placed): Msg<OrderPlaced>,
) -> Result<Publish<StockReserved>, wharf::Error> {
    insert(&mut tx, &placed.order).await?;
    match &*placed.order {
        "late" if attempt < 3 => Err(wharf::Error::retry("not yet")),
        "boom" => panic!("boom"),
        _ => Ok(Publish(StockReserved {
            order: placed.order,
        })),
    }
}

/// Serves for real: a database answers in its own time.
async fn settle(bus: &TestBus) {
    tokio::time::timeout(Duration::from_secs(30), bus.settle())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_message_delivered_again_has_its_effects_once_and_publishes_the_same_again() {
    let shop = Shop::open().await;
    let route = group("inventory").on(reserve).inbox(shop.inbox().await);
    let bus = serve(Router::new().topic("orders", route)).await;
    bus.publish(order("o-1", 1)).await;
    settle(&bus).await;
    let copy = bus.messages("orders")[0].clone();
    bus.publish_raw("orders", copy.clone()).await;
    settle(&bus).await;
    let mut other = copy;
    other.payload = Some(r#"{"order":"o-2","quantity":1}"#.into());
    bus.publish_raw("orders", other).await;
    settle(&bus).await;
    assert_eq!(shop.rows().await, ["o-1"]);
    let reserved = bus.messages("stock");
    assert_eq!(reserved.len(), 2);
    assert_eq!(
        text(&reserved[0], header::CE_ID),
        text(&reserved[1], header::CE_ID)
    );
    let letters = bus.messages("dlq.orders.inventory");
    assert_eq!(
        letters.len(),
        1,
        "another payload under the same id is told to somebody"
    );
    assert_eq!(verdict(&letters[0]).0, "rejected");
    bus.stop().await.unwrap();
}

#[tokio::test]
async fn a_failed_attempt_leaves_nothing_and_the_next_one_has_a_fresh_transaction() {
    let shop = Shop::open().await;
    let route = group("inventory").on(reserve).inbox(shop.inbox().await);
    let bus = serve(Router::new().topic("orders", route)).await;
    for name in ["late", "boom", "fine"] {
        bus.publish(order(name, 1)).await;
    }
    settle(&bus).await;
    assert_eq!(shop.rows().await, ["fine", "late"]);
    let letters = bus.messages("dlq.orders.inventory");
    assert_eq!(
        letters
            .iter()
            .map(|letter| verdict(letter).0)
            .collect::<Vec<_>>(),
        ["panicked"]
    );
    bus.stop().await.unwrap();
}

#[tokio::test]
async fn a_batch_with_a_message_that_was_handled_before_handles_the_others() {
    let shop = Shop::open().await;
    let handle = async |mut tx: Tx<Sqlite>, Batch(placed): Batch<OrderPlaced>| {
        for placed in placed {
            insert(&mut tx, &placed.order).await?;
        }
        Ok::<(), wharf::Error>(())
    };
    let known = |name: &str| {
        let placed = placed(name).with_header(header::CE_SOURCE, "shop");
        placed.with_header(header::CE_ID, name.to_owned())
    };
    let route = group("inventory").on(handle).inbox(shop.inbox().await);
    let orders = ["a", "b", "a", "c"].map(known).to_vec();
    let bus = serve_over(orders, Router::new().topic("orders", route)).await;
    settle(&bus).await;
    assert_eq!(shop.rows().await, ["a", "b", "c"]);
    assert!(bus.messages("dlq.orders.inventory").is_empty());
    bus.stop().await.unwrap();
}

#[tokio::test]
async fn a_sequence_that_is_behind_has_no_effects() {
    let shop = Shop::open().await;
    let inbox = shop.inbox().await.by_sequence("version");
    let route = group("inventory").on(reserve).inbox(inbox);
    let bus = serve(Router::new().topic("orders", route)).await;
    for (version, name) in [("1", "one"), ("3", "three"), ("2", "two"), ("none", "none")] {
        let payload = format!(r#"{{"order":"{name}","quantity":1}}"#);
        let message = Message::new(payload)
            .with_key("k")
            .with_header(header::CE_TYPE, "shop.order.placed")
            .with_header("version", version);
        bus.publish_raw("orders", message).await;
    }
    settle(&bus).await;
    assert_eq!(shop.rows().await, ["one", "three"]);
    let letters = bus.messages("dlq.orders.inventory");
    assert_eq!(
        letters
            .iter()
            .map(|letter| verdict(letter).0)
            .collect::<Vec<_>>(),
        ["undecodable"]
    );
    bus.stop().await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_down_costs_no_attempt() {
    let shop = Shop::open().await;
    shop.inbox().await;
    shop.pool.close().await;
    let file = shop.folder.path().join("shop.db");
    let away = shop.folder.path().join("away.db");
    std::fs::rename(&file, &away).unwrap();
    let pool = SqlitePoolOptions::new().connect_lazy_with(options(&file, false));
    let tries = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&tries);
    let count = MapRequestLayer::new(move |incoming: Incoming| {
        counted.fetch_add(1, Ordering::SeqCst);
        incoming
    });
    let route = group("inventory")
        .on(reserve)
        .inbox(SqlInbox::new(pool.clone(), "inventory"))
        .layer(count)
        .retry(Retry::never());
    let bus = serve(Router::new().topic("orders", route)).await;
    bus.publish(order("o-1", 1)).await;
    let tried_twice = async {
        while tries.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), tried_twice)
        .await
        .unwrap();
    std::fs::rename(&away, &file).unwrap();
    settle(&bus).await;
    let shop = Shop { pool, ..shop };
    assert_eq!(shop.rows().await, ["o-1"]);
    assert!(bus.messages("dlq.orders.inventory").is_empty());
    bus.stop().await.unwrap();
}

#[tokio::test]
async fn a_handler_with_a_transaction_and_no_inbox_is_refused_at_start() {
    let bus = Bus::connect("memory:", "inventory").await.unwrap();
    let refused = bus
        .serve(Router::new().topic("orders", group("inventory").on(reserve)))
        .await;
    assert!(
        matches!(
            refused,
            Err(ServeError::Route(InvalidRoute::Conflict { .. }))
        ),
        "{refused:?}"
    );
}
