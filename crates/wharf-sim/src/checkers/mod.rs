//! The checkers: one promise each, one file each.
//!
//! They compare a [`View`] of what is readable with what was answered ([`Evidence`]). Each stands
//! alone: none relies on another one having run, so that each can be shown to find its own kind of
//! damage. Only what compaction took away by right is put back first, by the checker of compaction.
//! docs/specs/delivery.md lists them.

mod aborted_never_seen;
mod answers;
mod commits_grow;
mod compaction;
pub mod damage_is_told;
mod deleted_stays_deleted;
mod fail_stop;
mod no_lost_acknowledgement;
mod nothing_refused_appears;
mod offsets_never_go_back;
mod once_per_sequence;
mod one_owner;
mod order;
mod reads;
mod restart_changes_nothing;
mod retention;
mod sent_again;
mod transactions_are_whole;
mod whole_units;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use wharf_log::{PartitionChange, PartitionId, Retention, Unit};
use wharf_message::Timestamp;

pub use answers::Answers;
pub use commits_grow::CommitsGrow;
pub use compaction::{Judge, Written};
pub use fail_stop::FailStop;
pub use once_per_sequence::OncePerSequence;
pub use one_owner::OneOwner;
pub use reads::check as read_somewhere;
pub use restart_changes_nothing::check as restart_changes_nothing;
pub use retention::Retained;
pub use sent_again::SentAgain;

use crate::model::{Batch, Model};
use crate::view::{Stored, View};

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The promise, as its checker names it.
    pub promise: &'static str,
    /// What was found.
    pub detail: String,
}

/// A promise broken in this way.
pub fn broken<T>(promise: &'static str, detail: impl Into<String>) -> Result<T, Broken> {
    Err(Broken {
        promise,
        detail: detail.into(),
    })
}

/// A unit whose outcome nobody was told (or that was acknowledged without a sync).
#[derive(Debug)]
pub struct Unsettled {
    /// Its number.
    pub operation: u64,
    /// What it asked for.
    pub unit: Unit,
    /// When the log tried to commit it.
    pub tried_at: Timestamp,
    /// Whether it must be left out: it was refused, or never tried.
    pub refused: bool,
    /// Whether the disk may have been too full for it.
    pub disk_may_be_full: bool,
}

/// What is known about a log from its answers, when a view of it is checked.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// What must be there.
    pub must: &'a Model,
    /// What may be there on top, in this order.
    pub unsettled: &'a [Unsettled],
    /// The bodies of batches that must never appear.
    pub refused: &'a BTreeSet<Bytes>,
    /// The partitions whose start retention may have moved.
    pub retained: &'a BTreeMap<PartitionId, Retention>,
    /// What was written to the partitions that are compacted.
    pub written: &'a Written,
    /// The time of the check.
    pub now: Timestamp,
}

impl Evidence<'_> {
    fn changes(&self) -> impl Iterator<Item = PartitionChange> {
        let possible = self.unsettled.iter().filter(|unsettled| !unsettled.refused);
        possible.flat_map(|unsettled| unsettled.unit.partitions.iter().copied())
    }

    /// Whether a unit with an unknown outcome removes the partition.
    fn may_be_removed(&self, id: PartitionId) -> bool {
        self.changes()
            .any(|change| change == PartitionChange::Remove(id))
    }

    /// The last offset that may be the partition's start.
    fn start_max(&self, id: PartitionId) -> i64 {
        if self.retained.contains_key(&id) {
            return i64::MAX;
        }
        let advanced = self.changes().filter_map(|change| match change {
            PartitionChange::AdvanceStart { partition, offset } if partition == id => Some(offset),
            _ => None,
        });
        let known = self
            .must
            .partitions
            .get(&id)
            .map_or(0, |partition| partition.start);
        advanced.fold(known, i64::max)
    }
}

/// Checks everything a view must show, and finds out which units with an unknown outcome made it.
/// Returns the model of what is there, and how many of them were taken in.
pub fn check_view(evidence: &Evidence<'_>, view: &View) -> Result<(Model, usize), Broken> {
    let view = &*compaction::check(evidence, view)?;
    no_lost_acknowledgement::check(evidence, view)?;
    offsets_never_go_back::check(evidence, view)?;
    deleted_stays_deleted::check(evidence, view)?;
    nothing_refused_appears::check(evidence, view)?;
    order::check(view)?;
    once_per_sequence::check(view)?;
    transactions_are_whole::check(view)?;
    aborted_never_seen::check(view)?;
    whole_units::check(evidence, view)
}

/// What makes a batch itself, whatever offset and time the log gave it: producer, sequence, records.
pub fn body(batch: &Bytes) -> Bytes {
    batch.slice(43.min(batch.len())..)
}

/// How a stored batch differs from the one that was acknowledged; `None` when it does not.
fn difference(expected: &Batch, stored: &Stored) -> Option<String> {
    let header = &stored.header;
    if (header.base_offset, header.last_offset()) != (expected.base, expected.last) {
        let (base, last) = (header.base_offset, header.last_offset());
        return Some(format!("offsets {base}..={last}"));
    }
    if header.max_timestamp != expected.max_time.as_millis() {
        return Some(format!(
            "newest time {} instead of {}",
            header.max_timestamp, expected.max_time
        ));
    }
    if let Some(marker) = expected.marker {
        let found = wharf_log::batch::marker(header, &stored.bytes);
        return (found != Some(marker)).then(|| format!("{found:?} instead of {marker:?}"));
    }
    let patched_from = if expected.append_time.is_some() {
        43
    } else {
        16
    };
    (stored.bytes[patched_from..] != expected.bytes[patched_from..])
        .then(|| "other records".to_owned())
}

#[cfg(test)]
mod tests;
