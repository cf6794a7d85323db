//! The model of a machine: what the parser, the builder and an import make, and what the machine
//! interprets.
//!
//! Defaults are filled in, targets are known to exist and languages are resolved, so that whoever
//! interprets it has nothing left to look up or to guess. Expressions stay as they were written.

use std::collections::HashMap;
use std::ops::Index;

use serde_json::Value;

/// A whole state machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// What somebody had to say about it.
    pub comment: Option<String>,
    /// The version of the States Language it was written for (`1.0`).
    pub version: String,
    /// The language of every state that names none.
    pub language: QueryLanguage,
    /// How long a saga may take before it fails with `States.Timeout`.
    pub timeout_seconds: Option<u64>,
    /// The states at the top level.
    pub flow: Flow,
    /// How the saga is undone as a whole.
    pub saga: Policy,
}

/// The language of a state's expressions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueryLanguage {
    /// Reference paths, payload templates and intrinsic functions.
    #[default]
    JsonPath,
    /// `{% … %}`.
    Jsonata,
}

/// States with one beginning: the top level, a branch of a Parallel, the processor of a Map.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// What somebody had to say about it.
    pub comment: Option<String>,
    /// The name of the first state, which is one of `states`.
    pub start_at: String,
    /// The states, in the order they were written.
    pub states: States,
}

/// States in the order they were written, found by name.
#[derive(Clone, Debug, Default)]
pub struct States {
    all: Vec<State>,
    at: HashMap<String, usize>,
}

impl States {
    /// The state of that name.
    pub fn get(&self, name: &str) -> Option<&State> {
        self.at.get(name).and_then(|at| self.all.get(*at))
    }

    /// The state of that name, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut State> {
        self.at.get(name).and_then(|at| self.all.get_mut(*at))
    }

    /// Every state, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, State> {
        self.all.iter()
    }

    /// Every state, in order, to change it; the names stay.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, State> {
        self.all.iter_mut()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Adds a state at the end, or gives back one whose name is taken.
    pub fn push(&mut self, state: State) -> Result<(), Box<State>> {
        if self.at.contains_key(&state.name) {
            return Err(Box::new(state));
        }
        self.at.insert(state.name.clone(), self.all.len());
        self.all.push(state);
        Ok(())
    }
}

impl PartialEq for States {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Index<&str> for States {
    type Output = State;

    /// # Panics
    /// When there is no such state; names out of a checked machine are always there.
    fn index(&self, name: &str) -> &State {
        &self.all[self.at[name]]
    }
}

impl<'a> IntoIterator for &'a States {
    type Item = &'a State;
    type IntoIter = std::slice::Iter<'a, State>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}

/// One state.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Its name, of which there is one in the whole machine.
    pub name: String,
    /// What somebody had to say about it.
    pub comment: Option<String>,
    /// What kind it is, with what only this kind has.
    pub kind: Kind,
    /// How data comes in and goes out, in the state's own language.
    pub data: Data,
    /// Where it goes on. Choice, Succeed and Fail have [`Next::End`] here.
    pub next: Next,
    /// When it is tried again (Task, Parallel, Map; empty elsewhere).
    pub retry: Vec<Retrier>,
    /// Which errors lead elsewhere (Task, Parallel, Map; empty elsewhere).
    pub catch: Vec<Catcher>,
    /// How it is undone (Task, Parallel, Map; none elsewhere).
    pub compensate: Option<Compensation>,
}

impl State {
    /// The language of its expressions.
    pub fn language(&self) -> QueryLanguage {
        match self.data {
            Data::Path(_) => QueryLanguage::JsonPath,
            Data::Jsonata(_) => QueryLanguage::Jsonata,
        }
    }
}

/// What kind of state it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Work of somebody else.
    Task(Task),
    /// Input becomes output.
    Pass(Pass),
    /// The first rule that holds says where to go on.
    Choice(Choice),
    /// Time passes.
    Wait(Wait),
    /// The flow ends well.
    Succeed,
    /// The flow ends with an error.
    Fail(Fail),
    /// Several flows side by side.
    Parallel(Parallel),
    /// One flow for each item.
    Map(Box<Map>),
}

impl Kind {
    /// The name of the kind, as `Type` has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Task(_) => "Task",
            Self::Pass(_) => "Pass",
            Self::Choice(_) => "Choice",
            Self::Wait(_) => "Wait",
            Self::Succeed => "Succeed",
            Self::Fail(_) => "Fail",
            Self::Parallel(_) => "Parallel",
            Self::Map(_) => "Map",
        }
    }
}

/// How data comes into a state and goes out.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// In a state of JSONPath.
    Path(PathData),
    /// In a state of JSONata.
    Jsonata(JsonataData),
}

