//! Incremental fetch sessions (KIP-227, KIP-516): the node remembers what a client fetches.
//!
//! A session's partitions are kept as the client last described them, together with what it was
//! last told, so that requests carry only changes and answers only news. Sessions are a cache: one
//! may be evicted at any time and the client starts a new one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wharf_message::{Timestamp, TopicName};

use super::{Fetch, FetchPartition, FetchSession, FetchedPartition};
use crate::{Error, ErrorKind, TopicRef, sync};

/// A session unused for this long may be evicted for a new one
/// (`min.incremental.fetch.session.eviction.ms`).
const IDLE_MAX: Duration = Duration::from_secs(120);
/// Partitions remembered by all sessions together, so that hostile clients cannot fill the memory;
/// whoever finds no room fetches without a session.
const PARTITIONS_MAX: usize = 1_000_000;

/// All sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    slots: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_id: HashMap<i32, Session>,
    /// How many partitions all sessions hold.
    partitions: usize,
}

#[derive(Debug)]
struct Session {
    /// The epoch of the next request.
    epoch: i32,
    uses_topic_ids: bool,
    last_used: Timestamp,
    /// Counts requests, to start each at another partition.
    turn: usize,
    partitions: Vec<Cached>,
    places: HashMap<(TopicRef, i32), usize>,
}

/// A partition of a session and what its client was last told.
#[derive(Clone, Debug)]
struct Cached {
    asked: Arc<FetchPartition>,
    high_watermark: i64,
    log_start: i64,
}

/// What a request comes to.
#[derive(Debug)]
pub(super) struct Plan {
    /// What to fetch.
    pub(super) partitions: Vec<Arc<FetchPartition>>,
    /// Where the budget starts, in a session.
    pub(super) turn: Option<usize>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sessionless,
    New,
    Incremental(i32),
}

fn refuse<T>(kind: ErrorKind, message: String) -> Result<T, Error> {
    Err(Error::new(kind, message))
}

impl Sessions {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            slots,
            table: Mutex::default(),
        }
    }

    /// Finds or ends the session that a request speaks of, and applies its changes.
    pub(super) fn begin(&self, fetch: Fetch, now: Timestamp) -> Result<Plan, Error> {
        let FetchSession { id, epoch } = fetch.session;
        if epoch == -1 || epoch == 0 {
            sync::lock(&self.table).remove(id);
            let partitions: Vec<_> = fetch.partitions.into_iter().map(Arc::new).collect();
            let kind = if epoch == 0 {
                Kind::New
            } else {
                Kind::Sessionless
            };
            return Ok(Plan {
                partitions,
                turn: None,
                kind,
            });
        }
        let mut table = sync::lock(&self.table);
        let Some(session) = table.by_id.get_mut(&id) else {
            return refuse(
                ErrorKind::FetchSessionIdNotFound,
                format!("there is no fetch session {id}"),
            );
        };
        if session.epoch != epoch {
            return refuse(
                ErrorKind::InvalidFetchSessionEpoch,
                format!(
                    "fetch session {id} expects epoch {}, not {epoch}",
                    session.epoch
                ),
            );
        }
        let is_other = |topic| matches!(topic, &TopicRef::Id(_)) != session.uses_topic_ids;
        if fetch
            .partitions
            .iter()
            .any(|partition| is_other(&partition.topic))
        {
            return refuse(
                ErrorKind::FetchSessionTopicIdError,
                format!("fetch session {id} must keep to topic names or to topic ids"),
            );
        }
        let before = session.partitions.len();
        session.epoch = next_epoch(epoch);
        session.last_used = now;
        session.turn = session.turn.wrapping_add(1);
        for forgotten in &fetch.forgotten {
            session.forget(forgotten);
        }
        let is_storable = fetch.partitions.iter().all(is_storable);
        for partition in fetch.partitions {
            session.put(partition);
        }
        let after = session.partitions.len();
        let partitions = session
            .partitions
            .iter()
            .map(|cached| Arc::clone(&cached.asked))
            .collect();
        let turn = Some(session.turn);
        table.partitions = table.partitions + after - before;
        if after == 0 || !is_storable || table.partitions > PARTITIONS_MAX {
            table.remove(id);
            return Ok(Plan {
                partitions,
                turn,
                kind: Kind::Sessionless,
            });
        }
        Ok(Plan {
            partitions,
            turn,
            kind: Kind::Incremental(id),
        })
    }

    /// Makes the answer of what was fetched: the session's id, and of an incremental session only
    /// the partitions with news.
    pub(super) fn finish(
        &self,
        plan: &Plan,
        mut fetched: Vec<FetchedPartition>,
        now: Timestamp,
        random: [u8; 16],
    ) -> (i32, Vec<FetchedPartition>) {
        match plan.kind {
            Kind::Sessionless => (0, fetched),
            Kind::New => (self.open(plan, &fetched, now, random), fetched),
            Kind::Incremental(id) => {
                // Evicted meanwhile: everything counts as news, and the next request learns of it.
                if let Some(session) = sync::lock(&self.table).by_id.get_mut(&id) {
                    fetched.retain(|partition| session.tell(partition));
                }
                (id, fetched)
            }
        }
    }

    /// Opens a session if there is room for it; 0 when there is not.
    fn open(
        &self,
        plan: &Plan,
        fetched: &[FetchedPartition],
        now: Timestamp,
        random: [u8; 16],
    ) -> i32 {
        let count = plan.partitions.len();
        let is_storable = plan
            .partitions
            .iter()
            .all(|partition| is_storable(partition));
        let mut table = sync::lock(&self.table);
        if count == 0 || !is_storable || !table.make_room(self.slots, count, now) {
            return 0;
        }
        let start = i32::from_be_bytes([random[0], random[1], random[2], random[3]]) & i32::MAX;
        let mut id = start.max(1);
        while table.by_id.contains_key(&id) {
            id = next_epoch(id);
        }
        let uses_topic_ids = matches!(plan.partitions[0].topic, TopicRef::Id(_));
        let mut session = Session {
            epoch: 1,
            uses_topic_ids,
            last_used: now,
            turn: 0,
            partitions: Vec::with_capacity(count),
            places: HashMap::with_capacity(count),
        };
        for partition in &plan.partitions {
            session.put(FetchPartition::clone(partition));
        }
        for partition in fetched {
            session.tell(partition);
        }
        table.partitions += session.partitions.len();
        table.by_id.insert(id, session);
        id
    }
}

