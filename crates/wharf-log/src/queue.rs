//! The queue between those who submit units and the committer.
//!
//! Invariants: units leave in the order in which they came; after `close` none gets in; whatever
//! waits has been announced to the committer's thread, or somebody is attending who will announce
//! it. How much may wait here is the caller's business (the server bounds requests in flight by
//! connection).

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::sync::lock;
use crate::{Done, Unit};

/// A unit with the one who waits for its outcome.
pub(crate) type Waiting = (Unit, Done);

#[derive(Default)]
struct Content {
    waiting: VecDeque<Waiting>,
    closed: bool,
    /// How many threads look after what waits, so that nobody needs to be woken for it.
    attending: usize,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Queue {
    content: Mutex<Content>,
    changed: Condvar,
}

impl fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl Queue {
    /// Takes units in; gives them back when closed.
    pub(crate) fn push(&self, units: Vec<Waiting>) -> Result<(), Vec<Waiting>> {
        let mut content = lock(&self.content);
        if content.closed {
            return Err(units);
        }
        content.waiting.extend(units);
        let attended = content.attending > 0;
        drop(content);
        if !attended {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// From now on nobody is woken for new units, until [`Self::leave`].
    pub(crate) fn attend(&self) {
        lock(&self.content).attending += 1;
    }

    /// Ends an [`Self::attend`]; with `wakes`, the committer's thread is woken for what waits.
    pub(crate) fn leave(&self, wakes: bool) {
        let mut content = lock(&self.content);
        content.attending -= 1;
        let wakes = wakes && !content.waiting.is_empty();
        drop(content);
        if wakes {
            self.changed.notify_one();
        }
    }

    pub(crate) fn close(&self) {
        lock(&self.content).closed = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.content).closed
    }

    /// Everything that waits.
    pub(crate) fn take(&self) -> VecDeque<Waiting> {
        std::mem::take(&mut lock(&self.content).waiting)
    }

    /// Blocks until something waits (true), or the queue is closed and empty (false).
    pub(crate) fn wait(&self) -> bool {
        let content = lock(&self.content);
        let waited = self
            .changed
            .wait_while(content, |content| {
                content.waiting.is_empty() && !content.closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        !waited.waiting.is_empty()
    }
}
