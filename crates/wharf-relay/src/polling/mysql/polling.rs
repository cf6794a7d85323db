//! The polling source of MySQL and MariaDB.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use sqlx::mysql::{MySql, MySqlConnectOptions, MySqlConnection, MySqlPool, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use tokio::time::Instant;
use wharf_message::Code;
use wharf_outbox::Confirmed;

use super::holes::{HOLES_MAX, Holes, Range};
use super::probe::{
    RANGES_MAX, Transaction, open_transactions, sees_transactions, unlocked, within,
};
use super::table::Table;
use crate::polling::Settings;
use crate::polling::backend::{Backend, Page, Reader, Words, bind_values, run_statements};
use crate::polling::name::quoted_table;
use crate::polling::pace::BYTES;
use crate::polling::run::Polling;
use crate::room::IDLE_MAX;
use crate::{Lag, Row, Source, Trouble};

/// Rows that are counted one by one to say how many are left.
const COUNTED_MAX: i64 = 1_000_000;
/// How long nobody is between taking a number and being seen as a transaction.
const SETTLE: Duration = Duration::from_secs(1);
/// How often open transactions are asked for; not twice in a second of the server's clock.
const OBSERVE_EVERY: Duration = Duration::from_secs(2);

/// A polling source of a MySQL or MariaDB database.
pub fn source(options: MySqlConnectOptions, settings: Settings) -> Arc<dyn Source> {
    let user = options.get_username().to_owned();
    Arc::new(Polling::new(MySqlBackend {
        options: options.timezone(Some("+00:00".to_owned())),
        user,
        settings,
    }))
}

/// How MySQL and MariaDB are polled.
pub(crate) struct MySqlBackend {
    options: MySqlConnectOptions,
    user: String,
    settings: Settings,
}

impl MySqlBackend {
    bind_values!(MySql);
}

impl Backend for MySqlBackend {
    type Database = MySql;
    type Connection = MySqlConnection;
    type Table = Table;
    type Reader = MySqlReader;
    /// Whether it was told that there are too many holes.
    type Watch = bool;

    const WORDS: Words = Words {
        quote: '`',
        numbered: false,
        now: "NOW(6)",
        later: "NOW(6) + INTERVAL ({} * 1000) MICROSECOND",
        bytes_of: "CAST({} AS BINARY)",
        insert: ("INSERT IGNORE", ""),
        create_cursor: "CREATE TABLE {} (source VARCHAR(255) NOT NULL PRIMARY KEY, holder VARCHAR(255) NULL, epoch BIGINT NOT NULL DEFAULT 0, expires_at TIMESTAMP(6) NULL, checkpoint LONGBLOB NULL) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    };
    const NAME: &'static str = "mysql";

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn user(&self) -> &str {
        &self.user
    }

    async fn connect(&self) -> Result<MySqlConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        // No locks between rows; and each statement sees what is committed by then.
        let isolation = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
        sqlx::raw_sql(isolation).execute(&mut connection).await?;
        Ok(connection)
    }

    run_statements!(MySql);

    async fn describe(&self, connection: &mut MySqlConnection) -> Result<Table, Trouble> {
        let table = Table::describe(connection, &self.settings, &self.user).await?;
        let flushed = sqlx::query_scalar("SELECT CAST(@@innodb_flush_log_at_trx_commit AS SIGNED)");
        let flushed: Result<i64, _> = flushed.fetch_one(connection).await;
        if flushed.map_err(|error| table.trouble(&error))? != 1 {
            tracing::warn!(
                "the database is set not to write commits to disk at once (innodb_flush_log_at_trx_commit): after a crash it may give numbers of lost rows to others, which are taken for read"
            );
        }
        Ok(table)
    }

    async fn reader(
        &self,
        mut connection: MySqlConnection,
        table: &Table,
        checkpoint: Option<&Bytes>,
    ) -> Result<MySqlReader, Trouble> {
        let sees = sees_transactions(&mut connection).await;
        let sees = sees.map_err(|error| table.trouble(&error))?;
        let settle = match sees {
            true => SETTLE,
            false => {
                tracing::warn!(
                    "numbers of rolled-back rows are waited for longer, since the user may not see other transactions; GRANT PROCESS ON *.* TO '{}'",
                    self.user
                );
                SETTLE.max(self.settings.insert_max)
            }
        };
        let holes = decode(checkpoint, settle)?;
        check_numbers(&mut connection, table, holes.high()).await?;
        let started = Instant::now();
        Ok(MySqlReader {
            connection,
            table: table.clone(),
            holes,
            sees,
            started,
            observed: started,
            canary: None,
            closed: false,
        })
    }

