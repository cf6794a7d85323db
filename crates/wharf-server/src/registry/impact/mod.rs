//! `POST /api/v1/schemas/impact` on the node's HTTP listener: who is affected by a change of a schema,
//! from what this node's broker and registry know.
//!
//! One report is made at a time, on a blocking worker: a scan of records is bounded, and many at once
//! would not be.

mod gather;
mod scan;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use wharf_broker::Broker;
use wharf_schema::impact::{Evidence, Report, findings, markdown, report, text};
use wharf_schema::{Limits, findings::sarif};

use super::Schemas;
use crate::http::{json, problem};
use gather::{Asked, Sources};
use scan::Scans;

/// The largest request.
const REQUEST_BYTES_MAX: usize = 8 << 20;

/// Where the evidence is.
#[derive(Debug)]
struct Impact {
    schemas: Schemas,
    broker: Broker,
    catalogue: Option<PathBuf>,
    scans: Scans,
    turn: Mutex<()>,
}

/// The routes.
pub(crate) fn routes(schemas: Schemas, broker: Broker, catalogue: Option<PathBuf>) -> Router {
    let impact = Impact {
        schemas,
        broker,
        catalogue,
        scans: Scans::default(),
        turn: Mutex::new(()),
    };
    Router::new()
        .route("/api/v1/schemas/impact", post(impact_of))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(Arc::new(impact))
}

async fn impact_of(
    State(impact): State<Arc<Impact>>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response {
    let query = query.unwrap_or_default();
    let mut parameters = query.split('&').filter_map(|one| one.split_once('='));
    let format = parameters.find(|(name, _)| *name == "format");
    let format = format.map_or("json", |(_, format)| format).to_owned();
    if !["json", "text", "markdown", "sarif", "evidence"].contains(&format.as_str()) {
        let detail = "`format` is one of json, text, markdown, sarif and evidence";
        return wrong(StatusCode::BAD_REQUEST, detail);
    }
    let asked: Asked = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => return wrong(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let _turn = impact.turn.lock().await;
    let worker = Arc::clone(&impact);
    let made = spawn_blocking(move || worker.answer(asked, &format)).await;
    made.unwrap_or_else(|error| {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        problem(status, None, "the report failed", &error.to_string())
    })
}

impl Impact {
    fn answer(&self, asked: Asked, format: &str) -> Response {
        let registry = self.schemas.registry();
        let sources = Sources {
            registry: &registry,
            uses: self.schemas.uses(),
            broker: &self.broker,
            scans: &self.scans,
            catalogue: self.catalogue.as_deref(),
        };
        let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
        let evidence = match sources.gather(asked) {
            Ok(evidence) => evidence,
            Err(refusal) => return wrong(unprocessable, &refusal.message),
        };
        match report(&evidence, &Limits::default()) {
            Ok(report) => shown(format, &evidence, &report),
            Err(invalid) => wrong(unprocessable, &invalid.what),
        }
    }
}

fn shown(format: &str, evidence: &Evidence, report: &Report) -> Response {
    match format {
        "text" => typed("text/plain; charset=utf-8", text(report)),
        "markdown" => typed("text/markdown; charset=utf-8", markdown(report)),
        "sarif" => {
            let findings = findings(report, &evidence.proposed.text);
            typed("application/sarif+json", sarif(&findings, &[]))
        }
        "evidence" => json(StatusCode::OK, evidence),
        _ => json(StatusCode::OK, report),
    }
}

fn typed(kind: &'static str, text: String) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

fn wrong(status: StatusCode, detail: &str) -> Response {
    problem(status, None, "the change cannot be looked at", detail)
}
