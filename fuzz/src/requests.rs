//! The requests of one connection, carried out one after the other by a fresh node.
//!
//! The input is a list of frames, each behind its length (u16, little-endian). Time is virtual: a
//! request that waits is given up after a while, as a client would.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Encodable, Message, Request, StrBytes};
use wharf_kafka::Outcome;
use wharf_log::batch::{self, Record};

use crate::input::{Input, put_piece};
use crate::support::{Node, frame};

/// How long a request may wait in virtual milliseconds.
const PATIENCE_MS: i64 = 120_000;
/// How many requests of one input are carried out.
const REQUESTS_MAX: usize = 12;

pub(crate) fn run(data: &[u8]) {
    let node = Node::new();
    let mut input = Input::new(data);
    for _ in 0..REQUESTS_MAX {
        if input.is_empty() || !send(&node, Bytes::copy_from_slice(input.piece())) {
            break;
        }
    }
}

/// Carries a request out; false when the connection ends.
pub(crate) fn send(node: &Node, frame: Bytes) -> bool {
    match node.service.handle(&node.cx, frame) {
        Ok(Outcome::Answer(answer) | Outcome::Queued(answer)) => {
            !matches!(node.run_for(answer, PATIENCE_MS), Some(Err(_)))
        }
        Ok(Outcome::Silent(work)) => !matches!(node.run_for(work, PATIENCE_MS), Some(Err(_))),
        Err(_disconnected) => false,
    }
}

/// Every key's default request in every version that can be encoded.
fn defaults<Q: Request + Encodable + Message + Default>(frames: &mut Vec<Vec<u8>>) {
    for version in Q::VERSIONS.min..=Q::VERSIONS.max {
        let mut body = BytesMut::new();
        if Q::default().encode(&mut body, version).is_ok() {
            frames.push(frame(version, &Q::default()).to_vec());
        }
    }
}

macro_rules! every_default {
    ($($request:ident)*) => {{
        let mut frames = Vec::new();
        $(defaults::<$request>(&mut frames);)*
        frames
    }};
}

/// True frames: the defaults of every key, and a few that say something.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let mut frames = every_default! {
        ProduceRequest FetchRequest ListOffsetsRequest MetadataRequest OffsetCommitRequest
        OffsetFetchRequest FindCoordinatorRequest JoinGroupRequest HeartbeatRequest
        LeaveGroupRequest SyncGroupRequest DescribeGroupsRequest ListGroupsRequest
        SaslHandshakeRequest ApiVersionsRequest CreateTopicsRequest DeleteTopicsRequest
        DeleteRecordsRequest InitProducerIdRequest OffsetForLeaderEpochRequest
        AddPartitionsToTxnRequest AddOffsetsToTxnRequest EndTxnRequest WriteTxnMarkersRequest
        TxnOffsetCommitRequest DescribeAclsRequest CreateAclsRequest DeleteAclsRequest
        DescribeConfigsRequest AlterConfigsRequest AlterReplicaLogDirsRequest
        DescribeLogDirsRequest SaslAuthenticateRequest CreatePartitionsRequest
        CreateDelegationTokenRequest RenewDelegationTokenRequest ExpireDelegationTokenRequest
        DescribeDelegationTokenRequest DeleteGroupsRequest ElectLeadersRequest
        IncrementalAlterConfigsRequest AlterPartitionReassignmentsRequest
        ListPartitionReassignmentsRequest OffsetDeleteRequest DescribeClientQuotasRequest
        AlterClientQuotasRequest DescribeUserScramCredentialsRequest
        AlterUserScramCredentialsRequest DescribeQuorumRequest UpdateFeaturesRequest
        DescribeClusterRequest DescribeProducersRequest DescribeTransactionsRequest
        ListTransactionsRequest ConsumerGroupHeartbeatRequest ConsumerGroupDescribeRequest
        GetTelemetrySubscriptionsRequest PushTelemetryRequest ListConfigResourcesRequest
        DescribeTopicPartitionsRequest ShareGroupHeartbeatRequest ShareGroupDescribeRequest
        ShareFetchRequest ShareAcknowledgeRequest
    };
    frames.extend(session());
    frames
}

fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str("fuzzed"))
}

/// A batch for the topic.
pub(crate) fn produce(batch: Bytes) -> ProduceRequest {
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(1000)
        .with_topic_data(vec![
            TopicProduceData::default()
                .with_name(topic())
                .with_partition_data(vec![
                    PartitionProduceData::default().with_records(Some(batch)),
                ]),
        ])
}

/// A search of the topic by time.
pub(crate) fn search(time: i64) -> ListOffsetsRequest {
    ListOffsetsRequest::default().with_topics(vec![
        ListOffsetsTopic::default()
            .with_name(topic())
            .with_partitions(vec![ListOffsetsPartition::default().with_timestamp(time)]),
    ])
}

/// What a client does: makes a topic, produces, fetches, searches, joins a group, commits.
fn session() -> Vec<Vec<u8>> {
    let group = || GroupId(StrBytes::from_static_str("group"));
    let record = Record {
        value: Some(Bytes::from_static(b"value")),
        ..Record::default()
    };
    let create = CreateTopicsRequest::default()
        .with_topics(vec![
            CreatableTopic::default()
                .with_name(topic())
                .with_num_partitions(2)
                .with_replication_factor(1),
        ])
        .with_timeout_ms(1000);
    let fetch = FetchRequest::default()
        .with_max_bytes(1 << 20)
        .with_topics(vec![
            FetchTopic::default()
                .with_topic(topic())
                .with_partitions(vec![
                    FetchPartition::default().with_partition_max_bytes(1 << 20),
                ]),
        ]);
    let join = JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![
            JoinGroupRequestProtocol::default().with_name(StrBytes::from_static_str("range")),
        ]);
    let commit = OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![
            OffsetCommitRequestTopic::default()
                .with_name(topic())
                .with_partitions(vec![
                    OffsetCommitRequestPartition::default().with_committed_offset(7),
                ]),
        ]);
    vec![
        frame(5, &create).to_vec(),
        frame(9, &produce(batch::build(&[record], None))).to_vec(),
        frame(12, &fetch).to_vec(),
        frame(7, &search(-1)).to_vec(),
        frame(5, &join).to_vec(),
        frame(8, &commit).to_vec(),
    ]
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut whole = Vec::new();
    for frame in session() {
        put_piece(&mut whole, &frame);
    }
    let mut seeds = vec![whole];
    // Each request after a topic with a record in it, so that it meets something.
    let before = &session()[..2];
    seeds.extend(frames().iter().map(|frame| {
        let mut seed = Vec::new();
        for one in before.iter().chain([frame]) {
            put_piece(&mut seed, one);
        }
        seed
    }));
    seeds
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_advertised_key_has_a_seed() {
        let answer = Node::new().ask(0, &ApiVersionsRequest::default());
        let keys: BTreeSet<i16> = frames()
            .iter()
            .map(|frame| i16::from_be_bytes([frame[0], frame[1]]))
            .collect();
        for key in answer.api_keys {
            assert!(
                keys.contains(&key.api_key),
                "key {} has no seed",
                key.api_key
            );
        }
    }

    #[test]
    fn the_session_gets_through() {
        let node = Node::new();
        for (index, frame) in session().into_iter().enumerate() {
            assert!(send(&node, frame.into()), "request {index}");
        }
    }
}
