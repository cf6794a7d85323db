//! A bank: accounts in a file of SQLite, worked on by commands of sagas.
//!
//! A command's effect, its row in the ledger and, for an answer that comes later, the answer itself
//! are one transaction. A command that comes again finds its row and has no second effect. An undo of
//! what was never done leaves a row too, so that the step is declined when it comes after all; and a
//! step that was declined stays declined for its dispatch and all before it. Nothing keeps a key from
//! having two rows but the worker's own care: that is under test.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection as _, Row as _};
use tokio::runtime::Runtime;

use super::chaos::{Chaos, Point};

/// How long a transaction waits for another one, of a process that may be stopped meanwhile.
const BUSY: Duration = Duration::from_secs(20);

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, balance INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS holds (key TEXT NOT NULL, account TEXT NOT NULL, amount INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS ledger (
    key TEXT NOT NULL, undo INTEGER NOT NULL, generation INTEGER NOT NULL, step TEXT NOT NULL,
    void INTEGER NOT NULL, at INTEGER NOT NULL, told TEXT NOT NULL, said TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS ledger_keys ON ledger (key);
CREATE TABLE IF NOT EXISTS declined (
    key TEXT NOT NULL, undo INTEGER NOT NULL, generation INTEGER NOT NULL, error TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS declined_keys ON declined (key);
CREATE TABLE IF NOT EXISTS later (url TEXT NOT NULL, body TEXT NOT NULL);
";

/// What a saga wants done.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) step_name: String,
    pub(super) generation: i64,
    /// The idempotency key of the step, for its undo too.
    pub(super) key: String,
    pub(super) undo: bool,
    pub(super) arguments: Value,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Done(Value),
    /// Nothing was done, and that is certain.
    Declined(String),
}

impl Answer {
    /// The body of an answer that comes later.
    fn later(&self) -> Value {
        match self {
            Self::Done(output) => json!({ "output": output }),
            Self::Declined(error) => json!({ "error": error, "cause": "", "declared": true }),
        }
    }
}

/// A row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) undo: bool,
    pub(super) generation: i64,
    pub(super) step: String,
    /// An undo that found nothing to undo.
    pub(super) nothing: bool,
    /// When, by a clock that all processes share.
    pub(super) at: i64,
    /// The arguments.
    pub(super) told: Value,
    /// The answer.
    pub(super) said: Value,
}

/// All that a bank has.
#[derive(Clone, Debug, Default)]
pub(super) struct Books {
    pub(super) accounts: Vec<(String, i64)>,
    /// By the key of the step that holds it: account and amount.
    pub(super) holds: Vec<(String, String, i64)>,
    pub(super) ledger: Vec<Entry>,
    /// Answers that were not told yet.
    pub(super) later: i64,
}

/// An open bank.
#[derive(Debug)]
pub(super) struct Bank {
    runtime: Runtime,
    connection: SqliteConnection,
}

impl Bank {
    /// Opens the file, and makes the tables where there are none.
    pub(super) fn open(file: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY);
        let connection = runtime.block_on(async {
            let mut connection = SqliteConnection::connect_with(&options).await?;
            sqlx::raw_sql(TABLES).execute(&mut connection).await?;
            Ok::<_, sqlx::Error>(connection)
        })?;
        Ok(Self {
            runtime,
            connection,
        })
    }

    /// Opens accounts with what they have.
    pub(super) fn found(&mut self, accounts: &[(String, i64)]) -> Result<()> {
        self.runtime.block_on(async {
            for (name, balance) in accounts {
                sqlx::query("INSERT INTO accounts VALUES (?, ?)")
                    .bind(name)
                    .bind(balance)
                    .execute(&mut self.connection)
                    .await?;
            }
            Ok(())
        })
    }

    /// Does what a command says, once; where it is answered later, at that address.
    pub(super) fn carry_out(
        &mut self,
        command: &Command,
        later: Option<&str>,
        sweet: bool,
        chaos: &Chaos,
    ) -> Result<Answer> {
        let Self {
            runtime,
            connection,
        } = self;
        Ok(runtime.block_on(transact(connection, command, later, sweet, chaos))?)
    }

    /// The answers that are to be told, with their row.
    pub(super) fn later(&mut self) -> Result<Vec<(i64, String, String)>> {
        self.runtime.block_on(async {
            let rows = sqlx::query("SELECT rowid, url, body FROM later ORDER BY rowid LIMIT 20")
                .fetch_all(&mut self.connection)
                .await?;
            let rows = rows.iter();
            Ok(rows
                .map(|row| (row.get(0), row.get(1), row.get(2)))
                .collect())
        })
    }

    /// An answer was told.
    pub(super) fn told(&mut self, row: i64) -> Result<()> {
        self.runtime.block_on(async {
            sqlx::query("DELETE FROM later WHERE rowid = ?")
                .bind(row)
                .execute(&mut self.connection)
                .await?;
            Ok(())
        })
    }

    /// Everything, as of one moment.
    pub(super) fn books(&mut self) -> Result<Books> {
        self.runtime.block_on(async {
            let mut transaction = self.connection.begin().await?;
            let accounts = sqlx::query("SELECT name, balance FROM accounts ORDER BY name")
                .fetch_all(&mut *transaction)
                .await?;
            let holds = sqlx::query("SELECT key, account, amount FROM holds ORDER BY key")
                .fetch_all(&mut *transaction)
                .await?;
            let ledger = sqlx::query(
                "SELECT key, undo, generation, step, void, at, told, said FROM ledger ORDER BY at",
            )
            .fetch_all(&mut *transaction)
            .await?;
            let later = sqlx::query_scalar("SELECT count(*) FROM later")
                .fetch_one(&mut *transaction)
                .await?;
            transaction.rollback().await?;
            let entry = |row: &sqlx::sqlite::SqliteRow| {
                Ok(Entry {
                    key: row.get(0),
                    undo: row.get(1),
                    generation: row.get(2),
                    step: row.get(3),
                    nothing: row.get(4),
                    at: row.get(5),
                    told: serde_json::from_str(row.get(6))?,
                    said: serde_json::from_str(row.get(7))?,
                })
            };
            Ok(Books {
                accounts: accounts
                    .iter()
                    .map(|row| (row.get(0), row.get(1)))
                    .collect(),
                holds: holds
                    .iter()
                    .map(|row| (row.get(0), row.get(1), row.get(2)))
                    .collect(),
                ledger: ledger.iter().map(entry).collect::<Result<_>>()?,
                later,
            })
        })
    }
}

