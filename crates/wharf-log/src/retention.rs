//! Retention: which records are no longer kept, and the files that go with them.
//!
//! Invariants: the start of a partition moves only through the committer, like any other change; a
//! file is removed only when a durable start or removal says that nobody can ask for it. Age is told
//! by the records' newest time, so a clock that jumps back deletes nothing; and what was stamped by a
//! clock that was far ahead goes with what was appended after it, so it keeps nothing for ever.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use wharf_message::Timestamp;

use crate::batch::HEADER_BYTES;
use crate::partition::{Data, Partition, Segment};
use crate::segment;
use crate::shared::Shared;
use crate::sync::{lock, read, write};
use crate::{PartitionChange, PartitionId, Policy, Retention, Unit};

/// How many batches of a journal index are given up at once; the rest follows at the next check.
const BATCHES_PER_CHECK: usize = 4096;

/// A time this far ahead of the clock tells nothing about a record's age: one of the two clocks was
/// wrong. Kafka's default for how far ahead producers may be.
const AHEAD: Duration = Duration::from_secs(60 * 60);

/// Asks the committer to move the starts of partitions whose oldest records are due.
pub(crate) fn request(shared: &Shared, policy: &dyn Policy, now: Timestamp) {
    let mut units = Vec::new();
    for partition in shared.table.all() {
        let Some(retention) = policy.retention(partition.id) else {
            continue;
        };
        if let Some(offset) = new_start(&read(&partition.data), &retention, now) {
            let change = PartitionChange::AdvanceStart {
                partition: partition.id,
                offset,
            };
            let unit = Unit {
                partitions: vec![change],
                ..Unit::default()
            };
            // Refused when the partition went meanwhile, or its start is further already: fine.
            let done: crate::Done = Box::new(|_outcome| {});
            units.push((unit, done));
        }
    }
    // A closed log needs no retention.
    let _closed = shared.queue.push(units);
}

/// The offset below which nothing has to be kept, if it is above the start.
fn new_start(data: &Data, retention: &Retention, now: Timestamp) -> Option<i64> {
    if retention.bytes.is_none() && retention.age.is_none() {
        return None;
    }
    let segments = data
        .segments
        .iter()
        .map(|piece| (piece.last_offset, piece.max_timestamp, piece.bytes));
    let batches = data.index.iter().take(BATCHES_PER_CHECK);
    let batches = batches.map(|piece| {
        (
            piece.last_offset(),
            piece.max_timestamp,
            u64::from(piece.bytes),
        )
    });
    let mut left = data.bytes();
    let mut start = data.start;
    // Behind records from far ahead of the clock, as long as nothing after them is too old.
    let mut undecided = false;
    for (last_offset, max_timestamp, bytes) in segments.chain(batches) {
        let rest = left.saturating_sub(bytes);
        let too_much = retention.bytes.is_some_and(|limit| rest >= limit);
        let newest = Timestamp::from_millis(max_timestamp);
        // What compaction has emptied is as old as what comes before it.
        let empty = bytes <= HEADER_BYTES as u64;
        let ahead = newest.since(now) > AHEAD || (empty && undecided);
        if !too_much && retention.age.is_some() && ahead {
            left = rest;
            undecided = true;
            continue;
        }
        // Records without a time have no age.
        let too_old = retention
            .age
            .is_some_and(|age| empty || (max_timestamp >= 0 && now.since(newest) > age));
        if !too_old && (!too_much || undecided) {
            break;
        }
        left = rest;
        undecided = false;
        start = last_offset + 1;
    }
    (start > data.start).then_some(start)
}

/// Removes the files of what is gone for good. Returns whether there was any.
pub(crate) fn remove_files(shared: &Shared) -> io::Result<bool> {
    let (removed, advanced) = {
        let mut chores = lock(&shared.chores);
        (
            std::mem::take(&mut chores.removed),
            std::mem::take(&mut chores.advanced),
        )
    };
    if removed.is_empty() && advanced.is_empty() {
        return Ok(false);
    }
    let result = shared.sync_journal().and_then(|()| {
        removed
            .iter()
            .try_for_each(|id| shared.disk.remove(&segment::directory(*id)))?;
        advanced
            .iter()
            .try_for_each(|id| match shared.table.get(*id) {
                Some(partition) => remove_segments(shared, &partition),
                None => Ok(()),
            })
    });
    if result.is_err() {
        // All of it again next time: removing twice does no harm.
        let mut again = lock(&shared.chores);
        again.removed.extend(removed);
        again.advanced.extend(advanced);
    }
    result.map(|()| true)
}

/// Removes the segments that lie wholly below the start.
fn remove_segments(shared: &Shared, partition: &Partition) -> io::Result<()> {
    let gone = {
        let mut data = write(&partition.data);
        let start = data.start;
        let count = data
            .segments
            .partition_point(|segment| segment.last_offset < start);
        data.segments.drain(..count).collect::<Vec<_>>()
    };
    for segment in gone {
        remove_segment(shared, partition.id, &segment)?;
    }
    Ok(())
}

fn remove_segment(shared: &Shared, id: PartitionId, segment: &Segment) -> io::Result<()> {
    shared.segments.forget(id, segment);
    shared.disk.remove(&segment::log_path(id, segment))?;
    shared.disk.remove(&segment::index_path(id, segment))
}

/// Removes the segments that compaction has replaced. Call only when no snapshot names them.
pub(crate) fn remove_replaced(shared: &Shared) -> io::Result<()> {
    let replaced = std::mem::take(&mut lock(&shared.chores).replaced);
    for (at, (id, segment)) in replaced.iter().enumerate() {
        if let Err(error) = remove_segment(shared, *id, segment) {
            lock(&shared.chores).replaced.extend(&replaced[at..]);
            return Err(error);
        }
    }
    Ok(())
}

/// Forgets idle producers.
pub(crate) fn expire_producers(shared: &Shared, now: Timestamp) {
    let expiry = shared.options.producer_expiry;
    for partition in shared.table.all() {
        if read(&partition.data).producers.is_none() {
            continue;
        }
        let mut data = write(&partition.data);
        if let Some(producers) = &mut data.producers {
            producers.expire(now, expiry);
            if producers.is_empty() {
                data.producers = None;
            }
        }
    }
}

/// Removes what an earlier process left behind in a partition's directory: segments that a crash
/// kept from being removed, or that an interrupted settling began.
pub(crate) fn sweep(shared: &Shared, directory: &str) -> io::Result<()> {
    let Some(id) = u64::from_str_radix(directory, 16).ok().map(PartitionId) else {
        return Ok(());
    };
    if segment::directory(id) != format!("{}/{directory}", segment::DIRECTORY) {
        return Ok(());
    }
    let path = segment::directory(id);
    let Some(partition) = shared.table.get(id) else {
        return shared.disk.remove(&path);
    };
    let known: BTreeSet<String> = read(&partition.data)
        .segments
        .iter()
        .flat_map(|segment| {
            [
                segment::log_path(id, segment),
                segment::index_path(id, segment),
            ]
        })
        .collect();
    for entry in shared.disk.list(&path)? {
        let path = format!("{path}/{}", entry.name);
        if !known.contains(&path) && (path.ends_with(".log") || path.ends_with(".idx")) {
            shared.disk.remove(&path)?;
        }
    }
    Ok(())
}
