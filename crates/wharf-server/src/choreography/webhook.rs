//! Telling somebody else of bad verdicts: a POST of JSON, tried again for a while.
//!
//! What waits is bounded; beyond it changes are left out and counted. They are in their topic anyway.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use wharf_saga::choreography::verdict::Change;

use super::shared::Shared;
use crate::config::SecretUrl;
use crate::flag::raised;
use crate::problem::Problem;

/// How many changes may wait.
const WAITING_MAX: usize = 1_000;
/// How often one is tried, and the pause after the first time; each later one is twice as long.
const ATTEMPTS_MAX: u32 = 6;
const PAUSE: Duration = Duration::from_millis(500);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where changes are sent to.
#[derive(Clone, Debug)]
pub(super) struct Webhook {
    waiting: mpsc::Sender<Vec<u8>>,
    shared: Arc<Shared>,
}

impl Webhook {
    pub(super) fn start(
        url: &SecretUrl,
        shared: Arc<Shared>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(Self, JoinHandle<()>), Problem> {
        let wrong = |why: String| {
            Problem::new(
                wharf_message::Code::INVALID_CONFIGURATION,
                "`choreography.webhook` cannot be used",
                why,
                "write an address that begins with http:// or https://",
            )
        };
        let url = reqwest::Url::parse(url.expose()).map_err(|error| wrong(error.to_string()))?;
        // Whoever came first decides; Wharf itself uses ring everywhere.
        let _already_there = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(PATIENCE).build();
        let client = client.map_err(|error| wrong(error.to_string()))?;
        let (waiting, mut changes) = mpsc::channel::<Vec<u8>>(WAITING_MAX);
        let counted = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = raised(&mut stop) => return,
                    change = changes.recv() => {
                        let Some(change) = change else { return };
                        tokio::select! {
                            () = raised(&mut stop) => return,
                            sent = send(&client, &url, change) => match sent {
                                Ok(()) => counted.hooks.sent.fetch_add(1, Ordering::Relaxed),
                                Err(reason) => {
                                    tracing::warn!(reason, "a verdict could not be sent to the webhook");
                                    counted.hooks.failed.fetch_add(1, Ordering::Relaxed)
                                }
                            },
                        };
                    }
                }
            }
        });
        Ok((Self { waiting, shared }, task))
    }

    /// Tells of a change, when there is room.
    pub(super) fn tell(&self, change: &Change) {
        let sent = serde_json::to_vec(change).ok();
        let sent = sent.and_then(|body| self.waiting.try_send(body).ok());
        if sent.is_none() {
            self.shared.hooks.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn send(client: &reqwest::Client, url: &reqwest::Url, body: Vec<u8>) -> Result<(), String> {
    let mut reason = String::new();
    for attempt in 0..ATTEMPTS_MAX {
        if attempt > 0 {
            sleep(PAUSE * 2_u32.pow(attempt - 1)).await;
        }
        let request = client.post(url.clone());
        let request = request
            .header("content-type", "application/json")
            .body(body.clone());
        match request.send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            // It has seen it and does not want it.
            Ok(answer) if answer.status().is_client_error() && answer.status() != 429 => {
                return Err(format!("it answered {}", answer.status()));
            }
            Ok(answer) => reason = format!("it answered {}", answer.status()),
            // Without the address, which may hold a secret.
            Err(error) => reason = error.without_url().to_string(),
        }
    }
    Err(reason)
}
