//! SQLite 3.35 and newer.
//!
//! There is one writer at a time: a second claim waits for the end of the first one's transaction as
//! long as the connection's busy timeout says, and is told `SQLITE_BUSY` after that, which is a
//! conflict. As the first statement of its transaction it never meets the busy error that no waiting
//! helps against (a snapshot that is out of date).

use sqlx::error::DatabaseError;
use sqlx::sqlite::SqliteError;
use std::time::Duration;

use sqlx::{Connection as _, SqlStr, Sqlite, SqliteConnection};

use super::{Dialect, OutboxDialect, Refusal, Sealed, Statements};
use crate::outbox::{Confirmed, Maintained, TableName, chunks};
use crate::{Class, OutboxError};

const STATEMENTS: &Statements = &Statements {
    schema: include_str!("../../migrations/sqlite/inbox.sql"),
    claim: "INSERT INTO wharf_inbox (consumer, source, message_id, payload_hash)
        VALUES (?, ?, ?, ?) ON CONFLICT (consumer, source, message_id) DO NOTHING",
    record_outputs: "UPDATE wharf_inbox SET outputs = ?
        WHERE consumer = ? AND source = ? AND message_id = ?",
    advance:
        "INSERT INTO wharf_inbox_high_water AS known (consumer, source, message_key, last_sequence)
        VALUES (?2, ?3, ?4, ?1) ON CONFLICT (consumer, source, message_key) DO UPDATE
        SET last_sequence = excluded.last_sequence, outputs = NULL, seen_at = excluded.seen_at
        WHERE known.last_sequence < ?5",
    first_sequence: None,
    before_purge: None,
    purge: "DELETE FROM wharf_inbox WHERE rowid IN (SELECT rowid FROM wharf_inbox
        WHERE seen_at < (julianday('now') - 2440587.5) * 86400000 - ? / 1000.0
        ORDER BY seen_at LIMIT ?)",
    find: "SELECT payload_hash, outputs FROM wharf_inbox
        WHERE consumer = ? AND source = ? AND message_id = ?",
    record_sequence_outputs: "UPDATE wharf_inbox_high_water SET outputs = ?
        WHERE consumer = ? AND source = ? AND message_key = ? AND last_sequence = ?",
    last_sequence: "SELECT last_sequence, outputs FROM wharf_inbox_high_water
        WHERE consumer = ? AND source = ? AND message_key = ?",
};

impl Sealed for Sqlite {}

super::bind_values!(Sqlite, |text| text);

const OUTBOX: &OutboxDialect = &OutboxDialect {
    schema: include_str!("../../migrations/sqlite/outbox.sql"),
    cursor: include_str!("../../migrations/sqlite/cursor.sql"),
    quote: '"',
    row: super::plain_row,
};

impl Dialect for Sqlite {
    const STATEMENTS: &'static Statements = STATEMENTS;
    const OUTBOX: &'static OutboxDialect = OUTBOX;

    super::run_statements!();

    async fn install(connection: &mut SqliteConnection, script: SqlStr) -> Result<(), sqlx::Error> {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::raw_sql(script).execute(&mut *transaction).await?;
        transaction.commit().await
    }

    async fn maintain(
        connection: &mut SqliteConnection,
        table: &TableName,
        confirmed: Confirmed,
        keep: Duration,
    ) -> Result<Maintained, OutboxError> {
        // A time that is none is never old.
        let old = "julianday(created_at) < julianday('now') - ? / 86400000000.0";
        chunks::maintain::<Sqlite>(connection, table, confirmed, keep, old).await
    }

    fn refusal(error: &dyn DatabaseError) -> Option<Refusal> {
        let error = error.try_downcast_ref::<SqliteError>()?;
        let said = error.message();
        if said.starts_with("no such table") || said.starts_with("unknown database") {
            Some(Refusal::NoTable)
        } else if said.contains("has no column named") || said.starts_with("no such column") {
            Some(Refusal::OtherTable)
        } else {
            None
        }
    }
}

/// By the primary result code, the lower eight bits.
pub(super) fn classify(error: &dyn DatabaseError) -> Option<Class> {
    let error = error.try_downcast_ref::<SqliteError>()?;
    let code: u32 = error.code()?.parse().ok()?;
    Some(match code & 0xff {
        // Busy, locked, and trouble with the locking itself, which is rare and passes.
        5 | 6 | 15 => Class::Conflict,
        // No memory, read only, disk error, full, cannot open.
        7 | 8 | 10 | 13 | 14 => Class::Unavailable,
        _ => Class::Other,
    })
}
