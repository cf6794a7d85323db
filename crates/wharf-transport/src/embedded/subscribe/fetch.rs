//! Fetching what is committed, for a subscription that has nothing left to deliver.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use wharf_broker::{
    ErrorKind, Fetch, FetchPartition, FetchSession, FetchedPartition, OffsetQuery, OffsetQueryAt,
    TopicRef,
};

use super::Shared;
use super::state::State;
use crate::log::Slot;

/// The most one fetch reads of a partition, and in all; one batch may be larger.
const PARTITION_BYTES_MAX: i32 = 1 << 20;
const BYTES_MAX: i32 = 8 << 20;
/// How long an idle `next` waits in the broker at a time.
const POLL: Duration = Duration::from_secs(30);
/// How long a partition is left alone after an error.
const PAUSE: Duration = Duration::from_secs(1);
/// No session, for the broker.
const SESSIONLESS: FetchSession = FetchSession { id: 0, epoch: -1 };

/// A partition to be fetched.
pub(super) struct Wanted {
    slot: Slot,
    topic: TopicRef,
    partition: i32,
    offset: i64,
}

impl State {
    /// How long to wait at most before partitions that could not be read are tried again.
    pub(super) fn patience(&self) -> Duration {
        match self.parts.values().any(|part| part.paused.is_some()) {
            true => PAUSE,
            false => POLL,
        }
    }

    /// What is to be fetched: partitions of which nothing is left.
    pub(super) fn to_fetch(&self) -> Vec<Wanted> {
        let now = Instant::now();
        let parts = self.parts.iter().filter(|(slot, part)| {
            part.is_empty()
                && self.is_readable(**slot, part)
                && part.paused.is_none_or(|until| until <= now)
        });
        parts
            .map(|(slot, part)| Wanted {
                slot: *slot,
                topic: TopicRef::Id(part.topic_id),
                partition: part.partition.partition,
                offset: part.next,
            })
            .collect()
    }
}

impl Shared {
    /// Fetches, waiting up to `wait` for the first record. Dropping the future loses nothing.
    pub(super) async fn fetch(&self, wanted: Vec<Wanted>, wait: Duration) {
        if wanted.is_empty() {
            return std::future::pending().await;
        }
        let partition = |one: &Wanted| FetchPartition {
            topic: one.topic.clone(),
            partition: one.partition,
            offset: one.offset,
            bytes_max: PARTITION_BYTES_MAX,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            log_start: -1,
        };
        let fetch = Fetch {
            wait_max: wait,
            bytes_min: 1,
            bytes_max: BYTES_MAX,
            read_committed: true,
            session: SESSIONLESS,
            partitions: wanted.iter().map(partition).collect(),
            forgotten: Vec::new(),
        };
        let fetched = self.core.broker.fetch(&self.core.cx, fetch).await;
        if !fetched.throttle.is_zero() {
            // The quota of the service's name (`client.id`) is used up.
            return sleep(fetched.throttle).await;
        }
        for (wanted, mut found) in wanted.into_iter().zip(fetched.partitions) {
            if let Some(error) = found.error.take() {
                self.failed(&wanted, error).await;
                continue;
            }
            match self.read(&mut found).await {
                Ok(batches) => self.fill(&wanted, &found, batches),
                Err(error) => self.pause(&wanted, &error),
            }
        }
    }

    /// The batches, also those that are still to be read from the disk.
    async fn read(&self, found: &mut FetchedPartition) -> Result<Vec<Bytes>, String> {
        let Some(mut stretch) = found.stretch.take() else {
            return Ok(std::mem::take(&mut found.batches));
        };
        let reading = self.core.handle.spawn_blocking(move || {
            let mut batches = Vec::new();
            loop {
                let piece = stretch.read().map_err(|error| error.to_string())?;
                if piece.is_empty() {
                    return Ok(batches);
                }
                batches.extend(piece);
            }
        });
        reading.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    fn fill(&self, wanted: &Wanted, found: &FetchedPartition, batches: Vec<Bytes>) {
        let mut state = self.state();
        if let Some(part) = state.parts.get_mut(&wanted.slot)
            && part.next == wanted.offset
            && part.is_empty()
        {
            part.paused = None;
            part.fill(found, batches);
        }
    }

    async fn failed(&self, wanted: &Wanted, error: wharf_broker::Error) {
        if error.kind != ErrorKind::OffsetOutOfRange {
            return self.pause(wanted, &error.message);
        }
        let query = OffsetQuery {
            topic: wanted.topic.clone(),
            partition: wanted.partition,
            current_leader_epoch: -1,
            at: OffsetQueryAt::Earliest,
            read_committed: true,
        };
        match self.core.broker.list_offset(&self.core.cx, query).await {
            Ok(listed) => self.skip_to(wanted, listed.offset),
            Err(error) => self.pause(wanted, &error.message),
        }
    }

    /// Retention was quicker than the group, or somebody moved its offset beyond the end.
    fn skip_to(&self, wanted: &Wanted, start: i64) {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(part) = state.parts.get_mut(&wanted.slot) else {
            return;
        };
        if part.next != wanted.offset {
            return;
        }
        let (topic, partition) = (&part.partition.topic, part.partition.partition);
        if start < wanted.offset {
            tracing::error!(%topic, partition, offset = wanted.offset, "the group's offset is beyond the end of the partition; nothing is read until it is there, or the offset is set back (`wharf group reset`)");
            part.paused = Some(Instant::now() + PAUSE);
            return;
        }
        tracing::warn!(%topic, partition, from = wanted.offset, to = start, "messages were deleted by retention before the group read them; give the topic a longer retention, or the group more members");
        part.skip_to(wanted.slot, &mut state.tracker, start);
        state.is_dirty = true;
        self.work.notify_one();
    }

    fn pause(&self, wanted: &Wanted, error: &str) {
        let mut state = self.state();
        let Some(part) = state.parts.get_mut(&wanted.slot) else {
            return;
        };
        part.paused = Some(Instant::now() + PAUSE);
        let (topic, partition) = (&part.partition.topic, part.partition.partition);
        tracing::warn!(%topic, partition, offset = wanted.offset, error, "a partition cannot be read; trying again");
    }
}
