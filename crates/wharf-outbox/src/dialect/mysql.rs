//! MySQL 8 and MariaDB 10.6 and newer, with InnoDB.
//!
//! Keys are binary: the collations of these databases take letters of different case, and texts that
//! differ in spaces at their ends, for equal, and a message taken for another is lost. A second claim
//! waits for the end of the first one's transaction, at most `innodb_lock_wait_timeout`. Rows of
//! others are read with a lock, so that a snapshot from before the wait does not hide them.

use sqlx::error::DatabaseError;
use sqlx::mysql::MySqlDatabaseError;
use std::time::Duration;

use sqlx::{MySql, MySqlConnection, SqlStr};

use super::{Dialect, OutboxDialect, Refusal, Sealed, Statements};
use crate::outbox::{Confirmed, Maintained, TableName, chunks};
use crate::{Class, OutboxError};

const STATEMENTS: &Statements = &Statements {
    schema: include_str!("../../migrations/mysql/inbox.sql"),
    // INSERT IGNORE would hide other errors, and the number of rows that ON DUPLICATE KEY UPDATE
    // touches does not tell: a duplicate is an error that ends the statement, not the transaction.
    claim: "INSERT INTO wharf_inbox (consumer, source, message_id, payload_hash, seen_at)
        VALUES (?, ?, ?, ?, UTC_TIMESTAMP(6))",
    record_outputs: "UPDATE wharf_inbox SET outputs = ?
        WHERE consumer = ? AND source = ? AND message_id = ?",
    advance: "UPDATE wharf_inbox_high_water SET last_sequence = ?, outputs = NULL, seen_at = UTC_TIMESTAMP(6)
        WHERE consumer = ? AND source = ? AND message_key = ? AND last_sequence < ?",
    first_sequence: Some(
        "INSERT INTO wharf_inbox_high_water (consumer, source, message_key, last_sequence, seen_at)
        VALUES (?, ?, ?, ?, UTC_TIMESTAMP(6))",
    ),
    // For the next transaction. Otherwise the gap into which new rows are inserted is locked, too.
    before_purge: Some("SET TRANSACTION ISOLATION LEVEL READ COMMITTED"),
    // A plain DELETE locks every row that it looks at, which are all where the optimizer prefers to
    // scan the table, and at least the one behind the last old one: it would wait for open claims.
    purge: "DELETE wharf_inbox FROM (
            SELECT consumer, source, message_id FROM wharf_inbox FORCE INDEX (wharf_inbox_seen_at)
            WHERE seen_at < UTC_TIMESTAMP(6) - INTERVAL ? MICROSECOND ORDER BY seen_at LIMIT ?
            FOR UPDATE SKIP LOCKED
        ) AS old STRAIGHT_JOIN wharf_inbox FORCE INDEX (PRIMARY)
        ON wharf_inbox.consumer = old.consumer
        AND wharf_inbox.source = old.source AND wharf_inbox.message_id = old.message_id",
    find: "SELECT payload_hash, outputs FROM wharf_inbox
        WHERE consumer = ? AND source = ? AND message_id = ? LOCK IN SHARE MODE",
    record_sequence_outputs: "UPDATE wharf_inbox_high_water SET outputs = ?
        WHERE consumer = ? AND source = ? AND message_key = ? AND last_sequence = ?",
    last_sequence: "SELECT last_sequence, outputs FROM wharf_inbox_high_water
        WHERE consumer = ? AND source = ? AND message_key = ? LOCK IN SHARE MODE",
};

impl Sealed for MySql {}

super::bind_values!(MySql, str::as_bytes);

const OUTBOX: &OutboxDialect = &OutboxDialect {
    schema: include_str!("../../migrations/mysql/outbox.sql"),
    cursor: include_str!("../../migrations/mysql/cursor.sql"),
    quote: '`',
    row: super::plain_row,
};

impl Dialect for MySql {
    const STATEMENTS: &'static Statements = STATEMENTS;
    const OUTBOX: &'static OutboxDialect = OUTBOX;

    super::run_statements!();

    /// The server's locks on names make `IF NOT EXISTS` safe here; it has no transactions for these.
    async fn install(connection: &mut MySqlConnection, script: SqlStr) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(script).execute(connection).await.map(drop)
    }

    async fn maintain(
        connection: &mut MySqlConnection,
        table: &TableName,
        confirmed: Confirmed,
        keep: Duration,
    ) -> Result<Maintained, OutboxError> {
        let old = "created_at < CURRENT_TIMESTAMP(6) - INTERVAL ? MICROSECOND";
        chunks::maintain::<MySql>(connection, table, confirmed, keep, old).await
    }

    fn refusal(error: &dyn DatabaseError) -> Option<Refusal> {
        let error = error.try_downcast_ref::<MySqlDatabaseError>()?;
        Some(match error.number() {
            1146 | 1049 => Refusal::NoTable,
            // A column is not there, or does not take such a value.
            1054 | 1366 => Refusal::OtherTable,
            // The database, the table, the column, the user.
            1044 | 1142 | 1143 | 1045 => Refusal::Denied,
            _ => return None,
        })
    }
}

/// By error number.
pub(super) fn classify(error: &dyn DatabaseError) -> Option<Class> {
    let number = error.try_downcast_ref::<MySqlDatabaseError>()?.number();
    Some(match number {
        // Deadlock, lock wait timeout, row changed since it was read, NOWAIT.
        1213 | 1205 | 1020 | 3572 => Class::Conflict,
        // Disk full, out of memory, shutting down, aborted connections, network errors,
        1021 | 1037 | 1038 | 1041 | 1053 | 1077 | 1079 | 1152 | 1158..=1161 | 1184
        // too many connections, of the server, of the user, of an hour; the host is blocked,
        | 1040 | 1129 | 1135 | 1203 | 1226
        // read only after a fail-over; the connection was killed.
        | 1290 | 1836 | 1927 => Class::Unavailable,
        _ => Class::Other,
    })
}
