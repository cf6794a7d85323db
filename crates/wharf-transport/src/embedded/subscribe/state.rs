//! What a subscription knows, under its one lock: which partitions it has, what is out, what waits.
//!
//! Invariants: a delivery that is out is counted once, until its settlement is carried out; what is
//! released is read again from where it is; what waits for its time is bounded.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use wharf_message::dead_letter::{self, Failure, Reason};
use wharf_message::transport::{Error, Position, Settlement, Token};
use wharf_message::{GroupName, Message, Timestamp, TopicName};

use super::super::outputs::Output;
use super::super::record;
use super::part::{Kind, Next, Part};
use super::whole;
use super::work::{Purpose, Work};
use crate::log::detour::{self, Failed};
use crate::log::{Hold, Slot, TopicPartition, Tracker};

/// How many offsets of a partition are remembered behind one that is not settled.
const SPAN_MAX: usize = 100_000;
/// How many messages whose time has not come are known at once, and how many bytes of them are kept.
const HELD_MAX: usize = 20_000;
const HELD_BYTES_MAX: usize = 32 << 20;

/// How a subscription ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// Nothing more is delivered; what was settled is carried out.
    Closing,
    /// Dropped: nothing more is carried out.
    Dropped,
    Ended,
}

/// A message with what is known of it.
pub(super) struct Taken {
    pub(super) token: Token,
    pub(super) topic: TopicName,
    pub(super) position: Option<Position>,
    pub(super) message: Message,
    pub(super) attempt: u32,
}

/// Where a delivery of a detour came from, and which one it is.
#[derive(Clone, Copy, Debug)]
struct Origin {
    position: Option<Position>,
    attempt: u32,
}

struct Held {
    message: Message,
    origin: Origin,
}

/// See the module.
pub(super) struct State {
    /// `None` for everyone.
    pub(super) group: Option<GroupName>,
    pub(super) phase: Phase,
    pub(super) parts: BTreeMap<Slot, Part>,
    pub(super) tracker: Tracker,
    /// An outage that `next` has not told yet.
    pub(super) outage: Option<Error>,
    /// Whether it was told, and is not over.
    pub(super) is_out: bool,
    /// Offsets are to be committed.
    pub(super) is_dirty: bool,
    /// Settlements are to be carried out, or a partition has nothing out any more.
    pub(super) has_work: bool,
    hold: Hold<Held>,
    origins: HashMap<Token, Origin>,
    pub(super) works: VecDeque<Work>,
    out: usize,
    in_flight_max: usize,
    /// How many offsets of a partition its metadata can name.
    pub(super) accepted_max: usize,
    /// `next` waits for a settlement.
    is_full: bool,
    turn: usize,
}

impl State {
    pub(super) fn new(
        group: Option<GroupName>,
        in_flight_max: usize,
        metadata_bytes_max: usize,
    ) -> Self {
        Self {
            group,
            phase: Phase::Running,
            parts: BTreeMap::new(),
            tracker: Tracker::new(SPAN_MAX),
            outage: None,
            is_out: false,
            is_dirty: false,
            has_work: false,
            hold: Hold::new(HELD_MAX, HELD_BYTES_MAX),
            origins: HashMap::new(),
            works: VecDeque::new(),
            out: 0,
            in_flight_max: in_flight_max.max(1),
            accepted_max: whole::count_max(metadata_bytes_max),
            is_full: false,
            turn: 0,
        }
    }

    // Partitions

    /// Reads a partition from `offset` on.
    pub(super) fn assign(&mut self, mut part: Part, offset: i64) {
        part.next = offset;
        let slot = self.tracker.assign(part.partition.clone(), Some(offset));
        self.parts.insert(slot, part);
    }

    /// Gives a partition up; the watermark that the broker does not know.
    pub(super) fn revoke(&mut self, slot: Slot) -> Option<(TopicPartition, i64)> {
        let part = self.parts.remove(&slot)?;
        self.out -= part.out;
        self.hold.revoke(slot);
        self.origins.retain(|token, _| Slot::of(*token) != slot);
        let works = std::mem::take(&mut self.works);
        for work in works {
            match Slot::of(work.token) == slot {
                true => work.answer(Err(lost())),
                false => self.works.push_back(work),
            }
        }
        self.tracker.revoke(slot)
    }

