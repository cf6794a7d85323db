//! Postgres 12 and newer; the outbox needs 13.
//!
//! Texts compare byte by byte (`COLLATE "C"`), whatever the database's collation. A second claim waits
//! for the end of the first one's transaction; under `REPEATABLE READ` and `SERIALIZABLE` it is told a
//! serialization failure after that, which is a conflict.

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;
use std::time::Duration;

use sqlx::{Connection as _, PgConnection, Postgres, SqlStr};

use super::{Dialect, OutboxDialect, Refusal, Sealed, Statements};
use crate::outbox::{Confirmed, Maintained, TableName, partitions};
use crate::{Class, OutboxError};

/// What an instance locks while it creates the tables: `CREATE TABLE IF NOT EXISTS` alone fails when
/// two run at once.
const LOCK: &str = "SELECT pg_advisory_xact_lock(8241904117326210377)";

const STATEMENTS: &Statements = &Statements {
    schema: include_str!("../../migrations/postgres/inbox.sql"),
    claim: "INSERT INTO wharf_inbox (consumer, source, message_id, payload_hash)
        VALUES ($1, $2, $3, $4) ON CONFLICT (consumer, source, message_id) DO NOTHING",
    record_outputs: "UPDATE wharf_inbox SET outputs = $1
        WHERE consumer = $2 AND source = $3 AND message_id = $4",
    advance:
        "INSERT INTO wharf_inbox_high_water AS known (consumer, source, message_key, last_sequence)
        VALUES ($2, $3, $4, $1) ON CONFLICT (consumer, source, message_key) DO UPDATE
        SET last_sequence = excluded.last_sequence, outputs = NULL, seen_at = now()
        WHERE known.last_sequence < $5",
    first_sequence: None,
    before_purge: None,
    purge: "DELETE FROM wharf_inbox WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM wharf_inbox WHERE seen_at < now() - $1::float8 * interval '1 microsecond'
        ORDER BY seen_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    find: "SELECT payload_hash, outputs FROM wharf_inbox
        WHERE consumer = $1 AND source = $2 AND message_id = $3",
    record_sequence_outputs: "UPDATE wharf_inbox_high_water SET outputs = $1
        WHERE consumer = $2 AND source = $3 AND message_key = $4 AND last_sequence = $5",
    last_sequence: "SELECT last_sequence, outputs FROM wharf_inbox_high_water
        WHERE consumer = $1 AND source = $2 AND message_key = $3",
};

impl Sealed for Postgres {}

super::bind_values!(Postgres, |text| text);

const OUTBOX: &OutboxDialect = &OutboxDialect {
    schema: include_str!("../../migrations/postgres/outbox.sql"),
    cursor: include_str!("../../migrations/postgres/cursor.sql"),
    quote: '"',
    row: |first| {
        let at = |column| first + column;
        format!(
            "(${}::text::uuid, ${}, ${}, ${}, ${}, ${}::text::jsonb)",
            first,
            at(1),
            at(2),
            at(3),
            at(4),
            at(5)
        )
    },
};

impl Dialect for Postgres {
    const STATEMENTS: &'static Statements = STATEMENTS;
    const OUTBOX: &'static OutboxDialect = OUTBOX;

    super::run_statements!();

    async fn install(connection: &mut PgConnection, script: SqlStr) -> Result<(), sqlx::Error> {
        let mut transaction = connection.begin().await?;
        sqlx::query(LOCK).execute(&mut *transaction).await?;
        sqlx::raw_sql(script).execute(&mut *transaction).await?;
        transaction.commit().await
    }

    async fn maintain(
        connection: &mut PgConnection,
        table: &TableName,
        confirmed: Confirmed,
        keep: Duration,
    ) -> Result<Maintained, OutboxError> {
        partitions::maintain(connection, table, confirmed, keep).await
    }

    fn refusal(error: &dyn DatabaseError) -> Option<Refusal> {
        Some(match &*error.code()? {
            // The table, or the schema, is not there.
            "42P01" | "3F000" => Refusal::NoTable,
            // A column is not there, or has another type.
            "42703" | "42804" | "42846" => Refusal::OtherTable,
            "42501" => Refusal::Denied,
            _ => return None,
        })
    }
}

/// By SQLSTATE.
pub(super) fn classify(error: &dyn DatabaseError) -> Option<Class> {
    let code = error.try_downcast_ref::<PgDatabaseError>()?.code();
    Some(match code {
        // Serialization failure, deadlock, lock not available.
        "40001" | "40P01" | "55P03" => Class::Conflict,
        // Shutting down, crashed, starting; a standby; the end of an idle session.
        "57P01" | "57P02" | "57P03" | "57P05" | "25006" => Class::Unavailable,
        // Connection trouble; no more disk, memory or connections; trouble of the server's system.
        _ if ["08", "53", "58"].contains(&&code[..2]) => Class::Unavailable,
        _ => Class::Other,
    })
}
