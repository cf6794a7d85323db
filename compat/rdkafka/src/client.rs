//! What every case needs: producing with acknowledgements, reading a number of messages, admin.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::future::try_join_all;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};

/// The longest one answer may take.
pub(crate) const WITHIN: Duration = Duration::from_secs(30);

/// A broker's address, and clients for it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    address: String,
}

/// What to send.
#[derive(Clone, Debug, Default)]
pub(crate) struct Send {
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) headers: Option<OwnedHeaders>,
}

impl Send {
    pub(crate) fn of(payload: impl Into<Vec<u8>>) -> Self {
        Self {
            payload: Some(payload.into()),
            ..Self::default()
        }
    }
}

impl Client {
    pub(crate) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A name that nobody else uses.
    pub(crate) fn fresh(what: &str) -> String {
        format!("compat-{what}-{}", uuid::Uuid::new_v4().simple())
    }

    /// A client configuration with `settings`.
    pub(crate) fn config(&self, settings: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        for (name, value) in settings {
            config.set(*name, *value);
        }
        config
    }

    pub(crate) fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(self.config(&[]).create()?)
    }

    /// Makes a topic with settings.
    pub(crate) async fn topic(&self, partitions: i32, settings: &[(&str, &str)]) -> Result<String> {
        let name = Self::fresh("topic");
        let mut topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let answers = self
            .admin()?
            .create_topics([&topic], &AdminOptions::new())
            .await?;
        if let Some(Err((_, code))) = answers.into_iter().next() {
            bail!("the topic was not made: {code}");
        }
        Ok(name)
    }

    /// Sends everything at once and waits for every acknowledgement; answers the positions.
    pub(crate) async fn send(
        &self,
        topic: &str,
        settings: &[(&str, &str)],
        messages: Vec<Send>,
    ) -> Result<Vec<(i32, i64)>> {
        let producer: FutureProducer = self.config(settings).create()?;
        let deliveries = messages.into_iter().map(|message| {
            let producer = &producer;
            async move {
                let mut record = FutureRecord::<[u8], [u8]>::to(topic);
                record.key = message.key.as_deref();
                record.payload = message.payload.as_deref();
                record.partition = message.partition;
                record.timestamp = message.timestamp;
                record.headers = message.headers;
                match producer.send(record, WITHIN).await {
                    Ok(delivery) => Ok((delivery.partition, delivery.offset)),
                    Err((error, _)) => Err(error),
                }
            }
        });
        Ok(try_join_all(deliveries).await?)
    }

    /// A consumer of `topic` in `group` from the beginning, without automatic commits.
    pub(crate) fn consumer(&self, topic: &str, group: &str) -> Result<StreamConsumer> {
        self.member(topic, group, &[])
    }

    /// The same with more settings.
    pub(crate) fn member(
        &self,
        topic: &str,
        group: &str,
        settings: &[(&str, &str)],
    ) -> Result<StreamConsumer> {
        let mut config = self.config(&[
            ("group.id", group),
            ("auto.offset.reset", "earliest"),
            ("enable.auto.commit", "false"),
            ("fetch.wait.max.ms", "200"),
        ]);
        for (name, value) in settings {
            config.set(*name, *value);
        }
        let consumer: StreamConsumer = config.create()?;
        consumer.subscribe(&[topic])?;
        Ok(consumer)
    }

    /// The first `count` messages of a topic.
    pub(crate) async fn read(&self, topic: &str, count: usize) -> Result<Vec<OwnedMessage>> {
        take(&self.consumer(topic, &Self::fresh("group"))?, count).await
    }
}

/// The next `count` messages.
pub(crate) async fn take(consumer: &StreamConsumer, count: usize) -> Result<Vec<OwnedMessage>> {
    let mut messages = Vec::with_capacity(count);
    while messages.len() < count {
        let next = tokio::time::timeout(WITHIN, consumer.recv()).await;
        let next = next.with_context(|| format!("{} of {count} messages", messages.len()))?;
        messages.push(next?.detach());
    }
    Ok(messages)
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = tokio::time::Instant::now() + WITHIN;
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    while !condition()? {
        if tokio::time::Instant::now() > deadline {
            bail!("not within {WITHIN:?}: {what}");
        }
        tick.tick().await;
    }
    Ok(())
}
