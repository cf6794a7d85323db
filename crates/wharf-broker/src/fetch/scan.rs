//! One look at the partitions of a fetch: what is there now, within the limits.
//!
//! Limits are Kafka's: whole batches; the first partition with data may exceed every limit by its
//! first batch, so that a reader always gets on; later ones only fill what is left. The budget
//! starts at a different partition each time, so none starves behind a busy one.

use std::sync::Arc;

use bytes::Bytes;
use wharf_log::{Aborted, Bounds, PartitionId, ReadError, Reader, Slice, Stretch, Want};

use super::{FetchPartition, FetchedPartition};
use crate::codec::first_batch;
use crate::{Error, ErrorKind, TopicRef};

/// The bounds of a partition that is not known, in an answer.
const UNKNOWN: Bounds = Bounds {
    start: -1,
    end: -1,
    stable_end: -1,
};

/// What is left of an answer's room is not filled up when it is at most such a part of it, or this
/// many bytes: looking for a batch that fits into it, in one partition after the other, costs more
/// than it brings.
const CRUMB_SHARE: usize = 16;
const CRUMB_BYTES_MAX: usize = 64 << 10;

/// A partition as asked for, and what it was resolved to.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) asked: Arc<FetchPartition>,
    /// The log's partition, or why there is none.
    pub(super) partition: Result<PartitionId, Error>,
}

/// How to look.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// The target to begin with.
    pub(super) start: usize,
    pub(super) bytes_max: usize,
    /// Only up to the last stable offset.
    pub(super) read_committed: bool,
    /// What is on the disk and at least so large is read while it is being sent.
    pub(super) stretch_bytes_min: usize,
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
    /// Something was left out for want of room.
    pub(super) is_full: bool,
}

/// What one look found in one partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) error: Option<Error>,
    pub(super) bounds: Option<Bounds>,
    pub(super) batches: Vec<Bytes>,
    /// Batches that are still to be read, instead.
    pub(super) stretch: Option<Stretch>,
    pub(super) aborted: Vec<Aborted>,
    /// How far the reader may read.
    pub(super) end: i64,
}

/// Looks at every target. `None` when the disk is needed and `may_block` is false.
pub(super) fn scan(
    reader: &Reader,
    targets: &[Target],
    view: View,
    may_block: bool,
) -> Option<Scan> {
    let mut scan = Scan {
        found: vec![Found::default(); targets.len()],
        bytes: 0,
        is_urgent: false,
        is_full: false,
    };
    for step in 0..targets.len() {
        let at = (view.start % targets.len() + step) % targets.len();
        let target = &targets[at];
        let found = &mut scan.found[at];
        let partition = match &target.partition {
            Ok(partition) => *partition,
            Err(error) => {
                found.error = Some(error.clone());
                continue;
            }
        };
        let left = view.bytes_max.saturating_sub(scan.bytes);
        let crumb = CRUMB_BYTES_MAX.min(view.bytes_max / CRUMB_SHARE);
        let view = View {
            bytes_max: if left < crumb { 0 } else { left },
            ..view
        };
        let is_first = scan.bytes == 0;
        match look(reader, &target.asked, partition, view, is_first, may_block) {
            Ok((stretch, slice)) => {
                found.stretch = stretch;
                let end = |bounds| readable_end(bounds, view.read_committed);
                found.end = slice.bounds.map_or(-1, end);
                let is_cut = view.bytes_max < usize::try_from(target.asked.bytes_max).unwrap_or(0);
                scan.is_full |= is_cut && slice.bytes == 0 && target.asked.offset < found.end;
                found.bounds = slice.bounds;
                found.batches = slice.batches;
                found.aborted = slice.aborted;
                scan.bytes += slice.bytes;
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

/// How far a reader may read.
fn readable_end(bounds: Bounds, read_committed: bool) -> i64 {
    match read_committed {
        true => bounds.stable_end,
        false => bounds.end,
    }
}

/// Reads one partition within `view.bytes_max`, or its first batch whatever its size if `is_first`.
fn look(
    reader: &Reader,
    asked: &FetchPartition,
    partition: PartitionId,
    view: View,
    is_first: bool,
    may_block: bool,
) -> Result<(Option<Stretch>, Slice), ReadError> {
    let limit = usize::try_from(asked.bytes_max).unwrap_or(0);
    let limit = limit.min(view.bytes_max);
    let bounds = reader
        .bounds(partition)
        .ok_or(ReadError::UnknownPartition(partition))?;
    let nothing = |bounds| Slice {
        bounds: Some(bounds),
        ..Slice::default()
    };
    let end = readable_end(bounds, view.read_committed);
    let is_inside = (bounds.start..end).contains(&asked.offset);
    let is_behind = (end..=bounds.end).contains(&asked.offset);
    // Most looks of most fetches end here: nothing new.
    if is_behind || (limit == 0 && !is_first && is_inside) {
        return Ok((None, nothing(bounds)));
    }
    let want = Want {
        bytes_max: limit,
        at_least_one: is_first,
        committed: view.read_committed,
        may_block,
    };
    if limit >= view.stretch_bytes_min {
        let least = view.stretch_bytes_min;
        if let Some((stretch, slice)) = reader.stretch(partition, asked.offset, least, want)? {
            return Ok((Some(stretch), slice));
        }
    }
    let slice = reader.fetch(partition, asked.offset, want)?;
    let bounds = Some(slice.bounds.unwrap_or(bounds));
    Ok((None, Slice { bounds, ..slice }))
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
            is_full: false,
        }
    }
}

impl Found {
    /// Whether there are no batches.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.stretch.is_none()
    }

    /// Whether the partition goes on after the batches found: one look ends where the log goes on
    /// in another file, or at a limit.
    pub(super) fn has_more(&self) -> bool {
        if let Some(stretch) = &self.stretch {
            return stretch.end() < self.end;
        }
        let Some(last) = self.batches.last() else {
            return false;
        };
        let mut rest = last.clone();
        let mut next = self.end;
        while let Ok((header, after)) = first_batch(&rest) {
            next = header.last_offset() + 1;
            rest = after;
        }
        next < self.end
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
            stretch: self.stretch,
            aborted: self.aborted,
        }
    }
}