    /// Stops delivering from a partition that is to be given up. False when it stopped before.
    pub(super) fn drain(&mut self, slot: Slot, now: Instant) -> bool {
        let Some(part) = self.parts.get_mut(&slot) else {
            return false;
        };
        part.clear();
        self.hold.revoke(slot);
        part.draining.replace(now).is_none()
    }

    /// Whether what waits for its time leaves room to read this partition on.
    pub(super) fn is_readable(&self, slot: Slot, part: &Part) -> bool {
        part.draining.is_none()
            && self.tracker.has_room(slot)
            && (part.kind == Kind::Direct || self.hold.has_room())
    }

    // Delivering

    /// Whether another delivery may be out; if not, a settlement wakes.
    pub(super) fn has_room(&mut self) -> bool {
        self.is_full = self.out >= self.in_flight_max;
        !self.is_full
    }

    /// When something that is held is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.hold.next_due()
    }

    /// What can be delivered now, at most `max`.
    pub(super) fn take(&mut self, max: usize, now: Timestamp) -> Vec<Taken> {
        let max = max.max(1).min(self.in_flight_max.saturating_sub(self.out));
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(due) = self.hold.pop_due(now)
        {
            match due.item {
                Some(held) => taken.extend(self.deliver(due.token, held)),
                None => {
                    self.tracker.release(due.token);
                    self.seek(Slot::of(due.token));
                }
            }
        }
        let slots: Vec<Slot> = self.parts.keys().copied().collect();
        self.turn = self.turn.wrapping_add(1);
        for at in 0..slots.len() {
            let slot = slots[self.turn.wrapping_add(at) % slots.len()];
            while taken.len() < max
                && let Some(one) = self.read(slot, now)
            {
                taken.push(one);
            }
        }
        taken
    }

    /// The next delivery of a partition that is due.
    fn read(&mut self, slot: Slot, now: Timestamp) -> Option<Taken> {
        loop {
            let part = self.parts.get(&slot)?;
            if !self.is_readable(slot, part) {
                return None;
            }
            let part = self.parts.get_mut(&slot)?;
            match part.next(slot, &mut self.tracker)? {
                Next::Record(found) => {
                    let offset = found.offset;
                    let Some(token) = self.tracker.deliver(slot, offset) else {
                        continue;
                    };
                    if part.accepted.contains(&offset) {
                        // Its outputs are in the log already.
                        self.is_dirty |= self.tracker.settle(token);
                        continue;
                    }
                    let message = record::message(found);
                    if let Some(taken) = self.arrived(slot, token, offset, message, now) {
                        return Some(taken);
                    }
                }
                Next::Unreadable {
                    offset,
                    end,
                    batch,
                    reason,
                } => {
                    let token = self.tracker.deliver(slot, offset);
                    part.passed(slot, &mut self.tracker, end);
                    part.skip_open();
                    if let Some(token) = token {
                        self.unreadable(slot, token, offset, batch, reason, now);
                    }
                }
            }
        }
    }

    /// A record was read: it is delivered, or held until its time.
    fn arrived(
        &mut self,
        slot: Slot,
        token: Token,
        offset: i64,
        message: Message,
        now: Timestamp,
    ) -> Option<Taken> {
        let part = self.parts.get_mut(&slot)?;
        let (due, held) = match &part.kind {
            Kind::Direct => {
                // A retry without a topic of its own (for everyone) counts here.
                let attempt = self.origins.get(&token).map_or(1, |origin| origin.attempt);
                part.out += 1;
                self.out += 1;
                return Some(Taken {
                    token,
                    topic: part.partition.topic.clone(),
                    position: Some(position(&part.partition, offset)),
                    message,
                    attempt,
                });
            }
            Kind::Retry(topic) => {
                let retried = detour::retried(message, topic);
                let (position, attempt) = (retried.position, retried.attempt);
                let message = retried.message;
                let origin = Origin { position, attempt };
                (retried.due, Held { message, origin })
            }
            Kind::Scheduled(_) => {
                let origin = Origin {
                    position: None,
                    attempt: 1,
                };
                let due = detour::due(&message).unwrap_or(now);
                (due, Held { message, origin })
            }
        };
        if due <= now {
            return self.deliver(token, held);
        }
        let bytes = held.message.size();
        self.hold.push(due, slot, token, held, bytes);
        None
    }

    fn deliver(&mut self, token: Token, held: Held) -> Option<Taken> {
        let part = self.parts.get_mut(&Slot::of(token))?;
        part.out += 1;
        self.out += 1;
        let topic = match &part.kind {
            Kind::Direct => &part.partition.topic,
            Kind::Retry(topic) | Kind::Scheduled(topic) => topic,
        };
        self.origins.insert(token, held.origin);
        Some(Taken {
            token,
            topic: topic.clone(),
            position: held.origin.position,
            message: held.message,
            attempt: held.origin.attempt,
        })
    }

    /// Sets aside what cannot be read, as one dead letter with the batch's bytes.
    fn unreadable(
        &mut self,
        slot: Slot,
        token: Token,
        offset: i64,
        batch: Bytes,
        reason: String,
        now: Timestamp,
    ) {
        let Some(part) = self.parts.get_mut(&slot) else {
            return;
        };
        let topic = &part.partition.topic;
        tracing::error!(%topic, partition = part.partition.partition, offset, reason, "a batch cannot be read and is set aside whole; look at the producer that wrote it");
        part.out += 1;
        self.out += 1;
        let failure = Failure {
            reason: Reason::Undecodable,
            error: reason,
            attempts: 1,
            first_failed_at: Some(now),
            failed_at: now,
            handler: "the embedded transport".to_owned(),
        };
        let settlement = Settlement::Reject {
            message: Message::new(batch),
            failure: Box::new(failure),
        };
        self.settle(token, settlement, now);
    }

    /// Reads again what was released.
    pub(super) fn seek(&mut self, slot: Slot) {
        if let Some(from) = self.tracker.reread(slot)
            && let Some(part) = self.parts.get_mut(&slot)
        {
            part.seek(from);
        }
    }

    // Settling

    /// Takes a settlement. Whether somebody who waits is to be woken: `next`, and the worker.
    pub(super) fn settle(
        &mut self,
        token: Token,
        settlement: Settlement,
        now: Timestamp,
    ) -> (bool, bool) {
        let was_dirty = self.is_dirty;
        let is_awaited = match settlement {
            Settlement::Accept => self.done(token),
            other => self.settle_otherwise(token, other, now),
        };
        (is_awaited, self.has_work || self.is_dirty && !was_dirty)
    }

    fn settle_otherwise(&mut self, token: Token, settlement: Settlement, now: Timestamp) -> bool {
        let slot = Slot::of(token);
        let Some(offset) = self.tracker.origin(token).map(|(_, offset)| offset) else {
            return false;
        };
        match settlement {
            Settlement::Retry { message, after } if self.group.is_none() => {
                let origin = self.origin(slot, token, offset);
                let attempt = origin.attempt.saturating_add(1);
                let origin = Origin { attempt, ..origin };
                self.count_out(slot);
                self.origins.insert(token, origin);
                let bytes = message.size();
                let held = Held { message, origin };
                self.hold.push(now.after(after), slot, token, held, bytes);
                true
            }
            Settlement::Retry { message, after } => {
                let outputs = self.retry(slot, token, offset, message, after, now);
                self.enqueue(token, outputs, Purpose::Retry);
                false
            }
            Settlement::Reject { message, failure } => {
                match self.letter(slot, token, offset, message, &failure) {
                    Some(letter) => {
                        self.enqueue(token, Some(letter), Purpose::Reject);
                        false
                    }
                    None => self.done(token),
                }
            }
            // Also for a way to settle that is newer than this: not settled, which loses nothing.
            _ => {
                self.tracker.release(token);
                self.seek(slot);
                self.count_out(slot);
                true
            }
        }
    }

    /// Outputs and acceptance in one step. False when the delivery is somebody else's by now.
    pub(super) fn accept_with(
        &mut self,
        token: Token,
        outputs: Vec<Output>,
        purpose: Purpose,
    ) -> bool {
        let work = Work::new(token, outputs, purpose);
        if self.tracker.origin(token).is_none() {
            work.answer(Err(lost()));
            return false;
        }
        self.works.push_back(work);
        self.has_work = true;
        true
    }

    fn enqueue(&mut self, token: Token, outputs: Option<Output>, purpose: Purpose) {
        let work = Work::new(token, outputs.into_iter().collect(), purpose);
        self.works.push_back(work);
        self.has_work = true;
    }

    /// The delivery is settled for good. Whether `next` waits for that.
    pub(super) fn done(&mut self, token: Token) -> bool {
        let slot = Slot::of(token);
        if !self.tracker.settle(token) {
            return false;
        }
        if !self.origins.is_empty() {
            self.origins.remove(&token);
        }
        self.is_dirty = true;
        // Whatever is to be whole may have waited for this one.
        self.has_work |= !self.works.is_empty();
        self.count_out(slot)
    }

    pub(super) fn count_out(&mut self, slot: Slot) -> bool {
        if let Some(part) = self.parts.get_mut(&slot) {
            part.out -= 1;
            self.out -= 1;
            self.has_work |= part.out == 0 && part.draining.is_some();
        }
        std::mem::take(&mut self.is_full)
    }

    fn origin(&self, slot: Slot, token: Token, offset: i64) -> Origin {
        self.origins.get(&token).copied().unwrap_or_else(|| Origin {
            position: self
                .parts
                .get(&slot)
                .map(|part| position(&part.partition, offset)),
            attempt: 1,
        })
    }

    fn topic(&self, slot: Slot) -> Option<TopicName> {
        let part = self.parts.get(&slot)?;
        Some(match &part.kind {
            Kind::Direct => part.partition.topic.clone(),
            Kind::Retry(topic) | Kind::Scheduled(topic) => topic.clone(),
        })
    }

    fn retry(
        &self,
        slot: Slot,
        token: Token,
        offset: i64,
        message: Message,
        after: Duration,
        now: Timestamp,
    ) -> Option<Output> {
        let (topic, group) = (self.topic(slot)?, self.group.as_ref()?);
        let Origin { position, attempt } = self.origin(slot, token, offset);
        let failed = Failed {
            message,
            topic: topic.clone(),
            position,
            attempt,
        };
        Some(Output {
            topic: detour::retry_topic(&topic, group).expect("checked when it was subscribed to"),
            beside: Some(topic),
            message: detour::retry(failed, after, now),
        })
    }

    /// The dead letter; `None` for everyone, who share none.
    fn letter(
        &self,
        slot: Slot,
        token: Token,
        offset: i64,
        message: Message,
        failure: &Failure,
    ) -> Option<Output> {
        let (topic, group) = (self.topic(slot)?, self.group.as_ref()?);
        let position = self.origin(slot, token, offset).position;
        Some(Output {
            topic: dead_letter::topic(&topic, group).expect("checked when it was subscribed to"),
            message: dead_letter::dead_letter(message, &topic, position, group, failure),
            beside: Some(topic),
        })
    }

    /// An outage: told once, until it is over.
    pub(super) fn out_of_order(&mut self, error: Error) {
        if !std::mem::replace(&mut self.is_out, true) {
            self.outage = Some(error);
        }
    }
}

fn position(partition: &TopicPartition, offset: i64) -> Position {
    Position {
        partition: partition.partition,
        offset,
    }
}

/// What whoever settles a delivery of a partition that was given up is told.
fn lost() -> Error {
    Error::Unavailable("the delivery went to another consumer".to_owned())
}
