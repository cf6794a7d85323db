//! `_wharf.choreography-verdicts`: what instances have come to; compacted, by contract and instance.
//!
//! What was told before a restart is not told again: the topic says what it was.

use std::collections::{HashMap, VecDeque};

use wharf_broker::{Broker, EmbeddedLedger};
use wharf_message::ledger::Error;
use wharf_saga::choreography::verdict::{Change, Kind};

use super::contracts::Kept;
use crate::webhook::Webhook;

/// The topic of verdicts.
pub(super) const VERDICTS: &str = "_wharf.choreography-verdicts";
/// How many changes one commit holds.
const COMMIT_MAX: usize = 500;
/// A commit is full with the change that makes it so large.
const COMMIT_BYTES_MAX: usize = 256 << 10;
/// How many changes may wait; beyond that nothing is read until they are written.
const WAITING_MAX: usize = 20_000;

/// A change to be written: its key, and nothing for one that is forgotten.
type Waiting = (String, Option<Box<Change>>);

/// Writes changes of verdicts, and tells of the bad ones.
#[derive(Debug)]
pub(super) struct Verdicts {
    kept: Kept,
    webhook: Option<Webhook>,
    /// What the topic says last, by key, in short.
    told: HashMap<String, u64>,
    waiting: VecDeque<Waiting>,
}

impl Verdicts {
    pub(super) fn new(ledger: EmbeddedLedger, webhook: Option<Webhook>) -> Self {
        Self {
            kept: Kept::new(ledger, VERDICTS),
            webhook,
            told: HashMap::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Reads what was told before.
    pub(super) async fn load(&mut self, broker: &Broker) -> Result<(), String> {
        let mut told = HashMap::new();
        let take = |key: &str, value: Option<&[u8]>| {
            let change = value.and_then(|value| serde_json::from_slice::<Change>(value).ok());
            match change {
                Some(change) => told.insert(key.to_owned(), short(&change)),
                None => told.remove(key),
            };
        };
        self.kept.read(broker, take).await?;
        self.told = told;
        Ok(())
    }

    /// Whether so much waits that nothing more should come.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    pub(super) fn take(&mut self, change: Change) {
        let key = key(&change.choreography, &change.instance);
        let short = short(&change);
        if self.told.get(&key) == Some(&short) {
            return;
        }
        if change.verdict.verdict == Kind::Running && !self.told.contains_key(&key) {
            return;
        }
        self.told.insert(key.clone(), short);
        self.waiting.push_back((key, Some(Box::new(change))));
    }

    /// An instance that is remembered no more.
    pub(super) fn forget(&mut self, choreography: &str, instance: &str) {
        let key = key(choreography, instance);
        if self.told.remove(&key).is_some() {
            self.waiting.push_back((key, None));
        }
    }

    /// All instances of a contract but some.
    pub(super) fn forget_but(&mut self, choreography: &str, is_kept: impl Fn(&str) -> bool) {
        let prefix = key(choreography, "");
        let is_gone = |key: &&String| {
            key.strip_prefix(&prefix)
                .is_some_and(|instance| !is_kept(instance))
        };
        let gone: Vec<String> = self.told.keys().filter(is_gone).cloned().collect();
        for key in gone {
            self.told.remove(&key);
            self.waiting.push_back((key, None));
        }
    }

    /// Writes what waits, and tells of it once it is written.
    pub(super) async fn write(&mut self) -> Result<(), Error> {
        while !self.waiting.is_empty() {
            let records = self.commit();
            let count = records.len();
            self.kept.write(records).await?;
            for (_, change) in self.waiting.drain(..count) {
                let bad = change.filter(|change| change.verdict.verdict.is_bad());
                let document = bad.and_then(|change| serde_json::to_vec(&change).ok());
                if let (Some(webhook), Some(document)) = (&self.webhook, document) {
                    webhook.tell(document);
                }
            }
        }
        Ok(())
    }

    /// The first of what waits, as much as goes into one commit.
    fn commit(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        for (key, change) in self.waiting.iter().take(COMMIT_MAX) {
            let value = change.as_ref();
            let value = value.and_then(|change| serde_json::to_vec(change).ok());
            bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            records.push((key.clone(), value));
            if bytes >= COMMIT_BYTES_MAX {
                break;
            }
        }
        records
    }
}

fn key(choreography: &str, instance: &str) -> String {
    format!("{choreography}/{instance}")
}

/// What is told of a change, in short: not when, and not what it was before.
fn short(change: &Change) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    let text = serde_json::to_string(&change.verdict).unwrap_or_default();
    text.hash(&mut hasher);
    hasher.finish()
}
