//! The Kafka worker of Wharf's sagas: commands from a topic of each step, replies to where they say.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use hdrhistogram::Histogram;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::{Value, json};

use super::load::STEPS;

/// How long the worker looks for a command before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);
/// How long it may take until the worker is given its partitions.
const JOINED_WITHIN: Duration = Duration::from_secs(60);

/// The topic of a step's commands.
pub(super) fn topic(step: &str) -> String {
    format!("bench-{step}")
}

/// A trivial effect, and the time since the step before it.
#[derive(Default)]
pub(super) struct Work {
    last: HashMap<String, Instant>,
    effects: u64,
    undos: u64,
    /// In nanoseconds.
    gaps: Option<Histogram<u64>>,
}

impl Work {
    pub(super) fn act(&mut self, saga: &str, step: &str, undo: bool) -> Value {
        if undo {
            self.undos += 1;
            self.last.remove(saga);
            return json!({ "undone": step });
        }
        self.effects += 1;
        let now = Instant::now();
        if let Some(before) = self.last.remove(saga) {
            self.gap(now - before);
        }
        if STEPS.last() != Some(&step) {
            self.last.insert(saga.to_owned(), now);
        }
        json!({ "done": step })
    }

    fn gap(&mut self, gap: Duration) {
        let gaps = self.gaps.get_or_insert_with(|| {
            Histogram::new(3).expect("three digits are within what it can have")
        });
        let gap = u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX);
        // It grows with what it is given; longer than it can become is longer than a run.
        gaps.record(gap).ok();
    }

    /// What was gathered since the last time, as the other workers tell it.
    pub(super) fn take(&mut self) -> Value {
        let taken = std::mem::take(self);
        let at = |quantile| {
            let gaps = taken.gaps.as_ref();
            gaps.map(|gaps| gaps.value_at_quantile(quantile) as f64 / 1e6)
        };
        json!({
            "effects": taken.effects,
            "undos": taken.undos,
            "step_p50": at(0.5),
            "step_p99": at(0.99),
        })
    }
}

/// See the module; ends when dropped.
pub(super) struct KafkaWorker {
    work: Arc<Mutex<Work>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl KafkaWorker {
    /// Joins its group and begins; the topics must be there.
    pub(super) fn start(address: &str) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", address);
        config.set("linger.ms", "0");
        let producer: BaseProducer = config.create()?;
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", address);
        config.set("group.id", "bench-workers");
        config.set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = config.create()?;
        let topics = STEPS.map(topic);
        consumer.subscribe(&topics.each_ref().map(String::as_str))?;
        let deadline = Instant::now() + JOINED_WITHIN;
        while consumer.assignment()?.count() == 0 {
            ensure!(
                Instant::now() < deadline,
                "the worker was given no partitions within {JOINED_WITHIN:?}"
            );
            if let Some(early) = consumer.poll(LOOK) {
                return Err(anyhow!("a command before there was a saga: {:?}", early?));
            }
        }
        let (work, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (shared, stopping) = (Arc::clone(&work), Arc::clone(&stop));
        let thread = std::thread::spawn(move || serve(&consumer, &producer, &shared, &stopping));
        Ok(Self {
            work,
            stop,
            thread: Some(thread),
        })
    }

    /// What was gathered since the last time.
    pub(super) fn gathered(&mut self) -> Result<Value> {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(thread) = self.thread.take()
        {
            thread
                .join()
                .map_err(|_panic| anyhow!("the worker panicked"))??;
        }
        ensure!(self.thread.is_some(), "the worker has ended");
        Ok(lock(&self.work).take())
    }
}

impl Drop for KafkaWorker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Whatever it says now, nobody asked.
            drop(thread.join());
        }
    }
}

pub(super) fn lock(work: &Mutex<Work>) -> std::sync::MutexGuard<'_, Work> {
    work.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(
    consumer: &BaseConsumer,
    producer: &BaseProducer,
    work: &Mutex<Work>,
    stop: &AtomicBool,
) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        // Its delivery reports are of no interest: a lost reply is seen as a saga that does not end.
        producer.poll(Duration::ZERO);
        if let Some(command) = consumer.poll(LOOK) {
            reply(producer, work, &command?)?;
        }
    }
    producer.flush(Duration::from_secs(5))?;
    Ok(())
}

fn reply(producer: &BaseProducer, work: &Mutex<Work>, command: &BorrowedMessage<'_>) -> Result<()> {
    let header = |name: &str| {
        let headers = command.headers()?;
        let found = headers.iter().find(|header| header.key == name)?;
        std::str::from_utf8(found.value?).ok()
    };
    let need = |name: &str| header(name).ok_or_else(|| anyhow!("a command without {name}"));
    let (saga, step) = (need("saga-id")?, need("step-name")?);
    let result = lock(work).act(saga, step, header("undo") == Some("true"));
    let mut headers = OwnedHeaders::new();
    for (key, value) in [
        ("saga-id", saga),
        ("step", need("step")?),
        ("generation", need("generation")?),
        ("saga-reply", "SUCCESS"),
    ] {
        let value = Some(value);
        headers = headers.insert(Header { key, value });
    }
    let value = result.to_string();
    let record = BaseRecord::to(need("reply-to")?)
        .key(saga)
        .payload(&value)
        .headers(headers);
    producer.send(record).map_err(|(error, _)| error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_steps_is_taken_within_a_saga_and_not_between_sagas() {
        let mut work = Work::default();
        for saga in ["a", "b"] {
            for step in STEPS {
                work.act(saga, step, false);
            }
        }
        let gaps = work.gaps.as_ref().expect("there were steps");
        assert_eq!(gaps.len(), 2 * (STEPS.len() as u64 - 1));
        assert!(work.last.is_empty());
        work.act("a", "reserve", true);
        let taken = work.take();
        assert_eq!(
            (taken["effects"].as_u64(), taken["undos"].as_u64()),
            (Some(10), Some(1))
        );
        assert_eq!(work.take()["effects"].as_u64(), Some(0));
        work.gap(Duration::from_millis(5));
        let p50 = work.take()["step_p50"].as_f64().expect("there was a gap");
        assert!((p50 - 5.0).abs() < 0.01, "{p50}");
    }
}
