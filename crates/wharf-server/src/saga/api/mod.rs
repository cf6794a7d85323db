//! `/api/v1/sagas` and `/api/v1/saga-definitions`: the routes, and the page that describes them.
//!
//! Handlers read a request, ask the engine and write the answer; they decide nothing. Every refusal is
//! a problem document with the code of its page.

mod actions;
mod definitions;
mod large;
mod read;
mod sagas;
mod timeline;

use std::fmt::Write as _;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use serde::Serialize;
use serde_json::{Value, json};

pub(super) use large::PERMITS as LARGE_PERMITS;

use super::engine::Engine;
use super::refusal::Refused;

/// The largest body of a request: a definition, or a payload in its envelope.
const BODY_BYTES_MAX: usize = 4 << 20;

const WRITTEN: &str = "a String takes everything";

/// A route, as the reference describes it.
struct Route {
    method: &'static str,
    path: &'static str,
    about: &'static str,
    takes: &'static str,
    does: fn() -> MethodRouter<Engine>,
}

const FILTER: &str = "`type`, `status`, `paused`, `step`, `definition`, `correlation_id`, `attribute.NAME`, `started_before`, `started_after`, `updated_before`, `older_than`";
const ORDER: &str = "`by`, `reason`";

/// All of them, in the order of the documentation.
static ROUTES: &[Route] = &[
    Route {
        method: "POST",
        path: "/api/v1/sagas",
        about: "starts a saga, once for each key: 201, or 200 when it was started before",
        takes: "`type`, `version`, `key` (or the header `Idempotency-Key`), `input`, `correlation_id`, `attributes`",
        does: || post(sagas::start),
    },
    Route {
        method: "GET",
        path: "/api/v1/sagas",
        about: "the sagas that are meant, newest first",
        takes: "query: the filter, `limit`, `after` (the `next` of the page before)",
        does: || get(sagas::list),
    },
    Route {
        method: "GET",
        path: "/api/v1/sagas/counts",
        about: "how many there are of each type and status",
        takes: "",
        does: || get(sagas::counts),
    },
    Route {
        method: "POST",
        path: "/api/v1/sagas/bulk",
        about: "an action on every saga that is meant; without `expect` it only counts them, with another number than there are it is refused",
        takes: "`filter` (an object of the filter), `action`, `by`, `reason`, `expect`, and what the action takes",
        does: || post(actions::bulk),
    },
    Route {
        method: "POST",
        path: "/api/v1/sagas/callbacks/{token}",
        about: "the later answer of a worker that said 202",
        takes: "`output`; or `error`, `cause` and `declared`; or `heartbeat: true`",
        does: || post(sagas::callback),
    },
    Route {
        method: "GET",
        path: "/api/v1/sagas/claims/{sha256}",
        about: "a payload that was too large for its saga, as JSON; `ce_dataref` of the reference ends in its SHA-256",
        takes: "",
        does: || get(sagas::claim),
    },
    Route {
        method: "GET",
        path: "/api/v1/sagas/{id}",
        about: "one saga: where it stands, its steps, what is parked, its output",
        takes: "",
        does: || get(sagas::show),
    },
    Route {
        method: "GET",
        path: "/api/v1/sagas/{id}/timeline",
        about: "every visit of a state with its attempts, inputs, outputs and errors, and what people did",
        takes: "query: `limit` (visits), `after` (the `next` of the page before, which is there while there is more)",
        does: || get(timeline::show),
    },
    Route {
        method: "GET",
        path: "/api/v1/sagas/{id}/facts",
        about: "everything that happened, as it is kept",
        takes: "query: `limit` (facts), `after` (the `next` of the page before, which is there while there is more)",
        does: || get(timeline::facts),
    },
    Route {
        method: "GET",
        path: "/api/v1/sagas/{id}/undo",
        about: "what would be undone if it were aborted now, in order",
        takes: "",
        does: || get(sagas::undo),
    },
    Route {
        method: "POST",
        path: "/api/v1/sagas/{id}/signals",
        about: "a signal for it",
        takes: "`name`, `payload`",
        does: || post(sagas::signal),
    },
    Route {
        method: "POST",
        path: "/api/v1/sagas/{id}/pause",
        about: "stops after what is in flight",
        takes: ORDER,
        does: || post(actions::pause),
    },
    Route {
        method: "POST",
        path: "/api/v1/sagas/{id}/resume",
        about: "goes on",
        takes: ORDER,
        does: || post(actions::resume),
    },
    Route {
        method: "POST",
        path: "/api/v1/sagas/{id}/retry",
        about: "tries a parked step, or one that waits for its next attempt, now",
        takes: "`by`, `reason`, `step`",
        does: || post(actions::retry),
    },
    Route {
        method: "POST",
        path: "/api/v1/sagas/{id}/skip",
        about: "goes on behind a parked step with this output",
        takes: "`by`, `reason`, `step`, `output`",
        does: || post(actions::skip),
    },
    Route {
        method: "POST",
        path: "/api/v1/sagas/{id}/mark",
        about: "says that a parked step is `completed` (with `output`) or `compensated`",
        takes: "`by`, `reason`, `step`, `as`, `output`",
        does: || post(actions::mark),
    },
    Route {
        method: "POST",
        path: "/api/v1/sagas/{id}/edit",
        about: "gives a parked step another input; `retry` then uses it",
        takes: "`by`, `reason`, `step`, `input`",
        does: || post(actions::edit),
    },
    Route {
        method: "POST",
        path: "/api/v1/sagas/{id}/redrive",
        about: "takes up a saga that failed and undid nothing",
        takes: ORDER,
        does: || post(actions::redrive),
    },
    Route {
        method: "POST",
        path: "/api/v1/sagas/{id}/abort",
        about: "undoes what was done and ends",
        takes: ORDER,
        does: || post(actions::abort),
    },
    Route {
        method: "POST",
        path: "/api/v1/saga-definitions/check",
        about: "checks a definition and deploys nothing: every problem and remark",
        takes: "the definition, JSON or YAML",
        does: || post(definitions::check),
    },
    Route {
        method: "GET",
        path: "/api/v1/saga-definitions",
        about: "every name with its versions",
        takes: "",
        does: || get(definitions::list),
    },
    Route {
        method: "PUT",
        path: "/api/v1/saga-definitions/{name}",
        about: "deploys a definition: 201, or 200 when the current version says the same",
        takes: "the definition, JSON or YAML; query: `by`",
        does: || put(definitions::deploy),
    },
    Route {
        method: "GET",
        path: "/api/v1/saga-definitions/{name}",
        about: "a definition with its versions",
        takes: "query: `version`, a number or an alias",
        does: || get(definitions::show),
    },
    Route {
        method: "DELETE",
        path: "/api/v1/saga-definitions/{name}",
        about: "removes a name; refused while sagas of it have not ended",
        takes: "",
        does: || delete(definitions::remove),
    },
    Route {
        method: "PUT",
        path: "/api/v1/saga-definitions/{name}/aliases/{alias}",
        about: "gives a version another name",
        takes: "`version`",
        does: || put(definitions::alias),
    },
    Route {
        method: "DELETE",
        path: "/api/v1/saga-definitions/{name}/aliases/{alias}",
        about: "removes the other name",
        takes: "",
        does: || delete(definitions::unalias),
    },
];

