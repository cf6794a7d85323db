//! The load: librdkafka producing and consuming as fast as it can, one at a time, or at a rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{
    BaseRecord, DeliveryResult, FutureProducer, FutureRecord, Producer, ProducerContext,
    ThreadedProducer,
};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::{MESSAGE_BYTES, Spread};

/// The longest anything may take to finish.
const WITHIN: Duration = Duration::from_secs(60);
/// What is left out at the start of the end-to-end measurement.
const WARM_UP: Duration = Duration::from_secs(1);

/// Where the load goes and how long each measurement lasts.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    config: ClientConfig,
    length: Duration,
}

/// Counts acknowledgements.
#[derive(Default)]
struct Count {
    good: AtomicU64,
    bad: AtomicU64,
}

struct Counting(Arc<Count>);

impl ClientContext for Counting {}

impl ProducerContext for Counting {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let count = if result.is_ok() {
            &self.0.good
        } else {
            &self.0.bad
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Bytes that do not compress, so that nobody gains by trying.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

impl Load {
    /// A load on the broker at `address`.
    pub(crate) fn of(address: &str, length: Duration) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", address);
        Self { config, length }
    }

    /// A load on the cluster that librdkafka plays within itself: what the client allows.
    pub(crate) fn mock(length: Duration) -> Self {
        let mut config = ClientConfig::new();
        config.set("test.mock.num.brokers", "1");
        Self { config, length }
    }

    /// Makes a topic.
    pub(crate) fn make_topic(&self, name: &str, partitions: i32) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let client: AdminClient<DefaultClientContext> = self.config.create()?;
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for answer in runtime.block_on(client.create_topics([&topic], &AdminOptions::new()))? {
            if let Err((topic, code)) = answer {
                bail!("the topic {topic} was not made: {code}");
            }
        }
        Ok(())
    }

