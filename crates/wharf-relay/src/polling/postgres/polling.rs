//! The polling source of Postgres.

use std::sync::Arc;

use bytes::Bytes;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, Postgres};
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use wharf_message::Code;
use wharf_outbox::Confirmed;

use super::Table;
use super::checkpoint::Checkpoint;
use super::reader::{COUNTED_FEW, PostgresReader};
use crate::polling::Settings;
use crate::polling::backend::{Backend, Words, bind_values, run_statements};
use crate::polling::run::Polling;
use crate::room::IDLE_MAX;
use crate::{Lag, Source, Trouble};

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
    type Database = Postgres;
    type Connection = PgConnection;
    type Table = Described;
    type Reader = PostgresReader;
    type Watch = ();

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
        let at = described.checkpoint(checkpoint)?;
        let table = described.table.clone();
        let next = sqlx::query_scalar("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8");
        let next: i64 = match next.fetch_one(&mut connection).await {
            Ok(next) => next,
            Err(error) => return Err(table.trouble(&error)),
        };
        if at.highest() >= next.cast_unsigned() {
            let why = "its transactions are numbered below the last one read";
            return Err(other_database(why));
        }
        let sorted_max = self.settings.sorted_max;
        Ok(PostgresReader::at_checkpoint(
            connection, table, at, sorted_max,
        ))
    }

    fn pool(&self) -> PgPool {
        let one = PgPoolOptions::new().max_connections(1);
        one.idle_timeout(Some(IDLE_MAX))
            .connect_lazy_with(self.options.clone())
    }

    fn complete(checkpoint: &Bytes) -> Option<Confirmed> {
        let at = Checkpoint::decode(checkpoint)?;
        Some(Confirmed::before_transaction(at.done.xmin))
    }

    async fn lag(
        &self,
        connection: &mut PgConnection,
        described: &Described,
        confirmed: Option<&Bytes>,
        (): &mut (),
    ) -> Result<Lag, Trouble> {
        let at = described.checkpoint(confirmed)?;
        let refused = |error: sqlx::Error| described.table.trouble(&error);
        let few = described.table.count_few(&at);
        let few: i64 = sqlx::query_scalar(AssertSqlSafe(few))
            .fetch_one(&mut *connection)
            .await
            .map_err(refused)?;
        let rows = match few < COUNTED_FEW {
            true => few,
            false => {
                let all = described.table.count_all(&at);
                let all = sqlx::query_scalar(AssertSqlSafe(all)).fetch_one(connection);
                all.await.map_err(refused)?
            }
        };
        Ok(Lag {
            rows: u64::try_from(rows).ok(),
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
    /// What a checkpoint of this server says.
    fn checkpoint(&self, checkpoint: Option<&Bytes>) -> Result<Checkpoint, Trouble> {
        let Some(bytes) = checkpoint else {
            return Ok(Checkpoint::start(self.system));
        };
        let Some(at) = Checkpoint::decode(bytes) else {
            let why = "what is kept under this name is of another kind of source";
            return Err(other_database(why));
        };
        match at.system == self.system || at.system == 0 || self.system == 0 {
            true => Ok(at),
            false => Err(other_database("its system identifier is another")),
        }
    }
}

fn other_database(why: &str) -> Trouble {
    let what = format!("the database is not the one that was read before: {why}");
    let fix = "mend the address, or give the relay another name: it begins with the first row then";
    Trouble::refused(Code::OUTBOX_OTHER_DATABASE, what, fix)
}
