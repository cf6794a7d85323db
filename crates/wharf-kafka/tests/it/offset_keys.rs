//! The keys of committed offsets (8, 9, 47) in every version, topics by name and by id.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, GroupId, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, OffsetFetchResponse, RequestHeader, TopicName,
};
use kafka_protocol::protocol::{Encodable, Request, StrBytes};
use uuid::Uuid;

use crate::support::{Node, read};

/// The version that names topics by id; the message crate decodes its answers but does not encode
/// its requests.
const BY_ID: i16 = 10;

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn group_id(value: &str) -> GroupId {
    GroupId(text(value))
}

fn topic_name(value: &str) -> TopicName {
    TopicName(text(value))
}

/// A topic of two partitions; its id.
fn create_topic(node: &Node, name: &str) -> Uuid {
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(2)
        .with_replication_factor(1);
    let created = node.ask(7, &CreateTopicsRequest::default().with_topics(vec![topic]));
    assert_eq!(created.topics[0].error_code, 0);
    created.topics[0].topic_id
}

/// A frame of a version the message crate does not encode.
fn frame_by_id<Q: Request>(body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    RequestHeader::default()
        .with_request_api_key(Q::KEY)
        .with_request_api_version(BY_ID)
        .with_correlation_id(0x0102_0304)
        .with_client_id(Some(text("tester")))
        .encode(&mut out, Q::header_version(BY_ID))
        .unwrap();
    out.extend_from_slice(body);
    out.freeze()
}

fn ask_by_id<Q: Request>(node: &Node, body: &[u8]) -> Q::Response {
    let answer = node
        .send(frame_by_id::<Q>(body))
        .unwrap()
        .expect("an answer");
    read::<Q>(BY_ID, BY_ID, answer)
}

fn put_text(out: &mut BytesMut, value: &str) {
    out.put_u8(u8::try_from(value.len() + 1).unwrap());
    out.extend_from_slice(value.as_bytes());
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u8(u8::try_from(count + 1).unwrap());
}

/// A commit outside of the group protocol.
fn commit_request(group: &str) -> OffsetCommitRequest {
    OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id_or_member_epoch(-1)
}

fn commit_topic(name: &str, id: Uuid, partitions: &[(i32, i64)]) -> OffsetCommitRequestTopic {
    let partitions = partitions.iter().map(|(index, offset)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(*index)
            .with_committed_offset(*offset)
            .with_committed_leader_epoch(0)
            .with_committed_metadata(Some(text(&format!("at {offset}"))))
    });
    OffsetCommitRequestTopic::default()
        .with_name(topic_name(name))
        .with_topic_id(id)
        .with_partitions(partitions.collect())
}

/// What became of each partition, in the order of the answer: topic, partition, error.
fn commit(node: &Node, version: i16, request: &OffsetCommitRequest) -> Vec<(String, i32, i16)> {
    let response = if version < BY_ID {
        node.ask(version, request)
    } else {
        let mut body = BytesMut::new();
        put_text(&mut body, &request.group_id);
        body.put_i32(request.generation_id_or_member_epoch);
        put_text(&mut body, &request.member_id);
        body.put_u8(0);
        put_count(&mut body, request.topics.len());
        for topic in &request.topics {
            body.extend_from_slice(topic.topic_id.as_bytes());
            put_count(&mut body, topic.partitions.len());
            for partition in &topic.partitions {
                body.put_i32(partition.partition_index);
                body.put_i64(partition.committed_offset);
                body.put_i32(partition.committed_leader_epoch);
                put_text(&mut body, partition.committed_metadata.as_ref().unwrap());
                body.put_u8(0);
            }
            body.put_u8(0);
        }
        body.put_u8(0);
        ask_by_id::<OffsetCommitRequest>(node, &body)
    };
    let name =
        |topic: &kafka_protocol::messages::offset_commit_response::OffsetCommitResponseTopic| {
            if version < BY_ID {
                topic.name.to_string()
            } else {
                topic.topic_id.to_string()
            }
        };
    let of_topic = |topic| (name(topic), &topic.partitions);
    let topics = response.topics.iter().map(of_topic);
    topics
        .flat_map(|(name, partitions)| {
            partitions
                .iter()
                .map(move |one| (name.clone(), one.partition_index, one.error_code))
        })
        .collect()
}

/// A committed offset as fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fetched {
    topic: String,
    partition: i32,
    offset: i64,
    metadata: String,
    error: i16,
}

