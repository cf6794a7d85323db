//! A delivery, and the ways it may end. Settling takes it by value: settling twice does not compile.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::Error;
use crate::dead_letter::Failure;
use crate::{Message, TopicName};

/// Where a message is in its topic.
///
/// ```
/// use wharf_message::transport::Position;
///
/// assert_eq!(Position { partition: 2, offset: 7 }.to_string(), "2@7");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The partition, from 0.
    pub partition: i32,
    /// The offset in it (of JetStream, the stream sequence; its partition is 0).
    pub offset: i64,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.partition, self.offset)
    }
}

/// What a transport knows a delivery by until it is settled. Its meaning is the transport's own.
pub type Token = u64;

/// How a delivery ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settlement {
    /// Done; it is not delivered to this group again.
    Accept,
    /// To be delivered again with the next attempt number, not before the delay has passed.
    Retry {
        /// The message as it was delivered.
        message: Message,
        /// How long to wait at least.
        after: Duration,
    },
    /// To be set aside in `dlq.<topic>.<group>`, and then not delivered to this group again.
    Reject {
        /// The message as it was delivered.
        message: Message,
        /// Why.
        failure: Box<Failure>,
    },
    /// Not handled: to be delivered again soon, with the same attempt number where the transport can
    /// tell. What a dropped delivery becomes.
    Release,
}

/// The transport's side of settling.
///
/// # Contract
/// - `settle` hands over and never blocks; the transport carries it out in the order of the calls.
///   If it cannot (the connection is lost, the partition went to another member), the message is
///   delivered again. A rejected message is not accepted before its dead letter is acknowledged,
///   a retried one not before its next attempt is kept.
pub trait Settle: Send + Sync {
    /// Hands over how a delivery ends.
    fn settle(&self, token: Token, settlement: Settlement);

    /// Publishes `outputs` and accepts in one step ([`super::Capability::AtomicOutputs`]): both
    /// happen or neither. After an error the delivery is unsettled and will be delivered again
    /// ([`Error::Unavailable`]: unless it did happen, which is unknown then). It may wait until what
    /// was delivered before it is settled, so who handles several at a time waits for all of them
    /// together, never for one while it holds back an earlier one.
    fn accept_with(
        &self,
        token: Token,
        outputs: Vec<(TopicName, Message)>,
    ) -> BoxFuture<'_, Result<(), Error>>;
}

/// A message at a consumer. Dropped unsettled, it is delivered again.
///
/// ```
/// use futures_util::FutureExt;
/// use wharf_message::transport::memory::MemoryTransport;
/// use wharf_message::transport::{Publish, Subscribe, Subscription};
/// use wharf_message::{GroupName, Message, Timestamp, TopicName};
///
/// # async {
/// let transport = MemoryTransport::new(Timestamp::ZERO);
/// let (orders, billing) = (TopicName::new("orders")?, GroupName::new("billing")?);
/// transport.create_topic(&orders, 1).await?;
/// let mut deliveries = transport.subscribe(Subscription::group(billing, vec![orders.clone()])).await?;
/// transport.publish(&orders, Message::new("one").with_key("k")).await?;
///
/// // Not handled: it comes again.
/// drop(deliveries.next(1).await?);
/// let delivery = deliveries.next(1).await?.remove(0);
/// assert_eq!((delivery.topic.as_str(), delivery.message.payload.as_deref()), ("orders", Some(&b"one"[..])));
/// delivery.accept();
/// assert_eq!(transport.in_flight(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }.now_or_never().expect("nothing waits")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Delivery {
    /// The topic it was published to (also when it comes from a retry).
    pub topic: TopicName,
    /// Where it is in that topic, if the transport knows.
    pub position: Option<Position>,
    /// The message.
    pub message: Message,
    /// Which delivery to the group this is, from 1, as far as the transport counts.
    pub attempt: u32,
    settler: Option<Settler>,
}

struct Settler {
    settle: Arc<dyn Settle>,
    token: Token,
}

impl Delivery {
    /// A delivery that `settle` knows by `token`.
    pub fn new(
        topic: TopicName,
        position: Option<Position>,
        message: Message,
        attempt: u32,
        settle: Arc<dyn Settle>,
        token: Token,
    ) -> Self {
        Self {
            topic,
            position,
            message,
            attempt,
            settler: Some(Settler { settle, token }),
        }
    }

    /// It is done.
    #[inline]
    pub fn accept(mut self) {
        self.settle(|_| Settlement::Accept);
    }

    /// It is done, and these messages come of it, in one step.
    ///
    /// # Errors
    /// As [`Settle::accept_with`]; the message will be delivered again.
    pub async fn accept_with(mut self, outputs: Vec<(TopicName, Message)>) -> Result<(), Error> {
        match self.settler.take() {
            Some(Settler { settle, token }) => settle.accept_with(token, outputs).await,
            None => Ok(()),
        }
    }

    /// It is to be tried again, not before `after` has passed.
    pub fn retry(mut self, after: Duration) {
        self.settle(|message| Settlement::Retry { message, after });
    }

    /// It cannot be handled and is set aside as a dead letter.
    pub fn reject(mut self, failure: Failure) {
        self.settle(|message| Settlement::Reject {
            message,
            failure: Box::new(failure),
        });
    }

    fn settle(&mut self, how: impl FnOnce(Message) -> Settlement) {
        if let Some(Settler { settle, token }) = self.settler.take() {
            settle.settle(token, how(std::mem::take(&mut self.message)));
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.settle(|_| Settlement::Release);
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Delivery")
            .field("topic", &self.topic)
            .field("position", &self.position)
            .field("attempt", &self.attempt)
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}
