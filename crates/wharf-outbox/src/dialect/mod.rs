//! The seam between inbox and outbox and a database: the statements it understands, and how they are
//! run.
//!
//! A dialect is the only place that knows a database. The statements of all do the same with the same
//! values in the same order; `tests/it` runs one suite against every one of them.

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::future::Future;
use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::outbox::{Confirmed, Maintained, TableName};
use crate::{Class, OutboxError};

mod sealed {
    pub trait Sealed {}
}
use sealed::Sealed;

/// A value of a statement.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A text.
    Text(&'a str),
    /// A text, or NULL.
    MaybeText(Option<&'a str>),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Bytes, or NULL.
    MaybeBytes(Option<&'a [u8]>),
    /// A number.
    Integer(i64),
}

/// What is run. Values are bound in the order in which they are named here.
#[derive(Debug)]
pub struct Statements {
    /// The script that creates tables and indexes that are missing.
    pub(crate) schema: &'static str,
    /// Consumer, source, id, payload hash: 1 row when there was none, else 0 rows or a unique violation.
    pub(crate) claim: &'static str,
    /// Outputs, consumer, source, id.
    pub(crate) record_outputs: &'static str,
    /// Sequence, consumer, source, key, sequence: 1 row when the sequence is the last one now.
    pub(crate) advance: &'static str,
    /// Consumer, source, key, sequence: of a key that has none, where `advance` does not do that.
    pub(crate) first_sequence: Option<&'static str>,
    /// Without values, before `purge` on the same connection.
    pub(crate) before_purge: Option<&'static str>,
    /// How old in microseconds, and how many rows at most.
    pub(crate) purge: &'static str,
    /// Payload hash and outputs, by consumer, source, id.
    pub(crate) find: &'static str,
    /// Outputs, consumer, source, key, sequence: of the sequence that is the last one.
    pub(crate) record_sequence_outputs: &'static str,
    /// The last sequence and its outputs, by consumer, source, key.
    pub(crate) last_sequence: &'static str,
}

/// What a row of the inbox holds: the payload's hash, and the outputs if there are any.
pub(crate) type Found = (Vec<u8>, Option<Vec<u8>>);
/// What a row of the high-water marks holds: the last sequence, and its outputs if there are any.
pub(crate) type Last = (i64, Option<Vec<u8>>);

/// What of the outbox differs from database to database.
#[derive(Debug)]
pub struct OutboxDialect {
    /// The script that creates the table, under its default name.
    pub(crate) schema: &'static str,
    /// The script that creates the table of cursors, under its default name.
    pub(crate) cursor: &'static str,
    /// What stands on both sides of a name.
    pub(crate) quote: char,
    /// The placeholders of one row to insert, the first of which has this number: id, aggregate type,
    /// aggregate id, type, payload, headers.
    pub(crate) row: fn(usize) -> String,
}

/// What an error says about the table that a statement was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such table.
    NoTable,
    /// It lacks a column, or one has another type.
    OtherTable,
    /// The user may not.
    Denied,
}

/// A database that an [`Inbox`](crate::Inbox) and an [`Outbox`](crate::Outbox) can be in: `sqlx::Postgres`, `sqlx::MySql` (also
/// MariaDB) and `sqlx::Sqlite`, each with its feature. Sealed: what the statements promise each other
/// is nothing to rely on from outside.
pub trait Dialect: sqlx::Database + Sealed {
    /// Its statements.
    #[doc(hidden)]
    const STATEMENTS: &'static Statements;

    /// What of the outbox differs.
    #[doc(hidden)]
    const OUTBOX: &'static OutboxDialect;

    /// Runs a statement, and says how many rows it touched.
    #[doc(hidden)]
    fn execute<'a>(
        connection: &'a mut Self::Connection,
        sql: SqlStr,
        values: &'a [Value<'a>],
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send + 'a;

    /// The same, for a statement that is not worth being kept prepared.
    #[doc(hidden)]
    fn execute_once<'a>(
        connection: &'a mut Self::Connection,
        sql: SqlStr,
        values: &'a [Value<'a>],
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send + 'a;

    /// What the row of a message holds.
    #[doc(hidden)]
    fn find<'a>(
        connection: &'a mut Self::Connection,
        sql: SqlStr,
        values: &'a [Value<'a>],
    ) -> impl Future<Output = Result<Option<Found>, sqlx::Error>> + Send + 'a;

    /// The last sequence of a key, and its outputs.
    #[doc(hidden)]
    fn last_sequence<'a>(
        connection: &'a mut Self::Connection,
        sql: SqlStr,
        values: &'a [Value<'a>],
    ) -> impl Future<Output = Result<Option<Last>, sqlx::Error>> + Send + 'a;

    /// Runs a script that creates what is missing, with several instances doing so at once.
    #[doc(hidden)]
    fn install<'a>(
        connection: &'a mut Self::Connection,
        script: SqlStr,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send + 'a;

    /// Makes room in an outbox: see [`Outbox::maintain`](crate::Outbox::maintain).
    #[doc(hidden)]
    fn maintain<'a>(
        connection: &'a mut Self::Connection,
        table: &'a TableName,
        confirmed: Confirmed,
        keep: Duration,
    ) -> impl Future<Output = Result<Maintained, OutboxError>> + Send + 'a;

    /// What an error says about the table.
    #[doc(hidden)]
    fn refusal(error: &dyn DatabaseError) -> Option<Refusal>;
}

