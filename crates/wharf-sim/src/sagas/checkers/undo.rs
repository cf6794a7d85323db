//! 3 and 4: exactly what was done, or may have been, is undone, each once, in the reverse order.
//!
//! The oracle of `wharf-saga` judges; what workers and people said is taken from the recorded facts,
//! and whether those are right is for the other checkers.

use wharf_saga::definition::{Machine, Order};
use wharf_saga::machine::{Decision, Fact, Failure, Input, Outcome, What};
use wharf_saga::testing::Oracle;

use super::{Broken, broken};

pub(crate) const SET: &str = "exactly what was done, or may have been, is undone, each once";
pub(crate) const ORDER: &str = "what was done is undone in the reverse order";

/// What there is to undo of a saga.
pub(crate) struct Undo {
    /// None where it has parts that the oracle does not know.
    oracle: Option<Oracle>,
}

impl Undo {
    pub(crate) fn new(machine: &Machine, judges_order: bool) -> Self {
        let mut machine = machine.clone();
        if judges_order {
            machine.saga.order = Order::ReverseCompletion;
        }
        let is_known = !super::super::definitions::has_sub_sagas(&machine);
        Self {
            oracle: is_known.then(|| Oracle::new(&machine)),
        }
    }

    pub(crate) fn decided(&mut self, facts: &[Fact]) -> Result<(), Broken> {
        let Some(oracle) = &mut self.oracle else {
            return Ok(());
        };
        // One fact after the other, each with what was said for it.
        for fact in facts {
            let decision = Decision {
                facts: vec![fact.clone()],
            };
            let said = said(&fact.what).unwrap_or(Input::Tick);
            if let Err(wharf_saga::testing::Broken(detail)) = oracle.observe(&said, &decision) {
                let promise = match detail.contains("is undone before") {
                    true => ORDER,
                    false => SET,
                };
                return broken(promise, detail);
            }
        }
        Ok(())
    }
}

/// What somebody must have said for a fact to be recorded.
fn said(what: &What) -> Option<Input> {
    let reply = |step: u32, generation: u32, outcome: Outcome| Input::Reply {
        step,
        generation,
        outcome,
    };
    match what {
        What::Succeeded {
            step,
            generation,
            output,
        } if *generation != 0 => Some(reply(*step, *generation, Outcome::Success(output.clone()))),
        What::Failed(failed) if failed.generation != 0 && failed.given_up.is_empty() => {
            let failure = Failure {
                error: failed.error.clone(),
                cause: String::new(),
                declared: failed.declared,
            };
            let outcome = Outcome::Failure(failure);
            Some(reply(failed.step, failed.generation, outcome))
        }
        What::Late {
            step,
            generation,
            outcome,
        } => Some(reply(*step, *generation, outcome.clone())),
        What::Acted(order) => Some(Input::Operator((**order).clone())),
        _ => None,
    }
}
