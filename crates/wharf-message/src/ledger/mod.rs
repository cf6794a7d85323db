//! The `Ledger` seam: what the server's own roles (registry, outbox, sagas, dead letters) stand on.
//!
//! A role owns a partition, follows topics, keeps timers, and commits everything that belongs
//! together in one step. No role touches a broker around this seam, so each moves unchanged from
//! the embedded log (one frame per commit) to a Kafka cluster (one transaction per commit).
//!
//! [`memory::MemoryLedger`] is the reference: short and obviously right. `conformance` (feature of
//! the same name) is the suite that every implementation runs.
//!
//! A role that answers every record of `orders` in `answers`, each once, whatever happens to it:
//!
//! ```
//! use wharf_message::ledger::memory::MemoryLedger;
//! use wharf_message::ledger::{Commit, Error, Ledger, Owner, Partition, Progress};
//!
//! async fn answer_some(ledger: &dyn Ledger, owner: &Owner, answers: Partition) -> Result<(), Error> {
//!     let orders = owner.partition.clone();
//!     let from = ledger.progress("answering", orders.clone()).await?.unwrap_or(0);
//!     let entries = ledger.follow(orders.clone(), from, 100).await?;
//!     let next = entries.last().map_or(from, |entry| entry.offset + 1);
//!     let commit = Commit {
//!         records: entries.into_iter().map(|entry| (answers.clone(), entry.record)).collect(),
//!         progress: vec![Progress {
//!             reader: "answering".to_owned(),
//!             partition: orders,
//!             offset: next,
//!         }],
//!         ..Commit::default()
//!     };
//!     // The answers and the progress are kept together, or neither; a later owner makes it fail.
//!     ledger.commit(owner, commit).await?;
//!     Ok(())
//! }
//! # use futures_util::FutureExt;
//! # use wharf_message::TopicName;
//! # use wharf_message::ledger::{Record, TopicSpec};
//! # async fn run() -> Result<(), Error> {
//! # let ledger = MemoryLedger::new();
//! # let topic = |name| TopicName::new(name).map_err(|error| Error::Refused(error.to_string()));
//! # for name in ["orders", "answers"] {
//! #     let spec = TopicSpec { name: topic(name)?, partitions: 1, compacted: false };
//! #     ledger.create_topic(spec).await?;
//! # }
//! # let orders = Partition { topic: topic("orders")?, index: 0 };
//! # let answers = Partition { topic: topic("answers")?, index: 0 };
//! # let owner = ledger.own(orders.clone()).await?;
//! # let records = vec![(orders.clone(), Record::default())];
//! # ledger.commit(&owner, Commit { records, ..Commit::default() }).await?;
//! # answer_some(&ledger, &owner, answers.clone()).await?;
//! # assert_eq!(ledger.progress("answering", orders).await?, Some(1));
//! # assert_eq!(ledger.follow(answers, 0, 10).await?.len(), 1);
//! # Ok(())
//! # }
//! # run().now_or_never().expect("nothing waits").expect("nothing is refused");
//! ```

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod memory;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::{Timestamp, TopicName};

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// The topic.
    pub topic: TopicName,
    /// The partition's index, from 0.
    pub index: i32,
}

/// A topic that a role needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// The name.
    pub name: TopicName,
    /// How many partitions, at least 1.
    pub partitions: i32,
    /// Whether only the newest record of each key must be kept (else all are, for ever).
    pub compacted: bool,
}

/// A record, as a role writes and reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its time.
    pub timestamp: Timestamp,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; `None` removes the key from a compacted topic.
    pub value: Option<Bytes>,
    /// Headers in order; a name may repeat.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// A record with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its offset.
    pub offset: i64,
    /// The record.
    pub record: Record,
}

/// Proof of owning a partition. Valid until somebody owns it anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// What is owned.
    pub partition: Partition,
    /// Counts the owners; only the newest may commit.
    pub epoch: u64,
}

/// A record to be written at a later time, kept by the owner of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// The name, unique among the timers of the owned partition.
    pub id: Bytes,
    /// When it is due.
    pub due: Timestamp,
    /// Where the record goes.
    pub target: Partition,
    /// The record.
    pub record: Record,
}

/// How far a reader has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The reader's name.
    pub reader: String,
    /// The partition it reads.
    pub partition: Partition,
    /// The next offset it wants.
    pub offset: i64,
}