/// What a fetch for one group found, and the error of the group. No topics ask for all.
fn fetch(
    node: &Node,
    version: i16,
    group: &str,
    topics: Option<&[(&str, Uuid, &[i32])]>,
) -> (Vec<Fetched>, i16) {
    let response = match version {
        ..8 => {
            let topics = topics.map(|topics| {
                let topic = |(name, _, partitions): &(&str, Uuid, &[i32])| {
                    OffsetFetchRequestTopic::default()
                        .with_name(topic_name(name))
                        .with_partition_indexes(partitions.to_vec())
                };
                topics.iter().map(topic).collect()
            });
            let request = OffsetFetchRequest::default()
                .with_group_id(group_id(group))
                .with_topics(topics);
            node.ask(version, &request)
        }
        8 | 9 => node.ask(version, &batch(&[group], topics).with_require_stable(true)),
        _ => fetch_by_id(node, &batch(&[group], topics)),
    };
    if version < 8 {
        let topics = response
            .topics
            .iter()
            .map(|topic| (topic.name.to_string(), &topic.partitions));
        let found = topics.flat_map(|(topic, partitions)| {
            partitions.iter().map(move |one| Fetched {
                topic: topic.clone(),
                partition: one.partition_index,
                offset: one.committed_offset,
                metadata: one.metadata.as_ref().unwrap().to_string(),
                error: one.error_code,
            })
        });
        return (found.collect(), response.error_code);
    }
    assert_eq!(response.groups.len(), 1);
    assert_eq!(response.groups[0].group_id.as_str(), group);
    of_group(&response, 0, version)
}

fn of_group(response: &OffsetFetchResponse, index: usize, version: i16) -> (Vec<Fetched>, i16) {
    let group = &response.groups[index];
    let topics = group.topics.iter().map(|topic| {
        let id = || topic.topic_id.to_string();
        let name = if version < BY_ID {
            topic.name.to_string()
        } else {
            id()
        };
        (name, &topic.partitions)
    });
    let found = topics.flat_map(|(topic, partitions)| {
        partitions.iter().map(move |one| Fetched {
            topic: topic.clone(),
            partition: one.partition_index,
            offset: one.committed_offset,
            metadata: one.metadata.as_ref().unwrap().to_string(),
            error: one.error_code,
        })
    });
    (found.collect(), group.error_code)
}

fn batch(groups: &[&str], topics: Option<&[(&str, Uuid, &[i32])]>) -> OffsetFetchRequest {
    let topic = |(name, id, partitions): &(&str, Uuid, &[i32])| {
        OffsetFetchRequestTopics::default()
            .with_name(topic_name(name))
            .with_topic_id(*id)
            .with_partition_indexes(partitions.to_vec())
    };
    let groups = groups.iter().map(|group| {
        OffsetFetchRequestGroup::default()
            .with_group_id(group_id(group))
            .with_topics(topics.map(|topics| topics.iter().map(topic).collect()))
    });
    OffsetFetchRequest::default().with_groups(groups.collect())
}

fn fetch_by_id(node: &Node, request: &OffsetFetchRequest) -> OffsetFetchResponse {
    let mut body = BytesMut::new();
    put_count(&mut body, request.groups.len());
    for group in &request.groups {
        put_text(&mut body, &group.group_id);
        body.put_u8(0);
        body.put_i32(-1);
        let Some(topics) = &group.topics else {
            body.put_slice(&[0, 0]);
            continue;
        };
        put_count(&mut body, topics.len());
        for topic in topics {
            body.extend_from_slice(topic.topic_id.as_bytes());
            put_count(&mut body, topic.partition_indexes.len());
            topic
                .partition_indexes
                .iter()
                .for_each(|index| body.put_i32(*index));
            body.put_u8(0);
        }
        body.put_u8(0);
    }
    body.put_slice(&[1, 0]);
    ask_by_id::<OffsetFetchRequest>(node, &body)
}

