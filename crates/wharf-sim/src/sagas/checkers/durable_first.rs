//! 7: nobody hears of anything before it is durable: no worker of a task, no caller of a start, an
//! answer or an order.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use wharf_saga::machine::{SagaId, What};

use super::{Broken, broken};
use crate::sagas::watch::{Durable, Sent, Watch};

pub(crate) const PROMISE: &str = "nobody hears of anything before it is durable";

/// Workers that read topics: their command stands beside the fact that it was sent, or behind it.
pub(crate) fn commands(watch: &Watch, commit: &Durable) -> Result<(), Broken> {
    commit
        .commands
        .iter()
        .try_for_each(|sent| task(watch, sent))
}

/// A worker was told of a task.
pub(crate) fn task(watch: &Watch, sent: &Sent) -> Result<(), Broken> {
    let suffix = if sent.undo { "/undo" } else { "" };
    let key = format!("{}/{}{suffix}", sent.saga, sent.step);
    if sent.key != key {
        let found = &sent.key;
        return broken(PROMISE, format!("a task has the key {found} and not {key}"));
    }
    let seen = watch.sagas.get(&sent.saga);
    let is_there = seen.is_some_and(|seen| {
        let facts = seen.facts.iter().rev();
        let mut sends = facts.filter_map(|fact| match &fact.what {
            What::Dispatched(known) => Some(known),
            _ => None,
        });
        sends.any(|known| {
            (known.step, known.generation, known.undo) == (sent.step, sent.generation, sent.undo)
        })
    });
    if is_there {
        return Ok(());
    }
    let (name, generation) = (&sent.name, sent.generation);
    broken(
        PROMISE,
        format!("a worker has {name} ({generation}) of {}", sent.saga),
    )
}

/// Somebody was told that a saga began.
pub(crate) fn started(watch: &Watch, id: SagaId) -> Result<(), Broken> {
    if watch.sagas.contains_key(&id) {
        return Ok(());
    }
    broken(PROMISE, format!("a caller was told of {id}"))
}

/// Somebody looked at a saga: it is as the log had it, now or before.
pub(crate) fn looked(watch: &Watch, id: SagaId, state: &[u8]) -> Result<(), Broken> {
    let seen = watch.sagas.get(&id);
    if seen.is_some_and(|seen| seen.past.contains(&digest(state))) {
        return Ok(());
    }
    let known = seen.map(|seen| String::from_utf8_lossy(&seen.bytes));
    let found = String::from_utf8_lossy(state);
    broken(
        PROMISE,
        format!("{id} is seen as {found}\n  and the log has {known:?}"),
    )
}

/// What stands for a state that was.
pub(crate) fn digest(state: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}
