//! The offsets of one group that open transactions are going to commit (KIP-447).
//!
//! Pure. An offset is pending from the moment its transaction asked for it until the transaction
//! ends; then it counts or is gone. A later ordinary commit of the same partition wins: the
//! transaction's offset is pending to the end all the same, but never counts.

use std::collections::BTreeMap;

use bytes::Bytes;
use wharf_log::StateChange;

use super::keys;
use super::offsets::Commit;
use super::record::OffsetRecord;

/// What a change of the state takes in a unit beside its own bytes, at most.
const CHANGE_BYTES_MAX: usize = 64;

/// The offsets of open transactions, by producer id.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    by_producer: BTreeMap<i64, BTreeMap<(String, i32), Entry>>,
}

#[derive(Clone, Debug)]
struct Entry {
    /// The last one asked for.
    record: OffsetRecord,
    /// How many units with it are on their way.
    on_the_way: usize,
    is_durable: bool,
    /// How many ordinary commits came later.
    superseded: usize,
    /// The transaction is ending; whether the offset is going to count.
    counts: Option<bool>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.by_producer.is_empty()
    }

    /// Takes an offset found in the log.
    pub(super) fn recover(&mut self, producer: i64, key: (String, i32), record: OffsetRecord) {
        let entry = Entry {
            record,
            on_the_way: 0,
            is_durable: true,
            superseded: 0,
            counts: None,
        };
        let entries = self.by_producer.entry(producer).or_default();
        entries.insert(key, entry);
    }

    /// The producers with offsets here.
    pub(super) fn producers(&self) -> impl Iterator<Item = i64> {
        self.by_producer.keys().copied()
    }

    /// What the end of a producer's transaction takes in a unit at most, for what is pending here
    /// and these commits.
    pub(super) fn end_bytes(&self, producer: i64, group: &str, commits: &[Commit]) -> usize {
        let entries = self.by_producer.get(&producer).into_iter().flatten();
        let pending = entries.map(|((topic, _), entry)| (topic, &entry.record));
        let coming = commits.iter().map(|commit| (&commit.topic, &commit.record));
        let of_one = |(topic, record): (&String, &OffsetRecord)| {
            // Removed under one key, and put with its metadata under another.
            let key = group.len() + topic.len() + CHANGE_BYTES_MAX;
            2 * (key + CHANGE_BYTES_MAX) + record.metadata.len()
        };
        pending.chain(coming).map(of_one).sum()
    }

    /// Every partition with a pending offset; some more than once.
    pub(super) fn keys(&self) -> impl Iterator<Item = (String, i32)> {
        let entries = self.by_producer.values();
        entries.flat_map(|entries| entries.keys().cloned())
    }

    /// Whether an open transaction is going to commit an offset of the partition.
    pub(super) fn is_pending(&self, key: &(String, i32)) -> bool {
        let mut entries = self.by_producer.values();
        entries.any(|entries| entries.contains_key(key))
    }

    /// What to write for a transaction's commits; report their end by [`Self::added`].
    pub(super) fn add(
        &mut self,
        producer: i64,
        group: &str,
        commits: &[Commit],
    ) -> Vec<StateChange> {
        let entries = self.by_producer.entry(producer).or_default();
        let change = |commit: &Commit| {
            let key = (commit.topic.clone(), commit.partition);
            let entry = entries.entry(key).or_insert_with(|| Entry {
                record: commit.record.clone(),
                on_the_way: 0,
                is_durable: false,
                superseded: 0,
                counts: None,
            });
            entry.record = commit.record.clone();
            entry.on_the_way += 1;
            entry.superseded = 0;
            StateChange {
                key: keys::pending(producer, group, &commit.topic, commit.partition),
                value: Some(commit.record.encode()),
            }
        };
        commits.iter().map(change).collect()
    }

    /// These commits are durable now, or were refused.
    pub(super) fn added(&mut self, producer: i64, commits: &[Commit], durable: bool) {
        let Some(entries) = self.by_producer.get_mut(&producer) else {
            return;
        };
        for commit in commits {
            let key = (commit.topic.clone(), commit.partition);
            let Some(entry) = entries.get_mut(&key) else {
                continue;
            };
            entry.on_the_way = entry.on_the_way.saturating_sub(1);
            entry.is_durable |= durable;
            if entry.on_the_way == 0 && !entry.is_durable {
                entries.remove(&key);
            }
        }
        if entries.is_empty() {
            self.by_producer.remove(&producer);
        }
    }

    /// An ordinary commit of the partition comes after what is pending: what to write with it.
    pub(super) fn supersede(&mut self, group: &str, key: &(String, i32)) -> Vec<StateChange> {
        let mut changes = Vec::new();
        for (producer, entries) in &mut self.by_producer {
            if let Some(entry) = entries.get_mut(key) {
                entry.superseded += 1;
                changes.push(StateChange {
                    key: keys::pending(*producer, group, &key.0, key.1),
                    value: None,
                });
            }
        }
        changes
    }

    /// An ordinary commit was refused after all.
    pub(super) fn not_superseded(&mut self, key: &(String, i32)) {
        for entries in self.by_producer.values_mut() {
            if let Some(entry) = entries.get_mut(key) {
                entry.superseded = entry.superseded.saturating_sub(1);
            }
        }
    }

    /// What to write when a producer's transaction ends; [`Self::ended`] follows when it is durable,
    /// [`Self::not_ended`] when it was refused.
    pub(super) fn ending(
        &mut self,
        producer: i64,
        group: &str,
        is_commit: bool,
    ) -> Vec<StateChange> {
        let mut changes = Vec::new();
        let entries = self.by_producer.get_mut(&producer).into_iter().flatten();
        for ((topic, partition), entry) in entries {
            let counts = is_commit && entry.superseded == 0;
            entry.counts = Some(counts);
            changes.push(StateChange {
                key: keys::pending(producer, group, topic, *partition),
                value: None,
            });
            if counts {
                changes.push(entry.commit(topic, *partition).change(group));
            }
        }
        changes
    }

    /// A producer's transaction ended: the offsets that count now.
    pub(super) fn ended(&mut self, producer: i64) -> Vec<Commit> {
        let entries = self.by_producer.remove(&producer).unwrap_or_default();
        let counts = entries
            .into_iter()
            .filter(|(_, entry)| entry.counts == Some(true));
        counts
            .map(|((topic, partition), entry)| entry.commit(&topic, partition))
            .collect()
    }

    /// The end of a producer's transaction was refused: it is open as before.
    pub(super) fn not_ended(&mut self, producer: i64) {
        for entry in self
            .by_producer
            .get_mut(&producer)
            .into_iter()
            .flat_map(BTreeMap::values_mut)
        {
            entry.counts = None;
        }
    }

    /// The keys in the log of what is pending for a partition.
    pub(super) fn keys_in_log(&self, group: &str, topic: &str, partition: i32) -> Vec<Bytes> {
        let key = (topic.to_owned(), partition);
        let with = self.by_producer.iter();
        with.filter(|(_, entries)| entries.contains_key(&key))
            .map(|(producer, _)| keys::pending(*producer, group, topic, partition))
            .collect()
    }

    /// What was pending for a partition is gone.
    pub(super) fn remove(&mut self, topic: &str, partition: i32) {
        let key = (topic.to_owned(), partition);
        self.by_producer.retain(|_, entries| {
            entries.remove(&key);
            !entries.is_empty()
        });
    }
}

