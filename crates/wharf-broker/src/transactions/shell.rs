//! The shell around the machines: one lock per transactional id, the units, what follows from
//! their outcome.
//!
//! Invariants: no lock is held across an await; the lock order is transactional id, then groups by
//! name, then tables; a unit is submitted under its id's lock, so that the log's order is the
//! machine's; what it changes becomes visible in the outcome callback, after the sync, also when
//! the caller has gone away. A closed log answers at once, in the submitting thread, which holds
//! the lock already: nothing is applied then, the node is stopping.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use wharf_log::{
    Appender, CommitError, Committed, Condition, EndTransaction, PartitionId, Reader, StateChange,
    TransactionOutcome, Unit,
};
use wharf_message::Timestamp;

use super::calls::told;
use super::machine::{Change, Due, Leave, Machine, refusal};
use super::record::Record;
use super::watch::{LOOK_EVERY, LOOK_EVERY_IDLE, RETRY_AFTER, Watch};
use super::{Protocol, TransactionCounts, keys};
use crate::commit::{Outcome, submit};
use crate::group::Groups;
use crate::sync::lock;
use crate::{Error, ErrorKind, Options, ProducerIdentity, Runtime};

/// The coordinator's epoch in markers: there is one coordinator, this node, for ever.
pub(super) const COORDINATOR_EPOCH: i32 = 0;

/// What the record of an ended transaction and its guard take in a unit at most.
const RECORD_BYTES_MAX: usize = 8 << 10;

/// All transactional ids. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Transactions {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) options: Options,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) appender: Appender,
    pub(super) groups: Groups,
    table: Mutex<BTreeMap<Arc<str>, Arc<Cell>>>,
    pub(super) watch: Watch,
    committed: AtomicU64,
    aborted: AtomicU64,
    timed_out: AtomicU64,
}

/// A transactional id's place in the table.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) id: Arc<str>,
    transaction: Mutex<Transaction>,
}

/// A transactional id under its lock.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) machine: Machine,
    /// The groups with offsets of the open transaction, on their way or durable, and what ending
    /// those takes in a unit.
    groups: BTreeMap<String, usize>,
    /// Not in the table any more.
    is_gone: bool,
}

/// What makes a unit a part of a transaction: add it to the unit, and report the outcome.
#[derive(Debug)]
pub(crate) struct Participation {
    cell: Arc<Cell>,
    leave: Leave,
}

/// A transactional id under its lock, to make units a part of its transaction.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    cell: &'a Arc<Cell>,
    transaction: &'a mut Transaction,
    now: Timestamp,
    /// What of a unit is left to the offsets of a transaction that it ends.
    end_bytes_max: usize,
}

impl Transaction {
    fn new(machine: Machine) -> Mutex<Self> {
        Mutex::new(Self {
            machine,
            groups: BTreeMap::new(),
            is_gone: false,
        })
    }
}

impl Writer<'_> {
    /// Lets a unit append to a partition.
    pub(crate) fn append(
        &mut self,
        producer: ProducerIdentity,
        protocol: Protocol,
        partition: PartitionId,
    ) -> Result<Participation, Error> {
        let was_added = |record: &Record| record.partitions.contains(&partition);
        self.admit(producer, protocol, was_added)
    }

    /// Lets a unit commit offsets of a group; `end_bytes` is what all of the group's then take in
    /// the unit that ends the transaction. A transaction that no unit could end is never let in.
    pub(crate) fn commit_offsets(
        &mut self,
        producer: ProducerIdentity,
        protocol: Protocol,
        group: &str,
        end_bytes: usize,
    ) -> Result<Participation, Error> {
        let groups = &self.transaction.groups;
        let others = groups.iter().filter(|(name, _)| *name != group);
        let others: usize = others.map(|(_, bytes)| bytes).sum();
        if others + end_bytes > self.end_bytes_max {
            return Err(Error::new(
                ErrorKind::InvalidCommitOffsetSize,
                "the transaction has more offsets than could be committed at once",
            ));
        }
        let was_added = |record: &Record| record.groups.contains(group);
        let participation = self.admit(producer, protocol, was_added)?;
        self.transaction.groups.insert(group.to_owned(), end_bytes);
        Ok(participation)
    }

    /// The way of records and offsets knows no fencing of its own: there an old epoch is just
    /// that, as in Kafka.
    fn admit(
        &mut self,
        producer: ProducerIdentity,
        protocol: Protocol,
        was_added: impl FnOnce(&Record) -> bool,
    ) -> Result<Participation, Error> {
        let machine = &mut self.transaction.machine;
        if protocol == Protocol::Explicit && !machine.record().is_some_and(was_added) {
            machine
                .verify(producer, &[])
                .map_err(told)
                .map_err(as_old_epoch)?;
            return Err(refusal(ErrorKind::InvalidTxnState));
        }
        let leave = machine.admit(producer, protocol, self.now);
        let leave = leave.map_err(told).map_err(as_old_epoch)?;
        let cell = Arc::clone(self.cell);
        Ok(Participation { cell, leave })
    }
}

