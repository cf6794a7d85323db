//! What people do to a saga, what is allowed when, and why not otherwise.
//!
//! Every action is a fact of its own before what it brings about, so that the audit is part of the
//! history. An action that races with a late answer is either before it or after it, never both:
//! the one that comes second finds the step moved on and is refused.

use std::mem;

use super::data::Data;
use super::decide::{Run, Todo, later};
use super::fact::{Trigger, Undone, What};
use super::forward::next_of;
use super::input::{Action, Failure, Mark, Order, Outcome};
use super::refusal::Refusal;
use super::saga::{Phase, Step};
use super::values::Leaving;
use crate::definition::Kind;

/// The error of a saga that an operator aborted.
pub(super) const ABORTED: &str = "Saga.Aborted";

impl Run<'_> {
    pub(super) fn operator(&mut self, order: Order) -> Result<(), Refusal> {
        let ended = self.saga.state.ended.as_ref();
        if let Some(ended) = ended.filter(|_| order.action != Action::Redrive) {
            return Err(Refusal::Ended(ended.status));
        }
        match order.action.clone() {
            Action::Pause => {
                if self.saga.state.paused {
                    return Err(Refusal::AlreadyPaused);
                }
                self.acted(order);
            }
            Action::Resume => {
                if !self.saga.is_halted() {
                    return Err(Refusal::NotPaused);
                }
                self.resume(order);
            }
            Action::Retry { step } => self.retry(step, order)?,
            Action::Skip { step, output } => self.skip(step, output, order)?,
            Action::Mark { step, mark } => self.mark(step, mark, order)?,
            Action::Edit { step, input } => {
                let (number, _) = self.pick(step)?;
                self.small_enough(&input)?;
                self.acted(order);
                self.emit(What::Edited {
                    step: number,
                    input,
                });
            }
            Action::Redrive => self.redrive(order)?,
            Action::Abort => self.abort(order)?,
        }
        Ok(())
    }

    /// Back, or to a person who finds out what became of the pivot.
    fn abort(&mut self, order: Order) -> Result<(), Refusal> {
        if self.saga.state.compensating.is_some() {
            return Err(Refusal::AlreadyCompensating);
        }
        if self.saga.state.pivoted {
            return Err(Refusal::PastPivot);
        }
        let pivot = self.pivot_in_doubt();
        let step = pivot.and_then(|number| self.saga.step(number));
        if step.is_some_and(|step| matches!(step.phase, Phase::Parked { .. })) {
            return Err(Refusal::PivotInDoubt);
        }
        let cause = format!("aborted by {}: {}", order.by, order.reason);
        let failure = Failure::new(ABORTED, cause);
        let kept = mem::take(&mut self.saga.state.kept);
        self.acted(order);
        match pivot {
            Some(number) => self.park_pivot(number, failure),
            None => self.turn_back(Trigger::Operator, failure),
        }
        self.take_kept(kept);
        Ok(())
    }

    fn acted(&mut self, order: Order) {
        self.emit(What::Acted(Box::new(order)));
    }

    fn resume(&mut self, order: Order) {
        let kept = mem::take(&mut self.saga.state.kept);
        self.acted(order);
        self.take_kept(kept);
        self.look_everywhere();
    }

    /// The parked step that an action means.
    fn pick(&self, step: Option<u32>) -> Result<(u32, &Step), Refusal> {
        let state = &self.saga.state;
        let number = match step {
            Some(number) => number,
            None => {
                let mut parked = state.parked.iter();
                let Some(first) = parked.next() else {
                    let hint = if self.saga.state.overdue {
                        "the deadline holds the saga: resume it, or abort it"
                    } else {
                        "name a step to retry one that waits, or abort the saga to undo it"
                    };
                    return Err(Refusal::NothingParked { hint });
                };
                if parked.next().is_some() {
                    let known: Vec<String> = state.parked.iter().map(u32::to_string).collect();
                    return Err(Refusal::WhichStep {
                        known: known.join(", "),
                    });
                }
                *first
            }
        };
        let Some(found) = state.steps.get(&number) else {
            let known: Vec<String> = self
                .saga
                .current()
                .iter()
                .map(|step| format!("{} ({})", step.step, step.name))
                .collect();
            return Err(Refusal::UnknownStep {
                step: number,
                known: known.join(", "),
            });
        };
        if !matches!(found.phase, Phase::Parked { .. }) {
            return Err(Refusal::NotParked {
                step: number,
                name: found.state.clone(),
                doing: found.phase.word().to_owned(),
                hint: "wait for it, or abort the saga",
            });
        }
        Ok((number, found))
    }

    fn retry(&mut self, step: Option<u32>, order: Order) -> Result<(), Refusal> {
        let waits = step.filter(|number| {
            let step = self.saga.state.steps.get(number);
            step.is_some_and(|step| matches!(step.phase, Phase::Backoff { .. }))
        });
        let number = match waits {
            Some(number) => number,
            None => self.pick(step)?.0,
        };
        self.acted(order);
        self.emit(What::Retried { step: number });
        self.todo.push_back(Todo::Step(number));
        Ok(())
    }

    fn skip(&mut self, step: Option<u32>, output: Data, order: Order) -> Result<(), Refusal> {
        let (number, found) = self.pick(step)?;
        let refused = |name: &str, why| Refusal::NotForThisStep {
            step: number,
            name: name.to_owned(),
            why,
        };
        if found.undo {
            return Err(refused(
                &found.state,
                "it is its undo that is parked, and an undo has no output; mark it compensated \
                 instead",
            ));
        }
        self.small_enough(&output)?;
        let state = self.state_of(number);
        if state.is_some_and(|state| matches!(state.kind, Kind::Choice(_))) {
            return Err(refused(
                &found.state,
                "a Choice that is skipped has nowhere to go on; edit its input and retry it",
            ));
        }
        let next = state.and_then(next_of);
        self.acted(order);
        let leaving: Leaving = (output, std::collections::BTreeMap::new());
        self.leave(number, leaving, next, false);
        Ok(())
    }

    fn mark(&mut self, step: Option<u32>, mark: Mark, order: Order) -> Result<(), Refusal> {
        let (number, found) = self.pick(step)?;
        let undo = found.undo;
        let state = self.state_of(number);
        let work = state.is_some_and(|state| {
            matches!(state.kind, Kind::Task(_) | Kind::Parallel(_) | Kind::Map(_))
        });
        if !undo && !work {
            return Err(Refusal::NotForThisStep {
                step: number,
                name: found.state.clone(),
                why: "it does no work that could be done or undone; edit its input and retry it, \
                      or skip it",
            });
        }
        match mark {
            Mark::Compensated if undo => {
                self.acted(order);
                self.undone(number, Undone::Marked, 0, None);
            }
            Mark::Compensated => {
                self.acted(order);
                self.emit(What::Marked {
                    step: number,
                    done: false,
                    output: None,
                });
            }
            Mark::Completed { output } => {
                self.small_enough(&output)?;
                self.acted(order);
                if undo {
                    self.emit(What::Marked {
                        step: number,
                        done: true,
                        output: Some(output).filter(|output| !output.is_null()),
                    });
                    self.emit(What::Retried { step: number });
                    self.todo.push_back(Todo::Step(number));
                } else {
                    self.answered(number, 0, Outcome::Success(output));
                }
            }
        }
        Ok(())
    }

    fn redrive(&mut self, order: Order) -> Result<(), Refusal> {
        let state = &self.saga.state;
        let Some(ended) = &state.ended else {
            return Err(Refusal::NotRedrivable(
                "it has not ended; retry its parked step instead",
            ));
        };
        if state
            .start
            .as_ref()
            .is_some_and(|start| start.parent.is_some())
        {
            return Err(Refusal::NotRedrivable(
                "the saga that waits for it was told of its end; redrive that one instead",
            ));
        }
        if ended.error.is_none() {
            return Err(Refusal::NotRedrivable(
                "it completed; start a new one instead",
            ));
        }
        if state.compensating.is_some() {
            return Err(Refusal::NotRedrivable(
                "it was undone, and what is undone is not done again; start a new one instead",
            ));
        }
        let after = |seconds: Option<u64>| seconds.map(|seconds| later(self.now(), seconds));
        let timeout = after(self.machine.timeout_seconds);
        let deadline = after(self.machine.saga.deadline_seconds);
        self.acted(order);
        self.emit(What::Redriven { timeout, deadline });
        self.look_everywhere();
        Ok(())
    }
}
