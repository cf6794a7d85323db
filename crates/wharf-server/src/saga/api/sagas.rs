//! Starting, listing and showing sagas, signals for them, and later answers of their workers.

use std::collections::BTreeMap;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use wharf_saga::machine::{Data, Outcome, Saga, SagaId};

use super::large::Large;
use super::{answer, ok, read};
use crate::saga::engine::{Engine, NewSaga};
use crate::saga::refusal::Refused;
use crate::saga::view::{Names, Row};
use crate::saga::workers::topic::failed;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    #[serde(rename = "type")]
    saga_type: String,
    version: Option<Value>,
    key: Option<String>,
    #[serde(default)]
    input: Value,
    correlation_id: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

pub(super) async fn start(
    State(engine): State<Engine>,
    headers: HeaderMap,
    Large(body): Large,
) -> Response {
    let started = async {
        let new: New = read::body(&body)?;
        let header = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let version = new.version.map(|version| match version {
            Value::String(text) => text,
            other => other.to_string(),
        });
        let started = engine.start(NewSaga {
            saga_type: new.saga_type,
            version,
            key: new.key.or_else(|| header("idempotency-key")),
            input: new.input,
            correlation_id: new.correlation_id,
            attributes: new.attributes,
            traceparent: header("traceparent"),
        });
        let started = started.await?;
        let row = engine.row(started.id);
        let mut told = row.map_or(json!({}), |row| json!(*row));
        if let Value::Object(told) = &mut told {
            told.insert("id".to_owned(), started.id.to_string().into());
            told.insert("new".to_owned(), started.is_new.into());
        }
        Ok::<_, Refused>((started.is_new, told))
    };
    match started.await {
        Ok((true, told)) => answer(StatusCode::CREATED, Ok(told)),
        Ok((false, told)) => ok(Ok(told)),
        Err(refused) => super::refusal(&refused),
    }
}

pub(super) async fn list(State(engine): State<Engine>, RawQuery(query): RawQuery) -> Response {
    let page = engine.check_begun();
    let page = page.and_then(|()| read::page(read::query(query)));
    let listed = page.map(|page| {
        let (rows, next) = engine.list(&page.filter, page.after, page.limit);
        let rows = rows.iter().map(|row| {
            let mut told = json!(**row);
            waits_for(&engine, row.id, &mut told);
            told
        });
        let rows: Vec<_> = rows.collect();
        json!({ "sagas": rows, "next": next.map(|next| next.to_string()) })
    });
    ok(listed)
}

pub(super) async fn counts(State(engine): State<Engine>) -> Response {
    let counts = engine.counts().into_iter();
    let counts = counts.filter(|(_, _, count)| *count > 0);
    let counts: Vec<_> = counts
        .map(|(saga_type, status, count)| json!({ "type": saga_type, "status": status, "count": count }))
        .collect();
    ok(Ok(json!({ "counts": counts, "trouble": engine.trouble() })))
}

pub(super) async fn show(State(engine): State<Engine>, Path(id): Path<String>) -> Response {
    let shown = async {
        let id = read::id(&id)?;
        let mut told = engine.look(id, described).await?;
        waits_for(&engine, id, &mut told);
        Ok::<_, Refused>(told)
    };
    ok(shown.await)
}

/// How many sub-sagas are named.
const SUB_SAGAS_MAX: usize = 10;

/// Adds the sub-sagas whose ends it may wait for, where there are any.
pub(super) fn waits_for(engine: &Engine, id: SagaId, told: &mut Value) {
    let (rows, count) = engine.sub_sagas(id, SUB_SAGAS_MAX);
    if count == 0 {
        return;
    }
    let named = rows.iter().map(|row| {
        json!({
            "id": row.id.to_string(),
            "type": *row.saga_type,
            "status": row.status,
            "parked": row.parked(),
        })
    });
    told["sub_sagas"] = json!({ "open": count, "sagas": named.collect::<Vec<_>>() });
}

/// A saga with everything that is known of it now.
fn described(saga: &Saga) -> Value {
    let mut told = Row::of(saga, &mut Names::default()).map_or(json!({}), |row| json!(row));
    let Value::Object(fields) = &mut told else {
        return told;
    };
    let current = saga.current().into_iter().map(|step| {
        json!({
            "step": step.step,
            "name": step.name,
            "attempt": step.attempt,
            "undo": step.undo,
            "since": step.since.to_rfc3339(),
            "doing": step.doing,
            "until": step.until.map(wharf_message::Timestamp::to_rfc3339),
        })
    });
    fields.insert("current".to_owned(), current.collect());
    let parked = saga.parked().into_iter().map(|step| {
        json!({
            "step": step.step,
            "name": step.name,
            "undo": step.undo,
            "reason": step.reason,
            "error": step.error,
            "cause": step.cause,
            "input": step.input,
        })
    });
    fields.insert("parked_steps".to_owned(), parked.collect());
    fields.insert("overdue".to_owned(), saga.is_overdue().into());
    fields.insert("past_pivot".to_owned(), saga.is_past_pivot().into());
    fields.insert("redrives".to_owned(), saga.redrives().into());
    fields.insert("kept_answers".to_owned(), saga.kept().into());
    let start = saga.start();
    fields.insert("input".to_owned(), json!(start.map(|start| &start.input)));
    fields.insert("output".to_owned(), json!(saga.output()));
    if let Some((_, cause)) = saga.error() {
        fields.insert("cause".to_owned(), cause.into());
    }
    told
}

