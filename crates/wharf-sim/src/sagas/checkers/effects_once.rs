//! 2: at the workers, the effect of every step is there once if the saga counts it done, and not at
//! all, or undone, if it does not.

use std::collections::BTreeMap;

use wharf_saga::machine::{Outcome, SagaId, Undone, What};

use super::{Broken, broken};
use crate::sagas::participants::Participants;

pub(crate) const PROMISE: &str = "every step has its effect once, or not at all, or undone";

/// What a saga knows of the work of one visit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Said {
    #[default]
    Never,
    Unknown,
    Done,
    Nothing,
}

#[derive(Debug, Default)]
struct Visit {
    said: Said,
    undone: Option<Undone>,
    task: bool,
}

/// The visits of a saga.
#[derive(Debug, Default)]
pub(crate) struct Visits(BTreeMap<u32, Visit>);

impl Visits {
    pub(crate) fn fact(&mut self, what: &What) {
        match what {
            What::Dispatched(sent) => {
                let visit = self.0.entry(sent.step).or_default();
                // What is in other sagas is theirs.
                visit.task = !sent.resource.starts_with("wharf:saga:");
                if !sent.undo && visit.said != Said::Done {
                    visit.said = Said::Unknown;
                }
            }
            What::Succeeded { step, .. } => self.say(*step, Said::Done),
            What::Failed(failed) if failed.declared && !failed.undo => {
                self.say(failed.step, Said::Nothing);
            }
            What::Late { step, outcome, .. } => match outcome {
                Outcome::Success(_) => self.say(*step, Said::Done),
                // What was said to be done stays so, such as by a person's mark.
                Outcome::Failure(failure) if failure.declared && !self.is_done(*step) => {
                    self.say(*step, Said::Nothing);
                }
                _ => {}
            },
            What::Marked { step, done, .. } => {
                let said = if *done { Said::Done } else { Said::Nothing };
                self.say(*step, said);
            }
            What::Undone { step, how, .. } => {
                self.0.entry(*step).or_default().undone = Some(*how);
            }
            _ => {}
        }
    }

    /// Whether a visit is work of a participant.
    pub(crate) fn is_task(&self, step: u32) -> bool {
        self.0.get(&step).is_some_and(|visit| visit.task)
    }

    fn is_done(&self, step: u32) -> bool {
        let visit = self.0.get(&step);
        visit.is_some_and(|visit| matches!(visit.said, Said::Done))
    }

    fn say(&mut self, step: u32, said: Said) {
        self.0.entry(step).or_default().said = said;
    }

    /// Compares with what the workers did, once the saga is over.
    pub(crate) fn ended(&self, id: SagaId, workers: &Participants) -> Result<(), Broken> {
        for (step, visit) in self.0.iter().filter(|(_, visit)| visit.task) {
            let (applied, undone) = workers.effect(&format!("{id}/{step}"));
            let net = applied.saturating_sub(undone);
            let must_be = match visit.undone {
                Some(Undone::Done | Undone::Marked | Undone::Nothing) => Some(0),
                Some(Undone::Skipped | Undone::GivenUp) => None,
                Some(Undone::Inside) | None => match visit.said {
                    Said::Never | Said::Nothing => Some(0),
                    Said::Done => Some(1),
                    Said::Unknown => None,
                },
            };
            let is_wrong = must_be.is_some_and(|wanted| wanted != net);
            if is_wrong || applied > 1 || undone > applied {
                let detail = format!(
                    "step {step} of {id} was done {applied} times and undone {undone} times; the \
                     saga has {visit:?}"
                );
                return broken(PROMISE, detail);
            }
        }
        Ok(())
    }
}
