//! Handing units to the log and learning their outcome.
//!
//! A unit is queued before the call returns, so units submitted one after the other commit in that
//! order. Views are changed in the outcome callback (`applied`), in the committer's thread: in
//! commit order, and also when the caller has gone away meanwhile.

use std::fmt;

use futures_channel::oneshot;
use wharf_log::{Appender, CommitError, Committed, Done, Unit};

/// The outcome of one submitted unit, to be awaited. Dropping it does not undo the unit.
pub(crate) struct Outcome(oneshot::Receiver<Result<Committed, CommitError>>);

impl fmt::Debug for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Outcome")
    }
}

impl Outcome {
    /// Waits for the outcome. A log that went away without answering is a closed one.
    pub(crate) async fn wait(self) -> Result<Committed, CommitError> {
        self.0.await.unwrap_or(Err(CommitError::Closed))
    }
}

/// A callback and the outcome it will announce; `applied` runs first, in the committer's thread.
pub(crate) fn done(
    applied: impl FnOnce(&Result<Committed, CommitError>) + Send + 'static,
) -> (Done, Outcome) {
    let (sender, receiver) = oneshot::channel();
    let done: Done = Box::new(move |result| {
        applied(&result);
        // A caller that no longer waits is no failure: the unit is committed all the same.
        drop(sender.send(result));
    });
    (done, Outcome(receiver))
}

/// Queues one unit; `applied` runs with its outcome in the committer's thread.
pub(crate) fn submit(
    appender: &Appender,
    unit: Unit,
    applied: impl FnOnce(&Result<Committed, CommitError>) + Send + 'static,
) -> Outcome {
    let (done, outcome) = done(applied);
    appender.submit(vec![(unit, done)]);
    outcome
}
