//! What a subscription's threads and its reader share: the deliveries and how they end.
//!
//! Invariants: a delivery is settled only after its dead letter or its next attempt is acknowledged;
//! what is read, held and handed out is bounded; no lock is held while waiting. What is accepted is put
//! down under a lock of its own, and whoever looks at the state next takes all of it in: settling costs
//! next to nothing and waits for nobody.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::OwnedHeaders;
use tokio::sync::{Notify, oneshot};
use wharf_message::dead_letter::Failure;
use wharf_message::transport::{Capability, Error, Position, Settle, Settlement, Token};
use wharf_message::{GroupName, Message, TopicName};

use super::committer::Committer;
use super::context::Context;
use super::outbox::lock;
use super::readings::Readings;
use super::wiring::Wiring;
use super::{NAME, now};
use crate::log::{Commit, Hold, Slot, TopicPartition, Tracker};

/// Deliveries of one partition that are remembered behind one that is not settled.
const SPAN_MAX: usize = 100_000;
/// Retries whose time has come and that are not handed out, and how large they may be together.
pub(super) const READY_MAX: usize = 1_024;
const READY_BYTES_MAX: usize = 16 << 20;
/// Messages that wait for their time, and how large those kept in memory may be together.
const HELD_MAX: usize = 100_000;
const HELD_BYTES_MAX: usize = 16 << 20;

/// Errands that may be open at a time.
pub(super) const ERRANDS_MAX: usize = 4_000;

/// What the records of a topic stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Messages of this topic.
    Messages,
    /// Retries of messages of this topic.
    Retries(TopicName),
    /// Messages that are to be published to this topic when they are due.
    Scheduled(TopicName),
}

/// A delivery that was read.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) slot: Slot,
    pub(super) token: Token,
    pub(super) topic: TopicName,
    pub(super) position: Option<Position>,
    pub(super) message: Message,
    pub(super) attempt: u32,
}

/// What of a delivery its token alone does not tell, where it is not a message of its own topic at
/// its first attempt.
#[derive(Clone, Debug)]
pub(super) struct Detail {
    pub(super) topic: TopicName,
    pub(super) position: Option<Position>,
    pub(super) attempt: u32,
}

/// Something to publish before a delivery is settled.
#[derive(Clone, Debug)]
pub(super) enum Errand {
    Retry {
        message: Message,
        after: Duration,
    },
    Reject {
        message: Message,
        failure: Box<Failure>,
    },
    /// As a rejection, of a record whose headers are no text.
    SetAside {
        message: Message,
        raw: OwnedHeaders,
    },
    Forward {
        message: Message,
        to: TopicName,
    },
}

/// An errand, and how often it failed.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) token: Token,
    pub(super) errand: Errand,
    pub(super) failures: u32,
}

/// Who is telling the broker offsets: one at a time, so that none goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Committing {
    Nobody,
    /// The thread for it.
    Committer,
}

pub(super) struct State {
    pub(super) tracker: Tracker,
    pub(super) hold: Hold<Ready>,
    pub(super) ready: VecDeque<Ready>,
    pub(super) ready_bytes: usize,
    pub(super) details: HashMap<Token, Detail>,
    pub(super) pending: VecDeque<Pending>,
    /// Those that failed, and when they are tried again.
    pub(super) later: Vec<(Instant, Pending)>,
    /// Errands on their way to the broker.
    pub(super) away: usize,
    pub(super) assigned: BTreeMap<TopicPartition, Slot>,
    pub(super) committing: Committing,
    /// An error that `next` tells once.
    pub(super) failure: Option<Error>,
    /// An error after which nothing comes any more.
    pub(super) ended: Option<Error>,
    /// The connection is lost, and that was told.
    pub(super) outage: bool,
    /// There is so much in `ready` that nothing more is read before it is half empty.
    pub(super) full: bool,
    /// The thread waits for room that a settlement may make.
    pub(super) stalled: bool,
    /// Those who wait for its end.
    pub(super) closing: Vec<oneshot::Sender<Result<(), Error>>>,
    pub(super) abandoned: bool,
    /// The memory that what is accepted is put down in next.
    spare: Vec<Token>,
}

