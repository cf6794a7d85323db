//! The seams `Publish` and `Subscribe`: messages out, deliveries in.
//!
//! The library stands on these two and on nothing else, so a service moves from the embedded broker
//! to Kafka, RabbitMQ or NATS by another address. What a transport cannot do it does not pretend:
//! it says so in its [`Capabilities`], and a route that needs more is refused at start-up, by name.
//!
//! [`memory::MemoryTransport`] is the reference; `conformance` (feature of the same name) is the
//! suite that every implementation runs, and what it finds is `docs/transports.md`.

mod capability;
#[cfg(feature = "conformance")]
pub mod conformance;
mod delivery;
mod error;
pub mod faults;
mod history;
pub mod memory;

pub use capability::{Capabilities, Capability};
pub use delivery::{Delivery, Position, Settle, Settlement, Token};
pub use error::Error;
pub use history::{Extent, TopicHistory};

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::{GroupName, Message, Timestamp, TopicName, header};

/// Messages out.
///
/// # Contract
/// - A publish that returned `Ok` is as durable as the transport's capability says
///   ([`Capability::Durable`]): on disk, or confirmed by the broker.
/// - Keys, payloads and headers arrive as they were given; what a transport cannot carry (see
///   [`Capability::BinaryHeaders`] and its neighbours) is refused with [`Error::Unsupported`],
///   never changed or dropped.
/// - A message with `wharf-deliver-at` in the future is delivered at that time or shortly after
///   it, never before ([`Capability::Schedule`]; without it, [`Error::Unsupported`]).
///
/// # Ordering
/// - Messages with the same key, published to one topic by calls in order (not awaited in between),
///   keep this order unless one of them fails.
///
/// # Cancellation
/// - The message is handed over when `publish` is called, not when its future is first polled.
///   Dropping the future does not take it back.
///
/// # Failure
/// - [`Error::Unavailable`] means that it is unknown whether the message arrived: publishing it again
///   (with the same id) may double it, and receivers suppress the repeat.
/// - Every other error means that it did not arrive.
pub trait Publish: Send + Sync {
    /// What the transport can do.
    fn capabilities(&self) -> Capabilities;

    /// Makes sure that a topic exists. One that exists already is left as it is, also when it has
    /// another number of partitions; transports without partitions ignore `partitions`.
    fn create_topic(&self, topic: &TopicName, partitions: u32) -> BoxFuture<'_, Result<(), Error>>;

    /// Publishes one message.
    fn publish(
        &self,
        topic: &TopicName,
        message: Message,
    ) -> BoxFuture<'_, Result<Option<Position>, Error>>;
}

/// Deliveries in.
///
/// # Contract
/// - Each message published to a subscribed topic is delivered at least once to each group, to one
///   of its members at a time, until it is settled ([`Delivery::accept`], [`Delivery::retry`],
///   [`Delivery::reject`]).
/// - What was delivered and not settled when its consumer ends, however it ends, is delivered
///   again, to it after a restart or to another member.
/// - [`Audience::Everyone`] is for replies and notices: every such subscription gets every message
///   published after `subscribe` returned; nothing is kept for it when it is gone.
/// - A subscription creates topics that are missing, with the transport's default form.
pub trait Subscribe: Send + Sync {
    /// Begins to receive. When it returns, messages published from now on will reach the audience,
    /// even if no delivery is asked for yet.
    fn subscribe(
        &self,
        subscription: Subscription,
    ) -> BoxFuture<'_, Result<Box<dyn Deliveries>, Error>>;
}

/// The deliveries of one subscription.
///
/// Not asking for more pauses it: the transport keeps its membership alive by itself.
pub trait Deliveries: Send {
    /// The next deliveries, at least one and at most `max`; waits for the first. No more than
    /// [`Subscription::in_flight_max`] are unsettled at any time: at the limit it waits for a
    /// settlement. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while the connection is lost: calling again goes on as soon as it is
    /// back. [`Error::Closed`] once the transport is closed.
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Error>>;

