//! 5: nothing goes forward once something was undone, and nothing is undone before the turn.

use wharf_saga::machine::What;

use super::{Broken, broken};
use crate::sagas::watch::{Durable, Watch};

pub(crate) const PROMISE: &str =
    "nothing goes forward once something is undone, and nothing is undone before the turn";

/// How far back a saga went.
#[derive(Debug, Default)]
pub(crate) struct Turned {
    turned: bool,
    /// The greatest generation that went forward, and the smallest that undoes.
    forward: u32,
    undo: Option<u32>,
}

impl Turned {
    pub(crate) fn fact(&mut self, what: &What) -> Result<(), Broken> {
        match what {
            What::Compensating { .. } => self.turned = true,
            What::Redriven { .. } => *self = Self::default(),
            What::Dispatched(sent) if sent.undo => {
                if !self.turned {
                    return broken(PROMISE, format!("{} is undone before the turn", sent.state));
                }
                self.undo.get_or_insert(sent.generation);
            }
            What::Dispatched(sent) => {
                if self.turned {
                    return broken(PROMISE, format!("{} goes forward after it", sent.state));
                }
                self.forward = sent.generation;
            }
            _ => {}
        }
        Ok(())
    }
}

/// The same of what workers are told, in the order in which they are told.
pub(crate) fn commands(watch: &Watch, commit: &Durable) -> Result<(), Broken> {
    for sent in &commit.commands {
        let Some(seen) = watch.sagas.get(&sent.saga) else {
            continue;
        };
        let first = seen.checks.forward.undo;
        // One decision may send a step and turn back; the command is then older than its undo.
        let is_new = commit.facts.iter().any(|(id, _, facts)| {
            let mut facts = facts.iter();
            *id == sent.saga
                && facts.any(|fact| match &fact.what {
                    What::Dispatched(known) => known.generation == sent.generation,
                    _ => false,
                })
        });
        let is_behind = !sent.undo && first.is_some_and(|first| !is_new || sent.generation > first);
        if is_behind || (sent.undo && first.is_none()) {
            let (name, saga) = (&sent.name, sent.saga);
            return broken(PROMISE, format!("a worker is told to do {name} of {saga}"));
        }
    }
    Ok(())
}
