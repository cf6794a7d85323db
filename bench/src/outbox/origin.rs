//! The database whose outbox is drained: a Postgres of the benchmark's own, with the tables that the
//! library's migrations make.
//!
//! Invariant: every row is one that the library wrote, or a copy of one but for its id and its key.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::{Database, DatabaseKind, Port};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::runtime::Runtime;
use wharf_message::{Message, TopicName, header};
use wharf_outbox::Outbox;

/// The size of a payload, in bytes.
pub(super) const PAYLOAD_BYTES: usize = 400;
/// How many rows a transaction of the backlog has.
pub(super) const TRANSACTION_ROWS: u64 = 100;
/// What is not Postgres's default: the log is decoded, several read it, and no checkpoint falls into
/// one measurement and not into another.
pub(super) const SETTINGS: &[&str] = &[
    "wal_level=logical",
    "max_replication_slots=20",
    "max_wal_senders=20",
    "max_wal_size=16GB",
    "checkpoint_timeout=1h",
    "listen_addresses=127.0.0.1",
];
/// The publication that all who read the log share.
pub(super) const PUBLICATION: &str = "bench";
const KEYS: u64 = 1_000;
/// Where the number of a message is in its payload.
const NUMBER: std::ops::Range<usize> = 5..17;

/// See the module.
pub(super) struct Origin {
    pub(super) runtime: Runtime,
    pub(super) outbox: Outbox,
    options: PgConnectOptions,
    pool: PgPool,
    server: Database,
    port: Port,
}

impl Origin {
    /// A new server with an empty outbox that is published.
    pub(super) fn start() -> Result<Self> {
        let port = Port::reserve()?;
        let mut options: Vec<String> = Vec::new();
        for setting in SETTINGS {
            options.extend(["-c".to_owned(), (*setting).to_owned()]);
        }
        options.extend(["-p".to_owned(), port.number().to_string()]);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let server = Database::start(DatabaseKind::Postgres, &options)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(port.number())
            .username(server.user())
            .database("postgres");
        let pool = runtime.block_on(async {
            let pool = PgPoolOptions::new().max_connections(2);
            pool.connect_with(options.clone()).await
        })?;
        let origin = Self {
            runtime,
            outbox: Outbox::new(),
            options,
            pool,
            server,
            port,
        };
        origin
            .runtime
            .block_on(origin.outbox.install(&origin.pool))?;
        origin.execute(&format!(
            "CREATE PUBLICATION {PUBLICATION} FOR TABLE wharf_outbox
             WITH (publish = 'insert', publish_via_partition_root = true)"
        ))?;
        origin.keep_a_template()?;
        Ok(origin)
    }

    /// The host, port and user that others connect with; nobody needs a password.
    pub(super) fn port(&self) -> u16 {
        self.port.number()
    }