fn as_old_epoch(error: Error) -> Error {
    match error.kind {
        ErrorKind::ProducerFenced => Error::new(ErrorKind::InvalidProducerEpoch, error.message),
        _ => error,
    }
}

impl Participation {
    /// Makes `unit` a part of the transaction.
    pub(crate) fn join(&self, unit: &mut Unit) {
        let record = &self.leave.record;
        unit.conditions.push(guarded(Some(record)));
        if self.leave.begins {
            unit.state.push(put(&self.cell.id, record));
        }
    }

    /// The unit's outcome; call it in the committer's thread.
    pub(crate) fn settle(&self, outcome: &Result<Committed, CommitError>) {
        if self.leave.begins && *outcome != Err(CommitError::Closed) {
            let mut transaction = lock(&self.cell.transaction);
            let is_durable = outcome.is_ok();
            transaction.machine.began(&self.leave.record, is_durable);
        }
    }
}

impl Transactions {
    /// Reads the transactional ids from the log's state. The groups know the offsets of open
    /// transactions already.
    pub(crate) fn recover(
        options: &Options,
        appender: &Appender,
        reader: &Reader,
        runtime: Arc<dyn Runtime>,
        groups: &Groups,
    ) -> Result<Self, Error> {
        let now = runtime.steady();
        let with_offsets = groups.with_pending_offsets();
        let mut table = BTreeMap::new();
        for (key, value) in reader.state(keys::IDS) {
            let id: Arc<str> = keys::parse_id(&key).ok_or_else(|| unreadable(&key))?.into();
            let record = Record::decode(&value)?;
            let producer = record.producer.id;
            let transaction = Transaction::new(Machine::recover(record, now));
            if let Some(groups) = with_offsets.get(&producer) {
                lock(&transaction).groups = groups.clone();
            }
            let cell = Cell {
                id: Arc::clone(&id),
                transaction,
            };
            table.insert(id, Arc::new(cell));
        }
        let inner = Arc::new(Inner {
            options: options.clone(),
            runtime,
            appender: appender.clone(),
            groups: groups.clone(),
            table: Mutex::new(table),
            watch: Watch::default(),
            committed: AtomicU64::new(0),
            aborted: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
        });
        inner.watch(Duration::ZERO, now);
        Ok(Self { inner })
    }

    /// Writes as a part of an id's transaction; what `write` submits is in the log's order.
    pub(crate) fn write<R>(
        &self,
        id: &str,
        write: impl FnOnce(&mut Writer<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let now = self.inner.runtime.steady();
        let unit_bytes_max = self.inner.appender.unit_bytes_max();
        let end_bytes_max = (unit_bytes_max / 2).saturating_sub(RECORD_BYTES_MAX);
        let written = self.inner.with(id, |cell, transaction| {
            let mut writer = Writer {
                cell,
                transaction,
                now,
                end_bytes_max,
            };
            let written = write(&mut writer);
            let wait = transaction.machine.due_in();
            (written, wait)
        });
        let Some((written, wait)) = written else {
            return Err(refusal(ErrorKind::InvalidProducerIdMapping));
        };
        self.inner.watch(wait, now);
        written
    }
}

impl Inner {
    /// Every id's place, in order.
    pub(super) fn cells(&self) -> Vec<Arc<Cell>> {
        lock(&self.table).values().cloned().collect()
    }

    /// The id's place and its lock's content; `None` when it is not known.
    pub(super) fn with<R>(
        &self,
        id: &str,
        step: impl FnOnce(&Arc<Cell>, &mut Transaction) -> R,
    ) -> Option<R> {
        loop {
            let cell = lock(&self.table).get(id).cloned()?;
            if let Some(mut transaction) = cell.open() {
                return Some(step(&cell, &mut transaction));
            }
        }
    }

