//! A ledger that breaks: commits take time, fail with an outcome that nobody knows, are refused,
//! find the disk full, and are lost behind a prefix when the machine dies.
//!
//! Everything else is the contract, and `wharf_message::ledger::conformance` holds it to that. What
//! is durable is shown to the [`Watch`] in the order in which it became so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{poll_fn, ready};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::sleep;
use wharf_log::disk::simulated::Random;
use wharf_message::ledger::{
    Commit, Committed, Due, Entry, Error, Ledger, Owner, Partition, Record, Timer, TopicSpec,
};
use wharf_message::{Timestamp, TopicName};

use super::sabotage::Tamper;
use super::watch::Watch;

/// How the disk is at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weather {
    /// The longest that a sync takes, in milliseconds.
    pub(super) sync_max: u64,
    /// Nothing can be written.
    pub(super) is_full: bool,
    /// Of 100 commits, so many end with an outcome that nobody knows.
    pub(super) unknown_percent: u32,
    /// Of 100 commits, so many are refused at once.
    pub(super) refused_percent: u32,
}

impl Weather {
    /// Nothing is wrong, and a sync takes so long at most.
    pub(super) fn of(sync_max: u64) -> Self {
        Self {
            sync_max,
            ..Self::default()
        }
    }
}

/// A commit that was asked for and is not on the disk yet.
struct Staged {
    owner: Owner,
    commit: Commit,
    answer: oneshot::Sender<Result<Committed, Error>>,
    /// Whoever asked is told that nobody knows.
    is_unknown: bool,
}

struct State {
    random: Random,
    weather: Weather,
    topics: BTreeMap<TopicName, TopicSpec>,
    /// A record that compaction took away leaves its offset.
    records: BTreeMap<Partition, Vec<Option<Record>>>,
    owners: BTreeMap<Partition, u64>,
    progress: BTreeMap<(String, Partition), i64>,
    timers: BTreeMap<Partition, BTreeMap<Bytes, Timer>>,
    staged: VecDeque<Staged>,
    is_syncing: bool,
    /// Owners of whose commits one had an unknown outcome: they commit nothing more.
    spent: BTreeSet<(Partition, u64)>,
    waiting: Vec<Waker>,
    /// Records of topics that are not the orchestrator's own, for their readers.
    fresh: Vec<(Partition, Record)>,
    watch: Arc<Mutex<Watch>>,
    tamper: Option<Tamper>,
    counts: Counts,
}

/// What befell it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) commits: u64,
    pub(super) unknown: u64,
    pub(super) refused: u64,
    pub(super) full: u64,
    pub(super) lost: u64,
    pub(super) kept: u64,
    pub(super) compacted: u64,
    /// Only where the ledger is the log's.
    pub(super) power_losses: u64,
    pub(super) kills: u64,
    pub(super) deaths_in_recovery: u64,
}

/// The ledger; clones are the same.
#[derive(Clone)]
pub(super) struct SimulatedLedger(Arc<Mutex<State>>);

