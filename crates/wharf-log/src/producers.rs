//! Producers: which batch is next, which is a duplicate, whose transaction is open (KIP-98, KIP-185,
//! KIP-890).
//!
//! Invariants: the last five batches of a producer are remembered, so five requests in flight can
//! be repeated in any state of failure; a decision depends only on what was committed before, in
//! the committer's order; a producer with an open transaction is never forgotten. Nothing here reads
//! a clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wharf_message::Timestamp;

use crate::frame::{MarkerEntry, ProducerEntry};
use crate::{CommitError, ProducerSnapshot};

/// How many batches are remembered per producer: the most requests a client keeps in flight.
const REMEMBERED: usize = 5;

/// A batch of a producer as remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) first_sequence: i32,
    pub(crate) base_offset: i64,
    pub(crate) last_delta: u32,
    pub(crate) max_timestamp: i64,
}

impl Remembered {
    fn last_sequence(&self) -> i32 {
        advance(self.first_sequence, self.last_delta)
    }
}

/// A producer in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) epoch: i16,
    /// When its last batch came.
    pub(crate) time: Timestamp,
    /// The first offset of its open transaction.
    pub(crate) transaction_start: Option<i64>,
    /// The epoch of the coordinator that ended its last transaction; -1 if none did.
    pub(crate) coordinator_epoch: i32,
    /// Oldest first; `count` of them are set.
    batches: [Remembered; REMEMBERED],
    count: u8,
}

/// What a batch is to a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The next one.
    Next,
    /// One that was appended before.
    Duplicate(Remembered),
}

/// The sequence `by` places after `sequence`; after the largest comes 0.
fn advance(sequence: i32, by: u32) -> i32 {
    let sum = i64::from(sequence) + i64::from(by);
    i32::try_from(sum % (i64::from(i32::MAX) + 1)).unwrap_or(0)
}

/// Whether `left` comes before `right` on the circle of sequences (at most half of it away).
fn precedes(left: i32, right: i32) -> bool {
    let distance = (i64::from(right) - i64::from(left)).rem_euclid(i64::from(i32::MAX) + 1);
    distance > 0 && distance <= i64::from(i32::MAX) / 2
}

impl Producer {
    /// A producer of whom nothing but the epoch is known.
    pub(crate) fn new(epoch: i16, time: Timestamp) -> Self {
        Self {
            epoch,
            time,
            transaction_start: None,
            coordinator_epoch: -1,
            batches: [Remembered::default(); REMEMBERED],
            count: 0,
        }
    }

    /// The remembered batches, oldest first.
    pub(crate) fn batches(&self) -> &[Remembered] {
        &self.batches[..usize::from(self.count)]
    }

    /// Remembers a batch, forgetting the oldest when there are too many.
    pub(crate) fn remember(&mut self, batch: Remembered) {
        if usize::from(self.count) == REMEMBERED {
            self.batches.rotate_left(1);
        } else {
            self.count += 1;
        }
        self.batches[usize::from(self.count) - 1] = batch;
    }

    /// The next sequence expected.
    fn expected(&self) -> i32 {
        self.batches()
            .last()
            .map_or(0, |batch| advance(batch.last_sequence(), 1))
    }

    fn expired(&self, now: Timestamp, expiry: Duration) -> bool {
        self.transaction_start.is_none() && now.since(self.time) > expiry
    }
}

/// What a batch with this producer entry and `last_delta` is, given what is known of the producer.
pub(crate) fn judge(
    known: Option<&Producer>,
    entry: ProducerEntry,
    last_delta: u32,
) -> Result<Verdict, CommitError> {
    let verdict = judge_sequence(known, entry, last_delta)?;
    let open = known.filter(|known| known.transaction_start.is_some());
    let stranger = |known: &Producer| !entry.transactional || entry.epoch != known.epoch;
    if verdict == Verdict::Next && open.is_some_and(stranger) {
        return Err(CommitError::InvalidTransactionState);
    }
    Ok(verdict)
}

