//! The databases under the relays: how they are reached, and the few statements that differ.
//!
//! Beside the outbox each has a table of aggregates, whose rows writers lock and whose versions they
//! count up: a committed row of the outbox has the version that its aggregate had after it.

use harness::{Database, DatabaseKind};
use sqlx::{AssertSqlSafe, Connection, MySql, Postgres, Row as _};
use wharf_outbox::{Dialect, Outbox};

use super::check::Row;

/// How many aggregates there are: few enough for writers to meet.
pub(super) const AGGREGATES: u64 = 24;
/// The topics of the aggregates, by the aggregate's number.
const TOPICS: [&str; 2] = ["orders", "bills"];

/// The topic of an aggregate.
pub(super) fn topic(aggregate: u64) -> &'static str {
    TOPICS[usize::from(aggregate % 2 == 1)]
}

/// All topics, as a relay of this name writes them.
pub(super) fn topics_of(relay: &str) -> impl Iterator<Item = String> {
    TOPICS.iter().map(move |topic| format!("{relay}.{topic}"))
}

/// A database that writers and the checker can use.
pub(super) trait Store: Dialect {
    /// Makes the table of aggregates.
    const AGGREGATES_TABLE: &'static str;

    /// Runs statements that answer nothing.
    fn run(
        connection: &mut Self::Connection,
        sql: String,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Asks for a number.
    fn number(
        connection: &mut Self::Connection,
        sql: String,
    ) -> impl Future<Output = Result<i64, sqlx::Error>> + Send;

    /// Asks for rows of four columns: id, topic, key, payload.
    fn rows(
        connection: &mut Self::Connection,
        sql: String,
    ) -> impl Future<Output = Result<Vec<Row>, sqlx::Error>> + Send;
}

macro_rules! store {
    ($database:ty, $table:literal) => {
        impl Store for $database {
            const AGGREGATES_TABLE: &'static str = $table;

            async fn run(
                connection: &mut Self::Connection,
                sql: String,
            ) -> Result<(), sqlx::Error> {
                let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await;
                done.map(drop)
            }

            async fn number(
                connection: &mut Self::Connection,
                sql: String,
            ) -> Result<i64, sqlx::Error> {
                let asked = sqlx::query_scalar(AssertSqlSafe(sql));
                asked.fetch_one(connection).await
            }

            async fn rows(
                connection: &mut Self::Connection,
                sql: String,
            ) -> Result<Vec<Row>, sqlx::Error> {
                let rows = sqlx::query(AssertSqlSafe(sql))
                    .fetch_all(connection)
                    .await?;
                let row = |row: &<$database as sqlx::Database>::Row| {
                    Ok(Row {
                        id: row.try_get(0)?,
                        topic: row.try_get(1)?,
                        key: row.try_get(2)?,
                        payload: row.try_get(3)?,
                    })
                };
                rows.iter().map(row).collect()
            }
        }
    };
}

store!(
    Postgres,
    "CREATE TABLE aggregates (id bigint PRIMARY KEY, version bigint NOT NULL)"
);
store!(
    MySql,
    "CREATE TABLE aggregates (id BIGINT PRIMARY KEY, version BIGINT NOT NULL) ENGINE = InnoDB"
);

/// Where clients and relays reach a server.
pub(super) fn url(kind: DatabaseKind, server: &Database) -> String {
    let user = server.user();
    match kind {
        DatabaseKind::Postgres => {
            let folder = server.folder().display();
            format!("postgres://{user}@localhost/postgres?host={folder}")
        }
        DatabaseKind::MariaDb => {
            let socket = server.socket();
            format!("mysql://{user}@localhost/mysql?socket={}", socket.display())
        }
    }
}

/// Makes the outbox and the aggregates.
pub(super) async fn prepare<S: Store>(url: &str) -> Result<(), sqlx::Error> {
    let mut connection = S::Connection::connect(url).await?;
    S::run(&mut connection, Outbox::new().schema::<S>()).await?;
    S::run(&mut connection, S::AGGREGATES_TABLE.to_owned()).await?;
    let values: Vec<_> = (0..AGGREGATES).map(|id| format!("({id}, 0)")).collect();
    let fill = format!("INSERT INTO aggregates VALUES {}", values.join(", "));
    S::run(&mut connection, fill).await
}

/// What is committed: every row of the outbox, in no order.
pub(super) async fn committed<S: Store>(url: &str) -> Result<Vec<Row>, sqlx::Error> {
    let mut connection = S::Connection::connect(url).await?;
    let all = "SELECT CAST(id AS CHAR(36)), aggregatetype, aggregateid, payload FROM wharf_outbox";
    S::rows(&mut connection, all.to_owned()).await
}
