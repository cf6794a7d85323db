//! Planning a group: which units are admitted, at which offsets, judged one after the other on a
//! draft of what the log will be.
//!
//! Invariants: a refused unit leaves no trace in the draft (every change is undone); earlier units of
//! the group count for later ones; nothing here changes what readers see, writes, or syncs. Batch
//! payloads are never decoded.

mod transactions;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use wharf_message::Timestamp;

use crate::batch;
use crate::frame::{AppendEntry, Entry, Origin, ProducerEntry};
use crate::partition::Partition;
use crate::producers::{self, Producer, Remembered, Verdict};
use crate::shared::Shared;
use crate::sync::read;
use crate::unit::{Append, Appended, Clock, CommitError, Committed, Condition, Unit};
use crate::{PartitionChange, PartitionId, StateChange};

/// What an entry costs in a frame beside its own bytes, at most.
const ENTRY_BYTES_MAX: usize = 64;

/// A batch to be copied into the frame.
#[derive(Debug)]
struct Piece {
    batch: Bytes,
    base_offset: i64,
    append_time: Option<Timestamp>,
}

/// Where a batch goes.
#[derive(Clone, Copy, Debug)]
struct Place {
    partition: PartitionId,
    base_offset: i64,
    last_delta: u32,
    max_timestamp: i64,
    append_time: Option<Timestamp>,
    origin: Origin,
}

/// A partition as the group sees it.
#[derive(Debug)]
struct Draft {
    exists: bool,
    start: i64,
    end: i64,
    /// The committed partition, for its producers; `None` when the group created it.
    base: Option<Arc<Partition>>,
}

/// A producer in a partition.
type ProducerKey = (i64, PartitionId);

/// How to take a change back.
#[derive(Debug)]
enum Undo {
    Partition {
        id: PartitionId,
        exists: bool,
        start: i64,
        end: i64,
    },
    Producer {
        key: ProducerKey,
        before: Option<Producer>,
    },
    State {
        key: Bytes,
        before: Option<Option<Bytes>>,
    },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    shared: &'a Shared,
    now: Timestamp,
    partitions: BTreeMap<PartitionId, Draft>,
    /// Producers that the group moved on.
    producers: BTreeMap<ProducerKey, Producer>,
    state: BTreeMap<Bytes, Option<Bytes>>,
    undo: Vec<Undo>,
    entries: Vec<Entry>,
    pieces: Vec<Piece>,
}

/// What is left of a full disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// What is kept for units that free space: none for batches.
    Reserve,
    /// Nothing.
    None,
}

