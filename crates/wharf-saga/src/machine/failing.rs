//! When something fails: `Retry`, `Catch`, the Parallel or Map around, and at last the way back.

use super::data::Data;
use super::decide::{Run, Todo, plus};
use super::fact::{Failed, Stop, Trigger, Undone, What};
use super::input::{Failure, Outcome};
use super::operator::ABORTED;
use super::saga::{Cursor, Known, Phase};
use super::status::ParkReason;
use super::values::mix;
use crate::definition::{Catcher, Jitter, Kind, Retrier, State};
use crate::expression;

/// The error of everything that took too long.
pub(super) const TIMEOUT: &str = "States.Timeout";
/// The error of a worker that was silent for too long.
const HEARTBEAT: &str = "States.HeartbeatTimeout";
/// The longest wait before a retry: a hundred years.
const DELAY_MAX_SECONDS: f64 = 3_155_760_000.0;

/// Why a saga is parked at its pivot.
const IN_DOUBT: &str = "nobody knows whether the pivot was done, so nothing may be undone";

/// Who deals with a failure.
enum Handler<'a> {
    Retry(u32, usize, &'a Retrier),
    Catch(u32, &'a Catcher, Failure),
    Tolerate {
        scope: u32,
        parent: u32,
    },
    /// The saga turns back with this failure, or parks.
    Nobody(Failure),
}

impl<'a> Run<'a> {
    /// The answer to an open task, forward or back.
    pub(super) fn answered(&mut self, number: u32, generation: u32, outcome: Outcome) {
        let Some(step) = self.saga.step(number) else {
            return;
        };
        let undo = step.undo;
        match outcome {
            Outcome::Success(output) if undo => self.undo_done(number, generation, output),
            Outcome::Success(output) => {
                let fits = super::values::fits(&output, self.env.payload_max);
                let output = if fits.is_ok() { output } else { Data::null() };
                self.emit(What::Succeeded {
                    step: number,
                    generation,
                    output: output.clone(),
                });
                match fits {
                    Ok(()) => self.complete(number, &output),
                    Err(failure) => self.fail(number, failure),
                }
            }
            Outcome::Failure(failure) => {
                self.failed(number, generation, failure.clone(), "");
                if undo {
                    self.undo_failed(number, failure);
                } else {
                    self.handle(number, failure);
                }
            }
            Outcome::Accepted | Outcome::Heartbeat => {}
        }
    }

    fn failed(&mut self, number: u32, generation: u32, failure: Failure, given_up: &str) {
        let undo = self.saga.step(number).is_some_and(|step| step.undo);
        self.emit(What::Failed(Box::new(Failed {
            step: number,
            generation,
            error: failure.error,
            cause: failure.cause,
            declared: failure.declared,
            undo,
            given_up: given_up.to_owned(),
        })));
    }

    /// Nobody answered in time.
    pub(super) fn timed_out(&mut self, number: u32, expired: bool) {
        let Some(step) = self.saga.step(number) else {
            return;
        };
        let undo = step.undo;
        let (generation, resource) = match &step.phase {
            Phase::Open(open) => (open.generation, open.resource.clone()),
            _ => (0, String::new()),
        };
        let failure = if expired {
            Failure::new(TIMEOUT, "the attempt took longer than its TimeoutSeconds")
        } else {
            Failure::new(
                HEARTBEAT,
                "the worker was silent for longer than the HeartbeatSeconds",
            )
        };
        self.failed(number, generation, failure.clone(), &resource);
        if undo {
            self.undo_failed(number, failure);
        } else {
            self.handle(number, failure);
        }
    }

    /// A state itself fails, and not an attempt of its task.
    pub(super) fn fail(&mut self, number: u32, failure: Failure) {
        self.failed(number, 0, failure.clone(), "");
        self.handle(number, failure);
    }

    /// Finds who deals with the failure of a step and lets him.
    fn handle(&mut self, number: u32, failure: Failure) {
        match self.handler(number, &failure) {
            Handler::Retry(at, index, retrier) => {
                self.stop_inside(at);
                let until = self.retry_at(at, index, retrier);
                self.emit(What::Retrying {
                    step: at,
                    retrier: u32::try_from(index).unwrap_or(0),
                    until,
                });
            }
            Handler::Catch(at, catcher, failure) => {
                self.stop_inside(at);
                let Some(state) = self.state_of(at) else {
                    return;
                };
                let leaving = self.evaluate(at, state, &[], |values, input| {
                    values.leave_caught(input, catcher, &failure)
                });
                match leaving {
                    Ok(leaving) => self.leave(at, leaving, Some(catcher.next.clone()), true),
                    Err(failure) => self.fail_past(at, failure),
                }
            }
            Handler::Tolerate { scope, parent } => self.tolerate(scope, parent, failure),
            Handler::Nobody(failure) => self.uncaught(number, failure),
        }
    }

    /// A branch that may fail ends; the state around goes on without it.
    fn tolerate(&mut self, scope: u32, parent: u32, failure: Failure) {
        self.stop_scope(scope);
        self.emit(What::BranchFailed {
            scope,
            error: failure.error,
            cause: failure.cause,
        });
        self.todo.push_back(Todo::Step(parent));
    }

    /// A `Catch` that fails itself: nobody at this state may deal with that.
    fn fail_past(&mut self, number: u32, failure: Failure) {
        self.failed(number, 0, failure.clone(), "");
        match self.handler_around(number, failure.clone()) {
            Handler::Nobody(failure) => self.uncaught(number, failure),
            Handler::Tolerate { scope, parent } => self.tolerate(scope, parent, failure),
            Handler::Retry(at, ..) | Handler::Catch(at, ..) => {
                // The state around takes it as its own failure.
                self.handle(at, failure);
            }
        }
    }

    fn handler(&self, number: u32, failure: &Failure) -> Handler<'a> {
        if let Some(handler) = self.own_handler(number, failure) {
            return handler;
        }
        self.handler_around(number, failure.clone())
    }

    /// Who deals with it outside of a step: the Parallel or Map around it, or those around that.
    fn handler_around(&self, number: u32, mut failure: Failure) -> Handler<'a> {
        let mut at = number;
        loop {
            let saga = &self.saga.state;
            let Some(scope) = saga.steps.get(&at).map(|step| step.scope) else {
                return Handler::Nobody(failure);
            };
            let parent = saga.scopes.get(&scope).map_or(0, |place| place.parent);
            if parent == 0 {
                return Handler::Nobody(failure);
            }
            let fork = saga.steps.get(&parent).and_then(|step| step.fork.as_ref());
            if let Some((tolerated, failed)) =
                fork.and_then(|fork| Some((fork.tolerated?, fork.failed)))
            {
                if failed < tolerated {
                    return Handler::Tolerate { scope, parent };
                }
                failure = Failure {
                    error: "States.ExceedToleratedFailureThreshold".to_owned(),
                    cause: format!(
                        "more than {tolerated} items failed; the last with {}: {}",
                        failure.error, failure.cause
                    ),
                    declared: false,
                };
            }
            if let Some(handler) = self.own_handler(parent, &failure) {
                return handler;
            }
            at = parent;
        }
    }

    /// A retrier or catcher of the step's own state.
    fn own_handler(&self, number: u32, failure: &Failure) -> Option<Handler<'a>> {
        let state = self.state_of(number)?;
        let step = self.saga.step(number)?;
        let mut retriers = state.retry.iter().enumerate();
        let retrier = retriers.find(|(_, retrier)| matches(&retrier.errors, failure, state));
        if let Some((index, retrier)) = retrier {
            let used = step.retries.get(index).copied().unwrap_or(0);
            if u64::from(used) < retrier.attempts_max {
                return Some(Handler::Retry(number, index, retrier));
            }
        }
        let mut catchers = state.catch.iter();
        let catcher = catchers.find(|catcher| matches(&catcher.errors, failure, state))?;
        Some(Handler::Catch(number, catcher, failure.clone()))
    }

    pub(super) fn retry_at(
        &self,
        number: u32,
        index: usize,
        retrier: &Retrier,
    ) -> wharf_message::Timestamp {
        let used = self
            .saga
            .step(number)
            .and_then(|step| step.retries.get(index).copied())
            .unwrap_or(0);
        let power = f64::from(used.min(10_000));
        let mut seconds = retrier.interval_seconds as f64 * retrier.backoff_rate.powf(power);
        if let Some(max) = retrier.delay_max_seconds {
            seconds = seconds.min(max as f64);
        }
        if !seconds.is_finite() || seconds > DELAY_MAX_SECONDS {
            seconds = DELAY_MAX_SECONDS;
        }
        if retrier.jitter == Jitter::Full {
            let draw = mix(self.env.seed ^ mix(self.visit(number))) >> 11;
            seconds *= draw as f64 / (1_u64 << 53) as f64;
        }
        plus(self.now(), (seconds * 1_000.0).max(0.0) as u64)
    }

    /// Nothing caught it: back, or to a person.
    fn uncaught(&mut self, number: u32, failure: Failure) {
        let park = if self.saga.state.pivoted {
            Some("the pivot is passed, so nothing is undone")
        } else if !self.undoes_on(&failure) {
            Some("CompensateOn does not name this error")
        } else if self.pivot_in_doubt().is_some() {
            Some(IN_DOUBT)
        } else {
            None
        };
        match park {
            Some(why) => self.park(number, failure, why),
            None => self.turn_back(Trigger::Error, failure),
        }
    }

    /// Nobody waits any more for a pivot that may have been done; a person finds out.
    pub(super) fn park_pivot(&mut self, number: u32, failure: Failure) {
        let phase = self.saga.step(number).map(|step| &step.phase);
        if let Some(Phase::Open(open)) = phase {
            let (generation, resource) = (open.generation, open.resource.clone());
            self.failed(number, generation, failure.clone(), &resource);
        }
        self.park(number, failure, IN_DOUBT);
    }

    /// The sub-saga that is the pivot was undone: what its error or an operator wanted happens now.
    pub(super) fn pivot_was_not_done(&mut self, error: &str, cause: &str) {
        let trigger = match error {
            ABORTED => Trigger::Operator,
            _ => Trigger::Error,
        };
        let doubt = format!(" ({IN_DOUBT})");
        let cause = cause.strip_suffix(&doubt).unwrap_or(cause);
        self.turn_back(trigger, Failure::new(error, cause));
    }

    fn park(&mut self, number: u32, failure: Failure, why: &str) {
        let cause = if failure.cause.is_empty() {
            why.to_owned()
        } else {
            format!("{} ({why})", failure.cause)
        };
        self.stop_inside(number);
        self.emit(What::Parked {
            step: Some(number),
            reason: ParkReason::Step,
            undo: false,
            error: failure.error,
            cause,
        });
    }

    /// Whether an error that nothing caught undoes the saga.
    pub(super) fn undoes_on(&self, failure: &Failure) -> bool {
        let errors = &self.machine.saga.compensate_on;
        let named = |name: &String| {
            *name == failure.error
                || name == "States.ALL"
                || (name == "States.TaskFailed" && failure.error != TIMEOUT)
                || (name == TIMEOUT && failure.error == HEARTBEAT)
        };
        errors.iter().any(named)
    }

    /// The pivot, where it is under way, went out, has no undo, and nobody knows its outcome.
    pub(super) fn pivot_in_doubt(&self) -> Option<u32> {
        let pivot = self.machine.saga.pivot.as_ref()?;
        let Cursor::At(number) = self.saga.state.scopes.get(&0)?.cursor else {
            return None;
        };
        let step = self.saga.step(number)?;
        let is_in_doubt = step.state == *pivot
            && matches!(step.outcome, Known::Unknown | Known::Done)
            && !step.undoable;
        is_in_doubt.then_some(number)
    }

    /// Stops the branches of the current round of a step, and not the step.
    pub(super) fn stop_inside(&mut self, number: u32) {
        let saga = &self.saga.state;
        let Some(fork) = saga.steps.get(&number).and_then(|step| step.fork.as_ref()) else {
            return;
        };
        for scope in fork.scopes.clone() {
            self.stop_scope(scope);
        }
    }

    /// Stops a flow where it is.
    pub(super) fn stop_scope(&mut self, scope: u32) {
        let place = self.saga.state.scopes.get(&scope);
        if let Some(Cursor::At(number)) = place.map(|place| &place.cursor) {
            let number = *number;
            self.stop_inside(number);
            self.stop_step(number, None);
        }
    }

    /// Stops a step whose inside is stopped already.
    pub(super) fn stop_step(&mut self, number: u32, how: Option<Stop>) {
        let Some(step) = self.saga.step(number) else {
            return;
        };
        let (generation, resource) = match &step.phase {
            Phase::Open(open) => (open.generation, open.resource.clone()),
            _ => (0, String::new()),
        };
        let how = how.unwrap_or(if self.saga.leaves_a_node(number) {
            Stop::Node
        } else {
            Stop::Dropped
        });
        self.emit(What::Stopped {
            step: number,
            how,
            generation,
            resource,
        });
    }

    /// An undo failed: once more, or it is left to a person, or left.
    pub(super) fn undo_failed(&mut self, number: u32, failure: Failure) {
        let Some(undo) = self
            .state_of(number)
            .and_then(|state| state.compensate.as_ref())
        else {
            return;
        };
        let Some(step) = self.saga.step(number) else {
            return;
        };
        let scope = step.scope;
        let mut retriers = undo.retry.iter().enumerate();
        let retrier = retriers.find(|(_, retrier)| {
            if failure.declared {
                // A worker that says for certain that it will not is asked again only by name.
                return retrier.errors.contains(&failure.error);
            }
            names(&retrier.errors, &failure, true)
        });
        if let Some((index, retrier)) = retrier {
            let used = step.retries.get(index).copied().unwrap_or(0);
            if u64::from(used) < retrier.attempts_max {
                let until = self.retry_at(number, index, retrier);
                self.emit(What::Retrying {
                    step: number,
                    retrier: u32::try_from(index).unwrap_or(0),
                    until,
                });
                return;
            }
        }
        match undo.on_failure {
            crate::definition::OnFailure::Park => self.emit(What::Parked {
                step: Some(number),
                reason: ParkReason::Compensation,
                undo: true,
                error: failure.error,
                cause: failure.cause,
            }),
            crate::definition::OnFailure::Continue => {
                self.emit(What::Undone {
                    step: number,
                    how: Undone::GivenUp,
                    generation: 0,
                    output: None,
                });
                self.todo.push_back(Todo::Undo(scope));
            }
        }
    }
}

/// Whether a retrier or catcher of a state is for this error.
fn matches(errors: &[String], failure: &Failure, state: &State) -> bool {
    let task = matches!(state.kind, Kind::Task(_));
    let branch = "States.BranchFailed";
    let parallel = matches!(state.kind, Kind::Parallel(_));
    names(errors, failure, task) || (parallel && errors.iter().any(|name| name == branch))
}

fn names(errors: &[String], failure: &Failure, task: bool) -> bool {
    let error = failure.error.as_str();
    // These end a state whatever stands there, unless they are named.
    let terminal =
        error == expression::Failure::RUNTIME || error == expression::Failure::DATA_LIMIT;
    errors.iter().any(|name| match name.as_str() {
        "States.ALL" => !terminal,
        "States.TaskFailed" => {
            error == "States.TaskFailed" || (task && !terminal && error != TIMEOUT)
        }
        TIMEOUT => error == TIMEOUT || error == HEARTBEAT,
        name => name == error,
    })
}
