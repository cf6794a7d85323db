//! The other side of the protocol: what the command line asks any broker, where the client library
//! has no call for it.
//!
//! Invariants: a request is asked only in versions that this table has; an answer is checked
//! against the shape of that version before anything of it is decoded, so whatever a broker sends,
//! nothing panics and memory is bounded by the answer's size. No sockets here.

use std::ops::RangeInclusive;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::RequestHeader;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

use crate::shape::{
    BOOL, BYTES, FLOAT64, Field, INT8, INT16, INT32, INT64, Shape, TEXT, UUID, Walk, array, items,
    optional, structure,
};

/// A request that this side asks.
struct Known {
    key: i16,
    name: &'static str,
    /// The versions it is asked in: the oldest ones that can say what is needed, since those are
    /// what most brokers have.
    versions: RangeInclusive<i16>,
    /// The shape of the answer's body.
    answer: Shape,
}

/// The first version that is flexible, of those requests that are so from the beginning.
const ALWAYS: i16 = 0;
const ASSIGNMENT: Field = structure(&[array(&[UUID, TEXT, items(&INT32)])]);

static KNOWN: [Known; 16] = [
    Known {
        key: 3,
        name: "Metadata",
        versions: 4..=4,
        answer: Shape::rigid(&[
            INT32,
            array(&[INT32, TEXT, INT32, TEXT]),
            TEXT,
            INT32,
            array(&[
                INT16,
                TEXT,
                BOOL,
                array(&[INT16, INT32, INT32, items(&INT32), items(&INT32)]),
            ]),
        ]),
    },
    Known {
        key: 10,
        name: "FindCoordinator",
        versions: 4..=4,
        answer: Shape::new(3, &[INT32, array(&[TEXT, INT32, TEXT, INT32, INT16, TEXT])]),
    },
    Known {
        key: 13,
        name: "LeaveGroup",
        versions: 3..=3,
        answer: Shape::rigid(&[INT32, INT16, array(&[TEXT, TEXT, INT16])]),
    },
    Known {
        key: 17,
        name: "SaslHandshake",
        versions: 1..=1,
        answer: Shape::rigid(&[INT16, items(&TEXT)]),
    },
    Known {
        key: 18,
        name: "ApiVersions",
        versions: 0..=0,
        answer: Shape::rigid(&[INT16, array(&[INT16, INT16, INT16])]),
    },
    Known {
        key: 22,
        name: "InitProducerId",
        versions: 3..=3,
        answer: Shape::new(2, &[INT32, INT16, INT64, INT16]),
    },
    Known {
        key: 27,
        name: "WriteTxnMarkers",
        versions: 1..=1,
        answer: Shape::new(
            1,
            &[array(&[INT64, array(&[TEXT, array(&[INT32, INT16])])])],
        ),
    },
    Known {
        key: 36,
        name: "SaslAuthenticate",
        versions: 0..=0,
        answer: Shape::new(2, &[INT16, TEXT, BYTES]),
    },
    Known {
        key: 44,
        name: "IncrementalAlterConfigs",
        versions: 0..=0,
        answer: Shape::new(1, &[INT32, array(&[INT16, TEXT, INT8, TEXT])]),
    },
    Known {
        key: 48,
        name: "DescribeClientQuotas",
        versions: 0..=0,
        answer: Shape::new(
            1,
            &[
                INT32,
                INT16,
                TEXT,
                array(&[array(&[TEXT, TEXT]), array(&[TEXT, FLOAT64])]),
            ],
        ),
    },
    Known {
        key: 49,
        name: "AlterClientQuotas",
        versions: 0..=0,
        answer: Shape::new(1, &[INT32, array(&[INT16, TEXT, array(&[TEXT, TEXT])])]),
    },
    Known {
        key: 61,
        name: "DescribeProducers",
        versions: 0..=0,
        answer: Shape::new(
            ALWAYS,
            &[
                INT32,
                array(&[
                    TEXT,
                    array(&[
                        INT32,
                        INT16,
                        TEXT,
                        array(&[INT64, INT32, INT32, INT64, INT32, INT64]),
                    ]),
                ]),
            ],
        ),
    },
    Known {
        key: 65,
        name: "DescribeTransactions",
        versions: 0..=0,
        answer: Shape::new(
            ALWAYS,
            &[
                INT32,
                array(&[
                    INT16,
                    TEXT,
                    TEXT,
                    INT32,
                    INT64,
                    INT64,
                    INT16,
                    array(&[TEXT, items(&INT32)]),
                ]),
            ],
        ),
    },
    Known {
        key: 66,
        name: "ListTransactions",
        versions: 0..=1,
        answer: Shape::new(
            ALWAYS,
            &[INT32, INT16, items(&TEXT), array(&[TEXT, INT64, TEXT])],
        ),
    },
    Known {
        key: 68,
        name: "ConsumerGroupHeartbeat",
        versions: 0..=0,
        answer: Shape::new(
            ALWAYS,
            &[
                INT32,
                INT16,
                TEXT,
                TEXT,
                INT32,
                INT32,
                optional(&[array(&[UUID, items(&INT32)])]),
            ],
        ),
    },
    Known {
        key: 69,
        name: "ConsumerGroupDescribe",
        versions: 0..=0,
        answer: Shape::new(
            ALWAYS,
            &[
                INT32,
                array(&[
                    INT16,
                    TEXT,
                    TEXT,
                    TEXT,
                    INT32,
                    INT32,
                    TEXT,
                    array(&[
                        TEXT,
                        TEXT,
                        TEXT,
                        INT32,
                        TEXT,
                        TEXT,
                        items(&TEXT),
                        TEXT,
                        ASSIGNMENT,
                        ASSIGNMENT,
                    ]),
                    INT32,
                ]),
            ],
        ),
    },
];

