//! The thread of a subscription: it polls, reads, runs errands and commits until it is closed.
//!
//! Each partition has a queue of its own in librdkafka. One that may not be read for now (there is no
//! room, its messages are not due) is left alone, and polling goes on, so that the membership stays
//! alive without pausing partitions and fetching their records twice. Invariants: records of a
//! partition are handed on in the order of their offsets; nothing is read that there is no room for.

use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use wharf_message::transport::{Error, Position};
use wharf_message::{Timestamp, TopicName};

use super::context::{Context, Gained, offsets};
use super::outbox::lock;
use super::record::{self, Read};
use super::state::{Committing, Detail, Errand, Kind, Pending, READY_MAX, Ready, Shared, State};
use super::{error, now};
use crate::log::{Commit, Slot, TopicPartition, detour};

/// Errands that may be open at a time.
const ERRANDS_MAX: usize = 4_000;
/// Messages taken from one partition before the next has its turn.
const TURN_MAX: usize = 256;
/// The longest the thread rests, in case nobody wakes it.
const REST_MAX: Duration = Duration::from_millis(250);
/// How long the broker may take to seek.
const SEEK_WAIT: Duration = Duration::from_secs(5);
/// How long closing waits for what is on its way.
const CLOSE_WAIT: Duration = Duration::from_secs(20);
/// Known offsets are skipped by seeking when there are more than this many.
const SKIP_MIN: i64 = 1_000;

/// The consumer of a subscription. See the module.
pub(super) struct Reader {
    shared: Arc<Shared>,
    consumer: Arc<BaseConsumer<Context>>,
    readings: Vec<Reading>,
    /// Whose turn it is.
    turn: usize,
}

struct Reading {
    slot: Slot,
    partition: TopicPartition,
    kind: Kind,
    queue: PartitionQueue<Context>,
    /// While released deliveries are read again: the next offset that may come.
    again: Option<i64>,
}

/// A record that was read.
struct Taken {
    reading: usize,
    offset: i64,
    read: Read,
}

impl Reader {
    /// Makes the consumer.
    pub(super) fn open(shared: Arc<Shared>, config: &ClientConfig) -> Result<Self, Error> {
        let context = Context {
            shared: Arc::clone(&shared),
            consumer: OnceLock::new(),
            gained: std::sync::Mutex::new(Vec::new()),
        };
        let consumer = config.create_with_context(context);
        let mut consumer: BaseConsumer<Context> =
            consumer.map_err(|error| error::general(&error))?;
        let waker = Arc::downgrade(&shared);
        consumer.set_nonempty_callback(move || {
            if let Some(shared) = waker.upgrade() {
                shared.wake_reader();
            }
        });
        let consumer = Arc::new(consumer);
        // It was made two lines above, and nobody else sets it.
        consumer
            .context()
            .consumer
            .set(Arc::downgrade(&consumer))
            .ok();
        shared.consumer.set(Arc::downgrade(&consumer)).ok();
        Ok(Self {
            shared,
            consumer,
            readings: Vec::new(),
            turn: 0,
        })
    }

    /// Joins the group and reads what it assigns.
    pub(super) fn join(&self) -> Result<(), Error> {
        let topics: Vec<&str> = self.shared.kinds.keys().map(TopicName::as_str).collect();
        let joined = self.consumer.subscribe(&topics);
        joined.map_err(|error| error::general(&error))
    }

    /// Reads these partitions from these offsets, without a group.
    pub(super) fn assign(&self, positions: &[Commit]) -> Result<(), Error> {
        for position in positions {
            let TopicPartition { topic, partition } = &position.partition;
            let context = self.consumer.context();
            context.gain(topic.as_str(), *partition, Some(position.watermark));
        }
        let assigned = self.consumer.assign(&offsets(positions));
        assigned.map_err(|error| error::general(&error))
    }

