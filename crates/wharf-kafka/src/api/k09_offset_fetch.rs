//! OffsetFetch: how far groups have read.
//!
//! Versions 1 to 7 ask for one group, 8 and later for several; version 10 names topics by id. No
//! list of topics (null) means all the group has committed. A group nobody knows has committed
//! nothing, which is no error: offset -1. Nothing is ever unstable here, because there are no
//! transactions with pending offsets: `require_stable` is always met. A group or partition named
//! again is not answered again.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;
use wharf_broker::group::{CommittedOffset, Member};
use wharf_broker::{Broker, Context, Error, ErrorKind, TopicRef};

use super::Card;
use super::repeated::once;
use crate::compact::{Input, Truncated};
use crate::error::{NONE, error_code};
use crate::frame::Call;
use crate::shape::{BOOL, INT32, Shape, TEXT, UUID, array, items};
use crate::wire::{text, topic_name, topic_ref};
use crate::{Disconnect, Outcome};

/// The first version that asks for several groups.
const SEVERAL_GROUPS: i16 = 8;
/// The version that names topics by id; the message crate cannot decode it.
const BY_ID: i16 = 10;
/// The first version with a place for an error of the group.
const GROUP_ERROR: i16 = 2;

/// What one group is asked for.
struct Question {
    group: String,
    /// Who asks, if it says so (version 9 and later).
    member: Option<Member>,
    /// `None` for all topics.
    topics: Option<Vec<(TopicRef, Vec<i32>)>>,
    /// What an open transaction is about to change must not be answered (KIP-447).
    require_stable: bool,
}

/// The partitions of one topic with what was found.
struct Found {
    topic: TopicRef,
    partitions: Vec<(i32, Result<CommittedOffset, i16>)>,
}

pub(super) static CARD: Card = Card {
    key: 9,
    name: "OffsetFetch",
    advertised: 1..=10,
    answered: 1..=10,
    kips: &[88, 320, 447, 709, 848],
    shape: Shape::new(
        6,
        &[
            TEXT.to(7),
            array(&[TEXT, items(&INT32)]).to(7),
            array(&[
                TEXT,
                TEXT.from(9),
                INT32.from(9),
                array(&[TEXT.to(9), UUID.from(BY_ID), items(&INT32)]),
            ])
            .from(SEVERAL_GROUPS),
            BOOL.from(7),
        ],
    ),
    notes: "Version 10 names topics by id.",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    if call.version() < BY_ID {
        return call.answer_now(answer);
    }
    let request = decode_by_id(call.body.clone())?;
    Ok(call.answer_to(
        request,
        |call, request| async move { answer(&call, request) },
    ))
}

fn answer(call: &Call, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let (broker, cx) = (&call.broker, &call.cx);
    let version = call.version();
    if version < SEVERAL_GROUPS {
        return answer_one(broker, cx, request, version);
    }
    let mut seen = HashSet::new();
    let groups = request.groups.into_iter();
    let groups = groups
        .filter(|group| seen.insert(group.group_id.clone()))
        .map(|group| {
            let topic = |topic: OffsetFetchRequestTopics| {
                let by_id = version >= BY_ID;
                (
                    topic_ref(by_id, &topic.name, topic.topic_id),
                    topic.partition_indexes,
                )
            };
            let topics = group
                .topics
                .map(|topics| once(topics.into_iter().map(topic).collect()));
            let question = Question {
                group: group.group_id.to_string(),
                member: group.member_id.map(|id| Member {
                    group: group.group_id.to_string(),
                    generation: group.member_epoch,
                    member: id.to_string(),
                    instance: None,
                }),
                topics,
                require_stable: request.require_stable,
            };
            let answer = OffsetFetchResponseGroup::default().with_group_id(group.group_id);
            match ask(broker, cx, &question, version) {
                Ok(found) => answer.with_topics(found.into_iter().map(batched_topic).collect()),
                Err(error) => answer.with_error_code(error_code(error.kind)),
            }
        });
    OffsetFetchResponse::default().with_groups(groups.collect())
}

fn answer_one(
    broker: &Broker,
    cx: &Context,
    request: OffsetFetchRequest,
    version: i16,
) -> OffsetFetchResponse {
    let topic = |topic: OffsetFetchRequestTopic| {
        (
            TopicRef::Name(topic.name.to_string()),
            topic.partition_indexes,
        )
    };
    let topics = request
        .topics
        .map(|topics| once(topics.into_iter().map(topic).collect()));
    let question = Question {
        group: request.group_id.to_string(),
        member: None,
        topics,
        require_stable: request.require_stable,
    };
    let response = OffsetFetchResponse::default();
    let (code, found) = match ask(broker, cx, &question, version) {
        Ok(found) => (NONE, found),
        Err(error) if version >= GROUP_ERROR => (error_code(error.kind), Vec::new()),
        Err(error) => (NONE, refused(question, error_code(error.kind))),
    };
    response
        .with_error_code(code)
        .with_topics(found.into_iter().map(single_topic).collect())
}

/// The group's error as the error of every partition asked for.
fn refused(question: Question, code: i16) -> Vec<Found> {
    let topics = question.topics.unwrap_or_default().into_iter();
    topics
        .map(|(topic, indexes)| Found {
            topic,
            partitions: indexes
                .into_iter()
                .map(|index| (index, Err(code)))
                .collect(),
        })
        .collect()
}

