//! SQLite 3.35 and newer: rows in the order of their numbers.
//!
//! There is one writer at a time, and a number is taken by it, so that the order of the numbers is the
//! order of the commits and nothing comes before a row that was seen; `AUTOINCREMENT` keeps the number
//! of a deleted row from being given again. A rolled-back number is given again, but nobody saw it.
//!
//! Reading never waits for a writer nor keeps one waiting in WAL mode; elsewhere a page is read with a
//! shared lock, for some milliseconds. The cursor is written in transactions of one statement. Rows of
//! other processes are noticed by `PRAGMA data_version`, which costs no disk access.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use sqlx::sqlite::{
    Sqlite, SqliteConnectOptions, SqliteConnection, SqlitePool, SqlitePoolOptions, SqliteRow,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};
use wharf_message::Code;
use wharf_outbox::Confirmed;

use super::backend::{Backend, Page, Reader, Words, bind_values, run_statements};
use super::name::{beside, quoted, quoted_table};
use super::numbered::{inserted_at, numbered};
use super::pace::BYTES;
use super::run::Polling;
use super::trouble::{Asked, lacking, missing, trouble};
use super::{Settings, TableName};
use crate::room::IDLE_MAX;
use crate::{Column, Columns, Kind, Lag, Row, Source, Trouble};

/// Rows that are counted one by one to say how many are left.
const COUNTED_MAX: i64 = 1_000_000;
/// How long a statement waits for the one writer.
const BUSY: Duration = Duration::from_secs(5);

/// A polling source of a SQLite file.
pub fn source(options: SqliteConnectOptions, settings: Settings) -> Arc<dyn Source> {
    Arc::new(Polling::new(SqliteBackend {
        options: options.create_if_missing(false).busy_timeout(BUSY),
        settings,
    }))
}

/// How SQLite is polled.
pub(crate) struct SqliteBackend {
    options: SqliteConnectOptions,
    settings: Settings,
}

impl SqliteBackend {
    bind_values!(Sqlite);
}

impl Backend for SqliteBackend {
    type Database = Sqlite;
    type Connection = SqliteConnection;
    type Table = Table;
    type Reader = SqliteReader;
    type Watch = ();

    const WORDS: Words = Words {
        quote: '"',
        numbered: false,
        now: "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
        later: "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ({} / 1000.0) || ' seconds')",
        bytes_of: "CAST({} AS BLOB)",
        insert: ("INSERT OR IGNORE", ""),
        create_cursor: "CREATE TABLE {} (source TEXT NOT NULL PRIMARY KEY, holder TEXT, epoch INTEGER NOT NULL DEFAULT 0, expires_at TEXT, checkpoint BLOB)",
    };
    const NAME: &'static str = "sqlite";

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn user(&self) -> &'static str {
        ""
    }

    async fn connect(&self) -> Result<SqliteConnection, sqlx::Error> {
        self.options.connect().await
    }

    run_statements!(Sqlite);

    async fn describe(&self, connection: &mut SqliteConnection) -> Result<Table, Trouble> {
        Table::describe(connection, &self.settings).await
    }

    async fn reader(
        &self,
        mut connection: SqliteConnection,
        table: &Table,
        checkpoint: Option<&Bytes>,
    ) -> Result<SqliteReader, Trouble> {
        let at = position(checkpoint)?;
        table.check_numbers(&mut connection, at).await?;
        Ok(SqliteReader {
            connection,
            table: table.clone(),
            at,
            complete: None,
        })
    }

    fn pool(&self) -> SqlitePool {
        let one = SqlitePoolOptions::new().max_connections(1);
        one.idle_timeout(Some(IDLE_MAX))
            .connect_lazy_with(self.options.clone())
    }

    fn complete(checkpoint: &Bytes) -> Option<Confirmed> {
        position(Some(checkpoint)).ok().map(Confirmed::sequence)
    }

    async fn lag(
        &self,
        connection: &mut SqliteConnection,
        table: &Table,
        confirmed: Option<&Bytes>,
        (): &mut (),
    ) -> Result<Lag, Trouble> {
        let at = position(confirmed)?;
        table.check_numbers(connection, at).await?;
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM {} WHERE sequence > ? LIMIT {COUNTED_MAX})",
            quoted_table(&table.name, '"')
        );
        let rows = sqlx::query_scalar(AssertSqlSafe(sql)).bind(at);
        let rows: Result<i64, _> = rows.fetch_one(connection).await;
        let rows = rows.map_err(|error| table.trouble(&error))?;
        Ok(Lag {
            rows: u64::try_from(rows).ok(),
            ..Lag::default()
        })
    }
}

