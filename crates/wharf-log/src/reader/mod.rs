//! Reading: batches, bounds, state and health, from any thread.
//!
//! Invariants: only committed batches are ever returned, whole and in order; what is read from the
//! disk is checked before it is returned, and damage is refused, never served; no lock that the
//! committer needs is held during input or output. Reads change nothing but counters, the cache of
//! open segments and the list of known damage.

mod fetch;
mod stretch;
mod times;

pub(crate) use fetch::intact;
pub use stretch::Stretch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use wharf_message::Timestamp;

use crate::PartitionId;
use crate::partition::Partition;
use crate::shared::Shared;
use crate::sync::{lock, read};

/// Reads from any thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    shared: Arc<Shared>,
}

/// The offsets of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The first offset still kept.
    pub start: i64,
    /// One past the last committed record (the high watermark).
    pub end: i64,
    /// One past the last record readers of committed records may see (the last stable offset): where
    /// the earliest open transaction begins, else `end`.
    pub stable_end: i64,
}

/// Whole batches, in order; the first contains the offset asked for, or is the next one when compaction
/// has left nothing there. A batch may hold fewer records than offsets, or none.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// The batches as stored; neighbours may be joined in one `Bytes`.
    pub batches: Vec<Bytes>,
    /// Total size.
    pub bytes: usize,
    /// The partition's bounds at the time of reading.
    pub bounds: Option<Bounds>,
    /// [`Reader::read_committed`]: the aborted transactions with records in these batches, by
    /// first offset.
    pub aborted: Vec<Aborted>,
}

/// What is wanted of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Whole batches of at most so many bytes.
    pub bytes_max: usize,
    /// The first batch whatever its size.
    pub at_least_one: bool,
    /// Only batches below the stable end, with the aborted transactions among them.
    pub committed: bool,
    /// Whether the disk may be read; if not, a read that needs it is refused.
    pub may_block: bool,
}

/// A transaction that was aborted in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    /// The producer's id.
    pub producer_id: i64,
    /// The offset of its first record.
    pub first_offset: i64,
    /// The offset of the marker that ended it.
    pub last_offset: i64,
}

/// A batch found by time, to be decoded by the caller.
#[derive(Clone, Debug)]
pub struct TimedBatch {
    /// The whole batch.
    pub batch: Bytes,
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The partition does not exist.
    #[error("partition {} does not exist", .0.0)]
    UnknownPartition(PartitionId),
    /// The offset is outside the partition.
    #[error("offset {offset} is outside {start}..={end}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: i64,
        /// The first offset.
        start: i64,
        /// The end offset.
        end: i64,
    },
    /// The offset lies in a damaged range, which is refused.
    #[error("offsets {} to {} are damaged", .0.first, .0.last)]
    Damaged(DamagedRange),
    /// The data is on disk and the caller forbade touching it.
    #[error("the read needs the disk")]
    NeedsDisk,
    /// The disk failed.
    #[error("the disk failed")]
    Disk(#[source] std::io::Error),
}

/// A range of offsets whose bytes are damaged. It is never deleted, never served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRange {
    /// The partition; `None` when not even that can be read (state may be missing too).
    pub partition: Option<PartitionId>,
    /// The first damaged offset.
    pub first: i64,
    /// The last damaged offset.
    pub last: i64,
    /// The file, relative to the data directory.
    pub path: String,
    /// The position in the file.
    pub position: u64,
}

/// Whether the log accepts writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Writable,
    /// The disk is full; it recovers by itself when space is freed.
    DiskFull,
    /// A write or sync failed; the process must be restarted.
    Poisoned {
        /// What the disk said.
        reason: String,
    },
}

/// An idempotent producer as remembered by a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerSnapshot {
    /// The producer id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The last sequence appended.
    pub last_sequence: i32,
    /// When.
    pub last_timestamp: Timestamp,
    /// The first offset of its open transaction, if it has one here.
    pub transaction_start: Option<i64>,
    /// The epoch of the coordinator that ended its last transaction here; -1 if none did.
    pub coordinator_epoch: i32,
}

