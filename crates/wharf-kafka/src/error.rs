//! Kafka's number for every refusal of the broker. No kind may be without one: there is no
//! wildcard arm.

use kafka_protocol::error::ResponseError;
use wharf_broker::{Error, ErrorKind};

/// The number of "no error".
pub(crate) const NONE: i16 = 0;

/// Kafka's number for what became of something.
pub(crate) fn code_of<T>(result: &Result<T, Error>) -> i16 {
    result
        .as_ref()
        .err()
        .map_or(NONE, |error| error_code(error.kind))
}

/// Kafka's number in an answer to a transactional producer: those whose version is older than the
/// number of a fenced producer know it as one with an old epoch.
pub(crate) const fn producer_code(kind: ErrorKind, knows_fenced: bool) -> i16 {
    match kind {
        ErrorKind::ProducerFenced if !knows_fenced => error_code(ErrorKind::InvalidProducerEpoch),
        kind => error_code(kind),
    }
}

/// Kafka's number for a kind of refusal.
pub(crate) const fn error_code(kind: ErrorKind) -> i16 {
    use ErrorKind as K;
    use ResponseError as R;
    let error = match kind {
        K::UnknownServerError => R::UnknownServerError,
        K::OffsetOutOfRange => R::OffsetOutOfRange,
        K::CorruptMessage => R::CorruptMessage,
        K::UnknownTopicOrPartition => R::UnknownTopicOrPartition,
        K::UnknownTopicId => R::UnknownTopicId,
        K::InconsistentTopicId => R::InconsistentTopicId,
        K::InvalidTopic => R::InvalidTopicException,
        K::TopicAlreadyExists => R::TopicAlreadyExists,
        K::InvalidPartitions => R::InvalidPartitions,
        K::InvalidReplicationFactor => R::InvalidReplicationFactor,
        K::InvalidReplicaAssignment => R::InvalidReplicaAssignment,
        K::InvalidConfig => R::InvalidConfig,
        K::InvalidRequest => R::InvalidRequest,
        K::InvalidRequiredAcks => R::InvalidRequiredAcks,
        K::InvalidTimestamp => R::InvalidTimestamp,
        K::InvalidRecord => R::InvalidRecord,
        K::MessageTooLarge => R::MessageTooLarge,
        K::RecordListTooLarge => R::RecordListTooLarge,
        K::UnsupportedCompressionType => R::UnsupportedCompressionType,
        K::UnsupportedForMessageFormat => R::UnsupportedForMessageFormat,
        K::UnsupportedVersion => R::UnsupportedVersion,
        K::KafkaStorageError => R::KafkaStorageError,
        K::PolicyViolation => R::PolicyViolation,
        K::RequestTimedOut => R::RequestTimedOut,
        K::NotLeaderOrFollower => R::NotLeaderOrFollower,
        K::FencedLeaderEpoch => R::FencedLeaderEpoch,
        K::UnknownLeaderEpoch => R::UnknownLeaderEpoch,
        K::OutOfOrderSequenceNumber => R::OutOfOrderSequenceNumber,
        K::DuplicateSequenceNumber => R::DuplicateSequenceNumber,
        K::InvalidProducerEpoch => R::InvalidProducerEpoch,
        K::UnknownProducerId => R::UnknownProducerId,
        K::InvalidTransactionTimeout => R::InvalidTransactionTimeout,
        K::InvalidTxnState => R::InvalidTxnState,
        K::InvalidProducerIdMapping => R::InvalidProducerIdMapping,
        K::ConcurrentTransactions => R::ConcurrentTransactions,
        K::ProducerFenced => R::ProducerFenced,
        K::TransactionCoordinatorFenced => R::TransactionCoordinatorFenced,
        K::TransactionAbortable => R::TransactionAbortable,
        K::TransactionalIdAuthorizationFailed => R::TransactionalIdAuthorizationFailed,
        K::TransactionalIdNotFound => R::TransactionalIdNotFound,
        K::UnstableOffsetCommit => R::UnstableOffsetCommit,
        K::NotEnoughReplicas => R::NotEnoughReplicas,
        K::OperationNotAttempted => R::OperationNotAttempted,
        K::CoordinatorNotAvailable => R::CoordinatorNotAvailable,
        K::CoordinatorLoadInProgress => R::CoordinatorLoadInProgress,
        K::NotCoordinator => R::NotCoordinator,
        K::IllegalGeneration => R::IllegalGeneration,
        K::InconsistentGroupProtocol => R::InconsistentGroupProtocol,
        K::InvalidGroupId => R::InvalidGroupId,
        K::UnknownMemberId => R::UnknownMemberId,
        K::InvalidSessionTimeout => R::InvalidSessionTimeout,
        K::RebalanceInProgress => R::RebalanceInProgress,
        K::InvalidCommitOffsetSize => R::InvalidCommitOffsetSize,
        K::OffsetMetadataTooLarge => R::OffsetMetadataTooLarge,
        K::MemberIdRequired => R::MemberIdRequired,
        K::GroupMaxSizeReached => R::GroupMaxSizeReached,
        K::FencedInstanceId => R::FencedInstanceId,
        K::UnreleasedInstanceId => R::UnreleasedInstanceId,
        K::FencedMemberEpoch => R::FencedMemberEpoch,
        K::StaleMemberEpoch => R::StaleMemberEpoch,
        K::UnsupportedAssignor => R::UnsupportedAssignor,
        K::InvalidRegularExpression => R::InvalidRegularExpression,
        K::GroupIdNotFound => R::GroupIdNotFound,
        K::NonEmptyGroup => R::NonEmptyGroup,
        K::GroupSubscribedToTopic => R::GroupSubscribedToTopic,
        K::FetchSessionIdNotFound => R::FetchSessionIdNotFound,
        K::InvalidFetchSessionEpoch => R::InvalidFetchSessionEpoch,
        K::FetchSessionTopicIdError => R::FetchSessionTopicIdError,
        K::TopicDeletionDisabled => R::TopicDeletionDisabled,
        K::ResourceNotFound => R::ResourceNotFound,
        K::ThrottlingQuotaExceeded => R::ThrottlingQuotaExceeded,
        K::TopicAuthorizationFailed => R::TopicAuthorizationFailed,
        K::GroupAuthorizationFailed => R::GroupAuthorizationFailed,
        K::ClusterAuthorizationFailed => R::ClusterAuthorizationFailed,
    };
    error.code()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_protocol() {
        for (kind, number) in [
            (ErrorKind::UnknownServerError, -1),
            (ErrorKind::OffsetOutOfRange, 1),
            (ErrorKind::CorruptMessage, 2),
            (ErrorKind::UnknownTopicOrPartition, 3),
            (ErrorKind::MessageTooLarge, 10),
            (ErrorKind::CoordinatorNotAvailable, 15),
            (ErrorKind::InvalidTopic, 17),
            (ErrorKind::InvalidRequiredAcks, 21),
            (ErrorKind::IllegalGeneration, 22),
            (ErrorKind::UnknownMemberId, 25),
            (ErrorKind::RebalanceInProgress, 27),
            (ErrorKind::TopicAlreadyExists, 36),
            (ErrorKind::InvalidRequest, 42),
            (ErrorKind::OutOfOrderSequenceNumber, 45),
            (ErrorKind::InvalidTransactionTimeout, 50),
            (ErrorKind::KafkaStorageError, 56),
            (ErrorKind::FetchSessionIdNotFound, 70),
            (ErrorKind::UnsupportedCompressionType, 76),
            (ErrorKind::MemberIdRequired, 79),
            (ErrorKind::FencedInstanceId, 82),
            (ErrorKind::InvalidRecord, 87),
            (ErrorKind::UnknownTopicId, 100),
            (ErrorKind::FetchSessionTopicIdError, 106),
        ] {
            assert_eq!(error_code(kind), number, "{kind:?}");
        }
    }
}
