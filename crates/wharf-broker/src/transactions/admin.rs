//! What an administrator asks: which transactions there are, and the end of one that hangs.

use std::collections::{BTreeSet, HashMap};

use wharf_log::{EndTransaction, PartitionId, TransactionOutcome, Unit};
use wharf_message::Timestamp;

use super::calls::check_id;
use super::machine::refusal;
use super::shell::COORDINATOR_EPOCH;
use super::{ListedTransaction, TransactionDescription, TransactionState, WriteMarker};
use crate::commit::{Outcome, submit};
use crate::topics::may_change;
use crate::{Broker, Context, Error, ErrorKind, TopicRef};

impl Broker {
    /// Every transactional id, in order.
    pub fn list_transactions(&self, _cx: &Context) -> Vec<ListedTransaction> {
        let inner = &self.shared.transactions.inner;
        let now = inner.runtime.steady();
        let cells = inner.cells();
        let listed = cells.iter().filter_map(|cell| {
            let transaction = cell.open()?;
            let record = transaction.machine.record()?;
            let is_ongoing = record.state == TransactionState::Ongoing;
            Some(ListedTransaction {
                id: cell.id.clone(),
                producer: record.producer.id,
                state: record.state,
                age: is_ongoing.then(|| now.since(record.started_at)),
            })
        });
        listed.collect()
    }

    /// One transactional id; `TransactionalIdNotFound` when there is none.
    pub fn describe_transaction(
        &self,
        _cx: &Context,
        id: &str,
    ) -> Result<TransactionDescription, Error> {
        check_id(id)?;
        let inner = &self.shared.transactions.inner;
        let record = inner.with(id, |_, transaction| transaction.machine.record().cloned());
        let record = record.flatten();
        let record = record.ok_or_else(|| refusal(ErrorKind::TransactionalIdNotFound))?;
        let is_ongoing = record.state == TransactionState::Ongoing;
        let mut partitions = BTreeSet::new();
        if is_ongoing {
            partitions.extend(self.shared.reader.open_transactions(record.producer.id));
            partitions.extend(&record.partitions);
        }
        Ok(TransactionDescription {
            id: id.to_owned(),
            state: record.state,
            producer: record.producer,
            timeout: record.timeout,
            started_at: record.last_start().map(Timestamp::as_millis),
            partitions: self.names(&partitions),
        })
    }

    /// The names of partitions, in order; those of deleted topics have none.
    fn names(&self, wanted: &BTreeSet<PartitionId>) -> Vec<(wharf_message::TopicName, i32)> {
        if wanted.is_empty() {
            return Vec::new();
        }
        let mut names = Vec::new();
        for topic in self.topics() {
            for (index, partition) in topic.partitions.iter().enumerate() {
                if wanted.contains(partition) {
                    names.push((topic.name.clone(), i32::try_from(index).unwrap_or(i32::MAX)));
                }
            }
        }
        names
    }

    /// Ends transactions in single partitions (WriteTxnMarkers), as an administrator asks for one
    /// that hangs. One result for each partition, in order; durable when this returns.
    ///
    /// A transaction that its transactional id still knows to be open is never ended in part: it
    /// is aborted whole, as when it lives too long, and cannot be committed this way.
    pub async fn write_markers(&self, cx: &Context, marker: WriteMarker) -> Vec<Result<(), Error>> {
        let mut ids = HashMap::<PartitionId, Vec<usize>>::new();
        let mut results: Vec<Result<(), Error>> = Vec::with_capacity(marker.partitions.len());
        for (at, (topic, index)) in marker.partitions.iter().enumerate() {
            let found = self
                .shared
                .topics
                .partition(&TopicRef::Name(topic.clone()), *index);
            results.push(found.and_then(|(topic, id)| {
                may_change(cx, &topic.name)?;
                ids.entry(id).or_default().push(at);
                Ok(())
            }));
        }
        if ids.is_empty() {
            return results;
        }
        let ended = match self.expel_producer(&marker) {
            Ok(Some(aborted)) => stored(aborted).await,
            Ok(None) => {
                let marked = self.write_marker(&marker, ids.keys().copied().collect());
                stored(marked).await
            }
            Err(error) => Err(error),
        };
        for at in ids.into_values().flatten() {
            results[at] = ended.clone();
        }
        results
    }

    /// Aborts the whole transaction if its transactional id knows it to be open.
    fn expel_producer(&self, marker: &WriteMarker) -> Result<Option<Outcome>, Error> {
        let inner = &self.shared.transactions.inner;
        let producer = marker.producer.id;
        for cell in inner.cells() {
            let Some(mut transaction) = cell.open() else {
                continue;
            };
            let machine = &mut transaction.machine;
            let is_its = machine.record().is_some_and(|record| {
                record.producer.id == producer && record.state == TransactionState::Ongoing
            });
            if !is_its {
                continue;
            }
            if marker.commit {
                return Err(refusal(ErrorKind::InvalidTxnState));
            }
            let change = machine.expel(inner.runtime.steady());
            let change = change.ok_or_else(|| refusal(ErrorKind::ConcurrentTransactions))?;
            return Ok(Some(inner.submit(&cell, &mut transaction, &change)));
        }
        Ok(None)
    }

    fn write_marker(&self, marker: &WriteMarker, partitions: Vec<PartitionId>) -> Outcome {
        let end = EndTransaction {
            producer: marker.producer.id,
            epoch: marker.producer.epoch,
            coordinator_epoch: COORDINATOR_EPOCH,
            outcome: match marker.commit {
                true => TransactionOutcome::Commit,
                false => TransactionOutcome::Abort,
            },
            partitions: Some(partitions),
        };
        let unit = Unit {
            transactions: vec![end],
            ..Unit::default()
        };
        submit(&self.shared.appender, unit, |_outcome| ())
    }
}

async fn stored(outcome: Outcome) -> Result<(), Error> {
    outcome.wait().await?;
    Ok(())
}
