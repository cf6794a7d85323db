//! Pure: the durable log. Files only through [`disk::Disk`]; time only as an argument.
//!
//! One journal for the whole node, group commit, and per-partition segments behind it. The
//! committer is the only writer of truth: conditions and producer sequences are checked, offsets
//! given and frames written in its one thread, in one order. An answer never leaves before the
//! sync that covers it (unless the unit asked for [`Durability::Buffered`]).
//!
//! ```text
//! Appender ─ queue ─► Committer: plan ─► frame ─► journal ─► shared ─► Observer, answers
//!                                                              │
//! Reader: tail, journal, segment ◄─────────────────────────────┤
//! Maintenance: settle, snapshot, retention ◄───────────────────┘
//! Log::open: snapshot, then recover
//! ```
//!
//! A transaction begins with a producer's first transactional batch and ends in all its partitions
//! with one unit, hence in one frame; until then [`Bounds::stable_end`] lags behind the end.
//!
//! What is on disk is specified in `docs/specs/disk-format.md`.

mod attendance;
pub mod batch;
mod committer;
mod compact;
pub mod disk;
mod frame;
mod journal;
mod maintenance;
mod partition;
mod plan;
mod producers;
mod queue;
mod reader;
mod recover;
mod retention;
mod segment;
mod settle;
mod shared;
mod snapshot;
mod snapshot_check;
mod sync;
mod tail;
mod transactions;
mod unit;
mod walk;
mod writer;

pub use attendance::{Attendance, Waiter};
pub use committer::Committer;
pub use maintenance::Maintenance;
pub use reader::{
    Aborted, Bounds, DamagedRange, Health, ProducerSnapshot, ReadError, Reader, Slice, Statistics,
    Stretch, TimedBatch, Want,
};
pub use unit::{
    Append, Appended, Clock, CommitError, Committed, Condition, Done, Durability, EndTransaction,
    PartitionChange, PartitionId, StateChange, TransactionOutcome, Unit,
};

use std::sync::Arc;
use std::time::Duration;

use shared::Shared;
use wharf_message::Timestamp;

/// The smallest journal file that holds a frame of every allowed size.
const JOURNAL_FILE_BYTES_MIN: u64 = 128 << 10;
/// The largest: positions in it are kept in 32 bits.
const JOURNAL_FILE_BYTES_MAX: u64 = 2 << 30;

/// The sizes and limits of a log. Bytes unless the name says otherwise.
#[derive(Clone, Debug)]
pub struct Options {
    /// The size of one journal file, at least 128 KiB and at most 2 GiB. A unit larger than a
    /// quarter of it is refused.
    pub journal_file_bytes: u64,
    /// How many sealed journal files may wait before the oldest is settled into segments. When three
    /// times as many wait, the committer waits for settling.
    pub journal_files_max: usize,
    /// The cap on one group (one frame).
    pub group_bytes_max: usize,
    /// The memory tail: recent batches served without touching the disk.
    pub tail_bytes_max: usize,
    /// How many batches the in-memory index may hold before settling starts early.
    pub index_batches_max: usize,
    /// How many segment files are kept open at once.
    pub open_segments_max: usize,
    /// Idempotent producers remembered per partition; the longest idle is forgotten first.
    pub producers_per_partition_max: usize,
    /// Drawn at random for a new log, which keeps the one it has from then on: frames carry it, so
    /// that no client can make up bytes that pass for a frame.
    pub secret: u64,
    /// An idempotent producer idle for this long is forgotten (`producer.id.expiration.ms`).
    pub producer_expiry: Duration,
    /// How many keys one pass of compaction distinguishes at most (some 50 bytes each, while it runs);
    /// with more of them a partition takes several passes.
    pub compaction_keys_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            journal_file_bytes: 64 << 20,
            journal_files_max: 8,
            group_bytes_max: 8 << 20,
            tail_bytes_max: 64 << 20,
            index_batches_max: 1_000_000,
            open_segments_max: 4096,
            producers_per_partition_max: 5_000,
            secret: 0,
            producer_expiry: Duration::from_secs(24 * 60 * 60),
            compaction_keys_max: 1_500_000,
        }
    }
}

impl Options {
    /// The nearest options that the format can hold.
    fn checked(mut self) -> Self {
        let bytes = self
            .journal_file_bytes
            .clamp(JOURNAL_FILE_BYTES_MIN, JOURNAL_FILE_BYTES_MAX);
        self.journal_file_bytes = bytes.next_multiple_of(frame::ALIGNMENT as u64);
        self.journal_files_max = self.journal_files_max.max(1);
        self
    }
}

/// What a partition's data is kept for; asked of the [`Policy`] for each partition.
#[derive(Clone, Debug, PartialEq)]
pub struct Retention {
    /// Delete the oldest segments beyond this size; `None` keeps all.
    pub bytes: Option<u64>,
    /// Delete segments whose newest record is older; `None` keeps all.
    pub age: Option<Duration>,
    /// Roll to a new segment at this size.
    pub segment_bytes: u64,
    /// Roll to a new segment at this age of its first record.
    pub segment_age: Duration,
    /// Keep the newest record of each key only; `None` keeps all.
    pub compaction: Option<Compaction>,
}

/// When a partition's settled segments are compacted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compaction {
    /// Records younger than this stay as they are (`min.compaction.lag.ms`).
    pub min_lag: Duration,
    /// Records older than this do not wait any longer (`max.compaction.lag.ms`).
    pub max_lag: Option<Duration>,
    /// Compact when more than this share of the bytes was not compacted yet
    /// (`min.cleanable.dirty.ratio`), from 0 to 1.
    pub dirty_ratio: f64,
    /// How long tombstones and markers stay after they were first compacted
    /// (`delete.retention.ms`).
    pub delete_retention: Duration,
}

