//! Promise: compaction keeps the newest value of every key, at its offset, byte for byte, and takes
//! away nothing but what is superseded, aborted, or a tombstone or marker whose time is over; whatever
//! interrupts it.
//!
//! Invariant: what was appended is remembered here from the answers alone, never from what a
//! compaction left. What is gone by right is put back into the view, as it was, so that the other
//! checkers ask as much of a compacted partition as of any other.

mod judge;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use wharf_log::batch::{self, HEADER_BYTES, Marker, Record};
use wharf_log::{Compaction, PartitionId};
use wharf_message::Timestamp;

use super::{Broken, Evidence, broken};
use crate::model::{Batch, Model};
use crate::view::{PartitionView, Stored, View};
pub use judge::Judge;

const PROMISE: &str = "compaction keeps the newest value of every key";

/// Where the time of the newest record is in a batch, and the bit that says it is all records' time.
const MAX_TIMESTAMP_AT: usize = 35;
const LOG_APPEND_TIME: u8 = 0x08;

/// What was written to the partitions that are compacted.
#[derive(Clone, Debug, Default)]
pub struct Written {
    histories: BTreeMap<PartitionId, History>,
}

/// What was written to one partition.
#[derive(Clone, Debug)]
struct History {
    settings: Compaction,
    /// By base offset; nothing goes but what is known to be deleted or lost for good.
    batches: BTreeMap<i64, Original>,
    /// What is at or beyond came after the last background work.
    reached: i64,
}

/// A batch as it was before any compaction.
#[derive(Clone, Debug)]
struct Original {
    stored: Stored,
    marker: Option<Marker>,
    /// Its records with their offsets and times.
    records: Vec<Record>,
    /// The earliest time at which background work found it.
    first_seen: Option<Timestamp>,
}

impl History {
    fn end(&self) -> i64 {
        let last = self.batches.last_key_value();
        last.map_or(0, |(_, one)| one.stored.header.last_offset() + 1)
    }
}

impl Original {
    fn new(batch: &Batch) -> Self {
        let stored = as_stored(batch);
        let body = stored.bytes.slice(HEADER_BYTES..);
        let records = batch::records(&stored.header, &body);
        Self {
            marker: batch.marker,
            records: records.expect("the workload builds valid batches"),
            first_seen: None,
            stored,
        }
    }
}

/// An appended batch as the log has it before any compaction.
fn as_stored(batch: &Batch) -> Stored {
    let mut bytes = match batch.marker {
        Some(marker) => marker.build(batch.max_time).to_vec(),
        None => batch.bytes.to_vec(),
    };
    bytes[..8].copy_from_slice(&batch.base.to_be_bytes());
    bytes[12..16].copy_from_slice(&0_i32.to_be_bytes());
    if let Some(time) = batch.append_time {
        bytes[22] |= LOG_APPEND_TIME;
        let newest = time.as_millis().to_be_bytes();
        bytes[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&newest);
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    let header = batch::header(&bytes).expect("the workload builds valid batches");
    Stored {
        header,
        bytes: bytes.into(),
    }
}

impl Written {
    /// A partition is made that is compacted by these settings.
    pub fn compacts(&mut self, id: PartitionId, settings: Compaction) {
        self.histories.entry(id).or_insert_with(|| History {
            settings,
            batches: BTreeMap::new(),
            reached: 0,
        });
    }

    /// Whether a partition is compacted.
    pub fn is_compacted(&self, id: PartitionId) -> bool {
        self.histories.contains_key(&id)
    }

    /// Takes in what was acknowledged since the last time.
    pub fn learn(&mut self, model: &Model) {
        for (id, history) in &mut self.histories {
            let Some(partition) = model.partitions.get(id) else {
                continue;
            };
            let end = history.end();
            let new = partition.batches.iter().rev();
            for batch in new.take_while(|batch| batch.base >= end) {
                history.batches.insert(batch.base, Original::new(batch));
            }
        }
    }

    /// Background work begins at `now`.
    pub fn worked(&mut self, now: Timestamp) {
        for history in self.histories.values_mut() {
            history.reached = history.end();
            for original in history.batches.values_mut() {
                let first = original.first_seen.get_or_insert(now);
                *first = now.min(*first);
            }
        }
    }

    /// The node was started again, and `model` is what is there.
    pub fn restarted(&mut self, model: &Model) {
        for (id, history) in &mut self.histories {
            let (start, end) = model
                .partitions
                .get(id)
                .map_or((0, 0), |found| (found.start, found.end));
            history.batches.retain(|base, original| {
                *base < end && original.stored.header.last_offset() >= start
            });
            history.reached = history.reached.min(end);
        }
        self.learn(model);
    }

    /// Who says what may be gone at `now` from a partition that begins at `start`, by what was written
    /// below `end`; `None` for one that is not compacted.
    pub fn judge(
        &self,
        id: PartitionId,
        start: i64,
        end: i64,
        now: Timestamp,
    ) -> Option<Judge<'_>> {
        let history = self.histories.get(&id)?;
        Some(Judge::new(history, start, end, now))
    }
}

/// Checks every compacted partition; returns the view with everything put back that may be gone.
pub(super) fn check<'v>(evidence: &Evidence<'_>, view: &'v View) -> Result<Cow<'v, View>, Broken> {
    let mut whole = Cow::Borrowed(view);
    for (id, shown) in &view.partitions {
        let bounds = shown.bounds;
        let judge = evidence
            .written
            .judge(*id, bounds.start, bounds.end, evidence.now);
        let Some(judge) = judge else { continue };
        let restored = restore(&judge, shown)
            .and_then(|restored| same_final_values(&judge, shown).map(|()| restored));
        match restored {
            Ok(restored) => drop(whole.to_mut().partitions.insert(*id, restored)),
            Err(found) => return broken(PROMISE, format!("{id:?}: {found}")),
        }
    }
    Ok(whole)
}

fn restore(judge: &Judge<'_>, shown: &PartitionView) -> Result<PartitionView, String> {
    let bounds = shown.bounds;
    let found = shown.batches.iter().cloned();
    let (batches, gone) = judge.restore(bounds.start, bounds.end, found)?;
    let counted = gone.into_iter().filter(|base| judge.counts(*base));
    let mut committed = shown.committed.clone();
    committed.extend(counted);
    committed.sort_unstable();
    Ok(PartitionView {
        batches,
        committed,
        ..shown.clone()
    })
}

/// Whoever reads a partition from its start must end up with the same value for every key as somebody
/// who read all that was ever written.
fn same_final_values(judge: &Judge<'_>, shown: &PartitionView) -> Result<(), String> {
    let expected = judge.final_values();
    let mut found: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
    for stored in &shown.batches {
        if judge.counts(stored.header.base_offset) {
            let body = stored.bytes.slice(HEADER_BYTES..);
            let records = batch::records(&stored.header, &body);
            for record in records.map_err(|error| error.to_string())? {
                if let Some(key) = record.key.filter(|_| record.offset >= shown.bounds.start) {
                    found.insert(key, record.value);
                }
            }
        }
    }
    found.retain(|_, value| value.is_some());
    if found == expected {
        return Ok(());
    }
    let differs = |key: &&Bytes| found.get(*key) != expected.get(*key);
    let key = expected.keys().chain(found.keys()).find(differs);
    let of = |values: &BTreeMap<Bytes, Option<Bytes>>| key.and_then(|key| values.get(key).cloned());
    let (ends, due) = (of(&found), of(&expected));
    Err(format!("{key:?} ends as {ends:?} instead of {due:?}"))
}
