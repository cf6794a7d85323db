//! What a handler is called with: one message or a batch, and what layers add to it.

use std::any::{Any, TypeId};
use std::sync::Arc;

use wharf_message::transport::Position;
use wharf_message::{GroupName, Message, TopicName};

use crate::bus::Bus;
use crate::clock::Clock;

/// A message as it was received.
///
/// ```
/// use wharf::{Failed, FromIncoming, Incoming, Received, Takes};
///
/// /// A payload that is lines of text.
/// struct Lines(Vec<String>);
///
/// impl<S> FromIncoming<S> for Lines {
///     const TAKES: Takes = Takes::Any;
///
///     fn from_incoming(incoming: Incoming, _: &S) -> Result<Self, Failed> {
///         let Received { message, .. } = incoming.first();
///         let payload = message.payload.as_deref().unwrap_or_default();
///         Ok(Self(String::from_utf8_lossy(payload).lines().map(str::to_owned).collect()))
///     }
/// }
/// # wharf::group::<()>("g").on(async |Lines(_): Lines| ());
/// ```
#[derive(Clone, Debug)]
pub struct Received {
    /// The topic it was published to.
    pub topic: TopicName,
    /// Where it is in that topic, if the transport knows.
    pub position: Option<Position>,
    /// The message.
    pub message: Message,
    /// Which attempt this is, from 1.
    pub attempt: u32,
}

/// An attempt to handle a message or a batch. The request type of every layer and handler: a
/// `tower::Service<Incoming, Response = Outcome, Error = Infallible>`.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
/// use tower::util::MapRequestLayer;
/// use wharf::testing::TestBus;
/// use wharf::{Failed, FromParts, Incoming, Message, Nothing, Raw, Reason, Router, group};
///
/// /// Set by a layer for every attempt, taken by the handlers that ask for it.
/// #[derive(Clone)]
/// struct Tenant(String);
///
/// let layer = MapRequestLayer::new(|mut incoming: Incoming| {
///     let tenant = incoming.first().topic.as_str().split('.').next().unwrap_or_default().to_owned();
///     incoming.extensions().insert(Tenant(tenant));
///     incoming
/// });
///
/// impl<S> FromParts<S> for Tenant {
///     type Holds = Nothing;
///
///     fn from_parts(incoming: &mut Incoming, _: &S) -> Result<Self, Failed> {
///         let missing = || Failed::for_ever(Reason::Rejected, "the route has no tenants");
///         incoming.extensions().get::<Self>().cloned().ok_or_else(missing)
///     }
/// }
///
/// async fn handle(Tenant(tenant): Tenant, Raw(_): Raw) {
///     assert_eq!(tenant, "north");
/// }
///
/// let router = Router::new().topic("north.orders", group("g").on(handle).layer(layer));
/// let bus = TestBus::start(router).await;
/// bus.publish_raw("north.orders", Message::new("x")).await;
/// bus.settle().await;
/// assert_eq!(bus.bus().ends().accepted, 1);
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Incoming {
    received: Arc<[Received]>,
    context: Arc<Context>,
    extensions: Extensions,
}

/// What is the same for all messages of a route.
///
/// ```
/// use wharf::{Failed, FromParts, Incoming, Nothing};
///
/// /// Who handles, for a log.
/// struct Who(String);
///
/// impl<S> FromParts<S> for Who {
///     type Holds = Nothing;
///
///     fn from_parts(incoming: &mut Incoming, _: &S) -> Result<Self, Failed> {
///         let context = incoming.context();
///         Ok(Self(format!("{}/{} at {}", context.service, context.group, context.clock.now())))
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Context {
    /// The group the route consumes for.
    pub group: GroupName,
    /// The service's name, which is the CloudEvents `source` of what it publishes.
    pub service: Arc<str>,
    /// The time of day.
    pub clock: Clock,
    /// What requests are made with.
    pub(crate) bus: Bus,
}

impl Incoming {
    /// An attempt; `received` is not empty.
    pub(crate) fn new(received: Arc<[Received]>, context: Arc<Context>) -> Self {
        Self {
            received,
            context,
            extensions: Extensions::default(),
        }
    }

    /// The message; of a batch, the first one.
    pub fn first(&self) -> &Received {
        &self.received[0]
    }

    /// All messages: one, unless the handler takes a [`Batch`](crate::Batch).
    pub fn all(&self) -> &[Received] {
        &self.received
    }

    /// The same, to keep.
    pub fn shared(&self) -> Arc<[Received]> {
        Arc::clone(&self.received)
    }

    /// The same attempt with these messages in place of its own; `received` is not empty.
    #[cfg(feature = "claim-check")]
    pub(crate) fn with_received(self, received: Arc<[Received]>) -> Self {
        Self { received, ..self }
    }

    /// What is the same for the whole route.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// What layers have added.
    pub fn extensions(&mut self) -> &mut Extensions {
        &mut self.extensions
    }
}

/// Values by their type, from layers to extractors. Empty costs nothing.
///
/// ```
/// let mut extensions = wharf::Extensions::default();
/// extensions.insert(7_u32);
/// extensions.insert("a tenant".to_owned());
/// extensions.insert(8_u32);
/// assert_eq!(extensions.get::<u32>(), Some(&8));
/// assert_eq!(extensions.take::<String>().as_deref(), Some("a tenant"));
/// assert_eq!(extensions.get::<String>(), None);
/// ```
#[derive(Default)]
pub struct Extensions(Vec<(TypeId, Box<dyn Any + Send>)>);

impl Extensions {
    /// Adds a value, in place of one of the same type.
    pub fn insert<T: Send + 'static>(&mut self, value: T) {
        self.take::<T>();
        self.0.push((TypeId::of::<T>(), Box::new(value)));
    }

    /// Takes the value of that type out.
    pub fn take<T: Send + 'static>(&mut self) -> Option<T> {
        let at = self.0.iter().position(|(id, _)| *id == TypeId::of::<T>())?;
        let (_, value) = self.0.swap_remove(at);
        value.downcast().ok().map(|value| *value)
    }

    /// The value of that type.
    pub fn get<T: Send + 'static>(&self) -> Option<&T> {
        let found = self.0.iter().find(|(id, _)| *id == TypeId::of::<T>());
        found.and_then(|(_, value)| value.downcast_ref())
    }
}

impl std::fmt::Debug for Extensions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} extensions", self.0.len())
    }
}
