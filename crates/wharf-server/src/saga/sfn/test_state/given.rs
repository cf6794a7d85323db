//! What a test is given: the state out of its definition, its input, and what stands for its workers.

use serde_json::{Map, Value, json};
use wharf_saga::definition::Definition;
use wharf_saga::machine::{Data, Failure, Outcome};

use super::super::fault::Fault;
use super::super::wire::{self, Fields};
use super::{NAME, Test, VARIABLES, inside, invalid};

/// The sections of a context object.
const CONTEXT: [&str; 5] = ["Execution", "Map", "State", "StateMachine", "Task"];

/// What stands for the workers.
pub(super) struct Mock {
    result: Option<Value>,
    failure: Option<Failure>,
    /// Which branches fail, of a Parallel or Map: from this one to before that one.
    failing: (u32, u32),
}

impl Mock {
    /// Whether something of it is an error.
    fn fails(&self) -> bool {
        self.failure.is_some() || self.failing.0 < self.failing.1
    }

    /// The answer to the task of a branch, or of the state itself.
    pub(super) fn answer(&self, branch: Option<u32>) -> Outcome {
        let fails = match branch {
            None => self.failure.is_some(),
            Some(index) => (self.failing.0..self.failing.1).contains(&index),
        };
        if fails {
            let failure = self.failure.clone().unwrap_or_else(|| Failure {
                error: "States.TaskFailed".to_owned(),
                cause: String::new(),
                declared: false,
            });
            return Outcome::Failure(failure);
        }
        let result = match branch {
            None => self.result.clone(),
            Some(index) => {
                let of_branch = |result: &Value| result.get(index as usize).cloned();
                self.result.as_ref().and_then(of_branch)
            }
        };
        Outcome::Success(Data::from(result.unwrap_or_default()))
    }

    /// Whether there is something for each of so many branches.
    pub(super) fn fits(&self, width: u32) -> Result<(), Fault> {
        if let Some(result) = &self.result {
            let Some(results) = result.as_array() else {
                return Err(Fault::validation("Mocked result must be an array."));
            };
            if results.len() != width as usize {
                let has = results.len();
                return Err(Fault::validation(format!(
                    "Mocked result must have one element for each branch or item: it has {has}, and \
                     there are {width}"
                )));
            }
        }
        if self.failing.1 > width {
            let failing = self.failing.1;
            return Err(Fault::validation(format!(
                "'mapIterationFailureCount' is {failing}, and there are {width} items"
            )));
        }
        Ok(())
    }
}

/// What else is set from outside.
#[derive(Default)]
struct Configuration {
    caused_by: Option<String>,
    failed_items: Option<u32>,
    retried: Option<usize>,
}

impl Configuration {
    fn read(fields: &Fields) -> Result<Self, Fault> {
        let Some(given) = fields.object("stateConfiguration")? else {
            return Ok(Self::default());
        };
        if given.value("mapItemReaderData").is_some() {
            let why = "'mapItemReaderData' cannot be given: there is no ItemReader here";
            return Err(Fault::validation(why));
        }
        let number = |name: &str| given.number(name);
        let failed_items = number("mapIterationFailureCount")?;
        Ok(Self {
            caused_by: given.short("errorCausedByState", 80)?.map(str::to_owned),
            failed_items: failed_items.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
            retried: number("retrierRetryCount")?
                .map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
        })
    }
}

impl Configuration {
    /// The state with branches that the mock answers, which learns which of them fail.
    fn inside(&self, state: Value, kind: &str, mock: &mut Mock) -> Result<Value, Fault> {
        let (state, failing) = inside::answered(state, self.caused_by.as_deref())?;
        mock.failing = match (self.failed_items, mock.failure.is_some()) {
            (Some(_), _) if kind != "Map" => {
                return Err(not_for("mapIterationFailureCount", kind));
            }
            (Some(count), _) => (0, count),
            (None, true) => (failing, failing + 1),
            (None, false) => (0, 0),
        };
        Ok(state)
    }

    /// What is meant for branches is not given for a state that has none.
    fn is_for_branches(&self, kind: &str) -> Result<(), Fault> {
        if self.caused_by.is_some() {
            return Err(not_for("errorCausedByState", kind));
        }
        match self.failed_items {
            Some(_) => Err(not_for("mapIterationFailureCount", kind)),
            None => Ok(()),
        }
    }
}

