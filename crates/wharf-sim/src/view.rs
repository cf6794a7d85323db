//! Everything a reader of the log can see, read through the public interface alone.
//!
//! Invariant: a view is only made of batches whose checksum is right; a read that fails, stops
//! early or returns what was not asked for is a broken promise, never skipped. Batches that compaction
//! has emptied are left out: whether a reader is given them depends on where its reads begin.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use wharf_log::batch::{self, Header};
use wharf_log::disk::simulated::Random;
use wharf_log::{
    Bounds, PartitionId, ProducerSnapshot, ReadError, Reader, Slice, TransactionOutcome,
};

use crate::checkers::{Broken, Written, broken};

const PROMISE: &str = "what is readable reads back whole";

/// Everything readable at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Every partition.
    pub partitions: BTreeMap<PartitionId, PartitionView>,
    /// The whole key-value state.
    pub state: BTreeMap<Bytes, Bytes>,
}

/// A partition as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionView {
    /// Its offsets.
    pub bounds: Bounds,
    /// Its batches in the order they were returned.
    pub batches: Vec<Stored>,
    /// Producers, as remembered.
    pub producers: BTreeMap<i64, Remembered>,
    /// The base offsets of the batches that a reader of committed records is left with.
    pub committed: Vec<i64>,
}

/// A producer's epoch, last sequence and the first offset of its open transaction.
pub type Remembered = (i16, i32, Option<i64>);

/// A batch as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its header.
    pub header: Header,
    /// All of it.
    pub bytes: Bytes,
}

impl View {
    /// Reads everything, in reads of random sizes; `written` says which partitions are compacted.
    pub fn read(reader: &Reader, random: &mut Random, written: &Written) -> Result<Self, Broken> {
        let mut view = Self {
            state: reader.state(b"").into_iter().collect(),
            ..Self::default()
        };
        for id in reader.partitions() {
            let cut = Cut::of(written.is_compacted(id));
            view.partitions
                .insert(id, read_partition(reader, id, random, cut)?);
        }
        Ok(view)
    }
}

impl View {
    /// How many records compaction has taken away.
    pub fn compacted_records(&self, written: &Written) -> u64 {
        let compacted = self.partitions.iter();
        let compacted = compacted.filter(|(id, _)| written.is_compacted(**id));
        let count = |partition: &PartitionView| {
            let left = partition.batches.iter();
            let left: i64 = left.map(|one| i64::from(one.header.record_count)).sum();
            let Bounds { start, end, .. } = partition.bounds;
            // Of the first batch, records may be left that were deleted.
            u64::try_from(end - start - left).unwrap_or(0)
        };
        compacted.map(|(_, partition)| count(partition)).sum()
    }
}

fn read_partition(
    reader: &Reader,
    id: PartitionId,
    random: &mut Random,
    cut: Cut,
) -> Result<PartitionView, Broken> {
    let Some(bounds) = reader.bounds(id) else {
        return broken(
            PROMISE,
            format!("partition {id:?} is listed but has no bounds"),
        );
    };
    let batches = read_batches(reader, id, bounds, random, cut)?;
    let producers = reader.producers(id).iter().map(remembered).collect();
    Ok(PartitionView {
        bounds,
        batches,
        producers,
        committed: read_committed(reader, id, bounds.start, random, cut)?,
    })
}

/// Every batch of a partition that has records.
pub fn read_batches(
    reader: &Reader,
    id: PartitionId,
    bounds: Bounds,
    random: &mut Random,
    cut: Cut,
) -> Result<Vec<Stored>, Broken> {
    let mut batches: Vec<Stored> = Vec::new();
    let mut offset = bounds.start;
    while offset < bounds.end {
        let bytes_max = random.index(20_000);
        let slice = match reader.read(id, offset, bytes_max, true) {
            Ok(slice) => slice,
            Err(error) => return broken(PROMISE, format!("{id:?} at {offset}: {error:?}")),
        };
        let found = cut.split(&slice, offset, bytes_max)?;
        let Some(last) = found.last() else {
            return broken(
                PROMISE,
                format!("{id:?} ends at {offset}, not {}", bounds.end),
            );
        };
        offset = last.header.last_offset() + 1;
        batches.extend(found.into_iter().filter(Stored::has_records));
    }
    Ok(batches)
}

fn remembered(producer: &ProducerSnapshot) -> (i64, Remembered) {
    let ProducerSnapshot {
        epoch,
        last_sequence,
        transaction_start,
        ..
    } = *producer;
    (
        producer.producer_id,
        (epoch, last_sequence, transaction_start),
    )
}

