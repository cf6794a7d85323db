//! Stretches: batches whose size is known before they are read, to be read while they are being sent.
//!
//! Invariants: a stretch holds no memory and no file, only offsets, so that who takes long to send it
//! keeps nothing from being recycled; each piece is read and checked like any other read; the pieces
//! together have exactly the size that was told, or an error says that they have not.

use std::io;

use bytes::Bytes;

use super::{Bounds, ReadError, Reader, Slice, Want};
use crate::PartitionId;
use crate::partition::{Data, Partition, Segment};
use crate::segment::Aligned;
use crate::sync::read;

/// How much is read at once, unless a single batch is larger: what the processor's cache holds is
/// checked and sent without coming from memory again.
const PIECE_BYTES: usize = 512 << 10;

/// Batches of one partition that are still to be read. Their size is known.
#[derive(Clone, Debug)]
pub struct Stretch {
    reader: Reader,
    partition: PartitionId,
    /// The offset that the next batch contains.
    next: i64,
    end: i64,
    bytes: usize,
    has_begun: bool,
}

/// Where a stretch would be.
struct Place {
    bounds: Bounds,
    /// Readers see no batch from here on.
    until: i64,
    /// `None`: in the journal.
    segment: Option<Segment>,
    exchanges: u64,
}

impl Place {
    /// `None` when nothing can be measured there.
    fn find(data: &Data, offset: i64, want: Want) -> Option<Self> {
        let bounds = data.bounds();
        let until = match want.committed {
            true => bounds.stable_end,
            false => bounds.end,
        };
        let at = data
            .segments
            .partition_point(|segment| segment.last_offset < offset);
        let segment = data.segments.get(at).copied();
        let is_whole = data.damaged.is_empty() && segment.is_none_or(|one| one.generation == 0);
        (is_whole && (bounds.start..until).contains(&offset)).then_some(Self {
            bounds,
            until,
            segment,
            exchanges: data.compacted.exchanges,
        })
    }
}

/// How far a stretch goes.
struct Measure {
    end: i64,
    bytes: usize,
}

impl Stretch {
    /// The size of what is still to be read.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// One past the last offset.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// Reads and checks the next batches; none at the end. An error when they are damaged, or are no
    /// longer what was measured: compaction or retention may have come between.
    pub fn read(&mut self) -> Result<Vec<Bytes>, ReadError> {
        if self.bytes == 0 {
            return Ok(Vec::new());
        }
        let bytes_max = PIECE_BYTES.min(self.bytes);
        let slice = self
            .reader
            .read(self.partition, self.next, bytes_max, true)?;
        let (Some(first), Some(end)) = (slice.first(), slice.end()) else {
            return Err(changed());
        };
        let follows = first == self.next || (first < self.next && !self.has_begun);
        let is_last = slice.bytes == self.bytes;
        if !follows || slice.bytes > self.bytes || is_last != (end == self.end) {
            return Err(changed());
        }
        self.bytes -= slice.bytes;
        self.next = end;
        self.has_begun = true;
        Ok(slice.batches)
    }
}

/// What was measured is not there any more.
fn changed() -> ReadError {
    ReadError::Disk(io::Error::other(
        "the batches changed while they were being sent",
    ))
}

impl Slice {
    /// The first batch's base offset.
    fn first(&self) -> Option<i64> {
        let header = crate::batch::header(self.batches.first()?).ok()?;
        Some(header.base_offset)
    }
}

impl Reader {
    /// The batches that [`Self::fetch`] would read from the disk, with all that a slice tells but the
    /// batches. `None` when it has to be asked for them: there are fewer than `bytes_min`, they are in
    /// memory or out of range, or only reading tells how many there are, as where batches are damaged
    /// or compacted.
    pub fn stretch(
        &self,
        id: PartitionId,
        offset: i64,
        bytes_min: usize,
        want: Want,
    ) -> Result<Option<(Stretch, Slice)>, ReadError> {
        let partition = self.partition(id)?;
        let data = read(&partition.data);
        let Some(place) = Place::find(&data, offset, want) else {
            return Ok(None);
        };
        let measure = if let Some(segment) = &place.segment {
            drop(data);
            self.measure_segment(&partition, segment, offset, place.until, want)?
        } else {
            let measure = self.measure_journal(&data, offset, place.until, want);
            drop(data);
            measure
        };
        let Some(Measure { end, bytes }) = measure.filter(|one| one.bytes >= bytes_min.max(1))
        else {
            return Ok(None);
        };
        let data = read(&partition.data);
        // What is known of aborted transactions goes with their records.
        if offset < data.bounds().start || data.compacted.exchanges != place.exchanges {
            return Ok(None);
        }
        let slice = Slice {
            bytes,
            bounds: Some(place.bounds),
            aborted: match want.committed {
                true => data.aborted.overlapping(offset, end),
                false => Vec::new(),
            },
            ..Slice::default()
        };
        let stretch = Stretch {
            reader: self.clone(),
            partition: id,
            next: offset,
            end,
            bytes,
            has_begun: false,
        };
        Ok(Some((stretch, slice)))
    }

    fn measure_journal(&self, data: &Data, offset: i64, until: i64, want: Want) -> Option<Measure> {
        let mut measure: Option<Measure> = None;
        for batch in data.index.range(data.index_from(offset)..) {
            let bytes = batch.bytes as usize;
            let (before, is_first) = measure.as_ref().map_or((0, true), |one| (one.bytes, false));
            let fits = before + bytes <= want.bytes_max || (is_first && want.at_least_one);
            if !fits || (!is_first && batch.base_offset >= until) {
                break;
            }
            if is_first {
                let position = u64::from(batch.position);
                let in_memory = read(&self.shared.tail).get(batch.file, position, bytes);
                if in_memory.is_some() {
                    return None;
                }
            }
            measure = Some(Measure {
                end: batch.last_offset() + 1,
                bytes: before + bytes,
            });
        }
        measure
    }

    fn measure_segment(
        &self,
        partition: &Partition,
        segment: &Segment,
        offset: i64,
        until: i64,
        want: Want,
    ) -> Result<Option<Measure>, ReadError> {
        let found = self
            .shared
            .segments
            .align(partition.id, segment, offset, until, want)
            .map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => ReadError::NeedsDisk,
                _ => self.segment_error(partition, offset, error),
            })?;
        Ok(found.map(|Aligned { end, bytes }| Measure { end, bytes }))
    }
}