/// Everything that belongs together. An empty commit is allowed: it checks the ownership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Records to append, in order per partition.
    pub records: Vec<(Partition, Record)>,
    /// Positions to keep, replacing earlier ones.
    pub progress: Vec<Progress>,
    /// Timers that fire: their records are appended after [`Self::records`], and they are gone.
    /// One that is not there in exactly this form refuses the commit.
    pub fired: Vec<Timer>,
    /// Timers to remove, by id; an unknown one is ignored.
    pub cancelled: Vec<Bytes>,
    /// Timers to set, after the above; one of the same id is replaced.
    pub timers: Vec<Timer>,
}

/// What a commit came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The offsets of [`Commit::records`], in their order, then of the fired timers' records.
    pub offsets: Vec<i64>,
}

/// The timers that are due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Them, by time and then id.
    pub timers: Vec<Timer>,
    /// When the next one after these is due, if there is one.
    pub next: Option<Timestamp>,
}

/// Why a ledger refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The topic or the partition does not exist.
    #[error("{topic} has no partition {index}", topic = .0.topic, index = .0.index)]
    UnknownPartition(Partition),
    /// The topic exists in another form.
    #[error("{topic} exists already, but {difference}")]
    TopicDiffers {
        /// The topic.
        topic: TopicName,
        /// In which way.
        difference: String,
    },
    /// Somebody else owns the partition now. Stop acting for it.
    #[error("epoch {epoch} of the ownership is over: the partition has a newer owner")]
    Fenced {
        /// The epoch that was used.
        epoch: u64,
    },
    /// A timer to fire is gone or was changed.
    #[error("the timer {0:?} to fire is gone or was changed")]
    TimerGone(Bytes),
    /// The offset is not kept any more.
    #[error("offset {offset} is not kept any more; the first is {start}")]
    OutOfRange {
        /// The offset asked for.
        offset: i64,
        /// The first offset kept.
        start: i64,
    },
    /// The commit is larger than one atomic step may be.
    #[error("the commit of {bytes} bytes is too large")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The ledger cannot work at the moment. Whether a commit happened is unknown.
    #[error("the ledger is not available: {0}")]
    Unavailable(String),
    /// The request makes no sense to the ledger.
    #[error("the ledger refused: {0}")]
    Refused(String),
}

/// Atomic commits, following, fenced ownership and timers.
///
/// # Contract
/// - A commit happens whole or not at all: records, progress and timers of one commit become
///   visible together, to everybody, and are durable when `commit` returns `Ok`.
/// - Offsets of a partition count up from 0 without gaps and are never reused.
/// - Nobody but the newest owner of a partition commits for it, reads or fires its timers.
/// - A timer fires at most once: firing and the end of the timer are one commit.
///
/// # Ordering
/// - Records of one commit keep their order within a partition; commits of one owner happen in the
///   order of the calls to `commit`, also when several are in flight.
/// - `own` comes after every commit of the previous owner that will ever happen: once it has
///   returned, what is visible is all there will be.
/// - Timers come by time and then by id.
///
/// # Cancellation
/// - Dropping a future of `commit`, `own` or `create_topic` does not undo it; whether it happens is
///   unknown. Dropping a future of `follow`, `progress` or `due` has no effect.
///
/// # Failure
/// - A refusal ([`Error::Fenced`], [`Error::TimerGone`], …) means that nothing happened.
/// - After [`Error::Unavailable`], or a dropped future, it is unknown whether a commit happened:
///   `own` the partition anew, then look (`progress`, `follow`) before repeating anything.
pub trait Ledger: Send + Sync {
    /// Makes sure that a topic exists in this form. One that exists in another form is refused.
    fn create_topic(&self, topic: TopicSpec) -> BoxFuture<'_, Result<(), Error>>;

    /// Becomes the owner of a partition, which must exist, and fences the one before.
    fn own(&self, partition: Partition) -> BoxFuture<'_, Result<Owner, Error>>;

    /// Commits as the owner.
    fn commit(&self, owner: &Owner, commit: Commit) -> BoxFuture<'_, Result<Committed, Error>>;

    /// The records of a partition from an offset on: at least one, as soon as there is one, and at
    /// most `records_max`. Waits at the end, so the next call with the offset after the last entry
    /// follows the partition.
    fn follow(
        &self,
        partition: Partition,
        offset: i64,
        records_max: usize,
    ) -> BoxFuture<'_, Result<Vec<Entry>, Error>>;

    /// How far a reader has come in a partition; `None` when nothing was ever committed for it.
    fn progress(
        &self,
        reader: &str,
        partition: Partition,
    ) -> BoxFuture<'_, Result<Option<i64>, Error>>;

    /// The timers of an owned partition that are due at `now`, at most `timers_max`.
    fn due(
        &self,
        owner: &Owner,
        now: Timestamp,
        timers_max: usize,
    ) -> BoxFuture<'_, Result<Due, Error>>;
}
