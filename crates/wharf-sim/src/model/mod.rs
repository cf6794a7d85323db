//! The log as its promises describe it: a few maps, no files, no failures.
//!
//! Invariant: [`Model::apply`] changes everything a unit asks for or nothing, and answers as the
//! log must. It knows nothing of journals, segments or syncs, so it shares no mistake with them.

mod transactions;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use wharf_log::batch::{self, Header, MARKER_BYTES, Marker};
use wharf_log::{
    Append, Appended, Clock, CommitError, Committed, Condition, PartitionChange, PartitionId, Unit,
};
use wharf_message::Timestamp;

use crate::view::Remembered;

/// How many batches of a producer are remembered.
const REMEMBERED: usize = 5;

/// Everything a log holds.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// The partitions that exist.
    pub partitions: BTreeMap<PartitionId, Partition>,
    /// The durable key-value state.
    pub state: BTreeMap<Bytes, Bytes>,
    /// After which idleness a producer is forgotten.
    pub producer_expiry: Duration,
    /// Whether retention, which no unit asks for, may have moved starts beyond what units ask for.
    pub starts_ahead: bool,
}

/// A partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// The first offset kept.
    pub start: i64,
    /// One past the last record.
    pub end: i64,
    /// The batches kept, in order; the first may begin before `start`.
    pub batches: VecDeque<Batch>,
    /// Idempotent producers by id.
    pub producers: BTreeMap<i64, Producer>,
}

/// An appended batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The offset of its first record.
    pub base: i64,
    /// The offset of its last record.
    pub last: i64,
    /// As submitted; nothing for a marker.
    pub bytes: Bytes,
    /// What it says, if it is the end of a transaction.
    pub marker: Option<Marker>,
    /// The time of the append, when that stamps the records.
    pub append_time: Option<Timestamp>,
    /// The time of the newest record.
    pub max_time: Timestamp,
}

impl Batch {
    /// Its size as stored.
    pub fn size(&self) -> usize {
        if self.marker.is_some() {
            MARKER_BYTES
        } else {
            self.bytes.len()
        }
    }
}

/// An idempotent producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// The newest epoch seen.
    pub epoch: i16,
    /// When its last batch came.
    pub time: Timestamp,
    /// The first offset of its open transaction.
    pub transaction: Option<i64>,
    /// The epoch of the coordinator that ended its last transaction.
    coordinator_epoch: i32,
    /// Its last batches, oldest first.
    recent: VecDeque<Recent>,
}

/// A batch that its producer may repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Recent {
    first_sequence: i32,
    last_sequence: i32,
    base: i64,
    last: i64,
    max_time: Timestamp,
}

impl Producer {
    fn new(epoch: i16, time: Timestamp) -> Self {
        Self {
            epoch,
            time,
            transaction: None,
            coordinator_epoch: -1,
            recent: VecDeque::new(),
        }
    }

    /// As a view shows it.
    pub fn remembered(&self) -> Remembered {
        (self.epoch, self.expected() - 1, self.transaction)
    }

    fn is_known(&self, now: Timestamp, expiry: Duration) -> bool {
        self.transaction.is_some() || now.since(self.time) <= expiry
    }

    /// The sequence its next batch must have.
    pub fn expected(&self) -> i32 {
        self.recent
            .back()
            .map_or(0, |batch| batch.last_sequence + 1)
    }
}

impl Model {
    /// An empty log that forgets producers after `producer_expiry`.
    pub fn new(producer_expiry: Duration) -> Self {
        Self {
            producer_expiry,
            ..Self::default()
        }
    }

    /// Commits `unit` at `now`, or says why not; then nothing changed.
    pub fn apply(&mut self, unit: &Unit, now: Timestamp) -> Result<Committed, CommitError> {
        for (index, condition) in unit.conditions.iter().enumerate() {
            if !self.holds(condition) {
                return Err(CommitError::ConditionFailed(index));
            }
        }
        let mut staged: BTreeMap<PartitionId, Option<Partition>> = BTreeMap::new();
        for change in &unit.partitions {
            self.change(&mut staged, *change)?;
        }
        let mut committed = Committed::default();
        for append in &unit.appends {
            committed
                .appends
                .push(self.append(&mut staged, append, now)?);
        }
        for end in &unit.transactions {
            self.end(&mut staged, end, now, &mut committed.ended)?;
        }
        for (id, partition) in staged {
            match partition {
                Some(partition) => self.partitions.insert(id, partition),
                None => self.partitions.remove(&id),
            };
        }
        for change in &unit.state {
            match &change.value {
                Some(value) => self.state.insert(change.key.clone(), value.clone()),
                None => self.state.remove(&change.key),
            };
        }
        Ok(committed)
    }

