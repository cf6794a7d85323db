//! The committed offsets of one group, as far as they are durable.
//!
//! Pure: what a commit changes is returned as state changes for the log and becomes visible by
//! [`Offsets::committed`] once they are durable. An offset with a commit on its way does not
//! expire; an offset counts only for the topic (by id) it was committed for.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;
use wharf_log::StateChange;
use wharf_message::Timestamp;

use super::keys;
use super::machine::Expiry;
use super::pending::Pending;
use super::record::OffsetRecord;

/// An offset on its way to the log.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) record: OffsetRecord,
}

impl Commit {
    pub(super) fn key(&self) -> (String, i32) {
        (self.topic.clone(), self.partition)
    }

    /// What to write for it once it counts.
    pub(super) fn change(&self, group: &str) -> StateChange {
        StateChange {
            key: keys::offset(group, &self.topic, self.partition),
            value: Some(self.record.encode()),
        }
    }
}

/// The offsets of one group.
#[derive(Clone, Debug, Default)]
pub(super) struct Offsets {
    durable: BTreeMap<String, BTreeMap<i32, OffsetRecord>>,
    /// How many commits of a partition are on their way.
    on_the_way: BTreeMap<(String, i32), usize>,
    /// Those of open transactions.
    pub(super) pending: Pending,
}

impl Offsets {
    /// Whether there are none, not even on their way.
    pub(super) fn is_empty(&self) -> bool {
        self.durable.is_empty() && self.on_the_way.is_empty() && self.pending.is_empty()
    }

    /// Takes an offset found in the log.
    pub(super) fn recover(&mut self, topic: String, partition: i32, record: OffsetRecord) {
        self.durable
            .entry(topic)
            .or_default()
            .insert(partition, record);
    }

    /// What to write for these commits; report their end by [`Self::committed`].
    pub(super) fn commit(&mut self, group: &str, commits: &[Commit]) -> Vec<StateChange> {
        let mut changes = Vec::with_capacity(commits.len());
        for commit in commits {
            let key = commit.key();
            changes.extend(self.pending.supersede(group, &key));
            *self.on_the_way.entry(key).or_default() += 1;
            changes.push(commit.change(group));
        }
        changes
    }

