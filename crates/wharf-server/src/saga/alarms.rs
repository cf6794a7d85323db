//! Alarms of parked sagas, posted to the webhook. The record of each is durable before: whoever must
//! not miss one reads the topic.

use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::SecretUrl;
use crate::webhook::{Fate, Webhook};

/// The topic of all alarms.
pub(super) const ALARMS: &str = "_wharf.saga-alarms";

/// Where alarms go; nowhere without a webhook.
pub(super) struct Alarms(Option<Webhook>);

impl Alarms {
    /// With a webhook there is a task that posts until `stop` is raised. `lost` counts what it does
    /// not take.
    pub(super) fn start(
        webhook: Option<&SecretUrl>,
        lost: Counter,
        stop: watch::Receiver<bool>,
    ) -> Result<(Self, Option<JoinHandle<()>>), String> {
        let Some(url) = webhook else {
            return Ok((Self(None), None));
        };
        let told = move |fate| {
            let why = match fate {
                Fate::Sent => return,
                Fate::Failed(why) => why,
                Fate::Dropped => "too many wait".to_owned(),
            };
            lost.inc();
            tracing::error!(why, "an alarm was not posted; its record is in {ALARMS}");
        };
        let (webhook, task) = Webhook::start(url, told, stop)?;
        Ok((Self(Some(webhook)), Some(task)))
    }

    /// Posts an alarm.
    pub(super) fn raise(&self, alarm: String) {
        if let Some(webhook) = &self.0 {
            webhook.tell(alarm.into_bytes());
        }
    }
}
