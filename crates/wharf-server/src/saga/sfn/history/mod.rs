//! The history of an execution, made from the facts of its saga in the words of Step Functions.
//!
//! A view and nothing else: the same facts always give the same events with the same numbers, so a
//! page can be asked for again. `previousEventId` follows the flow, each branch on its own. What
//! Amazon has no word for is said with those it has: an undo is a Task state `NAME (undo)`. Facts that
//! tell of pauses, parking and answers nobody waited for make no event.

mod event;
mod window;

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use wharf_message::Timestamp;
use wharf_saga::definition::{Flow, Kind, Machine};
use wharf_saga::machine::{Data, Dispatched, Fact, Failed, Left, Status, What};

use event::Event;
pub(super) use window::Window;

/// What the beginning of an execution tells beside the facts.
#[derive(Clone, Debug, Default)]
pub(super) struct About {
    pub(super) role: String,
    pub(super) version: Option<String>,
    pub(super) alias: Option<String>,
}

/// A visit of a state.
struct Step {
    scope: u32,
    state: String,
    kind: &'static str,
    resource: String,
    /// The items of a Map, or the input of a Parallel.
    fork: Option<(Data, bool)>,
    /// The event that its branches follow.
    forked: u64,
    /// Whether its undo was begun.
    undoing: bool,
    undo_resource: String,
}

/// A branch.
struct Scope {
    step: u32,
    index: u32,
}

/// The events of facts, oldest first, of which a page is kept.
pub(super) struct Events<'a> {
    kinds: HashMap<String, &'static str>,
    about: &'a About,
    page: Window,
    /// How many events there were.
    count: u64,
    /// The last event of each branch.
    last: HashMap<u32, u64>,
    /// What the next state of each branch gets.
    inputs: HashMap<u32, Data>,
    steps: HashMap<u32, Step>,
    scopes: HashMap<u32, Scope>,
    redrives: u64,
}