/// The routes.
pub(crate) fn routes(engine: Engine) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        router = router.route(route.path, (route.does)());
    }
    router
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(engine)
}

/// The Markdown of `docs/reference/saga-api.md`.
pub fn reference() -> String {
    let mut text = String::from(
        "# The API of sagas\n\n\
         Generated from the routes; do not edit.\n\
         How to work with it is told in [operating sagas](../operating/sagas.md).\n\n\
         It is on the node's HTTP listener.\n\
         Bodies and answers are JSON; a refusal is a problem document (RFC 9457) with a `code` of [its page](../errors/WHARF-7001.md).\n\
         Times are RFC 3339, lengths of time have a unit, such as `older_than=10m`.\n",
    );
    writeln!(text, "\nThe filter of sagas: {FILTER}.\n").expect(WRITTEN);
    writeln!(
        text,
        "| method | path | what it does | what it takes |\n|---|---|---|---|"
    )
    .expect(WRITTEN);
    for Route {
        method,
        path,
        about,
        takes,
        ..
    } in ROUTES
    {
        let takes = if takes.is_empty() { "–" } else { takes };
        writeln!(text, "| {method} | `{path}` | {about} | {takes} |").expect(WRITTEN);
    }
    text
}

/// An answer, or a problem document.
fn answer(status: StatusCode, outcome: Result<impl Serialize, Refused>) -> Response {
    let text = match outcome {
        Ok(value) => serde_json::to_string(&value),
        Err(refused) => return refusal(&refused),
    };
    match text {
        Ok(text) => {
            let kind = [(header::CONTENT_TYPE, "application/json")];
            (status, kind, text).into_response()
        }
        Err(error) => refusal(&Refused::unavailable(error)),
    }
}

fn ok(outcome: Result<impl Serialize, Refused>) -> Response {
    answer(StatusCode::OK, outcome)
}

/// The problem document of a refusal.
fn refusal(refused: &Refused) -> Response {
    let status = refused.status();
    let mut document = json!({
        "type": format!("/errors/{}", refused.code),
        "code": refused.code.to_string(),
        "title": refused.code.title(),
        "status": status.as_u16(),
        "detail": refused.message,
    });
    if let (Some(details), Value::Object(document)) = (&refused.details, &mut document) {
        document.insert("problems".to_owned(), details.clone());
    }
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, kind, document.to_string()).into_response()
}
