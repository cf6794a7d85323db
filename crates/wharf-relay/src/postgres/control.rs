//! The ordinary connection beside the replication one: what is there, what may be made, what to watch.
//!
//! Invariants: it holds a lock for as long as it lives, so that a source serves alone also while it
//! reads the table; the database ends a connection that says nothing for some seconds, so that a relay
//! that hangs does not keep the lock; nothing is made that the settings do not allow.

use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};
use tokio::time::{Instant, sleep};
use wharf_message::Code;

use super::progress::Snapshot;
use super::refusal::Names;
use crate::Trouble;

/// After how long without a word the database ends a connection of a relay.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(8);
/// How long a relay that has just ended may still hold what the next one needs.
const LEAVING: Duration = Duration::from_secs(1);
const LEAVING_STEP: Duration = Duration::from_millis(20);
/// From when on a transaction is a long one.
const LONG: &str = "10 seconds";
/// How often the database hears something while something else is waited for.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// The first half of the key of the lock: `WHRF`.
const LOCK: i32 = 0x5748_5246;

/// The server behind a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    /// `server_version_num`.
    pub(crate) version: i32,
    pub(crate) is_logical: bool,
    /// How long a sender waits for a sign of life; `None` for ever.
    pub(crate) sender_timeout: Option<Duration>,
}

/// A slot, as the server sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Whether this source can read it at all: its database and its plugin.
    pub(crate) is_ours: bool,
    /// What it was told to be durable; 0 while it is being made.
    pub(crate) confirmed: u64,
    /// How many bytes of the log it keeps.
    pub(crate) retained: u64,
    /// How many more may be written before it is given up.
    pub(crate) safe: Option<i64>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub(crate) state: String,
}

impl Slot {
    /// Whether it can be read by this source, and the server still has all of its log. While it is
    /// being made it cannot: what commits meanwhile may be before its beginning.
    pub(crate) fn is_usable(&self) -> bool {
        self.is_ours && self.state != "lost" && self.confirmed > 0
    }
}

/// What the server is at, at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// Which transactions are over.
    pub(crate) snapshot: Snapshot,
    /// Where the log is: every transaction that the snapshot sees was committed before.
    pub(crate) position: u64,
    pub(crate) slot: Option<Slot>,
    /// Whether the publication has the table.
    pub(crate) is_published: bool,
    /// The transaction that has been open for long, and so keeps the log and a slot from being made.
    pub(crate) held_by: Option<String>,
    /// Whether a heartbeat was written just before.
    pub(crate) beaten: bool,
}

/// The ordinary connection.
pub(crate) struct Control {
    pub(crate) connection: PgConnection,
    pub(crate) names: Names,
    pub(crate) server: Server,
}

impl Control {
    /// Connects and takes the lock of the slot.
    pub(crate) async fn connect(options: &PgConnectOptions, names: Names) -> Result<Self, Trouble> {
        let options = options.clone().application_name("wharf-relay");
        let options = options.disable_statement_logging();
        let connection = options.connect().await;
        let connection = connection.map_err(|error| names.error(&error))?;
        let mut control = Self {
            connection,
            names,
            server: Server {
                version: 0,
                is_logical: false,
                sender_timeout: None,
            },
        };
        control.ask_server().await?;
        control.lock().await?;
        Ok(control)
    }

    fn trouble(&self, error: &sqlx::Error) -> Trouble {
        self.names.error(error)
    }

    async fn ask_server(&mut self) -> Result<(), Trouble> {
        let ask = "SELECT current_setting('server_version_num')::int4, pg_is_in_recovery(), \
                   current_setting('wal_level') = 'logical', \
                   (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_sender_timeout')";
        let row = sqlx::query(ask).fetch_one(&mut self.connection).await;
        let row = row.and_then(|row| {
            Ok((
                row.try_get(0)?,
                row.try_get(1)?,
                row.try_get(2)?,
                row.try_get::<i64, _>(3)?,
            ))
        });
        let (version, is_standby, is_logical, timeout): (i32, bool, bool, i64) =
            row.map_err(|error| self.trouble(&error))?;
        if is_standby {
            let what =
                "the database is a standby, whose tables a relay cannot lock; its primary serves";
            return Err(Trouble::unavailable(Code::OUTBOX_SOURCE_UNAVAILABLE, what));
        }
        let timeout = u64::try_from(timeout).ok().filter(|&millis| millis > 0);
        self.server = Server {
            version,
            is_logical,
            sender_timeout: timeout.map(Duration::from_millis),
        };
        let mut settings = "SET statement_timeout = 0; SET lock_timeout = 0; \
            SET idle_in_transaction_session_timeout = 0; \
            SET tcp_keepalives_idle = 3; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 4"
            .to_owned();
        if version >= 140_000 {
            let millis = SILENCE_MAX.as_millis();
            settings.push_str(&format!("; SET idle_session_timeout = {millis}"));
        }
        self.execute(settings).await
    }

