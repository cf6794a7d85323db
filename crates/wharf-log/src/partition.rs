//! Partitions in memory: their bounds, where their batches are, their producers.
//!
//! Invariants: `segments` come before `index`, both in offset order without overlap; batches below
//! `start` are in neither once they can go whole; an idle partition costs a few hundred bytes, no
//! file and no task. No input or output happens under a partition's lock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, RwLock};

use crate::frame::AppendEntry;
use crate::producers::Producers;
use crate::sync::{read, write};
use crate::transactions::AbortedIndex;
use crate::{Bounds, DamagedRange, PartitionId, segment};

/// Where a batch is in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchRef {
    pub(crate) base_offset: i64,
    pub(crate) max_timestamp: i64,
    /// The journal file's number.
    pub(crate) file: u64,
    /// The position in that file; journal files are smaller than 4 GiB.
    pub(crate) position: u32,
    pub(crate) bytes: u32,
    pub(crate) last_delta: u32,
}

impl BatchRef {
    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_delta)
    }

    /// Whether `next` follows in the same file without a gap.
    pub(crate) fn adjoins(&self, next: &Self) -> bool {
        self.file == next.file && self.position + self.bytes == next.position
    }
}

/// A segment: settled batches of one partition in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The first offset; names the file.
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    /// The valid length; what the file holds beyond it does not count.
    pub(crate) bytes: u64,
    /// The time of the first batch, by which the segment is rolled.
    pub(crate) first_timestamp: i64,
    pub(crate) max_timestamp: i64,
    /// How often it was written anew by compaction; part of the file's name.
    pub(crate) generation: u32,
}

impl Segment {
    /// Whether it is the same file with the same content.
    pub(crate) fn is(&self, other: &Self) -> bool {
        (self.base_offset, self.generation, self.bytes)
            == (other.base_offset, other.generation, other.bytes)
    }
}

/// How far compaction is in a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Compacted {
    /// Offsets below were compacted.
    pub(crate) end: i64,
    /// When the first of the tombstones and markers may go that were kept; in milliseconds.
    pub(crate) horizon: Option<i64>,
    /// How often segments were exchanged since the start.
    pub(crate) exchanges: u64,
}

/// What a partition's lock protects.
#[derive(Debug, Default)]
pub(crate) struct Data {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) segments: Vec<Segment>,
    /// The last segment is not written to any more when its base offset is this one.
    pub(crate) closed: Option<i64>,
    /// What compaction remembers.
    pub(crate) compacted: Compacted,
    /// Batches that are only in the journal yet.
    pub(crate) index: VecDeque<BatchRef>,
    /// The bytes of `index`.
    pub(crate) index_bytes: u64,
    pub(crate) producers: Option<Box<Producers>>,
    /// The aborted transactions with records above the start.
    pub(crate) aborted: AbortedIndex,
    /// In offset order.
    pub(crate) damaged: Vec<DamagedRange>,
}

