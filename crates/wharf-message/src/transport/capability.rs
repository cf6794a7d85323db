//! What a transport can do beyond the contract of the seams: by name, so that a missing one can be
//! told at start-up and shown in a table.

use std::fmt;

use super::Error;
use crate::{Message, header};

/// One thing that not every transport can do.
///
/// ```
/// use wharf_message::transport::Capability;
///
/// assert_eq!(Capability::KeyOrder.name(), "key-order");
/// for capability in Capability::ALL {
///     println!("{capability}: {}", capability.meaning());
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Capability {
    /// A publish that returned survives a restart of the broker.
    Durable,
    /// A group that is new to a topic gets what was published before it came.
    History,
    /// One member alone gets the messages of a key in the order of publishing.
    Order,
    /// Several members of a group together do: a key belongs to one of them at a time.
    KeyOrder,
    /// [`super::Audience::Everyone`].
    Broadcast,
    /// `retry` with a delay keeps the message at the broker meanwhile.
    DelayedRetry,
    /// `Delivery::attempt` counts on over restarts of the consumer.
    AttemptCount,
    /// `wharf-deliver-at`.
    Schedule,
    /// `accept_with`: outputs and acceptance in one step.
    AtomicOutputs,
    /// Header values that are not text.
    BinaryHeaders,
    /// Several headers of one name.
    RepeatedHeaders,
    /// A payload that is absent, apart from an empty one.
    Tombstones,
    /// Deliveries know their partition and offset.
    Positions,
}

impl Capability {
    /// All, in order.
    pub const ALL: [Self; 13] = [
        Self::Durable,
        Self::History,
        Self::Order,
        Self::KeyOrder,
        Self::Broadcast,
        Self::DelayedRetry,
        Self::AttemptCount,
        Self::Schedule,
        Self::AtomicOutputs,
        Self::BinaryHeaders,
        Self::RepeatedHeaders,
        Self::Tombstones,
        Self::Positions,
    ];

    /// Its name in errors and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::History => "history",
            Self::Order => "order",
            Self::KeyOrder => "key-order",
            Self::Broadcast => "broadcast",
            Self::DelayedRetry => "delayed-retry",
            Self::AttemptCount => "attempt-count",
            Self::Schedule => "schedule",
            Self::AtomicOutputs => "atomic-outputs",
            Self::BinaryHeaders => "binary-headers",
            Self::RepeatedHeaders => "repeated-headers",
            Self::Tombstones => "tombstones",
            Self::Positions => "positions",
        }
    }

    /// What it means to a user, in one line.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Durable => "an acknowledged message survives a restart of the broker",
            Self::History => "a new group reads what was published before it came",
            Self::Order => "one member alone sees each key in the order of publishing",
            Self::KeyOrder => "competing members together see each key in the order of publishing",
            Self::Broadcast => "everyone who listens gets every message (replies, notices)",
            Self::DelayedRetry => "a message waits for its next attempt at the broker",
            Self::AttemptCount => "attempts are counted over restarts of the consumer",
            Self::Schedule => "a message can be delivered at a later time",
            Self::AtomicOutputs => "outputs and the acceptance of the input are one step",
            Self::BinaryHeaders => "header values may be any bytes",
            Self::RepeatedHeaders => "a header may occur several times",
            Self::Tombstones => "a message may have no payload",
            Self::Positions => "deliveries carry partition and offset",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A set of capabilities.
///
/// ```
/// use wharf_message::transport::{Capabilities, Capability};
/// use wharf_message::{Message, header};
///
/// let has = Capabilities::all().without(Capability::Schedule);
/// assert!(has.has(Capability::Order) && !has.has(Capability::Schedule));
/// let needed = Capabilities::NONE.with(Capability::Schedule).with(Capability::Order);
/// assert_eq!(has.missing(needed), [Capability::Schedule]);
///
/// let message = Message::new("p").with_header(header::DELIVER_AT, "2026-01-01T00:00:00Z");
/// let error = has.check("mine", &message).unwrap_err();
/// assert_eq!(error.to_string(), "mine has no schedule (a message can be delivered at a later time)");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u32);