impl SimulatedLedger {
    pub(super) fn new(random: Random, watch: Arc<Mutex<Watch>>, tamper: Option<Tamper>) -> Self {
        Self(Arc::new(Mutex::new(State {
            random,
            weather: Weather::default(),
            topics: BTreeMap::new(),
            records: BTreeMap::new(),
            owners: BTreeMap::new(),
            progress: BTreeMap::new(),
            timers: BTreeMap::new(),
            staged: VecDeque::new(),
            is_syncing: false,
            spent: BTreeSet::new(),
            waiting: Vec::new(),
            fresh: Vec::new(),
            watch,
            tamper,
            counts: Counts::default(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_weather(&self, weather: Weather) {
        self.state().weather = weather;
    }

    /// Whether anything is wrong with it at the moment.
    pub(super) fn is_bad(&self) -> bool {
        let state = self.state();
        let weather = state.weather;
        weather.is_full
            || weather.unknown_percent > 0
            || weather.refused_percent > 0
            || weather.sync_max > 100
    }

    /// Whether nothing is on its way to the disk.
    pub(super) fn is_idle(&self) -> bool {
        self.state().staged.is_empty()
    }

    pub(super) fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Somebody else writes a record; it is durable at once. Whether the topic is there.
    pub(super) fn append(&self, topic: &TopicName, record: Record) -> bool {
        let mut state = self.state();
        let Some(spec) = state.topics.get(topic) else {
            return false;
        };
        let count = u64::try_from(spec.partitions).unwrap_or(1);
        let index = state.random.below(count);
        let partition = Partition {
            topic: topic.clone(),
            index: i32::try_from(index).unwrap_or(0),
        };
        let records = state.records.entry(partition).or_default();
        records.push(Some(record));
        state.waiting.drain(..).for_each(Waker::wake);
        true
    }

    /// What was written for workers since this was asked last.
    pub(super) fn fresh(&self) -> Vec<(Partition, Record)> {
        std::mem::take(&mut self.state().fresh)
    }

    /// The machine dies: of the commits on their way the first few are kept, the next is torn and
    /// the rest is gone.
    pub(super) fn crash(&self) {
        let mut state = self.state();
        let staged = state.staged.len();
        let kept = state.random.index(staged + 1);
        let rest = state.staged.split_off(kept);
        state.counts.kept += u64::try_from(kept).unwrap_or(0);
        state.counts.lost += u64::try_from(rest.len()).unwrap_or(0);
        state.sync();
        state.is_syncing = false;
        state.waiting.clear();
    }

    /// Compacts the topics that are compacted.
    pub(super) fn compact(&self) {
        let mut state = self.state();
        let State {
            topics,
            records,
            counts,
            ..
        } = &mut *state;
        for (partition, records) in records.iter_mut() {
            let is_compacted = topics
                .get(&partition.topic)
                .is_some_and(|spec| spec.compacted);
            if !is_compacted {
                continue;
            }
            let mut seen = BTreeSet::new();
            // The newest stays, so that the end stays where it is.
            let mut newest = true;
            for record in records.iter_mut().rev() {
                let key = record.as_ref().and_then(|record| record.key.clone());
                let is_old = key.is_some_and(|key| !seen.insert(key));
                if is_old && !newest {
                    *record = None;
                    counts.compacted += 1;
                }
                newest = false;
            }
        }
    }
}

impl State {
    fn known(&self, partition: &Partition) -> Result<&Vec<Option<Record>>, Error> {
        let records = self.records.get(partition);
        records.ok_or_else(|| Error::UnknownPartition(partition.clone()))
    }

    fn create(&mut self, topic: TopicSpec) -> Result<(), Error> {
        if topic.partitions < 1 {
            return Err(Error::Refused("a topic has partitions".to_owned()));
        }
        if let Some(existing) = self.topics.get(&topic.name) {
            return existing.check_same(&topic);
        }
        if self.weather.is_full {
            return Err(Error::Unavailable("the disk is full".to_owned()));
        }
        for index in 0..topic.partitions {
            let topic = topic.name.clone();
            self.records.insert(Partition { topic, index }, Vec::new());
        }
        self.topics.insert(topic.name.clone(), topic);
        Ok(())
    }

    fn check_owner(&self, owner: &Owner) -> Result<(), Error> {
        match self.owners.get(&owner.partition) {
            Some(epoch) if *epoch == owner.epoch => Ok(()),
            _ => Err(Error::Fenced { epoch: owner.epoch }),
        }
    }

    /// Refuses, or takes it to be synced.
    fn submit(
        &mut self,
        owner: &Owner,
        commit: Commit,
    ) -> Result<oneshot::Receiver<Result<Committed, Error>>, Error> {
        self.check_owner(owner)?;
        for (partition, _) in &commit.records {
            self.known(partition)?;
        }
        for timer in commit.fired.iter().chain(&commit.timers) {
            self.known(&timer.target)?;
        }
        if self.weather.is_full {
            self.counts.full += 1;
            return Err(Error::Unavailable("the disk is full".to_owned()));
        }
        if self.spent.contains(&(owner.partition.clone(), owner.epoch)) {
            return Err(Error::Unavailable("a commit before it failed".to_owned()));
        }
        if self.random.percent(self.weather.refused_percent) {
            self.counts.refused += 1;
            return Err(Error::Refused("the commit is not wanted".to_owned()));
        }
        let (answer, answered) = oneshot::channel();
        let is_unknown = self.random.percent(self.weather.unknown_percent);
        self.staged.push_back(Staged {
            owner: owner.clone(),
            commit,
            answer,
            is_unknown,
        });
        Ok(answered)
    }

    /// What is on its way becomes durable, in order.
    fn sync(&mut self) {
        while let Some(staged) = self.staged.pop_front() {
            let Staged {
                owner,
                commit,
                answer,
                is_unknown,
            } = staged;
            let key = (owner.partition.clone(), owner.epoch);
            let outcome = if let Err(refused) = self.check_owner(&owner) {
                Err(refused)
            } else if self.spent.contains(&key) {
                Err(Error::Unavailable("a commit before it failed".to_owned()))
            } else if let Err(gone) = self.check_fired(&owner, &commit.fired) {
                Err(gone)
            } else if is_unknown {
                self.counts.unknown += 1;
                self.spent.insert(key);
                if self.random.coin() {
                    self.apply(&owner, commit);
                }
                Err(Error::Unavailable("nobody knows".to_owned()))
            } else {
                Ok(self.apply(&owner, commit))
            };
            // Whoever asked may be gone.
            drop(answer.send(outcome));
        }
        self.waiting.drain(..).for_each(Waker::wake);
    }

    fn check_fired(&self, owner: &Owner, fired: &[Timer]) -> Result<(), Error> {
        let timers = self.timers.get(&owner.partition);
        for (at, timer) in fired.iter().enumerate() {
            let is_repeated = fired[..at].iter().any(|before| before.id == timer.id);
            let known = timers.and_then(|timers| timers.get(&timer.id));
            if is_repeated || known != Some(timer) {
                return Err(Error::TimerGone(timer.id.clone()));
            }
        }
        Ok(())
    }

    fn apply(&mut self, owner: &Owner, mut commit: Commit) -> Committed {
        self.counts.commits += 1;
        if let Some(tamper) = &mut self.tamper {
            tamper.commit(&mut commit);
        }
        let watch = Arc::clone(&self.watch);
        let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.committed(&commit.records);
        drop(watch);
        let timers = self.timers.entry(owner.partition.clone()).or_default();
        for timer in commit.fired {
            timers.remove(&timer.id);
            commit.records.push((timer.target, timer.record));
        }
        for id in commit.cancelled {
            timers.remove(&id);
        }
        for timer in commit.timers {
            timers.insert(timer.id.clone(), timer);
        }
        let mut committed = Committed::default();
        for (partition, record) in commit.records {
            if !partition.topic.as_str().starts_with('_') {
                self.fresh.push((partition.clone(), record.clone()));
            }
            let records = self.records.entry(partition).or_default();
            let offset = i64::try_from(records.len()).unwrap_or(i64::MAX);
            committed.offsets.push(offset);
            records.push(Some(record));
        }
        for progress in commit.progress {
            self.progress
                .insert((progress.reader, progress.partition), progress.offset);
        }
        committed
    }
}

impl Ledger for SimulatedLedger {
    fn create_topic(&self, topic: TopicSpec) -> BoxFuture<'_, Result<(), Error>> {
        let created = self.state().create(topic);
        Box::pin(ready(created))
    }

    fn own(&self, partition: Partition) -> BoxFuture<'_, Result<Owner, Error>> {
        let mut state = self.state();
        let owned = state.known(&partition).map(|_| ()).and_then(|()| {
            if state.weather.is_full {
                return Err(Error::Unavailable("the disk is full".to_owned()));
            }
            Ok(())
        });
        let owned = owned.map(|()| {
            // What the owner before asked for comes first, or never.
            state.sync();
            let epoch = state.owners.entry(partition.clone()).or_default();
            *epoch += 1;
            let epoch = *epoch;
            Owner { partition, epoch }
        });
        Box::pin(ready(owned))
    }

    fn commit(&self, owner: &Owner, commit: Commit) -> BoxFuture<'_, Result<Committed, Error>> {
        let mut state = self.state();
        let tamper = state.tamper.as_ref();
        let is_early = tamper.is_some_and(|tamper| tamper.answers_early(&commit));
        let answered = match state.submit(owner, commit) {
            Ok(answered) => answered,
            Err(refused) => return Box::pin(ready(Err(refused))),
        };
        if !state.is_syncing {
            state.is_syncing = true;
            let most = state.weather.sync_max;
            let takes = Duration::from_millis(state.random.between(0, most));
            let ledger = self.clone();
            tokio::spawn(async move {
                sleep(takes).await;
                let mut state = ledger.state();
                state.is_syncing = false;
                state.sync();
            });
        }
        if is_early {
            // Offsets that nobody can know yet.
            return Box::pin(ready(Ok(Committed::default())));
        }
        Box::pin(async move {
            let gone = Error::Unavailable("the machine died".to_owned());
            answered.await.unwrap_or(Err(gone))
        })
    }

    fn follow(
        &self,
        partition: Partition,
        offset: i64,
        records_max: usize,
    ) -> BoxFuture<'_, Result<Vec<Entry>, Error>> {
        Box::pin(poll_fn(move |cx| {
            let mut state = self.state();
            let records = match state.known(&partition) {
                Ok(records) => records,
                Err(error) => return Poll::Ready(Err(error)),
            };
            let Ok(from) = usize::try_from(offset) else {
                return Poll::Ready(Err(Error::OutOfRange { offset, start: 0 }));
            };
            let rest = records.iter().enumerate().skip(from);
            let entries = rest.filter_map(|(index, record)| {
                let offset = i64::try_from(index).unwrap_or(i64::MAX);
                let record = record.clone()?;
                Some(Entry { offset, record })
            });
            let entries: Vec<_> = entries.take(records_max.max(1)).collect();
            if entries.is_empty() {
                state.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(entries))
        }))
    }

    fn progress(
        &self,
        reader: &str,
        partition: Partition,
    ) -> BoxFuture<'_, Result<Option<i64>, Error>> {
        let state = self.state();
        let progress = state.progress.get(&(reader.to_owned(), partition)).copied();
        drop(state);
        Box::pin(ready(Ok(progress)))
    }

    fn due(
        &self,
        owner: &Owner,
        now: Timestamp,
        timers_max: usize,
    ) -> BoxFuture<'_, Result<Due, Error>> {
        let state = self.state();
        let due = state.check_owner(owner).map(|()| {
            let timers = state.timers.get(&owner.partition);
            let mut timers: Vec<_> = timers.into_iter().flat_map(BTreeMap::values).collect();
            timers.sort_by_key(|timer| (timer.due, &timer.id));
            let first = timers.iter().take(timers_max);
            let count = first.take_while(|timer| timer.due <= now).count();
            Due {
                timers: timers[..count].iter().copied().cloned().collect(),
                next: timers.get(count).map(|timer| timer.due),
            }
        });
        drop(state);
        Box::pin(ready(due))
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;
    use tokio::time::timeout;
    use wharf_message::ledger::conformance::CASES;

    use super::*;

    #[test]
    fn it_keeps_the_contract_of_ledgers_while_nothing_is_wrong() {
        for (name, case) in CASES {
            let ledger = SimulatedLedger::new(Random::new(1), Arc::default(), None);
            ledger.set_weather(Weather::of(20));
            let mut runtime = Builder::new_current_thread();
            let runtime = runtime.enable_time().start_paused(true).build().unwrap();
            let case = runtime.spawn(case(Arc::new(ledger)));
            let patience = Duration::from_secs(60);
            let outcome = runtime.block_on(async { timeout(patience, case).await });
            assert!(matches!(outcome, Ok(Ok(()))), "{name}: {outcome:?}");
        }
    }
}