impl Data {
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            start: self.start,
            end: self.end,
            stable_end: self
                .unstable_from()
                .map_or(self.end, |first| first.min(self.end).max(self.start)),
        }
    }

    /// Where the earliest open transaction begins.
    pub(crate) fn unstable_from(&self) -> Option<i64> {
        self.producers.as_ref()?.first_open()
    }

    /// Takes a batch in. Returns whether it was new.
    pub(crate) fn append(&mut self, batch: BatchRef) -> bool {
        if batch.base_offset < self.end {
            return false;
        }
        self.end = batch.last_offset() + 1;
        if batch.last_offset() < self.start {
            return false;
        }
        self.index_bytes += u64::from(batch.bytes);
        self.index.push_back(batch);
        true
    }

    /// Moves the start; returns how many index entries went.
    pub(crate) fn advance_start(&mut self, offset: i64) -> usize {
        self.start = self.start.max(offset);
        let start = self.start;
        self.damaged.retain(|range| range.last >= start);
        self.aborted.prune(start);
        self.drop_index_front(|batch| batch.last_offset() < start)
    }

    /// Removes index entries from the front while `goes`; returns how many.
    pub(crate) fn drop_index_front(&mut self, goes: impl Fn(&BatchRef) -> bool) -> usize {
        let mut count = 0;
        while let Some(batch) = self.index.front().filter(|batch| goes(batch)) {
            self.index_bytes -= u64::from(batch.bytes);
            self.index.pop_front();
            count += 1;
        }
        count
    }

    /// Takes the index entry of a damaged batch out; returns whether there was one.
    pub(crate) fn refuse(&mut self, base_offset: i64) -> bool {
        let at = self.index_from(base_offset);
        let Some(batch) = self
            .index
            .get(at)
            .filter(|batch| batch.base_offset == base_offset)
        else {
            return false;
        };
        self.index_bytes -= u64::from(batch.bytes);
        self.index.remove(at);
        true
    }

    /// Notes a damaged range; ranges of one file that overlap become one.
    pub(crate) fn note_damage(&mut self, mut range: DamagedRange) {
        self.damaged.retain(|known| {
            let overlaps =
                known.path == range.path && known.first <= range.last && range.first <= known.last;
            if overlaps {
                if known.first < range.first {
                    range.position = known.position;
                }
                range.first = range.first.min(known.first);
                range.last = range.last.max(known.last);
            }
            !overlaps
        });
        let at = self
            .damaged
            .partition_point(|known| known.first < range.first);
        self.damaged.insert(at, range);
    }

    /// The damaged range that holds `offset`.
    pub(crate) fn damage_at(&self, offset: i64) -> Option<&DamagedRange> {
        self.damaged
            .iter()
            .find(|range| range.first <= offset && offset <= range.last)
    }

    /// The first damaged offset after `offset`: reads stop before it.
    pub(crate) fn damage_after(&self, offset: i64) -> i64 {
        let after = self.damaged.iter().find(|range| range.first > offset);
        after.map_or(i64::MAX, |range| range.first)
    }

    /// The offsets of damaged batches that were left out when `segment` was settled, as first and
    /// last. What was found damaged in a segment is still there, so it leaves no gap.
    pub(crate) fn left_out(&self, segment: &Segment) -> Vec<(i64, i64)> {
        let inside = |range: &&DamagedRange| {
            range.last >= segment.base_offset
                && range.first <= segment.last_offset
                && !segment::is_path(&range.path)
        };
        let ranges = self.damaged.iter().filter(inside);
        ranges.map(|range| (range.first, range.last)).collect()
    }

    /// The first index entry that ends at or after `offset`.
    pub(crate) fn index_from(&self, offset: i64) -> usize {
        self.index
            .partition_point(|batch| batch.last_offset() < offset)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.index_bytes
            + self
                .segments
                .iter()
                .map(|segment| segment.bytes)
                .sum::<u64>()
    }
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) id: PartitionId,
    pub(crate) data: RwLock<Data>,
}

impl Partition {
    pub(crate) fn new(id: PartitionId, data: Data) -> Arc<Self> {
        Arc::new(Self {
            id,
            data: RwLock::new(data),
        })
    }

    /// How often compaction has exchanged segments since the start.
    pub(crate) fn exchanges(&self) -> u64 {
        read(&self.data).compacted.exchanges
    }
}

/// All partitions.
#[derive(Debug, Default)]
pub(crate) struct Table {
    partitions: RwLock<BTreeMap<PartitionId, Arc<Partition>>>,
}

impl Table {
    pub(crate) fn get(&self, id: PartitionId) -> Option<Arc<Partition>> {
        read(&self.partitions).get(&id).cloned()
    }

    pub(crate) fn insert(&self, partition: Arc<Partition>) {
        write(&self.partitions).insert(partition.id, partition);
    }

    pub(crate) fn remove(&self, id: PartitionId) -> Option<Arc<Partition>> {
        write(&self.partitions).remove(&id)
    }

    pub(crate) fn ids(&self) -> Vec<PartitionId> {
        read(&self.partitions).keys().copied().collect()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Partition>> {
        read(&self.partitions).values().cloned().collect()
    }
}

impl AppendEntry {
    /// The batch as the index knows it, in a payload that starts at `payload_at` of `file`.
    pub(crate) fn to_ref(self, file: u64, payload_at: u64) -> BatchRef {
        BatchRef {
            base_offset: self.base_offset,
            max_timestamp: self.max_timestamp,
            file,
            position: u32::try_from(payload_at + u64::from(self.position)).unwrap_or(u32::MAX),
            bytes: self.bytes,
            last_delta: self.last_delta,
        }
    }
}
