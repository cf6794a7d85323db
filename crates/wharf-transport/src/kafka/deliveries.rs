//! The reader's side of a subscription: deliveries out of what its thread has read.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use wharf_message::transport::{Deliveries, Delivery, Error, Settle};

use super::outbox::lock;
use super::state::{Ready, Shared};

/// A running subscription; its thread ends when this is dropped.
pub(super) struct Running(pub(super) Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        lock(&self.0.state).abandoned = true;
        self.0.wake_reader();
    }
}

/// See the module.
pub(super) struct Subscribed {
    pub(super) running: Running,
    /// They publish the scheduled messages of the topics while somebody receives them.
    pub(super) forwarders: Vec<Arc<Running>>,
}

impl Subscribed {
    fn take(&self, max: usize) -> Option<Result<Vec<Delivery>, Error>> {
        let shared = &self.running.0;
        let mut state = lock(&shared.state);
        if let Some(error) = state.failure.take() {
            return Some(Err(error));
        }
        if let Some(error) = &state.ended {
            return Some(Err(error.clone()));
        }
        let room = shared.in_flight_max.saturating_sub(state.out());
        let count = max.max(1).min(room).min(state.ready.len());
        if count == 0 {
            return None;
        }
        let mut bytes = 0;
        let delivery = |ready: Ready| {
            let settle: Arc<dyn Settle> = Arc::clone(shared) as Arc<dyn Settle>;
            bytes += ready.bytes;
            let Ready {
                topic,
                position,
                message,
                attempt,
                token,
                ..
            } = ready;
            Delivery::new(topic, position, message, attempt, settle, token)
        };
        let taken: Vec<Delivery> = state.ready.drain(..count).map(delivery).collect();
        state.ready_bytes -= bytes;
        let goes_on = state.full && !state.is_full();
        drop(state);
        if goes_on {
            shared.wake_reader();
        }
        Some(Ok(taken))
    }
}

impl Deliveries for Subscribed {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Error>> {
        async move {
            loop {
                // One who waits: a notice that comes between the look and the wait is kept.
                if let Some(result) = self.take(max) {
                    return result;
                }
                self.running.0.arrived.notified().await;
            }
        }
        .boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<(), Error>> {
        async move {
            let Self {
                running,
                forwarders,
            } = *self;
            let result = running.0.close().await;
            drop(forwarders);
            result
        }
        .boxed()
    }
}
