//! The way of records through the broker: produced to a fresh topic, and read back from its beginning.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};

use crate::fresh;

/// A record as the cases see it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) value: Vec<u8>,
    /// At most one header, as that is what a serialiser adds.
    pub(crate) header: Option<(String, Vec<u8>)>,
}

/// Where the broker is.
#[derive(Clone)]
pub(crate) struct Broker {
    config: ClientConfig,
}

impl Broker {
    pub(crate) fn new(address: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", address);
        Self { config }
    }

    /// A topic that nobody else uses.
    pub(crate) async fn topic(&self) -> Result<String> {
        let admin: AdminClient<DefaultClientContext> = self.config.create()?;
        let name = fresh("registry");
        let topic = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
        let made = admin.create_topics(&[topic], &AdminOptions::new()).await?;
        let made = made.into_iter().next().context("no answer")?;
        made.map_err(|(name, code)| anyhow!("{name}: {code}"))
    }

    /// Produces records and answers what comes back.
    pub(crate) async fn through(&self, topic: &str, records: &[Record]) -> Result<Vec<Record>> {
        let producer: FutureProducer = self.config.create()?;
        for record in records {
            let mut out = FutureRecord::<(), _>::to(topic).payload(&record.value);
            if let Some((key, value)) = &record.header {
                let value = Some(value);
                out = out.headers(OwnedHeaders::new().insert(Header { key, value }));
            }
            let sent = producer.send(out, Duration::from_secs(10)).await;
            sent.map_err(|(error, _)| error)?;
        }
        let consumer: StreamConsumer = self.config.clone().set("group.id", topic).create()?;
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(topic, 0, Offset::Beginning)?;
        consumer.assign(&from)?;
        let mut found = Vec::new();
        while found.len() < records.len() {
            let message = consumer.recv().await?;
            let header = message.headers().and_then(|all| all.try_get(0));
            found.push(Record {
                value: message.payload().unwrap_or_default().to_vec(),
                header: header
                    .map(|one| (one.key.to_owned(), one.value.unwrap_or_default().to_vec())),
            });
        }
        Ok(found)
    }
}
