//! A service on a broker in memory, under a virtual clock.
//!
//! Whether everything has been handled is known by counting what is in flight, never by waiting for
//! silence: a test is as quick as its handlers, and never too quick. The clock is tokio's paused one,
//! so that a retry after half a minute is there at once.

use std::collections::BTreeMap;
use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wharf_message::dead_letter::Reason;
use wharf_message::transport::Capabilities;
use wharf_message::transport::Publish as _;
use wharf_message::transport::Transport;
use wharf_message::transport::faults::{Faults, Faulty};
use wharf_message::transport::memory::MemoryTransport;
use wharf_message::{Message, Timestamp, TopicName, header};

use crate::bus::Bus;
use crate::clock::Clock;
use crate::event::Event;
use crate::outcome::IntoEffects;
use crate::router::Router;
use crate::serve::ServeError;

/// When tests begin: 2026-01-01T00:00:00Z.
const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);
/// A message that is handled for longer than this will never end.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A service under test.
///
/// Needs tokio's paused clock: `#[tokio::test(start_paused = true)]`. Handlers that wait for something
/// real (a database) need a running one; delays then take their time.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use wharf::testing::TestBus;
/// use wharf::{Event, Msg, Publish, Router, group};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
/// #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
/// struct OrderPlaced { order: String }
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
/// #[event(type = "shop.order.accepted", topic = "shop.accepted", key = "order")]
/// struct OrderAccepted { order: String }
///
/// async fn accept(Msg(placed): Msg<OrderPlaced>) -> Publish<OrderAccepted> {
///     Publish(OrderAccepted { order: placed.order })
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
/// let router = Router::new().topic("shop.orders", group("accounts").on(accept));
/// let bus = TestBus::start(router).await;
/// bus.publish(OrderPlaced { order: "o-1".to_owned() }).await;
/// bus.settle().await;
/// assert_eq!(bus.published::<OrderAccepted>(), [OrderAccepted { order: "o-1".to_owned() }]);
/// assert!(bus.dead_letters().is_empty());
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct TestBus {
    memory: Arc<MemoryTransport>,
    bus: Bus,
    /// Publishes without faults: the test itself is no part of what is tried.
    outside: Bus,
    clock: Clock,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<Result<(), ServeError>>>,
}

/// What a [`TestBus`] is made of. From [`TestBus::builder`].
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
/// use wharf::testing::{Faults, TestBus};
/// use wharf::{Capabilities, Capability, Message, Raw, Router, group};
///
/// let bus = TestBus::builder()
///     .service("accounts")
///     .capabilities(Capabilities::all().without(Capability::Schedule))
///     .faults(Faults::none().duplicate_every(1))
///     .telemetry()
///     .message("t", Message::new("before"))
///     .start(Router::new().topic("t", group("g").on(async |_: Raw| ())))
///     .await;
/// bus.publish_raw("t", Message::new("x")).await;
/// bus.settle().await;
/// assert_eq!(bus.bus().ends().accepted, 4);
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct TestBusBuilder {
    faults: Faults,
    capabilities: Capabilities,
    service: String,
    telemetry: bool,
    before: Vec<(String, Message)>,
}

impl TestBusBuilder {
    /// Every `n`-th message that is accepted comes once more.
    #[must_use]
    pub fn duplicate_every(mut self, n: u32) -> Self {
        self.faults = self.faults.duplicate_every(n);
        self
    }

    /// Messages of different keys overtake each other.
    #[must_use]
    pub fn reorder(mut self, seed: u64) -> Self {
        self.faults = self.faults.reorder(seed);
        self
    }

    /// The service crashes once, right after it got its `n`-th message, and begins again.
    #[must_use]
    pub fn crash_after(mut self, n: u32) -> Self {
        self.faults = self.faults.crash_after(n);
        self
    }

    /// These faults, in place of all set before.
    #[must_use]
    pub fn faults(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }

    /// A transport that can only do this.
    #[must_use]
    pub fn capabilities(self, capabilities: Capabilities) -> Self {
        Self {
            capabilities,
            ..self
        }
    }

    /// The service's name; `test` unless set.
    #[must_use]
    pub fn service(self, name: &str) -> Self {
        Self {
            service: name.to_owned(),
            ..self
        }
    }

