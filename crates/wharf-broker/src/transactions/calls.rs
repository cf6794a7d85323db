//! The calls of a transactional producer: initialise, add, end.

use wharf_log::{CommitError, PartitionId, TransactionOutcome};

use super::machine::{Refusal, Step, refusal};
use super::shell::Inner;
use super::{InitTransactions, Protocol, TransactionCounts, TransactionalProducer, keys};
use crate::commit::Outcome;
use crate::{Broker, Context, Error, ErrorKind, ProducerIdentity, TopicRef};

/// What a step came to.
enum Stepped {
    Done(ProducerIdentity),
    Submitted(ProducerIdentity, Outcome),
    NeedsProducerId,
}

/// Submits what a step decided, under the id's lock.
macro_rules! carry_out {
    ($inner:expr, $cell:expr, $transaction:expr, $step:expr) => {
        match $step {
            Ok(Step::Done(producer)) => Ok(Stepped::Done(producer)),
            Ok(Step::Change(change)) => {
                let outcome = $inner.submit($cell, $transaction, &change);
                Ok(Stepped::Submitted(change.next.producer, outcome))
            }
            Err(Refusal::NeedsProducerId) => Ok(Stepped::NeedsProducerId),
            Err(Refusal::Error(error)) => Err(error),
        }
    };
}

impl Stepped {
    /// Waits until the change is durable; `None` when a producer id is needed first.
    async fn wait(self) -> Result<Option<ProducerIdentity>, Error> {
        match self {
            Self::Done(producer) => Ok(Some(producer)),
            Self::NeedsProducerId => Ok(None),
            Self::Submitted(producer, outcome) => match outcome.wait().await {
                Ok(_) => Ok(Some(producer)),
                Err(error) => Err(not_stored(&error)),
            },
        }
    }
}

impl Broker {
    fn transactions(&self) -> &std::sync::Arc<Inner> {
        &self.shared.transactions.inner
    }

    /// Makes the caller the one producer of a transactional id: an earlier one is fenced, and its
    /// open transaction aborted. Durable when this returns.
    pub async fn init_transactions(
        &self,
        cx: &Context,
        request: InitTransactions,
    ) -> Result<ProducerIdentity, Error> {
        check_id(&request.id)?;
        let timeout = request.timeout;
        if timeout.is_zero() || timeout > self.shared.options.transaction_timeout_max {
            return Err(Error::new(
                ErrorKind::InvalidTransactionTimeout,
                "the transaction's time-out is not positive, or longer than transaction.max.timeout.ms",
            ));
        }
        let mut fresh = None;
        loop {
            let inner = self.transactions();
            let stepped = inner.with_new(&request.id, |cell, transaction| {
                let now = inner.runtime.steady();
                let machine = &mut transaction.machine;
                let step = machine.init(request.current, timeout, fresh, now);
                carry_out!(inner, cell, transaction, step)
            })??;
            match stepped.wait().await? {
                Some(producer) => return Ok(producer),
                None => fresh = Some(self.init_producer(cx, None).await?.id),
            }
        }
    }

    /// Adds partitions to the transaction, beginning it if none is open; durable when this
    /// returns. The caller has made sure that they exist.
    pub async fn add_partitions_to_transaction(
        &self,
        _cx: &Context,
        caller: &TransactionalProducer,
        partitions: &[(TopicRef, i32)],
    ) -> Result<(), Error> {
        check_id(&caller.id)?;
        let ids = self.partition_ids(partitions)?;
        self.add(caller, &ids, None).await
    }

    /// Whether the transaction may write to these partitions, one answer each.
    pub fn verify_partitions_in_transaction(
        &self,
        _cx: &Context,
        caller: &TransactionalProducer,
        partitions: &[(TopicRef, i32)],
    ) -> Result<Vec<bool>, Error> {
        check_id(&caller.id)?;
        let ids = self.partition_ids(partitions)?;
        let verified = self.transactions().with(&caller.id, |_, transaction| {
            transaction.machine.verify(caller.producer, &ids)
        });
        verified
            .unwrap_or_else(|| Err(ErrorKind::InvalidProducerIdMapping.into()))
            .map_err(told)
    }