impl Entry {
    fn commit(&self, topic: &str, partition: i32) -> Commit {
        Commit {
            topic: topic.to_owned(),
            partition,
            record: self.record.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use wharf_message::Timestamp;

    use super::*;

    fn commit(partition: i32, offset: i64) -> Commit {
        let record = OffsetRecord {
            offset,
            leader_epoch: -1,
            topic_id: Uuid::nil(),
            committed_at: Timestamp::ZERO,
            expires_at: None,
            metadata: String::new(),
        };
        Commit {
            topic: "t".to_owned(),
            partition,
            record,
        }
    }

    fn key(partition: i32) -> (String, i32) {
        ("t".to_owned(), partition)
    }

    fn counting(commits: Vec<Commit>) -> Vec<(i32, i64)> {
        commits
            .into_iter()
            .map(|commit| (commit.partition, commit.record.offset))
            .collect()
    }

    fn end(pending: &mut Pending, producer: i64, is_commit: bool) -> Vec<(i32, i64)> {
        pending.ending(producer, "g", is_commit);
        counting(pending.ended(producer))
    }

    #[test]
    fn a_transactions_offsets_count_when_it_is_committed_and_only_then() {
        for is_commit in [true, false] {
            let mut pending = Pending::default();
            assert_eq!(pending.add(1, "g", &[commit(0, 5), commit(1, 6)]).len(), 2);
            pending.added(1, &[commit(0, 5), commit(1, 6)], true);
            assert!(pending.is_pending(&key(0)) && pending.is_pending(&key(1)));
            let written = pending.ending(1, "g", is_commit);
            let removed = written.iter().filter(|change| change.value.is_none());
            assert_eq!(removed.count(), 2);
            let expected = if is_commit {
                vec![(0, 5), (1, 6)]
            } else {
                vec![]
            };
            assert_eq!(written.len(), 2 + expected.len());
            assert_eq!(counting(pending.ended(1)), expected);
            assert!(pending.is_empty());
        }
    }

    #[test]
    fn the_last_offset_asked_for_counts_and_those_of_others_stay() {
        let mut pending = Pending::default();
        for offset in [5, 9] {
            pending.add(1, "g", &[commit(0, offset)]);
            pending.added(1, &[commit(0, offset)], true);
        }
        pending.add(2, "g", &[commit(0, 7)]);
        assert_eq!(end(&mut pending, 1, true), [(0, 9)]);
        assert!(pending.is_pending(&key(0)));
        assert_eq!(end(&mut pending, 2, true), [(0, 7)]);
    }

    #[test]
    fn an_ordinary_commit_that_comes_later_wins_unless_it_was_refused() {
        let mut pending = Pending::default();
        pending.add(1, "g", &[commit(0, 5), commit(1, 6)]);
        assert_eq!(pending.supersede("g", &key(0)).len(), 1);
        assert_eq!(pending.supersede("g", &key(1)).len(), 1);
        pending.not_superseded(&key(1));
        assert!(pending.is_pending(&key(0)), "unstable to the end");
        assert_eq!(end(&mut pending, 1, true), [(1, 6)]);
    }

    #[test]
    fn a_commit_after_the_end_was_decided_does_not_change_what_the_end_wrote() {
        let mut pending = Pending::default();
        pending.add(1, "g", &[commit(0, 5)]);
        pending.ending(1, "g", true);
        pending.supersede("g", &key(0));
        assert_eq!(counting(pending.ended(1)), [(0, 5)]);
        pending.add(1, "g", &[commit(0, 5)]);
        pending.ending(1, "g", true);
        pending.supersede("g", &key(0));
        pending.not_ended(1);
        assert_eq!(end(&mut pending, 1, true), [], "decided anew, it does");
    }

    #[test]
    fn the_end_takes_no_more_than_was_said() {
        let mut pending = Pending::default();
        let commits: Vec<Commit> = (0..50).map(|partition| commit(partition, 5)).collect();
        let said = pending.end_bytes(1, "group", &commits);
        pending.add(1, "group", &commits);
        assert_eq!(pending.end_bytes(1, "group", &[]), said);
        let of_change = |change: &StateChange| {
            let value = change.value.as_ref().map_or(0, Bytes::len);
            change.key.len() + value + CHANGE_BYTES_MAX
        };
        let taken: usize = pending.ending(1, "group", true).iter().map(of_change).sum();
        assert!(taken <= said, "{taken} > {said}");
    }

    #[test]
    fn what_was_refused_or_removed_is_not_pending() {
        let mut pending = Pending::default();
        pending.add(1, "g", &[commit(0, 5)]);
        pending.added(1, &[commit(0, 5)], false);
        assert!(pending.is_empty());
        pending.add(1, "g", &[commit(0, 5), commit(1, 6)]);
        assert_eq!(pending.keys_in_log("g", "t", 0).len(), 1);
        pending.remove("t", 0);
        assert!(!pending.is_pending(&key(0)) && pending.is_pending(&key(1)));
    }
}
