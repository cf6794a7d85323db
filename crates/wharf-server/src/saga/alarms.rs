//! Alarms of parked sagas, posted to the webhook. The record of each is durable before.
//!
//! Posting is tried several times and then given up; neither it nor a webhook that hangs ever holds
//! up a saga. Whoever must not miss one reads the topic.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use reqwest::Client;
use reqwest::redirect::Policy;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::config::SecretUrl;
use crate::flag::raised;

/// The topic of all alarms.
pub(super) const ALARMS: &str = "_wharf.saga-alarms";
/// How many alarms may wait to be posted.
const WAITING_MAX: usize = 1_024;
/// How long one post may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often one alarm is posted at most, and how long the waits between may become.
const ATTEMPTS_MAX: u32 = 8;
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Where alarms go.
pub(super) struct Alarms {
    waiting: Option<mpsc::Sender<String>>,
    lost: Counter,
}

/// What posts them.
pub(super) struct Poster {
    url: SecretUrl,
    client: Client,
    waiting: mpsc::Receiver<String>,
    lost: Counter,
}

impl Alarms {
    /// With a webhook there is something to run.
    pub(super) fn new(
        webhook: Option<&SecretUrl>,
        lost: Counter,
    ) -> Result<(Self, Option<Poster>), String> {
        let Some(url) = webhook else {
            let waiting = None;
            return Ok((Self { waiting, lost }, None));
        };
        // Whoever came first decides; Wharf itself uses ring everywhere.
        let _already_there = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(PATIENCE).redirect(Policy::none());
        let client = client.build().map_err(|error| error.to_string())?;
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        let poster = Poster {
            url: url.clone(),
            client,
            waiting,
            lost: lost.clone(),
        };
        let waiting = Some(sender);
        Ok((Self { waiting, lost }, Some(poster)))
    }

    /// Posts an alarm, as soon as those before it are posted or given up.
    pub(super) fn raise(&self, alarm: String) {
        let Some(waiting) = &self.waiting else { return };
        if waiting.try_send(alarm).is_err() {
            self.lost.inc();
            tracing::error!(
                "too many alarms wait for the webhook; one was not posted, its record is in {ALARMS}"
            );
        }
    }
}

impl Poster {
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let alarm = tokio::select! {
                biased;
                () = raised(&mut stop) => return,
                Some(alarm) = self.waiting.recv() => alarm,
                else => return,
            };
            tokio::select! {
                biased;
                () = raised(&mut stop) => return,
                () = self.post(alarm) => {}
            }
        }
    }

    async fn post(&self, alarm: String) {
        let mut wait = Duration::from_millis(200);
        for attempt in 1..=ATTEMPTS_MAX {
            let request = self.client.post(self.url.expose());
            let request = request.header("content-type", "application/json");
            let why = match request.body(alarm.clone()).send().await {
                Ok(answer) if answer.status().is_success() => return,
                Ok(answer) => answer.status().to_string(),
                Err(error) => error.without_url().to_string(),
            };
            tracing::warn!(attempt, why, "an alarm could not be posted");
            sleep(wait).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
        self.lost.inc();
        tracing::error!("an alarm was given up; its record is in {ALARMS}");
    }
}
