//! What is kept of topics, read without consuming it: whoever has to know everything that is there
//! (what refers to a payload in object storage) reads here. What must never happen: a reading that says
//! it is complete and left something out that was there from its beginning to its end.

use futures_util::future::BoxFuture;

use super::Error;
use crate::{Message, TopicName};

/// What is kept of a partition: the offsets from `first` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The partition.
    pub partition: i32,
    /// The first offset that is kept.
    pub first: i64,
    /// The offset after the last one, also where transactions are undecided.
    pub end: i64,
}

/// The topics of a transport, to be read without consuming them. See [`Transport::history`].
///
/// ```
/// # use futures_util::FutureExt;
/// # async fn run() -> Result<(), wharf_message::transport::Error> {
/// use wharf_message::transport::memory::MemoryTransport;
/// use wharf_message::transport::{Publish, Transport};
/// use wharf_message::{Message, Timestamp, TopicName};
///
/// let transport = MemoryTransport::new(Timestamp::ZERO);
/// let orders = TopicName::new("orders").expect("valid");
/// transport.publish(&orders, Message::new("one")).await?;
///
/// let (history, mut read) = (transport.history()?, Vec::new());
/// for topic in history.topics().await? {
///     for extent in history.extents(&topic).await?.unwrap_or_default() {
///         history.read(&topic, extent, &mut |_offset, message| read.push(message.payload.clone())).await?;
///     }
/// }
/// assert_eq!(read, [Some("one".into())]);
/// # Ok(())
/// # }
/// # run().now_or_never().expect("nothing waits").expect("nothing is refused");
/// ```
///
/// # Contract
/// - Retries, scheduled messages and dead letters lie in topics of their own (`retry.…`, `scheduled.…`,
///   `dlq.…`), or belong to the topic they will come to; either way they are read.
/// - Memory stays bounded however much there is to read.
///
/// [`Transport::history`]: super::Transport::history
pub trait TopicHistory: Send + Sync {
    /// Every topic that this client may see and that may hold messages.
    fn topics(&self) -> BoxFuture<'_, Result<Vec<TopicName>, Error>>;

    /// What is kept of a topic now, by partition; `None` when it does not exist.
    fn extents<'a>(
        &'a self,
        topic: &'a TopicName,
    ) -> BoxFuture<'a, Result<Option<Vec<Extent>>, Error>>;

    /// Calls `each` with the offset and the message, for every one of the extent that is still there (an offset of -1 is none: the message waits for its time), whatever becomes of the
    /// transaction it is part of. What retention removed before it was read is passed by.
    ///
    /// # Errors
    /// When the extent's end cannot be reached, or a message on the way cannot be read.
    fn read<'a>(
        &'a self,
        topic: &'a TopicName,
        extent: Extent,
        each: &'a mut (dyn FnMut(i64, &Message) + Send),
    ) -> BoxFuture<'a, Result<(), Error>>;
}