    /// These commits are durable now, or were refused. In the order of the commits.
    pub(super) fn committed(&mut self, commits: Vec<Commit>, durable: bool) {
        for Commit {
            topic,
            partition,
            record,
        } in commits
        {
            let key = (topic, partition);
            if !durable {
                self.pending.not_superseded(&key);
            }
            if let Some(count) = self.on_the_way.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.on_the_way.remove(&key);
                }
            }
            if durable {
                self.recover(key.0, partition, record);
            }
        }
    }

    /// A producer's transaction ended, durably.
    pub(super) fn ended(&mut self, producer: i64) {
        for commit in self.pending.ended(producer) {
            self.recover(commit.topic, commit.partition, commit.record);
        }
    }

    /// The offset committed for this incarnation of the topic.
    pub(super) fn get(&self, topic: &str, id: Uuid, partition: i32) -> Option<&OffsetRecord> {
        self.durable
            .get(topic)?
            .get(&partition)
            .filter(|record| record.topic_id == id)
    }

    /// All offsets in order, with the topic's name; the caller sees to the topic's id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, i32, &OffsetRecord)> {
        self.durable.iter().flat_map(|(topic, partitions)| {
            let topic = topic.as_str();
            partitions
                .iter()
                .map(move |(partition, record)| (topic, *partition, record))
        })
    }

    /// Every partition with an offset, durable, on its way or of an open transaction.
    pub(super) fn keys(&self) -> Vec<(String, i32)> {
        let mut keys: Vec<_> = self
            .iter()
            .map(|(topic, partition, _)| (topic.to_owned(), partition))
            .collect();
        keys.extend(self.on_the_way.keys().cloned());
        keys.extend(self.pending.keys());
        keys.sort();
        keys.dedup();
        keys
    }

    /// Every partition of one topic with an offset, durable or on its way.
    pub(super) fn keys_of_topic(&self, topic: &str) -> Vec<(String, i32)> {
        let durable = self.durable.get(topic).into_iter().flat_map(BTreeMap::keys);
        let on_the_way = self.on_the_way.keys().filter(|(name, _)| name == topic);
        let pending = self.pending.keys().filter(|(name, _)| name == topic);
        let mut partitions: Vec<i32> = durable
            .chain(on_the_way.map(|(_, partition)| partition))
            .copied()
            .chain(pending.map(|(_, partition)| partition))
            .collect();
        partitions.sort_unstable();
        partitions.dedup();
        partitions
            .into_iter()
            .map(|partition| (topic.to_owned(), partition))
            .collect()
    }

    /// The offsets whose time has come, and when the next one's comes. `subscribed` topics'
    /// offsets and those with a commit on its way stay.
    pub(super) fn expired(
        &self,
        expiry: Expiry,
        subscribed: impl Fn(&str) -> bool,
        retention: Duration,
        now: Timestamp,
    ) -> (Vec<(String, i32)>, Option<Timestamp>) {
        let mut expired = Vec::new();
        let mut next = None::<Timestamp>;
        for (topic, partitions) in &self.durable {
            if expiry == Expiry::Never || subscribed(topic) {
                continue;
            }
            for (partition, record) in partitions {
                let deadline = record.expires_at.unwrap_or_else(|| match expiry {
                    Expiry::Since(since) => since.after(retention),
                    Expiry::SinceCommit | Expiry::Never => record.committed_at.after(retention),
                });
                let key = (topic.clone(), *partition);
                if deadline > now {
                    next = Some(next.map_or(deadline, |next| next.min(deadline)));
                } else if !self.on_the_way.contains_key(&key) && !self.pending.is_pending(&key) {
                    expired.push(key);
                }
            }
        }
        (expired, next)
    }

    /// What to write to remove these offsets.
    pub(super) fn removal(&self, group: &str, keys: &[(String, i32)]) -> Vec<StateChange> {
        let mut changes = Vec::with_capacity(keys.len());
        for (topic, partition) in keys {
            let offset = keys::offset(group, topic, *partition);
            let pending = self.pending.keys_in_log(group, topic, *partition);
            let removed = [offset].into_iter().chain(pending);
            changes.extend(removed.map(|key| StateChange { key, value: None }));
        }
        changes
    }

    /// These offsets are gone.
    pub(super) fn remove(&mut self, keys: &[(String, i32)]) {
        for (topic, partition) in keys {
            self.pending.remove(topic, *partition);
            if let Some(partitions) = self.durable.get_mut(topic) {
                partitions.remove(partition);
                if partitions.is_empty() {
                    self.durable.remove(topic);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn at(days: u32) -> Timestamp {
        Timestamp::ZERO.after(DAY * days)
    }

    fn commit(topic: &str, committed_at: Timestamp) -> Commit {
        let record = OffsetRecord {
            offset: 1,
            leader_epoch: -1,
            topic_id: Uuid::nil(),
            committed_at,
            expires_at: None,
            metadata: String::new(),
        };
        Commit {
            topic: topic.to_owned(),
            partition: 0,
            record,
        }
    }

    fn offsets(commits: Vec<Commit>) -> Offsets {
        let mut offsets = Offsets::default();
        offsets.commit("g", &commits);
        offsets.committed(commits, true);
        offsets
    }

    fn names(expired: (Vec<(String, i32)>, Option<Timestamp>)) -> (Vec<String>, Option<Timestamp>) {
        (
            expired.0.into_iter().map(|(topic, _)| topic).collect(),
            expired.1,
        )
    }

    #[test]
    fn an_offset_is_visible_only_once_it_is_durable() {
        let mut offsets = Offsets::default();
        let commits = vec![commit("t", at(0))];
        assert_eq!(offsets.commit("g", &commits).len(), 1);
        assert_eq!(offsets.get("t", Uuid::nil(), 0), None);
        offsets.committed(commits.clone(), false);
        assert!(offsets.is_empty());
        offsets.commit("g", &commits);
        offsets.committed(commits, true);
        assert!(offsets.get("t", Uuid::nil(), 0).is_some());
    }

    #[test]
    fn a_topic_created_anew_does_not_inherit_offsets() {
        let offsets = offsets(vec![commit("t", at(0))]);
        assert_eq!(offsets.get("t", Uuid::from_u128(1), 0), None);
    }

    #[test]
    fn offsets_of_an_empty_group_expire_together_after_it_became_empty() {
        let offsets = offsets(vec![commit("a", at(0)), commit("b", at(3))]);
        let expired = |now| names(offsets.expired(Expiry::Since(at(5)), |_| false, DAY * 7, now));
        assert_eq!(expired(at(11)), (vec![], Some(at(12))));
        assert_eq!(
            expired(at(12)),
            (vec!["a".to_owned(), "b".to_owned()], None)
        );
    }

    #[test]
    fn offsets_without_a_group_protocol_expire_each_after_its_commit() {
        let offsets = offsets(vec![commit("a", at(0)), commit("b", at(3))]);
        let expired = |now| names(offsets.expired(Expiry::SinceCommit, |_| false, DAY * 7, now));
        assert_eq!(expired(at(7)), (vec!["a".to_owned()], Some(at(10))));
    }

    #[test]
    fn offsets_of_subscribed_topics_never_expire() {
        let offsets = offsets(vec![commit("a", at(0)), commit("b", at(0))]);
        let expired = offsets.expired(Expiry::SinceCommit, |topic| topic == "a", DAY * 7, at(99));
        assert_eq!(names(expired), (vec!["b".to_owned()], None));
        let expired = offsets.expired(Expiry::Never, |_| false, DAY * 7, at(99));
        assert_eq!(names(expired), (vec![], None));
    }

    #[test]
    fn a_commit_with_a_retention_of_its_own_expires_by_that() {
        let mut short = commit("a", at(0));
        short.record.expires_at = Some(at(2));
        let offsets = offsets(vec![short, commit("b", at(0))]);
        let expired = |now| names(offsets.expired(Expiry::Since(at(5)), |_| false, DAY * 7, now));
        assert_eq!(expired(at(2)), (vec!["a".to_owned()], Some(at(12))));
    }

    #[test]
    fn an_offset_with_a_commit_on_its_way_does_not_expire() {
        let mut offsets = offsets(vec![commit("a", at(0))]);
        let again = vec![commit("a", at(8))];
        offsets.commit("g", &again);
        let expired = offsets.expired(Expiry::SinceCommit, |_| false, DAY * 7, at(8));
        assert_eq!(expired, (vec![], None));
        offsets.committed(again, true);
        let expired = offsets.expired(Expiry::SinceCommit, |_| false, DAY * 7, at(8));
        assert_eq!(expired, (vec![], Some(at(15))));
    }

    #[test]
    fn the_offsets_of_a_topic_include_those_on_their_way() {
        let mut offsets = offsets(vec![commit("a", at(0)), commit("b", at(0))]);
        let mut other = commit("a", at(0));
        other.partition = 4;
        offsets.commit("g", &[other]);
        assert_eq!(
            offsets.keys_of_topic("a"),
            [("a".to_owned(), 0), ("a".to_owned(), 4)]
        );
        offsets.remove(&[("a".to_owned(), 0)]);
        assert_eq!(offsets.get("a", Uuid::nil(), 0), None);
        assert!(offsets.get("b", Uuid::nil(), 0).is_some());
    }
}
