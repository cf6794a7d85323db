//! Reads a table in Postgres from snapshot to snapshot.
//!
//! A batch is the rows that one snapshot sees and the one before does not, in the order of their
//! numbers. Whoever sees a commit sees all commits before it, so that a row never comes in an earlier
//! batch than one that was committed before it; and of two rows whose transactions had the same lock,
//! the earlier one has the lower number.
//!
//! A small batch is one statement. A large one is sorted by the server once, into a cursor that holds
//! no transaction open, and fetched page by page.
//!
//! Invariant: what counts as read never includes a transaction above the highest one of which a row
//! was handed over. Such a transaction may have left no trace on disk: after a crash the server gives
//! its number to another one.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row as _};
use tokio::time::Instant;

use super::checkpoint::{Batch, Checkpoint};
use super::table::{Position, Table};
use crate::polling::backend::{Page, Reader};
use crate::polling::pace::BYTES;
use crate::polling::settings::SORTED_MAX;
use crate::postgres::Snapshot;
use crate::{Row, Trouble};

/// How often it is looked which transactions have ended while no rows come.
const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// How many rows are counted by the index alone.
pub(super) const COUNTED_FEW: i64 = 10_000;

/// Reads the table.
pub(crate) struct PostgresReader {
    connection: PgConnection,
    table: Table,
    at: Checkpoint,
    /// How many rows were fetched from the cursor that is open.
    cursor: Option<u32>,
    /// How many rows it has at most.
    sorted_max: u32,
    /// When it was last looked which transactions have ended.
    refreshed: Instant,
}

/// A batch that fits a page.
struct Small {
    rows: Vec<(Position, Row)>,
    bytes: usize,
    upto: Snapshot,
}

impl PostgresReader {
    /// For what `done` does not see, and of a batch that was on its way the rest.
    pub(crate) fn new(
        connection: PgConnection,
        table: Table,
        done: Snapshot,
        batch: Option<Batch>,
    ) -> Self {
        let at = Checkpoint {
            system: 0,
            done,
            batch,
        };
        Self::at_checkpoint(connection, table, at, SORTED_MAX)
    }

    pub(super) fn at_checkpoint(
        connection: PgConnection,
        table: Table,
        at: Checkpoint,
        sorted_max: u32,
    ) -> Self {
        Self {
            connection,
            table,
            at,
            cursor: None,
            sorted_max: sorted_max.max(1),
            refreshed: Instant::now(),
        }
    }

    /// All rows that the snapshot sees were handed over, and of the batch those up to its last one.
    pub(crate) fn at(&self) -> (Snapshot, Option<Batch>) {
        (self.at.done.clone(), self.at.batch.clone())
    }
}

impl Reader for PostgresReader {
    async fn read(&mut self, rows_max: u32) -> Result<Page, Trouble> {
        let read = match self.at.batch {
            Some(_) => self.page(rows_max).await,
            None => self.batch(rows_max).await,
        };
        read.map_err(|error| self.table.trouble(&error))
    }
}

impl PostgresReader {
    /// The next batch, or the first page of it.
    async fn batch(&mut self, rows_max: u32) -> Result<Page, sqlx::Error> {
        let Some(small) = self.small(rows_max).await? else {
            self.at.batch = Some(Batch {
                upto: self.begin_cursor().await?,
                after: i64::MIN,
                highest: 0,
            });
            self.declare().await?;
            return self.page(rows_max).await;
        };
        let Small {
            mut rows,
            bytes,
            upto,
        } = small;
        let Some(highest) = rows.iter().map(|(at, _)| at.transaction).max() else {
            return self.forget_ended().await;
        };
        rows.sort_unstable_by_key(|(at, _)| (at.sequence, at.transaction));
        self.at.done = upto.up_to(highest.max(self.at.highest()));
        Ok(Page {
            rows: rows.into_iter().map(|(_, row)| row).collect(),
            bytes,
            checkpoint: Some(self.at.encode()),
            ..Page::default()
        })
    }

