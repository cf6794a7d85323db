//! Heavy dependencies: Kafka, RabbitMQ, NATS JetStream and the embedded broker behind `Publish` and
//! `Subscribe`, one feature each.
//!
//! Each transport keeps the contract of `wharf_message::transport` and says in its capabilities what
//! it lacks. What must never happen here: that a settlement is told to a broker before what it
//! promises (a dead letter, a retry) is durable.

#[cfg(any(feature = "nats", feature = "rabbitmq"))]
mod backoff;
#[cfg(feature = "embedded")]
pub mod embedded;
#[cfg(any(feature = "nats", feature = "rabbitmq"))]
mod held;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(any(feature = "kafka", feature = "embedded"))]
pub mod log;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
