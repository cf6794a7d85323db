//! Metadata: the node, and the topics asked for, created on the way when both sides agree.
//!
//! In version 0 an empty list means every topic, later none; null means every topic. By id from
//! version 12 on (KIP-516).

use std::collections::HashSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse};
use wharf_broker::{Topic, TopicRef};

use super::Card;
use crate::error::error_code;
use crate::frame::Call;
use crate::shape::{BOOL, Shape, TEXT, UUID, array};
use crate::wire::{LEADER_EPOCH, operations, text, topic_name};
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 3,
    name: "Metadata",
    advertised: 0..=13,
    answered: 0..=13,
    kips: &[4, 78, 112, 320, 430, 516, 700, 1102],
    shape: Shape::new(
        9,
        &[
            array(&[UUID.from(10), TEXT]),
            BOOL.from(4),
            BOOL.from(8).to(10),
            BOOL.from(8),
        ],
    ),
    notes: "A topic created on the way is there in the same answer.",
};

/// The first version that may ask by id.
const BY_ID_FROM: i16 = 12;

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer(answer)
}

async fn answer(call: Call, request: MetadataRequest) -> MetadataResponse {
    let options = call.broker.options();
    let node = BrokerId(options.node_id);
    let asked = request.include_topic_authorized_operations;
    let topics = match asked_for(&request, call.version()) {
        None => {
            let topics = call.broker.topics();
            topics
                .iter()
                .map(|topic| describe(topic, node, asked))
                .collect()
        }
        Some(topics) => {
            let create = request.allow_auto_topic_creation;
            let mut described = Vec::with_capacity(topics.len());
            for topic in topics {
                described.push(one(&call, topic, create, asked).await);
            }
            described
        }
    };
    let cluster = request.include_cluster_authorized_operations;
    MetadataResponse::default()
        .with_brokers(vec![
            MetadataResponseBroker::default()
                .with_node_id(node)
                .with_host(text(call.endpoint.host.as_str()))
                .with_port(i32::from(call.endpoint.port)),
        ])
        .with_cluster_id(Some(text(options.cluster_id.as_str())))
        .with_controller_id(node)
        .with_cluster_authorized_operations(operations::when(cluster, operations::CLUSTER))
        .with_topics(topics)
}

/// The topics asked for, each once; `None` for all. As in Kafka, ids win over names.
fn asked_for(request: &MetadataRequest, version: i16) -> Option<Vec<&MetadataRequestTopic>> {
    let topics = request.topics.as_ref()?;
    if version == 0 && topics.is_empty() {
        return None;
    }
    let by_id = version >= BY_ID_FROM && topics.iter().any(|topic| !topic.topic_id.is_nil());
    let mut seen = HashSet::new();
    let wanted = topics
        .iter()
        .filter(|topic| !by_id || !topic.topic_id.is_nil())
        .filter(|topic| seen.insert((topic.topic_id, topic.name.as_ref())));
    Some(wanted.collect())
}

async fn one(
    call: &Call,
    topic: &MetadataRequestTopic,
    create: bool,
    asked: bool,
) -> MetadataResponseTopic {
    let version = call.version();
    let by_id = !topic.topic_id.is_nil();
    let found = match &topic.name {
        _ if by_id && version >= BY_ID_FROM => call.broker.topic(&TopicRef::Id(topic.topic_id)),
        Some(name) if !by_id => call.broker.topic_or_create(&call.cx, name, create).await,
        _ => {
            let name = (version < BY_ID_FROM).then(|| topic.name.clone().unwrap_or_default());
            return MetadataResponseTopic::default()
                .with_error_code(ResponseError::InvalidRequest.code())
                .with_name(name);
        }
    };
    match found {
        Ok(topic) => describe(&topic, BrokerId(call.broker.options().node_id), asked),
        Err(error) => MetadataResponseTopic::default()
            .with_error_code(error_code(error.kind))
            .with_name(if by_id { None } else { topic.name.clone() })
            .with_topic_id(topic.topic_id),
    }
}

fn describe(topic: &Topic, node: BrokerId, asked: bool) -> MetadataResponseTopic {
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(node)
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node])
    };
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(topic.name.as_str())))
        .with_topic_id(topic.id)
        .with_is_internal(topic.name.is_internal())
        .with_partitions((0..).take(topic.partitions.len()).map(partition).collect())
        .with_topic_authorized_operations(operations::when(asked, operations::TOPIC))
}
