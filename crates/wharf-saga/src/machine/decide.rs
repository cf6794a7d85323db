//! The way in: one input, decided on against the saga and its definition.
//!
//! A refusal is always found before the first fact, so that a refused input changes nothing. How
//! many states one decision passes through is bounded; the rest is left to the next tick, so that a
//! loop without a wait never hangs.

use std::collections::VecDeque;

use wharf_message::Timestamp;

use super::data::Data;
use super::effects::Decision;
use super::fact::{Fact, Kept, Trigger, What};
use super::input::{ChildEnd, Env, Failure, Input, Outcome, Start};
use super::refusal::Refusal;
use super::saga::{Cursor, Phase, Saga, Step};
use super::status::ParkReason;
use super::values::size;
use crate::definition::{Definition, Machine, OnDeadline};

/// How many states one decision passes through.
const PASSED_MAX: u32 = 1_000;
/// How many signals are kept for whom may ask for them.
const SIGNALS_MAX: usize = 100;
/// Of how many dispatches a stale answer is recorded.
const STALE_MAX: usize = 100;

/// Decides on an input: what is so because of it, or why it is refused. The saga is not changed;
/// [`step`] does the same in place.
pub fn decide(
    definition: &Definition,
    saga: &Saga,
    input: Input,
    env: &Env<'_>,
) -> Result<Decision, Refusal> {
    step(definition, &mut saga.clone(), input, env)
}

/// Decides on an input and applies the facts that come of it. After a refusal the saga is as it was.
pub fn step(
    definition: &Definition,
    saga: &mut Saga,
    input: Input,
    env: &Env<'_>,
) -> Result<Decision, Refusal> {
    let pinned = match &input {
        Input::Start(start) => Some(start.definition),
        _ => saga.start().map(|start| start.definition),
    };
    if let Some(pinned) = pinned.filter(|pinned| *pinned != definition.hash) {
        let given = definition.hash;
        return Err(Refusal::OtherDefinition { pinned, given });
    }
    let mut run = Run {
        machine: &definition.machine,
        saga,
        env,
        facts: Vec::new(),
        todo: VecDeque::new(),
        passed: 0,
    };
    run.input(input)?;
    run.go_on();
    Ok(Decision { facts: run.facts })
}

/// One decision in the making.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) machine: &'a Machine,
    pub(super) saga: &'a mut Saga,
    pub(super) env: &'a Env<'a>,
    pub(super) facts: Vec<Fact>,
    pub(super) todo: VecDeque<Todo>,
    pub(super) passed: u32,
}

/// What is still to be looked at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Todo {
    /// A flow may enter its next state.
    Scope(u32),
    /// A visit may go on.
    Step(u32),
    /// A flow may undo its next node.
    Undo(u32),
    /// The branches of a Parallel or Map may be undone.
    Inside(u32),
}