    /// Goes on until the subscription is closed, on a thread of its own.
    pub(super) fn start(self) -> Result<(), Error> {
        let thread = thread::Builder::new().name("wharf-kafka-reader".to_owned());
        let thread = thread.spawn(move || self.run());
        thread
            .map(drop)
            .map_err(|error| Error::Refused(format!("no thread: {error}")))
    }

    fn run(mut self) {
        self.shared.reader.set(thread::current()).ok();
        loop {
            self.poll();
            if !lock(&self.shared.state).closing.is_empty() {
                return self.close();
            }
            if lock(&self.shared.state).abandoned {
                return self.leave(&Err(Error::Closed));
            }
            self.read_again();
            let due = self.take_due();
            let errand = self.shared.run_errands();
            let progress = self.read();
            if !progress {
                self.rest(due, errand);
            }
        }
    }

    /// Serves what librdkafka has to say, and takes over the partitions that came.
    fn poll(&mut self) {
        while let Some(event) = self.consumer.poll(Duration::ZERO) {
            match event {
                // Partitions have queues of their own from before their first record on.
                Ok(record) => tracing::error!(
                    topic = record.topic(),
                    partition = record.partition(),
                    "a record came where none is expected; it is delivered after the next restart"
                ),
                Err(KafkaError::PartitionEOF(_)) => {}
                Err(error) => self.consumer.context().report(&error, ""),
            }
        }
        let assigned = {
            let state = lock(&self.shared.state);
            state.assigned.values().copied().collect::<Vec<_>>()
        };
        self.readings
            .retain(|reading| assigned.contains(&reading.slot));
        let gained = std::mem::take(&mut *lock(&self.consumer.context().gained));
        for Gained {
            slot,
            partition,
            queue,
        } in gained
        {
            let kind = self.shared.kinds.get(&partition.topic).cloned();
            self.readings.push(Reading {
                slot,
                partition,
                kind: kind.unwrap_or(Kind::Messages),
                queue,
                again: None,
            });
        }
    }

