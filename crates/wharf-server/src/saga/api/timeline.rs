//! The timeline of a saga: its facts as visits of states, each with every attempt.
//!
//! It is a fold of what is kept, and of nothing else.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};
use wharf_saga::machine::{Data, Fact, What};

use super::sagas::waits_for;
use super::{ok, read};
use crate::saga::engine::Engine;
use crate::saga::refusal::Refused;

/// A visit of a state.
#[derive(Clone, Debug, Default, Serialize)]
struct Visit {
    step: u32,
    name: String,
    entered: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Data>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_until: Option<String>,
    attempts: Vec<Attempt>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<Note>,
}

/// An attempt, of the step or of its undo.
#[derive(Clone, Debug, Default, Serialize)]
struct Attempt {
    attempt: u32,
    generation: u32,
    undo: bool,
    resource: String,
    input: Data,
    dispatched: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
    /// `succeeded`, `failed` or `open`.
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Data>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    declared: bool,
}

/// What else happened.
#[derive(Clone, Debug, Serialize)]
struct Note {
    at: String,
    what: Value,
}

#[derive(Default)]
struct Timeline {
    visits: BTreeMap<u32, Visit>,
    events: Vec<Note>,
}

impl Timeline {
    fn take(&mut self, fact: &Fact) {
        let at = fact.at.to_rfc3339();
        match &fact.what {
            What::Entered { step, state, .. } => {
                let visit = Visit {
                    step: *step,
                    name: state.clone(),
                    entered: at,
                    ..Visit::default()
                };
                self.visits.insert(*step, visit);
            }
            What::Dispatched(sent) => {
                let attempt = Attempt {
                    attempt: sent.attempt,
                    generation: sent.generation,
                    undo: sent.undo,
                    resource: sent.resource.clone(),
                    input: sent.arguments.clone(),
                    dispatched: at,
                    deadline: sent.timeout.map(wharf_message::Timestamp::to_rfc3339),
                    outcome: "open",
                    ..Attempt::default()
                };
                self.visits
                    .entry(sent.step)
                    .or_default()
                    .attempts
                    .push(attempt);
            }
            What::Succeeded { .. } | What::Undone { .. } | What::Failed(_) => {
                self.answered(&fact.what, at);
            }
            What::Waiting { step, until } => {
                let visit = self.visits.entry(*step).or_default();
                visit.waits_until = Some(until.to_rfc3339());
            }
            What::Left(left) => {
                let visit = self.visits.entry(left.step).or_default();
                visit.left = Some(at);
                visit.output = Some(left.output.clone());
            }
            What::Held { step, .. }
            | What::Admitted { step }
            | What::Retrying { step, .. }
            | What::Listening { step, .. }
            | What::Forked { step, .. }
            | What::Stopped { step, .. }
            | What::Undoing { step }
            | What::Aborting { step, .. }
            | What::Late { step, .. }
            | What::StaleReply { step, .. }
            | What::Retried { step }
            | What::Edited { step, .. }
            | What::Marked { step, .. }
            | What::Parked {
                step: Some(step), ..
            } => self.note(*step, at, json!(fact.what)),
            What::Beat { .. } | What::Yielded => {}
            other => self.events.push(Note {
                at,
                what: json!(other),
            }),
        }
    }

    /// An attempt came to its end.
    fn answered(&mut self, what: &What, at: String) {
        match what {
            What::Succeeded {
                step,
                generation,
                output,
            } => {
                if let Some(attempt) = self.attempt(*step, *generation) {
                    attempt.outcome = "succeeded";
                    attempt.output = Some(output.clone());
                    attempt.ended = Some(at);
                }
            }
            What::Undone {
                step,
                generation,
                output,
                how,
            } => {
                if let Some(attempt) = self.attempt(*step, *generation) {
                    attempt.outcome = "succeeded";
                    attempt.output.clone_from(output);
                    attempt.ended = Some(at.clone());
                }
                self.note(*step, at, json!({ "undone": how }));
            }
            What::Failed(failed) => match self.attempt(failed.step, failed.generation) {
                Some(attempt) => {
                    attempt.outcome = "failed";
                    attempt.error = Some(failed.error.clone());
                    attempt.cause = Some(failed.cause.clone());
                    attempt.declared = failed.declared;
                    attempt.ended = Some(at);
                }
                None => self.note(failed.step, at, json!(what)),
            },
            _ => {}
        }
    }

    fn attempt(&mut self, step: u32, generation: u32) -> Option<&mut Attempt> {
        let visit = self.visits.get_mut(&step)?;
        let mut attempts = visit.attempts.iter_mut();
        attempts.find(|attempt| attempt.generation == generation)
    }

    fn note(&mut self, step: u32, at: String, what: Value) {
        let visit = self.visits.entry(step).or_default();
        visit.step = step;
        visit.notes.push(Note { at, what });
    }
}

pub(super) async fn show(State(engine): State<Engine>, Path(id): Path<String>) -> Response {
    let told = async {
        let id = read::id(&id)?;
        let mut timeline = Timeline::default();
        for fact in engine.history(id).await? {
            timeline.take(&fact);
        }
        let steps: Vec<_> = timeline.visits.into_values().collect();
        let (id_text, events) = (id.to_string(), timeline.events);
        let mut told = json!({ "id": id_text, "steps": steps, "events": events });
        waits_for(&engine, id, &mut told);
        Ok::<_, Refused>(told)
    };
    ok(told.await)
}

pub(super) async fn facts(State(engine): State<Engine>, Path(id): Path<String>) -> Response {
    let told = async {
        let id = read::id(&id)?;
        let facts = engine.history(id).await?;
        Ok::<_, Refused>(json!({ "id": id.to_string(), "facts": facts }))
    };
    ok(told.await)
}