/// Fields of details; those without a value are left out.
fn details<const N: usize>(fields: [(&str, Option<Value>); N]) -> Map<String, Value> {
    let fields = fields.into_iter();
    fields
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// A value as it stands in details: its JSON as text.
fn text(data: &Value) -> Option<Value> {
    Some(json!(data.to_string()))
}

fn whole() -> Option<Value> {
    Some(json!({ "truncated": false }))
}

fn error_details(error: &str, cause: &str) -> Map<String, Value> {
    let cause = (!cause.is_empty()).then(|| json!(cause));
    details([("error", Some(json!(error))), ("cause", cause)])
}

fn is_timeout(error: &str) -> bool {
    matches!(error, "States.Timeout" | "States.HeartbeatTimeout")
}

/// Which of Amazon's three families of events a resource has, and the names of the third.
fn family(resource: &str) -> (&'static str, String, String) {
    if resource.starts_with("wharf:activity:") || resource.contains(":activity:") {
        return ("Activity", String::new(), resource.to_owned());
    }
    if resource.starts_with("arn:") && resource.contains(":function:") {
        return ("LambdaFunction", String::new(), resource.to_owned());
    }
    let rest = resource.strip_prefix("arn:aws:states:::");
    let rest = rest
        .or_else(|| resource.strip_prefix("wharf:"))
        .unwrap_or(resource);
    let (kind, call) = rest.split_once(':').unwrap_or(("wharf", rest));
    ("Task", kind.to_owned(), call.to_owned())
}

impl<'a> Events<'a> {
    pub(super) fn new(machine: Option<&Machine>, about: &'a About, page: Window) -> Self {
        let mut events = Self {
            kinds: HashMap::new(),
            about,
            page,
            count: 0,
            last: HashMap::new(),
            inputs: HashMap::new(),
            steps: HashMap::new(),
            scopes: HashMap::new(),
            redrives: 0,
        };
        if let Some(machine) = machine {
            events.learn(&machine.flow);
        }
        events
    }

    /// Whether no later fact changes the page.
    pub(super) fn is_done(&self) -> bool {
        self.page.is_done()
    }

    /// The events of the page, and with what the next one begins.
    pub(super) fn page(self) -> (Vec<Event>, Option<u64>) {
        self.page.page()
    }

    fn learn(&mut self, flow: &Flow) {
        for state in &flow.states {
            self.kinds.insert(state.name.clone(), state.kind.name());
            match &state.kind {
                Kind::Parallel(parallel) => {
                    for flow in &parallel.branches {
                        self.learn(flow);
                    }
                }
                Kind::Map(map) => self.learn(&map.processor),
                _ => {}
            }
        }
    }

    /// Adds an event to a branch.
    fn add(&mut self, at: Timestamp, scope: u32, kind: String, details: Map<String, Value>) -> u64 {
        self.count = self.count.saturating_add(1);
        let id = self.count;
        let previous = self.last.insert(scope, id).unwrap_or(0);
        self.page.take(Event {
            id,
            previous,
            at,
            kind,
            details,
        });
        id
    }

    fn scope_of(&self, step: u32) -> u32 {
        self.steps.get(&step).map_or(0, |step| step.scope)
    }

    /// Takes the next fact.
    pub(super) fn take(&mut self, fact: &Fact) {
        let at = fact.at;
        match &fact.what {
            What::Started { start, .. } => self.started(at, &start.input),
            What::Entered {
                step, scope, state, ..
            } => self.entered(at, *step, *scope, state),
            What::Dispatched(sent) => self.dispatched(at, sent),
            What::Beat {
                step,
                accepted: true,
                ..
            } => self.accepted(at, *step),
            What::Succeeded {
                step,
                generation,
                output,
            } => {
                self.succeeded(at, *step, *generation, output);
            }
            What::Failed(failed) => self.failed(at, failed),
            What::Left(left) => self.left(at, left),
            What::Forked {
                step,
                width,
                input,
                items,
                ..
            } => {
                self.forked(at, *step, *width, input, *items);
            }
            What::Branched {
                scope,
                step,
                index,
                input,
                ..
            } => {
                self.branched(at, (*scope, *step, *index), input.as_ref());
            }
            What::BranchFailed { scope, .. } => self.iteration(at, *scope, "MapIterationFailed"),
            What::Edited { step, input } => {
                let scope = self.scope_of(*step);
                self.inputs.insert(scope, input.clone());
            }
            What::Undone { step, .. } => self.undone(at, *step),
            What::Redriven { .. } => {
                self.redrives += 1;
                let count = Some(json!(self.redrives));
                let details = details([("redriveCount", count)]);
                self.add(at, 0, "ExecutionRedriven".to_owned(), details);
            }
            What::Ended {
                status,
                output,
                error,
                cause,
            } => {
                let error = error.as_deref().unwrap_or_default();
                let cause = cause.as_deref().unwrap_or_default();
                self.ended(at, *status, output.as_ref(), (error, cause));
            }
            _ => {}
        }
    }

    fn started(&mut self, at: Timestamp, input: &Data) {
        self.inputs.insert(0, input.clone());
        let About {
            role,
            version,
            alias,
        } = self.about;
        let details = details([
            ("input", text(input)),
            ("inputDetails", whole()),
            ("roleArn", Some(json!(role))),
            (
                "stateMachineVersionArn",
                version.as_ref().map(|arn| json!(arn)),
            ),
            ("stateMachineAliasArn", alias.as_ref().map(|arn| json!(arn))),
        ]);
        self.add(at, 0, "ExecutionStarted".to_owned(), details);
    }

    fn entered(&mut self, at: Timestamp, step: u32, scope: u32, state: &str) {
        let kind = self.kinds.get(state).copied().unwrap_or("Pass");
        let input = self.inputs.get(&scope).cloned().unwrap_or_default();
        let fields = details([
            ("name", Some(json!(state))),
            ("input", text(&input)),
            ("inputDetails", whole()),
        ]);
        self.add(at, scope, format!("{kind}StateEntered"), fields);
        let visit = Step {
            scope,
            state: state.to_owned(),
            kind,
            resource: String::new(),
            fork: None,
            forked: 0,
            undoing: false,
            undo_resource: String::new(),
        };
        self.steps.insert(step, visit);
    }

    fn dispatched(&mut self, at: Timestamp, sent: &Dispatched) {
        let scope = self.scope_of(sent.step);
        if let Some(step) = self.steps.get_mut(&sent.step) {
            if sent.undo {
                step.undo_resource.clone_from(&sent.resource);
                if !std::mem::replace(&mut step.undoing, true) {
                    let fields = details([
                        ("name", Some(json!(format!("{} (undo)", step.state)))),
                        ("input", text(&sent.arguments)),
                        ("inputDetails", whole()),
                    ]);
                    self.add(at, scope, "TaskStateEntered".to_owned(), fields);
                }
            } else {
                step.resource.clone_from(&sent.resource);
            }
        }
        let seconds = |millis: i64| Some(json!(millis / 1_000)).filter(|_| millis >= 1_000);
        let timeout = sent
            .timeout
            .and_then(|until| seconds(until.as_millis() - at.as_millis()));
        let heartbeat = sent.heartbeat.map(|millis| json!(millis / 1_000));
        let (family, kind, call) = family(&sent.resource);
        let arguments = text(&sent.arguments);
        if family == "Task" {
            let fields = details([
                ("resourceType", Some(json!(kind))),
                ("resource", Some(json!(call))),
                ("region", Some(json!("wharf"))),
                ("parameters", arguments),
                ("timeoutInSeconds", timeout),
                ("heartbeatInSeconds", heartbeat),
            ]);
            self.add(at, scope, "TaskScheduled".to_owned(), fields);
        } else {
            let fields = details([
                ("resource", Some(json!(call))),
                ("input", arguments),
                ("inputDetails", whole()),
                ("timeoutInSeconds", timeout),
                (
                    "heartbeatInSeconds",
                    heartbeat.filter(|_| family == "Activity"),
                ),
            ]);
            self.add(at, scope, format!("{family}Scheduled"), fields);
        }
        // Whoever asks for tasks has not begun with this one yet.
        if family != "Activity" {
            self.task(at, sent.step, sent.undo, "Started", Map::new());
        }
    }

    /// An event about the task of a step.
    fn task(&mut self, at: Timestamp, step: u32, undo: bool, what: &str, more: Map<String, Value>) {
        let Some(visit) = self.steps.get(&step) else {
            return;
        };
        let resource = if undo {
            &visit.undo_resource
        } else {
            &visit.resource
        };
        let (family, kind, call) = family(resource);
        let mut fields = match family {
            "Task" => details([
                ("resourceType", Some(json!(kind))),
                ("resource", Some(json!(call))),
            ]),
            _ => Map::new(),
        };
        fields.extend(more);
        let scope = visit.scope;
        self.add(at, scope, format!("{family}{what}"), fields);
    }

    /// A worker has the task and will answer later.
    fn accepted(&mut self, at: Timestamp, step: u32) {
        let Some(visit) = self.steps.get(&step) else {
            return;
        };
        let undo = visit.undoing;
        let resource = if undo {
            &visit.undo_resource
        } else {
            &visit.resource
        };
        match family(resource).0 {
            "Activity" => self.task(at, step, undo, "Started", Map::new()),
            "Task" => self.task(at, step, undo, "Submitted", Map::new()),
            _ => {}
        }
    }

    fn succeeded(&mut self, at: Timestamp, step: u32, generation: u32, output: &Data) {
        if generation == 0 {
            return;
        }
        let more = details([("output", text(output)), ("outputDetails", whole())]);
        self.task(at, step, false, "Succeeded", more);
    }

    fn failed(&mut self, at: Timestamp, failed: &Failed) {
        let Some(visit) = self.steps.get(&failed.step) else {
            return;
        };
        let (scope, kind) = (visit.scope, visit.kind);
        let mut fields = error_details(&failed.error, &failed.cause);
        match kind {
            "Fail" => {}
            "Parallel" | "Map" if !failed.undo => {
                self.last.insert(scope, visit.forked);
                self.add(at, scope, format!("{kind}StateFailed"), Map::new());
            }
            _ if failed.generation == 0 => {
                fields.insert("state".to_owned(), json!(visit.state));
                self.add(at, scope, "EvaluationFailed".to_owned(), fields);
            }
            _ => {
                let what = if is_timeout(&failed.error) {
                    "TimedOut"
                } else {
                    "Failed"
                };
                self.task(at, failed.step, failed.undo, what, fields);
            }
        }
    }

    fn left(&mut self, at: Timestamp, left: &Left) {
        let Some(visit) = self.steps.get(&left.step) else {
            return;
        };
        let (scope, kind, state) = (visit.scope, visit.kind, visit.state.clone());
        if matches!(kind, "Parallel" | "Map") && !left.caught {
            self.add(at, scope, format!("{kind}StateSucceeded"), Map::new());
        }
        self.inputs.insert(scope, left.output.clone());
        if kind != "Fail" {
            let assigned = left.assign.iter();
            let assigned: Map<_, _> = assigned
                .map(|(name, value)| (name.clone(), json!(value.to_string())))
                .collect();
            let fields = details([
                ("name", Some(json!(state))),
                ("output", text(&left.output)),
                ("outputDetails", whole()),
                (
                    "assignedVariables",
                    (!assigned.is_empty()).then(|| Value::Object(assigned)),
                ),
            ]);
            self.add(at, scope, format!("{kind}StateExited"), fields);
        }
        // No branch of it begins any more.
        if let Some(visit) = self.steps.get_mut(&left.step) {
            visit.fork = None;
        }
        if scope != 0 && left.next.is_none() {
            self.inputs.remove(&scope);
            self.iteration(at, scope, "MapIterationSucceeded");
        }
    }

    fn forked(&mut self, at: Timestamp, step: u32, width: u32, input: &Data, items: bool) {
        let Some(visit) = self.steps.get_mut(&step) else {
            return;
        };
        visit.fork = Some((input.clone(), items));
        let (scope, kind) = (visit.scope, visit.kind);
        let fields = match kind {
            "Map" => details([("length", Some(json!(width)))]),
            _ => Map::new(),
        };
        let id = self.add(at, scope, format!("{kind}StateStarted"), fields);
        if let Some(visit) = self.steps.get_mut(&step) {
            visit.forked = id;
        }
    }

    fn branched(&mut self, at: Timestamp, place: (u32, u32, u32), input: Option<&Data>) {
        let (scope, step, index) = place;
        let Some(visit) = self.steps.get(&step) else {
            return;
        };
        self.last.insert(scope, visit.forked);
        let of_fork = visit.fork.as_ref().map(|(input, items)| {
            let item = usize::try_from(index)
                .ok()
                .and_then(|index| input.get(index));
            match item.filter(|_| *items) {
                Some(item) => Data::from(item.clone()),
                None => input.clone(),
            }
        });
        let input = input.cloned().or(of_fork).unwrap_or_default();
        self.inputs.insert(scope, input);
        self.scopes.insert(scope, Scope { step, index });
        self.iteration(at, scope, "MapIterationStarted");
    }

    /// An event about an item of a Map; the state goes on behind it.
    fn iteration(&mut self, at: Timestamp, scope: u32, kind: &str) {
        let Some(branch) = self.scopes.get(&scope) else {
            return;
        };
        let Some(visit) = self.steps.get(&branch.step) else {
            return;
        };
        let (outer, is_map) = (visit.scope, visit.kind == "Map");
        if is_map {
            let fields = details([
                ("name", Some(json!(visit.state))),
                ("index", Some(json!(branch.index))),
            ]);
            self.add(at, scope, kind.to_owned(), fields);
        }
        if kind != "MapIterationStarted"
            && let Some(last) = self.last.get(&scope).copied()
        {
            self.last.insert(outer, last);
        }
    }

    fn undone(&mut self, at: Timestamp, step: u32) {
        let Some(visit) = self.steps.get(&step).filter(|visit| visit.undoing) else {
            return;
        };
        let (scope, name) = (visit.scope, format!("{} (undo)", visit.state));
        self.task(at, step, true, "Succeeded", Map::new());
        let fields = details([("name", Some(json!(name)))]);
        self.add(at, scope, "TaskStateExited".to_owned(), fields);
    }

    fn ended(&mut self, at: Timestamp, status: Status, output: Option<&Data>, why: (&str, &str)) {
        let (error, cause) = why;
        let (kind, fields) = match shown(status, Some(error)) {
            "SUCCEEDED" => {
                let output = output.cloned().unwrap_or_default();
                let fields = details([("output", text(&output)), ("outputDetails", whole())]);
                ("ExecutionSucceeded", fields)
            }
            "ABORTED" => ("ExecutionAborted", error_details(error, cause)),
            "TIMED_OUT" => ("ExecutionTimedOut", error_details(error, cause)),
            _ => ("ExecutionFailed", error_details(error, cause)),
        };
        // In a failure the last event of any branch is what led here.
        if kind != "ExecutionSucceeded" && self.count > 0 {
            self.last.insert(0, self.count);
        }
        self.add(at, 0, kind.to_owned(), fields);
    }
}

/// The status that Step Functions has for it. What is being undone, or waits for a person, runs.
pub(super) fn shown(status: Status, error: Option<&str>) -> &'static str {
    match status {
        Status::Running | Status::Compensating | Status::Parked => "RUNNING",
        Status::Completed => "SUCCEEDED",
        Status::AbortedByOperator => "ABORTED",
        Status::Compensated if error == Some("States.Timeout") => "TIMED_OUT",
        Status::Compensated => "FAILED",
    }
}

#[cfg(test)]
mod tests;