/// Whether a transaction of this producer may be ended by such a marker.
pub(crate) fn judge_marker(
    known: Option<&Producer>,
    marker: MarkerEntry,
) -> Result<(), CommitError> {
    let Some(known) = known else { return Ok(()) };
    let (current, found) = (known.epoch, marker.epoch);
    if found < current {
        return Err(CommitError::InvalidProducerEpoch { current, found });
    }
    let (current, found) = (known.coordinator_epoch, marker.coordinator_epoch);
    if found < current {
        return Err(CommitError::CoordinatorFenced { current, found });
    }
    Ok(())
}

fn judge_sequence(
    known: Option<&Producer>,
    entry: ProducerEntry,
    last_delta: u32,
) -> Result<Verdict, CommitError> {
    let found = entry.first_sequence;
    let Some(known) = known else {
        return if found == 0 {
            Ok(Verdict::Next)
        } else {
            Err(CommitError::UnknownProducer)
        };
    };
    if entry.epoch < known.epoch {
        return Err(CommitError::InvalidProducerEpoch {
            current: known.epoch,
            found: entry.epoch,
        });
    }
    if entry.epoch > known.epoch {
        return match found {
            0 => Ok(Verdict::Next),
            found => Err(CommitError::OutOfOrderSequence { expected: 0, found }),
        };
    }
    let same =
        |batch: &&Remembered| batch.first_sequence == found && batch.last_delta == last_delta;
    if let Some(batch) = known.batches().iter().find(same) {
        return Ok(Verdict::Duplicate(*batch));
    }
    let expected = known.expected();
    if found == expected {
        return Ok(Verdict::Next);
    }
    let last = advance(found, last_delta);
    if known
        .batches()
        .first()
        .is_some_and(|oldest| precedes(last, oldest.first_sequence))
    {
        return Err(CommitError::DuplicateSequence);
    }
    Err(CommitError::OutOfOrderSequence { expected, found })
}

/// The producer after a batch that [`judge`] called the next one.
pub(crate) fn after(
    known: Option<&Producer>,
    entry: ProducerEntry,
    batch: Remembered,
    time: Timestamp,
) -> Producer {
    let mut producer = in_epoch(known, entry.epoch, time);
    producer.remember(batch);
    // A transaction that is still open here when another epoch comes lost its marker to damage: its
    // outcome is that of the next one.
    producer.transaction_start = known
        .and_then(|known| known.transaction_start)
        .or(entry.transactional.then_some(batch.base_offset));
    producer
}

/// The producer after a marker.
pub(crate) fn ended(known: Option<&Producer>, marker: MarkerEntry, time: Timestamp) -> Producer {
    Producer {
        transaction_start: None,
        coordinator_epoch: marker.coordinator_epoch,
        ..in_epoch(known, marker.epoch, time)
    }
}

/// The producer, without its batches when the epoch is another one.
fn in_epoch(known: Option<&Producer>, epoch: i16, time: Timestamp) -> Producer {
    match known {
        Some(known) if known.epoch == epoch => Producer { time, ..*known },
        Some(known) => Producer {
            coordinator_epoch: known.coordinator_epoch,
            ..Producer::new(epoch, time)
        },
        None => Producer::new(epoch, time),
    }
}

/// The producers of a partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Producers {
    by_id: BTreeMap<i64, Producer>,
    /// The open transactions: first offset and producer.
    open: BTreeSet<(i64, i64)>,
}

impl Producers {
    /// A producer, unless it has been idle for longer than `expiry`.
    pub(crate) fn get(&self, id: i64, now: Timestamp, expiry: Duration) -> Option<&Producer> {
        self.by_id
            .get(&id)
            .filter(|producer| !producer.expired(now, expiry))
    }

