//! The seam between what all polling sources do and what each database does its own way.

use std::future::Future;

use bytes::Bytes;
use sqlx::Pool;
use wharf_outbox::{Confirmed, Dialect};

use super::Settings;
use crate::{Lag, Row, Trouble};

/// A value of a statement.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
    Integer(i64),
}

/// A row of the cursor table, as far as it is asked for: a number, and bytes or a text if there are any.
pub(crate) type Found = (i64, Option<Vec<u8>>);

/// The words of a dialect, for the statements that all have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    /// The quotes around names.
    pub quote: char,
    /// Whether values are `$1` instead of `?`.
    pub numbered: bool,
    /// The time by the database's clock.
    pub now: &'static str,
    /// The time in `{}` milliseconds.
    pub later: &'static str,
    /// The bytes of the text `{}`.
    pub bytes_of: &'static str,
    /// How an insert begins and ends that does nothing when the row is there.
    pub insert: (&'static str, &'static str),
    /// Creates the cursor table `{}`.
    pub create_cursor: &'static str,
}

/// A page of rows, and where to go on behind it.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub rows: Vec<Row>,
    /// The bytes of their values.
    pub bytes: usize,
    /// Where to go on; `None` when nothing has changed.
    pub checkpoint: Option<Bytes>,
    /// Whether there may be more now.
    pub more: bool,
    /// Whether the rows are on disk only after a commit of our own.
    pub settle: bool,
}

/// A database, and the way its outbox is read.
pub(crate) trait Backend: Send + Sync + Sized + 'static {
    /// Its dialect.
    type Database: Dialect;
    /// A connection to it.
    type Connection: Send + 'static;
    /// What the table looks like.
    type Table: Send + Sync;
    /// Reads the table.
    type Reader: Reader;
    /// What is remembered between two looks at what is left to do.
    type Watch: Default + Send;

    const WORDS: Words;
    /// What it is, for people.
    const NAME: &'static str;

    fn settings(&self) -> &Settings;

    /// The user, for the statement that mends a missing grant.
    fn user(&self) -> &str;

    fn connect(&self) -> impl Future<Output = Result<Self::Connection, sqlx::Error>> + Send;

    /// Runs a statement, and says how many rows it touched.
    fn execute(
        connection: &mut Self::Connection,
        sql: &str,
        values: &[Value<'_>],
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send;

    /// Asks for a number and bytes.
    fn find(
        connection: &mut Self::Connection,
        sql: &str,
        values: &[Value<'_>],
    ) -> impl Future<Output = Result<Option<Found>, sqlx::Error>> + Send;

    /// What the table looks like, if it can be polled.
    fn describe(
        &self,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<Self::Table, Trouble>> + Send;

    /// A reader that goes on behind a checkpoint, or from the first row.
    fn reader(
        &self,
        connection: Self::Connection,
        table: &Self::Table,
        checkpoint: Option<&Bytes>,
    ) -> impl Future<Output = Result<Self::Reader, Trouble>> + Send;

    /// Connections for making room; none is opened before it is needed.
    fn pool(&self) -> Pool<Self::Database>;

    /// Up to where a checkpoint says that every row is handed over.
    fn complete(checkpoint: &Bytes) -> Option<Confirmed>;

    /// What is left to do behind what is confirmed.
    fn lag(
        &self,
        connection: &mut Self::Connection,
        table: &Self::Table,
        confirmed: Option<&Bytes>,
        watch: &mut Self::Watch,
    ) -> impl Future<Output = Result<Lag, Trouble>> + Send;
}

/// Reads a table page by page.
pub(crate) trait Reader: Send {
    /// The next rows, at most so many.
    fn read(&mut self, rows_max: u32) -> impl Future<Output = Result<Page, Trouble>> + Send;
}

/// How statements are run, which is alike for all but has no name in sqlx's traits.
macro_rules! run_statements {
    ($database:ty) => {
        async fn execute(
            connection: &mut Self::Connection,
            sql: &str,
            values: &[$crate::polling::backend::Value<'_>],
        ) -> Result<u64, sqlx::Error> {
            let done = Self::bound(sql, values).execute(connection).await?;
            Ok(done.rows_affected())
        }

        async fn find(
            connection: &mut Self::Connection,
            sql: &str,
            values: &[$crate::polling::backend::Value<'_>],
        ) -> Result<Option<$crate::polling::backend::Found>, sqlx::Error> {
            use sqlx::Row as _;
            let row = Self::bound(sql, values).fetch_optional(connection).await?;
            row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
                .transpose()
        }
    };
}
/// The statement with its values.
macro_rules! bind_values {
    ($database:ty) => {
        fn bound<'a>(
            sql: &str,
            values: &'a [$crate::polling::backend::Value<'a>],
        ) -> sqlx::query::Query<'a, $database, <$database as sqlx::Database>::Arguments> {
            use $crate::polling::backend::Value;
            let query = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()));
            values.iter().fold(query, |query, value| match *value {
                Value::Text(value) => query.bind(value),
                Value::Bytes(bytes) => query.bind(bytes),
                Value::Integer(number) => query.bind(number),
            })
        }
    };
}
pub(crate) use {bind_values, run_statements};
