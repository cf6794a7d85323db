//! The shop's side of the broker: an ordinary Kafka client, nothing else.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use futures_util::future::BoxFuture;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::util::Timeout;
use rdkafka::{Offset, TopicPartitionList};

use crate::event::{Delivery, Outgoing, TOPICS};

/// Partitions of each of the shop's topics.
const PARTITIONS: i32 = 3;
/// How long the broker may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(10);

/// A message on its way; done when the broker has acknowledged it.
pub(crate) type Sending = BoxFuture<'static, anyhow::Result<()>>;

/// A connection to the broker. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Bus {
    broker: String,
    run: String,
    producer: FutureProducer,
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_millis() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

impl Bus {
    /// Connects, and creates the topics that are missing.
    pub(crate) async fn connect(broker: &str, run: &str) -> anyhow::Result<Self> {
        let producer = client(broker)
            .set("client.id", "shop")
            .set("enable.idempotence", "true")
            .set("linger.ms", "2")
            .create()?;
        create_topics(broker).await?;
        Ok(Self {
            broker: broker.to_owned(),
            run: run.to_owned(),
            producer,
        })
    }

    /// The name of this run; messages of other runs are left alone.
    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    /// A consumer of the group `service` that commits only what it is told to.
    pub(crate) fn consumer(&self, service: &str) -> anyhow::Result<StreamConsumer> {
        Ok(client(&self.broker)
            .set("client.id", service)
            .set("group.id", service)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("session.timeout.ms", "10000")
            .create()?)
    }

    /// Sends an event that `service` caused by reacting to `cause`.
    pub(crate) fn send(
        &self,
        service: &'static str,
        cause: &Delivery,
        event: &Outgoing,
    ) -> Sending {
        let id = event.id(service, &cause.id);
        let headers = envelope(&id, service, event.kind, &self.run, &cause.correlation)
            .insert(header("ce_causationid", &cause.id));
        self.deliver(
            event.topic.to_owned(),
            event.order.clone().into_bytes(),
            event.payload.clone(),
            headers,
        )
    }

    /// Sends an event that nothing in the shop caused: a customer did.
    pub(crate) fn submit(&self, id: &str, event: Outgoing) -> Sending {
        let headers = envelope(id, "storefront", event.kind, &self.run, &event.order);
        self.deliver(
            event.topic.to_owned(),
            event.order.into_bytes(),
            event.payload,
            headers,
        )
    }

    /// Sets a message aside as a dead letter: the original bytes, where it was, and why.
    pub(crate) fn set_aside(&self, group: &str, delivery: &Delivery, reason: &str) -> Sending {
        let (partition, offset) = (delivery.partition.to_string(), delivery.offset.to_string());
        let headers = envelope(
            &delivery.id,
            group,
            &delivery.kind,
            &self.run,
            &delivery.correlation,
        )
        .insert(header("wharf-dlq-topic", &delivery.topic))
        .insert(header("wharf-dlq-partition", &partition))
        .insert(header("wharf-dlq-offset", &offset))
        .insert(header("wharf-dlq-group", group))
        .insert(header("wharf-dlq-reason", reason))
        .insert(header("wharf-dlq-attempts", "1"))
        .insert(header("__dlq.errors.topic", &delivery.topic))
        .insert(header("__dlq.errors.partition", &partition))
        .insert(header("__dlq.errors.offset", &offset))
        .insert(header("__dlq.errors.group", group))
        .insert(header("__dlq.errors.message", reason));
        let topic = dead_letter_topic(&delivery.topic, group);
        let key = delivery.key.clone().unwrap_or_default();
        self.deliver(topic, key, delivery.payload.clone(), headers)
    }

    fn deliver(
        &self,
        topic: String,
        key: Vec<u8>,
        payload: Vec<u8>,
        headers: OwnedHeaders,
    ) -> Sending {
        let producer = self.producer.clone();
        Box::pin(async move {
            let record = FutureRecord::to(&topic)
                .key(&key)
                .payload(&payload)
                .headers(headers);
            match producer.send(record, Timeout::Never).await {
                Ok(_) => Ok(()),
                Err((error, _)) => bail!("a message to {topic} was not acknowledged: {error}"),
            }
        })
    }

