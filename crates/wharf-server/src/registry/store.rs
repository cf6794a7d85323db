//! The one writer: decides changes, makes them durable in `_schemas`, publishes them, answers.
//!
//! What waits is decided together against a working copy, one change after the other, and becomes one
//! commit of the ledger; while that is synced, the next group gathers. Only then do readers see it and
//! clients hear of it. Records that others write to the topic are followed and applied between groups.
//!
//! Invariants: what is published is the replay of the topic up to one offset, nothing else; nothing is
//! answered before the sync that covers it; a commit whose end is unknown is never assumed to have
//! happened or not: the partition is owned anew and read again.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use wharf_message::ledger::{Commit, Entry, Error, Ledger, Owner, Partition, Record, TopicSpec};
use wharf_message::{Code, Timestamp, TopicName};
use wharf_schema::registry::{Applied, Decision, Refusal, Registry};

use super::answer::Answer;
use super::published::Published;
use crate::clock;
use crate::flag::raised;

/// The topic, by Confluent's name.
pub(super) const TOPIC: &str = "_schemas";
/// What is committed at every start, to learn where the topic ends; Confluent's registry does the same.
/// Not in the usual order, because the value of the usual one keeps the highest ids, and compaction
/// compares bytes.
const NOOP: &[u8] = br#"{"magic":0,"keytype":"NOOP"}"#;
/// How many changes are decided together at most.
const GROUP_MAX: usize = 512;
/// No change joins a group that has this many bytes of records: one commit must fit the journal.
const GROUP_BYTES: usize = 512 << 10;
/// How many records are read at once.
const READ_MAX: usize = 10_000;
/// How many tombstones for old forms of keys are committed at once.
const REPAIRS_MAX: usize = 1_000;
/// How often a topic that is not there, or cannot be read, is looked for.
const LOOK: Duration = Duration::from_secs(1);
/// Where the end is not known, reading is at the end when nothing comes for this long.
const QUIET: Duration = Duration::from_millis(500);
/// How often a group is decided anew because it was too large, or the ownership was lost.
const ATTEMPTS_MAX: usize = 4;
/// Reasons of ignored records that are told one by one for each replay.
const IGNORED_TOLD: usize = 10;

/// What is to be changed, decided against what is there. Called again when its group has to be.
pub(super) type Change =
    Arc<dyn Fn(&Registry, Timestamp) -> Result<Decision<Answer>, Refusal> + Send + Sync>;

type Outcome = Result<Answer, Refusal>;

/// A change and who waits for it.
pub(super) struct Waiting {
    pub(super) change: Change,
    pub(super) answer: oneshot::Sender<Outcome>,
}

/// The writer.
pub(super) struct Store {
    ledger: Arc<dyn Ledger>,
    place: Partition,
    published: Arc<Published>,
    waiting: mpsc::Receiver<Waiting>,
    /// Who may commit; `None` while the topic is not there, or after a commit of unknown end.
    owner: Option<Owner>,
    /// Whether the topic is there and was read.
    is_read: bool,
    /// The offset behind the last record that is published.
    next: i64,
}

/// The first changes of a group, decided.
struct Decided {
    working: Registry,
    records: Vec<Record>,
    answers: Vec<Outcome>,
}

impl Store {
    pub(super) fn new(
        ledger: Arc<dyn Ledger>,
        published: Arc<Published>,
        waiting: mpsc::Receiver<Waiting>,
    ) -> Self {
        let topic = TopicName::new(TOPIC).expect("the name is a valid one");
        Self {
            ledger,
            place: Partition { topic, index: 0 },
            published,
            waiting,
            owner: None,
            is_read: false,
            next: 0,
        }
    }

