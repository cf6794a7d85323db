//! The reference: messages and checkpoints in a list.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use wharf_message::Code;

use super::{Delivered, Opened, Sink, Target};
use crate::{Checkpoint, Routed, Trouble};

/// A target in memory. Cheap to clone; the clones are the same.
///
/// ```
/// use wharf_relay::target::memory::MemoryTarget;
///
/// assert!(MemoryTarget::default().messages().is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryTarget(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    kept: Mutex<Kept>,
    held: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Kept {
    messages: Vec<Routed>,
    history: Vec<Bytes>,
    epoch: u64,
}

impl MemoryTarget {
    /// Every message, in order.
    pub fn messages(&self) -> Vec<Routed> {
        self.kept().messages.clone()
    }

    /// Makes it take nothing for now, or go on: what is handed over waits and is not durable.
    pub fn hold(&self, hold: bool) {
        self.0.held.send_replace(hold);
    }

    /// Ends whoever delivers, with everything that is under way lost, as a crash would.
    pub fn crash(&self) {
        self.kept().epoch += 1;
        // Whoever waits looks again.
        self.0.held.send_modify(|_| ());
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target for MemoryTarget {
    fn keeps_checkpoints(&self) -> bool {
        true
    }

    fn open(&self, _source: &str) -> BoxFuture<'_, Result<Opened, Trouble>> {
        let mut kept = self.kept();
        kept.epoch += 1;
        let history = kept.history.clone();
        let sink = MemorySink {
            target: self.clone(),
            epoch: kept.epoch,
            last: watch::channel(true).1,
        };
        let sink = Box::new(sink);
        std::future::ready(Ok(Opened { sink, history })).boxed()
    }
}

struct MemorySink {
    target: MemoryTarget,
    epoch: u64,
    /// True once the delivery before is durable.
    last: watch::Receiver<bool>,
}

impl Sink for MemorySink {
    fn deliver(
        &mut self,
        messages: Vec<Routed>,
        checkpoint: Checkpoint,
    ) -> BoxFuture<'static, Result<Delivered, Trouble>> {
        let (done, next) = watch::channel(false);
        let mut before = std::mem::replace(&mut self.last, next);
        let (target, epoch) = (self.target.clone(), self.epoch);
        let mut held = target.0.held.subscribe();
        async move {
            let crashed =
                || Trouble::unavailable(Code::OUTBOX_TARGET_UNAVAILABLE, "the target crashed");
            let before = before.wait_for(|&done| done).await;
            before.map_err(|_gone| crashed())?;
            let fenced = |target: &MemoryTarget| target.kept().epoch != epoch;
            let free = held.wait_for(|&held| !held || fenced(&target)).await;
            free.map_err(|_gone| crashed())?;
            let mut kept = target.kept();
            if kept.epoch != epoch {
                return Err(crashed());
            }
            kept.messages.extend(messages);
            if checkpoint.whole {
                kept.history.clear();
            }
            kept.history.push(checkpoint.bytes);
            drop(kept);
            done.send_replace(true);
            Ok(Delivered::default())
        }
        .boxed()
    }
}