    /// How many records each topic has had so far, from the broker's own offsets.
    pub(crate) fn records_by_topic(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let consumer: BaseConsumer = client(&self.broker)
            .set("group.id", "shop-observer")
            .create()?;
        let metadata = consumer.fetch_metadata(None, PATIENCE)?;
        let mut records = BTreeMap::new();
        for topic in metadata
            .topics()
            .iter()
            .filter(|topic| is_ours(topic.name()))
        {
            let mut total = 0;
            for partition in topic.partitions() {
                let (_, end) = consumer.fetch_watermarks(topic.name(), partition.id(), PATIENCE)?;
                total += u64::try_from(end).unwrap_or(0);
            }
            records.insert(topic.name().to_owned(), total);
        }
        Ok(records)
    }

    /// An observer of how far a group is behind.
    pub(crate) fn observer(&self, group: &str, topics: &[&str]) -> anyhow::Result<Observer> {
        let consumer = client(&self.broker).set("group.id", group).create()?;
        let mut partitions = TopicPartitionList::new();
        for topic in topics {
            partitions.add_partition_range(topic, 0, PARTITIONS - 1);
        }
        Ok(Observer {
            consumer,
            partitions,
        })
    }
}

/// Asks how far a group is behind, without joining it.
pub(crate) struct Observer {
    consumer: BaseConsumer,
    partitions: TopicPartitionList,
}

impl Observer {
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

/// Where messages of `topic` go that the group cannot understand.
pub(crate) fn dead_letter_topic(topic: &str, group: &str) -> String {
    format!("dlq.{topic}.{group}")
}

/// A received message, with its envelope read. A missing id is the message's position.
pub(crate) fn delivery(message: &BorrowedMessage<'_>) -> Delivery {
    let text = |name: &str| -> Option<String> {
        let headers = message.headers()?;
        let found = headers.iter().find(|header| header.key == name)?;
        String::from_utf8(found.value?.to_vec()).ok()
    };
    let position = || {
        format!(
            "{}/{}/{}",
            message.topic(),
            message.partition(),
            message.offset()
        )
    };
    Delivery {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        payload: message.payload().unwrap_or_default().to_vec(),
        id: text("ce_id").unwrap_or_else(position),
        kind: text("ce_type").unwrap_or_default(),
        run: text("shop-run").unwrap_or_default(),
        correlation: text("ce_correlationid").unwrap_or_default(),
        sent_millis: message.timestamp().to_millis().unwrap_or(0),
    }
}

fn client(broker: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker);
    config
}

fn is_ours(topic: &str) -> bool {
    topic.starts_with("shop.") || topic.starts_with("dlq.shop.")
}

fn header<'a>(key: &'a str, value: &'a str) -> Header<'a, &'a str> {
    Header {
        key,
        value: Some(value),
    }
}

fn envelope(id: &str, source: &str, kind: &str, run: &str, correlation: &str) -> OwnedHeaders {
    OwnedHeaders::new()
        .insert(header("ce_specversion", "1.0"))
        .insert(header("ce_id", id))
        .insert(header("ce_source", &format!("/shop/{source}")))
        .insert(header("ce_type", kind))
        .insert(header("ce_correlationid", correlation))
        .insert(header("content-type", "application/json"))
        .insert(header("shop-run", run))
}

async fn create_topics(broker: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(broker).create()?;
    let dead_letters = dead_letter_topic(crate::event::CHECKOUTS, "order");
    let topics: Vec<_> = TOPICS
        .iter()
        .copied()
        .chain([dead_letters.as_str()])
        .map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)))
        .collect();
    let options = AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .operation_timeout(Some(PATIENCE));
    let results = admin
        .create_topics(&topics, &options)
        .await
        .with_context(|| format!("no broker answered at {broker}"))?;
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, error)) => bail!("the topic {topic} could not be created: {error}"),
        }
    }
    Ok(())
}