    /// Ends the subscription after everything settled so far has reached the broker. What is
    /// unsettled goes back. Dropping it without closing is a crash: recent settlements may be lost
    /// and their messages be delivered again.
    fn close(self: Box<Self>) -> BoxFuture<'static, Result<(), Error>>;
}

/// Both directions, as a service holds it.
pub trait Transport: Publish + Subscribe {
    /// The scheme of its addresses, which is its name in tables and messages: `kafka`.
    fn name(&self) -> &'static str;

    /// Ends its connections after what was handed over has been sent.
    fn shutdown(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// What is kept of its topics, to be read without consuming it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] by a transport whose topics can only be consumed, which is what a transport
    /// says that does not say otherwise.
    fn history(&self) -> Result<Arc<dyn TopicHistory>, Error> {
        Err(Error::Unsupported {
            transport: self.name(),
            capability: Capability::History,
            hint: ": what is in its topics cannot be read without consuming it".to_owned(),
        })
    }
}

/// What to receive.
///
/// ```
/// use wharf_message::transport::{Audience, Start, Subscription};
/// use wharf_message::{GroupName, TopicName};
///
/// let orders = vec![TopicName::new("orders")?];
/// let group = Subscription::group(GroupName::new("billing")?, orders.clone());
/// assert_eq!((group.start, group.in_flight_max), (Start::Earliest, 1_000));
/// let notices = Subscription { audience: Audience::Everyone, start: Start::Latest, ..group };
/// assert_eq!(notices.audience.to_string(), "everyone");
/// # Ok::<(), wharf_message::InvalidName>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The topics.
    pub topics: Vec<TopicName>,
    /// For whom.
    pub audience: Audience,
    /// Where a group that is new to a topic begins.
    pub start: Start,
    /// How many deliveries may be unsettled at a time, at least 1.
    pub in_flight_max: usize,
}

impl Subscription {
    /// A group's subscription from the earliest message kept, with at most 1,000 in flight.
    pub fn group(group: GroupName, topics: Vec<TopicName>) -> Self {
        Self {
            topics,
            audience: Audience::Group(group),
            start: Start::Earliest,
            in_flight_max: 1_000,
        }
    }
}

/// Who shares the messages of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The members of a group compete: each message goes to one of them.
    Group(GroupName),
    /// Every subscription for itself, from now on, while it lasts ([`Capability::Broadcast`]).
    Everyone,
}

/// Where a group begins in a topic that it has never read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the first message kept (where the transport has [`Capability::History`], else from now on).
    #[default]
    Earliest,
    /// At the first message published after subscribing.
    Latest,
}

/// When a message wants to be delivered (`wharf-deliver-at`); `None` if it does not say.
///
/// # Errors
/// [`Error::Refused`] when it says something that is no time: every transport refuses to publish it,
/// because a schedule that cannot be read would be a message at the wrong time.
///
/// ```
/// use wharf_message::transport::deliver_at;
/// use wharf_message::{Message, Timestamp, header};
///
/// let message = Message::new("p").with_header(header::DELIVER_AT, "1970-01-01T00:00:01Z");
/// assert_eq!(deliver_at(&message), Ok(Some(Timestamp::from_millis(1_000))));
/// assert!(deliver_at(&Message::new("p").with_header(header::DELIVER_AT, "soon")).is_err());
/// ```
pub fn deliver_at(message: &Message) -> Result<Option<Timestamp>, Error> {
    if !message.headers.contains(header::DELIVER_AT) {
        return Ok(None);
    }
    let text = message.headers.text(header::DELIVER_AT).ok().flatten();
    let time = text.and_then(Timestamp::parse_rfc3339);
    let wrong = || {
        let name = header::DELIVER_AT;
        let found = text.unwrap_or("bytes that are not text");
        Error::Refused(format!(
            "{name} is {found:.100}, which is no time; write it as 2026-01-31T12:00:00Z"
        ))
    };
    time.map(Some).ok_or_else(wrong)
}

impl fmt::Display for Audience {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(group) => write!(formatter, "the group {group}"),
            Self::Everyone => formatter.write_str("everyone"),
        }
    }
}
