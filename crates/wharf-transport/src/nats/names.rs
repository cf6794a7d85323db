//! What topics and groups are called on the server.
//!
//! | here | there |
//! |---|---|
//! | topic `orders.v1` | stream `wharf-orders~v1` with the subjects `wharf.topic.orders~v1` and `wharf.schedule.orders~v1.>` |
//! | group `billing.eu` | durable consumer `billing~eu` of the stream |
//!
//! Names of streams and consumers hold no `.`, and a subject's tokens may not be empty as parts of a
//! topic's name may (`a..b`). So the one character that is in the way is another one there, `~`, which
//! is in no name here: the mapping is reversible, and every topic is one token of a subject.

use wharf_message::{GroupName, TopicName};

fn token(name: &str) -> String {
    name.replace('.', "~")
}

/// The stream that keeps a topic.
pub(super) fn stream(topic: &TopicName) -> String {
    format!("wharf-{}", token(topic.as_str()))
}

/// The subject that a topic's messages have.
pub(super) fn subject(topic: &TopicName) -> String {
    format!("wharf.topic.{}", token(topic.as_str()))
}

/// A subject for one scheduled message, or for all of a topic with `>`.
pub(super) fn schedule(topic: &TopicName, id: &str) -> String {
    format!("wharf.schedule.{}.{id}", token(topic.as_str()))
}

/// The durable consumer of a group.
pub(super) fn consumer(group: &GroupName) -> String {
    token(group.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_are_single_tokens_and_reversible(name in "[a-zA-Z0-9._-]{1,249}") {
            prop_assume!(name != "." && name != "..");
            let topic = TopicName::new(&name).expect("valid");
            let stream = stream(&topic);
            prop_assert!(!stream.contains('.') && stream.len() <= 255);
            prop_assert_eq!(stream["wharf-".len()..].replace('~', "."), name);
            prop_assert_eq!(subject(&topic).split('.').count(), 3);
        }
    }
}