    /// With OpenTelemetry, as [`Bus::with_telemetry`].
    #[must_use]
    pub fn telemetry(self) -> Self {
        Self {
            telemetry: true,
            ..self
        }
    }

    /// A message that is in its topic before the service begins, after those set before.
    #[must_use]
    pub fn message(mut self, topic: &str, message: Message) -> Self {
        self.before.push((topic.to_owned(), message));
        self
    }

    /// Starts the service; when it returns, every route is subscribed.
    ///
    /// # Panics
    /// When the router cannot be served or a message not be published: it says why.
    pub async fn start(self, router: Router) -> TestBus {
        let memory = MemoryTransport::new(START).with_capabilities(self.capabilities);
        let memory = Arc::new(memory);
        let clock = Clock::starting_at(START);
        let faulty: Arc<dyn Transport> = Arc::new(Faulty::new(memory.clone(), self.faults));
        let mut bus = TestBus {
            outside: Bus::with_clock(memory.clone(), "outside", clock),
            bus: Bus::with_clock(faulty, &self.service, clock),
            memory,
            clock,
            stop: None,
            serving: None,
        };
        if self.telemetry {
            bus.bus = bus.bus.with_telemetry();
        }
        for (topic, message) in self.before {
            bus.publish_raw(&topic, message).await;
        }
        bus.serve(router).await;
        bus
    }
}

impl TestBus {
    /// A bus without faults.
    ///
    /// # Panics
    /// As [`TestBusBuilder::start`].
    pub async fn start(router: Router) -> Self {
        Self::builder().start(router).await
    }

