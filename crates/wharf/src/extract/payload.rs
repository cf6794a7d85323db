//! Extractors of the payload.

use std::ops::Deref;

use wharf_message::Message;
use wharf_message::dead_letter::Reason;

use super::{FromIncoming, Takes};
use crate::Event;
use crate::failure::Failed;
use crate::incoming::{Incoming, Received};

/// The payload as an event. The handler gets the messages of this event's type only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msg<T>(pub T);

impl<T> Deref for Msg<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<S, T: Event> FromIncoming<S> for Msg<T> {
    const TAKES: Takes = Takes::Type(T::TYPE);

    fn from_incoming(incoming: Incoming, _: &S) -> Result<Self, Failed> {
        read(incoming.first()).map(Self)
    }
}

/// Several messages of one type at once, in the order of their topic. They succeed together; when
/// they fail, each is tried again alone, so that one bad message does not take others with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<T>(pub Vec<T>);

impl<S, T: Event> FromIncoming<S> for Batch<T> {
    const TAKES: Takes = Takes::Type(T::TYPE);
    const BATCH: bool = true;

    fn from_incoming(incoming: Incoming, _: &S) -> Result<Self, Failed> {
        incoming
            .all()
            .iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// The message as it is, whatever its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw(pub Message);

impl<S> FromIncoming<S> for Raw {
    const TAKES: Takes = Takes::Any;

    fn from_incoming(incoming: Incoming, _: &S) -> Result<Self, Failed> {
        Ok(Self(incoming.first().message.clone()))
    }
}

fn read<T: Event>(received: &Received) -> Result<T, Failed> {
    let payload = received.message.payload.as_deref().unwrap_or_default();
    serde_json::from_slice(payload).map_err(|error| {
        let text = format!("the payload is no {}: {error}", T::TYPE);
        Failed::for_ever(Reason::Undecodable, text)
    })
}
