//! Making room in an outbox of Postgres: partitions by day, made ahead and dropped whole.
//!
//! What must never happen, and why it does not:
//! - A row that is not confirmed goes with its partition: before a partition is dropped it is locked so
//!   that no transaction can have written to it and be open, and every row of it is compared with what
//!   is confirmed, in the same transaction, with a snapshot from after the lock.
//! - A row is moved and so comes to a relay twice, or is passed over by one that polls: a row is moved
//!   into a table that is no partition yet, which the log does not show as an insert to the outbox, and
//!   nobody reads the outbox meanwhile. Its position is moved with it.
//! - Those who insert wait: every lock is given up after a moment, to be tried the next time.

use std::time::Duration;

use sqlx::postgres::PgDatabaseError;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres, Transaction};

use super::error::{Doing, OutboxError};
use super::maintain::{CHUNK_ROWS, CHUNKS_MAX, Confirmed, Maintained, micros};
use super::table::TableName;
use crate::dialect::checked;

/// How many days ahead partitions are made, after today's.
const DAYS_AHEAD: i32 = 2;
/// The most rows that are moved out of the default partition for one day.
const MOVE_ROWS_MAX: i64 = 10_000;
/// What keeps several instances from doing this at once, and locks from being waited for.
const BEGIN: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; \
    SET LOCAL lock_timeout = '300ms'; SET LOCAL statement_timeout = '5s'; \
    SELECT pg_advisory_xact_lock(8241904117326210378)";
/// Below what is confirmed, and above it, of two parameters.
const CONFIRMED: &str = "(transaction_id, sequence) <= ($1::text::xid8, $2::bigint)";
const UNCONFIRMED: &str = "(transaction_id, sequence) > ($1::text::xid8, $2::bigint)";

/// A moment of a Postgres, for a relay that reads its log: when the relay has confirmed the log up to
/// [`Horizon::lsn`], everything of the transactions that were over at that moment is confirmed.
///
/// ```no_run
/// # async fn example(pool: &sqlx::PgPool, outbox: &wharf_outbox::Outbox, flushed: u64) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use wharf_outbox::Horizon;
///
/// let horizon = Horizon::take(pool).await?;
/// // Later, again and again:
/// if let Some(confirmed) = horizon.confirmed(flushed) {
///     outbox.maintain(pool, confirmed, Duration::from_secs(7 * 86_400)).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    lsn: u64,
    transaction: u64,
}

impl Horizon {
    /// The moment of the call.
    ///
    /// # Errors
    /// What the database says.
    pub async fn take(pool: &PgPool) -> Result<Self, sqlx::Error> {
        // A commit is in the log before a snapshot sees it, and the position is read after the snapshot
        // was taken: all that the snapshot sees as over is before the position.
        let sql = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text, \
            (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint";
        let (transaction, lsn): (String, i64) = sqlx::query_as(sql).fetch_one(pool).await?;
        let invalid =
            |_error| sqlx::Error::Decode("a transaction id or a position is no number".into());
        Ok(Self {
            lsn: u64::try_from(lsn).map_err(invalid)?,
            transaction: transaction
                .parse()
                .map_err(|_error| sqlx::Error::Decode("a transaction id is no number".into()))?,
        })
    }

    /// The position in the log up to which a relay has to have confirmed everything.
    pub const fn lsn(self) -> u64 {
        self.lsn
    }

    /// What is confirmed when the relay has confirmed the log up to `flushed`; `None` when that does
    /// not reach here yet.
    pub fn confirmed(self, flushed: u64) -> Option<Confirmed> {
        (flushed >= self.lsn).then(|| Confirmed::before_transaction(self.transaction))
    }
}

/// One run over one table.
struct Run<'a> {
    table: &'a TableName,
    confirmed: Confirmed,
    keep: Duration,
    done: Maintained,
}

