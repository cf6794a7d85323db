//! The end of a process and the start of the next one, with the checks in between.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use wharf_log::CommitError;
use wharf_log::disk::simulated::Faults;
use wharf_message::Timestamp;

use super::{Callbacks, Ending, Simulation, Submitted};
use crate::checkers::{
    Broken, Evidence, FailStop, Unsettled, body, broken, check_view, restart_changes_nothing,
};
use crate::plan::Fault;
use crate::view::View;

impl Simulation {
    pub(super) fn end(&mut self, ending: Ending) -> Result<(), Broken> {
        let before = match ending {
            Ending::Orderly => self.stop()?,
            Ending::Kill | Ending::PowerLoss => None,
        };
        let statistics = self.log.reader.statistics();
        self.report.settled_bytes += statistics.settled_bytes;
        self.report.frames += statistics.frames;
        let mut power_lost = match ending {
            Ending::PowerLoss => true,
            Ending::Kill => false,
            Ending::Orderly => self.random.coin(),
        };
        power_lost |= self.disk.is_off() && ending == Ending::Orderly;
        self.disk = if power_lost {
            self.disk.crash()
        } else {
            self.disk.kill()
        };
        self.disk.set_faults(Faults::default());
        self.reopen(&mut power_lost)?;
        if power_lost {
            self.report.power_losses += 1;
        } else {
            self.report.kills += 1;
        }
        self.check_restart(power_lost || self.disk_failed, before.as_ref())
    }

    /// Stops in good order; what was readable then, unless the machine died meanwhile.
    pub(super) fn stop(&mut self) -> Result<Option<View>, Broken> {
        self.log.appender.close();
        self.commit()?;
        let finished = self.log.maintenance.finish(self.now);
        if self.disk.is_off() || self.disk_failed {
            return Ok(None);
        }
        self.adopt_retention()?;
        match finished {
            Ok(()) => {}
            Err(_) if self.disk_may_be_full => return Ok(None),
            Err(error) => return broken("an orderly restart changes nothing", error.to_string()),
        }
        self.report.orderly_stops += 1;
        View::read(&self.log.reader, &mut self.random, &self.written).map(Some)
    }

    /// Opens the log again; the machine may die while it recovers.
    fn reopen(&mut self, power_lost: &mut bool) -> Result<(), Broken> {
        let mut dies = self.has(Fault::MidOperation) && self.random.percent(40);
        loop {
            if dies {
                let at = self.disk.counters().operations + 1 + self.random.below(12);
                self.disk.power_off_at(at);
            }
            self.callbacks = Arc::new(Callbacks::default());
            let opened = self.open();
            if self.disk.is_off() {
                self.report.deaths_in_recovery += 1;
                let only_killed = self.has(Fault::Kill) && self.random.coin();
                *power_lost |= !only_killed;
                self.disk = if only_killed {
                    self.disk.kill()
                } else {
                    self.disk.crash()
                };
                dies = self.random.percent(30);
                continue;
            }
            self.log = opened?;
            return Ok(());
        }
    }

    fn check_restart(&mut self, power_lost: bool, before: Option<&View>) -> Result<(), Broken> {
        if self.plan.sabotage.is_none() && !self.log.recovery.damaged.is_empty() {
            let damaged = &self.log.recovery.damaged;
            return broken("a torn tail is no damage", format!("{damaged:?}"));
        }
        let answered = std::mem::take(&mut self.since);
        let pending = std::mem::take(&mut self.pending);
        let (must, open) = if power_lost {
            (&self.durable, unsettled(answered.iter().chain(&pending)))
        } else {
            (&self.model, unsettled(pending.iter()))
        };
        let view = View::read(&self.log.reader, &mut self.random, &self.written)?;
        if let Some(before) = before {
            restart_changes_nothing(before, &view, &self.log.recovery)?;
        }
        let evidence = Evidence {
            must,
            unsettled: &open,
            refused: &self.refused,
            retained: &self.settings.retentions,
            written: &self.written,
            now: self.latest,
        };
        let (model, kept) = check_view(&evidence, &view)?;
        self.report.compacted_records += view.compacted_records(&self.written);
        let last_kept = kept.checked_sub(1).map(|last| open[last].operation);
        self.report.units_kept_unanswered += u64::try_from(kept).unwrap_or(0);
        self.report.units_lost_unanswered += u64::try_from(open.len() - kept).unwrap_or(0);
        self.written.restarted(&model);
        self.durable = model.clone();
        self.model = model;
        self.start_again(&answered, &pending, last_kept);
        Ok(())
    }

    /// Lets clients and bookkeeping go on from what is there.
    fn start_again(
        &mut self,
        answered: &[Submitted],
        pending: &VecDeque<Submitted>,
        last_kept: Option<u64>,
    ) {
        for submitted in answered.iter().chain(pending) {
            let kept = last_kept.is_some_and(|last| submitted.operation <= last);
            let open = pending
                .iter()
                .any(|one| one.operation == submitted.operation);
            for append in submitted.unit.appends.iter().filter(|_| open) {
                self.note_outcome(&body(&append.batch), kept);
            }
        }
        let there: BTreeSet<Bytes> = self
            .model
            .partitions
            .values()
            .flat_map(|partition| partition.batches.iter().map(|batch| body(&batch.bytes)))
            .collect();
        for append in answered
            .iter()
            .chain(pending)
            .flat_map(|one| &one.unit.appends)
        {
            let body = body(&append.batch);
            if there.contains(&body) {
                self.refused.remove(&body);
                self.bodies.insert(body, (0, true));
            }
        }
        let partitions = &self.model.partitions;
        self.once
            .restarted(|id| partitions.get(&id).map(|partition| partition.end));
        self.fail_stop = FailStop::default();
        self.disk_failed = self.plan.sabotage.is_some();
        self.disk_may_be_full = false;
        let unanswered = pending.iter().flat_map(|submitted| &submitted.unit.appends);
        self.workload.restarted(unanswered, &self.model);
    }
}

/// The units whose outcome is open, as checkers need them.
pub(super) fn unsettled<'a>(submitted: impl Iterator<Item = &'a Submitted>) -> Vec<Unsettled> {
    let open = submitted.map(|submitted| Unsettled {
        operation: submitted.operation,
        unit: submitted.unit.clone(),
        tried_at: submitted.tried_at.unwrap_or(Timestamp::ZERO),
        disk_may_be_full: submitted.disk_may_be_full && !matches!(submitted.answer, Some(Ok(_))),
        refused: submitted.tried_at.is_none()
            || matches!(&submitted.answer, Some(Err(error)) if *error != CommitError::Poisoned),
    });
    open.collect()
}
