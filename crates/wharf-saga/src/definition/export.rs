//! A saga as plain States Language: its undo as states, so that the same file runs on Step Functions.
//!
//! Each step remembers its input and its result in variables, its errors are caught, and a chain of
//! undo states runs from the last step to the first and ends in a Fail state with the error that
//! began it. Where the way through the machine is not one line, a variable per step says whether it
//! was begun, and the chain asks it. What the plain language cannot say is reported, state by state.

use std::collections::{HashMap, HashSet};

use serde_json::{Map as Object, Value, json};

use super::import::{forward, onward, rebased};
use super::read::{after_pivot, leads_on};
use super::{
    Code, Compensation, Flow, Given, Kind, Machine, OnDeadline, OnFailure, OnUnknown, Order,
    Problem, QueryLanguage, State, Task, escape,
};

/// What the variables of an exported saga begin with.
pub(super) const PREFIX: &str = "saga_";
const UNDONE: &str = "Saga undone";
const BEGINS: &str = "Saga begins";

/// A machine in plain States Language, and what it does otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// The machine.
    pub machine: Value,
    /// What could not be kept.
    pub remarks: Vec<Problem>,
}

impl Machine {
    /// The machine without Compensate and Saga, undone by states of its own.
    pub fn export(&self) -> Exported {
        let mut remarks = Vec::new();
        report(self, &mut remarks);
        let plan = Plan::of(self);
        let machine = if plan.undos.is_empty() {
            stripped(self).to_value()
        } else {
            plan.expand()
        };
        Exported { machine, remarks }
    }
}

/// The machine without what is not of the language.
fn stripped(machine: &Machine) -> Machine {
    let mut plain = machine.clone();
    plain.saga = super::Policy::default();
    strip(&mut plain.flow);
    plain
}

fn strip(flow: &mut Flow) {
    for state in flow.states.iter_mut() {
        state.compensate = None;
        match &mut state.kind {
            Kind::Task(Task {
                concurrency_limit, ..
            }) => *concurrency_limit = None,
            Kind::Parallel(parallel) => parallel.branches.iter_mut().for_each(strip),
            Kind::Map(map) => strip(&mut map.processor),
            _ => {}
        }
    }
}

struct Plan<'m> {
    machine: &'m Machine,
    /// The steps with an undo before the pivot, in the order of the way forward.
    undos: Vec<(&'m State, &'m Compensation)>,
    /// The states from which an error undoes.
    before: Vec<&'m State>,
    /// Whether which steps were done is only known when it runs.
    asks: bool,
    /// Names that are taken.
    names: HashSet<String>,
}

impl<'m> Plan<'m> {
    fn of(machine: &'m Machine) -> Self {
        let after = after_pivot(machine);
        let states = &machine.flow.states;
        let line = forward(machine);
        let mut before: Vec<&State> = line.iter().filter_map(|name| states.get(name)).collect();
        before.extend(
            states
                .iter()
                .filter(|state| !line.contains(&state.name.as_str())),
        );
        before.retain(|state| !after.contains(state.name.as_str()));
        let undos = before
            .iter()
            .filter_map(|s| s.compensate.as_ref().map(|undo| (*s, undo)));
        let undos: Vec<_> = undos.collect();
        let straight = before.iter().enumerate().all(|(at, state)| {
            let next = onward(state);
            leads_on(state).len() == next.len()
                && next.len() <= 1
                && next
                    .iter()
                    .all(|name| before[..=at].iter().all(|earlier| earlier.name != *name))
                && !matches!(state.kind, Kind::Fail(_))
        });
        let names = names(&machine.flow);
        Self {
            machine,
            undos,
            before,
            asks: !straight,
            names,
        }
    }

    /// A name for a state of the chain, which may not be longer than names are.
    fn name(&self, before: &str, of: &str, after: &str) -> String {
        let mut name = format!("{before}{}{after}", of.chars().take(60).collect::<String>());
        let mut number = 2;
        while self.names.contains(&name) {
            name = format!(
                "{before}{}{after} {number}",
                of.chars().take(60).collect::<String>()
            );
            number += 1;
        }
        name
    }