/// What a planned group writes.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) entries: Vec<Entry>,
    pieces: Vec<Piece>,
    pub(crate) payload_bytes: usize,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(shared: &'a Shared, now: Timestamp) -> Self {
        Self {
            shared,
            now,
            partitions: BTreeMap::new(),
            producers: BTreeMap::new(),
            state: BTreeMap::new(),
            undo: Vec::new(),
            entries: Vec::new(),
            pieces: Vec::new(),
        }
    }

    /// The most that `unit` can add to the frame.
    pub(crate) fn unit_bytes(&self, unit: &Unit) -> usize {
        let appends = unit.appends.iter().map(|append| append.batch.len());
        let state = unit
            .state
            .iter()
            .map(|change| change.key.len() + change.value.as_ref().map_or(0, Bytes::len));
        let entries = unit.partitions.len() + unit.appends.len() + unit.state.len();
        let bytes = appends.chain(state).sum::<usize>() + entries * ENTRY_BYTES_MAX;
        let markers = unit.transactions.iter().map(|end| match &end.partitions {
            Some(partitions) => partitions.len(),
            None => self.open_count(end.producer) + unit.appends.len(),
        });
        bytes + markers.sum::<usize>() * transactions::MARKER_BYTES_MAX
    }

    /// Judges a unit and, when it passes, adds it to the group.
    pub(crate) fn admit(&mut self, unit: &Unit) -> Result<Committed, CommitError> {
        self.admit_if(unit, |_entries| Ok(()))
    }

    /// The same on a full disk. A batch that its producer sends again needs no room; where there is
    /// none for another, that is why its unit is refused, whatever else is wrong with it: what it
    /// follows may have been refused for the same reason.
    pub(crate) fn admit_into(&mut self, room: Room, unit: &Unit) -> Result<Committed, CommitError> {
        let needs_more = |entry: &Entry| match room {
            Room::Reserve => matches!(entry, Entry::Append(_)),
            Room::None => true,
        };
        let outcome = self.admit_if(unit, |entries| match entries.iter().any(needs_more) {
            true => Err(CommitError::DiskFull),
            false => Ok(()),
        });
        let appends = !unit.appends.is_empty() || !unit.transactions.is_empty();
        outcome.map_err(|error| match appends || room == Room::None {
            true => CommitError::DiskFull,
            false => error,
        })
    }

    /// Judges a unit; `may` is asked about what it adds to the frame.
    fn admit_if(
        &mut self,
        unit: &Unit,
        may: impl FnOnce(&[Entry]) -> Result<(), CommitError>,
    ) -> Result<Committed, CommitError> {
        let (entries, pieces) = (self.entries.len(), self.pieces.len());
        let outcome = self.try_admit(unit);
        let outcome = outcome.and_then(|committed| {
            may(&self.entries[entries..])?;
            Ok(committed)
        });
        if outcome.is_err() {
            self.entries.truncate(entries);
            self.pieces.truncate(pieces);
            self.take_back();
        }
        self.undo.clear();
        outcome
    }

    fn try_admit(&mut self, unit: &Unit) -> Result<Committed, CommitError> {
        for (index, condition) in unit.conditions.iter().enumerate() {
            if !self.holds(condition) {
                return Err(CommitError::ConditionFailed(index));
            }
        }
        for change in &unit.partitions {
            self.change_partition(*change)?;
        }
        let mut committed = Committed::default();
        for append in &unit.appends {
            committed.appends.push(self.append(append)?);
        }
        for end in &unit.transactions {
            self.end_transaction(end, &mut committed.ended)?;
        }
        for change in &unit.state {
            self.change_state(change);
        }
        Ok(committed)
    }

    fn take_back(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Partition {
                    id,
                    exists,
                    start,
                    end,
                } => {
                    if let Some(draft) = self.partitions.get_mut(&id) {
                        (draft.exists, draft.start, draft.end) = (exists, start, end);
                    }
                }
                Undo::Producer {
                    key,
                    before: Some(before),
                } => {
                    self.producers.insert(key, before);
                }
                Undo::Producer { key, before: None } => {
                    self.producers.remove(&key);
                }
                Undo::State {
                    key,
                    before: Some(before),
                } => {
                    self.state.insert(key, before);
                }
                Undo::State { key, before: None } => {
                    self.state.remove(&key);
                }
            }
        }
    }

    fn holds(&mut self, condition: &Condition) -> bool {
        match condition {
            Condition::StateEquals { key, value } => match self.state.get(key) {
                Some(drafted) => drafted == value,
                None => read(&self.shared.state).get(key) == value.as_ref(),
            },
            Condition::NextOffset { partition, offset } => {
                let draft = self.draft(*partition);
                draft.exists && draft.end == *offset
            }
        }
    }

    /// The draft of a partition, made from the committed one when first asked for.
    fn draft(&mut self, id: PartitionId) -> &mut Draft {
        let shared = self.shared;
        self.partitions.entry(id).or_insert_with(|| {
            let base = shared.table.get(id);
            let bounds = base
                .as_ref()
                .map(|partition| read(&partition.data).bounds());
            Draft {
                exists: base.is_some(),
                start: bounds.map_or(0, |bounds| bounds.start),
                end: bounds.map_or(0, |bounds| bounds.end),
                base,
            }
        })
    }

    /// The draft of a partition that is about to change.
    fn draft_to_change(&mut self, id: PartitionId) -> &mut Draft {
        let draft = self.draft(id);
        let (exists, start, end) = (draft.exists, draft.start, draft.end);
        self.undo.push(Undo::Partition {
            id,
            exists,
            start,
            end,
        });
        self.draft(id)
    }

    fn change_partition(&mut self, change: PartitionChange) -> Result<(), CommitError> {
        match change {
            PartitionChange::Create(id) => {
                if self.draft(id).exists {
                    return Err(CommitError::PartitionExists(id));
                }
                let draft = self.draft_to_change(id);
                (draft.exists, draft.start, draft.end) = (true, 0, 0);
                self.entries.push(Entry::Create(id));
            }
            PartitionChange::Remove(id) => {
                if !self.draft(id).exists {
                    return Err(CommitError::UnknownPartition(id));
                }
                self.draft_to_change(id).exists = false;
                self.entries.push(Entry::Remove(id));
            }
            PartitionChange::AdvanceStart { partition, offset } => {
                let draft = self.draft(partition);
                if !draft.exists {
                    return Err(CommitError::UnknownPartition(partition));
                }
                let (start, end) = (draft.start, draft.end);
                if offset < start || offset > end {
                    return Err(CommitError::OffsetOutOfRange { offset, start, end });
                }
                if offset > start {
                    self.draft_to_change(partition).start = offset;
                    self.entries.push(Entry::AdvanceStart { partition, offset });
                }
            }
        }
        Ok(())
    }

    fn append(&mut self, append: &Append) -> Result<Appended, CommitError> {
        let draft = self.draft(append.partition);
        if !draft.exists {
            return Err(CommitError::UnknownPartition(append.partition));
        }
        let (base_offset, log_start) = (draft.end, draft.start);
        let header = batch::header(&append.batch)
            .ok()
            .filter(|header| header.batch_bytes() == append.batch.len() && !header.is_control())
            .ok_or(CommitError::InvalidBatch)?;
        let last_delta =
            u32::try_from(header.last_offset_delta).map_err(|_error| CommitError::InvalidBatch)?;
        let append_time = (append.clock == Clock::LogAppendTime).then_some(self.now);
        let max_timestamp = append_time.map_or(header.max_timestamp, Timestamp::as_millis);
        let fresh = Remembered {
            first_sequence: header.base_sequence,
            base_offset,
            last_delta,
            max_timestamp,
        };
        let mut origin = Origin::Plain;
        if header.has_producer() {
            let entry = ProducerEntry {
                id: header.producer_id,
                epoch: header.producer_epoch,
                first_sequence: header.base_sequence,
                transactional: header.is_transactional(),
            };
            origin = Origin::Producer(entry);
            if let Verdict::Duplicate(original) = self.sequence(append.partition, entry, fresh)? {
                return Ok(Appended {
                    base_offset: original.base_offset,
                    last_offset: original.base_offset + i64::from(original.last_delta),
                    log_start,
                    append_time: append_time
                        .map(|_now| Timestamp::from_millis(original.max_timestamp)),
                    duplicate: true,
                });
            }
        }
        let place = Place {
            partition: append.partition,
            base_offset,
            last_delta,
            max_timestamp,
            append_time,
            origin,
        };
        self.place(append.batch.clone(), place);
        Ok(Appended {
            base_offset,
            last_offset: base_offset + i64::from(last_delta),
            log_start,
            append_time,
            duplicate: false,
        })
    }

    /// A producer as the group sees it; unknown when it was idle for too long.
    fn known(&self, (id, partition): ProducerKey) -> Option<Producer> {
        let drafted = self.producers.get(&(id, partition));
        drafted.copied().or_else(|| {
            let expiry = self.shared.options.producer_expiry;
            let base = self.partitions.get(&partition)?.base.as_ref()?;
            let data = read(&base.data);
            data.producers.as_ref()?.get(id, self.now, expiry).copied()
        })
    }

    fn change_producer(&mut self, key: ProducerKey, producer: Producer) {
        let before = self.producers.insert(key, producer);
        self.undo.push(Undo::Producer { key, before });
    }

    /// Judges a producer's batch and, when it is the next one, moves the producer on.
    fn sequence(
        &mut self,
        partition: PartitionId,
        entry: ProducerEntry,
        fresh: Remembered,
    ) -> Result<Verdict, CommitError> {
        let key = (entry.id, partition);
        let known = self.known(key);
        let verdict = producers::judge(known.as_ref(), entry, fresh.last_delta)?;
        if verdict == Verdict::Next {
            let begins = known.is_none_or(|known| known.transaction_start.is_none());
            if entry.transactional && begins {
                self.check_width(entry.id)?;
            }
            let producer = producers::after(known.as_ref(), entry, fresh, self.now);
            self.change_producer(key, producer);
        }
        Ok(verdict)
    }

    /// Gives a batch its place at the end of its partition.
    fn place(&mut self, batch: Bytes, place: Place) {
        let last_offset = place.base_offset + i64::from(place.last_delta);
        self.draft_to_change(place.partition).end = last_offset + 1;
        self.entries.push(Entry::Append(AppendEntry {
            partition: place.partition,
            base_offset: place.base_offset,
            last_delta: place.last_delta,
            position: u32::try_from(self.pieces.len()).unwrap_or(u32::MAX),
            bytes: u32::try_from(batch.len()).unwrap_or(u32::MAX),
            max_timestamp: place.max_timestamp,
            origin: place.origin,
        }));
        self.pieces.push(Piece {
            batch,
            base_offset: place.base_offset,
            append_time: place.append_time,
        });
    }

    fn change_state(&mut self, change: &StateChange) {
        let before = self.state.insert(change.key.clone(), change.value.clone());
        self.undo.push(Undo::State {
            key: change.key.clone(),
            before,
        });
        // Copies: the caller's slices may keep whole requests in memory.
        let key = Bytes::copy_from_slice(&change.key);
        self.entries.push(match &change.value {
            Some(value) => Entry::Put {
                key,
                value: Bytes::copy_from_slice(value),
            },
            None => Entry::Delete { key },
        });
    }

    /// The group as it will be written: batches of one partition lie next to each other, so that
    /// readers get them in one piece.
    pub(crate) fn finish(self) -> Planned {
        let Self {
            mut entries,
            pieces,
            ..
        } = self;
        let mut order: Vec<(PartitionId, usize)> = entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Append(append) => Some((append.partition, append.position as usize)),
                _ => None,
            })
            .collect();
        order.sort_unstable();
        let mut positions = vec![0; pieces.len()];
        let mut payload_bytes = 0;
        for &(_, piece) in &order {
            positions[piece] = payload_bytes;
            payload_bytes += pieces[piece].batch.len();
        }
        for entry in &mut entries {
            if let Entry::Append(append) = entry {
                let position = positions[append.position as usize];
                append.position = u32::try_from(position).unwrap_or(u32::MAX);
            }
        }
        let mut sorted: Vec<Option<Piece>> = pieces.into_iter().map(Some).collect();
        let pieces = order
            .iter()
            .filter_map(|&(_, piece)| sorted[piece].take())
            .collect();
        Planned {
            entries,
            pieces,
            payload_bytes,
        }
    }
}

impl Planned {
    /// Copies the batches, patched, to the end of `frame`; returns the checksum of what was added.
    pub(crate) fn fill(&self, frame: &mut BytesMut) -> u32 {
        let mut checksum = 0;
        for piece in &self.pieces {
            let start = frame.len();
            frame.extend_from_slice(&piece.batch);
            batch::place(&mut frame[start..], piece.base_offset, piece.append_time);
            checksum = batch::checksum_on(checksum, &frame[start..]);
        }
        checksum
    }
}
