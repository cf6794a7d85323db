//! What is on the disk, record by record as it gets there: the one truth that everything else is
//! compared with.
//!
//! It folds what it sees by itself and shows every commit to the checkers. It knows nothing of what
//! the orchestrator has in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use wharf_message::ledger::{Partition, Record};
use wharf_saga::definition::{Definition, Hash};
use wharf_saga::machine::{Fact, Saga, SagaId, What};

use super::checkers::{self, Broken, broken};
use super::clock;

/// The orchestrator's topics, as they are promised.
const SAGAS: &str = "_wharf.sagas";
const ALARMS: &str = "_wharf.saga-alarms";
const AUDIT: &str = "_wharf.audit";

/// A command, as its record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) saga: SagaId,
    pub(super) step: u32,
    pub(super) generation: u32,
    pub(super) key: String,
    pub(super) undo: bool,
    pub(super) name: String,
    pub(super) arguments: Value,
}

impl Sent {
    /// Reads a command as a worker does.
    pub(super) fn read(record: &Record) -> Option<Self> {
        let header = |name: &str| {
            let mut found = record.headers.iter();
            let found = found.find(|(known, _)| known.as_ref() == name.as_bytes())?;
            std::str::from_utf8(found.1.as_deref()?).ok()
        };
        Some(Self {
            saga: SagaId::parse(header("saga-id")?)?,
            step: header("step")?.parse().ok()?,
            generation: header("generation")?.parse().ok()?,
            key: header("idempotency-key")?.to_owned(),
            undo: header("undo") == Some("true"),
            name: header("step-name")?.to_owned(),
            arguments: serde_json::from_slice(record.value.as_deref()?).ok()?,
        })
    }
}

/// A commit that became durable.
#[derive(Debug, Default)]
pub(super) struct Durable {
    /// The latest that any clock said until now.
    pub(super) latest: i64,
    /// The facts of sagas, record by record.
    pub(super) facts: Vec<(SagaId, u64, Vec<Fact>)>,
    pub(super) alarms: Vec<Value>,
    pub(super) audit: Vec<Value>,
    pub(super) commands: Vec<Sent>,
}

/// A saga, as the log has it.
pub(super) struct Seen {
    pub(super) saga: Saga,
    pub(super) seq: u64,
    /// The state as it would be in a snapshot.
    pub(super) bytes: Vec<u8>,
    /// What stands for all states that it ever had.
    pub(super) past: BTreeSet<u64>,
    pub(super) checks: checkers::PerSaga,
    /// Every fact, for the history.
    pub(super) facts: Vec<Fact>,
}

/// Everything that was seen.
#[derive(Default)]
pub(super) struct Watch {
    pub(super) definitions: BTreeMap<Hash, Arc<Definition>>,
    pub(super) sagas: BTreeMap<SagaId, Seen>,
    /// Sagas that were forgotten by right.
    pub(super) forgotten: BTreeSet<SagaId>,
    /// Orders that were recorded, by their reasons.
    pub(super) orders: BTreeSet<String>,
    pub(super) snapshots: u64,
    pub(super) stale: u64,
    pub(super) facts: u64,
    /// What was found first.
    pub(super) broken: Option<Broken>,
    /// What happened, line by line, where it is wanted.
    pub(super) story: Option<Vec<String>>,
    /// Undoes are to be judged as though they had to be in order.
    pub(super) judges_order: bool,
}

impl Watch {
    /// Takes what became durable.
    pub(super) fn committed(&mut self, records: &[(Partition, Record)]) {
        if let Err(found) = self.take(records) {
            self.found(found);
        }
    }

    /// Keeps what was found first.
    pub(super) fn found(&mut self, found: Broken) {
        self.broken.get_or_insert(found);
    }

