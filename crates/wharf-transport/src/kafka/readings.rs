//! The partitions that are read: out of the client library's queues, and deliveries of the records.
//!
//! Each partition has a queue of its own in librdkafka. One that may not be read for now (there is no
//! room, its messages are not due) is left alone. Those of a topic's own messages are read by whoever
//! asks for deliveries, as many as are asked for and no earlier, so that nothing is handed from thread
//! to thread; those of retries and scheduled messages by the subscription's thread.
//! Invariant: records of a partition are handed on in the order of their offsets. What must never
//! happen here: a wait, since tasks call it.

use std::time::Duration;

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use wharf_message::transport::Position;
use wharf_message::{Message, Timestamp};

use super::context::{Context, Gained};
use super::record::{self, Memory, Read};
use super::state::{Detail, Errand, Kind, Pending, Ready, State};
use crate::log::{Slot, TopicPartition, Tracker, detour};

/// Messages taken from one partition before the next has its turn, and how large those of all may be
/// that are taken at once.
const TURN_MAX: usize = 256;
const BYTES_MAX: usize = 16 << 20;
/// Known offsets are skipped by seeking when there are more than this many.
const SKIP_MIN: i64 = 1_000;

/// A partition that is read.
pub(super) struct Reading {
    pub(super) slot: Slot,
    pub(super) partition: TopicPartition,
    pub(super) kind: Kind,
    queue: PartitionQueue<Context>,
    /// While released deliveries are read again: the next offset that may come.
    again: Option<i64>,
}

/// Partitions that are read in turns.
#[derive(Default)]
pub(super) struct Readings {
    all: Vec<Reading>,
    /// Whose turn it is.
    turn: usize,
    memory: Memory,
    /// What was taken last, empty unless it is being delivered.
    taken: Vec<Taken>,
}

/// A record that was read.
struct Taken {
    reading: usize,
    offset: i64,
    read: Read,
}

/// Where a partition is to be read from, instead of where its reading stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detour {
    /// From what was released.
    Back(i64),
    /// From where it was before: what was released is read.
    On(i64),
}

impl Detour {
    pub(super) fn target(self) -> i64 {
        let (Self::Back(target) | Self::On(target)) = self;
        target
    }
}

impl Reading {
    /// Begins to read a partition that came.
    pub(super) fn new(gained: Gained, kind: Kind) -> Self {
        Self {
            slot: gained.slot,
            partition: gained.partition,
            kind,
            queue: gained.queue,
            again: None,
        }
    }

    /// Whether it is to be read from somewhere else.
    pub(super) fn detour(&mut self, tracker: &Tracker) -> Option<Detour> {
        match (self.again, tracker.reread(self.slot)) {
            (None, Some(from)) => Some(Detour::Back(from)),
            (Some(again), Some(from)) if from < again => Some(Detour::Back(from)),
            (Some(again), None) => {
                self.again = None;
                let end = tracker.position(self.slot)?;
                (end - again > SKIP_MIN).then_some(Detour::On(end))
            }
            _ => None,
        }
    }

    /// It is read from there now.
    pub(super) fn sought(&mut self, detour: Detour) {
        if let Detour::Back(from) = detour {
            self.again = Some(from);
        }
    }

    /// Makes a delivery of a record, to be handed out now; `None` when it needs none, is set aside or
    /// waits.
    fn deliver(
        &mut self,
        state: &mut State,
        offset: i64,
        read: Read,
        now: Timestamp,
    ) -> Option<Ready> {
        if let Some(again) = self.again {
            let gone = state.tracker.gone(self.slot, again, offset);
            if gone > 0 {
                tracing::warn!(gone, topic = %self.partition.topic, "deliveries that were to be made again are gone from the topic: its retention is shorter than they waited");
            }
            self.again = Some(offset + 1);
        }
        let slot = self.slot;
        let token = state.tracker.deliver(slot, offset)?;
        let TopicPartition { topic, partition } = &self.partition;
        let partition = *partition;
        let mut ready = Ready {
            slot,
            token,
            topic: topic.clone(),
            position: Some(Position { partition, offset }),
            message: Message::default(),
            attempt: 1,
        };
        let due = match (&self.kind, read) {
            (Kind::Messages, Read::Message(message)) => {
                ready.message = message;
                return Some(ready);
            }
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
                return None;
            }
            (Kind::Retries(of), Read::Message(message)) => {
                let retried = detour::retried(message, of);
                ready.topic = of.clone();
                ready.position = retried.position;
                ready.attempt = retried.attempt;
                ready.message = retried.message;
                remember(state, &ready);
                retried.due
            }
            (Kind::Scheduled(_), Read::Message(message)) => {
                let due = detour::due(&message).unwrap_or(Timestamp::ZERO);
                ready.message = message;
                due
            }
        };
        if due > now || matches!(self.kind, Kind::Scheduled(_)) {
            let bytes = ready.message.size();
            state.hold.push(due, slot, token, ready, bytes);
            return None;
        }
        Some(ready)
    }
}

impl Readings {
    pub(super) fn add(&mut self, reading: Reading) {
        self.all.push(reading);
    }

    /// Goes on with these only.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Reading) -> bool) {
        self.all.retain(keep);
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Reading> {
        self.all.iter()
    }

    /// Takes out those that are to be read from somewhere else, so that nobody reads them meanwhile.
    pub(super) fn take_detours(&mut self, tracker: &Tracker) -> Vec<(Reading, Detour)> {
        let mut detours = Vec::new();
        let taken = self.all.extract_if(.., |reading| {
            let detour = reading.detour(tracker);
            detours.extend(detour);
            detour.is_some()
        });
        let taken: Vec<Reading> = taken.collect();
        taken.into_iter().zip(detours).collect()
    }

    /// Takes up to `room` records out of those that may be read, from one after the other, to be
    /// delivered next. How many there were.
    pub(super) fn read(
        &mut self,
        room: usize,
        readable: &[bool],
        mut report: impl FnMut(KafkaError),
    ) -> usize {
        let mut bytes = 0;
        let count = self.all.len();
        for step in 0..count {
            let at = (self.turn + step) % count;
            if !readable[at] {
                continue;
            }
            let turn = self.taken.len().saturating_add(TURN_MAX).min(room);
            while self.taken.len() < turn && bytes < BYTES_MAX {
                match self.all[at].queue.poll(Duration::ZERO) {
                    None => break,
                    Some(Ok(record)) => {
                        bytes += record.payload_len() + record.key_len();
                        self.taken.push(Taken {
                            reading: at,
                            offset: record.offset(),
                            read: record::read(&record, &mut self.memory),
                        });
                    }
                    Some(Err(KafkaError::PartitionEOF(_))) => {}
                    Some(Err(error)) => report(error),
                }
            }
        }
        self.turn = (self.turn + 1) % count.max(1);
        self.taken.len()
    }

    /// Makes deliveries of what was read, and hands on what is to be handed out now.
    pub(super) fn deliver(
        &mut self,
        state: &mut State,
        now: Timestamp,
        mut hand_on: impl FnMut(&mut State, Ready),
    ) {
        state.outage = false;
        for taken in self.taken.drain(..) {
            let reading = &mut self.all[taken.reading];
            if let Some(ready) = reading.deliver(state, taken.offset, taken.read, now) {
                hand_on(state, ready);
            }
        }
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
