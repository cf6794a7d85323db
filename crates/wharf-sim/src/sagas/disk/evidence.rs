//! What is known to be on the disk, and what a machine that died may have left of the rest.
//!
//! What was read from the log once must be there after every restart, except what compaction may take
//! away. Of the commits without an answer, each is there whole or not at all, and those of one owner
//! in their order: none is there after one that is not. But a commit that only keeps how far was read
//! stands on none before it, and finds room on a disk that is too full for records.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use wharf_message::TopicName;
use wharf_message::ledger::{Entry, Owner, Partition, Progress, Record};

use super::super::checkers::{Broken, broken};

pub(super) const KEPT: &str = "what was committed is there after every restart, and nothing else";
pub(super) const WHOLE: &str =
    "a commit happens whole or not at all, and those of one owner in order";

/// Records by their partitions.
pub(super) type Records = Vec<(Partition, Record)>;

/// A commit that somebody asked for, and nobody knows what became of it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) owner: Owner,
    /// Its records, and those of the timers that it fires.
    pub(super) records: Records,
    pub(super) progress: Vec<Progress>,
    /// The log said that it happened.
    pub(super) must_be: bool,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Every record that was ever there, by its offset.
    records: BTreeMap<Partition, Vec<Record>>,
    progress: BTreeMap<(String, Partition), i64>,
    /// How many records of each partition are those of a commit.
    claimed: BTreeMap<Partition, usize>,
    /// Owners of whose commits one did not happen.
    failed: BTreeSet<(Partition, u64)>,
    /// How many records compaction was seen to take away.
    pub(super) compacted: u64,
}

/// A log as it was found after a restart.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) entries: BTreeMap<Partition, Vec<Entry>>,
    pub(super) progress: BTreeMap<(String, Partition), i64>,
}

impl Evidence {
    /// Where what was not read yet begins.
    pub(super) fn next(&self, partition: &Partition) -> i64 {
        let known = self.records.get(partition).map_or(0, Vec::len);
        i64::try_from(known).unwrap_or(i64::MAX)
    }

