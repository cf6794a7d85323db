//! 13: what is listed, searched and counted is what happened: the fold of the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_saga::machine::Fact;
use wharf_server::saga::Row;
use wharf_server::simulation::row;

use super::{Broken, broken};
use crate::sagas::watch::{Seen, Watch};

pub(crate) const PROMISE: &str = "what is listed is what happened";

/// What a node lists when nothing is on its way.
pub(crate) fn list(
    watch: &Watch,
    listed: &[Arc<Row>],
    counts: &[(String, &'static str, usize)],
) -> Result<(), Broken> {
    let mut expected = BTreeMap::new();
    let mut counted: BTreeMap<(String, &str), usize> = BTreeMap::new();
    for (id, seen) in &watch.sagas {
        if !watch.forgotten.contains(id)
            && let Some(row) = row(&seen.saga)
        {
            let kind = (row.saga_type.to_string(), row.status.as_str());
            *counted.entry(kind).or_default() += 1;
            expected.insert(*id, row);
        }
    }
    for found in listed {
        let wanted = expected.remove(&found.id);
        if wanted.as_ref() != Some(&**found) {
            return broken(
                PROMISE,
                format!("{found:?} is listed, and it is {wanted:?}"),
            );
        }
    }
    if let Some((id, _)) = expected.pop_first() {
        return broken(PROMISE, format!("{id} is not listed"));
    }
    let counts = counts.iter().filter(|(_, _, count)| *count > 0);
    let counts: BTreeMap<_, _> = counts
        .map(|(saga_type, status, count)| ((saga_type.clone(), *status), *count))
        .collect();
    if counts != counted {
        return broken(
            PROMISE,
            format!("{counts:?} is counted, and it is {counted:?}"),
        );
    }
    Ok(())
}

/// What a node says happened to a saga, oldest first.
pub(crate) fn history(seen: &Seen, found: &[Fact]) -> Result<(), Broken> {
    if seen.facts == found {
        return Ok(());
    }
    let (has, wanted) = (found.len(), seen.facts.len());
    let id = seen.saga.id();
    broken(
        PROMISE,
        format!("the history of {id:?} has {has} facts and not {wanted}"),
    )
}