async fn transact(
    connection: &mut SqliteConnection,
    command: &Command,
    later: Option<&str>,
    sweet: bool,
    chaos: &Chaos,
) -> Result<Answer, sqlx::Error> {
    // Taken at once: two workers that look first and write then would both find nothing.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let known = known(&mut transaction, command).await?;
    let is_known = known.is_some();
    let answer = match known {
        Some(answer) => answer,
        None => {
            chaos.maybe(Point::BeforeEffect);
            let answer = effect(&mut transaction, command, sweet).await?;
            note(&mut transaction, command, answer).await?
        }
    };
    if let Some(url) = later {
        sqlx::query("INSERT INTO later VALUES (?, ?)")
            .bind(url)
            .bind(answer.later().to_string())
            .execute(&mut *transaction)
            .await?;
    }
    if !is_known {
        chaos.maybe(Point::BeforeCommit);
    }
    transaction.commit().await?;
    if !is_known {
        chaos.maybe(Point::AfterCommit);
    }
    Ok(answer)
}

/// What was answered before, or is certain already.
async fn known(
    connection: &mut SqliteConnection,
    command: &Command,
) -> Result<Option<Answer>, sqlx::Error> {
    let rows = sqlx::query("SELECT undo, said FROM ledger WHERE key = ?")
        .bind(&command.key)
        .fetch_all(&mut *connection)
        .await?;
    for row in &rows {
        if row.get::<bool, _>(0) == command.undo {
            let said = serde_json::from_str(row.get(1)).unwrap_or_default();
            return Ok(Some(Answer::Done(said)));
        }
    }
    if !command.undo && !rows.is_empty() {
        return Ok(Some(Answer::Declined("AlreadyUndone".to_owned())));
    }
    let declined: Option<String> = sqlx::query_scalar(
        "SELECT error FROM declined WHERE key = ? AND undo = ? AND generation >= ?",
    )
    .bind(&command.key)
    .bind(command.undo)
    .bind(command.generation)
    .fetch_optional(connection)
    .await?;
    Ok(declined.map(Answer::Declined))
}

/// What an effect came to: whether there was nothing to do, or the error it is declined with.
type Effect = Result<bool, &'static str>;

