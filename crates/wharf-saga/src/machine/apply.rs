//! Facts onto the state. No expression is evaluated and no decision taken here, and nothing fails:
//! a fact about something unknown changes nothing, so that a replay never stops half-way.

use std::mem;
use std::sync::Arc;

use super::fact::{Dispatched, Fact, Failed, Left, Stop, Undone, What};
use super::input::{Action, Failure, Outcome};
use super::resource::is_child;
use super::saga::{
    Compensating, Cursor, Ended, Fork, Known, Open, Phase, Saga, Scope, State, Step,
};
use super::status::Status;
use wharf_message::Timestamp;

impl Saga {
    /// Takes a fact in. The state depends on the facts and their order, and on nothing else.
    pub fn apply(&mut self, fact: &Fact) {
        let at = fact.at;
        self.state.updated = at;
        self.state.yielded = matches!(fact.what, What::Yielded);
        match &fact.what {
            What::Started {
                start,
                first,
                timeout,
                deadline,
            } => {
                let root = Scope::new(0, 0, 0, first, start.input.clone());
                self.state = State {
                    start: Some(Arc::new((**start).clone())),
                    started: at,
                    updated: at,
                    timeout: *timeout,
                    deadline: *deadline,
                    ..State::default()
                };
                self.state.scopes.insert(0, Box::new(root));
                self.timers.clear();
            }
            What::Entered {
                step,
                scope,
                state,
                undoable,
            } => self.entered(*step, *scope, state, *undoable, at),
            What::Dispatched(dispatched) => self.dispatched(dispatched, at),
            What::Failed(failed) => self.failed(failed),
            What::Left(left) => self.left(left),
            What::Forked { .. } | What::Branched { .. } | What::BranchFailed { .. } => {
                self.branches(&fact.what);
            }
            What::Stopped { step, how, .. } => self.stopped(*step, *how),
            What::Undone { step, how, .. } => self.undone(*step, *how),
            What::Late {
                step,
                generation,
                outcome,
            } => self.late(*step, *generation, outcome),
            What::Held { .. }
            | What::Admitted { .. }
            | What::Beat { .. }
            | What::Succeeded { .. }
            | What::Retrying { .. }
            | What::Waiting { .. }
            | What::Listening { .. }
            | What::Undoing { .. }
            | What::Aborting { .. }
            | What::Retried { .. }
            | What::Edited { .. }
            | What::Marked { .. }
            | What::Parked { .. } => self.step_fact(&fact.what),
            other => self.saga_fact(other, at),
        }
    }

    /// The facts about the saga as a whole.
    fn saga_fact(&mut self, what: &What, at: Timestamp) {
        let state = &mut self.state;
        match what {
            What::SignalKept { signal, payload } => {
                state.signals.push_back((signal.clone(), payload.clone()));
            }
            What::SignalTaken { signal } => {
                if let Some(place) = state.signals.iter().position(|(name, _)| name == signal) {
                    state.signals.remove(place);
                }
            }
            What::Compensating {
                trigger,
                error,
                cause,
            } => {
                state.compensating = Some(Compensating {
                    trigger: *trigger,
                    error: error.clone(),
                    cause: cause.clone(),
                    since: at,
                });
            }
            What::StaleReply { generation, .. } => {
                state.stale.insert(*generation);
            }
            What::Kept(kept) => state.kept.push_back((**kept).clone()),
            What::Acted(order) => match order.action {
                Action::Pause => state.paused = true,
                Action::Resume | Action::Abort => {
                    state.paused = false;
                    state.overdue = false;
                    state.kept.clear();
                }
                _ => {}
            },
            What::DeadlinePassed => {
                state.timeout = None;
                state.deadline = None;
            }
            What::Redriven { timeout, deadline } => {
                state.ended = None;
                state.redrives = state.redrives.saturating_add(1);
                state.timeout = *timeout;
                state.deadline = *deadline;
                state.paused = false;
                state.overdue = false;
            }
            What::Ended {
                status,
                output,
                error,
                cause,
            } => {
                state.ended = Some(Ended {
                    status: *status,
                    at,
                    output: output.clone(),
                    error: error.clone(),
                    cause: cause.clone(),
                });
                state.kept.clear();
                state.overdue = false;
                if *status == Status::Completed || state.compensating.is_some() {
                    state.scopes.clear();
                    state.steps.clear();
                    state.parked.clear();
                    state.signals.clear();
                    self.timers.clear();
                }
            }
            _ => {}
        }
    }

