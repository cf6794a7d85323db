//! Usable alone, pure: the vocabulary every other crate speaks.
//!
//! Message, topic, position, time, error code, and the seams `Publish`, `Subscribe` and `Ledger` with
//! their conformance suites. Nothing here opens a socket or a file or reads a clock.

pub mod code;
pub mod dead_letter;
pub mod header;
pub mod idempotency;
pub mod ledger;
mod message;
mod name;
pub mod partitioner;
mod principal;
mod time;
pub mod transport;

pub use code::Code;
pub use ledger::Ledger;
pub use message::{Headers, Message, NotText};
pub use name::{GroupName, InvalidName, TOPIC_NAME_BYTES_MAX, TopicName};
pub use principal::Principal;
pub use time::Timestamp;
