//! The timeline of a saga: its facts as visits of states, each with every attempt.
//!
//! It is a fold of what is kept, and of nothing else. It comes in pages: a history has no bound, so
//! never is all of one in memory.

use std::collections::BTreeMap;
use std::fmt;

use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};
use wharf_saga::machine::{Data, Fact, What};

use super::sagas::waits_for;
use super::{ok, read};
use crate::saga::engine::Engine;
use crate::saga::history::{Piece, Position};
use crate::saga::refusal::Refused;

/// How many visits, or facts, a page has at most, and when nobody says.
const PAGE_MAX: usize = 10_000;
/// A page takes nothing more in once it has this many bytes.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// With all that happened later in its visits, a page has at most this many.
const WHOLE_BYTES_MAX: usize = 64 << 20;

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

/// A page: the visits behind those of the page before, and what else happened until the next page
/// begins. Of a visit it has everything, also what happened much later.
struct Timeline {
    /// The last visit of the pages before.
    after: u32,
    limit: usize,
    visits: BTreeMap<u32, Visit>,
    events: Vec<Note>,
    /// How many bytes the facts have that are told.
    bytes: usize,
    /// The last visit of the page and where the next page begins, once that is known.
    next: Option<Cursor>,
}

/// Where a page of a timeline begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cursor {
    /// Behind this visit.
    after: u32,
    /// Nothing before this place begins a visit of the page.
    from: Position,
}

impl Cursor {
    fn parse(text: &str) -> Option<Self> {
        let (after, from) = text.split_once('.')?;
        Some(Self {
            after: after.parse().ok()?,
            from: Position::parse(from)?,
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.after, self.from)
    }
}

/// What a fact is about: a visit, the saga, or nothing that is told.
fn about(what: &What) -> Option<Option<u32>> {
    match what {
        What::Entered { step, .. }
        | What::Succeeded { step, .. }
        | What::Undone { step, .. }
        | What::Waiting { step, .. }
        | What::Held { step, .. }
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
        } => Some(Some(*step)),
        What::Dispatched(sent) => Some(Some(sent.step)),
        What::Failed(failed) => Some(Some(failed.step)),
        What::Left(left) => Some(Some(left.step)),
        What::Beat { .. } | What::Yielded => None,
        _ => Some(None),
    }
}

impl Timeline {
    fn new(begin: Cursor, limit: usize) -> Self {
        Self {
            after: begin.after,
            limit,
            visits: BTreeMap::new(),
            events: Vec::new(),
            bytes: 0,
            next: None,
        }
    }

    /// Takes the next facts, those that the page tells.
    fn take_all(&mut self, piece: &Piece) -> Result<(), Refused> {
        let each = piece.bytes / piece.facts.len().max(1);
        for (number, fact) in (piece.at.facts..).zip(&piece.facts) {
            let at = Position {
                seq: piece.at.seq,
                facts: number,
            };
            if self.is_told(&fact.what, at) {
                self.bytes += each;
                self.take(fact);
            }
        }
        if self.bytes > WHOLE_BYTES_MAX {
            return Err(read::wrong(format!(
                "what happened in these {} visits has more than {WHOLE_BYTES_MAX} bytes; ask for \
                 fewer with `limit`, or read the facts, which come in smaller pages",
                self.visits.len()
            )));
        }
        Ok(())
    }

    /// Whether the page tells a fact; one that has no place in it any more begins the next page.
    fn is_told(&mut self, what: &What, at: Position) -> bool {
        let Some(about) = about(what) else {
            return false;
        };
        if let (Some(step), Some(next)) = (about, self.next) {
            return self.after < step && step <= next.after;
        }
        let is_new = match about {
            Some(step) if step <= self.after => return false,
            Some(step) => !self.visits.contains_key(&step),
            None => true,
        };
        let most = self.visits.len().max(self.events.len());
        let is_full = most >= self.limit || (most > 0 && self.bytes >= PAGE_BYTES_MAX);
        if is_new && is_full && self.next.is_none() {
            let last = self.visits.keys().next_back().copied();
            let after = last.unwrap_or(self.after).max(self.after);
            self.next = Some(Cursor { after, from: at });
            return about.is_some_and(|step| step <= after);
        }
        about.is_some() || self.next.is_none()
    }

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

pub(super) async fn show(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let told = async {
        let id = read::id(&id)?;
        let (begin, limit) = read::part(query, PAGE_MAX, Cursor::parse)?;
        let begin = begin.unwrap_or_default();
        let mut timeline = Timeline::new(begin, limit);
        let mut history = engine.history_from(id, begin.from).await?;
        while let Some(piece) = history.next().await? {
            timeline.take_all(&piece)?;
        }
        let steps: Vec<_> = timeline.visits.into_values().collect();
        let (id_text, events) = (id.to_string(), timeline.events);
        let mut told = json!({ "id": id_text, "steps": steps, "events": events });
        waits_for(&engine, id, &mut told);
        Ok::<_, Refused>(with_next(told, timeline.next))
    };
    ok(told.await)
}

pub(super) async fn facts(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let told = async {
        let id = read::id(&id)?;
        let (begin, limit) = read::part(query, PAGE_MAX, Position::parse)?;
        let mut history = engine.history_from(id, begin.unwrap_or_default()).await?;
        let (mut facts, mut bytes, mut next) = (Vec::new(), 0, None);
        while next.is_none()
            && let Some(piece) = history.next().await?
        {
            let wanted = match bytes >= PAGE_BYTES_MAX {
                true => 0,
                false => piece.facts.len().min(limit - facts.len()),
            };
            bytes += piece.bytes;
            if wanted < piece.facts.len() {
                let seq = piece.at.seq;
                let known = piece.at.facts + wanted;
                next = Some(Position { seq, facts: known });
            }
            facts.extend(piece.facts.into_iter().take(wanted));
        }
        Ok::<_, Refused>(with_next(
            json!({ "id": id.to_string(), "facts": facts }),
            next,
        ))
    };
    ok(told.await)
}

/// Where the next page begins is said only where there is one.
fn with_next(mut told: Value, next: Option<impl fmt::Display>) -> Value {
    if let (Some(next), Value::Object(fields)) = (next, &mut told) {
        fields.insert("next".to_owned(), next.to_string().into());
    }
    told
}
