//! The polling source of Postgres.

use std::sync::Arc;

use bytes::Bytes;
use sqlx::postgres::{PgConnectOptions, PgConnection, Postgres};
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use wharf_message::Code;

use super::checkpoint::Checkpoint;
use super::held::Watch;
use super::{Position, Table, Until};
use crate::polling::Settings;
use crate::polling::backend::{Backend, Page, Reader, Words, bind_values, run_statements};
use crate::polling::name::quoted_table;
use crate::polling::pace::BYTES;
use crate::polling::run::Polling;
use crate::{Lag, Source, Trouble};

/// Rows that are counted one by one to say how many are left.
const COUNTED_MAX: i64 = 1_000_000;

/// A polling source of a Postgres database.
pub fn source(options: PgConnectOptions, settings: Settings) -> Arc<dyn Source> {
    Arc::new(Polling::new(PostgresBackend {
        options: options.application_name("wharf relay"),
        settings,
    }))
}

/// How Postgres is polled.
pub(crate) struct PostgresBackend {
    options: PgConnectOptions,
    settings: Settings,
}

impl PostgresBackend {
    bind_values!(Postgres);
}

impl Backend for PostgresBackend {
    type Connection = PgConnection;
    type Table = Described;
    type Reader = PostgresReader;
    type Watch = Watch;

    const WORDS: Words = Words {
        quote: '"',
        numbered: true,
        now: "clock_timestamp()",
        later: "clock_timestamp() + interval '{} milliseconds'",
        bytes_of: "convert_to({}, 'UTF8')",
        insert: ("INSERT", "ON CONFLICT (source) DO NOTHING"),
        create_cursor: r#"CREATE TABLE {} (source text COLLATE "C" PRIMARY KEY, holder text, epoch bigint NOT NULL DEFAULT 0, expires_at timestamptz, checkpoint bytea)"#,
    };
    const NAME: &'static str = "postgres";

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn user(&self) -> &str {
        self.options.get_username()
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        self.options.connect().await
    }

    run_statements!(Postgres);

    async fn describe(&self, connection: &mut PgConnection) -> Result<Described, Trouble> {
        let table = Table::describe(connection, &self.settings.table, self.user()).await?;
        table.check_ordered()?;
        table.check_columns(&self.settings.columns)?;
        // Some managed servers do not let everybody ask; then it is not compared.
        let system = sqlx::query_scalar("SELECT system_identifier FROM pg_control_system()");
        let system: Result<i64, _> = system.fetch_one(connection).await;
        Ok(Described {
            table,
            system: system.map_or(0, i64::cast_unsigned),
        })
    }

    async fn reader(
        &self,
        mut connection: PgConnection,
        described: &Described,
        checkpoint: Option<&Bytes>,
    ) -> Result<PostgresReader, Trouble> {
        let Described { table, system } = described.clone();
        let after = described.position(checkpoint)?;
        let next = sqlx::query_scalar("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8");
        let next: i64 = match next.fetch_one(&mut connection).await {
            Ok(next) => next,
            Err(error) => return Err(table.trouble(&error)),
        };
        if after.transaction >= next.cast_unsigned() {
            return Err(other_database(
                "its transactions are numbered below the last one read",
            ));
        }
        Ok(PostgresReader {
            connection,
            table,
            at: Checkpoint {
                system,
                position: after,
            },
        })
    }

    async fn lag(
        &self,
        connection: &mut PgConnection,
        described: &Described,
        confirmed: Option<&Bytes>,
        watch: &mut Watch,
    ) -> Result<Lag, Trouble> {
        let after = described.position(confirmed)?;
        let table = &described.table;
        let name = quoted_table(&self.settings.table, '"');
        let sql = format!(
            "WITH now AS MATERIALIZED (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS horizon)
            SELECT (SELECT count(*) FROM (SELECT 1 FROM {name}
                    WHERE (transaction_id, sequence) > ($1::text::xid8, $2) LIMIT {COUNTED_MAX}) AS behind),
                (SELECT horizon::text::int8 FROM now),
                EXISTS (SELECT 1 FROM {name} WHERE transaction_id >= (SELECT horizon FROM now))"
        );
        let found: Result<(i64, i64, bool), _> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(after.transaction.to_string())
            .bind(after.sequence)
            .fetch_one(&mut *connection)
            .await;
        let (rows, horizon, waiting) = found.map_err(|error| table.trouble(&error))?;
        let waits_for = waiting.then_some(horizon);
        let held_by = watch
            .held_by(connection, waits_for, self.settings.held_after)
            .await;
        Ok(Lag {
            rows: u64::try_from(rows).ok(),
            held_by: held_by.map_err(|error| table.trouble(&error))?,
            ..Lag::default()
        })
    }
}

/// The table, and the server that it is in.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    table: Table,
    system: u64,
}

impl Described {
    /// Where to go on behind a checkpoint of this server.
    fn position(&self, checkpoint: Option<&Bytes>) -> Result<Position, Trouble> {
        let Some(bytes) = checkpoint else {
            return Ok(Position::before(0));
        };
        let Some(Checkpoint { system, position }) = Checkpoint::decode(bytes) else {
            return Err(other_database(
                "what is kept under this name is of another kind of source",
            ));
        };
        match system == self.system || system == 0 || self.system == 0 {
            true => Ok(position),
            false => Err(other_database("its system identifier is another")),
        }
    }
}

fn other_database(why: &str) -> Trouble {
    let what = format!("the database is not the one that was read before: {why}");
    let fix = "mend the address, or give the relay another name: it begins with the first row then";
    Trouble::refused(Code::OUTBOX_OTHER_DATABASE, what, fix)
}

/// Reads the table in Postgres.
pub(crate) struct PostgresReader {
    connection: PgConnection,
    table: Table,
    at: Checkpoint,
}

impl Reader for PostgresReader {
    async fn read(&mut self, rows_max: u32) -> Result<Page, Trouble> {
        let (connection, after) = (&mut self.connection, self.at.position);
        let limit = (rows_max, BYTES);
        let read = self
            .table
            .read(connection, after, Until::Horizon, &[], limit)
            .await?;
        let checkpoint = read.last.map(|last| {
            self.at.position = last;
            self.at.encode()
        });
        Ok(Page {
            rows: read.rows,
            bytes: read.bytes,
            checkpoint,
            more: read.more,
            settle: false,
        })
    }
}