    /// Works until `stop`. `ready` is told when the topic was read, or could not be.
    pub(super) async fn run(mut self, ready: oneshot::Sender<()>, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = raised(&mut stop) => return,
            loaded = self.load() => self.tell(loaded.err()),
        }
        // Nobody waits for it when the node is being stopped.
        ready.send(()).ok();
        let mut group = VecDeque::new();
        loop {
            if group.is_empty() {
                let follow = self.following();
                tokio::select! {
                    biased;
                    () = raised(&mut stop) => return,
                    first = self.waiting.recv() => match first {
                        Some(first) => group.push_back(first),
                        None => return,
                    },
                    read = follow => {
                        self.follow(read).await;
                        continue;
                    }
                }
            }
            while group.len() < GROUP_MAX
                && let Ok(next) = self.waiting.try_recv()
            {
                group.push_back(next);
            }
            self.settle(&mut group).await;
        }
    }

    /// What comes next in the topic; `None` when it is time to look whether there is one.
    fn following(&self) -> BoxFuture<'static, Option<Result<Vec<Entry>, Error>>> {
        let (ledger, place, next) = (Arc::clone(&self.ledger), self.place.clone(), self.next);
        let is_read = self.is_read;
        Box::pin(async move {
            if is_read {
                return Some(ledger.follow(place, next, READ_MAX).await);
            }
            sleep(LOOK).await;
            None
        })
    }

    async fn follow(&mut self, read: Option<Result<Vec<Entry>, Error>>) {
        match read {
            Some(Ok(entries)) => {
                let mut registry = self.published.registry().as_ref().clone();
                self.apply(&mut registry, entries, &mut 0);
                self.published.publish(registry);
            }
            Some(Err(Error::Unavailable(reason))) => {
                self.tell(Some(store(&reason)));
                self.is_read = false;
            }
            // It was not there, is gone, or was cut: what is left is the truth.
            Some(Err(_)) | None => {
                self.is_read = false;
                let loaded = self.load().await;
                self.tell(loaded.err());
            }
        }
    }

    /// Keeps and logs that the registry is in trouble, or not any more.
    fn tell(&self, trouble: Option<Refusal>) {
        let reason = trouble.map(|refusal| refusal.message);
        if self.published.in_trouble(reason.clone())
            && let Some(reason) = reason
        {
            let code = Code::REGISTRY_UNAVAILABLE;
            tracing::error!(%code, reason, "the schema registry cannot use its topic");
        }
    }

    /// Owns the topic and reads what is new in it. Without a topic there is nothing to do, and when it
    /// cannot be owned, it is read all the same.
    async fn load(&mut self) -> Result<(), Refusal> {
        self.owner = None;
        let owner = match self.ledger.own(self.place.clone()).await {
            Ok(owner) => owner,
            Err(Error::UnknownPartition(_)) => {
                self.published.publish(self.published.empty());
                (self.is_read, self.next) = (false, 0);
                return Ok(());
            }
            Err(error) if self.is_read => return Err(unusable(&error)),
            Err(_unavailable) => return self.read(None).await,
        };
        self.create().await?;
        let noop = Record {
            timestamp: clock::now(),
            key: Some(bytes::Bytes::from_static(NOOP)),
            ..Record::default()
        };
        // A full disk takes no record, but is read.
        let end = match self.commit(&owner, vec![noop]).await {
            Ok(offsets) => offsets.first().copied(),
            Err(error) if self.is_read => return Err(unusable(&error)),
            Err(_unavailable) => None,
        };
        if end.is_some_and(|end| end < self.next) {
            // Another topic of the same name.
            self.is_read = false;
        }
        self.read(end).await?;
        if end.is_some() {
            self.repair(&owner).await?;
            self.owner = Some(owner);
        }
        Ok(())
    }

    /// Ends what was deleted under one form of its key and stands in the topic under another one.
    async fn repair(&mut self, owner: &Owner) -> Result<(), Refusal> {
        let repairs = self.published.registry().repairs();
        if repairs.is_empty() {
            return Ok(());
        }
        let now = clock::now();
        for part in repairs.chunks(REPAIRS_MAX) {
            let record = |(key, value): &(bytes::Bytes, Option<bytes::Bytes>)| Record {
                timestamp: now,
                key: Some(key.clone()),
                value: value.clone(),
                headers: Vec::new(),
            };
            let committed = self.commit(owner, part.iter().map(record).collect()).await;
            committed.map_err(|error| unusable(&error))?;
        }
        let count = repairs.len();
        tracing::info!(count, "old forms of deleted keys were deleted, too");
        Ok(())
    }

    /// Reads the topic to `end`, or until nothing more comes; from its start when it was not read.
    async fn read(&mut self, end: Option<i64>) -> Result<(), Refusal> {
        let mut registry = self.published.registry().as_ref().clone();
        if !self.is_read {
            (registry, self.next) = (self.published.empty(), 0);
        }
        let mut ignored = 0;
        while end.is_none_or(|end| self.next <= end) {
            let read = self.ledger.follow(self.place.clone(), self.next, READ_MAX);
            let read = match end {
                Some(_) => read.await,
                None => match timeout(QUIET, read).await {
                    Ok(read) => read,
                    Err(_quiet) => break,
                },
            };
            match read {
                Ok(entries) => _ = self.apply(&mut registry, entries, &mut ignored),
                Err(Error::OutOfRange { start, .. }) if start > self.next => self.next = start,
                Err(error) => {
                    self.is_read = false;
                    return Err(unusable(&error));
                }
            }
            tokio::task::yield_now().await;
        }
        let next = self.next;
        tracing::info!(next, ignored, "the schema registry has read its topic");
        self.is_read = true;
        self.published.publish(registry);
        Ok(())
    }

    /// Applies what was not yet applied; whether none of it was ignored.
    fn apply(&mut self, registry: &mut Registry, entries: Vec<Entry>, ignored: &mut usize) -> bool {
        let before = *ignored;
        for Entry { offset, record } in entries {
            if offset < self.next {
                continue;
            }
            self.next = offset + 1;
            if let Applied::Ignored(reason) = apply(registry, offset, &record) {
                *ignored += 1;
                self.published.ignored.inc();
                if *ignored <= IGNORED_TOLD {
                    tracing::warn!(offset, reason, "a record of {TOPIC} was ignored");
                }
            }
        }
        *ignored == before
    }

    /// Creates the topic, or makes sure that it is as it has to be.
    async fn create(&self) -> Result<(), Refusal> {
        let topic = TopicSpec {
            name: self.place.topic.clone(),
            partitions: 1,
            compacted: true,
        };
        let created = self.ledger.create_topic(topic).await;
        created.map_err(|error| unusable(&error))
    }

    async fn commit(&self, owner: &Owner, records: Vec<Record>) -> Result<Vec<i64>, Error> {
        let records = records.into_iter();
        let commit = Commit {
            records: records.map(|record| (self.place.clone(), record)).collect(),
            ..Commit::default()
        };
        Ok(self.ledger.commit(owner, commit).await?.offsets)
    }

    /// Decides, commits and answers what waits; what there is no room for stays for the next time.
    async fn settle(&mut self, group: &mut VecDeque<Waiting>) {
        let answers = match self.settled(group).await {
            Ok(answers) => {
                self.tell(None);
                answers
            }
            Err(refusal) => {
                self.tell(Some(refusal.clone()));
                vec![Err(refusal); group.len()]
            }
        };
        for answer in answers {
            if let Some(waiting) = group.pop_front() {
                // Whoever asked may be gone.
                drop(waiting.answer.send(answer));
            }
        }
    }

    /// The answers of the first changes of the group, as many as were decided. An error is the answer
    /// of all, and none of them happened.
    async fn settled(&mut self, group: &VecDeque<Waiting>) -> Result<Vec<Outcome>, Refusal> {
        let mut most = GROUP_MAX;
        for _attempt in 0..ATTEMPTS_MAX {
            let owner = self.owned().await?;
            let Decided {
                working,
                records,
                answers,
            } = self.decided(group, most).await?;
            if records.is_empty() {
                return Ok(answers);
            }
            match self.commit(&owner, records).await {
                Ok(offsets) => return Ok(self.publish(working, &offsets, answers).await),
                Err(Error::TooLarge { .. }) if answers.len() > 1 => most = 1,
                Err(Error::TooLarge { bytes }) => {
                    let message = format!("{bytes} bytes are too large to be stored at once");
                    return Ok(vec![Err(Refusal::new(42209, message))]);
                }
                Err(Error::Unavailable(reason)) => {
                    self.owner = None;
                    let message = format!(
                        "{reason}; whether the change is stored is not known: send it again"
                    );
                    tracing::error!(reason, "a change of schemas has an unknown end");
                    return Ok(vec![Err(store(&message)); answers.len()]);
                }
                // Nothing happened: decided anew, by the owner, on what is there now.
                Err(_refused) => self.owner = None,
            }
        }
        Err(store("somebody else owns the registry's topic"))
    }

    /// The right to commit, won anew where it was lost.
    async fn owned(&mut self) -> Result<Owner, Refusal> {
        if self.owner.is_none() {
            self.create().await?;
            self.load().await?;
        }
        let owner = self.owner.clone();
        owner.ok_or_else(|| store("the registry's topic takes no records"))
    }

    /// Decides the first changes, `most` of them, beside the tasks that serve: a comparison may take long.
    async fn decided(&self, group: &VecDeque<Waiting>, most: usize) -> Result<Decided, Refusal> {
        let changes = group.iter().take(most);
        let changes: Vec<_> = changes.map(|waiting| Arc::clone(&waiting.change)).collect();
        let (registry, next) = (self.published.registry(), self.next);
        spawn_blocking(move || decide(registry.as_ref().clone(), next, &changes))
            .await
            .map_err(|_stopping| store("the node is stopping"))
    }

    /// Publishes what was committed. Where records of others came between, all are applied as they are
    /// in the topic, and what they made void is not answered as done.
    async fn publish(
        &mut self,
        working: Registry,
        offsets: &[i64],
        answers: Vec<Outcome>,
    ) -> Vec<Outcome> {
        if offsets.first() == Some(&self.next) {
            self.next += i64::try_from(offsets.len()).unwrap_or(i64::MAX);
            self.published.publish(working);
            return answers;
        }
        let mut registry = self.published.registry().as_ref().clone();
        let (end, mut is_whole) = (offsets.last().copied().unwrap_or(-1), true);
        while self.next <= end {
            let read = self.ledger.follow(self.place.clone(), self.next, READ_MAX);
            match read.await {
                Ok(entries) => is_whole &= self.apply(&mut registry, entries, &mut 0),
                Err(error) => {
                    (self.owner, self.is_read) = (None, false);
                    return vec![Err(unusable(&error)); answers.len()];
                }
            }
        }
        self.published.publish(registry);
        if is_whole {
            return answers;
        }
        let overtaken =
            || store("a record of another writer came before the change; look, or send it again");
        vec![Err(overtaken()); answers.len()]
    }
}

