//! The definitions: deployed by name, kept by the hash of what they say, pinned by their sagas.
//!
//! `_wharf.saga-definitions` holds each definition under its hash, and under `name/<name>` which of
//! them are the versions of a name. One writer, which owns the topic; a change is known to nobody
//! before it is durable. A definition stays for as long as a saga that has not ended is pinned to it.
//! Beside them is the key of the tasks' tokens, because every node that runs sagas reads this topic.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::timeout;
use wharf_message::ledger::{Commit, Entry, Error, Ledger, Owner, Partition, Record};
use wharf_message::{Code, TopicName};
use wharf_saga::definition::{Definition, Hash, NotAHash};

use super::refusal::Refused;
use super::store::record;
use super::tokens::{self, Tokens};
use crate::clock;

/// The topic of all definitions.
pub(super) const DEFINITIONS: &str = "_wharf.saga-definitions";
/// What is written at every start, to learn where the topic ends.
const MARK: &str = "start";
/// How many names there may be: all definitions are in memory.
const NAMES_MAX: usize = 10_000;
/// How many versions of one name are kept, and how many other names they may have.
const VERSIONS_MAX: usize = 1_000;
const ALIASES_MAX: usize = 100;
/// How many characters a name may have.
const NAME_CHARS_MAX: usize = 80;
/// How many records are read at once.
const READ_MAX: usize = 1_000;
/// How long a read of what is there may take.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A name, with its versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The versions, oldest first.
    pub versions: Vec<Version>,
    /// The version that is started when nobody says which.
    pub current: u32,
    /// Other names of versions.
    #[serde(default)]
    pub aliases: BTreeMap<String, u32>,
}

/// A version of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its number, from 1.
    pub version: u32,
    /// The hash of what it says.
    pub hash: Hash,
    /// When it was deployed, in RFC 3339.
    pub deployed: String,
    /// Who deployed it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

impl Named {
    /// The version that a text means: a number, an alias, or the current one.
    pub fn version(&self, wanted: Option<&str>) -> Option<&Version> {
        let number = match wanted {
            None => self.current,
            Some(text) => match text.parse() {
                Ok(number) => number,
                Err(_no_number) => *self.aliases.get(text)?,
            },
        };
        self.versions.iter().find(|known| known.version == number)
    }
}

#[derive(Debug, Default)]
struct Known {
    names: BTreeMap<String, Named>,
    by_hash: HashMap<Hash, Arc<Definition>>,
    tokens: Option<Arc<Tokens>>,
}

/// The right to write, and how far the topic was read.
#[derive(Debug, Default)]
struct Writer {
    owner: Option<Owner>,
    next: i64,
}

/// All definitions.
pub(super) struct Definitions {
    ledger: Arc<dyn Ledger>,
    place: Partition,
    known: RwLock<Known>,
    writer: Mutex<Writer>,
}

impl Definitions {
    pub(super) fn new(ledger: Arc<dyn Ledger>) -> Self {
        let topic = TopicName::new(DEFINITIONS).expect("the name is a valid one");
        Self {
            ledger,
            place: Partition { topic, index: 0 },
            known: RwLock::default(),
            writer: Mutex::default(),
        }
    }

    pub(super) fn topic(&self) -> &TopicName {
        &self.place.topic
    }

    /// Owns the topic, which is there, and reads what is new in it.
    pub(super) async fn load(&self) -> Result<(), Refused> {
        let mut writer = self.writer.lock().await;
        self.load_as(&mut writer).await
    }