    /// Runs statements that answer nothing.
    pub(crate) async fn execute(&mut self, statements: String) -> Result<(), Trouble> {
        let done = sqlx::raw_sql(AssertSqlSafe(statements))
            .execute(&mut self.connection)
            .await;
        done.map(drop).map_err(|error| self.trouble(&error))
    }

    /// Takes the lock, waiting only for somebody who is about to leave.
    async fn lock(&mut self) -> Result<(), Trouble> {
        let deadline = Instant::now() + LEAVING;
        loop {
            let taken = sqlx::query_scalar("SELECT pg_try_advisory_lock($1, hashtext($2))")
                .bind(LOCK)
                .bind(&self.names.slot)
                .fetch_one(&mut self.connection)
                .await;
            if taken.map_err(|error| self.trouble(&error))? {
                return Ok(());
            }
            if Instant::now() > deadline {
                let what = format!("another relay serves the slot {}", self.names.slot);
                return Err(Trouble::standby(Code::OUTBOX_TAKEN, what));
            }
            sleep(LEAVING_STEP).await;
        }
    }

    /// Waits, and says a word now and then.
    ///
    /// # Errors
    /// The database does not hear it.
    pub(crate) async fn wait_for<T>(
        &mut self,
        awaited: impl Future<Output = T>,
    ) -> Result<T, Trouble> {
        let mut awaited = std::pin::pin!(awaited);
        loop {
            tokio::select! {
                done = &mut awaited => return Ok(done),
                () = sleep(KEEP_ALIVE) => self.ping().await?,
            }
        }
    }

    /// Says a word, so that the database does not hang up.
    pub(crate) async fn ping(&mut self) -> Result<(), Trouble> {
        self.execute("SELECT 1".to_owned()).await
    }

    /// What the server is at.
    pub(crate) async fn moment(&mut self) -> Result<Moment, Trouble> {
        // The snapshot is taken before the statement begins, and so before the position is asked for.
        let states = match self.server.version {
            130_000.. => "s.wal_status, s.safe_wal_size",
            _ => "CASE WHEN s.restart_lsn IS NULL THEN 'lost' ELSE 'reserved' END, NULL::int8",
        };
        let ask = format!(
            "SELECT txid_current_snapshot()::text, \
                (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8, \
                EXISTS (SELECT FROM pg_publication_tables p JOIN pg_class c ON c.relname = p.tablename \
                    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = p.schemaname \
                    JOIN pg_publication i ON i.pubname = p.pubname AND i.pubinsert \
                    WHERE p.pubname = $1 AND c.oid = to_regclass($2)), \
                s.slot_name IS NOT NULL, \
                coalesce(s.plugin = 'pgoutput' AND s.database = current_database(), false), \
                coalesce((s.confirmed_flush_lsn - '0/0'::pg_lsn)::int8, 0), \
                coalesce((pg_current_wal_lsn() - s.restart_lsn)::int8, 0), {states}, \
                (SELECT format('the transaction of the process %s, which is open since %s; \
                        SELECT pg_terminate_backend(%s) ends it', pid, xact_start, pid) \
                    FROM pg_stat_activity WHERE backend_xid IS NOT NULL \
                    AND xact_start < clock_timestamp() - interval '{LONG}' \
                    ORDER BY xact_start LIMIT 1) \
            FROM (SELECT) AS one LEFT JOIN pg_replication_slots s ON s.slot_name = $3"
        );
        let row = sqlx::query(AssertSqlSafe(ask))
            .bind(&self.names.publication)
            .bind(&self.names.table)
            .bind(&self.names.slot)
            .fetch_one(&mut self.connection)
            .await;
        row.and_then(|row| read_moment(&row))
            .map_err(|error| self.trouble(&error))
    }

    /// The schema and the name of the table, after checking that it may be read.
    pub(crate) async fn table(&mut self) -> Result<(String, String), Trouble> {
        let ask = "SELECT n.nspname::text, c.relname::text, has_table_privilege(c.oid, 'SELECT') \
                   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                   WHERE c.oid = to_regclass($1)";
        let asked = sqlx::query_as(ask).bind(&self.names.table);
        let asked = asked.fetch_one(&mut self.connection).await;
        let (namespace, name, may): (String, String, bool) =
            asked.map_err(|error| self.trouble(&error))?;
        if !may {
            let (user, table) = (super::refusal::quoted(&self.names.user), &self.names.table);
            let what = format!("the user {user} may not read the table {table}");
            let fix = format!("GRANT SELECT ON {table} TO {user}");
            return Err(Trouble::refused(Code::OUTBOX_ACCESS_REFUSED, what, fix));
        }
        Ok((namespace, name))
    }

    /// Makes the publication of the table.
    pub(crate) async fn publish(&mut self) -> Result<(), Trouble> {
        let statement = self.publication();
        match self.execute(statement.clone()).await {
            Err(trouble) if trouble.code == Code::OUTBOX_ACCESS_REFUSED => {
                let what = format!("the publication cannot be made: {}", trouble.what);
                Err(Trouble::refused(
                    Code::OUTBOX_ACCESS_REFUSED,
                    what,
                    statement,
                ))
            }
            done => done,
        }
    }

