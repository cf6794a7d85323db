//! The library through its Kafka transport, beside librdkafka used directly with the same settings:
//! the same records to and from the same kind of topic.
//!
//! By hand, publishing keeps as many records under way and hears of each by callback; consuming polls
//! in a loop, looks at key, headers and payload as a handler may, and stores the offset that the client
//! commits every now and then.

use std::collections::VecDeque;
use std::future::IntoFuture as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::FutureExt as _;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, ThreadedProducer};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, oneshot};
use wharf::{Bus, Message, Raw, Router, State, TopicName, group, header};
use wharf_message::transport::{Publish as _, Transport as _};
use wharf_transport::kafka::{KafkaTransport, Options};

use crate::clients::{Reporting, WITHIN, Window};

/// The size of a payload, in bytes.
pub(super) const PAYLOAD_BYTES: usize = 1_024;
/// How many messages are under way at once while publishing.
pub(super) const UNDER_WAY: u64 = 10_000;
const KEYS: u64 = 1_000;

/// What the transport sets beyond the client's defaults, for the client by hand.
const SAME: &[(&str, &str)] = &[
    ("client.id", "wharf"),
    ("partitioner", "murmur2_random"),
    ("message.timeout.ms", "30000"),
    ("queue.buffering.max.kbytes", "131072"),
];
const SAME_PRODUCER: &[(&str, &str)] = &[("enable.idempotence", "true"), ("acks", "all")];
const SAME_CONSUMER: &[(&str, &str)] = &[
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.queue.backoff.ms", "10"),
    ("session.timeout.ms", "10000"),
    ("heartbeat.interval.ms", "1000"),
    ("isolation.level", "read_committed"),
    ("auto.offset.reset", "earliest"),
    ("enable.auto.offset.store", "false"),
];

/// How many messages, and how many of them are consumed before the clock starts: joining a group is
/// not what is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amount {
    pub(super) messages: u64,
    pub(super) warm: u64,
}

/// Messages per second of what the library's transport publishes.
pub(super) fn publish(
    runtime: &Runtime,
    address: &str,
    topic: &str,
    amount: Amount,
) -> Result<f64> {
    let messages: Vec<Message> = (0..amount.messages).map(message).collect();
    runtime.block_on(async {
        let transport = KafkaTransport::open(Options::new(address)).await?;
        let topic = TopicName::new(topic)?;
        let mut under_way = VecDeque::new();
        let began = Instant::now();
        for message in messages {
            if under_way.len() as u64 == UNDER_WAY
                && let Some(first) = under_way.pop_front()
            {
                acknowledged(first).await?;
            }
            under_way.push_back(transport.publish(&topic, message));
        }
        for one in under_way {
            acknowledged(one).await?;
        }
        let took = began.elapsed();
        transport.shutdown().await?;
        Ok(amount.messages as f64 / took.as_secs_f64())
    })
}

async fn acknowledged<T, E>(publish: impl Future<Output = Result<T, E>>) -> Result<()>
where
    E: std::error::Error + Send + Sync + 'static,
{
    tokio::time::timeout(WITHIN, publish).await??;
    Ok(())
}

