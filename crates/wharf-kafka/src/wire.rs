//! The broker's words as the protocol writes them. Only conversions; nothing is decided here.

use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::StrBytes;
use wharf_broker::{Error, TopicRef};

/// The only leader epoch: one node leads every partition for ever.
pub(crate) const LEADER_EPOCH: i32 = 0;
/// No node.
pub(crate) const NO_NODE: BrokerId = BrokerId(-1);
/// The longest error sentence in characters; names that clients sent may be part of it.
const MESSAGE_CHARS_MAX: usize = 1000;

/// A text.
pub(crate) fn text(value: impl Into<String>) -> StrBytes {
    StrBytes::from_string(value.into())
}

/// A topic's name.
pub(crate) fn topic_name(value: impl Into<String>) -> TopicName {
    TopicName(text(value))
}

/// The sentence of an error, in a length that every version can carry.
pub(crate) fn message(error: &Error) -> StrBytes {
    text(
        error
            .message
            .chars()
            .take(MESSAGE_CHARS_MAX)
            .collect::<String>(),
    )
}

/// The sentence of what went wrong, if something did.
pub(crate) fn message_of<T>(result: &Result<T, Error>) -> Option<StrBytes> {
    result.as_ref().err().map(message)
}

/// The topic of a request that names topics by id from some version on.
pub(crate) fn topic_ref(by_id: bool, name: &TopicName, id: uuid::Uuid) -> TopicRef {
    if by_id {
        TopicRef::Id(id)
    } else {
        TopicRef::Name(name.to_string())
    }
}

/// What a principal may do, as bits (KIP-430). There are no access rules yet, so whoever asks may
/// do everything that can be done with the resource.
pub(crate) mod operations {
    /// Nobody asked.
    pub(crate) const NOT_ASKED: i32 = i32::MIN;
    /// Everything on a topic.
    pub(crate) const TOPIC: i32 = bits(&[
        READ,
        WRITE,
        CREATE,
        DELETE,
        ALTER,
        DESCRIBE,
        DESCRIBE_CONFIGS,
        ALTER_CONFIGS,
    ]);
    /// Everything on the cluster.
    pub(crate) const CLUSTER: i32 = bits(&[
        CREATE,
        ALTER,
        DESCRIBE,
        CLUSTER_ACTION,
        DESCRIBE_CONFIGS,
        ALTER_CONFIGS,
        IDEMPOTENT_WRITE,
    ]);
    /// Everything on a group.
    pub(crate) const GROUP: i32 = bits(&[READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS]);

    // `AclOperation` in Kafka.
    const READ: u8 = 3;
    const WRITE: u8 = 4;
    const CREATE: u8 = 5;
    const DELETE: u8 = 6;
    const ALTER: u8 = 7;
    const DESCRIBE: u8 = 8;
    const CLUSTER_ACTION: u8 = 9;
    const DESCRIBE_CONFIGS: u8 = 10;
    const ALTER_CONFIGS: u8 = 11;
    const IDEMPOTENT_WRITE: u8 = 12;

    const fn bits(operations: &[u8]) -> i32 {
        let mut bits = 0;
        let mut index = 0;
        while index < operations.len() {
            bits |= 1 << operations[index];
            index += 1;
        }
        bits
    }

    /// The bits when they were asked for.
    pub(crate) const fn when(asked: bool, bits: i32) -> i32 {
        if asked { bits } else { NOT_ASKED }
    }
}
