//! The shell around the machines: one lock per group, waiting requests, stores, the timer.
//!
//! Invariants: no lock is held across an await; the lock order is group, then table or alarms,
//! never the other way round; a unit is submitted under its group's lock, so that the log's order
//! is the group's; what it changes becomes visible in the outcome callback, after the sync, also
//! when the caller has gone away. A waiting request that is dropped leaves its member waiting, as
//! a lost connection does in Kafka: the member's deadlines see to it.
//! What groups of the consumer protocol store is in [`super::stores`], their way from and to classic
//! groups in [`super::migrate`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::{self, FutureExt};
use wharf_log::{Appender, CommitError, StateChange, Unit};
use wharf_message::Timestamp;

use super::alarm::Alarms;
use super::consumer::Around;
use super::machine::{Effect, Limits, Machine, Ticket, Token, refusal};
use super::offsets::{Commit, Offsets};
use super::protocol::Protocol;
use super::record::GroupRecord;
use super::settings::Settings;
use super::stores::Stores;
use super::{JoinRefused, Joined, Synced, keys};
use crate::commit::{Outcome, submit};
use crate::sync::lock;
use crate::topics::Topics;
use crate::{Error, ErrorKind, Options, Runtime};

/// An empty group without offsets is forgotten after this long
/// (`offsets.retention.check.interval.ms`).
const FORGET_AFTER: Duration = Duration::from_secs(10 * 60);
/// After the log refused a removal of expired offsets, the next attempt waits this long.
const RETRY_AFTER: Duration = FORGET_AFTER;
/// Offsets are looked through at most this often per group.
const SWEEP_EVERY_MIN: Duration = Duration::from_secs(1);

/// All groups. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Groups {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) options: Options,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) topics: Arc<Topics>,
    pub(super) settings: Settings,
    pub(super) appender: Appender,
    pub(super) table: Mutex<BTreeMap<String, Arc<Cell>>>,
    pub(super) alarms: Alarms,
}

/// A group's place in the table.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) name: String,
    pub(super) group: Mutex<Group>,
}

/// A group under its lock.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) protocol: Protocol,
    pub(super) offsets: Offsets,
    pub(super) stores: Stores,
    joins: HashMap<Ticket, oneshot::Sender<Result<Joined, JoinRefused>>>,
    syncs: HashMap<Ticket, oneshot::Sender<Result<Synced, Error>>>,
    next_ticket: u64,
    /// When the offsets are to be looked through; never later than the first one expires.
    sweep: Option<Timestamp>,
    /// When the alarm rings.
    alarm: Option<Timestamp>,
    /// The state and its time when the sweep was last planned; `None` plans it anew.
    planned: Option<(&'static str, Timestamp)>,
    /// How many removals of offsets are on their way; no sweep meanwhile.
    removals: usize,
    /// No sweep before this time.
    sweep_not_before: Option<Timestamp>,
    /// A record was written or is being written.
    pub(super) is_stored: bool,
    /// Not in the table any more.
    is_gone: bool,
}

impl Group {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            offsets: Offsets::default(),
            stores: Stores::default(),
            joins: HashMap::new(),
            syncs: HashMap::new(),
            next_ticket: 0,
            sweep: None,
            alarm: None,
            planned: None,
            removals: 0,
            sweep_not_before: None,
            is_stored: false,
            is_gone: false,
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// A join about to be made, and where its answer arrives.
    pub(super) fn expect_join(
        &mut self,
    ) -> (Ticket, oneshot::Receiver<Result<Joined, JoinRefused>>) {
        let (sender, receiver) = oneshot::channel();
        let ticket = self.ticket();
        self.joins.insert(ticket, sender);
        (ticket, receiver)
    }

    /// A sync about to be made, and where its answer arrives.
    pub(super) fn expect_sync(&mut self) -> (Ticket, oneshot::Receiver<Result<Synced, Error>>) {
        let (sender, receiver) = oneshot::channel();
        let ticket = self.ticket();
        self.syncs.insert(ticket, sender);
        (ticket, receiver)
    }

    /// What time will bring is planned anew.
    pub(super) fn replan(&mut self) {
        self.planned = None;
    }

    /// Nothing is left but what is stored.
    fn is_idle(&self) -> bool {
        self.protocol.is_idle() && self.stores.are_done()
    }

