//! Reading batches by offset: memory tail, journal file, segment.
//!
//! Invariant: the plan of a read is made under the partition's lock and holds the journal files it
//! needs, so none of them is recycled before the read is done.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::{Bounds, DamagedRange, ReadError, Reader, Slice, Want};
use crate::PartitionId;
use crate::batch;
use crate::journal::{self, JournalFile};
use crate::partition::{BatchRef, Data, Partition, Segment};
use crate::segment;
use crate::shared::count;
use crate::sync::{read, write};
use crate::walk::Gaps;

/// The most that one read returns, unless a single batch is larger: more comes with the next read.
const READ_BYTES_MAX: usize = 16 << 20;

/// Adjoining batches in the journal.
struct Run {
    batches: Vec<BatchRef>,
    bytes: usize,
    source: Source,
}

enum Source {
    Memory(Bytes),
    /// Held so that it is not recycled.
    File(Arc<JournalFile>),
}

/// Where the batches of a read are.
enum Plan {
    Nothing,
    Journal(Vec<Run>),
    Segment {
        segment: Segment,
        left_out: Vec<(i64, i64)>,
        stop_at: i64,
    },
}

/// Whether these bytes are the batch with this base offset, undamaged. The checksum leaves out the
/// base offset and the leader epoch, which is always 0 here.
pub(crate) fn intact(bytes: &[u8], base_offset: i64) -> bool {
    let right =
        |header: batch::Header| header.base_offset == base_offset && header.leader_epoch == 0;
    batch::header(bytes).is_ok_and(right) && batch::checksum_holds(bytes)
}

impl Slice {
    /// One past the last offset when there are batches and all of them are without records.
    fn empty_until(&self) -> Option<i64> {
        let mut end = None;
        for joined in &self.batches {
            let mut rest = &joined[..];
            while let Ok(header) = batch::header(rest) {
                if header.record_count > 0 {
                    return None;
                }
                end = Some(header.last_offset().saturating_add(1));
                rest = rest.get(header.batch_bytes()..).unwrap_or_default();
            }
        }
        end
    }

    /// Whether a read may go on at `offset`.
    fn ends_below(&self, offset: i64, committed: bool) -> bool {
        let until = |bounds: Bounds| {
            if committed {
                bounds.stable_end
            } else {
                bounds.end
            }
        };
        self.bounds.is_some_and(|bounds| offset < until(bounds))
    }

    /// One past the last record; `None` when there is none.
    pub(super) fn end(&self) -> Option<i64> {
        let mut rest = &self.batches.last()?[..];
        let mut end = None;
        while let Ok(header) = batch::header(rest) {
            end = Some(header.last_offset().saturating_add(1));
            rest = rest.get(header.batch_bytes()..).unwrap_or_default();
        }
        end
    }
}

impl Reader {
    /// Reads whole batches from the one that contains `offset` (or the next one, where compaction has
    /// left nothing), at least one if there is any, up to `bytes_max` in total. At the end: an empty
    /// slice. With `may_block` false a read that needs the disk answers [`ReadError::NeedsDisk`]
    /// instead.
    pub fn read(
        &self,
        partition: PartitionId,
        offset: i64,
        bytes_max: usize,
        may_block: bool,
    ) -> Result<Slice, ReadError> {
        let want = Want {
            bytes_max,
            at_least_one: true,
            committed: false,
            may_block,
        };
        self.fetch(partition, offset, want)
    }

    /// As [`Self::read`], for readers of committed records: only batches below the stable end, with
    /// the aborted transactions among them.
    pub fn read_committed(
        &self,
        partition: PartitionId,
        offset: i64,
        bytes_max: usize,
        may_block: bool,
    ) -> Result<Slice, ReadError> {
        let want = Want {
            bytes_max,
            at_least_one: true,
            committed: true,
            may_block,
        };
        self.fetch(partition, offset, want)
    }

    /// As [`Self::read`] and [`Self::read_committed`], for one partition of many: without
    /// `at_least_one` the slice is empty when the first batch is larger than what is wanted, and its
    /// content is not read for nothing.
    pub fn fetch(
        &self,
        partition: PartitionId,
        offset: i64,
        want: Want,
    ) -> Result<Slice, ReadError> {
        let partition = self.partition(partition)?;
        if !want.committed {
            return self.read_up_to(&partition, offset, want);
        }
        loop {
            let exchanges = partition.exchanges();
            let mut slice = self.read_up_to(&partition, offset, want)?;
            // What is known of aborted transactions goes with the records, perhaps since they were
            // read: by a start that moved, or by compaction.
            let current = |data: &Data| {
                let Bounds { start, end, .. } = data.bounds();
                if offset < start {
                    return Err(ReadError::OffsetOutOfRange { offset, start, end });
                }
                Ok(data.compacted.exchanges == exchanges)
            };
            let data = read(&partition.data);
            let unchanged = current(&data)?;
            let nothing_aborted = data.aborted.is_empty();
            drop(data);
            if !unchanged {
                continue;
            }
            if nothing_aborted {
                return Ok(slice);
            }
            let Some(end) = slice.end() else {
                return Ok(slice);
            };
            let data = read(&partition.data);
            if current(&data)? {
                slice.aborted = data.aborted.overlapping(offset, end);
                return Ok(slice);
            }
        }
    }

