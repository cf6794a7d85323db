//! The target over a [`Ledger`]: messages and checkpoints in one atomic step, so that nothing is lost
//! and nothing comes twice.
//!
//! Each source has a topic `_wharf.relay.<source>` of one compacted partition. Whoever owns it delivers;
//! a later owner fences the one before. A commit holds messages, the checkpoints behind them as records
//! of that topic, and two positions: `anchor`, the last whole checkpoint, and `last`. The key of a
//! checkpoint is its number since the anchor, so those before the anchor are compacted away, and those
//! from it on never.
//!
//! Invariants: one commit is under way at a time, because a later one must not happen when an earlier
//! one did not (its checkpoint would cover messages that are not there); what waits meanwhile becomes
//! the next commit. After an error nothing more is committed until the target is opened anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::timeout;
use wharf_message::ledger::{
    Commit, Error as LedgerError, Ledger, Owner, Partition, Progress, Record, TopicSpec,
};
use wharf_message::transport::deliver_at;
use wharf_message::{Code, Message, Timestamp, TopicName, partitioner};

use super::queue::{Done, Waiting, queue};
use super::{Delivered, Opened, Target};
use crate::route::refused;
use crate::{Checkpoint, Routed, Trouble};

/// The readers whose positions are kept beside the checkpoints.
const ANCHOR: &str = "wharf.relay.anchor";
const LAST: &str = "wharf.relay.last";
/// The header of every checkpoint.
const CHECKPOINT: &[u8] = b"wharf-checkpoint";
/// How many checkpoints are read at once.
const HISTORY_READ: usize = 1_000;
/// How long the checkpoints may take to be read.
const HISTORY_PATIENCE: Duration = Duration::from_secs(30);
/// What a record takes beside its message, at most; and so does each header.
const RECORD_BYTES: usize = 24;

/// Knows the topics that messages go to.
pub trait Topics: Send + Sync {
    /// The topic, created when it is missing.
    fn ensure<'a>(&'a self, topic: &'a TopicName) -> BoxFuture<'a, Result<TopicForm, Trouble>>;

    /// The topic that keeps the messages for `topic` whose time has not come (`scheduled.<topic>`),
    /// created when it is missing; and sees to it that they are sent when it has.
    fn ensure_scheduled<'a>(
        &'a self,
        topic: &'a TopicName,
    ) -> BoxFuture<'a, Result<TopicForm, Trouble>>;

    /// Why the topic would refuse this message for good, if it would: it breaks the topic's contract.
    /// Such a row is set aside, so that it does not keep those behind it.
    fn refusal(&self, topic: &TopicName, message: &Message) -> Option<String> {
        let _no_contract = (topic, message);
        None
    }
}

/// What has to be known of a topic to write to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicForm {
    /// Its name.
    pub name: TopicName,
    /// How many partitions it has, at least 1.
    pub partitions: u32,
    /// The largest [`Message::size`] it takes.
    pub message_bytes_max: usize,
}

/// How much the target commits at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerSettings {
    /// The most bytes that the ledger takes in one commit.
    pub commit_bytes_max: usize,
    /// What waits is gathered into one commit up to this many bytes.
    pub gather_bytes_max: usize,
}

impl Default for LedgerSettings {
    fn default() -> Self {
        Self {
            commit_bytes_max: 15 << 20,
            gather_bytes_max: 2 << 20,
        }
    }
}

/// A target over a ledger.
pub struct LedgerTarget {
    ledger: Arc<dyn Ledger>,
    topics: Arc<dyn Topics>,
    settings: LedgerSettings,
    now: fn() -> Timestamp,
}

