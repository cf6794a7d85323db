//! The orchestrator of another node, over its API.
//!
//! Answers are bounded, and so is the time for one. What is no answer (a refused connection, a 5xx, 429)
//! may be over soon, and may have happened; what is refused stays refused.

use std::fmt;
use std::time::Duration;

use reqwest::{Method, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wharf_saga::machine::{Action, Mark, Order, SagaId, Status};

use super::error::SagaError;
use super::reply::{Answer, What};
use super::sagas::{Deployment, Started, State};
use super::start::Start;

/// How long one request may take: longer than the node itself waits.
const PATIENCE: Duration = Duration::from_secs(40);
/// The largest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// How many sagas are listed at once.
const PAGE: &str = "1000";

/// An orchestrator behind an address.
pub(super) struct Http {
    base: Url,
    client: reqwest::Client,
}

#[derive(Deserialize)]
struct Refusal {
    code: String,
    detail: String,
}

#[derive(Deserialize)]
struct Listed {
    sagas: Vec<Row>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Row {
    id: SagaId,
}

impl Http {
    pub(super) fn new(address: &str) -> Result<Self, SagaError> {
        let wrong = |why: &dyn fmt::Display| {
            SagaError::Invalid(format!(
                "the address of the orchestrator cannot be used: {why}"
            ))
        };
        let mut base = Url::parse(address).map_err(|error| wrong(&error))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(wrong(&"it begins with http://host or https://host"));
        }
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        // Whoever came first decides; Wharf itself uses ring everywhere.
        let _already_there = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(PATIENCE);
        let client = client.build().map_err(|error| wrong(&error))?;
        Ok(Self { base, client })
    }

    fn url(&self, parts: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v1"]).extend(parts);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        url: Url,
        body: Option<String>,
    ) -> Result<T, SagaError> {
        let unavailable =
            |error: reqwest::Error| SagaError::Unavailable(error.without_url().to_string());
        let mut request = self.client.request(method, url);
        if let Some(body) = body {
            request = request
                .header("Content-Type", "application/json")
                .body(body);
        }
        let mut response = request.send().await.map_err(unavailable)?;
        let status = response.status();
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
            if answer.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(SagaError::Invalid(format!(
                    "the answer is larger than {ANSWER_BYTES_MAX} bytes"
                )));
            }
            answer.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return serde_json::from_slice(&answer).map_err(|error| {
                SagaError::Invalid(format!("the answer is none of an orchestrator: {error}"))
            });
        }
        let refusal = serde_json::from_slice::<Refusal>(&answer).ok();
        if status.is_server_error() || status.as_u16() == 429 {
            let why = refusal.map_or_else(|| format!("HTTP {status}"), |refusal| refusal.detail);
            return Err(SagaError::Unavailable(why));
        }
        Err(match refusal {
            Some(Refusal { code, detail }) => SagaError::Refused {
                code,
                message: detail,
            },
            None => SagaError::Invalid(format!(
                "nobody answers as an orchestrator of sagas there: HTTP {status}"
            )),
        })
    }

    async fn post<T: DeserializeOwned>(
        &self,
        parts: &[&str],
        body: &Value,
    ) -> Result<T, SagaError> {
        let url = self.url(parts, &[]);
        self.ask(Method::POST, url, Some(body.to_string())).await
    }

    pub(super) async fn deploy(
        &self,
        name: &str,
        text: &str,
        by: &str,
    ) -> Result<Deployment, SagaError> {
        let url = self.url(&["saga-definitions", name], &[("by", by)]);
        self.ask(Method::PUT, url, Some(text.to_owned())).await
    }

    pub(super) async fn start(&self, start: Start, input: Value) -> Result<Started, SagaError> {
        let body = json!({
            "type": start.saga_type,
            "version": start.version,
            "key": start.key,
            "input": input,
            "correlation_id": start.correlation,
            "attributes": start.attributes,
        });
        self.post(&["sagas"], &body).await
    }

    pub(super) async fn look(&self, id: SagaId) -> Result<State, SagaError> {
        let url = self.url(&["sagas", &id.to_string()], &[]);
        self.ask(Method::GET, url, None).await
    }

    pub(super) async fn list(
        &self,
        saga_type: &str,
        status: Status,
    ) -> Result<Vec<SagaId>, SagaError> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let mut query = vec![
                ("type", saga_type),
                ("status", status.as_str()),
                ("limit", PAGE),
            ];
            if let Some(after) = &after {
                query.push(("after", after));
            }
            let url = self.url(&["sagas"], &query);
            let page: Listed = self.ask(Method::GET, url, None).await?;
            all.extend(page.sagas.iter().map(|row| row.id));
            match page.next {
                Some(next) if !page.sagas.is_empty() => after = Some(next),
                _ => return Ok(all),
            }
        }
    }

    pub(super) async fn signal(
        &self,
        id: SagaId,
        name: &str,
        payload: Value,
    ) -> Result<(), SagaError> {
        let body = json!({ "name": name, "payload": payload });
        let parts = ["sagas", &id.to_string(), "signals"];
        self.post::<Value>(&parts, &body).await.map(drop)
    }

    pub(super) async fn answer(&self, answer: Answer) -> Result<(), SagaError> {
        let body = match answer.what {
            What::Done(value) => json!({ "output": value.map_err(SagaError::Invalid)? }),
            What::Failed {
                error,
                cause,
                declared,
            } => json!({ "error": error, "cause": cause, "declared": declared }),
            What::Heartbeat => json!({ "heartbeat": true }),
        };
        let parts = ["sagas", "callbacks", &answer.token.to_string()];
        self.post::<Value>(&parts, &body).await.map(drop)
    }

    pub(super) async fn operate(&self, id: SagaId, order: Order) -> Result<(), SagaError> {
        let Order { action, by, reason } = order;
        let mut body = json!({ "by": by, "reason": reason });
        let (name, step) = match action {
            Action::Pause => ("pause", None),
            Action::Resume => ("resume", None),
            Action::Redrive => ("redrive", None),
            Action::Abort => ("abort", None),
            Action::Retry { step } => ("retry", step),
            Action::Skip { step, output } => {
                body["output"] = Value::clone(&output);
                ("skip", step)
            }
            Action::Edit { step, input } => {
                body["input"] = Value::clone(&input);
                ("edit", step)
            }
            Action::Mark { step, mark } => {
                body["as"] = match mark {
                    Mark::Compensated => json!("compensated"),
                    Mark::Completed { output } => {
                        body["output"] = Value::clone(&output);
                        json!("completed")
                    }
                };
                ("mark", step)
            }
        };
        if let Some(step) = step {
            body["step"] = json!(step);
        }
        let parts = ["sagas", &id.to_string(), name];
        self.post::<Value>(&parts, &body).await.map(drop)
    }
}

impl fmt::Debug for Http {
    /// Without the password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.base.host_str().unwrap_or_default();
        formatter.debug_tuple("Http").field(&host).finish()
    }
}
