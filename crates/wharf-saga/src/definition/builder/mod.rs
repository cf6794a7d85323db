//! Machines written in Rust.
//!
//! What the builder makes goes through the same reader as a text: the same checks, the same
//! problems with the same places, the same hash. A step is followed by the one added after it,
//! unless it says otherwise; the last one ends its flow.
//!
//! ```
//! use serde_json::json;
//! use wharf_saga::definition::{Retry, Saga, Step, Undo};
//!
//! let checkout = Saga::define("checkout")
//!     .step("ReserveStock", Step::topic("stock").timeout(30))
//!     .undo(Undo::topic("stock-release").timeout(30).retry(Retry::any().attempts(10)))
//!     .step("ChargeCard", Step::http("payments").timeout(10).arguments(json!({ "total.$": "$.total" })))
//!     .undo(Undo::http("refunds").timeout(10).retry(Retry::any().attempts(10)))
//!     .step("Ship", Step::topic("shipping").timeout(60))
//!     .pivot("Ship")
//!     .build()?;
//! assert_eq!(checkout.definition.machine.flow.states.len(), 3);
//! # Ok::<(), wharf_saga::definition::Problems>(())
//! ```

mod parts;

use serde_json::{Map, Value, json};

pub use parts::{Catch, Each, Retry, Step, Undo, When};

use super::{Accepted, Definition, OnDeadline, Order, Problems, QueryLanguage};

/// A machine in the making.
#[derive(Clone, Debug)]
#[must_use]
pub struct Saga {
    name: String,
    top: Map<String, Value>,
    saga: Map<String, Value>,
    flow: Branch,
}

/// A flow in the making: the top level, a branch, or what a Map does with each item.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Branch {
    states: Vec<(String, Map<String, Value>)>,
    start_at: Option<String>,
}

impl Saga {
    /// Begins a saga. The name is the type it is deployed under and is no part of its hash.
    pub fn define(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            top: Map::new(),
            saga: Map::new(),
            flow: Branch::default(),
        }
    }

    /// The name it was defined with.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn with(mut self, change: impl FnOnce(Branch) -> Branch) -> Self {
        self.flow = change(self.flow);
        self
    }

    /// A sentence about the machine.
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.top.insert("Comment".to_owned(), json!(comment.into()));
        self
    }

    /// The language of its expressions; JSONPath without it.
    pub fn language(mut self, language: QueryLanguage) -> Self {
        let name = if language == QueryLanguage::Jsonata {
            "JSONata"
        } else {
            "JSONPath"
        };
        self.top.insert("QueryLanguage".to_owned(), json!(name));
        self
    }

    /// How long it may take before it fails with `States.Timeout`.
    pub fn timeout(mut self, seconds: u64) -> Self {
        self.top.insert("TimeoutSeconds".to_owned(), json!(seconds));
        self
    }

    /// The state after which nothing is undone any more.
    pub fn pivot(mut self, state: impl Into<String>) -> Self {
        self.saga.insert("Pivot".to_owned(), json!(state.into()));
        self
    }

    /// In which order steps are undone.
    pub fn order(mut self, order: Order) -> Self {
        let name = if order == Order::Unordered {
            "Unordered"
        } else {
            "ReverseCompletion"
        };
        self.saga.insert("Order".to_owned(), json!(name));
        self
    }

    /// The errors that undo; others park.
    pub fn compensate_on(mut self, errors: &[&str]) -> Self {
        self.saga.insert("CompensateOn".to_owned(), json!(errors));
        self
    }

    /// How long it may take, and what to do then.
    pub fn deadline(mut self, seconds: u64, then: OnDeadline) -> Self {
        self.saga
            .insert("DeadlineSeconds".to_owned(), json!(seconds));
        let name = if then == OnDeadline::Park {
            "Park"
        } else {
            "Compensate"
        };
        self.saga.insert("OnDeadline".to_owned(), json!(name));
        self
    }

    /// The machine as a value, unchecked.
    pub fn to_value(&self) -> Value {
        let mut machine = self.top.clone();
        if !self.saga.is_empty() {
            machine.insert("Saga".to_owned(), Value::Object(self.saga.clone()));
        }
        machine.extend(self.flow.to_map());
        Value::Object(machine)
    }

    /// Checks it as a text would be checked.
    ///
    /// # Errors
    /// Every problem, when one of them is an error.
    pub fn build(&self) -> Result<Accepted, Problems> {
        Definition::of(&self.to_value())
    }
}

