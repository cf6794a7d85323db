//! TxnOffsetCommit: how far a group has read, to count with the transaction that wrote what came of
//! it (KIP-98, KIP-447). From version 5 on the group need not have been added before (KIP-890).

use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use wharf_broker::group::{CommitOffset, Member};
use wharf_broker::{ProducerIdentity, Protocol, TopicRef, TransactionalProducer};

use super::Card;
use crate::error::{code_of, error_code};
use crate::frame::Call;
use crate::shape::{INT16, INT32, INT64, Shape, TEXT, array};
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 28,
    name: "TxnOffsetCommit",
    advertised: 0..=5,
    answered: 0..=5,
    kips: &[98, 320, 447, 890],
    shape: Shape::new(
        3,
        &[
            TEXT,
            TEXT,
            INT64,
            INT16,
            INT32.from(3),
            TEXT.from(3),
            TEXT.from(3),
            array(&[TEXT, array(&[INT32, INT64, INT32.from(2), TEXT])]),
        ],
    ),
    notes: "",
};

/// The first version that names the member.
const MEMBER_FROM: i16 = 3;
/// The first version that adds the group to the transaction.
const IMPLICIT_FROM: i16 = 5;
/// No generation.
const NO_GENERATION: i32 = -1;

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer(answer)
}

async fn answer(call: Call, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let version = call.version();
    let caller = TransactionalProducer {
        id: request.transactional_id.to_string(),
        producer: ProducerIdentity {
            id: request.producer_id.0,
            epoch: request.producer_epoch,
        },
    };
    let protocol = match version >= IMPLICIT_FROM {
        true => Protocol::Implicit,
        false => Protocol::Explicit,
    };
    let member = Member {
        group: request.group_id.to_string(),
        generation: match version >= MEMBER_FROM {
            true => request.generation_id,
            false => NO_GENERATION,
        },
        member: request.member_id.to_string(),
        instance: request
            .group_instance_id
            .map(|instance| instance.to_string()),
    };
    let mut asked = Vec::with_capacity(request.topics.len());
    let mut offsets = Vec::new();
    for topic in request.topics {
        let name = TopicRef::Name(topic.name.to_string());
        let indexes: Vec<i32> = topic
            .partitions
            .iter()
            .map(|partition| partition.partition_index)
            .collect();
        offsets.extend(topic.partitions.into_iter().map(|partition| {
            CommitOffset {
                topic: name.clone(),
                partition: partition.partition_index,
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition
                    .committed_metadata
                    .map(|metadata| metadata.to_string()),
                retention: None,
            }
        }));
        asked.push((topic.name, indexes));
    }
    let count = offsets.len();
    let (broker, cx) = (&call.broker, &call.cx);
    let committed = broker
        .commit_offsets_in_transaction(cx, &caller, protocol, &member, offsets)
        .await;
    let codes: Vec<i16> = match committed {
        Ok(results) => results.iter().map(code_of).collect(),
        Err(error) => vec![error_code(error.kind); count],
    };
    let mut codes = codes.into_iter();
    let topics = asked.into_iter().map(|(name, indexes)| {
        let partitions = indexes.into_iter().zip(&mut codes).map(|(index, code)| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code)
        });
        TxnOffsetCommitResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}
