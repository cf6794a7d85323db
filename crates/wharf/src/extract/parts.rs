//! Extractors of what stands beside the payload.

use std::ops::Deref;
use std::time::Duration;

use bytes::Bytes;
use wharf_message::dead_letter::Reason;
use wharf_message::{Headers, Timestamp};

use super::{FromParts, Nothing};
use crate::clock::Clock;
use crate::envelope::Meta;
use crate::failure::Failed;
use crate::incoming::Incoming;

/// What the router was given by `with_state`, or a part of it (see [`FromRef`]).
///
/// ```
/// # use wharf::{Raw, State};
/// #[derive(Clone)]
/// struct Shop {
///     name: &'static str,
/// }
///
/// async fn greet(State(shop): State<Shop>, Raw(_): Raw) {
///     println!("hello from {}", shop.name);
/// }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct State<T>(pub T);

/// A part of the state that handlers may ask for by itself.
///
/// ```
/// use wharf::{FromRef, Raw, State, group};
///
/// #[derive(Clone)]
/// struct Shop { prices: Prices }
///
/// #[derive(Clone)]
/// struct Prices;
///
/// impl FromRef<Shop> for Prices {
///     fn from_ref(shop: &Shop) -> Self {
///         shop.prices.clone()
///     }
/// }
///
/// async fn handle(State(_prices): State<Prices>, Raw(_): Raw) {}
/// # let _: wharf::Route<Shop> = group("g").on(handle);
/// ```
pub trait FromRef<S> {
    /// The part.
    fn from_ref(state: &S) -> Self;
}

impl<S: Clone> FromRef<S> for S {
    fn from_ref(state: &S) -> Self {
        state.clone()
    }
}

impl<S, T: FromRef<S> + Send> FromParts<S> for State<T> {
    type Holds = Nothing;

    fn from_parts(_: &mut Incoming, state: &S) -> Result<Self, Failed> {
        Ok(Self(T::from_ref(state)))
    }
}

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<S> FromParts<S> for Meta {
    type Holds = Nothing;

    fn from_parts(incoming: &mut Incoming, _: &S) -> Result<Self, Failed> {
        let meta = Self::read(&incoming.first().message.headers);
        meta.map_err(|error| Failed::for_ever(Reason::Undecodable, error))
    }
}

impl<S> FromParts<S> for Headers {
    type Holds = Nothing;

    fn from_parts(incoming: &mut Incoming, _: &S) -> Result<Self, Failed> {
        Ok(incoming.first().message.headers.clone())
    }
}

/// The message's key, if it has one.
///
/// ```
/// use wharf::{Key, Raw};
///
/// async fn handle(Key(key): Key, Raw(_): Raw) {
///     println!("{} bytes", key.map_or(0, |key| key.len()));
/// }
/// # wharf::group::<()>("g").on(handle);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(pub Option<Bytes>);

impl<S> FromParts<S> for Key {
    type Holds = Nothing;

    fn from_parts(incoming: &mut Incoming, _: &S) -> Result<Self, Failed> {
        Ok(Self(incoming.first().message.key.clone()))
    }
}

/// Which attempt this is, from 1.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
/// use wharf::testing::TestBus;
/// use wharf::{Attempt, Correlation, Deadline, Key, Message, Raw, Router, group, header};
///
/// async fn handle(
///     Attempt(attempt): Attempt,
///     Key(key): Key,
///     Correlation(correlation): Correlation,
///     deadline: Deadline,
///     Raw(_): Raw,
/// ) -> Result<(), wharf::Error> {
///     assert_eq!((key.as_deref(), correlation.as_str()), (Some(&b"o-1"[..]), "c-1"));
///     assert!(deadline.left().is_none(), "nobody waits for a reply");
///     if attempt < 2 { Err(wharf::Error::retry("not yet")) } else { Ok(()) }
/// }
///
/// let bus = TestBus::start(Router::new().topic("t", group("g").on(handle))).await;
/// let message = Message::new("x").with_key("o-1").with_header(header::CE_CORRELATIONID, "c-1");
/// bus.publish_raw("t", message).await;
/// bus.settle().await;
/// assert_eq!(bus.bus().ends().accepted, 1);
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(pub u32);

impl<S> FromParts<S> for Attempt {
    type Holds = Nothing;

    fn from_parts(incoming: &mut Incoming, _: &S) -> Result<Self, Failed> {
        Ok(Self(incoming.first().attempt))
    }
}

/// What belongs to one business transaction shares it: the message's own id where it began one.
///
/// ```
/// use wharf::{Correlation, Raw};
///
/// async fn handle(Correlation(id): Correlation, Raw(_): Raw) {
///     println!("this belongs to {id}");
/// }
/// # wharf::group::<()>("g").on(handle);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correlation(pub String);

impl<S> FromParts<S> for Correlation {
    type Holds = Nothing;

    fn from_parts(incoming: &mut Incoming, _: &S) -> Result<Self, Failed> {
        let group = incoming.context().group.clone();
        let first = incoming.first();
        let cause = crate::envelope::Cause::of(
            &first.message.headers,
            &first.topic,
            first.position,
            group.as_str(),
        );
        Ok(Self(cause.correlation))
    }
}

/// When the requester of a request stops waiting; without a request, or without its deadline, never.
///
/// ```
/// use std::time::Duration;
/// use wharf::{Deadline, Raw};
///
/// async fn answer(deadline: Deadline, Raw(_): Raw) -> Result<(), wharf::Error> {
///     let enough = deadline.left().is_none_or(|left| left > Duration::from_millis(100));
///     if enough { Ok(()) } else { Err(wharf::Error::skip(format!("too late for {:?}", deadline.at()))) }
/// }
/// # wharf::group::<()>("g").on(answer);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Option<Timestamp>,
    clock: Clock,
}

impl Deadline {
    /// The time; `None` when there is no deadline.
    pub fn at(self) -> Option<Timestamp> {
        self.at
    }

    /// How long is left; `None` when there is no deadline.
    pub fn left(self) -> Option<Duration> {
        self.at.map(|deadline| deadline.since(self.clock.now()))
    }
}

impl<S> FromParts<S> for Deadline {
    type Holds = Nothing;

    fn from_parts(incoming: &mut Incoming, _: &S) -> Result<Self, Failed> {
        let text = incoming
            .first()
            .message
            .headers
            .text(wharf_message::header::DEADLINE);
        let text = text.map_err(|error| Failed::for_ever(Reason::Undecodable, error))?;
        Ok(Self {
            at: text.and_then(Timestamp::parse_rfc3339),
            clock: incoming.context().clock,
        })
    }
}
