//! The servers, which are started once and end with this process, and a new database for every case.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use harness::{Database, DatabaseKind};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool};

/// The longest that a case may take in all.
const WITHIN: Duration = Duration::from_secs(120);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A name that no other case has.
pub(super) fn name() -> String {
    format!("case{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Runs a case, with an end to waiting.
pub(super) fn case(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let ended = runtime.block_on(async { tokio::time::timeout(WITHIN, future).await });
    runtime.shutdown_background();
    ended.expect("the case does not come to an end");
}

/// How clients reach a Postgres.
pub(super) fn postgres_options(server: &Database) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(server.folder())
        .port(5432)
        .username(server.user())
        .database("postgres")
}

/// A new database in the Postgres that the cases share, without tables.
pub(super) async fn postgres() -> (PgPool, PgConnectOptions) {
    static SERVER: OnceLock<Database> = OnceLock::new();
    let options = ["-c", "fsync=off", "-c", "max_connections=300"];
    let server = SERVER.get_or_init(|| Database::start(DatabaseKind::Postgres, &options).unwrap());
    let (options, name) = (postgres_options(server), name());
    let one = PgPoolOptions::new().max_connections(1);
    let admin = one.connect_with(options.clone()).await.unwrap();
    run(&admin, format!("CREATE DATABASE {name}")).await;
    admin.close().await;
    let options = options.database(&name);
    let pool = PgPoolOptions::new().max_connections(20);
    (pool.connect_with(options.clone()).await.unwrap(), options)
}

/// Runs statements that take no values.
pub(super) async fn run(pool: &PgPool, sql: impl Into<String>) {
    let sql = AssertSqlSafe(sql.into());
    sqlx::raw_sql(sql).execute(pool).await.unwrap();
}
