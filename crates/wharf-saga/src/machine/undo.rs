//! The way back. Nothing goes forward any more from the first fact of it on.
//!
//! Within a flow, nodes are undone one by one in the reverse order of their completion; the branches
//! of a Parallel and the items of a Map, each in its own reverse order, beside each other. Whatever
//! cannot be undone is parked, never left out in silence.

use super::data::Data;
use super::decide::{Run, Todo, later};
use super::effect::UndoStep;
use super::fact::{Dispatched, Stop, Trigger, Undone, What};
use super::input::Failure;
use super::resource::signal;
use super::saga::{Cursor, Known, Phase, Saga};
use super::status::{ParkReason, Status};
use crate::definition::{Machine, OnUnknown, Order};

/// The error of a step that may or may not be done, where `OnUnknown` is `Park`.
const OUTCOME_UNKNOWN: &str = "Saga.OutcomeUnknown";

impl Run<'_> {
    /// From forward to back, or to the end when nothing was done.
    pub(super) fn turn_back(&mut self, trigger: Trigger, failure: Failure) {
        if !self.saga.anything_to_undo() {
            return self.end_frozen(trigger, failure);
        }
        self.emit(What::Compensating {
            trigger,
            error: failure.error,
            cause: failure.cause,
        });
        self.stop_scope(0);
        self.todo.clear();
        self.todo.push_back(Todo::Undo(0));
    }

    /// Ends a saga that has nothing to undo; it stays where it is, for a redrive.
    fn end_frozen(&mut self, trigger: Trigger, failure: Failure) {
        let steps = self.saga.state.steps.keys().copied().collect::<Vec<_>>();
        for number in steps {
            self.stop_step(number, Some(Stop::Frozen));
        }
        self.todo.clear();
        self.emit(What::Ended {
            status: end_of(trigger),
            output: None,
            error: Some(failure.error),
            cause: Some(failure.cause),
        });
    }

    /// Undoes the next node of a flow, or tells that there is none left.
    pub(super) fn undo_next(&mut self, scope: u32) {
        if self.saga.state.compensating.is_none() {
            return;
        }
        let Some(place) = self.saga.state.scopes.get(&scope) else {
            return;
        };
        if place.nodes.is_empty() {
            let parent = place.parent;
            if scope == 0 {
                self.end_undone();
            } else {
                self.todo.push_back(Todo::Inside(parent));
            }
            return;
        }
        let begin = if self.machine.saga.order == Order::Unordered {
            place.nodes.clone()
        } else {
            place.nodes.last().copied().into_iter().collect()
        };
        for number in begin {
            self.undo_begin(number);
        }
    }

    fn end_undone(&mut self) {
        let Some(undo) = self.saga.state.compensating.clone() else {
            return;
        };
        self.emit(What::Ended {
            status: end_of(undo.trigger),
            output: None,
            error: Some(undo.error),
            cause: Some(undo.cause),
        });
    }

    /// Begins the undo of a node, if it has not begun.
    fn undo_begin(&mut self, number: u32) {
        let Some(step) = self.saga.step(number) else {
            return;
        };
        match step.phase {
            Phase::Whole => return self.undo_step(number),
            Phase::Node => {}
            _ => return,
        }
        if step.fork.is_some() {
            self.emit(What::Undoing { step: number });
            self.todo.push_back(Todo::Inside(number));
            return;
        }
        if step.child != 0 {
            let (generation, resource) = (step.child, self.resource_of(number));
            self.emit(What::Aborting {
                step: number,
                generation,
                resource,
            });
            return;
        }
        let undo = self
            .state_of(number)
            .and_then(|state| state.compensate.as_ref());
        let on_unknown = undo.map(|undo| undo.on_unknown);
        match (step.outcome, on_unknown) {
            (Known::Nothing, _) | (_, None) => self.undone(number, Undone::Nothing, 0, None),
            (Known::Unknown, Some(OnUnknown::Skip)) => {
                self.undone(number, Undone::Skipped, 0, None);
            }
            (Known::Unknown, Some(OnUnknown::Park)) => self.emit(What::Parked {
                step: Some(number),
                reason: ParkReason::Compensation,
                undo: true,
                error: OUTCOME_UNKNOWN.to_owned(),
                cause: "nobody knows whether the step was done, and its OnUnknown is Park: find \
                        out, then mark it completed (it is undone) or compensated"
                    .to_owned(),
            }),
            _ => self.undo_step(number),
        }
    }

    fn resource_of(&self, number: u32) -> String {
        match self.state_of(number).map(|state| &state.kind) {
            Some(crate::definition::Kind::Task(task)) => task.resource.clone(),
            _ => String::new(),
        }
    }

    /// Undoes the branches of a Parallel or Map: those of the last round first, as many at once as
    /// ran at once.
    pub(super) fn undo_inside(&mut self, number: u32) {
        let saga = &self.saga.state;
        let Some(fork) = saga.steps.get(&number).and_then(|step| {
            let undoing = step.undo && matches!(step.phase, Phase::Inside);
            step.fork.as_ref().filter(|_| undoing)
        }) else {
            return;
        };
        let mut waiting = Vec::new();
        let mut active = 0_u32;
        for scope in &fork.scopes {
            let Some(place) = saga.scopes.get(scope) else {
                continue;
            };
            let Some(last) = place.nodes.last() else {
                continue;
            };
            if self.saga.undo_has_begun(*scope) {
                active += 1;
            } else {
                let completion = saga.steps.get(last).map_or(0, |step| step.completion);
                waiting.push((place.round, completion, *scope));
            }
        }
        if waiting.is_empty() && active == 0 {
            return self.undone(number, Undone::Inside, 0, None);
        }
        waiting.sort_unstable_by(|one, other| other.cmp(one));
        let unordered = self.machine.saga.order == Order::Unordered;
        let round = self.saga.round_to_undo(number);
        let free = if fork.limit == 0 {
            u32::MAX
        } else {
            fork.limit.saturating_sub(active)
        };
        let begin = waiting
            .into_iter()
            .filter(|(of, ..)| unordered || *of == round)
            .take(free as usize);
        self.todo
            .extend(begin.map(|(_, _, scope)| Todo::Undo(scope)));
    }

    /// Sends the undo of a step.
    pub(super) fn undo_step(&mut self, number: u32) {
        let Some(state) = self.state_of(number) else {
            return;
        };
        let (Some(undo), Some(step)) = (&state.compensate, self.saga.step(number)) else {
            return;
        };
        if step.outcome == Known::Nothing {
            return self.undone(number, Undone::Nothing, 0, None);
        }
        let attempt = if step.undo {
            step.attempt.saturating_add(1)
        } else {
            1
        };
        let result = step.result.clone();
        let evaluated = self.evaluate(number, state, &[], |values, input| {
            let arguments =
                values.undo_arguments(undo.arguments.as_ref(), input, result.as_ref())?;
            let timeout = undo.timeout_seconds.as_ref();
            let timeout = timeout.map(|given| values.number(given, input, "TimeoutSeconds"));
            values.fits(&arguments)?;
            Ok((arguments, timeout.transpose()?))
        });
        let (arguments, timeout) = match evaluated {
            Ok(evaluated) => evaluated,
            Err(failure) => {
                return self.emit(What::Parked {
                    step: Some(number),
                    reason: ParkReason::Expression,
                    undo: true,
                    error: failure.error,
                    cause: format!("the arguments of its undo: {}", failure.cause),
                });
            }
        };
        let timeout = timeout.map(|seconds| later(self.now(), seconds));
        if let Some(name) = signal(&undo.resource) {
            if !step.undo {
                self.emit(What::Undoing { step: number });
            }
            return self.listen(number, name, timeout);
        }
        self.emit(What::Dispatched(Box::new(Dispatched {
            step: number,
            attempt,
            generation: self.saga.state.generation.saturating_add(1),
            undo: true,
            state: state.name.clone(),
            resource: undo.resource.clone(),
            arguments,
            timeout,
            heartbeat: None,
        })));
    }

    /// An undo was done. A Parallel or Map may still have earlier rounds inside.
    pub(super) fn undo_done(&mut self, number: u32, generation: u32, output: Data) {
        if self.saga.leaves_a_node(number)
            && self
                .saga
                .step(number)
                .is_some_and(|step| step.fork.is_some())
        {
            self.emit(What::Succeeded {
                step: number,
                generation,
                output,
            });
            self.emit(What::Undoing { step: number });
            self.todo.push_back(Todo::Inside(number));
            return;
        }
        self.undone(number, Undone::Done, generation, Some(output));
    }

    pub(super) fn undone(
        &mut self,
        number: u32,
        how: Undone,
        generation: u32,
        output: Option<Data>,
    ) {
        let scope = self.saga.step(number).map_or(0, |step| step.scope);
        self.emit(What::Undone {
            step: number,
            how,
            generation,
            output,
        });
        self.todo.push_back(Todo::Undo(scope));
    }
}

