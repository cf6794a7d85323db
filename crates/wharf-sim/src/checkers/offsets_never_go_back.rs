//! Promise: offsets are given once and never go back, whatever happened to what was not answered.

use super::{Broken, Evidence, broken};
use crate::view::View;

const PROMISE: &str = "offsets never go back";

pub(super) fn check(evidence: &Evidence<'_>, view: &View) -> Result<(), Broken> {
    for (id, found) in &view.partitions {
        let bounds = found.bounds;
        let inside = (bounds.start..=bounds.end).contains(&bounds.stable_end);
        if bounds.start < 0 || !inside {
            return broken(PROMISE, format!("{id:?} has impossible bounds {bounds:?}"));
        }
        let known = evidence
            .must
            .partitions
            .get(id)
            .map_or(0, |partition| partition.end);
        if bounds.end < known {
            return broken(
                PROMISE,
                format!("{id:?} ends at {}, it was {known}", bounds.end),
            );
        }
    }
    Ok(())
}
