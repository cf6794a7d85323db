//! What a topic's settings ask of single records: a key, and a time near the node's clock.
//!
//! Invariants: a batch is opened only where a setting asks for it and its header does not answer;
//! one refused record refuses its batch, and all that are refused are named, up to
//! [`RECORD_ERRORS_MAX`] (KIP-467); nothing is kept for a record that passes.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use wharf_log::Clock;
use wharf_log::batch::Header;
use wharf_message::Timestamp;

use crate::codec::{self, Glance};
use crate::error::RECORD_ERRORS_MAX;
use crate::{Error, ErrorKind, RecordError, Topic, TopicConfig};

/// The timestamp of a record that has none.
const NO_TIMESTAMP: i64 = -1;

/// Checks the records of a batch that is whole by its header.
pub(crate) fn check(
    topic: &Topic,
    header: &Header,
    batch: &Bytes,
    now: Timestamp,
) -> Result<(), Error> {
    let asked = Asked::of(&topic.config, now);
    let says_too_new = header.max_timestamp > asked.newest;
    if !asked.key && asked.oldest == i64::MIN && !says_too_new {
        return Ok(());
    }
    let mut refused = Refused::default();
    let mut index = 0;
    codec::glance(header, batch, |record| {
        if let Some(kind) = asked.refuses(record) {
            refused.add(index, kind, || asked.why(kind, record));
        }
        index += 1;
        ControlFlow::<Infallible>::Continue(())
    })?;
    if says_too_new && refused.count == 0 {
        // Readers go by the header: it is not let in with a time that its records do not have.
        let glance = Glance {
            timestamp: header.max_timestamp,
            offset: 0,
            has_key: true,
        };
        let kind = ErrorKind::InvalidTimestamp;
        return Err(Error::new(
            kind,
            format!("of the batch {}", asked.why(kind, glance)),
        ));
    }
    refused.into_result(topic)
}

/// What is asked of every record.
struct Asked {
    key: bool,
    /// The oldest and the newest time, in milliseconds; the whole range where nothing is asked.
    oldest: i64,
    newest: i64,
}

impl Asked {
    fn of(config: &TopicConfig, now: Timestamp) -> Self {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let (before, after) = match config.clock {
            Clock::CreateTime => (config.timestamp_before_max, config.timestamp_after_max),
            Clock::LogAppendTime => (Duration::MAX, Duration::MAX),
        };
        let oldest = match millis(before) {
            i64::MAX => i64::MIN,
            before => now.as_millis().saturating_sub(before),
        };
        let newest = now.as_millis().saturating_add(millis(after));
        Self {
            key: config.compact,
            oldest,
            newest,
        }
    }

    /// Kafka looks at the key first.
    fn refuses(&self, record: Glance) -> Option<ErrorKind> {
        let time = record.timestamp;
        if self.key && !record.has_key {
            Some(ErrorKind::InvalidRecord)
        } else if time != NO_TIMESTAMP && !(self.oldest..=self.newest).contains(&time) {
            Some(ErrorKind::InvalidTimestamp)
        } else {
            None
        }
    }

    fn why(&self, kind: ErrorKind, record: Glance) -> String {
        if kind == ErrorKind::InvalidRecord {
            return "there is no key, and the topic is compacted".to_owned();
        }
        let (setting, side, limit) = match record.timestamp > self.newest {
            true => ("after", "ahead of", self.newest),
            false => ("before", "behind", self.oldest),
        };
        format!(
            "the timestamp {} is further {side} the node's clock than message.timestamp.{setting}.max.ms \
             allows ({limit})",
            record.timestamp
        )
    }
}

/// The records of a batch that are refused.
#[derive(Default)]
struct Refused {
    count: usize,
    named: Vec<RecordError>,
    any_time: bool,
}

impl Refused {
    fn add(&mut self, index: i32, kind: ErrorKind, message: impl FnOnce() -> String) {
        self.count += 1;
        self.any_time |= kind == ErrorKind::InvalidTimestamp;
        if self.named.len() < RECORD_ERRORS_MAX {
            self.named.push(RecordError {
                index,
                message: message(),
            });
        }
    }

    /// As in Kafka, a single wrong time decides what the batch is refused as.
    fn into_result(self, topic: &Topic) -> Result<(), Error> {
        let Some(first) = self.named.first() else {
            return Ok(());
        };
        let kind = match self.any_time {
            true => ErrorKind::InvalidTimestamp,
            false => ErrorKind::InvalidRecord,
        };
        let message = format!(
            "{} of the batch's records cannot be appended to {}; the first, at {}: {}",
            self.count, topic.name, first.index, first.message
        );
        Err(Error {
            records: self.named,
            ..Error::new(kind, message)
        })
    }
}
