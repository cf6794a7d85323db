//! The pure machine of one transactional id: who may act for it, and what a request changes.
//!
//! Kafka's `TransactionCoordinator`: KIP-98, KIP-360, KIP-588, KIP-890. A step decides; the shell
//! writes what was decided and reports by [`Machine::changed`] and [`Machine::began`] whether it is
//! durable. Invariants: one change is under way at a time; what was decided on is what the log
//! holds once the change is written; an identity that was replaced never acts again, except to
//! learn the answer it missed. Nothing here reads a clock: ages are sums of what passed between
//! looks, so a clock that was set back between two runs never makes a transaction live for ever.

use std::collections::BTreeSet;
use std::time::Duration;

use wharf_log::{PartitionId, TransactionOutcome};
use wharf_message::Timestamp;

use super::Protocol;
use super::record::{Record, TransactionState};
use super::watch::{LOOK_EVERY, LOOK_EVERY_IDLE};
use crate::{Error, ErrorKind, ProducerIdentity};

/// The last epoch that is given to a producer; the one after it only fences.
pub(super) const EPOCH_LAST: i16 = i16::MAX - 1;

/// What a step decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing is to be written: this is the answer.
    Done(ProducerIdentity),
    /// This is to be written; the answer is the producer of its record.
    Change(Change),
}

/// A change under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The record to be.
    pub(super) next: Record,
    /// The transaction to end with it.
    pub(super) end: Option<End>,
}

/// The end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// The producer that began it.
    pub(super) producer: i64,
    /// The epoch of the markers: fences what is older.
    pub(super) epoch: i16,
    pub(super) outcome: TransactionOutcome,
}

/// Why a step decided nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The client is told.
    Error(Error),
    /// The step needs a producer id that was never used: ask again with one.
    NeedsProducerId,
}

impl From<ErrorKind> for Refusal {
    fn from(kind: ErrorKind) -> Self {
        Self::Error(refusal(kind))
    }
}

/// What time brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing before this has passed.
    In(Duration),
    /// The open transaction has lived too long.
    Abort(Change),
    /// The id was not used for so long that it is forgotten.
    Forget,
    /// A change is under way: look again when it is done.
    Later,
}

/// Leave to write as a part of the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leave {
    /// The record as it is for whoever is let in: its guard is the condition.
    pub(super) record: Record,
    /// The transaction is not known to be durable: the unit must write the record, too, and its
    /// outcome must be reported by [`Machine::began`].
    pub(super) begins: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// What the log holds; `None` before the first initialisation is durable.
    durable: Option<Record>,
    changing: Option<Change>,
    /// The record of a transaction whose first units are on their way.
    begun: Option<Record>,
    /// How many units that begin the transaction are on their way.
    beginning: usize,
    /// How long the present state has lasted.
    age: Duration,
    seen: Timestamp,
}