    async fn load_as(&self, writer: &mut Writer) -> Result<(), Refused> {
        writer.owner = None;
        let refused = |error: Error| Refused::from(&error);
        let owner = self.ledger.own(self.place.clone()).await.map_err(refused)?;
        let mark = record(MARK.to_owned(), None, clock::now());
        let offsets = self.commit(&owner, vec![mark]).await.map_err(refused)?;
        let end = offsets.first().copied().unwrap_or(0);
        while writer.next <= end {
            let read = self
                .ledger
                .follow(self.place.clone(), writer.next, READ_MAX);
            let read = timeout(READ_TIMEOUT, read).await;
            let entries = match read {
                Ok(Ok(entries)) => entries,
                Ok(Err(Error::OutOfRange { start, .. })) if start > writer.next => {
                    writer.next = start;
                    continue;
                }
                Ok(Err(error)) => return Err(refused(error)),
                Err(_late) => return Err(Refused::unavailable("its definitions cannot be read")),
            };
            for entry in entries {
                writer.next = entry.offset + 1;
                if let Err(reason) = self.take(&entry) {
                    let offset = entry.offset;
                    tracing::error!(offset, reason, "a record of {DEFINITIONS} cannot be read");
                }
            }
        }
        if self.tokens().is_none() {
            let made = tokens::made(clock::now());
            let offsets = self.commit(&owner, vec![made.clone()]).await;
            let offsets = offsets.map_err(refused)?;
            writer.next = offsets.last().map_or(writer.next, |last| last + 1);
            self.take_tokens(made.value.as_deref())
                .map_err(Refused::unavailable)?;
        }
        writer.owner = Some(owner);
        Ok(())
    }

