//! What transactions do to groups: offsets that count only when the transaction is committed.
//!
//! A transaction's end takes the locks of all its groups at once, in the order of their names, and
//! nobody takes a group's lock while holding another's otherwise: so there is no circle, and no
//! commit of a group comes between what the end was decided on and its place in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard};

use wharf_log::{CommitError, StateChange, Unit};

use super::calls::{check_name, partition_exists};
use super::machine::{refusal, store_failed};
use super::offsets::Commit;
use super::shell::{Cell, Group, Groups};
use super::{CommitCall, CommitOffset, Member};
use crate::commit::{Outcome, submit};
use crate::transactions::{Protocol, TransactionalProducer, Writer};
use crate::{Broker, Context, Error, ErrorKind};

impl Groups {
    /// The groups with offsets of open transactions, by producer id, and what ending those takes.
    pub(crate) fn with_pending_offsets(&self) -> BTreeMap<i64, BTreeMap<String, usize>> {
        let mut groups = BTreeMap::<i64, BTreeMap<String, usize>>::new();
        for cell in self.inner.cells() {
            let Some(group) = cell.open() else { continue };
            let pending = &group.offsets.pending;
            for producer in pending.producers() {
                let bytes = pending.end_bytes(producer, &cell.name, &[]);
                let of_producer = groups.entry(producer).or_default();
                of_producer.insert(cell.name.clone(), bytes);
            }
        }
        groups
    }

    /// Submits the end of a producer's transaction under the locks of its groups; `submit` gets
    /// what is to be written for their offsets.
    pub(crate) fn ending_offsets(
        &self,
        names: &BTreeSet<String>,
        producer: i64,
        is_commit: bool,
        submit: impl FnOnce(Vec<StateChange>) -> Outcome,
    ) -> Outcome {
        let cells = self.inner.find(names);
        let mut groups: Vec<(&Arc<Cell>, MutexGuard<'_, Group>)> = cells
            .iter()
            .filter_map(|cell| Some((cell, cell.open()?)))
            .collect();
        let mut changes = Vec::new();
        for (cell, group) in &mut groups {
            let pending = &mut group.offsets.pending;
            changes.extend(pending.ending(producer, &cell.name, is_commit));
        }
        submit(changes)
    }

    /// The end of a producer's transaction is durable, or was refused.
    pub(crate) fn ended_offsets(&self, names: &BTreeSet<String>, producer: i64, durable: bool) {
        for name in names {
            self.inner.with(name, |_, group, _now| {
                if durable {
                    group.offsets.ended(producer);
                    group.replan();
                } else {
                    group.offsets.pending.not_ended(producer);
                }
            });
        }
    }
}

impl Broker {
    /// Commits offsets as a part of a transaction: they count when it is committed, together with
    /// its records, and are gone when it is aborted. Durable when this returns. One result each, in
    /// order; the outer error concerns the producer, the member or the group.
    pub async fn commit_offsets_in_transaction(
        &self,
        _cx: &Context,
        caller: &TransactionalProducer,
        protocol: Protocol,
        member: &Member,
        offsets: Vec<CommitOffset>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        check_name(&member.group)?;
        let now = self.shared.runtime.steady();
        let mut commits = Vec::new();
        let mut results = Vec::new();
        for offset in offsets {
            let topic = self.topic(&offset.topic);
            results.push(topic.and_then(|topic| {
                partition_exists(&topic, offset.partition)?;
                commits.push(self.new_commit(&topic, offset, now)?);
                Ok(())
            }));
        }
        if commits.is_empty() {
            return Ok(results);
        }
        let transactions = &self.shared.transactions;
        let outcome = transactions.write(&caller.id, |writer| {
            self.submit_pending(writer, caller, protocol, member, commits)
        })?;
        let committed = outcome.wait().await;
        committed.map_err(|error| match error {
            // The transaction ended meanwhile.
            CommitError::ConditionFailed(_) => concurrent(),
            error => store_failed(error.into()),
        })?;
        Ok(results)
    }

    fn submit_pending(
        &self,
        writer: &mut Writer<'_>,
        caller: &TransactionalProducer,
        protocol: Protocol,
        member: &Member,
        commits: Vec<Commit>,
    ) -> Result<Outcome, Error> {
        let groups = &self.shared.groups.inner;
        let producer = caller.producer.id;
        let step = |cell: &Arc<Cell>, group: &mut Group, now| {
            let call = CommitCall::Transactional;
            group.protocol.check_commit(member, call, now)?;
            let pending = &mut group.offsets.pending;
            let bytes = pending.end_bytes(producer, &cell.name, &commits);
            let part = writer.commit_offsets(caller.producer, protocol, &cell.name, bytes)?;
            let state = pending.add(producer, &cell.name, &commits);
            let mut unit = Unit {
                state,
                ..Unit::default()
            };
            part.join(&mut unit);
            let (groups, name) = (Arc::clone(groups), cell.name.clone());
            Ok(submit(&self.shared.appender, unit, move |outcome| {
                part.settle(outcome);
                if *outcome != Err(CommitError::Closed) {
                    let is_durable = outcome.is_ok();
                    groups.with(&name, |_, group, _now| {
                        let pending = &mut group.offsets.pending;
                        pending.added(producer, &commits, is_durable);
                    });
                }
            }))
        };
        if member.generation < 0 {
            groups.with_new(&member.group, step)?
        } else {
            let known = groups.with(&member.group, step);
            known.unwrap_or_else(|| Err(refusal(ErrorKind::IllegalGeneration)))
        }
    }
}

fn concurrent() -> Error {
    let sentence = "the transaction changed meanwhile; try again";
    Error::new(ErrorKind::ConcurrentTransactions, sentence)
}