/// How a saga ends that was undone.
fn end_of(trigger: Trigger) -> Status {
    match trigger {
        Trigger::Operator => Status::AbortedByOperator,
        Trigger::Error | Trigger::Deadline => Status::Compensated,
    }
}

impl Saga {
    /// Whether turning back would leave anything to undo.
    pub(super) fn anything_to_undo(&self) -> bool {
        let nodes = self
            .state
            .scopes
            .values()
            .any(|place| !place.nodes.is_empty());
        nodes
            || self
                .state
                .steps
                .keys()
                .any(|number| self.leaves_a_node(*number))
    }

    /// Whether the undo of a flow is under way.
    pub(super) fn undo_has_begun(&self, scope: u32) -> bool {
        let Some(place) = self.state.scopes.get(&scope) else {
            return false;
        };
        let mut nodes = place
            .nodes
            .iter()
            .filter_map(|node| self.state.steps.get(node));
        nodes.any(|step| step.undo && !matches!(step.phase, Phase::Node | Phase::Whole))
    }

    /// The last round of a Parallel or Map that has something to undo.
    fn round_to_undo(&self, number: u32) -> u32 {
        let fork = self.fork(number);
        let scopes = fork.into_iter().flat_map(|fork| &fork.scopes);
        let places = scopes.filter_map(|scope| self.state.scopes.get(scope));
        let full = places.filter(|place| !place.nodes.is_empty());
        full.map(|place| place.round).max().unwrap_or(0)
    }

