//! What people do to sagas: one at a time, or all that a filter means.
//!
//! Every action says who and why, and is a record in the same commit as what came of it. A bulk action
//! acts only on as many sagas as whoever ordered it expected.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use wharf_saga::machine::{Action, Data, Mark, Order};

use super::{ok, read};
use crate::saga::engine::Engine;
use crate::saga::refusal::Refused;

/// How many sagas one bulk action may be for.
const BULK_MAX: usize = 10_000;
/// How many of its refusals are told one by one.
const REFUSALS_TOLD: usize = 100;

/// What an action takes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Said {
    by: String,
    reason: String,
    step: Option<u32>,
    output: Option<Value>,
    input: Option<Value>,
    r#as: Option<String>,
}

impl Said {
    fn order(self, action: &str) -> Result<Order, Refused> {
        let Self {
            by,
            reason,
            step,
            output,
            input,
            r#as,
        } = self;
        let action = match action {
            "pause" => Action::Pause,
            "resume" => Action::Resume,
            "retry" => Action::Retry { step },
            "redrive" => Action::Redrive,
            "abort" => Action::Abort,
            "skip" => {
                let output = output.ok_or_else(|| {
                    read::wrong("`output` is missing: what the step would have given")
                })?;
                Action::Skip {
                    step,
                    output: Data::from(output),
                }
            }
            "edit" => {
                let input = input
                    .ok_or_else(|| read::wrong("`input` is missing: what the step is to get"))?;
                Action::Edit {
                    step,
                    input: Data::from(input),
                }
            }
            "mark" => {
                let mark = match r#as.as_deref() {
                    Some("compensated") => Mark::Compensated,
                    Some("completed") => Mark::Completed {
                        output: Data::from(output.unwrap_or_default()),
                    },
                    _ => return Err(read::wrong("`as` is missing: `completed` or `compensated`")),
                };
                Action::Mark { step, mark }
            }
            other => {
                let message = format!(
                    "there is no action {other:?}; there are pause, resume, retry, skip, mark, edit, \
                     redrive and abort"
                );
                return Err(read::wrong(message));
            }
        };
        Ok(Order { action, by, reason })
    }
}

async fn act(engine: Engine, id: String, body: Bytes, action: &str) -> Response {
    let done = async {
        let id = read::id(&id)?;
        let said: Said = read::body(&body)?;
        engine.operate(id, said.order(action)?).await?;
        let row = engine.row(id).ok_or_else(|| Refused::unknown(id))?;
        Ok::<_, Refused>(json!(*row))
    };
    ok(done.await)
}

macro_rules! actions {
    ($($name:ident)*) => {
        $(pub(super) async fn $name(
            State(engine): State<Engine>,
            Path(id): Path<String>,
            body: Bytes,
        ) -> Response {
            act(engine, id, body, stringify!($name)).await
        })*
    };
}

actions! { pause resume retry skip mark edit redrive abort }

#[derive(Deserialize)]
struct Bulk {
    filter: Map<String, Value>,
    action: String,
    expect: Option<usize>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Counts without `expect`, acts with it.
pub(super) async fn bulk(State(engine): State<Engine>, body: Bytes) -> Response {
    let done = async {
        let Bulk {
            filter,
            action,
            expect,
            rest,
        } = read::body(&body)?;
        let filter = read::filter_of(&filter)?;
        let said: Said = serde_json::from_value(Value::Object(rest))
            .map_err(|error| read::wrong(format!("the body cannot be read: {error}")))?;
        let order = said.order(&action)?;
        let (rows, more) = engine.list(&filter, None, BULK_MAX);
        if more.is_some() {
            let message = format!("more than {BULK_MAX} sagas are meant; narrow the filter");
            return Err(read::wrong(message));
        }
        let Some(expect) = expect else {
            return Ok(json!({ "dry_run": true, "count": rows.len() }));
        };
        if expect != rows.len() {
            let message = format!(
                "{} sagas are meant by now, and {expect} were expected; count again without `expect`",
                rows.len()
            );
            return Err(read::wrong(message));
        }
        let (mut acted, mut refused) = (Vec::new(), Vec::new());
        for row in rows {
            match engine.operate(row.id, order.clone()).await {
                Ok(()) => {
                    let now = engine.row(row.id).unwrap_or(row);
                    acted.push(json!({ "id": now.id.to_string(), "status": now.status }));
                }
                Err(refusal) => refused.push((row.id, refusal)),
            }
        }
        let told = refused.iter().take(REFUSALS_TOLD).map(|(id, refusal)| {
            json!({ "id": id.to_string(), "code": refusal.code.to_string(), "detail": refusal.message })
        });
        let told: Value = told.collect();
        Ok(json!({
            "dry_run": false,
            "count": acted.len(),
            "done": acted,
            "refused": refused.len(),
            "refusals": told,
        }))
    };
    ok(done.await)
}