/// Why a request was not asked, or its answer not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// This side does not ask requests of this key, or not in this version.
    #[error("requests of key {0} are not asked in version {1}")]
    NotAsked(i16, i16),
    /// The request cannot say in this version what it should, or is too large.
    #[error("{0} version {1} cannot say what was asked: {2}")]
    Unsayable(&'static str, i16, String),
    /// What came is no answer to the request.
    #[error("what came is no answer to {0} version {1}: {2}")]
    NoAnswer(&'static str, i16, String),
}

fn known<Q: Request>(version: i16) -> Result<&'static Known, ClientError> {
    let mut known = KNOWN.iter();
    known
        .find(|known| known.key == Q::KEY && known.versions.contains(&version))
        .ok_or(ClientError::NotAsked(Q::KEY, version))
}

/// The name of a request that this side asks, and the versions it asks it in.
pub fn asked_in<Q: Request>() -> Option<(&'static str, RangeInclusive<i16>)> {
    let known = KNOWN.iter().find(|known| known.key == Q::KEY)?;
    Some((known.name, known.versions.clone()))
}

/// The frame of a request, with its length.
pub fn request<Q: Request>(
    version: i16,
    client_id: &str,
    correlation: i32,
    request: &Q,
) -> Result<Bytes, ClientError> {
    let known = known::<Q>(version)?;
    let unsayable = |why: String| ClientError::Unsayable(known.name, version, why);
    let header = RequestHeader::default()
        .with_request_api_key(Q::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_string(client_id.to_owned())));
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    let encoded = header
        .encode(&mut frame, Q::header_version(version))
        .and_then(|()| request.encode(&mut frame, version));
    encoded.map_err(|error| unsayable(error.to_string()))?;
    let length = i32::try_from(frame.len() - 4).map_err(|error| unsayable(error.to_string()))?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame.freeze())
}

