//! `/api/v1/relays`: how the relays stand, and waiting until one has nothing left to do.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::{RelayView, Relays};
use crate::config::Period;
use crate::http::{json, problem};

/// How often a drain looks.
const LOOK: Duration = Duration::from_millis(50);
/// How long a drain waits when it is not told.
const DRAIN: Duration = Duration::from_secs(60);
/// The longest it may be told to wait.
const DRAIN_MAX: Duration = Duration::from_secs(3_600);

/// The routes.
pub(crate) fn routes(relays: Arc<Relays>) -> Router {
    Router::new()
        .route("/api/v1/relays", get(list))
        .route("/api/v1/relays/{name}", get(one))
        .route("/api/v1/relays/{name}/drain", post(drain))
        .with_state(relays)
}

#[derive(Serialize)]
struct List {
    relays: Vec<RelayView>,
}

async fn list(State(relays): State<Arc<Relays>>) -> Response {
    let relays = relays.views();
    json(StatusCode::OK, &List { relays })
}

async fn one(State(relays): State<Arc<Relays>>, Path(name): Path<String>) -> Response {
    match relays.view(&name) {
        Some(view) => json(StatusCode::OK, &view),
        None => unknown(&name),
    }
}

/// Waits until nothing is left to do: 200 then, 504 with how it stands when that took too long.
async fn drain(
    State(relays): State<Arc<Relays>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let mut parameters = query
        .split('&')
        .filter_map(|parameter| parameter.split_once('='));
    let asked = parameters.find(|(name, _)| *name == "timeout");
    let patience = match asked.map(|(_, text)| text.parse::<Period>()) {
        None => DRAIN,
        Some(Ok(period)) if period.0 <= DRAIN_MAX => period.0,
        Some(Ok(_longer)) => return wrong("`timeout` is more than an hour"),
        Some(Err(error)) => return wrong(&format!("`timeout`: {error}")),
    };
    let Some(status) = relays.status(&name) else {
        return unknown(&name);
    };
    let deadline = Instant::now() + patience;
    // The look that was under way when this began may have missed rows committed before it did.
    let fresh = status.view().lag_measured + 2;
    loop {
        let view = status.view();
        let drained = view.is_drained() && view.lag_measured >= fresh;
        if drained || Instant::now() >= deadline {
            let code = match drained {
                true => StatusCode::OK,
                false => StatusCode::GATEWAY_TIMEOUT,
            };
            return relays
                .view(&name)
                .map_or_else(|| unknown(&name), |view| json(code, &view));
        }
        sleep(LOOK).await;
    }
}

fn unknown(name: &str) -> Response {
    let detail = format!("`[relay.{name}]` is not in this node's configuration");
    problem(
        StatusCode::NOT_FOUND,
        None,
        "there is no such relay",
        &detail,
    )
}

fn wrong(detail: &str) -> Response {
    problem(
        StatusCode::BAD_REQUEST,
        None,
        "the request cannot be read",
        detail,
    )
}