/// Compresses and decompresses the records of batches, for compaction.
pub trait Codec: Send + Sync {
    /// The records decompressed. Whatever `input` claims, the output is bounded; what exceeds the bound
    /// or cannot be decompressed is an error.
    fn decompress(
        &self,
        compression: batch::Compression,
        input: &bytes::Bytes,
    ) -> std::io::Result<bytes::Bytes>;

    /// The records compressed, so that every client can read them.
    fn compress(
        &self,
        compression: batch::Compression,
        input: &bytes::Bytes,
    ) -> std::io::Result<bytes::Bytes>;
}

/// Knows batches that are not compressed and no others: those stay as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCodec;

impl Codec for NoCodec {
    fn decompress(
        &self,
        compression: batch::Compression,
        input: &bytes::Bytes,
    ) -> std::io::Result<bytes::Bytes> {
        match compression {
            batch::Compression::None => Ok(input.clone()),
            _ => Err(std::io::ErrorKind::Unsupported.into()),
        }
    }

    fn compress(
        &self,
        compression: batch::Compression,
        input: &bytes::Bytes,
    ) -> std::io::Result<bytes::Bytes> {
        self.decompress(compression, input)
    }
}

/// How the log learns the settings of a partition. Called by maintenance only.
pub trait Policy: Send + Sync {
    /// The retention of a partition; `None` when it is no longer known (nothing is deleted then).
    fn retention(&self, partition: PartitionId) -> Option<Retention>;

    /// How compaction reads and writes compressed batches.
    fn codec(&self) -> &dyn Codec {
        &NoCodec
    }
}

/// Told about commits, in commit order, from the committer's thread (the one that commits at the
/// moment). Must return quickly.
pub trait Observer: Send + Sync {
    /// New batches of these partitions became readable.
    fn appended(&self, partitions: &[PartitionId]);
}

/// What start-up found.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Frames replayed after the snapshot.
    pub frames_replayed: u64,
    /// Bytes cut from a torn tail (never acknowledged).
    pub torn_tail_bytes: u64,
    /// Ranges that are damaged and refused.
    pub damaged: Vec<DamagedRange>,
}

/// Why a log cannot be opened. Nothing was changed or deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The disk failed.
    #[error("the disk failed while opening the log at {path}")]
    Disk {
        /// The file or directory, relative to the data directory.
        path: String,
        /// What the disk said.
        #[source]
        source: std::io::Error,
    },
    /// The snapshot's checksum or content is wrong.
    #[error("the snapshot {path} cannot be read: {reason}")]
    Snapshot {
        /// The file, relative to the data directory.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A journal file is shorter than it was made, so frames at its end may be missing.
    #[error("{path} has {found} bytes, but was made with {made}: its end is missing")]
    CutShort {
        /// The file, relative to the data directory.
        path: String,
        /// Its size in bytes.
        found: u64,
        /// The size it should have.
        made: u64,
    },
    /// The files were written in a format this version does not know.
    #[error("{path} has format version {found}; this version reads {supported}")]
    Format {
        /// The file, relative to the data directory.
        path: String,
        /// The version found.
        found: u32,
        /// The version supported.
        supported: u32,
    },
}

/// An open log, as its four handles.
#[derive(Debug)]
pub struct Log {
    /// Takes units from any thread.
    pub appender: Appender,
    /// Writes and syncs; in one thread at a time.
    pub committer: Committer,
    /// Reads from any thread.
    pub reader: Reader,
    /// Prepares files, settles, snapshots, deletes; owned by one thread.
    pub maintenance: Maintenance,
    /// What start-up found.
    pub recovery: Recovery,
}

impl Log {
    /// Opens the log on `disk`, recovering what was committed. `observer` is told of new batches.
    pub fn open(
        disk: Arc<dyn disk::Disk>,
        options: Options,
        observer: Arc<dyn Observer>,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared::new(disk, options.checked()));
        let recovered = recover::recover(&shared)?;
        retention::expire_producers(&shared, now);
        Ok(Self {
            appender: Appender {
                shared: Arc::clone(&shared),
            },
            committer: Committer::new(Arc::clone(&shared), observer, recovered.end),
            reader: Reader::new(Arc::clone(&shared)),
            maintenance: Maintenance::new(shared, recovered.snapshot),
            recovery: recovered.recovery,
        })
    }
}

/// Takes units from any thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Appender {
    shared: Arc<Shared>,
}

impl Appender {
    /// Queues units in order; `done` of each is called exactly once, from the committer's thread,
    /// after the sync that covers the unit (or with the reason why it was refused). After
    /// [`Self::close`] it is called at once, from this thread.
    pub fn submit(&self, units: Vec<(Unit, Done)>) {
        if let Err(refused) = self.shared.queue.push(units) {
            for (_unit, done) in refused {
                done(Err(CommitError::Closed));
            }
        }
    }

    /// Until the attendance ends, submitting does not wake who waits in [`Waiter::wait`]: either
    /// [`Committer::run_attended`] commits what was submitted, or dropping it wakes them.
    pub fn attend(&self) -> Attendance {
        Attendance::new(Arc::clone(&self.shared))
    }

    /// The most bytes a unit may take; larger ones are refused with [`CommitError::TooLarge`]. Half
    /// of it is always enough for the markers of a transaction.
    pub fn unit_bytes_max(&self) -> usize {
        committer::unit_bytes_max(&self.shared.options)
    }

    /// Lets no further unit in and lets [`Waiter::wait`] return false once the queue is empty.
    /// Also ends a `wait` of maintenance.
    pub fn close(&self) {
        self.shared.queue.close();
        self.shared.work.raise();
        self.shared.journal.look_again();
    }
}
