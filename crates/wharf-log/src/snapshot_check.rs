//! Whether what a snapshot says can be true: its checksum shows only that nobody changed it since.
//!
//! Invariant: what passes can be computed with; offsets, positions and sequences stay far from where
//! they would overflow, and lists are in the order that everything else relies on.

use crate::partition::Data;
use crate::producers::Producers;
use crate::snapshot::Snapshot;
use crate::{DamagedRange, JOURNAL_FILE_BYTES_MAX};

/// No log lives long enough to give larger offsets; a batch behind the last one still fits.
const OFFSET_MAX: i64 = i64::MAX - (1 << 34);
/// The same for sequences and file numbers.
const NUMBER_MAX: u64 = u64::MAX >> 1;
/// More than any disk holds.
const SEGMENT_BYTES_MAX: u64 = 1 << 50;

/// What cannot be true; `None` when everything can.
pub(crate) fn contradiction(snapshot: &Snapshot) -> Option<&'static str> {
    let cut = &snapshot.cut;
    if cut.sequence > NUMBER_MAX || cut.file > NUMBER_MAX {
        return Some("its sequence is beyond any that a log reaches");
    }
    if cut.position > JOURNAL_FILE_BYTES_MAX {
        return Some("it ends beyond the largest journal file");
    }
    snapshot
        .partitions
        .iter()
        .find_map(|(_, data)| in_partition(data))
}

fn in_partition(data: &Data) -> Option<&'static str> {
    let offset = 0..=OFFSET_MAX;
    if !offset.contains(&data.start) || !offset.contains(&data.end) {
        return Some("a partition's bounds are no offsets");
    }
    // Where the next segment or batch begins at the earliest.
    let mut next = 0;
    for segment in &data.segments {
        let right = segment.base_offset >= next
            && segment.last_offset >= segment.base_offset
            && segment.last_offset <= OFFSET_MAX
            && segment.bytes <= SEGMENT_BYTES_MAX;
        if !right {
            return Some("a partition's segments do not follow each other");
        }
        next = segment.last_offset + 1;
    }
    for batch in &data.index {
        let right = batch.base_offset >= next
            && batch.base_offset <= OFFSET_MAX
            && batch.file <= NUMBER_MAX
            && batch.position.checked_add(batch.bytes).is_some();
        if !right {
            return Some("a partition's batches do not follow each other");
        }
        next = batch.last_offset() + 1;
    }
    let damaged = |range: &DamagedRange| range.first <= range.last && offset.contains(&range.last);
    if !data.damaged.iter().all(damaged) {
        return Some("a damaged range is none");
    }
    let mut last = -1;
    for entry in data.aborted.iter() {
        let one = entry.transaction;
        let right = (0..one.last_offset).contains(&one.first_offset)
            && one.last_offset > last
            && one.last_offset <= OFFSET_MAX;
        if !right {
            return Some("a partition's aborted transactions do not follow each other");
        }
        last = one.last_offset;
    }
    if !offset.contains(&data.compacted.end) {
        return Some("a partition was compacted up to what is no offset");
    }
    data.producers.as_deref().and_then(of_producers)
}

fn of_producers(producers: &Producers) -> Option<&'static str> {
    let batches = || {
        producers
            .iter()
            .flat_map(|(_, producer)| producer.batches())
    };
    let starts = || producers.iter().map(|(_, one)| one.transaction_start);
    let right = batches()
        .all(|batch| (0..=OFFSET_MAX).contains(&batch.base_offset) && batch.first_sequence >= 0)
        && starts()
            .flatten()
            .all(|start| (0..=OFFSET_MAX).contains(&start));
    (!right).then_some("a producer's batches have no offsets")
}
