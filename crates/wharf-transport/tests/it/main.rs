//! The transports against real servers: the conformance suite, and what is particular to each. Without
//! the feature `real-servers`, only the one that needs no other process.
#![expect(clippy::unwrap_used, unreachable_pub, reason = "test binary")]

#[cfg(feature = "embedded")]
mod embedded;
#[cfg(all(feature = "embedded", feature = "kafka"))]
mod history;
#[cfg(any(all(feature = "embedded", feature = "kafka"), feature = "real-servers"))]
mod raw;
#[cfg(feature = "real-servers")]
mod real_servers {
    mod kafka;
    mod nats;
    mod rabbitmq;
    mod support;
}
#[cfg(any(feature = "embedded", feature = "real-servers"))]
mod report;
