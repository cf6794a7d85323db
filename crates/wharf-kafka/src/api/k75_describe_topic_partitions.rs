//! DescribeTopicPartitions: topics in pages of partitions (KIP-966). Topics come sorted by name;
//! the cursor names the first partition of the next page.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
};
use wharf_broker::{Error, ErrorKind, Topic, TopicRef};

use super::Card;
use crate::error::error_code;
use crate::frame::Call;
use crate::shape::{INT32, Shape, TEXT, array, optional};
use crate::wire::{LEADER_EPOCH, operations, topic_name};
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 75,
    name: "DescribeTopicPartitions",
    advertised: 0..=0,
    answered: 0..=0,
    kips: &[966],
    shape: Shape::new(0, &[array(&[TEXT]), INT32, optional(&[TEXT, INT32])]),
    notes: "Pages of at most 2000 partitions.",
};

/// `max.request.partition.size.limit`, Kafka's default.
const PARTITIONS_MAX: usize = 2000;

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(answer)
}

type Found = (String, Result<Arc<Topic>, Error>);

fn answer(call: &Call, request: DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut left = limit.clamp(1, PARTITIONS_MAX);
    let start = request
        .cursor
        .map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index))
        .unwrap_or_default();
    let names = request
        .topics
        .iter()
        .map(|topic| topic.name.to_string())
        .collect();
    let Ok(start_index) = usize::try_from(start.1) else {
        return refuse_all(names);
    };
    let node = BrokerId(call.broker.options().node_id);
    let mut topics = Vec::new();
    for (name, found) in topics_from(call, names, &start.0) {
        if left == 0 {
            return page(topics, Some((name, 0)));
        }
        match found {
            Err(error) => topics.push(refused(&name, error.kind)),
            Ok(topic) => {
                let first = if name == start.0 { start_index } else { 0 };
                let end = topic.partitions.len().min(first.saturating_add(left));
                topics.push(describe(&topic, node, first..end));
                left -= end.saturating_sub(first);
                if end < topic.partitions.len() {
                    return page(topics, Some((name, end)));
                }
            }
        }
    }
    page(topics, None)
}

/// The topics from the cursor's on, sorted by name. Without names: all there are.
fn topics_from(call: &Call, names: BTreeSet<String>, start: &str) -> Vec<Found> {
    let mut found: Vec<Found> = if names.is_empty() {
        let all = call.broker.topics().into_iter();
        all.map(|topic| (topic.name.to_string(), Ok(topic)))
            .collect()
    } else {
        let one = |name: String| (name.clone(), call.broker.topic(&TopicRef::Name(name)));
        names
            .into_iter()
            .filter(|name| name.as_str() >= start)
            .map(one)
            .collect()
    };
    found.retain(|(name, _)| name.as_str() >= start);
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

fn page(
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
    next: Option<(String, usize)>,
) -> DescribeTopicPartitionsResponse {
    let cursor = |(name, index): (String, usize)| {
        Cursor::default()
            .with_topic_name(topic_name(name))
            .with_partition_index(i32::try_from(index).unwrap_or(i32::MAX))
    };
    DescribeTopicPartitionsResponse::default()
        .with_topics(topics)
        .with_next_cursor(next.map(cursor))
}

fn refuse_all(names: BTreeSet<String>) -> DescribeTopicPartitionsResponse {
    let refused = |name: String| refused(&name, ErrorKind::InvalidRequest);
    page(names.into_iter().map(refused).collect(), None)
}

fn refused(name: &str, kind: ErrorKind) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(error_code(kind))
        .with_name(Some(topic_name(name)))
}

fn describe(
    topic: &Topic,
    node: BrokerId,
    partitions: std::ops::Range<usize>,
) -> DescribeTopicPartitionsResponseTopic {
    let partition = |index: usize| {
        DescribeTopicPartitionsResponsePartition::default()
            .with_partition_index(i32::try_from(index).unwrap_or(i32::MAX))
            .with_leader_id(node)
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node])
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topic_name(topic.name.as_str())))
        .with_topic_id(topic.id)
        .with_is_internal(topic.name.is_internal())
        .with_partitions(partitions.map(partition).collect())
        .with_topic_authorized_operations(operations::TOPIC)
}
