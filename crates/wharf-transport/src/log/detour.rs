//! The records that stand for messages on a detour: retries in `retry.<topic>.<group>`, scheduled
//! messages in `scheduled.<topic>`.
//!
//! A record on a detour is the message with its key, payload and headers, and our bookkeeping in
//! headers beside them. Reading never fails: who writes nonsense into such a topic gets its record
//! delivered as a message of that topic, at once, because dropping or blocking would be worse.

use std::time::Duration;

use wharf_message::dead_letter::{Failure, Reason};
use wharf_message::transport::{Error, Position};
use wharf_message::{GroupName, InvalidName, Message, Timestamp, TopicName, header};

/// What the names of the groups of forwarders begin with.
pub const SCHEDULER_GROUP: &str = "wharf.scheduler";

/// The group of the forwarders that publish a topic's scheduled messages when they are due:
/// `wharf.scheduler.<topic>`. Each topic has one of its own, so that a service which comes or goes
/// disturbs no topic but its own.
///
/// # Errors
/// When that is longer than a name may be.
pub fn scheduler_group(topic: &TopicName) -> Result<GroupName, InvalidName> {
    GroupName::new(&format!("{SCHEDULER_GROUP}.{topic}"))
}

/// Where the retries of a group for a topic are kept: `retry.<topic>.<group>`.
///
/// # Errors
/// When that is longer than a topic name may be.
pub fn retry_topic(topic: &TopicName, group: &GroupName) -> Result<TopicName, InvalidName> {
    TopicName::new(&format!("retry.{topic}.{group}"))
}

/// Where the scheduled messages of a topic are kept: `scheduled.<topic>`.
///
/// # Errors
/// When that is longer than a topic name may be.
pub fn scheduled_topic(topic: &TopicName) -> Result<TopicName, InvalidName> {
    TopicName::new(&format!("scheduled.{topic}"))
}

/// Whether a topic that refused a scheduled message so will never take it: its schema breaks the topic's
/// contract, or it is too large. Rights may be given later, and a topic made.
pub fn is_final(error: &Error) -> bool {
    matches!(error, Error::Refused(_) | Error::TooLarge { .. })
}

/// Why a scheduled message that its topic refused when it was due is set aside.
pub fn refused(error: &Error, now: Timestamp) -> Failure {
    Failure {
        reason: Reason::Rejected,
        error: format!("its topic refused the message when it was due: {error}"),
        attempts: 1,
        first_failed_at: Some(now),
        failed_at: now,
        handler: "the scheduler".to_owned(),
    }
}

/// A delivery that is to be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The message as it was delivered.
    pub message: Message,
    /// The topic it was published to.
    pub topic: TopicName,
    /// Where it is in that topic.
    pub position: Option<Position>,
    /// Which delivery to the group failed, from 1.
    pub attempt: u32,
}

/// A record of a retry topic, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retried {
    /// The message as it was published, and `wharf-first-failed-at`.
    pub message: Message,
    /// Where it was published first, if that is known.
    pub position: Option<Position>,
    /// Which delivery to the group this will be.
    pub attempt: u32,
    /// Not to be delivered before this time.
    pub due: Timestamp,
}

/// The record that stands for the next attempt, not before `after` has passed since `now`.
pub fn retry(failed: Failed, after: Duration, now: Timestamp) -> Message {
    let mut record = failed.message;
    let headers = &mut record.headers;
    headers.set(
        header::ATTEMPT,
        failed.attempt.saturating_add(1).to_string(),
    );
    headers.set(header::DELIVER_AT, now.after(after).to_rfc3339());
    headers.set(header::ORIGIN_TOPIC, failed.topic.to_string());
    headers.remove(header::ORIGIN_PARTITION);
    headers.remove(header::ORIGIN_OFFSET);
    if let Some(Position { partition, offset }) = failed.position {
        headers.push(header::ORIGIN_PARTITION, partition.to_string());
        headers.push(header::ORIGIN_OFFSET, offset.to_string());
    }
    if time(&record, header::FIRST_FAILED_AT).is_none() {
        record
            .headers
            .set(header::FIRST_FAILED_AT, now.to_rfc3339());
    }
    record
}

/// Reads a record of the retry topic that belongs to `topic`.
pub fn retried(record: Message, topic: &TopicName) -> Retried {
    let of_topic =
        matches!(record.headers.text(header::ORIGIN_TOPIC), Ok(Some(of)) if of == topic.as_str());
    let position = match (
        number(&record, header::ORIGIN_PARTITION),
        number(&record, header::ORIGIN_OFFSET),
    ) {
        (Some(partition), Some(offset)) if of_topic => Some(Position { partition, offset }),
        _ => None,
    };
    let attempt = number(&record, header::ATTEMPT).filter(|attempt| *attempt > 1);
    let due = time(&record, header::DELIVER_AT).unwrap_or(Timestamp::ZERO);
    let mut message = record;
    message.headers.retain(|name| {
        !matches!(
            name,
            header::ATTEMPT
                | header::DELIVER_AT
                | header::ORIGIN_TOPIC
                | header::ORIGIN_PARTITION
                | header::ORIGIN_OFFSET
        )
    });
    Retried {
        message,
        position,
        // Whatever is here was tried once at least.
        attempt: attempt.unwrap_or(2),
        due,
    }
}

