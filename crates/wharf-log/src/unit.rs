//! What goes into the log: units, each one atomic.

use bytes::Bytes;
use wharf_message::Timestamp;

/// A partition's number, given by the caller, never reused. The log knows no topic names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u64);

/// Everything that belongs together: committed whole or not at all.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    /// Checked in the committer's thread, before anything else; one failing refuses the unit.
    pub conditions: Vec<Condition>,
    /// Changes to partitions, applied before the appends.
    pub partitions: Vec<PartitionChange>,
    /// Record batches to append.
    pub appends: Vec<Append>,
    /// Transactions to end, after the appends.
    pub transactions: Vec<EndTransaction>,
    /// Changes to the durable key-value state (topics, offsets, timers, role records).
    pub state: Vec<StateChange>,
    /// When the unit is answered.
    pub durability: Durability,
}

/// When a unit is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After the sync.
    #[default]
    Synced,
    /// After the write; the operating system syncs when it likes (a topic's opt-out).
    Buffered,
}

/// What must hold for a unit to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The state under `key` equals `value` (`None`: there is none). This is how owners are
    /// fenced and names kept unique.
    StateEquals {
        /// The key.
        key: Bytes,
        /// The value it must have.
        value: Option<Bytes>,
    },
    /// The partition's next offset equals this one.
    NextOffset {
        /// The partition.
        partition: PartitionId,
        /// The offset the next record would get.
        offset: i64,
    },
}

/// A change to a partition itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionChange {
    /// A new, empty partition starting at offset 0.
    Create(PartitionId),
    /// The partition and all its data go.
    Remove(PartitionId),
    /// Records before `offset` go (DeleteRecords). Beyond the end it is refused.
    AdvanceStart {
        /// The partition.
        partition: PartitionId,
        /// The new first offset.
        offset: i64,
    },
}

/// Which clock stamps the records (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// The producer's times stay.
    #[default]
    CreateTime,
    /// The batch is stamped with the time of the append.
    LogAppendTime,
}

/// One Kafka record batch (v2) to append. Its CRC must have been verified by the caller
/// ([`crate::batch::verify`]); producer id, epoch and sequence are read from its header.
#[derive(Clone, Debug)]
pub struct Append {
    /// Where to.
    pub partition: PartitionId,
    /// The batch as received; base offset and leader epoch are patched in the log's own copy.
    pub batch: Bytes,
    /// Which clock stamps it.
    pub clock: Clock,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionOutcome {
    /// Its records count.
    Commit,
    /// Its records are as if they had never been written, for readers of committed records.
    Abort,
}

/// Ends a producer's transaction: a control batch (marker) in every partition concerned (KIP-98),
/// all in the unit's one frame.
///
/// A transaction begins in a partition with the producer's first transactional batch there. An
/// epoch above the known one moves the producer on: its next transaction starts at sequence 0
/// (KIP-890); under the same epoch its sequences go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndTransaction {
    /// The producer's id.
    pub producer: i64,
    /// The epoch written into the markers; older than a partition knows is refused with
    /// [`CommitError::InvalidProducerEpoch`].
    pub epoch: i16,
    /// The coordinator's epoch written into the markers; older than a partition knows is refused
    /// with [`CommitError::CoordinatorFenced`].
    pub coordinator_epoch: i32,
    /// Commit or abort.
    pub outcome: TransactionOutcome,
    /// Exactly these partitions, open transaction or not; `None`: every partition in which the
    /// producer has an open transaction, those that the same unit opens included.
    pub partitions: Option<Vec<PartitionId>>,
}

/// One change to the durable key-value state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// The key; the first byte names the table by convention of the caller.
    pub key: Bytes,
    /// The new value; `None` removes the key.
    pub value: Option<Bytes>,
}

/// Where an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the batch's first record (the original one for a duplicate).
    pub base_offset: i64,
    /// The offset of its last record.
    pub last_offset: i64,
    /// The partition's first offset at that moment.
    pub log_start: i64,
    /// The append time, under [`Clock::LogAppendTime`].
    pub append_time: Option<Timestamp>,
    /// Whether the batch had been appended before (idempotent producer) and was not again.
    pub duplicate: bool,
}

/// A committed unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// One per append of the unit, in order.
    pub appends: Vec<Appended>,
    /// The markers written by the unit's transactions, in their order: where, and at which offset.
    pub ended: Vec<(PartitionId, i64)>,
}

/// Why a unit was refused. Nothing of it was or will be visible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The partition does not exist (any more).
    #[error("partition {} does not exist", .0.0)]
    UnknownPartition(PartitionId),
    /// The append is no whole batch of format 2 (the caller should have verified it).
    #[error("the append is no whole record batch")]
    InvalidBatch,
    /// The partition exists already.
    #[error("partition {} exists already", .0.0)]
    PartitionExists(PartitionId),
    /// The condition with this index did not hold.
    #[error("condition {0} of the unit does not hold")]
    ConditionFailed(usize),
    /// The batch's sequence is neither the next one nor a remembered duplicate.
    #[error("the producer's sequence {found} is out of order; {expected} was expected")]
    OutOfOrderSequence {
        /// The next sequence.
        expected: i32,
        /// The one in the batch.
        found: i32,
    },
    /// The sequence is older than the five remembered batches.
    #[error("the producer's sequence is older than what is remembered")]
    DuplicateSequence,
    /// The producer's epoch is older than the newest seen.
    #[error("the producer's epoch {found} is fenced by {current}")]
    InvalidProducerEpoch {
        /// The newest epoch seen.
        current: i16,
        /// The one in the batch.
        found: i16,
    },
    /// The producer is not known here and its first batch does not start at sequence 0.
    #[error("the producer is not known in this partition")]
    UnknownProducer,
    /// The coordinator's epoch is older than the newest seen.
    #[error("the coordinator's epoch {found} is fenced by {current}")]
    CoordinatorFenced {
        /// The newest epoch seen.
        current: i32,
        /// The one of the unit.
        found: i32,
    },
    /// The producer has an open transaction here that the batch is no part of: it is not
    /// transactional, or of a later epoch.
    #[error("the producer has an open transaction that the batch is no part of")]
    InvalidTransactionState,
    /// The transaction would be open in more partitions than one unit can end it in.
    #[error("a transaction over more than {0} partitions could not be ended")]
    TransactionTooWide(usize),
    /// `AdvanceStart` beyond the end or below the start.
    #[error("offset {offset} is outside {start}..={end}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: i64,
        /// The first offset.
        start: i64,
        /// The end offset.
        end: i64,
    },
    /// The unit does not fit into a journal file.
    #[error("the unit of {bytes} bytes is larger than {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The disk is full: nothing was written; try again later.
    #[error("the disk is full")]
    DiskFull,
    /// A sync or write failed: the log stopped acknowledging for good. Whether the unit survives a
    /// restart is unknown; until then nobody sees it.
    #[error("the log stopped acknowledging after a failed write or sync")]
    Poisoned,
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
}

/// Called once with the outcome, from the committer's thread; must return quickly.
pub type Done = Box<dyn FnOnce(Result<Committed, CommitError>) + Send>;
