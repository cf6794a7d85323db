//! What the cases share: a server that is started once, a new database with an outbox for every case,
//! and a relay that can be ended like a process that is killed.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use harness::{Database, DatabaseKind};
use sqlx::postgres::{PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgPool};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use wharf_message::{Message, Timestamp, TopicName};
use wharf_relay::postgres::PostgresLog;
use wharf_relay::target::memory::MemoryTarget;
use wharf_relay::{
    Relay, Routed, Router, Row, Settings, State, Status, StatusView, Target, Unroutable,
};

/// The longest that anything may take.
pub(super) const WITHIN: Duration = Duration::from_secs(60);
/// What the server of a case needs at least.
pub(super) const OPTIONS: [&str; 12] = [
    "-c",
    "wal_level=logical",
    "-c",
    "max_replication_slots=60",
    "-c",
    "max_wal_senders=60",
    "-c",
    "max_connections=300",
    "-c",
    "fsync=off",
    "-c",
    "max_prepared_transactions=10",
];
const TABLES: &str = include_str!("../../../../wharf-outbox/migrations/postgres/outbox.sql");

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The server that most cases share, each with a database of its own.
fn shared() -> &'static Database {
    static SHARED: OnceLock<Database> = OnceLock::new();
    SHARED.get_or_init(|| server(&[]))
}

/// A server of a case's own.
pub(super) fn server(more: &[&str]) -> Database {
    let options: Vec<_> = OPTIONS.iter().chain(more).copied().collect();
    Database::start(DatabaseKind::Postgres, &options).unwrap()
}

/// A database with an outbox.
pub(super) struct Bed {
    pub(super) url: String,
    pub(super) pool: PgPool,
    /// A name that no other case has.
    pub(super) slot: String,
}

impl Bed {
    /// On the shared server.
    pub(super) async fn new() -> Self {
        Self::on(shared()).await
    }

    /// On this server.
    pub(super) async fn on(server: &Database) -> Self {
        let bed = Self::empty(server).await;
        bed.run(TABLES).await;
        bed
    }

    /// Without tables.
    pub(super) async fn empty(server: &Database) -> Self {
        let slot = format!("case_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let url = |database: &str| {
            let folder = server.folder().display();
            format!(
                "postgres://{}@localhost/{database}?host={folder}",
                server.user()
            )
        };
        let mut connection = PgConnection::connect(&url("postgres")).await.unwrap();
        let create = format!("CREATE DATABASE {slot}");
        sqlx::raw_sql(AssertSqlSafe(create))
            .execute(&mut connection)
            .await
            .unwrap();
        let url = url(&slot);
        let pool = PgPoolOptions::new()
            .max_connections(20)
            .connect(&url)
            .await
            .unwrap();
        Self { url, pool, slot }
    }

    /// The same database under another user.
    pub(super) fn url_of(&self, user: &str) -> String {
        let (_, rest) = self.url.split_once('@').unwrap();
        format!("postgres://{user}@{rest}")
    }

    /// Runs statements.
    pub(super) async fn run(&self, sql: impl Into<String>) {
        let sql = sql.into();
        let done = sqlx::raw_sql(AssertSqlSafe(sql.clone()))
            .execute(&self.pool)
            .await;
        done.unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    /// Asks for a number.
    pub(super) async fn number(&self, sql: impl Into<String>) -> i64 {
        let sql = sql.into();
        let answer = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&self.pool)
            .await;
        answer.unwrap()
    }

    /// The source of this database's outbox.
    pub(super) fn source(&self) -> PostgresLog {
        PostgresLog::new(&self.url, "wharf_outbox", &self.slot).unwrap()
    }

    /// Inserts a row for each payload, in one transaction.
    pub(super) async fn insert(&self, payloads: &[&str]) {
        let mut transaction = self.pool.begin().await.unwrap();
        for payload in payloads {
            insert(&mut transaction, payload).await;
        }
        transaction.commit().await.unwrap();
    }

    /// Ends every session that reads the slot, as when a connection breaks.
    pub(super) async fn cut(&self) {
        self.run(format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots \
             WHERE slot_name = '{}' AND active_pid IS NOT NULL",
            self.slot
        ))
        .await;
    }

    /// Where the slot was told that all is durable, as a number.
    pub(super) async fn confirmed(&self) -> i64 {
        self.number(format!(
            "SELECT (confirmed_flush_lsn - '0/0'::pg_lsn)::int8 FROM pg_replication_slots \
             WHERE slot_name = '{}'",
            self.slot
        ))
        .await
    }

    /// Where the log is, as a number.
    pub(super) async fn position(&self) -> i64 {
        self.number("SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8")
            .await
    }
}

