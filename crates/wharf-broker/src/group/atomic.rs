//! Outputs and offsets in one step: what a service in the same process does with what it read.
//!
//! Over the wire this takes a transaction (KIP-98); here it is one unit of the log, so it is in one
//! frame of the journal: there whole or not at all, for every reader and after every crash.

use std::sync::Arc;

use wharf_log::Unit;

use super::calls::{check_name, partition_exists};
use super::machine::refusal;
use super::shell::{Cell, Group};
use super::{CommitCall, CommitOffset, Member};
use crate::commit::{Outcome, submit};
use crate::produce::{check, produced};
use crate::{Broker, Context, Error, ErrorKind, Produce, Produced};

impl Broker {
    /// Appends batches and commits offsets of a member's group, all or nothing; durable when this
    /// returns. Submitted before the returned future is first polled; the batches are appended in
    /// their order. Those of transactions are refused.
    ///
    /// # Errors
    /// What [`Broker::produce`] and [`Broker::commit_offsets`] refuse refuses everything.
    pub fn produce_and_commit(
        &self,
        cx: &Context,
        records: Vec<Produce>,
        offsets: Option<(&Member, Vec<CommitOffset>)>,
    ) -> impl Future<Output = Result<Vec<Produced>, Error>> + Send + use<> {
        let submitted = self.submit_with_offsets(cx, records, offsets);
        async move {
            let committed = submitted?.wait().await?;
            Ok(committed.appends.iter().map(produced).collect())
        }
    }

    fn submit_with_offsets(
        &self,
        cx: &Context,
        records: Vec<Produce>,
        offsets: Option<(&Member, Vec<CommitOffset>)>,
    ) -> Result<Outcome, Error> {
        let clock = self.shared.runtime.now();
        let mut unit = Unit::default();
        for records in records {
            let checked = check(&self.shared, cx, records, clock)?;
            if checked.transactional.is_some() {
                let sentence = "a batch of a transaction is committed with that transaction";
                return Err(Error::new(ErrorKind::InvalidTxnState, sentence));
            }
            unit.appends.extend(checked.unit.appends);
        }
        let Some((member, offsets)) = offsets else {
            return Ok(submit(&self.shared.appender, unit, |_outcome| ()));
        };
        check_name(&member.group)?;
        let now = self.shared.runtime.steady();
        let mut commits = Vec::with_capacity(offsets.len());
        for offset in offsets {
            let topic = self.topic(&offset.topic)?;
            partition_exists(&topic, offset.partition)?;
            commits.push(self.new_commit(&topic, offset, now)?);
        }
        let groups = &self.shared.groups.inner;
        let step = |cell: &Arc<Cell>, group: &mut Group, now| {
            group.protocol.check_commit(member, CommitCall::New, now)?;
            Ok(groups.commit_with(cell, group, commits, unit))
        };
        if member.generation < 0 {
            groups.with_new(&member.group, step)?
        } else {
            let known = groups.with(&member.group, step);
            known.unwrap_or_else(|| Err(refusal(ErrorKind::GroupIdNotFound)))
        }
    }
}
