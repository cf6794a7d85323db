//! The servers, which are started once and end with this process, and for every case a new database
//! with an outbox and a table of aggregates, which writers lock.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use harness::{Database, DatabaseKind};
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, MySql, PgPool, Pool, Postgres, Row as _, Sqlite};
use wharf_outbox::{Dialect, Outbox};
use wharf_relay::Source;
use wharf_relay::polling::{Settings, mysql, postgres, sqlite};

/// The longest that a case may take in all.
const WITHIN: Duration = Duration::from_secs(120);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A name that no other case has.
fn name() -> String {
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

/// A database under test.
pub(super) trait Server: Dialect {
    /// How clients reach a database.
    type Options: Clone + Send + Sync + 'static;

    /// A new database without tables, in a server that cases share.
    fn empty() -> impl Future<Output = (Pool<Self>, Self::Options)> + Send;

    /// A source that polls it.
    fn source(options: &Self::Options, settings: Settings) -> Arc<dyn Source>;

    /// Runs statements that take no values.
    fn run(
        connection: &mut Self::Connection,
        sql: String,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Asks for texts.
    fn texts(
        connection: &mut Self::Connection,
        sql: String,
    ) -> impl Future<Output = Result<Vec<String>, sqlx::Error>> + Send;

    /// Begins a transaction that writes.
    const BEGIN: &'static str;
    /// What locks the rows that a `SELECT` names.
    const LOCK: &'static str;
}

macro_rules! running {
    () => {
        async fn run(connection: &mut Self::Connection, sql: String) -> Result<(), sqlx::Error> {
            let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await;
            done.map(drop)
        }

        async fn texts(
            connection: &mut Self::Connection,
            sql: String,
        ) -> Result<Vec<String>, sqlx::Error> {
            let rows = sqlx::query(AssertSqlSafe(sql))
                .fetch_all(connection)
                .await?;
            rows.iter().map(|row| row.try_get(0)).collect()
        }
    };
}

/// How clients reach a Postgres.
pub(super) fn postgres_options(server: &Database) -> PgConnectOptions {
    server.url("postgres").parse().unwrap()
}

/// How clients reach a MariaDB.
pub(super) fn mariadb_options(server: &Database) -> MySqlConnectOptions {
    MySqlConnectOptions::new()
        .socket(server.socket())
        .username(server.user())
}

/// A new database in a Postgres.
pub(super) async fn new_postgres(server: &Database) -> (PgPool, PgConnectOptions) {
    let (options, name) = (postgres_options(server), name());
    let one = PgPoolOptions::new().max_connections(1);
    let admin = one.connect_with(options.clone()).await.unwrap();
    run(&admin, format!("CREATE DATABASE {name}")).await;
    admin.close().await;
    let options = options.database(&name);
    let pool = PgPoolOptions::new().max_connections(10);
    (pool.connect_with(options.clone()).await.unwrap(), options)
}

/// A new database in a MariaDB.
pub(super) async fn new_mariadb(server: &Database) -> (Pool<MySql>, MySqlConnectOptions) {
    let (options, name) = (mariadb_options(server), name());
    let one = MySqlPoolOptions::new().max_connections(1);
    let admin = one.connect_with(options.clone()).await.unwrap();
    run(&admin, format!("CREATE DATABASE {name}")).await;
    admin.close().await;
    let options = options.database(&name);
    let pool = MySqlPoolOptions::new().max_connections(10);
    (pool.connect_with(options.clone()).await.unwrap(), options)
}

impl Server for Postgres {
    type Options = PgConnectOptions;

    async fn empty() -> (Pool<Self>, PgConnectOptions) {
        static SERVER: OnceLock<Database> = OnceLock::new();
        let options = ["-c", "fsync=off", "-c", "max_connections=300"];
        let start = || Database::start(DatabaseKind::Postgres, &options).unwrap();
        new_postgres(SERVER.get_or_init(start)).await
    }

    fn source(options: &PgConnectOptions, settings: Settings) -> Arc<dyn Source> {
        postgres::source(options.clone(), settings)
    }

    running!();

    const BEGIN: &'static str = "BEGIN";
    const LOCK: &'static str = "FOR UPDATE";
}

impl Server for MySql {
    type Options = MySqlConnectOptions;

    async fn empty() -> (Pool<Self>, MySqlConnectOptions) {
        static SERVER: OnceLock<Database> = OnceLock::new();
        let options = [
            "--innodb-flush-log-at-trx-commit=0",
            "--max-connections=300",
        ];
        let start = || Database::start(DatabaseKind::MariaDb, &options).unwrap();
        new_mariadb(SERVER.get_or_init(start)).await
    }

    fn source(options: &MySqlConnectOptions, settings: Settings) -> Arc<dyn Source> {
        mysql::source(options.clone(), settings)
    }

    running!();

    const BEGIN: &'static str = "BEGIN";
    const LOCK: &'static str = "FOR UPDATE";
}

/// How clients reach the file `path`.
fn sqlite_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(Duration::from_secs(30))
}

/// A file for a database.
fn file() -> PathBuf {
    static FILES: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
    FILES.path().join(name())
}

impl Server for Sqlite {
    type Options = SqliteConnectOptions;

    async fn empty() -> (Pool<Self>, SqliteConnectOptions) {
        let options = sqlite_options(&file());
        let pool = SqlitePoolOptions::new().max_connections(10);
        (pool.connect_with(options.clone()).await.unwrap(), options)
    }

    fn source(options: &SqliteConnectOptions, settings: Settings) -> Arc<dyn Source> {
        sqlite::source(options.clone(), settings)
    }

    running!();

    const BEGIN: &'static str = "BEGIN IMMEDIATE";
    const LOCK: &'static str = "";
}

/// Creates an outbox, and the aggregates `a0` to `a3`.
pub(super) async fn prepare<D: Server>(pool: &Pool<D>) {
    Outbox::new().install(pool).await.unwrap();
    let aggregates = "CREATE TABLE aggregates (name VARCHAR(20) PRIMARY KEY, version INT NOT NULL);
        INSERT INTO aggregates VALUES ('a0', 0), ('a1', 0), ('a2', 0), ('a3', 0)";
    run(pool, aggregates).await;
}

/// A new database with an outbox.
pub(super) async fn fresh<D: Server>() -> (Pool<D>, D::Options) {
    let (pool, options) = D::empty().await;
    prepare(&pool).await;
    (pool, options)
}

/// A row for an aggregate.
pub(super) fn insert(aggregate: &str, payload: impl std::fmt::Display) -> String {
    let id = uuid::Uuid::new_v4();
    format!(
        "INSERT INTO wharf_outbox (id, aggregatetype, aggregateid, type, payload)
        VALUES ('{id}', 'order', '{aggregate}', 'made', '{payload}')"
    )
}

/// Runs statements that take no values.
pub(super) async fn run<D: Server>(pool: &Pool<D>, sql: impl Into<String>) {
    let mut connection = pool.acquire().await.unwrap();
    D::run(&mut connection, sql.into()).await.unwrap();
}

/// Asks for texts.
pub(super) async fn texts<D: Server>(pool: &Pool<D>, sql: &str) -> Vec<String> {
    let mut connection = pool.acquire().await.unwrap();
    D::texts(&mut connection, sql.to_owned()).await.unwrap()
}

/// The named cases as tests of every database.
macro_rules! on_every_database {
    ($($case:ident)*) => {
        mod postgres { $(#[test] fn $case() {
            crate::polling::databases::case(super::$case::<sqlx::Postgres>());
        })* }
        mod mariadb { $(#[test] fn $case() {
            crate::polling::databases::case(super::$case::<sqlx::MySql>());
        })* }
        mod sqlite { $(#[test] fn $case() {
            crate::polling::databases::case(super::$case::<sqlx::Sqlite>());
        })* }
    };
}
pub(super) use on_every_database;