    /// Goes back to what was released, and forward again when that is read.
    fn read_again(&mut self) {
        for reading in &mut self.readings {
            let (from, end) = {
                let state = lock(&self.shared.state);
                let tracker = &state.tracker;
                (tracker.reread(reading.slot), tracker.position(reading.slot))
            };
            let target = match (reading.again, from) {
                (None, Some(from)) => from,
                (Some(again), Some(from)) if from < again => from,
                (Some(again), None) => {
                    reading.again = None;
                    match end {
                        Some(end) if end - again > SKIP_MIN => end,
                        _ => continue,
                    }
                }
                _ => continue,
            };
            let mut list = TopicPartitionList::new();
            let TopicPartition { topic, partition } = &reading.partition;
            let offset =
                list.add_partition_offset(topic.as_str(), *partition, Offset::Offset(target));
            let sought = offset.and_then(|()| self.consumer.seek_partitions(list, SEEK_WAIT));
            let sought = sought.and_then(|list| {
                list.elements()
                    .iter()
                    .try_for_each(TopicPartitionListElem::error)
            });
            match sought {
                Ok(()) if from.is_some() => reading.again = Some(target),
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(%error, %topic, partition, target, "a partition could not be read again yet");
                }
            }
        }
    }

    /// Moves on what has become due; answers when the next one is.
    fn take_due(&self) -> Option<Timestamp> {
        let now = now();
        let mut state = lock(&self.shared.state);
        let mut arrived = false;
        while let Some(due) = state.hold.pop_due(now) {
            match due.item {
                None => state.release(due.token),
                Some(ready) => {
                    self.hand_on(&mut state, ready);
                    arrived = true;
                }
            }
        }
        if arrived {
            self.shared.arrived.notify_one();
        }
        state.hold.next_due()
    }

    /// A message whose time has come goes to the handlers, or to its topic.
    fn hand_on(&self, state: &mut State, ready: Ready) {
        let topic = state
            .tracker
            .origin(ready.token)
            .map(|(partition, _)| partition.topic.clone());
        let kind = topic.and_then(|topic| self.shared.kinds.get(&topic));
        if let Some(Kind::Scheduled(to)) = kind {
            state.pending.push_back(Pending {
                token: ready.token,
                errand: Errand::Forward {
                    message: ready.message,
                    to: to.clone(),
                },
                failures: 0,
            });
        } else {
            state.make_ready(ready);
        }
    }

    /// Reads as much as there is room for; answers whether there was anything.
    fn read(&mut self) -> bool {
        let Some((mut room, readable)) = self.room() else {
            return false;
        };
        let mut batch = Vec::new();
        let count = self.readings.len();
        for step in 0..count {
            let at = (self.turn + step) % count;
            if !readable[at] {
                continue;
            }
            for _ in 0..room.min(TURN_MAX) {
                match self.readings[at].queue.poll(Duration::ZERO) {
                    None => break,
                    Some(Ok(record)) => {
                        room -= 1;
                        batch.push(Taken {
                            reading: at,
                            offset: record.offset(),
                            read: record::read(&record),
                        });
                    }
                    Some(Err(KafkaError::PartitionEOF(_))) => {}
                    Some(Err(error)) => self.consumer.context().report(&error, ""),
                }
            }
        }
        self.turn = (self.turn + 1) % count.max(1);
        let progress = !batch.is_empty();
        self.take(batch);
        progress
    }

    /// How many messages may be read, and from which partitions; `None` when none.
    fn room(&self) -> Option<(usize, Vec<bool>)> {
        let mut state = lock(&self.shared.state);
        let room = READY_MAX.saturating_sub(state.ready.len());
        state.full = state.is_full();
        let errands = state.pending.len() + state.later.len() + state.away;
        let full = state.full || errands >= ERRANDS_MAX;
        let held = state.hold.has_room();
        let may = |reading: &Reading| {
            let detour = reading.kind != Kind::Messages;
            !full && (held || !detour) && state.tracker.has_room(reading.slot)
        };
        let readable: Vec<bool> = self.readings.iter().map(may).collect();
        state.stalled = !state.full && readable.iter().any(|readable| !readable);
        let has_room = |reading: &Reading| state.tracker.has_room(reading.slot);
        state.awaits_settlements = !self.readings.iter().all(has_room);
        (!full && readable.contains(&true)).then_some((room, readable))
    }

    fn take(&mut self, batch: Vec<Taken>) {
        if batch.is_empty() {
            return;
        }
        let now = now();
        let mut state = lock(&self.shared.state);
        state.outage = false;
        for taken in batch {
            let reading = &mut self.readings[taken.reading];
            if let Some(again) = reading.again {
                let gone = state.tracker.gone(reading.slot, again, taken.offset);
                if gone > 0 {
                    tracing::warn!(gone, topic = %reading.partition.topic, "deliveries that were to be made again are gone from the topic: its retention is shorter than they waited");
                }
                reading.again = Some(taken.offset + 1);
            }
            take_one(&mut state, reading, taken.offset, taken.read, now);
        }
        drop(state);
        self.shared.arrived.notify_one();
    }

    fn rest(&self, due: Option<Timestamp>, errand: Option<Instant>) {
        let mut rest = REST_MAX;
        if let Some(due) = due {
            rest = rest.min(due.since(now()));
        }
        if let Some(errand) = errand {
            rest = rest.min(errand.saturating_duration_since(Instant::now()));
        }
        if !rest.is_zero() {
            thread::park_timeout(rest);
        }
    }

    /// Waits for what is on its way, commits, leaves the group, and says how it went.
    fn close(mut self) {
        let deadline = Instant::now() + CLOSE_WAIT;
        let mut clean = false;
        while !clean && Instant::now() < deadline {
            self.poll();
            self.shared.run_errands();
            self.shared.wake_committer();
            let mut state = lock(&self.shared.state);
            for slot in state.assigned.values().copied().collect::<Vec<_>>() {
                state.forget_waiting(slot);
            }
            let errands = state.pending.len() + state.later.len() + state.away;
            let told = self.shared.group.is_none() || state.tracker.uncommitted().is_empty();
            clean = errands == 0 && told && state.committing == Committing::Nobody;
            drop(state);
            if !clean {
                thread::park_timeout(Duration::from_millis(5));
            }
        }
        let result = if clean {
            Ok(())
        } else {
            let why = format!(
                "not everything settled was told to the broker within {CLOSE_WAIT:?}; it will be delivered again"
            );
            Err(Error::Unavailable(why))
        };
        self.leave(&result);
    }
}

