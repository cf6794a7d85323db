//! What people do to sagas: one at a time, or all that a filter means.
//!
//! Every action says who and why, and is a record in the same commit as what came of it. A bulk action
//! acts only on as many sagas as whoever ordered it expected.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use serde::{Deserialize, Deserializer};
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
    #[serde(deserialize_with = "some")]
    output: Option<Value>,
    #[serde(deserialize_with = "some")]
    input: Option<Value>,
    r#as: Option<String>,
}

/// A value that is there, `null` too.
fn some<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

impl Said {
    /// Refuses what the action has no use for: whoever wrote it expects something of it.
    fn check(&self, action: &str) -> Result<(), Refused> {
        let completes = self.r#as.as_deref() != Some("compensated");
        let is_of_step = matches!(action, "retry" | "skip" | "mark" | "edit");
        let fields = [
            ("step", self.step.is_some(), is_of_step),
            (
                "output",
                self.output.is_some(),
                action == "skip" || (action == "mark" && completes),
            ),
            ("input", self.input.is_some(), action == "edit"),
            ("as", self.r#as.is_some(), action == "mark"),
        ];
        let mut unused = fields.iter().filter(|(_, said, used)| *said && !used);
        match unused.next() {
            None => Ok(()),
            Some((field, ..)) => Err(read::wrong(format!(
                "`{field}` means nothing for this {action}; leave it out"
            ))),
        }
    }

    fn order(self, action: &str) -> Result<Order, Refused> {
        self.check(action)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn order(action: &str, said: Value) -> Result<Order, Refused> {
        serde_json::from_value::<Said>(said).unwrap().order(action)
    }

    #[test]
    fn what_an_action_has_no_use_for_is_refused_and_not_left_out() {
        for (action, said, named) in [
            ("pause", json!({ "step": 1 }), "`step`"),
            ("retry", json!({ "input": {} }), "`input`"),
            ("abort", json!({ "as": "compensated" }), "`as`"),
            (
                "mark",
                json!({ "as": "compensated", "output": 1 }),
                "`output`",
            ),
            ("explode", json!({}), "no action"),
        ] {
            let refused = order(action, said).unwrap_err();
            assert!(refused.message.contains(named), "{refused}");
        }
        for (action, said) in [
            ("pause", json!({})),
            ("retry", json!({ "step": 1 })),
            ("edit", json!({ "step": 1, "input": {} })),
            ("skip", json!({ "output": null })),
            ("mark", json!({ "as": "completed", "output": 1 })),
            ("mark", json!({ "as": "compensated", "step": 2 })),
        ] {
            assert!(order(action, said.clone()).is_ok(), "{action} {said}");
        }
    }
}
