//! Fetching: long polls, sessions (KIP-227), limits.
//!
//! A fetch looks at the log without blocking first; only what is not in memory goes to a blocking
//! worker. It waits by registering with [`Waiters`] and looking once more, so growth is never
//! missed. Batches are handed on as they are stored.

mod scan;
mod session;
mod waiters;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use wharf_log::{PartitionId, Stretch};
use wharf_message::Timestamp;

use crate::offsets::{check_epoch, stopping};
use crate::{Broker, Context, Error, Options, TopicRef, Wakeups};
use scan::{Found, Scan, Target, View, scan};
use session::Sessions;
use waiters::Waiter;
pub(crate) use waiters::Waiters;

/// The least time between two looks of a fetch that waits for more than the next record.
const PAUSE: Duration = Duration::from_millis(1);

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
    /// Only what is committed: up to the last stable offset, with the aborted transactions named.
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
    /// Whole batches that are still to be read from the disk, instead of `batches`.
    pub stretch: Option<Stretch>,
    /// Of a reader of committed records: the aborted transactions with records in the batches,
    /// by first offset.
    pub aborted: Vec<wharf_log::Aborted>,
}

/// A fetch response.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// A refusal of the whole request (sessions).
    pub error: Option<Error>,
    /// The client's quota is used up: nothing was read, and it may ask again after this time. Zero
    /// otherwise.
    pub throttle: Duration,
    /// The session's id, or 0.
    pub session_id: i32,
    /// The partitions; with an incremental session only those with news.
    pub partitions: Vec<FetchedPartition>,
}

/// What fetching keeps between requests.
#[derive(Debug)]
pub(crate) struct Fetching {
    waiters: Arc<Waiters>,
    sessions: Sessions,
    /// Counts fetches outside sessions, to start each at another partition.
    turn: AtomicU64,
    /// The most one fetch answers now, in bytes.
    share: AtomicUsize,
}

impl Fetching {
    pub(crate) fn new(options: &Options, wakeups: &Wakeups) -> Self {
        Self {
            waiters: Arc::clone(&wakeups.inner),
            sessions: Sessions::new(options.fetch_sessions_max),
            turn: AtomicU64::new(0),
            share: AtomicUsize::new(options.fetch_bytes_max),
        }
    }

    /// Registers for the growth of these partitions.
    pub(crate) fn waiter(&self, partitions: Vec<PartitionId>) -> Waiter {
        self.waiters.register(partitions)
    }

    /// The most one fetch answers now.
    fn share(&self) -> usize {
        self.share.load(Ordering::Relaxed)
    }

    /// Makes waiting fetches look at these partitions again.
    pub(crate) fn wake(&self, partitions: &[PartitionId]) {
        self.waiters.appended(partitions);
    }
}

/// No connection's share is smaller; a batch that is larger is answered whole all the same.
const SHARE_BYTES_MIN: usize = 64 << 10;

impl Broker {
    /// Tells how many connections are open. A slow reader holds its answer in memory for as long
    /// as it likes, so the more there are, the less each is answered at once.
    pub fn share_fetches(&self, connections: usize) {
        let options = self.options();
        let share = options.fetches_bytes_max / connections.max(1);
        let share = share.max(SHARE_BYTES_MIN).min(options.fetch_bytes_max);
        self.shared.fetch.share.store(share, Ordering::Relaxed);
    }