    /// Forgets transactions that have ended without a row, now and then while nothing comes: rows
    /// behind them may be removed then.
    async fn forget_ended(&mut self) -> Result<Page, sqlx::Error> {
        if self.at.done.running().is_empty() || self.refreshed.elapsed() < REFRESH_EVERY {
            return Ok(Page::default());
        }
        self.refreshed = Instant::now();
        let sees = sqlx::query("SELECT pg_current_snapshot()::text");
        let sees = snapshot(&sees.fetch_one(&mut self.connection).await?, 0)?;
        // Whatever it sees, a later look sees, too.
        let unread = self.small(1).await?;
        if unread.is_none_or(|small| !small.rows.is_empty()) {
            return Ok(Page::default());
        }
        self.at.done = sees.up_to(self.at.highest());
        Ok(Page {
            checkpoint: Some(self.at.encode()),
            ..Page::default()
        })
    }

    /// The next batch in one statement; `None` when it is more than a page.
    async fn small(&mut self, rows_max: u32) -> Result<Option<Small>, sqlx::Error> {
        let done = &self.at.done;
        let late: Vec<_> = done.running().iter().map(u64::to_string).collect();
        let sql = self.table.new_rows(!late.is_empty());
        let mut query = sqlx::query(AssertSqlSafe(sql))
            .bind(done.xmax.to_string())
            .bind(i64::from(rows_max) + 1);
        if !late.is_empty() {
            query = query.bind(late);
        }
        let mut found = query.fetch(&mut self.connection);
        let (mut rows, mut bytes, mut upto) = (Vec::new(), 0, done.clone());
        while let Some(row) = found.try_next().await? {
            if rows.is_empty() {
                upto = snapshot(&row, self.table.columns().len() + 2)?;
            }
            let (at, row) = self.table.row(&row)?;
            bytes += row.size();
            rows.push((at, row));
            if rows.len() > rows_max as usize || bytes > BYTES {
                return Ok(None);
            }
        }
        Ok(Some(Small { rows, bytes, upto }))
    }

    /// Begins the transaction that a cursor is declared in, and says what it sees.
    async fn begin_cursor(&mut self) -> Result<Snapshot, sqlx::Error> {
        // The table first: whoever moves rows between partitions has it for himself, and a snapshot
        // from before that would look where they are not any more.
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; LOCK TABLE {} IN ACCESS SHARE MODE",
            self.table.quoted()
        );
        sqlx::raw_sql(AssertSqlSafe(begin))
            .execute(&mut self.connection)
            .await?;
        let sees = sqlx::query("SELECT pg_current_snapshot()::text");
        snapshot(&sees.fetch_one(&mut self.connection).await?, 0)
    }

    /// Has the rest of the batch sorted, which holds no transaction open afterwards.
    async fn declare(&mut self) -> Result<(), sqlx::Error> {
        let sql = self.table.sorted(&self.at, self.sorted_max);
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut self.connection)
            .await?;
        self.cursor = Some(0);
        Ok(())
    }

    /// The next page of a large batch.
    async fn page(&mut self, rows_max: u32) -> Result<Page, sqlx::Error> {
        if self.cursor.is_none() {
            self.begin_cursor().await?;
            self.declare().await?;
        }
        let sql = format!("FETCH {rows_max} FROM wharf_new");
        let found = sqlx::query(AssertSqlSafe(sql))
            .fetch_all(&mut self.connection)
            .await?;
        let mut page = Page {
            more: true,
            ..Page::default()
        };
        let (mut after, mut highest) = (None, 0);
        for row in &found {
            let (at, row) = self.table.row(row)?;
            (after, highest) = (Some(at.sequence), at.transaction.max(highest));
            page.bytes += row.size();
            page.rows.push(row);
        }
        let count = u32::try_from(found.len()).unwrap_or(u32::MAX);
        let fetched = self.cursor.unwrap_or(0).saturating_add(count);
        self.cursor = Some(fetched);
        if let Some(batch) = &mut self.at.batch {
            batch.after = after.unwrap_or(batch.after);
            batch.highest = batch.highest.max(highest);
        }
        if count < rows_max {
            sqlx::raw_sql("CLOSE wharf_new")
                .execute(&mut self.connection)
                .await?;
            self.cursor = None;
            // Either there is more to sort, or this was the end of the batch.
            if fetched < self.sorted_max {
                let highest = self.at.highest();
                if let Some(batch) = self.at.batch.take() {
                    self.at.done = batch.upto.up_to(highest);
                }
            }
        }
        page.checkpoint = Some(self.at.encode());
        Ok(page)
    }
}