    /// What would be undone if the saga turned back now, or what is still to be undone, in order.
    pub fn undo_preview(&self, machine: &Machine) -> Vec<UndoStep> {
        let mut steps = Vec::new();
        if self.state.ended.is_none() && !self.state.pivoted && self.state.start.is_some() {
            self.preview_scope(machine, 0, 0, &mut steps);
        }
        steps.sort_by_key(|step| step.stage);
        steps
    }

    /// Adds the nodes of a flow, the last first; gives the stage after them. Depth is that of the
    /// definition.
    fn preview_scope(
        &self,
        machine: &Machine,
        scope: u32,
        mut stage: u32,
        steps: &mut Vec<UndoStep>,
    ) -> u32 {
        let Some(place) = self.state.scopes.get(&scope) else {
            return stage;
        };
        let current = match place.cursor {
            Cursor::At(step) if self.may_leave_a_node(step) => Some(step),
            _ => None,
        };
        let unordered = machine.saga.order == Order::Unordered;
        let mut last = stage;
        for number in current.into_iter().chain(place.nodes.iter().rev().copied()) {
            let from = if unordered { stage } else { last };
            last = last.max(self.preview_step(machine, number, from, steps));
        }
        stage = last;
        stage
    }

    fn may_leave_a_node(&self, number: u32) -> bool {
        let fork = self.fork(number);
        fork.is_some() || self.leaves_a_node(number)
    }

    fn preview_step(
        &self,
        machine: &Machine,
        number: u32,
        stage: u32,
        steps: &mut Vec<UndoStep>,
    ) -> u32 {
        let Some(step) = self.step(number) else {
            return stage;
        };
        let mut stage = stage;
        if step.fork.is_none() || matches!(step.phase, Phase::Whole) {
            let undo = self
                .state_in(machine, number)
                .and_then(|state| state.compensate.as_ref());
            steps.push(UndoStep {
                step: number,
                name: step.state.clone(),
                resource: undo.map(|undo| undo.resource.clone()).unwrap_or_default(),
                certain: !matches!(step.outcome, Known::Unknown),
                stage,
            });
            stage += 1;
        }
        let Some(fork) = &step.fork else {
            return stage;
        };
        let mut rounds: Vec<u32> = Vec::new();
        for scope in &fork.scopes {
            let round = self.state.scopes.get(scope).map_or(0, |place| place.round);
            if !rounds.contains(&round) {
                rounds.push(round);
            }
        }
        rounds.sort_unstable_by(|one, other| other.cmp(one));
        for round in rounds {
            let of_round = fork.scopes.iter().filter(|scope| {
                self.state
                    .scopes
                    .get(scope)
                    .is_some_and(|place| place.round == round)
            });
            let mut after = stage;
            for scope in of_round {
                after = after.max(self.preview_scope(machine, *scope, stage, steps));
            }
            stage = after;
        }
        stage
    }

    /// The state that a step visits.
    fn state_in<'m>(
        &self,
        machine: &'m Machine,
        number: u32,
    ) -> Option<&'m crate::definition::State> {
        let step = self.step(number)?;
        let mut path = Vec::new();
        let mut scope = step.scope;
        while scope != 0 {
            let place = self.state.scopes.get(&scope)?;
            let parent = self.state.steps.get(&place.parent)?;
            path.push((parent.state.as_str(), place.index));
            scope = parent.scope;
        }
        let mut flow = &machine.flow;
        for (state, index) in path.into_iter().rev() {
            flow = match &flow.states.get(state)?.kind {
                crate::definition::Kind::Parallel(parallel) => {
                    parallel.branches.get(index as usize)?
                }
                crate::definition::Kind::Map(map) => &map.processor,
                _ => return None,
            };
        }
        flow.states.get(&step.state)
    }
}
