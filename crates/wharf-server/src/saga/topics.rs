//! The topics that sagas need: how many partitions they have, and making those that are missing.
//!
//! Everything goes through the ledger, so that the role also runs where there is no broker of ours.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use wharf_message::TopicName;
use wharf_message::ledger::{Error, Ledger, Partition, TopicSpec};

/// More partitions than this are not looked for.
const PARTITIONS_MAX: i32 = 1 << 20;

/// Makes a topic for records that are read once and need not be kept for ever, with the defaults of
/// the node; says nothing when it is there.
pub(crate) type MakeTopic =
    Arc<dyn Fn(TopicName, i32) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// The topics.
pub(super) struct Topics {
    ledger: Arc<dyn Ledger>,
    make: MakeTopic,
    counts: Mutex<HashMap<TopicName, i32>>,
}

impl Topics {
    pub(super) fn new(ledger: Arc<dyn Ledger>, make: MakeTopic) -> Self {
        Self {
            ledger,
            make,
            counts: Mutex::default(),
        }
    }

    /// How many partitions a topic has; `None` when it is not there.
    pub(super) fn partitions(&self, topic: &TopicName) -> Option<i32> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get(topic) {
            return Some(*count);
        }
        let count = self.count(topic);
        (count > 0).then(|| {
            counts.insert(topic.clone(), count);
            count
        })
    }

    /// Forgets what was counted: a topic was made anew, or grew.
    pub(super) fn forget(&self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.clear();
    }

    /// Following a partition that is there from far beyond its end waits; any other is refused.
    fn is_there(&self, topic: &TopicName, index: i32) -> bool {
        let partition = Partition {
            topic: topic.clone(),
            index,
        };
        let followed = self.ledger.follow(partition, i64::MAX, 1).now_or_never();
        !matches!(followed, Some(Err(Error::UnknownPartition(_))))
    }

    fn count(&self, topic: &TopicName) -> i32 {
        if !self.is_there(topic, 0) {
            return 0;
        }
        let (mut there, mut missing) = (0, 1);
        while missing < PARTITIONS_MAX && self.is_there(topic, missing) {
            (there, missing) = (missing, missing * 2);
        }
        while missing - there > 1 {
            let middle = i32::midpoint(there, missing);
            match self.is_there(topic, middle) {
                true => there = middle,
                false => missing = middle,
            }
        }
        there + 1
    }

    /// Makes sure that a topic of our own is there, compacted, and says how many partitions it has.
    pub(super) async fn own(&self, topic: &TopicName, partitions: i32) -> Result<i32, String> {
        let partitions = self.partitions(topic).unwrap_or(partitions);
        let spec = TopicSpec {
            name: topic.clone(),
            partitions,
            compacted: true,
        };
        let created = self.ledger.create_topic(spec).await;
        created.map_err(|error| error.to_string())?;
        Ok(partitions)
    }

    /// The same for a topic that is kept for ever, whole.
    pub(super) async fn kept(&self, topic: &TopicName) -> Result<(), String> {
        if self.partitions(topic).is_some() {
            return Ok(());
        }
        let spec = TopicSpec {
            name: topic.clone(),
            partitions: 1,
            compacted: false,
        };
        let created = self.ledger.create_topic(spec).await;
        created.map_err(|error| error.to_string())
    }

    /// Makes sure that a topic is there whose records go by themselves.
    pub(super) async fn passing(&self, topic: &TopicName, partitions: i32) -> Result<i32, String> {
        if let Some(count) = self.partitions(topic) {
            return Ok(count);
        }
        (self.make)(topic.clone(), partitions).await?;
        let count = self.partitions(topic);
        count.ok_or_else(|| format!("the topic {topic} was created and is not there"))
    }
}
