//! Usable alone, pure: the vocabulary every other crate speaks.
//!
//! Message, topic, position, time, error code, and the seams (`Ledger` now; `Publish` and
//! `Subscribe` with the library). Nothing here opens a socket or a file or reads a clock.

pub mod code;
pub mod ledger;
mod name;
mod principal;
mod time;

pub use code::Code;
pub use ledger::Ledger;
pub use name::{InvalidName, TOPIC_NAME_BYTES_MAX, TopicName};
pub use principal::Principal;
pub use time::Timestamp;
