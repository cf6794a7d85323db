//! Messages as records of the broker, and back. Keys and payloads are shared, never copied.

use std::borrow::Cow;

use bytes::Bytes;
use wharf_broker::records::{RECORD_BYTES, Record};
use wharf_broker::{Error as BrokerError, ErrorKind};
use wharf_message::transport::Error;
use wharf_message::{Message, Timestamp, TopicName};

/// The record that stands for a message; `now` where it has no time of its own.
pub(super) fn record(message: Message, now: Timestamp) -> Record {
    let name = |name: Cow<'static, str>| match name {
        Cow::Borrowed(name) => Bytes::from_static(name.as_bytes()),
        Cow::Owned(name) => Bytes::from(name),
    };
    let headers = message.headers.into_entries().into_iter();
    Record {
        offset: 0,
        timestamp: message.timestamp.unwrap_or(now),
        key: message.key,
        value: message.payload,
        headers: headers.map(|(text, value)| (name(text), value)).collect(),
    }
}

/// The message that a record stands for. What is no text in a header's name is replaced, as no
/// client is able to write it.
pub(super) fn message(record: Record) -> Message {
    let name = |name: &Bytes| Cow::Owned(String::from_utf8_lossy(name).into_owned());
    let headers = record.headers.into_iter();
    Message {
        key: record.key,
        payload: record.value,
        headers: headers.map(|(text, value)| (name(&text), value)).collect(),
        timestamp: Some(record.timestamp),
    }
}

/// What a message takes in a batch at most, in bytes.
pub(super) fn bytes(message: &Message) -> usize {
    message.size() + RECORD_BYTES * (1 + message.headers.len())
}

/// What a refusal of the broker means to whoever published to `topic`.
pub(super) fn error(error: BrokerError, topic: &TopicName) -> Error {
    match error.kind {
        ErrorKind::KafkaStorageError
        | ErrorKind::NotLeaderOrFollower
        | ErrorKind::CoordinatorNotAvailable
        | ErrorKind::ConcurrentTransactions
        | ErrorKind::NotEnoughReplicas
        | ErrorKind::RequestTimedOut
        | ErrorKind::StaleMemberEpoch
        | ErrorKind::FencedMemberEpoch
        | ErrorKind::IllegalGeneration
        | ErrorKind::UnknownMemberId => Error::Unavailable(error.message),
        ErrorKind::UnknownTopicOrPartition | ErrorKind::UnknownTopicId => {
            Error::UnknownTopic(topic.clone())
        }
        ErrorKind::TopicAuthorizationFailed
        | ErrorKind::GroupAuthorizationFailed
        | ErrorKind::ClusterAuthorizationFailed => Error::Denied(error.message),
        _ => Error::Refused(error.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_from_its_record_and_no_payload_is_copied() {
        let mut sent = Message::new("payload")
            .with_key("key")
            .with_header("a", "1");
        sent.headers.push("a", vec![0xff]);
        sent.headers.push_raw(String::from("none"), None);
        sent.timestamp = Some(Timestamp::from_millis(5));
        let at = sent.payload.as_ref().map(|payload| payload.as_ptr());
        let back = message(record(sent.clone(), Timestamp::ZERO));
        assert_eq!(back, sent);
        assert_eq!(back.payload.as_ref().map(|payload| payload.as_ptr()), at);
    }

    #[test]
    fn a_message_takes_no_more_than_was_reckoned() {
        let mut long = Message::new(vec![0; 70_000]).with_key(vec![0; 300]);
        for index in 0..200 {
            long.headers.push(format!("header-{index}"), vec![0; index]);
        }
        for message in [Message::default(), Message::new(""), long] {
            let bytes = bytes(&message);
            let batch = wharf_broker::records::encode(&[record(message, Timestamp::ZERO)]);
            assert!(batch.len() <= wharf_broker::records::BATCH_BYTES + bytes);
        }
    }
}
