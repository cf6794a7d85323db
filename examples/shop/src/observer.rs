//! The broker's own word: what its offsets say, asked with a plain Kafka client that takes no part.
//!
//! The shop's figures are checked against it, so nothing here may come from the services.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

/// How long the broker may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many records each of the shop's topics has had so far. Blocks on the network.
pub(crate) fn records_by_topic(broker: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let consumer = client(broker, "shop-observer")?;
    let metadata = consumer.fetch_metadata(None, PATIENCE)?;
    let ours = |topic: &str| topic.starts_with("shop.") || topic.starts_with("dlq.shop.");
    let mut records = BTreeMap::new();
    for topic in metadata.topics().iter().filter(|topic| ours(topic.name())) {
        let mut total = 0;
        for partition in topic.partitions() {
            let (_, end) = consumer.fetch_watermarks(topic.name(), partition.id(), PATIENCE)?;
            total += u64::try_from(end).unwrap_or(0);
        }
        records.insert(topic.name().to_owned(), total);
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
