//! Reads topics with a Kafka client that takes no other part.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::check::{Arrived, Row};

/// The longest one answer may take.
const WITHIN: Duration = Duration::from_secs(20);
/// The longest reading one partition may take.
const READ_WITHIN: Duration = Duration::from_secs(120);

/// Every topic of a broker.
pub(super) fn topics(broker: &str) -> Result<Vec<String>> {
    let metadata = consumer(broker)?.fetch_metadata(None, WITHIN)?;
    let topics = metadata.topics().iter();
    Ok(topics.map(|topic| topic.name().to_owned()).collect())
}

/// Every committed record of a topic of a relay, partition by partition.
pub(super) fn topic(broker: &str, relay: &str, topic: &str) -> Result<Vec<Arrived>> {
    let consumer = consumer(broker)?;
    let metadata = consumer.fetch_metadata(Some(topic), WITHIN)?;
    let found = metadata.topics().first().context("no such topic")?;
    let mut arrived = Vec::new();
    for partition in found.partitions() {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
        consumer.assign(&list)?;
        let deadline = Instant::now() + READ_WITHIN;
        loop {
            if Instant::now() > deadline {
                bail!("{topic}: {} records within {READ_WITHIN:?}", arrived.len());
            }
            match consumer.poll(Duration::from_millis(200)) {
                None => {}
                Some(Ok(message)) => arrived.push(row(relay, &message)?),
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) => return Err(error).with_context(|| format!("reading {topic}")),
            }
        }
    }
    Ok(arrived)
}

fn consumer(broker: &str) -> Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker)
        .set("group.id", "relays-checker")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true");
    Ok(config.create()?)
}

/// The row that a record was made of, with the topic as its writer named it.
fn row(relay: &str, message: &BorrowedMessage<'_>) -> Result<Arrived> {
    let topic = message.topic().strip_prefix(relay).unwrap_or_default();
    let mut headers = message.headers().into_iter().flat_map(Headers::iter);
    let id = headers.find(|header| header.key == "id");
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec());
    Ok(Arrived {
        partition: message.partition(),
        row: Row {
            id: text(id.and_then(|header| header.value))?,
            topic: topic.trim_start_matches('.').to_owned(),
            key: text(message.key())?,
            payload: message.payload().unwrap_or_default().to_vec(),
        },
    })
}
