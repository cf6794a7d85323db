//! Forward: states are entered, run and left.

use serde_json::{Map, Value, json};

use super::data::{Data, TaskToken};
use super::decide::{Run, Todo, later};
use super::fact::{Dispatched, Left, What};
use super::input::{Failure, Outcome};
use super::resource::signal;
use super::saga::{Cursor, Known, Phase};
use super::status::Status;
use super::values::{Leaving, Surroundings, Values, mentions_context, reads_context};
use crate::definition::{Choice, Fail, Flow, Kind, Next, State, Task, Wait};

impl<'a> Run<'a> {
    /// The flow that a scope goes through. Depth is that of the definition.
    pub(super) fn flow(&self, scope: u32) -> Option<&'a Flow> {
        let place = self.saga.state.scopes.get(&scope)?;
        if place.parent == 0 {
            return Some(&self.machine.flow);
        }
        match &self.state_of(place.parent)?.kind {
            Kind::Parallel(parallel) => parallel.branches.get(place.index as usize),
            Kind::Map(map) => Some(&map.processor),
            _ => None,
        }
    }

    /// The state that a step visits.
    pub(super) fn state_of(&self, number: u32) -> Option<&'a State> {
        let step = self.saga.step(number)?;
        let flow = self.flow(step.scope)?;
        // A step that outlived its branch is found by its name, of which there is only one.
        flow.states
            .get(&step.state)
            .or_else(|| find_state(&self.machine.flow, &step.state))
    }

    /// Enters the next state of a flow, if it goes on.
    pub(super) fn enter(&mut self, scope: u32) {
        if self.saga.state.compensating.is_some() || !self.is_live(scope) {
            return;
        }
        let Some(Cursor::Before { state: name, .. }) = self
            .saga
            .state
            .scopes
            .get(&scope)
            .map(|place| &place.cursor)
        else {
            return;
        };
        let name = name.clone();
        let state = self.flow(scope).and_then(|flow| flow.states.get(&name));
        let number = self.saga.state.steps_last.saturating_add(1);
        let undoable = state
            .is_some_and(|state| state.compensate.is_some() && matches!(state.kind, Kind::Task(_)));
        self.passed += 1;
        self.emit(What::Entered {
            step: number,
            scope,
            state: name,
            undoable,
        });
        self.run(number);
    }

    /// Whether a branch belongs to the current round of its Parallel or Map.
    fn is_live(&self, scope: u32) -> bool {
        let Some(place) = self.saga.state.scopes.get(&scope) else {
            return false;
        };
        if place.parent == 0 {
            return true;
        }
        let parent = self.saga.state.steps.get(&place.parent);
        parent.is_some_and(|step| {
            let round = step.fork.as_ref().map_or(0, |fork| fork.round);
            matches!(step.phase, Phase::Inside) && !step.undo && round == place.round
        })
    }

    /// Runs a visit, or goes on with it.
    pub(super) fn run(&mut self, number: u32) {
        let Some(step) = self.saga.step(number) else {
            return;
        };
        let may = match &step.phase {
            Phase::Ready | Phase::Inside | Phase::Listening { .. } => true,
            Phase::Held { admitted, .. } => *admitted,
            Phase::Backoff { until, .. } | Phase::Waiting { until } => *until <= self.now(),
            _ => false,
        };
        if !may || step.gave_up_its_child() {
            return;
        }
        if step.undo {
            if !matches!(step.phase, Phase::Inside) {
                self.undo_step(number);
            }
            return;
        }
        if self.saga.state.compensating.is_some() {
            return;
        }
        let Some(state) = self.state_of(number) else {
            let failure = Failure::new(
                "States.Runtime",
                "the definition has no such state any more",
            );
            return self.fail(number, failure);
        };
        let done = match &state.kind {
            Kind::Task(task) => self.run_task(number, state, task),
            Kind::Pass(pass) => self.run_pass(number, state, pass.result.as_ref()),
            Kind::Choice(choice) => self.run_choice(number, state, choice),
            Kind::Wait(wait) => self.run_wait(number, state, wait),
            Kind::Succeed => self
                .evaluate(number, state, &[], |values, input| {
                    values.leave(input, None)
                })
                .map(|leaving| self.leave(number, leaving, None, false)),
            Kind::Fail(fail) => self.run_fail(number, state, fail),
            Kind::Parallel(_) | Kind::Map(_) => self.run_fork(number, state),
        };
        if let Err(failure) = done {
            self.fail(number, failure);
        }
    }

    /// Evaluates expressions of a state over the input of a visit.
    pub(super) fn evaluate<T>(
        &self,
        number: u32,
        state: &State,
        also: &[&str],
        work: impl FnOnce(&Values<'_>, &Data) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let input = match self.saga.step(number) {
            Some(step) => step.input.clone(),
            None => Data::null(),
        };
        let around = self.surroundings(number, state, also, None);
        let values = Values::new(state, self.env, &around, self.visit(number));
        work(&values, &input)
    }

    /// Tells the attempts of all visits apart, for what is random.
    pub(super) fn visit(&self, number: u32) -> u64 {
        let attempt = self.saga.step(number).map_or(0, |step| step.attempt);
        (u64::from(number) << 32) | u64::from(attempt)
    }

    /// What the expressions of a state see besides data.
    pub(super) fn surroundings(
        &self,
        number: u32,
        state: &State,
        also: &[&str],
        item: Option<(u32, &Value)>,
    ) -> Surroundings {
        let selector = match &state.kind {
            Kind::Map(map) => map.selector.as_ref(),
            _ => None,
        };
        let undo = state
            .compensate
            .as_ref()
            .and_then(|undo| undo.arguments.as_ref());
        let wanted = reads_context(state, &[selector, undo])
            || also.iter().any(|text| mentions_context(text))
            || matches!(state.kind, Kind::Choice(_));
        let context = if wanted {
            self.context(number, state, item)
        } else {
            Value::Null
        };
        Surroundings {
            context,
            variables: self.variables(number),
        }
    }

    /// The variables that a visit sees: those of its flow, and of the flows around it.
    fn variables(&self, number: u32) -> Map<String, Value> {
        let mut variables = Map::new();
        let saga = &self.saga.state;
        let mut at = saga.steps.get(&number).map(|step| step.scope);
        while let Some(place) = at.and_then(|scope| saga.scopes.get(&scope)) {
            for (name, value) in &place.variables {
                if !variables.contains_key(name) {
                    variables.insert(name.clone(), value.value().clone());
                }
            }
            at = saga.steps.get(&place.parent).map(|step| step.scope);
        }
        variables
    }

    /// The context object.
    fn context(&self, number: u32, state: &State, item: Option<(u32, &Value)>) -> Value {
        let saga = &self.saga.state;
        let Some(start) = &saga.start else {
            return Value::Null;
        };
        let step = saga.steps.get(&number);
        let mut context = json!({
            "Execution": {
                "Id": start.id.to_string(),
                "Input": start.input.value(),
                "Name": start.key,
                "RoleArn": "",
                "StartTime": saga.started.to_rfc3339(),
                "RedriveCount": saga.redrives,
            },
            "State": {
                "EnteredTime": step.map(|step| step.entered.to_rfc3339()),
                "Name": state.name,
                "RetryCount": step.map_or(0, |step| step.attempt),
            },
            "StateMachine": { "Id": start.definition.to_string(), "Name": start.saga_type },
        });
        if let Value::Object(context) = &mut context {
            if matches!(state.kind, Kind::Task(_)) {
                let token = TaskToken {
                    saga: start.id,
                    step: number,
                    generation: saga.generation.saturating_add(1),
                };
                context.insert("Task".to_owned(), json!({ "Token": self.sealed(token) }));
            }
            let around = || self.item_around(step.map(|step| step.scope));
            let item = item
                .map(|(index, value)| (index, value.clone()))
                .or_else(around);
            if let Some((index, value)) = item {
                let item = json!({ "Item": { "Index": index, "Value": value } });
                context.insert("Map".to_owned(), item);
            }
        }
        if let Some(given) = self.env.context {
            lay_over(&mut context, given);
        }
        context
    }

    fn sealed(&self, token: TaskToken) -> String {
        match self.env.tokens {
            Some(key) => key.seal(token),
            None => token.to_string(),
        }
    }

    /// The item of the innermost Map around a flow.
    fn item_around(&self, scope: Option<u32>) -> Option<(u32, Value)> {
        let saga = &self.saga.state;
        let mut at = scope;
        while let Some(place) = at.and_then(|scope| saga.scopes.get(&scope)) {
            let parent = saga.steps.get(&place.parent)?;
            let fork = parent.fork.as_ref()?;
            if fork.items {
                let value = fork.input.get(place.index as usize)?;
                return Some((place.index, value.clone()));
            }
            at = Some(parent.scope);
        }
        None
    }

    fn run_task(&mut self, number: u32, state: &State, task: &Task) -> Result<(), Failure> {
        let (arguments, timeout, heartbeat) =
            self.evaluate(number, state, &[], |values, input| {
                let timeout = task.timeout_seconds.as_ref();
                let timeout = timeout.map(|given| values.number(given, input, "TimeoutSeconds"));
                let heartbeat = task.heartbeat_seconds.as_ref();
                let heartbeat =
                    heartbeat.map(|given| values.number(given, input, "HeartbeatSeconds"));
                let arguments = values.arguments(input)?;
                values.fits(&arguments)?;
                Ok((arguments, timeout.transpose()?, heartbeat.transpose()?))
            })?;
        let Some(step) = self.saga.step(number) else {
            return Ok(());
        };
        let attempt = step.attempt.saturating_add(1);
        let timeout = timeout.map(|seconds| later(self.now(), seconds));
        if let Some(name) = signal(&task.resource) {
            self.listen(number, name, timeout);
            return Ok(());
        }
        let held = self.env.held.is_some_and(|held| held(&task.resource));
        let admitted = matches!(step.phase, Phase::Held { admitted: true, .. });
        if !admitted && (held || task.concurrency_limit.is_some()) {
            self.emit(What::Held {
                step: number,
                resource: task.resource.clone(),
            });
            return Ok(());
        }
        self.emit(What::Dispatched(Box::new(Dispatched {
            step: number,
            attempt,
            generation: self.saga.state.generation.saturating_add(1),
            undo: false,
            state: state.name.clone(),
            resource: task.resource.clone(),
            arguments,
            timeout,
            heartbeat: heartbeat.map(|seconds| seconds.saturating_mul(1_000)),
        })));
        Ok(())
    }

    /// Waits for a signal, or takes one that came before.
    pub(super) fn listen(
        &mut self,
        number: u32,
        name: &str,
        until: Option<wharf_message::Timestamp>,
    ) {
        let state = &self.saga.state;
        let listens = state
            .steps
            .get(&number)
            .is_some_and(|step| matches!(step.phase, Phase::Listening { .. }));
        let kept = state.signals.iter().find(|(signal, _)| signal == name);
        let kept = kept.map(|(_, payload)| payload.clone());
        if !listens {
            self.emit(What::Listening {
                step: number,
                signal: name.to_owned(),
                until,
            });
        }
        if let Some(payload) = kept {
            self.emit(What::SignalTaken {
                signal: name.to_owned(),
            });
            self.answered(number, 0, Outcome::Success(payload));
        }
    }

    fn run_pass(
        &mut self,
        number: u32,
        state: &State,
        result: Option<&Value>,
    ) -> Result<(), Failure> {
        let leaving = self.evaluate(number, state, &[], |values, input| {
            let result = match result {
                Some(result) => Data::from(result.clone()),
                None => values.arguments(input)?,
            };
            values.leave_with(input, &result)
        })?;
        self.leave(number, leaving, next_of(state), false);
        Ok(())
    }

    fn run_choice(&mut self, number: u32, state: &State, choice: &Choice) -> Result<(), Failure> {
        let (leaving, next) = self.evaluate(number, state, &[], |values, input| {
            let effective = values.effective(input)?;
            for (at, rule) in choice.rules.iter().enumerate() {
                if values.holds(&rule.condition, &effective, at as u64)? {
                    let own = Some((rule.output.as_ref(), &rule.assign));
                    return Ok((values.leave(input, own)?, &rule.next));
                }
            }
            let Some(next) = &choice.default else {
                return Err(Failure::new(
                    "States.NoChoiceMatched",
                    "no rule of the Choice holds, and it has no Default",
                ));
            };
            Ok((values.leave(input, None)?, next))
        })?;
        self.leave(number, leaving, Some(next.clone()), false);
        Ok(())
    }

    fn run_wait(&mut self, number: u32, state: &State, wait: &Wait) -> Result<(), Failure> {
        let waited = self
            .saga
            .step(number)
            .is_some_and(|step| matches!(step.phase, Phase::Waiting { .. }));
        if waited {
            let leaving = self.evaluate(number, state, &[], |values, input| {
                values.leave(input, None)
            })?;
            self.leave(number, leaving, next_of(state), false);
            return Ok(());
        }
        let text = match wait {
            Wait::Seconds(crate::definition::Given::From(text))
            | Wait::Until(crate::definition::Given::From(text)) => text.as_str(),
            _ => "",
        };
        let until = self.evaluate(number, state, &[text], |values, input| match wait {
            Wait::Seconds(given) => {
                let seconds = values.number(given, input, "Seconds")?;
                Ok(later(self.now(), seconds))
            }
            Wait::Until(given) => values.moment(given, input),
        })?;
        self.emit(What::Waiting {
            step: number,
            until,
        });
        if until <= self.now() {
            self.todo.push_back(Todo::Step(number));
        }
        Ok(())
    }

    fn run_fail(&mut self, number: u32, state: &State, fail: &Fail) -> Result<(), Failure> {
        let texts = [&fail.error, &fail.cause].map(|given| match given {
            Some(crate::definition::Given::From(text)) => text.as_str(),
            _ => "",
        });
        let failure = self.evaluate(number, state, &texts, |values, input| {
            let text = |given: &Option<_>, name| match given {
                Some(given) => values.text(given, input, name),
                None => Ok(String::new()),
            };
            Ok(Failure {
                error: text(&fail.error, "Error")?,
                cause: text(&fail.cause, "Cause")?,
                declared: false,
            })
        })?;
        Err(failure)
    }

    /// A step has its result: what leaves it is worked out.
    pub(super) fn complete(&mut self, number: u32, result: &Data) {
        let Some(state) = self.state_of(number) else {
            return;
        };
        let leaving = self.evaluate(number, state, &[], |values, input| {
            values.leave_with(input, result)
        });
        match leaving {
            Ok(leaving) => self.leave(number, leaving, next_of(state), false),
            Err(failure) => self.fail(number, failure),
        }
    }

    /// Leaves a visit; its flow goes on, or ends.
    pub(super) fn leave(
        &mut self,
        number: u32,
        (output, assign): Leaving,
        next: Option<String>,
        caught: bool,
    ) {
        let saga = &self.saga.state;
        let (Some(step), Some(state)) = (saga.steps.get(&number), self.state_of(number)) else {
            return;
        };
        let scope = step.scope;
        let whole = step.fork.is_some() && state.compensate.is_some() && !caught;
        let node = whole || self.saga.leaves_a_node(number);
        let pivot = !caught && scope == 0 && self.machine.saga.pivot.as_ref() == Some(&step.state);
        let ends = next.is_none();
        self.emit(What::Left(Box::new(Left {
            step: number,
            output: output.clone(),
            next,
            assign,
            caught,
            node,
            whole,
            pivot,
        })));
        if !ends {
            self.todo.push_back(Todo::Scope(scope));
            return;
        }
        if scope == 0 {
            self.emit(What::Ended {
                status: Status::Completed,
                output: Some(output),
                error: None,
                cause: None,
            });
            return;
        }
        let parent = self
            .saga
            .state
            .scopes
            .get(&scope)
            .map_or(0, |place| place.parent);
        self.todo.push_back(Todo::Step(parent));
    }
}

