//! OffsetCommit: a group stores how far it has read. Answered after the sync.
//!
//! Each partition has its own result, in the order asked. Up to version 9 topics are named, in
//! version 10 they are given by id. An error of the member or the group is the error of every
//! partition, because the response has no place of its own for it.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use wharf_broker::group::{CommitCall, CommitOffset, Member};

use super::Card;
use crate::compact::{Input, Truncated};
use crate::error::{code_of, error_code};
use crate::frame::Call;
use crate::shape::{INT32, INT64, Shape, TEXT, UUID, array};
use crate::wire::topic_ref;
use crate::{Disconnect, Outcome};

/// The first version that members of the consumer protocol commit with (KIP-848).
const MEMBER_EPOCH: i16 = 9;
/// The version that names topics by id; the message crate cannot decode it.
const BY_ID: i16 = 10;

pub(super) static CARD: Card = Card {
    key: 8,
    name: "OffsetCommit",
    advertised: 2..=10,
    answered: 2..=10,
    kips: &[211, 320, 345, 848],
    shape: Shape::new(
        8,
        &[
            TEXT,
            INT32,
            TEXT,
            TEXT.from(7),
            INT64.to(4),
            array(&[
                TEXT.to(9),
                UUID.from(BY_ID),
                array(&[INT32, INT64, INT32.from(6), TEXT]),
            ]),
        ],
    ),
    notes: "Versions 2 to 4 may ask for a retention of their own. Version 10 names topics by id.",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    if call.version() < BY_ID {
        return call.answer(answer);
    }
    let request = decode_by_id(call.body.clone())?;
    Ok(call.answer_to(request, answer))
}

async fn answer(call: Call, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let (broker, cx) = (&call.broker, &call.cx);
    let version = call.version();
    let member = Member {
        group: request.group_id.to_string(),
        generation: request.generation_id_or_member_epoch,
        member: request.member_id.to_string(),
        instance: request.group_instance_id.map(|id| id.to_string()),
    };
    let retention = u64::try_from(request.retention_time_ms)
        .ok()
        .map(Duration::from_millis);
    let offsets: Vec<_> = request
        .topics
        .iter()
        .flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(move |partition| (topic, partition))
        })
        .map(|(topic, partition)| CommitOffset {
            topic: topic_ref(version >= BY_ID, &topic.name, topic.topic_id),
            partition: partition.partition_index,
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition
                .committed_metadata
                .as_ref()
                .map(ToString::to_string),
            retention,
        })
        .collect();
    let count = offsets.len();
    let kind = match version >= MEMBER_EPOCH {
        true => CommitCall::New,
        false => CommitCall::Old,
    };
    let codes = match broker.commit_offsets(cx, &member, kind, offsets).await {
        Ok(results) => results.iter().map(code_of).collect(),
        Err(error) => vec![error_code(error.kind); count],
    };
    response(request.topics, codes)
}

fn response(topics: Vec<OffsetCommitRequestTopic>, codes: Vec<i16>) -> OffsetCommitResponse {
    let mut codes = codes.into_iter();
    let topics = topics.into_iter().map(|topic| {
        let partitions = topic
            .partitions
            .iter()
            .zip(&mut codes)
            .map(|(partition, code)| {
                OffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code)
            });
        let partitions = partitions.collect();
        OffsetCommitResponseTopic::default()
            .with_name(topic.name)
            .with_topic_id(topic.topic_id)
            .with_partitions(partitions)
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

/// Decodes version 10.
fn decode_by_id(body: Bytes) -> Result<OffsetCommitRequest, Truncated> {
    let mut input = Input::new(body);
    let request = OffsetCommitRequest::default()
        .with_group_id(input.text()?.into())
        .with_generation_id_or_member_epoch(input.int32()?)
        .with_member_id(input.text()?)
        .with_group_instance_id(input.nullable_text()?)
        .with_topics(input.array(|input| {
            let topic = OffsetCommitRequestTopic::default()
                .with_topic_id(input.uuid()?)
                .with_partitions(input.array(|input| {
                    let partition = OffsetCommitRequestPartition::default()
                        .with_partition_index(input.int32()?)
                        .with_committed_offset(input.int64()?)
                        .with_committed_leader_epoch(input.int32()?)
                        .with_committed_metadata(input.nullable_text()?);
                    input.tagged().map(|()| partition)
                })?);
            input.tagged().map(|()| topic)
        })?);
    input.tagged().map(|()| request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::tests::assert_reads_to_the_last_byte;

    #[test]
    fn version_10_is_read_to_its_last_byte() {
        assert_reads_to_the_last_byte(&CARD.shape, BY_ID, decode_by_id);
    }
}
