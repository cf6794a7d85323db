//! Exact offsets by time: looks into the one batch the log found.
//!
//! The log answers with the first batch whose header promises a record at or after a time. The
//! promise is the producer's, and records before the partition's start are gone: so the batches
//! that follow are tried in turn when the first holds no such record.

use std::ops::ControlFlow;

use wharf_log::{Bounds, PartitionId, Reader};
use wharf_message::Timestamp;

use crate::Error;
use crate::codec::{Glance, first_batch, glance};

/// How many batches with a false promise are looked into before the search gives up: bounds what
/// one question costs.
const BATCHES_MAX: usize = 1_000;
/// How much is read at once when walking on.
const READ_BYTES: usize = 1 << 20;

/// The first record at or after `time` that is still kept.
pub(crate) fn first_at_or_after(
    reader: &Reader,
    partition: PartitionId,
    time: i64,
    bounds: Bounds,
) -> Result<Option<Glance>, Error> {
    let found = reader.batch_at_time(partition, Timestamp::from_millis(time))?;
    let Some(found) = found else { return Ok(None) };
    let mut pending = vec![found.batch];
    for _ in 0..BATCHES_MAX {
        let Some(batch) = pending.pop() else {
            return Ok(None);
        };
        let (header, after) = first_batch(&batch)?;
        if header.max_timestamp >= time && header.last_offset() >= bounds.start {
            let hit = glance(&header, &batch, |record| {
                if record.timestamp >= time && record.offset >= bounds.start {
                    ControlFlow::Break(record)
                } else {
                    ControlFlow::Continue(())
                }
            })?;
            if hit.is_some() {
                return Ok(hit);
            }
        }
        if !after.is_empty() {
            pending.push(after);
        }
        if pending.is_empty() {
            let next = reader.read(partition, header.last_offset() + 1, READ_BYTES, true)?;
            pending = next.batches;
            pending.reverse();
        }
    }
    Ok(None)
}

/// The newest record (the first of them on a tie) that is still kept.
pub(crate) fn newest(
    reader: &Reader,
    partition: PartitionId,
    bounds: Bounds,
) -> Result<Option<Glance>, Error> {
    let Some(found) = reader.batch_of_max_time(partition)? else {
        return Ok(None);
    };
    let (header, _) = first_batch(&found.batch)?;
    let mut newest: Option<Glance> = None;
    glance(&header, &found.batch, |record| {
        let is_newer = newest.is_none_or(|newest| record.timestamp > newest.timestamp);
        if record.offset >= bounds.start && is_newer {
            newest = Some(record);
        }
        ControlFlow::<()>::Continue(())
    })?;
    Ok(newest)
}
