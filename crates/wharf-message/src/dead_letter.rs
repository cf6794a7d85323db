//! Dead letters as they are written: the topic they go to and the headers they get.
//!
//! A dead letter is the message with its bytes and its headers as they were, and what is known about
//! its failure beside them: our own headers as text, and the names that Kafka 4.4 writes for share
//! groups (KIP-1191), so that tools for those read ours too. Nothing of the original is left out;
//! headers of an earlier dead letter, when a replayed message fails again, are replaced.

use std::fmt;

use crate::transport::Position;
use crate::{GroupName, InvalidName, Message, Timestamp, TopicName, header};

/// What the names of dead-letter topics begin with.
pub const PREFIX: &str = "dlq.";
/// The error text is cut to this many bytes.
pub const ERROR_BYTES_MAX: usize = 16 << 10;

/// The class of a failure.
///
/// ```
/// use wharf_message::dead_letter::Reason;
///
/// assert_eq!(Reason::TimedOut.name(), "timed-out");
/// assert_eq!(Reason::from_name("timed-out"), Some(Reason::TimedOut));
/// assert_eq!(Reason::from_name("bored"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The payload or a header could not be read.
    Undecodable,
    /// No handler takes this type of message.
    UnknownType,
    /// The handler said that this message can never be handled.
    Rejected,
    /// Every attempt failed.
    RetriesExhausted,
    /// The handler panicked.
    Panicked,
    /// The handler did not come to an end in time.
    TimedOut,
    /// The payload that a claim check stands for is lost or damaged.
    ClaimLost,
}

impl Reason {
    /// Every class.
    pub const ALL: [Self; 7] = [
        Self::Undecodable,
        Self::UnknownType,
        Self::Rejected,
        Self::RetriesExhausted,
        Self::Panicked,
        Self::TimedOut,
        Self::ClaimLost,
    ];

    /// Its name in headers and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::UnknownType => "unknown-type",
            Self::Rejected => "rejected",
            Self::RetriesExhausted => "retries-exhausted",
            Self::Panicked => "panicked",
            Self::TimedOut => "timed-out",
            Self::ClaimLost => "claim-lost",
        }
    }

    /// The class of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Why a message is set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The class.
    pub reason: Reason,
    /// The error and its causes, outermost first, one per line.
    pub error: String,
    /// How many attempts were made.
    pub attempts: u32,
    /// When the first one failed, if that is known.
    pub first_failed_at: Option<Timestamp>,
    /// When the last one failed.
    pub failed_at: Timestamp,
    /// The handler's name.
    pub handler: String,
}

/// Where the dead letters of a group for a topic go: `dlq.<topic>.<group>`.
///
/// ```
/// use wharf_message::{GroupName, TopicName, dead_letter};
///
/// let (orders, billing) = (TopicName::new("orders")?, GroupName::new("billing")?);
/// assert_eq!(dead_letter::topic(&orders, &billing)?.as_str(), "dlq.orders.billing");
/// # Ok::<(), wharf_message::InvalidName>(())
/// ```
///
/// # Errors
/// When that is longer than a topic name may be.
pub fn topic(topic: &TopicName, group: &GroupName) -> Result<TopicName, InvalidName> {
    TopicName::new(&format!("{PREFIX}{topic}.{group}"))
}

/// The dead letter of `message`, which `group` could not handle.
///
/// ```
/// use wharf_message::dead_letter::{Failure, Reason, dead_letter};
/// use wharf_message::{GroupName, Message, Timestamp, TopicName, header};
///
/// let failure = Failure {
///     reason: Reason::Rejected,
///     error: "there is no such article".to_owned(),
///     attempts: 1,
///     first_failed_at: None,
///     failed_at: Timestamp::ZERO,
///     handler: "shop::reserve".to_owned(),
/// };
/// let (orders, billing) = (TopicName::new("orders")?, GroupName::new("billing")?);
/// let message = Message::new("x").with_header("mine", vec![0xff]);
/// let letter = dead_letter(message.clone(), &orders, None, &billing, &failure);
/// assert_eq!((&letter.payload, letter.headers.get("mine")), (&message.payload, message.headers.get("mine")));
/// assert_eq!(letter.headers.text(header::DLQ_REASON), Ok(Some("rejected")));
/// assert_eq!(letter.headers.text(header::DLQ_GROUP), Ok(Some("billing")));
/// # Ok::<(), wharf_message::InvalidName>(())
/// ```
pub fn dead_letter(
    message: Message,
    topic: &TopicName,
    position: Option<Position>,
    group: &GroupName,
    failure: &Failure,
) -> Message {
    let mut letter = message;
    letter.headers.retain(|name| !is_ours(name));
    let mut text = |name: &'static str, value: String| letter.headers.push(name, value);
    text(header::DLQ_REASON, failure.reason.name().to_owned());
    text(header::DLQ_ERROR, cut(&failure.error).to_owned());
    text(header::DLQ_ATTEMPTS, failure.attempts.to_string());
    let first = failure.first_failed_at.unwrap_or(failure.failed_at);
    text(header::DLQ_FIRST_FAILED_AT, first.to_rfc3339());
    text(header::DLQ_FAILED_AT, failure.failed_at.to_rfc3339());
    text(header::DLQ_TOPIC, topic.to_string());
    text(header::DLQ_GROUP, group.to_string());
    text(header::DLQ_HANDLER, failure.handler.clone());
    text("__dlq.errors.topic", topic.to_string());
    text("__dlq.errors.group", group.to_string());
    text("__dlq.errors.delivery.count", failure.attempts.to_string());
    let first_line = failure.error.lines().next().unwrap_or_default();
    text("__dlq.errors.message", cut(first_line).to_owned());
    if let Some(Position { partition, offset }) = position {
        text(header::DLQ_PARTITION, partition.to_string());
        text(header::DLQ_OFFSET, offset.to_string());
        text("__dlq.errors.partition", partition.to_string());
        text("__dlq.errors.offset", offset.to_string());
    }
    letter
}

