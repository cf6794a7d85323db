//! OffsetForLeaderEpoch: where an epoch ended, so that consumers notice truncation (KIP-320). One
//! node never truncates: the only epoch ends at the high watermark.

use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use wharf_broker::TopicRef;

use super::Card;
use crate::error::error_code;
use crate::frame::Call;
use crate::shape::{INT32, Shape, TEXT, array};
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 23,
    name: "OffsetForLeaderEpoch",
    advertised: 2..=4,
    answered: 2..=4,
    kips: &[320],
    shape: Shape::new(
        4,
        &[INT32.from(3), array(&[TEXT, array(&[INT32, INT32, INT32])])],
    ),
    notes: "The only epoch is 0.",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(|call, request: OffsetForLeaderEpochRequest| {
        let topics = request.topics.iter().map(|topic| answer_topic(call, topic));
        OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
    })
}

fn answer_topic(call: &Call, topic: &OffsetForLeaderTopic) -> OffsetForLeaderTopicResult {
    let name = TopicRef::Name(topic.topic.to_string());
    let partitions = topic
        .partitions
        .iter()
        .map(|partition| end_of(call, &name, partition));
    OffsetForLeaderTopicResult::default()
        .with_topic(topic.topic.clone())
        .with_partitions(partitions.collect())
}

fn end_of(call: &Call, topic: &TopicRef, partition: &OffsetForLeaderPartition) -> EpochEndOffset {
    let answer = EpochEndOffset::default().with_partition(partition.partition);
    let (current, epoch) = (partition.current_leader_epoch, partition.leader_epoch);
    match call
        .broker
        .epoch_end(&call.cx, topic, partition.partition, current, epoch)
    {
        Ok(end) => answer
            .with_leader_epoch(end.leader_epoch)
            .with_end_offset(end.end_offset),
        Err(error) => answer
            .with_error_code(error_code(error.kind))
            .with_leader_epoch(-1)
            .with_end_offset(-1),
    }
}
