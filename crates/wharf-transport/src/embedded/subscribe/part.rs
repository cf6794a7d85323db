//! One assigned partition: what was fetched of it, opened batch by batch.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;
use wharf_broker::FetchedPartition;
use wharf_broker::records::{Batch, Content, Record, Records};
use wharf_message::TopicName;

use crate::log::{Slot, TopicPartition, Tracker};

/// What the records of a partition stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Messages.
    Direct,
    /// Messages of this topic that are tried again.
    Retry(TopicName),
    /// Messages of this topic whose time has not come.
    Scheduled(TopicName),
}

/// An assigned partition.
pub(super) struct Part {
    pub(super) partition: TopicPartition,
    pub(super) topic_id: Uuid,
    pub(super) kind: Kind,
    /// Where to fetch next.
    pub(super) next: i64,
    /// How many of its deliveries are out.
    pub(super) out: usize,
    /// What was accepted with outputs and is not before the group's offset.
    pub(super) accepted: BTreeSet<i64>,
    /// It is to be given up: nothing more is delivered. Since when.
    pub(super) draining: Option<Instant>,
    /// Not fetched before this time, after an error.
    pub(super) paused: Option<Instant>,
    buffer: VecDeque<Bytes>,
    open: Option<Open>,
    /// Aborted transactions in the buffer: the producer, the first and the last offset.
    aborted: Vec<(i64, i64, i64)>,
    /// It was sought back, so some records are read again.
    is_reread: bool,
}

struct Open {
    batch: Bytes,
    end: i64,
    records: Records,
    /// The offset of the next record, as far as that is known.
    at: i64,
}

/// What comes next of a partition.
pub(super) enum Next {
    Record(Record),
    /// Records that cannot be read, from this offset on to the end of their batch.
    Unreadable {
        offset: i64,
        end: i64,
        batch: Bytes,
        reason: String,
    },
}

impl Part {
    pub(super) fn new(partition: TopicPartition, topic_id: Uuid, kind: Kind, next: i64) -> Self {
        Self {
            partition,
            topic_id,
            kind,
            next,
            out: 0,
            accepted: BTreeSet::new(),
            draining: None,
            paused: None,
            buffer: VecDeque::new(),
            open: None,
            aborted: Vec::new(),
            is_reread: false,
        }
    }

    /// Whether everything fetched was read.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.open.is_none()
    }

    /// Forgets what was fetched and reads again from `offset`.
    pub(super) fn seek(&mut self, offset: i64) {
        self.clear();
        self.next = offset;
        self.is_reread = true;
    }

    /// Forgets what was fetched.
    pub(super) fn clear(&mut self) {
        self.buffer.clear();
        self.open = None;
    }

    /// Takes what was fetched.
    pub(super) fn fill(&mut self, fetched: &FetchedPartition, batches: Vec<Bytes>) {
        self.aborted = fetched
            .aborted
            .iter()
            .map(|one| (one.producer_id, one.first_offset, one.last_offset))
            .collect();
        for mut neighbours in batches {
            while !neighbours.is_empty() {
                let split = Batch::split(&neighbours);
                let split =
                    split.and_then(|(batch, rest)| Ok((Batch::span(&batch)?.1, batch, rest)));
                match split {
                    Ok((end, batch, rest)) => {
                        self.next = self.next.max(end);
                        self.buffer.push_back(batch);
                        neighbours = rest;
                    }
                    Err(error) => {
                        // The log gives whole batches; this has no offsets to skip to.
                        let (topic, partition) = (&self.partition.topic, self.partition.partition);
                        tracing::error!(%topic, partition, %error, "what came from the log is no batch; reading it again");
                        return;
                    }
                }
            }
        }
    }

    /// The next record that counts.
    pub(super) fn next(&mut self, slot: Slot, tracker: &mut Tracker) -> Option<Next> {
        loop {
            if let Some(open) = &mut self.open {
                match open.records.next() {
                    Some(Ok(record)) => {
                        open.at = record.offset + 1;
                        return Some(Next::Record(record));
                    }
                    Some(Err(error)) => {
                        return Some(Next::Unreadable {
                            offset: open.at,
                            end: open.end,
                            batch: open.batch.clone(),
                            reason: error.message,
                        });
                    }
                    None => {
                        let end = open.end;
                        self.open = None;
                        self.passed(slot, tracker, end);
                    }
                }
                continue;
            }
            let batch = self.buffer.pop_front()?;
            if let Some(unreadable) = self.open(slot, tracker, batch) {
                return Some(unreadable);
            }
        }
    }

    fn open(&mut self, slot: Slot, tracker: &mut Tracker, bytes: Bytes) -> Option<Next> {
        let (base, end) = Batch::span(&bytes).ok()?;
        match Batch::open(&bytes) {
            Ok(Batch {
                content:
                    Content::Records {
                        transaction,
                        records,
                    },
                ..
            }) if !self.is_aborted(transaction, end) => {
                self.open = Some(Open {
                    batch: bytes,
                    end,
                    records,
                    at: base,
                });
                None
            }
            Ok(_) => {
                self.passed(slot, tracker, end);
                None
            }
            Err(error) => Some(Next::Unreadable {
                offset: base,
                end,
                batch: bytes,
                reason: error.message,
            }),
        }
    }

    fn is_aborted(&self, transaction: Option<i64>, end: i64) -> bool {
        let aborted = self.aborted.iter();
        transaction.is_some_and(|producer| {
            aborted
                .filter(|(of, _, _)| *of == producer)
                .any(|(_, first, last)| *first < end && end <= last + 1)
        })
    }

    /// Everything before `end` was read.
    pub(super) fn passed(&mut self, slot: Slot, tracker: &mut Tracker, end: i64) {
        if self.is_reread {
            // Releasing seeks back at once: what is released before here was not found again.
            tracker.gone(slot, i64::MIN, end);
            self.is_reread = tracker
                .position(slot)
                .is_some_and(|position| end < position);
        }
        tracker.read_to(slot, end);
    }

    /// Leaves the rest of the open batch.
    pub(super) fn skip_open(&mut self) {
        self.open = None;
    }

    /// The log begins at `start`, beyond what was to be fetched.
    pub(super) fn skip_to(&mut self, slot: Slot, tracker: &mut Tracker, start: i64) {
        self.clear();
        tracker.gone(slot, i64::MIN, start);
        tracker.read_to(slot, start);
        self.next = start;
    }
}