fn snapshot(row: &PgRow, column: usize) -> Result<Snapshot, sqlx::Error> {
    let text: String = row.try_get(column)?;
    let damaged = |_damaged| sqlx::Error::Decode(format!("{text:?} is no snapshot").into());
    text.parse().map_err(damaged)
}

impl Table {
    /// The statement of a small batch: of each part no more rows than fit, in the order of the index,
    /// so that the planner has no reason to read the rest of the table. Values: the first transaction
    /// that the snapshot before did not know, the limit, and those that it saw running.
    fn new_rows(&self, late: bool) -> String {
        let (name, list) = (self.quoted(), self.list());
        let later = format!(
            "(SELECT * FROM {name} WHERE transaction_id >= $1::text::xid8
                ORDER BY transaction_id, sequence LIMIT $2)"
        );
        let late = match late {
            true => format!(
                "UNION ALL SELECT late.* FROM unnest($3::text[]::xid8[]) AS running (id),
                    LATERAL (SELECT * FROM {name} WHERE transaction_id = running.id
                        ORDER BY transaction_id, sequence LIMIT $2) AS late"
            ),
            false => String::new(),
        };
        format!(
            "SELECT transaction_id, sequence::int8, {list}, pg_current_snapshot()::text
            FROM ({later} {late}) AS page"
        )
    }

    /// How many rows are left, if there are less than [`COUNTED_FEW`].
    pub(super) fn count_few(&self, at: &Checkpoint) -> String {
        let (name, xmax, left) = (self.quoted(), at.done.xmax, left(at));
        let limit = format!("ORDER BY transaction_id, sequence LIMIT {COUNTED_FEW}");
        let late = match at.done.running().is_empty() {
            true => String::new(),
            false => format!(
                "UNION ALL SELECT late.* FROM unnest({}) AS running (id), LATERAL (
                    SELECT transaction_id, sequence FROM {name}
                    WHERE transaction_id = running.id {left} {limit}) AS late",
                running(&at.done)
            ),
        };
        format!(
            "SELECT count(*) FROM ((SELECT transaction_id, sequence FROM {name}
                WHERE transaction_id >= '{xmax}'::xid8 {left} {limit}) {late}) AS rows"
        )
    }

    /// How many rows are left, up to a million.
    pub(super) fn count_all(&self, at: &Checkpoint) -> String {
        let whole = Checkpoint {
            batch: None,
            ..at.clone()
        };
        let (name, behind, left) = (self.quoted(), behind(&whole), left(at));
        format!(
            "SELECT count(*) FROM (SELECT 1 FROM {name} WHERE {behind} {left} LIMIT 1000000) AS rows"
        )
    }

    /// The statements that sort what is left of a large batch and end the transaction.
    fn sorted(&self, at: &Checkpoint, rows_max: u32) -> String {
        let (name, list, behind) = (self.quoted(), self.list(), behind(at));
        format!(
            "SET LOCAL work_mem = '64MB';
            DECLARE wharf_new NO SCROLL CURSOR WITH HOLD FOR
                SELECT transaction_id, sequence::int8, {list} FROM {name}
                WHERE {behind} ORDER BY sequence, transaction_id LIMIT {rows_max};
            COMMIT"
        )
    }
}

/// Leaves out what was handed over of the batch on its way.
fn left(at: &Checkpoint) -> String {
    at.batch.as_ref().map_or(String::new(), |Batch { upto, after, .. }| {
        format!(
            "AND NOT (sequence <= {after} AND pg_visible_in_snapshot(transaction_id, '{upto}'::pg_snapshot))"
        )
    })
}

/// The condition that a row is behind what is done, and of the batch on its way if there is one.
fn behind(at: &Checkpoint) -> String {
    let mut behind = format!("(transaction_id >= '{}'::xid8", at.done.xmax);
    if !at.done.running().is_empty() {
        behind += &format!(" OR transaction_id = ANY ({})", running(&at.done));
    }
    behind.push(')');
    if let Some(Batch { upto, after, .. }) = &at.batch {
        let sees = "pg_visible_in_snapshot(transaction_id";
        behind += &format!(" AND sequence > {after} AND {sees}, '{upto}'::pg_snapshot)");
    }
    behind
}

/// The transactions that a snapshot saw running, as an array.
fn running(snapshot: &Snapshot) -> String {
    let running: Vec<_> = snapshot.running().iter().map(u64::to_string).collect();
    format!("'{{{}}}'::xid8[]", running.join(","))
}
