//! `wharf outbox init`: the tables of outbox and inbox, as statements or in a database.
//!
//! It creates what is missing and changes nothing that is there. An address may hold a password, so
//! none is ever printed.

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use sqlx::{MySql, Pool, Postgres, Sqlite};
use wharf_outbox::{Dialect, Inbox, Outbox, TABLE, TableName};

use crate::cli::{Outcome, Usage};
use crate::output;

/// Create the outbox table in a database, or show the statements that do.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf outbox init --dialect postgres --print > migrations/0007_outbox.sql
  wharf outbox init --dialect mysql --table shop.wharf_outbox --print
  wharf outbox init --url postgres://shop@localhost/shop
  PGPASSWORD=secret wharf outbox init --url postgres://shop@localhost/shop --inbox
  wharf outbox init --url sqlite:shop.db")]
pub(crate) struct Init {
    /// The database; what the address says, if there is one
    #[arg(long, value_enum, value_name = "DATABASE", hide_possible_values = true)]
    #[arg(
        help = "The database: postgres, mysql (also MariaDB) or sqlite [default: by the address]"
    )]
    dialect: Option<Database>,
    /// The outbox table, `table` or `schema.table`
    #[arg(long, value_name = "TABLE", default_value = TABLE)]
    table: TableName,
    /// The tables of the inbox, too
    #[arg(long)]
    inbox: bool,
    /// Print the statements and run nothing
    #[arg(long)]
    print: bool,
    /// Where the tables are created: postgres://, mysql://, mariadb:// or sqlite:
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Database {
    Postgres,
    #[value(alias = "mariadb")]
    Mysql,
    Sqlite,
}

impl Database {
    /// By the scheme of an address.
    fn of(url: &str) -> Option<Self> {
        match url.split_once(':')?.0 {
            "postgres" | "postgresql" => Some(Self::Postgres),
            "mysql" | "mariadb" => Some(Self::Mysql),
            "sqlite" => Some(Self::Sqlite),
            _ => None,
        }
    }
}

impl Init {
    /// Prints the statements, or runs them.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let by_url = match &self.url {
            Some(url) => Some(Database::of(url).ok_or_else(|| {
                Usage(
                    "the address begins with none of postgres://, mysql://, mariadb:// and sqlite:"
                        .to_owned(),
                )
            })?),
            None => None,
        };
        let database = match (self.dialect, by_url) {
            (Some(said), Some(meant)) if said != meant => {
                return Err(Usage(
                    "the address is one of another database than --dialect says".to_owned(),
                )
                .into());
            }
            (said, meant) => said.or(meant).ok_or_else(|| {
                Usage("which database? Say --dialect with --print, or --url".to_owned())
            })?,
        };
        match (self.print, &self.url) {
            (true, _) => output::text(&match database {
                Database::Postgres => self.statements::<Postgres>(),
                Database::Mysql => self.statements::<MySql>(),
                Database::Sqlite => self.statements::<Sqlite>(),
            })?,
            (false, Some(url)) => {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(async {
                    match database {
                        Database::Postgres => self.create::<Postgres>(url).await,
                        Database::Mysql => self.create::<MySql>(url).await,
                        Database::Sqlite => self.create::<Sqlite>(&creating(url)).await,
                    }
                })?;
                output::note(&format!("the outbox table {} is there", self.table))?;
            }
            (false, None) => {
                return Err(Usage(
                    "say --print to see the statements, or --url to run them".to_owned(),
                )
                .into());
            }
        }
        Ok(Outcome::Done)
    }

    fn statements<D: Dialect>(&self) -> String {
        let outbox = Outbox::new().table(self.table.clone()).schema::<D>();
        if self.inbox {
            outbox + "\n" + &Inbox::schema::<D>()
        } else {
            outbox
        }
    }

    async fn create<D: Dialect>(&self, url: &str) -> anyhow::Result<()> {
        let pool = Pool::<D>::connect(url).await;
        let pool = pool.context("the database cannot be reached")?;
        let outbox = Outbox::new().table(self.table.clone());
        outbox.install(&pool).await?;
        if self.inbox {
            Inbox::install(&pool).await?;
        }
        pool.close().await;
        Ok(())
    }
}

/// An address of SQLite that creates the file, unless it says what to do with one that is missing.
fn creating(url: &str) -> String {
    if url.contains("mode=") {
        return url.to_owned();
    }
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}mode=rwc")
}
