//! Promise: retention deletes only what is due, oldest first, and whole batches.

use std::collections::BTreeMap;

use wharf_log::{PartitionChange, PartitionId, Reader, Retention};
use wharf_message::Timestamp;

use super::{Broken, Evidence, broken};
use crate::model::{Model, Partition};
use crate::view::View;

const PROMISE: &str = "retention deletes only what is due";

/// Takes starts that retention has moved over into the model, after checking that it was right.
/// Returns how many moved.
pub fn adopt(
    model: &mut Model,
    reader: &Reader,
    retained: &BTreeMap<PartitionId, Retention>,
    now: Timestamp,
) -> Result<u64, Broken> {
    let mut moved = 0;
    for (id, retention) in retained {
        let (Some(bounds), Some(partition)) = (reader.bounds(*id), model.partitions.get(id)) else {
            continue;
        };
        if bounds.start > partition.start {
            is_due(*id, partition, bounds.start, retention, now)?;
            model.adopt_start(*id, bounds.start);
            moved += 1;
        }
    }
    Ok(moved)
}

/// Checks the starts of a view.
pub(super) fn check(evidence: &Evidence<'_>, view: &View) -> Result<(), Broken> {
    for (id, retention) in evidence.retained {
        let (Some(found), Some(known)) =
            (view.partitions.get(id), evidence.must.partitions.get(id))
        else {
            continue;
        };
        let start = found.bounds.start;
        let asked_for = evidence.changes().any(|change| {
            matches!(change, PartitionChange::AdvanceStart { partition, .. } if partition == *id)
        });
        if start > known.start && !asked_for {
            is_due(*id, known, start, retention, evidence.now)?;
        }
    }
    Ok(())
}

/// Checks that a start may move to `start` at `now`.
fn is_due(
    id: PartitionId,
    partition: &Partition,
    start: i64,
    retention: &Retention,
    now: Timestamp,
) -> Result<(), Broken> {
    let kept: usize = partition
        .batches
        .iter()
        .filter(|batch| batch.base >= start)
        .map(|batch| batch.bytes.len())
        .sum();
    let by_size = retention.bytes.is_some_and(|bytes| kept as u64 >= bytes);
    for batch in partition.batches.iter().filter(|batch| batch.base < start) {
        if batch.last >= start {
            return broken(
                PROMISE,
                format!("{id:?} was cut at {start}, within a batch"),
            );
        }
        let by_age = retention
            .age
            .is_some_and(|age| now.since(batch.max_time) > age);
        if !by_age && !by_size {
            let base = batch.base;
            let detail =
                format!("{id:?}: {base} went although {kept} bytes are kept: {retention:?}");
            return broken(PROMISE, detail);
        }
    }
    Ok(())
}
