//! The writers: transactions of every shape on one database, several at once, on through its crashes.
//!
//! Every row is published through the library on the writer's own transaction, which has locked the
//! row's aggregate before: so the aggregate's versions are the order of the commits. A writer notes of
//! every row how its transaction ended, as far as it knows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use sqlx::{Connection, Transaction};
use tokio::time::sleep;
use wharf_message::{Message, TopicName};
use wharf_outbox::Outbox;

use super::check::Fate;
use super::store::{AGGREGATES, Store, topic};
use crate::random::Random;

/// How long a writer waits for a database that is down.
const AGAIN: Duration = Duration::from_millis(50);

/// What the writers of a database know.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// How the transaction of each row ended, by the row's id.
    pub(super) fates: HashMap<String, Fate>,
    /// How many transactions of each shape came to their end; `rolled back`, `unknown` and so on, too.
    pub(super) shapes: BTreeMap<&'static str, usize>,
    pub(super) committed: usize,
}

/// What they share.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal {
    known: Arc<Mutex<Known>>,
    pub(super) stop: Arc<AtomicBool>,
}

impl Journal {
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, ids: Vec<String>, fate: Fate) {
        let mut known = self.known();
        known.fates.extend(ids.into_iter().map(|id| (id, fate)));
        known.committed += usize::from(fate == Fate::Committed);
        let name = match fate {
            Fate::Committed => "committed",
            Fate::RolledBack => "rolled back",
            Fate::Unknown => "unknown",
        };
        *known.shapes.entry(name).or_default() += 1;
    }

    fn count(&self, shape: &'static str) {
        *self.known().shapes.entry(shape).or_default() += 1;
    }
}

/// How a transaction looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Some rows.
    Small,
    /// Open for seconds, with rows now and then.
    Long,
    /// Thousands of rows.
    Many,
    /// Megabytes.
    Heavy,
    /// Savepoints, some of which are rolled back.
    Savepoints,
}

impl Shape {
    /// All, for the check that a run had each.
    pub(super) const NAMES: [&str; 5] = ["small", "long", "many rows", "heavy", "savepoints"];

    fn pick(random: &mut Random) -> Self {
        match random.below(100) {
            0..4 => Self::Long,
            4..6 => Self::Many,
            6..8 => Self::Heavy,
            8..28 => Self::Savepoints,
            _ => Self::Small,
        }
    }

    fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// What every run has to have had of.
pub(super) fn needed() -> impl Iterator<Item = &'static str> {
    let endings = ["committed", "rolled back", "vanished"];
    Shape::NAMES.into_iter().chain(endings)
}

/// One writer.
pub(super) struct Writer {
    pub(super) url: String,
    pub(super) random: Random,
    pub(super) journal: Journal,
}

impl Writer {
    /// Writes until it is told to stop.
    pub(super) async fn run<S: Store>(mut self) -> Result<()> {
        let mut connection = None;
        while !self.journal.stop.load(Ordering::SeqCst) {
            let mut live: S::Connection = match connection.take() {
                Some(live) => live,
                None => match S::Connection::connect(&self.url).await {
                    Ok(live) => live,
                    Err(_down) => {
                        sleep(AGAIN).await;
                        continue;
                    }
                },
            };
            // After an error or a vanishing the connection is dropped.
            if self.transact::<S>(&mut live).await? {
                connection = Some(live);
            }
            sleep(Duration::from_millis(5 + self.random.below(40))).await;
        }
        Ok(())
    }

    /// One transaction. Whether the connection can be used again.
    async fn transact<S: Store>(&mut self, connection: &mut S::Connection) -> Result<bool> {
        let shape = Shape::pick(&mut self.random);
        let Ok(mut transaction) = connection.begin().await else {
            return Ok(false);
        };
        let mut work = Work::new(&mut self.random, &self.journal);
        let filled = work.fill::<S>(&mut transaction, shape).await;
        let ids = std::mem::take(&mut work.ids);
        if let Err(error) = filled {
            // No commit was asked for, whatever went wrong.
            self.journal.note(ids, Fate::RolledBack);
            return match error {
                Failed::Database => Ok(false),
                Failed::Other(error) => Err(error),
            };
        }
        self.journal.count(shape.name());
        match self.random.below(100) {
            0..14 => {
                self.journal.note(ids, Fate::RolledBack);
                Ok(transaction.rollback().await.is_ok())
            }
            14..18 => {
                self.journal.note(ids, Fate::RolledBack);
                self.journal.count("vanished");
                Ok(false)
            }
            _ => {
                let committed = transaction.commit().await.is_ok();
                let fate = match committed {
                    true => Fate::Committed,
                    false => Fate::Unknown,
                };
                self.journal.note(ids, fate);
                Ok(committed)
            }
        }
    }
}

/// What keeps a transaction from its end.
enum Failed {
    /// The database, which may be down, or chose this one to end a deadlock.
    Database,
    /// What must not be.
    Other(anyhow::Error),
}

impl From<sqlx::Error> for Failed {
    fn from(_whatever: sqlx::Error) -> Self {
        Self::Database
    }
}

