//! One state run alone, by the machine that runs sagas and nothing else: no worker is asked, nothing
//! is kept. What a Task's worker would answer is given with the request.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use wharf_message::Timestamp;
use wharf_saga::definition::Definition;
use wharf_saga::machine::{
    Data, Decision, Env, Fact, Failure, Input, Outcome, Saga, SagaId, Start, What, decide,
};

use super::Api;
use super::fault::Fault;
use super::operations::{Answer, Call};
use super::wire::{self, Fields};
use crate::clock;

/// The name of the state under test, where it has none.
const NAME: &str = "State";
/// The state before it that sets its variables.
const VARIABLES: &str = "(variables)";
/// How often the machine may be asked to go on.
const TURNS_MAX: usize = 8;

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
    mock: Option<Outcome>,
    is_detailed: bool,
}

impl Test {
    fn read(fields: &Fields) -> Result<Self, Fault> {
        for (name, why) in [
            ("context", "the context object is that of a test"),
            (
                "stateConfiguration",
                "retries and items are not set from outside",
            ),
        ] {
            if fields.value(name).is_some() {
                return Err(Fault::validation(format!(
                    "'{name}' cannot be given: {why}"
                )));
            }
        }
        let level = fields.word("inspectionLevel", &["INFO", "DEBUG", "TRACE"])?;
        if level == Some("TRACE") || fields.flag("revealSecrets")? == Some(true) {
            let why = "TRACE and 'revealSecrets' show requests of HTTP, and a test sends none";
            return Err(Fault::validation(why));
        }
        let text = fields.needed("definition")?;
        if text.len() > wire::DEFINITION_BYTES_MAX {
            return Err(invalid("it has more than 1 MiB"));
        }
        let given: Value =
            serde_json::from_str(text).map_err(|error| invalid(&error.to_string()))?;
        let (name, state) = match fields.text("stateName")? {
            None => (NAME.to_owned(), given),
            Some(name) => {
                let state = of_machine(&given, name);
                let state = state.ok_or_else(|| invalid(&format!("it has no state {name:.80}")))?;
                (name.to_owned(), state)
            }
        };
        let variables = fields.json("variables", "ValidationException")?;
        let machine = alone(&name, state, variables)?;
        let accepted = Definition::of(&machine);
        let definition = accepted
            .map_err(|problems| invalid(&problems.to_string()))?
            .definition;
        let input = fields.json("input", "InvalidExecutionInput")?;
        Ok(Self {
            name,
            definition,
            input: input.unwrap_or_else(|| json!({})),
            mock: mock(fields)?,
            is_detailed: level == Some("DEBUG"),
        })
    }

    /// Runs until the state was left, failed, or is to be tried again.
    fn run(&self, now: Timestamp) -> Result<Vec<Fact>, Fault> {
        let (mut saga, mut now, mut all) = (Saga::default(), now, Vec::new());
        let id = SagaId::of("test", &self.name);
        let mut input = Input::Start(Start {
            id,
            saga_type: "test".to_owned(),
            definition: self.definition.hash,
            key: self.name.clone(),
            input: Data::from(self.input.clone()),
            correlation: None,
            traceparent: None,
            attributes: std::collections::BTreeMap::new(),
            parent: None,
        });
        for _ in 0..TURNS_MAX {
            let seed = uuid::Uuid::new_v4().as_u64_pair().0;
            let decided = decide(&self.definition, &saga, input, &Env::at(now, seed));
            let Decision { facts } =
                decided.map_err(|refused| Fault::validation(refused.to_string()))?;
            for fact in &facts {
                saga.apply(fact);
            }
            let next = self.next(&facts);
            all.extend(facts);
            if saga.ended().is_some() || all.iter().any(|fact| self.is_over(fact)) {
                return Ok(all);
            }
            input = match next? {
                Some(answer) => answer,
                // A Wait: its time has come at once.
                None => match saga.due() {
                    Some(due) => {
                        now = now.max(due);
                        Input::Tick
                    }
                    None => return Ok(all),
                },
            };
        }
        Ok(all)
    }

    fn is_over(&self, fact: &Fact) -> bool {
        match &fact.what {
            What::Retrying { .. } | What::Parked { .. } => true,
            What::Left(left) => left.step == self.step(),
            _ => false,
        }
    }

    /// The visit of the state under test.
    fn step(&self) -> u32 {
        let first = &self.definition.machine.flow.start_at;
        if first == VARIABLES { 2 } else { 1 }
    }

