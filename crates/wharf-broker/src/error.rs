//! What the broker refuses, and why. `wharf-kafka` maps each kind to Kafka's code in one
//! exhaustive match.

use wharf_log::{CommitError, ReadError};

/// Why a request was refused: a kind for programs and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind of refusal.
    pub kind: ErrorKind,
    /// One sentence for people; may be sent to clients.
    pub message: String,
    /// The records that a batch was refused for (KIP-467), in order, [`RECORD_ERRORS_MAX`]
    /// in the answer to a request at most; empty when it is not about single records.
    pub records: Vec<RecordError>,
}

/// The most records that the refusals of one request name.
pub const RECORD_ERRORS_MAX: usize = 1_000;

/// Why a record kept its batch from being appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// Its place in the batch, from 0.
    pub index: i32,
    /// One sentence for people; may be sent to clients.
    pub message: String,
}

/// The kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is Kafka's error of the same name")]
pub enum ErrorKind {
    UnknownServerError,
    OffsetOutOfRange,
    CorruptMessage,
    UnknownTopicOrPartition,
    UnknownTopicId,
    InconsistentTopicId,
    InvalidTopic,
    TopicAlreadyExists,
    InvalidPartitions,
    InvalidReplicationFactor,
    InvalidReplicaAssignment,
    InvalidConfig,
    InvalidRequest,
    InvalidRequiredAcks,
    InvalidTimestamp,
    InvalidRecord,
    MessageTooLarge,
    RecordListTooLarge,
    UnsupportedCompressionType,
    UnsupportedForMessageFormat,
    UnsupportedVersion,
    KafkaStorageError,
    PolicyViolation,
    RequestTimedOut,
    NotLeaderOrFollower,
    FencedLeaderEpoch,
    UnknownLeaderEpoch,
    OutOfOrderSequenceNumber,
    DuplicateSequenceNumber,
    InvalidProducerEpoch,
    UnknownProducerId,
    InvalidTransactionTimeout,
    InvalidTxnState,
    InvalidProducerIdMapping,
    ConcurrentTransactions,
    ProducerFenced,
    TransactionCoordinatorFenced,
    TransactionAbortable,
    TransactionalIdAuthorizationFailed,
    TransactionalIdNotFound,
    UnstableOffsetCommit,
    NotEnoughReplicas,
    OperationNotAttempted,
    CoordinatorNotAvailable,
    CoordinatorLoadInProgress,
    NotCoordinator,
    IllegalGeneration,
    InconsistentGroupProtocol,
    InvalidGroupId,
    UnknownMemberId,
    InvalidSessionTimeout,
    RebalanceInProgress,
    InvalidCommitOffsetSize,
    OffsetMetadataTooLarge,
    MemberIdRequired,
    GroupMaxSizeReached,
    FencedInstanceId,
    UnreleasedInstanceId,
    FencedMemberEpoch,
    StaleMemberEpoch,
    UnsupportedAssignor,
    InvalidRegularExpression,
    GroupIdNotFound,
    NonEmptyGroup,
    GroupSubscribedToTopic,
    FetchSessionIdNotFound,
    InvalidFetchSessionEpoch,
    FetchSessionTopicIdError,
    TopicDeletionDisabled,
    ResourceNotFound,
    ThrottlingQuotaExceeded,
    TopicAuthorizationFailed,
    GroupAuthorizationFailed,
    ClusterAuthorizationFailed,
}

impl Error {
    /// A refusal of `kind`, said as `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            records: Vec::new(),
        }
    }
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        let kind = match &error {
            CommitError::UnknownPartition(_) => ErrorKind::UnknownTopicOrPartition,
            CommitError::OutOfOrderSequence { .. } => ErrorKind::OutOfOrderSequenceNumber,
            CommitError::DuplicateSequence => ErrorKind::DuplicateSequenceNumber,
            CommitError::InvalidProducerEpoch { .. } => ErrorKind::InvalidProducerEpoch,
            CommitError::UnknownProducer => ErrorKind::UnknownProducerId,
            CommitError::InvalidTransactionState => ErrorKind::InvalidTxnState,
            CommitError::TransactionTooWide(_) => ErrorKind::TransactionAbortable,
            CommitError::CoordinatorFenced { .. } => ErrorKind::TransactionCoordinatorFenced,
            CommitError::OffsetOutOfRange { .. } => ErrorKind::OffsetOutOfRange,
            CommitError::TooLarge { .. } => ErrorKind::MessageTooLarge,
            CommitError::DiskFull | CommitError::Poisoned => ErrorKind::KafkaStorageError,
            CommitError::Closed => ErrorKind::NotLeaderOrFollower,
            _ => ErrorKind::UnknownServerError,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        let kind = match &error {
            ReadError::UnknownPartition(_) => ErrorKind::UnknownTopicOrPartition,
            ReadError::OffsetOutOfRange { .. } => ErrorKind::OffsetOutOfRange,
            ReadError::Damaged(_) | ReadError::Disk(_) => ErrorKind::KafkaStorageError,
            _ => ErrorKind::UnknownServerError,
        };
        Self::new(kind, error.to_string())
    }
}