impl std::fmt::Debug for LedgerTarget {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LedgerTarget")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl LedgerTarget {
    /// A target over `ledger`; `now` decides what is scheduled, and is the time of checkpoints.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        topics: Arc<dyn Topics>,
        settings: LedgerSettings,
        now: fn() -> Timestamp,
    ) -> Self {
        Self {
            ledger,
            topics,
            settings,
            now,
        }
    }

    async fn open_source(&self, source: &str) -> Result<Opened, Trouble> {
        let name = format!("_wharf.relay.{source}");
        let name = TopicName::new(&name).map_err(|error| {
            let what = format!("the checkpoints of {source:?} have no place: {error}");
            Trouble::refused(
                Code::OUTBOX_TARGET_UNAVAILABLE,
                what,
                "give it another name",
            )
        })?;
        let topic = TopicSpec {
            name: name.clone(),
            partitions: 1,
            compacted: true,
        };
        self.ledger
            .create_topic(topic)
            .await
            .map_err(|error| trouble(&error))?;
        let place = Partition {
            topic: name,
            index: 0,
        };
        let owner = self
            .ledger
            .own(place.clone())
            .await
            .map_err(|error| trouble(&error))?;
        let position = |reader| self.ledger.progress(reader, place.clone());
        let last = position(LAST).await.map_err(|error| trouble(&error))?;
        let anchor = position(ANCHOR).await.map_err(|error| trouble(&error))?;
        let history = match (anchor, last) {
            (Some(anchor), Some(last)) => self.history(&place, anchor, last).await?,
            _ => Vec::new(),
        };
        let (sink, waiting) = queue();
        let worker = Worker {
            source: source.to_owned(),
            ledger: Arc::clone(&self.ledger),
            topics: Arc::clone(&self.topics),
            settings: self.settings,
            now: self.now,
            owner,
            known: HashMap::new(),
            turn: 0,
            anchor,
            next: last.map_or(0, |last| last + 1),
            since_anchor: history.len(),
        };
        tokio::spawn(worker.run(waiting));
        Ok(Opened { sink, history })
    }

    /// The checkpoints from the anchor to the last one.
    async fn history(
        &self,
        place: &Partition,
        anchor: i64,
        last: i64,
    ) -> Result<Vec<Bytes>, Trouble> {
        let mut history = Vec::new();
        let mut next = anchor;
        while next <= last {
            let read = self.ledger.follow(place.clone(), next, HISTORY_READ);
            let Ok(read) = timeout(HISTORY_PATIENCE, read).await else {
                let what = format!(
                    "the checkpoints from {next} to {last} in {} are not there",
                    place.topic
                );
                return Err(Trouble::unavailable(Code::OUTBOX_TARGET_UNAVAILABLE, what));
            };
            let entries = read.map_err(|error| trouble(&error))?.into_iter();
            for entry in entries.take_while(|entry| entry.offset <= last) {
                next = entry.offset + 1;
                let is_ours = |(name, _): &(Bytes, _)| &**name == CHECKPOINT;
                if entry.record.headers.iter().any(is_ours) {
                    history.push(entry.record.value.unwrap_or_default());
                }
            }
        }
        Ok(history)
    }
}

impl Target for LedgerTarget {
    fn keeps_checkpoints(&self) -> bool {
        true
    }

    fn open(&self, source: &str) -> BoxFuture<'_, Result<Opened, Trouble>> {
        let source = source.to_owned();
        async move { self.open_source(&source).await }.boxed()
    }
}

/// Commits what waits, one commit after the other.
struct Worker {
    source: String,
    ledger: Arc<dyn Ledger>,
    topics: Arc<dyn Topics>,
    settings: LedgerSettings,
    now: fn() -> Timestamp,
    owner: Owner,
    /// The topics of the commit in the making; those of scheduled messages by the topic they are for.
    known: HashMap<(TopicName, bool), TopicForm>,
    /// Spreads messages without a key.
    turn: usize,
    /// The last whole checkpoint, and where the next one will be.
    anchor: Option<i64>,
    next: i64,
    /// How many checkpoints there are from the anchor on.
    since_anchor: usize,
}

/// A commit in the making.
#[derive(Default)]
struct Gathered {
    records: Vec<(Partition, Record)>,
    bytes: usize,
    checkpoints: Vec<Checkpoint>,
    answers: Vec<(Done, Delivered)>,
}

impl Worker {
    async fn run(mut self, mut waiting: mpsc::UnboundedReceiver<Waiting>) {
        while let Some(first) = waiting.recv().await {
            let mut gathered = Gathered::default();
            // They may have more partitions by now.
            self.known.clear();
            let mut next = Some(first);
            let mut failed = None;
            while let Some(delivery) = next.take() {
                failed = self.gather(&mut gathered, delivery).await.err();
                if failed.is_none() && gathered.bytes < self.settings.gather_bytes_max {
                    next = waiting.try_recv().ok();
                }
            }
            let answers = std::mem::take(&mut gathered.answers);
            let outcome = match failed {
                Some(trouble) => Err(trouble),
                None => self.commit(gathered).await,
            };
            // Whoever does not wait for an answer does not need it.
            for (done, delivered) in answers {
                drop(done.send(outcome.clone().map(|()| delivered)));
            }
            if outcome.is_err() {
                return;
            }
        }
    }

