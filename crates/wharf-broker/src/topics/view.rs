//! The topics in memory: a view of the durable state, changed only after a commit, in its order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;
use wharf_log::PartitionId;
use wharf_message::TopicName;

use super::{Topic, TopicRef};
use crate::{Error, ErrorKind, keys};

/// A topic and the exact value it has in the state, for conditions.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) topic: Arc<Topic>,
    pub(super) value: Bytes,
}

/// Topics by everything they are looked up by.
#[derive(Debug, Default)]
pub(super) struct View {
    by_name: BTreeMap<TopicName, Stored>,
    by_id: HashMap<Uuid, Stored>,
    by_partition: HashMap<PartitionId, Uuid>,
    /// The name that occupies a key (all names that collide share one).
    by_key: HashMap<Bytes, TopicName>,
    /// Grows with every change.
    version: u64,
}

impl View {
    pub(super) fn all(&self) -> Vec<Arc<Topic>> {
        self.by_name
            .values()
            .map(|stored| Arc::clone(&stored.topic))
            .collect()
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn named(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name).map(|stored| &stored.topic)
    }

    pub(super) fn with_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.by_id.get(&id).map(|stored| &stored.topic)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &TopicName> {
        self.by_name.keys()
    }

    pub(super) fn partition_count(&self) -> usize {
        self.by_partition.len()
    }

    /// The topic a client means, or the refusal Kafka gives.
    pub(super) fn find(&self, topic: &TopicRef) -> Result<&Stored, Error> {
        match topic {
            TopicRef::Name(name) => self.by_name.get(name.as_str()).ok_or_else(|| {
                let name: String = name.chars().take(super::NAME_SHOWN_MAX).collect();
                Error::new(
                    ErrorKind::UnknownTopicOrPartition,
                    format!("there is no topic named {name:?}"),
                )
            }),
            TopicRef::Id(id) => self.by_id.get(id).ok_or_else(|| {
                Error::new(
                    ErrorKind::UnknownTopicId,
                    format!("there is no topic with id {id}"),
                )
            }),
        }
    }

    /// The existing topic whose name is, or collides with, `name`.
    pub(super) fn occupant(&self, name: &str) -> Option<&TopicName> {
        self.by_key.get(&keys::topic(name))
    }

    pub(super) fn of_partition(&self, partition: PartitionId) -> Option<&Arc<Topic>> {
        Some(&self.by_id.get(self.by_partition.get(&partition)?)?.topic)
    }

    /// Puts a new topic, or the next value of one.
    pub(super) fn put(&mut self, topic: &Arc<Topic>, value: Bytes) {
        self.version += 1;
        self.by_key
            .insert(keys::topic(topic.name.as_str()), topic.name.clone());
        let stored = Stored {
            topic: Arc::clone(topic),
            value,
        };
        let known = self.by_id.insert(topic.id, stored.clone());
        // Partitions are only ever added at the end.
        let known = known.map_or(0, |before| before.topic.partitions.len());
        for partition in topic.partitions.iter().skip(known) {
            self.by_partition.insert(*partition, topic.id);
        }
        self.by_name.insert(topic.name.clone(), stored);
    }

    pub(super) fn remove(&mut self, topic: &Topic) {
        self.version += 1;
        self.by_name.remove(&topic.name);
        self.by_id.remove(&topic.id);
        self.by_key.remove(&keys::topic(topic.name.as_str()));
        for partition in &topic.partitions {
            self.by_partition.remove(partition);
        }
    }
}