    /// Whose progress in what is known.
    pub(super) fn readers(&self) -> impl Iterator<Item = &(String, Partition)> {
        self.progress.keys()
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = &Partition> {
        self.records.keys()
    }

    /// Takes what was read next of a partition.
    pub(super) fn read(&mut self, partition: &Partition, entry: Entry) -> Result<(), Broken> {
        let next = self.next(partition);
        if entry.offset != next {
            let Entry { offset, .. } = entry;
            return broken(
                KEPT,
                format!("offset {offset} of {partition:?} follows {next}"),
            );
        }
        let records = self.records.entry(partition.clone()).or_default();
        records.push(entry.record);
        Ok(())
    }

    /// A commit of an owner did not happen, or nobody knows.
    pub(super) fn failed(&mut self, owner: &Owner) {
        self.failed.insert((owner.partition.clone(), owner.epoch));
    }

    /// The log said that a commit happened, and where its records are.
    pub(super) fn happened(&mut self, asked: &Asked, offsets: &[i64]) -> Result<(), Broken> {
        let Asked { owner, records, .. } = asked;
        // One that only keeps how far was read stands on nothing: a full disk has room for it.
        let of = (owner.partition.clone(), owner.epoch);
        if !records.is_empty() && self.failed.contains(&of) {
            return broken(
                WHOLE,
                format!("{owner:?} commits after a commit that failed"),
            );
        }
        if offsets.len() != records.len() {
            return broken(KEPT, format!("{offsets:?} are the offsets of {records:?}"));
        }
        for ((partition, record), offset) in records.iter().zip(offsets) {
            let there = self
                .records
                .get(partition)
                .zip(usize::try_from(*offset).ok());
            let there = there.and_then(|(records, offset)| records.get(offset));
            if there != Some(record) {
                let detail = format!("{there:?} is at {offset} of {partition:?}, not {record:?}");
                return broken(KEPT, detail);
            }
            *self.claimed.entry(partition.clone()).or_default() += 1;
        }
        self.keep(&asked.progress);
        Ok(())
    }

    /// Nothing is there that is not of a whole commit.
    pub(super) fn is_all_claimed(
        &self,
        is_of_others: impl Fn(&TopicName) -> bool,
    ) -> Result<(), Broken> {
        let mut own = self.records.iter();
        let extra = own.find(|(partition, records)| {
            let claimed = self.claimed.get(*partition).copied().unwrap_or(0);
            !is_of_others(&partition.topic) && claimed != records.len()
        });
        match extra {
            None => Ok(()),
            Some((partition, records)) => {
                let last = records.last();
                broken(
                    WHOLE,
                    format!("nobody committed a record of {partition:?}: {last:?}"),
                )
            }
        }
    }

    fn keep(&mut self, progress: &[Progress]) {
        for Progress {
            reader,
            partition,
            offset,
        } in progress
        {
            let key = (reader.clone(), partition.clone());
            self.progress.insert(key, *offset);
        }
    }

    /// Compares with what is there after a restart; the commits without an answer that happened, in
    /// their order. To some topics, others write as well.
    pub(super) fn reopened(
        &mut self,
        found: Found,
        asked: &[Asked],
        is_compacted: impl Fn(&TopicName) -> bool,
        is_of_others: impl Fn(&TopicName) -> bool,
    ) -> Result<Vec<Records>, Broken> {
        self.failed.clear();
        let mut fresh = BTreeMap::new();
        for (partition, entries) in found.entries {
            let next = self.next(&partition);
            let new = entries.iter().position(|entry| entry.offset >= next);
            let mut old = entries;
            let new = old.split_off(new.unwrap_or(old.len()));
            self.still_there(&partition, &old, &new, is_compacted(&partition.topic))?;
            let of_others = is_of_others(&partition.topic);
            let mut waiting = VecDeque::new();
            for entry in new {
                if !of_others {
                    waiting.push_back(entry.record.clone());
                }
                self.read(&partition, entry)?;
            }
            fresh.insert(partition, waiting);
        }
        let (mut happened, mut maybe) = (Vec::new(), BTreeMap::new());
        let mut lost = BTreeSet::new();
        for one in asked {
            let by = (one.owner.partition.clone(), one.owner.epoch);
            if one.records.is_empty() && !one.must_be {
                for progress in &one.progress {
                    let key = (progress.reader.clone(), progress.partition.clone());
                    let offsets = maybe.entry(key).or_insert_with(BTreeSet::new);
                    offsets.insert(progress.offset);
                }
                continue;
            }
            if !take(&mut fresh, &one.records)? {
                if one.must_be {
                    return broken(KEPT, format!("{one:?} happened and is gone"));
                }
                lost.insert(by);
                continue;
            }
            if lost.contains(&by) {
                return broken(WHOLE, format!("{one:?} is there, and one before it is not"));
            }
            self.keep(&one.progress);
            happened.push(one.records.clone());
        }
        if let Some((partition, rest)) = fresh.iter().find(|(_, rest)| !rest.is_empty()) {
            return broken(KEPT, format!("nobody committed {rest:?} of {partition:?}"));
        }
        self.progress_is(&found.progress, &maybe)?;
        let counts = self.records.iter();
        let counts = counts.map(|(partition, records)| (partition.clone(), records.len()));
        self.claimed = counts.collect();
        Ok(happened)
    }

    /// What was there before is there now.
    fn still_there(
        &mut self,
        partition: &Partition,
        old: &[Entry],
        new: &[Entry],
        is_compacted: bool,
    ) -> Result<(), Broken> {
        let known = self.records.get(partition).map_or(&[][..], Vec::as_slice);
        let mut found: BTreeMap<i64, &Record> = BTreeMap::new();
        found.extend(old.iter().map(|entry| (entry.offset, &entry.record)));
        let mut later: BTreeSet<_> = new.iter().map(|entry| &entry.record.key).collect();
        let mut gone = 0;
        for (offset, record) in (0..).zip(known).collect::<Vec<_>>().into_iter().rev() {
            match found.get(&offset) {
                Some(there) if **there == *record => {}
                Some(there) => {
                    let detail =
                        format!("{there:?} is at {offset} of {partition:?}, not {record:?}");
                    return broken(KEPT, detail);
                }
                None if is_compacted && (record.value.is_none() || later.contains(&record.key)) => {
                    gone += 1;
                }
                None => {
                    return broken(
                        KEPT,
                        format!("{record:?} at {offset} of {partition:?} is gone"),
                    );
                }
            }
            later.insert(&record.key);
        }
        self.compacted = self.compacted.max(gone);
        Ok(())
    }

    fn progress_is(
        &mut self,
        found: &BTreeMap<(String, Partition), i64>,
        maybe: &BTreeMap<(String, Partition), BTreeSet<i64>>,
    ) -> Result<(), Broken> {
        for (key, offset) in found {
            let known = self.progress.get(key);
            let is_maybe = maybe.get(key).is_some_and(|some| some.contains(offset));
            if known != Some(offset) && !is_maybe {
                return broken(KEPT, format!("{key:?} is at {offset}, not at {known:?}"));
            }
        }
        let is_gone = |key: &&(String, Partition)| !found.contains_key(*key);
        if let Some(key) = self.progress.keys().find(is_gone) {
            return broken(KEPT, format!("the progress of {key:?} is gone"));
        }
        self.progress.clone_from(found);
        Ok(())
    }
}

/// Takes the records of a commit off what is new, if they are there; all, or none.
fn take(
    fresh: &mut BTreeMap<Partition, VecDeque<Record>>,
    records: &Records,
) -> Result<bool, Broken> {
    let mut cursors: BTreeMap<&Partition, usize> = BTreeMap::new();
    let mut there = 0;
    for (partition, record) in records {
        let cursor = cursors.entry(partition).or_default();
        let next = fresh
            .get(partition)
            .and_then(|waiting| waiting.get(*cursor));
        there += usize::from(next == Some(record));
        *cursor += 1;
    }
    if there < records.len() {
        // What is the same in every commit says nothing.
        let is_told = records.iter().any(|(_, record)| record.value.is_some());
        if there > 0 && is_told {
            return broken(WHOLE, format!("{there} records are there of {records:?}"));
        }
        return Ok(false);
    }
    for (partition, count) in cursors {
        if let Some(waiting) = fresh.get_mut(partition) {
            waiting.drain(..count);
        }
    }
    Ok(true)
}
