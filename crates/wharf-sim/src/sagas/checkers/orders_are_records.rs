//! 14: every order of a person is a record, of who and why, in the commit of what came of it; and
//! one that was refused is none.

use std::collections::BTreeSet;

use serde_json::Value;
use wharf_saga::machine::What;

use super::{Broken, broken};
use crate::sagas::watch::{Durable, Watch};

pub(crate) const PROMISE: &str = "every order of a person is a record";

/// The orders of a commit are in the audit, and nothing else is.
pub(crate) fn audited(commit: &Durable) -> Result<(), Broken> {
    let mut acted = BTreeSet::new();
    for (id, _, facts) in &commit.facts {
        for fact in facts {
            if let What::Acted(order) = &fact.what {
                acted.insert((id.to_string(), order.by.clone(), order.reason.clone()));
            }
        }
    }
    let text = |entry: &Value, name: &str| {
        let text = entry.get(name).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let audited: BTreeSet<_> = commit
        .audit
        .iter()
        .map(|entry| {
            (
                text(entry, "saga"),
                text(entry, "by"),
                text(entry, "reason"),
            )
        })
        .collect();
    if acted == audited {
        return Ok(());
    }
    broken(
        PROMISE,
        format!("{acted:?} was done, and recorded was {audited:?}"),
    )
}

/// Somebody was told what became of an order; `None` when nobody knows.
pub(crate) fn told(watch: &Watch, reason: &str, done: Option<bool>) -> Result<(), Broken> {
    let is_there = watch.orders.contains(reason);
    match done {
        Some(true) if !is_there => broken(PROMISE, format!("{reason} was done, and is no record")),
        Some(false) if is_there => broken(PROMISE, format!("{reason} was refused, and is there")),
        _ => Ok(()),
    }
}
