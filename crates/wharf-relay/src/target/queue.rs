//! The sink of a target whose worker takes deliveries one after the other from a queue.
//!
//! The queue has no bound of its own: the relay bounds what is under way (`feed`). Invariant: once the
//! worker has ended, every delivery fails, those in the queue too, until the target is opened anew.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use wharf_message::Code;

use super::{Delivered, Sink};
use crate::{Checkpoint, Routed, Trouble};

/// Where a delivery's outcome is told.
pub(super) type Done = oneshot::Sender<Result<Delivered, Trouble>>;

/// A delivery that waits for the worker.
pub(super) struct Waiting {
    pub(super) messages: Vec<Routed>,
    pub(super) checkpoint: Checkpoint,
    pub(super) done: Done,
}

/// The sink, and where its worker takes deliveries from.
pub(super) fn queue() -> (Box<dyn Sink>, mpsc::UnboundedReceiver<Waiting>) {
    let (deliveries, waiting) = mpsc::unbounded_channel();
    (Box::new(Queue { deliveries }), waiting)
}

struct Queue {
    deliveries: mpsc::UnboundedSender<Waiting>,
}

impl Sink for Queue {
    fn deliver(
        &mut self,
        messages: Vec<Routed>,
        checkpoint: Checkpoint,
    ) -> BoxFuture<'static, Result<Delivered, Trouble>> {
        let (done, outcome) = oneshot::channel();
        let waiting = Waiting {
            messages,
            checkpoint,
            done,
        };
        // When the worker has ended, it has said why, and `outcome` ends at once.
        drop(self.deliveries.send(waiting));
        async move {
            outcome.await.unwrap_or_else(|_ended| {
                let what = "an earlier delivery failed; the target is opened anew";
                Err(Trouble::unavailable(Code::OUTBOX_TARGET_UNAVAILABLE, what))
            })
        }
        .boxed()
    }
}
