//! NATS JetStream (2.10 or later; schedules need 2.12).
//!
//! A topic is a stream of its own: a stream is what NATS keeps, limits, numbers and replicates by, so
//! each topic has positions without gaps from others and can be given limits of its own. A group is a
//! durable pull consumer of it with explicit acknowledgement; while a delivery is unsettled here, its
//! time at the server is extended, so that a slow handler gets no double. A retry is a negative
//! acknowledgement with a delay, and the server counts the attempts. `docs/how-to/use-nats.md` lists
//! what is created and which permissions it takes.
//!
//! What must never happen here: that a message is acknowledged before its dead letter is in a stream.

mod codec;
mod names;
mod publisher;
mod puller;
mod receipt;
mod streams;
mod subscription;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::{ConnectErrorKind, ConnectOptions, Event};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use wharf_message::dead_letter;
use wharf_message::transport::{
    Audience, Capabilities, Capability, Deliveries, Error, Position, Publish, Subscribe,
    Subscription, Transport,
};
use wharf_message::{Message, TopicName};

use self::publisher::{Publication, Publisher};
use self::puller::{Puller, Whose};
use self::receipt::{Live, Receipt};
use self::subscription::Consuming;
use crate::held::{Driver, Subscriber, due, now};

/// The scheme of its addresses.
const NAME: &str = "nats";
/// How long the server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long ending waits for confirmations.
const FLUSH_WITHIN: Duration = Duration::from_secs(30);
/// The longest wait between two attempts to connect again, in milliseconds.
const RECONNECT_MILLIS_MAX: u64 = 4_000;
/// How many publishes may wait for their confirmation; the bytes are bounded before.
const CONFIRMS_MAX: usize = 1 << 20;

/// The most deliveries of a topic that may be unsettled in one subscription.
const AHEAD_MAX: usize = 1 << 20;

/// What may be chosen about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long after a consumer died the server gives its unsettled messages to another one. Of a
    /// consumer that lives, it is extended. Kept by the server from the first subscription of a group.
    pub ack_wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ack_wait: Duration::from_secs(15),
        }
    }
}

/// How the connection is.
#[derive(Clone, Copy, Debug)]
struct State {
    is_connected: bool,
}

/// A service's connection to NATS.
#[derive(Debug)]
pub struct NatsTransport {
    context: Context,
    options: Options,
    publisher: Publisher,
    state: Arc<watch::Sender<State>>,
    /// Said at the shutdown; each subscription listens until it has ended.
    shutdown: watch::Sender<bool>,
}