/// Whether a header is what a dead letter or a retry adds to its message.
fn is_ours(name: &str) -> bool {
    name.starts_with(header::DLQ_PREFIX)
        || name.starts_with(header::KAFKA_DLQ_PREFIX)
        || matches!(
            name,
            header::ATTEMPT
                | header::FIRST_FAILED_AT
                | header::DELIVER_AT
                | header::ORIGIN_TOPIC
                | header::ORIGIN_PARTITION
                | header::ORIGIN_OFFSET
        )
}

fn cut(text: &str) -> &str {
    let mut ends = (0..=text.len().min(ERROR_BYTES_MAX)).rev();
    let end = ends.find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(error: &str) -> Failure {
        Failure {
            reason: Reason::RetriesExhausted,
            error: error.to_owned(),
            attempts: 5,
            first_failed_at: Some(Timestamp::from_millis(0)),
            failed_at: Timestamp::from_millis(1_500),
            handler: "shop::charge".to_owned(),
        }
    }

    fn set_aside(message: Message, error: &str) -> Message {
        let topic = TopicName::new("orders").expect("valid");
        let group = GroupName::new("billing").expect("valid");
        let position = Some(Position {
            partition: 3,
            offset: 42,
        });
        dead_letter(message, &topic, position, &group, &failure(error))
    }

    #[test]
    fn a_dead_letter_keeps_bytes_and_headers_and_tells_where_when_and_why() {
        let message = Message::new(vec![0xff, 0x00])
            .with_key("k")
            .with_header("x", "1")
            .with_header("x", vec![0xff])
            .with_header(header::ATTEMPT, "4");
        let letter = set_aside(message.clone(), "no such card\ncaused by: 404");
        assert_eq!((letter.key, letter.payload), (message.key, message.payload));
        let shown: Vec<String> = letter
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.unwrap_or_default().escape_ascii()))
            .collect();
        let expected = [
            "x: 1",
            "x: \\xff",
            "wharf-dlq-reason: retries-exhausted",
            "wharf-dlq-error: no such card\\ncaused by: 404",
            "wharf-dlq-attempts: 5",
            "wharf-dlq-first-failed-at: 1970-01-01T00:00:00.000Z",
            "wharf-dlq-failed-at: 1970-01-01T00:00:01.500Z",
            "wharf-dlq-topic: orders",
            "wharf-dlq-group: billing",
            "wharf-dlq-handler: shop::charge",
            "__dlq.errors.topic: orders",
            "__dlq.errors.group: billing",
            "__dlq.errors.delivery.count: 5",
            "__dlq.errors.message: no such card",
            "wharf-dlq-partition: 3",
            "wharf-dlq-offset: 42",
            "__dlq.errors.partition: 3",
            "__dlq.errors.offset: 42",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_message_that_fails_again_after_a_replay_tells_of_the_last_failure_only() {
        let once = set_aside(Message::new("p"), "first");
        let twice = set_aside(once.clone(), "second");
        assert_eq!(twice.headers.len(), once.headers.len());
        assert_eq!(twice.headers.text(header::DLQ_ERROR), Ok(Some("second")));
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let letter = set_aside(Message::new("p"), &"ä".repeat(ERROR_BYTES_MAX));
        let error = letter.headers.text(header::DLQ_ERROR).expect("text");
        assert_eq!(error.map(str::len), Some(ERROR_BYTES_MAX));
    }
}
