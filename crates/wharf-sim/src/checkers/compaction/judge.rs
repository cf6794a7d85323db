//! What compaction may have taken away from one partition by now, and what it must have left.
//!
//! Invariant: every rule is told by what was written and when; nothing here knows segments, passes or
//! the order in which a compaction works.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use wharf_log::TransactionOutcome;
use wharf_log::batch::{self, HEADER_BYTES, Header, Record};
use wharf_message::Timestamp;

use super::{History, Original};
use crate::model::Batch;
use crate::view::Stored;

/// See the module.
#[derive(Debug)]
pub struct Judge<'a> {
    history: &'a History,
    /// Where the partition begins: what is below was deleted.
    start: i64,
    /// What was written at or beyond does not count.
    end: i64,
    now: Timestamp,
    /// Where the first transaction begins that is still open.
    stable: i64,
    /// The base offsets of batches whose transaction was aborted.
    aborted: BTreeSet<i64>,
    /// Of each key, the last committed record that compaction may know.
    newest: BTreeMap<&'a Bytes, i64>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(history: &'a History, start: i64, end: i64, now: Timestamp) -> Self {
        let mut aborted = BTreeSet::new();
        let mut open: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for (base, original) in history.batches.range(..end) {
            let header = &original.stored.header;
            match original.marker {
                Some(marker) => {
                    let ended = open.remove(&marker.producer_id).unwrap_or_default();
                    if marker.outcome == TransactionOutcome::Abort {
                        aborted.extend(ended);
                    }
                }
                None if header.is_transactional() => {
                    open.entry(header.producer_id).or_default().push(*base);
                }
                None => {}
            }
        }
        let stable = open.values().flatten().copied().min();
        let mut judge = Self {
            history,
            start,
            end,
            now,
            stable: stable.unwrap_or(i64::MAX),
            aborted,
            newest: BTreeMap::new(),
        };
        for (base, original) in history.batches.range(..end) {
            let counts = judge.counts(*base);
            for record in original.records.iter().filter(|_| counts) {
                if let Some(key) = &record.key
                    && judge.is_reached(record)
                {
                    judge.newest.insert(key, record.offset);
                }
            }
        }
        judge
    }

    fn originals(&self) -> impl Iterator<Item = &'a Original> {
        self.history
            .batches
            .range(..self.end)
            .map(|(_, original)| original)
    }

    /// Whether the batch holds records that whoever wants committed ones gets.
    pub(super) fn counts(&self, base: i64) -> bool {
        let original = self.history.batches.get(&base);
        original.is_some_and(|original| original.marker.is_none())
            && base < self.stable.min(self.end)
            && !self.aborted.contains(&base)
    }

    /// Whether compaction may have looked at a record: old enough, and not in the part that is written.
    fn is_reached(&self, record: &Record) -> bool {
        let young = self.now.since(record.timestamp) < self.history.settings.min_lag;
        record.offset < self.stable.min(self.history.reached) && !young
    }

    /// Why a record of a batch must still be there; `None` when it may be gone. `horizon` is what the
    /// batch says of when its tombstones go.
    fn why_kept(
        &self,
        original: &Original,
        record: &Record,
        horizon: Option<Timestamp>,
    ) -> Option<&'static str> {
        if !self.is_reached(record) {
            return Some("it is too young, or in the part that is written");
        }
        if self.aborted.contains(&original.stored.header.base_offset) {
            return None;
        }
        if original.marker.is_some() || (record.value.is_none() && self.is_newest(record)) {
            let over = match (horizon, original.first_seen) {
                (Some(horizon), _) => self.now >= horizon,
                (None, Some(seen)) => self.now >= seen.after(self.delete_retention()),
                (None, None) => false,
            };
            return (!over).then_some("its time is not over");
        }
        self.is_newest(record)
            .then_some("it is the newest of its key")
    }

    /// Whether nothing supersedes a record. One without a key is worth nothing.
    fn is_newest(&self, record: &Record) -> bool {
        let newest = record.key.as_ref().map(|key| self.newest.get(key));
        newest.is_some_and(|newest| newest.is_none_or(|newest| *newest <= record.offset))
    }

    fn delete_retention(&self) -> Duration {
        self.history.settings.delete_retention
    }

    /// The time by which a batch ages: that of its newest record that must be there; `None` when all of
    /// them may be gone.
    pub fn time_of(&self, batch: &Batch) -> Option<Timestamp> {
        let Some(original) = self.history.batches.get(&batch.base) else {
            return Some(batch.max_time);
        };
        let kept = original.records.iter();
        let kept = kept.filter(|record| self.why_kept(original, record, None).is_some());
        kept.map(|record| record.timestamp).max()
    }

    /// The last value of every key that has one.
    pub(super) fn final_values(&self) -> BTreeMap<Bytes, Option<Bytes>> {
        let mut values = BTreeMap::new();
        for original in self.originals() {
            let counts = self.counts(original.stored.header.base_offset);
            let records = original.records.iter();
            for record in records.filter(|record| counts && record.offset >= self.start) {
                if let Some(key) = &record.key {
                    values.insert(key.clone(), record.value.clone());
                }
            }
        }
        values.retain(|_, value| value.is_some());
        values
    }

    /// Puts back what may be gone of the batches from `from` until `until`, of which `found` are left.
    /// Returns all of them as they were, and the base offsets of those that were gone; or what is wrong.
    pub fn restore(
        &self,
        from: i64,
        until: i64,
        found: impl Iterator<Item = Stored>,
    ) -> Result<(Vec<Stored>, Vec<i64>), String> {
        let (mut whole, mut gone) = (Vec::new(), Vec::new());
        let mut next = from;
        for stored in found {
            let base = stored.header.base_offset;
            self.put_back(next, base, &mut whole, &mut gone)?;
            next = stored.header.last_offset() + 1;
            match self.history.batches.get(&base) {
                Some(original) if base < self.end => {
                    self.check_rest(original, &stored)?;
                    whole.push(original.stored.clone());
                }
                _ if base < self.history.end() => {
                    return Err(format!("{base} holds what nobody wrote there"));
                }
                _ => whole.push(stored),
            }
        }
        self.put_back(next, until, &mut whole, &mut gone)?;
        Ok((whole, gone))
    }

    /// Puts back what was written from `from` until `until`, of which nothing is left.
    fn put_back(
        &self,
        from: i64,
        until: i64,
        whole: &mut Vec<Stored>,
        gone: &mut Vec<i64>,
    ) -> Result<(), String> {
        let until = until.min(self.end);
        if from >= until {
            return Ok(());
        }
        let batches = &self.history.batches;
        let first = batches.range(..=from).next_back();
        let first = first.map_or(from, |(base, _)| *base);
        for (base, original) in batches.range(first..until) {
            if original.stored.header.last_offset() >= from {
                self.check_gone(original)?;
                whole.push(original.stored.clone());
                gone.push(*base);
            }
        }
        Ok(())
    }

    /// How what a read at a batch found (`None`: nothing, or something behind it) differs from what may
    /// be there.
    pub fn difference(&self, batch: &Batch, found: Option<&Stored>) -> Option<String> {
        let Some(original) = self.history.batches.get(&batch.base) else {
            return Some("nobody wrote it".to_owned());
        };
        let checked = match found {
            Some(stored) => self.check_rest(original, stored),
            None => self.check_gone(original),
        };
        checked.err()
    }

    fn check_gone(&self, original: &Original) -> Result<(), String> {
        let kept = original.records.iter();
        let mut kept = kept.filter(|record| record.offset >= self.start);
        let reason = kept.find_map(|record| {
            let why = self.why_kept(original, record, None);
            why.map(|why| (record.offset, why))
        });
        match reason {
            None => Ok(()),
            Some((offset, why)) => Err(format!("{offset} is gone, but {why}")),
        }
    }

    /// Checks what is left of a batch.
    fn check_rest(&self, original: &Original, stored: &Stored) -> Result<(), String> {
        let before = &original.stored;
        if stored.bytes[16..] == before.bytes[16..] {
            return same_place(&before.header, &stored.header);
        }
        same_place(&before.header, &stored.header)?;
        let base = before.header.base_offset;
        let body = stored.bytes.slice(HEADER_BYTES..);
        let left = batch::records(&stored.header, &body);
        let left = left.map_err(|error| format!("{base}: {error}"))?;
        let horizon = stored.header.delete_horizon();
        self.check_horizon(original, horizon.map(Timestamp::from_millis), &left)?;
        let mut there = left.iter().peekable();
        for record in &original.records {
            if there.next_if(|one| *one == record).is_some() || record.offset < self.start {
                continue;
            }
            let horizon = horizon.map(Timestamp::from_millis);
            if let Some(why) = self.why_kept(original, record, horizon) {
                return Err(format!("{} is gone or changed, but {why}", record.offset));
            }
        }
        if let Some(record) = there.next() {
            let offset = record.offset;
            return Err(format!("{offset} is not what was written, or out of order"));
        }
        let newest = left.iter().map(|record| record.timestamp.as_millis()).max();
        if newest != Some(stored.header.max_timestamp) {
            let told = stored.header.max_timestamp;
            return Err(format!("{base} is from {newest:?}, not {told}"));
        }
        Ok(())
    }

    /// Checks when a batch says that its tombstones (or its marker) may go.
    fn check_horizon(
        &self,
        original: &Original,
        horizon: Option<Timestamp>,
        left: &[Record],
    ) -> Result<(), String> {
        let base = original.stored.header.base_offset;
        let is_marker = original.marker.is_some();
        let has_any =
            |records: &[Record]| is_marker || records.iter().any(|record| record.value.is_none());
        let Some(horizon) = horizon else {
            // It was written anew, so its tombstones have been found.
            return if has_any(left) {
                Err(format!("the tombstones of {base} never go"))
            } else {
                Ok(())
            };
        };
        let earliest = original.first_seen.filter(|_| has_any(&original.records));
        let retention = self.delete_retention();
        let in_time = earliest.is_some_and(|seen| horizon >= seen.after(retention));
        if !in_time || horizon > self.now.after(retention) {
            return Err(format!(
                "the tombstones of {base} go at {horizon}, first found at {earliest:?}, kept for {retention:?}"
            ));
        }
        Ok(())
    }
}

/// Compares what compaction must leave of a header.
fn same_place(before: &Header, after: &Header) -> Result<(), String> {
    const DELETE_HORIZON: i16 = 0x40;
    let kept = |header: &Header| {
        (
            (header.base_offset, header.last_offset_delta),
            header.attributes & !DELETE_HORIZON,
            (header.producer_id, header.producer_epoch),
            header.base_sequence,
        )
    };
    if kept(before) == kept(after) {
        return Ok(());
    }
    Err(format!("{after:?} instead of {before:?}"))
}
