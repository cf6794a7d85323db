//! Which deliveries of which partitions are settled, in any order, and how far each partition may
//! be committed.
//!
//! Invariants: a partition's watermark never passes an offset that is delivered or released and not
//! settled; offsets that nobody delivered (compacted, aborted, markers) do not hold it up; the tokens
//! of a revoked assignment do nothing, also when the same partition is assigned again.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use wharf_message::TopicName;
use wharf_message::transport::Token;

use super::Commit;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition, from 0.
    pub partition: i32,
}

/// One assignment of a partition; the same partition assigned again is another slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

impl Slot {
    /// The assignment that a delivery belongs to, or belonged to.
    pub fn of(token: Token) -> Self {
        parts(token).0
    }
}

/// Bits of a token that count deliveries; those above are the slot.
const SEQUENCE_BITS: u32 = 40;
const SEQUENCE_MASK: u64 = (1 << SEQUENCE_BITS) - 1;
const SLOT_MASK: u32 = (1 << (64 - SEQUENCE_BITS)) - 1;

/// The deliveries of all partitions that are assigned. See the module.
#[derive(Debug)]
pub struct Tracker {
    slots: BTreeMap<Slot, Assigned>,
    next_slot: u32,
    unsettled: usize,
    released: usize,
    span_max: usize,
}

#[derive(Debug)]
struct Assigned {
    partition: TopicPartition,
    /// From the first that is not settled to the last delivered, by offset.
    entries: VecDeque<Entry>,
    /// The sequence number of the first entry, modulo 2^40.
    first: u64,
    /// One past the last offset read; unknown before the first.
    read_to: Option<i64>,
    /// The watermark that the broker knows.
    committed: Option<i64>,
    /// Settled offsets that the broker is to know also while the watermark is before them.
    noted: BTreeSet<i64>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: i64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Delivered,
    Released,
    Settled,
}

/// What can be accepted at once: see [`Tracker::prefix`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// The tokens that everything before is settled of, or among them.
    pub tokens: Vec<Token>,
    /// The watermarks when they are settled.
    pub watermarks: Vec<(TopicPartition, i64)>,
}

impl Tracker {
    /// Nothing is assigned. `span_max` bounds how many offsets of a partition are remembered from
    /// the first that is not settled on: see [`Self::has_room`].
    pub fn new(span_max: usize) -> Self {
        Self {
            slots: BTreeMap::new(),
            next_slot: 0,
            unsettled: 0,
            released: 0,
            span_max: span_max.max(1),
        }
    }

    /// A partition is read from now on, from `position` if that is known already.
    pub fn assign(&mut self, partition: TopicPartition, position: Option<i64>) -> Slot {
        while self.slots.contains_key(&Slot(self.next_slot)) {
            self.next_slot = (self.next_slot + 1) & SLOT_MASK;
        }
        let slot = Slot(self.next_slot);
        self.next_slot = (self.next_slot + 1) & SLOT_MASK;
        let assigned = Assigned {
            partition,
            entries: VecDeque::new(),
            first: 0,
            read_to: position,
            committed: position,
            noted: BTreeSet::new(),
        };
        self.slots.insert(slot, assigned);
        slot
    }

    /// A partition is not read any more: its tokens do nothing from now on. Its watermark, if the
    /// broker does not know it yet.
    pub fn revoke(&mut self, slot: Slot) -> Option<(TopicPartition, i64)> {
        let assigned = self.slots.remove(&slot)?;
        self.unsettled -= assigned.unsettled();
        self.released -= assigned.count(State::Released);
        assigned.uncommitted()
    }

    /// A record was read that is to be handled. `None` when it needs no delivery: its slot is
    /// revoked, or it was delivered before and not released since.
    pub fn deliver(&mut self, slot: Slot, offset: i64) -> Option<Token> {
        let assigned = self.slots.get_mut(&slot)?;
        let index = if assigned.read_to.is_none_or(|read_to| offset >= read_to) {
            assigned.committed.get_or_insert(offset);
            assigned.read_to = Some(offset + 1);
            if assigned.noted.contains(&offset) {
                return None;
            }
            assigned.entries.push_back(Entry {
                offset,
                state: State::Delivered,
            });
            self.unsettled += 1;
            assigned.entries.len() - 1
        } else {
            let index = assigned.find(offset)?;
            let entry = &mut assigned.entries[index];
            if entry.state != State::Released {
                return None;
            }
            entry.state = State::Delivered;
            self.released -= 1;
            index
        };
        let sequence = assigned.first.wrapping_add(index as u64) & SEQUENCE_MASK;
        Some(u64::from(slot.0) << SEQUENCE_BITS | sequence)
    }

    /// These offsets were settled before the partition was assigned: they need no delivery.
    pub fn skip(&mut self, slot: Slot, offsets: BTreeSet<i64>) {
        if let Some(assigned) = self.slots.get_mut(&slot) {
            assigned.noted.extend(offsets);
        }
    }

