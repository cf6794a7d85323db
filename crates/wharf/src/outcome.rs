//! What a handler's return value means: how its message is settled, and what is published.
//!
//! Nothing is published by a handler itself. It returns what is to be published, so the runtime can
//! send it after the effects are kept, with ids that a repeated run gives again.

use std::time::Duration;

use bytes::Bytes;
use wharf_message::dead_letter::Reason;
use wharf_message::transport::{Capabilities, Capability};
use wharf_message::{Message, Timestamp, TopicName};

use crate::Event;
use crate::envelope;
use crate::failure::{Failed, IntoFailed};

/// How an attempt ended.
#[derive(Debug)]
pub enum Outcome {
    /// It succeeded, with these messages to publish.
    Done(Effects),
    /// It failed.
    Failed(Failed),
}

/// Messages to publish.
///
/// ```
/// use wharf::{Effects, Message, Outgoing, Target, TopicName, When};
///
/// /// Everything that came in, once more, to a topic that is only known now.
/// async fn forward(wharf::Raw(message): wharf::Raw) -> Result<Effects, wharf::Error> {
///     let mut effects = Effects::default();
///     assert!(effects.is_empty());
///     effects.push(Outgoing {
///         to: Target::Topic(TopicName::new("shop.archive")?),
///         when: When::Now,
///         expires_after: None,
///         message: Message { headers: Default::default(), ..message },
///     });
///     assert_eq!(effects.len(), 1);
///     Ok(effects)
/// }
/// # wharf::group::<()>("g").on(forward);
/// ```
#[derive(Debug, Default)]
pub struct Effects {
    pub(crate) outgoing: Vec<Outgoing>,
    /// Complete already: what a committed transaction has recorded.
    pub(crate) ready: Vec<(TopicName, Message)>,
}

/// One message to publish, without what the runtime adds (ids, correlation, trace, times).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub to: Target,
    /// When.
    pub when: When,
    /// Not to be handled when it is older than this.
    pub expires_after: Option<Duration>,
    /// The message.
    pub message: Message,
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To a topic.
    Topic(TopicName),
    /// To whoever asked. Dropped where nobody did.
    Requester,
}

/// When a message is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once.
    Now,
    /// So long after it was published.
    After(Duration),
    /// Not before this time.
    At(Timestamp),
}

impl Effects {
    /// Adds a message.
    pub fn push(&mut self, outgoing: Outgoing) {
        self.outgoing.push(outgoing);
    }

    #[cfg(feature = "sql")]
    pub(crate) fn ready(ready: Vec<(TopicName, Message)>) -> Self {
        Self {
            outgoing: Vec::new(),
            ready,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.outgoing.len() + self.ready.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a handler may return when it succeeds.
///
/// ```
/// use wharf::{Effects, Failed, IntoEffects, Publish};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, wharf::Event)]
/// # #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
/// # struct OrderPlaced { order: String }
///
/// /// An order for each of these names.
/// struct Orders(Vec<String>);
///
/// impl IntoEffects for Orders {
///     fn add_to(self, effects: &mut Effects) -> Result<(), Failed> {
///         let orders = self.0.into_iter().map(|order| Publish(OrderPlaced { order }));
///         orders.collect::<Vec<_>>().add_to(effects)
///     }
/// }
///
/// async fn split(wharf::Raw(message): wharf::Raw) -> Orders {
///     let text = message.payload.unwrap_or_default();
///     Orders(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
/// }
/// # wharf::group::<()>("g").on(split);
/// ```
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    label = "is nothing that can be published",
    note = "return `()`, `Publish(event)`, `Reply(event)`, `Schedule::after(..)`, or a tuple, `Vec`, `Option` or `Result` of these"
)]
pub trait IntoEffects {
    /// What a route that returns this needs of the transport.
    fn needs() -> Capabilities {
        Capabilities::NONE
    }

    /// Whether it answers a request.
    fn replies() -> bool {
        false
    }

    /// Adds what is to be published.
    ///
    /// # Errors
    /// When a payload cannot be written.
    fn add_to(self, effects: &mut Effects) -> Result<(), Failed>;
}

/// What a handler may return.
///
/// ```
/// use wharf::{Error, IntoOutcome, Outcome, Publish};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, wharf::Event)]
/// # #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
/// # struct OrderPlaced { order: String }
///
/// let placed = || Publish(OrderPlaced { order: "o-1".to_owned() });
/// assert!(matches!(().into_outcome(), Outcome::Done(none) if none.is_empty()));
/// assert!(matches!((placed(), Some(placed())).into_outcome(), Outcome::Done(two) if two.len() == 2));
/// let failed: Result<(), Error> = Err(Error::retry("not yet"));
/// assert!(matches!(failed.into_outcome(), Outcome::Failed(_)));
/// ```
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    label = "says neither what to publish nor how it failed",
    note = "return `()`, `Publish(event)`, `Reply(event)`, `Schedule::after(..)`, a tuple, `Vec` or `Option` of these, or a `Result` whose error is a `Failure` or `wharf::Error`"
)]
pub trait IntoOutcome {
    /// What a route that returns this needs of the transport.
    fn needs() -> Capabilities;