/// Where to go on: `S`, the version, and the number of the last row, of eight bytes with the highest
/// first. What version 1 wrote is read by every later version.
fn checkpoint(at: i64) -> Bytes {
    Bytes::from([b"S\x01".as_slice(), &at.to_be_bytes()].concat())
}

/// The number in a checkpoint; 0 without one.
fn position(checkpoint: Option<&Bytes>) -> Result<i64, Trouble> {
    let Some(bytes) = checkpoint else {
        return Ok(0);
    };
    let number = bytes.strip_prefix(b"S\x01").map(TryInto::try_into);
    match number {
        Some(Ok(number)) => Ok(i64::from_be_bytes(number)),
        _ => Err(other_database(
            "what is kept under this name is of another kind of source",
        )),
    }
}

fn other_database(why: &str) -> Trouble {
    let what = format!("the file is not the one that was read before: {why}");
    let fix = "mend the path, or give the relay another name: it begins with the first row then";
    Trouble::refused(Code::OUTBOX_OTHER_DATABASE, what, fix)
}

/// An outbox table in SQLite.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    name: TableName,
    columns: Columns,
    /// The column that says when a row was inserted.
    created_at: Option<usize>,
    /// Reads a page.
    page: String,
}

impl Table {
    async fn describe(
        connection: &mut SqliteConnection,
        settings: &Settings,
    ) -> Result<Self, Trouble> {
        let name = &settings.table;
        let found: Result<Vec<(String, String, bool)>, _> = sqlx::query_as(
            "SELECT i.name, i.type, i.pk = 1 AND upper(i.type) = 'INTEGER'
                AND upper(s.sql) LIKE '%AUTOINCREMENT%'
            FROM sqlite_schema AS s, pragma_table_info(s.name) AS i
            WHERE s.type = 'table' AND s.name = ?",
        )
        .bind(name.name())
        .fetch_all(connection)
        .await;
        let found = found.map_err(|error| refused(&error, name))?;
        if found.is_empty() {
            return Err(missing(name));
        }
        let has = |wanted: &String| found.iter().any(|(column, ..)| column == wanted);
        if let Some(column) = settings.columns.iter().find(|&wanted| !has(wanted)) {
            return Err(lacking(name, '"', column));
        }
        if !found
            .iter()
            .any(|(column, _, numbers)| column == "sequence" && *numbers)
        {
            return Err(without_numbers(name));
        }
        let cast = |(column, ..): &(String, String, bool)| {
            format!("CAST({} AS BLOB)", quoted(column, '"'))
        };
        let list: Vec<_> = found.iter().map(cast).collect();
        let page = format!(
            "SELECT sequence, {} FROM {} WHERE sequence > ? ORDER BY sequence LIMIT ?",
            list.join(", "),
            quoted_table(name, '"')
        );
        let columns = found.into_iter().map(|(name, declared, _)| Column {
            name,
            kind: kind(declared),
        });
        let columns: Columns = columns.collect();
        Ok(Self {
            name: name.clone(),
            created_at: inserted_at(&columns),
            columns,
            page,
        })
    }

    fn trouble(&self, error: &sqlx::Error) -> Trouble {
        refused(error, &self.name)
    }