    /// Whether the publication is there, whatever it has.
    pub(crate) async fn has_publication(&mut self) -> Result<bool, Trouble> {
        let ask = "SELECT EXISTS (SELECT FROM pg_publication WHERE pubname = $1)";
        let asked = sqlx::query_scalar(ask).bind(&self.names.publication);
        let there = asked.fetch_one(&mut self.connection).await;
        there.map_err(|error| self.trouble(&error))
    }

    /// The statement that makes the publication.
    pub(crate) fn publication(&self) -> String {
        let root = match self.server.version {
            130_000.. => ", publish_via_partition_root = true",
            _ => "",
        };
        let (publication, table) = (
            super::refusal::quoted(&self.names.publication),
            &self.names.table,
        );
        format!(
            "CREATE PUBLICATION {publication} FOR TABLE {table} WITH (publish = 'insert'{root})"
        )
    }

    /// Gives the slot up.
    pub(crate) async fn drop_slot(&mut self) -> Result<(), Trouble> {
        let statement = format!("SELECT pg_drop_replication_slot('{}')", self.names.slot);
        self.execute(statement).await
    }

    /// Writes something that moves the slot in a database where nothing else does; says where the log
    /// is then.
    pub(crate) async fn heartbeat(&mut self) -> Result<(), Trouble> {
        let beat = "SELECT pg_logical_emit_message(false, 'wharf_heartbeat', '')";
        self.execute(beat.to_owned()).await
    }

    /// The checkpoint kept in the database.
    pub(crate) async fn kept(&mut self, cursor: &str) -> Result<Option<Vec<u8>>, Trouble> {
        let ask = format!("SELECT checkpoint FROM {cursor} WHERE source = $1");
        let asked = sqlx::query_scalar(AssertSqlSafe(ask)).bind(&self.names.slot);
        let kept = asked.fetch_optional(&mut self.connection).await;
        let kept: Option<Option<Vec<u8>>> =
            kept.map_err(|error| self.cursor_trouble(cursor, &error))?;
        Ok(kept.flatten())
    }

    /// Keeps a checkpoint in the database.
    pub(crate) async fn keep(&mut self, cursor: &str, checkpoint: &[u8]) -> Result<(), Trouble> {
        let statement = format!(
            "INSERT INTO {cursor} (source, checkpoint) VALUES ($1, $2) \
             ON CONFLICT (source) DO UPDATE SET checkpoint = excluded.checkpoint"
        );
        let kept = sqlx::query(AssertSqlSafe(statement))
            .bind(&self.names.slot)
            .bind(checkpoint);
        let kept = kept.execute(&mut self.connection).await;
        kept.map(drop)
            .map_err(|error| self.cursor_trouble(cursor, &error))
    }

    fn cursor_trouble(&self, cursor: &str, error: &sqlx::Error) -> Trouble {
        let code = error.as_database_error().and_then(DatabaseError::code);
        match code.as_deref() {
            Some("42P01") => Trouble::refused(
                Code::OUTBOX_NOT_INSTALLED,
                format!("the target keeps no checkpoints, and there is no table {cursor} for them"),
                format!(
                    "CREATE TABLE {cursor} (source text COLLATE \"C\" PRIMARY KEY, holder text, \
                     epoch bigint NOT NULL DEFAULT 0, expires_at timestamptz, checkpoint bytea)"
                ),
            ),
            Some("42501") => Trouble::refused(
                Code::OUTBOX_ACCESS_REFUSED,
                format!(
                    "the target keeps no checkpoints, and the relay may not write them: {error}"
                ),
                format!(
                    "GRANT SELECT, INSERT, UPDATE ON {cursor} TO {}",
                    super::refusal::quoted(&self.names.user)
                ),
            ),
            _ => self.trouble(error),
        }
    }
}

fn read_moment(row: &sqlx::postgres::PgRow) -> Result<Moment, sqlx::Error> {
    let unsigned = |at: usize| -> Result<u64, sqlx::Error> {
        Ok(row.try_get::<i64, _>(at)?.try_into().unwrap_or(0))
    };
    let snapshot: String = row.try_get(0)?;
    let snapshot = snapshot
        .parse()
        .map_err(|_bad| sqlx::Error::Decode(snapshot.into()))?;
    let slot = match row.try_get(3)? {
        false => None,
        true => Some(Slot {
            is_ours: row.try_get(4)?,
            confirmed: unsigned(5)?,
            retained: unsigned(6)?,
            state: row
                .try_get::<Option<String>, _>(7)?
                .unwrap_or_else(|| "lost".to_owned()),
            safe: row.try_get(8)?,
        }),
    };
    Ok(Moment {
        snapshot,
        position: unsigned(1)?,
        slot,
        is_published: row.try_get(2)?,
        held_by: row.try_get(9)?,
        beaten: false,
    })
}
