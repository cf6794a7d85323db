//! Frames: the request header in, the response header out, and the call in between.
//!
//! Nothing of a body is decoded before its shape was checked. A frame that cannot be answered
//! ends the connection with a reason; it never panics.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::FutureExt;
use kafka_protocol::protocol::{Decodable, Encodable};
use wharf_broker::{Broker, Context};

use crate::api::API_VERSIONS_KEY;
use crate::shape::{Malformed, Shape, Walk};
use crate::{Disconnect, Endpoint, Outcome, Response};

/// The first bytes of every frame: key and version.
const KEY_AND_VERSION_BYTES: usize = 4;

/// What the header of a request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) key: i16,
    pub(crate) version: i16,
    pub(crate) correlation: i32,
    pub(crate) client_id: Option<String>,
    /// Where the body starts.
    pub(crate) bytes: usize,
}

/// The key and version of a frame, if it is long enough.
pub(crate) fn key_and_version(frame: &[u8]) -> Option<(i16, i16)> {
    let [a, b, c, d] = *frame.first_chunk::<KEY_AND_VERSION_BYTES>()?;
    Some((i16::from_be_bytes([a, b]), i16::from_be_bytes([c, d])))
}

impl Header {
    /// Reads a header: v2 with tagged fields when the request's version is flexible, else v1.
    pub(crate) fn parse(frame: &[u8], flexible: bool) -> Result<Self, Malformed> {
        let mut walk = Walk::new(frame, 0, flexible);
        let key = i16::from_be_bytes(walk.array()?);
        let version = i16::from_be_bytes(walk.array()?);
        let correlation = i32::from_be_bytes(walk.array()?);
        let client_id = walk.rigid_text()?.map(str::to_owned);
        if flexible {
            walk.tagged(&[])?;
        }
        Ok(Self {
            key,
            version,
            correlation,
            client_id,
            bytes: walk.at(),
        })
    }
}

/// How the answer to a request is framed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply {
    pub(crate) correlation: i32,
    pub(crate) version: i16,
    /// Whether the response header has tagged fields. The answer to ApiVersions never has: a
    /// client reads it before it knows what the broker speaks.
    pub(crate) flexible_header: bool,
}

impl Reply {
    /// The frame of an answer to `header`, whose request has `shape`.
    pub(crate) fn to(header: &Header, shape: &Shape) -> Self {
        Self {
            correlation: header.correlation,
            version: header.version,
            flexible_header: shape.is_flexible(header.version) && header.key != API_VERSIONS_KEY,
        }
    }

    /// The response header, for writers of their own.
    pub(crate) fn header(self, out: &mut BytesMut) {
        out.put_i32(self.correlation);
        if self.flexible_header {
            out.put_u8(0);
        }
    }

    /// A whole response in the request's version.
    pub(crate) fn encode<R: Encodable>(self, response: &R) -> Result<Response, Disconnect> {
        self.encode_as(response, self.version)
    }

    /// A whole response whose body has another version than the request.
    pub(crate) fn encode_as<R: Encodable>(
        self,
        response: &R,
        version: i16,
    ) -> Result<Response, Disconnect> {
        let mut out = BytesMut::new();
        self.header(&mut out);
        response
            .encode(&mut out, version)
            .map_err(|error| Disconnect(format!("the answer cannot be encoded: {error}")))?;
        Ok(vec![out.freeze()].into())
    }
}

/// One request, checked and ready to be decoded.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) broker: Broker,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) cx: Context,
    pub(crate) body: Bytes,
    pub(crate) reply: Reply,
}

impl Call {
    /// The request's version.
    pub(crate) fn version(&self) -> i16 {
        self.reply.version
    }

    /// Decodes the body as `version` of the message crate (its newest may be older than ours).
    pub(crate) fn decode_as<Q: Decodable>(&self, version: i16) -> Result<Q, Disconnect> {
        Q::decode(&mut self.body.clone(), version)
            .map_err(|error| Disconnect(format!("the request cannot be decoded: {error}")))
    }

    /// Decodes the body.
    pub(crate) fn decode<Q: Decodable>(&self) -> Result<Q, Disconnect> {
        self.decode_as(self.version())
    }

    /// The ordinary way through: decode, work, encode, all in the request's version.
    pub(crate) fn answer<Q, R, F>(
        self,
        work: impl FnOnce(Self, Q) -> F + Send + 'static,
    ) -> Result<Outcome, Disconnect>
    where
        Q: Decodable + Send + 'static,
        R: Encodable + Send + 'static,
        F: Future<Output = R> + Send + 'static,
    {
        let request: Q = self.decode()?;
        Ok(self.answer_to(request, work))
    }

    /// The same for a request that was decoded already.
    pub(crate) fn answer_to<Q, R, F>(self, request: Q, work: impl FnOnce(Self, Q) -> F) -> Outcome
    where
        R: Encodable,
        F: Future<Output = R> + Send + 'static,
    {
        let reply = self.reply;
        let answer = work(self, request);
        Outcome::Answer(async move { reply.encode(&answer.await) }.boxed())
    }

    /// The same for work that waits for nothing.
    pub(crate) fn answer_now<Q, R>(
        self,
        work: impl FnOnce(&Self, Q) -> R + Send + 'static,
    ) -> Result<Outcome, Disconnect>
    where
        Q: Decodable + Send + 'static,
        R: Encodable + Send + 'static,
    {
        let request: Q = self.decode()?;
        let work = async move { self.reply.encode(&work(&self, request)) };
        Ok(Outcome::Answer(work.boxed()))
    }
}

impl From<Malformed> for Disconnect {
    fn from(malformed: Malformed) -> Self {
        Self(format!("the request is malformed: {malformed}"))
    }
}
