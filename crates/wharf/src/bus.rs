//! The bus: a connected transport, and what a service does with it: publish, ask, serve.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use opentelemetry::global;
use tokio::sync::watch;
use uuid::Uuid;
use wharf_message::dead_letter::Reason;
use wharf_message::transport::{Capability, Error, Transport};
use wharf_message::{Headers, Message, Timestamp, TopicName, header};

use crate::Event;
use crate::checking::Checking;
use crate::clock::Clock;
use crate::envelope::{self, Cause};
use crate::failure::Failed;
use crate::outcome::{Effects, IntoEffects, Outgoing, Target, When};
use crate::request::Replies;
use crate::router::Router;
use crate::serve::Serve;
use crate::telemetry::{Ends, Telemetry};

/// The first pause before what could not be published is published again; it doubles up to the last.
const REPUBLISH_FIRST: Duration = Duration::from_millis(50);
const REPUBLISH_LAST: Duration = Duration::from_secs(5);

/// How long handlers may go on when the service stops.
const GRACE: Duration = Duration::from_secs(30);

/// A connection to a broker, with the service's name on it. Cheap to clone.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, wharf::Event)]
/// # #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
/// # struct OrderPlaced { order: String }
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
/// use std::future::IntoFuture;
/// use wharf::{Bus, Msg, Router, group};
///
/// let bus = Bus::connect("memory:", "shop").await?;
/// let (handled, mut seen) = tokio::sync::mpsc::unbounded_channel();
/// let handle = move |Msg(placed): Msg<OrderPlaced>| {
///     let handled = handled.clone();
///     async move { handled.send(placed.order).unwrap() }
/// };
/// let serving = bus.serve(Router::new().topic("shop.orders", group("accounts").on(handle)));
/// let serving = tokio::spawn(serving.into_future());
///
/// bus.publish(&OrderPlaced { order: "o-1".to_owned() }).await?;
/// assert_eq!(seen.recv().await.as_deref(), Some("o-1"));
/// assert_eq!(bus.service(), "shop");
/// # serving.abort();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Bus {
    shared: Arc<Shared>,
}

/// What all handles of a bus share.
pub(crate) struct Shared {
    pub(crate) transport: Arc<dyn Transport>,
    /// The service's name.
    pub(crate) service: Arc<str>,
    pub(crate) clock: Clock,
    pub(crate) telemetry: Telemetry,
    /// How long handlers may go on when the service stops.
    pub(crate) grace: Duration,
    pub(crate) replies: Replies,
    /// What is stored before it is published.
    pub(crate) checking: Checking,
}

/// Why something could not be published or asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The address cannot be used.
    #[error("the address {address} cannot be used: {why}")]
    Address {
        /// It.
        address: String,
        /// Why not, and what to do.
        why: String,
    },
    /// The transport refused.
    #[error(transparent)]
    Transport(#[from] Error),
    /// The message cannot be written.
    #[error("{0}")]
    Invalid(String),
    /// Its payload could not be stored, or not be got back.
    #[cfg(feature = "claim-check")]
    #[error(transparent)]
    Claim(crate::claim::ClaimError),
    /// It could not be written or read with its schema.
    #[cfg(feature = "schema")]
    #[error(transparent)]
    Schema(#[from] crate::schema::SchemaError),
    /// No reply came in time.
    #[error(
        "no reply to {request} came within {waited:?}; is its handler running, and is it quick enough?"
    )]
    NoReply {
        /// The request's type.
        request: &'static str,
        /// How long was waited.
        waited: Duration,
    },
    /// The reply cannot be read.
    #[error("the reply to {request} cannot be read: {why}")]
    BadReply {
        /// The request's type.
        request: &'static str,
        /// Why not.
        why: String,
    },
}

impl From<Failed> for BusError {
    fn from(failed: Failed) -> Self {
        Self::Invalid(failed.error)
    }
}

