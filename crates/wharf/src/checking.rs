//! Payloads on their way out of a bus: above a threshold they go to object storage first, if the bus has
//! claim checks. What must never happen: a reference is published before its payload is stored.

use std::time::Duration;

use tokio::sync::watch;
use wharf_message::dead_letter::Reason;
use wharf_message::{Message, TopicName};

use crate::bus::BusError;
use crate::failure::Failed;
#[cfg(feature = "claim-check")]
use crate::{claim, failure::IntoFailed as _};

/// The first pause before what could not be stored is stored again; it doubles up to the last.
const AGAIN_FIRST: Duration = Duration::from_millis(50);
const AGAIN_LAST: Duration = Duration::from_secs(5);

/// What a bus stores before it publishes; nothing by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checking {
    /// Where to, and above how many bytes.
    #[cfg(feature = "claim-check")]
    pub(crate) claims: Option<(claim::Claims, usize)>,
}

impl Checking {
    /// Whether anything is stored at all.
    fn is_on(&self) -> bool {
        #[cfg(feature = "claim-check")]
        return self.claims.is_some();
        #[cfg(not(feature = "claim-check"))]
        false
    }

    /// The message as it is published.
    pub(crate) async fn check_in(&self, message: Message) -> Result<Message, BusError> {
        #[cfg(feature = "claim-check")]
        if let Some((claims, threshold)) = &self.claims {
            // In a box: who has no claim checks does not carry the room for it along.
            return Ok(Box::pin(claims.check_in(message, *threshold)).await?);
        }
        // Without claim checks, nothing is waited for.
        std::future::ready(Ok(message)).await
    }

    /// A message that came to the bus itself, with its payload.
    pub(crate) async fn check_out(&self, message: Message) -> Result<Message, BusError> {
        #[cfg(feature = "claim-check")]
        if let Some((claims, _)) = &self.claims {
            return Ok(Box::pin(claims.check_out(message)).await?);
        }
        std::future::ready(Ok(message)).await
    }

    /// The outputs as they are published, if all can be stored now.
    #[cfg(feature = "sql")]
    pub(crate) async fn check_in_now(
        &self,
        mut outputs: Vec<(TopicName, Message)>,
    ) -> Result<Vec<(TopicName, Message)>, Failed> {
        if self.is_on() {
            for (_, message) in &mut outputs {
                let checked = self.check_in(std::mem::take(message)).await;
                *message = checked.map_err(failed)?;
            }
        }
        Ok(outputs)
    }

    /// The outputs as they are published, however long it takes: what cannot be stored for now is stored
    /// again. `None` when the service stops before all are.
    pub(crate) async fn check_in_all(
        &self,
        outputs: Vec<(TopicName, Message)>,
        stop: &watch::Receiver<bool>,
    ) -> Result<Option<Vec<(TopicName, Message)>>, Failed> {
        if !self.is_on() {
            return Ok(Some(outputs));
        }
        Box::pin(self.store_all(outputs, stop)).await
    }

    async fn store_all(
        &self,
        mut outputs: Vec<(TopicName, Message)>,
        stop: &watch::Receiver<bool>,
    ) -> Result<Option<Vec<(TopicName, Message)>>, Failed> {
        for (topic, message) in &mut outputs {
            let mut pause = AGAIN_FIRST;
            *message = loop {
                match self.check_in(message.clone()).await {
                    Ok(checked) => break checked,
                    Err(error) if is_transient(&error) => {
                        tracing::warn!(%topic, %error, "a payload could not be stored; it is stored again");
                    }
                    Err(error) => return Err(failed(error)),
                }
                let mut stop = stop.clone();
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(AGAIN_LAST),
                    _ = stop.wait_for(|stop| *stop) => return Ok(None),
                }
            };
        }
        Ok(Some(outputs))
    }
}

fn is_transient(error: &BusError) -> bool {
    match error {
        #[cfg(feature = "claim-check")]
        BusError::Claim(error) => error.reason().is_none(),
        BusError::Transport(error) => error.is_transient(),
        _ => false,
    }
}

fn failed(error: BusError) -> Failed {
    match error {
        #[cfg(feature = "claim-check")]
        BusError::Claim(error) => error.into_failed(),
        error => Failed::for_ever(Reason::Rejected, error),
    }
}