/// What a subscription's threads share. See the module.
pub(super) struct Shared {
    pub(super) group: Option<GroupName>,
    pub(super) kinds: BTreeMap<TopicName, Kind>,
    pub(super) in_flight_max: usize,
    state: Mutex<State>,
    /// What was accepted and is not in the state yet. Locked after it, never before.
    accepted: Mutex<Vec<Token>>,
    /// The partitions of its own topics, which are read as deliveries are asked for. Locked before the
    /// state, never after it.
    pub(super) readings: Mutex<Readings>,
    /// Told when there is something for `next`.
    pub(super) arrived: Notify,
    /// `next` waits for room that the next acceptance makes.
    pub(super) next_awaits: AtomicBool,
    /// The same of the thread.
    pub(super) reader_awaits: AtomicBool,
    pub(super) reader: OnceLock<Thread>,
    pub(super) consumer: OnceLock<std::sync::Weak<BaseConsumer<Context>>>,
    /// Of a member of a group only.
    pub(super) committer: OnceLock<Committer>,
    /// Acceptances with outputs wait: a settlement may let one of them go on.
    pub(super) waits_for_settlements: AtomicBool,
    pub(super) wiring: Wiring,
}

impl State {
    fn new() -> Self {
        Self {
            tracker: Tracker::new(SPAN_MAX),
            hold: Hold::new(HELD_MAX, HELD_BYTES_MAX),
            ready: VecDeque::new(),
            ready_bytes: 0,
            details: HashMap::new(),
            pending: VecDeque::new(),
            later: Vec::new(),
            away: 0,
            assigned: BTreeMap::new(),
            committing: Committing::Nobody,
            failure: None,
            ended: None,
            outage: false,
            full: false,
            stalled: false,
            closing: Vec::new(),
            abandoned: false,
            spare: Vec::new(),
        }
    }

    /// How many deliveries are with the handlers, or on an errand for them.
    pub(super) fn out(&self) -> usize {
        let waiting = self.ready.len() + self.hold.len();
        self.tracker.delivered().saturating_sub(waiting)
    }

    /// A delivery is done.
    pub(super) fn settle(&mut self, token: Token) {
        self.tracker.settle(token);
        // Few have one, and most subscriptions none: nothing is looked for there.
        if !self.details.is_empty() {
            self.details.remove(&token);
        }
    }

    /// A delivery is to be delivered again.
    pub(super) fn release(&mut self, token: Token) {
        self.tracker.release(token);
        self.details.remove(&token);
    }

    /// Puts down what is to be handed out.
    pub(super) fn make_ready(&mut self, ready: Ready) {
        self.ready_bytes += ready.message.size();
        self.ready.push_back(ready);
    }

    /// The next that is to be handed out.
    pub(super) fn take_ready(&mut self) -> Option<Ready> {
        let ready = self.ready.pop_front()?;
        self.ready_bytes -= ready.message.size();
        Some(ready)
    }

    /// How many errands are open.
    pub(super) fn errands(&self) -> usize {
        self.pending.len() + self.later.len() + self.away
    }

    /// Whether there is enough in `ready` for now: once it is full, until it is half empty.
    pub(super) fn is_full(&self) -> bool {
        let (count_max, bytes_max) = match self.full {
            true => (READY_MAX / 2, READY_BYTES_MAX / 2),
            false => (READY_MAX, READY_BYTES_MAX),
        };
        self.ready.len() >= count_max || self.ready_bytes >= bytes_max
    }