    fn pool(&self) -> MySqlPool {
        let one = MySqlPoolOptions::new().max_connections(1);
        one.idle_timeout(Some(IDLE_MAX))
            .connect_lazy_with(self.options.clone())
    }

    fn complete(checkpoint: &Bytes) -> Option<Confirmed> {
        let holes: Holes<Transaction> = decode(Some(checkpoint), SETTLE).ok()?;
        let complete = i64::try_from(holes.complete()).unwrap_or(i64::MAX);
        Some(Confirmed::sequence(complete))
    }

    async fn lag(
        &self,
        connection: &mut MySqlConnection,
        table: &Table,
        confirmed: Option<&Bytes>,
        told: &mut bool,
    ) -> Result<Lag, Trouble> {
        let holes: Holes<Transaction> = decode(confirmed, SETTLE)?;
        check_numbers(connection, table, holes.high()).await?;
        let ranges: Vec<Range> = holes.ranges().take(RANGES_MAX).collect();
        let late = match ranges.is_empty() {
            true => String::new(),
            false => format!("OR {}", within(&ranges)),
        };
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM {} WHERE `sequence` > {} {late} LIMIT {COUNTED_MAX}) AS behind",
            quoted_table(&table.name, '`'),
            holes.high(),
        );
        let rows = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection);
        let rows: i64 = rows.await.map_err(|error| table.trouble(&error))?;
        let full = holes.ranges().len() >= HOLES_MAX;
        if full && !*told {
            tracing::warn!(
                "rows of the outbox wait for open transactions: there are {HOLES_MAX} gaps in the numbers that somebody may still fill ({})",
                Code::OUTBOX_HELD_BACK
            );
        }
        *told = full;
        let held_by = full.then(|| {
            format!(
                "{HOLES_MAX} gaps in the numbers that somebody may still fill, from {} on: look for open transactions in information_schema.innodb_trx and end them with KILL ({})",
                holes.complete() + 1,
                Code::OUTBOX_HELD_BACK
            )
        });
        Ok(Lag {
            rows: u64::try_from(rows).ok(),
            held_by,
            ..Lag::default()
        })
    }
}

/// Where to go on behind a checkpoint.
fn decode(checkpoint: Option<&Bytes>, settle: Duration) -> Result<Holes<Transaction>, Trouble> {
    let Some(bytes) = checkpoint else {
        return Ok(Holes::new(settle));
    };
    Holes::decode(bytes, settle, Duration::ZERO)
        .ok_or_else(|| other_database("what is kept under this name is of another kind of source"))
}

fn other_database(why: &str) -> Trouble {
    let what = format!("the database is not the one that was read before: {why}");
    let fix = "mend the address, or give the relay another name: it begins with the first row then";
    Trouble::refused(Code::OUTBOX_OTHER_DATABASE, what, fix)
}

/// Whether the numbers went on since this one was given: after `TRUNCATE`, or in another database,
/// they begin anew, and rows would be taken for read.
async fn check_numbers(
    connection: &mut MySqlConnection,
    table: &Table,
    high: u64,
) -> Result<(), Trouble> {
    let refused = |error: sqlx::Error| table.trouble(&error);
    if !table.is_mariadb {
        // MySQL remembers for a day what it said of tables, unless told not to.
        let now = "SET SESSION information_schema_stats_expiry = 0";
        sqlx::raw_sql(now)
            .execute(&mut *connection)
            .await
            .map_err(refused)?;
    }
    let next = sqlx::query_scalar(
        "SELECT CAST(auto_increment AS UNSIGNED) FROM information_schema.tables
        WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ?",
    );
    let next = next.bind(table.name.schema()).bind(table.name.name());
    let next: Option<Option<u64>> = next.fetch_optional(connection).await.map_err(refused)?;
    match next.flatten() {
        Some(next) if next <= high => {
            Err(other_database("its numbers are below the last one read"))
        }
        _ => Ok(()),
    }
}