impl Reader {
    /// Leaves the group, and tells those who wait for the end how it went. Nobody else may hold the
    /// consumer when it is dropped: its end is polled here.
    fn leave(self, result: &Result<(), Error>) {
        let shared = Arc::clone(&self.shared);
        lock(&shared.state).ended.get_or_insert(Error::Closed);
        shared.wake_committer();
        while lock(&shared.state).committing != Committing::Nobody {
            thread::park_timeout(Duration::from_millis(20));
        }
        drop(self);
        for closing in std::mem::take(&mut lock(&shared.state).closing) {
            // Whoever asked may have gone away.
            closing.send(result.clone()).ok();
        }
        shared.arrived.notify_one();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // The queues hold the consumer, which leaves its group when the last of them is dropped.
        self.readings.clear();
        lock(&self.consumer.context().gained).clear();
    }
}

/// Makes a delivery of a record, or sets it aside, or waits with it.
fn take_one(state: &mut State, reading: &Reading, offset: i64, read: Read, now: Timestamp) {
    let slot = reading.slot;
    let Some(token) = state.tracker.deliver(slot, offset) else {
        return;
    };
    let TopicPartition { topic, partition } = &reading.partition;
    let mut ready = Ready {
        slot,
        token,
        topic: topic.clone(),
        position: Some(Position {
            partition: *partition,
            offset,
        }),
        message: wharf_message::Message::default(),
        bytes: 0,
        attempt: 1,
    };
    let mut due = Timestamp::ZERO;
    match (&reading.kind, read) {
        (kind, Read::Unreadable(message, raw)) => {
            if let Kind::Retries(of) | Kind::Scheduled(of) = kind {
                (ready.topic, ready.position) = (of.clone(), None);
            }
            tracing::warn!(%topic, partition, offset, "the name of a header is not UTF-8, so the message cannot be delivered; it is set aside as a dead letter with its bytes as they are");
            remember(state, &ready);
            let errand = Errand::SetAside { message, raw };
            state.pending.push_back(Pending {
                token,
                errand,
                failures: 0,
            });
            return;
        }
        (Kind::Messages, Read::Message(message)) => ready.message = message,
        (Kind::Retries(of), Read::Message(message)) => {
            let retried = detour::retried(message, of);
            ready.topic = of.clone();
            ready.position = retried.position;
            ready.attempt = retried.attempt;
            ready.message = retried.message;
            due = retried.due;
            remember(state, &ready);
        }
        (Kind::Scheduled(_), Read::Message(message)) => {
            due = detour::due(&message).unwrap_or(Timestamp::ZERO);
            ready.message = message;
        }
    }
    ready.bytes = ready.message.size();
    let waits = due > now || matches!(reading.kind, Kind::Scheduled(_));
    if waits {
        let bytes = ready.bytes;
        state.hold.push(due, slot, token, ready, bytes);
    } else {
        state.make_ready(ready);
    }
}

fn remember(state: &mut State, ready: &Ready) {
    let detail = Detail {
        topic: ready.topic.clone(),
        position: ready.position,
        attempt: ready.attempt,
    };
    state.details.insert(ready.token, detail);
}
