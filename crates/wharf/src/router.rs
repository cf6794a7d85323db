//! A router of topics to handlers.

use std::convert::Infallible;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer, Service};
use wharf_message::transport::{Capabilities, Capability, Start};
use wharf_message::{GroupName, Headers, InvalidName, TopicName};

#[cfg(feature = "schema")]
use crate::extract::Contracted;
use crate::extract::Takes;
use crate::gate::{Gate, Settled};
use crate::handler::{Handler, HandlerService};
use crate::incoming::Incoming;
use crate::outcome::Outcome;
use crate::retry::{Meanwhile, Retry};

/// A service of attempts, as layers see it.
pub type Attempts = BoxCloneSyncService<Incoming, Outcome, Infallible>;

/// Topics to handlers.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use wharf::{Event, Msg, Publish, Router, State, group};
///
/// #[derive(Serialize, Deserialize, Event)]
/// #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
/// struct OrderPlaced { order: String }
///
/// #[derive(Serialize, Deserialize, Event)]
/// #[event(type = "shop.order.accepted", topic = "shop.accepted", key = "order")]
/// struct OrderAccepted { order: String }
///
/// #[derive(Clone)]
/// struct Shop;
///
/// async fn accept(State(_shop): State<Shop>, Msg(placed): Msg<OrderPlaced>) -> Publish<OrderAccepted> {
///     Publish(OrderAccepted { order: placed.order })
/// }
///
/// let router = Router::new().topic("shop.orders", group("accounts").on(accept)).with_state(Shop);
/// ```
pub struct Router<S = ()> {
    routes: Vec<(Vec<String>, Route<S>)>,
}

impl<S: Clone + Send + Sync + 'static> Router<S> {
    /// Without routes.
    #[expect(
        clippy::new_without_default,
        reason = "an empty router is the beginning of one, no default"
    )]
    pub fn new() -> Self {
        Self { routes: Vec::new() }
    }

    /// Adds a route for a topic.
    #[must_use]
    pub fn topic(self, topic: &str, route: Route<S>) -> Self {
        self.topics([topic], route)
    }

    /// Adds a route for several topics: one group, one member, the same handlers.
    ///
    /// ```
    /// use wharf::{Raw, Router, group};
    ///
    /// let archive = Router::new().topics(["shop.orders", "shop.stock"], group("archive").on(async |_: Raw| ()));
    /// let audit = Router::new().topic("shop.orders", group("audit").on(async |_: Raw| ()));
    /// let router: Router = archive.merge(audit);
    /// ```
    #[must_use]
    pub fn topics<'a>(
        mut self,
        topics: impl IntoIterator<Item = &'a str>,
        route: Route<S>,
    ) -> Self {
        let topics = topics.into_iter().map(str::to_owned).collect();
        self.routes.push((topics, route));
        self
    }

    /// Adds the routes of another router.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.routes.extend(other.routes);
        self
    }

    /// Gives the handlers their state; the router can then be served.
    pub fn with_state(self, state: S) -> Router<()> {
        let bind = |(topics, route): (Vec<String>, Route<S>)| (topics, route.with_state(&state));
        Router {
            routes: self.routes.into_iter().map(bind).collect(),
        }
    }
}

impl Router<()> {
    /// The same with every route changed.
    pub(crate) fn map_routes(self, change: impl Fn(Route) -> Route) -> Self {
        let routes = self.routes.into_iter();
        Self {
            routes: routes
                .map(|(topics, route)| (topics, change(route)))
                .collect(),
        }
    }

    /// The routes, checked.
    pub(crate) fn into_routes(self) -> Result<Vec<BoundRoute>, InvalidRoute> {
        let bind = |(topics, route): (Vec<String>, Route<()>)| route.bind(&topics);
        self.routes.into_iter().map(bind).collect()
    }
}

impl<S> fmt::Debug for Router<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topics: Vec<&Vec<String>> = self.routes.iter().map(|(topics, _)| topics).collect();
        formatter
            .debug_struct("Router")
            .field("topics", &topics)
            .finish()
    }
}

/// Why a route cannot be served.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
/// use wharf::{Bus, InvalidRoute, Raw, Router, ServeError, group};
///
/// let bus = Bus::connect("memory:", "shop").await?;
/// let twice = group("g").on(async |_: Raw| ()).on(async |_: Raw| ());
/// let error = bus.serve(Router::new().topic("t", twice)).await.unwrap_err();
/// assert!(matches!(error, ServeError::Route(InvalidRoute::Twice { .. })), "{error}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRoute {
    /// The name of a topic or of the group.
    #[error("{0}")]
    Name(#[from] InvalidName),
    /// It has no topic or no handler.
    #[error("the group {0} has no topic or no handler")]
    Empty(String),
    /// Two handlers take the same type.
    #[error("two handlers of the group {group} take {kind}; the second would never be called")]
    Twice {
        /// The group.
        group: String,
        /// What both take.
        kind: String,
    },
    /// Settings that cannot both be had.
    #[error("the group {group}: {why}")]
    Conflict {
        /// The group.
        group: String,
        /// Why not.
        why: &'static str,
    },
}