    /// The facts that change one step and nothing else.
    fn step_fact(&mut self, what: &What) {
        match what {
            What::Held { step, resource } => self.phase(*step, || Phase::Held {
                resource: resource.clone(),
                admitted: false,
            }),
            What::Admitted { step } => self.change(*step, |step| {
                if let Phase::Held { admitted, .. } = &mut step.phase {
                    *admitted = true;
                }
            }),
            What::Beat {
                step,
                accepted: taken,
                until,
                ..
            } => self.change(*step, |step| {
                if let Phase::Open(open) = &mut step.phase {
                    open.accepted |= taken;
                    open.beat = *until;
                }
            }),
            What::Succeeded { step, output, .. } => self.change(*step, |step| {
                step.outcome = Known::Done;
                step.result = Some(output.clone());
                step.child = 0;
                step.phase = Phase::Answered;
            }),
            What::Retrying {
                step,
                retrier,
                until,
            } => {
                self.prune(*step);
                self.change(*step, |step| {
                    let used = *retrier as usize;
                    if step.retries.len() <= used && used < 1_000 {
                        step.retries.resize(used + 1, 0);
                    }
                    if let Some(count) = step.retries.get_mut(used) {
                        *count = count.saturating_add(1);
                    }
                    step.phase = Phase::Backoff {
                        until: *until,
                        retrier: *retrier,
                    };
                });
            }
            What::Waiting { step, until } => {
                self.phase(*step, || Phase::Waiting { until: *until });
            }
            What::Listening {
                step,
                signal,
                until,
            } => self.change(*step, |step| {
                step.attempt = step.attempt.saturating_add(1);
                step.phase = Phase::Listening {
                    signal: signal.clone(),
                    until: *until,
                };
            }),
            other => self.turn_fact(other),
        }
    }

    /// The facts with which a step turns back, or a person turns it.
    fn turn_fact(&mut self, what: &What) {
        match what {
            What::Undoing { step } => self.change(*step, |step| {
                step.turn_to_undo();
                step.phase = Phase::Inside;
            }),
            What::Aborting { step, .. } => self.change(*step, |step| {
                step.turn_to_undo();
                step.phase = Phase::Answered;
            }),
            What::Retried { step } => self.change(*step, |step| {
                step.retries.clear();
                step.phase = Phase::Ready;
            }),
            What::Edited { step, input } => self.change(*step, |step| step.input = input.clone()),
            What::Marked { step, done, output } => self.change(*step, |step| {
                step.outcome = if *done { Known::Done } else { Known::Nothing };
                if let Some(output) = output {
                    step.result = Some(output.clone());
                }
            }),
            What::Parked {
                step: Some(step),
                reason,
                undo,
                error,
                cause,
            } => self.change(*step, |step| {
                if *undo {
                    step.turn_to_undo();
                }
                step.phase = Phase::Parked {
                    reason: *reason,
                    error: error.clone(),
                    cause: cause.clone(),
                };
            }),
            What::Parked { step: None, .. } => {
                self.state.overdue = true;
            }
            _ => {}
        }
    }

    fn entered(&mut self, number: u32, scope: u32, name: &str, undoable: bool, at: Timestamp) {
        let state = &mut self.state;
        state.steps_last = state.steps_last.max(number);
        let Some(place) = state.scopes.get_mut(&scope) else {
            return;
        };
        let Cursor::Before { input, .. } = mem::replace(&mut place.cursor, Cursor::At(number))
        else {
            return;
        };
        let step = Step {
            scope,
            state: name.to_owned(),
            entered: at,
            input,
            attempt: 0,
            retries: Vec::new(),
            undoable,
            undo: false,
            outcome: Known::Nothing,
            result: None,
            generation: 0,
            child: 0,
            child_undo: false,
            child_attempt: 0,
            completion: 0,
            fork: None,
            phase: Phase::Ready,
        };
        state.steps.insert(number, Box::new(step));
    }

