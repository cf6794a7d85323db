//! Fetching: long polls, sessions (KIP-227), limits.

use std::time::Duration;

use bytes::Bytes;
use wharf_log::PartitionId;

use crate::{Broker, Context, Error, Options, TopicRef, Wakeups};

/// One partition to fetch.
#[derive(Clone, Debug)]
pub struct FetchPartition {
    /// The topic.
    pub topic: TopicRef,
    /// The partition index.
    pub partition: i32,
    /// From this offset.
    pub offset: i64,
    /// At most this many bytes (at least one batch if it is the first with data).
    pub bytes_max: i32,
    /// The leader epoch the client believes in, or -1.
    pub current_leader_epoch: i32,
    /// The epoch of the last fetched record, or -1.
    pub last_fetched_epoch: i32,
    /// The log start offset as the follower knows it, or -1.
    pub log_start: i64,
}

/// A fetch request.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// How long to wait for `bytes_min`.
    pub wait_max: Duration,
    /// Answer as soon as this much is there.
    pub bytes_min: i32,
    /// At most this much in total.
    pub bytes_max: i32,
    /// Only committed transactions.
    pub read_committed: bool,
    /// The session asked for.
    pub session: FetchSession,
    /// The partitions (of a session: the changes).
    pub partitions: Vec<FetchPartition>,
    /// Partitions to drop from the session.
    pub forgotten: Vec<(TopicRef, i32)>,
}

/// The session id and epoch: (0,-1) none, (id,-1) close, (any,0) new, (id,n) incremental.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchSession {
    /// The id.
    pub id: i32,
    /// The epoch.
    pub epoch: i32,
}

/// One fetched partition.
#[derive(Clone, Debug)]
pub struct FetchedPartition {
    /// The topic as it was asked for.
    pub topic: TopicRef,
    /// The partition index.
    pub partition: i32,
    /// The refusal, if any.
    pub error: Option<Error>,
    /// The high watermark, or -1.
    pub high_watermark: i64,
    /// The last stable offset, or -1.
    pub last_stable: i64,
    /// The first offset kept, or -1.
    pub log_start: i64,
    /// Whole batches.
    pub batches: Vec<Bytes>,
}

/// A fetch response.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// A refusal of the whole request (sessions).
    pub error: Option<Error>,
    /// The session's id, or 0.
    pub session_id: i32,
    /// The partitions; with an incremental session only those with news.
    pub partitions: Vec<FetchedPartition>,
}

/// Tasks waiting for partitions to grow.
#[derive(Debug, Default)]
pub(crate) struct Waiters {}

impl Waiters {
    pub(crate) fn appended(&self, partitions: &[PartitionId]) {
        let _ = partitions;
        unimplemented!()
    }
}

#[derive(Debug)]
pub(crate) struct Fetching {}

impl Fetching {
    pub(crate) fn new(options: &Options, wakeups: &Wakeups) -> Self {
        let _ = (options, wakeups);
        unimplemented!()
    }
}

impl Broker {
    /// Fetches, waiting as asked. Dropping the future cancels the wait.
    pub async fn fetch(&self, cx: &Context, fetch: Fetch) -> Fetched {
        let _ = (cx, fetch);
        unimplemented!()
    }
}
