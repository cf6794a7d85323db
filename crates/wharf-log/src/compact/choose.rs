//! Which partition is compacted next, and how much of it.
//!
//! Invariant: nothing at or beyond the last stable offset, nothing younger than the partition's lag,
//! and nothing of a partition with damage is ever chosen.

use std::sync::Arc;

use wharf_message::Timestamp;

use crate::partition::{Data, Partition, Segment};
use crate::shared::Shared;
use crate::sync::read;
use crate::{Compaction, Policy};

/// A partition to be compacted.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) partition: Arc<Partition>,
    pub(super) settings: Compaction,
    pub(super) segment_bytes: u64,
    /// The segments that may be compacted, from the first kept one on.
    pub(super) segments: Vec<Segment>,
}

/// What is due.
#[derive(Debug, Default)]
pub(super) struct AllDue {
    /// The partition with the largest share that was not compacted yet, of those that are due.
    pub(super) filthiest: Option<Due>,
    /// Partitions with records in the journal that may not wait any longer.
    pub(super) to_settle: Vec<Arc<Partition>>,
}

pub(super) fn due(shared: &Shared, policy: &dyn Policy, now: Timestamp) -> AllDue {
    let mut all = AllDue::default();
    let mut most = 0.0;
    for partition in shared.table.all() {
        let Some(retention) = policy.retention(partition.id) else {
            continue;
        };
        let Some(settings) = retention.compaction else {
            continue;
        };
        let data = read(&partition.data);
        if !data.damaged.is_empty() {
            continue;
        }
        if waited_too_long(&data, &settings, now) {
            all.to_settle.push(Arc::clone(&partition));
        }
        let segments = region(&data, &settings, now);
        let Some(urgency) = urgency(&data, segments, &settings, now) else {
            continue;
        };
        if urgency > most {
            most = urgency;
            all.filthiest = Some(Due {
                partition: Arc::clone(&partition),
                settings,
                segment_bytes: retention.segment_bytes,
                segments: segments.to_vec(),
            });
        }
    }
    all
}

/// Milliseconds from a record's time until now; 0 for records without a time.
fn age(now: Timestamp, time: i64) -> u128 {
    if time < 0 {
        return 0;
    }
    now.since(Timestamp::from_millis(time)).as_millis()
}

/// Whether the oldest batch in the journal is older than the settings allow.
fn waited_too_long(data: &Data, settings: &Compaction, now: Timestamp) -> bool {
    let oldest = data.index.front();
    settings.max_lag.is_some_and(|lag| {
        oldest.is_some_and(|oldest| age(now, oldest.max_timestamp) > lag.as_millis())
    })
}

/// The segments that may be compacted.
fn region<'a>(data: &'a Data, settings: &Compaction, now: Timestamp) -> &'a [Segment] {
    let stable = data.bounds().stable_end;
    let from = data
        .segments
        .partition_point(|segment| segment.last_offset < data.start);
    let old_enough = |segment: &Segment| {
        let young = segment.max_timestamp >= 0
            && age(now, segment.max_timestamp) < settings.min_lag.as_millis();
        !young && segment.last_offset < stable
    };
    let kept = &data.segments[from..];
    let count = kept
        .iter()
        .position(|segment| !old_enough(segment))
        .unwrap_or(kept.len());
    &kept[..count]
}

/// How urgent a compaction is; `None` when it is not due.
fn urgency(
    data: &Data,
    segments: &[Segment],
    settings: &Compaction,
    now: Timestamp,
) -> Option<f64> {
    let compacted = &data.compacted;
    let clean = segments.partition_point(|segment| segment.last_offset < compacted.end);
    let bytes = |segments: &[Segment]| segments.iter().map(|one| one.bytes).sum::<u64>();
    let (clean, dirty) = segments.split_at(clean);
    let all = bytes(segments);
    if all == 0 {
        return None;
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share, to be compared with one"
    )]
    let share = bytes(dirty) as f64 / all as f64;
    let overdue = settings.max_lag.is_some_and(|lag| {
        let oldest = dirty.first();
        oldest.is_some_and(|oldest| age(now, oldest.first_timestamp) > lag.as_millis())
    });
    let tombstones = compacted
        .horizon
        .is_some_and(|horizon| horizon <= now.as_millis() && !clean.is_empty());
    let filthy = !dirty.is_empty() && share > settings.dirty_ratio;
    (filthy || overdue || tombstones).then_some(share + f64::from(u8::from(overdue)) + 0.001)
}