macro_rules! both {
    ($($(#[doc = $doc:literal])* fn $name:ident($($arg:ident: $type:ty),*);)*) => {
        impl Saga {
            $($(#[doc = $doc])* pub fn $name(self, $($arg: $type),*) -> Self {
                self.with(|flow| flow.$name($($arg),*))
            })*
        }
    };
}

both! {
    /// Adds a step that somebody else does.
    fn step(name: &str, step: Step);
    /// How the state before is undone.
    fn undo(undo: Undo);
    /// When the state before is tried again.
    fn retry(retry: Retry);
    /// Where the state before goes with errors.
    fn catch(catch: Catch);
    /// Where the state before goes on, when that is not the next one added.
    fn then(next: &str);
    /// Ends the flow with the state before.
    fn end();
    /// Sets a field of the state before, for what has no method here.
    fn field(name: &str, value: Value);
    /// Adds a state that puts something into the data.
    fn pass(name: &str, result: Value);
    /// Adds a state that waits so many seconds.
    fn wait(name: &str, seconds: u64);
    /// Adds a choice; without `otherwise` it fails when no rule holds.
    fn choice(name: &str, rules: Vec<When>, otherwise: Option<&str>);
    /// Adds flows side by side.
    fn parallel(name: &str, branches: &[Branch]);
    /// Adds a flow for each item.
    fn map(name: &str, each: Each);
    /// Adds a good end.
    fn succeed(name: &str);
    /// Adds a bad end.
    fn fail(name: &str, error: &str, cause: &str);
}

impl Branch {
    /// A flow without states.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(mut self, name: &str, kind: &str, mut fields: Map<String, Value>) -> Self {
        fields.insert("Type".to_owned(), json!(kind));
        self.start_at.get_or_insert_with(|| name.to_owned());
        self.states.push((name.to_owned(), fields));
        self
    }

    /// Adds a step that somebody else does.
    pub fn step(self, name: &str, step: Step) -> Self {
        self.state(name, "Task", step.0)
    }

    /// Sets a field of the state before, for what has no method here.
    pub fn field(mut self, name: &str, value: Value) -> Self {
        if let Some((_, state)) = self.states.last_mut() {
            state.insert(name.to_owned(), value);
        }
        self
    }

    fn also(mut self, name: &str, value: Value) -> Self {
        if let Some((_, state)) = self.states.last_mut() {
            let list = state.entry(name.to_owned()).or_insert_with(|| json!([]));
            if let Value::Array(items) = list {
                items.push(value);
            }
        }
        self
    }

    /// How the state before is undone.
    pub fn undo(self, undo: Undo) -> Self {
        self.field("Compensate", Value::Object(undo.0))
    }

    /// When the state before is tried again; more than one is asked in order.
    pub fn retry(self, retry: Retry) -> Self {
        self.also("Retry", Value::Object(retry.0))
    }

    /// Where the state before goes with errors; more than one is asked in order.
    pub fn catch(self, catch: Catch) -> Self {
        self.also("Catch", Value::Object(catch.0))
    }

    /// Where the state before goes on, when that is not the next one added.
    pub fn then(self, next: &str) -> Self {
        self.field("Next", json!(next))
    }

    /// Ends the flow with the state before.
    pub fn end(self) -> Self {
        self.field("End", json!(true))
    }

    /// Adds a state that puts something into the data.
    pub fn pass(self, name: &str, result: Value) -> Self {
        self.state(name, "Pass", Map::new()).field("Result", result)
    }

    /// Adds a state that waits so many seconds.
    pub fn wait(self, name: &str, seconds: u64) -> Self {
        self.state(name, "Wait", Map::new())
            .field("Seconds", json!(seconds))
    }

    /// Adds a choice; without `otherwise` it fails when no rule holds.
    pub fn choice(self, name: &str, rules: Vec<When>, otherwise: Option<&str>) -> Self {
        let rules: Vec<_> = rules
            .into_iter()
            .map(|rule| Value::Object(rule.0))
            .collect();
        let choice = self
            .state(name, "Choice", Map::new())
            .field("Choices", Value::Array(rules));
        match otherwise {
            Some(state) => choice.field("Default", json!(state)),
            None => choice,
        }
    }

    /// Adds flows side by side.
    pub fn parallel(self, name: &str, branches: &[Self]) -> Self {
        let branches = branches
            .iter()
            .map(|branch| Value::Object(branch.to_map()))
            .collect();
        self.state(name, "Parallel", Map::new())
            .field("Branches", branches)
    }

    /// Adds a flow for each item.
    pub fn map(self, name: &str, each: Each) -> Self {
        self.state(name, "Map", each.0)
    }

    /// Adds a good end.
    pub fn succeed(self, name: &str) -> Self {
        self.state(name, "Succeed", Map::new())
    }

    /// Adds a bad end.
    pub fn fail(self, name: &str, error: &str, cause: &str) -> Self {
        let fail = self.state(name, "Fail", Map::new());
        fail.field("Error", json!(error))
            .field("Cause", json!(cause))
    }

    /// `StartAt` and `States`, what follows what filled in. A name that comes twice is kept under
    /// a name that the reader refuses, so that it is not lost.
    fn to_map(&self) -> Map<String, Value> {
        let mut states = Map::new();
        for (at, (name, state)) in self.states.iter().enumerate() {
            let mut state = state.clone();
            let kind = state
                .get("Type")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let goes_on = !matches!(kind, "Choice" | "Succeed" | "Fail");
            if goes_on && !state.contains_key("Next") && !state.contains_key("End") {
                match self.states.get(at + 1) {
                    Some((next, _)) => state.insert("Next".to_owned(), json!(next)),
                    None => state.insert("End".to_owned(), json!(true)),
                };
            }
            let key = if states.contains_key(name) {
                format!("{name} \u{7} again")
            } else {
                name.clone()
            };
            states.insert(key, Value::Object(state));
        }
        let mut flow = Map::new();
        if let Some(start_at) = &self.start_at {
            flow.insert("StartAt".to_owned(), json!(start_at));
        }
        flow.insert("States".to_owned(), Value::Object(states));
        flow
    }
}
