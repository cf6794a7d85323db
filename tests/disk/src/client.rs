//! What the test does to the node: makes and deletes topics, sends, reads everything, asks its health.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

const WITHIN: Duration = Duration::from_secs(60);
/// How large a message is.
const MESSAGE_BYTES: usize = 50_000;

/// Acknowledged messages by offset, and the refusals since they were last looked at.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) acknowledged: BTreeMap<i64, u64>,
    pub(crate) refused: Vec<RDKafkaErrorCode>,
}

/// Collects what becomes of messages.
#[derive(Debug, Default)]
struct Reports(Arc<Mutex<Answers>>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Self::DeliveryOpaque) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(message) => {
                answers.acknowledged.insert(message.offset(), *number);
            }
            Err((error, _)) => answers.refused.extend(error.rdkafka_error_code()),
        }
    }
}

fn config(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    config
}

/// Sends numbered messages to one topic, each once, and remembers the answers.
pub(crate) struct Sender {
    producer: BaseProducer<Reports>,
    answers: Arc<Mutex<Answers>>,
    topic: String,
    next: u64,
}

impl Sender {
    pub(crate) fn new(address: &str, topic: &str) -> Result<Self> {
        let answers = Arc::default();
        let producer = config(address)
            .set("acks", "all")
            .set("retries", "0")
            .set("linger.ms", "0")
            .set("message.timeout.ms", "10000")
            .create_with_context(Reports(Arc::clone(&answers)))?;
        Ok(Self {
            producer,
            answers,
            topic: topic.to_owned(),
            next: 0,
        })
    }

    /// Sends so many messages and waits for every answer; returns the refusals.
    pub(crate) fn send(&mut self, count: u64) -> Result<Vec<RDKafkaErrorCode>> {
        for _ in 0..count {
            let payload = payload(self.next);
            let record =
                BaseRecord::<(), [u8], _>::with_opaque_to(&self.topic, Box::new(self.next))
                    .partition(0)
                    .payload(&payload);
            self.producer.send(record).map_err(|(error, _)| error)?;
            self.next += 1;
        }
        self.producer.flush(WITHIN)?;
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut answers.refused))
    }

    pub(crate) fn acknowledged(&self) -> BTreeMap<i64, u64> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.acknowledged.clone()
    }
}

/// A message that says its number and shows every changed byte.
fn payload(number: u64) -> Vec<u8> {
    let word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let mut payload = number.to_be_bytes().to_vec();
    while payload.len() < MESSAGE_BYTES {
        payload.extend(word);
    }
    payload
}

fn number_of(bytes: &[u8]) -> Option<u64> {
    let number = u64::from_be_bytes(*bytes.first_chunk()?);
    (payload(number) == bytes).then_some(number)
}

/// Makes topics with one partition each.
pub(crate) fn make(address: &str, names: &[&str]) -> Result<()> {
    let topic = |name| NewTopic::new(name, 1, TopicReplication::Fixed(1));
    let topics: Vec<NewTopic<'_>> = names.iter().map(|name| topic(name)).collect();
    let client: AdminClient<DefaultClientContext> = config(address).create()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for answer in runtime.block_on(client.create_topics(&topics, &AdminOptions::new()))? {
        if let Err((topic, code)) = answer {
            bail!("the topic {topic} was not made: {code}");
        }
    }
    Ok(())
}

pub(crate) fn delete(address: &str, name: &str) -> Result<()> {
    let client: AdminClient<DefaultClientContext> = config(address).create()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for answer in runtime.block_on(client.delete_topics(&[name], &AdminOptions::new()))? {
        if let Err((topic, code)) = answer {
            bail!("the topic {topic} was not deleted: {code}");
        }
    }
    Ok(())
}

/// Every message of a topic by offset; `None` for one that nobody sent.
pub(crate) fn read(address: &str, topic: &str) -> Result<BTreeMap<i64, Option<u64>>> {
    let consumer: BaseConsumer = config(address)
        .set("group.id", "disk-full")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning)?;
    consumer.assign(&list)?;
    let (mut found, deadline) = (BTreeMap::new(), Instant::now() + WITHIN);
    while Instant::now() < deadline {
        match consumer.poll(Duration::from_millis(200)) {
            None => {}
            Some(Ok(message)) => {
                let number = number_of(message.payload().unwrap_or_default());
                found.insert(message.offset(), number);
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(found),
            Some(Err(error)) => return Err(error).context("reading"),
        }
    }
    bail!("{} messages within {WITHIN:?}", found.len())
}

/// In the topic `kept`: everything acknowledged is there; whatever else is there was sent.
pub(crate) fn compare(address: &str, acknowledged: &BTreeMap<i64, u64>) -> Result<()> {
    let found = read(address, "kept")?;
    for (offset, number) in acknowledged {
        let there = found.get(offset);
        ensure!(
            there == Some(&Some(*number)),
            "offset {offset}: {there:?} instead of {number}"
        );
    }
    let stranger = found.iter().find(|(_, number)| number.is_none());
    ensure!(stranger.is_none(), "{stranger:?} was never sent");
    Ok(())
}

/// The status and body of `GET /readyz`.
pub(crate) fn readiness(http: &str) -> Result<String> {
    let mut stream = TcpStream::connect(http)?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