    /// Remembers a batch; nothing of a producer that had been idle for longer than `expiry`. Returns
    /// whether it begins a transaction.
    pub(crate) fn record(
        &mut self,
        entry: ProducerEntry,
        batch: Remembered,
        time: Timestamp,
        expiry: Duration,
    ) -> bool {
        let known = self.get(entry.id, time, expiry);
        let was_open = known.is_some_and(|known| known.transaction_start.is_some());
        let producer = after(known, entry, batch, time);
        self.insert(entry.id, producer);
        !was_open && producer.transaction_start.is_some()
    }

    /// Ends a transaction; returns its first offset, if it was open.
    pub(crate) fn end(
        &mut self,
        marker: MarkerEntry,
        time: Timestamp,
        expiry: Duration,
    ) -> Option<i64> {
        let known = self.get(marker.producer, time, expiry);
        let start = known.and_then(|known| known.transaction_start);
        let producer = ended(known, marker, time);
        self.insert(marker.producer, producer);
        start
    }

    pub(crate) fn insert(&mut self, id: i64, producer: Producer) {
        if let Some(start) = producer.transaction_start {
            self.open.insert((start, id));
        }
        let before = self.by_id.insert(id, producer);
        let ended = before.and_then(|before| before.transaction_start);
        if let Some(start) = ended.filter(|start| producer.transaction_start != Some(*start)) {
            self.open.remove(&(start, id));
        }
    }

    /// Where the earliest open transaction begins.
    pub(crate) fn first_open(&self) -> Option<i64> {
        self.open.first().map(|(start, _)| *start)
    }

    /// The producers with an open transaction.
    pub(crate) fn open(&self) -> impl Iterator<Item = i64> {
        self.open.iter().map(|(_, id)| *id)
    }

    /// Forgets the longest idle beyond `max`.
    pub(crate) fn limit(&mut self, max: usize) {
        while self.by_id.len() > max.max(1) {
            let idle = self.by_id.iter();
            let idle = idle.filter(|(_, producer)| producer.transaction_start.is_none());
            let idlest = idle.min_by_key(|(_, producer)| producer.time);
            let Some((&id, _)) = idlest else { return };
            self.by_id.remove(&id);
        }
    }