async fn note(
    connection: &mut SqliteConnection,
    command: &Command,
    effect: Effect,
) -> Result<Answer, sqlx::Error> {
    let nothing = match effect {
        Ok(nothing) => nothing,
        Err(error) => {
            sqlx::query("INSERT INTO declined VALUES (?, ?, ?, ?)")
                .bind(&command.key)
                .bind(command.undo)
                .bind(command.generation)
                .bind(error)
                .execute(connection)
                .await?;
            return Ok(Answer::Declined(error.to_owned()));
        }
    };
    let at = super::chaos::now();
    let said = json!({ "receipt": format!("{}#{at}", command.key), "nothing": nothing });
    sqlx::query("INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
        .bind(&command.key)
        .bind(command.undo)
        .bind(command.generation)
        .bind(&command.step_name)
        .bind(nothing)
        .bind(at)
        .bind(command.arguments.to_string())
        .bind(said.to_string())
        .execute(connection)
        .await?;
    Ok(Answer::Done(said))
}

async fn effect(
    connection: &mut SqliteConnection,
    command: &Command,
    sweet: bool,
) -> Result<Effect, sqlx::Error> {
    if !command.undo {
        let Command { key, arguments, .. } = command;
        return forward(connection, key, arguments).await;
    }
    let done = sqlx::query_scalar("SELECT told FROM ledger WHERE key = ? AND undo = 0")
        .bind(&command.key)
        .fetch_optional(&mut *connection)
        .await?;
    let mood = command.arguments["input"]["mood"].as_str();
    if mood == Some("bitter") || (mood == Some("sour") && !sweet) {
        return Ok(Err("Sour"));
    }
    let Some(done): Option<String> = done else {
        return Ok(Ok(true));
    };
    let done = serde_json::from_str(&done).unwrap_or_default();
    backward(connection, &command.key, &done).await
}

async fn forward(
    connection: &mut SqliteConnection,
    key: &str,
    arguments: &Value,
) -> Result<Effect, sqlx::Error> {
    let account = arguments["account"].as_str().unwrap_or_default();
    let amount = arguments["amount"].as_i64().unwrap_or_default();
    match arguments["op"].as_str().unwrap_or_default() {
        "debit" => add(connection, account, -amount).await,
        "credit" => add(connection, account, amount).await,
        "hold" => {
            let taken = add(connection, account, -amount).await?;
            if taken.is_ok() {
                sqlx::query("INSERT INTO holds VALUES (?, ?, ?)")
                    .bind(key)
                    .bind(account)
                    .bind(amount)
                    .execute(connection)
                    .await?;
            }
            Ok(taken)
        }
        "capture" => {
            let held = arguments["hold"].as_str().unwrap_or_default();
            let held = held.split('#').next().unwrap_or_default();
            let released = release(connection, held).await?;
            Ok(released.map(|_| false).ok_or("NoHold"))
        }
        "look" if arguments["verdict"] == "bad" => Ok(Err("Refused")),
        "look" => Ok(Ok(false)),
        _ => Ok(Err("UnknownOperation")),
    }
}

async fn backward(
    connection: &mut SqliteConnection,
    key: &str,
    done: &Value,
) -> Result<Effect, sqlx::Error> {
    let account = done["account"].as_str().unwrap_or_default();
    let amount = done["amount"].as_i64().unwrap_or_default();
    match done["op"].as_str().unwrap_or_default() {
        "debit" => add(connection, account, amount).await,
        "credit" => Ok(add(connection, account, -amount)
            .await?
            .map_err(|_error| "MoneySpent")),
        "hold" => match release(connection, key).await? {
            Some((account, amount)) => add(connection, &account, amount).await,
            None => Ok(Err("NoHold")),
        },
        _ => Ok(Ok(false)),
    }
}

/// Takes a hold away; whose it was and how much.
async fn release(
    connection: &mut SqliteConnection,
    key: &str,
) -> Result<Option<(String, i64)>, sqlx::Error> {
    let held = sqlx::query("SELECT account, amount FROM holds WHERE key = ?")
        .bind(key)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(held) = held else { return Ok(None) };
    sqlx::query("DELETE FROM holds WHERE key = ?")
        .bind(key)
        .execute(connection)
        .await?;
    Ok(Some((held.get(0), held.get(1))))
}

/// Changes a balance, which never goes below zero.
async fn add(
    connection: &mut SqliteConnection,
    account: &str,
    amount: i64,
) -> Result<Effect, sqlx::Error> {
    let balance: Option<i64> = sqlx::query_scalar("SELECT balance FROM accounts WHERE name = ?")
        .bind(account)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(balance) = balance else {
        return Ok(Err("AccountClosed"));
    };
    if balance + amount < 0 {
        return Ok(Err("InsufficientFunds"));
    }
    sqlx::query("UPDATE accounts SET balance = ? WHERE name = ?")
        .bind(balance + amount)
        .bind(account)
        .execute(connection)
        .await?;
    Ok(Ok(false))
}
