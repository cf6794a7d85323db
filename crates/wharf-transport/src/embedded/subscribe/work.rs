//! Settlements that have to be carried out: what they append, and what they settle by that.

use tokio::sync::oneshot;
use tokio::time::Instant;
use wharf_message::transport::{Error, Token};

use super::super::outputs::Output;

/// A settlement on its way.
pub(super) struct Work {
    pub(super) token: Token,
    pub(super) outputs: Vec<Output>,
    pub(super) purpose: Purpose,
    /// It was refused together with others: to be tried alone.
    pub(super) is_alone: bool,
    /// Not to be tried before this time, after an error.
    pub(super) not_before: Option<Instant>,
    /// How often it was refused alone.
    pub(super) refusals: u32,
}

/// What a settlement is for.
pub(super) enum Purpose {
    /// Outputs and acceptance in one step; who waits for it.
    Accept(oneshot::Sender<Result<(), Error>>),
    /// The next attempt.
    Retry,
    /// A dead letter.
    Reject,
}

impl Work {
    pub(super) fn new(token: Token, outputs: Vec<Output>, purpose: Purpose) -> Self {
        Self {
            token,
            outputs,
            purpose,
            is_alone: false,
            not_before: None,
            refusals: 0,
        }
    }

    /// Whether outputs and acceptance must be in one unit.
    pub(super) fn is_atomic(&self) -> bool {
        matches!(self.purpose, Purpose::Accept(_))
    }

    pub(super) fn bytes(&self) -> usize {
        let outputs = self.outputs.iter();
        outputs.map(|output| output.message.size()).sum()
    }

    /// Tells whoever waits.
    pub(super) fn answer(self, answer: Result<(), Error>) {
        if let Purpose::Accept(waiting) = self.purpose {
            // Whoever does not wait for the answer does not need it.
            drop(waiting.send(answer));
        }
    }
}
