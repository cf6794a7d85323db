//! The undo of a machine in a file beside it, for machines whose own file must stay as Step
//! Functions takes it.
//!
//! ```json
//! { "machine": "trip.asl.json", "compensate": { "BookFlight": { "Resource": "…" } }, "saga": {} }
//! ```

use serde_json::{Map, Value};

use super::text::clip;
use super::{Accepted, Code, Definition, Format, Limits, Problem, Problems, escape, read, text};

/// A sidecar whose own form is right; what it says of states is checked when it is applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Sidecar {
    /// The machine, in the file itself or by the name of a file.
    pub machine: Beside,
    /// `Compensate` of each state, at any level, by name.
    pub compensate: Map<String, Value>,
    /// `Saga` of the machine.
    pub saga: Option<Value>,
}

/// Where the machine of a sidecar is.
#[derive(Clone, Debug, PartialEq)]
pub enum Beside {
    /// In the file of that name, which whoever may read files must read.
    File(String),
    /// In the sidecar.
    Here(Value),
}

impl Sidecar {
    /// Whether a text looks like a sidecar: an object with `machine`.
    pub fn is_one(value: &Value) -> bool {
        value.get("machine").is_some() && value.get("States").is_none()
    }

    /// Reads the text of a sidecar.
    ///
    /// # Errors
    /// Every problem of its own form.
    pub fn read(text: &str) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let value = text::value(text, Format::of(text), &Limits::default(), &mut problems);
        match value {
            Some(value) if problems.is_empty() => Self::of(value),
            _ => Err(Problems(problems)),
        }
    }

    /// The sidecar in a value.
    ///
    /// # Errors
    /// Every problem of its own form.
    pub fn of(value: Value) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let Value::Object(mut fields) = value else {
            let message = "a sidecar is an object with `machine`, `compensate` and `saga`";
            return Err(Problems(vec![Problem::new(Code::WRONG_TYPE, "", message)]));
        };
        let machine = match fields.remove("machine") {
            Some(Value::String(file)) => Some(Beside::File(file)),
            Some(machine @ Value::Object(_)) => Some(Beside::Here(machine)),
            Some(_) => {
                let message = "`machine` takes the name of a file or the machine itself";
                problems.push(Problem::new(Code::WRONG_TYPE, "/machine", message));
                None
            }
            None => {
                let message = "`machine` is missing: it is what the sidecar stands beside; write the name of its file";
                problems.push(Problem::new(Code::MISSING_FIELD, "", message));
                None
            }
        };
        let compensate = match fields.remove("compensate") {
            None => Map::new(),
            Some(Value::Object(map)) => map,
            Some(_) => {
                let message =
                    "`compensate` takes an object: the names of states, each with its undo";
                problems.push(Problem::new(Code::WRONG_TYPE, "/compensate", message));
                Map::new()
            }
        };
        let saga = fields.remove("saga");
        for name in fields.keys() {
            let known = ["machine", "compensate", "saga"];
            let message = format!(
                "a sidecar has no field `{}`{}",
                clip(name),
                read::nearest(name, known.into_iter())
            );
            problems.push(Problem::new(
                Code::UNKNOWN_FIELD,
                format!("/{}", escape(name)),
                message,
            ));
        }
        match machine {
            Some(machine) if problems.is_empty() => Ok(Self {
                machine,
                compensate,
                saga,
            }),
            _ => Err(Problems(problems)),
        }
    }

    /// The definition that the sidecar and its machine are together.
    ///
    /// # Errors
    /// Every problem of both, each at its place in the file it comes from: `/compensate` and
    /// `/saga` are in the sidecar, `/machine` is the machine.
    pub fn apply(&self, machine: &Value) -> Result<Accepted, Problems> {
        let mut joined = machine.clone();
        let mut problems = Vec::new();
        let mut places = Vec::new();
        for (name, undo) in &self.compensate {
            let own = format!("/compensate/{}", escape(name));
            let Some(place) = find(machine, name, "", 0) else {
                let names = names(machine, 0);
                let message = format!(
                    "the machine has no state `{}`{}",
                    clip(name),
                    read::nearest(name, names.iter().map(String::as_str))
                );
                problems.push(Problem::new(Code::SIDECAR_UNKNOWN_STATE, own, message));
                continue;
            };
            let taken = put(&mut joined, &place, "Compensate", undo.clone());
            places.push((format!("{place}/Compensate"), own.clone()));
            if taken {
                let message = format!(
                    "`{}` has a Compensate in the machine already; leave one",
                    clip(name)
                );
                problems.push(Problem::new(Code::SIDECAR_CONFLICT, own, message));
            }
        }
        if let Some(saga) = &self.saga {
            places.push(("/Saga".to_owned(), "/saga".to_owned()));
            if put(&mut joined, "", "Saga", saga.clone()) {
                let message = "the machine has a Saga already; leave one";
                problems.push(Problem::new(Code::SIDECAR_CONFLICT, "/saga", message));
            }
        }
        let own = |path: &str| {
            let found = places.iter().find_map(|(place, own)| {
                let rest = path.strip_prefix(place.as_str())?;
                (rest.is_empty() || rest.starts_with('/')).then(|| format!("{own}{rest}"))
            });
            found.unwrap_or_else(|| format!("/machine{path}"))
        };
        let (accepted, found) = match Definition::of(&joined) {
            Ok(accepted) => (Some(accepted.definition), accepted.remarks),
            Err(found) => (None, found.0),
        };
        problems.extend(found.into_iter().map(|p| Problem {
            path: own(&p.path),
            ..p
        }));
        let problems = Problems(problems);
        match accepted {
            Some(definition) if !problems.refuse() => Ok(Accepted {
                definition,
                remarks: problems.0,
            }),
            _ => Err(problems),
        }
    }
}

