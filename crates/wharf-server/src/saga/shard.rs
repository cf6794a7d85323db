//! One partition of sagas: decides what waits together, commits it at once, then tells.
//!
//! While one group is being synced, the next is decided on what the first will have made so, a few
//! groups deep. Nobody hears of anything before the sync that covers it: no caller, no worker, no
//! reader of the list. A commit that fails, or whose end is unknown, ends the ownership: everything
//! in memory is thrown away and read again from the log, which is the only truth.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use wharf_message::ledger::{Commit, Committed, Error, Owner, Partition, Record};
use wharf_saga::definition::Definition;
use wharf_saga::machine::{Command, Input, Parent, Saga, SagaId, Start};

use super::children;
use super::held::{Awake, Held, Patterns};
use super::refusal::{Refused, refuse_for_a_while};
use super::shared::Shared;
use super::store::{Fold, MARK, record};
use super::view::{Names, Row};
use crate::clock;
use crate::flag::raised;

/// How many inputs are decided together at most.
const GROUP_MAX: usize = 1_024;
/// No input joins a group that has this many bytes of records: one commit must fit the journal.
pub(super) const GROUP_BYTES: usize = 1 << 20;
/// How many commits are on their way at once.
const PIPELINE: usize = 4;
/// How long to wait before trying again what the ledger refused.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// How many records are read at once.
const READ_MAX: usize = 10_000;
/// How long one read of what is there may take.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked for sagas to be forgotten.
const SWEEP: Duration = Duration::from_secs(1);
/// Reasons of unreadable records that are told one by one.
const UNREADABLE_TOLD: usize = 10;

/// What a caller gets.
pub(super) type Answer<T> = oneshot::Sender<Result<T, Refused>>;

/// What looks at a saga.
pub(super) type Look = Box<dyn FnOnce(Result<Looked<'_>, Refused>) + Send>;
/// What is told when a commit came to its end.
type Told = Box<dyn FnOnce(&mut Shard, Result<(), Refused>) + Send>;

/// What there is to do.
pub(super) enum Work {
    /// A saga is to begin; the answer says whether it is a new one.
    Start {
        start: Box<Start>,
        definition: Arc<Definition>,
        answer: Option<Answer<bool>>,
    },
    /// Something happened to a saga.
    Input {
        saga: SagaId,
        input: Box<Input>,
        answer: Option<Answer<()>>,
    },
    /// A saga that turned back does not want its sub-saga any more, and waits for its end.
    Abort { child: SagaId, parent: Parent },
    /// A sub-saga asks whether it is still waited for.
    Wanted { child: SagaId, parent: Parent },
    /// A partition was read again: what was asked of its sagas may be lost.
    AskAgain(usize),
    /// Somebody wants to look at a saga, as of what is durable.
    Look(SagaId, Look),
}

/// A saga to look at.
pub(super) struct Looked<'a> {
    pub(super) saga: &'a Saga,
    pub(super) offsets: &'a VecDeque<(u64, i64)>,
}

/// What goes out once a commit is durable.
pub(super) enum After {
    /// A task for a worker that is not told by the commit itself.
    Task(Box<Command>),
    /// A sub-saga is to be started.
    Child(Box<Command>),
    /// A sub-saga is to be aborted.
    Abort(SagaId, Parent),
    /// A sub-saga asks its parent whether it is still waited for.
    Ask(SagaId, Parent),
    /// Something for another saga, or for a worker.
    Send(SagaId, Input),
    /// Nobody waits for a dispatch any more.
    Cancel(wharf_saga::machine::TaskToken),
    /// An alarm, as it was recorded.
    Alarm(String),
}

/// A group that was decided.
#[derive(Default)]
pub(super) struct Group {
    pub(super) records: Vec<(Partition, Record)>,
    pub(super) bytes: usize,
    /// Where among the records facts stand: the saga and their number.
    pub(super) facts: Vec<(usize, SagaId, u64)>,
    pub(super) after: Vec<After>,
    /// What follows from what was decided, and belongs into the same commit.
    pub(super) at_once: VecDeque<(SagaId, Input)>,
    pub(super) changed: BTreeSet<SagaId>,
    pub(super) rows: Vec<Row>,
    pub(super) forgotten: Vec<SagaId>,
    answers: Vec<Told>,
}