    /// Whether `unit` would pass, and needs room for batches: its own that are not there already,
    /// or the markers of a transaction that it ends.
    pub fn adds_batches(&self, unit: &Unit, now: Timestamp) -> bool {
        if unit.appends.is_empty() && unit.transactions.is_empty() {
            return false;
        }
        match self.clone().apply(unit, now) {
            Ok(committed) => {
                !committed.ended.is_empty() || committed.appends.iter().any(|one| !one.duplicate)
            }
            Err(_) => false,
        }
    }

    /// Takes over that records before `start` went by retention.
    pub fn adopt_start(&mut self, id: PartitionId, start: i64) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.advance(start);
        }
    }

    /// What is in this one and still in `later`, whichever of the two is found.
    #[must_use]
    pub fn in_common_with(mut self, later: &Self) -> Self {
        self.partitions
            .retain(|id, _| later.partitions.contains_key(id));
        for (id, partition) in &mut self.partitions {
            partition.advance(later.partitions[id].start);
        }
        self.state
            .retain(|key, value| later.state.get(key) == Some(value));
        self
    }

    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::StateEquals { key, value } => self.state.get(key) == value.as_ref(),
            Condition::NextOffset { partition, offset } => self
                .partitions
                .get(partition)
                .is_some_and(|found| found.end == *offset),
        }
    }

    fn staged<'a>(
        &self,
        staged: &'a mut BTreeMap<PartitionId, Option<Partition>>,
        id: PartitionId,
    ) -> &'a mut Option<Partition> {
        staged
            .entry(id)
            .or_insert_with(|| self.partitions.get(&id).cloned())
    }

    fn change(
        &self,
        staged: &mut BTreeMap<PartitionId, Option<Partition>>,
        change: PartitionChange,
    ) -> Result<(), CommitError> {
        match change {
            PartitionChange::Create(id) => {
                let partition = self.staged(staged, id);
                if partition.is_some() {
                    return Err(CommitError::PartitionExists(id));
                }
                *partition = Some(Partition::default());
            }
            PartitionChange::Remove(id) => {
                let partition = self.staged(staged, id);
                if partition.take().is_none() {
                    return Err(CommitError::UnknownPartition(id));
                }
            }
            PartitionChange::AdvanceStart {
                partition: id,
                offset,
            } => {
                let Some(partition) = self.staged(staged, id) else {
                    return Err(CommitError::UnknownPartition(id));
                };
                let Partition { start, end, .. } = *partition;
                let below = offset < start && !self.starts_ahead;
                if below || offset > end {
                    return Err(CommitError::OffsetOutOfRange { offset, start, end });
                }
                partition.advance(offset);
            }
        }
        Ok(())
    }

    fn append(
        &self,
        staged: &mut BTreeMap<PartitionId, Option<Partition>>,
        append: &Append,
        now: Timestamp,
    ) -> Result<Appended, CommitError> {
        let expiry = self.producer_expiry;
        let Some(partition) = self.staged(staged, append.partition) else {
            return Err(CommitError::UnknownPartition(append.partition));
        };
        let header = batch::header(&append.batch).expect("the workload builds valid batches");
        let producer = partition
            .producers
            .get(&header.producer_id)
            .filter(|producer| producer.is_known(now, expiry));
        if let Some(first) = judge(producer, &header)? {
            return Ok(Appended {
                base_offset: first.base,
                last_offset: first.last,
                log_start: partition.start,
                append_time: (append.clock == Clock::LogAppendTime).then_some(first.max_time),
                duplicate: true,
            });
        }
        let foreign = |producer: &Producer| {
            !header.is_transactional() || header.producer_epoch != producer.epoch
        };
        if producer.is_some_and(|one| one.transaction.is_some() && foreign(one)) {
            return Err(CommitError::InvalidTransactionState);
        }
        let known = producer.is_some();
        Ok(partition.push(append, &header, known, now))
    }
}

impl Partition {
    fn advance(&mut self, start: i64) {
        self.start = self.start.max(start);
        while self
            .batches
            .front()
            .is_some_and(|batch| batch.last < self.start)
        {
            self.batches.pop_front();
        }
    }

