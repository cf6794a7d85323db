//! The database of the order and the payment service: their tables, the inbox and the outbox, so that
//! one transaction has all that comes of a message.
//!
//! SQLite or Postgres, by the same statements: the services are written once, for whatever [`Sql`]
//! understands them. The figures of these two services are counted here and nowhere else.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, Postgres};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Pool, Sqlite};
use tokio::time::Instant;
use wharf::Inbox;
use wharf::outbox::Outbox;
use wharf_outbox::Dialect;

use crate::tally::Tally;

/// Where everything is in Postgres, apart from whatever else is in that database; also the name of the
/// relay's replication slot and publication.
pub const SCHEMA: &str = "wharf_demo";
/// Postgres lets the services write side by side.
const CONNECTIONS: u32 = 16;
/// How long a relay that ended may still hold its slot, and how often that is looked at.
const LEAVING: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

const TABLES: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS orders (
        number TEXT PRIMARY KEY, customer TEXT NOT NULL, total_cents BIGINT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('open', 'completed', 'rejected')))",
    // How often the gateway reported it is kept, too.
    "CREATE TABLE IF NOT EXISTS payments (
        order_number TEXT PRIMARY KEY, total_cents BIGINT NOT NULL, reports BIGINT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('captured', 'declined')))",
];

/// What became of a run's orders and payments; `$1` is the run.
const BOOKS: &str = "SELECT state, COUNT(*) FROM orders WHERE number LIKE $1 || '-%' GROUP BY state
    UNION ALL
    SELECT state, COUNT(*) FROM payments WHERE order_number LIKE $1 || '-%' GROUP BY state
    UNION ALL
    SELECT 'repeated', CAST(COALESCE(SUM(reports - 1), 0) AS BIGINT) FROM payments
    WHERE order_number LIKE $1 || '-%'";

/// How often each id is in the outbox, with the topic that it is for.
const OUTBOX: &str = "SELECT aggregatetype || ' ' || CAST(id AS TEXT), COUNT(*) FROM wharf_outbox
    WHERE aggregateid LIKE $1 || '-%' GROUP BY aggregatetype, id";

/// Where the services' rows are. Clones share the connections.
#[derive(Clone, Debug)]
pub enum Database {
    /// A file.
    Sqlite(SqlitePool),
    /// The schema [`SCHEMA`] of a database.
    Postgres(PgPool),
}

/// A value of a statement.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Text(&'a str),
    Number(u64),
}

/// A database that the services' statements run on.
pub(crate) trait Sql: Dialect {
    /// Runs a statement in a transaction, and says how many rows it changed.
    fn change<'a>(
        transaction: &'a mut Self::Connection,
        sql: &'static str,
        values: &'a [Value<'a>],
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send + 'a;
}

macro_rules! sql {
    ($database:ty) => {
        impl Sql for $database {
            async fn change<'a>(
                transaction: &'a mut Self::Connection,
                sql: &'static str,
                values: &'a [Value<'a>],
            ) -> Result<u64, sqlx::Error> {
                let query = sqlx::query::<$database>(sql);
                let query = values.iter().fold(query, |query, value| match *value {
                    Value::Text(text) => query.bind(text),
                    Value::Number(number) => query.bind(i64::try_from(number).unwrap_or(i64::MAX)),
                });
                Ok(query.execute(transaction).await?.rows_affected())
            }
        }
    };
}
sql!(Sqlite);
sql!(Postgres);

