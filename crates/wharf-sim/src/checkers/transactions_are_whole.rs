//! Promise: a transaction ends in all its partitions or in none.
//!
//! The workload numbers the ends of transactions (by the coordinator's epoch), and an end of all
//! partitions moves the producer on to the next epoch. So where a marker of that epoch is seen
//! anywhere, every older batch of the producer, wherever it is, has its marker, none with a later
//! number.

use std::collections::BTreeMap;

use wharf_log::{PartitionId, batch};

use super::{Broken, broken};
use crate::view::View;

const PROMISE: &str = "a transaction ends in all its partitions or in none";

/// A transactional batch and the end that came after it.
struct Part {
    partition: PartitionId,
    base: i64,
    epoch: i16,
    ended_by: Option<i32>,
}

pub(super) fn check(view: &View) -> Result<(), Broken> {
    let mut parts: BTreeMap<i64, Vec<Part>> = BTreeMap::new();
    // By producer and epoch, the first end.
    let mut ends: BTreeMap<(i64, i16), i32> = BTreeMap::new();
    for (id, partition) in &view.partitions {
        let mut markers: BTreeMap<i64, i32> = BTreeMap::new();
        for stored in partition.batches.iter().rev() {
            let header = &stored.header;
            if let Some(marker) = batch::marker(header, &stored.bytes) {
                let number = marker.coordinator_epoch;
                markers.insert(marker.producer_id, number);
                let key = (marker.producer_id, marker.producer_epoch);
                let first = ends.entry(key).or_insert(number);
                *first = number.min(*first);
            } else if header.is_transactional() {
                parts.entry(header.producer_id).or_default().push(Part {
                    partition: *id,
                    base: header.base_offset,
                    epoch: header.producer_epoch,
                    ended_by: markers.get(&header.producer_id).copied(),
                });
            }
        }
    }
    for ((producer, epoch), end) in ends {
        for part in parts.get(&producer).into_iter().flatten() {
            let in_time = part.ended_by.is_some_and(|number| number <= end);
            if part.epoch < epoch && !in_time {
                let (id, base, by) = (part.partition, part.base, part.ended_by);
                return broken(
                    PROMISE,
                    format!(
                        "end {end} moved producer {producer} to epoch {epoch}, \
                         but the batch at {base} of {id:?} is ended by {by:?}"
                    ),
                );
            }
        }
    }
    Ok(())
}
