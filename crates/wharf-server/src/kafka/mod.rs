//! The listener that speaks Kafka's protocol: sockets, frames, order and limits; no meaning.
//!
//! - Requests are read one after the other. Produce requests may be in work together; everything
//!   else has its turn. Answers leave in the order of the requests.
//! - Nobody's promise is believed: memory is reserved for bytes that are allowed and are arriving.
//! - Too much work is never dropped: the socket is not read until there is room.
//! - A panic while handling a request ends that connection only.

mod connection;
mod frames;
mod listener;
#[cfg(test)]
mod tests;
mod throttle;

pub(crate) use connection::Limits;
pub(crate) use listener::{Listener, accept, serve};
