//! Promise: within a partition, offsets follow each other without gaps from start to end, and each
//! producer's batches keep the order of their sequences.

use std::collections::BTreeMap;

use super::{Broken, broken};
use crate::view::View;

const PROMISE: &str = "records keep their order without gaps";

pub(super) fn check(view: &View) -> Result<(), Broken> {
    for (id, partition) in &view.partitions {
        let bounds = partition.bounds;
        let mut next = None;
        let mut producers: BTreeMap<i64, (i16, i32)> = BTreeMap::new();
        for stored in &partition.batches {
            let header = &stored.header;
            if next.is_some_and(|next| next != header.base_offset) {
                let base = header.base_offset;
                return broken(
                    PROMISE,
                    format!("{id:?}: {base} follows where {next:?} belongs"),
                );
            }
            next = Some(header.last_offset() + 1);
            if header.producer_id < 0 || header.is_control() {
                continue;
            }
            let current = (header.producer_epoch, header.base_sequence);
            let last = (
                header.producer_epoch,
                header.base_sequence + header.last_offset_delta,
            );
            match producers.insert(header.producer_id, last) {
                Some(previous) if previous >= current => {
                    let producer = header.producer_id;
                    let detail = format!("{id:?}: {current:?} of {producer} after {previous:?}");
                    return broken(PROMISE, detail);
                }
                _ => {}
            }
        }
        if next.is_some_and(|next| next != bounds.end) {
            return broken(
                PROMISE,
                format!("{id:?}: the records end at {next:?}, not {bounds:?}"),
            );
        }
    }
    Ok(())
}