impl Bus {
    /// A bus on a transport, for a service of this name. [`Bus::connect`] does both steps.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use wharf::{Bus, Timestamp};
    /// use wharf_message::transport::memory::MemoryTransport;
    ///
    /// let bus = Bus::new(Arc::new(MemoryTransport::new(Timestamp::ZERO)), "shop");
    /// assert_eq!((bus.service(), bus.transport().name()), ("shop", "memory"));
    /// ```
    pub fn new(transport: Arc<dyn Transport>, service: &str) -> Self {
        Self::with_clock(transport, service, Clock::wall())
    }

    /// A bus with another clock, for tests.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use wharf::{Bus, Clock, Timestamp};
    /// use wharf_message::transport::memory::MemoryTransport;
    ///
    /// let start = Timestamp::from_millis(1_767_225_600_000);
    /// let clock = Clock::starting_at(start);
    /// let bus = Bus::with_clock(Arc::new(MemoryTransport::new(start)), "shop", clock);
    /// tokio::time::advance(Duration::from_secs(60)).await;
    /// assert_eq!(clock.now(), start.after(Duration::from_secs(60)));
    /// # let _: Bus = bus;
    /// # });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn with_clock(transport: Arc<dyn Transport>, service: &str, clock: Clock) -> Self {
        Self::of(Arc::new(Shared::new(transport, service.into(), clock)))
    }

    /// The same with OpenTelemetry: spans and figures go to the global providers, which must have been
    /// installed before. `docs/how-to/observe-a-service.md` names them.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
    /// // In a program: opentelemetry::global::set_tracer_provider(..) and set_meter_provider(..) first.
    /// let bus = wharf::Bus::connect("memory:", "shop").await?.with_telemetry();
    /// assert_eq!(bus.ends().accepted, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_telemetry(&self) -> Self {
        let tracer = global::tracer("wharf");
        let telemetry = Telemetry::new(tracer, &global::meter("wharf"), self.transport().name());
        self.with(|shared| shared.telemetry = telemetry)
    }

    /// The same with something changed.
    pub(crate) fn with(&self, change: impl FnOnce(&mut Shared)) -> Self {
        let Shared {
            transport,
            service,
            clock,
            telemetry,
            grace: _,
            replies: _,
            checking,
        } = &*self.shared;
        let mut shared = Shared::new(Arc::clone(transport), Arc::clone(service), *clock);
        shared.telemetry = telemetry.another();
        shared.checking = checking.clone();
        change(&mut shared);
        Self::of(Arc::new(shared))
    }

    /// How the messages that this bus has handled left, so far.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
    /// use wharf::testing::TestBus;
    /// use wharf::{Message, Raw, Router, group};
    ///
    /// let route = group("g").on(async |Raw(message): Raw| match message.key {
    ///     Some(_) => Ok(()),
    ///     None => Err(wharf::Error::dead_letter("no key")),
    /// });
    /// let bus = TestBus::start(Router::new().topic("t", route)).await;
    /// bus.publish_raw("t", Message::new("x").with_key("k")).await;
    /// bus.publish_raw("t", Message::new("x")).await;
    /// bus.settle().await;
    /// let ends = bus.bus().ends();
    /// assert_eq!((ends.accepted, ends.dead_lettered), (1, 1));
    /// # });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn ends(&self) -> Ends {
        self.shared.telemetry.ends()
    }

    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The transport underneath.
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.shared.transport
    }

    /// The service's name: the CloudEvents `source` of what it publishes.
    pub fn service(&self) -> &str {
        &self.shared.service
    }

    /// Publishes an event to its topic, and returns when the transport has acknowledged it.
    ///
    /// Inside a handler, return [`Publish`](crate::Publish) instead: then it is sent after the
    /// handler has succeeded, and with the same id when the message is handled again.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Debug, PartialEq, Serialize, Deserialize, wharf::Event)]
    /// # #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
    /// # struct OrderPlaced { order: String }
    /// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
    /// let bus = wharf::Bus::connect("memory:", "shop").await?;
    /// bus.publish(&OrderPlaced { order: "o-1".to_owned() }).await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As the transport's; [`Error::Unavailable`] means that it may have been published.
    pub async fn publish<T: Event>(&self, event: &T) -> Result<(), BusError> {
        let topic =
            TopicName::new(T::TOPIC).map_err(|error| BusError::Invalid(error.to_string()))?;
        let message =
            envelope::message_of(event).map_err(|error| BusError::Invalid(error.to_string()))?;
        self.send(topic, message).await
    }

    /// Publishes whatever a handler could return: [`To`](crate::To) another topic,
    /// [`Schedule`](crate::Schedule)d, several at once. A reply goes nowhere.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Debug, PartialEq, Serialize, Deserialize, wharf::Event)]
    /// # #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
    /// # struct OrderPlaced { order: String }
    /// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
    /// use std::time::Duration;
    /// use wharf::{Bus, Publish, Schedule, To};
    ///
    /// let bus = Bus::connect("memory:", "shop").await?;
    /// let placed = |order: &str| OrderPlaced { order: order.to_owned() };
    /// bus.emit((
    ///     Publish(placed("o-1")),
    ///     To::topic("shop.archive", placed("o-1")).header("tenant", "north"),
    ///     Schedule::after(Duration::from_secs(900), placed("o-2")),
    /// )).await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Bus::publish`]; of several, those before the one that failed may have been published.
    pub async fn emit<E: IntoEffects>(&self, what: E) -> Result<(), BusError> {
        let missing = self.transport().capabilities().missing(E::needs());
        if let Some(capability) = missing.first() {
            return Err(self.unsupported(*capability));
        }
        let mut effects = Effects::default();
        what.add_to(&mut effects)?;
        let now = self.shared.clock.now();
        let mut sending = Vec::with_capacity(effects.outgoing.len());
        for outgoing in effects.outgoing {
            let Target::Topic(topic) = outgoing.to.clone() else {
                continue;
            };
            let message = timed(outgoing, now, &self.shared.clock);
            let mut message = self.shared.checking.check_in(&topic, message).await?;
            envelope::complete(&mut message, &self.shared.service, now, None);
            let span = self.shared.telemetry.publish(&topic, &mut message);
            let published = self.shared.transport.publish(&topic, message);
            sending.push(async move {
                let sent = published.await;
                span.end(&sent);
                sent
            });
        }
        for sent in join_all(sending).await {
            sent?;
        }
        Ok(())
    }

    /// Publishes a message that was made by hand, with the envelope completed.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
    /// use wharf::{Bus, Message, TopicName, header};
    ///
    /// let bus = Bus::connect("memory:", "shop").await?;
    /// let message = Message::new("<order/>").with_key("o-1").with_header(header::CONTENT_TYPE, "text/xml");
    /// bus.send(TopicName::new("shop.imports")?, message).await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Bus::publish`].
    pub async fn send(&self, topic: TopicName, message: Message) -> Result<(), BusError> {
        let mut message = self.shared.checking.check_in(&topic, message).await?;
        envelope::complete(
            &mut message,
            &self.shared.service,
            self.shared.clock.now(),
            None,
        );
        let span = self.shared.telemetry.publish(&topic, &mut message);
        let sent = self.shared.transport.publish(&topic, message).await;
        span.end(&sent);
        sent?;
        Ok(())
    }

    /// Serves a router until the returned future is dropped, its shutdown signal comes, or a route
    /// fails. Begins when it is awaited.
    pub fn serve(&self, router: Router) -> Serve {
        Serve::new(self.clone(), router)
    }

    pub(crate) fn unsupported(&self, capability: Capability) -> BusError {
        BusError::Transport(Error::Unsupported {
            transport: self.transport().name(),
            capability,
            hint: String::new(),
        })
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Bus")
            .field("transport", &self.transport().name())
            .field("service", &self.shared.service)
            .finish_non_exhaustive()
    }
}

