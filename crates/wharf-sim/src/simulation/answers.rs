//! Taking in the log's answers: each is checked, and adds to what must be there from then on.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use bytes::Bytes;
use wharf_log::{CommitError, Committed, Durability, PartitionId, Unit, batch};

use super::{Answer, Simulation, Submitted};
use crate::checkers::{Broken, Retained, body, broken};

impl Simulation {
    pub(super) fn take_answers(&mut self) -> Result<(), Broken> {
        let answers = std::mem::take(
            &mut *self
                .callbacks
                .answers
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for (operation, answer) in answers {
            let submitted = self
                .pending
                .iter_mut()
                .find(|one| one.operation == operation);
            match submitted.map(|submitted| submitted.answer.replace(answer)) {
                Some(None) => {}
                _ => {
                    return broken(
                        "units are answered by the rules",
                        "a unit was answered twice",
                    );
                }
            }
        }
        while let Some(Some(answer)) = self.pending.front().map(|front| front.answer.clone()) {
            let disk_failed = self.disk_failed || self.disk.is_off();
            self.fail_stop.answered(&answer, disk_failed)?;
            if matches!(answer, Err(CommitError::Poisoned)) {
                return Ok(());
            }
            let submitted = self.pending.pop_front().expect("the front was looked at");
            self.settle_answer(submitted, &answer)?;
        }
        Ok(())
    }

    fn settle_answer(&mut self, submitted: Submitted, answer: &Answer) -> Result<(), Broken> {
        let unit = &submitted.unit;
        let tried_at = submitted.tried_at.unwrap_or(self.now);
        let retained = Retained {
            settings: &self.settings.retentions,
            written: &self.written,
            now: self.latest,
        };
        let moved = retained.adopt_answer(&mut self.model, unit, answer)?;
        self.note_retention(&moved);
        self.answers.check(
            &mut self.model,
            unit,
            answer,
            self.disk_may_be_full,
            tried_at,
        )?;
        self.written.learn(&self.model);
        match answer {
            Ok(committed) => self.note_committed(unit, committed)?,
            Err(error) => {
                self.report.refused += 1;
                self.report.disk_full += u64::from(*error == CommitError::DiskFull);
                for append in &unit.appends {
                    self.workload.refused(append, &self.model);
                }
                for end in &unit.transactions {
                    self.workload.refused_end(end, &self.model);
                }
            }
        }
        for append in &unit.appends {
            self.note_outcome(&body(&append.batch), answer.is_ok());
        }
        let synced = answer.is_ok() && unit.durability == Durability::Synced;
        self.since.push(submitted);
        if synced && self.since.len() == 1 {
            let applied = self.durable.apply(&self.since[0].unit, tried_at);
            assert!(
                applied.is_ok(),
                "what one model accepts the other accepts: {applied:?}"
            );
        } else if synced {
            self.durable = self.model.clone();
        }
        if synced {
            self.since.clear();
        }
        Ok(())
    }

    fn note_committed(&mut self, unit: &Unit, committed: &Committed) -> Result<(), Broken> {
        self.report.committed += 1;
        self.report.markers += u64::try_from(committed.ended.len()).unwrap_or(0);
        let mut told = self
            .callbacks
            .appended
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (append, appended) in unit.appends.iter().zip(&committed.appends) {
            let header = batch::header(&append.batch).expect("the workload builds valid batches");
            self.once.answered(append.partition, &header, appended)?;
            self.report.duplicates += u64::from(appended.duplicate);
            if !appended.duplicate && !told.contains(&append.partition) {
                let id = append.partition;
                return broken(
                    "readers are told of new batches",
                    format!("{id:?} was not told"),
                );
            }
        }
        if let Some((id, _)) = committed.ended.iter().find(|(id, _)| !told.contains(id)) {
            return broken(
                "readers are told of new batches",
                format!("{id:?} was not told of a marker"),
            );
        }
        if self
            .pending
            .iter()
            .all(|submitted| submitted.answer.is_none())
        {
            told.clear();
        }
        Ok(())
    }

    /// A sending of a batch has an outcome.
    pub(super) fn note_outcome(&mut self, body: &Bytes, committed: bool) {
        let (open, ever) = self.bodies.entry(body.clone()).or_default();
        *open = open.saturating_sub(1);
        *ever |= committed;
        if *open == 0 && !*ever {
            self.refused.insert(body.clone());
        }
    }
    pub(super) fn adopt_retention(&mut self) -> Result<(), Broken> {
        let retained = Retained {
            settings: &self.settings.retentions,
            written: &self.written,
            now: self.latest,
        };
        let moved = retained.adopt(&mut self.model, &self.log.reader)?;
        self.note_retention(&moved);
        Ok(())
    }

    fn note_retention(&mut self, moved: &BTreeMap<PartitionId, i64>) {
        for (id, start) in moved {
            self.durable.adopt_start(*id, *start);
            self.report.retention_moves += 1;
        }
    }
}
