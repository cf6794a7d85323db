//! What a delivery is settled by, and which deliveries are still unsettled here.
//!
//! Invariant: as long as a receipt is live, the server is told so in time, and gives its message to
//! nobody else.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Client;
use async_nats::client::RequestErrorKind;
use async_nats::jetstream::AckKind;
use tokio::sync::OwnedSemaphorePermit;

use crate::backoff::Backoff;

/// How often a settlement is sent that nobody answers, before the message is left to be delivered
/// again.
const TRIES_MAX: u32 = 10;

/// The unsettled deliveries of a subscription: sequence and the subject that each is settled on. They
/// are extended in the order of their sequences, because in the order in which their times run out
/// the server delivers them again.
#[derive(Clone, Debug, Default)]
pub(super) struct Live(Arc<Mutex<BTreeSet<(u64, String)>>>);

impl Live {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<(u64, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the server that all of them are still being worked on.
    pub(super) async fn extend(&self, client: &Client) {
        let all: Vec<_> = self.lock().iter().cloned().collect();
        for (_, subject) in all {
            if let Err(error) = client.publish(subject, AckKind::Progress.into()).await {
                tracing::debug!(%error, "the time of a delivery cannot be extended");
                return;
            }
        }
    }
}

/// A delivery's receipt.
#[derive(Debug)]
pub(super) struct Receipt {
    /// Its sequence and the subject that it is settled on.
    id: (u64, String),
    live: Live,
    /// Its place among what is pulled ahead.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Receipt {
    pub(super) fn new(
        sequence: u64,
        subject: String,
        live: &Live,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let id = (sequence, subject);
        live.lock().insert(id.clone());
        Self {
            id,
            live: live.clone(),
            _permit: permit,
        }
    }

    /// Acknowledges, and waits until the server has heard it.
    pub(super) async fn accept(self, client: &Client) {
        self.tell(client, AckKind::Ack).await;
    }

    /// Gives it back, to be delivered again after a wait.
    pub(super) async fn give_back(self, client: &Client, after: Duration) {
        // An extension after this would move the time of the next delivery.
        self.live.lock().remove(&self.id);
        let after = Some(after).filter(|after| !after.is_zero());
        self.tell(client, AckKind::Nak(after)).await;
    }

    async fn tell(&self, client: &Client, kind: AckKind) {
        let mut backoff = Backoff::new();
        for _ in 0..TRIES_MAX {
            match client.request(self.id.1.clone(), kind.into()).await {
                Ok(_) => return,
                Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                    tracing::debug!("the consumer of a delivery is gone");
                    return;
                }
                Err(error) => tracing::debug!(%error, "a settlement is sent again"),
            }
            backoff.wait().await;
        }
        tracing::warn!(
            subject = self.id.1,
            "a settlement was not answered; its message is delivered again"
        );
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.live.lock().remove(&self.id);
    }
}
