//! The reference transport: everything in memory, one lock, every capability, and time as an
//! argument.
//!
//! For tests and for understanding: each rule of [`Publish`] and [`Subscribe`] is a few lines in
//! `state.rs`. Nothing is durable beyond the process, and no clock is read: what is scheduled waits
//! until somebody says that its time has come ([`MemoryTransport::advance_to`]).

mod flights;
mod history;
mod reading;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::{poll_fn, ready};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures_util::future::BoxFuture;

use self::state::{MemberId, State};
use super::{
    Capabilities, Deliveries, Delivery, Error, Position, Publish, Settle, Settlement, Subscribe,
    Subscription, Token, TopicHistory, Transport,
};
use crate::{GroupName, Message, Timestamp, TopicName};

/// A broker in memory, and a client of it.
///
/// ```
/// # use futures_util::FutureExt;
/// use wharf_message::transport::memory::MemoryTransport;
/// use wharf_message::transport::{Publish, Subscribe, Subscription};
/// use wharf_message::{GroupName, Message, Timestamp, TopicName};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let transport = MemoryTransport::new(Timestamp::ZERO);
/// let orders = TopicName::new("orders")?;
/// transport.publish(&orders, Message::new("one")).await?;
///
/// let subscription = Subscription::group(GroupName::new("billing")?, vec![orders]);
/// let mut deliveries = transport.subscribe(subscription).await?;
/// let delivery = deliveries.next(10).await?.remove(0);
/// assert_eq!(delivery.message.payload.as_deref(), Some(&b"one"[..]));
/// delivery.accept();
/// assert_eq!(transport.in_flight(), 0);
/// # Ok(())
/// # }
/// # run().now_or_never().expect("nothing waits").expect("nothing is refused");
/// ```
pub struct MemoryTransport {
    broker: Arc<Broker>,
    client: u64,
}

/// The name in tables and errors.
const NAME: &str = "memory";

struct Broker {
    state: Mutex<State>,
}

impl Broker {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before the lock is released, or not begun.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryTransport {
    /// An empty broker whose time is `start`, and its first client.
    pub fn new(start: Timestamp) -> Self {
        let state = Mutex::new(State::new(start));
        Self {
            broker: Arc::new(Broker { state }),
            client: 0,
        }
    }

    /// The same with these capabilities only: what needs another one is refused, as it would be by
    /// a transport that lacks it.
    ///
    /// ```
    /// # use futures_util::FutureExt;
    /// # use wharf_message::transport::memory::MemoryTransport;
    /// # use wharf_message::transport::{Capabilities, Capability, Error, Publish};
    /// # use wharf_message::{Message, Timestamp, TopicName};
    /// let poorer = Capabilities::all().without(Capability::Tombstones);
    /// let transport = MemoryTransport::new(Timestamp::ZERO).with_capabilities(poorer);
    /// let topic = TopicName::new("orders").expect("valid");
    /// let refused = transport.publish(&topic, Message::default()).now_or_never();
    /// assert!(matches!(refused, Some(Err(Error::Unsupported { .. }))));
    /// ```
    #[must_use]
    pub fn with_capabilities(self, capabilities: Capabilities) -> Self {
        self.broker.state().capabilities = capabilities;
        self
    }

    /// The same with a limit on [`Message::size`].
    ///
    /// ```
    /// # use futures_util::FutureExt;
    /// # use wharf_message::transport::memory::MemoryTransport;
    /// # use wharf_message::transport::{Error, Publish};
    /// # use wharf_message::{Message, Timestamp, TopicName};
    /// let transport = MemoryTransport::new(Timestamp::ZERO).with_bytes_max(3);
    /// let topic = TopicName::new("orders").expect("valid");
    /// let refused = transport.publish(&topic, Message::new("four")).now_or_never();
    /// assert!(matches!(refused, Some(Err(Error::TooLarge { bytes: 4, bytes_max: 3 }))));
    /// ```
    #[must_use]
    pub fn with_bytes_max(self, bytes_max: usize) -> Self {
        self.broker.state().bytes_max = bytes_max;
        self
    }