    /// Forgets those idle for longer than `expiry`.
    pub(crate) fn expire(&mut self, now: Timestamp, expiry: Duration) {
        self.by_id
            .retain(|_, producer| !producer.expired(now, expiry));
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (i64, &Producer)> {
        self.by_id.iter().map(|(&id, producer)| (id, producer))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn snapshots(&self) -> Vec<ProducerSnapshot> {
        let snapshot = |(id, producer): (i64, &Producer)| ProducerSnapshot {
            producer_id: id,
            epoch: producer.epoch,
            last_sequence: producer
                .batches()
                .last()
                .map_or(-1, Remembered::last_sequence),
            last_timestamp: producer.time,
            transaction_start: producer.transaction_start,
            coordinator_epoch: producer.coordinator_epoch,
        };
        self.iter().map(snapshot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(epoch: i16, first_sequence: i32) -> ProducerEntry {
        ProducerEntry {
            id: 1,
            epoch,
            first_sequence,
            transactional: false,
        }
    }

    fn append(
        known: Option<&Producer>,
        epoch: i16,
        sequence: i32,
        count: u32,
        at: i64,
    ) -> Producer {
        let entry = entry(epoch, sequence);
        assert_eq!(judge(known, entry, count - 1), Ok(Verdict::Next));
        let batch = Remembered {
            first_sequence: sequence,
            base_offset: at,
            last_delta: count - 1,
            max_timestamp: 0,
        };
        after(known, entry, batch, Timestamp::ZERO)
    }

    #[test]
    fn five_batches_are_recognised_and_the_sixth_is_too_old() {
        let mut producer = append(None, 0, 0, 2, 100);
        for index in 1..6 {
            producer = append(Some(&producer), 0, index * 2, 2, 100 + i64::from(index) * 2);
        }
        for index in 1..6 {
            let verdict = judge(Some(&producer), entry(0, index * 2), 1).unwrap();
            let Verdict::Duplicate(batch) = verdict else {
                panic!("{verdict:?}")
            };
            assert_eq!(batch.base_offset, 100 + i64::from(index) * 2);
        }
        assert_eq!(
            judge(Some(&producer), entry(0, 0), 1),
            Err(CommitError::DuplicateSequence)
        );
        let torn = judge(Some(&producer), entry(0, 3), 1);
        assert_eq!(
            torn,
            Err(CommitError::OutOfOrderSequence {
                expected: 12,
                found: 3
            })
        );
    }

    #[test]
    fn a_gap_is_out_of_order() {
        let producer = append(None, 0, 0, 1, 0);
        let refused = judge(Some(&producer), entry(0, 2), 0);
        assert_eq!(
            refused,
            Err(CommitError::OutOfOrderSequence {
                expected: 1,
                found: 2
            })
        );
    }

    #[test]
    fn a_new_epoch_starts_at_zero_and_fences_the_old_one() {
        let producer = append(None, 3, 0, 1, 0);
        let refused = judge(Some(&producer), entry(4, 1), 0);
        assert_eq!(
            refused,
            Err(CommitError::OutOfOrderSequence {
                expected: 0,
                found: 1
            })
        );
        let producer = append(Some(&producer), 4, 0, 1, 1);
        let refused = judge(Some(&producer), entry(3, 1), 0);
        assert_eq!(
            refused,
            Err(CommitError::InvalidProducerEpoch {
                current: 4,
                found: 3
            })
        );
    }

    #[test]
    fn an_unknown_producer_must_start_at_zero() {
        assert_eq!(
            judge(None, entry(0, 5), 0),
            Err(CommitError::UnknownProducer)
        );
    }

    #[test]
    fn sequences_wrap_after_the_largest() {
        let mut producer = Producer::new(0, Timestamp::ZERO);
        producer.remember(Remembered {
            first_sequence: i32::MAX - 1,
            base_offset: 0,
            last_delta: 0,
            max_timestamp: 0,
        });
        let producer = append(Some(&producer), 0, i32::MAX, 3, 1);
        assert_eq!(producer.expected(), 2);
        let producer = append(Some(&producer), 0, 2, 1, 4);
        assert_eq!(
            judge(Some(&producer), entry(0, i32::MAX - 2), 0),
            Err(CommitError::DuplicateSequence)
        );
    }

    #[test]
    fn the_longest_idle_is_forgotten_first_and_the_expired_are_unknown() {
        let mut producers = Producers::default();
        for id in 0..4 {
            let entry = ProducerEntry {
                id,
                epoch: 0,
                first_sequence: 0,
                transactional: false,
            };
            producers.record(
                entry,
                Remembered::default(),
                Timestamp::from_millis(10 - id),
                Duration::from_secs(1),
            );
        }
        producers.limit(3);
        let left: Vec<_> = producers.iter().map(|(id, _)| id).collect();
        assert_eq!(left, [0, 1, 2]);
        let expiry = Duration::from_millis(5);
        assert!(
            producers
                .get(2, Timestamp::from_millis(13), expiry)
                .is_some()
        );
        assert!(
            producers
                .get(2, Timestamp::from_millis(14), expiry)
                .is_none()
        );
        producers.expire(Timestamp::from_millis(14), expiry);
        assert_eq!(producers.iter().len(), 2);
    }
    #[test]
    fn a_producer_that_comes_back_after_it_expired_starts_anew() {
        let mut producers = Producers::default();
        let expiry = Duration::from_millis(5);
        for (sequence, offset, time) in [(0, 100, 0), (1, 101, 1), (0, 200, 7)] {
            let batch = Remembered {
                first_sequence: sequence,
                base_offset: offset,
                ..Remembered::default()
            };
            let time = Timestamp::from_millis(time);
            producers.record(entry(0, sequence), batch, time, expiry);
        }
        let known = producers.get(1, Timestamp::from_millis(7), expiry);
        // An old batch with the same sequence must not pass for this one.
        assert_eq!(judge(known, entry(0, 1), 0), Ok(Verdict::Next));
    }
}
