//! Topics as places that refer to payloads: read from what is kept of them to where they ended when the
//! reading began.
//!
//! All ends are taken before anything is read, and a partition whose beginning moved meanwhile counts as
//! unread. So a message that moves on during the reading (to a retry, to the dead letters, back by a
//! replay) was either in its old place within these ends, and is read there, or in its new one before.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use wharf_message::transport::memory::MemoryTransport;
use wharf_message::{GroupName, InvalidName, Message, TopicName, dead_letter};

use super::{References, Unread};

/// What is kept of a partition: the offsets from `first` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The partition.
    pub partition: i32,
    /// The first offset that is kept.
    pub first: i64,
    /// The offset after the last one.
    pub end: i64,
}

/// A transport whose topics can be read without consuming them.
///
/// # Contract
/// - `extents` answers `None` for a topic that does not exist, and an error for one that exists and
///   cannot be read from what is kept of it to its end.
/// - `read` calls `each` with every committed message of the extent that is there, scheduled ones
///   included, and fails when it cannot reach the extent's end.
pub trait TopicHistory: Send + Sync {
    /// What is kept of a topic now, by partition.
    fn extents<'a>(
        &'a self,
        topic: &'a TopicName,
    ) -> BoxFuture<'a, Result<Option<Vec<Extent>>, String>>;

    /// Reads one extent.
    fn read<'a>(
        &'a self,
        topic: &'a TopicName,
        extent: Extent,
        each: &'a mut (dyn FnMut(&Message) + Send),
    ) -> BoxFuture<'a, Result<(), String>>;
}

/// Topics with everything that messages of theirs may move to: `retry.`, `scheduled.` and `dlq.`.
///
/// ```
/// use std::sync::Arc;
/// use wharf::claim::{Claims, ObjectBlobs, SweepSettings, TopicReferences, sweep};
/// use wharf_message::transport::Publish;
/// use wharf_message::transport::memory::MemoryTransport;
/// use wharf_message::{GroupName, Message, Timestamp, TopicName};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let (orders, billing) = (TopicName::new("orders")?, GroupName::new("billing")?);
/// let transport = MemoryTransport::new(Timestamp::ZERO);
/// transport.create_topic(&orders, 1).await?;
/// let claims = Claims::new("payloads", ObjectBlobs::memory())?;
/// transport.publish(&orders, claims.check_in(Message::new("kept"), 0).await?).await?;
/// claims.check_in(Message::new("dropped"), 0).await?;
///
/// let references = TopicReferences::new(Arc::new(transport), &[orders], &[billing])?;
/// let in_ten_thousand_days = Timestamp::from_millis(8_640_000_000 * 1_000);
/// let settings = SweepSettings::default();
/// let report = sweep(&claims, &[&references], in_ten_thousand_days, settings).await?;
/// assert_eq!((report.live, report.deleted.len()), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TopicReferences {
    history: Arc<dyn TopicHistory>,
    /// Those that the caller named, and so must exist.
    topics: BTreeSet<TopicName>,
    /// Those that exist only if a message ever moved there.
    derived: BTreeSet<TopicName>,
}

impl TopicReferences {
    /// The topics, and what the groups made of them. Name every topic whose messages may refer to a payload, and
    /// every group that reads one of them.
    ///
    /// # Errors
    /// When a derived name is longer than a topic's name may be.
    pub fn new(
        history: Arc<dyn TopicHistory>,
        topics: &[TopicName],
        groups: &[GroupName],
    ) -> Result<Self, InvalidName> {
        let mut derived = BTreeSet::new();
        for topic in topics {
            derived.insert(TopicName::new(&format!("scheduled.{topic}"))?);
            for group in groups {
                derived.insert(TopicName::new(&format!("retry.{topic}.{group}"))?);
                derived.insert(dead_letter::topic(topic, group)?);
            }
        }
        Ok(Self {
            history,
            topics: topics.iter().cloned().collect(),
            derived,
        })
    }

    async fn visit_all(&self, each: &mut (dyn FnMut(&Message) + Send)) -> Result<(), Unread> {
        let mut all = Vec::new();
        for topic in self.topics.iter().chain(&self.derived) {
            match self.extents(topic).await? {
                Some(extents) => all.extend(extents.into_iter().map(|extent| (topic, extent))),
                None if self.topics.contains(topic) => {
                    return Err(unread(topic, "it does not exist".to_owned()));
                }
                None => {}
            }
        }
        for (topic, extent) in &all {
            let read = self.history.read(topic, *extent, each).await;
            read.map_err(|why| unread(topic, why))?;
        }
        for (topic, extent) in all {
            let now = self.extents(topic).await?.unwrap_or_default();
            let kept =
                |one: &Extent| one.partition == extent.partition && one.first <= extent.first;
            if !now.iter().any(kept) {
                let why = format!(
                    "the beginning of partition {} went meanwhile",
                    extent.partition
                );
                return Err(unread(topic, why));
            }
        }
        Ok(())
    }

    async fn extents(&self, topic: &TopicName) -> Result<Option<Vec<Extent>>, Unread> {
        let extents = self.history.extents(topic).await;
        extents.map_err(|why| unread(topic, why))
    }
}

fn unread(topic: &TopicName, why: String) -> Unread {
    Unread {
        place: format!("the topic {topic}"),
        why,
    }
}

impl References for TopicReferences {
    fn visit<'a>(
        &'a self,
        each: &'a mut (dyn FnMut(&Message) + Send),
    ) -> BoxFuture<'a, Result<(), Unread>> {
        self.visit_all(each).boxed()
    }
}

impl std::fmt::Debug for TopicReferences {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TopicReferences")
            .field("topics", &self.topics)
            .field("derived", &self.derived)
            .finish_non_exhaustive()
    }
}

/// The transport in memory keeps everything: messages it has, and those it will deliver later.
impl TopicHistory for MemoryTransport {
    fn extents<'a>(
        &'a self,
        topic: &'a TopicName,
    ) -> BoxFuture<'a, Result<Option<Vec<Extent>>, String>> {
        let extents = self.topics().contains(topic).then(|| {
            vec![Extent {
                partition: 0,
                first: 0,
                end: i64::MAX,
            }]
        });
        async { Ok(extents) }.boxed()
    }

    fn read<'a>(
        &'a self,
        topic: &'a TopicName,
        _: Extent,
        each: &'a mut (dyn FnMut(&Message) + Send),
    ) -> BoxFuture<'a, Result<(), String>> {
        self.messages(topic).iter().for_each(&mut *each);
        for (_, to, message) in self.scheduled() {
            if to == *topic {
                each(&message);
            }
        }
        async { Ok(()) }.boxed()
    }
}