    /// Another client of the same broker: shutting one down leaves the others.
    ///
    /// ```
    /// # use futures_util::FutureExt;
    /// # use wharf_message::transport::memory::MemoryTransport;
    /// # use wharf_message::transport::Publish;
    /// # use wharf_message::{Message, Timestamp, TopicName};
    /// # let topic = TopicName::new("orders").expect("valid");
    /// let transport = MemoryTransport::new(Timestamp::ZERO);
    /// let other = transport.client();
    /// other.publish(&topic, Message::new("p")).now_or_never();
    /// assert_eq!(transport.messages("orders").len(), 1);
    /// ```
    pub fn client(&self) -> Self {
        Self {
            broker: Arc::clone(&self.broker),
            client: self.broker.state().new_client(),
        }
    }

    /// Cuts all clients off, as an outage does: publishing fails, every subscription is told once,
    /// and what was unsettled will come again. Twice is the same as once.
    ///
    /// ```
    /// # use futures_util::FutureExt;
    /// # use wharf_message::transport::memory::MemoryTransport;
    /// # use wharf_message::transport::{Error, Publish};
    /// # use wharf_message::{Message, Timestamp, TopicName};
    /// let transport = MemoryTransport::new(Timestamp::ZERO);
    /// let topic = TopicName::new("orders").expect("valid");
    /// let publish = || transport.publish(&topic, Message::new("p")).now_or_never();
    /// transport.cut();
    /// assert!(matches!(publish(), Some(Err(Error::Unavailable(_)))));
    /// transport.heal();
    /// assert!(matches!(publish(), Some(Ok(_))));
    /// ```
    pub fn cut(&self) {
        self.broker.state().cut();
    }

    /// Ends the outage: subscriptions go on by themselves.
    ///
    /// ```
    /// # use wharf_message::transport::memory::MemoryTransport;
    /// # use wharf_message::Timestamp;
    /// let transport = MemoryTransport::new(Timestamp::ZERO);
    /// transport.cut();
    /// transport.heal();
    /// ```
    pub fn heal(&self) {
        self.broker.state().heal();
    }

    /// The broker's time.
    ///
    /// ```
    /// # use wharf_message::transport::memory::MemoryTransport;
    /// # use wharf_message::Timestamp;
    /// let transport = MemoryTransport::new(Timestamp::from_millis(5));
    /// assert_eq!(transport.now(), Timestamp::from_millis(5));
    /// ```
    pub fn now(&self) -> Timestamp {
        self.broker.state().now
    }

    /// Lets time pass until `time`: what is due until then becomes available, in the order of its
    /// times. Time never goes back.
    ///
    /// ```
    /// # use futures_util::FutureExt;
    /// # use wharf_message::transport::memory::MemoryTransport;
    /// # use wharf_message::transport::Publish;
    /// # use wharf_message::{Message, Timestamp, TopicName, header};
    /// let transport = MemoryTransport::new(Timestamp::ZERO);
    /// let topic = TopicName::new("orders").expect("valid");
    /// let later = Timestamp::from_millis(60_000);
    /// let message = Message::new("p").with_header(header::DELIVER_AT, later.to_rfc3339());
    /// transport.publish(&topic, message).now_or_never();
    /// assert_eq!(transport.next_due(), Some(later));
    /// assert!(transport.messages("orders").is_empty());
    /// transport.advance_to(later);
    /// assert_eq!(transport.messages("orders").len(), 1);
    /// ```
    pub fn advance_to(&self, time: Timestamp) {
        self.broker.state().advance_to(time);
    }

    /// When the next scheduled message or delayed retry is due.
    ///
    /// ```
    /// # use wharf_message::transport::memory::MemoryTransport;
    /// # use wharf_message::Timestamp;
    /// let transport = MemoryTransport::new(Timestamp::ZERO);
    /// assert_eq!(transport.next_due(), None);
    /// ```
    pub fn next_due(&self) -> Option<Timestamp> {
        self.broker.state().next_due()
    }

    /// How many messages are delivered and unsettled, or could be delivered to a subscription that
    /// exists. What waits for its time does not count. Zero means that nothing will happen before
    /// somebody publishes, subscribes, or lets time pass.
    ///
    /// ```
    /// # use futures_util::FutureExt;
    /// # use wharf_message::transport::memory::MemoryTransport;
    /// # use wharf_message::transport::Publish;
    /// # use wharf_message::{Message, Timestamp, TopicName};
    /// # let topic = TopicName::new("orders").expect("valid");
    /// let transport = MemoryTransport::new(Timestamp::ZERO);
    /// transport.publish(&topic, Message::new("p")).now_or_never();
    /// assert_eq!(transport.in_flight(), 0, "nobody could get it");
    /// ```
    pub fn in_flight(&self) -> usize {
        self.broker.state().in_flight()
    }

