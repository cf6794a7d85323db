//! One state run alone, by the machine that runs sagas and nothing else: no worker is asked, nothing
//! is kept. What a Task's worker would answer is given with the request; the branches of a Parallel or
//! Map are tasks that are answered the same way.

mod given;
mod inside;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use wharf_message::Timestamp;
use wharf_saga::definition::{Definition, QueryLanguage, State};
use wharf_saga::machine::{Data, Env, Fact, Input, Outcome, Saga, SagaId, Start, What, step};

use self::given::Mock;
use super::Api;
use super::fault::Fault;
use super::operations::{Answer, Call};
use crate::clock;

/// The name of the state under test, where it has none.
const NAME: &str = "State";
/// The state before it that sets its variables.
const VARIABLES: &str = "(variables)";
/// How often the machine may be asked to go on.
const TURNS_MAX: usize = 10_000;
/// How many branches a state under test may have.
const BRANCHES_MAX: u32 = 1_000;

pub(super) async fn run(api: Arc<Api>, call: Call) -> Answer {
    let _ = &api;
    let test = Test::read(&call.fields)?;
    let ran = test.run(clock::now())?;
    Ok(test.answer(&ran))
}

struct Test {
    name: String,
    definition: Definition,
    input: Value,
    context: Option<Value>,
    mock: Option<Mock>,
    /// How often it was tried again before.
    retried: usize,
    is_detailed: bool,
}

/// What is told of a test that ran.
#[derive(Default)]
struct Told {
    answer: Map<String, Value>,
    inspected: Map<String, Value>,
    details: Map<String, Value>,
    /// What `ItemSelector` made of each item.
    selected: Vec<Value>,
}

/// The tasks that wait for their answers, and the branches they are in.
#[derive(Default)]
struct Waiting {
    tasks: VecDeque<(u32, u32)>,
    scopes: BTreeMap<u32, u32>,
    branches: BTreeMap<u32, u32>,
    retries: usize,
}

impl Waiting {
    fn take(&mut self, fact: &Fact) {
        match &fact.what {
            What::Branched { scope, index, .. } => _ = self.scopes.insert(*scope, *index),
            What::Entered { step, scope, .. } => {
                if let Some(index) = self.scopes.get(scope) {
                    self.branches.insert(*step, *index);
                }
            }
            What::Dispatched(sent) => self.tasks.push_back((sent.step, sent.generation)),
            What::Retrying { .. } => self.retries += 1,
            _ => {}
        }
    }

    /// The next task that is still open.
    fn next(&mut self, saga: &Saga) -> Option<(u32, u32)> {
        loop {
            let (step, generation) = self.tasks.pop_front()?;
            let open = saga.open_step(step);
            if open.is_some_and(|open| open.command.generation == generation) {
                return Some((step, generation));
            }
        }
    }
}

impl Test {
    /// Runs until the state was left, failed, or is to be tried again.
    fn run(&self, now: Timestamp) -> Result<Vec<Fact>, Fault> {
        let (mut saga, mut now, mut all) = (Saga::default(), now, Vec::new());
        let mut waiting = Waiting::default();
        let id = SagaId::of("test", &self.name);
        let mut input = Input::Start(Start {
            id,
            saga_type: "test".to_owned(),
            definition: self.definition.hash,
            key: self.name.clone(),
            input: Data::from(self.input.clone()),
            correlation: None,
            traceparent: None,
            attributes: BTreeMap::new(),
            parent: None,
        });
        for _ in 0..TURNS_MAX {
            let env = Env {
                context: self.context.as_ref(),
                ..Env::at(now, uuid::Uuid::new_v4().as_u64_pair().0)
            };
            let decided = step(&self.definition, &mut saga, input, &env);
            let decision = decided.map_err(|refused| Fault::validation(refused.to_string()))?;
            let mut heard = None;
            for fact in &decision.facts {
                waiting.take(fact);
                self.check(fact)?;
                if let What::Listening { signal, .. } = &fact.what {
                    heard = Some(signal.clone());
                }
            }
            let is_over = saga.ended().is_some()
                || waiting.retries > self.retried
                || decision.facts.iter().any(|fact| self.is_over(fact));
            all.extend(decision.facts);
            if is_over {
                return Ok(all);
            }
            input = if let Some(name) = heard {
                let Outcome::Success(payload) = self.mock()?.answer(None) else {
                    return Err(lacking());
                };
                Input::Signal { name, payload }
            } else if let Some((step, generation)) = waiting.next(&saga) {
                let branch = waiting.branches.get(&step).copied();
                let outcome = self.mock()?.answer(branch);
                Input::Reply {
                    step,
                    generation,
                    outcome,
                }
            } else {
                // A Wait, or another attempt: its time has come at once.
                let Some(due) = saga.due() else {
                    return Ok(all);
                };
                now = now.max(due);
                Input::Tick
            };
        }
        let why = "it takes too many steps to be tested; give fewer items, or fewer retries";
        Err(Fault::validation(why))
    }

    fn mock(&self) -> Result<&Mock, Fault> {
        self.mock.as_ref().ok_or_else(lacking)
    }

    fn is_over(&self, fact: &Fact) -> bool {
        match &fact.what {
            What::Parked { .. } => true,
            What::Left(left) => left.step == self.step(),
            _ => false,
        }
    }

    /// The mock has something for every branch.
    fn check(&self, fact: &Fact) -> Result<(), Fault> {
        let What::Forked { width, .. } = &fact.what else {
            return Ok(());
        };
        if *width > BRANCHES_MAX {
            return Err(Fault::validation(format!(
                "it has {width} items; at most {BRANCHES_MAX} are tested"
            )));
        }
        self.mock()?.fits(*width)
    }

