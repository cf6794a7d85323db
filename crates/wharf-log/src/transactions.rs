//! Transactions in memory: where they are open, and which ended in an abort.
//!
//! Invariants: what is here follows from the frames alone, so recovery makes it again; an aborted
//! transaction is known for as long as any of its records may be read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::RwLock;

use crate::sync::{read, write};
use crate::{Aborted, PartitionId};

/// Which producers have open transactions, and in which partitions.
#[derive(Debug, Default)]
pub(crate) struct OpenTransactions {
    by_producer: RwLock<BTreeMap<i64, BTreeSet<PartitionId>>>,
}

impl OpenTransactions {
    pub(crate) fn begin(&self, producer: i64, partition: PartitionId) {
        let mut open = write(&self.by_producer);
        open.entry(producer).or_default().insert(partition);
    }

    pub(crate) fn end(&self, producer: i64, partition: PartitionId) {
        let mut open = write(&self.by_producer);
        if let Some(partitions) = open.get_mut(&producer) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                open.remove(&producer);
            }
        }
    }

    /// The partitions in which a producer has an open transaction.
    pub(crate) fn of(&self, producer: i64) -> BTreeSet<PartitionId> {
        let open = read(&self.by_producer);
        open.get(&producer).cloned().unwrap_or_default()
    }

    /// The producers that have one.
    pub(crate) fn producers(&self) -> Vec<i64> {
        read(&self.by_producer).keys().copied().collect()
    }

    /// How many partitions [`Self::of`] holds, those in `others` not counted twice.
    pub(crate) fn count_with(
        &self,
        producer: i64,
        others: impl Iterator<Item = PartitionId>,
    ) -> usize {
        let open = read(&self.by_producer);
        let known = open.get(&producer);
        let new = others.filter(|id| known.is_none_or(|known| !known.contains(id)));
        known.map_or(0, BTreeSet::len) + new.count()
    }
}

/// An aborted transaction in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AbortedEntry {
    pub(crate) transaction: Aborted,
    /// The last stable offset after it: no transaction that ended later begins below.
    pub(crate) stable_after: i64,
}

/// The aborted transactions of a partition, in the order in which they ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AbortedIndex {
    entries: Vec<AbortedEntry>,
}

impl AbortedIndex {
    /// Adds the one that ended last.
    pub(crate) fn push(&mut self, entry: AbortedEntry) {
        self.entries.push(entry);
    }

    /// Forgets those that ended below `start`.
    pub(crate) fn prune(&mut self, start: i64) {
        let gone = self
            .entries
            .partition_point(|entry| entry.transaction.last_offset < start);
        self.entries.drain(..gone);
    }

    /// Forgets those that ended at or below `last_offset`: their records were compacted away.
    pub(crate) fn forget_up_to(&mut self, last_offset: i64) {
        self.prune(last_offset.saturating_add(1));
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &AbortedEntry> {
        self.entries.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Those that overlap the offsets from `from` (inclusive) to `to` (exclusive), by first offset.
    pub(crate) fn overlapping(&self, from: i64, to: i64) -> Vec<Aborted> {
        let first = self
            .entries
            .partition_point(|entry| entry.transaction.last_offset < from);
        let mut found = Vec::new();
        for entry in &self.entries[first..] {
            if entry.transaction.first_offset < to {
                found.push(entry.transaction);
            }
            if entry.stable_after >= to {
                break;
            }
        }
        found.sort_unstable_by_key(|aborted| (aborted.first_offset, aborted.producer_id));
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Transactions that never overlap themselves: producer, first and last offset, in the order of
    /// their ends.
    fn index(steps: &[(i64, bool)]) -> (AbortedIndex, Vec<Aborted>) {
        let mut index = AbortedIndex::default();
        let mut all = Vec::new();
        let mut open: BTreeMap<i64, i64> = BTreeMap::new();
        for (offset, (producer, ends)) in steps.iter().enumerate() {
            let offset = i64::try_from(offset).unwrap();
            if *ends {
                let Some(first_offset) = open.remove(producer) else {
                    continue;
                };
                let transaction = Aborted {
                    producer_id: *producer,
                    first_offset,
                    last_offset: offset,
                };
                let stable_after = open.values().copied().min().unwrap_or(offset + 1);
                index.push(AbortedEntry {
                    transaction,
                    stable_after,
                });
                all.push(transaction);
            } else {
                open.entry(*producer).or_insert(offset);
            }
        }
        (index, all)
    }

    proptest! {
        #[test]
        fn a_range_shows_exactly_the_transactions_that_overlap_it(
            steps in vec((0..5_i64, any::<bool>()), 0..80),
            from in 0..90_i64,
            length in 1..40_i64,
            start in 0..60_i64,
        ) {
            let (mut index, mut all) = index(&steps);
            index.prune(start);
            all.retain(|aborted| aborted.last_offset >= start);
            let to = from + length;
            all.retain(|aborted| aborted.first_offset < to && aborted.last_offset >= from);
            all.sort_unstable_by_key(|aborted| (aborted.first_offset, aborted.producer_id));
            prop_assert_eq!(index.overlapping(from, to), all);
        }
    }

    #[test]
    fn a_producer_is_listed_while_any_partition_is_open() {
        let open = OpenTransactions::default();
        let (one, two) = (PartitionId(1), PartitionId(2));
        open.begin(7, one);
        open.begin(7, two);
        assert_eq!(open.count_with(7, [one, PartitionId(3)].into_iter()), 3);
        open.end(7, one);
        assert_eq!(open.of(7), [two].into());
        assert_eq!(open.producers(), [7]);
        open.end(7, two);
        assert!(open.producers().is_empty());
    }
}