    /// Everything before `offset` was read; what was not delivered of it needs no handling.
    pub fn read_to(&mut self, slot: Slot, offset: i64) {
        if let Some(assigned) = self.slots.get_mut(&slot) {
            assigned.committed.get_or_insert(offset);
            assigned.read_to = assigned.read_to.max(Some(offset));
        }
    }

    /// A delivery is done. False when its partition was revoked (it will be delivered again), or it
    /// was not out.
    pub fn settle(&mut self, token: Token) -> bool {
        self.change(token, State::Settled)
    }

    /// As [`Self::settle`], and it is to be known to the broker wherever the watermark is.
    pub fn note(&mut self, token: Token) -> bool {
        if let Some((assigned, index)) = Self::entry(&mut self.slots, token) {
            assigned.noted.insert(assigned.entries[index].offset);
        }
        self.settle(token)
    }

    /// A delivery ends unhandled: it is to be read and delivered again. False as for
    /// [`Self::settle`].
    pub fn release(&mut self, token: Token) -> bool {
        self.change(token, State::Released)
    }

    fn change(&mut self, token: Token, state: State) -> bool {
        let Some((assigned, index)) = Self::entry(&mut self.slots, token) else {
            return false;
        };
        if assigned.entries[index].state != State::Delivered {
            return false;
        }
        assigned.entries[index].state = state;
        if state == State::Settled {
            self.unsettled -= 1;
            assigned.trim();
        } else {
            self.released += 1;
        }
        true
    }

    /// The offset of the first delivery that was released, from which to read again.
    pub fn reread(&self, slot: Slot) -> Option<i64> {
        let entries = &self.slots.get(&slot)?.entries;
        let released = |entry: &&Entry| entry.state == State::Released;
        entries.iter().find(released).map(|entry| entry.offset)
    }

    /// Reading again from `from` found nothing before `to`: what was released between them is gone
    /// from the log (retention), and nobody can handle it any more. How many those were.
    pub fn gone(&mut self, slot: Slot, from: i64, to: i64) -> usize {
        let Some(assigned) = self.slots.get_mut(&slot) else {
            return 0;
        };
        let mut gone = 0;
        let start = assigned
            .entries
            .partition_point(|entry| entry.offset < from);
        for entry in assigned.entries.range_mut(start..) {
            if entry.offset >= to {
                break;
            }
            if entry.state == State::Released {
                entry.state = State::Settled;
                gone += 1;
            }
        }
        self.unsettled -= gone;
        self.released -= gone;
        assigned.trim();
        gone
    }

    /// Where a delivery came from, while it is out or released.
    pub fn origin(&self, token: Token) -> Option<(&TopicPartition, i64)> {
        let (slot, sequence) = parts(token);
        let assigned = self.slots.get(&slot)?;
        let entry = assigned.entries.get(assigned.index(sequence)?)?;
        (entry.state != State::Settled).then_some((&assigned.partition, entry.offset))
    }

    /// One past the last offset read of a partition.
    pub fn position(&self, slot: Slot) -> Option<i64> {
        self.slots.get(&slot)?.read_to
    }

    /// Everything before this offset is settled; unknown before something was read.
    pub fn watermark(&self, slot: Slot) -> Option<i64> {
        self.slots.get(&slot)?.watermark()
    }

    /// Whether more of a partition may be read: false when it is revoked, or when too much waits
    /// behind a delivery that is not settled.
    pub fn has_room(&self, slot: Slot) -> bool {
        let assigned = self.slots.get(&slot);
        assigned.is_some_and(|assigned| assigned.entries.len() < self.span_max)
    }

    /// How many deliveries are out or released, of all partitions.
    pub fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// How many deliveries are out, of all partitions.
    pub fn delivered(&self) -> usize {
        self.unsettled - self.released
    }

    /// The assignment that a token belongs to, whether or not it is revoked.
    pub fn slot(&self, token: Token) -> Slot {
        parts(token).0
    }

    /// How many deliveries of one partition are out.
    pub fn delivered_of(&self, slot: Slot) -> usize {
        let assigned = self.slots.get(&slot);
        assigned.map_or(0, |assigned| assigned.count(State::Delivered))
    }

    /// How many deliveries of one partition are out or released.
    pub fn unsettled_of(&self, slot: Slot) -> usize {
        self.slots.get(&slot).map_or(0, Assigned::unsettled)
    }

    /// The watermarks that the broker does not know: the offsets to commit.
    pub fn uncommitted(&self) -> Vec<(TopicPartition, i64)> {
        self.slots
            .values()
            .filter_map(Assigned::uncommitted)
            .collect()
    }

