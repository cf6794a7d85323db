//! Groups of the consumer protocol (KIP-848), which librdkafka lists but cannot describe: asked for
//! with the two requests it takes.
//!
//! Works on plain connections only; over others nothing is found, and such groups show as librdkafka
//! shows them. What a broker sends is bounded and may be anything.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};

use anyhow::{Context, Result, bail};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::consumer_group_describe_response::DescribedGroup;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, FindCoordinatorRequest, GroupId, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

use crate::client::PATIENCE;

/// The versions asked in: old enough for every broker that has the consumer protocol.
const FIND_COORDINATOR: i16 = 4;
const DESCRIBE: i16 = 0;
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// A group of the consumer protocol.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) state: String,
    pub(crate) assignor: String,
    pub(crate) members: Vec<Member>,
}

/// A member with what it reads.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) client: String,
    pub(crate) host: String,
    pub(crate) partitions: Vec<(String, i32)>,
}

/// Those of the groups that are of the consumer protocol, by name. `brokers` are addresses
/// separated by commas; the first one that answers is asked who coordinates the groups.
pub(crate) fn describe(brokers: &str, groups: &[String]) -> Result<BTreeMap<String, Description>> {
    let mut found = BTreeMap::new();
    if groups.is_empty() {
        return Ok(found);
    }
    let mut first = brokers.split(',').map(|address| connect(address.trim()));
    let mut stream = first
        .find_map(Result::ok)
        .context("no broker answered on a plain connection")?;
    let text = |text: &String| StrBytes::from_string(text.clone());
    let keys = groups.iter().map(text).collect();
    let find = FindCoordinatorRequest::default().with_coordinator_keys(keys);
    let coordinators = ask(&mut stream, FIND_COORDINATOR, &find)?.coordinators;
    let mut by_address = BTreeMap::<String, Vec<GroupId>>::new();
    for one in coordinators.into_iter().filter(|one| one.error_code == 0) {
        let address = format!("{}:{}", one.host, one.port);
        by_address
            .entry(address)
            .or_default()
            .push(GroupId(one.key));
    }
    for (address, groups) in by_address {
        let describe = ConsumerGroupDescribeRequest::default().with_group_ids(groups);
        let answer = ask(&mut connect(&address)?, DESCRIBE, &describe)?;
        let known = answer
            .groups
            .into_iter()
            .filter(|group| group.error_code == 0);
        found.extend(known.map(|group| (group.group_id.to_string(), description(group))));
    }
    Ok(found)
}

fn description(group: DescribedGroup) -> Description {
    let members = group.members.into_iter().map(|member| {
        let topics = member.assignment.topic_partitions.into_iter();
        let partitions = topics.flat_map(|topic| {
            let name = topic.topic_name.to_string();
            topic
                .partitions
                .into_iter()
                .map(move |index| (name.clone(), index))
        });
        Member {
            id: member.member_id.to_string(),
            client: member.client_id.to_string(),
            host: member.client_host.to_string(),
            partitions: partitions.collect(),
        }
    });
    Description {
        state: group.group_state.to_string(),
        assignor: group.assignor_name.to_string(),
        members: members.collect(),
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn ask<Q: Request>(stream: &mut TcpStream, version: i16, request: &Q) -> Result<Q::Response> {
    let header = RequestHeader::default()
        .with_request_api_key(Q::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_static_str("wharf-cli")));
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    header.encode(&mut frame, Q::header_version(version))?;
    request.encode(&mut frame, version)?;
    let length = i32::try_from(frame.len() - 4).context("the request is too large")?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    stream.write_all(&frame)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > ANSWER_BYTES_MAX {
        bail!("the broker's answer is too large");
    }
    let mut answer = Vec::new();
    stream.take(length as u64).read_to_end(&mut answer)?;
    if answer.len() < length {
        bail!("the broker's answer was cut short");
    }
    let mut answer = Bytes::from(answer);
    ResponseHeader::decode(&mut answer, Q::Response::header_version(version))?;
    Q::Response::decode(&mut answer, version)
}
