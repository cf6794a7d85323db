//! The clients: producers, consumers that commit, an administrator. Each notes what it attempts
//! and what was acknowledged, and goes on through every restart of the broker.

mod transactional;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::history::{History, Place, Stamp};
use crate::random::Random;
pub(crate) use transactional::{LEDGER, TRANSFORMER, ledger_places};

/// The topics that the producers write to, with their partitions.
pub(crate) const TOPICS: &[(&str, i32)] = &[("orders", 4), ("payments", 2)];
/// Commits as a member of a group that rebalances after every restart.
pub(crate) const MEMBER: &str = "kill-member";
/// The same by the newer protocol (KIP-848), where the broker deals out the partitions.
pub(crate) const MODERN: &str = "kill-modern";
/// Commits for partitions that it chose itself.
pub(crate) const READER: &str = "kill-reader";
/// The administrator makes at most this many topics.
const MADE_MAX: usize = 40;
/// After the load has stopped, everything in flight must be delivered within this time.
const FLUSH_WITHIN: Duration = Duration::from_secs(60);

/// What every client needs.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) address: String,
    pub(crate) history: Arc<History>,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// A client configuration that reconnects quickly.
    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.address)
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "100")
            .set("socket.timeout.ms", "5000");
        config
    }
}

/// Every partition of [`TOPICS`].
pub(crate) fn places() -> impl Iterator<Item = Place> {
    TOPICS
        .iter()
        .flat_map(|&(topic, partitions)| (0..partitions).map(move |p| (topic, p)))
}

/// The place of a message, if it is one of ours.
pub(crate) fn place_of(message: &impl Message) -> Option<Place> {
    let topic = TOPICS
        .iter()
        .find(|(topic, _)| *topic == message.topic())?
        .0;
    Some((topic, message.partition()))
}

/// What a message holds: who it is, and filling that follows from that, so that every changed byte
/// shows.
pub(crate) fn payload(place: Place, stamp: Stamp) -> String {
    let Stamp { producer, sequence } = stamp;
    let mut filling = Random::new(sequence ^ ((producer as u64) << 48));
    let words = filling.below(40);
    let mut text = format!("{}/{} {producer} {sequence}", place.0, place.1);
    for _ in 0..words {
        text.push_str(&format!(" {:016x}", filling.next()));
    }
    text
}

/// Who a message is, when every byte of it is as it was sent.
pub(crate) fn stamp_of(place: Place, bytes: &[u8]) -> Option<Stamp> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut words = text.split(' ').skip(1);
    let producer = words.next()?.parse().ok()?;
    let sequence = words.next()?.parse().ok()?;
    let stamp = Stamp { producer, sequence };
    (payload(place, stamp) == text).then_some(stamp)
}

/// Starts all clients. Each answers, after the load has stopped, what kept it from finishing.
pub(crate) fn start(shared: &Shared, seed: u64) -> Vec<JoinHandle<Result<()>>> {
    let codecs = ["none", "lz4", "zstd", "gzip"];
    let mut threads = Vec::new();
    for (id, codec) in codecs.into_iter().enumerate() {
        let (shared, random) = (shared.clone(), Random::new(seed ^ id as u64));
        shared.history.lock().idempotent.insert(id);
        threads.push(thread::spawn(move || {
            produce(&shared, id, Some(codec), random)
        }));
    }
    let (plain, random) = (shared.clone(), Random::new(seed ^ 99));
    threads.push(thread::spawn(move || {
        produce(&plain, codecs.len(), None, random)
    }));
    for group in [MEMBER, MODERN, READER] {
        let shared = shared.clone();
        threads.push(thread::spawn(move || consume(&shared, group)));
    }
    for id in [20, 21] {
        let (shared, random) = (shared.clone(), Random::new(seed ^ (id as u64)));
        threads.push(thread::spawn(move || {
            transactional::write(&shared, id, random)
        }));
    }
    let transformer = shared.clone();
    threads.push(thread::spawn(move || {
        transactional::transform(&transformer, 22)
    }));
    let watcher = shared.clone();
    threads.push(thread::spawn(move || transactional::watch(&watcher)));
    let (shared, random) = (shared.clone(), Random::new(seed ^ 77));
    threads.push(thread::spawn(move || administer(&shared, random)));
    threads
}

