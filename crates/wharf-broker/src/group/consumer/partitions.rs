//! Sets of partitions by topic id, and what is done with such sets.
//!
//! Invariant: no topic is there without a partition, so that equal sets compare equal.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

/// One partition of one topic.
pub(in crate::group) type Partition = (Uuid, i32);

/// A set of partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::group) struct Partitions(BTreeMap<Uuid, BTreeSet<i32>>);

impl Partitions {
    pub(in crate::group) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(in crate::group) fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    pub(in crate::group) fn contains(&self, (topic, partition): Partition) -> bool {
        self.0
            .get(&topic)
            .is_some_and(|partitions| partitions.contains(&partition))
    }

    pub(in crate::group) fn insert(&mut self, (topic, partition): Partition) -> bool {
        self.0.entry(topic).or_default().insert(partition)
    }

    pub(in crate::group) fn remove(&mut self, (topic, partition): Partition) {
        if let Some(partitions) = self.0.get_mut(&topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.0.remove(&topic);
            }
        }
    }

    /// In order of topic id and index.
    pub(in crate::group) fn iter(&self) -> impl Iterator<Item = Partition> {
        self.0.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |partition| (*topic, *partition))
        })
    }

    pub(in crate::group) fn topics(&self) -> impl Iterator<Item = (Uuid, &BTreeSet<i32>)> {
        self.0
            .iter()
            .map(|(topic, partitions)| (*topic, partitions))
    }

    /// What is in both.
    pub(in crate::group) fn both(&self, other: &Self) -> Self {
        self.iter()
            .filter(|partition| other.contains(*partition))
            .collect()
    }

    /// What is here and not in `other`.
    pub(in crate::group) fn without(&self, other: &Self) -> Self {
        self.iter()
            .filter(|partition| !other.contains(*partition))
            .collect()
    }

    pub(in crate::group) fn meets(&self, other: &Self) -> bool {
        self.iter().any(|partition| other.contains(partition))
    }

    pub(in crate::group) fn is_within(&self, other: &Self) -> bool {
        self.iter().all(|partition| other.contains(partition))
    }
}

impl FromIterator<Partition> for Partitions {
    fn from_iter<I: IntoIterator<Item = Partition>>(partitions: I) -> Self {
        let mut set = Self::default();
        set.extend(partitions);
        set
    }
}

impl Extend<Partition> for Partitions {
    fn extend<I: IntoIterator<Item = Partition>>(&mut self, partitions: I) {
        for partition in partitions {
            self.insert(partition);
        }
    }
}
