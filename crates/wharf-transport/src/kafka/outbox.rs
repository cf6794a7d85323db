//! The way out: one idempotent producer for the whole transport, and a thread that takes its reports.
//!
//! A publish is handed over when it is called, in order, and its future is resolved by the delivery
//! report: no task per message, and nothing between the callers and librdkafka's batches. When
//! librdkafka's queue is full, messages wait in order in a queue of our own, which is bounded too.
//! What must never happen here: that a report is lost, so that somebody waits for ever.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientContext, config::RDKafkaLogLevel};
use tokio::sync::oneshot;
use wharf_message::transport::{Error, Position};
use wharf_message::{Message, Timestamp, TopicName};

use super::{Options, error, log, record};

/// How many messages may wait for room in librdkafka's queue, and how large they may be together.
const WAITING_MAX: usize = 100_000;
const WAITING_BYTES_MAX: usize = 64 << 20;
/// How long the reports' thread waits for one, and how long when messages wait for room.
const REPORTS_WAIT: Duration = Duration::from_millis(100);
const ROOM_WAIT: Duration = Duration::from_millis(2);

/// What came of a publish.
pub(super) type Outcome = Result<Option<Position>, Error>;

/// What is to be done when a message's fate is known.
pub(super) enum Then {
    /// Tell the caller.
    Tell(oneshot::Sender<Outcome>),
    /// Go on with this, on the reports' thread: it must not block.
    Call(Box<dyn FnOnce(Outcome) + Send + Sync>),
}

impl Then {
    fn with(self, outcome: Outcome) {
        match self {
            // Nobody may be waiting any more: the message is not taken back for that.
            Self::Tell(sender) => drop(sender.send(outcome)),
            Self::Call(go_on) => go_on(outcome),
        }
    }
}

/// What librdkafka keeps for us beside a message.
pub(super) struct Report {
    topic: TopicName,
    bytes: usize,
    then: Then,
}

/// A message and where it goes.
pub(super) struct Parcel {
    pub(super) topic: TopicName,
    pub(super) message: Message,
    /// Headers that are no text, before those of the message.
    pub(super) raw: Option<OwnedHeaders>,
    pub(super) then: Then,
}

pub(super) struct Reports {
    bytes_max: usize,
    /// Why messages that time out do not get through, if the brokers said so.
    denied: Mutex<Option<String>>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the Kafka producer reports");
        if let Error::Denied(why) = error::general(&error) {
            *lock(&self.denied) = Some(format!("{why}: {reason}"));
        }
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Report>;

    fn delivery(&self, result: &DeliveryResult<'_>, report: Self::DeliveryOpaque) {
        let Report { topic, bytes, then } = *report;
        let outcome = match result {
            Ok(record) => Ok(position(record.partition(), record.offset())),
            Err((error, _)) => Err(self.explain(error, &topic, bytes)),
        };
        then.with(outcome);
    }
}

/// Without idempotence a broker may answer without an offset; a partition is always known.
fn position(partition: i32, offset: i64) -> Option<Position> {
    (partition >= 0 && offset >= 0).then_some(Position { partition, offset })
}

impl Reports {
    fn explain(&self, error: &KafkaError, topic: &TopicName, bytes: usize) -> Error {
        let explained = error::of_publish(error, topic, bytes, self.bytes_max);
        match (&explained, &*lock(&self.denied)) {
            (Error::Unavailable(_), Some(why)) => Error::Denied(why.clone()),
            _ => explained,
        }
    }
}