/// The message with its times.
pub(crate) fn timed(outgoing: Outgoing, now: Timestamp, clock: &Clock) -> Message {
    let mut message = outgoing.message;
    let due = match outgoing.when {
        When::Now => None,
        When::After(delay) => Some(clock.next().after(delay)),
        When::At(time) => Some(time),
    };
    if let Some(due) = due {
        message.headers.push(header::DELIVER_AT, due.to_rfc3339());
    }
    if let Some(after) = outgoing.expires_after {
        message.headers.push(
            header::EXPIRES_AT,
            due.unwrap_or(now).after(after).to_rfc3339(),
        );
    }
    message
}

impl Shared {
    fn new(transport: Arc<dyn Transport>, service: Arc<str>, clock: Clock) -> Self {
        Self {
            transport,
            service,
            clock,
            telemetry: Telemetry::default(),
            grace: GRACE,
            replies: Replies::default(),
            checking: Checking::default(),
        }
    }

    /// What came of a message, ready to be sent; the `first` of it has this number for its id.
    pub(crate) fn outputs(
        &self,
        effects: Effects,
        handled: &Headers,
        cause: &Cause,
        first: usize,
    ) -> Result<Vec<(TopicName, Message)>, Failed> {
        let now = self.clock.now();
        let mut outputs = effects.ready;
        #[cfg(feature = "saga")]
        crate::saga::readdress(&mut outputs, handled);
        outputs.reserve(effects.outgoing.len());
        for (nth, outgoing) in (first..).zip(effects.outgoing) {
            let to_saga = outgoing.message.headers.contains(header::SAGA_REPLY);
            let is_reply = outgoing.to == Target::Requester && !to_saga;
            let topic = match &outgoing.to {
                Target::Topic(topic) => topic.clone(),
                // Of a saga, a late answer counts too: it may tell of something to be undone.
                Target::Requester => match reply_topic(handled, now, to_saga)? {
                    Some(topic) => topic,
                    None => continue,
                },
            };
            let mut message = timed(outgoing, now, &self.clock);
            #[cfg(feature = "saga")]
            crate::saga::address(&mut message, handled);
            if is_reply {
                message.headers.push(header::REPLY_FOR, cause.id.clone());
            }
            envelope::complete(&mut message, &self.service, now, Some((cause, nth)));
            self.telemetry.create(&topic, &mut message, handled);
            outputs.push((topic, message));
        }
        Ok(outputs)
    }