impl Run<'_> {
    pub(super) fn now(&self) -> Timestamp {
        self.env.now
    }

    /// Makes something so.
    pub(super) fn emit(&mut self, what: What) {
        let fact = Fact {
            at: self.env.now,
            what,
        };
        self.saga.apply(&fact);
        self.facts.push(fact);
    }

    fn input(&mut self, input: Input) -> Result<(), Refusal> {
        if let Input::Start(start) = input {
            return self.start(start);
        }
        if self.saga.state.start.is_none() {
            return Err(Refusal::NotStarted);
        }
        if self.saga.state.yielded {
            self.look_everywhere();
        }
        match input {
            Input::Start(_) => Err(Refusal::AlreadyStarted),
            Input::Reply {
                step,
                generation,
                outcome,
            } => self.reply(step, generation, outcome),
            Input::ChildEnded {
                step,
                generation,
                end,
            } => self.child_ended(step, generation, end),
            Input::Admit { step } => self.admit(step),
            Input::Tick => {
                self.tick();
                Ok(())
            }
            Input::Signal { name, payload } => self.signal(name, payload),
            Input::Operator(order) => self.operator(order),
        }
    }

    fn start(&mut self, start: Start) -> Result<(), Refusal> {
        if self.saga.state.start.is_some() {
            return Err(Refusal::AlreadyStarted);
        }
        self.small_enough(&start.input)?;
        let after = |seconds: Option<u64>| seconds.map(|seconds| later(self.now(), seconds));
        let timeout = after(self.machine.timeout_seconds);
        let deadline = after(self.machine.saga.deadline_seconds);
        let first = self.machine.flow.start_at.clone();
        self.emit(What::Started {
            start: Box::new(start),
            first,
            timeout,
            deadline,
        });
        self.todo.push_back(Todo::Scope(0));
        Ok(())
    }

    pub(super) fn small_enough(&self, value: &Data) -> Result<(), Refusal> {
        let (size, max) = (size(value), self.env.payload_max);
        if size > max {
            return Err(Refusal::TooLarge { size, max });
        }
        Ok(())
    }

    pub(super) fn reply(
        &mut self,
        number: u32,
        generation: u32,
        outcome: Outcome,
    ) -> Result<(), Refusal> {
        let state = &self.saga.state;
        if generation == 0 || generation > state.generation || number > state.steps_last {
            return Err(Refusal::UnknownTask {
                step: number,
                generation,
            });
        }
        let current = state
            .steps
            .get(&number)
            .filter(|step| step.generation == generation && state.ended.is_none());
        let Some(step) = current else {
            return self.stale(number, generation, &outcome);
        };
        if let Outcome::Accepted | Outcome::Heartbeat = outcome {
            let Phase::Open(open) = &step.phase else {
                return self.stale(number, generation, &outcome);
            };
            let until = open.heartbeat.map(|every| plus(self.env.now, every));
            self.emit(What::Beat {
                step: number,
                generation,
                accepted: matches!(outcome, Outcome::Accepted),
                until,
            });
            return Ok(());
        }
        if self.saga.is_halted() {
            return self.keep(Kept {
                step: number,
                generation,
                outcome: Some(outcome),
                child: None,
            });
        }
        self.answer(number, generation, outcome)
    }

    /// An answer to the last dispatch of a step that is still known.
    fn answer(&mut self, number: u32, generation: u32, outcome: Outcome) -> Result<(), Refusal> {
        let Some(step) = self.saga.step(number) else {
            return self.stale(number, generation, &outcome);
        };
        let waits = matches!(step.phase, Phase::Backoff { .. } | Phase::Parked { .. });
        let forward_of_undo = step.undo && step.attempt == 0;
        match (&step.phase, &outcome) {
            (Phase::Open(_), _) => self.answered(number, generation, outcome),
            (Phase::Node | Phase::Skipped, _) => self.late(number, generation, outcome),
            _ if forward_of_undo => self.late(number, generation, outcome),
            (_, Outcome::Success(_)) if waits => self.answered(number, generation, outcome),
            _ => return self.stale(number, generation, &outcome),
        }
        Ok(())
    }

    fn child_ended(&mut self, number: u32, generation: u32, end: ChildEnd) -> Result<(), Refusal> {
        let known = self.saga.step(number);
        // The end of one that was given up says nothing about the one that came after it.
        let is_awaited = |step: &&Step| step.child != 0 && step.child == generation;
        let Some(step) = known.filter(is_awaited) else {
            let outcome = end.into_outcome();
            return self.reply(number, generation, outcome);
        };
        let child = step.child;
        let is_answer = match step.phase {
            Phase::Open(_) => step.undo == step.child_undo,
            // It was given up, and is what it would have been in time.
            Phase::Ready | Phase::Backoff { .. } | Phase::Parked { .. } => {
                step.undo == step.child_undo && matches!(end, ChildEnd::Completed(_))
            }
            _ => false,
        };
        let is_ready = matches!(step.phase, Phase::Ready);
        let in_doubt = match &step.phase {
            Phase::Parked { error, cause, .. } if self.pivot_in_doubt() == Some(number) => {
                Some((error.clone(), cause.clone()))
            }
            _ => None,
        };
        if self.saga.is_halted() {
            return self.keep(Kept {
                step: number,
                generation: child,
                outcome: None,
                child: Some(end),
            });
        }
        let outcome = end.into_outcome();
        if is_answer {
            self.answered(number, child, outcome);
            return Ok(());
        }
        self.late(number, child, outcome);
        if is_ready {
            self.todo.push_back(Todo::Step(number));
        }
        if let Some((error, cause)) = in_doubt {
            self.pivot_was_not_done(&error, &cause);
        }
        Ok(())
    }

    fn keep(&mut self, kept: Kept) -> Result<(), Refusal> {
        let waiting = &self.saga.state.kept;
        let step = kept.step;
        if waiting
            .iter()
            .any(|other| other.step == step && other.generation == kept.generation)
        {
            return Err(Refusal::AlreadyKept { step });
        }
        self.emit(What::Kept(Box::new(kept)));
        Ok(())
    }

    /// Takes the answers that came while nothing was to go on.
    pub(super) fn take_kept(&mut self, kept: VecDeque<Kept>) {
        for kept in kept {
            let (step, generation) = (kept.step, kept.generation);
            // An answer that another one overtook is recorded as stale, or is known as such.
            let taken = match (kept.outcome, kept.child) {
                (Some(outcome), _) => self.reply(step, generation, outcome),
                (None, Some(end)) => self.child_ended(step, generation, end),
                (None, None) => Ok(()),
            };
            drop(taken);
        }
    }

    /// An answer that changes nothing: recorded once for each dispatch, and only so many of them.
    fn stale(&mut self, step: u32, generation: u32, outcome: &Outcome) -> Result<(), Refusal> {
        let recorded = &self.saga.state.stale;
        let said = match outcome {
            Outcome::Success(_) => "success",
            Outcome::Failure(failure) if failure.declared => "declared_failure",
            Outcome::Failure(_) => "failure",
            Outcome::Accepted | Outcome::Heartbeat => "",
        };
        if said.is_empty() || recorded.len() >= STALE_MAX || recorded.contains(&generation) {
            return Err(Refusal::Stale { step, generation });
        }
        self.emit(What::StaleReply {
            step,
            generation,
            said: said.to_owned(),
        });
        Ok(())
    }

    /// The answer to a task that was not continued: it tells whether there is something to undo.
    fn late(&mut self, number: u32, generation: u32, outcome: Outcome) {
        let undo = self.saga.step(number).is_some_and(|step| step.undo);
        let parked = undo && self.saga.state.parked.contains(&number);
        let is_of_undo = self
            .saga
            .step(number)
            .is_some_and(|step| step.child_undo && step.child == generation);
        let told = match &outcome {
            Outcome::Success(_) => true,
            Outcome::Failure(failure) => failure.declared && !is_of_undo,
            _ => false,
        };
        self.emit(What::Late {
            step: number,
            generation,
            outcome,
        });
        if parked && told {
            self.emit(What::Retried { step: number });
        }
        // A node whose turn has not come yet waits for it.
        if undo && self.saga.state.compensating.is_some() {
            let scope = self.saga.step(number).map_or(0, |step| step.scope);
            self.todo.push_back(Todo::Undo(scope));
            self.todo.push_back(Todo::Step(number));
        }
    }

    fn admit(&mut self, number: u32) -> Result<(), Refusal> {
        let step = self.saga.step(number);
        let held = step.is_some_and(|step| {
            matches!(
                step.phase,
                Phase::Held {
                    admitted: false,
                    ..
                }
            )
        });
        if !held || self.saga.state.ended.is_some() {
            return Err(Refusal::NotHeld { step: number });
        }
        self.emit(What::Admitted { step: number });
        self.todo.push_back(Todo::Step(number));
        Ok(())
    }

    fn signal(&mut self, name: String, payload: Data) -> Result<(), Refusal> {
        if let Some(ended) = &self.saga.state.ended {
            return Err(Refusal::Ended(ended.status));
        }
        self.small_enough(&payload)?;
        let halted = self.saga.is_halted();
        let mut steps = self.saga.state.steps.iter();
        let waits = steps.find(|(_, step)| {
            matches!(&step.phase, Phase::Listening { signal, .. } if *signal == name) && !halted
        });
        if let Some((number, _)) = waits {
            let number = *number;
            self.answered(number, 0, Outcome::Success(payload));
            return Ok(());
        }
        let kept = self.saga.state.signals.len();
        if kept >= SIGNALS_MAX {
            return Err(Refusal::TooManySignals { kept });
        }
        self.emit(What::SignalKept {
            signal: name,
            payload,
        });
        Ok(())
    }

    fn tick(&mut self) {
        if self.saga.state.ended.is_some() || self.saga.is_halted() {
            return;
        }
        if self.deadline() {
            return;
        }
        let now = self.now().as_millis();
        let due = self.saga.timers.range(..=(now, u32::MAX));
        let due: Vec<u32> = due.map(|(_, step)| *step).collect();
        for number in due {
            // What an earlier one brought about may have stopped this one.
            let step = self.saga.step(number);
            if let Some(step) = step.filter(|step| step.due().is_some_and(|at| at <= self.now())) {
                match &step.phase {
                    Phase::Open(open) => {
                        let expired = open.timeout.is_some_and(|at| at <= self.now());
                        self.timed_out(number, expired);
                    }
                    Phase::Listening { .. } => self.timed_out(number, true),
                    _ => self.todo.push_back(Todo::Step(number)),
                }
            }
        }
    }

    /// Whether the deadline of the whole saga has come, once.
    fn deadline(&mut self) -> bool {
        let state = &self.saga.state;
        let passed = |time: Option<Timestamp>| time.is_some_and(|time| time <= self.now());
        let (timeout, deadline) = (passed(state.timeout), passed(state.deadline));
        if state.compensating.is_some() || !(timeout || deadline) {
            return false;
        }
        let policy = &self.machine.saga;
        let cause = if timeout {
            let seconds = self.machine.timeout_seconds.unwrap_or_default();
            format!("the saga took longer than its TimeoutSeconds ({seconds})")
        } else {
            let seconds = policy.deadline_seconds.unwrap_or_default();
            format!("the saga took longer than its DeadlineSeconds ({seconds})")
        };
        let failure = Failure {
            error: super::failing::TIMEOUT.to_owned(),
            cause,
            declared: false,
        };
        let pivot = self.pivot_in_doubt();
        let park = state.pivoted
            || (timeout && !self.undoes_on(&failure))
            || (!timeout && policy.on_deadline == OnDeadline::Park);
        // The end of a sub-saga says what became of it, without a person.
        let is_child = |number: &u32| self.saga.step(*number).is_some_and(|step| step.child != 0);
        let awaited = pivot.filter(|number| !park && is_child(number));
        self.emit(What::DeadlinePassed);
        if let Some(number) = awaited {
            self.park_pivot(number, failure);
        } else if park || pivot.is_some() {
            self.emit(What::Parked {
                step: None,
                reason: ParkReason::Deadline,
                undo: false,
                error: failure.error,
                cause: failure.cause,
            });
        } else {
            self.turn_back(Trigger::Deadline, failure);
        }
        true
    }

    /// Works off what is to be looked at.
    fn go_on(&mut self) {
        while let Some(todo) = self.todo.pop_front() {
            if self.saga.state.ended.is_some() || self.saga.is_halted() {
                return;
            }
            if self.passed >= PASSED_MAX {
                self.emit(What::Yielded);
                return;
            }
            match todo {
                Todo::Scope(scope) => self.enter(scope),
                Todo::Step(step) => self.run(step),
                Todo::Undo(scope) => self.undo_next(scope),
                Todo::Inside(step) => self.undo_inside(step),
            }
        }
    }

    /// Finds everything that may go on: after a pause, a bounded decision, a redrive.
    pub(super) fn look_everywhere(&mut self) {
        let state = &self.saga.state;
        let undoing = state.compensating.is_some();
        if undoing {
            self.todo.push_back(Todo::Undo(0));
        } else {
            let scopes = state.scopes.iter();
            let before = scopes.filter(|(_, scope)| matches!(scope.cursor, Cursor::Before { .. }));
            self.todo
                .extend(before.map(|(number, _)| Todo::Scope(*number)));
        }
        for (number, step) in &state.steps {
            match step.phase {
                Phase::Inside if step.undo => {
                    let scopes = step.fork.iter().flat_map(|fork| &fork.scopes);
                    let begun = scopes.filter(|scope| self.saga.undo_has_begun(**scope));
                    self.todo.extend(begun.map(|scope| Todo::Undo(*scope)));
                    self.todo.push_back(Todo::Inside(*number));
                }
                Phase::Inside
                | Phase::Ready
                | Phase::Held { admitted: true, .. }
                | Phase::Listening { .. } => self.todo.push_back(Todo::Step(*number)),
                _ => {}
            }
        }
    }
}

/// So many seconds later.
pub(super) fn later(now: Timestamp, seconds: u64) -> Timestamp {
    plus(now, seconds.saturating_mul(1_000))
}

/// So many milliseconds later.
pub(super) fn plus(now: Timestamp, millis: u64) -> Timestamp {
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    Timestamp::from_millis(now.as_millis().saturating_add(millis))
}

impl ChildEnd {
    /// A sub-saga that was undone says by it that nothing was done.
    fn into_outcome(self) -> Outcome {
        match self {
            Self::Completed(output) => Outcome::Success(output),
            Self::Compensated(failure) | Self::Aborted(failure) => Outcome::Failure(Failure {
                declared: true,
                ..failure
            }),
        }
    }
}