    /// Whether it answers a request.
    fn replies() -> bool;

    /// The outcome.
    fn into_outcome(self) -> Outcome;
}

impl<T: IntoEffects> IntoOutcome for T {
    fn needs() -> Capabilities {
        <T as IntoEffects>::needs()
    }

    fn replies() -> bool {
        <T as IntoEffects>::replies()
    }

    fn into_outcome(self) -> Outcome {
        let mut effects = Effects::default();
        match self.add_to(&mut effects) {
            Ok(()) => Outcome::Done(effects),
            Err(failed) => Outcome::Failed(failed),
        }
    }
}

impl<T: IntoEffects, E: IntoFailed> IntoOutcome for Result<T, E> {
    fn needs() -> Capabilities {
        T::needs()
    }

    fn replies() -> bool {
        T::replies()
    }

    fn into_outcome(self) -> Outcome {
        match self {
            Ok(effects) => effects.into_outcome(),
            Err(error) => Outcome::Failed(error.into_failed()),
        }
    }
}

/// Publishes an event to its topic.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use wharf::{Event, Msg, Publish};
/// # #[derive(Serialize, Deserialize, Event)]
/// # #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
/// # struct OrderPlaced { order: String }
/// # #[derive(Serialize, Deserialize, Event)]
/// # #[event(type = "shop.order.accepted", topic = "shop.orders", key = "order")]
/// # struct OrderAccepted { order: String }
/// async fn accept(Msg(placed): Msg<OrderPlaced>) -> Publish<OrderAccepted> {
///     Publish(OrderAccepted { order: placed.order })
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<T>(pub T);

/// Answers the request that is handled. Where the message was no request, nothing is sent.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use wharf::{Event, Msg, Reply, Request};
/// # #[derive(Serialize, Deserialize, Event)]
/// # #[event(type = "shop.price.asked", topic = "shop.prices")]
/// # struct AskPrice { article: String }
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
/// # #[event(type = "shop.price", topic = "shop.prices")]
/// # struct Price { cents: u64 }
/// # impl Request for AskPrice { type Reply = Price; }
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
/// async fn price(Msg(ask): Msg<AskPrice>) -> Reply<Price> {
///     Reply(Price { cents: 100 * ask.article.len() as u64 })
/// }
/// # use wharf::{Router, group};
/// # let bus = wharf::testing::TestBus::start(Router::new().topic("shop.prices", group("prices").on(price))).await;
/// # assert_eq!(bus.bus().request(AskPrice { article: "tea".to_owned() }).await.unwrap(), Price { cents: 300 });
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<T>(pub T);

/// Publishes an event at a later time. Needs the transport's `schedule`.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, wharf::Event)]
/// # #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
/// # struct OrderPlaced { order: String }
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, wharf::Event)]
/// # #[event(type = "shop.payment.overdue", topic = "shop.overdue", key = "order")]
/// # struct Overdue { order: String }
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
/// use std::time::Duration;
/// use wharf::{Msg, Router, Schedule, Timestamp, group};
///
/// async fn remind(Msg(placed): Msg<OrderPlaced>) -> Schedule<Overdue> {
///     Schedule::after(Duration::from_secs(86_400), Overdue { order: placed.order })
/// }
/// # let bus = wharf::testing::TestBus::start(Router::new().topic("shop.orders", group("dunning").on(remind))).await;
/// # bus.publish(OrderPlaced { order: "o-1".to_owned() }).await;
/// # bus.advance(Duration::from_secs(86_399)).await;
/// # assert!(bus.published::<Overdue>().is_empty());
/// # bus.advance(Duration::from_secs(1)).await;
/// # assert_eq!(bus.published::<Overdue>().len(), 1);
///
/// let new_year = Timestamp::parse_rfc3339("2027-01-01T00:00:00Z").unwrap();
/// let later = Schedule::at(new_year, Overdue { order: "o-2".to_owned() });
/// # bus.emit(later).await;
/// # assert_eq!(bus.scheduled::<Overdue>()[0].0, new_year);
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule<T> {
    event: T,
    when: When,
}

impl<T> Schedule<T> {
    /// To be delivered so long from now, and not before.
    pub fn after(delay: Duration, event: T) -> Self {
        Self {
            event,
            when: When::After(delay),
        }
    }

    /// To be delivered at this time, and not before.
    pub fn at(time: Timestamp, event: T) -> Self {
        Self {
            event,
            when: When::At(time),
        }
    }
}

