//! The loads: the same loops for every server, over the seam of the clients.
//!
//! Invariant: a latency counts from the moment at which the message was due to be sent, not from
//! when it was, so a server that stalls cannot hide the messages that had to wait.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use hdrhistogram::Histogram;

use crate::clients::{Client, Codec, Consumer, From, Pace, Topic, WITHIN};

/// How many different messages there are; they come round.
const PAYLOADS: usize = 1024;
/// A throughput measurement ends early when it has sent this much.
const BYTES_MAX: u64 = 1 << 30;
/// What is left out at the start of a latency measurement.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long a consumer waits for messages at once.
const PATIENCE: Duration = Duration::from_millis(50);
/// The longest latency that a histogram tells apart, in nanoseconds.
const LATENCY_MAX: u64 = 60_000_000_000;

/// Messages to send, one after the other.
pub(crate) struct Payloads(Vec<Vec<u8>>);

impl Payloads {
    /// Bytes that do not compress, so that nobody gains by trying.
    pub(crate) fn noise(length: usize) -> Self {
        let mut random = Random(1);
        let payload = |_| (0..length).map(|_| random.byte()).collect();
        Self((0..PAYLOADS).map(payload).collect())
    }

    /// What services send: JSON with fields that differ from message to message.
    pub(crate) fn text(length: usize) -> Self {
        let mut random = Random(1);
        let payload = |number: usize| {
            let mut text = format!("{{\"order\":{number},\"customer\":\"");
            while text.len() < length {
                text += &format!(
                    "{:08x}\",\"status\":\"shipped\",\"amount\":{},\"currency\":\"EUR\",\"item\":\"",
                    random.next() >> 32,
                    random.next() % 10_000
                );
            }
            text.truncate(length);
            text.into_bytes()
        };
        Self((0..PAYLOADS).map(payload).collect())
    }

    fn get(&self, number: u64) -> &[u8] {
        let at = usize::try_from(number % PAYLOADS as u64).unwrap_or(0);
        &self.0[at]
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }
}

/// A throughput.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
}

impl Moved {
    pub(crate) fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.took.as_secs_f64()
    }
}

/// Produces as fast as it goes, over all partitions in turn, until every message is acknowledged.
pub(crate) fn produce(
    client: &dyn Client,
    topic: &Topic,
    payloads: &Payloads,
    codec: Codec,
    length: Duration,
) -> Result<Moved> {
    let mut producer = client.producer(topic, Pace::Bulk, codec)?;
    // The first message opens connections and looks up the topic; it is not measured.
    producer.send(0, payloads.get(0))?;
    producer.flush()?;
    let (mut messages, mut bytes) = (0_u64, 0_u64);
    let began = Instant::now();
    while bytes < BYTES_MAX && began.elapsed() < length {
        // Looking at the clock costs as much as sending a small message.
        for _ in 0..16 {
            let payload = payloads.get(messages);
            let partition = messages % topic.partitions as u64;
            producer.send(usize::try_from(partition)?, payload)?;
            messages += 1;
            bytes += payload.len() as u64;
        }
    }
    producer.flush()?;
    Ok(Moved {
        messages,
        bytes,
        took: began.elapsed(),
    })
}

/// Reads a topic from its beginning until `messages` have arrived.
pub(crate) fn consume(client: &dyn Client, topic: &Topic, messages: u64) -> Result<Moved> {
    let began = Instant::now();
    let mut consumer = client.consumer(topic, From::Beginning)?;
    let (mut read, mut bytes) = (0_u64, 0_u64);
    while read < messages {
        consumer.poll(PATIENCE, &mut |payload| {
            read += 1;
            bytes += payload.len() as u64;
        })?;
        ensure!(
            began.elapsed() < WITHIN,
            "{read} of {messages} messages within {WITHIN:?}"
        );
    }
    Ok(Moved {
        messages: read,
        bytes,
        took: began.elapsed(),
    })
}

/// Sends one message, waits for its acknowledgement, sends the next.
pub(crate) fn one_at_a_time(
    client: &dyn Client,
    topic: &Topic,
    payloads: &Payloads,
    length: Duration,
) -> Result<Histogram<u64>> {
    let mut producer = client.producer(topic, Pace::Prompt, Codec::None)?;
    let mut durations = histogram()?;
    let warm = Instant::now();
    let mut number = 0;
    while warm.elapsed() < length + WARM_UP / 2 {
        let began = Instant::now();
        producer.send(0, payloads.get(number))?;
        producer.flush()?;
        number += 1;
        if warm.elapsed() > WARM_UP / 2 {
            record(&mut durations, began.elapsed())?;
        }
    }
    Ok(durations)
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1_000, LATENCY_MAX, 3)?)
}

fn record(durations: &mut Histogram<u64>, duration: Duration) -> Result<()> {
    let nanos = u64::try_from(duration.as_nanos())?;
    Ok(durations.record(nanos.min(LATENCY_MAX))?)
}

/// A load at a fixed rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) per_second: u64,
    pub(crate) length: Duration,
    /// How many consumers read everything.
    pub(crate) consumers: usize,
}

impl Rate {
    fn messages(self) -> u64 {
        let length = WARM_UP + self.length;
        u64::try_from(length.as_micros()).unwrap_or(u64::MAX) * self.per_second / 1_000_000
    }

