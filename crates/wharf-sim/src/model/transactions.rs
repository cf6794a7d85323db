//! How transactions end, as their promises describe it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use wharf_log::batch::Marker;
use wharf_log::{CommitError, EndTransaction, PartitionId};
use wharf_message::Timestamp;

use super::{Batch, Model, Partition};

impl Model {
    /// Ends a transaction in every partition concerned; adds where the markers went to `ended`.
    pub(super) fn end(
        &self,
        staged: &mut BTreeMap<PartitionId, Option<Partition>>,
        end: &EndTransaction,
        now: Timestamp,
        ended: &mut Vec<(PartitionId, i64)>,
    ) -> Result<(), CommitError> {
        let partitions: BTreeSet<PartitionId> = match &end.partitions {
            Some(partitions) => partitions.iter().copied().collect(),
            None => {
                let ids = self.partitions.keys().chain(staged.keys()).copied();
                let here = |id: &PartitionId| match staged.get(id) {
                    Some(partition) => partition.as_ref(),
                    None => self.partitions.get(id),
                };
                let open = ids.filter(|id| here(id).is_some_and(|one| one.is_open(end.producer)));
                open.collect()
            }
        };
        for id in partitions {
            let Some(partition) = self.staged(staged, id) else {
                return Err(CommitError::UnknownPartition(id));
            };
            let known = partition.producers.get(&end.producer);
            let known = known.filter(|producer| producer.is_known(now, self.producer_expiry));
            if let Some(known) = known {
                let (current, found) = (known.epoch, end.epoch);
                if found < current {
                    return Err(CommitError::InvalidProducerEpoch { current, found });
                }
                let (current, found) = (known.coordinator_epoch, end.coordinator_epoch);
                if found < current {
                    return Err(CommitError::CoordinatorFenced { current, found });
                }
            }
            let known = known.is_some();
            ended.push((id, partition.push_marker(end, known, now)));
        }
        Ok(())
    }
}

impl Partition {
    /// Whether the producer has an open transaction here.
    pub fn is_open(&self, producer: i64) -> bool {
        let known = self.producers.get(&producer);
        known.is_some_and(|known| known.transaction.is_some())
    }

    fn push_marker(&mut self, end: &EndTransaction, known: bool, now: Timestamp) -> i64 {
        let base = self.end;
        self.end = base + 1;
        self.batches.push_back(Batch {
            base,
            last: base,
            bytes: Bytes::new(),
            marker: Some(Marker {
                producer_id: end.producer,
                producer_epoch: end.epoch,
                coordinator_epoch: end.coordinator_epoch,
                outcome: end.outcome,
            }),
            append_time: None,
            max_time: now,
        });
        self.advance(self.start);
        let producer = self.producer_in(end.producer, end.epoch, known, now);
        producer.transaction = None;
        producer.coordinator_epoch = end.coordinator_epoch;
        base
    }
}
