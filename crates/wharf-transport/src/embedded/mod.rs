//! The embedded broker behind [`Publish`] and [`Subscribe`]: every call goes to the broker in this
//! process, and nothing to a socket.
//!
//! The topics, groups and offsets are the ones that clients over the wire see, so both may share a
//! group: members here heartbeat as members of the consumer protocol do (KIP-848), keys go to the
//! partitions where Kafka's clients put them. What differs is that outputs and offsets are one unit of
//! the log: `accept_with`, retries and dead letters need no transaction and leave nothing half done.
//!
//! Invariants: nothing is answered before the sync that covers it; no delivery counts as settled in
//! the broker before what it promised (an output, a retry, a dead letter) is durable; what is read
//! ahead, held, or waits for the disk is bounded.

mod history;
mod outputs;
mod publish;
mod record;
mod subscribe;

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};
use wharf_broker::{Broker, Context, CreateTopic, ErrorKind, Topic, TopicRef};
use wharf_message::transport::{
    Capabilities, Deliveries, Error, Position, Publish, Subscribe, Subscription, TopicHistory,
    Transport,
};
use wharf_message::{Message, Principal, Timestamp, TopicName};

use crate::log::detour;
use publish::Publisher;
use subscribe::Shared;

/// The name in tables and errors, and the scheme of its addresses.
const NAME: &str = "embedded";
/// What members of groups show as their host: no client over the wire can have it.
const HOST: &str = "/embedded";
/// How long a shutdown waits for what was handed over.
const DRAIN: Duration = Duration::from_secs(10);
/// The largest [`Message::size`] of a topic that was created here, unless its settings are changed.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// What a topic takes beyond that: room for the batch, and for our headers on a detour or in a dead
/// letter.
const BOOKKEEPING_BYTES: usize = 64 << 10;

/// A transport over the broker of this process. Cheap to clone; the clones are the same.
#[derive(Clone)]
pub struct EmbeddedTransport {
    core: Arc<Core>,
}

/// What publishing and subscribing share.
struct Core {
    broker: Broker,
    cx: Context,
    handle: Handle,
    publisher: Publisher,
    subscriptions: Mutex<Vec<Weak<Shared>>>,
    /// The topics whose scheduled messages are forwarded by this transport.
    forwarded: Mutex<HashSet<TopicName>>,
    /// Spreads outputs without a key.
    turn: AtomicUsize,
    is_closed: AtomicBool,
}

impl EmbeddedTransport {
    /// A transport over `broker`, for the service of this name (as descriptions of groups show it).
    /// To be called within the tokio runtime that its work is to run on.
    pub fn on(broker: Broker, service: &str) -> Self {
        let cx = Context {
            principal: Principal::anonymous(),
            client_id: service.into(),
            client_host: HOST.into(),
            connection: 0,
        };
        let core = Core {
            broker,
            cx,
            handle: Handle::current(),
            publisher: Publisher::default(),
            subscriptions: Mutex::default(),
            forwarded: Mutex::default(),
            turn: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
        };
        Self {
            core: Arc::new(core),
        }
    }
}

impl EmbeddedTransport {
    /// The topic that keeps the messages for `topic` whose time has not come, created when it is
    /// missing; they are sent when it has, while this transport is open. For those who write to it
    /// without publishing here.
    ///
    /// # Errors
    /// As publishing a scheduled message.
    pub async fn keep_scheduled(&self, topic: &TopicName) -> Result<TopicName, Error> {
        self.core.check_open()?;
        self.core.forward(topic);
        let name = scheduled(topic)?;
        self.core.find_or_create(&name, Some(topic)).await?;
        Ok(name)
    }

    /// The largest [`Message::size`] that a topic takes.
    pub fn message_bytes_max(topic: &Topic) -> usize {
        message_bytes_max(topic)
    }
}

impl fmt::Debug for EmbeddedTransport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EmbeddedTransport")
            .field("service", &self.core.cx.client_id)
            .finish_non_exhaustive()
    }
}

impl Core {
    fn check_open(&self) -> Result<(), Error> {
        match self.is_closed.load(Ordering::Acquire) {
            true => Err(Error::Closed),
            false => Ok(()),
        }
    }

