//! Promise: after a failed write or sync nothing is acknowledged until the process is restarted,
//! and without one the log never stops.

use wharf_log::{CommitError, Committed};

use super::{Broken, broken};

const PROMISE: &str = "a failed sync stops the log";

/// Watches the answers of one process.
#[derive(Debug, Default)]
pub struct FailStop {
    stopped: bool,
}

impl FailStop {
    /// Takes in an answer; `disk_failed` says whether the disk has given the log a reason to stop.
    pub fn answered(
        &mut self,
        answer: &Result<Committed, CommitError>,
        disk_failed: bool,
    ) -> Result<(), Broken> {
        match answer {
            Err(CommitError::Poisoned) if !disk_failed => {
                broken(PROMISE, "the log stopped although the disk works")
            }
            Err(CommitError::Poisoned) => {
                self.stopped = true;
                Ok(())
            }
            Ok(_) if self.stopped => broken(PROMISE, "the log acknowledged after it had stopped"),
            _ => Ok(()),
        }
    }
}
