//! The broker's own word: what its offsets say, asked with a plain Kafka client that takes no part.
//!
//! The shop's figures are checked against it, so nothing here may come from the services.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Offset, TopicPartitionList};

/// How long the broker may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the shop's topics end, by topic and partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends(BTreeMap<(String, i32), i64>);

impl Ends {
    /// How many records a topic has got since `before`.
    pub(crate) fn written(&self, topic: &str, before: &Self) -> u64 {
        let ours = self.0.iter().filter(|((name, _), _)| name == topic);
        let since = ours.map(|(partition, end)| end - before.0.get(partition).unwrap_or(&0));
        u64::try_from(since.sum::<i64>()).unwrap_or(0)
    }
}

/// Where each of the shop's topics ends. Blocks on the network.
pub(crate) fn ends(broker: &str) -> anyhow::Result<Ends> {
    let consumer = client(broker, "shop-observer")?;
    let metadata = consumer.fetch_metadata(None, PATIENCE)?;
    let ours = |topic: &str| topic.starts_with("shop.") || topic.starts_with("dlq.shop.");
    let mut ends = Ends::default();
    for topic in metadata.topics().iter().filter(|topic| ours(topic.name())) {
        for partition in topic.partitions() {
            let (_, end) = consumer.fetch_watermarks(topic.name(), partition.id(), PATIENCE)?;
            let place = (topic.name().to_owned(), partition.id());
            ends.0.insert(place, end);
        }
    }
    Ok(ends)
}

/// How often each event of a run is in these topics, by topic and the id that the relay gives every
/// message: that of its row. Reads them from `before` to `after`. Blocks on the network.
pub(crate) fn events(
    broker: &str,
    topics: &[&str],
    run: &str,
    before: &Ends,
    after: &Ends,
) -> anyhow::Result<BTreeMap<String, u64>> {
    let consumer = client(broker, "shop-observer")?;
    let (mut partitions, mut left) = (TopicPartitionList::new(), 0);
    for ((topic, partition), end) in &after.0 {
        let from = before.0.get(&(topic.clone(), *partition)).copied();
        let from = from.unwrap_or(0);
        if topics.contains(&topic.as_str()) && from < *end {
            partitions.add_partition_offset(topic, *partition, Offset::Offset(from))?;
            left += end - from;
        }
    }
    consumer.assign(&partitions)?;
    let (run, mut events) = (format!("{run}-"), BTreeMap::new());
    while left > 0 {
        let message = consumer.poll(PATIENCE).context("the broker is silent")??;
        left -= 1;
        if message
            .key()
            .unwrap_or_default()
            .starts_with(run.as_bytes())
        {
            let headers = message.headers().into_iter().flat_map(|all| all.iter());
            let id = headers
                .filter(|header| header.key == "id")
                .find_map(|header| header.value);
            let id = String::from_utf8_lossy(id.unwrap_or_default());
            *events
                .entry(format!("{} {id}", message.topic()))
                .or_default() += 1;
        }
    }
    Ok(events)
}

/// The values of all records of a topic, as JSON. Blocks on the network.
pub(crate) fn records(broker: &str, topic: &str) -> anyhow::Result<Vec<serde_json::Value>> {
    let consumer = client(broker, "shop-observer")?;
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let (mut partitions, mut open) = (TopicPartitionList::new(), BTreeMap::new());
    for partition in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
        let (start, end) = consumer.fetch_watermarks(topic, partition.id(), PATIENCE)?;
        if start < end {
            partitions.add_partition_offset(topic, partition.id(), Offset::Offset(start))?;
            open.insert(partition.id(), end);
        }
    }
    consumer.assign(&partitions)?;
    let mut records = Vec::new();
    while !open.is_empty() {
        let message = consumer.poll(PATIENCE).context("the broker is silent")??;
        if open
            .get(&message.partition())
            .is_some_and(|end| message.offset() + 1 >= *end)
        {
            open.remove(&message.partition());
        }
        let value = serde_json::from_slice(message.payload().unwrap_or(b"null"));
        records.push(value.with_context(|| format!("a record of {topic}"))?);
    }
    Ok(records)
}

/// Asks how far a group is behind, without joining it.
pub(crate) struct Observer {
    consumer: BaseConsumer,
    partitions: TopicPartitionList,
}

impl Observer {
    /// Of a group and the topics it reads, each with so many partitions.
    pub(crate) fn new(
        broker: &str,
        group: &str,
        topics: &[&str],
        partitions_each: u32,
    ) -> anyhow::Result<Self> {
        let mut partitions = TopicPartitionList::new();
        for topic in topics {
            for partition in 0..partitions_each {
                partitions.add_partition(topic, i32::try_from(partition)?);
            }
        }
        Ok(Self {
            consumer: client(broker, group)?,
            partitions,
        })
    }

    /// Messages the group has not consumed yet. Blocks on the network.
    pub(crate) fn lag(&self) -> anyhow::Result<u64> {
        let mut at_end = self.partitions.clone();
        at_end.set_all_offsets(Offset::End)?;
        let ends = self.consumer.offsets_for_times(at_end, PATIENCE)?;
        let committed = self
            .consumer
            .committed_offsets(self.partitions.clone(), PATIENCE)?;
        let mut lag = 0;
        for end in ends.elements() {
            let Offset::Offset(end_offset) = end.offset() else {
                continue;
            };
            let consumed = committed
                .find_partition(end.topic(), end.partition())
                .map_or(0, |element| match element.offset() {
                    Offset::Offset(offset) => offset,
                    _ => 0,
                });
            lag += u64::try_from(end_offset - consumed).unwrap_or(0);
        }
        Ok(lag)
    }
}

fn client(broker: &str, group: &str) -> anyhow::Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker);
    config.set("group.id", group);
    Ok(config.create()?)
}