impl Capabilities {
    /// None.
    pub const NONE: Self = Self(0);

    /// All there are.
    pub const fn all() -> Self {
        Self((1 << Capability::ALL.len()) - 1)
    }

    /// These and `capability`.
    #[must_use]
    pub const fn with(self, capability: Capability) -> Self {
        Self(self.0 | 1 << capability as u32)
    }

    /// These without `capability`.
    #[must_use]
    pub const fn without(self, capability: Capability) -> Self {
        Self(self.0 & !(1 << capability as u32))
    }

    /// Whether `capability` is among them.
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & 1 << capability as u32 != 0
    }

    /// Refuses a message that needs what is not among them: for every transport's `publish`.
    ///
    /// A header without a value counts as one that is not text, and any `wharf-deliver-at` as a
    /// schedule.
    ///
    /// # Errors
    /// [`Error::Unsupported`], naming the first that is missing.
    pub fn check(self, transport: &'static str, message: &Message) -> Result<(), Error> {
        if self == Self::all() {
            return Ok(());
        }
        let headers = || message.headers.iter();
        let is_text = |value: Option<&[u8]>| value.is_some_and(|v| std::str::from_utf8(v).is_ok());
        let repeats = || {
            let mut names: Vec<&str> = headers().map(|(name, _)| name).collect();
            names.sort_unstable();
            names.windows(2).any(|pair| pair[0] == pair[1])
        };
        let lacks = |capability| !self.has(capability);
        let missing = if lacks(Capability::Tombstones) && message.payload.is_none() {
            Capability::Tombstones
        } else if lacks(Capability::Schedule) && message.headers.contains(header::DELIVER_AT) {
            Capability::Schedule
        } else if lacks(Capability::BinaryHeaders) && !headers().all(|(_, value)| is_text(value)) {
            Capability::BinaryHeaders
        } else if lacks(Capability::RepeatedHeaders) && repeats() {
            Capability::RepeatedHeaders
        } else {
            return Ok(());
        };
        Err(Error::Unsupported {
            transport,
            capability: missing,
            hint: String::new(),
        })
    }

    /// Those of `needed` that are not among them, in order.
    pub fn missing(self, needed: Self) -> Vec<Capability> {
        let missing = |one: &Capability| needed.has(*one) && !self.has(*one);
        Capability::ALL.into_iter().filter(missing).collect()
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        capabilities.into_iter().fold(Self::NONE, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_refused_by_the_first_capability_that_it_lacks() {
        let at = "2026-01-01T00:00:00Z";
        let messages = [
            (Capability::Tombstones, Message::default()),
            (
                Capability::Schedule,
                Message::new("p").with_header(header::DELIVER_AT, at),
            ),
            (
                Capability::BinaryHeaders,
                Message::new("p").with_header("h", vec![0xff]),
            ),
            (
                Capability::RepeatedHeaders,
                Message::new("p")
                    .with_header("h", "1")
                    .with_header("h", "2"),
            ),
        ];
        for (capability, message) in messages {
            assert_eq!(Capabilities::all().check("t", &message), Ok(()));
            let refused = Capabilities::all().without(capability).check("t", &message);
            assert!(
                matches!(refused, Err(Error::Unsupported { capability: named, .. }) if named == capability),
                "{refused:?}"
            );
        }
        let plain = Message::new("p").with_header("h", "1");
        assert_eq!(Capabilities::NONE.check("t", &plain), Ok(()));
    }

    #[test]
    fn what_is_missing_is_named_in_order() {
        let has = Capabilities::all()
            .without(Capability::Schedule)
            .without(Capability::Durable);
        let needed = [Capability::Schedule, Capability::Order, Capability::Durable];
        let missing = has.missing(needed.into_iter().collect());
        assert_eq!(missing, [Capability::Durable, Capability::Schedule]);
        assert_eq!(Capabilities::all(), Capability::ALL.into_iter().collect());
    }
}
