//! What the cases share: the servers, which are started once and end with this process, a new database
//! for every case, and a consumer whose effects can be counted.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use harness::{Database, DatabaseKind};
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, MySql, Pool, Postgres, Row as _, Sqlite};
use wharf_message::idempotency::Key;
use wharf_message::{Message, TopicName};
use wharf_outbox::{Class, Dialect, Error, Inbox, Once, PayloadHash};

/// The longest that a case may take in all.
const WITHIN: Duration = Duration::from_secs(120);
/// How many connections a pool has.
const CONNECTIONS: u32 = 10;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A database under test.
pub trait Server: Dialect {
    /// A new database without tables.
    fn empty() -> impl Future<Output = Pool<Self>> + Send;

    /// Runs a statement.
    fn run(
        connection: &mut Self::Connection,
        sql: String,
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send;

    /// Asks for a number.
    fn number(
        connection: &mut Self::Connection,
        sql: String,
    ) -> impl Future<Output = Result<i64, sqlx::Error>> + Send;

    /// The statement that makes a session wait for a lock for a short time only.
    const WAIT_SHORTLY: &'static str;
    /// A time so many seconds ago, as `seen_at` holds it.
    fn seconds_ago(seconds: u32) -> String;
}

macro_rules! running {
    () => {
        async fn run(connection: &mut Self::Connection, sql: String) -> Result<u64, sqlx::Error> {
            let done = sqlx::query(AssertSqlSafe(sql)).execute(connection).await?;
            Ok(done.rows_affected())
        }

        async fn number(
            connection: &mut Self::Connection,
            sql: String,
        ) -> Result<i64, sqlx::Error> {
            let row = sqlx::query(AssertSqlSafe(sql))
                .fetch_one(connection)
                .await?;
            row.try_get(0)
        }
    };
}

/// How clients reach a Postgres.
pub fn postgres_options(server: &Database) -> PgConnectOptions {
    server.url("postgres").parse().unwrap()
}

/// How clients reach a MariaDB.
pub fn mariadb_options(server: &Database) -> MySqlConnectOptions {
    MySqlConnectOptions::new()
        .socket(server.socket())
        .username(server.user())
}

fn name() -> String {
    format!("case{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

impl Server for Postgres {
    async fn empty() -> Pool<Self> {
        static SERVER: OnceLock<Database> = OnceLock::new();
        let options = ["fsync=off", "max_connections=300", "wal_level=logical"];
        let options = options.map(|option| ["-c", option]).concat();
        let server =
            SERVER.get_or_init(|| Database::start(DatabaseKind::Postgres, &options).unwrap());
        let (options, name) = (postgres_options(server), name());
        let one = PgPoolOptions::new().max_connections(1);
        let admin = one.connect_with(options.clone()).await.unwrap();
        let create = format!("CREATE DATABASE {name}");
        Self::run(&mut admin.acquire().await.unwrap(), create)
            .await
            .unwrap();
        admin.close().await;
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS);
        pool.connect_with(options.database(&name)).await.unwrap()
    }

    running!();

    const WAIT_SHORTLY: &'static str = "SET lock_timeout = '100ms'";

    fn seconds_ago(seconds: u32) -> String {
        format!("now() - interval '{seconds} seconds'")
    }
}

impl Server for MySql {
    async fn empty() -> Pool<Self> {
        static SERVER: OnceLock<Database> = OnceLock::new();
        let options = [
            "--innodb-flush-log-at-trx-commit=0",
            "--max-connections=300",
        ];
        let server =
            SERVER.get_or_init(|| Database::start(DatabaseKind::MariaDb, &options).unwrap());
        let (options, name) = (mariadb_options(server), name());
        let one = MySqlPoolOptions::new().max_connections(1);
        let admin = one.connect_with(options.clone()).await.unwrap();
        let create = format!("CREATE DATABASE {name}");
        Self::run(&mut admin.acquire().await.unwrap(), create)
            .await
            .unwrap();
        admin.close().await;
        let pool = MySqlPoolOptions::new().max_connections(CONNECTIONS);
        pool.connect_with(options.database(&name)).await.unwrap()
    }

    running!();

    const WAIT_SHORTLY: &'static str = "SET SESSION innodb_lock_wait_timeout = 1";

    fn seconds_ago(seconds: u32) -> String {
        format!("UTC_TIMESTAMP(6) - INTERVAL {seconds} SECOND")
    }
}

/// How clients reach the file `name`.
pub fn sqlite_options(file: &std::path::Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(Duration::from_secs(30))
}

/// Where the files of SQLite are.
pub fn files() -> &'static std::path::Path {
    static FILES: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
    FILES.path()
}

impl Server for Sqlite {
    async fn empty() -> Pool<Self> {
        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS);
        let options = sqlite_options(&files().join(name()));
        pool.connect_with(options).await.unwrap()
    }