    fn expand(&self) -> Value {
        let mut machine = stripped(self.machine);
        let language = machine.language;
        let mut entry: HashMap<&str, String> = HashMap::new();
        let mut states = Object::new();
        for (number, (step, undo)) in self.undos.iter().enumerate() {
            if let Some(assign) = self.remember(number, undo) {
                let name = self.name("Before ", &step.name, "");
                let pass = json!({ "Type": "Pass", "QueryLanguage": "JSONata", "Assign": assign, "Next": step.name });
                entry.insert(&step.name, name.clone());
                states.insert(name, pass);
            }
        }
        for state in machine.flow.states.iter_mut() {
            redirect(state, &entry);
        }
        if let Some(first) = entry.get(machine.flow.start_at.as_str()) {
            machine.flow.start_at.clone_from(first);
        }
        let start = machine.flow.start_at.clone();
        let mut value = machine.to_value();
        let plain = value["States"].take();
        for (name, mut state) in plain.as_object().cloned().unwrap_or_default() {
            if let Some(at) = self.before.iter().position(|state| state.name == name) {
                self.catch(at, &mut state);
            }
            states.insert(name, state);
        }
        if self.asks {
            let flags: Object<String, Value> = (0..self.undos.len())
                .map(|n| (format!("{PREFIX}done_{n}"), json!(false)))
                .collect();
            let name = self.name("", BEGINS, "");
            let pass = json!({ "Type": "Pass", "QueryLanguage": "JSONata", "Assign": flags, "Next": start });
            states.insert(name.clone(), pass);
            value["StartAt"] = json!(name);
        }
        self.chain(&mut states, language);
        value["States"] = Value::Object(states);
        value
    }

    /// What is kept before a step is done.
    fn remember(&self, number: usize, undo: &Compensation) -> Option<Value> {
        let mut assign = Object::new();
        let (input, result) = reads(undo);
        if input {
            assign.insert(
                format!("{PREFIX}input_{number}"),
                json!("{% $states.input %}"),
            );
        }
        if undo.on_unknown != OnUnknown::Skip {
            if result {
                assign.insert(format!("{PREFIX}result_{number}"), Value::Null);
            }
            if self.asks {
                assign.insert(format!("{PREFIX}done_{number}"), json!(true));
            }
        }
        (!assign.is_empty()).then_some(Value::Object(assign))
    }

    /// The first state of the chain for an error in that state.
    fn entry(&self, at: usize) -> String {
        if self.asks {
            return self.link(self.undos.len());
        }
        let done = self.undos.iter().filter(|(step, undo)| {
            let place = self.before.iter().position(|state| state.name == step.name);
            place.is_some_and(|place| {
                place < at || (place == at && undo.on_unknown != OnUnknown::Skip)
            })
        });
        self.link(done.count())
    }

    /// The first state that undoes the first so many steps.
    fn link(&self, count: usize) -> String {
        match count.checked_sub(1).and_then(|last| self.undos.get(last)) {
            None => self.name("", UNDONE, ""),
            Some((step, _)) if self.asks => self.name("Undo ", &step.name, "?"),
            Some((step, _)) => self.name("Undo ", &step.name, ""),
        }
    }

    /// What becomes of a state whose error undoes.
    fn catch(&self, at: usize, state: &mut Value) {
        let of = self.before[at];
        let language = of.language();
        if let Kind::Fail(fail) = &of.kind {
            let text = |given: Option<&Given<String>>, name: &str| match (given, language) {
                (Some(Given::From(path)), QueryLanguage::JsonPath) => {
                    (format!("{name}.$"), json!(path))
                }
                (Some(Given::From(text) | Given::Fixed(text)), _) => (name.to_owned(), json!(text)),
                (None, _) => (name.to_owned(), json!("")),
            };
            let error = text(fail.error.as_ref(), "saga_error");
            let cause = text(fail.cause.as_ref(), "saga_cause");
            let assign: Object<String, Value> = [error, cause].into_iter().collect();
            let mut pass = json!({ "Type": "Pass", "Assign": assign, "Next": self.entry(at) });
            if let Some(language) = state.get("QueryLanguage") {
                pass["QueryLanguage"] = language.clone();
            }
            *state = pass;
            return;
        }
        if let Some(number) = self.undos.iter().position(|(step, _)| step.name == of.name) {
            let undo = self.undos[number].1;
            let mut assign = state["Assign"].as_object().cloned().unwrap_or_default();
            if reads(undo).1 {
                let (name, value) = match language {
                    QueryLanguage::JsonPath => (format!("{PREFIX}result_{number}.$"), "$"),
                    QueryLanguage::Jsonata => {
                        (format!("{PREFIX}result_{number}"), "{% $states.result %}")
                    }
                };
                assign.insert(name, json!(value));
            }
            if self.asks && undo.on_unknown == OnUnknown::Skip {
                assign.insert(format!("{PREFIX}done_{number}"), json!(true));
            }
            if !assign.is_empty() {
                state["Assign"] = Value::Object(assign);
            }
        }
        let caught = of
            .catch
            .iter()
            .flat_map(|catcher| &catcher.errors)
            .any(|e| e == "States.ALL");
        if matches!(of.kind, Kind::Task(_) | Kind::Parallel(_) | Kind::Map(_)) && !caught {
            let assign = match language {
                QueryLanguage::JsonPath => {
                    json!({ "saga_error.$": "$.Error", "saga_cause.$": "$.Cause" })
                }
                QueryLanguage::Jsonata => json!({
                    "saga_error": "{% $states.errorOutput.Error %}",
                    "saga_cause": "{% $states.errorOutput.Cause %}"
                }),
            };
            let errors = &self.machine.saga.compensate_on;
            let catcher =
                json!({ "ErrorEquals": errors, "Assign": assign, "Next": self.entry(at) });
            let mut all = state["Catch"].as_array().cloned().unwrap_or_default();
            all.push(catcher);
            state["Catch"] = Value::Array(all);
        }
    }

