//! Pure: the Kafka protocol as calls to the broker. No sockets, no clocks.
//!
//! One file per API key (`api/k00_produce.rs` …). A frame is checked against the shape of its
//! request before anything is allocated ([`Service::handle`] never panics, never allocates more
//! than a small multiple of the frame). Versions advertised are versions answered. [`client`] is the
//! other side, for the few requests that the command line asks.

mod api;
pub mod client;
mod compact;
mod compat;
mod error;
mod features;
mod frame;
#[cfg(test)]
mod made_up;
mod meter;
mod shape;
#[cfg(test)]
#[expect(dead_code, reason = "the tests from outside need more of it")]
#[path = "../tests/it/support.rs"]
mod support;
mod wire;

#[cfg(test)]
extern crate self as wharf_kafka;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use wharf_broker::{Broker, Context};
use wharf_log::{ReadError, Stretch};

pub use compat::{Difference, compat_page};
pub use meter::Meter;

use crate::frame::{Call, Header, Reply};

/// The protocol over a broker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Service {
    broker: Broker,
    endpoint: Arc<Endpoint>,
}

/// What clients are told to connect to.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// An encoded response: the frame in parts, without the four length bytes. Record batches are
/// passed through without copying.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// The parts in order.
    pub parts: Vec<Bytes>,
    /// Batches that are still to be read, each with the index of the part that comes after it.
    pub stretches: Vec<(usize, Stretch)>,
    /// It is empty because a quota is used up; the client may ask again after this time.
    pub throttle: Duration,
}

/// What to do with a request.
pub enum Outcome {
    /// Run to the end before the connection's next frame is handled, then answer (Kafka handles
    /// one request of a connection at a time; group calls rely on it).
    Answer(BoxFuture<'static, Result<Response, Disconnect>>),
    /// The work is queued already (produce): the next frames may be handled meanwhile. Answers
    /// still leave in request order.
    Queued(BoxFuture<'static, Result<Response, Disconnect>>),
    /// Answer nothing (acks=0), but let the work finish. When it failed the connection ends, as in
    /// Kafka: nothing else tells the producer.
    Silent(BoxFuture<'static, Result<(), Disconnect>>),
}

/// The connection must be closed: what was received is no request a broker can answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Disconnect(pub String);

impl std::fmt::Debug for Outcome {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Answer(_) => "Answer",
            Self::Queued(_) => "Queued",
            Self::Silent(_) => "Silent",
        })
    }
}

impl From<Vec<Bytes>> for Response {
    fn from(parts: Vec<Bytes>) -> Self {
        Self {
            parts,
            ..Self::default()
        }
    }
}

impl Response {
    /// The whole size in bytes.
    pub fn bytes(&self) -> usize {
        let parts: usize = self.parts.iter().map(Bytes::len).sum();
        let stretches = self.stretches.iter().map(|(_, stretch)| stretch.bytes());
        parts + stretches.sum::<usize>()
    }

    /// The whole frame, with the batches that are still to be read. Blocks.
    pub fn joined(self) -> Result<Bytes, ReadError> {
        let mut frame = BytesMut::with_capacity(self.bytes());
        let mut stretches = self.stretches.into_iter().peekable();
        let mut parts = self.parts.into_iter().enumerate();
        loop {
            let part = parts.next();
            let before = part.as_ref().map_or(usize::MAX, |(at, _)| *at);
            while let Some((_, mut stretch)) = stretches.next_if(|(at, _)| *at <= before) {
                while stretch.bytes() > 0 {
                    stretch
                        .read()?
                        .iter()
                        .for_each(|batches| frame.put_slice(batches));
                }
            }
            let Some((_, part)) = part else {
                return Ok(frame.freeze());
            };
            frame.extend_from_slice(&part);
        }
    }
}

impl Service {
    /// The protocol over `broker`, advertising `endpoint`.
    pub fn new(broker: Broker, endpoint: Endpoint) -> Self {
        Self {
            broker,
            endpoint: Arc::new(endpoint),
        }
    }

    /// Takes one frame (without the length bytes). Work that must keep the order of requests
    /// (produce) is queued before this returns; the rest happens in the returned future.
    pub fn handle(&self, cx: &Context, mut frame: Bytes) -> Result<Outcome, Disconnect> {
        let Some((key, version)) = frame::key_and_version(&frame) else {
            return Err(Disconnect(
                "the frame is too short for a request".to_owned(),
            ));
        };
        let Some(api) = api::find(key) else {
            return Err(Disconnect(format!("API key {key} is not known")));
        };
        let card = api.card;
        let header = Header::parse(&frame, card.shape.is_flexible(version))?;
        let reply = Reply::to(&header, &card.shape);
        if !card.answered.contains(&version) {
            if key == api::API_VERSIONS_KEY {
                return Ok(api::answer_unknown_version(reply));
            }
            return Err(Disconnect(format!(
                "{} version {version} is not supported",
                card.name
            )));
        }
        frame.advance(header.bytes);
        card.shape.check(&frame, version)?;
        let cx = context(cx, header.client_id.as_deref().unwrap_or_default());
        let (broker, endpoint) = (self.broker.clone(), Arc::clone(&self.endpoint));
        (api.handle)(Call {
            broker,
            endpoint,
            cx,
            body: frame,
            reply,
        })
    }

    /// The broker behind it.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// How many bytes a frame's arrays take at most once it is decoded: an element of one byte on
    /// the wire is a whole struct in memory. The caller takes them from its budget before
    /// [`Service::handle`] decodes. Zero for what `handle` will refuse.
    pub fn decoded_bytes(frame: &[u8]) -> usize {
        let Some((key, version)) = frame::key_and_version(frame) else {
            return 0;
        };
        let Some(api) = api::find(key) else { return 0 };
        let shape = &api.card.shape;
        let Ok(header) = Header::parse(frame, shape.is_flexible(version)) else {
            return 0;
        };
        let body = frame.get(header.bytes..).unwrap_or_default();
        shape.elements(body, version) * ELEMENT_BYTES
    }

    /// The name of the request in a frame, for metrics; `None` when it is no known key.
    pub fn request_name(frame: &[u8]) -> Option<&'static str> {
        let (key, _) = frame::key_and_version(frame)?;
        api::find(key).map(|api| api.card.name)
    }
}

/// What one array element takes in memory: the largest struct of a request, with its answer.
const ELEMENT_BYTES: usize = 256;

/// The connection's context with the client's name of this request.
fn context(cx: &Context, client_id: &str) -> Context {
    let mut cx = cx.clone();
    if *cx.client_id != *client_id {
        cx.client_id = client_id.into();
    }
    cx
}