    /// The broker knows these watermarks.
    pub fn committed(&mut self, watermarks: &[(TopicPartition, i64)]) {
        for (partition, offset) in watermarks {
            let slot = self
                .slots
                .values_mut()
                .find(|slot| slot.partition == *partition);
            if let Some(assigned) = slot {
                assigned.committed = Some(*offset);
            }
        }
    }

    /// Of the deliveries `pending`, those that can be accepted together with everything before
    /// them, and the watermarks that say so.
    pub fn prefix(&self, pending: &HashSet<Token>) -> Prefix {
        let mut prefix = Prefix::default();
        for (slot, assigned) in &self.slots {
            let before = prefix.tokens.len();
            let mut watermark = assigned.read_to;
            for (index, entry) in assigned.entries.iter().enumerate() {
                let sequence = assigned.first.wrapping_add(index as u64) & SEQUENCE_MASK;
                let token = u64::from(slot.0) << SEQUENCE_BITS | sequence;
                if entry.state == State::Delivered && pending.contains(&token) {
                    prefix.tokens.push(token);
                } else if entry.state != State::Settled {
                    watermark = Some(entry.offset);
                    break;
                }
            }
            if let Some(watermark) = watermark.filter(|_| prefix.tokens.len() > before) {
                prefix
                    .watermarks
                    .push((assigned.partition.clone(), watermark));
            }
        }
        prefix
    }

    /// What is to be committed when `pending` are settled and noted: of each of their partitions.
    pub fn noting(&self, pending: &HashSet<Token>) -> Vec<Commit> {
        let mut commits = Vec::new();
        for (slot, assigned) in &self.slots {
            let mut noted = assigned.noted.clone();
            let (mut watermark, mut any) = (None, false);
            for (index, entry) in assigned.entries.iter().enumerate() {
                let sequence = assigned.first.wrapping_add(index as u64) & SEQUENCE_MASK;
                let token = u64::from(slot.0) << SEQUENCE_BITS | sequence;
                if entry.state == State::Delivered && pending.contains(&token) {
                    noted.insert(entry.offset);
                    any = true;
                } else if entry.state != State::Settled {
                    watermark = watermark.or(Some(entry.offset));
                }
            }
            if let Some(watermark) = watermark.or(assigned.read_to).filter(|_| any) {
                commits.push(Commit {
                    partition: assigned.partition.clone(),
                    watermark,
                    noted: noted.split_off(&watermark).into_iter().collect(),
                });
            }
        }
        commits
    }

    /// A watermark with what is noted beside it.
    pub fn with_noted(&self, (partition, watermark): (TopicPartition, i64)) -> Commit {
        let slot = self.slots.values().find(|slot| slot.partition == partition);
        let noted = slot.map(|slot| slot.noted.range(watermark..).copied().collect());
        Commit {
            partition,
            watermark,
            noted: noted.unwrap_or_default(),
        }
    }

    fn entry(slots: &mut BTreeMap<Slot, Assigned>, token: Token) -> Option<(&mut Assigned, usize)> {
        let (slot, sequence) = parts(token);
        let assigned = slots.get_mut(&slot)?;
        let index = assigned.index(sequence)?;
        Some((assigned, index))
    }
}

impl Assigned {
    fn index(&self, sequence: u64) -> Option<usize> {
        let index = usize::try_from(sequence.wrapping_sub(self.first) & SEQUENCE_MASK).ok()?;
        (index < self.entries.len()).then_some(index)
    }

    fn find(&self, offset: i64) -> Option<usize> {
        self.entries
            .binary_search_by_key(&offset, |entry| entry.offset)
            .ok()
    }

    /// Forgets the settled ones at the front.
    fn trim(&mut self) {
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.state == State::Settled)
        {
            self.entries.pop_front();
            self.first = self.first.wrapping_add(1) & SEQUENCE_MASK;
        }
        if let Some(watermark) = self.watermark().filter(|_| !self.noted.is_empty()) {
            self.noted = self.noted.split_off(&watermark);
        }
    }

    fn watermark(&self) -> Option<i64> {
        self.entries
            .front()
            .map(|entry| entry.offset)
            .or(self.read_to)
    }

    fn uncommitted(&self) -> Option<(TopicPartition, i64)> {
        let watermark = self
            .watermark()
            .filter(|_| self.watermark() != self.committed)?;
        Some((self.partition.clone(), watermark))
    }

    fn unsettled(&self) -> usize {
        self.entries.len() - self.count(State::Settled)
    }

    fn count(&self, state: State) -> usize {
        self.entries
            .iter()
            .filter(|entry| entry.state == state)
            .count()
    }
}

fn parts(token: Token) -> (Slot, u64) {
    let slot = u32::try_from(token >> SEQUENCE_BITS).unwrap_or(SLOT_MASK);
    (Slot(slot), token & SEQUENCE_MASK)
}

#[cfg(test)]
mod tests;