    /// Fetches, waiting as asked. Dropping the future cancels the wait.
    pub async fn fetch(&self, cx: &Context, fetch: Fetch) -> Fetched {
        let allowance = self.fetch_allowance(cx);
        let shared = &self.shared;
        let read_committed = fetch.read_committed;
        let limits = Limits {
            deadline: shared.runtime.steady().after(fetch.wait_max),
            bytes_max: usize::try_from(fetch.bytes_max)
                .unwrap_or(0)
                .min(shared.fetch.share())
                .min(allowance.bytes_max),
            bytes_min: usize::try_from(fetch.bytes_min).unwrap_or(0),
        };
        let plan = match shared.fetch.sessions.begin(fetch, shared.runtime.steady()) {
            Ok(plan) => plan,
            Err(error) => {
                return Fetched {
                    error: Some(error),
                    throttle: Duration::ZERO,
                    session_id: 0,
                    partitions: Vec::new(),
                };
            }
        };
        if !allowance.wait.is_zero() {
            return Fetched {
                error: None,
                throttle: allowance.wait,
                session_id: plan.session_kept(),
                partitions: Vec::new(),
            };
        }
        let targets = self.resolve(&plan.partitions);
        let start = plan.turn.unwrap_or_else(|| {
            // Spread, not counted: two clients taking turns must not keep to the same partitions.
            let turn = shared.fetch.turn.fetch_add(1, Ordering::Relaxed);
            let spread = turn.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
            usize::try_from(spread).unwrap_or(0)
        });
        let view = View {
            start,
            bytes_max: limits.bytes_max,
            read_committed,
            stretch_bytes_min: self.options().stretch_bytes_min,
        };
        let scan = self.poll(&targets, view, limits).await;
        let (now, random) = (shared.runtime.steady(), shared.runtime.random());
        let (session_id, partitions) = shared.fetch.sessions.finish(&plan, scan.found, now, random);
        Fetched {
            error: None,
            throttle: Duration::ZERO,
            session_id,
            partitions,
        }
    }

    /// The log's partitions that a client means, or the refusals.
    fn resolve(&self, partitions: &[Arc<FetchPartition>]) -> Arc<[Target]> {
        let lookup = self.shared.topics.lookup();
        let resolve = |asked: &Arc<FetchPartition>| {
            let partition = lookup.partition(&asked.topic, asked.partition);
            let partition = partition.and_then(|(_, partition)| {
                check_epoch(asked.current_leader_epoch)?;
                check_epoch(asked.last_fetched_epoch)?;
                Ok(partition)
            });
            Target {
                asked: Arc::clone(asked),
                partition,
            }
        };
        partitions.iter().map(resolve).collect()
    }

    /// Looks until there is enough, something to tell at once, or no time left.
    async fn poll(&self, targets: &Arc<[Target]>, view: View, limits: Limits) -> Scan {
        let shared = &self.shared;
        let first = self.look(targets, view).await;
        let partitions: Vec<PartitionId> = targets
            .iter()
            .filter_map(|target| target.partition.as_ref().ok().copied())
            .collect();
        if limits.satisfied(&first)
            || partitions.is_empty()
            || shared.runtime.steady() >= limits.deadline
        {
            return first;
        }
        let waiter = shared.fetch.waiter(partitions);
        loop {
            let scan = self.look(targets, view).await;
            let now = shared.runtime.steady();
            if limits.satisfied(&scan) || now >= limits.deadline {
                return scan;
            }
            let too_late = shared.runtime.sleep_until(limits.deadline);
            if let Either::Right(_) = select(pin!(waiter.grown()), too_late).await {
                return scan;
            }
            // A reader that waits for many bytes must not look again at every single append.
            if limits.bytes_min > 1 && scan.bytes > 0 {
                shared
                    .runtime
                    .sleep_until(limits.deadline.min(now.after(PAUSE)))
                    .await;
            }
        }
    }

    /// One look: from memory if possible, else from the disk, away from the tasks.
    async fn look(&self, targets: &Arc<[Target]>, view: View) -> Scan {
        if let Some(scan) = scan(&self.shared.reader, targets, view, false) {
            return scan;
        }
        let (sender, receiver) = oneshot::channel();
        let (reader, blocking) = (self.shared.reader.clone(), Arc::clone(targets));
        self.shared.runtime.run_blocking(Box::new(move || {
            // Nobody waits any more: the answer is not needed.
            drop(sender.send(scan(&reader, &blocking, view, true)));
        }));
        receiver
            .await
            .ok()
            .flatten()
            .unwrap_or_else(|| Scan::refused(targets.len(), &stopping()))
    }
}

/// When a fetch is answered.
#[derive(Clone, Copy, Debug)]
struct Limits {
    deadline: Timestamp,
    bytes_max: usize,
    bytes_min: usize,
}

impl Limits {
    /// Enough, something to tell at once, or more than one look returns: waiting for more to be
    /// appended would keep back what is there.
    fn satisfied(&self, scan: &Scan) -> bool {
        scan.is_urgent
            || scan.bytes >= self.bytes_min.min(self.bytes_max)
            || (scan.is_full && scan.bytes > 0)
            || scan.found.iter().any(Found::has_more)
    }
}
