//! Topics: names, ids, partitions.

use std::sync::Arc;

use uuid::Uuid;
use wharf_log::{PartitionId, Reader};
use wharf_message::TopicName;

use crate::{Broker, Context, Error, Options, TopicConfig};

/// A topic as it is now. A new value replaces it when it changes.
#[derive(Clone, Debug)]
pub struct Topic {
    /// The name.
    pub name: TopicName,
    /// The id, never reused.
    pub id: Uuid,
    /// The log's partitions, by index.
    pub partitions: Vec<PartitionId>,
    /// Its settings.
    pub config: Arc<TopicConfig>,
}

/// A topic as clients name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicRef {
    /// By name.
    Name(String),
    /// By id.
    Id(Uuid),
}

/// A topic to create.
#[derive(Clone, Debug)]
pub struct CreateTopic {
    /// The name, unchecked.
    pub name: String,
    /// The number of partitions; `None` for the default.
    pub partitions: Option<i32>,
    /// The replication factor asked for; `None` for the default. Only 1 exists here.
    pub replication: Option<i16>,
    /// A manual assignment of partition index to brokers, empty for none. Only this node exists.
    pub assignment: Vec<(i32, Vec<i32>)>,
    /// Settings; `None` values mean the default.
    pub configs: Vec<(String, Option<String>)>,
}

#[derive(Debug)]
pub(crate) struct Topics {}

impl Topics {
    pub(crate) fn recover(options: &Options, reader: &Reader) -> Result<Self, Error> {
        let _ = (options, reader);
        unimplemented!()
    }
}

impl Broker {
    /// Every topic, by name.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        unimplemented!()
    }

    /// One topic.
    pub fn topic(&self, topic: &TopicRef) -> Result<Arc<Topic>, Error> {
        let _ = topic;
        unimplemented!()
    }

    /// One topic by name, created with defaults when missing if `allow_create` and the node's
    /// setting agree.
    pub async fn topic_or_create(
        &self,
        cx: &Context,
        name: &str,
        allow_create: bool,
    ) -> Result<Arc<Topic>, Error> {
        let _ = (cx, name, allow_create);
        unimplemented!()
    }

    /// Creates a topic, durable when this returns. With `validate_only` nothing is created and the
    /// topic as it would be is returned.
    pub async fn create_topic(
        &self,
        cx: &Context,
        topic: CreateTopic,
        validate_only: bool,
    ) -> Result<Arc<Topic>, Error> {
        let _ = (cx, topic, validate_only);
        unimplemented!()
    }

    /// Deletes a topic with its data; returns what it was.
    pub async fn delete_topic(&self, cx: &Context, topic: &TopicRef) -> Result<Arc<Topic>, Error> {
        let _ = (cx, topic);
        unimplemented!()
    }

    /// Raises the number of partitions to `count`.
    pub async fn create_partitions(
        &self,
        cx: &Context,
        name: &str,
        count: i32,
        validate_only: bool,
    ) -> Result<(), Error> {
        let _ = (cx, name, count, validate_only);
        unimplemented!()
    }
}
