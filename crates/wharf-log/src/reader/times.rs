//! Finding batches by time.
//!
//! Invariant: partitions' locks are held for a bounded number of index entries at a time, so that a
//! search over a long index does not hold up the committer.

use std::io;

use bytes::Bytes;
use wharf_message::Timestamp;

use super::{ReadError, Reader, TimedBatch};
use crate::PartitionId;
use crate::batch;
use crate::partition::{BatchRef, Partition, Segment};
use crate::sync::read;

/// How many index entries are looked at under one hold of the lock.
const STRIDE: usize = 4096;

/// What came out of a search.
enum Search {
    Found(i64),
    Nothing,
    /// Batches moved from the journal to a segment meanwhile: search again.
    Stale,
}

impl Search {
    fn new(found: Option<i64>, complete: bool) -> Self {
        match found {
            _ if !complete => Self::Stale,
            Some(offset) => Self::Found(offset),
            None => Self::Nothing,
        }
    }
}

/// What a partition had when the search began.
struct View {
    start: i64,
    segments: Vec<Segment>,
    /// The first offset that is in the journal only.
    journal_from: i64,
}

impl View {
    fn of(partition: &Partition) -> Self {
        let data = read(&partition.data);
        let settled = data
            .segments
            .last()
            .map_or(0, |segment| segment.last_offset + 1);
        let start = data.start;
        // The files of segments below the start may be gone already, though not forgotten yet.
        let live = data
            .segments
            .iter()
            .filter(|segment| segment.last_offset >= start);
        let segments = live.copied().collect();
        Self {
            start,
            segments,
            journal_from: settled.max(start),
        }
    }
}

impl Reader {
    /// The first batch whose newest record is at or after `time`; blocks on the disk.
    pub fn batch_at_time(
        &self,
        partition: PartitionId,
        time: Timestamp,
    ) -> Result<Option<TimedBatch>, ReadError> {
        let partition = self.partition(partition)?;
        loop {
            let search = || self.offset_at_time(&partition, time.as_millis());
            match Self::despite_exchanges(&partition, search)? {
                Search::Found(offset) => return self.batch(&partition, offset),
                Search::Nothing => return Ok(None),
                Search::Stale => {}
            }
        }
    }

    fn offset_at_time(&self, partition: &Partition, time: i64) -> Result<Search, ReadError> {
        let view = View::of(partition);
        for segment in view
            .segments
            .iter()
            .filter(|segment| segment.max_timestamp >= time)
        {
            let found = self
                .shared
                .segments
                .first_at(partition.id, segment, time, view.start);
            if let Some(header) = found.map_err(ReadError::Disk)? {
                return Ok(Search::Found(header.base_offset));
            }
        }
        let mut found = None;
        let complete = walk_journal(partition, view.journal_from, |batch| {
            found = (batch.max_timestamp >= time).then_some(batch.base_offset);
            found.is_none()
        });
        Ok(Search::new(found, complete))
    }

    /// The batch with the newest record (the earliest such batch on a tie); blocks on the disk.
    pub fn batch_of_max_time(
        &self,
        partition: PartitionId,
    ) -> Result<Option<TimedBatch>, ReadError> {
        let partition = self.partition(partition)?;
        loop {
            let search = || self.offset_of_max_time(&partition);
            match Self::despite_exchanges(&partition, search)? {
                Search::Found(offset) => return self.batch(&partition, offset),
                Search::Nothing => return Ok(None),
                Search::Stale => {}
            }
        }
    }

    fn offset_of_max_time(&self, partition: &Partition) -> Result<Search, ReadError> {
        let view = View::of(partition);
        let mut newest: Option<(i64, i64)> = None;
        let mut consider = |time: i64, offset: i64| {
            if newest.is_none_or(|(known, _)| time > known) {
                newest = Some((time, offset));
            }
        };
        let mut in_segments: Option<(i64, Segment)> = None;
        for segment in &view.segments {
            let time = self
                .max_time(partition, segment, view.start)
                .map_err(ReadError::Disk)?;
            if let Some(time) = time.filter(|&time| in_segments.is_none_or(|(t, _)| time > t)) {
                in_segments = Some((time, *segment));
            }
        }
        if let Some((time, segment)) = in_segments {
            let found = self
                .shared
                .segments
                .first_at(partition.id, &segment, time, view.start);
            if let Some(header) = found.map_err(ReadError::Disk)? {
                consider(header.max_timestamp, header.base_offset);
            }
        }
        let complete = walk_journal(partition, view.journal_from, |batch| {
            consider(batch.max_timestamp, batch.base_offset);
            true
        });
        Ok(Search::new(newest.map(|(_, offset)| offset), complete))
    }

    /// The newest time in a segment, from `start` on.
    fn max_time(
        &self,
        partition: &Partition,
        segment: &Segment,
        start: i64,
    ) -> io::Result<Option<i64>> {
        if segment.base_offset >= start {
            return Ok(Some(segment.max_timestamp));
        }
        self.shared
            .segments
            .max_time_from(partition.id, segment, start)
    }

    fn batch(&self, partition: &Partition, offset: i64) -> Result<Option<TimedBatch>, ReadError> {
        let offset = offset.max(read(&partition.data).start);
        let slice = self.read(partition.id, offset, 0, true)?;
        // What compaction has emptied, with nothing behind it, holds no record of any time.
        let has_records =
            |bytes: &Bytes| batch::header(bytes).is_ok_and(|one| one.record_count > 0);
        let found = slice.batches.into_iter().next().filter(has_records);
        Ok(found.map(|batch| TimedBatch { batch }))
    }
}

/// Shows every batch of the journal from `offset` on to `visit`, until it returns false. Returns
/// false when batches were settled meanwhile and not all could be shown.
fn walk_journal(
    partition: &Partition,
    offset: i64,
    mut visit: impl FnMut(&BatchRef) -> bool,
) -> bool {
    let mut offset = offset;
    loop {
        let data = read(&partition.data);
        if data
            .segments
            .last()
            .is_some_and(|segment| segment.last_offset >= offset)
        {
            return false;
        }
        let from = data.index_from(offset);
        if from == data.index.len() {
            return true;
        }
        let seen_to = offset;
        for batch in data.index.range(from..).take(STRIDE) {
            if !visit(batch) {
                return true;
            }
            offset = offset.max(batch.last_offset().saturating_add(1));
        }
        // Offsets that a damaged snapshot repeats must not keep the walk in one place.
        if offset == seen_to {
            return true;
        }
    }
}
