//! 11: only the newest dispatch of a step is answered, once; an answer to an older one is recorded
//! and changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use wharf_saga::machine::What;

use super::{Broken, broken};

pub(crate) const PROMISE: &str = "only the newest dispatch of a step is answered, once";

/// What was sent and answered of a saga.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    newest: BTreeMap<u32, u32>,
    last: u32,
    answered: BTreeSet<u32>,
    /// Generations of which any answer was recorded.
    heard: BTreeSet<u32>,
}

impl Answered {
    pub(crate) fn fact(&mut self, what: &What) -> Result<(), Broken> {
        let (step, generation) = match what {
            What::Dispatched(sent) => {
                if sent.generation <= self.last {
                    let (new, old) = (sent.generation, self.last);
                    return broken(PROMISE, format!("dispatch {new} follows {old}"));
                }
                self.last = sent.generation;
                self.newest.insert(sent.step, sent.generation);
                return Ok(());
            }
            What::Succeeded {
                step, generation, ..
            }
            | What::Undone {
                step, generation, ..
            } => (*step, *generation),
            What::Failed(failed) => {
                // While it waits for its retry, a late success still counts.
                self.heard.insert(failed.generation);
                let is_answered = self.answered.contains(&failed.generation);
                if is_answered && failed.generation != 0 {
                    let generation = failed.generation;
                    return broken(
                        PROMISE,
                        format!("dispatch {generation} failed after its answer"),
                    );
                }
                return Ok(());
            }
            What::Late { generation, .. } | What::StaleReply { generation, .. } => {
                self.heard.insert(*generation);
                return Ok(());
            }
            What::Kept(kept) => {
                self.heard.insert(kept.generation);
                return Ok(());
            }
            _ => return Ok(()),
        };
        if generation == 0 {
            return Ok(());
        }
        self.heard.insert(generation);
        if self.newest.get(&step) != Some(&generation) {
            let newest = self.newest.get(&step);
            let detail = format!("step {step} took an answer to {generation}, not {newest:?}");
            return broken(PROMISE, detail);
        }
        if !self.answered.insert(generation) {
            return broken(PROMISE, format!("dispatch {generation} was answered twice"));
        }
        Ok(())
    }

    /// A worker was told that its answer is stale.
    pub(crate) fn told(&self, generation: u32) -> Result<(), Broken> {
        if self.heard.contains(&generation) || generation > self.last {
            return Ok(());
        }
        broken(
            PROMISE,
            format!("a stale answer to {generation} is no record"),
        )
    }
}
