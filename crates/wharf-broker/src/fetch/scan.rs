//! One look at the partitions of a fetch: what is there now, within the limits.
//!
//! Limits are Kafka's: whole batches; the first partition with data may exceed every limit by its
//! first batch, so that a reader always gets on; later ones only fill what is left. The budget
//! starts at a different partition each time, so none starves behind a busy one.

use std::sync::Arc;

use bytes::Bytes;
use wharf_log::{Bounds, PartitionId, ReadError, Reader};

use super::{FetchPartition, FetchedPartition};
use crate::codec::first_batch;
use crate::{Error, ErrorKind, TopicRef};

/// The bounds of a partition that is not known, in an answer.
const UNKNOWN: Bounds = Bounds {
    start: -1,
    end: -1,
    stable_end: -1,
};

/// A partition as asked for, and what it was resolved to.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) asked: Arc<FetchPartition>,
    /// The log's partition, or why there is none.
    pub(super) partition: Result<PartitionId, Error>,
}

/// What one look found.
#[derive(Debug)]
pub(super) struct Scan {
    /// One per target, in order.
    pub(super) found: Vec<Found>,
    /// The size of all batches.
    pub(super) bytes: usize,
    /// A read was refused: the client should know at once.
    pub(super) is_urgent: bool,
}

/// What one look found in one partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) error: Option<Error>,
    pub(super) bounds: Option<Bounds>,
    pub(super) batches: Vec<Bytes>,
}

/// Looks at every target. `None` when the disk is needed and `may_block` is false.
pub(super) fn scan(
    reader: &Reader,
    targets: &[Target],
    start: usize,
    bytes_max: usize,
    may_block: bool,
) -> Option<Scan> {
    let mut scan = Scan {
        found: vec![Found::default(); targets.len()],
        bytes: 0,
        is_urgent: false,
    };
    for step in 0..targets.len() {
        let at = (start % targets.len() + step) % targets.len();
        let target = &targets[at];
        let found = &mut scan.found[at];
        let partition = match &target.partition {
            Ok(partition) => *partition,
            Err(error) => {
                found.error = Some(error.clone());
                continue;
            }
        };
        let rest = bytes_max.saturating_sub(scan.bytes);
        match look(
            reader,
            &target.asked,
            partition,
            rest,
            scan.bytes == 0,
            may_block,
        ) {
            Ok((bounds, batches, bytes)) => {
                found.bounds = Some(bounds);
                found.batches = batches;
                scan.bytes += bytes;
            }
            Err(ReadError::NeedsDisk) => return None,
            Err(error) => {
                found.bounds = reader.bounds(partition);
                found.error = Some(refusal(&target.asked.topic, error));
                scan.is_urgent = true;
            }
        }
    }
    Some(scan)
}

/// Reads one partition within `rest` bytes, or its first batch whatever its size if `is_first`.
fn look(
    reader: &Reader,
    asked: &FetchPartition,
    partition: PartitionId,
    rest: usize,
    is_first: bool,
    may_block: bool,
) -> Result<(Bounds, Vec<Bytes>, usize), ReadError> {
    let limit = rest.min(usize::try_from(asked.bytes_max).unwrap_or(0));
    let bounds = reader
        .bounds(partition)
        .ok_or(ReadError::UnknownPartition(partition))?;
    let is_inside = (bounds.start..bounds.end).contains(&asked.offset);
    // Most looks of most fetches end here: nothing new.
    if asked.offset == bounds.end || (limit == 0 && !is_first && is_inside) {
        return Ok((bounds, Vec::new(), 0));
    }
    let slice = reader.read(partition, asked.offset, limit, may_block)?;
    let bounds = slice.bounds.unwrap_or(bounds);
    if slice.bytes > limit && !is_first {
        return Ok((bounds, Vec::new(), 0));
    }
    Ok((bounds, slice.batches, slice.bytes))
}

/// A topic deleted since it was resolved is unknown in the way the client named it.
fn refusal(topic: &TopicRef, error: ReadError) -> Error {
    match (topic, &error) {
        (TopicRef::Id(id), ReadError::UnknownPartition(_)) => Error::new(
            ErrorKind::UnknownTopicId,
            format!("there is no topic with id {id}"),
        ),
        _ => error.into(),
    }
}

impl Scan {
    /// Every partition refused.
    pub(super) fn refused(count: usize, error: &Error) -> Self {
        let refused = Found {
            error: Some(error.clone()),
            ..Found::default()
        };
        Self {
            found: vec![refused; count],
            bytes: 0,
            is_urgent: true,
        }
    }
}

impl Found {
    /// Whether the partition goes on after the batches found: one look ends where the log goes on
    /// in another file, or at a limit.
    pub(super) fn has_more(&self) -> bool {
        let (Some(bounds), Some(last)) = (self.bounds, self.batches.last()) else {
            return false;
        };
        let mut rest = last.clone();
        let mut next = bounds.end;
        while let Ok((header, after)) = first_batch(&rest) {
            next = header.last_offset() + 1;
            rest = after;
        }
        next < bounds.end
    }

    /// The answer for the partition as it was asked for.
    pub(super) fn answer(self, asked: &FetchPartition) -> FetchedPartition {
        let bounds = self.bounds.unwrap_or(UNKNOWN);
        FetchedPartition {
            topic: asked.topic.clone(),
            partition: asked.partition,
            error: self.error,
            high_watermark: bounds.end,
            last_stable: bounds.stable_end,
            log_start: bounds.start,
            batches: self.batches,
        }
    }
}