    /// Adds a group, whose offsets the transaction is going to commit; durable when this returns.
    pub async fn add_offsets_to_transaction(
        &self,
        _cx: &Context,
        caller: &TransactionalProducer,
        group: &str,
    ) -> Result<(), Error> {
        check_id(&caller.id)?;
        if group.is_empty() || group.len() > crate::group::NAME_BYTES_MAX {
            let sentence = "the group's name is empty or too long";
            return Err(Error::new(ErrorKind::InvalidGroupId, sentence));
        }
        self.add(caller, &[], Some(group)).await
    }

    async fn add(
        &self,
        caller: &TransactionalProducer,
        partitions: &[PartitionId],
        group: Option<&str>,
    ) -> Result<(), Error> {
        let inner = self.transactions();
        let stepped = inner.with(&caller.id, |cell, transaction| {
            let now = inner.runtime.steady();
            let machine = &mut transaction.machine;
            let step = machine.add(caller.producer, partitions, group, now);
            carry_out!(inner, cell, transaction, step)
        });
        let stepped = stepped.unwrap_or_else(|| Err(unknown()))?;
        stepped.wait().await.map(|_producer| ())
    }

    /// Ends the transaction: everything it wrote counts, or nothing. Durable when this returns
    /// who the producer is from now on. Asking again after a lost answer gives the same answer.
    pub async fn end_transaction(
        &self,
        cx: &Context,
        caller: &TransactionalProducer,
        commit: bool,
        protocol: Protocol,
    ) -> Result<ProducerIdentity, Error> {
        check_id(&caller.id)?;
        let outcome = match commit {
            true => TransactionOutcome::Commit,
            false => TransactionOutcome::Abort,
        };
        let mut fresh = None;
        loop {
            let inner = self.transactions();
            let stepped = inner.with(&caller.id, |cell, transaction| {
                let now = inner.runtime.steady();
                let machine = &mut transaction.machine;
                let step = machine.end(caller.producer, outcome, protocol, fresh, now);
                carry_out!(inner, cell, transaction, step)
            });
            let stepped = stepped.unwrap_or_else(|| Err(unknown()))?;
            match stepped.wait().await? {
                Some(producer) => return Ok(producer),
                None => fresh = Some(self.init_producer(cx, None).await?.id),
            }
        }
    }

    /// How many transactions there are and were since the node started.
    pub fn transaction_counts(&self) -> TransactionCounts {
        self.transactions().counts()
    }

    fn partition_ids(&self, partitions: &[(TopicRef, i32)]) -> Result<Vec<PartitionId>, Error> {
        let lookup = self.shared.topics.lookup();
        let id = |(topic, index): &(TopicRef, i32)| Ok(lookup.partition(topic, *index)?.1);
        partitions.iter().map(id).collect()
    }
}

/// Refuses what no transactional id can be.
pub(super) fn check_id(id: &str) -> Result<(), Error> {
    match (1..=keys::ID_BYTES_MAX).contains(&id.len()) {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::InvalidRequest,
            "the transactional id is empty or too long",
        )),
    }
}

fn unknown() -> Error {
    refusal(ErrorKind::InvalidProducerIdMapping)
}

/// What a client is told. Only an initialisation or an end asks for a producer id.
pub(super) fn told(refused: Refusal) -> Error {
    match refused {
        Refusal::Error(error) => error,
        Refusal::NeedsProducerId => refusal(ErrorKind::CoordinatorNotAvailable),
    }
}

/// What it means to a client that a change was refused by the log: it may ask again, of course
/// after it has learnt who the coordinator is.
fn not_stored(error: &CommitError) -> Error {
    let kind = match error {
        CommitError::ConditionFailed(_) => ErrorKind::ConcurrentTransactions,
        CommitError::DiskFull => ErrorKind::CoordinatorNotAvailable,
        CommitError::Poisoned | CommitError::Closed => ErrorKind::NotCoordinator,
        _ => ErrorKind::UnknownServerError,
    };
    Error::new(kind, error.to_string())
}
