//! Reading back what the cluster keeps: a consumer without a group, one partition at a time, from an
//! offset to another. It commits nothing and makes no topic.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rdkafka::consumer::{Consumer as _, ConsumerContext, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::metadata::MetadataTopic;
use rdkafka::types::RDKafkaRespErr as Told;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Mutex;
use tokio::time::timeout;
use wharf_message::transport::{Error, Extent, TopicHistory};
use wharf_message::{Message, TopicName};

use super::admin::{PATIENCE, Quiet};
use super::record::{self, Memory, Read};
use super::{Options, blocking, error};

/// The client library wants a name even where no group is joined and nothing is committed.
const GROUP: &str = "wharf.history";
/// How long nothing at all may come of a partition that has more.
const STALL_MAX: Duration = Duration::from_secs(60);

impl ConsumerContext for Quiet {}

/// See the module.
pub(super) struct History {
    consumer: Arc<StreamConsumer<Quiet>>,
    /// Held while a partition is assigned to the consumer.
    turn: Mutex<()>,
}

impl History {
    pub(super) fn open(options: &Options) -> Result<Self, Error> {
        let config = options.client(&[
            ("group.id", GROUP),
            ("enable.auto.commit", "false"),
            ("allow.auto.create.topics", "false"),
            // What was removed by retention meanwhile is passed by.
            ("auto.offset.reset", "earliest"),
            // What is in a transaction may be committed yet.
            ("isolation.level", "read_uncommitted"),
            // An end that compaction or a transaction's marker has taken is told all the same; by the
            // leader, as others may be behind.
            ("enable.partition.eof", "true"),
            ("client.rack", ""),
            ("fetch.wait.max.ms", "50"),
        ]);
        let consumer = config.create_with_context(Quiet);
        Ok(Self {
            consumer: Arc::new(consumer.map_err(|error| error::general(&error))?),
            turn: Mutex::new(()),
        })
    }

    /// Reads what was assigned up to the extent's end.
    async fn drain(
        &self,
        topic: &TopicName,
        extent: Extent,
        each: &mut (dyn FnMut(i64, &Message) + Send),
    ) -> Result<(), Error> {
        loop {
            let received = timeout(STALL_MAX, self.receive()).await;
            let next = match received {
                Ok(received) => received?,
                Err(_elapsed) => {
                    let why = format!(
                        "partition {} of {topic} has more, and nothing came within {STALL_MAX:?}",
                        extent.partition
                    );
                    return Err(Error::Unavailable(why));
                }
            };
            let Some((offset, message)) = next else {
                return Ok(());
            };
            if offset < extent.end {
                each(offset, &message);
            }
            if offset + 1 >= extent.end {
                return Ok(());
            }
        }
    }

    /// The next message and its offset; `None` at the end of the partition. Outages pass.
    async fn receive(&self) -> Result<Option<(i64, Message)>, Error> {
        loop {
            match self.consumer.recv().await {
                Ok(record) => {
                    let message = match record::read(&record, &mut Memory::default()) {
                        Read::Message(message) => message,
                        Read::Unreadable(message, raw) => record::with_readable(message, &raw),
                    };
                    return Ok(Some((record.offset(), message)));
                }
                Err(KafkaError::PartitionEOF(_)) => return Ok(None),
                Err(error) => match error::general(&error) {
                    Error::Unavailable(why) => tracing::debug!(why, "reading goes on"),
                    error => return Err(error),
                },
            }
        }
    }
}

impl TopicHistory for History {
    fn topics(&self) -> BoxFuture<'_, Result<Vec<TopicName>, Error>> {
        let consumer = Arc::clone(&self.consumer);
        Box::pin(blocking(move || {
            let metadata = consumer.fetch_metadata(None, PATIENCE);
            let metadata = metadata.map_err(|error| error::general(&error))?;
            let name = |topic: &MetadataTopic| {
                let name = TopicName::new(topic.name());
                name.map_err(|error| Error::Refused(error.to_string()))
            };
            metadata.topics().iter().map(name).collect()
        }))
    }

    fn extents<'a>(
        &'a self,
        topic: &'a TopicName,
    ) -> BoxFuture<'a, Result<Option<Vec<Extent>>, Error>> {
        let (consumer, topic) = (Arc::clone(&self.consumer), topic.clone());
        Box::pin(blocking(move || {
            let metadata = consumer.fetch_metadata(Some(topic.as_str()), PATIENCE);
            let metadata = metadata.map_err(|error| error::general(&error))?;
            let Some(found) = metadata.topics().first() else {
                return Ok(None);
            };
            match found.error() {
                None => {}
                Some(Told::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => return Ok(None),
                Some(told) => {
                    return Err(error::general(&KafkaError::MetadataFetch(told.into())));
                }
            }
            let mut extents = Vec::with_capacity(found.partitions().len());
            for partition in found.partitions() {
                let ends = consumer.fetch_watermarks(topic.as_str(), partition.id(), PATIENCE);
                let (first, end) = ends.map_err(|error| error::general(&error))?;
                extents.push(Extent {
                    partition: partition.id(),
                    first,
                    end,
                });
            }
            Ok(Some(extents))
        }))
    }

    fn read<'a>(
        &'a self,
        topic: &'a TopicName,
        extent: Extent,
        each: &'a mut (dyn FnMut(i64, &Message) + Send),
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let _turn = self.turn.lock().await;
            if extent.first >= extent.end {
                return Ok(());
            }
            let mut assignment = TopicPartitionList::new();
            let first = Offset::Offset(extent.first);
            let added = assignment.add_partition_offset(topic.as_str(), extent.partition, first);
            let assigned = added.and_then(|()| self.consumer.assign(&assignment));
            assigned.map_err(|error| error::general(&error))?;
            let drained = self.drain(topic, extent, each).await;
            let left = self.consumer.unassign();
            drained.and(left.map_err(|error| error::general(&error)))
        })
    }
}
