//! Reading: batches, bounds, state and health, from any thread.

use bytes::Bytes;
use wharf_message::Timestamp;

use crate::PartitionId;

/// Reads from any thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {}

/// The offsets of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The first offset still kept.
    pub start: i64,
    /// One past the last committed record (the high watermark).
    pub end: i64,
    /// One past the last record readers of committed transactions may see (the last stable
    /// offset; equal to `end` until transactions come).
    pub stable_end: i64,
}

/// Whole batches, in order; the first contains the offset asked for.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// The batches as stored; neighbours may be joined in one `Bytes`.
    pub batches: Vec<Bytes>,
    /// Total size.
    pub bytes: usize,
    /// The partition's bounds at the time of reading.
    pub bounds: Option<Bounds>,
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
    /// Reads answered from memory.
    pub reads_from_memory: u64,
    /// Reads that touched the disk.
    pub reads_from_disk: u64,
}

impl Reader {
    /// The offsets of a partition.
    pub fn bounds(&self, partition: PartitionId) -> Option<Bounds> {
        let _ = partition;
        unimplemented!()
    }

    /// Reads whole batches from the one that contains `offset`, at least one if there is any, up
    /// to `bytes_max` in total. At the end: an empty slice. With `may_block` false a read that
    /// needs the disk answers [`ReadError::NeedsDisk`] instead.
    pub fn read(
        &self,
        partition: PartitionId,
        offset: i64,
        bytes_max: usize,
        may_block: bool,
    ) -> Result<Slice, ReadError> {
        let _ = (partition, offset, bytes_max, may_block);
        unimplemented!()
    }

    /// The first batch whose newest record is at or after `time`; blocks on the disk.
    pub fn batch_at_time(
        &self,
        partition: PartitionId,
        time: Timestamp,
    ) -> Result<Option<TimedBatch>, ReadError> {
        let _ = (partition, time);
        unimplemented!()
    }

    /// The batch with the newest record (the earliest such batch on a tie); blocks on the disk.
    pub fn batch_of_max_time(
        &self,
        partition: PartitionId,
    ) -> Result<Option<TimedBatch>, ReadError> {
        let _ = partition;
        unimplemented!()
    }

    /// The producers a partition remembers.
    pub fn producers(&self, partition: PartitionId) -> Vec<ProducerSnapshot> {
        let _ = partition;
        unimplemented!()
    }

    /// How many bytes of batches a partition keeps.
    pub fn size_bytes(&self, partition: PartitionId) -> u64 {
        let _ = partition;
        unimplemented!()
    }

    /// All state whose key starts with `prefix`, in key order.
    pub fn state(&self, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        let _ = prefix;
        unimplemented!()
    }

    /// Every partition, in order.
    pub fn partitions(&self) -> Vec<PartitionId> {
        unimplemented!()
    }

    /// Whether the log accepts writes.
    pub fn health(&self) -> Health {
        unimplemented!()
    }

    /// The damaged ranges known so far.
    pub fn damaged(&self) -> Vec<DamagedRange> {
        unimplemented!()
    }

    /// Counters since start.
    pub fn statistics(&self) -> Statistics {
        unimplemented!()
    }
}
