//! librdkafka's errors as those of the seams: by what a caller can do about them.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use wharf_message::TopicName;
use wharf_message::transport::Error;

/// What it says, where no single message or topic is concerned.
pub(super) fn general(error: &KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, why, name, _) => {
            Error::Refused(format!("the property {name} of the address: {why}"))
        }
        KafkaError::ClientCreation(why) => Error::Refused(why.clone()),
        KafkaError::Canceled => Error::Closed,
        KafkaError::Transaction(error) if error.is_retriable() || error.txn_requires_abort() => {
            match of_code(error.code(), &error.string()) {
                Error::Refused(why) => Error::Unavailable(why),
                other => other,
            }
        }
        other => match other.rdkafka_error_code() {
            Some(code) => of_code(code, &other.to_string()),
            None => Error::Refused(other.to_string()),
        },
    }
}

/// What it says about a message of `bytes` bytes for `topic`.
pub(super) fn of_publish(
    error: &KafkaError,
    topic: &TopicName,
    bytes: usize,
    bytes_max: usize,
) -> Error {
    match error.rdkafka_error_code() {
        Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize) => {
            Error::TooLarge { bytes, bytes_max }
        }
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => {
            Error::UnknownTopic(topic.clone())
        }
        Some(Code::InvalidTopic) => Error::Refused(format!("the topic {topic} is not valid")),
        _ => general(error),
    }
}

/// Whether the client that says so can do nothing more and has to be made anew.
pub(super) fn is_fatal(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(error) => error.is_fatal(),
        KafkaError::MessageConsumptionFatal(_) => true,
        other => matches!(other.rdkafka_error_code(), Some(Code::Fatal)),
    }
}

/// Whether it says that the connection to the brokers is lost.
pub(super) fn is_outage(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve)
    )
}

fn of_code(code: Code, text: &str) -> Error {
    match code {
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::SSL => Error::Denied(text.to_owned()),
        Code::MessageTimedOut
        | Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::TimedOutQueue
        | Code::WaitingForCoordinator
        | Code::CoordinatorNotAvailable
        | Code::CoordinatorLoadInProgress
        | Code::NotCoordinator
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::NetworkException
        | Code::BrokerNotAvailable
        | Code::ReplicaNotAvailable
        | Code::RebalanceInProgress
        | Code::IllegalGeneration
        | Code::UnknownMemberId
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::QueueFull
        | Code::DestroyBroker
        | Code::BrokerDestroy
        | Code::Retry
        | Code::Fatal
        | Code::Fenced
        | Code::ISRInsufficient
        | Code::GaplessGuarantee
        | Code::InProgress
        | Code::AssignmentLost
        | Code::NotController
        | Code::KafkaStorageError => Error::Unavailable(text.to_owned()),
        _ => Error::Refused(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_a_caller_can_do() {
        let topic = TopicName::new("orders").expect("valid");
        let publish = |code| of_publish(&KafkaError::MessageProduction(code), &topic, 9, 5);
        let too_large = Error::TooLarge {
            bytes: 9,
            bytes_max: 5,
        };
        assert_eq!(publish(Code::MessageSizeTooLarge), too_large);
        assert_eq!(
            publish(Code::UnknownTopic),
            Error::UnknownTopic(topic.clone())
        );
        assert!(matches!(
            publish(Code::TopicAuthorizationFailed),
            Error::Denied(_)
        ));
        assert!(publish(Code::MessageTimedOut).is_transient());
        assert!(!publish(Code::InvalidRecord).is_transient());
        assert!(is_fatal(&KafkaError::MessageProduction(Code::Fatal)));
        assert!(is_outage(&KafkaError::Global(Code::AllBrokersDown)));
    }
}