    /// What expired and when the group is to be looked at again.
    fn expired(
        &self,
        retention: Duration,
        now: Timestamp,
    ) -> (Vec<(String, i32)>, Option<Timestamp>) {
        if self.removals > 0 {
            return (Vec::new(), None);
        }
        let subscribed = |topic: &str| self.protocol.is_subscribed(topic);
        let (expired, next) =
            self.offsets
                .expired(self.protocol.expiry(), subscribed, retention, now);
        let forget = self.is_idle() && self.offsets.is_empty() && self.is_stored;
        let next = match forget {
            true => Some(self.protocol.since().after(FORGET_AFTER)),
            false => next,
        };
        (expired, next)
    }
}

impl Groups {
    /// The topic is gone for good: so are the offsets committed for it. Returns at once; until
    /// they are gone they are not shown, because an offset counts only for the topic's id.
    pub(crate) fn topic_deleted(&self, topic: &str) {
        for cell in self.inner.cells() {
            let mut group = lock(&cell.group);
            let keys = group.offsets.keys_of_topic(topic);
            if !group.is_gone && !keys.is_empty() {
                drop(self.inner.remove_offsets(&cell, &mut group, keys));
            }
        }
    }
}

impl Inner {
    /// Every group's place, by name.
    pub(super) fn cells(&self) -> Vec<Arc<Cell>> {
        lock(&self.table).values().cloned().collect()
    }

    /// The places of these groups, in the order of their names; of those that there are.
    pub(super) fn find(&self, names: &BTreeSet<String>) -> Vec<Arc<Cell>> {
        let table = lock(&self.table);
        let found = names.iter().filter_map(|name| table.get(name).cloned());
        found.collect()
    }

    /// Does something to a group, then carries out what follows from it. `None` when there is no
    /// such group.
    pub(super) fn with<R>(
        self: &Arc<Self>,
        name: &str,
        step: impl FnOnce(&Arc<Cell>, &mut Group, Timestamp) -> R,
    ) -> Option<R> {
        loop {
            let cell = lock(&self.table).get(name).cloned()?;
            if let Some(mut group) = cell.open() {
                return Some(self.step(&cell, &mut group, step));
            }
        }
    }

    /// Like [`Self::with`], with a new group when there is none.
    pub(super) fn with_new<R>(
        self: &Arc<Self>,
        name: &str,
        step: impl FnOnce(&Arc<Cell>, &mut Group, Timestamp) -> R,
    ) -> Result<R, Error> {
        loop {
            let cell = self.find_or_create(name)?;
            if let Some(mut group) = cell.open() {
                return Ok(self.step(&cell, &mut group, step));
            }
        }
    }

    fn step<R>(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        group: &mut Group,
        step: impl FnOnce(&Arc<Cell>, &mut Group, Timestamp) -> R,
    ) -> R {
        group.stores.retry();
        let result = step(cell, group, self.runtime.steady());
        self.settle(cell, group);
        result
    }

    fn find_or_create(&self, name: &str) -> Result<Arc<Cell>, Error> {
        let mut table = lock(&self.table);
        if let Some(cell) = table.get(name) {
            return Ok(cell.clone());
        }
        if table.len() >= self.options.groups_max {
            let message = format!(
                "the node has as many groups as it may have ({})",
                table.len()
            );
            return Err(Error::new(ErrorKind::PolicyViolation, message));
        }
        let machine = Machine::new(Limits::from(&self.options), self.runtime.steady());
        let group = Mutex::new(Group::new(Protocol::classic(machine)));
        let cell = Arc::new(Cell {
            name: name.to_owned(),
            group,
        });
        table.insert(name.to_owned(), cell.clone());
        Ok(cell)
    }

    /// Carries out the machine's effects, plans what time will bring, and forgets a group of
    /// which nothing is left.
    pub(super) fn settle(self: &Arc<Self>, cell: &Arc<Cell>, group: &mut Group) {
        self.carry_out_all(cell, group);
        self.store_changes(cell, group);
        self.downgrade_if_due(cell, group);
        if group.is_idle() && group.offsets.is_empty() && !group.is_stored {
            return self.forget(cell, group);
        }
        self.plan(cell, group);
    }