#[test]
fn what_is_committed_in_any_version_is_fetched_in_any_version() {
    let node = Node::new();
    let id = create_topic(&node, "orders");
    for commit_version in 2..=BY_ID {
        let group = format!("group-{commit_version}");
        let offset = 100 + i64::from(commit_version);
        let topic = commit_topic("orders", id, &[(1, offset), (0, offset + 1)]);
        let results = commit(
            &node,
            commit_version,
            &commit_request(&group).with_topics(vec![topic]),
        );
        let named = |version| {
            if version < BY_ID {
                "orders".to_owned()
            } else {
                id.to_string()
            }
        };
        let expected = [(named(commit_version), 1, 0), (named(commit_version), 0, 0)];
        assert_eq!(results, expected, "version {commit_version}");
        for version in 1..=BY_ID {
            let (found, error) = fetch(&node, version, &group, Some(&[("orders", id, &[1, 0])]));
            let expected = |partition, offset| Fetched {
                topic: named(version),
                partition,
                offset,
                metadata: format!("at {offset}"),
                error: 0,
            };
            assert_eq!(error, 0);
            assert_eq!(
                found,
                [expected(1, offset), expected(0, offset + 1)],
                "version {version}"
            );
        }
    }
}

#[test]
fn an_unknown_group_has_committed_nothing_which_is_no_error() {
    let node = Node::new();
    let id = create_topic(&node, "orders");
    for version in 1..=BY_ID {
        let (found, error) = fetch(&node, version, "nowhere", Some(&[("orders", id, &[0])]));
        assert_eq!(error, 0);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].offset, found[0].error),
            (-1, 0),
            "version {version}"
        );
        assert_eq!(found[0].metadata, "");
        if version >= 2 {
            assert_eq!(fetch(&node, version, "nowhere", None), (Vec::new(), 0));
        }
    }
}

#[test]
fn without_topics_everything_the_group_committed_is_fetched() {
    let node = Node::new();
    let (orders, payments) = (
        create_topic(&node, "orders"),
        create_topic(&node, "payments"),
    );
    let topics = vec![
        commit_topic("payments", payments, &[(1, 5)]),
        commit_topic("orders", orders, &[(0, 7)]),
    ];
    commit(&node, 9, &commit_request("all").with_topics(topics));
    for version in 2..=BY_ID {
        let (mut found, error) = fetch(&node, version, "all", None);
        found.sort_by_key(|one| one.offset);
        let offsets: Vec<_> = found
            .iter()
            .map(|one| (one.partition, one.offset))
            .collect();
        assert_eq!(
            (offsets, error),
            (vec![(1, 5), (0, 7)], 0),
            "version {version}"
        );
    }
}

#[test]
fn several_groups_are_fetched_in_the_order_asked() {
    let node = Node::new();
    let id = create_topic(&node, "orders");
    for (group, offset) in [("a", 1), ("b", 2)] {
        let topic = commit_topic("orders", id, &[(0, offset)]);
        commit(&node, 8, &commit_request(group).with_topics(vec![topic]));
    }
    for version in 8..=BY_ID {
        let request = batch(&["b", "nowhere", "a"], Some(&[("orders", id, &[0])]));
        let response = if version < BY_ID {
            node.ask(version, &request)
        } else {
            fetch_by_id(&node, &request)
        };
        let offsets: Vec<_> = (0..3)
            .map(|index| {
                let (found, error) = of_group(&response, index, version);
                (
                    response.groups[index].group_id.to_string(),
                    found[0].offset,
                    error,
                )
            })
            .collect();
        let expected = [
            ("b".to_owned(), 2, 0),
            ("nowhere".to_owned(), -1, 0),
            ("a".to_owned(), 1, 0),
        ];
        assert_eq!(offsets, expected, "version {version}");
    }
}

#[test]
fn unknown_topics_and_partitions_are_refused_one_by_one() {
    let node = Node::new();
    let id = create_topic(&node, "orders");
    let stranger = Uuid::from_u128(42);
    for version in 2..=BY_ID {
        let topics = vec![
            commit_topic("nowhere", stranger, &[(0, 1)]),
            commit_topic("orders", id, &[(9, 1), (0, 1)]),
        ];
        let results = commit(&node, version, &commit_request("picky").with_topics(topics));
        let codes: Vec<_> = results
            .iter()
            .map(|(_, partition, code)| (*partition, *code))
            .collect();
        let unknown = ResponseError::UnknownTopicOrPartition.code();
        let unknown_id = ResponseError::UnknownTopicId.code();
        let of_topic = if version < BY_ID { unknown } else { unknown_id };
        assert_eq!(
            codes,
            [(0, of_topic), (9, unknown), (0, 0)],
            "version {version}"
        );
    }
    let (found, error) = fetch(&node, BY_ID, "picky", Some(&[("nowhere", stranger, &[3])]));
    assert_eq!(error, 0);
    assert_eq!(
        (found[0].offset, found[0].error),
        (-1, ResponseError::UnknownTopicId.code())
    );
}

