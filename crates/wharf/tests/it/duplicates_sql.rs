//! The duplicate-delivery test of routers whose effects are rows of a real database: with the inbox they
//! pass, and without it they are caught with the shortest schedule.

use std::sync::OnceLock;

use harness::{Database, DatabaseKind};
use serde_json::json;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{PgPool, Postgres, Sqlite, SqlitePool};
use wharf::testing::duplicates::{Check, Effects, Verdict, check_router};
use wharf::{Message, Msg, Publish, Retry, Router, SqlInbox, State, Tx, group, header};

use crate::support::{OrderPlaced, StockReserved, order};

/// Orders of two articles, with a message that only looks like another one.
fn messages() -> impl Iterator<Item = Message> {
    let orders = [("1", "tea", 2), ("2", "jam", 1), ("3", "tea", 2)];
    orders.into_iter().map(|(id, article, quantity)| {
        Message::new(serde_json::to_vec(&order(article, quantity)).unwrap())
            .with_key(article)
            .with_header(header::CE_TYPE, "shop.order.placed")
            .with_header(header::CE_SOURCE, "shop")
            .with_header(header::CE_ID, id)
    })
}

fn reserved(placed: OrderPlaced) -> Publish<StockReserved> {
    Publish(StockReserved {
        order: placed.order,
    })
}

const RESERVE: &str = "UPDATE stock SET reserved = reserved + $1 WHERE article = $2";

/// What is the same for every database but for its type.
macro_rules! shop {
    ($Database:ty, $Pool:ty) => {
        /// In the transaction of the inbox.
        async fn reserve(
            mut tx: Tx<$Database>,
            Msg(placed): Msg<OrderPlaced>,
        ) -> Result<Publish<StockReserved>, wharf::Error> {
            let reserve = sqlx::query(RESERVE).bind(i64::from(placed.quantity));
            reserve.bind(&placed.order).execute(&mut *tx).await?;
            Ok(reserved(placed))
        }

        /// In a transaction of its own.
        async fn reserve_alone(
            State(pool): State<$Pool>,
            Msg(placed): Msg<OrderPlaced>,
        ) -> Result<Publish<StockReserved>, wharf::Error> {
            let mut transaction = pool.begin().await?;
            let reserve = sqlx::query(RESERVE).bind(i64::from(placed.quantity));
            let reserve = reserve.bind(&placed.order);
            reserve.execute(&mut *transaction).await?;
            transaction.commit().await?;
            Ok(reserved(placed))
        }

        fn with_inbox(pool: &$Pool) -> Router {
            let inbox = SqlInbox::new(pool.clone(), "inventory");
            let route = group("inventory").on(reserve).inbox(inbox);
            Router::new().topic("orders", route.retry(Retry::never()))
        }

        fn without_inbox(pool: &$Pool) -> Router {
            let route = group("inventory").on(reserve_alone);
            let router = Router::new().topic("orders", route.retry(Retry::never()));
            router.with_state(pool.clone())
        }

        /// A pool with the tables.
        async fn prepared(pool: $Pool) -> $Pool {
            let inbox = SqlInbox::new(pool.clone(), "inventory");
            inbox.install().await.unwrap();
            let table =
                "CREATE TABLE stock (article VARCHAR(9) PRIMARY KEY, reserved BIGINT NOT NULL)";
            for statement in [table, "INSERT INTO stock VALUES ('tea', 0), ('jam', 0)"] {
                sqlx::query(statement).execute(&pool).await.unwrap();
            }
            pool
        }

        /// The test of a router by the rows of its table.
        fn checked<'a>(pool: &'a $Pool, router: impl FnMut() -> Router + 'a) -> Check<'a> {
            let reset = move || async move {
                for statement in ["UPDATE stock SET reserved = 0", "DELETE FROM wharf_inbox"] {
                    sqlx::query(statement).execute(pool).await.unwrap();
                }
            };
            let rows = move || async move {
                let sql = "SELECT article, reserved FROM stock ORDER BY article";
                let rows = sqlx::query_as::<_, (String, i64)>(sql).fetch_all(pool);
                let rows = rows.await.unwrap().into_iter();
                Effects::new().rows("stock", rows.map(|(article, sum)| json!([article, sum])))
            };
            check_router("inventory", "orders", router)
                .messages(messages())
                .reset(reset)
                .effects(rows)
                .runs(20)
        }
    };
}

mod postgres {
    use super::*;

    shop!(Postgres, PgPool);

    /// A new database of the one server.
    async fn pool(name: &str) -> PgPool {
        static SERVER: OnceLock<Database> = OnceLock::new();
        let start = || Database::start(DatabaseKind::Postgres, &["-c", "fsync=off"]).unwrap();
        let server = SERVER.get_or_init(start);
        let admin = PgPool::connect(&server.url("postgres")).await.unwrap();
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(create).execute(&admin).await.unwrap();
        admin.close().await;
        let pool = PgPoolOptions::new().max_connections(5);
        prepared(pool.connect(&server.url(name)).await.unwrap()).await
    }

    #[tokio::test]
    async fn a_router_with_the_inbox_bears_everything() {
        let pool = pool("with_inbox").await;
        let report = checked(&pool, || with_inbox(&pool)).run().await;
        assert_eq!(report.verdict, Verdict::Idempotent);
        let tried = report.cases.iter().all(|case| case.schedules > 0);
        assert!(tried, "{report}");
        pool.close().await;
    }

    #[tokio::test]
    async fn the_same_router_without_the_inbox_is_caught() {
        let pool = pool("without_inbox").await;
        let report = checked(&pool, || without_inbox(&pool))
            .report()
            .await
            .unwrap();
        assert_eq!(report.verdict, Verdict::NotIdempotent, "{report}");
        let failure = report.failure().unwrap();
        assert_eq!(failure.minimal.to_string(), "1 1", "{report}");
        pool.close().await;
    }
}

mod sqlite {
    use super::*;

    shop!(Sqlite, SqlitePool);

    async fn pool(folder: &tempfile::TempDir) -> SqlitePool {
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join("shop.db"))
            .create_if_missing(true);
        let pool = SqlitePoolOptions::new().max_connections(1);
        prepared(pool.connect_with(options).await.unwrap()).await
    }

    #[tokio::test]
    async fn a_router_with_the_inbox_bears_everything() {
        let folder = tempfile::tempdir().unwrap();
        let pool = pool(&folder).await;
        let report = checked(&pool, || with_inbox(&pool)).run().await;
        assert_eq!(report.verdict, Verdict::Idempotent);
        pool.close().await;
    }

    #[tokio::test]
    async fn the_same_router_without_the_inbox_is_caught() {
        let folder = tempfile::tempdir().unwrap();
        let pool = pool(&folder).await;
        let report = checked(&pool, || without_inbox(&pool))
            .report()
            .await
            .unwrap();
        let failure = report.failure().unwrap();
        assert_eq!(failure.minimal.to_string(), "1 1", "{report}");
        pool.close().await;
    }
}
