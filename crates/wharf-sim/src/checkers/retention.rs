//! Promise: retention deletes only what is due, oldest first, and whole batches.

use std::collections::BTreeMap;
use std::time::Duration;

use wharf_log::{CommitError, Committed, PartitionChange, PartitionId, Reader, Retention, Unit};
use wharf_message::Timestamp;

use super::{Broken, Evidence, Judge, Written, broken};
use crate::model::{Batch, Model, Partition};

pub(super) const PROMISE: &str = "retention deletes only what is due";

/// Retention as it may have moved starts by now.
#[derive(Clone, Copy, Debug)]
pub struct Retained<'a> {
    /// The partitions that have a retention.
    pub settings: &'a BTreeMap<PartitionId, Retention>,
    /// What was written to the partitions that are compacted.
    pub written: &'a Written,
    /// The latest time there was.
    pub now: Timestamp,
}

impl Retained<'_> {
    /// Takes the starts that a reader sees over into the model, after checking that they are right.
    /// Returns those that moved.
    pub fn adopt(
        &self,
        model: &mut Model,
        reader: &Reader,
    ) -> Result<BTreeMap<PartitionId, i64>, Broken> {
        let mut moved = BTreeMap::new();
        for id in self.settings.keys() {
            if let Some(bounds) = reader.bounds(*id) {
                self.adopt_start(model, *id, bounds.start, &mut moved)?;
            }
        }
        Ok(moved)
    }

    /// Takes the starts that an answer shows over into the model. Returns those that moved.
    pub fn adopt_answer(
        &self,
        model: &mut Model,
        unit: &Unit,
        answer: &Result<Committed, CommitError>,
    ) -> Result<BTreeMap<PartitionId, i64>, Broken> {
        let mut moved = BTreeMap::new();
        match answer {
            Ok(committed) => {
                for (append, appended) in unit.appends.iter().zip(&committed.appends) {
                    self.adopt_start(model, append.partition, appended.log_start, &mut moved)?;
                }
            }
            Err(CommitError::OffsetOutOfRange { start, .. }) => {
                for change in &unit.partitions {
                    if let PartitionChange::AdvanceStart { partition, .. } = change {
                        self.adopt_start(model, *partition, *start, &mut moved)?;
                    }
                }
            }
            Err(_) => {}
        }
        Ok(moved)
    }

    fn adopt_start(
        &self,
        model: &mut Model,
        id: PartitionId,
        start: i64,
        moved: &mut BTreeMap<PartitionId, i64>,
    ) -> Result<(), Broken> {
        let (Some(retention), Some(partition)) =
            (self.settings.get(&id), model.partitions.get(&id))
        else {
            return Ok(());
        };
        if start > partition.start {
            let (written, now) = (self.written, self.now);
            let judge = written.judge(id, partition.start, partition.end, now);
            is_due(id, partition, start, retention, judge.as_ref(), now)?;
            model.adopt_start(id, start);
            moved.insert(id, start);
        }
        Ok(())
    }
}

/// Takes the start that a view shows over into the model that it was found equal to otherwise.
pub(super) fn adopt_view(
    evidence: &Evidence<'_>,
    model: &mut Model,
    id: PartitionId,
    start: i64,
) -> Result<(), Broken> {
    let retained = Retained {
        settings: evidence.retained,
        written: evidence.written,
        now: evidence.now,
    };
    retained.adopt_start(model, id, start, &mut BTreeMap::new())
}

/// Checks that a start may move to `start` at `now`; a compacted partition's batches age as its judge
/// says.
fn is_due(
    id: PartitionId,
    partition: &Partition,
    start: i64,
    retention: &Retention,
    judge: Option<&Judge<'_>>,
    now: Timestamp,
) -> Result<(), Broken> {
    let mut after: usize = partition.batches.iter().map(Batch::size).sum();
    for batch in partition
        .batches
        .iter()
        .take_while(|batch| batch.base < start)
    {
        after -= batch.size();
        if batch.last >= start {
            return broken(
                PROMISE,
                format!("{id:?} was cut at {start}, within a batch"),
            );
        }
        let by_size = retention.bytes.is_some_and(|bytes| after as u64 >= bytes);
        // A time far ahead of a clock that has jumped back since tells nothing: such a batch goes with
        // what was appended after it.
        let later = partition
            .batches
            .iter()
            .filter(|later| later.base >= batch.base);
        let by_age = retention.age.is_some_and(|age| {
            let mut later = later.take_while(|later| later.base < start);
            later.any(|later| is_older(later, age, judge, now))
        });
        if !by_age && !by_size {
            let base = batch.base;
            let times: Vec<_> = partition
                .batches
                .iter()
                .map(|b| (b.base, b.max_time))
                .collect();
            let detail = format!(
                "{id:?}: {base} went with {after} bytes after it, up to {start}, at {now:?}: {retention:?} {times:?}"
            );
            return broken(PROMISE, detail);
        }
    }
    Ok(())
}

/// Whether a batch's records are older than `age`; those that compaction has taken away have none.
fn is_older(batch: &Batch, age: Duration, judge: Option<&Judge<'_>>, now: Timestamp) -> bool {
    let time = match judge {
        Some(judge) => judge.time_of(batch),
        None => Some(batch.max_time),
    };
    time.is_none_or(|time| now.since(time) > age)
}