    fn dispatched(&mut self, dispatched: &Dispatched, at: Timestamp) {
        self.state.generation = self.state.generation.max(dispatched.generation);
        self.change(dispatched.step, |step| {
            if dispatched.undo {
                step.turn_to_undo();
            } else {
                if step.outcome == Known::Nothing {
                    step.outcome = Known::Unknown;
                }
            }
            if is_child(&dispatched.resource) {
                step.child = dispatched.generation;
                step.child_attempt = dispatched.attempt;
                step.child_undo = dispatched.undo;
            }
            step.attempt = dispatched.attempt;
            step.generation = dispatched.generation;
            let beat = dispatched.heartbeat.map(|every| {
                Timestamp::from_millis(
                    at.as_millis()
                        .saturating_add(i64::try_from(every).unwrap_or(i64::MAX)),
                )
            });
            step.phase = Phase::Open(Box::new(Open {
                generation: dispatched.generation,
                at,
                resource: dispatched.resource.clone(),
                arguments: dispatched.arguments.clone(),
                accepted: false,
                timeout: dispatched.timeout,
                heartbeat: dispatched.heartbeat,
                beat,
            }));
        });
    }

    fn failed(&mut self, failed: &Failed) {
        self.change(failed.step, |step| {
            let is_child = failed.generation != 0 && failed.undo == step.child_undo;
            if failed.given_up.is_empty() && is_child {
                step.child = 0;
            }
            if !failed.undo && failed.declared && step.outcome == Known::Unknown {
                step.outcome = Known::Nothing;
            }
            step.phase = Phase::Answered;
        });
    }

    fn left(&mut self, left: &Left) {
        self.state.pivoted |= left.pivot;
        if left.whole {
            self.drop_round(left.step);
        }
        let Some(scope) = self.state.steps.get(&left.step).map(|step| step.scope) else {
            return;
        };
        if left.node {
            let phase = if left.whole {
                Phase::Whole
            } else {
                Phase::Node
            };
            self.become_node(left.step, phase);
        } else {
            self.forget(left.step);
        }
        let Some(place) = self.state.scopes.get_mut(&scope) else {
            return;
        };
        for (name, value) in &left.assign {
            place.variables.insert(name.clone(), value.clone());
        }
        if let Some(next) = &left.next {
            place.cursor = Cursor::Before {
                state: next.clone(),
                input: left.output.clone(),
            };
            return;
        }
        place.cursor = Cursor::Ended(left.output.clone());
        let parent = place.parent;
        if let Some(fork) = self.fork_mut(parent) {
            fork.ended += 1;
        }
    }

    fn branches(&mut self, what: &What) {
        match what {
            What::Forked {
                step,
                width,
                input,
                items,
                limit,
                tolerated,
            } => self.change(*step, |step| {
                let before = step.fork.take();
                step.attempt = step.attempt.saturating_add(1);
                step.outcome = Known::Inside;
                step.fork = Some(Box::new(Fork {
                    round: before.as_ref().map_or(1, |fork| fork.round + 1),
                    width: *width,
                    input: input.clone(),
                    items: *items,
                    limit: *limit,
                    tolerated: *tolerated,
                    begun: 0,
                    ended: 0,
                    failed: 0,
                    scopes: before.map(|fork| fork.scopes).unwrap_or_default(),
                }));
                step.phase = Phase::Inside;
            }),
            What::Branched {
                scope,
                step,
                index,
                first,
                input,
            } => {
                self.state.scopes_last = self.state.scopes_last.max(*scope);
                let Some(fork) = self.fork_mut(*step) else {
                    return;
                };
                fork.begun += 1;
                fork.scopes.push(*scope);
                let round = fork.round;
                let input = input.clone().unwrap_or_else(|| fork.input_of(*index));
                let place = Scope::new(*step, *index, round, first, input);
                self.state.scopes.insert(*scope, Box::new(place));
            }
            What::BranchFailed {
                scope,
                error,
                cause,
            } => {
                let Some(place) = self.state.scopes.get_mut(scope) else {
                    return;
                };
                place.cursor = Cursor::Failed(Failure {
                    error: error.clone(),
                    cause: cause.clone(),
                    declared: false,
                });
                let parent = place.parent;
                if let Some(fork) = self.fork_mut(parent) {
                    fork.ended += 1;
                    fork.failed += 1;
                }
            }
            _ => {}
        }
    }

