//! What this API keeps beside definitions: machines with their roles, versions, aliases and tags,
//! activities, and definitions as they were written.
//!
//! `_wharf.step-functions` holds it, compacted: `machine/<name>`, `activity/<name>`, and
//! `text/<hash>` with the text that the definition of that hash was deployed as. The definitions
//! themselves, and the sagas, are the orchestrator's. One writer, which owns the topic; nothing is
//! answered before it is durable. The topic is made by the first change.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::timeout;
use wharf_message::ledger::{Commit, Entry, Error, Ledger, Owner, Partition, Record, TopicSpec};
use wharf_message::{Timestamp, TopicName};
use wharf_saga::definition::Hash;

use super::fault::Fault;
use crate::clock;

/// The topic.
const TOPIC: &str = "_wharf.step-functions";
/// What is written at every start, to learn where the topic ends.
const MARK: &str = "start";
/// How many records are read at once.
const READ_MAX: usize = 1_000;
/// How long a read of what is there may take.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// What is kept of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Machine {
    pub(super) role: String,
    /// Whether it is of the type `EXPRESS`.
    pub(super) express: bool,
    /// In milliseconds.
    pub(super) created: i64,
    /// How many versions were published so far; numbers are never given twice.
    pub(super) published: u32,
    pub(super) versions: Vec<Published>,
    pub(super) aliases: BTreeMap<String, Alias>,
    pub(super) tags: BTreeMap<String, String>,
}

/// A published version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Published {
    pub(super) version: u32,
    /// The number that the orchestrator gave the definition.
    pub(super) deployed: u32,
    pub(super) hash: Hash,
    pub(super) description: String,
    pub(super) created: i64,
}

/// An alias: one or two versions, with weights that add up to 100.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Alias {
    pub(super) description: String,
    pub(super) routes: Vec<(u32, u8)>,
    pub(super) created: i64,
    pub(super) updated: i64,
}

impl Machine {
    pub(super) fn version(&self, number: u32) -> Option<&Published> {
        self.versions.iter().find(|known| known.version == number)
    }
}

impl Alias {
    /// The version that a number below 100 falls to.
    pub(super) fn route(&self, drawn: u8) -> Option<u32> {
        let mut below = 0;
        let hit = self.routes.iter().find(|(_, weight)| {
            below += weight;
            drawn < below
        });
        hit.map(|(version, _)| *version)
    }
}

/// What is kept of an activity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Activity {
    pub(super) created: i64,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
}

/// Everything, as of the last commit.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) machines: BTreeMap<String, Arc<Machine>>,
    pub(super) activities: BTreeMap<String, Arc<Activity>>,
    texts: HashMap<Hash, Arc<str>>,
}

/// A record to be written; nothing in place of a value removes.
#[derive(Debug)]
pub(super) enum Write {
    Machine(String, Option<Machine>),
    Activity(String, Option<Activity>),
    /// The text that a definition was deployed as, by the definition's hash.
    Text(Hash, Option<String>),
}

impl Write {
    fn record(&self, now: Timestamp) -> Result<Record, Fault> {
        let (key, value) = match self {
            Self::Machine(name, Some(machine)) => (format!("machine/{name}"), json(machine)?),
            Self::Machine(name, None) => (format!("machine/{name}"), None),
            Self::Activity(name, Some(activity)) => (format!("activity/{name}"), json(activity)?),
            Self::Activity(name, None) => (format!("activity/{name}"), None),
            Self::Text(hash, text) => {
                (format!("text/{hash}"), text.clone().map(String::into_bytes))
            }
        };
        Ok(record(&key, value, now))
    }
}

fn json<T: Serialize>(value: &T) -> Result<Option<Vec<u8>>, Fault> {
    let bytes = serde_json::to_vec(value);
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    bytes
        .map(Some)
        .map_err(|error| Fault::server("InternalFailure", status, error.to_string()))
}

fn record(key: &str, value: Option<Vec<u8>>, timestamp: Timestamp) -> Record {
    Record {
        timestamp,
        key: Some(Bytes::from(key.to_owned())),
        value: value.map(Bytes::from),
        headers: Vec::new(),
    }
}

impl Known {
    /// The text that a definition was deployed as here.
    pub(super) fn text(&self, hash: &Hash) -> Option<&str> {
        self.texts.get(hash).map(AsRef::as_ref)
    }