/// The producer. See the module.
pub(super) struct Outbox {
    options: Options,
    state: Mutex<State>,
    closed: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct State {
    producer: Arc<BaseProducer<Reports>>,
    waiting: VecDeque<Parcel>,
    waiting_bytes: usize,
}

impl Outbox {
    /// Makes the producer and starts the thread that takes its reports.
    pub(super) fn open(options: &Options) -> Result<Arc<Self>, Error> {
        let state = State {
            producer: Arc::new(producer(options)?),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        };
        let outbox = Arc::new(Self {
            options: options.clone(),
            state: Mutex::new(state),
            closed: AtomicBool::new(false),
            thread: Mutex::new(None),
        });
        let weak = Arc::downgrade(&outbox);
        let reports = move || {
            while let Some(outbox) = weak.upgrade() {
                if outbox.closed.load(Ordering::Acquire) {
                    break;
                }
                outbox.take_reports();
            }
        };
        let thread = thread::Builder::new().name("wharf-kafka-reports".to_owned());
        let thread = thread.spawn(reports);
        let thread = thread.map_err(|error| Error::Refused(format!("no thread: {error}")))?;
        *lock(&outbox.thread) = Some(thread);
        Ok(outbox)
    }

    /// Waits until a broker has answered, and tells a refusal of credentials from silence. Blocks.
    pub(super) fn reach(&self, patience: Duration) -> Result<(), Error> {
        let producer = lock(&self.state).producer.clone();
        if producer.client().fetch_cluster_id(patience).is_some() {
            return Ok(());
        }
        let brokers = self.options.brokers();
        let silent = || {
            Error::Unavailable(format!(
                "no broker of {brokers} answered within {patience:?}"
            ))
        };
        let denied = lock(&producer.client().context().denied).clone();
        Err(denied.map_or_else(silent, Error::Denied))
    }

    /// Hands a message over. Never blocks; what becomes of it is told by the parcel's `then`.
    pub(super) fn send(&self, parcel: Parcel) {
        if self.closed.load(Ordering::Acquire) {
            return parcel.then.with(Err(Error::Closed));
        }
        let mut state = lock(&self.state);
        let refused = if state.waiting.is_empty() {
            self.hand_over(&mut state, parcel)
        } else {
            state.wait(parcel)
        };
        drop(state);
        // Not under the lock: whoever is told may publish again.
        if let Some((then, error)) = refused {
            then.with(Err(error));
        }
    }

    /// Publishes, and resolves when the brokers have it.
    pub(super) fn publish(
        &self,
        topic: TopicName,
        message: Message,
    ) -> impl Future<Output = Outcome> + Send + 'static {
        let (sender, receiver) = oneshot::channel();
        let then = Then::Tell(sender);
        self.send(Parcel {
            topic,
            message,
            raw: None,
            then,
        });
        async move { receiver.await.unwrap_or(Err(Error::Closed)) }
    }

    /// Gives one message to librdkafka, or keeps it waiting when there is no room. What is refused
    /// is answered with who is to be told and why.
    fn hand_over(&self, state: &mut State, parcel: Parcel) -> Option<(Then, Error)> {
        let headers = match record::write(&parcel.message.headers) {
            Ok(headers) => headers,
            Err(error) => return Some((parcel.then, error)),
        };
        let headers = match &parcel.raw {
            Some(raw) => Some(record::append(raw.clone(), &parcel.message.headers)),
            None => headers,
        };
        let Parcel {
            topic,
            message,
            raw,
            then,
        } = parcel;
        let bytes = message.size();
        let report = Box::new(Report {
            topic: topic.clone(),
            bytes,
            then,
        });
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(topic.as_str(), report);
        record.key = message.key.as_deref();
        record.payload = message.payload.as_deref();
        record.timestamp = message.timestamp.map(Timestamp::as_millis);
        record.headers = headers;
        let (error, report) = match state.producer.send(record) {
            Ok(()) => return None,
            Err((error, record)) => (error, record.delivery_opaque),
        };
        let then = report.then;
        match error.rdkafka_error_code() {
            Some(Code::QueueFull) => state.wait(Parcel {
                topic,
                message,
                raw,
                then,
            }),
            Some(Code::Fatal) => {
                self.make_anew(state);
                Some((then, error::general(&error)))
            }
            _ => {
                let context = state.producer.client().context().clone();
                Some((then, context.explain(&error, &topic, bytes)))
            }
        }
    }

