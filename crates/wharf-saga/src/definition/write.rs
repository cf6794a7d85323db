//! From the model to JSON: for people in the order things were written, and as the canonical form
//! that the hash is made of. Defaults are left out.

use serde_json::{Map as Object, Value, json};

use super::{
    Assign, Catcher, Compensation, Condition, Data, Flow, Given, Items, Jitter, Kind, Machine, Map,
    Next, OnDeadline, OnFailure, OnUnknown, Order, Policy, QueryLanguage, Relation, Retrier, Rule,
    Selection, State, Test, Wait,
};

/// JSON without spaces, the keys of every object sorted.
pub(super) fn canonical(value: &Value) -> String {
    let mut out = String::new();
    put(value, &mut out);
    out
}

fn put(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                put(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                put(item, out);
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// Fields in order, those that are there.
struct Out(Object<String, Value>);

impl Out {
    fn new() -> Self {
        Self(Object::new())
    }

    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn maybe(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    fn assign(&mut self, assign: &Assign) {
        if !assign.is_empty() {
            self.put("Assign", assign.clone());
        }
    }

    fn select(&mut self, name: &str, selection: &Selection) {
        match selection {
            Selection::All => {}
            Selection::Nothing => self.put(name, Value::Null),
            Selection::At(path) => self.put(name, path.as_str()),
        }
    }

    fn given<T: Clone + Into<Value>>(
        &mut self,
        language: QueryLanguage,
        name: &str,
        value: Option<&Given<T>>,
    ) {
        match value {
            None => {}
            Some(Given::Fixed(value)) => self.put(name, value.clone()),
            Some(Given::From(text)) if language == QueryLanguage::Jsonata => {
                self.put(name, text.as_str());
            }
            Some(Given::From(text)) => self.put(&format!("{name}Path"), text.as_str()),
        }
    }

    fn done(self) -> Value {
        Value::Object(self.0)
    }
}

impl Machine {
    /// The machine as JSON, states in their order, defaults left out.
    pub fn to_value(&self) -> Value {
        let mut out = Out::new();
        out.maybe("Comment", self.comment.as_deref());
        if self.language == QueryLanguage::Jsonata {
            out.put("QueryLanguage", "JSONata");
        }
        out.maybe("TimeoutSeconds", self.timeout_seconds);
        if self.saga != Policy::default() {
            out.put("Saga", policy(&self.saga));
        }
        self.flow.put(&mut out, self.language);
        out.done()
    }
}

impl Flow {
    fn put(&self, out: &mut Out, machine: QueryLanguage) {
        if let Some(comment) = &self.comment {
            out.put("Comment", comment.as_str());
        }
        out.put("StartAt", self.start_at.as_str());
        let states: Object<_, _> = self
            .states
            .iter()
            .map(|s| (s.name.clone(), s.to_value(machine)))
            .collect();
        out.put("States", states);
    }

    fn to_value(&self, machine: QueryLanguage) -> Value {
        let mut out = Out::new();
        self.put(&mut out, machine);
        out.done()
    }
}

fn policy(policy: &Policy) -> Value {
    let mut out = Out::new();
    let default = Policy::default();
    out.maybe("Pivot", policy.pivot.as_deref());
    if policy.order == Order::Unordered {
        out.put("Order", "Unordered");
    }
    if policy.compensate_on != default.compensate_on {
        out.put("CompensateOn", policy.compensate_on.clone());
    }
    out.maybe("DeadlineSeconds", policy.deadline_seconds);
    if policy.on_deadline == OnDeadline::Park {
        out.put("OnDeadline", "Park");
    }
    out.done()
}

impl State {
    /// The state as JSON, in a machine of that language.
    pub fn to_value(&self, machine: QueryLanguage) -> Value {
        let language = self.language();
        let mut out = Out::new();
        out.put("Type", self.kind.name());
        out.maybe("Comment", self.comment.as_deref());
        if language != machine {
            let name = if language == QueryLanguage::Jsonata {
                "JSONata"
            } else {
                "JSONPath"
            };
            out.put("QueryLanguage", name);
        }
        self.put_kind(&mut out, language, machine);
        self.put_data(&mut out);
        if !self.retry.is_empty() {
            out.put("Retry", retriers(&self.retry));
        }
        if !self.catch.is_empty() {
            out.put("Catch", self.catch.iter().map(catcher).collect::<Vec<_>>());
        }
        if let Some(compensate) = &self.compensate {
            out.put("Compensate", compensation(compensate, language));
        }
        if !matches!(self.kind, Kind::Choice(_) | Kind::Succeed | Kind::Fail(_)) {
            match &self.next {
                Next::To(next) => out.put("Next", next.as_str()),
                Next::End => out.put("End", true),
            }
        }
        out.done()
    }

    fn put_kind(&self, out: &mut Out, language: QueryLanguage, machine: QueryLanguage) {
        match &self.kind {
            Kind::Task(task) => {
                out.put("Resource", task.resource.as_str());
                out.given(language, "TimeoutSeconds", task.timeout_seconds.as_ref());
                out.given(
                    language,
                    "HeartbeatSeconds",
                    task.heartbeat_seconds.as_ref(),
                );
                out.maybe("ConcurrencyLimit", task.concurrency_limit);
            }
            Kind::Pass(pass) => out.maybe("Result", pass.result.clone()),
            Kind::Choice(choice) => {
                out.put("Choices", choice.rules.iter().map(rule).collect::<Vec<_>>());
                out.maybe("Default", choice.default.as_deref());
            }
            Kind::Wait(Wait::Seconds(seconds)) => out.given(language, "Seconds", Some(seconds)),
            Kind::Wait(Wait::Until(moment)) => out.given(language, "Timestamp", Some(moment)),
            Kind::Succeed => {}
            Kind::Fail(fail) => {
                out.given(language, "Error", fail.error.as_ref());
                out.given(language, "Cause", fail.cause.as_ref());
            }
            Kind::Parallel(parallel) => {
                let branches = parallel.branches.iter().map(|flow| flow.to_value(machine));
                out.put("Branches", branches.collect::<Vec<_>>());
            }
            Kind::Map(map) => put_map(map, out, language, machine),
        }
    }

    fn put_data(&self, out: &mut Out) {
        match &self.data {
            Data::Path(data) => {
                out.select("InputPath", &data.input_path);
                out.maybe("Parameters", data.parameters.clone());
                out.maybe("ResultSelector", data.result_selector.clone());
                out.select("ResultPath", &data.result_path);
                out.select("OutputPath", &data.output_path);
                out.assign(&data.assign);
            }
            Data::Jsonata(data) => {
                out.maybe("Arguments", data.arguments.clone());
                out.maybe("Output", data.output.clone());
                out.assign(&data.assign);
            }
        }
    }
}

fn put_map(map: &Map, out: &mut Out, language: QueryLanguage, machine: QueryLanguage) {
    match &map.items {
        Items::Path(path) if path == "$" => {}
        Items::Path(path) => out.put("ItemsPath", path.as_str()),
        Items::Jsonata(items) => out.maybe("Items", items.clone()),
    }
    out.maybe("ItemSelector", map.selector.clone());
    if map.concurrency_max != Given::Fixed(0) {
        out.given(language, "MaxConcurrency", Some(&map.concurrency_max));
    }
    out.given(
        language,
        "ToleratedFailureCount",
        map.tolerated_failures.as_ref(),
    );
    out.given(
        language,
        "ToleratedFailurePercentage",
        map.tolerated_percentage.as_ref(),
    );
    out.put("ItemProcessor", map.processor.to_value(machine));
}

pub(super) fn retriers(retriers: &[Retrier]) -> Vec<Value> {
    retriers.iter().map(retrier).collect()
}

fn retrier(retrier: &Retrier) -> Value {
    let default = Retrier::default();
    let mut out = Out::new();
    out.put("ErrorEquals", retrier.errors.clone());
    if retrier.interval_seconds != default.interval_seconds {
        out.put("IntervalSeconds", retrier.interval_seconds);
    }
    if retrier.attempts_max != default.attempts_max {
        out.put("MaxAttempts", retrier.attempts_max);
    }
    if retrier.backoff_rate.to_bits() != default.backoff_rate.to_bits() {
        out.put("BackoffRate", retrier.backoff_rate);
    }
    out.maybe("MaxDelaySeconds", retrier.delay_max_seconds);
    if retrier.jitter == Jitter::Full {
        out.put("JitterStrategy", "FULL");
    }
    out.done()
}

fn catcher(catcher: &Catcher) -> Value {
    let mut out = Out::new();
    out.maybe("Comment", catcher.comment.as_deref());
    out.put("ErrorEquals", catcher.errors.clone());
    out.select("ResultPath", &catcher.result_path);
    out.maybe("Output", catcher.output.clone());
    out.assign(&catcher.assign);
    out.put("Next", catcher.next.as_str());
    out.done()
}

pub(super) fn compensation(compensation: &Compensation, language: QueryLanguage) -> Value {
    let mut out = Out::new();
    out.put("Resource", compensation.resource.as_str());
    let name = if language == QueryLanguage::Jsonata {
        "Arguments"
    } else {
        "Parameters"
    };
    out.maybe(name, compensation.arguments.clone());
    if compensation.retry != Compensation::default_retry() {
        out.put("Retry", retriers(&compensation.retry));
    }
    out.given(
        language,
        "TimeoutSeconds",
        compensation.timeout_seconds.as_ref(),
    );
    match compensation.on_unknown {
        OnUnknown::Compensate => {}
        OnUnknown::Skip => out.put("OnUnknown", "Skip"),
        OnUnknown::Park => out.put("OnUnknown", "Park"),
    }
    if compensation.on_failure == OnFailure::Continue {
        out.put("OnFailure", "Continue");
    }
    out.done()
}

fn rule(rule: &Rule) -> Value {
    let mut out = Out::new();
    out.maybe("Comment", rule.comment.as_deref());
    put_condition(&rule.condition, &mut out);
    out.maybe("Output", rule.output.clone());
    out.assign(&rule.assign);
    out.put("Next", rule.next.as_str());
    out.done()
}

fn condition(condition: &Condition) -> Value {
    let mut out = Out::new();
    put_condition(condition, &mut out);
    out.done()
}

fn put_condition(of: &Condition, out: &mut Out) {
    match of {
        Condition::Jsonata(text) => out.put("Condition", text.as_str()),
        Condition::Always(always) => out.put("Condition", *always),
        Condition::And(all) => out.put("And", all.iter().map(condition).collect::<Vec<_>>()),
        Condition::Or(all) => out.put("Or", all.iter().map(condition).collect::<Vec<_>>()),
        Condition::Not(inner) => out.put("Not", condition(inner)),
        Condition::Compare(comparison) => {
            out.put("Variable", comparison.variable.as_str());
            let (name, value) = test(&comparison.test);
            out.put(&name, value);
        }
    }
}

fn test(test: &Test) -> (String, Value) {
    match test {
        Test::Text(relation, other) => compared("String", *relation, other),
        Test::Matches(pattern) => ("StringMatches".to_owned(), json!(pattern)),
        Test::Number(relation, other) => compared("Numeric", *relation, other),
        Test::Boolean(other) => compared("Boolean", Relation::Equal, other),
        Test::Moment(relation, other) => compared("Timestamp", *relation, other),
        Test::IsNull(wanted) => ("IsNull".to_owned(), json!(wanted)),
        Test::IsPresent(wanted) => ("IsPresent".to_owned(), json!(wanted)),
        Test::IsNumeric(wanted) => ("IsNumeric".to_owned(), json!(wanted)),
        Test::IsString(wanted) => ("IsString".to_owned(), json!(wanted)),
        Test::IsBoolean(wanted) => ("IsBoolean".to_owned(), json!(wanted)),
        Test::IsTimestamp(wanted) => ("IsTimestamp".to_owned(), json!(wanted)),
    }
}

fn compared<T: Clone + Into<Value>>(
    kind: &str,
    relation: Relation,
    other: &Given<T>,
) -> (String, Value) {
    let relation = match relation {
        Relation::Equal => "Equals",
        Relation::Less => "LessThan",
        Relation::LessOrEqual => "LessThanEquals",
        Relation::Greater => "GreaterThan",
        Relation::GreaterOrEqual => "GreaterThanEquals",
    };
    match other {
        Given::Fixed(value) => (format!("{kind}{relation}"), value.clone().into()),
        Given::From(path) => (format!("{kind}{relation}Path"), json!(path)),
    }
}
