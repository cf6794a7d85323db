//! DescribeQuorum: the one node is the only voter and the leader (KIP-595, KIP-836, KIP-853).
//!
//! What Kafka's metadata partition is to its controllers, the journal is to this node: topics,
//! settings, groups and producers are durable there. Its frames are what is counted here.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use kafka_protocol::messages::{BrokerId, DescribeQuorumRequest, DescribeQuorumResponse};

use super::Card;
use crate::error::NONE;
use crate::frame::Call;
use crate::shape::{INT32, Shape, TEXT, array};
use crate::wire::{LEADER_EPOCH, NO_NODE, text, topic_name};
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 55,
    name: "DescribeQuorum",
    advertised: 0..=2,
    answered: 0..=2,
    kips: &[595, 836, 853],
    shape: Shape::new(0, &[array(&[TEXT, array(&[INT32])])]),
    notes: "This node, leader and only voter of `__cluster_metadata`. The offsets are the numbers \
            of the journal's frames.",
};

/// The one partition of the one topic that can be asked for.
const METADATA: (&str, i32) = ("__cluster_metadata", 0);
/// The listener's name, after its security protocol.
const LISTENER: &str = "PLAINTEXT";

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(answer)
}

fn answer(call: &Call, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let is_metadata = matches!(&request.topics[..], [topic]
        if topic.topic_name.as_str() == METADATA.0
            && matches!(&topic.partitions[..], [one] if one.partition_index == METADATA.1));
    if !is_metadata {
        return unknown(request);
    }
    let topic = TopicData::default()
        .with_topic_name(topic_name(METADATA.0))
        .with_partitions(vec![metadata(call)]);
    let response = DescribeQuorumResponse::default().with_topics(vec![topic]);
    if call.version() < 2 {
        return response;
    }
    let listener = Listener::default()
        .with_name(text(LISTENER))
        .with_host(text(call.endpoint.host.as_str()))
        .with_port(call.endpoint.port);
    let node = Node::default()
        .with_node_id(BrokerId(call.broker.options().node_id))
        .with_listeners(vec![listener]);
    response.with_error_message(None).with_nodes(vec![node])
}

fn metadata(call: &Call) -> PartitionData {
    let node = BrokerId(call.broker.options().node_id);
    let end = i64::try_from(call.broker.reader().sequence()).unwrap_or(i64::MAX);
    let voter = ReplicaState::default()
        .with_replica_id(node)
        .with_log_end_offset(end);
    PartitionData::default()
        .with_partition_index(METADATA.1)
        .with_error_code(NONE)
        .with_error_message(None)
        .with_leader_id(node)
        .with_leader_epoch(LEADER_EPOCH)
        .with_high_watermark(end)
        .with_current_voters(vec![voter])
}

/// No other partition has a quorum.
fn unknown(request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            PartitionData::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(ResponseError::UnknownTopicOrPartition.code())
                .with_leader_id(NO_NODE)
                .with_leader_epoch(-1)
                .with_high_watermark(-1)
        });
        let partitions = partitions.collect();
        TopicData::default()
            .with_topic_name(topic.topic_name)
            .with_partitions(partitions)
    });
    DescribeQuorumResponse::default().with_topics(topics.collect())
}
