//! Promise: nothing appears that was refused, or that was not there after an earlier restart.

use super::{Broken, Evidence, body, broken};
use crate::view::View;

const PROMISE: &str = "nothing that was refused appears";

pub(super) fn check(evidence: &Evidence<'_>, view: &View) -> Result<(), Broken> {
    for (id, partition) in &view.partitions {
        for stored in &partition.batches {
            if evidence.refused.contains(&body(&stored.bytes)) {
                let base = stored.header.base_offset;
                return broken(
                    PROMISE,
                    format!("{id:?}: the batch at {base} had been refused"),
                );
            }
        }
    }
    Ok(())
}