    /// The undo states, the last step's first.
    fn chain(&self, states: &mut Object<String, Value>, language: QueryLanguage) {
        for (number, (step, undo)) in self.undos.iter().enumerate().rev() {
            let (name, next) = (self.name("Undo ", &step.name, ""), self.link(number));
            if self.asks {
                let rule =
                    json!({ "Condition": format!("{{% ${PREFIX}done_{number} %}}"), "Next": name });
                let choice = json!({ "Type": "Choice", "QueryLanguage": "JSONata", "Choices": [rule], "Default": next });
                states.insert(self.link(number + 1), choice);
            }
            states.insert(name, undo_state(step, undo, number, &next, language));
        }
        let fail = json!({ "Type": "Fail", "QueryLanguage": "JSONata",
            "Error": "{% $saga_error %}", "Cause": "{% $saga_cause %}" });
        states.insert(self.link(0), fail);
    }
}

fn undo_state(
    step: &State,
    undo: &Compensation,
    number: usize,
    next: &str,
    machine: QueryLanguage,
) -> Value {
    let language = step.language();
    let mut state = super::write::compensation(undo, language);
    let mut set = |name: &str, value: Value| state[name] = value;
    set("Type", json!("Task"));
    set("Next", json!(next));
    let retry = super::write::retriers(&undo.retry);
    set("Retry", Value::Array(retry));
    let (input, result) = (
        format!("${PREFIX}input_{number}"),
        format!("${PREFIX}result_{number}"),
    );
    match language {
        QueryLanguage::JsonPath => {
            let both = || json!({ "input.$": "$.input", "result.$": "$.result" });
            let template = undo.arguments.clone().unwrap_or_else(both);
            let mut change = |path: &str| {
                let path = path.replacen("$states.", "$.", 1);
                let after = |name: &str| {
                    let rest = path.strip_prefix(name)?;
                    (rest.is_empty() || rest.starts_with(['.', '['])).then(|| rest.to_owned())
                };
                match (after("$.input"), after("$.result")) {
                    (Some(rest), _) => format!("{input}{rest}"),
                    (_, Some(rest)) => format!("{result}{rest}"),
                    _ => path,
                }
            };
            set("Parameters", rebased(template, &mut change));
            set("ResultPath", Value::Null);
        }
        QueryLanguage::Jsonata => {
            let both =
                || json!({ "input": "{% $states.input %}", "result": "{% $states.result %}" });
            let template = undo.arguments.clone().unwrap_or_else(both);
            let change = |text: &str| {
                text.replace("$states.input", &input)
                    .replace("$states.result", &result)
            };
            set("Arguments", in_texts(template, &change));
            set("Output", json!("{% $states.input %}"));
        }
    }
    if language != machine {
        let name = if language == QueryLanguage::Jsonata {
            "JSONata"
        } else {
            "JSONPath"
        };
        set("QueryLanguage", json!(name));
    }
    if undo.on_failure == OnFailure::Continue {
        set(
            "Catch",
            json!([{ "ErrorEquals": ["States.ALL"], "Next": next }]),
        );
    }
    if let Some(fields) = state.as_object_mut() {
        fields.retain(|name, _| name != "OnUnknown" && name != "OnFailure");
    }
    state
}

/// Every text in a value, changed.
pub(super) fn in_texts(value: Value, change: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(&text)),
        Value::Array(items) => items
            .into_iter()
            .map(|item| in_texts(item, change))
            .collect(),
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| (key, in_texts(value, change)))
                .collect(),
        ),
        other => other,
    }
}

/// Whether an undo reads the step's input, and its result.
fn reads(undo: &Compensation) -> (bool, bool) {
    let Some(arguments) = &undo.arguments else {
        return (true, true);
    };
    let text = arguments.to_string();
    let has = |name: &str| {
        text.contains(&format!("$.{name}")) || text.contains(&format!("$states.{name}"))
    };
    (has("input"), has("result"))
}