    fn push(&mut self, append: &Append, header: &Header, known: bool, now: Timestamp) -> Appended {
        let base = self.end;
        let last = base + i64::from(header.last_offset_delta);
        self.end = last + 1;
        let append_time = (append.clock == Clock::LogAppendTime).then_some(now);
        let max_time = append_time.unwrap_or(Timestamp::from_millis(header.max_timestamp));
        let bytes = append.batch.clone();
        self.batches.push_back(Batch {
            base,
            last,
            bytes,
            marker: None,
            append_time,
            max_time,
        });
        // Retention was seen to move the start before this append's outcome was known.
        self.advance(self.start);
        if header.producer_id >= 0 {
            let first_sequence = header.base_sequence;
            let last_sequence = first_sequence + header.last_offset_delta;
            let recent = Recent {
                first_sequence,
                last_sequence,
                base,
                last,
                max_time,
            };
            self.remember(header, known, recent, now);
        }
        Appended {
            base_offset: base,
            last_offset: last,
            log_start: self.start,
            append_time,
            duplicate: false,
        }
    }

    fn remember(&mut self, header: &Header, known: bool, recent: Recent, now: Timestamp) {
        let producer = self.producer_in(header.producer_id, header.producer_epoch, known, now);
        if header.is_transactional() {
            producer.transaction.get_or_insert(recent.base);
        }
        if producer.recent.len() == REMEMBERED {
            producer.recent.pop_front();
        }
        producer.recent.push_back(recent);
    }

    /// A producer moved on to an epoch, under which nothing of an older one is remembered.
    fn producer_in(&mut self, id: i64, epoch: i16, known: bool, now: Timestamp) -> &mut Producer {
        let producer = self
            .producers
            .entry(id)
            .or_insert_with(|| Producer::new(epoch, now));
        if !known {
            *producer = Producer::new(epoch, now);
        } else if producer.epoch != epoch {
            *producer = Producer {
                coordinator_epoch: producer.coordinator_epoch,
                ..Producer::new(epoch, now)
            };
        }
        producer.time = now;
        producer
    }
}

/// Whether a batch is the next of its producer (`None`), a duplicate (what it was then), or refused.
/// Sequences do not wrap here: no simulation appends 2^31 records.
fn judge(known: Option<&Producer>, header: &Header) -> Result<Option<Recent>, CommitError> {
    let (epoch, found) = (header.producer_epoch, header.base_sequence);
    if header.producer_id < 0 {
        return Ok(None);
    }
    let Some(producer) = known else {
        return if found == 0 {
            Ok(None)
        } else {
            Err(CommitError::UnknownProducer)
        };
    };
    if epoch < producer.epoch {
        return Err(CommitError::InvalidProducerEpoch {
            current: producer.epoch,
            found: epoch,
        });
    }
    let expected = if epoch > producer.epoch {
        0
    } else {
        producer.expected()
    };
    if found == expected {
        return Ok(None);
    }
    if epoch == producer.epoch {
        let last = found + header.last_offset_delta;
        let same = |batch: &&Recent| (batch.first_sequence, batch.last_sequence) == (found, last);
        if let Some(batch) = producer.recent.iter().find(same) {
            return Ok(Some(*batch));
        }
        let oldest = producer.recent.front();
        if oldest.is_some_and(|oldest| last < oldest.first_sequence) {
            return Err(CommitError::DuplicateSequence);
        }
    }
    Err(CommitError::OutOfOrderSequence { expected, found })
}

#[cfg(test)]
mod tests {
    use wharf_log::batch::{self, Record};

    use super::*;

    #[test]
    fn a_batch_is_gone_when_the_start_was_seen_to_pass_it_before_its_outcome_was_known() {
        let id = PartitionId(1);
        let append = |value: &'static [u8]| Unit {
            appends: vec![Append {
                partition: id,
                batch: batch::build(
                    &[Record {
                        value: Some(Bytes::from_static(value)),
                        ..Record::default()
                    }],
                    None,
                ),
                clock: Clock::CreateTime,
            }],
            ..Unit::default()
        };
        let mut model = Model::new(Duration::from_secs(1));
        let create = Unit {
            partitions: vec![PartitionChange::Create(id)],
            ..Unit::default()
        };
        model.apply(&create, Timestamp::ZERO).unwrap();
        model.adopt_start(id, 1);
        model.apply(&append(b"below"), Timestamp::ZERO).unwrap();
        model.apply(&append(b"kept"), Timestamp::ZERO).unwrap();
        let bases = model.partitions[&id].batches.iter().map(|batch| batch.base);
        assert_eq!(bases.collect::<Vec<_>>(), [1]);
    }
}