    /// A bus with faults.
    ///
    /// ```
    /// # use wharf::testing::TestBus;
    /// # use wharf::{Raw, Router, group};
    /// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
    /// # let router = Router::new().topic("t", group("g").on(async |_: Raw| ()));
    /// let bus = TestBus::builder().duplicate_every(2).reorder(42).crash_after(5).start(router).await;
    /// # bus.settle().await;
    /// # });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn builder() -> TestBusBuilder {
        TestBusBuilder {
            faults: Faults::none(),
            capabilities: Capabilities::all(),
            service: "test".to_owned(),
            telemetry: false,
            before: Vec::new(),
        }
    }

    async fn serve(&mut self, router: Router) {
        let (stop, stopped) = oneshot::channel();
        let (ready, subscribed) = oneshot::channel();
        let signal = async {
            let _a_drop_is_a_signal_too = stopped.await;
        };
        let serve = self.bus.serve(router);
        let serve = serve.with_graceful_shutdown(signal).tell_when_ready(ready);
        let serving = tokio::spawn(serve.into_future());
        if subscribed.await.is_err() {
            match serving.await {
                Ok(Err(error)) => panic!("the router cannot be served: {error}"),
                other => panic!("the service ended before it began: {other:?}"),
            }
        }
        self.stop = Some(stop);
        self.serving = Some(serving);
    }

    /// The bus of the service: for requests, and for what publishes outside of handlers.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The broker, for what this kit has no method for.
    pub fn transport(&self) -> &MemoryTransport {
        &self.memory
    }

    /// The virtual time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Publishes events as another service would: one, or [`Schedule`](crate::Schedule)d ones, or
    /// several; whatever a handler may return.
    ///
    /// # Panics
    /// When it cannot be published.
    pub async fn publish<E: Event>(&self, event: E) {
        self.emit(crate::Publish(event)).await;
    }

    /// Publishes whatever a handler may return, as another service would.
    ///
    /// # Panics
    /// When it cannot be published.
    pub async fn emit(&self, what: impl IntoEffects) {
        let emitted = self.outside.emit(what).await;
        emitted.expect("a test publishes what can be published");
    }

    /// Publishes a message exactly as it is.
    ///
    /// # Panics
    /// When the name is no topic's, or the message cannot be published.
    pub async fn publish_raw(&self, topic: &str, message: Message) {
        let topic = TopicName::new(topic).expect("a test names its topics rightly");
        let published = self.memory.publish(&topic, message).await;
        published.expect("a test publishes what can be published");
    }

    /// Lets everything be handled that can be, retries included, and then returns. What is scheduled
    /// for later stays where it is: [`TestBus::advance`] lets time pass.
    ///
    /// # Panics
    /// When a handler never ends, or the service failed.
    pub async fn settle(&self) {
        self.memory.advance_to(self.clock.now());
        loop {
            let idle = tokio::time::timeout(PATIENCE, self.memory.idle()).await;
            assert!(
                idle.is_ok(),
                "{} messages are never settled",
                self.memory.in_flight()
            );
            // A retry that waits at the broker is in flight too; what is scheduled is not.
            match self.next_retry() {
                Some(due) => {
                    tokio::time::sleep(due.since(self.clock.now())).await;
                    self.memory.advance_to(due.max(self.clock.now()));
                }
                None => break,
            }
        }
        let ended = self.serving.as_ref().is_some_and(JoinHandle::is_finished);
        assert!(!ended, "the service has ended; stop() tells why");
    }

    /// When the next retry at the broker is due, if it comes before everything scheduled.
    fn next_retry(&self) -> Option<Timestamp> {
        let due = self.memory.next_due()?;
        let scheduled = self.memory.scheduled().first().map(|(time, ..)| *time);
        scheduled
            .is_none_or(|scheduled| due < scheduled)
            .then_some(due)
    }

    /// Lets time pass, and everything happen that is due meanwhile, in its order.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Debug, PartialEq, Serialize, Deserialize, wharf::Event)]
    /// # #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
    /// # struct OrderPlaced { order: String }
    /// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
    /// use std::time::Duration;
    /// use wharf::testing::TestBus;
    /// use wharf::{Raw, Router, Schedule, group};
    ///
    /// let bus = TestBus::start(Router::new().topic("shop.orders", group("g").on(async |_: Raw| ()))).await;
    /// let hour = Duration::from_secs(3600);
    /// bus.emit(Schedule::after(hour, OrderPlaced { order: "o-1".to_owned() })).await;
    /// let due = bus.now().after(hour);
    /// assert_eq!(bus.scheduled::<OrderPlaced>(), [(due, OrderPlaced { order: "o-1".to_owned() })]);
    /// bus.advance(hour).await;
    /// assert!(bus.scheduled::<OrderPlaced>().is_empty());
    /// assert_eq!(bus.messages("shop.orders").len(), 1);
    /// # });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    /// As [`TestBus::settle`].
    pub async fn advance(&self, time: Duration) {
        let end = self.clock.now().after(time);
        loop {
            self.settle().await;
            let next = self.memory.next_due().filter(|due| *due <= end);
            let until = next.unwrap_or(end);
            tokio::time::sleep(until.since(self.clock.now())).await;
            self.memory.advance_to(until);
            if next.is_none() {
                break;
            }
        }
        self.settle().await;
    }

    /// Every message of a topic, in order.
    pub fn messages(&self, topic: &str) -> Vec<Message> {
        self.memory.messages(topic)
    }

    /// The events of this type that the service has published to its own topic, in order.
    ///
    /// # Panics
    /// When one cannot be read.
    pub fn published<E: Event>(&self) -> Vec<E> {
        self.published_to(E::TOPIC)
    }

    /// The events of this type that the service has published to a topic, in order.
    ///
    /// # Panics
    /// When one cannot be read.
    pub fn published_to<E: Event>(&self, topic: &str) -> Vec<E> {
        let messages = self.memory.messages(topic);
        let own = messages
            .iter()
            .filter(|message| self.is_own(message) && is_a::<E>(message));
        own.map(read).collect()
    }

    /// The events of this type that wait for their time, with it.
    ///
    /// # Panics
    /// When one cannot be read.
    pub fn scheduled<E: Event>(&self) -> Vec<(Timestamp, E)> {
        let waiting = self.memory.scheduled();
        let own = waiting.iter().filter(|(_, _, message)| is_a::<E>(message));
        own.map(|(time, _, message)| (*time, read(message)))
            .collect()
    }

    /// What was set aside, in the order of the topics' names.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        let topics = self.memory.topics();
        let topics = topics
            .iter()
            .filter(|topic| topic.as_str().starts_with("dlq."));
        topics
            .flat_map(|topic| self.memory.messages(topic.as_str()))
            .map(DeadLetter::of)
            .collect()
    }

    /// How often each event id was published to a topic: more than once means that a repeat was
    /// handled again and published the same again.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Debug, PartialEq, Serialize, Deserialize, wharf::Event)]
    /// # #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
    /// # struct OrderPlaced { order: String }
    /// # #[derive(Serialize, Deserialize, wharf::Event)]
    /// # #[event(type = "shop.order.accepted", topic = "shop.accepted", key = "order")]
    /// # struct OrderAccepted { order: String }
    /// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
    /// use wharf::testing::TestBus;
    /// use wharf::{Msg, Publish, Router, group};
    ///
    /// let accept = async |Msg(placed): Msg<OrderPlaced>| Publish(OrderAccepted { order: placed.order });
    /// let router = Router::new().topic("shop.orders", group("accounts").on(accept));
    /// let bus = TestBus::builder().duplicate_every(1).start(router).await;
    /// bus.publish(OrderPlaced { order: "o-1".to_owned() }).await;
    /// bus.settle().await;
    /// let ids = bus.ids("shop.accepted");
    /// assert_eq!((ids.len(), ids.values().sum::<usize>()), (1, 2));
    /// assert_eq!(bus.published_to::<OrderAccepted>("shop.accepted").len(), 2);
    /// # });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn ids(&self, topic: &str) -> BTreeMap<String, usize> {
        let mut ids = BTreeMap::new();
        for message in self.memory.messages(topic) {
            let id = message
                .headers
                .text(header::CE_ID)
                .ok()
                .flatten()
                .unwrap_or_default();
            *ids.entry(id.to_owned()).or_default() += 1;
        }
        ids
    }

    fn is_own(&self, message: &Message) -> bool {
        message.headers.text(header::CE_SOURCE) == Ok(Some(self.bus.service()))
    }

    /// Stops the service in order.
    ///
    /// # Errors
    /// Why it had ended before, if it had.
    ///
    /// # Panics
    /// When it panicked.
    pub async fn stop(mut self) -> Result<(), ServeError> {
        drop(self.stop.take());
        match self.serving.take() {
            Some(serving) => serving.await.expect("the service does not panic"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for TestBus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TestBus")
            .field("bus", &self.bus)
            .finish_non_exhaustive()
    }
}

/// A message that was set aside.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, wharf::Event)]
/// # #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
/// # struct OrderPlaced { order: String }
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
/// use wharf::testing::TestBus;
/// use wharf::{Message, Msg, Reason, Router, group, header};
///
/// let bus = TestBus::start(Router::new().topic("shop.orders", group("g").on(async |_: Msg<OrderPlaced>| ()))).await;
/// bus.publish_raw("shop.orders", Message::new("{").with_header(header::CE_TYPE, "shop.order.placed")).await;
/// bus.settle().await;
/// let letter = &bus.dead_letters()[0];
/// assert_eq!((letter.reason, letter.attempts), (Some(Reason::Undecodable), 1));
/// assert_eq!((letter.topic.as_str(), letter.message.payload.as_deref()), ("shop.orders", Some(&b"{"[..])));
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The class of its failure.
    pub reason: Option<Reason>,
    /// The error and its causes, one per line.
    pub error: String,
    /// How many attempts were made.
    pub attempts: u32,
    /// The topic it came from.
    pub topic: String,
    /// All of it.
    pub message: Message,
}

impl DeadLetter {
    fn of(message: Message) -> Self {
        let text = |name| {
            message
                .headers
                .text(name)
                .ok()
                .flatten()
                .unwrap_or_default()
                .to_owned()
        };
        Self {
            reason: Reason::from_name(&text(header::DLQ_REASON)),
            error: text(header::DLQ_ERROR),
            attempts: text(header::DLQ_ATTEMPTS).parse().unwrap_or_default(),
            topic: text(header::DLQ_TOPIC),
            message,
        }
    }
}

fn is_a<E: Event>(message: &Message) -> bool {
    message.headers.text(header::CE_TYPE) == Ok(Some(E::TYPE))
}

fn read<E: Event>(message: &Message) -> E {
    let payload = message.payload.as_deref().unwrap_or_default();
    serde_json::from_slice(payload).expect("an event that was published can be read")
}