impl Database {
    /// A file, which is created when it is missing.
    pub async fn sqlite(file: &Path) -> anyhow::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        // SQLite has one writer at a time: they wait for the connection, not for each other's locks.
        let pool = SqlitePoolOptions::new().max_connections(1);
        let pool = pool.connect_with(options).await;
        let pool = pool.with_context(|| format!("{} cannot be used", file.display()))?;
        for sql in TABLES {
            sqlx::query(sql).execute(&pool).await?;
        }
        install(&pool).await?;
        Ok(Self::Sqlite(pool))
    }

    /// A Postgres database, in which the schema [`SCHEMA`] is created when it is missing. Without
    /// `keep`, what an earlier run left is removed.
    pub async fn postgres(url: &str, keep: bool) -> anyhow::Result<Self> {
        let options = PgConnectOptions::from_str(url).context("the address is none of Postgres")?;
        let options = options.options([("search_path", SCHEMA)]);
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS);
        let pool = pool.connect_with(options).await;
        let pool = pool.context("the Postgres database cannot be reached")?;
        if !keep {
            remove(&pool).await?;
        }
        let schema = format!("CREATE SCHEMA IF NOT EXISTS {SCHEMA}");
        sqlx::query(AssertSqlSafe(schema)).execute(&pool).await?;
        for sql in TABLES {
            sqlx::query(sql).execute(&pool).await?;
        }
        install(&pool).await?;
        Ok(Self::Postgres(pool))
    }

    /// Whether a relay can read its log: that of Postgres, where it is on and the user may.
    pub async fn has_log(&self) -> anyhow::Result<bool> {
        let Self::Postgres(pool) = self else {
            return Ok(false);
        };
        let sql = "SELECT current_setting('wal_level') = 'logical' AND (rolreplication OR rolsuper)
            FROM pg_roles WHERE rolname = current_user";
        Ok(sqlx::query_scalar(sql).fetch_one(pool).await?)
    }

    /// Ends its connections. Without `keep`, everything in Postgres is removed before: call it when the
    /// relay has ended.
    pub async fn close(&self, keep: bool) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => {
                if !keep {
                    remove(pool).await?;
                }
                pool.close().await;
            }
        }
        Ok(())
    }

    /// Takes the figures of a run's orders and payments into the shop's.
    pub(crate) async fn count(&self, run: &str, tally: &Tally) -> Result<(), sqlx::Error> {
        let books = self.counts(BOOKS, run).await?;
        let of = |state: &str| books.get(state).copied().unwrap_or(0);
        let (completed, rejected) = (of("completed"), of("rejected"));
        tally.placed.set(of("open") + completed + rejected);
        tally.completed.set(completed);
        tally.rejected.set(rejected);
        tally.captured.set(of("captured"));
        tally.declined.set(of("declined"));
        tally.payments_repeated.set(of("repeated"));
        Ok(())
    }

    /// How often each of a run's events is in the outbox, by its topic and id.
    pub(crate) async fn outbox(&self, run: &str) -> Result<BTreeMap<String, u64>, sqlx::Error> {
        self.counts(OUTBOX, run).await
    }

    /// Creates tables where they are missing.
    pub(crate) async fn create(&self, tables: &[&'static str]) -> Result<(), sqlx::Error> {
        for &sql in tables {
            match self {
                Self::Sqlite(pool) => sqlx::query(sql).execute(pool).await.map(drop)?,
                Self::Postgres(pool) => sqlx::query(sql).execute(pool).await.map(drop)?,
            }
        }
        Ok(())
    }

    /// Names with numbers; `$1` is the run.
    pub(crate) async fn counts(
        &self,
        sql: &'static str,
        run: &str,
    ) -> Result<BTreeMap<String, u64>, sqlx::Error> {
        let rows: Vec<(String, i64)> = match self {
            Self::Sqlite(pool) => sqlx::query_as(sql).bind(run).fetch_all(pool).await?,
            Self::Postgres(pool) => sqlx::query_as(sql).bind(run).fetch_all(pool).await?,
        };
        let counted = |(what, count): (String, i64)| (what, count.unsigned_abs());
        Ok(rows.into_iter().map(counted).collect())
    }
}

/// Removes everything that is the shop's, the slot first: it keeps the log of the whole server.
async fn remove(pool: &PgPool) -> anyhow::Result<()> {
    let deadline = Instant::now() + LEAVING;
    let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
        WHERE slot_name = $1 AND database = current_database()";
    // Its sender takes a moment to notice that the relay is gone.
    while let Err(error) = sqlx::query(sql).bind(SCHEMA).execute(pool).await {
        if Instant::now() > deadline {
            return Err(error).context("the slot of the shop's relay cannot be dropped");
        }
        tokio::time::sleep(LOOK).await;
    }
    for what in ["PUBLICATION", "SCHEMA"] {
        let sql = format!("DROP {what} IF EXISTS {SCHEMA} CASCADE");
        sqlx::query(AssertSqlSafe(sql)).execute(pool).await?;
    }
    Ok(())
}

/// Creates the library's tables.
async fn install<D: Dialect>(pool: &Pool<D>) -> anyhow::Result<()> {
    Inbox::install(pool).await?;
    Outbox::new().rows().install(pool).await?;
    Ok(())
}