    fn apply(&mut self, write: Write) {
        match write {
            Write::Machine(name, Some(machine)) => {
                self.machines.insert(name, Arc::new(machine));
            }
            Write::Machine(name, None) => _ = self.machines.remove(&name),
            Write::Activity(name, Some(activity)) => {
                self.activities.insert(name, Arc::new(activity));
            }
            Write::Activity(name, None) => _ = self.activities.remove(&name),
            Write::Text(hash, Some(text)) => _ = self.texts.insert(hash, Arc::from(text)),
            Write::Text(hash, None) => _ = self.texts.remove(&hash),
        }
    }

    fn take(&mut self, entry: &Entry) -> Result<(), String> {
        let key = entry.record.key.as_deref().unwrap_or_default();
        let key = std::str::from_utf8(key).map_err(|_wrong| "its key is no text".to_owned())?;
        let value = entry.record.value.as_deref();
        let told = |error: serde_json::Error| error.to_string();
        match (key.split_once('/'), value) {
            (None, _) if key == MARK => {}
            (Some(("machine", name)), Some(value)) => {
                let machine = serde_json::from_slice(value).map_err(told)?;
                self.machines.insert(name.to_owned(), Arc::new(machine));
            }
            (Some(("machine", name)), None) => _ = self.machines.remove(name),
            (Some(("activity", name)), Some(value)) => {
                let activity = serde_json::from_slice(value).map_err(told)?;
                self.activities.insert(name.to_owned(), Arc::new(activity));
            }
            (Some(("activity", name)), None) => _ = self.activities.remove(name),
            (Some(("text", hash)), Some(value)) => {
                let text = std::str::from_utf8(value).map_err(|error| error.to_string())?;
                let hash: Hash = hash
                    .parse()
                    .map_err(|_wrong| "its key has no hash".to_owned())?;
                self.texts.insert(hash, Arc::from(text));
            }
            (Some(("text", hash)), None) => {
                if let Ok(hash) = hash.parse() {
                    self.texts.remove(&hash);
                }
            }
            _ => return Err(format!("its key {key:.80?} is not known")),
        }
        Ok(())
    }
}

/// The right to write, and how far the topic was read.
#[derive(Debug, Default)]
struct Writer {
    owner: Option<Owner>,
    is_read: bool,
    next: i64,
}

/// The topic and what it holds.
pub(super) struct Catalogue {
    ledger: Arc<dyn Ledger>,
    place: Partition,
    known: RwLock<Arc<Known>>,
    writer: Mutex<Writer>,
}

impl Catalogue {
    pub(super) fn new(ledger: Arc<dyn Ledger>) -> Self {
        let topic = TopicName::new(TOPIC).expect("the name is a valid one");
        Self {
            ledger,
            place: Partition { topic, index: 0 },
            known: RwLock::default(),
            writer: Mutex::default(),
        }
    }

    /// Everything, as of the last commit. Reads the topic when that was not done yet.
    pub(super) async fn known(&self) -> Result<Arc<Known>, Fault> {
        let mut writer = self.writer.lock().await;
        if !writer.is_read {
            self.load(&mut writer)
                .await
                .map_err(|error| unavailable(&error))?;
        }
        Ok(self.published())
    }

