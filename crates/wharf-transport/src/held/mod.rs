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

use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use wharf_message::transport::Error;
use wharf_message::{Message, Timestamp, header};

/// Waits until this is said, or until nobody is left who could say it.
pub(crate) async fn told(signal: &mut watch::Receiver<bool>) {
    signal.wait_for(|said| *said).await.ok();
}

/// The time.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// When a message that is published is due, if that is later than now.
///
/// # Errors
/// [`Error::Refused`] when what it says is no time.
pub(crate) fn due(message: &Message, now: Timestamp) -> Result<Option<Timestamp>, Error> {
    let refused = |text: &dyn std::fmt::Display| {
        let name = header::DELIVER_AT;
        Error::Refused(format!(
            "{name} is not a time as RFC 3339 has it in UTC: {text}"
        ))
    };
    let text = message.headers.text(header::DELIVER_AT);
    let Some(text) = text.map_err(|error| refused(&error))? else {
        return Ok(None);
    };
    let due = Timestamp::parse_rfc3339(text).ok_or_else(|| refused(&format!("{text:?}")))?;
    Ok(Some(due).filter(|due| *due > now))
}

/// How long before its time a message arrived.
pub(crate) fn until_due(message: &Message, now: Timestamp) -> Duration {
    // What is no time was published by somebody else, and is due.
    let due = due(message, now).ok().flatten();
    due.map_or(Duration::ZERO, |due| due.since(now))
}
