//! Promise: a reader of committed records sees exactly the records of committed transactions and of
//! none, up to where the earliest open transaction begins.
//!
//! What is committed is told by the markers themselves, not by what the log says of them.

use std::collections::BTreeMap;

use wharf_log::{TransactionOutcome, batch};

use super::{Broken, broken};
use crate::view::{PartitionView, View};

const PROMISE: &str = "aborted and open transactions are never seen";

pub(super) fn check(view: &View) -> Result<(), Broken> {
    for (id, partition) in &view.partitions {
        let (committed, open) = outcomes(partition);
        let known = partition.producers.values();
        let known = known.filter_map(|(_, _, transaction)| *transaction);
        let known = known.min();
        let bounds = partition.bounds;
        // The records of an open transaction may have been deleted, all or some.
        let stable = known.unwrap_or(bounds.end).max(bounds.start);
        if bounds.stable_end != stable || open.is_some_and(|open| open.max(bounds.start) < stable) {
            return broken(
                PROMISE,
                format!("{id:?} has {bounds:?}, but {known:?} is open; by the markers {open:?} is"),
            );
        }
        let expected: Vec<i64> = committed
            .into_iter()
            .filter(|base| (*base).max(bounds.start) < stable)
            .collect();
        if partition.committed != expected {
            let seen = &partition.committed;
            return broken(
                PROMISE,
                format!("{id:?}: seen are {seen:?}, committed {expected:?}"),
            );
        }
    }
    Ok(())
}

/// The base offsets of batches that are committed or in no transaction, and of the first batch whose
/// transaction is open.
fn outcomes(partition: &PartitionView) -> (Vec<i64>, Option<i64>) {
    let mut committed = Vec::new();
    let mut open: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for stored in &partition.batches {
        let header = &stored.header;
        match batch::marker(header, &stored.bytes) {
            Some(marker) => {
                let batches = open.remove(&marker.producer_id).unwrap_or_default();
                if marker.outcome == TransactionOutcome::Commit {
                    committed.extend(batches);
                }
            }
            None if header.is_transactional() => {
                let batches = open.entry(header.producer_id).or_default();
                batches.push(header.base_offset);
            }
            None => committed.push(header.base_offset),
        }
    }
    committed.sort_unstable();
    let open = open.values().flatten().copied().min();
    (committed, open)
}