    /// Carries out what the machine of a classic group wants done.
    pub(super) fn carry_out_all(self: &Arc<Self>, cell: &Arc<Cell>, group: &mut Group) {
        while let Protocol::Classic(machine) = &mut group.protocol {
            let effects = machine.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.carry_out(cell, group, effect);
            }
        }
    }

    /// Whoever stopped waiting for an answer does not need it.
    fn carry_out(self: &Arc<Self>, cell: &Arc<Cell>, group: &mut Group, effect: Effect) {
        match effect {
            Effect::Joined(ticket, result) => {
                if let Some(waiter) = group.joins.remove(&ticket) {
                    waiter.send(result).ok();
                }
            }
            Effect::Synced(ticket, result) => {
                if let Some(waiter) = group.syncs.remove(&ticket) {
                    waiter.send(result).ok();
                }
            }
            Effect::Store(token, record) => self.store(cell, group, token, &record),
        }
    }

    /// Sets the group's alarm.
    fn plan(self: &Arc<Self>, cell: &Cell, group: &mut Group) {
        let state = Some((group.protocol.state(), group.protocol.since()));
        if group.planned != state {
            group.planned = state;
            let now = self.runtime.steady();
            let (expired, next) = group.expired(self.options.offsets_retention, now);
            let sweep = if expired.is_empty() { next } else { Some(now) };
            group.sweep = sweep.map(|sweep| sweep.max(group.sweep_not_before.unwrap_or(sweep)));
        }
        let wake = [group.protocol.wake(), group.sweep]
            .into_iter()
            .flatten()
            .min();
        let rings_in_time = match (group.alarm, wake) {
            (Some(alarm), Some(wake)) => alarm <= wake,
            (alarm, None) => alarm.is_none(),
            (None, Some(_)) => false,
        };
        if !rings_in_time {
            self.set_alarm(cell, group, wake);
        }
    }

    fn set_alarm(self: &Arc<Self>, cell: &Cell, group: &mut Group, alarm: Option<Timestamp>) {
        let before = std::mem::replace(&mut group.alarm, alarm);
        if self.alarms.set(&cell.name, before, alarm) {
            self.runtime.spawn(ring(Arc::downgrade(self)).boxed());
        }
    }

    fn forget(self: &Arc<Self>, cell: &Cell, group: &mut Group) {
        self.set_alarm(cell, group, None);
        group.is_gone = true;
        lock(&self.table).remove(&cell.name);
    }

    /// The group's alarm rang.
    fn ring(self: &Arc<Self>, name: &str) {
        self.with(name, |cell, group, now| {
            if group.alarm.is_some_and(|alarm| alarm <= now) {
                group.alarm = None;
            }
            group.protocol.tick(self.around(name, now));
            group.planned = None;
            if group.sweep.is_some_and(|sweep| sweep <= now) {
                self.sweep(cell, group, now);
            }
        });
    }

    /// Removes expired offsets, and the group with the last of them when it is empty.
    fn sweep(self: &Arc<Self>, cell: &Arc<Cell>, group: &mut Group, now: Timestamp) {
        let (expired, next) = group.expired(self.options.offsets_retention, now);
        group.sweep = None;
        group.sweep_not_before = Some(now.after(SWEEP_EVERY_MIN));
        let all = group.offsets.keys();
        let is_last = group.is_idle() && expired.len() == all.len();
        let is_forgotten = !all.is_empty() || next.is_some_and(|next| next <= now);
        if is_last && is_forgotten {
            // Cannot be refused: an idle group is empty.
            drop(self.delete(cell, group));
        } else if !expired.is_empty() {
            drop(self.remove_offsets(cell, group, expired));
        }
    }

    fn store(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        group: &mut Group,
        token: Token,
        record: &GroupRecord,
    ) {
        group.is_stored = true;
        let change = StateChange {
            key: keys::group(&cell.name),
            value: Some(record.encode()),
        };
        // The machine waits for the outcome, nobody else.
        drop(self.submit(
            cell,
            group,
            of_state(vec![change]),
            move |_inner, group, result, now| {
                if let Protocol::Classic(machine) = &mut group.protocol {
                    machine.stored(token, result, now);
                }
                group.planned = None;
            },
        ));
    }

    /// Writes offsets; they become visible when they are durable.
    pub(super) fn commit(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        group: &mut Group,
        commits: Vec<Commit>,
    ) -> Outcome {
        self.commit_with(cell, group, commits, Unit::default())
    }

    /// The same together with what else is in the unit.
    pub(super) fn commit_with(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        group: &mut Group,
        commits: Vec<Commit>,
        mut unit: Unit,
    ) -> Outcome {
        unit.state
            .extend(group.offsets.commit(&cell.name, &commits));
        self.submit(cell, group, unit, move |inner, group, result, _now| {
            let retention = inner.options.offsets_retention;
            let expiry = commits.iter().map(|commit| {
                let by_default = commit.record.committed_at.after(retention);
                commit.record.expires_at.unwrap_or(by_default)
            });
            let sweep = expiry.chain(group.sweep).min();
            group.sweep = if result.is_ok() { sweep } else { group.sweep };
            group.offsets.committed(commits, result.is_ok());
        })
    }

    /// Removes offsets.
    pub(super) fn remove_offsets(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        group: &mut Group,
        keys: Vec<(String, i32)>,
    ) -> Outcome {
        let changes = group.offsets.removal(&cell.name, &keys);
        group.removals += 1;
        self.submit(
            cell,
            group,
            of_state(changes),
            move |_inner, group, result, now| {
                group.removals -= 1;
                group.planned = None;
                match result {
                    Ok(()) => group.offsets.remove(&keys),
                    Err(_) => group.sweep_not_before = Some(now.after(RETRY_AFTER)),
                }
            },
        )
    }

    /// Deletes an empty group with its offsets.
    pub(super) fn delete(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        group: &mut Group,
    ) -> Result<Outcome, Error> {
        group.protocol.start_deletion()?;
        let mut changes = group.offsets.removal(&cell.name, &group.offsets.keys());
        changes.push(StateChange {
            key: keys::group(&cell.name),
            value: None,
        });
        let at = cell.clone();
        Ok(self.submit(
            cell,
            group,
            of_state(changes),
            move |inner, group, result, now| match result {
                Ok(()) => inner.forget(&at, group),
                Err(_) => {
                    group.protocol.deletion_failed();
                    group.sweep_not_before = Some(now.after(RETRY_AFTER));
                }
            },
        ))
    }

    /// Submits state changes of a group; `applied` and what follows from it happen under the
    /// group's lock, in the committer's thread, in the order of the log. A closed log refuses at
    /// once, in this thread, which holds the lock already.
    pub(super) fn submit(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        group: &mut Group,
        unit: Unit,
        applied: impl FnOnce(&Arc<Self>, &mut Group, Result<(), Error>, Timestamp) + Send + 'static,
    ) -> Outcome {
        let is_closed = Arc::new(AtomicBool::new(false));
        let applied = Arc::new(Mutex::new(Some(applied)));
        let (refused, later) = (is_closed.clone(), applied.clone());
        let (inner, cell) = (self.clone(), cell.clone());
        let outcome = submit(&self.appender, unit, move |result| {
            if *result == Err(CommitError::Closed) {
                return refused.store(true, Ordering::Release);
            }
            let Some(applied) = lock(&later).take() else {
                return;
            };
            let result = result
                .as_ref()
                .map(|_| ())
                .map_err(|error| Error::from(error.clone()));
            let mut group = lock(&cell.group);
            applied(&inner, &mut group, result, inner.runtime.steady());
            if !group.is_gone {
                inner.settle(&cell, &mut group);
            }
        });
        if is_closed.load(Ordering::Acquire)
            && let Some(applied) = lock(&applied).take()
        {
            applied(
                self,
                group,
                Err(CommitError::Closed.into()),
                self.runtime.steady(),
            );
        }
        outcome
    }
}