/// The fields of a JSONPath state; what a kind may not have is at its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PathData {
    /// `InputPath`: what the state sees of its input; nothing is the empty object.
    pub input_path: Selection,
    /// `Parameters`: the template of what goes to the work.
    pub parameters: Option<Value>,
    /// `ResultSelector`: the template of what is kept of the result.
    pub result_selector: Option<Value>,
    /// `ResultPath`: where the result goes in the input; nothing throws the result away.
    pub result_path: Selection,
    /// `OutputPath`: what goes on; nothing is the empty object.
    pub output_path: Selection,
    /// `Assign`: the variables it sets.
    pub assign: Assign,
}

/// The fields of a JSONata state; what a kind may not have is at its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JsonataData {
    /// `Arguments`: what goes to the work.
    pub arguments: Option<Value>,
    /// `Output`: what goes on.
    pub output: Option<Value>,
    /// `Assign`: the variables it sets.
    pub assign: Assign,
}

/// `Assign`: names of variables with templates or expressions; empty when there is none.
pub type Assign = serde_json::Map<String, Value>;

/// What a path field selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// `$`, the default.
    #[default]
    All,
    /// `null`.
    Nothing,
    /// Another path.
    At(String),
}

/// A value that stands there, or the expression it comes from: a path in a state of JSONPath,
/// `{% … %}` in one of JSONata.
#[derive(Clone, Debug, PartialEq)]
pub enum Given<T> {
    /// The value itself.
    Fixed(T),
    /// Where it comes from.
    From(String),
}

/// Where a state goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// At that state, in the same flow.
    To(String),
    /// Nowhere: the flow ends with it.
    End,
}

/// Work of somebody else.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Who does it.
    pub resource: String,
    /// How long an attempt may take before it fails with `States.Timeout`.
    pub timeout_seconds: Option<Given<u64>>,
    /// How long the worker may be silent before the attempt fails with `States.HeartbeatTimeout`.
    pub heartbeat_seconds: Option<Given<u64>>,
    /// How many sagas of this definition may be in this step at once.
    pub concurrency_limit: Option<u32>,
}

/// Input becomes output.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pass {
    /// `Result`, in a state of JSONPath: the output is this, whatever the input.
    pub result: Option<Value>,
}

/// The first rule that holds says where to go on.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The rules, tried in order; never empty.
    pub rules: Vec<Rule>,
    /// Where to go when none holds; without it that is `States.NoChoiceMatched`.
    pub default: Option<String>,
}

/// One rule of a Choice.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What somebody had to say about it.
    pub comment: Option<String>,
    /// When it holds.
    pub condition: Condition,
    /// Where to go then.
    pub next: String,
    /// `Output` of this rule (JSONata), in place of the state's.
    pub output: Option<Value>,
    /// `Assign` of this rule, in place of the state's.
    pub assign: Assign,
}

/// When a rule holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// `Condition` of JSONata: `{% … %}`.
    Jsonata(String),
    /// `Condition` of JSONata that is simply true or false.
    Always(bool),
    /// Every one holds; never empty.
    And(Vec<Condition>),
    /// At least one holds; never empty.
    Or(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// A comparison of JSONPath.
    Compare(Comparison),
}

/// A comparison of JSONPath.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// `Variable`: the path of what is looked at.
    pub variable: String,
    /// What is asked of it.
    pub test: Test,
}

/// What a comparison asks; `Given::From` is the path of the other side.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// `String…`.
    Text(Relation, Given<String>),
    /// `StringMatches`: `*` stands for anything, `\` before a character for that character.
    Matches(String),
    /// `Numeric…`.
    Number(Relation, Given<serde_json::Number>),
    /// `BooleanEquals`.
    Boolean(Given<bool>),
    /// `Timestamp…`; the text is a moment of RFC 3339.
    Moment(Relation, Given<String>),
    /// `IsNull`.
    IsNull(bool),
    /// `IsPresent`.
    IsPresent(bool),
    /// `IsNumeric`.
    IsNumeric(bool),
    /// `IsString`.
    IsString(bool),
    /// `IsBoolean`.
    IsBoolean(bool),
    /// `IsTimestamp`.
    IsTimestamp(bool),
}

/// How the variable stands to the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `…Equals`.
    Equal,
    /// `…LessThan`.
    Less,
    /// `…LessThanEquals`.
    LessOrEqual,
    /// `…GreaterThan`.
    Greater,
    /// `…GreaterThanEquals`.
    GreaterOrEqual,
}

/// Time passes.
#[derive(Clone, Debug, PartialEq)]
pub enum Wait {
    /// So many seconds.
    Seconds(Given<u64>),
    /// Until a moment of RFC 3339.
    Until(Given<String>),
}

/// The flow ends with an error.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fail {
    /// The name of the error.
    pub error: Option<Given<String>>,
    /// The sentence about it.
    pub cause: Option<Given<String>>,
}

/// Several flows side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Parallel {
    /// The flows; never empty. The result is the array of their outputs, in this order.
    pub branches: Vec<Flow>,
}