    /// Tries again when a segment was exchanged by compaction between the look at the partition and
    /// the look at the disk.
    pub(super) fn despite_exchanges<T>(
        partition: &Partition,
        attempt: impl Fn() -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        loop {
            let exchanges = partition.exchanges();
            match attempt() {
                Err(ReadError::Disk(error))
                    if error.kind() == io::ErrorKind::NotFound
                        && partition.exchanges() != exchanges => {}
                outcome => return outcome,
            }
        }
    }

    fn read_up_to(
        &self,
        partition: &Partition,
        offset: i64,
        want: Want,
    ) -> Result<Slice, ReadError> {
        let mut next = offset;
        let mut passed: Option<Slice> = None;
        loop {
            let read = Self::despite_exchanges(partition, || self.try_read(partition, next, want));
            let slice = match (read, passed.take()) {
                (Ok(slice), _) => slice,
                // What follows is for a read of its own.
                (Err(_), Some(passed)) => return Ok(passed),
                (Err(error), None) => return Err(error),
            };
            match slice.empty_until() {
                // Nothing is left of these batches. Clients that get nothing else ask for more bytes,
                // so they are passed over as long as something follows.
                Some(end) if end > next && slice.ends_below(end, want.committed) => next = end,
                _ => return Ok(slice),
            }
            passed = Some(slice);
        }
    }

    fn try_read(&self, partition: &Partition, offset: i64, want: Want) -> Result<Slice, ReadError> {
        let bytes_max = want.bytes_max.min(READ_BYTES_MAX);
        let want = Want { bytes_max, ..want };
        let data = read(&partition.data);
        let bounds = data.bounds();
        let (start, end) = (bounds.start, bounds.end);
        if offset < start || offset > end {
            return Err(ReadError::OffsetOutOfRange { offset, start, end });
        }
        let until = if want.committed {
            bounds.stable_end
        } else {
            end
        };
        if offset >= until {
            return Ok(Slice {
                bounds: Some(bounds),
                ..Slice::default()
            });
        }
        if let Some(range) = data.damage_at(offset) {
            return Err(ReadError::Damaged(range.clone()));
        }
        let stop_at = data.damage_after(offset).min(until);
        let plan = self.plan(&data, offset, stop_at, want)?;
        drop(data);
        let mut slice = Slice {
            bounds: Some(bounds),
            ..Slice::default()
        };
        match plan {
            Plan::Nothing => {}
            Plan::Journal(runs) => {
                for run in &runs {
                    if !self.read_run(partition, run, &mut slice)? {
                        break;
                    }
                }
            }
            Plan::Segment {
                segment,
                left_out,
                stop_at,
            } => {
                let range = segment::Range {
                    from: offset,
                    gaps: Gaps::Known {
                        start,
                        left_out: &left_out,
                    },
                    stop_at,
                    bytes_max,
                    at_least_one: want.at_least_one,
                };
                self.read_segment(partition, &segment, range, &mut slice)?;
            }
        }
        Ok(slice)
    }

    fn plan(&self, data: &Data, offset: i64, stop_at: i64, want: Want) -> Result<Plan, ReadError> {
        let at = data
            .segments
            .partition_point(|segment| segment.last_offset < offset);
        if let Some(segment) = data.segments.get(at) {
            if !want.may_block {
                return Err(ReadError::NeedsDisk);
            }
            return Ok(Plan::Segment {
                segment: *segment,
                left_out: data.left_out(segment),
                stop_at,
            });
        }
        let from = data.index_from(offset);
        if from == data.index.len() {
            return Ok(Plan::Nothing);
        }
        self.plan_journal(data, from, stop_at, want)
            .map(Plan::Journal)
    }

