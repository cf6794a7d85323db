//! Promise: what was deleted and acknowledged as such never comes back: records, partitions, keys.

use super::{Broken, Evidence, broken};
use crate::view::View;

const PROMISE: &str = "what was deleted stays deleted";

pub(super) fn check(evidence: &Evidence<'_>, view: &View) -> Result<(), Broken> {
    let created: Vec<_> = evidence
        .changes()
        .filter_map(|change| match change {
            wharf_log::PartitionChange::Create(id) => Some(id),
            _ => None,
        })
        .collect();
    for (id, found) in &view.partitions {
        match evidence.must.partitions.get(id) {
            Some(known) if found.bounds.start < known.start => {
                let (now, was) = (found.bounds.start, known.start);
                return broken(
                    PROMISE,
                    format!("{id:?} starts at {now} again, it was {was}"),
                );
            }
            None if !created.contains(id) => {
                return broken(PROMISE, format!("{id:?} exists again"));
            }
            _ => {}
        }
    }
    for (key, value) in &view.state {
        let written = evidence
            .unsettled
            .iter()
            .filter(|unsettled| !unsettled.refused)
            .any(|u| {
                let mut changes = u.unit.state.iter();
                changes.any(|change| change.key == key && change.value.as_ref() == Some(value))
            });
        if !evidence.must.state.contains_key(key) && !written {
            return broken(PROMISE, format!("key {key:?} exists again with {value:?}"));
        }
    }
    Ok(())
}