    /// Waits until [`MemoryTransport::in_flight`] is zero.
    ///
    /// ```
    /// # use futures_util::FutureExt;
    /// # use wharf_message::transport::memory::MemoryTransport;
    /// # use wharf_message::Timestamp;
    /// let transport = MemoryTransport::new(Timestamp::ZERO);
    /// assert!(transport.idle().now_or_never().is_some());
    /// ```
    pub fn idle(&self) -> impl Future<Output = ()> + Send + 'static {
        let broker = Arc::clone(&self.broker);
        poll_fn(move |cx| broker.state().poll_idle(cx))
    }

    /// Every message published to a topic, dead letters included, in order.
    ///
    /// ```
    /// # use futures_util::FutureExt;
    /// # use wharf_message::transport::memory::MemoryTransport;
    /// # use wharf_message::transport::Publish;
    /// # use wharf_message::{Message, Timestamp, TopicName};
    /// # let topic = TopicName::new("orders").expect("valid");
    /// let transport = MemoryTransport::new(Timestamp::ZERO);
    /// transport.publish(&topic, Message::new("p")).now_or_never();
    /// assert_eq!(transport.messages(&topic)[0].payload.as_deref(), Some(&b"p"[..]));
    /// assert!(transport.messages("dlq.orders.billing").is_empty());
    /// ```
    pub fn messages(&self, topic: impl AsRef<str>) -> Vec<Message> {
        self.broker.state().messages(topic.as_ref())
    }

    /// The topics there are, by name.
    ///
    /// ```
    /// # use futures_util::FutureExt;
    /// # use wharf_message::transport::memory::MemoryTransport;
    /// # use wharf_message::transport::Publish;
    /// # use wharf_message::{Message, Timestamp, TopicName};
    /// # let topic = TopicName::new("orders").expect("valid");
    /// let transport = MemoryTransport::new(Timestamp::ZERO);
    /// transport.publish(&topic, Message::new("p")).now_or_never();
    /// assert_eq!(transport.topics(), [topic]);
    /// ```
    pub fn topics(&self) -> Vec<TopicName> {
        self.broker.state().topic_names()
    }

    /// What was published and waits for its `wharf-deliver-at`, by time.
    ///
    /// ```
    /// # use futures_util::FutureExt;
    /// # use wharf_message::transport::memory::MemoryTransport;
    /// # use wharf_message::transport::Publish;
    /// # use wharf_message::{Message, Timestamp, TopicName, header};
    /// # let topic = TopicName::new("orders").expect("valid");
    /// let transport = MemoryTransport::new(Timestamp::ZERO);
    /// let message = Message::new("p").with_header(header::DELIVER_AT, "1970-01-01T00:01:00Z");
    /// transport.publish(&topic, message.clone()).now_or_never();
    /// let due = Timestamp::from_millis(60_000);
    /// assert_eq!(transport.scheduled(), [(due, topic, message)]);
    /// ```
    pub fn scheduled(&self) -> Vec<(Timestamp, TopicName, Message)> {
        self.broker.state().scheduled()
    }

    /// How many messages of a topic a group has not settled for good: what it has not seen, what it
    /// works on, and what waits for another attempt. `None` if the group has never read the topic.
    ///
    /// ```
    /// # use futures_util::FutureExt;
    /// # use wharf_message::transport::memory::MemoryTransport;
    /// # use wharf_message::transport::{Publish, Subscribe, Subscription};
    /// # use wharf_message::{GroupName, Message, Timestamp, TopicName};
    /// # let topic = TopicName::new("orders").expect("valid");
    /// let transport = MemoryTransport::new(Timestamp::ZERO);
    /// let billing = GroupName::new("billing").expect("valid");
    /// assert_eq!(transport.lag(&billing, &topic), None);
    /// let subscription = Subscription::group(billing.clone(), vec![topic.clone()]);
    /// let _deliveries = transport.subscribe(subscription).now_or_never();
    /// transport.publish(&topic, Message::new("p")).now_or_never();
    /// assert_eq!(transport.lag(&billing, &topic), Some(1));
    /// ```
    pub fn lag(&self, group: &GroupName, topic: &TopicName) -> Option<usize> {
        self.broker.state().lag(group, topic)
    }

