//! What a saga is to do: the model of a definition, its text forms and its checks.
//!
//! A [`Definition`] is a [`Machine`] in Amazon States Language that was checked, with the hash of
//! what it says. A saga is pinned to that hash for its whole life, so the hash depends on what was
//! said, and never on how it was written down: JSON or YAML, the order of keys, a default that was
//! spelled out.
//!
//! Nothing here evaluates an expression; nothing here knows a running saga.

mod builder;
mod draw;
mod export;
mod hash;
mod import;
mod limits;
mod model;
mod problem;
mod read;
mod sidecar;
mod text;
mod write;

pub use builder::{Branch, Catch, Each, Retry, Saga, Step, Undo, When};
pub use draw::{Drawing, Mark, Marks};
pub use export::Exported;
pub use hash::{Hash, NotAHash};
pub use import::{Standing, Verdict, report};
pub use limits::Limits;
pub use model::{
    Assign, Catcher, Choice, Comparison, Compensation, Condition, Data, Fail, Flow, Given, Items,
    Jitter, JsonataData, Kind, Machine, Map, Next, OnDeadline, OnFailure, OnUnknown, Order,
    Parallel, Pass, PathData, Policy, QueryLanguage, Relation, Retrier, Rule, Selection, State,
    States, Task, Test, Wait,
};
pub use problem::{Code, Problem, Problems, Severity};
pub use sidecar::{Beside, Sidecar};
pub use text::Format;

use serde_json::Value;

/// A machine that was checked, with the hash of what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// What the saga is to do.
    pub machine: Machine,
    /// SHA-256 of the canonical form.
    pub hash: Hash,
    /// The machine as JSON without spaces, keys sorted, defaults left out. It is itself a
    /// definition: read again, it has the same hash.
    pub canonical: String,
}

/// A definition that was accepted, and what there is to say about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// The definition.
    pub definition: Definition,
    /// Warnings and notes.
    pub remarks: Vec<Problem>,
}

impl Definition {
    /// Reads a text, which is JSON when it begins with a brace, and YAML otherwise: a machine, or a
    /// sidecar that has its machine in it.
    ///
    /// # Errors
    /// Every problem of the text, when one of them is an error.
    pub fn read(text: &str) -> Result<Accepted, Problems> {
        Self::read_within(text, Format::of(text), &Limits::default())
    }

    /// Reads a text of a format within bounds.
    ///
    /// # Errors
    /// Every problem of the text, when one of them is an error.
    pub fn read_within(text: &str, format: Format, limits: &Limits) -> Result<Accepted, Problems> {
        let mut problems = Vec::new();
        let Some(value) = text::value(text, format, limits, &mut problems) else {
            return Err(Problems(problems));
        };
        if Sidecar::is_one(&value) && problems.is_empty() {
            return Self::beside(value);
        }
        Self::accept(&value, limits, problems)
    }

    /// A sidecar with its machine in it.
    fn beside(value: Value) -> Result<Accepted, Problems> {
        let sidecar = Sidecar::of(value)?;
        match &sidecar.machine {
            Beside::Here(machine) => sidecar.apply(machine),
            Beside::File(file) => {
                let message = format!(
                    "this is a sidecar, and its machine is in the file `{}`, which cannot be looked at from here; give both together",
                    text::clip(file)
                );
                Err(Problems(vec![Problem::new(
                    Code::WRONG_TYPE,
                    "/machine",
                    message,
                )]))
            }
        }
    }

    /// Reads a value that came from elsewhere. The value must be bounded in depth.
    ///
    /// # Errors
    /// Every problem of the value, when one of them is an error.
    pub fn of(value: &Value) -> Result<Accepted, Problems> {
        Self::accept(value, &Limits::default(), Vec::new())
    }

    fn accept(value: &Value, limits: &Limits, before: Vec<Problem>) -> Result<Accepted, Problems> {
        let (machine, found) = read::machine(value, limits);
        let mut problems = Problems(before);
        problems.0.extend(found);
        match machine {
            Some(machine) if !problems.refuse() => Ok(Accepted {
                definition: Self::pinned(machine),
                remarks: problems.0,
            }),
            _ => Err(problems),
        }
    }

    fn pinned(machine: Machine) -> Self {
        let canonical = write::canonical(&machine.to_value());
        let hash = Hash::of(&canonical);
        Self {
            machine,
            hash,
            canonical,
        }
    }
}

/// A key as a JSON pointer has it.
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
