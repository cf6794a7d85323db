//! What was promised: every acknowledgement and every observation, written down as it arrives.
//!
//! An operation is noted as attempted before it is sent and as acknowledged after its answer. What
//! was attempted but never answered may or may not have happened; everything else must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::transactions::{Ending, Transaction, Transactions};

/// A partition: the topic's name and the number.
pub(crate) type Place = (&'static str, i32);

/// A message: who sent it and its number among that sender's messages to this partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    pub(crate) producer: usize,
    pub(crate) sequence: u64,
}

/// A setting whose values only grow: the last one that was acknowledged, and the last attempted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Growing {
    pub(crate) acknowledged: Option<i64>,
    pub(crate) attempted: i64,
}

impl Growing {
    /// It is about to be set to this.
    pub(crate) fn attempt(&mut self, value: i64) {
        self.attempted = self.attempted.max(value);
    }

    /// The broker said that it is at least this.
    pub(crate) fn acknowledge(&mut self, value: i64) {
        self.acknowledged = self.acknowledged.max(Some(value));
    }
}

/// A topic that the administrator made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TopicFacts {
    /// Its retention time, which the administrator only ever raises.
    pub(crate) retention: Growing,
    pub(crate) delete_attempted: bool,
    pub(crate) delete_acknowledged: bool,
}

/// Everything that is known of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct PlaceFacts {
    /// Acknowledged messages by the offset that the broker gave them.
    pub(crate) acknowledged: BTreeMap<i64, Stamp>,
    /// Messages that a consumer has seen, by offset.
    pub(crate) seen: BTreeMap<i64, Stamp>,
    /// How many messages each producer attempted.
    pub(crate) attempted: BTreeMap<usize, u64>,
}

/// What is small enough to be compared after every restart.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// Committed offsets, by group and partition.
    pub(crate) committed: BTreeMap<(&'static str, Place), Growing>,
    pub(crate) topics: BTreeMap<String, TopicFacts>,
    /// What went wrong at once, such as an offset that was given twice.
    pub(crate) violations: Vec<String>,
}

impl State {
    /// What must hold of a state that was read between `self` and `later`: everything acknowledged
    /// before, and nothing that was not attempted after.
    pub(crate) fn until(mut self, later: Self) -> Self {
        for (key, value) in later.committed {
            self.committed.entry(key).or_default().attempted = value.attempted;
        }
        for (name, value) in later.topics {
            let topic = self.topics.entry(name).or_default();
            topic.retention.attempted = value.retention.attempted;
            topic.delete_attempted = value.delete_attempted;
        }
        self.violations = later.violations;
        self
    }
}

/// The whole history.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) places: BTreeMap<Place, PlaceFacts>,
    /// Producers that number their messages for the broker (idempotent).
    pub(crate) idempotent: BTreeSet<usize>,
    pub(crate) state: State,
    pub(crate) transactions: Transactions,
    /// What a reader of committed records has seen.
    pub(crate) seen_committed: BTreeSet<(Place, i64, Stamp)>,
}

impl Facts {
    /// The next message of `producer` to `place`, which counts as attempted from now on.
    pub(crate) fn attempt(&mut self, place: Place, producer: usize) -> Stamp {
        let attempted = self.places.entry(place).or_default();
        let count = attempted.attempted.entry(producer).or_default();
        *count += 1;
        Stamp {
            producer,
            sequence: *count - 1,
        }
    }

    /// The broker acknowledged `stamp` at `offset`.
    pub(crate) fn acknowledge(&mut self, place: Place, offset: i64, stamp: Stamp) {
        let facts = self.places.entry(place).or_default();
        if let Some(other) = facts.acknowledged.insert(offset, stamp) {
            let line = format!("{place:?} offset {offset} was given to {other:?} and to {stamp:?}");
            self.state.violations.push(line);
        }
    }

    /// The offset of a group.
    pub(crate) fn committed(&mut self, group: &'static str, place: Place) -> &mut Growing {
        self.state.committed.entry((group, place)).or_default()
    }

    /// A consumer was served something at `offset` that nobody sent.
    pub(crate) fn see_damaged(&mut self, place: Place, offset: i64) {
        let line = format!("{place:?} offset {offset}: damaged");
        self.state.violations.push(line);
    }

    /// A consumer saw `stamp` at `offset`.
    pub(crate) fn see(&mut self, place: Place, offset: i64, stamp: Stamp) {
        let facts = self.places.entry(place).or_default();
        match facts.seen.insert(offset, stamp) {
            Some(before) if before != stamp => self.state.violations.push(format!(
                "{place:?} offset {offset} showed {before:?} and later {stamp:?}"
            )),
            Some(_) | None => {}
        }
    }

    /// A reader of committed records saw `stamp` at `offset`.
    pub(crate) fn see_committed(&mut self, place: Place, offset: i64, stamp: Stamp) {
        self.see(place, offset, stamp);
        self.seen_committed.insert((place, offset, stamp));
    }

    /// How many transactions were committed.
    pub(crate) fn transactions_committed(&self) -> usize {
        let committed = |one: &&Transaction| one.ending == Ending::Committed;
        self.transactions.values().filter(committed).count()
    }

    /// The state as it is; its violations are told this once.
    pub(crate) fn state_once(&mut self) -> State {
        let state = self.state.clone();
        self.state.violations.clear();
        state
    }

    /// How many messages were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.places
            .values()
            .map(|facts| facts.acknowledged.len())
            .sum()
    }
}

/// The history, shared between the clients.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<Facts>);

impl History {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