    /// The offset before which a group has settled everything of a topic for good.
    ///
    /// ```
    /// # use futures_util::FutureExt;
    /// # use wharf_message::transport::memory::MemoryTransport;
    /// # use wharf_message::transport::{Publish, Subscribe, Subscription};
    /// # use wharf_message::{GroupName, Message, Timestamp, TopicName};
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// # let transport = MemoryTransport::new(Timestamp::ZERO);
    /// # let (billing, orders) = (GroupName::new("billing")?, TopicName::new("orders")?);
    /// for payload in ["first", "second"] {
    ///     transport.publish(&orders, Message::new(payload)).await?;
    /// }
    /// let subscription = Subscription::group(billing.clone(), vec![orders.clone()]);
    /// let mut deliveries = transport.subscribe(subscription).await?;
    /// let mut both = deliveries.next(2).await?;
    /// both.remove(1).accept();
    /// assert_eq!(transport.committed(&billing, &orders), Some(0));
    /// both.remove(0).accept();
    /// assert_eq!(transport.committed(&billing, &orders), Some(2));
    /// # Ok(())
    /// # }
    /// # run().now_or_never().expect("nothing waits").expect("nothing is refused");
    /// ```
    pub fn committed(&self, group: &GroupName, topic: &TopicName) -> Option<i64> {
        self.broker.state().committed(group, topic)
    }
}

impl fmt::Debug for MemoryTransport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("MemoryTransport")
            .field("now", &self.now())
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl Publish for MemoryTransport {
    fn capabilities(&self) -> Capabilities {
        self.broker.state().capabilities
    }

    fn create_topic(&self, topic: &TopicName, _: u32) -> BoxFuture<'_, Result<(), Error>> {
        let created = self.broker.state().create_topic(self.client, topic);
        Box::pin(ready(created))
    }

    fn publish(
        &self,
        topic: &TopicName,
        message: Message,
    ) -> BoxFuture<'_, Result<Option<Position>, Error>> {
        let published = self.broker.state().publish(self.client, topic, message);
        Box::pin(ready(published))
    }
}

impl Subscribe for MemoryTransport {
    fn subscribe(
        &self,
        subscription: Subscription,
    ) -> BoxFuture<'_, Result<Box<dyn Deliveries>, Error>> {
        let member = self.broker.state().subscribe(self.client, &subscription);
        let broker = Arc::clone(&self.broker);
        let deliveries = |member| Box::new(Member { broker, member }) as Box<dyn Deliveries>;
        Box::pin(ready(member.map(deliveries)))
    }
}

impl Transport for MemoryTransport {
    fn name(&self) -> &'static str {
        NAME
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.broker.state().shut_down(self.client);
        Box::pin(ready(Ok(())))
    }

    fn history(&self) -> Result<Arc<dyn TopicHistory>, Error> {
        Ok(Arc::new(self.client()))
    }
}

impl Settle for Broker {
    fn settle(&self, token: Token, settlement: Settlement) {
        self.state().settle(token, settlement);
    }

    fn accept_with(
        &self,
        token: Token,
        outputs: Vec<(TopicName, Message)>,
    ) -> BoxFuture<'_, Result<(), Error>> {
        let accepted = self.state().accept_with(token, outputs);
        Box::pin(ready(accepted))
    }
}

/// One subscription. Leaving in order and crashing are the same here, as nothing is ever on its way.
struct Member {
    broker: Arc<Broker>,
    member: MemberId,
}

impl Deliveries for Member {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Error>> {
        Box::pin(poll_fn(move |cx| {
            let taken = self.broker.state().poll_take(self.member, max, cx);
            let Poll::Ready(Ok(taken)) = taken else {
                return taken.map_ok(|_| Vec::new());
            };
            let settle: Arc<dyn Settle> = Arc::clone(&self.broker) as _;
            let delivery = |taken: state::Taken| {
                let settle = Arc::clone(&settle);
                let (topic, message) = (taken.topic, taken.message);
                Delivery::new(
                    topic,
                    taken.position,
                    message,
                    taken.attempt,
                    settle,
                    taken.token,
                )
            };
            Poll::Ready(Ok(taken.into_iter().map(delivery).collect()))
        }))
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(ready(Ok(())))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.broker.state().leave(self.member);
    }
}
