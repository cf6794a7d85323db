//! What became of each state of an imported machine, state by state.
//!
//! It is made of the text and of what the import said; it decides nothing anew.

use serde::Serialize;
use serde_json::Value;

use super::super::{Accepted, Code, Format, Limits, Problem, Problems, Severity, escape, text};

/// What became of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is a state of the definition.
    Supported,
    /// It is the undo of a step now.
    Undo,
    /// It is not in the definition any more.
    Left,
    /// Wharf does not run it; nothing was imported.
    Unsupported,
}

impl Verdict {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Undo => "became an undo",
            Self::Left => "left out",
            Self::Unsupported => "unsupported",
        }
    }
}

/// A state of an imported machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Its place in the text.
    pub path: String,
    /// Its `Type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Why, or of which step it is the undo.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// What became of each state of a text that was imported; nothing when the text cannot be read.
pub fn report(source: &str, imported: &Result<Accepted, Problems>) -> Vec<Standing> {
    let (limits, mut unread) = (Limits::default(), Vec::new());
    let Some(value) = text::value(source, Format::of(source), &limits, &mut unread) else {
        return Vec::new();
    };
    let mut places = Vec::new();
    flow(&value, "", &mut places);
    let (after, problems) = match imported {
        Ok(accepted) => (
            Some(accepted.definition.machine.to_value()),
            &accepted.remarks,
        ),
        Err(Problems(problems)) => (None, problems),
    };
    let all: Vec<&str> = places.iter().map(|(path, _)| path.as_str()).collect();
    let standing = |(path, kind): &(String, String)| {
        let own: Vec<&Problem> = problems
            .iter()
            .filter(|problem| owner(&all, &problem.path) == Some(path))
            .collect();
        let (verdict, why) = judged(path, &own, problems, after.as_ref());
        Standing {
            path: path.clone(),
            kind: kind.clone(),
            verdict,
            why,
        }
    };
    places.iter().map(standing).collect()
}

fn judged(
    path: &str,
    own: &[&Problem],
    all: &[Problem],
    after: Option<&Value>,
) -> (Verdict, String) {
    let worst = own.iter().find(|problem| {
        problem.severity == Severity::Error && problem.code != Code::UNREACHABLE_STATE
    });
    if let Some(problem) = worst {
        return (Verdict::Unsupported, problem.message.clone());
    }
    if after.is_none_or(|machine| machine.pointer(path).is_some()) {
        return (Verdict::Supported, String::new());
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let name = name.replace("~1", "/").replace("~0", "~");
    let is_undo = |problem: &&Problem| {
        let code = problem.code == Code::UNDO_RECOGNISED || problem.code == Code::UNDO_GUESSED;
        code && problem
            .message
            .starts_with(&format!("`{name}` is its undo"))
    };
    if let Some(problem) = all.iter().find(is_undo) {
        return (Verdict::Undo, format!("of {}", problem.path));
    }
    let why = own.first().map(|problem| problem.message.clone());
    let gone = "the extension needs no such state".to_owned();
    (Verdict::Left, why.unwrap_or(gone))
}

/// The innermost state that a place is in.
fn owner<'p>(states: &[&'p str], place: &str) -> Option<&'p str> {
    let holds = |state: &&&str| {
        let rest = place.strip_prefix(**state);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    states
        .iter()
        .filter(holds)
        .max_by_key(|state| state.len())
        .copied()
}

/// The places and kinds of the states of a flow, and of those inside them. The depth is bounded by
/// the reader.
fn flow(value: &Value, above: &str, places: &mut Vec<(String, String)>) {
    let states = value.get("States").and_then(Value::as_object);
    for (name, state) in states.into_iter().flatten() {
        let path = format!("{above}/States/{}", escape(name));
        let kind = state.get("Type").and_then(Value::as_str).unwrap_or("-");
        places.push((path.clone(), kind.to_owned()));
        for inner in ["ItemProcessor", "Iterator"] {
            if let Some(processor) = state.get(inner) {
                flow(processor, &format!("{path}/{inner}"), places);
            }
        }
        let branches = state.get("Branches").and_then(Value::as_array);
        for (index, branch) in branches.into_iter().flatten().enumerate() {
            flow(branch, &format!("{path}/Branches/{index}"), places);
        }
    }
}