    /// See [`Self::port`].
    pub(super) fn user(&self) -> &'static str {
        self.server.user()
    }

    /// The address for a relay.
    pub(super) fn url(&self) -> String {
        let (user, port) = (self.user(), self.port());
        format!("postgres://{user}@127.0.0.1:{port}/postgres")
    }

    /// A pool of connections for writers, all of them open.
    pub(super) fn writers(&self, connections: u32) -> Result<PgPool> {
        let pool = PgPoolOptions::new()
            .min_connections(connections)
            .max_connections(connections)
            .test_before_acquire(false);
        let pool = pool.connect_with(self.options.clone());
        Ok(self.runtime.block_on(pool)?)
    }

    /// Keeps one row that the library wrote, to make others of.
    fn keep_a_template(&self) -> Result<()> {
        let topic = TopicName::new("template")?;
        self.runtime.block_on(async {
            let mut transaction = self.pool.begin().await?;
            let message = message(0);
            self.outbox
                .publish(&mut transaction, &topic, &message)
                .await?;
            for sql in [
                "CREATE TABLE template AS SELECT type, payload, headers FROM wharf_outbox",
                "DELETE FROM wharf_outbox",
            ] {
                sqlx::query(sql).execute(&mut *transaction).await?;
            }
            Ok(transaction.commit().await?)
        })
    }

    /// Writes so many rows, in transactions of [`TRANSACTION_ROWS`], and leaves the server at rest.
    pub(super) fn fill(&self, topic: &str, rows: u64) -> Result<()> {
        let transactions = rows / TRANSACTION_ROWS;
        ensure!(
            transactions * TRANSACTION_ROWS == rows,
            "{rows} is not a multiple of {TRANSACTION_ROWS}"
        );
        let fill = format!(
            "DO $$ BEGIN
                FOR batch IN 0..{last} LOOP
                    INSERT INTO wharf_outbox (id, aggregatetype, aggregateid, type, payload, headers)
                    SELECT lpad(to_hex(n), 32, '0')::uuid, '{topic}', 'order-' || n % {KEYS},
                        type, payload, headers
                    FROM template, generate_series(
                        batch::bigint * {TRANSACTION_ROWS} + 1, (batch + 1::bigint) * {TRANSACTION_ROWS}
                    ) AS n;
                    COMMIT;
                END LOOP;
            END $$",
            last = transactions - 1
        );
        self.runtime.block_on(async {
            let mut connection = self.pool.acquire().await?;
            for sql in [
                "SET synchronous_commit = off",
                &fill,
                "SET synchronous_commit = on",
            ] {
                let sql = sqlx::raw_sql(AssertSqlSafe(sql));
                sql.execute(&mut *connection).await?;
            }
            anyhow::Ok(())
        })?;
        self.execute("VACUUM (ANALYZE) wharf_outbox")?;
        self.rest()
    }

    /// Writes what waits in memory, so that no measurement pays for the one before.
    pub(super) fn rest(&self) -> Result<()> {
        self.execute("CHECKPOINT")
    }

    /// Runs a statement outside of a transaction.
    pub(super) fn execute(&self, sql: &str) -> Result<()> {
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.pool);
        self.runtime
            .block_on(done)
            .with_context(|| sql.to_owned())?;
        Ok(())
    }

    /// The one text that a statement answers.
    pub(super) fn ask(&self, sql: &str) -> Result<String> {
        let asked = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool);
        self.runtime.block_on(asked).with_context(|| sql.to_owned())
    }

    /// Makes a slot from here on.
    pub(super) fn make_slot(&self, name: &str) -> Result<()> {
        let sql = format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')::text");
        self.ask(&sql).map(drop)
    }

    /// Drops a slot, as soon as its sender has noticed that nobody listens any more.
    pub(super) fn drop_slot(&self, name: &str) -> Result<()> {
        let left =
            format!("SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = '{name}'");
        let deadline = Instant::now() + super::PATIENCE;
        while self.ask(&left)? != "0" {
            ensure!(Instant::now() < deadline, "the slot {name} is in use");
            self.execute(&format!(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
                 WHERE slot_name = '{name}' AND NOT active"
            ))?;
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until somebody reads a slot; whoever is still making it does not count.
    pub(super) fn wait_for_reader(&self, slot: &str) -> Result<()> {
        let sql = format!(
            "SELECT count(*)::text FROM pg_replication_slots s JOIN pg_stat_replication r ON r.pid = s.active_pid
             WHERE slot_name = '{slot}' AND state = 'streaming'"
        );
        let deadline = Instant::now() + super::PATIENCE;
        while self.ask(&sql)? == "0" {
            ensure!(Instant::now() < deadline, "nobody reads the slot {slot}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// What a service would publish: a key, the envelope, and a payload that begins with its number.
pub(super) fn message(number: u64) -> Message {
    let mut payload = format!("{{\"n\":{number:012},\"text\":\"");
    payload.extend(std::iter::repeat_n('x', PAYLOAD_BYTES - 2 - payload.len()));
    payload.push_str("\"}");
    Message::new(payload)
        .with_key(format!("order-{}", number % KEYS))
        .with_header(header::CE_SPECVERSION, header::CE_SPECVERSION_VALUE)
        .with_header(header::CE_SOURCE, "shop")
        .with_header(header::CE_TYPE, "shop.order.placed")
        .with_header(header::CE_TIME, "2026-01-31T12:00:00Z")
}

/// The number of the message that has this payload.
pub(super) fn number_of(payload: &[u8]) -> Option<usize> {
    str::from_utf8(payload.get(NUMBER)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_tells_its_number_and_has_its_size() {
        for number in [0, 7, 999_999] {
            let payload = message(number).payload.expect("it has one");
            assert_eq!(payload.len(), PAYLOAD_BYTES);
            assert_eq!(number_of(&payload).map(|found| found as u64), Some(number));
        }
        assert_eq!(number_of(b"{}"), None);
    }
}