pub(crate) async fn maintain(
    connection: &mut PgConnection,
    table: &TableName,
    confirmed: Confirmed,
    keep: Duration,
) -> Result<Maintained, OutboxError> {
    let mut run = Run {
        table,
        confirmed,
        keep,
        done: Maintained::default(),
    };
    let ran = run.run(connection).await;
    ran.map_err(|error| OutboxError::of::<Postgres>(error, table, Doing::Maintain))?;
    Ok(run.done)
}

impl Run<'_> {
    async fn run(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let sql = "SELECT relkind::text FROM pg_class WHERE oid = $1::text::regclass";
        let kind: String = sqlx::query_scalar(sql)
            .bind(self.table.quoted::<Postgres>())
            .fetch_one(&mut *connection)
            .await?;
        if kind != "p" {
            let table = self.table.quoted::<Postgres>();
            return self.delete(connection, &table).await;
        }
        let default = self.beside("_default");
        let sql = "SELECT to_regclass($1) IS NOT NULL";
        let has_default: bool = sqlx::query_scalar(sql)
            .bind(&default)
            .fetch_one(&mut *connection)
            .await?;
        if self.table.has_room() && has_default {
            for day in 0..=DAYS_AHEAD {
                self.make(connection, day, &default).await?;
            }
        }
        self.drop_old(connection).await?;
        if has_default {
            self.delete(connection, &default).await?;
            let sql = format!(
                "SELECT count(*) FROM (SELECT FROM {default} LIMIT {MOVE_ROWS_MAX}) AS counted"
            );
            let left: i64 = sqlx::query_scalar(checked(sql))
                .fetch_one(connection)
                .await?;
            self.done.in_default = left.unsigned_abs();
        }
        Ok(())
    }

    /// What is named after the table, quoted.
    fn beside(&self, suffix: &str) -> String {
        let name = format!("{}{suffix}", self.table.name());
        self.table.beside::<Postgres>(&name)
    }

    /// Makes the partition of a day, counted from today, with the rows of it that are in the default
    /// partition.
    async fn make(
        &mut self,
        connection: &mut PgConnection,
        day: i32,
        default: &str,
    ) -> Result<(), sqlx::Error> {
        let sql = "SELECT to_char(day, 'YYYYMMDD'), day || ' 00:00:00+00', day + 1 || ' 00:00:00+00' \
            FROM (SELECT (now() AT TIME ZONE 'UTC')::date + $1 AS day) AS days";
        let of: (String, String, String) = sqlx::query_as(sql)
            .bind(day)
            .fetch_one(&mut *connection)
            .await?;
        let suffix = format!("_p{}", of.0);
        let day = Day {
            partition: self.beside(&suffix),
            root: self.table.quoted::<Postgres>(),
            default,
            first: &of.1,
            end: &of.2,
            is_today: day == 0,
        };
        if day.exists(&mut *connection).await? {
            return Ok(());
        }
        let name = format!("{}{suffix}", self.table.name());
        let mut transaction = connection.begin().await?;
        match day.make(&mut transaction).await {
            Ok(Some(moved)) => {
                transaction.commit().await?;
                self.done.moved += moved;
                self.done.created.push(name);
            }
            Ok(None) => transaction.rollback().await?,
            Err(error) => {
                transaction.rollback().await?;
                match sqlstate(&error) {
                    Some(code) if is_busy(code) => self.done.busy.push(name),
                    // Another partition has this time, made by somebody else.
                    Some("42P17" | "42P07") => {}
                    _ => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Drops the partitions whose whole time is long enough ago, and whose rows are all confirmed.
    async fn drop_old(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let sql = "SELECT name, schema FROM (
                SELECT c.relname::text AS name, n.nspname::text AS schema,
                    (regexp_match(pg_get_expr(c.relpartbound, c.oid), $$ TO \\('([^']+)'\\)$$))[1]::timestamptz AS past
                FROM pg_inherits AS i
                JOIN pg_class AS c ON c.oid = i.inhrelid
                JOIN pg_namespace AS n ON n.oid = c.relnamespace
                WHERE i.inhparent = $1::text::regclass
            ) AS partitions WHERE past <= now() - $2::float8 * interval '1 microsecond' ORDER BY past";
        #[expect(
            clippy::cast_precision_loss,
            reason = "a century in microseconds fits a double"
        )]
        let keep = micros(self.keep) as f64;
        let old: Vec<(String, String)> = sqlx::query_as(sql)
            .bind(self.table.quoted::<Postgres>())
            .bind(keep)
            .fetch_all(&mut *connection)
            .await?;
        for (name, schema) in old {
            let partition = format!("{}.{}", identifier(&schema), identifier(&name));
            let mut transaction = connection.begin().await?;
            match self.drop_partition(&mut transaction, &partition).await {
                Ok(true) => {
                    transaction.commit().await?;
                    self.done.dropped.push(name);
                }
                Ok(false) => {
                    transaction.rollback().await?;
                    self.done.unconfirmed.push(name);
                }
                Err(error) => {
                    transaction.rollback().await?;
                    match sqlstate(&error) {
                        Some(code) if is_busy(code) => self.done.busy.push(name),
                        // Another instance was quicker.
                        Some("42P01") => {}
                        _ => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }

    /// Drops a partition if all its rows are confirmed.
    async fn drop_partition(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        partition: &str,
    ) -> Result<bool, sqlx::Error> {
        sqlx::raw_sql(BEGIN).execute(&mut **transaction).await?;
        // Looked at without locks first, so that nobody waits for what is not to be dropped.
        if self.holds_unconfirmed(transaction, partition).await? {
            return Ok(false);
        }
        let root = self.table.quoted::<Postgres>();
        let lock = format!("LOCK TABLE ONLY {root}, ONLY {partition} IN ACCESS EXCLUSIVE MODE");
        sqlx::raw_sql(checked(lock))
            .execute(&mut **transaction)
            .await?;
        if self.holds_unconfirmed(transaction, partition).await? {
            return Ok(false);
        }
        let drop =
            format!("ALTER TABLE {root} DETACH PARTITION {partition}; DROP TABLE {partition}");
        sqlx::raw_sql(checked(drop))
            .execute(&mut **transaction)
            .await?;
        Ok(true)
    }

    async fn holds_unconfirmed(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        partition: &str,
    ) -> Result<bool, sqlx::Error> {
        let sql = format!("SELECT EXISTS (SELECT FROM {partition} WHERE {UNCONFIRMED})");
        sqlx::query_scalar(checked(sql))
            .persistent(false)
            .bind(self.confirmed.transaction_number().to_string())
            .bind(self.confirmed.sequence_number())
            .fetch_one(&mut **transaction)
            .await
    }

    /// Deletes rows that are confirmed and old, in chunks, from a table that cannot be dropped.
    async fn delete(
        &mut self,
        connection: &mut PgConnection,
        table: &str,
    ) -> Result<(), sqlx::Error> {
        let sql = format!(
            "DELETE FROM ONLY {table} WHERE {CONFIRMED} AND ctid = ANY (ARRAY(SELECT ctid FROM ONLY {table} \
             WHERE {CONFIRMED} AND created_at < now() - $3::float8 * interval '1 microsecond' LIMIT {CHUNK_ROWS}))"
        );
        #[expect(
            clippy::cast_precision_loss,
            reason = "a century in microseconds fits a double"
        )]
        let keep = micros(self.keep) as f64;
        for _ in 0..CHUNKS_MAX {
            let deleted = sqlx::query(checked(sql.clone()))
                .bind(self.confirmed.transaction_number().to_string())
                .bind(self.confirmed.sequence_number())
                .bind(keep)
                .execute(&mut *connection)
                .await?
                .rows_affected();
            self.done.deleted += deleted;
            if deleted < CHUNK_ROWS.unsigned_abs() {
                return Ok(());
            }
        }
        self.done.more = true;
        Ok(())
    }
}

/// A day whose partition is to be made. All names are quoted.
struct Day<'a> {
    partition: String,
    root: String,
    default: &'a str,
    first: &'a str,
    end: &'a str,
    is_today: bool,
}

impl Day<'_> {
    async fn exists(&self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let sql = "SELECT to_regclass($1) IS NOT NULL";
        sqlx::query_scalar(sql)
            .bind(&self.partition)
            .fetch_one(connection)
            .await
    }

    /// How many rows of it are in the default partition, counted to one more than may be moved.
    async fn in_default(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
    ) -> Result<i64, sqlx::Error> {
        let (default, range, most) = (self.default, self.range(), MOVE_ROWS_MAX + 1);
        let sql = format!(
            "SELECT count(*) FROM (SELECT FROM ONLY {default} WHERE {range} LIMIT {most}) AS counted"
        );
        sqlx::query_scalar(checked(sql))
            .fetch_one(&mut **transaction)
            .await
    }

    /// The times are the database's own, in its own form.
    fn range(&self) -> String {
        let Self { first, end, .. } = self;
        format!("created_at >= '{first}'::timestamptz AND created_at < '{end}'::timestamptz")
    }

    /// Makes it and says how many rows were moved; `None` when it is there or there are too many.
    async fn make(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
    ) -> Result<Option<u64>, sqlx::Error> {
        sqlx::raw_sql(BEGIN).execute(&mut **transaction).await?;
        if self.exists(transaction).await? {
            return Ok(None);
        }
        let Self {
            partition,
            root,
            default,
            first,
            end,
            ..
        } = self;
        // Who reads plans with the partitions there are and then waits for the default one: it would
        // miss what is moved out of it meanwhile. With the root locked, it waits before it plans.
        if self.is_today || self.in_default(transaction).await? > 0 {
            let lock = format!("LOCK TABLE ONLY {root} IN ACCESS EXCLUSIVE MODE");
            sqlx::raw_sql(checked(lock))
                .execute(&mut **transaction)
                .await?;
        }
        let lock = format!("LOCK TABLE ONLY {default} IN ACCESS EXCLUSIVE MODE");
        sqlx::raw_sql(checked(lock))
            .execute(&mut **transaction)
            .await?;
        let rows = self.in_default(transaction).await?;
        if rows > MOVE_ROWS_MAX {
            return Ok(None);
        }
        let create = format!(
            "CREATE TABLE {partition} (LIKE {root} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)"
        );
        sqlx::raw_sql(checked(create))
            .execute(&mut **transaction)
            .await?;
        if rows > 0 {
            self.fill(transaction).await?;
        }
        let attach = format!(
            "ALTER TABLE {root} ATTACH PARTITION {partition} FOR VALUES FROM ('{first}') TO ('{end}')"
        );
        sqlx::raw_sql(checked(attach))
            .execute(&mut **transaction)
            .await?;
        Ok(Some(rows.unsigned_abs()))
    }

    /// Moves the rows, with all their columns.
    async fn fill(&self, transaction: &mut Transaction<'_, Postgres>) -> Result<(), sqlx::Error> {
        let sql = "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
            WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''";
        let columns: String = sqlx::query_scalar(sql)
            .bind(&self.root)
            .fetch_one(&mut **transaction)
            .await?;
        let (partition, default, range) = (&self.partition, self.default, self.range());
        let moved = format!(
            "INSERT INTO {partition} ({columns}) SELECT {columns} FROM ONLY {default} WHERE {range}; \
             DELETE FROM ONLY {default} WHERE {range}"
        );
        sqlx::raw_sql(checked(moved))
            .execute(&mut **transaction)
            .await
            .map(drop)
    }
}

fn sqlstate(error: &sqlx::Error) -> Option<&str> {
    let error = error.as_database_error()?;
    Some(error.try_downcast_ref::<PgDatabaseError>()?.code())
}

/// A lock was not to be had, or it took too long.
fn is_busy(code: &str) -> bool {
    ["55P03", "57014", "40P01"].contains(&code)
}

/// A name that the database gave, quoted.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