    /// Like [`Self::with`], with a new place when there is none.
    pub(super) fn with_new<R>(
        &self,
        id: &str,
        step: impl FnOnce(&Arc<Cell>, &mut Transaction) -> R,
    ) -> Result<R, Error> {
        loop {
            let cell = self.find_or_create(id)?;
            if let Some(mut transaction) = cell.open() {
                let result = step(&cell, &mut transaction);
                if transaction.machine.is_unknown() {
                    self.forget(&cell, &mut transaction);
                }
                return Ok(result);
            }
        }
    }

    fn find_or_create(&self, id: &str) -> Result<Arc<Cell>, Error> {
        let mut table = lock(&self.table);
        if let Some(cell) = table.get(id) {
            return Ok(Arc::clone(cell));
        }
        if table.len() >= self.options.transactional_ids_max {
            let message = format!(
                "the node has as many transactional ids as it may have ({})",
                table.len()
            );
            return Err(Error::new(ErrorKind::PolicyViolation, message));
        }
        let id: Arc<str> = id.into();
        let cell = Arc::new(Cell {
            id: Arc::clone(&id),
            transaction: Transaction::new(Machine::new(self.runtime.steady())),
        });
        table.insert(id, Arc::clone(&cell));
        Ok(cell)
    }

    fn forget(&self, cell: &Cell, transaction: &mut Transaction) {
        transaction.is_gone = true;
        lock(&self.table).remove(&cell.id);
    }

    /// Writes a change: the record, its guard, and with the transaction's end the markers and what
    /// becomes of its offsets.
    pub(super) fn submit(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        transaction: &mut Transaction,
        change: &Change,
    ) -> Outcome {
        let before = transaction.machine.durable();
        // Of a transaction whose first units are on their way the guard is the one in the log.
        let mut unit = Unit {
            conditions: vec![match before {
                Some(_) => guarded(before),
                None => absent(&cell.id),
            }],
            state: vec![put(&cell.id, &change.next)],
            ..Unit::default()
        };
        let replaced = before.map(|record| record.producer.id);
        unit.state.extend(guard_changes(replaced, &change.next));
        let Some(end) = change.end else {
            return self.submit_unit(cell, unit, BTreeSet::new(), change);
        };
        unit.transactions.push(EndTransaction {
            producer: end.producer,
            epoch: end.epoch,
            coordinator_epoch: COORDINATOR_EPOCH,
            outcome: end.outcome,
            partitions: None,
        });
        let names: BTreeSet<String> = transaction.groups.keys().cloned().collect();
        let is_commit = end.outcome == TransactionOutcome::Commit;
        // Under the locks of all groups concerned, so that no commit of theirs comes between.
        self.groups
            .ending_offsets(&names, end.producer, is_commit, |changes| {
                unit.state.extend(changes);
                self.submit_unit(cell, unit, names.clone(), change)
            })
    }