    fn stopped(&mut self, number: u32, how: Stop) {
        let Some(step) = self.step(number) else {
            return;
        };
        let scope = step.scope;
        match how {
            Stop::Frozen => {
                if step.fork.is_none() || !matches!(step.phase, Phase::Inside) {
                    self.change(number, |step| {
                        step.retries.clear();
                        step.phase = Phase::Ready;
                    });
                }
                return;
            }
            Stop::Dropped => self.forget(number),
            Stop::Node => self.become_node(number, Phase::Node),
        }
        if let Some(place) = self.state.scopes.get_mut(&scope) {
            place.cursor = Cursor::Stopped;
        }
    }

    fn undone(&mut self, number: u32, how: Undone) {
        let Some(scope) = self.step(number).map(|step| step.scope) else {
            return;
        };
        if let Some(place) = self.state.scopes.get_mut(&scope) {
            place.nodes.retain(|node| *node != number);
        }
        if how == Undone::Skipped {
            self.change(number, |step| {
                step.turn_to_undo();
                step.phase = Phase::Skipped;
            });
        } else {
            self.forget(number);
        }
    }

    fn late(&mut self, number: u32, generation: u32, outcome: &Outcome) {
        let mut again = None;
        self.change(number, |step| {
            let is_of_undo = step.child_undo && step.child == generation;
            step.child = 0;
            if is_of_undo {
                // It says nothing about the step itself.
                return;
            }
            if step.undo && matches!(step.phase, Phase::Answered) {
                step.phase = Phase::Node;
            }
            match outcome {
                Outcome::Success(output) => {
                    step.outcome = Known::Done;
                    step.result = Some(output.clone());
                    if matches!(step.phase, Phase::Skipped) {
                        step.phase = Phase::Node;
                        again = Some(step.scope);
                    }
                }
                Outcome::Failure(failure) if failure.declared && step.outcome != Known::Done => {
                    step.outcome = Known::Nothing;
                }
                _ => {}
            }
        });
        let Some(scope) = again else {
            return;
        };
        let scope = if self.state.scopes.contains_key(&scope) {
            scope
        } else {
            0
        };
        let Some(step) = self.state.steps.get_mut(&number) else {
            return;
        };
        step.scope = scope;
        let completion = step.completion;
        let steps = &self.state.steps;
        if let Some(place) = self.state.scopes.get_mut(&scope) {
            let before = |node: &u32| {
                let node = steps.get(node);
                node.is_some_and(|step| step.completion < completion)
            };
            let at = place.nodes.partition_point(before);
            place.nodes.insert(at, number);
        }
    }

    fn phase(&mut self, number: u32, phase: impl FnOnce() -> Phase) {
        self.change(number, |step| step.phase = phase());
    }

    /// Changes a step and keeps what is derived from it right.
    pub(super) fn change(&mut self, number: u32, change: impl FnOnce(&mut Step)) {
        let Some(step) = self.state.steps.get_mut(&number) else {
            return;
        };
        let before = step.due();
        change(step);
        let after = step.due();
        if matches!(step.phase, Phase::Parked { .. }) {
            self.state.parked.insert(number);
        } else {
            self.state.parked.remove(&number);
        }
        if before != after {
            if let Some(before) = before {
                self.timers.remove(&(before.as_millis(), number));
            }
            if let Some(after) = after {
                self.timers.insert((after.as_millis(), number));
            }
        }
    }
}
