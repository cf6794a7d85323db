//! Exact offsets by time: looks into the one batch the log found.
//!
//! The log answers with a batch by what its header promises. The promise is the producer's, and
//! records before the partition's start are gone: so other batches are tried in turn when the
//! promise does not hold.

use std::ops::ControlFlow;

use bytes::Bytes;
use wharf_log::batch::Header;
use wharf_log::{Bounds, PartitionId, Reader};
use wharf_message::Timestamp;

use crate::Error;
use crate::codec::{Glance, first_batch, glance};

/// How many batches are walked through after a broken promise before the search gives up: bounds
/// what one question costs.
const BATCHES_MAX: usize = 1_000;
/// How much is read at once when walking on.
const READ_BYTES: usize = 1 << 20;

/// Batches one after the other.
struct Walk<'a> {
    reader: &'a Reader,
    partition: PartitionId,
    /// Read already, last first.
    pending: Vec<Bytes>,
    next_offset: i64,
}

impl Walk<'_> {
    fn next(&mut self) -> Result<Option<(Header, Bytes)>, Error> {
        if self.pending.is_empty() {
            let read = self
                .reader
                .read(self.partition, self.next_offset, READ_BYTES, true)?;
            self.pending = read.batches;
            self.pending.reverse();
        }
        let Some(batches) = self.pending.pop() else {
            return Ok(None);
        };
        let (header, after) = first_batch(&batches)?;
        if !after.is_empty() {
            self.pending.push(after);
        }
        self.next_offset = self.next_offset.max(header.last_offset() + 1);
        Ok(Some((header, batches)))
    }
}

/// The first record at or after `time` that is still kept.
pub(crate) fn first_at_or_after(
    reader: &Reader,
    partition: PartitionId,
    time: i64,
    bounds: Bounds,
) -> Result<Option<Glance>, Error> {
    let found = reader.batch_at_time(partition, Timestamp::from_millis(time))?;
    let Some(found) = found else {
        return Ok(None);
    };
    let next_offset = bounds.start;
    let mut walk = Walk {
        reader,
        partition,
        pending: vec![found.batch],
        next_offset,
    };
    for _ in 0..BATCHES_MAX {
        let Some((header, batch)) = walk.next()? else {
            return Ok(None);
        };
        if header.max_timestamp < time || header.last_offset() < bounds.start {
            continue;
        }
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
    let mut newest = None;
    let (header, _) = first_batch(&found.batch)?;
    look_for_newer(&header, &found.batch, bounds, &mut newest)?;
    if newest.is_some_and(|record| record.timestamp >= header.max_timestamp) {
        return Ok(newest);
    }
    let next_offset = bounds.start;
    let mut walk = Walk {
        reader,
        partition,
        pending: Vec::new(),
        next_offset,
    };
    newest = None;
    for _ in 0..BATCHES_MAX {
        let Some((header, batch)) = walk.next()? else {
            break;
        };
        look_for_newer(&header, &batch, bounds, &mut newest)?;
    }
    Ok(newest)
}

/// Replaces `newest` by a newer record of the batch, unless the header rules that out.
fn look_for_newer(
    header: &Header,
    batch: &Bytes,
    bounds: Bounds,
    newest: &mut Option<Glance>,
) -> Result<(), Error> {
    if newest.is_some_and(|newest| header.max_timestamp <= newest.timestamp) {
        return Ok(());
    }
    glance(header, batch, |record| {
        let is_newer = newest.is_none_or(|newest| record.timestamp > newest.timestamp);
        if record.offset >= bounds.start && is_newer {
            *newest = Some(record);
        }
        ControlFlow::<()>::Continue(())
    })?;
    Ok(())
}
