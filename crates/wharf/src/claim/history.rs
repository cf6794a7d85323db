//! Topics as places that refer to payloads: read from what is kept of them to where they end.
//!
//! Messages move while they are read: to a retry, to the dead letters, back by a replay; what they leave
//! behind is removed by retention or compaction. So everything is read twice over: first all that is kept,
//! and then, from where the first reading ended, what came meanwhile. A message that was gone from its old
//! place before it was read there had been copied to its new one by then, which is before the second
//! reading begins. What came meanwhile is young, and counts as unread if the beginning of its partition moves
//! past it. What must never happen: a message that is there all the time, in one place or another, is not
//! visited.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use wharf_message::transport::{Error, Extent, TopicHistory};
use wharf_message::{GroupName, InvalidName, Message, TopicName, dead_letter};

use super::{References, Unread};

/// Topics that brokers keep for themselves, in formats of their own: no message of a user is there.
const BROKERS_OWN: [&str; 4] = [
    "__cluster_metadata",
    "__consumer_offsets",
    "__share_group_state",
    "__transaction_state",
];

/// Topics that may refer: all of a broker, or those that are named with everything that messages of
/// theirs may move to: `retry.`, `scheduled.` and `dlq.`.
///
/// ```
/// use std::sync::Arc;
/// use wharf::claim::{Claims, ObjectBlobs, SweepSettings, TopicReferences, sweep};
/// use wharf_message::transport::memory::MemoryTransport;
/// use wharf_message::transport::{Publish, Transport};
/// use wharf_message::{Message, Timestamp, TopicName};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let transport = MemoryTransport::new(Timestamp::ZERO);
/// let claims = Claims::new("payloads", ObjectBlobs::memory())?;
/// let kept = claims.check_in(Message::new("kept"), 0).await?;
/// transport.publish(&TopicName::new("orders")?, kept).await?;
/// claims.check_in(Message::new("dropped"), 0).await?;
///
/// let references = TopicReferences::all(transport.history()?);
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
    /// Those that exist only if a message ever moved there; `None` for all there are.
    derived: Option<BTreeSet<TopicName>>,
}

impl TopicReferences {
    /// Every topic that the client may see. Let it describe and read all of them: a broker does not tell of
    /// those that a client may not describe.
    pub fn all(history: Arc<dyn TopicHistory>) -> Self {
        Self {
            history,
            topics: BTreeSet::new(),
            derived: None,
        }
    }

    /// The same, and these topics must be among them: a sweep that does not see one of them deletes nothing.
    ///
    /// ```
    /// use wharf::TopicName;
    /// use wharf::claim::TopicReferences;
    /// use wharf_message::Timestamp;
    /// use wharf_message::transport::Transport;
    /// use wharf_message::transport::memory::MemoryTransport;
    ///
    /// let transport = MemoryTransport::new(Timestamp::ZERO);
    /// let orders = TopicName::new("orders")?;
    /// let references = TopicReferences::all(transport.history()?).expecting([orders]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn expecting(mut self, topics: impl IntoIterator<Item = TopicName>) -> Self {
        self.topics.extend(topics);
        self
    }

    /// The topics, and what the groups made of them. Name every topic whose messages may refer to a
    /// payload, and every group that reads one of them.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use wharf::claim::TopicReferences;
    /// use wharf::{GroupName, Timestamp, TopicName};
    /// use wharf_message::transport::memory::MemoryTransport;
    ///
    /// let transport = Arc::new(MemoryTransport::new(Timestamp::ZERO));
    /// let (scans, archive) = (TopicName::new("scans")?, GroupName::new("archive")?);
    /// let references = TopicReferences::new(transport, &[scans], &[archive])?;
    /// # Ok::<(), wharf_message::InvalidName>(())
    /// ```
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
            derived: Some(derived),
        })
    }

    async fn visit_all(&self, each: &mut (dyn FnMut(&Message) + Send)) -> Result<(), Unread> {
        let mut read_to = BTreeMap::new();
        for (topic, extent) in self.kept().await? {
            self.read(&topic, extent, each).await?;
            read_to.insert((topic, extent.partition), extent.end);
        }
        let mut added = Vec::new();
        for (topic, extent) in self.kept().await? {
            let end = read_to.get(&(topic.clone(), extent.partition));
            let first = end.map_or(extent.first, |end| *end);
            if first > extent.end {
                let why = format!("partition {} was made anew meanwhile", extent.partition);
                return Err(unread(&topic, why));
            }
            let more = Extent { first, ..extent };
            if first < extent.end {
                self.read(&topic, more, each).await?;
                added.push((topic, more));
            }
        }
        self.check_beginnings(&added).await
    }

    /// What is kept of all topics now. All of it is known before anything is read.
    async fn kept(&self) -> Result<Vec<(TopicName, Extent)>, Unread> {
        let mut topics = self.topics.clone();
        match &self.derived {
            Some(derived) => topics.extend(derived.iter().cloned()),
            None => {
                let listed = self.history.topics().await;
                let unlisted = |error: Error| Unread {
                    place: "the list of topics".to_owned(),
                    why: error.to_string(),
                };
                let listed = listed.map_err(unlisted)?.into_iter();
                topics.extend(listed.filter(|topic| !BROKERS_OWN.contains(&topic.as_str())));
            }
        }
        let mut kept = Vec::new();
        for topic in topics {
            match self.extents(&topic).await? {
                Some(extents) => {
                    kept.extend(extents.into_iter().map(|extent| (topic.clone(), extent)));
                }
                None if self.topics.contains(&topic) => {
                    return Err(unread(&topic, "it does not exist".to_owned()));
                }
                None => {}
            }
        }
        Ok(kept)
    }

    async fn extents(&self, topic: &TopicName) -> Result<Option<Vec<Extent>>, Unread> {
        let extents = self.history.extents(topic).await;
        extents.map_err(|error| unread(topic, error.to_string()))
    }

    async fn read(
        &self,
        topic: &TopicName,
        extent: Extent,
        each: &mut (dyn FnMut(&Message) + Send),
    ) -> Result<(), Unread> {
        if extent.first >= extent.end {
            return Ok(());
        }
        let mut found = |_offset: i64, message: &Message| each(message);
        let read = self.history.read(topic, extent, &mut found).await;
        read.map_err(|error| unread(topic, error.to_string()))
    }

    /// Whether the beginnings of these extents are still there.
    async fn check_beginnings(&self, read: &[(TopicName, Extent)]) -> Result<(), Unread> {
        for (topic, extent) in read {
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
