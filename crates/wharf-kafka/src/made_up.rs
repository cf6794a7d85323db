//! Requests made up from the shapes, in every version of every key, against a broker: whatever is
//! in them, they are answered with something a client can read, or end the connection.

use bytes::{BufMut, Bytes, BytesMut};

use crate::api::{API_VERSIONS_KEY, APIS, Api};
use crate::shape::tests::{Style, body_in};
use crate::support::Node;
use crate::{Disconnect, Outcome};

const CORRELATION: i32 = 11;
/// How long a request may wait; joins and long polls are given up then.
const PATIENCE_MS: i64 = 60_000;

pub(crate) fn frame(api: &Api, version: i16, body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(api.card.key);
    out.put_i16(version);
    out.put_i32(CORRELATION);
    out.put_i16(-1);
    if api.card.shape.is_flexible(version) {
        out.put_u8(0);
    }
    out.put_slice(body);
    out.freeze()
}

/// The answer; `None` when there is none, or none in time.
fn send(node: &Node, frame: Bytes) -> Result<Option<Bytes>, Disconnect> {
    let answer = match node.service.handle(&node.cx, frame)? {
        Outcome::Answer(answer) | Outcome::Queued(answer) => answer,
        Outcome::Silent(work) => {
            node.run_for(work, PATIENCE_MS);
            return Ok(None);
        }
    };
    let answered = node.run_for(answer, PATIENCE_MS).transpose()?;
    Ok(answered.map(|response| response.joined().expect("the disk can be read")))
}

fn check(api: &Api, version: i16, mut answer: Bytes) {
    let at = format!("{} v{version}", api.card.name);
    assert_eq!(answer.split_to(4)[..], CORRELATION.to_be_bytes(), "{at}");
    if api.card.shape.is_flexible(version) && api.card.key != API_VERSIONS_KEY {
        assert_eq!(answer.split_to(1)[..], [0], "{at}");
    }
    assert_eq!((api.read)(answer, version).map(drop), Ok(()), "{at}");
}

fn every_request(
    style: Style,
    mut judge: impl FnMut(&Api, i16, Result<Option<Bytes>, Disconnect>),
) {
    let node = Node::new();
    for seed in 0..60 {
        for api in APIS {
            for version in api.card.answered.clone() {
                let body = body_in(style, &api.card.shape, version, seed);
                judge(api, version, send(&node, frame(api, version, &body)));
            }
        }
    }
}

#[test]
fn every_request_of_the_right_shape_is_answered_readably() {
    every_request(Style::Plausible, |api, version, sent| {
        let at = format!("{} v{version}", api.card.name);
        match sent.unwrap_or_else(|ended| panic!("{at}: {ended}")) {
            Some(answer) => check(api, version, answer),
            None => assert!(may_be_silent(api), "{at}"),
        }
    });
}

#[test]
fn nulls_where_none_may_be_end_the_connection_or_are_answered_readably() {
    let mut refused = 0;
    every_request(Style::WithNulls, |api, version, sent| match sent {
        Ok(Some(answer)) => check(api, version, answer),
        Ok(None) => assert!(may_be_silent(api), "{} v{version}", api.card.name),
        Err(ended) => {
            assert!(
                ended.0.starts_with("the request cannot be decoded"),
                "{ended}"
            );
            refused += 1;
        }
    });
    assert!(refused > 0);
}

/// Produce with acks=0; long polls and joins that wait for others.
fn may_be_silent(api: &Api) -> bool {
    matches!(api.card.key, 0 | 1 | 11 | 14)
}