/// When a message is to be delivered, if that is after `now`: then it goes to the topic's
/// [`scheduled_topic`].
///
/// # Errors
/// [`Error::Refused`] when the header is there and holds no time.
pub fn scheduled_for(message: &Message, now: Timestamp) -> Result<Option<Timestamp>, Error> {
    if !message.headers.contains(header::DELIVER_AT) {
        return Ok(None);
    }
    match due(message) {
        Some(due) => Ok(Some(due).filter(|due| *due > now)),
        None => Err(Error::Refused(format!(
            "the header {} is no time in RFC 3339 with a Z at its end",
            header::DELIVER_AT
        ))),
    }
}

/// When a record of a scheduled topic is due; one without a readable time is due at once.
pub fn due(message: &Message) -> Option<Timestamp> {
    time(message, header::DELIVER_AT)
}

fn time(message: &Message, name: &str) -> Option<Timestamp> {
    Timestamp::parse_rfc3339(message.headers.text(name).ok()??)
}

fn number<T: std::str::FromStr>(message: &Message, name: &str) -> Option<T> {
    message.headers.text(name).ok()??.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic() -> TopicName {
        TopicName::new("orders").expect("valid")
    }

    #[test]
    fn detours_are_named_after_topic_and_group() {
        let group = GroupName::new("billing").expect("valid");
        let retry = retry_topic(&topic(), &group).expect("valid");
        let scheduled = scheduled_topic(&topic()).expect("valid");
        assert_eq!(retry.as_str(), "retry.orders.billing");
        assert_eq!(scheduled.as_str(), "scheduled.orders");
        let long = TopicName::new(&"t".repeat(249)).expect("valid");
        assert!(retry_topic(&long, &group).is_err() && scheduled_topic(&long).is_err());
    }

    #[test]
    fn a_foreign_record_among_the_retries_is_delivered_as_it_is_and_at_once() {
        let record = Message::new("p")
            .with_header("x", "1")
            .with_header(header::DELIVER_AT, "tomorrow")
            .with_header(header::ATTEMPT, vec![0xff])
            .with_header(header::ORIGIN_PARTITION, "many");
        let read = retried(record, &topic());
        assert_eq!(read.message, Message::new("p").with_header("x", "1"));
        assert_eq!((read.attempt, read.due), (2, Timestamp::ZERO));
        assert_eq!(read.position, None);
    }

    #[test]
    fn only_a_time_in_the_future_is_a_schedule_and_what_is_no_time_is_refused() {
        let now = Timestamp::from_millis(1_000);
        let at = |text: &str| Message::new("p").with_header(header::DELIVER_AT, text.to_owned());
        let later = now.after(Duration::from_millis(1));
        assert_eq!(
            scheduled_for(&at(&later.to_rfc3339()), now),
            Ok(Some(later))
        );
        assert_eq!(scheduled_for(&at(&now.to_rfc3339()), now), Ok(None));
        assert_eq!(scheduled_for(&Message::new("p"), now), Ok(None));
        for text in ["", "soon", "2026-13-01T00:00:00Z", "1800000000000"] {
            assert!(scheduled_for(&at(text), now).is_err(), "{text}");
        }
        let mut none = Message::new("p");
        none.headers.push_raw(header::DELIVER_AT, None);
        assert!(scheduled_for(&none, now).is_err());
    }

    proptest! {
        #[test]
        fn a_retried_message_comes_back_with_its_origin_and_one_more_attempt(
            payload in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
            key in prop::option::of(prop::collection::vec(any::<u8>(), 0..5)),
            names in prop::collection::vec(("[a-z-]{1,8}", prop::collection::vec(any::<u8>(), 0..5)), 0..6),
            place in prop::option::of((0..9_i32, 0..i64::MAX)),
            attempt in 1..u32::MAX,
            now in 0..4_000_000_000_000_i64,
            after in 0..100_000_000_u64,
        ) {
            let mut message = Message {
                key: key.map(Into::into),
                payload: payload.map(Into::into),
                ..Message::default()
            };
            for (name, value) in names {
                message.headers.push(name, value);
            }
            let position = place.map(|(partition, offset)| Position { partition, offset });
            let now = Timestamp::from_millis(now);
            let failed = Failed { message: message.clone(), topic: topic(), position, attempt };
            let record = retry(failed, Duration::from_millis(after), now);
            let read = retried(record, &topic());
            prop_assert_eq!(read.position, position);
            prop_assert_eq!(read.attempt, attempt + 1);
            prop_assert_eq!(read.due, now.after(Duration::from_millis(after)));
            prop_assert_eq!(time(&read.message, header::FIRST_FAILED_AT), Some(now));

            // The second failure keeps the time of the first.
            let later = now.after(Duration::from_secs(60));
            let failed = Failed { message: read.message, topic: topic(), position, attempt: read.attempt };
            let mut again = retried(retry(failed, Duration::ZERO, later), &topic());
            prop_assert_eq!(time(&again.message, header::FIRST_FAILED_AT), Some(now));
            again.message.headers.remove(header::FIRST_FAILED_AT);
            prop_assert_eq!(again.message, message);
        }
    }
}