/// Makes the topics that the producers write to.
pub(crate) fn make_topics(shared: &Shared) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let client: AdminClient<DefaultClientContext> = shared.config().create()?;
    let topics: Vec<NewTopic<'_>> = TOPICS
        .iter()
        .chain([&LEDGER])
        .map(|(name, partitions)| NewTopic::new(name, *partitions, TopicReplication::Fixed(1)))
        .collect();
    for answer in runtime.block_on(client.create_topics(&topics, &AdminOptions::new()))? {
        if let Err((topic, code)) = answer {
            bail!("the topic {topic} was not made: {code}");
        }
    }
    Ok(())
}

/// Notes what the broker says of each message.
struct Reports {
    history: Arc<History>,
    idempotent: bool,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<(Place, Stamp)>;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: Self::DeliveryOpaque) {
        let (place, stamp) = *opaque;
        let mut facts = self.history.lock();
        match result {
            Ok(message) => facts.acknowledge(place, message.offset(), stamp),
            // What a refusal before took with it.
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::PurgeQueue), _)) => {}
            // An idempotent producer tries again until it is told; it must not be refused.
            Err((error, _)) if self.idempotent => {
                facts
                    .state
                    .violations
                    .push(format!("{place:?} {stamp:?} was refused: {error}"));
            }
            Err(_) => {}
        }
    }
}

/// Sends to all partitions until told to stop. With a codec the producer is idempotent and tries
/// again over every restart; without one it tries once.
fn produce(shared: &Shared, id: usize, codec: Option<&str>, mut random: Random) -> Result<()> {
    let mut config = shared.config();
    config
        .set("linger.ms", "2")
        .set("queue.buffering.max.messages", "1000");
    match codec {
        Some(codec) => config
            .set("enable.idempotence", "true")
            .set("compression.type", codec)
            .set("message.timeout.ms", "120000"),
        None => config
            .set("acks", "1")
            .set("retries", "0")
            .set("message.timeout.ms", "2000"),
    };
    let reports = Reports {
        history: Arc::clone(&shared.history),
        idempotent: codec.is_some(),
    };
    let producer: BaseProducer<Reports> = config.create_with_context(reports)?;
    let places: Vec<Place> = places().collect();
    while !shared.stopped() {
        for _ in 0..random.below(30) {
            let place = *random.pick(&places);
            let stamp = shared.history.lock().attempt(place, id);
            send(&producer, place, stamp)?;
        }
        producer.poll(Duration::from_millis(random.below(10)));
    }
    producer
        .flush(FLUSH_WITHIN)
        .with_context(|| format!("producer {id} could not deliver"))
}

/// Queues one message, waiting while the queue is full.
fn send(producer: &BaseProducer<Reports>, place: Place, stamp: Stamp) -> Result<()> {
    let payload = payload(place, stamp);
    let mut record = BaseRecord::<(), str, _>::with_opaque_to(place.0, Box::new((place, stamp)))
        .partition(place.1)
        .payload(payload.as_str());
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(5));
            }
            Err((error, _)) => return Err(error).context("a message could not be queued"),
        }
    }
}

/// Reads everything and commits often, as a member of a group or for itself.
fn consume(shared: &Shared, group: &'static str) -> Result<()> {
    let mut config = shared.config();
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "50");
    // By the newer protocol the broker says how long a session is.
    match group {
        MODERN => config.set("group.protocol", "consumer"),
        _ => config
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "500"),
    };
    let consumer: BaseConsumer = config.create()?;
    if group == READER {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in places() {
            list.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
    } else {
        let topics: Vec<&str> = TOPICS.iter().map(|(topic, _)| *topic).collect();
        consumer.subscribe(&topics)?;
    }
    let mut count = 0_u64;
    while !shared.stopped() {
        let Some(polled) = consumer.poll(Duration::from_millis(50)) else {
            continue;
        };
        // Errors of the connection pass with the restart.
        let Ok(message) = polled else { continue };
        let Some(place) = place_of(&message) else {
            continue;
        };
        let stamp = stamp_of(place, message.payload().unwrap_or_default());
        let mut facts = shared.history.lock();
        match stamp {
            Some(stamp) => facts.see(place, message.offset(), stamp),
            None => facts.see_damaged(place, message.offset()),
        }
        drop(facts);
        count += 1;
        if count.is_multiple_of(40) {
            commit(shared, &consumer, group, place, message.offset() + 1)?;
        }
    }
    Ok(())
}