/// Reads as a client does that wants committed records only: it drops what the aborted transactions
/// name, from their first offset up to their marker.
fn read_committed(
    reader: &Reader,
    id: PartitionId,
    start: i64,
    random: &mut Random,
    cut: Cut,
) -> Result<Vec<i64>, Broken> {
    let mut kept = Vec::new();
    let mut offset = start;
    loop {
        let bytes_max = random.index(20_000);
        let slice = match reader.read_committed(id, offset, bytes_max, true) {
            Ok(slice) => slice,
            Err(error) => return broken(PROMISE, format!("{id:?} at {offset}: {error:?}")),
        };
        let mut coming = slice.aborted.iter().peekable();
        let mut dropped = BTreeSet::new();
        let found = cut.split(&slice, offset, bytes_max)?;
        if found.is_empty() {
            return Ok(kept);
        }
        for stored in found {
            let is_emptied = !stored.has_records();
            let Stored { header, bytes } = stored;
            while let Some(one) = coming.next_if(|one| one.first_offset <= header.last_offset()) {
                dropped.insert(one.producer_id);
            }
            offset = header.last_offset() + 1;
            match batch::marker(&header, &bytes) {
                Some(marker) if marker.outcome == TransactionOutcome::Abort => {
                    dropped.remove(&marker.producer_id);
                }
                Some(_) => {}
                None if is_emptied => {}
                None if header.is_transactional() && dropped.contains(&header.producer_id) => {}
                None => kept.push(header.base_offset),
            }
        }
    }
}

impl Stored {
    /// Whether compaction has left anything of it.
    pub fn has_records(&self) -> bool {
        self.header.record_count > 0
    }
}

/// What a read may look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Batches as they were appended, from the one that holds the offset on.
    Whole,
    /// What compaction has left of them, perhaps from a later one on.
    Compacted,
}

impl Cut {
    /// That of a partition that is compacted or not.
    pub fn of(is_compacted: bool) -> Self {
        if is_compacted {
            Self::Compacted
        } else {
            Self::Whole
        }
    }

    /// The batches of a read at `offset`, after checking that it returned what was asked for.
    pub fn split(
        self,
        slice: &Slice,
        offset: i64,
        bytes_max: usize,
    ) -> Result<Vec<Stored>, Broken> {
        let mut found: Vec<Stored> = Vec::new();
        for joined in &slice.batches {
            let mut rest = joined.clone();
            while !rest.is_empty() {
                found.push(self.next(&mut rest, offset)?);
            }
        }
        let total: usize = found.iter().map(|stored| stored.bytes.len()).sum();
        if total != slice.bytes || (found.len() > 1 && total > bytes_max) {
            let claimed = slice.bytes;
            let detail = format!("{total} bytes, said {claimed}, allowed {bytes_max}");
            return broken(PROMISE, detail);
        }
        let Some(first) = found.first().map(|first| &first.header) else {
            return Ok(found);
        };
        let begins = match self {
            Self::Whole => first.base_offset <= offset,
            Self::Compacted => true,
        };
        if !begins || first.last_offset() < offset {
            let base = first.base_offset;
            let detail = format!("a read at {offset} began with the batch at {base}");
            return broken(PROMISE, detail);
        }
        Ok(found)
    }

    /// The next batch of what was read at `offset`.
    fn next(self, rest: &mut Bytes, offset: i64) -> Result<Stored, Broken> {
        let size = match batch::header(rest) {
            Ok(header) if header.batch_bytes() <= rest.len() => header.batch_bytes(),
            other => return broken(PROMISE, format!("no whole batch at {offset}: {other:?}")),
        };
        let bytes = rest.split_to(size);
        let verified = match self {
            Self::Whole => batch::verify(&bytes),
            Self::Compacted => batch::verify_stored(&bytes),
        };
        match verified {
            Ok(header) => Ok(Stored { header, bytes }),
            Err(error) => broken(PROMISE, format!("a bad batch was served: {error}")),
        }
    }
}

/// As [`Cut::split`], of a partition that is not compacted.
pub fn split(slice: &Slice, offset: i64, bytes_max: usize) -> Result<Vec<Stored>, Broken> {
    Cut::Whole.split(slice, offset, bytes_max)
}

/// Whether a read failed for a reason that the workload provoked: an offset that is not there.
pub fn is_out_of_range(result: &Result<Slice, ReadError>) -> bool {
    matches!(
        result,
        Err(ReadError::OffsetOutOfRange { .. } | ReadError::UnknownPartition(_))
    )
}
