//! The transports against real servers: the conformance suite, and what is particular to each.
#![expect(clippy::unwrap_used, unreachable_pub, reason = "test binary")]

#[cfg(feature = "embedded")]
mod embedded;
#[cfg(all(feature = "embedded", feature = "kafka"))]
mod history;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(any(
    feature = "embedded",
    feature = "kafka",
    feature = "nats",
    feature = "rabbitmq"
))]
mod report;
#[cfg(any(feature = "kafka", feature = "nats", feature = "rabbitmq"))]
mod support;