    running!();

    const WAIT_SHORTLY: &'static str = "PRAGMA busy_timeout = 100";

    fn seconds_ago(seconds: u32) -> String {
        format!("(julianday('now') - 2440587.5) * 86400000 - {seconds}000")
    }
}

/// A new database with the inbox and a table that effects are counted in.
pub async fn fresh<D: Server>() -> Pool<D> {
    let pool = D::empty().await;
    prepare(&pool).await;
    pool
}

/// Creates the tables.
pub async fn prepare<D: Server>(pool: &Pool<D>) {
    Inbox::install(pool).await.unwrap();
    let effects = "CREATE TABLE IF NOT EXISTS effects (id VARCHAR(100) NOT NULL)".to_owned();
    D::run(&mut pool.acquire().await.unwrap(), effects)
        .await
        .unwrap();
}

/// The inbox of the cases.
pub fn inbox() -> Inbox {
    Inbox::new("billing")
}

/// A message's key.
pub fn key(id: &str) -> Key {
    Key::operation("orders", id)
}

/// Its payload's hash.
pub fn hash(payload: &str) -> PayloadHash {
    PayloadHash::of(&Message::new(payload.to_owned()))
}

/// What the run for a message publishes.
pub fn outputs(id: &str) -> Vec<(TopicName, Message)> {
    let charged = Message::new(format!("charged {id}")).with_header("ce_id", format!("out-{id}"));
    vec![(TopicName::new("charged").unwrap(), charged)]
}

/// What a duplicate of it is answered with.
pub fn duplicate(id: &str) -> Once {
    Once::Duplicate {
        outputs: outputs(id),
        same_payload: true,
    }
}

/// The statement that is the effect of a message.
pub fn effect(id: &str) -> String {
    format!("INSERT INTO effects (id) VALUES ('{id}')")
}

/// Handles a message in one transaction, as a consumer does: whether it was the first.
pub async fn handle<D: Server>(pool: &Pool<D>, id: &str) -> Result<Once, Error> {
    let refused = |error: sqlx::Error| match wharf_outbox::classify(&error) {
        Class::Conflict => Error::Conflict(Some(error)),
        Class::Unavailable => Error::Unavailable(error),
        _ => Error::Database(error),
    };
    let mut transaction = pool.begin().await.map_err(refused)?;
    let (inbox, key) = (inbox(), key(id));
    let once = inbox.once(&mut transaction, &key, &hash(id)).await?;
    if once == Once::First {
        D::run(&mut transaction, effect(id))
            .await
            .map_err(refused)?;
        inbox
            .record_outputs(&mut transaction, &key, &outputs(id))
            .await?;
        transaction.commit().await.map_err(refused)?;
    }
    Ok(once)
}

/// The same, tried again while others are in the way.
pub async fn handle_again<D: Server>(pool: &Pool<D>, id: &str) -> Once {
    loop {
        match handle(pool, id).await {
            Err(error) if error.class() == Class::Conflict => {}
            other => return other.unwrap(),
        }
    }
}

/// How many rows of a table there are, of those for which `which` holds.
pub async fn count<D: Server>(pool: &Pool<D>, table: &str, which: &str) -> i64 {
    let mut connection = pool.acquire().await.unwrap();
    let sql = format!("SELECT COUNT(*) FROM {table} WHERE {which}");
    D::number(&mut connection, sql).await.unwrap()
}

/// Runs a case, with an end to waiting.
pub fn case(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let ended = runtime.block_on(async { tokio::time::timeout(WITHIN, future).await });
    runtime.shutdown_background();
    ended.expect("the case does not come to an end");
}

/// The named cases as tests of every database.
macro_rules! on_every_database {
    ($($case:ident)*) => {
        mod postgres { $(#[test] fn $case() {
            crate::support::case(super::$case::<sqlx::Postgres>());
        })* }
        mod mariadb { $(#[test] fn $case() {
            crate::support::case(super::$case::<sqlx::MySql>());
        })* }
        mod sqlite { $(#[test] fn $case() {
            crate::support::case(super::$case::<sqlx::Sqlite>());
        })* }
    };
}
pub(crate) use on_every_database;