    fn submit_unit(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        unit: Unit,
        groups: BTreeSet<String>,
        change: &Change,
    ) -> Outcome {
        let (inner, cell) = (Arc::clone(self), Arc::clone(cell));
        let end = change.end;
        submit(&self.appender, unit, move |outcome| {
            if *outcome == Err(CommitError::Closed) {
                return;
            }
            let mut transaction = lock(&cell.transaction);
            let now = inner.runtime.steady();
            transaction.machine.changed(outcome.is_ok(), now);
            if let Some(end) = end {
                let producer = end.producer;
                inner
                    .groups
                    .ended_offsets(&groups, producer, outcome.is_ok());
            }
            if outcome.is_err() {
                if transaction.machine.is_unknown() {
                    inner.forget(&cell, &mut transaction);
                }
                return;
            }
            if let Some(end) = end {
                transaction.groups.clear();
                let is_commit = end.outcome == TransactionOutcome::Commit;
                let counter = if is_commit {
                    &inner.committed
                } else {
                    &inner.aborted
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
            let due = transaction.machine.due_in();
            drop(transaction);
            inner.watch(due, now);
        })
    }

    /// Looks at every id; the time until one of them needs the next look, if there is any id.
    pub(super) fn look(self: &Arc<Self>, now: Timestamp) -> Option<Duration> {
        let mut next = None;
        for cell in self.cells() {
            let Some(mut transaction) = cell.open() else {
                continue;
            };
            let wait = self.look_at(&cell, &mut transaction, now);
            next = Some(next.map_or(wait, |next: Duration| next.min(wait)));
        }
        next
    }

    fn look_at(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        transaction: &mut Transaction,
        now: Timestamp,
    ) -> Duration {
        let expiry = self.options.transactional_id_expiration;
        match transaction.machine.look(expiry, now) {
            Due::In(wait) if transaction.machine.is_ongoing() => return wait.min(LOOK_EVERY),
            Due::In(wait) => return wait.min(LOOK_EVERY_IDLE),
            Due::Later => {}
            Due::Abort(change) => {
                self.timed_out.fetch_add(1, Ordering::Relaxed);
                // Nobody waits: should it fail, the next look tries again.
                drop(self.submit(cell, transaction, &change));
            }
            Due::Forget => self.submit_removal(cell, transaction),
        }
        RETRY_AFTER
    }

    /// Forgets an id that was not used for long. The lock stays held until the unit is queued; a
    /// request that comes before its outcome changes the guard, which refuses the removal.
    fn submit_removal(self: &Arc<Self>, cell: &Arc<Cell>, transaction: &Transaction) {
        let Some(record) = transaction.machine.durable() else {
            return;
        };
        let remove = |key| StateChange { key, value: None };
        let unit = Unit {
            conditions: vec![
                guarded(Some(record)),
                Condition::StateEquals {
                    key: keys::id(&cell.id),
                    value: Some(record.encode()),
                },
            ],
            state: vec![
                remove(keys::id(&cell.id)),
                remove(keys::guard(record.producer.id)),
            ],
            ..Unit::default()
        };
        let (inner, cell) = (Arc::clone(self), Arc::clone(cell));
        drop(submit(&self.appender, unit, move |outcome| {
            if outcome.is_ok() {
                let mut transaction = lock(&cell.transaction);
                inner.forget(&cell, &mut transaction);
            }
        }));
    }

    /// How many there are and were.
    pub(super) fn counts(&self) -> TransactionCounts {
        let cells = self.cells();
        let is_ongoing = |cell: &&Arc<Cell>| lock(&cell.transaction).machine.is_ongoing();
        TransactionCounts {
            ids: cells.len(),
            ongoing: cells.iter().filter(is_ongoing).count(),
            committed: self.committed.load(Ordering::Relaxed),
            aborted: self.aborted.load(Ordering::Relaxed),
            timed_out: self.timed_out.load(Ordering::Relaxed),
        }
    }
}

impl Cell {
    /// The id under its lock; `None` when it has left the table meanwhile.
    pub(super) fn open(&self) -> Option<MutexGuard<'_, Transaction>> {
        let transaction = lock(&self.transaction);
        (!transaction.is_gone).then_some(transaction)
    }
}

/// The condition that a record's guard is what the log holds.
fn guarded(record: Option<&Record>) -> Condition {
    let producer = record.map_or(-1, |record| record.producer.id);
    Condition::StateEquals {
        key: keys::guard(producer),
        value: record.map(Record::guard),
    }
}

/// The condition that an id is not stored.
fn absent(id: &str) -> Condition {
    Condition::StateEquals {
        key: keys::id(id),
        value: None,
    }
}

fn put(id: &str, record: &Record) -> StateChange {
    StateChange {
        key: keys::id(id),
        value: Some(record.encode()),
    }
}

/// The guard of the record to be; that of a producer id given up goes.
fn guard_changes(replaced: Option<i64>, next: &Record) -> Vec<StateChange> {
    let producer = next.producer.id;
    let gone = replaced.filter(|replaced| *replaced != producer);
    let gone = gone.map(|replaced| (replaced, None::<Bytes>));
    gone.into_iter()
        .chain([(producer, Some(next.guard()))])
        .map(|(producer, value)| StateChange {
            key: keys::guard(producer),
            value,
        })
        .collect()
}

fn unreadable(key: &[u8]) -> Error {
    let message = format!(
        "the key of a stored transactional id cannot be read: {}",
        key.escape_ascii()
    );
    Error::new(ErrorKind::UnknownServerError, message)
}
