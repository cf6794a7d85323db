//! The reference ledger: everything in memory, one lock, nothing durable.
//!
//! For tests and for understanding. Every rule of the [`Ledger`] contract is one line here.

use std::collections::{BTreeMap, HashMap};
use std::future::{poll_fn, ready};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::{
    Commit, Committed, Due, Entry, Error, Ledger, Owner, Partition, Record, Timer, TopicSpec,
};
use crate::{Timestamp, TopicName};

/// A ledger in memory.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    topics: HashMap<TopicName, TopicSpec>,
    records: HashMap<Partition, Vec<Record>>,
    owners: HashMap<Partition, u64>,
    progress: HashMap<(String, Partition), i64>,
    timers: HashMap<Partition, BTreeMap<Bytes, Timer>>,
    waiting: Vec<Waker>,
}

impl MemoryLedger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change below is complete before the lock is released, or not begun.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn create(&mut self, topic: TopicSpec) -> Result<(), Error> {
        if topic.partitions < 1 {
            return Err(Error::Refused(format!(
                "{} needs at least one partition",
                topic.name
            )));
        }
        if let Some(existing) = self.topics.get(&topic.name) {
            return existing.check_same(&topic);
        }
        for index in 0..topic.partitions {
            self.records.insert(
                Partition {
                    topic: topic.name.clone(),
                    index,
                },
                Vec::new(),
            );
        }
        self.topics.insert(topic.name.clone(), topic);
        Ok(())
    }

    fn known(&self, partition: &Partition) -> Result<&Vec<Record>, Error> {
        self.records
            .get(partition)
            .ok_or_else(|| Error::UnknownPartition(partition.clone()))
    }

    fn own(&mut self, partition: Partition) -> Result<Owner, Error> {
        self.known(&partition)?;
        let epoch = self.owners.entry(partition.clone()).or_default();
        *epoch += 1;
        Ok(Owner {
            epoch: *epoch,
            partition,
        })
    }

    fn check_owner(&self, owner: &Owner) -> Result<(), Error> {
        match self.owners.get(&owner.partition) {
            Some(epoch) if *epoch == owner.epoch => Ok(()),
            _ => Err(Error::Fenced { epoch: owner.epoch }),
        }
    }

    fn commit(&mut self, owner: &Owner, commit: Commit) -> Result<Committed, Error> {
        self.check_owner(owner)?;
        for (partition, _) in &commit.records {
            self.known(partition)?;
        }
        let timers = self.timers.entry(owner.partition.clone()).or_default();
        for (at, timer) in commit.fired.iter().enumerate() {
            let is_repeated = commit.fired[..at]
                .iter()
                .any(|earlier| earlier.id == timer.id);
            if is_repeated || timers.get(&timer.id) != Some(timer) {
                return Err(Error::TimerGone(timer.id.clone()));
            }
        }
        for timer in commit.fired.iter().chain(&commit.timers) {
            if !self.records.contains_key(&timer.target) {
                return Err(Error::UnknownPartition(timer.target.clone()));
            }
        }
        // Nothing is refused from here on.
        let mut committed = Committed::default();
        let fired = commit.fired.into_iter().map(|timer| {
            timers.remove(&timer.id);
            (timer.target, timer.record)
        });
        for (partition, record) in commit.records.into_iter().chain(fired.collect::<Vec<_>>()) {
            let records = self.records.entry(partition).or_default();
            committed.offsets.push(offset_of(records.len()));
            records.push(record);
        }
        for id in commit.cancelled {
            timers.remove(&id);
        }
        for timer in commit.timers {
            timers.insert(timer.id.clone(), timer);
        }
        for progress in commit.progress {
            self.progress
                .insert((progress.reader, progress.partition), progress.offset);
        }
        self.waiting.drain(..).for_each(Waker::wake);
        Ok(committed)
    }

    fn due(&self, owner: &Owner, now: Timestamp, timers_max: usize) -> Result<Due, Error> {
        self.check_owner(owner)?;
        let timers = self.timers.get(&owner.partition);
        let mut timers: Vec<_> = timers.into_iter().flat_map(BTreeMap::values).collect();
        timers.sort_by_key(|timer| (timer.due, &timer.id));
        let count = timers
            .iter()
            .take(timers_max)
            .take_while(|timer| timer.due <= now)
            .count();
        Ok(Due {
            timers: timers[..count].iter().copied().cloned().collect(),
            next: timers.get(count).map(|timer| timer.due),
        })
    }
}

impl TopicSpec {
    /// Refuses `wanted` when this existing topic has another form.
    pub fn check_same(&self, wanted: &Self) -> Result<(), Error> {
        let difference = if self.partitions != wanted.partitions {
            format!(
                "it has {} partitions, not {}",
                self.partitions, wanted.partitions
            )
        } else if self.compacted != wanted.compacted {
            format!(
                "its compaction is {}",
                if self.compacted { "on" } else { "off" }
            )
        } else {
            return Ok(());
        };
        Err(Error::TopicDiffers {
            topic: wanted.name.clone(),
            difference,
        })
    }
}