/// One flow for each item.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Where the items are.
    pub items: Items,
    /// `ItemSelector` (or `Parameters` of the old form): the template of what each flow gets.
    pub selector: Option<Value>,
    /// `ItemProcessor` (or `Iterator` of the old form).
    pub processor: Flow,
    /// How many items are worked at once; 0 is any number.
    pub concurrency_max: Given<u64>,
    /// How many items may fail before the whole fails.
    pub tolerated_failures: Option<Given<u64>>,
    /// How many per cent of the items may fail before the whole fails.
    pub tolerated_percentage: Option<Given<f64>>,
}

/// Where the items of a Map are.
#[derive(Clone, Debug, PartialEq)]
pub enum Items {
    /// `ItemsPath`, `$` by default.
    Path(String),
    /// `Items` of JSONata: an array, or an expression that gives one; nothing is the input.
    Jsonata(Option<Value>),
}

/// When a state is tried again. Counters are per retrier.
#[derive(Clone, Debug, PartialEq)]
pub struct Retrier {
    /// The errors it is for; never empty.
    pub errors: Vec<String>,
    /// How long to wait before the first time.
    pub interval_seconds: u64,
    /// How often; 0 is never.
    pub attempts_max: u64,
    /// What the wait is multiplied with each time, at least 1.
    pub backoff_rate: f64,
    /// How long the wait may become.
    pub delay_max_seconds: Option<u64>,
    /// Whether the wait is random up to its length.
    pub jitter: Jitter,
}

impl Default for Retrier {
    fn default() -> Self {
        Self {
            errors: vec!["States.ALL".to_owned()],
            interval_seconds: 1,
            attempts_max: 3,
            backoff_rate: 2.0,
            delay_max_seconds: None,
            jitter: Jitter::None,
        }
    }
}

/// `JitterStrategy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jitter {
    /// The wait is what was computed.
    #[default]
    None,
    /// The wait is random between nothing and what was computed.
    Full,
}

/// Which errors lead elsewhere. It takes the place of the state's own `Assign`.
#[derive(Clone, Debug, PartialEq)]
pub struct Catcher {
    /// What somebody had to say about it.
    pub comment: Option<String>,
    /// The errors it is for; never empty.
    pub errors: Vec<String>,
    /// Where to go on.
    pub next: String,
    /// `ResultPath` (JSONPath): where the error goes in the state's input.
    pub result_path: Selection,
    /// `Output` (JSONata): what goes on.
    pub output: Option<Value>,
    /// The variables it sets.
    pub assign: Assign,
}

/// How a step is undone.
#[derive(Clone, Debug, PartialEq)]
pub struct Compensation {
    /// Who undoes it.
    pub resource: String,
    /// `Parameters` or `Arguments`, by the state's language; without it the input of the step and
    /// its recorded output.
    pub arguments: Option<Value>,
    /// When the undo is tried again; [`Compensation::default_retry`] unless said otherwise.
    pub retry: Vec<Retrier>,
    /// How long an attempt may take.
    pub timeout_seconds: Option<Given<u64>>,
    /// What to do when nobody knows whether the step was done.
    pub on_unknown: OnUnknown,
    /// What to do when the undo has failed for good.
    pub on_failure: OnFailure,
}

impl Compensation {
    /// Twenty attempts in all, from a second apart to a minute.
    pub fn default_retry() -> Vec<Retrier> {
        vec![Retrier {
            attempts_max: 19,
            delay_max_seconds: Some(60),
            ..Retrier::default()
        }]
    }
}

/// What to do when nobody knows whether the step was done: it failed or timed out without a
/// declared refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnknown {
    /// Undo it; the undo must accept that there is nothing to undo.
    #[default]
    Compensate,
    /// Take it as not done.
    Skip,
    /// A person decides.
    Park,
}

/// What to do when an undo has failed for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// A person decides.
    #[default]
    Park,
    /// Leave it and undo the rest.
    Continue,
}

/// How a saga is undone as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The state at the top level after whose completion nothing is undone any more.
    pub pivot: Option<String>,
    /// In which order steps are undone.
    pub order: Order,
    /// The errors that undo; others park.
    pub compensate_on: Vec<String>,
    /// How long a saga may take.
    pub deadline_seconds: Option<u64>,
    /// What to do after that.
    pub on_deadline: OnDeadline,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            pivot: None,
            order: Order::ReverseCompletion,
            compensate_on: vec!["States.ALL".to_owned()],
            deadline_seconds: None,
            on_deadline: OnDeadline::Compensate,
        }
    }
}

/// In which order steps are undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The last that was completed first, branch by branch.
    #[default]
    ReverseCompletion,
    /// All at once.
    Unordered,
}

/// What to do when the deadline has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDeadline {
    /// Undo.
    #[default]
    Compensate,
    /// A person decides.
    Park,
}
