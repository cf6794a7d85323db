//! Postgres 12 and newer.
//!
//! Texts compare byte by byte (`COLLATE "C"`), whatever the database's collation. A second claim waits
//! for the end of the first one's transaction; under `REPEATABLE READ` and `SERIALIZABLE` it is told a
//! serialization failure after that, which is a conflict.

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;
use sqlx::{Connection as _, PgConnection, Postgres};

use super::{Dialect, Sealed, Statements};
use crate::Class;

/// What an instance locks while it creates the tables: `CREATE TABLE IF NOT EXISTS` alone fails when
/// two run at once.
const LOCK: &str = "SELECT pg_advisory_xact_lock(8241904117326210377)";

const STATEMENTS: &Statements = &Statements {
    schema: &[
        r#"CREATE TABLE IF NOT EXISTS wharf_inbox (
    consumer text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now(),
    payload_hash bytea NOT NULL,
    outputs bytea,
    PRIMARY KEY (consumer, source, message_id)
)"#,
        "CREATE INDEX IF NOT EXISTS wharf_inbox_seen_at ON wharf_inbox (seen_at)",
        r#"CREATE TABLE IF NOT EXISTS wharf_inbox_high_water (
    consumer text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    message_key text COLLATE "C" NOT NULL,
    last_sequence bigint NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now(),
    outputs bytea,
    PRIMARY KEY (consumer, source, message_key)
)"#,
    ],
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

impl Dialect for Postgres {
    const STATEMENTS: &'static Statements = STATEMENTS;

    super::run_statements!();

    async fn install(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let mut transaction = connection.begin().await?;
        sqlx::query(LOCK).execute(&mut *transaction).await?;
        for sql in STATEMENTS.schema {
            sqlx::query(*sql).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }

    fn is_missing_table(error: &dyn DatabaseError) -> bool {
        error.code().is_some_and(|code| code == "42P01") && error.message().contains("wharf_inbox")
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
