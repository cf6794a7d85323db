//! What a source that reads the log is told, and what follows from that alone.

use std::fmt;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use wharf_message::Code;

use super::refusal::{Names, quoted};
use crate::polling::postgres::Table;
use crate::polling::{TableName, table_name};
use crate::{Kind, Trouble};

/// The longest name that Postgres has, in bytes.
const NAME_BYTES_MAX: usize = 63;
/// The columns of Debezium's outbox.
const COLUMNS: [&str; 5] = ["id", "aggregatetype", "aggregateid", "type", "payload"];

/// The log of a Postgres database, 12 or newer, as a source.
///
/// Rows come in the order of their commits. The log, not the table, is read, so rows may be gone from
/// the table by the time they arrive; only the backlog and a lost slot need them there.
///
/// ```
/// use std::time::Duration;
/// use wharf_relay::postgres::PostgresLog;
///
/// let source = PostgresLog::new("postgres://relay@db.example/shop", "wharf_outbox", "wharf")?
///     .heartbeat(Duration::from_secs(30))
///     .retained_max(Some(8 << 30));
/// # Ok::<(), wharf_relay::Trouble>(())
/// ```
#[derive(Clone)]
pub struct PostgresLog {
    pub(super) url: String,
    pub(super) table: TableName,
    pub(super) slot: String,
    pub(super) publication: String,
    pub(super) columns: Vec<String>,
    pub(super) heartbeat: Duration,
    pub(super) messages: bool,
    pub(super) retained_max: Option<u64>,
    pub(super) create_slot: bool,
    pub(super) recreate_slot: bool,
    pub(super) backlog: bool,
    pub(super) keep: Option<Duration>,
    pub(super) maintain_every: Duration,
}

impl fmt::Debug for PostgresLog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the url, which may have a password.
        formatter
            .debug_struct("PostgresLog")
            .field("table", &self.table)
            .field("slot", &self.slot)
            .field("publication", &self.publication)
            .finish_non_exhaustive()
    }
}

impl PostgresLog {
    /// The log of the database at `url` (`postgres://user:password@host:port/database?sslmode=…`), of
    /// which the rows inserted into `table` are wanted, through the replication slot `slot`. The
    /// publication has the slot's name.
    ///
    /// # Errors
    /// The name of the table is none, or that of the slot has other characters than `a` to `z`, `0` to
    /// `9` and `_`, or more than 63.
    pub fn new(
        url: impl Into<String>,
        table: &str,
        slot: impl Into<String>,
    ) -> Result<Self, Trouble> {
        let slot = slot.into();
        let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        if slot.is_empty() || slot.len() > NAME_BYTES_MAX || !slot.bytes().all(fits) {
            let what = format!("{slot:?} is no name of a replication slot");
            let fix = "use lower-case letters, digits and underscores, at most 63";
            return Err(Trouble::refused(Code::OUTBOX_SLOT_LOST, what, fix));
        }
        Ok(Self {
            url: url.into(),
            table: table_name(table)?,
            publication: slot.clone(),
            slot,
            columns: COLUMNS.map(str::to_owned).to_vec(),
            heartbeat: Duration::from_secs(10),
            messages: false,
            retained_max: None,
            create_slot: true,
            recreate_slot: false,
            backlog: true,
            keep: Some(Duration::from_secs(24 * 3600)),
            maintain_every: Duration::from_secs(60),
        })
    }

    /// The publication that has the table.
    #[must_use]
    pub fn publication(mut self, publication: impl Into<String>) -> Self {
        self.publication = publication.into();
        self
    }

    /// The columns that the table must have, for the messages that are to be made of its rows; by
    /// default Debezium's five.
    #[must_use]
    pub fn columns(mut self, columns: Vec<String>) -> Self {
        self.columns = columns;
        self
    }

