//! What the transports share whose broker settles each message by itself (RabbitMQ, NATS JetStream):
//! the desk between the task that talks to the broker and the service that handles deliveries, the
//! bounded way of messages to be published, and the order of headers.
//!
//! Invariants: no more deliveries are handed out than the subscription allows; each is settled once,
//! and what was settled reaches the task or is delivered again. What must never happen here: that a
//! queue grows without bound, or that an outage is told twice.

mod desk;
mod handover;
mod order;

#[cfg(feature = "nats")]
pub(crate) use desk::Desk;
pub(crate) use desk::{Arrival, Driver, Settled, Subscriber};
pub(crate) use handover::{Handed, Handover};
pub(crate) use order::{order_of, restored};

use std::time::SystemTime;

use wharf_message::Timestamp;

/// The time.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
