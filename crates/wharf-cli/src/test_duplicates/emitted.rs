//! What the consumer published: the records that came to its topics in a run.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use wharf::testing::duplicates::Effects;
use wharf_message::{Headers, Message};
use wharf_server::Problem;

use super::commands::Names;
use super::process::check_interrupt;
use crate::client::{Connection, PATIENCE, partitions};

/// Where topics end, by partition. The topics are as they were asked for, without the names of the
/// run, so that those of one run are the same as those of another.
pub(super) type Ends = BTreeMap<String, BTreeMap<i32, i64>>;

/// Where a topic ends; empty when there is none of that name yet.
pub(super) fn ends(
    connection: &Connection,
    observer: &BaseConsumer,
    topic: &str,
) -> Result<BTreeMap<i32, i64>> {
    let explain = |error: KafkaError| connection.explain(&error);
    let metadata = observer.fetch_metadata(None, PATIENCE).map_err(explain)?;
    let found = metadata.topics().iter().find(|known| known.name() == topic);
    let mut ends = BTreeMap::new();
    for partition in found.map(partitions).unwrap_or_default() {
        let (_, end) = observer
            .fetch_watermarks(topic, partition, PATIENCE)
            .map_err(explain)?;
        ends.insert(partition, end);
    }
    Ok(ends)
}

/// Adds what came to the topics after `begins`; of transactions, what was committed.
pub(super) fn read(
    connection: &Connection,
    begins: &Ends,
    names: &Names,
    effects: &mut Effects,
) -> Result<()> {
    let reader = connection.observer(&format!("{}.emitted", names.group))?;
    let mut list = TopicPartitionList::new();
    let mut left = BTreeMap::new();
    let mut asked = BTreeMap::new();
    for (pattern, begins) in begins {
        let topic = names.put_in(pattern);
        for (partition, end) in ends(connection, &reader, &topic)? {
            let begin = begins.get(&partition).copied().unwrap_or(0);
            if begin < end {
                list.add_partition_offset(&topic, partition, Offset::Offset(begin))?;
                left.insert((topic.clone(), partition), end);
            }
        }
        asked.insert(topic, pattern);
    }
    reader.assign(&list)?;
    let mut deadline = Instant::now() + PATIENCE;
    while !left.is_empty() {
        check_interrupt()?;
        if let Some(polled) = reader.poll(std::time::Duration::from_millis(50)) {
            let record = polled.map_err(|error| connection.explain(&error))?;
            let place = (record.topic().to_owned(), record.partition());
            if left.get(&place).is_some_and(|end| record.offset() < *end) {
                let topic = asked
                    .get(record.topic())
                    .map_or(record.topic(), |pattern| pattern);
                effects.push_message(topic, &message(&record, names));
            }
            deadline = Instant::now() + PATIENCE;
        }
        // The position passes also over what is no record: the ends of transactions.
        for element in reader.position()?.elements() {
            let place = (element.topic().to_owned(), element.partition());
            if let (Offset::Offset(at), Some(end)) = (element.offset(), left.get(&place))
                && at >= *end
            {
                left.remove(&place);
            }
        }
        if Instant::now() > deadline {
            return Err(Problem::plain(
                "what the consumer emitted cannot be read to its end",
                "a transaction may have been left open",
                "`wharf transaction list` shows those that are",
            )
            .into());
        }
    }
    Ok(())
}

/// The record, with the run's name taken out again.
fn message(record: &BorrowedMessage<'_>, names: &Names) -> Message {
    let own = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => names.take_out(text).into(),
        Err(_) => bytes.to_vec().into(),
    };
    let mut headers = Headers::default();
    for header in record.headers().iter().flat_map(|headers| headers.iter()) {
        headers.push_raw(header.key.to_owned(), header.value.map(own));
    }
    Message {
        key: record.key().map(own),
        payload: record.payload().map(own),
        headers,
        timestamp: None,
    }
}