/// How many messages a route handles at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// So many at a time; those with the same key one after the other, in order. Messages without a
    /// key have no order.
    ByKey(NonZeroUsize),
    /// Those of each partition one after the other.
    ByPartition,
    /// So many at a time, in no order.
    Free(NonZeroUsize),
}

/// What becomes of a message of a type that no handler takes.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, wharf::Event)]
/// # #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
/// # struct OrderPlaced { order: String }
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
/// use wharf::testing::TestBus;
/// use wharf::{Message, Msg, Router, Unknown, group, header};
///
/// let route = group("g").on(async |_: Msg<OrderPlaced>| ()).unknown(Unknown::Skip);
/// let bus = TestBus::start(Router::new().topic("shop.orders", route)).await;
/// bus.publish_raw("shop.orders", Message::new("{}").with_header(header::CE_TYPE, "shop.order.paid")).await;
/// bus.settle().await;
/// assert_eq!(bus.bus().ends().skipped, 1);
/// assert!(bus.dead_letters().is_empty());
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// It is set aside.
    #[default]
    DeadLetter,
    /// It is passed over, and counted. Right where a topic carries many types on purpose.
    Skip,
}

type Wrap = Arc<dyn Fn(Attempts) -> Attempts + Send + Sync>;
type Bind<S> = Box<dyn FnOnce(S) -> HandlerService + Send>;

struct Entry<S> {
    takes: Takes,
    batch: bool,
    name: &'static str,
    #[cfg(feature = "schema")]
    contract: fn() -> Contracted,
    bind: Bind<S>,
}

/// What is the same before and after the state is known.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) retry: Retry,
    pub(crate) concurrency: Concurrency,
    pub(crate) unknown: Unknown,
    pub(crate) timeout: Duration,
    pub(crate) start: Start,
    pub(crate) in_flight_max: usize,
    pub(crate) batch_max: usize,
    pub(crate) atomic: bool,
    pub(crate) needs: Capabilities,
    pub(crate) gate: Option<Gate>,
    /// Whether a handler works in a transaction, and whether there is an inbox that begins one.
    pub(crate) in_transaction: bool,
    pub(crate) has_inbox: bool,
}

/// A group's handlers for some topics. Made by [`group`].
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, wharf::Event)]
/// # #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
/// # struct OrderPlaced { order: String }
/// # #[derive(Serialize, Deserialize, wharf::Event)]
/// # #[event(type = "shop.order.paid", topic = "shop.orders", key = "order")]
/// # struct OrderPaid { order: String }
/// use std::num::NonZeroUsize;
/// use std::time::Duration;
/// use wharf::{Capability, Concurrency, Msg, Retry, Route, Start, Unknown, group};
///
/// async fn placed(Msg(_): Msg<OrderPlaced>) {}
/// async fn paid(Msg(_): Msg<OrderPaid>) {}
///
/// let messages = |count| NonZeroUsize::new(count).expect("not zero");
/// let route: Route = group("accounts")
///     .on(placed)
///     .on(paid)
///     .unknown(Unknown::Skip)
///     .retry(Retry::default().delayed(Duration::from_secs(1), 5))
///     .concurrency(Concurrency::ByKey(messages(16)))
///     .timeout(Duration::from_secs(10))
///     .start(Start::Latest)
///     .in_flight_max(messages(200))
///     .batch_max(messages(50))
///     .atomic_outputs()
///     .require(Capability::Durable);
/// ```
pub struct Route<S = ()> {
    group: String,
    entries: Vec<Entry<S>>,
    wraps: Vec<Wrap>,
    settings: Settings,
}

/// A route for this group: its members share the work, and every group gets every message.
pub fn group<S>(name: &str) -> Route<S> {
    Route {
        group: name.to_owned(),
        entries: Vec::new(),
        wraps: Vec::new(),
        settings: Settings {
            retry: Retry::default(),
            concurrency: Concurrency::ByKey(const { NonZeroUsize::new(64).expect("not zero") }),
            unknown: Unknown::default(),
            timeout: Duration::from_secs(60),
            start: Start::Earliest,
            in_flight_max: 1_000,
            batch_max: 100,
            atomic: false,
            needs: Capabilities::NONE,
            gate: None,
            in_transaction: false,
            has_inbox: false,
        },
    }
}

