//! RabbitMQ (3.10 or later) through AMQP 0-9-1.
//!
//! A topic is a durable topic exchange; a group's subscription is a durable quorum queue bound to it,
//! so what is published before a group first subscribed does not reach it. Messages are persistent and
//! confirmed. A delayed retry and a schedule wait in a bounded set of queues with a time to live
//! (see the module `delay`); the number of the attempt travels in a header. `docs/how-to/use-rabbitmq.md` lists
//! what is created and which permissions it takes.
//!
//! What must never happen here: that a delivery is acknowledged before its dead letter or its next
//! attempt is confirmed.

mod codec;
mod delay;
mod link;
mod publisher;
mod subscription;
mod topology;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use lapin::uri::{AMQPScheme, AMQPUri};
use tokio::sync::watch;
use tokio::time::timeout;
use wharf_message::transport::{
    Capabilities, Capability, Deliveries, Error, Position, Publish, Subscribe, Subscription,
    Transport,
};
use wharf_message::{Message, Timestamp, TopicName, dead_letter};

use self::delay::Delay;
use self::link::{Link, answered};
use self::publisher::{Destination, Publisher, Routed};
use self::subscription::{Consuming, Plan, Session, SharedDeclared};
use self::topology::Thing;
use crate::held::{Subscriber, due, now};

/// The scheme of its addresses.
const NAME: &str = "amqp";
/// How long ending waits for confirmations.
const FLUSH_WITHIN: Duration = Duration::from_secs(30);

/// A service's connections to RabbitMQ: one that publishes and one that consumes, so that a broker
/// which holds back publishers still takes acknowledgements.
#[derive(Debug)]
pub struct RabbitTransport {
    publishing: Arc<Link>,
    consuming: Arc<Link>,
    publisher: Publisher,
    declared: SharedDeclared,
    /// Said at the shutdown; each subscription listens until it has ended.
    shutdown: watch::Sender<bool>,
    refuses_unrouted: bool,
    /// The topics without a queue of which it was said that messages to them are dropped.
    told: Arc<Mutex<HashSet<TopicName>>>,
}

impl RabbitTransport {
    /// Connects to `amqp://user:password@host:port/vhost`. The virtual host `/` is written `%2f`.
    ///
    /// # Errors
    /// [`Error::Refused`] for an address that is none, [`Error::Denied`] for wrong credentials,
    /// [`Error::Unavailable`] when the broker cannot be reached.
    pub async fn connect(address: &str) -> Result<Self, Error> {
        let uri: AMQPUri = address.parse().map_err(|error| {
            Error::Refused(format!(
                "the address is not amqp://user:password@host:port/vhost: {error}"
            ))
        })?;
        if uri.scheme == AMQPScheme::AMQPS {
            let text = "amqps:// is not supported; put a TLS proxy beside the service";
            return Err(Error::Refused(text.to_owned()));
        }
        let publishing = Link::new(uri.clone(), "publishes");
        let channel = publishing.channel().await?;
        answered(channel.close(200, "checked".into())).await.ok();
        let publisher = Publisher::start(Arc::clone(&publishing));
        Ok(Self {
            publishing,
            consuming: Link::new(uri, "consumes"),
            publisher,
            declared: SharedDeclared::default(),
            shutdown: watch::Sender::new(false),
            refuses_unrouted: false,
            told: Arc::default(),
        })
    }

    /// Publishing to a topic that no group has subscribed to yet fails with [`Error::Unavailable`]
    /// instead of dropping the message: for whoever can wait, such as a relay. With the confirmation of
    /// the broker it is known for each message.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), wharf_message::transport::Error> {
    /// use wharf_transport::rabbitmq::RabbitTransport;
    ///
    /// let connected = RabbitTransport::connect("amqp://guest:guest@localhost/%2f").await?;
    /// let transport = connected.refusing_unrouted();
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn refusing_unrouted(mut self) -> Self {
        self.refuses_unrouted = true;
        self
    }

