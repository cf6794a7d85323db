//! Following topics, a little at a time, and knowing when everything before a moment was read.
//!
//! A follower has a place in every partition of its topics. A round looks at where each ends, reads
//! what is new, and says up to which time all of it was read; while anything is behind it says nothing,
//! so that reading slowly never looks like waiting in vain. Only what readers of committed records may
//! see is read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use wharf_broker::{Broker, Context, OffsetQuery, OffsetQueryAt, Topic, TopicRef};
use wharf_log::PartitionId;
use wharf_message::Timestamp;
use wharf_message::ledger::Entry;

use super::read::read;
use crate::clock;

/// How many records of one partition are read in a round.
const RECORDS_MAX: usize = 500;
/// How many partitions are read at once.
const TOGETHER: usize = 16;
/// After so many bytes, as they are stored, a round reads no further partitions.
const BYTES_MAX: usize = 16 << 20;
/// A record has its time before it is written: so long before the clock everything was.
const SETTLE: Duration = Duration::from_millis(500);

/// A place in a partition.
#[derive(Clone, Copy, Debug)]
struct Place {
    id: PartitionId,
    next: i64,
    is_begun: bool,
}

/// A partition with something new.
#[derive(Debug)]
struct Behind {
    topic: Arc<str>,
    index: i32,
    place: Place,
    end: i64,
}

/// What a round found.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// The records, by topic and partition.
    pub(super) read: Vec<(Arc<str>, i32, Vec<Entry>)>,
    /// Where the first records were not there any more: from these times on all were read.
    pub(super) begins: Vec<Timestamp>,
    /// Everything that happened before was read.
    pub(super) reached: Option<Timestamp>,
    /// Why something could not be read, if so.
    pub(super) trouble: Option<String>,
    pub(super) has_moved: bool,
}

impl Round {
    /// Whether it is worth while to go on at once.
    pub(super) fn is_behind(&self) -> bool {
        self.reached.is_none() && self.has_moved
    }

    /// Of several reasons always the same one is told.
    fn fails(&mut self, reason: String) {
        if self.trouble.as_ref().is_none_or(|other| reason < *other) {
            self.trouble = Some(reason);
        }
    }
}

/// Follows topics.
#[derive(Debug)]
pub(super) struct Follower {
    broker: Broker,
    places: HashMap<(Arc<str>, i32), Place>,
    /// Older records are left alone.
    history: Option<Duration>,
    partitions_max: usize,
    /// Which of those that are behind comes first, so that none starves behind a busy one.
    turn: usize,
}

impl Follower {
    pub(super) fn new(broker: &Broker, history: Option<Duration>, partitions_max: usize) -> Self {
        Self {
            broker: broker.clone(),
            places: HashMap::new(),
            history,
            partitions_max,
            turn: 0,
        }
    }

    /// Reads what is new in these topics, at most a little of each partition.
    pub(super) async fn round(&mut self, topics: &[Arc<Topic>]) -> Round {
        let now = clock::now();
        let mut round = Round::default();
        let mut behind = Vec::new();
        let mut seen = 0;
        for topic in topics {
            let name: Arc<str> = topic.name.as_str().into();
            for (index, id) in (0..).zip(&topic.partitions) {
                seen += 1;
                let Some(bounds) = self.broker.reader().bounds(*id) else {
                    continue;
                };
                let key = (Arc::clone(&name), index);
                let known = self
                    .places
                    .get(&key)
                    .filter(|place| place.id == *id)
                    .copied();
                let place = match known {
                    Some(place) => place,
                    None if self.places.len() >= self.partitions_max => {
                        let max = self.partitions_max;
                        let reason = format!("more than choreography.partitions-max = {max}");
                        round.fails(format!("{name}-{index} is not watched: {reason}"));
                        continue;
                    }
                    None => self.begin(topic, index, *id, bounds.start, now).await,
                };
                let next = place.next.max(bounds.start);
                let place = Place { next, ..place };
                self.places.insert(key, place);
                if next < bounds.stable_end {
                    behind.push(Behind {
                        topic: Arc::clone(&name),
                        index,
                        place,
                        end: bounds.stable_end,
                    });
                }
            }
        }
        if seen < self.places.len() {
            self.forget(topics);
        }
        let is_read = self.read(behind, &mut round).await;
        let settled = now
            .as_millis()
            .saturating_sub(i64::try_from(SETTLE.as_millis()).unwrap_or(0));
        round.reached = is_read.then(|| Timestamp::from_millis(settled));
        round
    }

    /// The place to begin at: the start, or what history is to be read.
    async fn begin(
        &self,
        topic: &Topic,
        index: i32,
        id: PartitionId,
        start: i64,
        now: Timestamp,
    ) -> Place {
        let mut next = start;
        if let Some(history) = self.history {
            let millis = i64::try_from(history.as_millis()).unwrap_or(i64::MAX);
            let query = OffsetQuery {
                topic: TopicRef::Id(topic.id),
                partition: index,
                current_leader_epoch: -1,
                at: OffsetQueryAt::Time(now.as_millis().saturating_sub(millis)),
                read_committed: false,
            };
            let cx = Context::internal("choreography");
            let found = self.broker.list_offset(&cx, query).await;
            let end = self
                .broker
                .reader()
                .bounds(id)
                .map_or(start, |bounds| bounds.end);
            next = match found {
                Ok(found) if found.offset >= 0 => found.offset,
                // Nothing is so young.
                Ok(_) => end,
                Err(_) => start,
            };
        }
        Place {
            id,
            next,
            is_begun: false,
        }
    }

    /// Partitions that are gone.
    fn forget(&mut self, topics: &[Arc<Topic>]) {
        let ids: HashSet<PartitionId> = topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().copied())
            .collect();
        self.places.retain(|_, place| ids.contains(&place.id));
    }

    /// Reads; whether all of it was read to its end.
    async fn read(&mut self, mut behind: Vec<Behind>, round: &mut Round) -> bool {
        if behind.is_empty() {
            return true;
        }
        let first = self.turn % behind.len();
        behind.rotate_left(first);
        let (mut is_read, mut bytes) = (true, 0);
        for some in behind.chunks(TOGETHER) {
            if bytes >= BYTES_MAX {
                return false;
            }
            self.turn = self.turn.wrapping_add(some.len());
            let reads = some
                .iter()
                .map(|one| read(&self.broker, one.place.id, one.place.next, RECORDS_MAX));
            let reads = join_all(reads).await;
            for (one, read) in some.iter().zip(reads) {
                let Behind { topic, index, .. } = one;
                let Some(place) = self.places.get_mut(&(Arc::clone(topic), *index)) else {
                    continue;
                };
                // What cannot be read now is tried again; until then nothing is judged.
                let read = match read {
                    Ok(read) => read,
                    Err(reason) => {
                        round.fails(format!("{topic}-{index}: {reason}"));
                        is_read = false;
                        continue;
                    }
                };
                if let Some(first) = read.entries.first()
                    && !std::mem::replace(&mut place.is_begun, true)
                    && first.offset > 0
                {
                    round.begins.push(first.record.timestamp);
                }
                round.has_moved |= read.next > place.next;
                place.next = read.next;
                is_read &= read.next >= one.end;
                bytes += read.bytes;
                round.read.push((Arc::clone(topic), *index, read.entries));
            }
        }
        is_read
    }
}