/// The machines inside a state, each with its place below the state.
fn inner(state: &Value) -> Vec<(String, &Value)> {
    let mut all = Vec::new();
    for name in ["ItemProcessor", "Iterator"] {
        all.extend(state.get(name).map(|flow| (format!("/{name}"), flow)));
    }
    if let Some(Value::Array(branches)) = state.get("Branches") {
        let at = branches.iter().enumerate();
        all.extend(at.map(|(index, flow)| (format!("/Branches/{index}"), flow)));
    }
    all
}

/// How deep flows may be nested; deeper ones are refused by the reader.
const DEPTH_MAX: usize = 50;

fn find(flow: &Value, name: &str, at: &str, depth: usize) -> Option<String> {
    let states = flow.get("States")?.as_object()?;
    if states.contains_key(name) {
        return Some(format!("{at}/States/{}", escape(name)));
    }
    if depth > DEPTH_MAX {
        return None;
    }
    states.iter().find_map(|(key, state)| {
        let above = format!("{at}/States/{}", escape(key));
        inner(state)
            .into_iter()
            .find_map(|(below, flow)| find(flow, name, &format!("{above}{below}"), depth + 1))
    })
}

fn names(flow: &Value, depth: usize) -> Vec<String> {
    let Some(states) = flow.get("States").and_then(Value::as_object) else {
        return Vec::new();
    };
    let mut all: Vec<_> = states.keys().cloned().collect();
    if depth < DEPTH_MAX {
        for state in states.values() {
            all.extend(
                inner(state)
                    .into_iter()
                    .flat_map(|(_, flow)| names(flow, depth + 1)),
            );
        }
    }
    all
}

/// Puts a field into an object; whether it was there already.
fn put(value: &mut Value, at: &str, name: &str, field: Value) -> bool {
    match value.pointer_mut(at).and_then(Value::as_object_mut) {
        Some(object) => object.insert(name.to_owned(), field).is_some(),
        None => false,
    }
}
