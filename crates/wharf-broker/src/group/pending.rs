//! The offsets of one group that open transactions are going to commit (KIP-447).
//!
//! Pure. An offset is pending from the moment its transaction asked for it until the transaction
//! ends; then it counts or is gone. Of the commits of a partition the one that was asked for last
//! wins, as in Kafka: after a later ordinary commit, or once a transaction was committed that asked
//! later, a transaction's offset is pending to the end all the same, but never counts.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use wharf_log::StateChange;

use super::keys;
use super::offsets::Commit;
use super::record::OffsetRecord;

/// What a change of the state takes in a unit beside its own bytes, at most.
const CHANGE_BYTES_MAX: usize = 64;

/// Topic and partition.
type Key = (String, i32);

/// The offsets of open transactions, by producer id.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    by_producer: BTreeMap<i64, BTreeMap<Key, Entry>>,
    /// The producers with an offset of the partition.
    by_key: BTreeMap<Key, BTreeSet<i64>>,
    /// When the next commit is asked for, as a number.
    next: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    /// The last one asked for.
    record: OffsetRecord,
    /// When that was: later ones have higher numbers.
    asked: u64,
    /// How many units with it are on their way.
    on_the_way: usize,
    is_durable: bool,
    /// How many ordinary commits came later.
    superseded: usize,
    /// The commits of other transactions, asked for later, whose end was decided on.
    overtaken_by: BTreeSet<u64>,
    /// The transaction is ending; whether the offset is going to count.
    counts: Option<bool>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.by_producer.is_empty()
    }

    /// Takes an offset found in the log; in the order in which they were asked for.
    pub(super) fn recover(&mut self, producer: i64, key: Key, record: OffsetRecord) {
        let entry = self.enter(producer, key, record);
        entry.is_durable = true;
    }

    /// Takes a commit that is asked for now.
    fn enter(&mut self, producer: i64, key: Key, record: OffsetRecord) -> &mut Entry {
        let asked = self.next;
        self.next += 1;
        let producers = self.by_key.entry(key.clone()).or_default();
        producers.insert(producer);
        let entries = self.by_producer.entry(producer).or_default();
        let entry = entries.entry(key).or_insert_with(|| Entry {
            record: record.clone(),
            asked,
            on_the_way: 0,
            is_durable: false,
            superseded: 0,
            overtaken_by: BTreeSet::new(),
            counts: None,
        });
        entry.record = record;
        entry.asked = asked;
        entry.superseded = 0;
        entry.overtaken_by.clear();
        entry
    }

    /// Forgets what a producer has for a partition.
    fn leave(&mut self, producer: i64, key: &Key) {
        if let Some(entries) = self.by_producer.get_mut(&producer) {
            entries.remove(key);
            if entries.is_empty() {
                self.by_producer.remove(&producer);
            }
        }
        if let Some(producers) = self.by_key.get_mut(key) {
            producers.remove(&producer);
            if producers.is_empty() {
                self.by_key.remove(key);
            }
        }
    }

    fn entry(&mut self, producer: i64, key: &Key) -> Option<&mut Entry> {
        self.by_producer.get_mut(&producer)?.get_mut(key)
    }

    /// The producers with an offset of the partition.
    fn producers_of(&self, key: &Key) -> impl Iterator<Item = i64> {
        self.by_key.get(key).into_iter().flatten().copied()
    }

    /// The other producers whose offsets of the partition were asked for before.
    fn earlier(&self, producer: i64, key: &Key, asked: u64) -> impl Iterator<Item = i64> {
        self.producers_of(key).filter(move |other| {
            let entries = self.by_producer.get(other);
            let entry = entries.and_then(|entries| entries.get(key));
            *other != producer && entry.is_some_and(|entry| entry.asked < asked)
        })
    }

    /// The producers with offsets here.
    pub(super) fn producers(&self) -> impl Iterator<Item = i64> {
        self.by_producer.keys().copied()
    }

    /// What the end of a producer's transaction takes in a unit at most, for what is pending here
    /// and these commits.
    pub(super) fn end_bytes(&self, producer: i64, group: &str, commits: &[Commit]) -> usize {
        let of_one = |key: &Key, record: &OffsetRecord, asked: u64| {
            // Removed under one key, also for those that it overtakes, and put with its metadata
            // under another. Whoever asks later is not overtaken.
            let change = group.len() + key.0.len() + 2 * CHANGE_BYTES_MAX;
            let overtaken = self.earlier(producer, key, asked).count();
            (2 + overtaken) * change + record.metadata.len()
        };
        let entries = self.by_producer.get(&producer).into_iter().flatten();
        let pending = entries.map(|(key, entry)| of_one(key, &entry.record, entry.asked));
        let coming = commits.iter();
        let coming = coming.map(|commit| of_one(&commit.key(), &commit.record, self.next));
        pending.chain(coming).sum()
    }

    /// Every partition with a pending offset.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.by_key.keys().cloned()
    }

    /// Whether an open transaction is going to commit an offset of the partition.
    pub(super) fn is_pending(&self, key: &Key) -> bool {
        self.by_key.contains_key(key)
    }

    /// What to write for a transaction's commits; report their end by [`Self::added`].
    pub(super) fn add(
        &mut self,
        producer: i64,
        group: &str,
        commits: &[Commit],
    ) -> Vec<StateChange> {
        let change = |commit: &Commit| {
            let entry = self.enter(producer, commit.key(), commit.record.clone());
            entry.on_the_way += 1;
            StateChange {
                key: keys::pending(producer, group, &commit.topic, commit.partition),
                value: Some(commit.record.encode()),
            }
        };
        commits.iter().map(change).collect()
    }

    /// These commits are durable now, or were refused.
    pub(super) fn added(&mut self, producer: i64, commits: &[Commit], durable: bool) {
        for commit in commits {
            let key = commit.key();
            let Some(entry) = self.entry(producer, &key) else {
                continue;
            };
            entry.on_the_way = entry.on_the_way.saturating_sub(1);
            entry.is_durable |= durable;
            if entry.on_the_way == 0 && !entry.is_durable {
                self.leave(producer, &key);
            }
        }
    }

    /// An ordinary commit of the partition comes after what is pending: what to write with it.
    pub(super) fn supersede(&mut self, group: &str, key: &Key) -> Vec<StateChange> {
        let producers: Vec<i64> = self.producers_of(key).collect();
        for producer in &producers {
            if let Some(entry) = self.entry(*producer, key) {
                entry.superseded += 1;
            }
        }
        let removed = producers.into_iter();
        removed
            .map(|producer| removal(producer, group, key))
            .collect()
    }

    /// An ordinary commit was refused after all.
    pub(super) fn not_superseded(&mut self, key: &Key) {
        for producer in self.producers_of(key).collect::<Vec<_>>() {
            if let Some(entry) = self.entry(producer, key) {
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
        let mut overtaking = Vec::new();
        let entries = self.by_producer.get_mut(&producer).into_iter().flatten();
        for (key, entry) in entries {
            let is_last = entry.superseded == 0 && entry.overtaken_by.is_empty();
            let counts = is_commit && is_last;
            entry.counts = Some(counts);
            changes.push(removal(producer, group, key));
            if counts {
                changes.push(entry.commit(key).change(group));
                overtaking.push((key.clone(), entry.asked));
            }
        }
        for (key, asked) in overtaking {
            for other in self.earlier(producer, &key, asked).collect::<Vec<_>>() {
                changes.push(removal(other, group, &key));
                if let Some(entry) = self.entry(other, &key) {
                    entry.overtaken_by.insert(asked);
                }
            }
        }
        changes
    }

    /// A producer's transaction ended: the offsets that count now.
    pub(super) fn ended(&mut self, producer: i64) -> Vec<Commit> {
        let entries = self.by_producer.get(&producer).cloned().unwrap_or_default();
        for key in entries.keys() {
            self.leave(producer, key);
        }
        let counts = entries.iter();
        let counts = counts.filter(|(_, entry)| entry.counts == Some(true));
        counts.map(|(key, entry)| entry.commit(key)).collect()
    }

    /// The end of a producer's transaction was refused: it is open as before.
    pub(super) fn not_ended(&mut self, producer: i64) {
        let mut overtook = Vec::new();
        let entries = self.by_producer.get_mut(&producer).into_iter().flatten();
        for (key, entry) in entries {
            if entry.counts.take() == Some(true) {
                overtook.push((key.clone(), entry.asked));
            }
        }
        for (key, asked) in overtook {
            for other in self.producers_of(&key).collect::<Vec<_>>() {
                if let Some(entry) = self.entry(other, &key) {
                    entry.overtaken_by.remove(&asked);
                }
            }
        }
    }

    /// The keys in the log of what is pending for a partition.
    pub(super) fn keys_in_log(&self, group: &str, topic: &str, partition: i32) -> Vec<Bytes> {
        let of = (topic.to_owned(), partition);
        let producers = self.producers_of(&of);
        producers
            .map(|producer| keys::pending(producer, group, topic, partition))
            .collect()
    }

    /// What was pending for a partition is gone.
    pub(super) fn remove(&mut self, topic: &str, partition: i32) {
        let key = (topic.to_owned(), partition);
        for producer in self.producers_of(&key).collect::<Vec<_>>() {
            self.leave(producer, &key);
        }
    }
}

/// What takes a producer's pending offset out of the log.
fn removal(producer: i64, group: &str, (topic, partition): &Key) -> StateChange {
    StateChange {
        key: keys::pending(producer, group, topic, *partition),
        value: None,
    }
}

impl Entry {
    fn commit(&self, (topic, partition): &Key) -> Commit {
        Commit {
            topic: topic.clone(),
            partition: *partition,
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
    fn of_two_transactions_the_one_that_asked_last_wins_whichever_ends_last() {
        let asked = |again: bool| {
            let mut pending = Pending::default();
            pending.add(2, "g", &[commit(0, 5), commit(1, 5)]);
            pending.add(1, "g", &[commit(0, 9)]);
            if again {
                pending.add(2, "g", &[commit(0, 5)]);
            }
            pending
        };
        let mut pending = asked(false);
        let written = pending.ending(1, "g", true);
        assert_eq!(written.len(), 3, "the other's offset goes with it");
        assert_eq!(counting(pending.ended(1)), [(0, 9)]);
        assert!(pending.is_pending(&key(0)), "unstable to the end");
        assert_eq!(end(&mut pending, 2, true), [(1, 5)]);
        assert!(pending.is_empty() && pending.keys().next().is_none());

        let mut pending = asked(true);
        assert_eq!(end(&mut pending, 1, true), [(0, 9)]);
        assert_eq!(
            end(&mut pending, 2, true),
            [(0, 5), (1, 5)],
            "asked again since"
        );

        let mut pending = asked(false);
        assert_eq!(end(&mut pending, 1, false), []);
        assert_eq!(
            end(&mut pending, 2, true),
            [(0, 5), (1, 5)],
            "the other was aborted"
        );

        let mut pending = asked(false);
        pending.ending(1, "g", true);
        pending.not_ended(1);
        assert_eq!(
            end(&mut pending, 2, true),
            [(0, 5), (1, 5)],
            "its end was refused"
        );
        assert_eq!(end(&mut pending, 1, true), [(0, 9)]);
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
        for other in 2..9 {
            pending.add(other, "group", &commits);
        }
        let said = pending.end_bytes(1, "group", &commits);
        pending.add(1, "group", &commits);
        pending.add(9, "group", &commits);
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