    async fn gather(&mut self, gathered: &mut Gathered, delivery: Waiting) -> Result<(), Trouble> {
        let Waiting {
            messages,
            checkpoint,
            done,
        } = delivery;
        let mut delivered = Delivered::default();
        let mut placed = Ok(());
        for routed in messages {
            placed = self.place(gathered, routed, &mut delivered).await;
            if placed.is_err() {
                break;
            }
        }
        if checkpoint.whole {
            gathered.checkpoints.clear();
        }
        gathered.checkpoints.push(checkpoint);
        gathered.answers.push((done, delivered));
        placed
    }

    /// Puts a message into the commit, or what stands for it when its topic does not take it.
    async fn place(
        &mut self,
        gathered: &mut Gathered,
        routed: Routed,
        delivered: &mut Delivered,
    ) -> Result<(), Trouble> {
        let Routed {
            topic,
            partition,
            message,
        } = routed;
        let now = (self.now)();
        let is_scheduled = matches!(deliver_at(&message), Ok(Some(due)) if due > now);
        let form = self.form(&topic, is_scheduled).await?;
        let size = message.size();
        let count = i32::try_from(form.partitions).unwrap_or(i32::MAX);
        let why = if size > form.message_bytes_max {
            let most = form.message_bytes_max;
            format!(
                "the message of {size} bytes is larger than the {most} that {topic} takes; \
                 raise its max.message.bytes, or keep the payload elsewhere and send a claim check"
            )
        } else if partition.is_some_and(|asked| !(0..count).contains(&asked)) {
            let asked = partition.unwrap_or_default();
            format!("{topic} has no partition {asked}; it has {count}")
        } else if let Some(why) = self.topics.refusal(&topic, &message) {
            why
        } else {
            let index = partition.unwrap_or_else(|| self.partition(&message, form.partitions));
            let topic = form.name;
            gathered.add(Partition { topic, index }, record(message, now));
            return Ok(());
        };
        tracing::warn!(
            source = self.source,
            why,
            "a row of the outbox was set aside ({})",
            Code::OUTBOX_ROW_SET_ASIDE
        );
        delivered.set_aside += 1;
        let keep_max = self.settings.commit_bytes_max / 4;
        let letter = refused(&self.source, message, why, keep_max, now);
        let form = self.form(&letter.topic, false).await?;
        let index = self.partition(&letter.message, form.partitions);
        let topic = form.name;
        gathered.add(Partition { topic, index }, record(letter.message, now));
        Ok(())
    }

    async fn form(&mut self, topic: &TopicName, is_scheduled: bool) -> Result<TopicForm, Trouble> {
        let key = (topic.clone(), is_scheduled);
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let form = match is_scheduled {
            true => self.topics.ensure_scheduled(topic).await?,
            false => self.topics.ensure(topic).await?,
        };
        self.known.insert(key, form.clone());
        Ok(form)
    }

    fn partition(&mut self, message: &Message, count: u32) -> i32 {
        let count = usize::try_from(count.max(1)).unwrap_or(usize::MAX);
        let index = match &message.key {
            Some(key) => partitioner::partition(key, count),
            None => {
                self.turn = self.turn.wrapping_add(1);
                self.turn % count
            }
        };
        i32::try_from(index).unwrap_or(0)
    }

