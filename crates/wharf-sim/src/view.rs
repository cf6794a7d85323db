//! Everything a reader of the log can see, read through the public interface alone.
//!
//! Invariant: a view is only made of batches whose checksum is right; a read that fails, stops
//! early or returns what was not asked for is a broken promise, never skipped.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use wharf_log::batch::{self, Header};
use wharf_log::disk::simulated::Random;
use wharf_log::{
    Bounds, PartitionId, ProducerSnapshot, ReadError, Reader, Slice, TransactionOutcome,
};

use crate::checkers::{Broken, broken};

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
    /// Reads everything, in reads of random sizes.
    pub fn read(reader: &Reader, random: &mut Random) -> Result<Self, Broken> {
        let mut view = Self {
            state: reader.state(b"").into_iter().collect(),
            ..Self::default()
        };
        for id in reader.partitions() {
            view.partitions
                .insert(id, read_partition(reader, id, random)?);
        }
        Ok(view)
    }
}

fn read_partition(
    reader: &Reader,
    id: PartitionId,
    random: &mut Random,
) -> Result<PartitionView, Broken> {
    let Some(bounds) = reader.bounds(id) else {
        return broken(
            PROMISE,
            format!("partition {id:?} is listed but has no bounds"),
        );
    };
    let mut batches: Vec<Stored> = Vec::new();
    let mut offset = bounds.start;
    while offset < bounds.end {
        let bytes_max = random.index(20_000);
        let slice = match reader.read(id, offset, bytes_max, true) {
            Ok(slice) => slice,
            Err(error) => return broken(PROMISE, format!("{id:?} at {offset}: {error:?}")),
        };
        let found = split(&slice, offset, bytes_max)?;
        let Some(last) = found.last() else {
            return broken(
                PROMISE,
                format!("{id:?} ends at {offset}, not {}", bounds.end),
            );
        };
        offset = last.header.last_offset() + 1;
        batches.extend(found);
    }
    let producers = reader.producers(id).iter().map(remembered).collect();
    Ok(PartitionView {
        bounds,
        batches,
        producers,
        committed: read_committed(reader, id, bounds.start, random)?,
    })
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
        let found = split(&slice, offset, bytes_max)?;
        if found.is_empty() {
            return Ok(kept);
        }
        for Stored { header, bytes } in found {
            while let Some(one) = coming.next_if(|one| one.first_offset <= header.last_offset()) {
                dropped.insert(one.producer_id);
            }
            offset = header.last_offset() + 1;
            match batch::marker(&header, &bytes) {
                Some(marker) if marker.outcome == TransactionOutcome::Abort => {
                    dropped.remove(&marker.producer_id);
                }
                Some(_) => {}
                None if header.is_transactional() && dropped.contains(&header.producer_id) => {}
                None => kept.push(header.base_offset),
            }
        }
    }
}

/// The batches of a read at `offset`, after checking that it returned what was asked for.
pub fn split(slice: &Slice, offset: i64, bytes_max: usize) -> Result<Vec<Stored>, Broken> {
    let mut found: Vec<Stored> = Vec::new();
    for joined in &slice.batches {
        let mut rest = joined.clone();
        while !rest.is_empty() {
            let size = match batch::header(&rest) {
                Ok(header) if header.batch_bytes() <= rest.len() => header.batch_bytes(),
                other => return broken(PROMISE, format!("no whole batch at {offset}: {other:?}")),
            };
            let bytes = rest.split_to(size);
            match batch::verify(&bytes) {
                Ok(header) => found.push(Stored { header, bytes }),
                Err(error) => {
                    return broken(PROMISE, format!("a bad batch was served: {error}"));
                }
            }
        }
    }
    let total: usize = found.iter().map(|stored| stored.bytes.len()).sum();
    if total != slice.bytes || (found.len() > 1 && total > bytes_max) {
        let claimed = slice.bytes;
        return broken(
            PROMISE,
            format!("{total} bytes, said {claimed}, allowed {bytes_max}"),
        );
    }
    if let Some(first) = found.first()
        && !(first.header.base_offset..=first.header.last_offset()).contains(&offset)
    {
        let base = first.header.base_offset;
        return broken(
            PROMISE,
            format!("a read at {offset} began with the batch at {base}"),
        );
    }
    Ok(found)
}

/// Whether a read failed for a reason that the workload provoked: an offset that is not there.
pub fn is_out_of_range(result: &Result<Slice, ReadError>) -> bool {
    matches!(
        result,
        Err(ReadError::OffsetOutOfRange { .. } | ReadError::UnknownPartition(_))
    )
}