    /// Whether the numbers went on since this one was given: they begin anew in another file, and
    /// rows would be taken for read.
    async fn check_numbers(
        &self,
        connection: &mut SqliteConnection,
        at: i64,
    ) -> Result<(), Trouble> {
        let last = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = ?");
        let last = last.bind(self.name.name()).fetch_optional(connection).await;
        let last: Option<i64> = last.map_err(|error| self.trouble(&error))?;
        match last.unwrap_or(0) < at {
            true => Err(other_database("its numbers are below the last one read")),
            false => Ok(()),
        }
    }

    fn row(&self, row: &SqliteRow) -> Result<Row, sqlx::Error> {
        let sequence: i64 = row.try_get(0)?;
        let mut values = Vec::with_capacity(self.columns.len());
        for at in 0..self.columns.len() {
            let value: Option<Vec<u8>> = row.try_get(at + 1)?;
            values.push(value.map(Bytes::from));
        }
        let sequence = u64::try_from(sequence).unwrap_or(0);
        Ok(numbered(sequence, &self.columns, self.created_at, values))
    }
}

/// By the declared type, as SQLite's affinity does; the values of a column may be of other types.
fn kind(declared: String) -> Kind {
    let upper = declared.to_ascii_uppercase();
    let has = |part| upper.contains(part);
    match () {
        () if has("INT") => Kind::Integer,
        () if has("JSON") => Kind::Json,
        () if has("CHAR") || has("CLOB") || has("TEXT") => Kind::Text,
        () if has("BLOB") || upper.is_empty() => Kind::Bytes,
        () => Kind::Other(declared),
    }
}

fn without_numbers(name: &TableName) -> Trouble {
    let quoted = quoted_table(name, '"');
    let old = beside(name, &format!("{}_old", name.name()), '"');
    let what = format!(
        "the table {name} has no column sequence that is INTEGER PRIMARY KEY AUTOINCREMENT, which gives rows their order"
    );
    let fix = format!(
        "ALTER TABLE {quoted} RENAME TO {old}; then create {quoted} with what `wharf outbox init --print` shows and insert the old rows into it"
    );
    Trouble::refused(Code::OUTBOX_TABLE_WRONG, what, fix)
}

fn refused(error: &sqlx::Error, table: &TableName) -> Trouble {
    trouble(
        error,
        Asked {
            user: "",
            table,
            quote: '"',
            rights: "SELECT",
        },
    )
}

/// Reads the table in SQLite.
pub(crate) struct SqliteReader {
    connection: SqliteConnection,
    table: Table,
    /// The last row that was read.
    at: i64,
    /// The file's version when everything in it was read.
    complete: Option<i64>,
}

impl Reader for SqliteReader {
    async fn read(&mut self, rows_max: u32) -> Result<Page, Trouble> {
        let refused = |error: sqlx::Error| self.table.trouble(&error);
        // Before the page: what is committed in between is looked for again.
        let version = sqlx::query_scalar("PRAGMA data_version");
        let version: i64 = version
            .fetch_one(&mut self.connection)
            .await
            .map_err(refused)?;
        if self.complete == Some(version) {
            return Ok(Page::default());
        }
        let (mut page, mut last) = (Page::default(), self.at);
        let query = sqlx::query(AssertSqlSafe(self.table.page.clone()));
        let mut rows = query
            .bind(self.at)
            .bind(rows_max)
            .fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await.map_err(refused)? {
            last = row.try_get(0).map_err(refused)?;
            let row = self.table.row(&row).map_err(refused)?;
            page.bytes += row.size();
            page.rows.push(row);
            if page.bytes >= BYTES {
                page.more = true;
                break;
            }
        }
        drop(rows);
        page.more |= page.rows.len() >= rows_max as usize;
        page.checkpoint = (last != self.at).then(|| checkpoint(last));
        self.at = last;
        self.complete = (!page.more).then_some(version);
        Ok(page)
    }
}