impl Inner {
    /// What a step of a group happens in.
    pub(super) fn around(&self, group: &str, now: Timestamp) -> Around<'_> {
        Around {
            now,
            limits: self.settings.limits(group, &self.options),
            catalog: &*self.topics,
        }
    }
}

impl Cell {
    /// The group under its lock; `None` when it has left the table meanwhile.
    pub(super) fn open(&self) -> Option<MutexGuard<'_, Group>> {
        let group = lock(&self.group);
        (!group.is_gone).then_some(group)
    }
}

/// The timer task: rings due alarms, sleeps until the next one, ends when there is none.
async fn ring(groups: Weak<Inner>) {
    while let Some(inner) = groups.upgrade() {
        for name in inner.alarms.take_due(inner.runtime.steady()) {
            inner.ring(&name);
        }
        let Some((until, woken)) = inner.alarms.sleep() else {
            return;
        };
        let sleep = inner.runtime.sleep_until(until);
        drop(inner); // so that the task does not keep a broker alive that nobody uses any more
        future::select(sleep, woken).await;
    }
}

/// A unit of nothing but state changes.
pub(super) fn of_state(state: Vec<StateChange>) -> Unit {
    Unit {
        state,
        ..Unit::default()
    }
}

/// The refusal of a request whose waiting end went away: the node is stopping.
pub(super) fn stopping() -> Error {
    refusal(ErrorKind::CoordinatorNotAvailable)
}
