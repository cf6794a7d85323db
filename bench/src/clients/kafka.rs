//! librdkafka, the same for every server that speaks Kafka's protocol.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{
    BaseRecord, DefaultProducerContext, DeliveryResult, Producer as _, ProducerContext,
    ThreadedProducer,
};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::window::{Gate, Window};
use super::{Client, Codec, Consumer, From, Pace, Producer, Topic, WITHIN};

/// How many messages may be under way.
const UNDER_WAY: u64 = 200_000;

/// librdkafka towards one server.
pub(crate) struct Kafka {
    config: ClientConfig,
}

/// The cluster that librdkafka plays within this process: what the client allows.
pub(crate) struct Mock {
    pub(crate) client: Kafka,
    _cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Mock {
    /// A cluster with one topic.
    pub(crate) fn new(topic: &Topic) -> Result<Self> {
        let cluster = MockCluster::new(1)?;
        cluster.create_topic(&topic.name, i32::try_from(topic.partitions)?, 1)?;
        Ok(Self {
            client: Kafka::new(&cluster.bootstrap_servers()),
            _cluster: cluster,
        })
    }
}

impl Kafka {
    pub(crate) fn new(address: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", address);
        Self { config }
    }

    /// Makes several topics in one request.
    pub(crate) fn make_all(&self, topics: &[Topic]) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let client: AdminClient<DefaultClientContext> = self.config.create()?;
        let mut wanted = Vec::new();
        for topic in topics {
            let partitions = i32::try_from(topic.partitions)?;
            wanted.push(NewTopic::new(
                &topic.name,
                partitions,
                TopicReplication::Fixed(1),
            ));
        }
        let options = AdminOptions::new()
            .request_timeout(Some(WITHIN))
            .operation_timeout(Some(WITHIN));
        for answer in runtime.block_on(client.create_topics(&wanted, &options))? {
            if let Err((topic, code)) = answer {
                bail!("the topic {topic} was not made: {code}");
            }
        }
        Ok(())
    }
}

/// Counts the messages of a topic that nothing is removed from.
pub(crate) struct Counter {
    consumer: BaseConsumer,
    topic: Topic,
}

impl Counter {
    /// How many there are.
    pub(crate) fn count(&self) -> Result<u64> {
        let mut count = 0;
        for partition in 0..i32::try_from(self.topic.partitions)? {
            let ends = self
                .consumer
                .fetch_watermarks(&self.topic.name, partition, WITHIN)?;
            count += u64::try_from(ends.1)?;
        }
        Ok(count)
    }
}

impl Kafka {
    /// What counts the messages of this topic.
    pub(crate) fn counter(&self, topic: &Topic) -> Result<Counter> {
        Ok(Counter {
            consumer: self.config.create()?,
            topic: topic.clone(),
        })
    }
}

impl Client for Kafka {
    fn make(&self, topic: &Topic) -> Result<()> {
        self.make_all(std::slice::from_ref(topic))
    }

    fn remove(&self, topic: &Topic) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let client: AdminClient<DefaultClientContext> = self.config.create()?;
        let deleting = client.delete_topics(&[&topic.name], &AdminOptions::new());
        for answer in runtime.block_on(deleting)? {
            if let Err((topic, code)) = answer {
                bail!("the topic {topic} was not removed: {code}");
            }
        }
        Ok(())
    }

    fn producer(&self, topic: &Topic, pace: Pace, codec: Codec) -> Result<Box<dyn Producer>> {
        let mut config = self.config.clone();
        config
            .set("acks", "all")
            .set("queue.buffering.max.messages", (2 * UNDER_WAY).to_string())
            .set("queue.buffering.max.kbytes", "524288");
        if codec == Codec::Lz4 {
            config.set("compression.codec", "lz4");
        }
        let window = Window::new(UNDER_WAY);
        match pace {
            Pace::Bulk => config
                .set("linger.ms", "5")
                .set("batch.size", "1000000")
                .set("batch.num.messages", "10000"),
            Pace::Prompt => config.set("linger.ms", "0"),
        };
        Ok(Box::new(KafkaProducer {
            producer: config.create_with_context(Reporting(window.gate()))?,
            topic: topic.name.clone(),
            window,
        }))
    }

    fn consumer(&self, topic: &Topic, from: From) -> Result<Box<dyn Consumer>> {
        let consumer: BaseConsumer = self
            .config
            .clone()
            .set("group.id", "bench")
            .set("enable.auto.commit", "false")
            .set("queued.min.messages", "1000000")
            .set("queued.max.messages.kbytes", "262144")
            .set("fetch.wait.max.ms", "10")
            .create()?;
        let mut list = TopicPartitionList::new();
        for partition in 0..i32::try_from(topic.partitions)? {
            let offset = match from {
                From::Beginning => Offset::Beginning,
                From::End => {
                    let (_, end) = consumer.fetch_watermarks(&topic.name, partition, WITHIN)?;
                    Offset::Offset(end)
                }
            };
            list.add_partition_offset(&topic.name, partition, offset)?;
        }
        consumer.assign(&list)?;
        Ok(Box::new(KafkaConsumer(consumer)))
    }
}

/// Reports what became of each message.
pub(crate) struct Reporting(pub(crate) Gate);

impl ClientContext for Reporting {}

impl ProducerContext for Reporting {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.0.leave(match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.to_string()),
        });
    }
}

struct KafkaProducer {
    producer: ThreadedProducer<Reporting>,
    topic: String,
    window: Window,
}

impl Producer for KafkaProducer {
    fn send(&mut self, partition: usize, payload: &[u8]) -> Result<()> {
        let partition = i32::try_from(partition)?;
        loop {
            self.window.enter(WITHIN)?;
            let record = BaseRecord::<(), _>::to(&self.topic)
                .partition(partition)
                .payload(payload);
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    // So many bytes are on their way that the client takes no more.
                    self.window.leave_again();
                    std::thread::park_timeout(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.window.drain(WITHIN)
    }
}

impl Drop for KafkaProducer {
    fn drop(&mut self) {
        // What is still queued after a failure is given up; else there is nothing left.
        self.producer
            .purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    }
}

struct KafkaConsumer(BaseConsumer);

impl Consumer for KafkaConsumer {
    fn poll(&mut self, patience: Duration, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        if let Some(message) = self.0.poll(patience) {
            let message = message?;
            each(message.payload().context("a message without payload")?);
        }
        Ok(())
    }
}