    /// The key of the tasks' tokens; there once the topic was read.
    pub(super) fn tokens(&self) -> Option<Arc<Tokens>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.tokens.clone()
    }

    fn take_tokens(&self, value: Option<&[u8]>) -> Result<(), String> {
        let read = value.map(Tokens::read).transpose()?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.tokens = read.map(Arc::new);
        Ok(())
    }

    /// Applies a record.
    fn take(&self, entry: &Entry) -> Result<(), String> {
        let key = entry.record.key.as_deref().unwrap_or_default();
        let key = std::str::from_utf8(key).map_err(|_binary| "its key is no text".to_owned())?;
        let value = entry.record.value.as_deref();
        match key {
            MARK => return Ok(()),
            tokens::KEY => return self.take_tokens(value),
            _ => {}
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match (key.strip_prefix("name/"), value) {
            (Some(name), None) => _ = known.names.remove(name),
            (Some(name), Some(value)) => {
                let named = serde_json::from_slice(value).map_err(|error| error.to_string())?;
                known.names.insert(name.to_owned(), named);
            }
            (None, None) => _ = known.by_hash.remove(&hash(key)?),
            (None, Some(value)) => {
                let text = std::str::from_utf8(value).map_err(|error| error.to_string())?;
                let accepted = Definition::read(text).map_err(|found| found.to_string())?;
                let definition = accepted.definition;
                known.by_hash.insert(hash(key)?, Arc::new(definition));
            }
        }
        Ok(())
    }

    async fn commit(&self, owner: &Owner, records: Vec<Record>) -> Result<Vec<i64>, Error> {
        let records = records.into_iter();
        let commit = Commit {
            records: records.map(|record| (self.place.clone(), record)).collect(),
            ..Commit::default()
        };
        Ok(self.ledger.commit(owner, commit).await?.offsets)
    }

    /// Changes one name: `change` says what it becomes (nothing: it is removed) and which definition
    /// is new.
    async fn change<T>(
        &self,
        name: &str,
        change: impl FnOnce(Option<Named>) -> Result<Change<T>, Refused> + Send,
    ) -> Result<T, Refused> {
        let mut writer = self.writer.lock().await;
        if writer.owner.is_none() {
            self.load_as(&mut writer).await?;
        }
        let Change {
            named,
            definition,
            gone,
            answer,
        } = change(self.named(name))?;
        let now = clock::now();
        let mut records = Vec::new();
        if let Some(definition) = &definition {
            let (hash, text) = (definition.hash.to_string(), definition.canonical.clone());
            records.push(record(hash, Some(text.into_bytes()), now));
        }
        let value = named
            .as_ref()
            .map(|named| json!(named).to_string().into_bytes());
        records.push(record(format!("name/{name}"), value, now));
        let gone_records = gone.iter().map(|hash| record(hash.to_string(), None, now));
        records.extend(gone_records);
        let Some(owner) = writer.owner.clone() else {
            return Err(elsewhere());
        };
        let offsets = match self.commit(&owner, records).await {
            Ok(offsets) => offsets,
            Err(error) => {
                writer.owner = None;
                return Err(Refused::from(&error));
            }
        };
        // Nobody else writes while it is owned here.
        writer.next = offsets.last().map_or(writer.next, |last| last + 1);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(definition) = definition {
            let hash = definition.hash;
            known.by_hash.insert(hash, definition);
        }
        for hash in gone {
            known.by_hash.remove(&hash);
        }
        match named {
            Some(named) => _ = known.names.insert(name.to_owned(), named),
            None => _ = known.names.remove(name),
        }
        Ok(answer)
    }

    /// Deploys a definition under a name. What the current version says already changes nothing.
    pub(super) async fn deploy(
        &self,
        name: &str,
        definition: Definition,
        by: &str,
    ) -> Result<(Version, bool), Refused> {
        check_name(name)?;
        let hash = definition.hash;
        if let Some(named) = self.named(name)
            && let Some(current) = named.version(None)
            && current.hash == hash
        {
            return Ok((current.clone(), false));
        }
        let definition = Arc::new(definition);
        let version = self.change(name, |named| {
            if named.is_none() && self.names_len() >= NAMES_MAX {
                let message = format!(
                    "{NAMES_MAX} names are deployed, and no more are kept; remove one first"
                );
                return Err(Refused::new(Code::SAGA_DEFINITION_INVALID, message));
            }
            let mut named = named.unwrap_or_default();
            if named.versions.len() >= VERSIONS_MAX {
                let message = format!("{name} has {VERSIONS_MAX} versions, and no more are kept");
                return Err(Refused::new(Code::SAGA_DEFINITION_INVALID, message));
            }
            let last = named.versions.last().map_or(0, |last| last.version);
            let version = Version {
                version: last + 1,
                hash,
                deployed: clock::now().to_rfc3339(),
                by: by.to_owned(),
            };
            named.current = version.version;
            named.versions.push(version.clone());
            Ok(Change {
                named: Some(named),
                definition: Some(definition),
                gone: Vec::new(),
                answer: version,
            })
        });
        Ok((version.await?, true))
    }

    /// Gives versions of a name other names; an alias that is not there is made, and `None` removes.
    pub(super) async fn alias(
        &self,
        name: &str,
        alias: &str,
        version: Option<u32>,
    ) -> Result<Named, Refused> {
        check_name(alias)?;
        if alias.parse::<u32>().is_ok() {
            let message = format!("the alias {alias} would be taken for a version");
            return Err(Refused::new(Code::SAGA_REQUEST_INVALID, message));
        }
        let changed = self.change(name, |named| {
            let mut named = named.ok_or_else(|| unknown(name))?;
            match version {
                Some(version) if named.version(Some(&version.to_string())).is_none() => {
                    let message = format!("{name} has no version {version}");
                    return Err(Refused::new(Code::SAGA_DEFINITION_UNKNOWN, message));
                }
                Some(_)
                    if named.aliases.len() >= ALIASES_MAX && !named.aliases.contains_key(alias) =>
                {
                    let message = format!(
                        "{name} has {ALIASES_MAX} aliases, and no more are kept; remove one first"
                    );
                    return Err(Refused::new(Code::SAGA_REQUEST_INVALID, message));
                }
                Some(version) => _ = named.aliases.insert(alias.to_owned(), version),
                None => _ = named.aliases.remove(alias),
            }
            Ok(Change {
                named: Some(named.clone()),
                definition: None,
                gone: Vec::new(),
                answer: named,
            })
        });
        changed.await
    }

    /// Removes a name with its versions, unless `in_use` knows a saga that needs one of them.
    pub(super) async fn remove(
        &self,
        name: &str,
        in_use: impl FnOnce(&[Hash]) -> usize + Send,
    ) -> Result<Named, Refused> {
        let removed = self.change(name, |named| {
            let named = named.ok_or_else(|| unknown(name))?;
            let hashes: Vec<_> = named.versions.iter().map(|known| known.hash).collect();
            let running = in_use(&hashes);
            if running > 0 {
                let message = format!(
                    "{running} sagas of {name} have not ended and need their definition; wait for \
                     them, or abort them, and remove it then"
                );
                return Err(Refused::new(Code::SAGA_DEFINITION_IN_USE, message));
            }
            let elsewhere = |hash: &Hash| {
                let mut others = self.names().into_iter().filter(|(other, _)| other != name);
                others.any(|(_, other)| other.versions.iter().any(|known| known.hash == *hash))
            };
            let gone = hashes.into_iter().filter(|hash| !elsewhere(hash)).collect();
            Ok(Change {
                named: None,
                definition: None,
                gone,
                answer: named,
            })
        });
        removed.await
    }

    /// Keeps a definition that has no name any more, for the sagas that are pinned to it.
    pub(super) async fn keep(&self, definition: Arc<Definition>) -> Result<(), Refused> {
        let mut writer = self.writer.lock().await;
        if writer.owner.is_none() {
            self.load_as(&mut writer).await?;
        }
        let Some(owner) = writer.owner.clone() else {
            return Err(elsewhere());
        };
        let (hash, text) = (definition.hash, definition.canonical.clone());
        let kept = record(hash.to_string(), Some(text.into_bytes()), clock::now());
        match self.commit(&owner, vec![kept]).await {
            Ok(offsets) => writer.next = offsets.last().map_or(writer.next, |last| last + 1),
            Err(error) => {
                writer.owner = None;
                return Err(Refused::from(&error));
            }
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.by_hash.insert(hash, definition);
        Ok(())
    }

    pub(super) fn named(&self, name: &str) -> Option<Named> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.names.get(name).cloned()
    }

    fn names_len(&self) -> usize {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.names.len()
    }

    pub(super) fn names(&self) -> Vec<(String, Named)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let names = known.names.iter();
        names
            .map(|(name, named)| (name.clone(), named.clone()))
            .collect()
    }

    pub(super) fn by_hash(&self, hash: &Hash) -> Option<Arc<Definition>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.by_hash.get(hash).cloned()
    }

    /// The definition that a type and a version mean.
    pub(super) fn find(
        &self,
        name: &str,
        version: Option<&str>,
    ) -> Result<(Version, Arc<Definition>), Refused> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let named = known.names.get(name).ok_or_else(|| unknown(name))?;
        let found = named.version(version).and_then(|version| {
            let definition = known.by_hash.get(&version.hash)?;
            Some((version.clone(), Arc::clone(definition)))
        });
        found.ok_or_else(|| {
            let version = version.unwrap_or("current");
            let message = format!("{name} has no version or alias {version}");
            Refused::new(Code::SAGA_DEFINITION_UNKNOWN, message)
        })
    }
}