    fn plan_journal(
        &self,
        data: &Data,
        from: usize,
        stop_at: i64,
        want: Want,
    ) -> Result<Vec<Run>, ReadError> {
        let mut runs: Vec<(Vec<BatchRef>, usize)> = Vec::new();
        let mut total = 0;
        for batch in data.index.range(from..) {
            let bytes = batch.bytes as usize;
            let is_more = total > 0 || !want.at_least_one;
            let is_too_much = is_more && total + bytes > want.bytes_max;
            if is_too_much || (total > 0 && batch.base_offset >= stop_at) {
                break;
            }
            total += bytes;
            match runs.last_mut() {
                Some((run, run_bytes)) if run.last().is_some_and(|last| last.adjoins(batch)) => {
                    run.push(*batch);
                    *run_bytes += bytes;
                }
                _ => runs.push((vec![*batch], bytes)),
            }
        }
        let tail = read(&self.shared.tail);
        let mut planned = Vec::with_capacity(runs.len());
        for (batches, bytes) in runs {
            let first = batches[0];
            let source = match tail.get(first.file, u64::from(first.position), bytes) {
                Some(bytes) => Source::Memory(bytes),
                None if want.may_block => {
                    let file = self.shared.journal.file(first.file);
                    Source::File(file.ok_or_else(|| missing(first.file))?)
                }
                None if planned.is_empty() => return Err(ReadError::NeedsDisk),
                None => break,
            };
            planned.push(Run {
                batches,
                bytes,
                source,
            });
        }
        Ok(planned)
    }

    /// Adds a run to the slice; returns whether the read may go on.
    fn read_run(
        &self,
        partition: &Partition,
        run: &Run,
        slice: &mut Slice,
    ) -> Result<bool, ReadError> {
        let (bytes, intact) = match &run.source {
            Source::Memory(bytes) => {
                count(&self.shared.counters.reads_from_memory, 1);
                (bytes.clone(), run.bytes)
            }
            Source::File(file) => {
                count(&self.shared.counters.reads_from_disk, 1);
                let position = u64::from(run.batches[0].position);
                let bytes = file
                    .read_up_to(position, run.bytes)
                    .map_err(ReadError::Disk)?;
                let intact = self.check_run(partition, run, &bytes);
                (bytes, intact)
            }
        };
        if intact == 0 && slice.batches.is_empty() {
            let data = read(&partition.data);
            let range = data.damage_at(run.batches[0].base_offset).cloned();
            return Err(range.map_or_else(|| missing(run.batches[0].file), ReadError::Damaged));
        }
        if intact > 0 {
            slice.bytes += intact;
            slice.batches.push(bytes.slice(..intact));
        }
        Ok(intact == run.bytes)
    }

    /// How many bytes of the run are intact batches; notes the first broken one.
    fn check_run(&self, partition: &Partition, run: &Run, bytes: &Bytes) -> usize {
        let mut at = 0;
        for batch in &run.batches {
            let end = at + batch.bytes as usize;
            let whole = bytes.get(at..end);
            if !whole.is_some_and(|bytes| intact(bytes, batch.base_offset)) {
                let range = DamagedRange {
                    partition: Some(partition.id),
                    first: batch.base_offset,
                    last: batch.last_offset(),
                    path: journal::path(batch.file),
                    position: u64::from(batch.position),
                };
                write(&partition.data).note_damage(range);
                return at;
            }
            at = end;
        }
        at
    }

    fn read_segment(
        &self,
        partition: &Partition,
        segment: &Segment,
        range: segment::Range<'_>,
        slice: &mut Slice,
    ) -> Result<(), ReadError> {
        count(&self.shared.counters.reads_from_disk, 1);
        let part = self
            .shared
            .segments
            .read(partition.id, segment, range)
            .map_err(|error| self.segment_error(partition, range.from, error))?;
        if let Some(broken) = part.broken {
            let noted = DamagedRange {
                partition: Some(partition.id),
                first: broken.first,
                last: broken.last,
                path: segment::log_path(partition.id, segment),
                position: broken.position,
            };
            write(&partition.data).note_damage(noted.clone());
            if part.batches.is_empty() {
                return Err(ReadError::Damaged(noted));
            }
        }
        if !part.batches.is_empty() {
            slice.bytes = part.batches.len();
            slice.batches.push(part.batches);
        }
        Ok(())
    }

    /// A segment may be gone because the start moved while it was being read.
    pub(super) fn segment_error(
        &self,
        partition: &Partition,
        offset: i64,
        error: io::Error,
    ) -> ReadError {
        let bounds = read(&partition.data).bounds();
        let (start, end) = (bounds.start, bounds.end);
        if self.shared.table.get(partition.id).is_none() {
            ReadError::UnknownPartition(partition.id)
        } else if error.kind() == io::ErrorKind::NotFound && offset < start {
            ReadError::OffsetOutOfRange { offset, start, end }
        } else {
            ReadError::Disk(error)
        }
    }
}

fn missing(file: u64) -> ReadError {
    ReadError::Disk(io::Error::new(io::ErrorKind::NotFound, journal::path(file)))
}
