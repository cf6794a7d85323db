//! Events through the outbox of a real database: committed with everything else, or not there.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::FutureExt as _;
use harness::{Database, DatabaseKind};
use serde_json::Value;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::pool::PoolOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, MySql, Pool, Postgres, Row as _, Sqlite};
use wharf::outbox::{self, Outbox};
use wharf::testing::TestBus;
use wharf::{
    Attempt, Bus, Message, Msg, Publish, Route, Router, Schedule, SqlInbox, Timestamp, To, Tx,
    group, header,
};
use wharf_outbox::Dialect;

use crate::support::{OrderPlaced, StockReserved, order, serve, text};

/// A row of the outbox.
#[derive(Clone, Debug, PartialEq)]
struct Stored {
    id: String,
    topic: String,
    key: String,
    kind: String,
    payload: Value,
    headers: Value,
}

/// A database under test.
trait Real: Dialect {
    /// A new database, with tables.
    fn fresh() -> impl Future<Output = Pool<Self>> + Send;

    /// A business row.
    fn reserve(
        connection: &mut Self::Connection,
        order: String,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// The route whose handler is [`reserve`].
    fn route(inbox: SqlInbox<Self>) -> Route;

    /// The outbox, in order.
    fn rows(pool: &Pool<Self>) -> impl Future<Output = Vec<Stored>> + Send;

    /// The business rows.
    fn reserved(pool: &Pool<Self>) -> impl Future<Output = Vec<String>> + Send;
}

macro_rules! real {
    ($database:ty, $insert:literal, $rows:literal, $options:expr) => {
        impl Real for $database {
            async fn fresh() -> Pool<Self> {
                let options = $options.await;
                let pool = PoolOptions::<Self>::new().max_connections(3);
                let pool = pool.connect_with(options).await.unwrap();
                let business = "CREATE TABLE reserved (id VARCHAR(100))";
                sqlx::query(business).execute(&pool).await.unwrap();
                Outbox::new().rows().install(&pool).await.unwrap();
                pool
            }

            async fn reserve(
                connection: &mut Self::Connection,
                order: String,
            ) -> Result<(), sqlx::Error> {
                let insert = sqlx::query($insert).bind(order);
                insert.execute(connection).await.map(drop)
            }

            fn route(inbox: SqlInbox<Self>) -> Route {
                async fn handle(
                    Attempt(attempt): Attempt,
                    tx: Tx<$database>,
                    Msg(placed): Msg<OrderPlaced>,
                ) -> Result<Publish<StockReserved>, wharf::Error> {
                    reserve(attempt, tx, placed).await
                }
                group("inventory").on(handle).inbox(inbox)
            }

            async fn rows(pool: &Pool<Self>) -> Vec<Stored> {
                let rows = sqlx::query($rows).fetch_all(pool).await.unwrap();
                let stored = |row: <Self as sqlx::Database>::Row| Stored {
                    id: row.get(0),
                    topic: row.get(1),
                    key: row.get(2),
                    kind: row.get(3),
                    payload: serde_json::from_slice(&row.get::<Vec<u8>, _>(4)).unwrap(),
                    headers: serde_json::from_str(&row.get::<String, _>(5)).unwrap(),
                };
                rows.into_iter().map(stored).collect()
            }

            async fn reserved(pool: &Pool<Self>) -> Vec<String> {
                let sql = "SELECT id FROM reserved ORDER BY id";
                sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
            }
        }
    };
}
real!(
    Sqlite,
    "INSERT INTO reserved VALUES (?)",
    "SELECT id, aggregatetype, aggregateid, type, payload, headers FROM wharf_outbox ORDER BY sequence",
    async {
        static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
        let folder = FOLDER.get_or_init(|| tempfile::tempdir().unwrap());
        SqliteConnectOptions::new()
            .filename(folder.path().join(name()))
            .create_if_missing(true)
            .busy_timeout(Duration::from_secs(30))
    }
);
real!(
    Postgres,
    "INSERT INTO reserved VALUES ($1)",
    "SELECT id::text, aggregatetype, aggregateid, type, payload, headers::text FROM wharf_outbox ORDER BY sequence",
    async {
        static SERVER: OnceLock<Database> = OnceLock::new();
        let options = ["-c", "fsync=off"];
        let server =
            SERVER.get_or_init(|| Database::start(DatabaseKind::Postgres, &options).unwrap());
        let options = server.url("postgres").parse::<PgConnectOptions>().unwrap();
        let name = name();
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        let mut admin = sqlx::PgConnection::connect_with(&options).await.unwrap();
        sqlx::query(create).execute(&mut admin).await.unwrap();
        admin.close().await.unwrap();
        options.database(&name)
    }
);
real!(
    MySql,
    "INSERT INTO reserved VALUES (?)",
    "SELECT id, aggregatetype, aggregateid, type, payload, headers FROM wharf_outbox ORDER BY sequence",
    async {
        static SERVER: OnceLock<Database> = OnceLock::new();
        let options = ["--innodb-flush-log-at-trx-commit=0"];
        let server =
            SERVER.get_or_init(|| Database::start(DatabaseKind::MariaDb, &options).unwrap());
        let options = MySqlConnectOptions::new()
            .socket(server.socket())
            .username(server.user());
        let name = name();
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        let mut admin = sqlx::MySqlConnection::connect_with(&options).await.unwrap();
        sqlx::query(create).execute(&mut admin).await.unwrap();
        admin.close().await.unwrap();
        options.database(&name)
    }
);

/// A name that no other case has.
fn name() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("case{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Reserves, tells of it, and goes wrong in the ways that the order's name asks for.
async fn reserve<D: Real>(
    attempt: u32,
    mut tx: Tx<D>,
    placed: OrderPlaced,
) -> Result<Publish<StockReserved>, wharf::Error> {
    let told = StockReserved {
        order: placed.order.clone(),
    };
    D::reserve(&mut tx, placed.order.clone()).await?;
    outbox::publish(&mut tx, &told).await?;
    if placed.order == "savepoint" {
        let mut savepoint = tx.transaction().begin().await?;
        D::reserve(&mut savepoint, "undone".to_owned()).await?;
        outbox::publish(&mut savepoint, &told).await?;
        savepoint.rollback().await?;
    }
    match &*placed.order {
        "late" if attempt < 3 => Err(wharf::Error::retry("not yet")),
        "refused" => Err(wharf::Error::dead_letter("never")),
        _ => Ok(Publish(told)),
    }
}

/// Serves for real: a database answers in its own time.
async fn settle(bus: &TestBus) {
    let settled = tokio::time::timeout(Duration::from_secs(60), bus.settle());
    settled.await.unwrap();
}

async fn serving<D: Real>(pool: &Pool<D>) -> TestBus {
    let inbox = SqlInbox::new(pool.clone(), "inventory");
    inbox.install().await.unwrap();
    serve(Router::new().topic("orders", D::route(inbox))).await
}

async fn what_a_handler_writes_is_committed_with_its_effects_and_comes_of_its_message<D: Real>() {
    let pool = D::fresh().await;
    let bus = serving(&pool).await;
    let mut hint = wharf_outbox::hint::subscribe(wharf_outbox::TABLE);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let message = Message::new(r#"{"order":"o-1","quantity":1}"#)
        .with_key("o-1")
        .with_header(header::CE_TYPE, "shop.order.placed")
        .with_header(header::CE_ID, "m-1")
        .with_header(header::CE_SOURCE, "shop")
        .with_header(header::CE_CORRELATIONID, "c-1")
        .with_header(header::TRACEPARENT, trace);
    // Delivered twice.
    for _ in 0..2 {
        bus.publish_raw("orders", message.clone()).await;
        settle(&bus).await;
    }
    let returned = bus.messages("stock");
    bus.stop().await.unwrap();
    let rows = D::rows(&pool).await;
    assert_eq!(
        (rows.len(), D::reserved(&pool).await),
        (1, vec!["o-1".to_owned()])
    );
    let row = &rows[0];
    assert_eq!(
        (&*row.topic, &*row.key, &*row.kind),
        ("stock", "o-1", "shop.stock.reserved")
    );
    assert_eq!(row.payload, serde_json::json!({"order": "o-1"}));
    for (name, value) in [
        (header::CE_SOURCE, "inventory"),
        (header::CE_CORRELATIONID, "c-1"),
        (header::CE_CAUSATIONID, "m-1"),
        (header::TRACEPARENT, trace),
        (header::CE_SPECVERSION, "1.0"),
        (header::CONTENT_TYPE, "application/json"),
    ] {
        assert_eq!(row.headers[name], value, "{name}");
    }
    assert_ne!(
        text(&returned[0], header::CE_ID),
        row.id,
        "two messages have two ids"
    );
    assert_eq!(
        hint.told().now_or_never(),
        Some(()),
        "nobody was told of the commit"
    );
}

async fn attempts_that_fail_leave_no_row_and_the_one_that_succeeds_has_the_ids_of_all<D: Real>() {
    let pool = D::fresh().await;
    let bus = serving(&pool).await;
    for name in ["late", "refused", "savepoint"] {
        bus.publish(order(name, 1)).await;
    }
    settle(&bus).await;
    let late = bus.messages("orders")[0].clone();
    bus.stop().await.unwrap();
    let rows = D::rows(&pool).await;
    let mut keys: Vec<_> = rows.iter().map(|row| &*row.key).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["late", "savepoint"]);
    assert_eq!(D::reserved(&pool).await, ["late", "savepoint"]);

    // The same message, in another database, gives the same id.
    let other = D::fresh().await;
    let bus = serving(&other).await;
    bus.publish_raw("orders", late).await;
    settle(&bus).await;
    bus.stop().await.unwrap();
    let again = D::rows(&other).await;
    let row = rows.iter().find(|row| row.key == "late").unwrap();
    assert_eq!(again[0].id, row.id);
}

async fn a_service_writes_events_in_a_transaction_of_its_own<D: Real>() {
    let pool = D::fresh().await;
    let bus = Bus::connect("memory:", "inventory").await.unwrap();
    let outbox = bus.outbox();
    let due = Timestamp::parse_rfc3339("2027-01-01T00:00:00Z").unwrap();
    for commit in [false, true] {
        let mut tx = pool.begin().await.unwrap();
        D::reserve(&mut tx, "o-1".to_owned()).await.unwrap();
        outbox.publish(&mut tx, &order("one", 1)).await.unwrap();
        outbox
            .schedule(&mut tx, due, &order("two", 1))
            .await
            .unwrap();
        let several = (
            Publish(order("three", 1)),
            To::topic("archive", order("four", 1)).header("tenant", "north"),
            Schedule::at(due, order("five", 1)),
        );
        outbox.emit(&mut tx, several).await.unwrap();
        outbox::publish(&mut tx, &order("six", 1)).await.unwrap();
        if commit {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
    }
    let rows = D::rows(&pool).await;
    let keys: Vec<_> = rows.iter().map(|row| (&*row.key, &*row.topic)).collect();
    let expected = [
        ("one", "orders"),
        ("two", "orders"),
        ("three", "orders"),
        ("four", "archive"),
        ("five", "orders"),
        ("six", "orders"),
    ];
    assert_eq!(keys, expected);
    for (at, row) in rows.iter().enumerate() {
        let scheduled = [1, 4].contains(&at).then(|| due.to_rfc3339());
        assert_eq!(
            row.headers.get(header::DELIVER_AT).cloned(),
            scheduled.map(Into::into)
        );
        assert_eq!(row.headers.get(header::CE_CAUSATIONID), None);
        assert_eq!(
            row.headers[header::CE_SOURCE] == "inventory",
            at < 5,
            "{row:?}"
        );
    }
    assert_eq!(rows[3].headers["tenant"], "north");
}

macro_rules! on_every_database {
    ($($case:ident)*) => {
        mod sqlite { $(#[tokio::test] async fn $case() { super::$case::<sqlx::Sqlite>().await; })* }
        mod postgres { $(#[tokio::test] async fn $case() { super::$case::<sqlx::Postgres>().await; })* }
        mod mariadb { $(#[tokio::test] async fn $case() { super::$case::<sqlx::MySql>().await; })* }
    };
}

on_every_database! {
    what_a_handler_writes_is_committed_with_its_effects_and_comes_of_its_message
    attempts_that_fail_leave_no_row_and_the_one_that_succeeds_has_the_ids_of_all
    a_service_writes_events_in_a_transaction_of_its_own
}

#[tokio::test]
async fn an_event_in_the_log_of_postgres_needs_no_table() {
    let pool = Postgres::fresh().await;
    sqlx::query("DROP TABLE wharf_outbox")
        .execute(&pool)
        .await
        .unwrap();
    let bus = Bus::connect("memory:", "inventory").await.unwrap();
    let outbox = bus.outbox();
    let mut tx = pool.begin().await.unwrap();
    outbox
        .publish_in_log(&mut tx, &order("o-1", 1))
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn without_the_table_a_handler_fails_with_what_to_do() {
    let pool = Sqlite::fresh().await;
    sqlx::query("DROP TABLE wharf_outbox")
        .execute(&pool)
        .await
        .unwrap();
    let bus = serving(&pool).await;
    bus.publish(order("o-1", 1)).await;
    settle(&bus).await;
    let letters = bus.messages("dlq.orders.inventory");
    bus.stop().await.unwrap();
    assert!(Sqlite::reserved(&pool).await.is_empty());
    let error = text(&letters[0], header::DLQ_ERROR);
    assert!(error.contains("WHARF-5301"), "{error}");
}
