//! Promise: what was acknowledged is there, at its offset, byte for byte.
//!
//! Only records that were deleted on purpose, or may have been, are excused.

use super::{Broken, Evidence, broken, difference};
use crate::view::View;

const PROMISE: &str = "no acknowledged record is lost";

pub(super) fn check(evidence: &Evidence<'_>, view: &View) -> Result<(), Broken> {
    for (id, expected) in &evidence.must.partitions {
        let Some(found) = view.partitions.get(id) else {
            if evidence.may_be_removed(*id) {
                continue;
            }
            return broken(PROMISE, format!("{id:?} with end {} is gone", expected.end));
        };
        let start = found.bounds.start.max(expected.start);
        if start > evidence.start_max(*id) {
            let was = expected.start;
            return broken(PROMISE, format!("{id:?} starts at {start}, it was {was}"));
        }
        for batch in expected.batches.iter().filter(|batch| batch.last >= start) {
            let at = found
                .batches
                .iter()
                .find(|stored| stored.header.last_offset() >= batch.last);
            let Some(stored) = at else {
                return broken(
                    PROMISE,
                    format!("{id:?}: {}..={} is gone", batch.base, batch.last),
                );
            };
            if let Some(difference) = difference(batch, stored) {
                let range = format!("{}..={}", batch.base, batch.last);
                return broken(PROMISE, format!("{id:?}: {range} has {difference}"));
            }
        }
    }
    Ok(())
}