/// Messages per second of what the client publishes by hand.
pub(super) fn publish_by_hand(address: &str, topic: &str, amount: Amount) -> Result<f64> {
    let messages: Vec<Message> = (0..amount.messages).map(message).collect();
    let mut window = Window::new(UNDER_WAY);
    let config = config(address, SAME_PRODUCER);
    let producer: ThreadedProducer<Reporting> =
        config.create_with_context(Reporting(window.gate()))?;
    let began = Instant::now();
    for message in messages {
        let headers = OwnedHeaders::new_with_capacity(message.headers.len());
        let headers = message
            .headers
            .iter()
            .fold(headers, |headers, (key, value)| {
                headers.insert(Header { key, value })
            });
        let mut record = BaseRecord::<[u8], [u8]>::to(topic)
            .payload(message.payload.as_deref().unwrap_or_default())
            .key(message.key.as_deref().unwrap_or_default())
            .headers(headers);
        window.enter(WITHIN)?;
        while let Err((error, same)) = producer.send(record) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            ensure!(error == full, "{error}");
            record = same;
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
    window.drain(WITHIN)?;
    Ok(amount.messages as f64 / began.elapsed().as_secs_f64())
}

/// Messages per second that a handler of the library gets.
pub(super) fn handle(runtime: &Runtime, address: &str, topic: &str, amount: Amount) -> Result<f64> {
    runtime.block_on(async {
        let transport = KafkaTransport::open(Options::new(address)).await?;
        let tally = Tally::new(amount);
        let route = group("library").on(count);
        let router = Router::new().topic(topic, route).with_state(tally.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = Bus::new(Arc::new(transport.clone()), "bench").serve(router);
        let serve = serve.with_graceful_shutdown(stopped.map(|_| ()));
        let mut serving = tokio::spawn(serve.into_future());
        tokio::select! {
            () = tally.0.done.notified() => {}
            ended = &mut serving => bail!("it ended before all were handled: {ended:?}"),
            () = tokio::time::sleep(WITHIN * 2) => bail!("{}", tally.missing()),
        }
        drop(stop);
        serving.await??;
        transport.shutdown().await?;
        tally.rate()
    })
}

async fn count(State(tally): State<Tally>, Raw(message): Raw) {
    tally.add(message.size());
}

/// Messages per second in a loop that polls by hand.
pub(super) fn handle_by_hand(address: &str, topic: &str, amount: Amount) -> Result<f64> {
    let consumer: BaseConsumer = config(address, SAME_CONSUMER)
        .set("group.id", "by-hand")
        .create()?;
    consumer.subscribe(&[topic])?;
    let tally = Tally::new(amount);
    let deadline = Instant::now() + WITHIN * 2;
    while tally.handled() < amount.messages {
        if Instant::now() > deadline {
            bail!("{}", tally.missing());
        }
        let Some(record) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let record = record?;
        tally.add(size(&record).context("a record without headers")?);
        consumer.store_offset_from_message(&record)?;
    }
    consumer.commit_consumer_state(CommitMode::Sync)?;
    tally.rate()
}

/// As [`Message::size`]: everything of a record is looked at.
fn size(record: &BorrowedMessage<'_>) -> Option<usize> {
    let headers = record.headers()?.iter();
    let headers: usize = headers
        .map(|header| header.key.len() + header.value.map_or(0, <[u8]>::len))
        .sum();
    Some(record.key()?.len() + record.payload()?.len() + headers)
}

fn config(address: &str, more: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    for (name, value) in SAME.iter().chain(more) {
        config.set(*name, *value);
    }
    config
}

/// What a service would publish: a key, the envelope, and the payload.
fn message(number: u64) -> Message {
    Message::new(vec![b'x'; PAYLOAD_BYTES])
        .with_key(format!("order-{}", number % KEYS))
        .with_header(header::CE_SPECVERSION, header::CE_SPECVERSION_VALUE)
        .with_header(header::CE_ID, format!("id-{number}"))
        .with_header(header::CE_SOURCE, "shop")
        .with_header(header::CE_TYPE, "shop.order.placed")
        .with_header(header::CE_TIME, "2026-01-31T12:00:00Z")
}

/// Counts what a handler gets, and looks at the clock after the warm-up and at the end.
#[derive(Clone)]
struct Tally(Arc<Counts>);

struct Counts {
    amount: Amount,
    started: Instant,
    handled: AtomicU64,
    /// In nanoseconds after the start.
    warm_at: AtomicU64,
    done_at: AtomicU64,
    done: Notify,
}

impl Tally {
    fn new(amount: Amount) -> Self {
        Self(Arc::new(Counts {
            amount,
            started: Instant::now(),
            handled: AtomicU64::new(0),
            warm_at: AtomicU64::new(0),
            done_at: AtomicU64::new(0),
            done: Notify::new(),
        }))
    }

    fn add(&self, bytes: usize) {
        if bytes <= PAYLOAD_BYTES {
            return;
        }
        let counts = &*self.0;
        let now = || u64::try_from(counts.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let handled = counts.handled.fetch_add(1, Ordering::AcqRel) + 1;
        if handled == counts.amount.warm {
            counts.warm_at.store(now(), Ordering::Release);
        }
        if handled == counts.amount.messages {
            counts.done_at.store(now(), Ordering::Release);
            counts.done.notify_one();
        }
    }

    fn handled(&self) -> u64 {
        self.0.handled.load(Ordering::Acquire)
    }

    fn missing(&self) -> String {
        let Amount { messages, .. } = self.0.amount;
        format!("{} of {messages} messages came", self.handled())
    }

    fn rate(&self) -> Result<f64> {
        let Amount { messages, warm } = self.0.amount;
        let from = self.0.warm_at.load(Ordering::Acquire);
        let to = self.0.done_at.load(Ordering::Acquire);
        ensure!(from < to, "{}", self.missing());
        Ok((messages - warm) as f64 * 1e9 / (to - from) as f64)
    }
}