/// The partition at work.
pub(super) struct Shard {
    pub(super) place: Partition,
    pub(super) shared: Arc<Shared>,
    /// In boxes: the table has much room that is not taken.
    pub(super) sagas: HashMap<SagaId, Box<Held>>,
    /// Those that do not sleep.
    pub(super) awake: Awake,
    pub(super) patterns: Patterns,
    pub(super) timers: BTreeSet<(i64, SagaId)>,
    /// Those that ended, by when.
    pub(super) ended: BTreeSet<(i64, SagaId)>,
    /// What rows of sagas have in common.
    pub(super) names: Names,
}

/// What waits for a partition: requests, of which there are so many, and what follows from tasks
/// that are open.
pub(super) struct Queues {
    pub(super) requests: mpsc::Receiver<Work>,
    pub(super) follow_ups: mpsc::UnboundedReceiver<Work>,
}

impl Shard {
    pub(super) fn new(place: Partition, shared: Arc<Shared>) -> Self {
        Self {
            place,
            shared,
            sagas: HashMap::new(),
            awake: Awake::default(),
            patterns: Patterns::default(),
            timers: BTreeSet::new(),
            ended: BTreeSet::new(),
            names: Names::default(),
        }
    }

    /// Works until `stop`; `ready` is told when the partition was read for the first time.
    pub(super) async fn run(
        mut self,
        mut queues: Queues,
        ready: oneshot::Sender<()>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut ready = Some(ready);
        let mut is_again = false;
        loop {
            let owner = tokio::select! {
                biased;
                () = raised(&mut stop) => return,
                loaded = self.load() => match loaded {
                    Ok(owner) => owner,
                    Err(refused) => {
                        self.shared.in_trouble(self.place.index, Some(&refused.message));
                        drop(ready.take());
                        is_again = true;
                        if !refuse_for_a_while(&mut queues, &refused, &mut stop).await {
                            return;
                        }
                        continue;
                    }
                },
            };
            self.shared.in_trouble(self.place.index, None);
            if let Some(ready) = ready.take() {
                // Nobody waits for it when the node is being stopped.
                ready.send(()).ok();
            }
            self.resume();
            if is_again {
                self.shared.ask_again_of(self.place.index);
            }
            is_again = true;
            if self.work(&owner, &mut queues, &mut stop).await {
                return;
            }
        }
    }

    /// Owns the partition and reads it.
    async fn load(&mut self) -> Result<Owner, Refused> {
        let ledger = Arc::clone(&self.shared.ledger);
        let refused = |error: Error| Refused::from(&error);
        let owner = ledger.own(self.place.clone()).await.map_err(refused)?;
        let mark = record(
            String::from_utf8_lossy(MARK).into_owned(),
            None,
            clock::now(),
        );
        let commit = Commit {
            records: vec![(self.place.clone(), mark)],
            ..Commit::default()
        };
        let committed = ledger.commit(&owner, commit).await.map_err(refused)?;
        let end = committed.offsets.first().copied().unwrap_or(0);
        let (mut fold, mut next) = (Fold::default(), 0);
        while next <= end {
            let read = ledger.follow(self.place.clone(), next, READ_MAX);
            let entries = match timeout(READ_TIMEOUT, read).await {
                Ok(Ok(entries)) => entries,
                Ok(Err(Error::OutOfRange { start, .. })) if start > next => {
                    next = start;
                    continue;
                }
                Ok(Err(error)) => return Err(refused(error)),
                Err(_late) => return Err(Refused::unavailable("its sagas cannot be read")),
            };
            for entry in &entries {
                next = entry.offset + 1;
                if let Err(reason) = fold.take(entry) {
                    fold.unreadable += 1;
                    if fold.unreadable <= UNREADABLE_TOLD {
                        let (partition, offset) = (self.place.index, entry.offset);
                        tracing::error!(
                            partition,
                            offset,
                            reason,
                            "a record of a saga cannot be read"
                        );
                    }
                }
            }
            tokio::task::yield_now().await;
        }
        self.take_over(fold);
        Ok(owner)
    }