    /// One of `count` in turn.
    fn turn(&self, count: usize) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % count.max(1)
    }

    fn now(&self) -> Timestamp {
        self.broker.now()
    }

    /// The topic; created when missing, as what accompanies `beside` if it does.
    async fn find_or_create(
        &self,
        name: &TopicName,
        beside: Option<&TopicName>,
    ) -> Result<Arc<Topic>, Error> {
        if let Ok(topic) = self.find(name) {
            return Ok(topic);
        }
        match beside {
            None => self.create_direct(name, None).await?,
            Some(of) => {
                if self.find(of).is_err() {
                    self.create_direct(of, None).await?;
                }
                self.create_beside(name, &*self.find(of)?).await?;
            }
        }
        self.find(name)
    }

    fn find(&self, name: &TopicName) -> Result<Arc<Topic>, Error> {
        let found = self.broker.topic(&TopicRef::Name(name.as_str().to_owned()));
        found.map_err(|error| record::error(error, name))
    }

    /// Creates a topic for messages unless it exists.
    async fn create_direct(&self, name: &TopicName, partitions: Option<u32>) -> Result<(), Error> {
        let room = MESSAGE_BYTES_MAX + BOOKKEEPING_BYTES;
        let settings = vec![("max.message.bytes".to_owned(), Some(room.to_string()))];
        self.create(name, partitions, settings).await
    }

    /// Creates the topic that accompanies `of`: its retries, its scheduled messages, its dead
    /// letters. Nothing leaves it by its age.
    async fn create_beside(&self, name: &TopicName, of: &Topic) -> Result<(), Error> {
        let room = of
            .config
            .max_message_bytes
            .saturating_add(BOOKKEEPING_BYTES);
        let settings = [
            ("max.message.bytes", room.to_string()),
            ("retention.ms", "-1".to_owned()),
            ("cleanup.policy", "delete".to_owned()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), Some(value)));
        let partitions = u32::try_from(of.partitions.len()).ok();
        self.create(name, partitions, settings.into()).await
    }

    async fn create(
        &self,
        name: &TopicName,
        partitions: Option<u32>,
        settings: Vec<(String, Option<String>)>,
    ) -> Result<(), Error> {
        let create = CreateTopic {
            name: name.as_str().to_owned(),
            partitions: partitions.map(|count| i32::try_from(count).unwrap_or(i32::MAX)),
            replication: None,
            assignment: Vec::new(),
            configs: settings,
        };
        match self.broker.create_topic(&self.cx, create, false).await {
            Err(error) if error.kind != ErrorKind::TopicAlreadyExists => {
                Err(record::error(error, name))
            }
            _ => Ok(()),
        }
    }

    /// Runs the forwarder of a topic's scheduled messages, once.
    fn forward(self: &Arc<Self>, topic: &TopicName) {
        if lock(&self.forwarded).insert(topic.clone()) {
            let (core, topic) = (Arc::clone(self), topic.clone());
            self.handle.spawn(subscribe::forward(core, topic));
        }
    }

    async fn shut_down(&self) -> Result<(), Error> {
        self.is_closed.store(true, Ordering::Release);
        let deadline = Instant::now() + DRAIN;
        while !self.publisher.is_idle() && Instant::now() < deadline {
            sleep(Duration::from_millis(1)).await;
        }
        let subscriptions = std::mem::take(&mut *lock(&self.subscriptions));
        let mut ended = Ok(());
        for subscription in subscriptions.iter().filter_map(Weak::upgrade) {
            ended = ended.and(subscription.shut_down().await);
        }
        match self.publisher.is_idle() {
            true => ended,
            false => Err(Error::Unavailable(
                "messages still wait for the disk".to_owned(),
            )),
        }
    }
}

impl Publish for EmbeddedTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities::all()
    }

    fn create_topic(&self, topic: &TopicName, partitions: u32) -> BoxFuture<'_, Result<(), Error>> {
        let topic = topic.clone();
        Box::pin(async move {
            self.core.check_open()?;
            self.core.create_direct(&topic, Some(partitions)).await
        })
    }

    fn publish(
        &self,
        topic: &TopicName,
        message: Message,
    ) -> BoxFuture<'_, Result<Option<Position>, Error>> {
        self.core.publish(topic, message)
    }
}

impl Subscribe for EmbeddedTransport {
    fn subscribe(
        &self,
        subscription: Subscription,
    ) -> BoxFuture<'_, Result<Box<dyn Deliveries>, Error>> {
        Box::pin(async move {
            let deliveries = subscribe::subscribe(&self.core, subscription).await?;
            Ok(Box::new(deliveries) as Box<dyn Deliveries>)
        })
    }
}

impl Transport for EmbeddedTransport {
    fn name(&self) -> &'static str {
        NAME
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.core.shut_down())
    }

    fn history(&self) -> Result<Arc<dyn TopicHistory>, Error> {
        Ok(Arc::new(self.clone()))
    }
}

/// The largest [`Message::size`] that a topic takes.
fn message_bytes_max(topic: &Topic) -> usize {
    let room = topic.config.max_message_bytes;
    MESSAGE_BYTES_MAX.max(room.saturating_sub(BOOKKEEPING_BYTES))
}

fn scheduled(topic: &TopicName) -> Result<TopicName, Error> {
    detour::scheduled_topic(topic)
        .map_err(|error| Error::Refused(format!("the topic of scheduled messages: {error}")))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is complete before anything that may panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