/// An event with what deviates from its defaults.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use std::time::Duration;
/// # use wharf::{Event, Msg, To};
/// # #[derive(Serialize, Deserialize, Event)]
/// # #[event(type = "shop.offer", topic = "shop.offers")]
/// # struct Offer { article: String }
/// async fn forward(Msg(offer): Msg<Offer>) -> To<Offer> {
///     To::topic("shop.offers.today", offer).expires_after(Duration::from_secs(3600))
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct To<T> {
    topic: String,
    expires_after: Option<Duration>,
    headers: Vec<(String, Bytes)>,
    event: T,
}

impl<T: Event> To<T> {
    /// To its own topic.
    pub fn its_topic(event: T) -> Self {
        Self::topic(T::TOPIC, event)
    }

    /// To this topic.
    pub fn topic(topic: impl Into<String>, event: T) -> Self {
        Self {
            topic: topic.into(),
            expires_after: None,
            headers: Vec::new(),
            event,
        }
    }

    /// It is dropped, and counted, when nobody has handled it by then.
    #[must_use]
    pub fn expires_after(self, time: Duration) -> Self {
        Self {
            expires_after: Some(time),
            ..self
        }
    }

    /// With one more header. Those of the envelope cannot be set this way.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// The event as a message without ids.
pub(crate) fn write<T: Event>(event: &T) -> Result<Message, Failed> {
    envelope::message_of(event).map_err(|error| {
        Failed::for_ever(
            Reason::Rejected,
            format!("{} cannot be written: {error}", T::TYPE),
        )
    })
}

pub(crate) fn topic_of(name: &str) -> Result<TopicName, Failed> {
    TopicName::new(name).map_err(|error| Failed::for_ever(Reason::Rejected, error))
}

fn now(to: Target, message: Message) -> Outgoing {
    Outgoing {
        to,
        when: When::Now,
        expires_after: None,
        message,
    }
}

impl IntoEffects for () {
    fn add_to(self, _: &mut Effects) -> Result<(), Failed> {
        Ok(())
    }
}

impl<T: Event> IntoEffects for Publish<T> {
    fn add_to(self, effects: &mut Effects) -> Result<(), Failed> {
        effects.push(now(Target::Topic(topic_of(T::TOPIC)?), write(&self.0)?));
        Ok(())
    }
}

impl<T: Event> IntoEffects for Reply<T> {
    fn replies() -> bool {
        true
    }

    fn add_to(self, effects: &mut Effects) -> Result<(), Failed> {
        effects.push(now(Target::Requester, write(&self.0)?));
        Ok(())
    }
}

impl<T: Event> IntoEffects for Schedule<T> {
    fn needs() -> Capabilities {
        Capabilities::NONE.with(Capability::Schedule)
    }

    fn add_to(self, effects: &mut Effects) -> Result<(), Failed> {
        effects.push(Outgoing {
            when: self.when,
            ..now(Target::Topic(topic_of(T::TOPIC)?), write(&self.event)?)
        });
        Ok(())
    }
}

impl<T: Event> IntoEffects for To<T> {
    fn add_to(self, effects: &mut Effects) -> Result<(), Failed> {
        let mut message = write(&self.event)?;
        for (name, value) in self.headers {
            if !envelope::is_ours(&name) {
                message.headers.push(name, value);
            }
        }
        effects.push(Outgoing {
            expires_after: self.expires_after,
            ..now(Target::Topic(topic_of(&self.topic)?), message)
        });
        Ok(())
    }
}

impl IntoEffects for Effects {
    fn add_to(self, effects: &mut Effects) -> Result<(), Failed> {
        effects.outgoing.extend(self.outgoing);
        effects.ready.extend(self.ready);
        Ok(())
    }
}

impl<T: IntoEffects> IntoEffects for Option<T> {
    fn needs() -> Capabilities {
        T::needs()
    }

    fn replies() -> bool {
        T::replies()
    }

    fn add_to(self, effects: &mut Effects) -> Result<(), Failed> {
        self.map_or(Ok(()), |some| some.add_to(effects))
    }
}

impl<T: IntoEffects> IntoEffects for Vec<T> {
    fn needs() -> Capabilities {
        T::needs()
    }

    fn replies() -> bool {
        T::replies()
    }

    fn add_to(self, effects: &mut Effects) -> Result<(), Failed> {
        self.into_iter().try_for_each(|one| one.add_to(effects))
    }
}

macro_rules! tuples {
    ($(($($name:ident),+))+) => {$(
        impl<$($name: IntoEffects),+> IntoEffects for ($($name,)+) {
            fn needs() -> Capabilities {
                let all = [$($name::needs()),+];
                Capability::ALL.into_iter().filter(|one| all.iter().any(|set| set.has(*one))).collect()
            }

            fn replies() -> bool {
                $($name::replies())||+
            }

            fn add_to(self, effects: &mut Effects) -> Result<(), Failed> {
                #[expect(non_snake_case, reason = "the names of the types serve as names")]
                let ($($name,)+) = self;
                $($name.add_to(effects)?;)+
                Ok(())
            }
        }
    )+};
}

tuples! { (A) (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, F) (A, B, C, D, F, G) }