    fn take_over(&mut self, fold: Fold) {
        let gone: Vec<_> = self.sagas.keys().copied().collect();
        let (sagas, broken) = fold.finish();
        for id in broken {
            tracing::error!(saga = %id, "records of a saga are missing; it is left as it is");
        }
        (self.timers, self.ended) = (BTreeSet::new(), BTreeSet::new());
        self.shared.index.forget(&gone);
        let is_gone = |id| self.sagas.contains_key(&id);
        self.shared.slots.forget(self.place.index, is_gone);
        let held = sagas.into_iter().map(|(id, stored)| {
            let start = stored.saga.start();
            let definition =
                start.and_then(|start| self.shared.definitions.by_hash(&start.definition));
            (id, Box::new(Held::new(stored, definition)))
        });
        self.sagas = held.collect();
        self.awake.clear();
        let mut rows = Vec::new();
        for id in self.ids() {
            self.awake.add(id);
            self.note(id);
            let saga = self.sagas.get(&id).and_then(|held| held.awake());
            rows.extend(saga.and_then(|saga| Row::of(saga, &mut self.names)));
        }
        self.shared.index.publish(rows);
    }

    /// The sagas, always in the same order.
    pub(super) fn ids(&self) -> Vec<SagaId> {
        let mut ids: Vec<_> = self.sagas.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Keeps the timers and the order of ending of a saga that changed.
    pub(super) fn note(&mut self, id: SagaId) {
        let Some(held) = self.sagas.get_mut(&id) else {
            return;
        };
        let Some(saga) = held.awake() else {
            return;
        };
        let due = saga.due().map(wharf_message::Timestamp::as_millis);
        let ended = saga.ended();
        held.is_ended = ended.is_some();
        if held.due != due {
            if let Some(old) = held.due {
                self.timers.remove(&(old, id));
            }
            if let Some(new) = due {
                self.timers.insert((new, id));
            }
            held.due = due;
        }
        if let Some(ended) = ended {
            self.ended.insert((ended.as_millis(), id));
        }
    }

    /// Tells workers and sub-sagas again what they were told before; they know it by its key.
    fn resume(&mut self) {
        let mut group = Group::default();
        let ids = self.ids();
        for id in &ids {
            let held = self.sagas.get(id);
            let Some((held, saga)) = held.and_then(|held| Some((held, held.awake()?))) else {
                continue;
            };
            for task in saga.open() {
                match (task.held, task.child) {
                    (true, _) => {}
                    (false, true) => group.after.push(After::Child(Box::new(task.command))),
                    (false, false) if task.accepted => {}
                    (false, false) => self.shared.again(task.command, &mut group.after),
                }
            }
            if saga.ended().is_none()
                && let Some(start) = saga.start()
                && let Some(parent) = &start.parent
            {
                self.shared
                    .children
                    .note((parent.saga, parent.step, parent.generation), *id);
            }
            self.aborts(held, saga, &mut group.after);
            let parent = children::asks(saga);
            group
                .after
                .extend(parent.map(|parent| After::Ask(*id, parent)));
        }
        let sagas = self.sagas.iter();
        let mut ids: Vec<_> = sagas
            .filter_map(|(id, held)| Some((held.awake()?.started().as_millis(), *id)))
            .collect();
        ids.sort_unstable();
        for (_, id) in ids {
            self.limits(id);
        }
        for (saga, step) in self.shared.slots.told(self.place.index) {
            self.shared.follow_up(saga, Input::Admit { step });
        }
        self.shared.send(group.after);
    }

    /// Decides, commits and tells until the ownership is over; whether the node stops.
    async fn work(
        &mut self,
        owner: &Owner,
        queues: &mut Queues,
        stop: &mut watch::Receiver<bool>,
    ) -> bool {
        let ledger = Arc::clone(&self.shared.ledger);
        let mut committing: FuturesOrdered<BoxFuture<'_, Result<Committed, Error>>> =
            FuturesOrdered::new();
        let mut waiting: VecDeque<Group> = VecDeque::new();
        let mut sweep = Instant::now() + SWEEP;
        let (mut is_stopping, mut is_refused) = (false, false);
        loop {
            let may_decide = waiting.len() < PIPELINE && !is_stopping && !is_refused;
            if is_stopping && waiting.is_empty() {
                self.shared.keep_progress(owner).await;
                return true;
            }
            let next_timer = self.next_timer(sweep);
            let mut group = Group::default();
            let first = tokio::select! {
                biased;
                () = raised(stop), if !is_stopping => {
                    is_stopping = true;
                    continue;
                }
                Some(done) = committing.next() => {
                    let group = waiting.pop_front().unwrap_or_default();
                    match done {
                        Ok(committed) => self.told(group, &committed),
                        Err(error) => {
                            self.lost(group, waiting, &error);
                            return false;
                        }
                    }
                    continue;
                }
                Some(work) = queues.follow_ups.recv(), if may_decide => Some(work),
                Some(work) = queues.requests.recv(), if may_decide => Some(work),
                () = sleep_until(next_timer), if may_decide => None,
            };
            if let Some(work) = first {
                self.decide(work, &mut group);
            }
            self.fire(&mut group);
            let is_due = Instant::now() >= sweep;
            if is_due {
                sweep = Instant::now() + self.tidy(&mut group);
            }
            self.decide_waiting(queues, &mut group);
            self.close(&mut group);
            self.doze();
            // How far others' topics were read is kept now and then also where nothing else is.
            let is_kept = is_due || !group.records.is_empty();
            let progress = is_kept.then(|| self.shared.progress.take());
            let progress = progress.unwrap_or_default();
            let is_empty = group.records.is_empty() && progress.is_empty();
            if is_empty && waiting.is_empty() {
                self.told(group, &Committed::default());
                continue;
            }
            if is_empty {
                committing.push_back(Box::pin(std::future::ready(Ok(Committed::default()))));
            } else {
                let commit = Commit {
                    records: std::mem::take(&mut group.records),
                    progress,
                    ..Commit::default()
                };
                // Called now, so that commits keep their order. Nothing is decided any more on what
                // was refused at once: a later commit that is taken would have a gap before it.
                let mut commit = ledger.commit(owner, commit);
                match (&mut commit).now_or_never() {
                    Some(done) => {
                        is_refused = done.is_err();
                        committing.push_back(Box::pin(std::future::ready(done)));
                    }
                    None => committing.push_back(commit),
                }
            }
            waiting.push_back(group);
        }
    }

    /// What waits joins the group.
    fn decide_waiting(&mut self, queues: &mut Queues, group: &mut Group) {
        for _ in 1..GROUP_MAX {
            if group.bytes > GROUP_BYTES {
                return;
            }
            let next = queues.follow_ups.try_recv();
            match next.or_else(|_empty| queues.requests.try_recv()) {
                Ok(work) => self.decide(work, group),
                Err(_empty) => return,
            }
        }
    }

    /// When there is something to do, if nobody asks for anything.
    fn next_timer(&self, sweep: Instant) -> Instant {
        let now = Instant::now();
        if self.awake.is_due() {
            return now;
        }
        let Some((due, _)) = self.timers.first() else {
            return sweep;
        };
        let wait = u64::try_from(due - clock::now().as_millis()).unwrap_or(0);
        sweep.min(now + Duration::from_millis(wait))
    }

    /// Forgets what ended long ago; how long until it is looked for again.
    fn tidy(&mut self, group: &mut Group) -> Duration {
        // What waits is forgotten with the next groups, however fast sagas end.
        if self.sweep(group) {
            return Duration::ZERO;
        }
        self.swept();
        SWEEP
    }

    /// What is due happens.
    fn fire(&mut self, group: &mut Group) {
        let now = clock::now().as_millis();
        for _ in 0..GROUP_MAX {
            let Some((due, id)) = self.timers.first().copied() else {
                break;
            };
            if due > now || group.bytes > GROUP_BYTES {
                break;
            }
            if let Err(refused) = self.apply(id, Input::Tick, group) {
                tracing::error!(saga = %id, %refused, "what was due for a saga could not be decided");
                // Not again before something else happens to it.
                self.timers.remove(&(due, id));
            }
            self.settle(group);
        }
    }

    /// Decides one thing; the answer waits for the commit.
    fn decide(&mut self, work: Work, group: &mut Group) {
        self.decide_one(work, group);
        self.settle(group);
    }

    fn decide_one(&mut self, work: Work, group: &mut Group) {
        match work {
            Work::Start {
                start,
                definition,
                answer,
            } => {
                let id = start.id;
                let decided = self.begin(*start, definition, group);
                group.answer(answer, decided.map(|is_new| (id, is_new)), |(_, is_new)| {
                    is_new
                });
            }
            Work::Input {
                saga,
                input,
                answer,
            } => {
                let decided = self.apply(saga, *input, group);
                group.answer(answer, decided, |()| ());
            }
            Work::Abort { child, parent } => self.abort_child(child, &parent, group),
            Work::Wanted { child, parent } => self.wanted(child, parent, group),
            Work::AskAgain(index) => self.ask_again(index, &mut group.after),
            Work::Look(id, look) => {
                // As it is now: what is decided until the commit is there may not become durable.
                let held = self.sagas.get(&id);
                let saga = held.map(|held| held.look().map(Cow::into_owned));
                group.answers.push(Box::new(move |shard, durable| {
                    let held = shard.sagas.get(&id);
                    let looked = match (durable, &saga, held) {
                        (Err(refused), ..) => Err(refused),
                        (Ok(()), Some(Err(refused)), _) => Err(refused.clone()),
                        (Ok(()), Some(Ok(saga)), Some(held)) => Ok(Looked {
                            saga,
                            offsets: &held.records.offsets,
                        }),
                        (Ok(()), ..) => Err(Refused::unknown(id)),
                    };
                    look(looked);
                }));
            }
        }
    }

    /// What was decided is durable: everybody hears of it.
    fn told(&mut self, group: Group, committed: &Committed) {
        for (at, id, seq) in &group.facts {
            if let (Some(held), Some(offset)) = (self.sagas.get_mut(id), committed.offsets.get(*at))
            {
                held.records.offsets.push_back((*seq, *offset));
            }
        }
        self.shared.index.publish(group.rows);
        self.shared.index.forget(&group.forgotten);
        self.shared.send(group.after);
        for answer in group.answers {
            answer(self, Ok(()));
        }
    }

    /// A commit did not happen, or nobody knows: all that was decided since is void.
    fn lost(&mut self, group: Group, waiting: VecDeque<Group>, error: &Error) {
        let refused = Refused::from(error);
        tracing::error!(partition = self.place.index, %error, "a commit of sagas failed; they are read again");
        self.shared
            .in_trouble(self.place.index, Some(&refused.message));
        self.shared.topics.forget();
        for group in std::iter::once(group).chain(waiting) {
            for answer in group.answers {
                answer(self, Err(refused.clone()));
            }
        }
    }
}

impl Group {
    /// Answers once the commit is there, or at once when nothing is to be committed.
    fn answer<T: Send + 'static, U: Send + 'static>(
        &mut self,
        answer: Option<Answer<U>>,
        decided: Result<T, Refused>,
        said: impl FnOnce(T) -> U + Send + 'static,
    ) {
        let Some(answer) = answer else {
            if let Err(refused) = decided {
                tracing::debug!(%refused, "a follow-up was refused");
            }
            return;
        };
        self.answers.push(Box::new(move |_shard, durable| {
            let outcome = durable.and(decided).map(said);
            // Whoever asked may be gone.
            drop(answer.send(outcome));
        }));
    }
}