/// The answer in a frame (without the length) to the request of this correlation id.
pub fn answer<Q: Request>(
    version: i16,
    correlation: i32,
    mut frame: Bytes,
) -> Result<Q::Response, ClientError> {
    let known = known::<Q>(version)?;
    let no_answer = |why: String| ClientError::NoAnswer(known.name, version, why);
    let told = frame.try_get_i32();
    if told.map_err(|error| no_answer(error.to_string()))? != correlation {
        return Err(no_answer("it is one to another request".to_owned()));
    }
    if Q::Response::header_version(version) > 0 {
        let mut walk = Walk::new(&frame, version, true);
        walk.tagged(&[])
            .map_err(|error| no_answer(error.to_string()))?;
        let header = walk.at();
        frame.advance(header);
    }
    known
        .answer
        .check(&frame, version)
        .map_err(|error| no_answer(error.to_string()))?;
    Q::Response::decode(&mut frame, version).map_err(|error| no_answer(error.to_string()))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::*;
    use kafka_protocol::protocol::Message;
    use proptest::prelude::*;

    use super::*;
    use crate::shape::tests::body;

    /// Calls a generic function for every request that is asked.
    macro_rules! for_each_request {
        ($call:ident($($argument:expr),*)) => {
            $call::<MetadataRequest>($($argument),*);
            $call::<FindCoordinatorRequest>($($argument),*);
            $call::<LeaveGroupRequest>($($argument),*);
            $call::<SaslHandshakeRequest>($($argument),*);
            $call::<ApiVersionsRequest>($($argument),*);
            $call::<InitProducerIdRequest>($($argument),*);
            $call::<WriteTxnMarkersRequest>($($argument),*);
            $call::<SaslAuthenticateRequest>($($argument),*);
            $call::<IncrementalAlterConfigsRequest>($($argument),*);
            $call::<DescribeClientQuotasRequest>($($argument),*);
            $call::<AlterClientQuotasRequest>($($argument),*);
            $call::<DescribeProducersRequest>($($argument),*);
            $call::<DescribeTransactionsRequest>($($argument),*);
            $call::<ListTransactionsRequest>($($argument),*);
            $call::<ConsumerGroupHeartbeatRequest>($($argument),*);
            $call::<ConsumerGroupDescribeRequest>($($argument),*);
        };
    }

    /// An answer made up from the shape, as a frame.
    fn made_up<Q: Request>(version: i16, seed: u64) -> Bytes {
        let known = known::<Q>(version).unwrap();
        let mut frame = BytesMut::new();
        frame.put_i32(7);
        if Q::Response::header_version(version) > 0 {
            frame.put_u8(0);
        }
        frame.put_slice(&body(&known.answer, version, seed));
        frame.freeze()
    }

    fn versions<Q: Request>() -> RangeInclusive<i16> {
        asked_in::<Q>().unwrap().1
    }

    fn agrees<Q: Request>(count: &mut usize) {
        *count += 1;
        for version in versions::<Q>() {
            assert!(version <= <Q as Message>::VERSIONS.max, "key {}", Q::KEY);
            for seed in 0..60 {
                let frame = made_up::<Q>(version, seed);
                let name = known::<Q>(version).unwrap().name;
                let decoded = answer::<Q>(version, 7, frame.clone());
                let decoded = decoded.unwrap_or_else(|error| panic!("{error} (seed {seed})"));
                let mut again = BytesMut::new();
                decoded.encode(&mut again, version).unwrap();
                assert_eq!(
                    &frame[frame.len() - again.len()..],
                    &again[..],
                    "{name} {seed}"
                );
                for end in 0..frame.len() {
                    let cut = answer::<Q>(version, 7, frame.slice(..end));
                    assert!(cut.is_err(), "{name} {seed} cut at {end}");
                }
            }
        }
    }

    #[test]
    fn the_shapes_of_answers_are_those_of_the_message_crate() {
        let mut count = 0;
        for_each_request!(agrees(&mut count));
        assert_eq!(count, KNOWN.len());
    }

    fn takes_anything<Q: Request>(noise: &[u8], at: usize, seed: u64) {
        for version in versions::<Q>() {
            let mut frame = made_up::<Q>(version, seed).to_vec();
            let from = 4 + at % (frame.len() - 4);
            for (place, byte) in frame[from..].iter_mut().zip(noise) {
                *place = *byte;
            }
            // Nothing but an answer or an error may come of it.
            drop(answer::<Q>(version, 7, frame.into()));
            let noise = [&[0, 0, 0, 7], noise].concat();
            drop(answer::<Q>(version, 7, noise.into()));
        }
    }

    proptest! {
        #[test]
        fn whatever_a_broker_sends_is_an_answer_or_an_error(
            noise in proptest::collection::vec(any::<u8>(), 0..64),
            at in any::<usize>(),
            seed in any::<u64>(),
        ) {
            for_each_request!(takes_anything(&noise, at, seed));
        }
    }

    #[test]
    fn an_answer_to_another_request_is_none() {
        let frame = made_up::<ApiVersionsRequest>(0, 1);
        let refused = answer::<ApiVersionsRequest>(0, 8, frame).unwrap_err();
        assert!(refused.to_string().contains("another request"), "{refused}");
    }

    #[test]
    fn what_a_version_cannot_say_is_not_asked() {
        let longer = ListTransactionsRequest::default().with_duration_filter(1000);
        let refused = request(0, "test", 1, &longer).unwrap_err();
        assert!(
            matches!(refused, ClientError::Unsayable("ListTransactions", 0, _)),
            "{refused}"
        );
        assert!(request(1, "test", 1, &longer).is_ok());
        let other = request(9, "test", 1, &longer).unwrap_err();
        assert_eq!(other, ClientError::NotAsked(66, 9));
    }
}