#[test]
fn a_member_nobody_knows_cannot_commit_and_metadata_has_a_limit() {
    let node = Node::new();
    let id = create_topic(&node, "orders");
    let topic = || commit_topic("orders", id, &[(0, 1), (1, 1)]);
    for version in 2..=BY_ID {
        let request = commit_request("guarded")
            .with_generation_id_or_member_epoch(3)
            .with_member_id(text("stranger"))
            .with_topics(vec![topic()]);
        let results = commit(&node, version, &request);
        assert_eq!(results.len(), 2);
        assert!(
            results.iter().all(|(_, _, code)| *code != 0),
            "version {version}: {results:?}"
        );
    }
    let long = "x".repeat(node.broker.options().offset_metadata_bytes_max + 1);
    let mut topic = topic();
    topic.partitions[0].committed_metadata = Some(text(&long));
    let results = commit(&node, 9, &commit_request("long").with_topics(vec![topic]));
    let codes: Vec<_> = results.iter().map(|one| one.2).collect();
    assert_eq!(codes, [ResponseError::OffsetMetadataTooLarge.code(), 0]);
}

#[test]
fn deleted_offsets_are_gone_and_unknown_partitions_are_named() {
    let node = Node::new();
    let id = create_topic(&node, "orders");
    commit(
        &node,
        9,
        &commit_request("g").with_topics(vec![commit_topic("orders", id, &[(0, 1), (1, 2)])]),
    );
    let topic = |name: &str, partitions: &[i32]| {
        let partitions = partitions
            .iter()
            .map(|index| OffsetDeleteRequestPartition::default().with_partition_index(*index));
        OffsetDeleteRequestTopic::default()
            .with_name(topic_name(name))
            .with_partitions(partitions.collect())
    };
    let request = |group: &str| {
        OffsetDeleteRequest::default()
            .with_group_id(group_id(group))
            .with_topics(vec![topic("nowhere", &[0]), topic("orders", &[1, 7])])
    };
    let response = node.ask(0, &request("g"));
    assert_eq!(response.error_code, 0);
    let codes: Vec<_> = response
        .topics
        .iter()
        .flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|one| (one.partition_index, one.error_code))
        })
        .collect();
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    assert_eq!(codes, [(0, unknown), (1, 0), (7, unknown)]);
    let (found, _) = fetch(&node, 9, "g", Some(&[("orders", id, &[0, 1])]));
    assert_eq!(
        found.iter().map(|one| one.offset).collect::<Vec<_>>(),
        [1, -1]
    );

    let response = node.ask(0, &request("nowhere"));
    assert_eq!(response.error_code, ResponseError::GroupIdNotFound.code());
    assert!(response.topics.is_empty());
}

#[test]
fn offsets_of_a_deleted_topic_are_gone_with_it() {
    let node = Node::new();
    let id = create_topic(&node, "short");
    commit(
        &node,
        9,
        &commit_request("g").with_topics(vec![commit_topic("short", id, &[(0, 1)])]),
    );
    let deleted = node.ask(
        5,
        &DeleteTopicsRequest::default().with_topic_names(vec![topic_name("short")]),
    );
    assert_eq!(deleted.responses[0].error_code, 0);
    let (found, _) = fetch(&node, 7, "g", Some(&[("short", id, &[0])]));
    assert_eq!(found[0].offset, -1);
    let again = create_topic(&node, "short");
    assert_ne!(again, id);
    let (found, _) = fetch(&node, BY_ID, "g", Some(&[("short", again, &[0])]));
    assert_eq!((found[0].offset, found[0].error), (-1, 0));
}

#[test]
fn offsets_asked_for_again_and_again_are_answered_once() {
    let node = Node::new();
    let id = create_topic(&node, "orders");
    let topic = commit_topic("orders", id, &[(0, 1), (1, 2)]);
    commit(&node, 9, &commit_request("g").with_topics(vec![topic]));
    let again: &[(&str, Uuid, &[i32])] = &[("orders", id, &[1, 0, 1, 1]), ("orders", id, &[0, 0])];
    for version in 1..=BY_ID {
        let (found, _) = fetch(&node, version, "g", Some(again));
        let offsets: Vec<_> = found.iter().map(|one| one.offset).collect();
        assert_eq!(offsets, [2, 1], "version {version}");
    }
    let response = node.ask(9, &batch(&["g", "g", "g"], None));
    assert_eq!(response.groups.len(), 1);
}