    /// A producer that failed for good can do nothing more; what it still has is reported when it
    /// is dropped.
    fn make_anew(&self, state: &mut State) {
        match producer(&self.options) {
            Ok(anew) => {
                tracing::warn!(
                    "the Kafka producer failed for good and is made anew; messages that were on their way may be doubled when they are published again"
                );
                state.producer = Arc::new(anew);
            }
            Err(error) => {
                tracing::warn!(%error, "the Kafka producer failed for good and cannot be made anew yet");
            }
        }
    }

    fn take_reports(&self) {
        let (producer, wait) = {
            let state = lock(&self.state);
            let wait = if state.waiting.is_empty() {
                REPORTS_WAIT
            } else {
                ROOM_WAIT
            };
            (state.producer.clone(), wait)
        };
        producer.poll(wait);
        drop(producer);
        let mut refused = Vec::new();
        {
            let mut state = lock(&self.state);
            while let Some(parcel) = state.waiting.pop_front() {
                let bytes = parcel.message.size();
                state.waiting_bytes -= bytes;
                let before = state.waiting.len();
                refused.extend(self.hand_over(&mut state, parcel));
                if state.waiting.len() > before {
                    // Still no room: it went to the end of the queue, and belongs to its front.
                    state.waiting.rotate_right(1);
                    break;
                }
            }
        }
        for (then, error) in refused {
            then.with(Err(error));
        }
    }

    /// Waits until everything handed over is reported, at most for `patience`, and takes nothing
    /// more. Blocks.
    pub(super) fn close(&self, patience: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + patience;
        let idle = || {
            let state = lock(&self.state);
            state.waiting.is_empty() && state.producer.in_flight_count() == 0
        };
        while !idle() && Instant::now() < deadline {
            thread::park_timeout(Duration::from_millis(5));
        }
        let all_sent = idle();
        self.closed.store(true, Ordering::Release);
        if let Some(thread) = lock(&self.thread).take() {
            // It takes no lock that is held here, and ends within one wait.
            thread.join().ok();
        }
        let waiting = std::mem::take(&mut lock(&self.state).waiting);
        for parcel in waiting {
            parcel.then.with(Err(Error::Closed));
        }
        if all_sent {
            Ok(())
        } else {
            Err(Error::Unavailable(format!(
                "not everything was sent within {patience:?}"
            )))
        }
    }
}

impl State {
    /// Keeps a message until there is room; one more than fits is refused.
    fn wait(&mut self, parcel: Parcel) -> Option<(Then, Error)> {
        let bytes = parcel.message.size();
        if self.waiting.len() >= WAITING_MAX || self.waiting_bytes + bytes > WAITING_BYTES_MAX {
            let why = "the producer's queue is full: await earlier publishes before making more";
            return Some((parcel.then, Error::Unavailable(why.to_owned())));
        }
        self.waiting_bytes += bytes;
        self.waiting.push_back(parcel);
        None
    }
}

fn producer(options: &Options) -> Result<BaseProducer<Reports>, Error> {
    let config = options.client(&[("enable.idempotence", "true"), ("acks", "all")]);
    let reports = Reports {
        bytes_max: options.message_bytes_max(),
        denied: Mutex::new(None),
    };
    config
        .create_with_context(reports)
        .map_err(|error| error::general(&error))
}

/// A panic elsewhere leaves these states whole: nothing is changed in several steps that may panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_that_the_client_library_does_not_take_is_refused_by_name() {
        for (property, named) in [
            ("no.such.property=1", "no.such.property"),
            ("linger.ms=often", "linger.ms"),
            ("security.protocol=ssl", "security.protocol"),
        ] {
            let options = Options::parse(&format!("kafka://127.0.0.1:1?{property}"));
            let opened = Outbox::open(&options.expect("it reads well"));
            let error = opened.err().expect("it is refused");
            assert!(matches!(error, Error::Refused(_)), "{error:?}");
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