/// Counters since start, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Frames written.
    pub frames: u64,
    /// Syncs done.
    pub syncs: u64,
    /// Units committed.
    pub units: u64,
    /// Batches appended.
    pub batches: u64,
    /// Records appended.
    pub records: u64,
    /// Bytes of batches appended.
    pub batch_bytes: u64,
    /// Nanoseconds spent in sync, if a clock was given; else 0.
    pub sync_nanos: u64,
    /// Journal files on disk, spares included.
    pub journal_files: u64,
    /// Bytes of batches settled into segments.
    pub settled_bytes: u64,
    /// Bytes of segments that compaction has replaced.
    pub compacted_bytes: u64,
    /// Steps of maintenance that failed, mostly because the disk was full or could not be read, and
    /// are tried again.
    pub maintenance_failures: u64,
    /// Reads answered from memory.
    pub reads_from_memory: u64,
    /// Reads that touched the disk.
    pub reads_from_disk: u64,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn partition(&self, id: PartitionId) -> Result<Arc<Partition>, ReadError> {
        self.shared
            .table
            .get(id)
            .ok_or(ReadError::UnknownPartition(id))
    }

    /// The offsets of a partition.
    pub fn bounds(&self, partition: PartitionId) -> Option<Bounds> {
        Some(read(&self.shared.table.get(partition)?.data).bounds())
    }

    /// The producers a partition remembers.
    pub fn producers(&self, partition: PartitionId) -> Vec<ProducerSnapshot> {
        let Some(partition) = self.shared.table.get(partition) else {
            return Vec::new();
        };
        let data = read(&partition.data);
        data.producers
            .as_ref()
            .map(|producers| producers.snapshots())
            .unwrap_or_default()
    }

    /// The partitions in which a producer has an open transaction, in order.
    pub fn open_transactions(&self, producer: i64) -> Vec<PartitionId> {
        let open = self.shared.transactions.of(producer);
        open.into_iter().collect()
    }

    /// The producers that have an open transaction anywhere, in order.
    pub fn producers_in_transactions(&self) -> Vec<i64> {
        self.shared.transactions.producers()
    }

    /// The aborted transactions that overlap the offsets from `from` (inclusive) to `to`
    /// (exclusive), by first offset. Together with a read, [`Self::read_committed`] is the one to
    /// use: it cannot miss what retention takes away between two calls.
    pub fn aborted(&self, partition: PartitionId, from: i64, to: i64) -> Vec<Aborted> {
        let partition = self.shared.table.get(partition);
        partition.map_or_else(Vec::new, |partition| {
            read(&partition.data).aborted.overlapping(from, to)
        })
    }

    /// How many bytes of batches a partition keeps.
    pub fn size_bytes(&self, partition: PartitionId) -> u64 {
        self.shared
            .table
            .get(partition)
            .map_or(0, |partition| read(&partition.data).bytes())
    }

    /// All state whose key starts with `prefix`, in key order.
    pub fn state(&self, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        let state = read(&self.shared.state);
        state
            .range::<[u8], _>((
                std::ops::Bound::Included(prefix),
                std::ops::Bound::Unbounded,
            ))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Every partition, in order.
    pub fn partitions(&self) -> Vec<PartitionId> {
        self.shared.table.ids()
    }

    /// The number of the last frame that has taken effect. It only grows, also over restarts.
    pub fn sequence(&self) -> u64 {
        lock(&self.shared.cut).sequence
    }

    /// Whether the log accepts writes.
    pub fn health(&self) -> Health {
        read(&self.shared.health).clone()
    }

    /// The damaged ranges known so far.
    pub fn damaged(&self) -> Vec<DamagedRange> {
        let mut damaged = read(&self.shared.lost).clone();
        for partition in self.shared.table.all() {
            damaged.extend(read(&partition.data).damaged.iter().cloned());
        }
        damaged
    }

    /// Counters since start.
    pub fn statistics(&self) -> Statistics {
        let counters = &self.shared.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Statistics {
            frames: load(&counters.frames),
            syncs: load(&counters.syncs),
            units: load(&counters.units),
            batches: load(&counters.batches),
            records: load(&counters.records),
            batch_bytes: load(&counters.batch_bytes),
            sync_nanos: 0,
            journal_files: self.shared.journal.file_count(),
            settled_bytes: load(&counters.settled_bytes),
            compacted_bytes: load(&counters.compacted_bytes),
            maintenance_failures: load(&counters.maintenance_failures),
            reads_from_memory: load(&counters.reads_from_memory),
            reads_from_disk: load(&counters.reads_from_disk),
        }
    }
}
