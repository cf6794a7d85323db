//! The thread of a member of a group that tells the broker what is settled: watermarks from time to
//! time, and for `accept_with` outputs and watermarks in one transaction.
//!
//! One thread does both, so that no older watermark overtakes a newer one. Each member has one
//! transactional producer, made when it is first needed; what waits is gathered into one transaction
//! at a time. What is accepted ahead of the watermark is noted in the commit's metadata, so that it is
//! not handled again. Only when that is more than can be noted, an acceptance waits for what is before
//! it in its partition, and is refused after a while, lest one who settles them one after the other
//! waits for himself. A member that lost its partitions cannot commit them any more: the
//! transaction carries the member's generation, and the broker refuses an old one (KIP-447).
//!
//! What must never happen here: an answer that says more than is known. When a commit's outcome is
//! unknown, the committed offsets decide.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::oneshot;
use wharf_message::transport::{Error, Token};
use wharf_message::{Message, Timestamp, TopicName};

use super::context::{Context, metadata, offsets};
use super::outbox::lock;
use super::state::{Committing, Shared};
use super::{Options, error, log, record, route};
use crate::log::{Commit, TopicPartition};

/// How long an acceptance with outputs waits for what is before it in its partition.
const TURN_WAIT: Duration = Duration::from_secs(3);
/// How long one step of a transaction may take.
const STEP_WAIT: Duration = Duration::from_secs(10);
/// The longest a transaction of a member that died keeps readers waiting.
const TRANSACTION_TIMEOUT: &str = "30000";
/// The longest the thread rests, in case nobody wakes it.
const REST_MAX: Duration = Duration::from_millis(250);

/// A delivery that is to be accepted with outputs.
struct Job {
    token: Token,
    outputs: Vec<(TopicName, Message)>,
    done: oneshot::Sender<Result<(), Error>>,
    since: Instant,
}

/// How often watermarks are committed.
const COMMIT_EVERY: Duration = Duration::from_millis(500);
/// How often while the subscription is closed and waits for it.
const CLOSING_PAUSE: Duration = Duration::from_millis(10);

/// The thread's side that others see.
pub(super) struct Committer {
    /// `None` once the thread has ended.
    jobs: Arc<Mutex<Option<Vec<Job>>>>,
    thread: Thread,
    shared: Weak<Shared>,
    options: Options,
}

/// Collects why outputs did not arrive.
struct Outputs {
    failed: Mutex<Option<Error>>,
    bytes_max: usize,
}

impl ClientContext for Outputs {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the transactional Kafka producer reports");
    }
}

impl ProducerContext for Outputs {
    type DeliveryOpaque = Box<(TopicName, usize)>;

    fn delivery(&self, result: &DeliveryResult<'_>, output: Self::DeliveryOpaque) {
        if let Err((error, _)) = result {
            let (topic, bytes) = *output;
            let why = error::of_publish(error, &topic, bytes, self.bytes_max);
            let mut failed = lock(&self.failed);
            // The first reason; those after it are consequences.
            failed.get_or_insert(why);
        }
    }
}

impl Committer {
    /// Starts the thread for the subscription of a member of a group.
    pub(super) fn start(shared: &Arc<Shared>) -> Result<Self, Error> {
        let jobs = Arc::new(Mutex::new(Some(Vec::new())));
        let worker = Worker {
            jobs: Arc::clone(&jobs),
            shared: Arc::downgrade(shared),
            options: shared.wiring.options.clone(),
            id: format!(
                "wharf.{}.{}",
                shared.group.as_ref().map_or("", |group| group.as_str()),
                uuid::Uuid::now_v7()
            ),
            producer: None,
            alone: 0,
            next_commit: Instant::now() + COMMIT_EVERY,
        };
        let thread = thread::Builder::new().name("wharf-kafka-commits".to_owned());
        let thread = thread.spawn(move || worker.run());
        let thread = thread.map_err(|error| Error::Refused(format!("no thread: {error}")))?;
        Ok(Self {
            jobs,
            thread: thread.thread().clone(),
            shared: Arc::downgrade(shared),
            options: shared.wiring.options.clone(),
        })
    }

    /// There may be something to do.
    pub(super) fn wake(&self) {
        self.thread.unpark();
    }

