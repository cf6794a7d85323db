//! Sagas as records: keys, values, and the fold that makes sagas of them again.
//!
//! `<id>/<seq>` holds the facts of one commit, `<id>` the snapshot of all up to one of them. Facts
//! are only ever folded, never decided again; where the oldest of a long history are gone, the
//! snapshot stands for them. What cannot be read leaves its saga out and is told, and never makes up
//! a state.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wharf_message::Timestamp;
use wharf_message::ledger::{Entry, Record};
use wharf_saga::machine::{Fact, Saga, SagaId};

/// The topic of all sagas.
pub(super) const SAGAS: &str = "_wharf.sagas";
/// What is written at every start, to learn where a partition ends.
pub(super) const MARK: &[u8] = b"start";
/// A snapshot is written after this many records of facts.
pub(super) const SNAPSHOT_EVERY: u32 = 64;
/// So many records of facts of one saga are kept; beyond them the oldest go, in steps of the above.
pub(super) const HISTORY_MAX: usize = 10_000;

/// A snapshot as it is written.
#[derive(Serialize)]
struct SnapshotOut<'a> {
    seq: u64,
    state: &'a Saga,
}

/// A snapshot as it is read.
#[derive(Deserialize)]
struct SnapshotIn {
    seq: u64,
    state: Saga,
}

/// A saga and where its records are.
#[derive(Clone, Debug, Default)]
pub(super) struct Stored {
    pub(super) saga: Saga,
    pub(super) records: Records,
}

/// Where the records of a saga are.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    /// The number of the last record of facts.
    pub(super) seq: u64,
    /// Number and offset of the records of facts that are kept and durable.
    pub(super) offsets: VecDeque<(u64, i64)>,
    /// Records of facts since the last snapshot.
    pub(super) since_snapshot: u32,
}

/// What a partition holds, record by record.
#[derive(Debug, Default)]
pub(super) struct Fold {
    sagas: HashMap<SagaId, Folding>,
    /// Records that could not be read.
    pub(super) unreadable: usize,
}

#[derive(Debug, Default)]
struct Folding {
    stored: Stored,
    /// The highest number that was seen.
    seen: u64,
}

impl Fold {
    /// Takes the next record of the partition.
    pub(super) fn take(&mut self, entry: &Entry) -> Result<(), String> {
        let Some(key) = entry.record.key.as_deref() else {
            return Err("it has no key".to_owned());
        };
        if key == MARK {
            return Ok(());
        }
        let key = std::str::from_utf8(key).map_err(|_binary| "its key is no text".to_owned())?;
        let (id, seq) = match key.split_once('/') {
            Some((id, seq)) => (id, Some(seq)),
            None => (key, None),
        };
        let id = SagaId::parse(id).ok_or_else(|| format!("its key {key:?} names no saga"))?;
        let Some(seq) = seq else {
            return self.snapshot(id, entry.record.value.as_deref());
        };
        let seq: u64 = seq
            .parse()
            .map_err(|_other| format!("its key {key:?} has no number"))?;
        let Some(value) = entry.record.value.as_deref() else {
            // Forgotten one by one; the snapshot's tombstone forgets the whole.
            return Ok(());
        };
        let folding = self.sagas.entry(id).or_default();
        folding.seen = folding.seen.max(seq);
        folding
            .stored
            .records
            .offsets
            .push_back((seq, entry.offset));
        if seq == folding.stored.records.seq + 1 {
            let facts: Vec<Fact> =
                serde_json::from_slice(value).map_err(|error| error.to_string())?;
            for fact in &facts {
                folding.stored.saga.apply(fact);
            }
            folding.stored.records.seq = seq;
            folding.stored.records.since_snapshot += 1;
        }
        Ok(())
    }

    fn snapshot(&mut self, id: SagaId, value: Option<&[u8]>) -> Result<(), String> {
        let Some(value) = value else {
            self.sagas.remove(&id);
            return Ok(());
        };
        let folding = self.sagas.entry(id).or_default();
        let snapshot: SnapshotIn =
            serde_json::from_slice(value).map_err(|error| error.to_string())?;
        folding.seen = folding.seen.max(snapshot.seq);
        if snapshot.seq > folding.stored.records.seq {
            folding.stored.saga = snapshot.state;
            folding.stored.records.seq = snapshot.seq;
        }
        folding.stored.records.since_snapshot = 0;
        Ok(())
    }

    /// The sagas that are whole, and the ids of those of which records are missing.
    pub(super) fn finish(self) -> (HashMap<SagaId, Stored>, Vec<SagaId>) {
        let (mut whole, mut broken) = (HashMap::new(), Vec::new());
        for (id, folding) in self.sagas {
            if folding.stored.records.seq < folding.seen || folding.stored.saga.id() != Some(id) {
                broken.push(id);
            } else {
                whole.insert(id, folding.stored);
            }
        }
        (whole, broken)
    }
}

/// The record of the facts of one commit.
pub(super) fn facts(
    id: SagaId,
    seq: u64,
    facts: &[Fact],
    now: Timestamp,
) -> Result<Record, String> {
    let value = serde_json::to_vec(facts).map_err(|error| error.to_string())?;
    Ok(record(format!("{id}/{seq}"), Some(value), now))
}

/// The snapshot of a saga.
pub(super) fn snapshot(
    id: SagaId,
    seq: u64,
    saga: &Saga,
    now: Timestamp,
) -> Result<Record, String> {
    let snapshot = SnapshotOut { seq, state: saga };
    let value = serde_json::to_vec(&snapshot).map_err(|error| error.to_string())?;
    Ok(record(id.to_string(), Some(value), now))
}

/// What forgets a saga: every record of it.
pub(super) fn tombstones(id: SagaId, records: &Records, now: Timestamp) -> Vec<Record> {
    let first = records.offsets.front().map_or(1, |(seq, _)| *seq);
    let mut gone: Vec<_> = (first..=records.seq)
        .map(|seq| record(format!("{id}/{seq}"), None, now))
        .collect();
    gone.push(record(id.to_string(), None, now));
    gone
}

/// What forgets the oldest facts of a long history, for which a snapshot stands.
pub(super) fn shorten(id: SagaId, records: &mut Records, now: Timestamp) -> Vec<Record> {
    let mut gone = Vec::new();
    while records.offsets.len() > HISTORY_MAX
        && let Some((seq, _)) = records.offsets.pop_front()
    {
        gone.push(record(format!("{id}/{seq}"), None, now));
    }
    gone
}

pub(super) fn record(key: String, value: Option<Vec<u8>>, now: Timestamp) -> Record {
    Record {
        timestamp: now,
        key: Some(Bytes::from(key)),
        value: value.map(Bytes::from),
        headers: Vec::new(),
    }
}