/// Reads the table in MySQL or MariaDB.
pub(crate) struct MySqlReader {
    connection: MySqlConnection,
    table: Table,
    holes: Holes<Transaction>,
    /// Whether open transactions can be asked for.
    sees: bool,
    started: Instant,
    observed: Instant,
    /// When our transaction began that the last list of open ones has.
    canary: Option<String>,
    /// Whether holes were closed since the last checkpoint.
    closed: bool,
}

/// Rows with their numbers, in order.
#[derive(Default)]
struct Found {
    rows: Vec<(u64, Row)>,
    bytes: usize,
    /// Whether there may be more that match.
    more: bool,
}

impl Reader for MySqlReader {
    async fn read(&mut self, rows_max: u32) -> Result<Page, Trouble> {
        let page = self.page(rows_max).await;
        let page = page.map_err(|error| self.table.trouble(&error))?;
        let closed = self.close_holes().await;
        closed.map_err(|error| self.table.trouble(&error))?;
        Ok(page)
    }
}

impl MySqlReader {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// New rows first, late ones then: whoever is seen by the first look is behind nobody that the
    /// second one lacks.
    async fn page(&mut self, rows_max: u32) -> Result<Page, sqlx::Error> {
        let beyond = format!("`sequence` > {}", self.holes.high());
        let mut new = self.find(&beyond, rows_max).await?;
        let mut late = Found::default();
        let ranges: Vec<Range> = self.holes.ranges().collect();
        for ranges in ranges.chunks(RANGES_MAX) {
            let found = self.find(&within(ranges), rows_max).await?;
            late.rows.extend(found.rows);
            late.bytes += found.bytes;
            late.more |= found.more;
            if late.more || late.bytes >= BYTES {
                // Not all that comes before the new rows.
                late.more = true;
                new = Found::default();
                break;
            }
        }
        let mut rows = late.rows;
        rows.extend(new.rows);
        let numbers: Vec<u64> = rows.iter().map(|(number, _)| *number).collect();
        let taken = self.holes.take(&numbers, self.now());
        let waits = taken < rows.len();
        rows.truncate(taken);
        let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
        let changed = !rows.is_empty() || std::mem::take(&mut self.closed);
        Ok(Page {
            bytes: rows.iter().map(Row::size).sum(),
            checkpoint: changed.then(|| self.holes.encode()),
            more: (late.more || new.more) && !waits,
            settle: !rows.is_empty(),
            rows,
        })
    }

    /// The rows for which a condition holds, as far as a page goes.
    async fn find(&mut self, condition: &str, rows_max: u32) -> Result<Found, sqlx::Error> {
        let select = &self.table.select;
        let sql = format!("{select} {condition} ORDER BY `sequence` LIMIT {rows_max}");
        // The numbers in it differ every time: nothing is gained by preparing it.
        let mut rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch(&mut self.connection);
        let mut found = Found::default();
        while let Some(row) = rows.try_next().await? {
            let (number, row) = self.table.row(&row)?;
            found.bytes += row.size();
            found.rows.push((number, row));
            if found.bytes >= BYTES {
                found.more = true;
                break;
            }
        }
        found.more |= found.rows.len() >= rows_max as usize;
        Ok(found)
    }

    /// Closes holes that nobody can fill.
    async fn close_holes(&mut self) -> Result<(), sqlx::Error> {
        let now = self.now();
        if self.observed.elapsed() < OBSERVE_EVERY {
            return Ok(());
        }
        self.observed = Instant::now();
        if self.holes.wants_observation(now) {
            let open = match self.sees {
                true => {
                    open_transactions(&mut self.connection, &self.table, &mut self.canary).await?
                }
                false => Some(BTreeSet::new()),
            };
            match open {
                Some(open) => self.holes.observe(now, &open),
                None => return Ok(()),
            }
        }
        let mut parts: Vec<Vec<Range>> = Vec::new();
        let quiet = self.holes.quiet();
        parts.extend(quiet.chunks(RANGES_MAX).map(<[Range]>::to_vec));
        while let Some(part) = parts.pop() {
            match unlocked(&mut self.connection, &self.table, &part).await? {
                Some(found) => {
                    for range in part {
                        self.holes.close(range, &found);
                    }
                    self.closed = true;
                }
                // Somebody has a lock in one of them: which?
                None if part.len() > 1 => {
                    let (left, right) = part.split_at(part.len() / 2);
                    parts.extend([left.to_vec(), right.to_vec()]);
                }
                None => {}
            }
        }
        Ok(())
    }
}
