//! 1: every saga that began ends, once, or is parked with a reason and an alarm; none vanishes.

use std::collections::BTreeMap;

use serde_json::Value;
use wharf_saga::machine::{SagaId, What};

use super::{Broken, broken};
use crate::sagas::watch::{Durable, Watch};

pub(crate) const PROMISE: &str = "every saga ends, or is parked and somebody is alarmed";

/// Every parking has its alarm, in the same commit.
pub(crate) fn alarms(commit: &Durable) -> Result<(), Broken> {
    let mut open: BTreeMap<(String, String), i64> = BTreeMap::new();
    for (id, _, facts) in &commit.facts {
        for fact in facts {
            if let What::Parked { reason, .. } = &fact.what {
                *open
                    .entry((id.to_string(), reason.to_string()))
                    .or_default() += 1;
            }
        }
    }
    for alarm in &commit.alarms {
        let text = |name: &str| {
            let text = alarm.get(name).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        *open.entry((text("saga"), text("reason"))).or_default() -= 1;
    }
    for ((saga, reason), count) in open {
        if count != 0 {
            let detail = format!("{saga} was parked ({reason}) {count} times more than alarmed");
            return broken(PROMISE, detail);
        }
    }
    Ok(())
}

/// After everything has calmed down and people did what they can, it is over.
pub(crate) fn over(watch: &Watch, started: &[SagaId]) -> Result<(), Broken> {
    for id in started {
        let Some(seen) = watch.sagas.get(id) else {
            return broken(PROMISE, format!("{id} was started and is not there"));
        };
        if !seen.saga.status().is_end() {
            let (status, current) = (seen.saga.status(), seen.saga.current());
            let parked = seen.saga.parked();
            let detail = format!("{id} does not end; it is {status}: {current:?} {parked:?}");
            return broken(PROMISE, detail);
        }
    }
    Ok(())
}