    /// Accepts a delivery with its outputs.
    pub(super) fn accept(
        &self,
        token: Token,
        outputs: Vec<(TopicName, Message)>,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        let (done, answer) = oneshot::channel();
        let refused = match self.check(outputs) {
            Err(error) => Some((done, error)),
            Ok(outputs) => match &mut *lock(&self.jobs) {
                None => Some((done, Error::Closed)),
                Some(jobs) => {
                    jobs.push(Job {
                        token,
                        outputs,
                        done,
                        since: Instant::now(),
                    });
                    None
                }
            },
        };
        match refused {
            None => self.wake(),
            Some((done, error)) => {
                if let Some(shared) = self.shared.upgrade() {
                    shared.current().release(token);
                    shared.room_was_made(true);
                }
                done.send(Err(error)).ok();
            }
        }
        async move { answer.await.unwrap_or(Err(Error::Closed)) }
    }

    /// What is wrong with one delivery's outputs must not abort those of others.
    fn check(
        &self,
        outputs: Vec<(TopicName, Message)>,
    ) -> Result<Vec<(TopicName, Message)>, Error> {
        let check = |(topic, message): (TopicName, Message)| {
            let (topic, message) = route(&self.options, topic, message)?;
            record::write(&message.headers)?;
            Ok((topic, message))
        };
        outputs.into_iter().map(check).collect()
    }
}

struct Worker {
    jobs: Arc<Mutex<Option<Vec<Job>>>>,
    shared: Weak<Shared>,
    options: Options,
    /// The transactional id of this member.
    id: String,
    producer: Option<BaseProducer<Outputs>>,
    /// How many transactions are made of one delivery each, since one together was refused.
    alone: usize,
    next_commit: Instant,
}

/// How a transaction ended.
enum End {
    Committed,
    /// Nothing of it counts.
    Aborted(Error),
    /// The connection went away while it was committed.
    Unknown(Error),
}

impl Worker {
    fn run(mut self) {
        while let Some(shared) = self.shared.upgrade() {
            if shared.current().ended.is_some() {
                break;
            }
            match self.gather(&shared) {
                Some((commits, jobs)) => self.transact(&shared, &commits, jobs),
                None if self.is_commit_due(&shared) => commit_plainly(&shared),
                None => {
                    drop(shared);
                    thread::park_timeout(REST_MAX);
                }
            }
        }
        for job in lock(&self.jobs).take().into_iter().flatten() {
            job.done.send(Err(Error::Closed)).ok();
        }
    }

    fn is_commit_due(&mut self, shared: &Shared) -> bool {
        let closing = !shared.current().closing.is_empty();
        let now = Instant::now();
        let due = now >= self.next_commit
            || (closing && now + COMMIT_EVERY >= self.next_commit + CLOSING_PAUSE);
        if due {
            self.next_commit = now + COMMIT_EVERY;
        }
        due
    }

    /// What can be accepted now, if nobody else is committing.
    fn gather(&mut self, shared: &Shared) -> Option<(Vec<Commit>, Vec<Job>)> {
        let mut guard = lock(&self.jobs);
        let jobs = guard.as_mut()?;
        let mut state = shared.current();
        let revoked = |job: &Job| state.tracker.origin(job.token).is_none();
        let gone: Vec<Job> = jobs.extract_if(.., |job| revoked(job)).collect();
        let at_once = if self.alone > 0 { 1 } else { jobs.len() };
        let mut pending: HashSet<Token> = jobs.iter().take(at_once).map(|job| job.token).collect();
        let mut commits = state.tracker.noting(&pending);
        if commits.iter().any(|commit| commit.metadata().is_none()) {
            // More than can be noted: what is in order needs no note.
            pending = state.tracker.prefix(&pending).tokens.into_iter().collect();
            commits = state.tracker.noting(&pending);
        }
        let is_free = state.committing == Committing::Nobody;
        let found = (is_free && !commits.is_empty()).then(|| {
            state.committing = Committing::Committer;
            let chosen = jobs.extract_if(.., |job| pending.contains(&job.token));
            (commits, chosen.collect::<Vec<Job>>())
        });
        let waiting = !jobs.is_empty();
        shared
            .waits_for_settlements
            .store(waiting, Ordering::Relaxed);
        let late: Vec<Job> = jobs
            .extract_if(.., |job| found.is_none() && job.since.elapsed() > TURN_WAIT)
            .collect();
        for job in &late {
            state.release(job.token);
        }
        drop((state, guard));
        let released = !late.is_empty();
        let lost = "the partition went to another member, which delivers the message again";
        let blocked =
            "a message before it in its partition is not settled yet; it is delivered again";
        for (jobs, why) in [(gone, lost), (late, blocked)] {
            for job in jobs {
                job.done.send(Err(Error::Unavailable(why.to_owned()))).ok();
            }
        }
        if released {
            shared.room_was_made(true);
        }
        found
    }