impl<S: Clone + Send + Sync + 'static> Route<S> {
    /// Adds a handler: an async function whose last argument says which messages it takes.
    #[must_use]
    pub fn on<H: Handler<M, S>, M: 'static>(mut self, handler: H) -> Self {
        let needs = H::needs();
        let all = Capability::ALL.into_iter().filter(|one| needs.has(*one));
        self.settings.needs = all.fold(self.settings.needs, Capabilities::with);
        self.settings.in_transaction |= H::in_transaction();
        self.entries.push(Entry {
            takes: H::takes(),
            batch: H::batch(),
            name: std::any::type_name::<H>(),
            #[cfg(feature = "schema")]
            contract: H::contract,
            bind: Box::new(move |state| HandlerService::new(handler, state)),
        });
        self
    }

    /// Wraps all handlers of the route in a `tower` layer. The last one added is the outermost.
    /// [`Incoming`] has an example of one.
    #[must_use]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Attempts> + Send + Sync + 'static,
        L::Service: Service<Incoming, Response = Outcome> + Clone + Send + Sync + 'static,
        <L::Service as Service<Incoming>>::Error: Into<BoxError>,
        <L::Service as Service<Incoming>>::Future: Send + 'static,
    {
        let wrap = move |inner| Attempts::new(Settled(layer.layer(inner)));
        self.wraps.push(Arc::new(wrap));
        self
    }

    /// Gives each message its effects once, by a row in the database that the handlers write to. It
    /// should be the first layer, next to the handlers.
    #[cfg(feature = "sql")]
    #[must_use]
    pub fn inbox<D: wharf_outbox::Dialect>(mut self, inbox: crate::SqlInbox<D>) -> Self {
        self.settings.has_inbox = true;
        self.wraps.push(Arc::new(move |inner| inbox.wrap(inner)));
        self
    }

    /// Stops asking for messages while `open` is not ready, as while a circuit breaker is open:
    /// messages then wait at the broker instead of using up their attempts.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
    /// use wharf::testing::TestBus;
    /// use wharf::{Message, Raw, Router, group};
    ///
    /// let (open, opened) = tokio::sync::watch::channel(false);
    /// let route = group("g").on(async |_: Raw| ()).gate(move || {
    ///     let mut opened = opened.clone();
    ///     async move {
    ///         opened.wait_for(|open| *open).await.expect("the sender lives as long as the program");
    ///     }
    /// });
    /// let bus = TestBus::start(Router::new().topic("t", route)).await;
    /// bus.publish_raw("t", Message::new("x")).await;
    /// tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    /// assert_eq!(bus.bus().ends().accepted, 0);
    /// open.send_replace(true);
    /// bus.settle().await;
    /// assert_eq!(bus.bus().ends().accepted, 1);
    /// # });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn gate<F, Fut>(mut self, open: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.settings.gate = Some(Gate::new(open));
        self
    }

    /// How failed messages are tried again.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.settings.retry = retry;
        self
    }

    /// How many messages are handled at a time; 64 by key unless set.
    #[must_use]
    pub fn concurrency(mut self, concurrency: Concurrency) -> Self {
        self.settings.concurrency = concurrency;
        self
    }

    /// What becomes of messages of a type that no handler takes; a dead letter unless set.
    #[must_use]
    pub fn unknown(mut self, unknown: Unknown) -> Self {
        self.settings.unknown = unknown;
        self
    }

    /// How long an attempt may take; 60 s unless set. It is then dropped, and counts as failed.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// Where a group begins that is new to the topic; at the earliest message unless set.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.settings.start = start;
        self
    }

    /// How many messages may be here at a time, handled or waiting; 1,000 unless set.
    #[must_use]
    pub fn in_flight_max(mut self, messages: NonZeroUsize) -> Self {
        self.settings.in_flight_max = messages.get();
        self
    }

    /// How many messages a handler of [`Batch`](crate::Batch)es gets at most; 100 unless set.
    #[must_use]
    pub fn batch_max(mut self, messages: NonZeroUsize) -> Self {
        self.settings.batch_max = messages.get();
        self
    }

    /// Commits what a handler publishes together with its message: both happen or neither, whatever
    /// crashes. Needs the transport's `atomic-outputs`. It covers nothing but messages; where a
    /// handler writes to a database, use the inbox.
    #[must_use]
    pub fn atomic_outputs(mut self) -> Self {
        self.settings.atomic = true;
        self.require(Capability::AtomicOutputs)
    }

    /// Refuses to start on a transport without this capability.
    #[must_use]
    pub fn require(mut self, capability: Capability) -> Self {
        self.settings.needs = self.settings.needs.with(capability);
        self
    }

    fn with_state(self, state: &S) -> Route<()> {
        let bind = |entry: Entry<S>| {
            let service = (entry.bind)(state.clone());
            Entry {
                takes: entry.takes,
                batch: entry.batch,
                name: entry.name,
                #[cfg(feature = "schema")]
                contract: entry.contract,
                bind: Box::new(move |()| service) as Bind<()>,
            }
        };
        Route {
            group: self.group,
            entries: self.entries.into_iter().map(bind).collect(),
            wraps: self.wraps,
            settings: self.settings,
        }
    }
}