fn offset_of(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

impl Ledger for MemoryLedger {
    fn create_topic(&self, topic: TopicSpec) -> BoxFuture<'_, Result<(), Error>> {
        let created = self.state().create(topic);
        Box::pin(ready(created))
    }

    fn own(&self, partition: Partition) -> BoxFuture<'_, Result<Owner, Error>> {
        let owner = self.state().own(partition);
        Box::pin(ready(owner))
    }

    fn commit(&self, owner: &Owner, commit: Commit) -> BoxFuture<'_, Result<Committed, Error>> {
        let committed = self.state().commit(owner, commit);
        Box::pin(ready(committed))
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
            let rest = records
                .iter()
                .enumerate()
                .skip(from)
                .take(records_max.max(1));
            let entries: Vec<_> = rest
                .map(|(index, record)| Entry {
                    offset: offset_of(index),
                    record: record.clone(),
                })
                .collect();
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
        let progress = self
            .state()
            .progress
            .get(&(reader.to_owned(), partition))
            .copied();
        Box::pin(ready(Ok(progress)))
    }

    fn due(
        &self,
        owner: &Owner,
        now: Timestamp,
        timers_max: usize,
    ) -> BoxFuture<'_, Result<Due, Error>> {
        let due = self.state().due(owner, now, timers_max);
        Box::pin(ready(due))
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Wake};

    use super::*;
    use crate::ledger::conformance::CASES;

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    /// Polls as long as somebody wakes; whether the future came to its end.
    fn comes_to_an_end(mut future: BoxFuture<'static, ()>) -> bool {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        while woken.0.swap(false, Ordering::SeqCst) {
            if future
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
            {
                return true;
            }
        }
        false
    }

    /// A ledger with one rule broken.
    struct Flawed {
        ledger: MemoryLedger,
        flaw: Flaw,
    }

    #[derive(Clone, Copy, Debug)]
    enum Flaw {
        OldOwnersCommit,
        ProgressIsForgotten,
        FiringKeepsTheTimer,
        RefusalsLeaveRecords,
        TimersComeEarly,
        FollowersAreNotWoken,
    }

    impl Ledger for Flawed {
        fn create_topic(&self, topic: TopicSpec) -> BoxFuture<'_, Result<(), Error>> {
            self.ledger.create_topic(topic)
        }

        fn own(&self, partition: Partition) -> BoxFuture<'_, Result<Owner, Error>> {
            self.ledger.own(partition)
        }

        fn commit(
            &self,
            owner: &Owner,
            mut commit: Commit,
        ) -> BoxFuture<'_, Result<Committed, Error>> {
            let mut owner = owner.clone();
            match self.flaw {
                Flaw::OldOwnersCommit => {
                    let newest = self.ledger.state().owners.get(&owner.partition).copied();
                    owner.epoch = newest.unwrap_or_default();
                }
                Flaw::ProgressIsForgotten => commit.progress.clear(),
                Flaw::FiringKeepsTheTimer => commit.timers.extend(commit.fired.iter().cloned()),
                Flaw::RefusalsLeaveRecords => {
                    let records = commit.records.clone();
                    let partial = Commit {
                        records,
                        ..Commit::default()
                    };
                    if self.ledger.state().commit(&owner, partial).is_ok() {
                        commit.records.clear();
                    }
                }
                Flaw::FollowersAreNotWoken => self.ledger.state().waiting.clear(),
                Flaw::TimersComeEarly => {}
            }
            self.ledger.commit(&owner, commit)
        }

        fn follow(
            &self,
            partition: Partition,
            offset: i64,
            records_max: usize,
        ) -> BoxFuture<'_, Result<Vec<Entry>, Error>> {
            self.ledger.follow(partition, offset, records_max)
        }

        fn progress(
            &self,
            reader: &str,
            partition: Partition,
        ) -> BoxFuture<'_, Result<Option<i64>, Error>> {
            self.ledger.progress(reader, partition)
        }

        fn due(
            &self,
            owner: &Owner,
            now: Timestamp,
            timers_max: usize,
        ) -> BoxFuture<'_, Result<Due, Error>> {
            let early = i64::from(matches!(self.flaw, Flaw::TimersComeEarly));
            let now = Timestamp::from_millis(now.as_millis() + early);
            self.ledger.due(owner, now, timers_max)
        }
    }

    #[test]
    fn the_suite_finds_every_broken_rule() {
        for flaw in [
            Flaw::OldOwnersCommit,
            Flaw::ProgressIsForgotten,
            Flaw::FiringKeepsTheTimer,
            Flaw::RefusalsLeaveRecords,
            Flaw::TimersComeEarly,
            Flaw::FollowersAreNotWoken,
        ] {
            let is_found = CASES.iter().any(|(_, case)| {
                let ledger = MemoryLedger::new();
                let case = case(Arc::new(Flawed { ledger, flaw }));
                let outcome = catch_unwind(AssertUnwindSafe(|| comes_to_an_end(case)));
                !matches!(outcome, Ok(true))
            });
            assert!(is_found, "{flaw:?} goes unnoticed");
        }
    }

    #[test]
    fn the_reference_conforms() {
        for (name, case) in CASES {
            let case = case(Arc::new(MemoryLedger::new()));
            assert!(
                comes_to_an_end(case),
                "{name} waits for something that never comes"
            );
        }
    }
}