    async fn commit(&mut self, gathered: Gathered) -> Result<(), Trouble> {
        let Gathered {
            mut records,
            bytes,
            checkpoints,
            ..
        } = gathered;
        if bytes > self.settings.commit_bytes_max {
            return Err(too_large(bytes));
        }
        let messages = records.len();
        let place = self.owner.partition.clone();
        let timestamp = (self.now)();
        let count = checkpoints.len();
        for (at, checkpoint) in (self.next..).zip(checkpoints) {
            if checkpoint.whole || self.anchor.is_none() {
                self.anchor = Some(at);
                self.since_anchor = 0;
            }
            let key = Some(Bytes::from(self.since_anchor.to_string()));
            self.since_anchor += 1;
            let record = Record {
                timestamp,
                key,
                value: Some(checkpoint.bytes),
                headers: vec![(Bytes::from_static(CHECKPOINT), None)],
            };
            records.push((place.clone(), record));
        }
        let last = self.next + i64::try_from(count).unwrap_or(i64::MAX) - 1;
        let progress = self.positions(self.anchor.unwrap_or(0), last);
        let commit = Commit {
            records,
            progress,
            ..Commit::default()
        };
        let committed = self.ledger.commit(&self.owner, commit).await;
        let committed = committed.map_err(|error| trouble(&error))?;
        let found = committed.offsets.get(messages).copied();
        let found = found.unwrap_or(self.next);
        if found != self.next {
            return Err(self.correct(found, last).await);
        }
        self.next = last + 1;
        Ok(())
    }

    /// Somebody else wrote into the topic of the checkpoints, which nobody may: the positions that
    /// were committed are wrong by as much.
    async fn correct(&self, found: i64, last: i64) -> Trouble {
        let topic = &self.owner.partition.topic;
        tracing::error!(%topic, "somebody else wrote into the topic of the checkpoints");
        let beyond = found - self.next;
        let anchor = self.anchor.unwrap_or(self.next);
        let moved = if anchor < self.next { 0 } else { beyond };
        let progress = self.positions(anchor + moved, last + beyond);
        let commit = Commit {
            progress,
            ..Commit::default()
        };
        let corrected = self.ledger.commit(&self.owner, commit).await;
        let what = format!("somebody else wrote into {topic}");
        corrected.map_or_else(
            |error| trouble(&error),
            |_done| Trouble::unavailable(Code::OUTBOX_TARGET_UNAVAILABLE, what),
        )
    }

    fn positions(&self, anchor: i64, last: i64) -> Vec<Progress> {
        let positions = [(ANCHOR, anchor), (LAST, last)];
        let position = |(reader, offset): (&str, i64)| Progress {
            reader: reader.to_owned(),
            partition: self.owner.partition.clone(),
            offset,
        };
        positions.map(position).into()
    }
}

impl Gathered {
    fn add(&mut self, partition: Partition, record: Record) {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = record.headers.iter();
        let headers = headers.map(|(name, value)| name.len() + length(value) + RECORD_BYTES);
        self.bytes += length(&record.key) + length(&record.value) + RECORD_BYTES;
        self.bytes += headers.sum::<usize>();
        self.records.push((partition, record));
    }
}

/// The record that stands for a message; `now` where it has no time of its own.
fn record(message: Message, now: Timestamp) -> Record {
    let headers = message.headers.into_entries().into_iter();
    let headers = headers.map(|(name, value)| {
        let name = match name {
            std::borrow::Cow::Borrowed(name) => Bytes::from_static(name.as_bytes()),
            std::borrow::Cow::Owned(name) => Bytes::from(name),
        };
        (name, value)
    });
    Record {
        timestamp: message.timestamp.unwrap_or(now),
        key: message.key,
        value: message.payload,
        headers: headers.collect(),
    }
}

fn too_large(bytes: usize) -> Trouble {
    let what = format!("rows of {bytes} bytes belong together, and are more than one commit takes");
    let fix = "raise `log.journal-file-size`; a commit may take a quarter of it";
    Trouble::refused(Code::OUTBOX_TARGET_UNAVAILABLE, what, fix)
}

fn trouble(error: &LedgerError) -> Trouble {
    let code = Code::OUTBOX_TARGET_UNAVAILABLE;
    match error {
        LedgerError::Fenced { .. } => {
            Trouble::standby(Code::OUTBOX_TAKEN, "another relay delivers for this source")
        }
        // A topic that was deleted is created anew when the target is opened.
        LedgerError::Unavailable(_) | LedgerError::UnknownPartition(_) => {
            Trouble::unavailable(code, error.to_string())
        }
        LedgerError::TooLarge { bytes } => too_large(*bytes),
        LedgerError::TopicDiffers { .. } => {
            let fix = "delete the topic, if nobody needs its checkpoints";
            Trouble::refused(code, error.to_string(), fix)
        }
        _ => Trouble::refused(code, error.to_string(), "see what the broker says"),
    }
}