/// What is given of a context object takes the place of what is so; an item of a Map stays.
fn lay_over(context: &mut Value, given: &Value) {
    let (Some(context), Some(given)) = (context.as_object_mut(), given.as_object()) else {
        return;
    };
    for (name, section) in given {
        let has_item = name == "Map" && context.contains_key(name);
        let Some(section) = section.as_object().filter(|_| !has_item) else {
            continue;
        };
        let place = context.entry(name.as_str()).or_insert_with(|| json!({}));
        if let Some(place) = place.as_object_mut() {
            let section = section.iter();
            place.extend(section.map(|(name, value)| (name.clone(), value.clone())));
        }
    }
}

/// The state of that name, however deep. Depth is that of the definition.
fn find_state<'m>(flow: &'m Flow, name: &str) -> Option<&'m State> {
    if let Some(state) = flow.states.get(name) {
        return Some(state);
    }
    flow.states.iter().find_map(|state| match &state.kind {
        Kind::Parallel(parallel) => {
            let mut branches = parallel.branches.iter();
            branches.find_map(|branch| find_state(branch, name))
        }
        Kind::Map(map) => find_state(&map.processor, name),
        _ => None,
    })
}

/// Where a state goes on.
pub(super) fn next_of(state: &State) -> Option<String> {
    match &state.next {
        Next::To(next) => Some(next.clone()),
        Next::End => None,
    }
}

impl super::saga::Saga {
    /// Whether a step leaves something that may have to be undone.
    pub(super) fn leaves_a_node(&self, number: u32) -> bool {
        let Some(step) = self.step(number) else {
            return false;
        };
        if let Some(fork) = &step.fork {
            let mut scopes = fork
                .scopes
                .iter()
                .filter_map(|scope| self.state.scopes.get(scope));
            return scopes.any(|place| !place.nodes.is_empty());
        }
        step.child != 0 || (step.undoable && step.outcome != Known::Nothing)
    }
}

impl Failure {
    /// An error of the machine itself.
    pub(super) fn new(error: &str, cause: impl Into<String>) -> Self {
        Self {
            error: error.to_owned(),
            cause: cause.into(),
            declared: false,
        }
    }
}
