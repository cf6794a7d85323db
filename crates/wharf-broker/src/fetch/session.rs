//! Incremental fetch sessions (KIP-227, KIP-516): the node remembers what a client fetches.
//!
//! A session's partitions are kept as the client last described them, together with what it was
//! last told, so that requests carry only changes and answers only news. Sessions are a cache: one
//! may be evicted at any time and the client starts a new one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wharf_message::{TOPIC_NAME_BYTES_MAX, Timestamp};

use super::scan::Found;
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
    /// High watermark and log start.
    told: Option<(i64, i64)>,
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

impl Plan {
    /// The session's id when nothing is fetched this time: one that was there goes on with the
    /// request's changes; none is begun, since the client was told nothing to go on from.
    pub(super) fn session_kept(&self) -> i32 {
        match self.kind {
            Kind::Sessionless | Kind::New => 0,
            Kind::Incremental(id) => id,
        }
    }
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
            session.put(Arc::new(partition));
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

    /// Makes the answer of what was found (one per partition of the plan, in order): the session's
    /// id, and of an incremental session only the partitions with news.
    pub(super) fn finish(
        &self,
        plan: &Plan,
        found: Vec<Found>,
        now: Timestamp,
        random: [u8; 16],
    ) -> (i32, Vec<FetchedPartition>) {
        let told = plan.partitions.iter().zip(found);
        let id = match plan.kind {
            Kind::Sessionless => 0,
            Kind::New => {
                let told: Vec<_> = told.collect();
                let id = self.open(&told, now, random);
                return (
                    id,
                    told.into_iter()
                        .map(|(asked, found)| found.answer(asked))
                        .collect(),
                );
            }
            Kind::Incremental(id) => id,
        };
        let mut table = sync::lock(&self.table);
        // Evicted meanwhile: everything counts as news, and the next request learns of it.
        let mut session = table.by_id.get_mut(&id);
        let news = told.enumerate().filter_map(|(at, (asked, found))| {
            let is_news = session
                .as_mut()
                .is_none_or(|session| session.tell(at, asked, &found));
            is_news.then(|| found.answer(asked))
        });
        (id, news.collect())
    }

    /// Opens a session if there is room for it; 0 when there is not.
    fn open(
        &self,
        told: &[(&Arc<FetchPartition>, Found)],
        now: Timestamp,
        random: [u8; 16],
    ) -> i32 {
        let count = told.len();
        let is_storable = told.iter().all(|(asked, _)| is_storable(asked));
        let mut table = sync::lock(&self.table);
        if count == 0 || !is_storable || !table.make_room(self.slots, count, now) {
            return 0;
        }
        let start = i32::from_be_bytes([random[0], random[1], random[2], random[3]]) & i32::MAX;
        let mut id = start.max(1);
        while table.by_id.contains_key(&id) {
            id = next_epoch(id);
        }
        let uses_topic_ids = matches!(told[0].0.topic, TopicRef::Id(_));
        let mut session = Session {
            epoch: 1,
            uses_topic_ids,
            last_used: now,
            turn: 0,
            partitions: Vec::with_capacity(count),
            places: HashMap::with_capacity(count),
        };
        for (asked, _) in told {
            session.put(Arc::clone(asked));
        }
        for (at, (asked, found)) in told.iter().enumerate() {
            session.tell(at, asked, found);
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
    !matches!(&partition.topic, TopicRef::Name(name) if name.len() > TOPIC_NAME_BYTES_MAX)
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
    fn put(&mut self, asked: Arc<FetchPartition>) {
        let key = (asked.topic.clone(), asked.partition);
        if let Some(at) = self.places.get(&key) {
            self.partitions[*at].asked = asked;
        } else {
            self.places.insert(key, self.partitions.len());
            self.partitions.push(Cached { asked, told: None });
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

    /// Notes what the client is about to be told; false when it is nothing new. `at` is where the
    /// partition was when the request began; another request may have moved it.
    fn tell(&mut self, at: usize, asked: &Arc<FetchPartition>, found: &Found) -> bool {
        let is_there = self
            .partitions
            .get(at)
            .is_some_and(|there| Arc::ptr_eq(&there.asked, asked));
        let at = match is_there {
            true => Some(at),
            false => self
                .places
                .get(&(asked.topic.clone(), asked.partition))
                .copied(),
        };
        let Some(cached) = at.and_then(|at| self.partitions.get_mut(at)) else {
            return true;
        };
        // After an error everything is news again.
        let bounds = found.bounds.filter(|_| found.error.is_none());
        let told = bounds.map(|bounds| (bounds.end, bounds.start));
        let is_news = told.is_none() || !found.is_empty() || told != cached.told;
        cached.told = told;
        is_news
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