impl Route<()> {
    fn bind(mut self, topics: &[String]) -> Result<BoundRoute, InvalidRoute> {
        if topics.is_empty() || self.entries.is_empty() {
            return Err(InvalidRoute::Empty(self.group));
        }
        self.check()?;
        if self.settings.retry.meanwhile == Meanwhile::LetPass {
            self.settings.needs = self.settings.needs.with(Capability::DelayedRetry);
        }
        let wraps = self.wraps;
        let handlers = self.entries.into_iter().map(|entry| {
            let plain = (entry.bind)(());
            let service = match &wraps[..] {
                [] => Handling::Plain(plain),
                wraps => {
                    let inner = Attempts::new(plain);
                    Handling::Layered(wraps.iter().fold(inner, |inner, wrap| wrap(inner)))
                }
            };
            BoundHandler {
                takes: entry.takes,
                batch: entry.batch,
                name: entry.name,
                #[cfg(feature = "schema")]
                contract: entry.contract,
                service,
            }
        });
        Ok(BoundRoute {
            group: GroupName::new(&self.group)?,
            topics: topics
                .iter()
                .map(|topic| TopicName::new(topic))
                .collect::<Result<_, _>>()?,
            handlers: handlers.collect(),
            settings: self.settings,
        })
    }

    fn check(&self) -> Result<(), InvalidRoute> {
        for (at, entry) in self.entries.iter().enumerate() {
            let same = |other: &Entry<()>| other.takes == entry.takes;
            if self.entries[..at].iter().any(same) {
                let kind = entry.takes.shown().to_owned();
                return Err(InvalidRoute::Twice {
                    group: self.group.clone(),
                    kind,
                });
            }
        }
        let batch = self.entries.iter().any(|entry| entry.batch);
        if self.settings.in_transaction && !self.settings.has_inbox {
            let why = "a handler takes `Tx`, and no inbox begins the transaction: add `.inbox(SqlInbox::new(pool, \"consumer\"))`";
            return Err(InvalidRoute::Conflict {
                group: self.group.clone(),
                why,
            });
        }
        if batch && self.settings.atomic {
            let why = "outputs are committed with one message, not with a batch";
            return Err(InvalidRoute::Conflict {
                group: self.group.clone(),
                why,
            });
        }
        if batch && self.settings.retry.meanwhile == Meanwhile::LetPass {
            let why = "a handler of batches keeps the order; it cannot let messages pass";
            return Err(InvalidRoute::Conflict {
                group: self.group.clone(),
                why,
            });
        }
        Ok(())
    }
}

impl<S> fmt::Debug for Route<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handlers: Vec<&str> = self.entries.iter().map(|entry| entry.name).collect();
        let mut route = formatter.debug_struct("Route");
        route
            .field("group", &self.group)
            .field("handlers", &handlers)
            .finish_non_exhaustive()
    }
}

/// A route that can be served.
pub(crate) struct BoundRoute {
    pub(crate) group: GroupName,
    pub(crate) topics: Vec<TopicName>,
    pub(crate) handlers: Vec<BoundHandler>,
    pub(crate) settings: Settings,
}

pub(crate) struct BoundHandler {
    pub(crate) takes: Takes,
    pub(crate) batch: bool,
    pub(crate) name: &'static str,
    #[cfg(feature = "schema")]
    pub(crate) contract: fn() -> Contracted,
    pub(crate) service: Handling,
}

/// A handler without layers costs less.
pub(crate) enum Handling {
    Plain(HandlerService),
    Layered(Attempts),
}

impl BoundRoute {
    /// The handler for a message with this type (`ce_type`) among its headers.
    pub(crate) fn handler(&self, kind: Option<&[u8]>, headers: &Headers) -> Option<usize> {
        let takes = |wanted: Takes| {
            self.handlers
                .iter()
                .position(|handler| handler.takes == wanted)
        };
        let typed = |kind: &[u8]| {
            let same = |handler: &BoundHandler| matches!(handler.takes, Takes::Type(own) if own.as_bytes() == kind);
            self.handlers.iter().position(same)
        };
        let of_saga = || Takes::of_command(headers).and_then(takes);
        let typed = kind.and_then(typed).or_else(of_saga);
        typed.or_else(|| takes(Takes::Any))
    }
}
