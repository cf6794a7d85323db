//! Whether a hole can still be filled: which transactions are open, and where locks are.
//!
//! Invariants: a list of open transactions that may be older than the question is not believed; no
//! lock is waited for or kept beyond its statement.

use std::collections::BTreeSet;

use sqlx::mysql::{MySqlConnection, MySqlDatabaseError};
use sqlx::{AssertSqlSafe, Row as _};

use super::holes::Range;
use super::table::Table;
use crate::polling::name::quoted_table;

/// The most ranges in one statement.
pub(super) const RANGES_MAX: usize = 500;

/// A transaction as the server names it: the connection, and when it began. One that begins in the
/// same second on the same connection looks the same, and is waited for, too.
pub(super) type Transaction = (u64, String);

/// Which transactions are open that may have written; `None` when the server's list may be older than
/// the question: it keeps one for everybody for a tenth of a second, longer when it is asked for often.
/// `canary` is when our own transaction of the last list began. To be asked at most every two seconds,
/// so that this differs.
pub(super) async fn open_transactions(
    connection: &mut MySqlConnection,
    table: &Table,
    canary: &mut Option<String>,
) -> Result<Option<BTreeSet<Transaction>>, sqlx::Error> {
    let own = sqlx::query_scalar("SELECT CAST(CONNECTION_ID() AS UNSIGNED)");
    let own: u64 = own.fetch_one(&mut *connection).await?;
    // A transaction of our own, which every list has that is new enough.
    sqlx::raw_sql("START TRANSACTION")
        .execute(&mut *connection)
        .await?;
    let touch = format!("SELECT 1 FROM {} LIMIT 1", quoted_table(&table.name, '`'));
    sqlx::query(AssertSqlSafe(touch))
        .fetch_optional(&mut *connection)
        .await?;
    let listed: Result<Vec<(u64, String, bool)>, _> = sqlx::query_as(
        "SELECT CAST(trx_mysql_thread_id AS UNSIGNED), CAST(trx_started AS CHAR),
            trx_tables_locked + trx_lock_structs + trx_rows_modified > 0
        FROM information_schema.innodb_trx",
    )
    .fetch_all(&mut *connection)
    .await;
    sqlx::raw_sql("COMMIT").execute(connection).await?;
    let listed = listed?;
    let ours = listed.iter().find(|(thread, ..)| *thread == own);
    let began = ours.map(|(_, started, _)| started.clone());
    let is_new = began.is_some() && began != *canary;
    if is_new {
        *canary = began;
    }
    // Whoever has no lock and changed nothing has inserted nothing, and whoever took a number has
    // locked the table by now.
    let writing = listed
        .into_iter()
        .filter(|(thread, _, writes)| *writes && *thread != own);
    let open = writing
        .map(|(thread, started, _)| (thread, started))
        .collect();
    Ok(is_new.then_some(open))
}

/// Whether this user may see the transactions of others.
pub(super) async fn sees_transactions(
    connection: &mut MySqlConnection,
) -> Result<bool, sqlx::Error> {
    let listed = sqlx::query("SELECT 1 FROM information_schema.innodb_trx LIMIT 1");
    match listed.fetch_optional(connection).await {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) => match number(&*error) {
            // A right is missing.
            1227 | 1142 | 1044 => Ok(false),
            _ => Err(sqlx::Error::Database(error)),
        },
        Err(error) => Err(error),
    }
}

/// The numbers of the rows in these ranges, if there is no lock of another transaction in any.
pub(super) async fn unlocked(
    connection: &mut MySqlConnection,
    table: &Table,
    ranges: &[Range],
) -> Result<Option<BTreeSet<u64>>, sqlx::Error> {
    let sql = format!(
        "SELECT CAST(`sequence` AS UNSIGNED) FROM {} WHERE {} {} NOWAIT",
        quoted_table(&table.name, '`'),
        within(ranges),
        if table.is_mariadb {
            "LOCK IN SHARE MODE"
        } else {
            "FOR SHARE"
        },
    );
    match sqlx::raw_sql(AssertSqlSafe(sql))
        .fetch_all(connection)
        .await
    {
        Ok(rows) => rows
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()
            .map(Some),
        Err(sqlx::Error::Database(error)) => match number(&*error) {
            // Somebody has a lock there: lock wait timeout, NOWAIT, deadlock.
            1205 | 3572 | 1213 => Ok(None),
            _ => Err(sqlx::Error::Database(error)),
        },
        Err(error) => Err(error),
    }
}

/// The condition that a number is in one of the ranges.
pub(super) fn within(ranges: &[Range]) -> String {
    let between = |&(first, last): &Range| format!("`sequence` BETWEEN {first} AND {last}");
    let conditions: Vec<_> = ranges.iter().map(between).collect();
    format!("({})", conditions.join(" OR "))
}

fn number(error: &dyn sqlx::error::DatabaseError) -> u16 {
    let ours = error.try_downcast_ref::<MySqlDatabaseError>();
    ours.map_or(0, MySqlDatabaseError::number)
}
