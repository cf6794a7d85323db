//! Workers behind an address: a task is a request, its answer is the worker's, or comes later.
//!
//! A host is sent only so many requests at once; further tasks wait here. Answers are bounded in
//! size and time. A request may be sent again after a crash, with the same `Idempotency-Key`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::Value;
use sha2::Sha256;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use wharf_saga::machine::{Command, Data, Failure, Outcome, TaskToken};

use super::handler::Report;
use super::topic::{failed, names};
use crate::clock;
use crate::config::Secret;
use crate::saga::claims::Claims;

/// How much of an answer that is no result is kept as its cause.
const CAUSE_BYTES_MAX: usize = 2_000;

/// Of more hosts than this, those are forgotten that nothing is sent to.
const HOSTS_MAX: usize = 1_000;

/// How requests are sent.
pub(crate) struct Settings {
    pub(crate) timeout: Duration,
    pub(crate) in_flight_max: usize,
    pub(crate) secret: Option<Secret>,
    pub(crate) answer_bytes_max: usize,
    pub(crate) claims: Option<Arc<Claims>>,
}

/// The workers behind addresses.
pub(crate) struct HttpWorkers {
    client: Client,
    settings: Settings,
    hosts: Mutex<HashMap<String, Arc<Semaphore>>>,
    running: Mutex<HashMap<TaskToken, AbortHandle>>,
    report: Report,
}

impl HttpWorkers {
    pub(crate) fn new(settings: Settings, report: Report) -> Result<Self, String> {
        // Whoever came first decides; Wharf itself uses ring everywhere.
        let _already_there = rustls::crypto::ring::default_provider().install_default();
        // A worker is where the definition says, and nowhere else.
        let client = Client::builder().redirect(Policy::none());
        let client = client.build().map_err(|error| error.to_string())?;
        Ok(Self {
            client,
            settings,
            hosts: Mutex::default(),
            running: Mutex::default(),
            report,
        })
    }

    /// Sends a task, now or when its host has room.
    pub(crate) fn run(
        self: &Arc<Self>,
        url: &str,
        command: Command,
        arguments: Value,
        callback: String,
    ) {
        let token = command.token();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.contains_key(&token) {
            return;
        }
        let (workers, url) = (Arc::clone(self), url.to_owned());
        let work = tokio::spawn(async move {
            let outcome = workers.ask(&url, &command, &arguments, &callback).await;
            let mut running = workers
                .running
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            running.remove(&token);
            drop(running);
            (workers.report)(token, outcome);
        });
        running.insert(token, work.abort_handle());
    }

    /// Nobody waits for this dispatch any more.
    pub(crate) fn cancel(&self, token: TaskToken) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running.remove(&token) {
            running.abort();
        }
    }

    async fn ask(
        &self,
        url: &str,
        command: &Command,
        arguments: &Value,
        callback: &str,
    ) -> Outcome {
        let Ok(url) = Url::parse(url) else {
            return failure("States.TaskFailed", format!("{url:?} is no address"), false);
        };
        let seats = {
            let host = format!(
                "{}:{:?}",
                url.host_str().unwrap_or(""),
                url.port_or_known_default()
            );
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            if hosts.len() >= HOSTS_MAX {
                // Whoever has a seat, or waits for one, holds it too.
                hosts.retain(|_, seats| Arc::strong_count(seats) > 1);
            }
            let seats = hosts.entry(host);
            let seats =
                seats.or_insert_with(|| Arc::new(Semaphore::new(self.settings.in_flight_max)));
            Arc::clone(seats)
        };
        let _seat = seats.acquire().await;
        let body = match self.body(arguments).await {
            Ok(body) => body,
            Err(failure) => return Outcome::Failure(failure),
        };
        let mut request = self.client.post(url).timeout(self.patience(command));
        for (name, value) in names(command) {
            request = request.header(name, header(&value));
        }
        request = request
            .header("content-type", "application/json")
            .header("saga-callback", callback);
        if let Some(secret) = &self.settings.secret {
            let now = clock::now().as_millis();
            request = request.header("wharf-signature", signature(secret.expose(), now, &body));
        }
        match request.body(body).send().await {
            Ok(response) => self.answer(response, command.undo).await,
            Err(error) => unreachable(&error),
        }
    }

    /// What is sent: the arguments, or what they stand for in the node's store.
    async fn body(&self, arguments: &Value) -> Result<String, Failure> {
        let content = match &self.settings.claims {
            Some(claims) => claims.content(arguments).await?,
            None => None,
        };
        let text = content.and_then(|content| String::from_utf8(content).ok());
        Ok(text.unwrap_or_else(|| arguments.to_string()))
    }

    fn patience(&self, command: &Command) -> Duration {
        let left = command
            .deadline
            .map(|deadline| deadline.since(clock::now()));
        let left = left.unwrap_or(self.settings.timeout);
        left.min(self.settings.timeout)
            .max(Duration::from_millis(1))
    }

    async fn answer(&self, mut response: Response, undo: bool) -> Outcome {
        let status = response.status();
        let max = self.settings.answer_bytes_max;
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(None) => break,
                Ok(Some(chunk)) if body.len() + chunk.len() <= max => {
                    body.extend_from_slice(&chunk);
                }
                Ok(Some(_beyond)) if status.is_success() => {
                    let cause =
                        format!("the answer has more than the {max} bytes that are allowed");
                    return failure("States.DataLimitExceeded", cause, false);
                }
                Ok(Some(_beyond)) => break,
                Err(error) => return unreachable(&error),
            }
        }
        said(status, &body, undo)
    }
}