/// The statement that inserts one row.
pub(super) fn row(payload: &str) -> String {
    format!(
        "INSERT INTO wharf_outbox (id, aggregatetype, aggregateid, type, payload) \
         VALUES (gen_random_uuid(), 'order', 'o-1', 'made', convert_to('{payload}', 'UTF8'))"
    )
}

/// The statement that inserts the numbers from `first` to `last` as rows.
pub(super) fn rows(first: u64, last: u64) -> String {
    format!(
        "INSERT INTO wharf_outbox (id, aggregatetype, aggregateid, type, payload) \
         SELECT gen_random_uuid(), 'order', 'o-1', 'made', convert_to(n::text, 'UTF8') \
         FROM generate_series({first}, {last}) n"
    )
}

/// Inserts one row.
pub(super) async fn insert(connection: &mut PgConnection, payload: &str) {
    sqlx::raw_sql(AssertSqlSafe(row(payload)))
        .execute(connection)
        .await
        .unwrap();
}

/// Sends every payload to the topic `rows`; rows without an aggregate are set aside.
struct ToRows;

impl Router for ToRows {
    fn route(&self, row: &Row) -> Result<Option<Routed>, Unroutable> {
        let value = |name: &str| row.get(name).and_then(|(_, value)| value.cloned());
        let key = value("aggregateid").ok_or_else(|| Unroutable("no key".to_owned()))?;
        let message = Message::new(value("payload").unwrap_or_default()).with_key(key);
        let place = row.place.to_string();
        Ok(Some(routed("rows", message.with_header("place", place))))
    }

    fn set_aside(&self, _source: &str, row: &Row, _reason: &Unroutable) -> Routed {
        let payload = row.get("payload").and_then(|(_, value)| value.cloned());
        routed("aside", Message::new(payload.unwrap_or_default()))
    }
}

fn routed(topic: &str, message: Message) -> Routed {
    Routed {
        topic: TopicName::new(topic).unwrap(),
        partition: None,
        message,
    }
}

/// A relay at work.
pub(super) struct Running {
    pub(super) status: Arc<Status>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    /// Starts one.
    pub(super) fn start(source: PostgresLog, target: &MemoryTarget) -> Self {
        Self::with(source, Arc::new(target.clone()), Settings::default())
    }

    /// Starts one that delivers elsewhere.
    pub(super) fn with(source: PostgresLog, target: Arc<dyn Target>, settings: Settings) -> Self {
        let (source, router) = (Arc::new(source), Arc::new(ToRows));
        let relay = Relay::new("case", source, router, target, || Timestamp::ZERO);
        let relay = relay.with_settings(settings);
        let status = relay.status();
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(relay.run(stopped));
        Self { status, stop, task }
    }

    /// Until it says so.
    pub(super) async fn until(&self, what: &str, is: impl Fn(&StatusView) -> bool) {
        let waited = until(async || is(&self.status.view())).await;
        assert!(waited, "{what}: {:?}", self.status.view());
    }

    /// Until it moves rows from the log.
    pub(super) async fn running(&self) {
        self.until("it runs", |view| view.state == State::Running)
            .await;
    }

    /// Ends it in an orderly way.
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
    }

    /// Ends it where it stands.
    pub(super) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err());
    }
}

/// Whether it came to be within the time.
pub(super) async fn until(mut is: impl AsyncFnMut() -> bool) -> bool {
    let waiting = async {
        while !is().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WITHIN, waiting).await.is_ok()
}

/// Fails when something takes too long.
pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(WITHIN, future).await.unwrap()
}

/// What arrived in a topic, in order.
pub(super) fn arrived(target: &MemoryTarget, topic: &str) -> Vec<String> {
    let messages = target.messages();
    let messages = messages.into_iter().filter(|it| it.topic.as_str() == topic);
    let text = |it: Routed| String::from_utf8(it.message.payload.unwrap().to_vec()).unwrap();
    messages.map(text).collect()
}

/// Until so many have arrived, which are exactly these, in this order.
pub(super) async fn arrive(target: &MemoryTarget, expected: &[impl AsRef<str>]) {
    let enough = until(async || target.messages().len() >= expected.len()).await;
    let arrived = arrived(target, "rows");
    let expected: Vec<_> = expected.iter().map(AsRef::as_ref).collect();
    assert!(
        enough && arrived == expected,
        "{} arrived: {arrived:?}",
        arrived.len()
    );
}

/// The numbers from `first` to `last`, as payloads.
pub(super) fn numbers(first: u64, last: u64) -> Vec<String> {
    (first..=last).map(|number| number.to_string()).collect()
}