    fn transact(&mut self, shared: &Shared, commits: &[Commit], jobs: Vec<Job>) {
        let consumer = shared.consumer.get().and_then(Weak::upgrade);
        let end = match &consumer {
            Some(consumer) => self.attempt(consumer, commits, &jobs),
            None => End::Aborted(Error::Closed),
        };
        let end = match (end, &consumer) {
            (End::Unknown(error), Some(consumer)) => {
                self.find_out(shared, consumer, commits, error)
            }
            (end, _) => end,
        };
        let result = match end {
            End::Committed => Ok(()),
            End::Aborted(error) | End::Unknown(error) => Err(error),
        };
        // Before anybody is let on: the last one who holds it leaves the group.
        drop(consumer);
        let together = jobs.len();
        let mut state = shared.current();
        state.committing = Committing::Nobody;
        match &result {
            Ok(()) => {
                self.alone = self.alone.saturating_sub(1);
                for job in &jobs {
                    state.tracker.note(job.token);
                    state.details.remove(&job.token);
                }
                let told = commits
                    .iter()
                    .map(|one| (one.partition.clone(), one.watermark));
                state.tracker.committed(&told.collect::<Vec<_>>());
            }
            // One of them is to blame: each is tried alone, and only that one fails.
            Err(error) if together > 1 && !error.is_transient() => {
                self.alone = together;
                drop(state);
                lock(&self.jobs).get_or_insert_default().extend(jobs);
                shared.room_was_made(true);
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "a transaction was aborted; its deliveries are made again");
                self.alone = self.alone.saturating_sub(1);
                for job in &jobs {
                    state.release(job.token);
                }
            }
        }
        drop(state);
        for job in jobs {
            job.done.send(result.clone()).ok();
        }
        shared.room_was_made(true);
    }

    /// One transaction from its begin to its end.
    fn attempt(
        &mut self,
        consumer: &BaseConsumer<Context>,
        commits: &[Commit],
        jobs: &[Job],
    ) -> End {
        let producer = match self.producer() {
            Ok(producer) => producer,
            Err(error) => return End::Aborted(error),
        };
        lock(&producer.client().context().failed).take();
        let written = write(producer, consumer, commits, jobs);
        let (end, useless) = match written {
            Ok(()) => commit(producer),
            Err(error) => {
                let abort = producer.abort_transaction(STEP_WAIT);
                let useless = abort.is_err() || error::is_fatal(&error);
                let failed = lock(&producer.client().context().failed).take();
                (
                    End::Aborted(failed.unwrap_or_else(|| error::general(&error))),
                    useless,
                )
            }
        };
        if useless {
            // A new one with the same id aborts what this one left open.
            self.producer = None;
        }
        end
    }

    fn producer(&mut self) -> Result<&BaseProducer<Outputs>, Error> {
        if self.producer.is_none() {
            let made = || {
                let config = self.options.client(&[
                    ("enable.idempotence", "true"),
                    ("acks", "all"),
                    ("transactional.id", &self.id),
                    ("transaction.timeout.ms", TRANSACTION_TIMEOUT),
                    // It may not be longer than the transaction's.
                    ("message.timeout.ms", "20000"),
                ]);
                let outputs = Outputs {
                    failed: Mutex::new(None),
                    bytes_max: self.options.message_bytes_max(),
                };
                let producer: BaseProducer<Outputs> = config.create_with_context(outputs)?;
                producer.init_transactions(STEP_WAIT)?;
                Ok(producer)
            };
            self.producer = Some(made().map_err(|error: KafkaError| error::general(&error))?);
        }
        self.producer.as_ref().ok_or(Error::Closed)
    }

    /// The new producer's beginning ends the old one's transaction one way or the other; then the
    /// committed offsets tell which.
    fn find_out(
        &mut self,
        shared: &Shared,
        consumer: &BaseConsumer<Context>,
        commits: &[Commit],
        unknown: Error,
    ) -> End {
        self.producer = None;
        loop {
            if shared.current().ended.is_some() {
                return End::Unknown(unknown);
            }
            let found = self.producer().map(drop).and_then(|()| {
                let asked = consumer.committed_offsets(offsets(commits), STEP_WAIT);
                asked.map_err(|error| error::general(&error))
            });
            match found {
                Ok(found) => {
                    let reached = commits.iter().all(|commit| is_committed(&found, commit));
                    return if reached {
                        End::Committed
                    } else {
                        End::Aborted(unknown)
                    };
                }
                Err(error) => {
                    tracing::warn!(%error, "whether a transaction was committed is not known yet; it is asked again until the broker answers");
                    thread::park_timeout(REST_MAX);
                }
            }
        }
    }
}