/// Lets a state go on to what now stands before its target.
fn redirect(state: &mut State, entry: &HashMap<&str, String>) {
    let change = |name: &mut String| {
        if let Some(before) = entry.get(name.as_str()) {
            name.clone_from(before);
        }
    };
    if let super::Next::To(next) = &mut state.next {
        change(next);
    }
    state
        .catch
        .iter_mut()
        .for_each(|catcher| change(&mut catcher.next));
    if let Kind::Choice(choice) = &mut state.kind {
        choice
            .rules
            .iter_mut()
            .for_each(|rule| change(&mut rule.next));
        choice.default.iter_mut().for_each(change);
    }
}

fn flows(state: &State) -> Vec<&Flow> {
    match &state.kind {
        Kind::Parallel(parallel) => parallel.branches.iter().collect(),
        Kind::Map(map) => vec![&map.processor],
        _ => Vec::new(),
    }
}

fn names(flow: &Flow) -> HashSet<String> {
    let mut all = HashSet::new();
    for state in &flow.states {
        all.insert(state.name.clone());
        flows(state)
            .into_iter()
            .for_each(|flow| all.extend(names(flow)));
    }
    all
}

/// What the plain language cannot say.
fn report(machine: &Machine, remarks: &mut Vec<Problem>) {
    let mut lost = |path: String, message: &str| {
        remarks.push(Problem::new(Code::NOT_EXPORTED, path, message));
    };
    let policy = &machine.saga;
    if policy.pivot.is_some() {
        lost(
            "/Saga/Pivot".to_owned(),
            "after the pivot a saga is parked at an error and repaired; the execution fails instead, and must be redriven by hand",
        );
    }
    if policy.order == Order::Unordered {
        lost(
            "/Saga/Order".to_owned(),
            "the undo states run one after the other",
        );
    }
    if policy.deadline_seconds.is_some() {
        let then = if policy.on_deadline == OnDeadline::Park {
            "parked"
        } else {
            "undone"
        };
        lost(
            "/Saga/DeadlineSeconds".to_owned(),
            &format!(
                "at the deadline a saga is {then}; an execution cannot do that, so it has no deadline"
            ),
        );
    }
    if machine.timeout_seconds.is_some() {
        lost(
            "/TimeoutSeconds".to_owned(),
            "an execution that times out is stopped, and nothing is undone then",
        );
    }
    of_flow(&machine.flow, "/States", true, remarks);
}

fn of_flow(flow: &Flow, above: &str, top: bool, remarks: &mut Vec<Problem>) {
    for state in &flow.states {
        let at = format!("{above}/{}", escape(&state.name));
        let mut lost = |path: String, message: &str| {
            remarks.push(Problem::new(Code::NOT_EXPORTED, path, message));
        };
        if let Some(undo) = &state.compensate {
            let at = format!("{at}/Compensate");
            if top {
                lost(
                    at.clone(),
                    "an undo that has failed for good parks a saga; here the execution fails with the rest not undone, unless OnFailure is Continue. A declared refusal is undone like any other failure, and of a step that was done several times the last is undone",
                );
            } else {
                lost(
                    at.clone(),
                    "the step is inside a Parallel or Map, whose variables end with it, so it has no undo; give the Parallel or Map one",
                );
            }
            if undo.on_unknown == OnUnknown::Park {
                lost(
                    format!("{at}/OnUnknown"),
                    "no person can be asked, so a step of which nobody knows is undone",
                );
            }
        }
        if top && matches!(&state.kind, Kind::Choice(choice) if choice.default.is_none()) {
            lost(
                at.clone(),
                "a Choice without Default has no Catch: when no rule holds, nothing is undone",
            );
        }
        if let Kind::Task(task) = &state.kind {
            if task.concurrency_limit.is_some() {
                lost(
                    format!("{at}/ConcurrencyLimit"),
                    "Step Functions has no limit per step",
                );
            }
            let undo = state
                .compensate
                .iter()
                .map(|undo| (undo.resource.as_str(), "/Compensate"));
            for (resource, below) in std::iter::once((task.resource.as_str(), "")).chain(undo) {
                if resource.starts_with("wharf:") {
                    let message =
                        format!("`{resource}` is a resource of Wharf; write an ARN in its place");
                    remarks.push(Problem::new(
                        Code::RESOURCE_NOT_AWS,
                        format!("{at}{below}/Resource"),
                        message,
                    ));
                }
            }
        }
        let below = if matches!(state.kind, Kind::Map(_)) {
            "ItemProcessor"
        } else {
            "Branches"
        };
        for (index, flow) in flows(state).into_iter().enumerate() {
            let place = if below == "Branches" {
                format!("{at}/Branches/{index}/States")
            } else {
                format!("{at}/ItemProcessor/States")
            };
            of_flow(flow, &place, false, remarks);
        }
    }
}
