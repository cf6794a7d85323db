//! Where messages go: the seam between the relay and what makes them durable.

mod ledger;
pub mod memory;
mod publish;
mod queue;

pub use ledger::{LedgerSettings, LedgerTarget, TopicForm, Topics};
pub use publish::{Connect, PublishTarget};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::{Checkpoint, Routed, Trouble};

/// Where messages go.
pub trait Target: Send + Sync {
    /// Whether it keeps checkpoints with the messages, so that nothing comes twice. If not, what was
    /// under way at a crash comes again, with the same ids.
    fn keeps_checkpoints(&self) -> bool;

    /// Begins to take the messages of a source, and ends whoever took them before.
    ///
    /// # Errors
    /// What is in the way.
    fn open(&self, source: &str) -> BoxFuture<'_, Result<Opened, Trouble>>;
}

/// A target that takes messages.
pub struct Opened {
    /// Takes them.
    pub sink: Box<dyn Sink>,
    /// The checkpoints kept, from the last whole one on; empty when there are none.
    pub history: Vec<Bytes>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let history = self.history.len();
        formatter
            .debug_struct("Opened")
            .field("history", &history)
            .finish_non_exhaustive()
    }
}

/// What became of messages that are durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// How many of them their topics did not take, so that they are in the dead-letter topic of the
    /// source instead.
    pub set_aside: u64,
}

/// Takes the messages of one source.
pub trait Sink: Send {
    /// Takes messages and the checkpoint behind them. The future ends when both, and all those of the
    /// calls before, are durable; messages keep the order of the calls, key by key. Several may be
    /// under way. What the target keeps of it after an error is unknown: it is to be opened anew.
    fn deliver(
        &mut self,
        messages: Vec<Routed>,
        checkpoint: Checkpoint,
    ) -> BoxFuture<'static, Result<Delivered, Trouble>>;
}