/// The epoch after `epoch`: counts up, and wraps to 1 (0 and -1 have a meaning of their own).
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

/// Names longer than any topic's are answered but not remembered.
fn is_storable(partition: &FetchPartition) -> bool {
    !matches!(&partition.topic, TopicRef::Name(name) if TopicName::new(name).is_err())
}

impl Table {
    fn remove(&mut self, id: i32) {
        if let Some(session) = self.by_id.remove(&id) {
            self.partitions -= session.partitions.len();
        }
    }

    /// Makes room for a session of `count` partitions: an idle one goes, or else a smaller one.
    fn make_room(&mut self, slots: usize, count: usize, now: Timestamp) -> bool {
        if self.by_id.len() >= slots {
            let oldest = self
                .by_id
                .iter()
                .min_by_key(|(id, session)| (session.last_used, **id));
            let idle = oldest.filter(|(_, session)| now.since(session.last_used) > IDLE_MAX);
            let smallest = self
                .by_id
                .iter()
                .min_by_key(|(id, session)| (session.partitions.len(), **id));
            let smaller = smallest.filter(|(_, session)| session.partitions.len() < count);
            let Some(id) = idle.or(smaller).map(|(id, _)| *id) else {
                return false;
            };
            self.remove(id);
        }
        self.partitions + count <= PARTITIONS_MAX
    }
}

impl Session {
    /// Adds a partition or updates what its client asks of it.
    fn put(&mut self, asked: FetchPartition) {
        let key = (asked.topic.clone(), asked.partition);
        let asked = Arc::new(asked);
        if let Some(at) = self.places.get(&key) {
            self.partitions[*at].asked = asked;
        } else {
            self.places.insert(key, self.partitions.len());
            self.partitions.push(Cached {
                asked,
                high_watermark: -1,
                log_start: -1,
            });
        }
    }

    fn forget(&mut self, key: &(TopicRef, i32)) {
        let Some(at) = self.places.remove(key) else {
            return;
        };
        self.partitions.swap_remove(at);
        if let Some(moved) = self.partitions.get(at) {
            self.places
                .insert((moved.asked.topic.clone(), moved.asked.partition), at);
        }
    }

    /// Notes what the client is about to be told; false when it is nothing new.
    fn tell(&mut self, fetched: &FetchedPartition) -> bool {
        let at = self.places.get(&(fetched.topic.clone(), fetched.partition));
        let Some(cached) = at.and_then(|at| self.partitions.get_mut(*at)) else {
            return true;
        };
        let is_news = fetched.error.is_some()
            || !fetched.batches.is_empty()
            || fetched.high_watermark != cached.high_watermark
            || fetched.log_start != cached.log_start;
        // After an error everything is news again.
        let is_known = fetched.error.is_none();
        cached.high_watermark = if is_known { fetched.high_watermark } else { -1 };
        cached.log_start = if is_known { fetched.log_start } else { -1 };
        is_news
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