    fn published(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes something: `change` says what is written, of what there is.
    pub(super) async fn change<T>(
        &self,
        change: impl FnOnce(&Known) -> Result<(Vec<Write>, T), Fault> + Send,
    ) -> Result<T, Fault> {
        let mut writer = self.writer.lock().await;
        if !writer.is_read {
            self.load(&mut writer)
                .await
                .map_err(|error| unavailable(&error))?;
        }
        let (writes, answer) = change(&self.published())?;
        if writes.is_empty() {
            return Ok(answer);
        }
        if writer.owner.is_none() {
            self.create().await.map_err(|error| unavailable(&error))?;
            self.load(&mut writer)
                .await
                .map_err(|error| unavailable(&error))?;
        }
        let Some(owner) = writer.owner.clone() else {
            let gone = Error::UnknownPartition(self.place.clone());
            return Err(unavailable(&gone));
        };
        let now = clock::now();
        let records: Result<Vec<_>, _> = writes.iter().map(|write| write.record(now)).collect();
        match self.commit(&owner, records?).await {
            Ok(offsets) => {
                // Nobody else writes while it is owned here.
                writer.next = offsets.last().map_or(writer.next, |last| last + 1);
            }
            Err(error) => {
                // Whether it happened is not known: what there is, is read again.
                (writer.owner, writer.is_read) = (None, false);
                return Err(unavailable(&error));
            }
        }
        let mut known = self.published().as_ref().clone();
        for write in writes {
            known.apply(write);
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
        Ok(answer)
    }

    async fn create(&self) -> Result<(), Error> {
        let spec = TopicSpec {
            name: self.place.topic.clone(),
            partitions: 1,
            compacted: true,
        };
        self.ledger.create_topic(spec).await
    }

    async fn commit(&self, owner: &Owner, records: Vec<Record>) -> Result<Vec<i64>, Error> {
        let records = records.into_iter();
        let commit = Commit {
            records: records.map(|record| (self.place.clone(), record)).collect(),
            ..Commit::default()
        };
        Ok(self.ledger.commit(owner, commit).await?.offsets)
    }

    /// Owns the topic and reads what is new in it; without a topic there is nothing.
    async fn load(&self, writer: &mut Writer) -> Result<(), Error> {
        (writer.owner, writer.is_read) = (None, false);
        let owner = match self.ledger.own(self.place.clone()).await {
            Ok(owner) => owner,
            Err(Error::UnknownPartition(_)) => {
                writer.is_read = true;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mark = record(MARK, None, clock::now());
        let offsets = self.commit(&owner, vec![mark]).await?;
        let end = offsets.first().copied().unwrap_or(0);
        let mut known = self.published().as_ref().clone();
        while writer.next <= end {
            let read = self
                .ledger
                .follow(self.place.clone(), writer.next, READ_MAX);
            let entries = match timeout(READ_TIMEOUT, read).await {
                Ok(Ok(entries)) => entries,
                Ok(Err(Error::OutOfRange { start, .. })) if start > writer.next => {
                    writer.next = start;
                    continue;
                }
                Ok(Err(error)) => return Err(error),
                Err(_late) => return Err(Error::Unavailable(format!("{TOPIC} cannot be read"))),
            };
            for entry in entries {
                writer.next = entry.offset + 1;
                if let Err(reason) = known.take(&entry) {
                    let offset = entry.offset;
                    tracing::error!(offset, reason, "a record of {TOPIC} cannot be read");
                }
            }
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
        (writer.owner, writer.is_read) = (Some(owner), true);
        Ok(())
    }
}

fn unavailable(error: &Error) -> Fault {
    let message = format!("{TOPIC} cannot be used at the moment: {error}");
    Fault::server(
        "ServiceUnavailable",
        StatusCode::SERVICE_UNAVAILABLE,
        message,
    )
}

#[cfg(test)]
mod tests {
    use wharf_message::ledger::memory::MemoryLedger;

    use super::*;

    fn activity(created: i64) -> Activity {
        Activity {
            created,
            tags: BTreeMap::from([("team".to_owned(), "shop".to_owned())]),
        }
    }

    #[tokio::test]
    async fn what_was_changed_is_there_after_a_restart_and_what_was_removed_is_not() {
        let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::default());
        let first = Catalogue::new(Arc::clone(&ledger));
        assert!(first.known().await.unwrap().activities.is_empty());
        for (name, kept) in [
            ("pack", Some(activity(1))),
            ("ship", Some(activity(2))),
            ("pack", None),
        ] {
            let write = Write::Activity(name.to_owned(), kept);
            first.change(|_| Ok((vec![write], ()))).await.unwrap();
        }
        let hash = Hash::of("{}");
        let text = Write::Text(hash, Some("{ }".to_owned()));
        first.change(|_| Ok((vec![text], ()))).await.unwrap();
        let second = Catalogue::new(ledger).known().await.unwrap();
        assert_eq!(
            second.activities,
            BTreeMap::from([("ship".to_owned(), Arc::new(activity(2)))])
        );
        assert_eq!(second.text(&hash), Some("{ }"));
    }

    #[tokio::test]
    async fn a_refused_change_writes_nothing() {
        let catalogue = Catalogue::new(Arc::new(MemoryLedger::default()));
        let refused = catalogue
            .change(|_| Err::<(Vec<Write>, ()), _>(Fault::validation("no")))
            .await;
        assert_eq!(refused.unwrap_err().kind, "ValidationException");
        assert!(catalogue.writer.lock().await.owner.is_none());
    }

    #[test]
    fn weights_say_which_version_is_started() {
        let alias = Alias {
            description: String::new(),
            routes: vec![(1, 90), (2, 10)],
            created: 0,
            updated: 0,
        };
        assert_eq!(alias.route(0), Some(1));
        assert_eq!(alias.route(89), Some(1));
        assert_eq!(alias.route(90), Some(2));
        assert_eq!(alias.route(99), Some(2));
        let one = Alias {
            routes: vec![(1, 0), (2, 100)],
            ..alias
        };
        assert_eq!(one.route(0), Some(2));
    }
}
