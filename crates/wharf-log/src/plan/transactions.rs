//! Ending transactions: which partitions get a marker, judged on the draft.
//!
//! Invariant: a transaction is never open in more partitions than the markers of one unit can end it
//! in, so none can be left hanging for want of room.

use std::collections::BTreeSet;

use super::{ENTRY_BYTES_MAX, Place, Plan};
use crate::batch::{MARKER_BYTES, Marker};
use crate::committer::unit_bytes_max;
use crate::frame::{MarkerEntry, Origin};
use crate::producers;
use crate::{CommitError, EndTransaction, PartitionId};

/// The most a marker can add to a frame.
pub(super) const MARKER_BYTES_MAX: usize = MARKER_BYTES + ENTRY_BYTES_MAX;

impl Plan<'_> {
    /// Writes the markers of a transaction; adds where they went to `ended`.
    pub(super) fn end_transaction(
        &mut self,
        end: &EndTransaction,
        ended: &mut Vec<(PartitionId, i64)>,
    ) -> Result<(), CommitError> {
        let partitions = match &end.partitions {
            Some(partitions) => partitions.iter().copied().collect(),
            None => self.open_partitions(end.producer),
        };
        for partition in partitions {
            ended.push((partition, self.mark(partition, end)?));
        }
        Ok(())
    }

    /// Writes a marker into a partition; returns its offset.
    fn mark(&mut self, partition: PartitionId, end: &EndTransaction) -> Result<i64, CommitError> {
        let draft = self.draft(partition);
        if !draft.exists {
            return Err(CommitError::UnknownPartition(partition));
        }
        let base_offset = draft.end;
        let entry = MarkerEntry {
            producer: end.producer,
            epoch: end.epoch,
            coordinator_epoch: end.coordinator_epoch,
            outcome: end.outcome,
        };
        let key = (end.producer, partition);
        let known = self.known(key);
        producers::judge_marker(known.as_ref(), entry)?;
        self.change_producer(key, producers::ended(known.as_ref(), entry, self.now));
        let marker = Marker {
            producer_id: end.producer,
            producer_epoch: end.epoch,
            coordinator_epoch: end.coordinator_epoch,
            outcome: end.outcome,
        };
        let place = Place {
            partition,
            base_offset,
            last_delta: 0,
            max_timestamp: self.now.as_millis(),
            append_time: None,
            origin: Origin::Marker(entry),
        };
        self.place(marker.build(self.now), place);
        Ok(base_offset)
    }

    /// The partitions in which a producer has an open transaction, as the group sees it.
    fn open_partitions(&mut self, producer: i64) -> BTreeSet<PartitionId> {
        let mut open = self.shared.transactions.of(producer);
        for (&(_, partition), drafted) in self.producers.range(partitions_of(producer)) {
            if drafted.transaction_start.is_some() {
                open.insert(partition);
            } else {
                open.remove(&partition);
            }
        }
        open.retain(|partition| self.draft(*partition).exists);
        open
    }

    /// At least how many there are.
    pub(super) fn open_count(&self, producer: i64) -> usize {
        let drafted = self.producers.range(partitions_of(producer));
        let open = drafted.filter(|(_, drafted)| drafted.transaction_start.is_some());
        let open = open.map(|(&(_, partition), _)| partition);
        self.shared.transactions.count_with(producer, open)
    }

    /// Whether the producer's transaction may be opened in one more partition.
    pub(super) fn check_width(&self, producer: i64) -> Result<(), CommitError> {
        // Half of a unit is left to what else ends with the transaction.
        let most = unit_bytes_max(&self.shared.options) / 2 / MARKER_BYTES_MAX;
        if self.open_count(producer) < most {
            Ok(())
        } else {
            Err(CommitError::TransactionTooWide(most))
        }
    }
}

/// The keys of a producer in all partitions.
fn partitions_of(producer: i64) -> std::ops::RangeInclusive<(i64, PartitionId)> {
    (producer, PartitionId(0))..=(producer, PartitionId(u64::MAX))
}