    /// Adds a line to what happened.
    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(line());
        }
    }

    fn take(&mut self, records: &[(Partition, Record)]) -> Result<(), Broken> {
        let mut commit = Durable {
            latest: clock::wall().1,
            ..Durable::default()
        };
        let mut snapshots = Vec::new();
        for (partition, record) in records {
            let value = record.value.as_deref();
            let json = |value: Option<&[u8]>| {
                let value = value.and_then(|value| serde_json::from_slice(value).ok());
                value.unwrap_or(Value::Null)
            };
            match partition.topic.as_str() {
                SAGAS => {
                    let key = record.key.as_deref().unwrap_or_default();
                    let key = String::from_utf8_lossy(key);
                    match (key.split_once('/'), value) {
                        (Some((id, seq)), Some(value)) => {
                            let read = read_facts(id, seq, value);
                            let Some(read) = read else {
                                return broken(checkers::READABLE, format!("the facts of {key}"));
                            };
                            commit.facts.push(read);
                        }
                        (None, value) => {
                            if let Some(id) = SagaId::parse(&key) {
                                snapshots.push((id, value.map(<[u8]>::to_vec)));
                            }
                        }
                        (Some(_), None) => {}
                    }
                }
                ALARMS => commit.alarms.push(json(value)),
                AUDIT => commit.audit.push(json(value)),
                topic if topic.starts_with('_') => {}
                _ => {
                    let Some(sent) = Sent::read(record) else {
                        return broken(checkers::READABLE, "a command".to_owned());
                    };
                    commit.commands.push(sent);
                }
            }
        }
        self.fold(&commit)?;
        self.snapshots(snapshots)?;
        checkers::commit(self, &commit)
    }

    fn fold(&mut self, commit: &Durable) -> Result<(), Broken> {
        for (id, seq, facts) in &commit.facts {
            self.facts += facts.len() as u64;
            for fact in facts {
                let what = || serde_json::to_string(fact).unwrap_or_default();
                self.tell(|| format!("{id} {}", what()));
            }
            if let Some(Fact {
                what: What::Started { start, .. },
                ..
            }) = facts.first()
            {
                checkers::one_saga_per_key::started(self, *id)?;
                let Some(definition) = self.definitions.get(&start.definition) else {
                    let hash = &start.definition;
                    return broken(checkers::pinned::PROMISE, format!("{id} is of {hash}"));
                };
                let seen = Seen {
                    saga: Saga::default(),
                    seq: 0,
                    bytes: Vec::new(),
                    past: BTreeSet::new(),
                    checks: checkers::PerSaga::new(definition, self.judges_order),
                    facts: Vec::new(),
                };
                self.sagas.insert(*id, seen);
            }
            let Some(seen) = self.sagas.get_mut(id) else {
                return broken(
                    checkers::READABLE,
                    format!("facts of {id}, which never began"),
                );
            };
            if *seq != seen.seq + 1 {
                let (had, found) = (seen.seq, seq);
                return broken(checkers::READABLE, format!("{id}: {found} follows {had}"));
            }
            seen.seq = *seq;
            for fact in facts {
                seen.saga.apply(fact);
                match &fact.what {
                    What::StaleReply { .. } => self.stale += 1,
                    What::Acted(order) => _ = self.orders.insert(order.reason.clone()),
                    _ => {}
                }
            }
            checkers::replay::record(seen, facts)?;
            checkers::facts(seen, facts, commit)?;
            seen.facts.extend(facts.iter().cloned());
        }
        Ok(())
    }

    fn snapshots(&mut self, snapshots: Vec<(SagaId, Option<Vec<u8>>)>) -> Result<(), Broken> {
        for (id, snapshot) in snapshots {
            let Some(snapshot) = snapshot else {
                self.forgotten.insert(id);
                continue;
            };
            self.snapshots += 1;
            let Some(seen) = self.sagas.get(&id) else {
                return broken(checkers::READABLE, format!("a snapshot of {id}"));
            };
            checkers::replay::snapshot(seen, &snapshot)?;
        }
        Ok(())
    }
}

fn read_facts(id: &str, seq: &str, value: &[u8]) -> Option<(SagaId, u64, Vec<Fact>)> {
    let facts = serde_json::from_slice(value).ok()?;
    Some((SagaId::parse(id)?, seq.parse().ok()?, facts))
}