    /// What its worker answers to what went out.
    fn next(&self, facts: &[Fact]) -> Result<Option<Input>, Fault> {
        let lacking = || {
            Fault::validation(
                "no worker is asked by a test: give 'mock' with a 'result' or an 'errorOutput'",
            )
        };
        for fact in facts {
            match &fact.what {
                What::Dispatched(sent) => {
                    let outcome = self.mock.clone().ok_or_else(lacking)?;
                    let (step, generation) = (sent.step, sent.generation);
                    return Ok(Some(Input::Reply {
                        step,
                        generation,
                        outcome,
                    }));
                }
                What::Listening { signal, .. } => {
                    let Some(Outcome::Success(payload)) = self.mock.clone() else {
                        return Err(lacking());
                    };
                    let name = signal.clone();
                    return Ok(Some(Input::Signal { name, payload }));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    fn answer(&self, facts: &[Fact]) -> Value {
        let mut answer = Map::new();
        let mut inspected = Map::new();
        inspected.insert("input".to_owned(), json!(self.input.to_string()));
        let mut status = "FAILED";
        let text = |into: &mut Map<_, _>, name: &str, text: &str| {
            into.insert(name.to_owned(), json!(text));
        };
        for fact in facts {
            match &fact.what {
                What::Dispatched(sent) => {
                    let field = match self.state().language() {
                        wharf_saga::definition::QueryLanguage::Jsonata => "afterArguments",
                        wharf_saga::definition::QueryLanguage::JsonPath => "afterParameters",
                    };
                    text(&mut inspected, field, &sent.arguments.to_string());
                }
                What::Succeeded { step, output, .. } if *step == self.step() => {
                    text(&mut inspected, "result", &output.to_string());
                }
                What::Failed(failed) if failed.step == self.step() => {
                    text(&mut answer, "error", &failed.error);
                    text(&mut answer, "cause", &failed.cause);
                }
                What::Retrying { .. } => status = "RETRIABLE",
                What::Left(left) if left.step == self.step() => {
                    status = if left.caught {
                        "CAUGHT_ERROR"
                    } else {
                        "SUCCEEDED"
                    };
                    text(&mut answer, "output", &left.output.to_string());
                    if let Some(next) = &left.next {
                        text(&mut answer, "nextState", next);
                    }
                    if !left.assign.is_empty() {
                        let variables = json!(left.assign).to_string();
                        text(&mut inspected, "variables", &variables);
                    }
                }
                _ => {}
            }
        }
        answer.insert("status".to_owned(), json!(status));
        if self.is_detailed {
            answer.insert("inspectionData".to_owned(), Value::Object(inspected));
        }
        Value::Object(answer)
    }

    fn state(&self) -> &wharf_saga::definition::State {
        &self.definition.machine.flow.states[self.name.as_str()]
    }
}

fn invalid(why: &str) -> Fault {
    Fault::new(
        "InvalidDefinition",
        format!("Invalid State Machine Definition: {why}"),
    )
}

/// The state of that name at the top level of a machine, in the machine's language.
fn of_machine(machine: &Value, name: &str) -> Option<Value> {
    let mut state = machine.get("States")?.get(name)?.clone();
    let language = machine.get("QueryLanguage").cloned();
    if let (Some(language), Some(state)) = (language, state.as_object_mut()) {
        state.entry("QueryLanguage").or_insert(language);
    }
    Some(state)
}

/// A machine that has this state, and a Succeed for every state that it goes on to.
fn alone(name: &str, state: Value, variables: Option<Value>) -> Result<Value, Fault> {
    let kind = state
        .get("Type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if matches!(kind, "Parallel" | "Map") {
        let why = "a Parallel or Map is not tested alone; test the states inside";
        return Err(Fault::validation(why));
    }
    let mut states = Map::new();
    for target in targets(&state) {
        states.insert(target, json!({ "Type": "Succeed" }));
    }
    let mut first = name;
    if let Some(variables) = variables {
        if !variables.is_object() {
            return Err(Fault::validation("'variables' is no JSON object"));
        }
        first = VARIABLES;
        let sets = json!({ "Type": "Pass", "Assign": variables, "Next": name });
        states.insert(VARIABLES.to_owned(), sets);
    }
    states.insert(name.to_owned(), state);
    Ok(json!({ "StartAt": first, "States": states }))
}

/// Every state that a state names.
fn targets(state: &Value) -> Vec<String> {
    let of = |value: &Value, field: &str| {
        let text = value.get(field).and_then(Value::as_str);
        text.map(str::to_owned)
    };
    let lists = ["Catch", "Choices"].into_iter();
    let lists = lists.filter_map(|field| state.get(field)?.as_array());
    let nested = lists.flatten().filter_map(|rule| of(rule, "Next"));
    let own = ["Next", "Default"].into_iter();
    own.filter_map(|field| of(state, field))
        .chain(nested)
        .collect()
}

/// What the worker answers.
fn mock(fields: &Fields) -> Result<Option<Outcome>, Fault> {
    let Some(mock) = fields.object("mock")? else {
        return Ok(None);
    };
    let (result, error) = (
        mock.json("result", "ValidationException")?,
        mock.object("errorOutput")?,
    );
    match (result, error) {
        (Some(result), None) => Ok(Some(Outcome::Success(Data::from(result)))),
        (None, Some(error)) => {
            let name = error.text("error")?.unwrap_or("States.TaskFailed");
            Ok(Some(Outcome::Failure(Failure {
                error: name.to_owned(),
                cause: error.text("cause")?.unwrap_or_default().to_owned(),
                declared: false,
            })))
        }
        _ => Err(Fault::validation(
            "'mock' has either a 'result' or an 'errorOutput'",
        )),
    }
}