    /// How often to write something into the log so that the slot moves on while only other databases
    /// of the server are busy; zero for never. 10 seconds by default.
    #[must_use]
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.heartbeat = every;
        self
    }

    /// Whether messages without a table (`pg_logical_emit_message(true, 'wharf_outbox', …)`) count as
    /// rows. Needs Postgres 14. They are only in the log, and lost with the slot. Off by default.
    #[must_use]
    pub fn messages(mut self, messages: bool) -> Self {
        self.messages = messages;
        self
    }

    /// How many bytes of its log the database may keep because of this source. Beyond, the slot is
    /// given up and the source goes on from the table. By default there is no limit but the database's
    /// own, `max_slot_wal_keep_size`.
    #[must_use]
    pub fn retained_max(mut self, bytes: Option<u64>) -> Self {
        self.retained_max = bytes;
        self
    }

    /// Whether the source may make the publication and, where none has been before, the slot; and the
    /// table of cursors, if the target keeps no checkpoints. On by default.
    #[must_use]
    pub fn create_slot(mut self, create: bool) -> Self {
        self.create_slot = create;
        self
    }

    /// Whether the source may make a slot that is gone or was given up, after it has caught up from the
    /// table. Off by default: somebody should know why it is gone.
    #[must_use]
    pub fn recreate_slot(mut self, recreate: bool) -> Self {
        self.recreate_slot = recreate;
        self
    }

    /// Whether rows that were in the table before the first start are wanted; on by default. It takes
    /// the columns `transaction_id` and `sequence`; of a table without them only the log is read.
    #[must_use]
    pub fn backlog(mut self, backlog: bool) -> Self {
        self.backlog = backlog;
        self
    }

    /// How long rows stay in the table at least; only those go that are durable at the target, and on a
    /// partitioned table whole days of them. `None` is for ever, as it has to be when several sources
    /// read one table. A day by default. It takes the columns `transaction_id` and `sequence`, and a
    /// user that owns the table if it is partitioned; of a table without the columns nothing is removed.
    #[must_use]
    pub fn keep(mut self, keep: Option<Duration>) -> Self {
        self.keep = keep;
        self
    }

    /// How often to look for rows to remove; every minute by default.
    #[must_use]
    pub fn maintain_every(mut self, every: Duration) -> Self {
        self.maintain_every = every;
        self
    }

    /// How to connect.
    pub(super) fn options(&self) -> Result<PgConnectOptions, Trouble> {
        PgConnectOptions::from_str(&self.url).map_err(|error| {
            let what = format!("the url of the source is wrong: {error}");
            let fix = "write postgres://user:password@host:port/database";
            Trouble::refused(Code::OUTBOX_SOURCE_UNAVAILABLE, what, fix)
        })
    }

    /// The names that statements for people need.
    pub(super) fn names(&self) -> Names {
        let options = PgConnectOptions::from_str(&self.url).unwrap_or_default();
        Names {
            user: options.get_username().to_owned(),
            table: self.table.quoted::<sqlx::Postgres>(),
            slot: self.slot.clone(),
            publication: self.publication.clone(),
        }
    }

    /// The table where checkpoints are kept when the target keeps none, quoted.
    pub(super) fn cursor(&self) -> String {
        self.table.quoted_cursor::<sqlx::Postgres>()
    }

    /// The command that makes the slot.
    pub(super) fn creation(&self) -> String {
        let slot = &self.slot;
        format!("CREATE_REPLICATION_SLOT \"{slot}\" LOGICAL pgoutput NOEXPORT_SNAPSHOT")
    }

    /// The statement with which a person makes the slot.
    pub(super) fn slot_statement(&self) -> String {
        let slot = &self.slot;
        format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")
    }

    /// The slot cannot be read any more.
    pub(super) fn slot_gone(&self) -> Trouble {
        let what = format!(
            "the slot {} is gone, or was moved by somebody else",
            self.slot
        );
        Trouble {
            fix: Some(self.slot_statement()),
            ..Trouble::unavailable(Code::OUTBOX_SLOT_LOST, what)
        }
    }

    /// The table is not published any more.
    pub(super) fn unpublished(&self) -> Trouble {
        let publication = quoted(&self.publication);
        let what = format!("the publication {publication} does not have the outbox any more");
        Trouble::unavailable(Code::OUTBOX_ACCESS_REFUSED, what)
    }

    /// What the stream is asked for.
    pub(super) fn stream_options(&self, version: i32, table: &Table) -> String {
        let publication = quoted(&self.publication).replace('\'', "''");
        let mut options = format!("proto_version '1', publication_names '{publication}'");
        if version >= 140_000 {
            options.push_str(", messages 'true'");
            // Half the bytes for payloads; the binary form of other types cannot be read.
            if table
                .columns()
                .iter()
                .all(|column| !matches!(column.kind, Kind::Other(_)))
            {
                options.push_str(", binary 'true'");
            }
        }
        options
    }

    /// Whether the table has the columns that are needed.
    pub(super) fn check_columns(&self, table: &Table) -> Result<(), Trouble> {
        let has = |name: &&String| table.columns().iter().any(|column| column.name == **name);
        let Some(lacking) = self.columns.iter().find(|name| !has(name)) else {
            return Ok(());
        };
        let (column, table) = (quoted(lacking), self.table.quoted::<sqlx::Postgres>());
        let definition = match lacking.as_str() {
            "id" => "uuid NOT NULL DEFAULT gen_random_uuid()",
            "payload" => "bytea",
            _ => "varchar(255) NOT NULL DEFAULT ''",
        };
        let what = format!("the table {table} has no column {column}");
        let fix = format!("ALTER TABLE {table} ADD COLUMN {column} {definition}");
        Err(Trouble::refused(Code::OUTBOX_TABLE_WRONG, what, fix))
    }
}