/// Decides the changes one after the other, each on what those before it leave; as many as one commit
/// has room for, and at least one.
fn decide(mut working: Registry, mut next: i64, changes: &[Change]) -> Decided {
    let (mut records, mut answers, mut bytes) = (Vec::new(), Vec::new(), 0);
    let now = clock::now();
    for change in changes {
        if bytes > GROUP_BYTES {
            break;
        }
        let decided = catch_unwind(AssertUnwindSafe(|| change(&working, now)));
        let decision = decided.unwrap_or_else(|_panic| {
            Err(Refusal::new(
                500,
                "The change cannot be decided; the log says why",
            ))
        });
        let answer = decision.map(|decision| {
            for (key, value) in decision.records {
                bytes += key.len() + value.as_ref().map_or(0, bytes::Bytes::len);
                let record = Record {
                    timestamp: now,
                    key: Some(key),
                    value,
                    headers: Vec::new(),
                };
                let applied = apply(&mut working, next, &record);
                debug_assert!(!matches!(applied, Applied::Ignored(_)), "{applied:?}");
                next += 1;
                records.push(record);
            }
            decision.answer
        });
        answers.push(answer);
    }
    Decided {
        working,
        records,
        answers,
    }
}

fn apply(registry: &mut Registry, offset: i64, record: &Record) -> Applied {
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    registry.apply(offset, record.timestamp, key, value)
}

/// Confluent's error of a store that does not work.
fn store(reason: &str) -> Refusal {
    Refusal::new(50001, format!("Error in the backend data store: {reason}"))
}

fn unusable(error: &Error) -> Refusal {
    store(&format!("{TOPIC}: {error}"))
}