    /// When a message is due, after the start.
    fn due(self, number: u64) -> Duration {
        Duration::from_nanos(number * 1_000_000_000 / self.per_second)
    }
}

/// Sends at a fixed rate; measures from when each message was due until each consumer holds it.
pub(crate) fn end_to_end(
    client: &dyn Client,
    topic: &Topic,
    payloads: &Payloads,
    rate: Rate,
) -> Result<Histogram<u64>> {
    let mut consumers = Vec::new();
    for _ in 0..rate.consumers {
        consumers.push(client.consumer(topic, From::End)?);
    }
    let mut producer = client.producer(topic, Pace::Prompt, Codec::None)?;
    settle(&mut *producer, &mut consumers, payloads)?;
    let all = Mutex::new(histogram()?);
    let epoch = Instant::now();
    let failures = AtomicU64::new(0);
    thread::scope(|scope| {
        let receiving: Vec<_> = consumers
            .into_iter()
            .map(|mut consumer| {
                let (all, failures) = (&all, &failures);
                scope.spawn(move || {
                    let outcome = receive(&mut *consumer, rate, epoch, all);
                    if outcome.is_err() {
                        failures.fetch_add(1, Ordering::Relaxed);
                    }
                    outcome
                })
            })
            .collect();
        let sent = send_at(&mut *producer, payloads, rate, epoch, &failures);
        for thread in receiving {
            thread
                .join()
                .map_err(|panic| anyhow!("a consumer panicked: {panic:?}"))??;
        }
        sent
    })?;
    all.into_inner()
        .map_err(|_poisoned| anyhow!("a consumer panicked"))
}

/// Sends single messages until every consumer has received one: from then on all are connected and
/// have found their place.
fn settle(
    producer: &mut dyn crate::clients::Producer,
    consumers: &mut [Box<dyn Consumer>],
    payloads: &Payloads,
) -> Result<()> {
    let marker = |payload: &[u8]| -> Vec<u8> {
        let mut marker = payload.to_vec();
        marker[..8].fill(0xff);
        marker
    };
    let began = Instant::now();
    for consumer in consumers {
        let mut has_arrived = false;
        while !has_arrived {
            ensure!(began.elapsed() < WITHIN, "not every consumer got ready");
            producer.send(0, &marker(payloads.get(0)))?;
            producer.flush()?;
            consumer.poll(PATIENCE * 4, &mut |_payload| has_arrived = true)?;
        }
    }
    Ok(())
}

/// The stamp in a message; none in those that were sent before the start.
fn stamp(payload: &[u8]) -> Option<Duration> {
    let stamp = u64::from_le_bytes(*payload.first_chunk()?);
    (stamp != u64::MAX).then(|| Duration::from_nanos(stamp))
}

fn receive(
    consumer: &mut dyn Consumer,
    rate: Rate,
    epoch: Instant,
    all: &Mutex<Histogram<u64>>,
) -> Result<()> {
    let mut durations = histogram()?;
    let (wanted, mut received) = (rate.messages(), 0_u64);
    let deadline = WARM_UP + rate.length + WITHIN;
    while received < wanted {
        let mut failure = None;
        consumer.poll(PATIENCE, &mut |payload| {
            let Some(due) = stamp(payload) else { return };
            received += 1;
            if due > WARM_UP {
                let took = epoch.elapsed().saturating_sub(due);
                failure = record(&mut durations, took).err();
            }
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        if epoch.elapsed() > deadline {
            bail!("{received} of {wanted} messages arrived within {deadline:?}");
        }
    }
    let mut all = all
        .lock()
        .map_err(|_poisoned| anyhow!("a consumer panicked"))?;
    all.add(&durations)
        .context("two histograms of different bounds")
}

fn send_at(
    producer: &mut dyn crate::clients::Producer,
    payloads: &Payloads,
    rate: Rate,
    epoch: Instant,
    failures: &AtomicU64,
) -> Result<()> {
    let mut payload = payloads.get(0).to_vec();
    for number in 0..rate.messages() {
        let due = rate.due(number);
        loop {
            let now = epoch.elapsed();
            if now >= due {
                break;
            }
            thread::park_timeout(due - now);
        }
        if failures.load(Ordering::Relaxed) > 0 {
            return Ok(());
        }
        let stamp = u64::try_from(due.as_nanos())?.to_le_bytes();
        payload[..8].copy_from_slice(&stamp);
        producer.send(0, &payload)?;
    }
    producer.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_compresses_and_noise_does_not() {
        let distinct = |payloads: &Payloads| {
            let mut seen = [false; 256];
            for byte in payloads.get(3) {
                seen[usize::from(*byte)] = true;
            }
            seen.iter().filter(|seen| **seen).count()
        };
        assert!(distinct(&Payloads::noise(4096)) > 200);
        assert!(distinct(&Payloads::text(4096)) < 60);
        assert_eq!(Payloads::text(100).get(5).len(), 100);
    }

    #[test]
    fn messages_are_due_at_equal_distances() {
        let rate = Rate {
            per_second: 10_000,
            length: Duration::from_secs(4),
            consumers: 1,
        };
        assert_eq!(rate.messages(), 50_000);
        assert_eq!(rate.due(1), Duration::from_micros(100));
        assert_eq!(rate.due(49_999), Duration::from_micros(4_999_900));
    }
}