    /// A partition is not ours any more: what was read of it goes back. Its watermark, if the broker
    /// does not know it.
    pub(super) fn revoke(&mut self, partition: &TopicPartition) -> Option<Commit> {
        let slot = self.assigned.remove(partition)?;
        self.forget_waiting(slot);
        let tracker = &self.tracker;
        self.details.retain(|token, _| tracker.slot(*token) != slot);
        let uncommitted = self.tracker.uncommitted();
        let last = uncommitted.into_iter().find(|(of, _)| of == partition);
        let last = last.map(|last| self.tracker.with_noted(last));
        self.tracker.revoke(slot);
        last
    }

    /// Forgets what of a partition is read and not handed out.
    pub(super) fn forget_waiting(&mut self, slot: Slot) {
        let (tracker, bytes) = (&mut self.tracker, &mut self.ready_bytes);
        self.ready.retain(|ready| {
            if ready.slot == slot {
                *bytes -= ready.message.size();
                tracker.release(ready.token);
            }
            ready.slot != slot
        });
        for token in self.hold.revoke(slot) {
            self.release(token);
        }
    }

    /// What a delivery is, by its token; `None` when it went to another member.
    pub(super) fn detail(&self, token: Token) -> Option<Detail> {
        let (partition, offset) = self.tracker.origin(token)?;
        let known = self.details.get(&token).cloned();
        Some(known.unwrap_or_else(|| Detail {
            topic: partition.topic.clone(),
            position: Some(Position {
                partition: partition.partition,
                offset,
            }),
            attempt: 1,
        }))
    }
}

impl Shared {
    pub(super) fn new(
        group: Option<GroupName>,
        kinds: BTreeMap<TopicName, Kind>,
        in_flight_max: usize,
        wiring: Wiring,
    ) -> Arc<Self> {
        Arc::new(Self {
            group,
            kinds,
            in_flight_max: in_flight_max.max(1),
            state: Mutex::new(State::new()),
            accepted: Mutex::default(),
            readings: Mutex::default(),
            arrived: Notify::new(),
            next_awaits: AtomicBool::new(false),
            reader_awaits: AtomicBool::new(false),
            reader: OnceLock::new(),
            consumer: OnceLock::new(),
            committer: OnceLock::new(),
            waits_for_settlements: AtomicBool::new(false),
            wiring,
        })
    }

    /// What the records of a topic stand for.
    pub(super) fn kind(&self, topic: &TopicName) -> Kind {
        self.kinds.get(topic).cloned().unwrap_or(Kind::Messages)
    }

    /// The state, with all that was settled so far.
    pub(super) fn current(&self) -> MutexGuard<'_, State> {
        let mut state = lock(&self.state);
        self.take_in(&mut state);
        state
    }

    /// Takes in what was accepted meanwhile.
    pub(super) fn take_in(&self, state: &mut State) {
        let mut tokens = mem::take(&mut state.spare);
        mem::swap(&mut tokens, &mut *lock(&self.accepted));
        for token in tokens.drain(..) {
            state.settle(token);
        }
        state.spare = tokens;
    }

    /// Wakes the thread that polls and runs errands.
    pub(super) fn wake_reader(&self) {
        if let Some(reader) = self.reader.get() {
            reader.unpark();
        }
    }

    /// Ends the subscription when what was settled has reached the broker.
    pub(super) fn close(&self) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let (closing, closed) = oneshot::channel();
        let mut state = self.current();
        let is_over = state.ended.is_some();
        if !is_over {
            state.closing.push(closing);
        }
        drop(state);
        self.wake_reader();
        async move {
            if is_over {
                return Ok(());
            }
            closed.await.unwrap_or(Err(Error::Closed))
        }
    }

    /// Wakes the thread that commits.
    pub(super) fn wake_committer(&self) {
        if let Some(committer) = self.committer.get() {
            committer.wake();
        }
    }

    /// A plain acceptance, of which there are many: nobody is woken who has nothing to do. Whoever
    /// waits for one says so before it takes in what was accepted: either it finds this one, or it is
    /// told here.
    fn accept(&self, token: Token) {
        lock(&self.accepted).push(token);
        if self.next_awaits.load(Ordering::Relaxed)
            && self.next_awaits.swap(false, Ordering::Relaxed)
        {
            self.arrived.notify_one();
        }
        if self.reader_awaits.load(Ordering::Relaxed) {
            self.wake_reader();
        }
        if self.waits_for_settlements.load(Ordering::Relaxed) {
            self.wake_committer();
        }
    }

    /// After something was settled: there may be room for `next` and for the thread.
    pub(super) fn room_was_made(&self, stalled: bool) {
        self.arrived.notify_one();
        if stalled {
            self.wake_reader();
        }
        if stalled || self.waits_for_settlements.load(Ordering::Relaxed) {
            self.wake_committer();
        }
    }

    /// Tells `next` an error, once.
    pub(super) fn fail(&self, error: Error) {
        self.current().failure = Some(error);
        self.arrived.notify_one();
    }
}