impl NatsTransport {
    /// Connects to `nats://user:password@host:port`, or several of them with commas between.
    ///
    /// # Errors
    /// [`Error::Refused`] for an address that is none and for a server without JetStream,
    /// [`Error::Denied`] for wrong credentials, [`Error::Unavailable`] when no server can be reached.
    pub async fn connect(address: &str) -> Result<Self, Error> {
        Self::connect_with(address, Options::default()).await
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_with(address: &str, options: Options) -> Result<Self, Error> {
        let state = Arc::new(watch::Sender::new(State { is_connected: true }));
        let told = Arc::clone(&state);
        let servers: Vec<&str> = address.split(',').map(str::trim).collect();
        let client = ConnectOptions::new()
            .name("wharf")
            .request_timeout(Some(ANSWER_WITHIN))
            .connection_timeout(ANSWER_WITHIN)
            .reconnect_delay_callback(reconnect_delay)
            .event_callback(move |event| {
                hear(&told, &event);
                ready(())
            })
            .connect(servers)
            .await
            .map_err(|error| refused(&error))?;
        let context = ContextBuilder::new()
            .timeout(ANSWER_WITHIN)
            .max_ack_inflight(CONFIRMS_MAX)
            .build(client);
        if let Err(error) = context.query_account().await {
            return Err(Error::Refused(format!(
                "the server answers no JetStream request ({error}); enable JetStream, and let the user publish to $JS.API.>"
            )));
        }
        Ok(Self {
            publisher: Publisher::start(context.clone()),
            context,
            options,
            state,
            shutdown: watch::Sender::new(false),
        })
    }

    fn is_closed(&self) -> bool {
        *self.shutdown.borrow()
    }

    /// The pullers of a subscription, with nothing pulled yet, in the order of its topics.
    async fn pullers(
        &self,
        subscription: &Subscription,
        driver: &Driver<Receipt>,
        live: &Live,
        closing: &watch::Sender<bool>,
    ) -> Result<Vec<Puller>, Error> {
        let topics = subscription.topics.len().max(1);
        let ahead = subscription.in_flight_max.div_ceil(topics);
        let ahead = ahead.clamp(1, AHEAD_MAX);
        let mut pullers = Vec::new();
        for topic in &subscription.topics {
            let whose = match &subscription.audience {
                Audience::Group(group) => {
                    dead_letter::topic(topic, group).map_err(|error| {
                        Error::Refused(format!("for the dead letters, {error}"))
                    })?;
                    Whose::Group(group.clone(), subscription.start)
                }
                Audience::Everyone => {
                    let mut stream = streams::ensure(&self.context, topic).await?;
                    let info = stream.info().await;
                    let info = info.map_err(|error| Error::Unavailable(error.to_string()))?;
                    let id = uuid::Uuid::new_v4().simple();
                    Whose::Listener(format!("everyone-{id}"), info.state.last_sequence + 1)
                }
            };
            pullers.push(Puller {
                context: self.context.clone(),
                topic: topic.clone(),
                whose,
                ack_wait: self.options.ack_wait,
                desk: Arc::clone(&driver.desk),
                live: live.clone(),
                room: Arc::new(Semaphore::new(ahead)),
                ahead,
                asks: driver.desk.asks(),
                wanted: 0,
                state: self.state.subscribe(),
                closing: closing.subscribe(),
            });
        }
        Ok(pullers)
    }

    async fn subscribed(&self, subscription: Subscription) -> Result<Box<dyn Deliveries>, Error> {
        if self.is_closed() {
            return Err(Error::Closed);
        }
        let (near, driver) = Subscriber::new(NAME, subscription.in_flight_max);
        let (live, closing) = (Live::default(), watch::Sender::new(false));
        let pullers = self
            .pullers(&subscription, &driver, &live, &closing)
            .await?;
        let mut tasks = JoinSet::new();
        let mut ack_wait = self.options.ack_wait;
        let mut listeners = Vec::new();
        for puller in pullers {
            let consumer = puller.consumer().await?;
            // Of a consumer that was there before, it is what its maker chose.
            let kept = consumer.cached_info().config.ack_wait;
            ack_wait = ack_wait.min(kept).max(Duration::from_millis(300));
            if let Whose::Listener(name, _) = &puller.whose {
                listeners.push((puller.topic.clone(), name.clone()));
            }
            tasks.spawn(puller.run(consumer));
        }
        let group = match subscription.audience {
            Audience::Group(group) => Some(group),
            Audience::Everyone => None,
        };
        let task = Consuming {
            context: self.context.clone(),
            publisher: self.publisher.clone(),
            group,
            listeners,
            ack_wait,
            live,
            pullers: tasks,
            closing,
            state: self.state.subscribe(),
            shutdown: self.shutdown.subscribe(),
            driver,
        };
        let task = tokio::spawn(task.run()).abort_handle();
        let deliveries: Box<dyn Deliveries> = Box::new(near.with_task(task));
        Ok(deliveries)
    }
}

/// Longer each time, and never for the same time as everybody else.
fn reconnect_delay(attempts: usize) -> Duration {
    let step = RECONNECT_MILLIS_MAX.min(50 << attempts.min(10));
    let chance = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
    Duration::from_millis(step / 2 + step * chance / 512)
}

/// Keeps what the client tells of the connection.
fn hear(state: &watch::Sender<State>, event: &Event) {
    match event {
        Event::Connected => state.send_modify(|state| state.is_connected = true),
        Event::Disconnected => state.send_modify(|state| state.is_connected = false),
        Event::ServerError(error) => tracing::warn!(
            %error,
            "NATS refused something; if it is a permission, give it to the user of this service"
        ),
        Event::SlowConsumer(_) => tracing::warn!(
            "the client dropped messages because they were not taken in time; they are delivered again"
        ),
        other => tracing::debug!(%other, "NATS"),
    }
}

fn refused(error: &async_nats::ConnectError) -> Error {
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            Error::Denied(error.to_string())
        }
        ConnectErrorKind::ServerParse | ConnectErrorKind::Tls => Error::Refused(error.to_string()),
        _ => Error::Unavailable(error.to_string()),
    }
}

impl Publish for NatsTransport {
    fn capabilities(&self) -> Capabilities {
        // What was on its way to a member that crashed may come after newer messages of its key.
        let all = Capabilities::all()
            .without(Capability::Order)
            .without(Capability::KeyOrder)
            .without(Capability::AtomicOutputs);
        if streams::has_schedules(&self.context) {
            all
        } else {
            all.without(Capability::Schedule)
        }
    }

    fn create_topic(
        &self,
        topic: &TopicName,
        _partitions: u32,
    ) -> BoxFuture<'_, Result<(), Error>> {
        if self.is_closed() {
            return ready(Err(Error::Closed)).boxed();
        }
        let ensured = self.publisher.ensure(topic.clone());
        async move { ensured.await.map(drop) }.boxed()
    }

    fn publish(
        &self,
        topic: &TopicName,
        message: Message,
    ) -> BoxFuture<'_, Result<Option<Position>, Error>> {
        if self.is_closed() {
            return ready(Err(Error::Closed)).boxed();
        }
        let due = match due(&message, now()) {
            Ok(due) => due,
            Err(error) => return ready(Err(error)).boxed(),
        };
        if due.is_some() && !streams::has_schedules(&self.context) {
            let error = Error::Unsupported {
                transport: NAME,
                capability: Capability::Schedule,
                hint: ": the server is older than 2.12".to_owned(),
            };
            return ready(Err(error)).boxed();
        }
        self.publisher.publish(Publication {
            topic: topic.clone(),
            id: publisher::identity(&message),
            message,
            due,
        })
    }
}

impl Subscribe for NatsTransport {
    fn subscribe(
        &self,
        subscription: Subscription,
    ) -> BoxFuture<'_, Result<Box<dyn Deliveries>, Error>> {
        self.subscribed(subscription).boxed()
    }
}

impl Transport for NatsTransport {
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
            let flushed = ended.and(flushed).map_err(late)?;
            // It may be without a connection, and then there is nothing to drain.
            self.context.client().drain().await.ok();
            flushed.map(drop)
        }
        .boxed()
    }
}