fn commit(
    shared: &Shared,
    consumer: &BaseConsumer,
    group: &'static str,
    place: Place,
    offset: i64,
) -> Result<()> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(place.0, place.1, Offset::Offset(offset))?;
    let history = &shared.history;
    history.lock().committed(group, place).attempt(offset);
    if consumer.commit(&list, CommitMode::Sync).is_ok() {
        history.lock().committed(group, place).acknowledge(offset);
    }
    Ok(())
}

/// Makes topics, raises their retention time, deletes a few.
fn administer(shared: &Shared, mut random: Random) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let client: AdminClient<DefaultClientContext> = shared.config().create()?;
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(2)));
    let mut made = 0;
    while !shared.stopped() {
        let known = made.max(1);
        let name = format!("made-{}", random.below(known as u64));
        match random.below(20) {
            0..5 if made < MADE_MAX => {
                let name = format!("made-{made}");
                made += 1;
                raise(shared, &name, |value| {
                    runtime.block_on(create(&client, &options, &name, value))
                });
            }
            0 if made > 1 => delete(shared, &name, || {
                runtime.block_on(async {
                    matches!(
                        client.delete_topics(&[&name], &options).await.as_deref(),
                        Ok([Ok(_)])
                    )
                })
            }),
            _ if made > 0 && !shared.history.lock().state.topics[&name].delete_attempted => {
                // The client library hides errors of single resources: only for a topic that is
                // certainly there does its answer say something.
                let there = shared.history.lock().state.topics[&name].retention;
                raise(shared, &name, |value| {
                    let altered = runtime.block_on(alter(&client, &options, &name, value));
                    altered && there.acknowledged.is_some()
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Notes a new retention time as attempted, and as acknowledged once `set` says so.
fn raise(shared: &Shared, name: &str, set: impl FnOnce(i64) -> bool) {
    let value = {
        let mut facts = shared.history.lock();
        let topic = facts.state.topics.entry(name.to_owned()).or_default();
        topic.retention.attempted = topic.retention.attempted.max(1_000_000_000) + 1;
        topic.retention.attempted
    };
    if set(value)
        && let Some(topic) = shared.history.lock().state.topics.get_mut(name)
    {
        topic.retention.acknowledged = Some(value);
    }
}

fn delete(shared: &Shared, name: &str, delete: impl FnOnce() -> bool) {
    let note = |change: &dyn Fn(&mut crate::history::TopicFacts)| {
        change(
            shared
                .history
                .lock()
                .state
                .topics
                .entry(name.to_owned())
                .or_default(),
        );
    };
    note(&|topic| topic.delete_attempted = true);
    if delete() {
        note(&|topic| topic.delete_acknowledged = true);
    }
}

type Admin = AdminClient<DefaultClientContext>;

async fn create(client: &Admin, options: &AdminOptions, name: &str, retention: i64) -> bool {
    let retention = retention.to_string();
    let topic = NewTopic::new(name, 2, TopicReplication::Fixed(1)).set("retention.ms", &retention);
    matches!(
        client.create_topics([&topic], options).await.as_deref(),
        Ok([Ok(_)])
    )
}

async fn alter(client: &Admin, options: &AdminOptions, name: &str, retention: i64) -> bool {
    let retention = retention.to_string();
    let change = AlterConfig::new(ResourceSpecifier::Topic(name)).set("retention.ms", &retention);
    matches!(
        client.alter_configs([&change], options).await.as_deref(),
        Ok([Ok(_)])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_says_who_it_is_and_shows_every_change() {
        let place = TOPICS
            .first()
            .map(|(topic, _)| (*topic, 1))
            .expect("there are topics");
        let stamp = Stamp {
            producer: 2,
            sequence: 31,
        };
        let text = payload(place, stamp);
        assert_eq!(stamp_of(place, text.as_bytes()), Some(stamp));
        assert_eq!(
            stamp_of((place.0, 2), text.as_bytes()),
            None,
            "another partition's"
        );
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert_eq!(stamp_of(place, &bytes), None, "byte {at} changed");
        }
    }
}