impl Machine {
    /// An id that is not stored.
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            durable: None,
            changing: None,
            begun: None,
            beginning: 0,
            age: Duration::ZERO,
            seen: now,
        }
    }

    /// An id as found in the log.
    pub(super) fn recover(record: Record, now: Timestamp) -> Self {
        let since = match record.state {
            TransactionState::Ongoing => record.started_at,
            _ => record.updated_at,
        };
        Self {
            durable: Some(record),
            age: now.since(since),
            ..Self::new(now)
        }
    }

    /// The record, counting a transaction whose first units are on their way.
    pub(super) fn record(&self) -> Option<&Record> {
        self.begun.as_ref().or(self.durable.as_ref())
    }

    /// Whether the log holds nothing of it and nothing is on its way.
    pub(super) fn is_unknown(&self) -> bool {
        self.durable.is_none() && self.changing.is_none()
    }

    /// What the log holds.
    pub(super) fn durable(&self) -> Option<&Record> {
        self.durable.as_ref()
    }

    /// Whether a transaction is open, or about to be.
    pub(super) fn is_ongoing(&self) -> bool {
        self.record()
            .is_some_and(|record| record.state == TransactionState::Ongoing)
    }

    /// The record, if `caller` may act for the id.
    fn checked(&self, caller: ProducerIdentity) -> Result<&Record, Refusal> {
        let record = self.record().ok_or(ErrorKind::InvalidProducerIdMapping)?;
        if record.producer.id != caller.id {
            return Err(ErrorKind::InvalidProducerIdMapping.into());
        }
        if record.producer.epoch != caller.epoch || caller.epoch > EPOCH_LAST {
            return Err(ErrorKind::ProducerFenced.into());
        }
        Ok(record)
    }

    fn check_free(&self) -> Result<(), Refusal> {
        match self.changing {
            Some(_) => Err(ErrorKind::ConcurrentTransactions.into()),
            None => Ok(()),
        }
    }

    /// InitProducerId: a new instance takes over, or `expected` goes on after an error (KIP-360).
    /// An open transaction is aborted with it.
    pub(super) fn init(
        &mut self,
        expected: Option<ProducerIdentity>,
        timeout: Duration,
        fresh: Option<i64>,
        now: Timestamp,
    ) -> Result<Step, Refusal> {
        let Some(record) = self.record() else {
            self.check_free()?;
            let id = fresh.ok_or(Refusal::NeedsProducerId)?;
            let first = Record {
                producer: ProducerIdentity { id, epoch: 0 },
                last: None,
                state: TransactionState::Empty,
                timeout,
                number: 0,
                started_at: now,
                updated_at: now,
                partitions: BTreeSet::new(),
                groups: BTreeSet::new(),
            };
            return Ok(self.change(first, None));
        };
        if let Some(expected) = expected
            && expected != record.producer
        {
            let missed_the_answer = record.last == Some(expected) && !self.is_ongoing();
            return match missed_the_answer {
                true if self.changing.is_none() => Ok(Step::Done(record.producer)),
                true => Err(ErrorKind::ConcurrentTransactions.into()),
                false => Err(ErrorKind::ProducerFenced.into()),
            };
        }
        self.check_free()?;
        let (marker, producer) = bumped(record.producer, fresh)?;
        let mut next = ended(record, TransactionState::Empty, now);
        next.last = expected.map(|_| record.producer);
        next.producer = producer;
        next.timeout = timeout;
        let end = abort(record, marker);
        Ok(self.change(next, self.is_ongoing().then_some(end)))
    }

    /// AddPartitionsToTxn and AddOffsetsToTxn: what the transaction may write to.
    pub(super) fn add(
        &mut self,
        caller: ProducerIdentity,
        partitions: &[PartitionId],
        group: Option<&str>,
        now: Timestamp,
    ) -> Result<Step, Refusal> {
        let record = self.checked(caller)?;
        let is_ongoing = record.state == TransactionState::Ongoing;
        let knows_all = partitions.iter().all(|one| record.partitions.contains(one))
            && group.is_none_or(|group| record.groups.contains(group));
        if is_ongoing && self.begun.is_none() && knows_all && !self.is_ending() {
            return Ok(Step::Done(record.producer));
        }
        self.check_free()?;
        let mut next = match is_ongoing {
            true => record.clone(),
            false => opened(record, now),
        };
        next.updated_at = now;
        next.partitions.extend(partitions);
        next.groups.extend(group.map(str::to_owned));
        if !is_ongoing {
            self.restart_age(now);
        }
        Ok(self.change(next, None))
    }

    /// Whether the transaction may write to these partitions, one answer each.
    pub(super) fn verify(
        &self,
        caller: ProducerIdentity,
        partitions: &[PartitionId],
    ) -> Result<Vec<bool>, Refusal> {
        let record = self.checked(caller)?;
        let is_open = record.state == TransactionState::Ongoing && !self.is_ending();
        let may = |partition| is_open && record.partitions.contains(partition);
        Ok(partitions.iter().map(may).collect())
    }

    /// Lets a unit be a part of the transaction, beginning it where the protocol allows that.
    pub(super) fn admit(
        &mut self,
        caller: ProducerIdentity,
        protocol: Protocol,
        now: Timestamp,
    ) -> Result<Leave, Refusal> {
        let record = self.checked(caller)?;
        if self.is_ending() {
            return Err(ErrorKind::ConcurrentTransactions.into());
        }
        if record.state == TransactionState::Ongoing {
            let record = record.clone();
            let begins = self.begun.is_some();
            self.beginning += usize::from(begins);
            return Ok(Leave { record, begins });
        }
        if protocol == Protocol::Explicit {
            return Err(ErrorKind::InvalidTxnState.into());
        }
        self.check_free()?;
        let record = opened(record, now);
        self.begun = Some(record.clone());
        self.beginning = 1;
        self.restart_age(now);
        Ok(Leave {
            record,
            begins: true,
        })
    }

    /// EndTxn. The answer is who the producer is from now on.
    pub(super) fn end(
        &mut self,
        caller: ProducerIdentity,
        outcome: TransactionOutcome,
        protocol: Protocol,
        fresh: Option<i64>,
        now: Timestamp,
    ) -> Result<Step, Refusal> {
        let record = self.record().ok_or(ErrorKind::InvalidProducerIdMapping)?;
        let complete = complete(outcome);
        let is_complete = matches!(
            record.state,
            TransactionState::CompleteCommit | TransactionState::CompleteAbort
        );
        if protocol == Protocol::Implicit && is_complete && record.last == Some(caller) {
            self.check_free()?;
            return match record.state == complete {
                true => Ok(Step::Done(record.producer)),
                false => Err(ErrorKind::InvalidTxnState.into()),
            };
        }
        let record = self.checked(caller)?;
        self.check_free()?;
        let is_ongoing = record.state == TransactionState::Ongoing;
        if !is_ongoing && protocol == Protocol::Explicit {
            return match record.state == complete {
                true => Ok(Step::Done(record.producer)),
                false => Err(ErrorKind::InvalidTxnState.into()),
            };
        }
        if !is_ongoing && outcome == TransactionOutcome::Commit {
            return Err(ErrorKind::InvalidTxnState.into());
        }
        let mut next = ended(record, complete, now);
        if !is_ongoing {
            // What ends began now, as Kafka has it: nothing tells when the client thinks it did.
            next.started_at = now;
        }
        let mut marker = record.producer.epoch;
        if protocol == Protocol::Implicit {
            (marker, next.producer) = bumped(record.producer, fresh)?;
            next.last = Some(record.producer);
        }
        let end = End {
            outcome,
            ..abort(record, marker)
        };
        Ok(self.change(next, Some(end)))
    }

    /// Aborts the open transaction over its producer's head, and fences what it still sends for it; `None` when there is
    /// none, or it is being ended.
    pub(super) fn expel(&mut self, now: Timestamp) -> Option<Change> {
        if !self.is_ongoing() || self.changing.is_some() {
            return None;
        }
        let record = self.record()?;
        let marker = record.producer.epoch.saturating_add(1);
        let mut next = ended(record, TransactionState::CompleteAbort, now);
        // As long as nobody else took over, the producer may learn of it and go on.
        next.last = Some(record.producer);
        next.producer.epoch = marker;
        let end = abort(record, marker);
        match self.change(next, Some(end)) {
            Step::Change(change) => Some(change),
            Step::Done(_) => None,
        }
    }

    /// Within which time to look at an open transaction at the latest.
    pub(super) fn due_in(&self) -> Duration {
        match self.record() {
            Some(record) if self.is_ongoing() => record.timeout.min(LOOK_EVERY),
            _ => LOOK_EVERY_IDLE,
        }
    }

    /// Looks at what time brought; ids unused for `expiry` are forgotten.
    pub(super) fn look(&mut self, expiry: Duration, now: Timestamp) -> Due {
        self.age += now.since(self.seen);
        self.seen = now;
        let Some(record) = self.record() else {
            return Due::Later;
        };
        let is_ongoing = record.state == TransactionState::Ongoing;
        let limit = if is_ongoing { record.timeout } else { expiry };
        if self.age < limit {
            return Due::In(limit - self.age);
        }
        if self.changing.is_some() {
            return Due::Later;
        }
        if !is_ongoing {
            return Due::Forget;
        }
        self.expel(now).map_or(Due::Later, Due::Abort)
    }

    /// The change under way is durable, or was refused.
    pub(super) fn changed(&mut self, durable: bool, now: Timestamp) {
        let Some(change) = self.changing.take() else {
            return;
        };
        if !durable {
            return;
        }
        if change.next.state != TransactionState::Ongoing {
            self.restart_age(now);
        }
        self.durable = Some(change.next);
        self.begun = None;
        self.beginning = 0;
    }

    /// A unit that begins the transaction is durable, or was refused. `record` is the one it was
    /// given leave with.
    pub(super) fn began(&mut self, record: &Record, durable: bool) {
        if self.begun.as_ref().map(Record::guard) != Some(record.guard()) {
            return;
        }
        self.beginning = self.beginning.saturating_sub(1);
        if durable {
            self.durable = self.begun.take();
        } else if self.beginning == 0 && self.changing.is_none() {
            // Nothing of it came into the log.
            self.begun = None;
        }
    }

    fn is_ending(&self) -> bool {
        self.changing
            .as_ref()
            .is_some_and(|change| change.next.state != TransactionState::Ongoing)
    }

    fn change(&mut self, next: Record, end: Option<End>) -> Step {
        let change = Change { next, end };
        self.changing = Some(change.clone());
        Step::Change(change)
    }

    fn restart_age(&mut self, now: Timestamp) {
        self.age = Duration::ZERO;
        self.seen = now;
    }
}

