//! What the cases share: a server that is started once, a new database with an outbox for every case,
//! and a relay that can be ended like a process that is killed.

use std::future::Future;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
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
    Checkpoint, Delivered, Opened, Relay, Routed, Router, Row, Settings, Sink, Status, StatusView,
    Target, Trouble, Unroutable,
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
        let url = server.url("postgres");
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let create = format!("CREATE DATABASE {slot}");
        sqlx::raw_sql(AssertSqlSafe(create))
            .execute(&mut connection)
            .await
            .unwrap();
        let url = server.url(&slot);
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
            "SELECT coalesce((confirmed_flush_lsn - '0/0'::pg_lsn)::int8, 0) FROM pg_replication_slots \
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

/// A target whose deliveries become durable only up to a number of them, in all.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) target: MemoryTarget,
    open: watch::Sender<u64>,
    delivered: Arc<AtomicU64>,
    keeps: bool,
}

impl Gate {
    /// Lets through so many deliveries.
    pub(super) fn new(open: u64) -> Self {
        Self {
            target: MemoryTarget::default(),
            open: watch::channel(open).0,
            delivered: Arc::default(),
            keeps: true,
        }
    }

    /// Lets everything through, and forgets checkpoints.
    pub(super) fn forgetful() -> Self {
        Self {
            keeps: false,
            ..Self::new(u64::MAX)
        }
    }

    /// Lets through so many more.
    pub(super) fn more(&self, more: u64) {
        self.open
            .send_modify(|open| *open = open.saturating_add(more));
    }

    /// Until so many messages are durable, letting through one delivery after the other.
    pub(super) async fn let_through(&self, messages: usize) {
        let done = until(async || {
            let enough = self.target.messages().len() >= messages;
            if !enough && self.delivered.load(Ordering::SeqCst) >= *self.open.borrow() {
                self.more(1);
            }
            enough
        });
        assert!(done.await, "{} messages", self.target.messages().len());
    }
}

impl Target for Gate {
    fn keeps_checkpoints(&self) -> bool {
        self.keeps
    }

    fn open(&self, source: &str) -> BoxFuture<'_, Result<Opened, Trouble>> {
        let opened = self.target.open(source);
        async {
            let Opened { sink, history } = opened.await?;
            // What was under way before is gone.
            self.delivered.store(0, Ordering::SeqCst);
            self.open
                .send_modify(|open| *open = if *open < u64::MAX { 0 } else { *open });
            let sink = Box::new(GateSink {
                gate: self.clone(),
                sink,
                number: 0,
            });
            let history = if self.keeps { history } else { Vec::new() };
            Ok(Opened { sink, history })
        }
        .boxed()
    }
}

struct GateSink {
    gate: Gate,
    sink: Box<dyn Sink>,
    number: u64,
}

impl Sink for GateSink {
    fn deliver(
        &mut self,
        messages: Vec<Routed>,
        checkpoint: Checkpoint,
    ) -> BoxFuture<'static, Result<Delivered, Trouble>> {
        self.number += 1;
        let number = self.number;
        let mut open = self.gate.open.subscribe();
        let delivered = Arc::clone(&self.gate.delivered);
        let delivery = self.sink.deliver(messages, checkpoint);
        async move {
            open.wait_for(|&open| number <= open).await.unwrap();
            let done = delivery.await?;
            delivered.fetch_max(number, Ordering::SeqCst);
            Ok(done)
        }
        .boxed()
    }
}

impl Bed {
    /// Until the server has heard from the relay so many times more.
    pub(super) async fn heard(&self, times: usize) {
        let ask = format!(
            "SELECT coalesce(max(extract(epoch FROM reply_time) * 1000000), 0)::int8 \
             FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid \
             WHERE s.slot_name = '{}'",
            self.slot
        );
        for _ in 0..times {
            let before = self.number(ask.clone()).await;
            assert!(until(async || self.number(ask.clone()).await > before).await);
        }
    }

    /// Whether somebody reads the slot.
    pub(super) async fn is_followed(&self) -> bool {
        let ask = format!(
            "SELECT count(*) FROM pg_replication_slots s JOIN pg_stat_replication r \
             ON r.pid = s.active_pid AND r.state IN ('catchup', 'streaming') \
             WHERE s.slot_name = '{}'",
            self.slot
        );
        self.number(ask).await == 1
    }

    /// Until somebody reads the slot.
    pub(super) async fn following(&self) {
        assert!(until(async || self.is_followed().await).await);
    }

    /// How many slots there are of this name.
    pub(super) async fn slots(&self) -> i64 {
        let slot = &self.slot;
        self.number(format!(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}'"
        ))
        .await
    }

    /// Makes the slot, as an operator does.
    pub(super) async fn make_slot(&self) {
        let slot = &self.slot;
        self.run(format!(
            "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
        ))
        .await;
    }

    /// Until nobody reads the slot.
    pub(super) async fn free(&self) {
        let ask = format!(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}' AND active",
            self.slot
        );
        assert!(until(async || self.number(ask.clone()).await == 0).await);
    }

    /// Drops the slot, as soon as nobody reads it.
    pub(super) async fn drop_slot(&self) {
        self.free().await;
        let drop = format!("SELECT pg_drop_replication_slot('{}')", self.slot);
        self.run(drop).await;
    }
}
