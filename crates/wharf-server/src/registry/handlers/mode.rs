//! `/mode`: what may be done with a subject, a context, or everything.

use serde::{Deserialize, Serialize};
use wharf_schema::registry::{Decision, Mode, Refusal, Registry};

use super::change;
use crate::registry::answer::Answer;
use crate::registry::request::Request;
use crate::registry::store::Change;

#[derive(Deserialize)]
struct Asked {
    mode: Option<String>,
}

#[derive(Serialize)]
struct Told {
    mode: Mode,
}

fn told(decision: Decision<Mode>) -> Decision<Told> {
    Decision {
        records: decision.records,
        answer: Told {
            mode: decision.answer,
        },
    }
}

/// `GET /mode`, `GET /mode/{subject}`.
pub(in crate::registry) fn get(registry: &Registry, request: &Request) -> Result<Answer, Refusal> {
    let mode = registry.mode(&request.subject(), request.is("defaultToGlobal"))?;
    Answer::json(&Told { mode })
}

/// `PUT /mode`, `PUT /mode/{subject}`.
pub(in crate::registry) fn put(request: &Request) -> Result<Change, Refusal> {
    let asked: Asked = request.json()?;
    let mode: Mode = asked.mode.unwrap_or_default().parse()?;
    let (scope, force) = (request.subject(), request.is("force"));
    Ok(change(move |registry, _now| {
        registry.put_mode(&scope, mode, force).map(told)
    }))
}

/// `DELETE /mode`, `DELETE /mode/{subject}`: the answer is what it was.
pub(in crate::registry) fn delete(request: &Request) -> Result<Change, Refusal> {
    let (scope, recursive) = (request.subject(), request.is("recursive"));
    Ok(change(move |registry, _now| {
        registry.delete_mode(&scope, recursive).map(told)
    }))
}