/// The epoch of the markers that fence `producer`, and who it is afterwards.
fn bumped(
    producer: ProducerIdentity,
    fresh: Option<i64>,
) -> Result<(i16, ProducerIdentity), Refusal> {
    let epoch = producer.epoch.saturating_add(1);
    if epoch <= EPOCH_LAST {
        let id = producer.id;
        return Ok((epoch, ProducerIdentity { id, epoch }));
    }
    let id = fresh.ok_or(Refusal::NeedsProducerId)?;
    Ok((epoch, ProducerIdentity { id, epoch: 0 }))
}

fn opened(record: &Record, now: Timestamp) -> Record {
    Record {
        state: TransactionState::Ongoing,
        last: None,
        started_at: now,
        updated_at: now,
        partitions: BTreeSet::new(),
        groups: BTreeSet::new(),
        ..record.clone()
    }
}

fn ended(record: &Record, state: TransactionState, now: Timestamp) -> Record {
    Record {
        state,
        number: record.number + 1,
        updated_at: now,
        partitions: BTreeSet::new(),
        groups: BTreeSet::new(),
        ..record.clone()
    }
}

fn abort(record: &Record, epoch: i16) -> End {
    End {
        producer: record.producer.id,
        epoch,
        outcome: TransactionOutcome::Abort,
    }
}

fn complete(outcome: TransactionOutcome) -> TransactionState {
    match outcome {
        TransactionOutcome::Commit => TransactionState::CompleteCommit,
        TransactionOutcome::Abort => TransactionState::CompleteAbort,
    }
}

/// A refusal in the words of this part.
pub(super) fn refusal(kind: ErrorKind) -> Error {
    let message = match kind {
        ErrorKind::ConcurrentTransactions => "the transaction is being changed; try again",
        ErrorKind::InvalidProducerIdMapping => {
            "the producer id is not the transactional id's: initialise the producer again"
        }
        ErrorKind::InvalidTxnState => "the transaction is in no state for the request",
        ErrorKind::ProducerFenced => {
            "a newer instance took over the transactional id, or the transaction timed out"
        }
        ErrorKind::TransactionalIdNotFound => "there is no such transactional id",
        _ => "the request was refused",
    };
    Error::new(kind, message)
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