/// Whether the broker knows a commit: every transaction moves a watermark or notes something new,
/// and nobody else commits for the partition.
fn is_committed(found: &TopicPartitionList, commit: &Commit) -> bool {
    let TopicPartition { topic, partition } = &commit.partition;
    let Some(one) = found.find_partition(topic.as_str(), *partition) else {
        return false;
    };
    match one.offset() {
        Offset::Offset(offset) if offset == commit.watermark => {
            Some(metadata(&one)) == commit.metadata()
        }
        Offset::Offset(offset) => offset > commit.watermark,
        _ => false,
    }
}

/// Tells the broker the watermarks that it does not know.
fn commit_plainly(shared: &Shared) {
    let Some(consumer) = shared.consumer.get().and_then(Weak::upgrade) else {
        return;
    };
    let mut state = shared.current();
    let watermarks = state.tracker.uncommitted();
    if watermarks.is_empty() || state.committing != Committing::Nobody {
        return;
    }
    let noted = |watermark: &(TopicPartition, i64)| state.tracker.with_noted(watermark.clone());
    let commits: Vec<Commit> = watermarks.iter().map(noted).collect();
    state.committing = Committing::Committer;
    drop(state);
    // The client library never answers a commit that is not waited for.
    let committed = consumer.commit(&offsets(&commits), CommitMode::Sync);
    drop(consumer);
    let mut state = shared.current();
    state.committing = Committing::Nobody;
    match committed {
        Ok(()) => {
            state.tracker.committed(&watermarks);
            state.outage = false;
        }
        Err(error) => {
            tracing::debug!(%error, "offsets were not committed; they will be with the next ones");
        }
    }
    drop(state);
    shared.wake_reader();
}

/// Everything of a transaction but its end.
fn write(
    producer: &BaseProducer<Outputs>,
    consumer: &BaseConsumer<Context>,
    commits: &[Commit],
    jobs: &[Job],
) -> Result<(), KafkaError> {
    producer.begin_transaction()?;
    for (topic, message) in jobs.iter().flat_map(|job| &job.outputs) {
        send(producer, topic, message)?;
    }
    let member = consumer.group_metadata().ok_or(KafkaError::Canceled)?;
    producer.send_offsets_to_transaction(&offsets(commits), &member, STEP_WAIT)
}

fn send(
    producer: &BaseProducer<Outputs>,
    topic: &TopicName,
    message: &Message,
) -> Result<(), KafkaError> {
    let deadline = Instant::now() + STEP_WAIT;
    let mut output = Box::new((topic.clone(), message.size()));
    loop {
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(topic.as_str(), output);
        record.key = message.key.as_deref();
        record.payload = message.payload.as_deref();
        record.timestamp = message.timestamp.map(Timestamp::as_millis);
        // It was written once when the job came, so it can be.
        record.headers = record::write(&message.headers).ok().flatten();
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(Code::QueueFull), record))
                if Instant::now() < deadline =>
            {
                output = record.delivery_opaque;
                producer.poll(Duration::from_millis(5));
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// Ends a transaction; whether the producer is of no use after that.
fn commit(producer: &BaseProducer<Outputs>) -> (End, bool) {
    let deadline = Instant::now() + STEP_WAIT;
    loop {
        let error = match producer.commit_transaction(STEP_WAIT) {
            Ok(()) => return (End::Committed, false),
            Err(error) => error,
        };
        match &error {
            KafkaError::Transaction(why) if why.txn_requires_abort() => {
                let useless = producer.abort_transaction(STEP_WAIT).is_err();
                let failed = lock(&producer.client().context().failed).take();
                return (
                    End::Aborted(failed.unwrap_or_else(|| error::general(&error))),
                    useless,
                );
            }
            // It goes on where it was.
            KafkaError::Transaction(why) if why.is_retriable() && Instant::now() < deadline => {}
            _ => return (End::Unknown(error::general(&error)), true),
        }
    }
}