    /// Produces as fast as it goes, spread over the topic's partitions, and waits for every
    /// acknowledgement. MB/s.
    pub(crate) fn produce(&self, topic: &str) -> Result<f64> {
        let count = Arc::new(Count::default());
        let producer: ThreadedProducer<Counting> = self
            .config
            .clone()
            .set("acks", "all")
            .set("linger.ms", "5")
            .set("batch.size", "1000000")
            .set("batch.num.messages", "10000")
            .set("queue.buffering.max.messages", "200000")
            .set("queue.buffering.max.kbytes", "262144")
            .set("sticky.partitioning.linger.ms", "10")
            .create_with_context(Counting(Arc::clone(&count)))?;
        let payload = noise(MESSAGE_BYTES);
        let (began, mut sent) = (Instant::now(), 0_u64);
        while began.elapsed() < self.length {
            match producer.send(BaseRecord::<(), _>::to(topic).payload(&payload)) {
                Ok(()) => sent += 1,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    thread::park_timeout(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
        producer.flush(WITHIN)?;
        let took = began.elapsed();
        let bad = count.bad.load(Ordering::Relaxed);
        let good = count.good.load(Ordering::Relaxed);
        ensure!(
            bad == 0 && good == sent,
            "{bad} of {sent} messages were refused"
        );
        Ok(good as f64 * MESSAGE_BYTES as f64 / 1e6 / took.as_secs_f64())
    }

    fn consumer(&self, topic: &str, partitions: i32) -> Result<(BaseConsumer, u64)> {
        let consumer: BaseConsumer = self
            .config
            .clone()
            .set("group.id", "bench")
            .set("enable.auto.commit", "false")
            .set("queued.min.messages", "1000000")
            .set("fetch.wait.max.ms", "10")
            .create()?;
        let (mut list, mut records) = (TopicPartitionList::new(), 0);
        for partition in 0..partitions {
            let (low, high) = consumer.fetch_watermarks(topic, partition, WITHIN)?;
            records += high.abs_diff(low);
            list.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        Ok((consumer, records))
    }

    /// Reads a topic from its beginning to its end. MB/s.
    pub(crate) fn consume(&self, topic: &str, partitions: i32) -> Result<f64> {
        let began = Instant::now();
        let (consumer, records) = self.consumer(topic, partitions)?;
        let (mut read, mut bytes, mut last) = (0, 0, Instant::now());
        while read < records {
            match consumer.poll(Duration::from_millis(100)) {
                Some(message) => {
                    bytes += message?.payload_len();
                    read += 1;
                    last = Instant::now();
                }
                None => ensure!(last.elapsed() < WITHIN, "{read} of {records} messages"),
            }
        }
        Ok(bytes as f64 / 1e6 / began.elapsed().as_secs_f64())
    }

    /// Sends one message, waits for its acknowledgement, sends the next.
    pub(crate) fn one_at_a_time(&self) -> Result<Spread> {
        self.make_topic("one", 1)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let producer: FutureProducer = self
            .config
            .clone()
            .set("acks", "all")
            .set("linger.ms", "0")
            .create()?;
        let payload = noise(MESSAGE_BYTES);
        runtime.block_on(async {
            let (began, mut durations) = (Instant::now(), Vec::new());
            while began.elapsed() < self.length {
                let sent = Instant::now();
                let record = FutureRecord::<(), _>::to("one").payload(&payload);
                producer
                    .send(record, WITHIN)
                    .await
                    .map_err(|(error, _)| error)?;
                durations.push(sent.elapsed());
            }
            Ok(Spread::of(durations))
        })
    }

    /// Sends at a rate and measures from before the sending until a consumer holds the message.
    pub(crate) fn end_to_end(&self, rate: u64) -> Result<Spread> {
        self.make_topic("through", 1)?;
        let (consumer, _) = self.consumer("through", 1)?;
        let (epoch, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let sender = {
            let (load, stop) = (self.clone(), Arc::clone(&stop));
            thread::spawn(move || load.send_at(rate, epoch, &stop))
        };
        let mut durations = Vec::new();
        while epoch.elapsed() < WARM_UP + self.length {
            let Some(message) = consumer.poll(Duration::from_millis(50)) else {
                continue;
            };
            let (message, now) = (message?, epoch.elapsed());
            let stamp = message
                .payload()
                .and_then(<[u8]>::first_chunk)
                .context("no stamp")?;
            let sent = Duration::from_nanos(u64::from_le_bytes(*stamp));
            if sent > WARM_UP {
                durations.push(now.saturating_sub(sent));
            }
        }
        stop.store(true, Ordering::Relaxed);
        let sent = sender
            .join()
            .map_err(|panic| anyhow::anyhow!("sending panicked: {panic:?}"))??;
        ensure!(!durations.is_empty(), "none of {sent} messages arrived");
        Ok(Spread::of(durations))
    }

    /// Sends `rate` messages a second, each with the time since `epoch` in front, until told to
    /// stop. Answers how many.
    fn send_at(&self, rate: u64, epoch: Instant, stop: &AtomicBool) -> Result<u64> {
        let count = Arc::new(Count::default());
        let producer: ThreadedProducer<Counting> = self
            .config
            .clone()
            .set("acks", "all")
            .set("linger.ms", "0")
            .create_with_context(Counting(count))?;
        let (mut payload, mut sent) = (noise(MESSAGE_BYTES), 0);
        while !stop.load(Ordering::Relaxed) {
            let due = u64::try_from(epoch.elapsed().as_micros())? * rate / 1_000_000;
            while sent < due {
                let stamp = u64::try_from(epoch.elapsed().as_nanos())?.to_le_bytes();
                if let Some(front) = payload.first_chunk_mut() {
                    *front = stamp;
                }
                let record = BaseRecord::<(), _>::to("through").payload(&payload);
                producer.send(record).map_err(|(error, _)| error)?;
                sent += 1;
            }
            thread::park_timeout(Duration::from_micros(500));
        }
        producer.flush(WITHIN)?;
        Ok(sent)
    }
}