fn ask(
    broker: &Broker,
    cx: &Context,
    question: &Question,
    version: i16,
) -> Result<Vec<Found>, Error> {
    let member = question.member.as_ref();
    let Some(topics) = &question.topics else {
        let all = broker.committed_offsets(cx, &question.group, member, None)?;
        let all = all.into_iter().flatten();
        return Ok(by_topic(all, version, question.require_stable));
    };
    let partitions: Vec<_> = topics
        .iter()
        .flat_map(|(topic, indexes)| indexes.iter().map(move |index| (topic.clone(), *index)))
        .collect();
    let results = broker.committed_offsets(cx, &question.group, member, Some(&partitions))?;
    let mut results = results.into_iter().map(|one| match one {
        Ok(offset) => stable(offset, question.require_stable),
        Err(error) => Err(error_code(error.kind)),
    });
    Ok(topics
        .iter()
        .map(|(topic, indexes)| Found {
            topic: topic.clone(),
            partitions: indexes.iter().copied().zip(&mut results).collect(),
        })
        .collect())
}

/// The offset, unless it is about to change and the client wants none that is.
fn stable(offset: CommittedOffset, require_stable: bool) -> Result<CommittedOffset, i16> {
    match require_stable && offset.is_unstable {
        true => Err(error_code(ErrorKind::UnstableOffsetCommit)),
        false => Ok(offset),
    }
}

/// All offsets of a group, by topic. A topic that is gone has no id to name it by.
fn by_topic(
    offsets: impl Iterator<Item = CommittedOffset>,
    version: i16,
    require_stable: bool,
) -> Vec<Found> {
    let mut topics: BTreeMap<String, Vec<CommittedOffset>> = BTreeMap::new();
    for offset in offsets {
        topics.entry(offset.topic.clone()).or_default().push(offset);
    }
    topics
        .into_iter()
        .filter_map(|(name, offsets)| {
            let topic = if version >= BY_ID {
                TopicRef::Id(offsets.first()?.topic_id?)
            } else {
                TopicRef::Name(name)
            };
            let partitions = offsets
                .into_iter()
                .map(|offset| (offset.partition, stable(offset, require_stable)));
            Some(Found {
                topic,
                partitions: partitions.collect(),
            })
        })
        .collect()
}

fn name_and_id(topic: TopicRef) -> (TopicName, Uuid) {
    match topic {
        TopicRef::Name(name) => (topic_name(name), Uuid::nil()),
        TopicRef::Id(id) => (TopicName::default(), id),
    }
}

fn batched_topic(found: Found) -> OffsetFetchResponseTopics {
    let (name, id) = name_and_id(found.topic);
    let partitions = found.partitions.into_iter().map(|(index, result)| {
        let answer = OffsetFetchResponsePartitions::default().with_partition_index(index);
        match result {
            Ok(committed) => answer
                .with_committed_offset(committed.offset)
                .with_committed_leader_epoch(committed.leader_epoch)
                .with_metadata(Some(text(committed.metadata))),
            Err(code) => answer
                .with_committed_offset(-1)
                .with_committed_leader_epoch(-1)
                .with_metadata(Some(StrBytes::new()))
                .with_error_code(code),
        }
    });
    let partitions = partitions.collect();
    OffsetFetchResponseTopics::default()
        .with_name(name)
        .with_topic_id(id)
        .with_partitions(partitions)
}

fn single_topic(found: Found) -> OffsetFetchResponseTopic {
    let partitions = found.partitions.into_iter().map(|(index, result)| {
        let answer = OffsetFetchResponsePartition::default().with_partition_index(index);
        match result {
            Ok(committed) => answer
                .with_committed_offset(committed.offset)
                .with_committed_leader_epoch(committed.leader_epoch)
                .with_metadata(Some(text(committed.metadata))),
            Err(code) => answer
                .with_committed_offset(-1)
                .with_committed_leader_epoch(-1)
                .with_metadata(Some(StrBytes::new()))
                .with_error_code(code),
        }
    });
    let partitions = partitions.collect();
    OffsetFetchResponseTopic::default()
        .with_name(name_and_id(found.topic).0)
        .with_partitions(partitions)
}

/// Decodes version 10.
fn decode_by_id(body: Bytes) -> Result<OffsetFetchRequest, Truncated> {
    let mut input = Input::new(body);
    let groups = input.array(|input| {
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(input.text()?.into())
            .with_member_id(input.nullable_text()?)
            .with_member_epoch(input.int32()?)
            .with_topics(input.nullable_array(|input| {
                let topic = OffsetFetchRequestTopics::default()
                    .with_topic_id(input.uuid()?)
                    .with_partition_indexes(input.array(Input::int32)?);
                input.tagged().map(|()| topic)
            })?);
        input.tagged().map(|()| group)
    })?;
    let request = OffsetFetchRequest::default()
        .with_groups(groups)
        .with_require_stable(input.boolean()?);
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

    #[test]
    fn offsets_of_a_topic_that_is_gone_are_named_only_where_names_exist() {
        let offset = |topic: &str, topic_id, partition| CommittedOffset {
            topic: topic.to_owned(),
            topic_id,
            partition,
            offset: 7,
            leader_epoch: 0,
            metadata: String::new(),
            is_unstable: false,
        };
        let id = Uuid::from_u128(1);
        let all = [
            offset("kept", Some(id), 1),
            offset("gone", None, 0),
            offset("kept", Some(id), 0),
        ];
        let named: Vec<_> = by_topic(all.clone().into_iter(), 9, true)
            .into_iter()
            .map(|found| found.topic)
            .collect();
        assert_eq!(
            named,
            [TopicRef::Name("gone".into()), TopicRef::Name("kept".into())]
        );
        let by_id = by_topic(all.into_iter(), BY_ID, true);
        assert_eq!(by_id.len(), 1);
        assert_eq!(by_id[0].topic, TopicRef::Id(id));
        assert_eq!(by_id[0].partitions.len(), 2);
    }
}