    fn is_closed(&self) -> bool {
        *self.shutdown.borrow()
    }
}

/// Where a message to a topic goes now: at once, or after a wait.
fn destination(topic: &TopicName, message: &Message, now: Timestamp) -> Result<Destination, Error> {
    Ok(match due(message, now)? {
        Some(due) => Destination::TopicLater(topic.clone(), Delay::exact(due.since(now))),
        // Kept also while nobody looks at them, as those of a group's own.
        None if topic.as_str().starts_with(dead_letter::PREFIX) => {
            Destination::DeadLetters(topic.clone())
        }
        None => Destination::Topic(topic.clone()),
    })
}

impl Publish for RabbitTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities::all()
            .without(Capability::History)
            .without(Capability::KeyOrder)
            .without(Capability::AtomicOutputs)
            .without(Capability::Positions)
    }

    fn create_topic(
        &self,
        topic: &TopicName,
        _partitions: u32,
    ) -> BoxFuture<'_, Result<(), Error>> {
        if self.is_closed() {
            return ready(Err(Error::Closed)).boxed();
        }
        let declared = self.publisher.declare(Thing::Topic(topic.clone()));
        async move { declared.await.map(drop) }.boxed()
    }

    fn publish(
        &self,
        topic: &TopicName,
        message: Message,
    ) -> BoxFuture<'_, Result<Option<Position>, Error>> {
        if self.is_closed() {
            return ready(Err(Error::Closed)).boxed();
        }
        let destination = match destination(topic, &message, now()) {
            Ok(destination) => destination,
            Err(error) => return ready(Err(error)).boxed(),
        };
        let published = self.publisher.publish(destination, message);
        let (topic, told) = (topic.clone(), Arc::clone(&self.told));
        let refuses = self.refuses_unrouted;
        async move {
            if published.await? == Routed::Yes {
                return Ok(None);
            }
            if refuses {
                let why = format!(
                    "no group has subscribed to {topic} yet, and RabbitMQ keeps messages only in the queues of groups: start the consumers once"
                );
                return Err(Error::Unavailable(why));
            }
            let first = told
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(topic.clone());
            if first {
                tracing::warn!(
                    %topic,
                    "messages are dropped because no group has subscribed to their topic yet; RabbitMQ keeps messages only in the queues of groups, so start the consumers once before the producers"
                );
            }
            Ok(None)
        }
        .boxed()
    }
}

impl Subscribe for RabbitTransport {
    fn subscribe(
        &self,
        subscription: Subscription,
    ) -> BoxFuture<'_, Result<Box<dyn Deliveries>, Error>> {
        async move {
            if self.is_closed() {
                return Err(Error::Closed);
            }
            let plan = Arc::new(Plan::new(&subscription)?);
            let session = Session::begin(&self.consuming, &plan, &self.declared).await?;
            let (near, driver) = Subscriber::new(NAME, subscription.in_flight_max);
            let task = Consuming {
                link: Arc::clone(&self.consuming),
                publisher: self.publisher.clone(),
                plan,
                driver,
                declared: Arc::clone(&self.declared),
                shutdown: self.shutdown.subscribe(),
            };
            let task = tokio::spawn(task.run(session)).abort_handle();
            let deliveries: Box<dyn Deliveries> = Box::new(near.with_task(task));
            Ok(deliveries)
        }
        .boxed()
    }
}

impl Transport for RabbitTransport {
    fn name(&self) -> &'static str {
        NAME
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            if self.shutdown.send_replace(true) {
                return Ok(());
            }
            let late = |_| Error::Unavailable("not everything was confirmed in time".to_owned());
            let ended = timeout(FLUSH_WITHIN, self.shutdown.closed()).await;
            let flushed = timeout(FLUSH_WITHIN, self.publisher.flush()).await;
            let flushed = ended.and(flushed).map_err(late).and_then(|it| it);
            self.consuming.close().await?;
            self.publishing.close().await?;
            flushed.map(drop)
        }
        .boxed()
    }
}