fn hash(key: &str) -> Result<Hash, String> {
    key.parse().map_err(|error: NotAHash| error.to_string())
}

struct Change<T> {
    named: Option<Named>,
    definition: Option<Arc<Definition>>,
    /// Hashes that nobody needs any more.
    gone: Vec<Hash>,
    answer: T,
}

fn elsewhere() -> Refused {
    Refused::unavailable("its definitions are owned by another node")
}

fn unknown(name: &str) -> Refused {
    let message = format!("no definition {name:?} is deployed; deploy it first");
    Refused::new(Code::SAGA_DEFINITION_UNKNOWN, message)
}

/// Names become parts of addresses, headers and metrics.
fn check_name(name: &str) -> Result<(), Refused> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_plain = (1..=NAME_CHARS_MAX).contains(&name.len()) && name.chars().all(allowed);
    // Clients leave the parts `.` and `..` out of addresses.
    if is_plain && name.chars().any(|c| c != '.') {
        return Ok(());
    }
    let message = format!(
        "{name:?} is no name: 1 to {NAME_CHARS_MAX} of the letters a-z and A-Z, digits, `-`, `_` and `.`, \
         not dots alone"
    );
    Err(Refused::new(Code::SAGA_DEFINITION_INVALID, message))
}

#[cfg(test)]
mod tests {
    use wharf_message::Timestamp;

    use super::*;

    #[test]
    fn a_name_can_stand_in_an_address() {
        for name in ["checkout", "a.b-C_9", "...x"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", ".", "..", "a/b", "Köln", &"x".repeat(81)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_version_is_meant_by_number_by_alias_or_by_nothing() {
        let version = |version| Version {
            version,
            hash: Hash([0; 32]),
            deployed: Timestamp::ZERO.to_rfc3339(),
            by: String::new(),
        };
        let named = Named {
            versions: vec![version(1), version(2)],
            current: 2,
            aliases: BTreeMap::from([("stable".to_owned(), 1)]),
        };
        for (wanted, found) in [
            (None, Some(2)),
            (Some("1"), Some(1)),
            (Some("stable"), Some(1)),
            (Some("3"), None),
            (Some("beta"), None),
        ] {
            let version = named.version(wanted).map(|version| version.version);
            assert_eq!(version, found, "{wanted:?}");
        }
    }
}
