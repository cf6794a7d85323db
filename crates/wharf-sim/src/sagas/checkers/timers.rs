//! 8: nothing fires before its time, a deadline fires once, and what is due happens soon.

use std::collections::BTreeMap;

use wharf_message::Timestamp;
use wharf_saga::machine::{Fact, What};

use super::{Broken, broken};
use crate::sagas::watch::Watch;

pub(crate) const PROMISE: &str = "nothing fires before its time, and a deadline once";
pub(crate) const SOON: &str = "what is due happens soon";
/// How late it may be when nothing is wrong, in milliseconds.
const LATE_MAX: i64 = 3_000;

/// What waits for a time.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// Retries by step, and whether it is the undo's.
    retries: BTreeMap<u32, (i64, bool)>,
    waits: BTreeMap<u32, i64>,
    /// When dispatches are given up.
    timeouts: BTreeMap<u32, i64>,
    silences: BTreeMap<u32, i64>,
    deadline: Option<i64>,
    passed: bool,
    turned: bool,
}

impl Timers {
    pub(crate) fn fact(&mut self, fact: &Fact, latest: i64) -> Result<(), Broken> {
        let at = fact.at.as_millis();
        if at > latest {
            return broken(PROMISE, format!("a fact of {at} is there at {latest}"));
        }
        match &fact.what {
            What::Started {
                timeout, deadline, ..
            }
            | What::Redriven { timeout, deadline } => {
                let times = [timeout, deadline].into_iter().flatten();
                self.deadline = times.map(|time| time.as_millis()).min();
                self.passed = false;
            }
            What::Compensating { .. } => self.turned = true,
            What::DeadlinePassed => {
                if self.passed || self.deadline.is_none() {
                    return broken(PROMISE, "a deadline passed twice".to_owned());
                }
                self.passed = true;
                early("a deadline", self.deadline, at)?;
            }
            What::Retrying { step, until, .. } => {
                let retry = (until.as_millis(), self.turned);
                self.retries.insert(*step, retry);
            }
            What::Retried { step } | What::Stopped { step, .. } => {
                self.retries.remove(step);
                self.waits.remove(step);
            }
            What::Waiting { step, until } => _ = self.waits.insert(*step, until.as_millis()),
            What::Left(left) => early("a wait", self.waits.remove(&left.step), at)?,
            What::Dispatched(sent) => {
                let retry = self.retries.remove(&sent.step);
                let retry = retry.filter(|(_, undo)| *undo == sent.undo);
                early("a retry", retry.map(|(until, _)| until), at)?;
                if let Some(timeout) = sent.timeout {
                    self.timeouts.insert(sent.generation, timeout.as_millis());
                }
                if let Some(heartbeat) = sent.heartbeat {
                    let until = at + i64::try_from(heartbeat).unwrap_or(i64::MAX);
                    self.silences.insert(sent.generation, until);
                }
            }
            What::Beat {
                generation,
                until: Some(until),
                ..
            } => _ = self.silences.insert(*generation, until.as_millis()),
            What::Failed(failed) => {
                let timeout = self.timeouts.remove(&failed.generation);
                let silence = self.silences.remove(&failed.generation);
                // A worker, or a sub-saga, may end with the same error.
                let is_given_up = !failed.given_up.is_empty();
                let until = match failed.error.as_str() {
                    "States.Timeout" => timeout.or(silence),
                    "States.HeartbeatTimeout" => silence,
                    _ => None,
                };
                early("a time-out", until.filter(|_| is_given_up), at)?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn early(what: &str, until: Option<i64>, at: i64) -> Result<(), Broken> {
    match until {
        Some(until) if at < until => broken(PROMISE, format!("{what} of {until} was over at {at}")),
        _ => Ok(()),
    }
}

/// Nothing has been wrong for a while: nothing waits that was due.
pub(crate) fn soon(watch: &Watch, wall: i64) -> Result<(), Broken> {
    for (id, seen) in &watch.sagas {
        let due = seen.saga.due().map(Timestamp::as_millis);
        if let Some(due) = due.filter(|due| wall - due > LATE_MAX) {
            return broken(SOON, format!("{id} was due at {due}, and it is {wall}"));
        }
    }
    Ok(())
}