/// A transaction in the making.
struct Work<'a> {
    random: &'a mut Random,
    journal: &'a Journal,
    outbox: Outbox,
    /// The aggregates that are locked, and their versions now.
    versions: BTreeMap<u64, i64>,
    /// The rows that are committed if the transaction is.
    ids: Vec<String>,
}

impl<'a> Work<'a> {
    fn new(random: &'a mut Random, journal: &'a Journal) -> Self {
        Self {
            random,
            journal,
            outbox: Outbox::new(),
            versions: BTreeMap::new(),
            ids: Vec::new(),
        }
    }

    async fn fill<S: Store>(
        &mut self,
        transaction: &mut Transaction<'_, S>,
        shape: Shape,
    ) -> Result<(), Failed> {
        self.lock(transaction).await?;
        match shape {
            Shape::Small => {
                for _ in 0..=self.random.below(5) {
                    self.publish(transaction, 1, 40).await?;
                }
            }
            Shape::Long => {
                for _ in 0..=self.random.below(4) {
                    self.publish(transaction, 1, 40).await?;
                    sleep(Duration::from_millis(self.random.below(900))).await;
                }
            }
            Shape::Many => {
                let count = 1_000 + self.random.below(1_500);
                self.publish(transaction, count, 40).await?;
            }
            Shape::Heavy => self.publish(transaction, 12, 300_000).await?,
            Shape::Savepoints => self.savepoints(transaction).await?,
        }
        for (id, version) in std::mem::take(&mut self.versions) {
            let update = format!("UPDATE aggregates SET version = {version} WHERE id = {id}");
            S::run(transaction, update).await?;
        }
        Ok(())
    }

    /// Locks some aggregates, in the order of their numbers so that nobody waits in a circle.
    async fn lock<S: Store>(&mut self, transaction: &mut Transaction<'_, S>) -> Result<(), Failed> {
        let count = 1 + self.random.below(3);
        let chosen: BTreeSet<u64> = (0..count).map(|_| self.random.below(AGGREGATES)).collect();
        for id in chosen {
            let of = format!("FROM aggregates WHERE id = {id}");
            // An update takes its transaction id before it waits for the row, a select takes none.
            if self.random.below(2) == 0 {
                let touch = format!("UPDATE aggregates SET version = version WHERE id = {id}");
                S::run(transaction, touch).await?;
            }
            let version = S::number(transaction, format!("SELECT version {of} FOR UPDATE")).await?;
            self.versions.insert(id, version);
        }
        Ok(())
    }

    /// Some rows within savepoints, one of them within another, of which some are rolled back.
    async fn savepoints<S: Store>(
        &mut self,
        transaction: &mut Transaction<'_, S>,
    ) -> Result<(), Failed> {
        for _ in 0..=self.random.below(3) {
            self.publish(transaction, 1, 40).await?;
            let (before, kept) = (self.versions.clone(), self.ids.len());
            let mut savepoint = transaction.begin().await?;
            self.publish(&mut savepoint, 2, 40).await?;
            let mut inner = savepoint.begin().await?;
            self.publish(&mut inner, 1, 40).await?;
            inner.commit().await?;
            if self.random.below(2) == 0 {
                let undone = self.ids.split_off(kept);
                self.journal.note(undone, Fate::RolledBack);
                self.versions = before;
                savepoint.rollback().await?;
            } else {
                savepoint.commit().await?;
            }
        }
        Ok(())
    }

    /// So many rows of one of the aggregates, with so many bytes of filling.
    async fn publish<S: Store>(
        &mut self,
        transaction: &mut Transaction<'_, S>,
        count: u64,
        filling: usize,
    ) -> Result<(), Failed> {
        let locked: Vec<u64> = self.versions.keys().copied().collect();
        let id = *self.random.pick(&locked);
        let mut messages = Vec::new();
        for _ in 0..count {
            let version = self.versions.entry(id).or_default();
            *version += 1;
            let mut payload = format!("{version} ");
            let letter = char::from(b'a' + (*version % 26) as u8);
            payload.extend(std::iter::repeat_n(letter, filling));
            let row = uuid::Builder::from_random_bytes(self.bytes()).into_uuid();
            self.ids.push(row.to_string());
            let message = Message::new(payload).with_key(format!("a-{id}"));
            let message = message.with_header("ce_id", row.to_string());
            let topic = TopicName::new(topic(id)).map_err(other)?;
            messages.push((topic, message));
        }
        let published = match &messages[..] {
            [(topic, message)] => self.outbox.publish(transaction, topic, message).await,
            many => self.outbox.publish_all(transaction, many).await,
        };
        published.map_err(|error| match error {
            wharf_outbox::OutboxError::Database(_) => Failed::Database,
            error => other(error),
        })
    }

    fn bytes(&mut self) -> [u8; 16] {
        let number = u128::from(self.random.next()) << 64 | u128::from(self.random.next());
        number.to_be_bytes()
    }
}

fn other(error: impl Into<anyhow::Error>) -> Failed {
    Failed::Other(error.into())
}
