//! What settlements append: outputs, retries, dead letters, as batches for one unit of the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_broker::records::{self, Record};
use wharf_broker::{Produce, Topic, TopicRef};
use wharf_message::transport::{Error, deliver_at};
use wharf_message::{Message, TopicName, partitioner};

use super::{Core, message_bytes_max, record, scheduled};

/// A message to be appended.
#[derive(Clone, Debug)]
pub(super) struct Output {
    /// Where to.
    pub(super) topic: TopicName,
    /// The topic that this one accompanies, if it is the library's own.
    pub(super) beside: Option<TopicName>,
    /// What.
    pub(super) message: Message,
}

/// What goes to one partition.
struct Lane {
    topic: Arc<Topic>,
    records: Vec<(Record, usize)>,
}

impl Core {
    /// What a service publishes together with an acceptance: a message for later goes to the topic
    /// of the scheduled ones.
    pub(super) fn output(
        self: &Arc<Self>,
        topic: TopicName,
        message: Message,
    ) -> Result<Output, Error> {
        let now = self.now();
        if deliver_at(&message)?.is_none_or(|due| due <= now) {
            return Ok(Output {
                topic,
                beside: None,
                message,
            });
        }
        self.forward(&topic);
        Ok(Output {
            topic: scheduled(&topic)?,
            beside: Some(topic),
            message,
        })
    }

    /// Batches of these messages, in their order; topics that are missing are created.
    pub(super) async fn batches(&self, outputs: &[&Output]) -> Result<Vec<Produce>, Error> {
        let now = self.now();
        let mut lanes = BTreeMap::<(TopicName, usize), Lane>::new();
        for output in outputs {
            let topic = self
                .find_or_create(&output.topic, output.beside.as_ref())
                .await?;
            let size = record::bytes(&output.message);
            let bytes_max = message_bytes_max(&topic);
            if output.message.size() > bytes_max {
                return Err(Error::TooLarge {
                    bytes: output.message.size(),
                    bytes_max,
                });
            }
            let partition = match &output.message.key {
                Some(key) => partitioner::partition(key, topic.partitions.len()),
                None => self.turn(topic.partitions.len()),
            };
            let lane = lanes.entry((output.topic.clone(), partition));
            let lane = lane.or_insert_with(|| Lane {
                topic,
                records: Vec::new(),
            });
            let record = record::record(output.message.clone(), now);
            lane.records.push((record, size));
        }
        let lanes = lanes.into_iter();
        Ok(lanes
            .flat_map(|((_, partition), lane)| lane.batches(partition))
            .collect())
    }
}

impl Lane {
    /// Batches no larger than the topic takes, if each message is not.
    fn batches(self, partition: usize) -> Vec<Produce> {
        let Self { topic, records } = self;
        let produce = |records: &[Record]| Produce {
            topic: TopicRef::Id(topic.id),
            partition: i32::try_from(partition).unwrap_or(i32::MAX),
            records: Some(records::encode(records)),
        };
        let mut batches = Vec::new();
        let mut gathered: Vec<Record> = Vec::new();
        let mut bytes = records::BATCH_BYTES;
        for (record, size) in records {
            if bytes + size > topic.config.max_message_bytes && !gathered.is_empty() {
                batches.push(produce(&std::mem::take(&mut gathered)));
                bytes = records::BATCH_BYTES;
            }
            bytes += size;
            gathered.push(record);
        }
        if !gathered.is_empty() {
            batches.push(produce(&gathered));
        }
        batches
    }
}
