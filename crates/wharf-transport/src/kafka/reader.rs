//! The thread of a subscription: it polls, runs errands, and reads retries and scheduled messages, until
//! it is closed.
//!
//! Partitions that may not be read for now are left alone, and polling goes on, so that the membership
//! stays alive without pausing partitions and fetching their records twice. The partitions of the
//! topics' own messages are read by `next` (see `readings`); here they come, go, and are sought.
//! Invariant: nothing is read that there is no room for.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use wharf_message::transport::Error;
use wharf_message::{Timestamp, TopicName};

use super::context::{Context, offsets};
use super::outbox::lock;
use super::readings::{Detour, Reading, Readings};
use super::state::{
    Committing, ERRANDS_MAX, Errand, Kind, Pending, READY_MAX, Ready, Shared, State,
};
use super::{error, now};
use crate::log::{Commit, Slot, TopicPartition};

/// The longest the thread rests, in case nobody wakes it.
const REST_MAX: Duration = Duration::from_millis(250);
/// How long the broker may take to seek.
const SEEK_WAIT: Duration = Duration::from_secs(5);
/// How long closing waits for what is on its way.
const CLOSE_WAIT: Duration = Duration::from_secs(20);

/// The consumer of a subscription. See the module.
pub(super) struct Reader {
    shared: Arc<Shared>,
    consumer: Arc<BaseConsumer<Context>>,
    /// The partitions of retries and scheduled messages.
    readings: Readings,
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
            readings: Readings::default(),
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
            self.take_over();
            {
                let state = self.shared.current();
                if !state.closing.is_empty() {
                    drop(state);
                    return self.close();
                }
                if state.abandoned {
                    drop(state);
                    return self.leave(&Err(Error::Closed));
                }
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

    /// Serves what librdkafka has to say.
    fn poll(&self) {
        while let Some(event) = self.consumer.poll(Duration::ZERO) {
            match event {
                // Partitions have queues of their own from before their first record on.
                Ok(record) => tracing::error!(
                    topic = record.topic(),
                    partition = record.partition(),
                    "a record came where none is expected; it is delivered after the next restart"
                ),
                Err(KafkaError::PartitionEOF(_)) => {}
                Err(error) => self.shared.report(&error, ""),
            }
        }
    }

    /// Takes over the partitions that came, and forgets those that went.
    fn take_over(&mut self) {
        let assigned: Vec<Slot> = self.shared.current().assigned.values().copied().collect();
        let gained = std::mem::take(&mut *lock(&self.consumer.context().gained));
        let arrived = !gained.is_empty();
        let mut readings = lock(&self.shared.readings);
        for gained in gained {
            match self.shared.kind(&gained.partition.topic) {
                Kind::Messages => readings.add(Reading::new(gained, Kind::Messages)),
                detour => self.readings.add(Reading::new(gained, detour)),
            }
        }
        let is_ours = |reading: &Reading| assigned.contains(&reading.slot);
        readings.retain(is_ours);
        drop(readings);
        self.readings.retain(is_ours);
        if arrived {
            self.shared.arrived.notify_one();
        }
    }

    /// Goes back to what was released, and forward again when that is read.
    fn read_again(&mut self) {
        for (mut reading, detour) in self.readings.take_detours(&self.shared.current().tracker) {
            self.seek(&mut reading, detour);
            self.readings.add(reading);
        }
        let detours = {
            let mut readings = lock(&self.shared.readings);
            readings.take_detours(&self.shared.current().tracker)
        };
        let arrived = !detours.is_empty();
        for (mut reading, detour) in detours {
            self.seek(&mut reading, detour);
            lock(&self.shared.readings).add(reading);
        }
        if arrived {
            self.shared.arrived.notify_one();
        }
    }

    fn seek(&self, reading: &mut Reading, detour: Detour) {
        let mut list = TopicPartitionList::new();
        let TopicPartition { topic, partition } = &reading.partition;
        let target = detour.target();
        let offset = list.add_partition_offset(topic.as_str(), *partition, Offset::Offset(target));
        let sought = offset.and_then(|()| self.consumer.seek_partitions(list, SEEK_WAIT));
        let sought = sought.and_then(|list| {
            list.elements()
                .iter()
                .try_for_each(TopicPartitionListElem::error)
        });
        match sought {
            Ok(()) => reading.sought(detour),
            Err(error) => {
                tracing::debug!(%error, %topic, partition, target, "a partition could not be read again yet");
            }
        }
    }

    /// Moves on what has become due; answers when the next one is.
    fn take_due(&self) -> Option<Timestamp> {
        let now = now();
        let mut state = self.shared.current();
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

    /// Reads retries and scheduled messages, as many as there is room for; answers whether there were any.
    fn read(&mut self) -> bool {
        let Some((room, readable)) = self.room() else {
            return false;
        };
        let shared = Arc::clone(&self.shared);
        let report = |error| shared.report(&error, "");
        if self.readings.read(room, &readable, report) == 0 {
            return false;
        }
        let mut state = shared.current();
        self.readings.deliver(&mut state, now(), State::make_ready);
        drop(state);
        shared.arrived.notify_one();
        true
    }

    /// How many messages may be read, and from which partitions; `None` when none.
    fn room(&self) -> Option<(usize, Vec<bool>)> {
        let mut state = self.shared.current();
        let has_room = |state: &State, reading: &Reading| state.tracker.has_room(reading.slot);
        let awaits = !self
            .readings
            .iter()
            .all(|reading| has_room(&state, reading));
        self.shared.reader_awaits.store(awaits, Ordering::Relaxed);
        if awaits {
            self.shared.take_in(&mut state);
        }
        let room = READY_MAX.saturating_sub(state.ready.len());
        state.full = state.is_full();
        let full = state.full || state.errands() >= ERRANDS_MAX;
        let may = |reading: &Reading| !full && state.hold.has_room() && has_room(&state, reading);
        let readable: Vec<bool> = self.readings.iter().map(may).collect();
        let stalled = !state.full && readable.iter().any(|readable| !readable);
        state.stalled = stalled;
        (!full && readable.contains(&true)).then_some((room, readable))
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
        // As this thread does not rely on being woken, `next` need not either.
        self.shared.arrived.notify_one();
    }

    /// Waits for what is on its way, commits, leaves the group, and says how it went.
    fn close(self) {
        // Nothing more is handed out.
        lock(&self.shared.readings).clear();
        let deadline = Instant::now() + CLOSE_WAIT;
        let mut clean = false;
        while !clean && Instant::now() < deadline {
            self.poll();
            self.shared.run_errands();
            self.shared.wake_committer();
            let mut state = self.shared.current();
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
        shared.current().ended.get_or_insert(Error::Closed);
        shared.wake_committer();
        while shared.current().committing != Committing::Nobody {
            thread::park_timeout(Duration::from_millis(20));
        }
        drop(self);
        for closing in std::mem::take(&mut shared.current().closing) {
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
        lock(&self.shared.readings).clear();
        lock(&self.consumer.context().gained).clear();
    }
}