    /// Publishes all, in order, however long it takes: what is refused for now is sent again. False
    /// when the service stops before all are acknowledged.
    pub(crate) async fn publish_all(
        &self,
        mut outputs: Vec<(TopicName, Message)>,
        stop: &watch::Receiver<bool>,
    ) -> Result<bool, Error> {
        let mut pause = REPUBLISH_FIRST;
        loop {
            let sending = outputs
                .iter()
                .map(|(topic, message)| self.transport.publish(topic, message.clone()));
            let sent = join_all(sending.collect::<Vec<_>>()).await;
            let mut open = Vec::new();
            for (output, sent) in outputs.into_iter().zip(sent) {
                match sent {
                    Ok(_) => {}
                    Err(error) if error.is_transient() => {
                        tracing::warn!(topic = %output.0, %error, "a message could not be published; it is sent again");
                        open.push(output);
                    }
                    Err(error) => return Err(error),
                }
            }
            if open.is_empty() {
                return Ok(true);
            }
            outputs = open;
            let mut stop = stop.clone();
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(REPUBLISH_LAST),
                _ = stop.wait_for(|stop| *stop) => return Ok(false),
            }
        }
    }

    /// Evenly from 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double")]
    pub(crate) fn chance(&self) -> f64 {
        let (high, _) = Uuid::new_v4().as_u64_pair();
        (high >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Where the reply goes; nowhere when nobody asked or nobody waits any more.
fn reply_topic(
    handled: &Headers,
    now: Timestamp,
    to_saga: bool,
) -> Result<Option<TopicName>, Failed> {
    let text = |name| {
        handled
            .text(name)
            .map_err(|error| Failed::for_ever(Reason::Undecodable, error))
    };
    let reply_to = if to_saga {
        header::SAGA_REPLY_TO
    } else {
        header::REPLY_TO
    };
    let deadline = text(header::DEADLINE)?.and_then(Timestamp::parse_rfc3339);
    if !to_saga && deadline.is_some_and(|deadline| deadline < now) {
        tracing::debug!("a reply is too late and is not sent");
        return Ok(None);
    }
    let topic = text(reply_to)?.map(TopicName::new).transpose();
    topic.map_err(|error| Failed::for_ever(Reason::Undecodable, format!("{reply_to}: {error}")))
}
