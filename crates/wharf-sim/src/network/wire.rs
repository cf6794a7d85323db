//! Requests and answers as bytes: what a Kafka client sends and reads.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

use crate::checkers::{Broken, broken};

/// The topic that all clients use.
pub(super) const TOPIC: &str = "net";
/// Its partitions.
pub(super) const PARTITIONS: i32 = 2;

pub(super) fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
}

pub(super) fn request<Q: Request>(correlation: i32, version: i16, request: &Q) -> Bytes {
    let mut out = BytesMut::new();
    let header = RequestHeader::default()
        .with_request_api_key(Q::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str("sim")));
    header
        .encode(&mut out, Q::header_version(version))
        .and_then(|()| request.encode(&mut out, version))
        .expect("the requests made here have every field of their version");
    out.freeze()
}

/// Which request an answer is for.
pub(super) fn correlation(answer: &Bytes) -> i32 {
    answer.first_chunk().copied().map_or(-1, i32::from_be_bytes)
}

pub(super) fn answer<Q: Request>(version: i16, mut answer: Bytes) -> Result<Q::Response, Broken> {
    let header = <Q::Response as HeaderVersion>::header_version(version);
    let read = ResponseHeader::decode(&mut answer, header)
        .and_then(|_| Q::Response::decode(&mut answer, version));
    match read {
        Ok(response) if answer.is_empty() => Ok(response),
        Ok(_) => broken(READS, format!("{} bytes are left behind it", answer.len())),
        Err(error) => broken(READS, error.to_string()),
    }
}

const READS: &str = "a client can read every answer";
