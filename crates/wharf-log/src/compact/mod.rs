//! Compaction: of each key, the newest record stays (`cleanup.policy=compact`).
//!
//! Invariants: only settled segments below the last stable offset are touched; offsets never change
//! and never have gaps (batches without records stand for those that are gone); a partition with
//! damage is left alone. A segment is written anew beside the old one, synced, and exchanged in
//! memory; a snapshot makes that durable, and only then the old file goes: a crash at any point
//! leaves the old ones or the new one. Who reads an old file goes on.

mod choose;
mod job;
mod keys;
mod rewrite;
mod scan;

use wharf_message::Timestamp;

use crate::Policy;
use crate::settle::{self, Trouble};
use crate::shared::Shared;
use job::{Job, Outcome};

/// How often partitions are looked at, in milliseconds.
const CHECK_INTERVAL_MS: i64 = 5_000;

/// Compacts one partition after the other, in bounded steps.
#[derive(Debug, Default)]
pub(crate) struct Compactor {
    job: Option<Job>,
    checked_at: Option<Timestamp>,
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Something changed that only a snapshot remembers.
    pub(crate) changed: bool,
    /// There is more to do right away.
    pub(crate) more: bool,
}

impl Compactor {
    /// Does one step. After trouble the partition is left as it was, and looked at again later.
    pub(crate) fn step(
        &mut self,
        shared: &Shared,
        policy: &dyn Policy,
        now: Timestamp,
    ) -> Result<Progress, Trouble> {
        let Some(mut job) = self.job.take() else {
            return self.begin(shared, policy, now);
        };
        match job.step(shared, policy.codec(), now) {
            Ok(Outcome::More) => {
                self.job = Some(job);
                Ok(Progress {
                    changed: false,
                    more: true,
                })
            }
            Ok(Outcome::Exchanged) => {
                self.job = Some(job);
                Ok(Progress {
                    changed: true,
                    more: true,
                })
            }
            Ok(Outcome::Done) => {
                job.give_up(shared);
                // Perhaps another one waits.
                self.checked_at = None;
                Ok(Progress {
                    changed: true,
                    more: true,
                })
            }
            Ok(Outcome::Overtaken) => {
                job.give_up(shared);
                Ok(Progress::default())
            }
            Err(error) => {
                job.give_up(shared);
                Err(Trouble::Later(error))
            }
        }
    }

    fn begin(
        &mut self,
        shared: &Shared,
        policy: &dyn Policy,
        now: Timestamp,
    ) -> Result<Progress, Trouble> {
        let waited = |at: Timestamp| now.as_millis().abs_diff(at.as_millis());
        let early = self
            .checked_at
            .is_some_and(|at| waited(at) < CHECK_INTERVAL_MS.unsigned_abs());
        if early {
            return Ok(Progress::default());
        }
        self.checked_at = Some(now);
        let mut changed = false;
        let mut due = choose::due(shared, policy, now);
        for partition in &due.to_settle {
            changed |= settle::settle_partition(shared, policy, partition, now)?;
        }
        if changed {
            due = choose::due(shared, policy, now);
        }
        self.job = due.filthiest.map(|due| Job::new(shared, due));
        Ok(Progress {
            changed,
            more: self.job.is_some(),
        })
    }
}
