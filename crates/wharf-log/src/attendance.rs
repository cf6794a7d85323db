//! Who commits: a thread that waits for units, or the one that has just queued them.
//!
//! Waking another thread and being woken by it costs more than a quick disk needs for a sync. Who
//! attends to the queue while it submits may therefore commit by itself, if nobody else is doing so.
//!
//! Invariant: an attendance that ends in any other way than by committing wakes the waiting thread
//! for what is queued, so no unit is ever left alone.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Health;
use crate::shared::Shared;
use crate::sync::read;

/// Nothing is committed while this many times the files that may wait for settling do.
const FILES_MAX_FACTOR: usize = 3;
/// How long the waiting thread waits for settling before it goes on for one turn.
const LAG_WAIT: Duration = Duration::from_secs(1);

fn files_max(shared: &Shared) -> usize {
    shared.options.journal_files_max * FILES_MAX_FACTOR + 1
}

/// Waits for units. See [`Committer::waiter`](crate::Committer::waiter).
pub struct Waiter {
    shared: Arc<Shared>,
}

impl fmt::Debug for Waiter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Waiter")
    }
}

impl Waiter {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Blocks until units are queued (true) or the log is closed and drained (false). When settling
    /// lags far behind, it blocks until that has caught up, at most a second: so the journal's size is
    /// bounded as long as settling goes on at all, and grows slowly when it does not.
    pub fn wait(&self) -> bool {
        let any = self.shared.queue.wait();
        if any {
            let shared = &self.shared;
            let may_help =
                || !shared.queue.is_closed() && *read(&shared.health) == Health::Writable;
            shared
                .journal
                .wait_for_room(files_max(shared), LAG_WAIT, may_help);
        }
        any
    }
}

/// While it is held, submitting wakes nobody; when it is dropped, the waiting thread is woken for
/// what was submitted. See [`Appender::attend`](crate::Appender::attend).
pub struct Attendance {
    shared: Arc<Shared>,
    /// Whether its end wakes the waiting thread.
    wakes: bool,
}

impl fmt::Debug for Attendance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Attendance")
    }
}

impl Attendance {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        shared.queue.attend();
        Self {
            shared,
            wakes: true,
        }
    }

    /// Whether committing needs no wait for settling.
    pub(crate) fn has_room(&self) -> bool {
        self.shared.journal.has_room(files_max(&self.shared))
    }

    /// Ends it without waking anybody: the caller commits what waits.
    pub(crate) fn leave(mut self) {
        self.wakes = false;
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.shared.queue.leave(self.wakes);
    }
}