impl Settle for Shared {
    fn settle(&self, token: Token, settlement: Settlement) {
        if settlement == Settlement::Accept {
            return self.accept(token);
        }
        let mut state = self.current();
        let errand = match settlement {
            Settlement::Retry { message, after } => Some(Errand::Retry { message, after }),
            Settlement::Reject { message, failure } => Some(Errand::Reject { message, failure }),
            // Also what a later version of the seam may add: to deliver again loses nothing.
            _ => {
                state.release(token);
                state.stalled = true;
                None
            }
        };
        match errand {
            Some(Errand::Retry { message, after }) if self.group.is_none() => {
                self.hold_back(&mut state, token, message, after);
            }
            Some(errand) => state.pending.push_back(Pending {
                token,
                errand,
                failures: 0,
            }),
            None => {}
        }
        let stalled = state.stalled || !state.pending.is_empty();
        drop(state);
        self.room_was_made(stalled);
    }

    fn accept_with(
        &self,
        token: Token,
        outputs: Vec<(TopicName, Message)>,
    ) -> BoxFuture<'_, Result<(), Error>> {
        let Some(committer) = self.committer.get() else {
            let mut state = self.current();
            state.release(token);
            drop(state);
            self.room_was_made(true);
            let error = Error::Unsupported {
                transport: NAME,
                capability: Capability::AtomicOutputs,
                hint: ": a subscription for everyone has no group whose offsets could be committed with them".to_owned(),
            };
            return std::future::ready(Err(error)).boxed();
        };
        committer.accept(token, outputs).boxed()
    }
}

impl Shared {
    /// Without a group there is nobody to keep the next attempt for: it waits here.
    fn hold_back(&self, state: &mut State, token: Token, message: Message, after: Duration) {
        let Some(mut detail) = state.detail(token) else {
            return;
        };
        detail.attempt = detail.attempt.saturating_add(1);
        let slot = state.tracker.slot(token);
        let bytes = message.size();
        let ready = Ready {
            slot,
            token,
            topic: detail.topic.clone(),
            position: detail.position,
            message,
            attempt: detail.attempt,
        };
        state.details.insert(token, detail);
        state
            .hold
            .push(now().after(after), slot, token, ready, bytes);
        state.stalled = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_full_nothing_is_read_before_half_of_it_is_handed_out() {
        let mut state = State::new();
        let topic = TopicName::new("orders").expect("valid");
        let partition = TopicPartition {
            topic: topic.clone(),
            partition: 0,
        };
        let slot = state.tracker.assign(partition, None);
        let ready = |bytes| Ready {
            slot,
            token: 0,
            topic: topic.clone(),
            position: None,
            message: Message::new(vec![0; bytes]),
            attempt: 1,
        };
        for _ in 0..READY_MAX {
            assert!(!state.is_full());
            state.make_ready(ready(1));
        }
        assert!(state.is_full());
        state.full = true;
        while state.is_full() {
            state.take_ready().expect("there are some");
        }
        assert_eq!(state.ready.len(), READY_MAX / 2 - 1);
        state.full = false;
        state.make_ready(ready(READY_BYTES_MAX));
        assert!(state.is_full());
    }
}