/// SQL whose only variable parts are names that were checked and quoted.
pub(crate) fn checked(sql: String) -> SqlStr {
    AssertSqlSafe(sql).into_sql_str()
}

/// A row of placeholders that have no numbers.
#[cfg(any(feature = "mysql", feature = "sqlite"))]
fn plain_row(_first: usize) -> String {
    "(?, ?, ?, ?, ?, ?)".to_owned()
}

/// Asks the dialect that an error comes from.
pub(crate) fn classify(error: &dyn DatabaseError) -> Class {
    #[cfg(feature = "postgres")]
    if let Some(class) = postgres::classify(error) {
        return class;
    }
    #[cfg(feature = "mysql")]
    if let Some(class) = mysql::classify(error) {
        return class;
    }
    #[cfg(feature = "sqlite")]
    if let Some(class) = sqlite::classify(error) {
        return class;
    }
    tracing::debug!(%error, "an error of a database that has no dialect");
    Class::Other
}

/// How statements are run, which is alike for all but has no name in sqlx's traits.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
macro_rules! run_statements {
    () => {
        async fn execute<'a>(
            connection: &'a mut Self::Connection,
            sql: sqlx::SqlStr,
            values: &'a [$crate::dialect::Value<'a>],
        ) -> Result<u64, sqlx::Error> {
            let done = bound(sql, values).execute(connection).await?;
            Ok(done.rows_affected())
        }

        async fn execute_once<'a>(
            connection: &'a mut Self::Connection,
            sql: sqlx::SqlStr,
            values: &'a [$crate::dialect::Value<'a>],
        ) -> Result<u64, sqlx::Error> {
            let query = bound(sql, values).persistent(false);
            Ok(query.execute(connection).await?.rows_affected())
        }

        async fn find<'a>(
            connection: &'a mut Self::Connection,
            sql: sqlx::SqlStr,
            values: &'a [$crate::dialect::Value<'a>],
        ) -> Result<Option<$crate::dialect::Found>, sqlx::Error> {
            use sqlx::Row as _;
            let row = bound(sql, values).fetch_optional(connection).await?;
            row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
                .transpose()
        }

        async fn last_sequence<'a>(
            connection: &'a mut Self::Connection,
            sql: sqlx::SqlStr,
            values: &'a [$crate::dialect::Value<'a>],
        ) -> Result<Option<$crate::dialect::Last>, sqlx::Error> {
            use sqlx::Row as _;
            let row = bound(sql, values).fetch_optional(connection).await?;
            row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
                .transpose()
        }
    };
}
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
macro_rules! bind_values {
    ($database:ty, $text:expr) => {
        fn bound<'a>(
            sql: sqlx::SqlStr,
            values: &'a [$crate::dialect::Value<'a>],
        ) -> sqlx::query::Query<'a, $database, <$database as sqlx::Database>::Arguments> {
            use $crate::dialect::Value;
            let text: fn(&'a str) -> _ = $text;
            let query = sqlx::query::<$database>(sql);
            values.iter().fold(query, |query, value| match *value {
                Value::Text(value) => query.bind(text(value)),
                Value::MaybeText(value) => query.bind(value.map(text)),
                Value::Bytes(bytes) => query.bind(bytes),
                Value::MaybeBytes(bytes) => query.bind(bytes),
                Value::Integer(number) => query.bind(number),
            })
        }
    };
}
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
use {bind_values, run_statements};