/// What an answer means.
fn said(status: StatusCode, body: &[u8], undo: bool) -> Outcome {
    let json = || match body {
        [] => Some(Value::Null),
        _ => serde_json::from_slice(body).ok(),
    };
    let told = || {
        let end = body.len().min(CAUSE_BYTES_MAX);
        let text = String::from_utf8_lossy(body.get(..end).unwrap_or_default()).into_owned();
        json()
            .filter(Value::is_object)
            .unwrap_or(serde_json::json!({ "cause": text }))
    };
    match status {
        StatusCode::ACCEPTED => Outcome::Accepted,
        _ if status.is_success() => match json() {
            Some(value) => Outcome::Success(Data::from(value)),
            None => failure(
                "States.TaskFailed",
                "the answer is not JSON".to_owned(),
                false,
            ),
        },
        // The worker knows that it was undone, or that there was nothing.
        StatusCode::GONE if undo => Outcome::Success(Data::null()),
        StatusCode::GONE | StatusCode::CONFLICT => Outcome::Failure(failed(&told(), None, true)),
        _ => {
            let mut failed = failed(&told(), None, false);
            if failed.error == "States.TaskFailed" {
                failed.error = format!("States.Http.StatusCode.{}", status.as_u16());
            }
            Outcome::Failure(failed)
        }
    }
}

fn unreachable(error: &reqwest::Error) -> Outcome {
    if error.is_timeout() {
        return failure(
            "States.Timeout",
            "the worker did not answer in time".to_owned(),
            false,
        );
    }
    let mut cause = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        cause = format!("{cause}: {inner}");
        source = inner.source();
    }
    failure("Wharf.Unreachable", cause, false)
}

fn failure(error: &str, cause: String, declared: bool) -> Outcome {
    Outcome::Failure(Failure {
        error: error.to_owned(),
        cause,
        declared,
    })
}

/// A value that a header may have: names of states may have letters that it may not.
fn header(value: &str) -> String {
    let mut text = String::new();
    for character in value.chars() {
        match character {
            ' '..='~' if character != '%' => text.push(character),
            other => {
                let mut bytes = [0; 4];
                for byte in other.encode_utf8(&mut bytes).bytes() {
                    write!(text, "%{byte:02X}").expect("a String takes everything");
                }
            }
        }
    }
    text
}

/// `t=<milliseconds>,v1=<hex of HMAC-SHA256 over "<milliseconds>.<body>">`.
fn signature(secret: &str, now: i64, body: &str) -> String {
    let mut text = format!("t={now},v1=");
    // Keys of any length are taken.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) {
        mac.update(format!("{now}.{body}").as_bytes());
        for byte in mac.finalize().into_bytes() {
            write!(text, "{byte:02x}").expect("a String takes everything");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_meaning() {
        let declared = |outcome: Outcome| match outcome {
            Outcome::Failure(failure) => Some((failure.error, failure.declared)),
            _ => None,
        };
        let ok = |body: &[u8]| said(StatusCode::OK, body, false);
        assert_eq!(
            ok(b"{\"a\":1}"),
            Outcome::Success(Data::from(serde_json::json!({ "a": 1 })))
        );
        assert_eq!(ok(b""), Outcome::Success(Data::null()));
        assert_eq!(
            said(StatusCode::ACCEPTED, b"later", false),
            Outcome::Accepted
        );
        let refused = said(StatusCode::CONFLICT, br#"{"error":"Declined"}"#, false);
        assert_eq!(declared(refused), Some(("Declined".to_owned(), true)));
        assert_eq!(
            said(StatusCode::GONE, b"", true),
            Outcome::Success(Data::null())
        );
        let broken = said(StatusCode::BAD_GATEWAY, b"<html>", false);
        let name = "States.Http.StatusCode.502".to_owned();
        assert_eq!(declared(broken), Some((name, false)));
    }

    #[test]
    fn a_signature_covers_the_moment_and_the_body() {
        // What `printf '1.{}' | openssl dgst -sha256 -hmac key` says.
        let known = "1ba6b8171186efc613e8bcc0cbdab2748f24984d7c5a84faa2637afa0e40d224";
        let one = signature("key", 1, "{}");
        assert_eq!(one, format!("t=1,v1={known}"));
        assert_ne!(one, signature("key", 2, "{}"));
        assert_ne!(one, signature("other", 1, "{}"));
        assert_eq!(header("Pay für %"), "Pay f%C3%BCr %25");
    }
}
