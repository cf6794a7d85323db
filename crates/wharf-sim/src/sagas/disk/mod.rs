//! The node's own ledger under the sagas: the broker and its log, on the simulated disk.
//!
//! Nothing runs by itself: the log's committer runs when a sync is over, in the one thread of the
//! simulation, so that the seed decides what is in which group and what a dying machine tears. What
//! became durable is read back from the log before anybody hears of it, and after every restart.

mod evidence;
mod life;
mod world;

use std::collections::{BTreeMap, VecDeque};
use std::future::{poll_fn, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::sleep;
use wharf_broker::EmbeddedLedger;
use wharf_log::disk::simulated::{Faults, Random, SimulatedDisk};
use wharf_log::{Health, Options};
use wharf_message::ledger::{
    Commit, Committed, Due, Entry, Error, Ledger, Owner, Partition, Record, TopicSpec,
};
use wharf_message::{Timestamp, TopicName};

use super::checkers::Broken;
use super::ledger::{Counts, Weather};
use super::sabotage::Tamper;
use super::watch::Watch;
use evidence::{Asked, Evidence};
pub(super) use life::draw_options;
use life::{Life, Outgoing};

/// To these, others than the orchestrator write, too.
const OF_OTHERS: [&str; 3] = ["_wharf.saga-replies", "_wharf.saga-starts", TALK];
/// What fills a disk.
const TALK: &str = "talk";
/// With so many records it does.
const TALK_RECORDS: usize = 14;
/// How long a client waits before it sends again what was refused.
const SEND_AGAIN: Duration = Duration::from_millis(300);

/// A commit on its way to the disk.
struct Staged {
    asked: Asked,
    outcome: Pin<Box<dyn Future<Output = Result<Committed, Error>> + Send>>,
    answer: oneshot::Sender<Result<Committed, Error>>,
}

struct State {
    random: Random,
    weather: Weather,
    disk: SimulatedDisk,
    options: Options,
    life: Option<Life>,
    topics: BTreeMap<TopicName, TopicSpec>,
    staged: VecDeque<Staged>,
    /// What became of these was not told when the log stopped.
    unsure: Vec<Asked>,
    /// Whether somebody waits for the next sync.
    is_syncing: bool,
    /// What others want to write, until it is acknowledged.
    outgoing: Vec<Outgoing>,
    evidence: Evidence,
    fresh: Vec<(Partition, Record)>,
    watch: Arc<Mutex<Watch>>,
    tamper: Option<Tamper>,
    counts: Counts,
}

/// The ledger; clones are the same.
#[derive(Clone)]
pub(super) struct DiskLedger(Arc<Mutex<State>>);

impl DiskLedger {
    pub(super) fn new(
        mut random: Random,
        options: Options,
        watch: Arc<Mutex<Watch>>,
        tamper: Option<Tamper>,
    ) -> Self {
        let disk = SimulatedDisk::new(random.next_u64(), Faults::default());
        Self(Arc::new(Mutex::new(State {
            random,
            weather: Weather::default(),
            disk,
            options,
            life: None,
            topics: BTreeMap::new(),
            staged: VecDeque::new(),
            unsure: Vec::new(),
            is_syncing: false,
            outgoing: Vec::new(),
            evidence: Evidence::default(),
            fresh: Vec::new(),
            watch,
            tamper,
            counts: Counts::default(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the model refuses, a full disk refuses here; an outcome that nobody knows is a sync or a
    /// write that fails, after which the process must end.
    pub(super) fn set_weather(&self, mut weather: Weather) {
        let mut state = self.state();
        weather.is_full |= weather.refused_percent > 0;
        let one_in = 200_u32.checked_div(weather.unknown_percent).unwrap_or(0);
        let fails_to_write = state.random.coin();
        let full = weather.is_full.then(|| state.disk.used_bytes());
        state.disk.set_faults(Faults {
            sync_failure_one_in: one_in,
            write_failure_one_in: if fails_to_write { one_in } else { 0 },
            read_failure_one_in: 0,
            capacity_bytes: full,
        });
        state.weather = weather;
        let talk = TopicName::new(TALK).ok();
        if let Some(talk) = talk.filter(|talk| weather.is_full && state.topics.contains_key(talk)) {
            let talks = (0..TALK_RECORDS).map(|_| Outgoing::idle_talk(&talk));
            state.outgoing.extend(talks);
            drop(state);
            self.send();
        }
    }

    pub(super) fn is_bad(&self) -> bool {
        let state = self.state();
        let weather = state.weather;
        weather.is_full
            || weather.unknown_percent > 0
            || weather.refused_percent > 0
            || weather.sync_max > 100
            || state
                .life
                .as_ref()
                .is_none_or(|life| life.is_ill(&state.disk))
    }

    pub(super) fn is_idle(&self) -> bool {
        let state = self.state();
        state.staged.is_empty() && state.outgoing.is_empty() && !state.is_syncing
    }

    /// Whether the machine is off, or the log stopped for good: then the process must end.
    pub(super) fn ends(&self) -> Option<bool> {
        let state = self.state();
        let life = state.life.as_ref()?;
        let is_off = state.disk.is_off();
        let is_poisoned = matches!(life.health(), Health::Poisoned { .. });
        (is_off || is_poisoned).then_some(is_off)
    }

    /// The machine dies in the middle of one of its next operations.
    pub(super) fn dies_soon(&self) {
        let mut state = self.state();
        let within = state.random.between(1, 40);
        let at = state.disk.counters().operations + within;
        state.disk.power_off_at(at);
    }

    /// The machine goes on living.
    pub(super) fn lives_on(&self) {
        self.state().disk.power_off_at(u64::MAX);
    }

    pub(super) fn counts(&self) -> Counts {
        let state = self.state();
        Counts {
            compacted: state.evidence.compacted,
            ..state.counts
        }
    }

    /// Somebody else sends a record, again and again until it is acknowledged. Whether the topic is
    /// there.
    pub(super) fn append(&self, topic: &TopicName, record: Record) -> bool {
        let mut state = self.state();
        let Some(spec) = state.topics.get(topic) else {
            return false;
        };
        let count = u64::try_from(spec.partitions).unwrap_or(1);
        let index = i32::try_from(state.random.below(count)).unwrap_or(0);
        let topic = topic.clone();
        let outgoing = Outgoing::new(Partition { topic, index }, record);
        state.outgoing.push(outgoing);
        drop(state);
        self.send();
        true
    }

    pub(super) fn fresh(&self) -> Vec<(Partition, Record)> {
        std::mem::take(&mut self.state().fresh)
    }

    /// The background work of the log, until there is none.
    pub(super) fn compact(&self) {
        let mut state = self.state();
        let State { life, disk, .. } = &mut *state;
        if let Some(life) = life
            && !life.is_ill(disk)
        {
            life.maintain(2_000);
        }
    }

    /// What others wait to send is handed to the broker.
    fn send(&self) {
        let mut state = self.state();
        let State { life, outgoing, .. } = &mut *state;
        let Some(life) = life else {
            return;
        };
        for outgoing in outgoing.iter_mut() {
            outgoing.send(&life.broker);
        }
        drop(state);
        self.kick();
    }

    /// There may be something to sync.
    fn kick(&self) {
        let mut state = self.state();
        if state.is_syncing {
            return;
        }
        let Some(life) = &state.life else {
            return;
        };
        let handle = life.world.handle().clone();
        state.is_syncing = true;
        let most = state.weather.sync_max;
        let takes = Duration::from_millis(state.random.between(0, most));
        drop(state);
        let ledger = self.clone();
        drop(handle.spawn(async move {
            sleep(takes).await;
            ledger.sync();
        }));
    }

    /// What is queued becomes durable, is read back, and whoever asked is told.
    fn sync(&self) {
        let mut state = self.state();
        state.is_syncing = false;
        let refused = match state.sync() {
            Ok(refused) => refused,
            Err(found) => {
                let watch = Arc::clone(&state.watch);
                drop(state);
                return lock(&watch).found(found);
            }
        };
        let handle = state.life.as_ref().map(|life| life.world.handle().clone());
        let goes_on = !state.staged.is_empty() && !state.disk.is_off();
        drop(state);
        if goes_on {
            self.kick();
        }
        if let Some(handle) = handle.filter(|_| refused) {
            let ledger = self.clone();
            drop(handle.spawn(async move {
                sleep(SEND_AGAIN).await;
                ledger.send();
            }));
        }
    }

    /// A future of the broker; whatever it queues is synced.
    fn attended<'a, T: 'a>(self, mut future: BoxFuture<'a, T>) -> BoxFuture<'a, T> {
        Box::pin(poll_fn(move |cx| {
            let polled = future.as_mut().poll(cx);
            self.kick();
            polled
        }))
    }

    /// The ledger of the broker that runs.
    fn inner(&self) -> Result<EmbeddedLedger, Error> {
        let state = self.state();
        let life = state.life.as_ref();
        let gone = || Error::Unavailable("the node is gone".to_owned());
        life.map(|life| life.ledger.clone()).ok_or_else(gone)
    }
}

/// Commits, unless somebody breaks that.
async fn commit_as(
    inner: &EmbeddedLedger,
    by: &Owner,
    mut commit: Commit,
    in_halves: bool,
) -> Result<Committed, Error> {
    let mut offsets = Vec::new();
    if in_halves {
        let half = commit.records.split_off(commit.records.len() / 2);
        let first = Commit {
            records: std::mem::replace(&mut commit.records, half),
            ..Commit::default()
        };
        offsets = inner.commit(by, first).await?.offsets;
    }
    offsets.extend(inner.commit(by, commit).await?.offsets);
    Ok(Committed { offsets })
}

/// To some topics, others than the orchestrator write, too.
fn is_of_others(name: &TopicName) -> bool {
    OF_OTHERS.contains(&name.as_str())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Runs the committer and tells; whether something that others sent was refused.
    fn sync(&mut self) -> Result<bool, Broken> {
        let Some(life) = &mut self.life else {
            return Ok(false);
        };
        life.commit();
        if self.disk.is_off() {
            // Nobody hears of anything any more.
            return Ok(false);
        }
        let is_poisoned = matches!(life.health(), Health::Poisoned { .. });
        life.read(&self.topics, &mut self.evidence)?;
        let settled = self.settle(is_poisoned);
        let refused = self.sent();
        if let Some(life) = &mut self.life
            && !is_poisoned
            && self.random.percent(10)
        {
            life.maintain(1);
        }
        settled.map(|()| refused)
    }

    /// Takes the outcomes of commits, in their order.
    fn settle(&mut self, is_poisoned: bool) -> Result<(), Broken> {
        let mut cx = Context::from_waker(Waker::noop());
        while let Some(mut staged) = self.staged.pop_front() {
            let Poll::Ready(outcome) = staged.outcome.as_mut().poll(&mut cx) else {
                self.staged.push_front(staged);
                break;
            };
            let Staged { asked, answer, .. } = staged;
            match &outcome {
                Ok(committed) => {
                    self.evidence.happened(&asked, &committed.offsets)?;
                    self.became_durable(&asked.records);
                }
                Err(Error::Fenced { .. } | Error::TimerGone(_)) => {}
                Err(_) => {
                    self.evidence.failed(&asked.owner);
                    match is_poisoned {
                        true => {
                            self.counts.unknown += 1;
                            self.unsure.push(asked);
                        }
                        false => self.counts.full += 1,
                    }
                }
            }
            // Whoever asked may be gone.
            drop(answer.send(outcome));
        }
        self.evidence.is_all_claimed(is_of_others)
    }

    fn became_durable(&mut self, records: &[(Partition, Record)]) {
        self.counts.commits += 1;
        lock(&self.watch).committed(records);
        for (partition, record) in records {
            if !partition.topic.as_str().starts_with('_') {
                self.fresh.push((partition.clone(), record.clone()));
            }
        }
    }

    /// What others sent and the log has is theirs no more.
    fn sent(&mut self) -> bool {
        let mut refused = false;
        self.outgoing
            .retain_mut(|outgoing| match outgoing.outcome() {
                Some(true) => false,
                Some(false) => {
                    refused = true;
                    true
                }
                None => true,
            });
        refused
    }
}

impl Ledger for DiskLedger {
    fn create_topic(&self, topic: TopicSpec) -> BoxFuture<'_, Result<(), Error>> {
        self.state()
            .topics
            .entry(topic.name.clone())
            .or_insert_with(|| topic.clone());
        let inner = self.inner();
        let asked = async move { inner?.create_topic(topic).await };
        self.clone().attended(Box::pin(asked))
    }

    fn own(&self, partition: Partition) -> BoxFuture<'_, Result<Owner, Error>> {
        let inner = self.inner();
        let asked = async move { inner?.own(partition).await };
        self.clone().attended(Box::pin(asked))
    }

    fn commit(&self, owner: &Owner, mut commit: Commit) -> BoxFuture<'_, Result<Committed, Error>> {
        let inner = match self.inner() {
            Ok(inner) => inner,
            Err(gone) => return Box::pin(ready(Err(gone))),
        };
        let mut state = self.state();
        let (mut is_early, mut in_halves) = (false, false);
        if let Some(tamper) = &mut state.tamper {
            is_early = tamper.answers_early(&commit);
            in_halves = tamper.writes_halves();
            tamper.commit(&mut commit);
        }
        let (wanted, by) = (commit.clone(), owner.clone());
        let fired = commit.fired.into_iter();
        let fired = fired.map(|timer| (timer.target, timer.record));
        let records = commit.records.into_iter().chain(fired).collect();
        let mut outcome: BoxFuture<'static, _> =
            Box::pin(async move { commit_as(&inner, &by, wanted, in_halves).await });
        // The first poll queues it.
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(refused) = outcome.as_mut().poll(&mut cx) {
            return Box::pin(ready(refused));
        }
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            owner: owner.clone(),
            records,
            progress: commit.progress,
            must_be: false,
        };
        state.staged.push_back(Staged {
            asked,
            outcome,
            answer,
        });
        drop(state);
        self.kick();
        if is_early {
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
        let inner = self.inner();
        Box::pin(async move { inner?.follow(partition, offset, records_max).await })
    }

    fn progress(
        &self,
        reader: &str,
        partition: Partition,
    ) -> BoxFuture<'_, Result<Option<i64>, Error>> {
        let reader = reader.to_owned();
        let inner = self.inner();
        Box::pin(async move { inner?.progress(&reader, partition).await })
    }

    fn due(
        &self,
        owner: &Owner,
        now: Timestamp,
        timers_max: usize,
    ) -> BoxFuture<'_, Result<Due, Error>> {
        let owner = owner.clone();
        let inner = self.inner();
        Box::pin(async move { inner?.due(&owner, now, timers_max).await })
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;
    use tokio::time::timeout;
    use wharf_message::ledger::conformance::CASES;

    use super::*;

    #[test]
    fn it_keeps_the_contract_of_ledgers_on_a_disk_that_is_well() {
        for (name, case) in CASES {
            let mut random = Random::new(1);
            let options = draw_options(&mut random);
            let ledger = DiskLedger::new(random, options, Arc::default(), None);
            ledger.set_weather(Weather::of(20));
            let mut runtime = Builder::new_current_thread();
            let runtime = runtime.enable_time().start_paused(true).build().unwrap();
            assert_eq!(ledger.open(runtime.handle()), Ok(()));
            let case = runtime.spawn(case(Arc::new(ledger)));
            let patience = Duration::from_secs(60);
            let outcome = runtime.block_on(async { timeout(patience, case).await });
            assert!(matches!(outcome, Ok(Ok(()))), "{name}: {outcome:?}");
        }
    }
}