    /// The visit of the state under test.
    fn step(&self) -> u32 {
        let first = &self.definition.machine.flow.start_at;
        if first == VARIABLES { 2 } else { 1 }
    }

    fn answer(&self, facts: &[Fact]) -> Value {
        let mut told = Told::default();
        told.inspected
            .insert("input".to_owned(), json!(self.input.to_string()));
        told.status("FAILED");
        for fact in facts {
            self.tell(fact, &mut told);
        }
        if self.is_detailed {
            if !told.selected.is_empty() {
                let selected = Value::Array(std::mem::take(&mut told.selected));
                told.inspect("afterItemSelector", &selected.into());
            }
            if !told.details.is_empty() {
                let details = Value::Object(told.details);
                told.inspected.insert("errorDetails".to_owned(), details);
            }
            let inspected = Value::Object(told.inspected);
            told.answer.insert("inspectionData".to_owned(), inspected);
        }
        Value::Object(told.answer)
    }

    fn tell(&self, fact: &Fact, told: &mut Told) {
        let is_own = |step: u32| step == self.step();
        match &fact.what {
            What::Dispatched(sent) => {
                told.status("FAILED");
                told.details.clear();
                if is_own(sent.step) {
                    told.inspect(self.arguments(), &sent.arguments);
                }
            }
            What::Forked { step, .. } | What::Branched { step, .. } if is_own(*step) => {
                self.tell_inside(&fact.what, told);
            }
            What::Succeeded { step, output, .. } if is_own(*step) => {
                told.inspect("result", output);
            }
            What::Failed(failed) => told.error(&failed.error, &failed.cause),
            What::Ended {
                error: Some(error),
                cause,
                ..
            } => {
                told.status("FAILED");
                told.error(error, cause.as_deref().unwrap_or_default());
            }
            What::Retrying { retrier, until, .. } => {
                told.status("RETRIABLE");
                let wait = u64::try_from(until.since(fact.at).as_millis()).unwrap_or(0);
                told.details = Map::from_iter([
                    ("retryIndex".to_owned(), json!(retrier)),
                    (
                        "retryBackoffIntervalSeconds".to_owned(),
                        json!(wait / 1_000),
                    ),
                ]);
            }
            What::Left(left) if is_own(left.step) => {
                if left.caught {
                    told.status("CAUGHT_ERROR");
                    self.caught(left.next.as_deref(), &left.output, told);
                } else {
                    told.status("SUCCEEDED");
                    told.answer.remove("error");
                    told.answer.remove("cause");
                }
                told.text("output", &left.output.to_string());
                if let Some(next) = &left.next {
                    told.text("nextState", next);
                }
                if !left.assign.is_empty() {
                    told.inspected.insert(
                        "variables".to_owned(),
                        json!(json!(left.assign).to_string()),
                    );
                }
            }
            _ => {}
        }
    }

    /// What a Parallel or Map goes into.
    fn tell_inside(&self, what: &What, told: &mut Told) {
        match what {
            What::Forked {
                input,
                items,
                limit,
                tolerated,
                ..
            } => {
                if !items {
                    return told.inspect(self.arguments(), input);
                }
                if self.state().language() == QueryLanguage::JsonPath {
                    told.inspect("afterItemsPath", input);
                }
                told.selected.clear();
                if *limit > 0 {
                    told.inspected
                        .insert("maxConcurrency".to_owned(), json!(limit));
                }
                if let Some(tolerated) = tolerated {
                    told.inspected
                        .insert("toleratedFailureCount".to_owned(), json!(tolerated));
                }
            }
            What::Branched {
                input: Some(input), ..
            } => told.selected.push(input.value().clone()),
            _ => {}
        }
    }

    /// Which `Catch` took the error, where its `Next` says it, and what it was called then.
    fn caught(&self, next: Option<&str>, output: &Data, told: &mut Told) {
        let catchers = self.state().catch.iter().enumerate();
        let mut fitting = catchers.filter(|(_, catcher)| Some(catcher.next.as_str()) == next);
        if let (Some((index, _)), None) = (fitting.next(), fitting.next()) {
            told.details = Map::from_iter([("catchIndex".to_owned(), json!(index))]);
        }
        let text = |name: &str| output.get(name).and_then(Value::as_str);
        if let (Some(error), Some(cause)) = (text("Error"), text("Cause")) {
            told.error(error, cause);
        }
    }

    /// What the arguments of a state are called in its language.
    fn arguments(&self) -> &'static str {
        match self.state().language() {
            QueryLanguage::Jsonata => "afterArguments",
            QueryLanguage::JsonPath => "afterParameters",
        }
    }

    fn state(&self) -> &State {
        &self.definition.machine.flow.states[self.name.as_str()]
    }
}

impl Told {
    fn status(&mut self, status: &str) {
        self.text("status", status);
    }

    fn text(&mut self, name: &str, text: &str) {
        self.answer.insert(name.to_owned(), json!(text));
    }

    fn error(&mut self, error: &str, cause: &str) {
        self.text("error", error);
        self.text("cause", cause);
    }

    fn inspect(&mut self, name: &str, value: &Data) {
        self.inspected
            .insert(name.to_owned(), json!(value.to_string()));
    }
}

fn lacking() -> Fault {
    Fault::validation(
        "no worker is asked by a test: give 'mock' with a 'result' or an 'errorOutput'",
    )
}

fn invalid(why: &str) -> Fault {
    Fault::new(
        "InvalidDefinition",
        format!("Invalid State Machine Definition: {why}"),
    )
}