pub(super) async fn undo(State(engine): State<Engine>, Path(id): Path<String>) -> Response {
    let steps = async {
        let id = read::id(&id)?;
        let steps = engine.undo_preview(id).await?;
        Ok::<_, Refused>(json!({ "undo": steps }))
    };
    ok(steps.await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Signal {
    name: String,
    #[serde(default)]
    payload: Value,
}

pub(super) async fn signal(
    State(engine): State<Engine>,
    Path(id): Path<String>,
    Large(body): Large,
) -> Response {
    let sent = async {
        let id = read::id(&id)?;
        let Signal { name, payload } = read::body(&body)?;
        engine.signal(id, &name, payload).await?;
        Ok::<_, Refused>(json!({ "saga": id.to_string() }))
    };
    answer(StatusCode::ACCEPTED, sent.await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Callback {
    #[serde(default)]
    output: Option<Value>,
    error: Option<String>,
    cause: Option<String>,
    #[serde(default)]
    declared: bool,
    #[serde(default)]
    heartbeat: bool,
}

impl Callback {
    /// What is answered: one thing, and nothing that would have to be left out.
    fn outcome(self) -> Result<Outcome, Refused> {
        let about_error = self.cause.is_some() || self.declared;
        match self {
            Self {
                error: Some(error),
                cause,
                declared,
                output: None,
                heartbeat: false,
            } => {
                let cause = cause.unwrap_or_default();
                let cause = json!({ "cause": cause });
                Ok(Outcome::Failure(failed(&cause, Some(error), declared)))
            }
            Self {
                error: None,
                output: None,
                heartbeat: true,
                ..
            } if !about_error => Ok(Outcome::Heartbeat),
            Self {
                error: None,
                output,
                heartbeat: false,
                ..
            } if !about_error => Ok(Outcome::Success(Data::from(output.unwrap_or_default()))),
            _ => Err(read::wrong(
                "the answer says several things: it is an `output`; or an `error` with its `cause` and \
                 whether it is `declared`; or a `heartbeat`",
            )),
        }
    }
}

pub(super) async fn callback(
    State(engine): State<Engine>,
    Path(token): Path<String>,
    Large(body): Large,
) -> Response {
    let told = async {
        let token = engine.task(&token).await?;
        let callback: Callback = read::body(&body)?;
        let outcome = callback.outcome()?;
        engine.reply(token, outcome).await?;
        Ok::<_, Refused>(json!({ "saga": token.saga.to_string() }))
    };
    ok(told.await)
}

pub(super) async fn claim(State(engine): State<Engine>, Path(digest): Path<String>) -> Response {
    match engine.claim(&digest).await {
        Ok(content) => {
            let kind = [(header::CONTENT_TYPE, "application/json")];
            (kind, content).into_response()
        }
        Err(refused) => super::refusal(&refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(body: Value) -> Result<Outcome, Refused> {
        serde_json::from_value::<Callback>(body).unwrap().outcome()
    }

    #[test]
    fn a_later_answer_says_one_thing_and_a_cause_without_its_error_is_no_success() {
        for body in [
            json!({ "cause": "no card" }),
            json!({ "declared": true }),
            json!({ "error": "Declined", "output": 1 }),
            json!({ "error": "Declined", "heartbeat": true }),
            json!({ "output": 1, "heartbeat": true }),
        ] {
            let refused = said(body.clone()).unwrap_err();
            assert_eq!(refused.status().as_u16(), 400, "{body}");
        }
        assert_eq!(said(json!({})), Ok(Outcome::Success(Data::null())));
        assert_eq!(said(json!({ "heartbeat": true })), Ok(Outcome::Heartbeat));
        let refused = json!({ "error": "Declined", "cause": "no card", "declared": true });
        let failure = failed(
            &json!({ "cause": "no card" }),
            Some("Declined".to_owned()),
            true,
        );
        assert_eq!(said(refused), Ok(Outcome::Failure(failure)));
    }
}