impl Test {
    pub(super) fn read(fields: &Fields) -> Result<Self, Fault> {
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
                let language = given.get("QueryLanguage");
                let state = inside::find(&given, name, language);
                let state = state.ok_or_else(|| invalid(&format!("it has no state {name:.80}")))?;
                (name.to_owned(), state)
            }
        };
        let variables = fields.json("variables", "ValidationException")?;
        let configuration = Configuration::read(fields)?;
        let context = context(fields)?;
        let kind = state.get("Type").and_then(Value::as_str);
        let kind = kind.unwrap_or_default().to_owned();
        let mut mock = mock(fields, &kind)?;
        let mut definition = defined(&name, state.clone(), variables.clone())?;
        if matches!(kind.as_str(), "Parallel" | "Map") {
            let mock = mock
                .as_mut()
                .ok_or_else(|| invalid("a Parallel or Map is tested with a 'mock' only"))?;
            let state = configuration.inside(state, &kind, mock)?;
            definition = defined(&name, state, variables)?;
        } else {
            configuration.is_for_branches(&kind)?;
        }
        let fails = mock.as_ref().is_some_and(Mock::fails);
        if configuration.retried.is_some() && !fails {
            let why = "'retrierRetryCount' counts the retries of an error: mock one";
            return Err(Fault::validation(why));
        }
        if mock.is_none() && context.is_some() {
            return Err(Fault::validation("'context' is given with a 'mock' only"));
        }
        let input = fields.json("input", "InvalidExecutionInput")?;
        Ok(Self {
            name,
            definition,
            input: input.unwrap_or_else(|| json!({})),
            context,
            mock,
            retried: configuration.retried.unwrap_or(0),
            is_detailed: level == Some("DEBUG"),
        })
    }
}

/// A definition of this state alone.
fn defined(name: &str, state: Value, variables: Option<Value>) -> Result<Definition, Fault> {
    let machine = alone(name, state, variables)?;
    let accepted = Definition::of(&machine);
    let accepted = accepted.map_err(|problems| invalid(&problems.to_string()))?;
    Ok(accepted.definition)
}

fn not_for(name: &str, kind: &str) -> Fault {
    Fault::validation(format!("'{name}' cannot be given for a {kind:.20}"))
}

/// The context object that the expressions see in place of a test's own.
fn context(fields: &Fields) -> Result<Option<Value>, Fault> {
    let Some(context) = fields.json("context", "ValidationException")? else {
        return Ok(None);
    };
    let Some(sections) = context.as_object() else {
        return Err(Fault::validation("'context' is no JSON object"));
    };
    let mut strange = sections
        .iter()
        .filter(|(name, section)| !CONTEXT.contains(&name.as_str()) || !section.is_object());
    if let Some((name, _)) = strange.next() {
        return Err(Fault::validation(format!(
            "'context' has the sections {}, each an object; not '{name:.80}'",
            CONTEXT.join(", ")
        )));
    }
    Ok(Some(context))
}

/// A machine that has this state, and a Succeed for every state that it goes on to.
fn alone(name: &str, state: Value, variables: Option<Value>) -> Result<Value, Fault> {
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

/// What stands for the workers of a state of this kind.
fn mock(fields: &Fields, kind: &str) -> Result<Option<Mock>, Fault> {
    let Some(mock) = fields.object("mock")? else {
        return Ok(None);
    };
    if !matches!(kind, "Task" | "Parallel" | "Map") {
        return Err(Fault::validation(format!(
            "State type '{kind:.20}' is not supported when a mock is specified"
        )));
    }
    let mode = mock.word("fieldValidationMode", &["STRICT", "PRESENT", "NONE"])?;
    if mode.is_some_and(|mode| mode != "NONE") {
        let why = "'fieldValidationMode' is NONE here: there are no models of services to check a \
                   mock against";
        return Err(Fault::validation(why));
    }
    let (result, error) = (
        mock.json("result", "ValidationException")?,
        mock.object("errorOutput")?,
    );
    let (result, failure) = match (result, error) {
        (Some(result), None) => (Some(result), None),
        (None, Some(error)) => {
            let name = error.text("error")?.unwrap_or("States.TaskFailed");
            let failure = Failure {
                error: name.to_owned(),
                cause: error.text("cause")?.unwrap_or_default().to_owned(),
                declared: false,
            };
            (None, Some(failure))
        }
        _ => {
            let why = "'mock' has either a 'result' or an 'errorOutput'";
            return Err(Fault::validation(why));
        }
    };
    Ok(Some(Mock {
        result,
        failure,
        failing: (0, 0),
    }))
}
