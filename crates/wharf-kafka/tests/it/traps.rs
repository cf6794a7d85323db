//! What other brokers have got wrong and clients have tripped over, each shown here once. The list
//! of all of them is `docs/specs/traps.md`.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchRequest, HeartbeatRequest, JoinGroupRequest,
    ListOffsetsRequest, MetadataRequest, OffsetForLeaderEpochRequest, ProduceRequest,
};
use kafka_protocol::protocol::{Decodable, StrBytes};
use wharf_log::batch::header;

use crate::records::{
    Named, batch_of, create, fetch, fetch_request, only, produce, produce_request,
};
use crate::support::{Node, frame};

fn range(node: &Node, key: i16) -> (i16, i16) {
    let answer = node.ask(0, &ApiVersionsRequest::default());
    let found = answer
        .api_keys
        .iter()
        .find(|one| one.api_key == key)
        .unwrap();
    (found.min_version, found.max_version)
}

/// librdkafka before 2.11 compresses only when the range of Produce begins at 0.
#[test]
fn produce_is_advertised_from_version_zero_and_refused_below_three() {
    let node = Node::new();
    assert_eq!(range(&node, 0).0, 0);
    let topic = create(&node, "orders", &[]);
    let whole = frame(3, &produce_request(3, topic, 0, batch_of(&["a"], None)));
    for version in 0..3_i16 {
        let mut old = BytesMut::from(&whole[..]);
        old[2..4].copy_from_slice(&version.to_be_bytes());
        let ended = node.send(old.freeze()).unwrap_err();
        assert!(ended.0.contains("Produce version"), "{ended}");
    }
    assert!(
        fetch(&node, 4, topic, 0).records.unwrap().is_empty(),
        "nothing was written"
    );
    assert!(node.send(whole).unwrap().is_some());
}

/// librdkafka looks for exactly these versions before it uses groups, and before it validates
/// offsets.
#[test]
fn the_single_versions_that_librdkafka_looks_for_are_answered() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    assert_eq!(range(&node, 11).0, 0);
    let join = JoinGroupRequest::default()
        .with_group_id(StrBytes::from_static_str("group").into())
        .with_session_timeout_ms(10_000)
        .with_protocol_type(StrBytes::from_static_str("consumer"));
    // A group needs a protocol; that this is what is refused shows that the version is read.
    assert_eq!(
        node.ask(0, &join).error_code,
        23,
        "INCONSISTENT_GROUP_PROTOCOL"
    );
    let (first, last) = range(&node, 23);
    assert!((first..=last).contains(&2));
    let partition = OffsetForLeaderPartition::default().with_leader_epoch(0);
    let asked = OffsetForLeaderTopic::default()
        .with_topic(topic.name())
        .with_partitions(vec![partition]);
    let answer = node.ask(
        2,
        &OffsetForLeaderEpochRequest::default().with_topics(vec![asked]),
    );
    let found = &answer.topics[0].partitions[0];
    assert_eq!(
        (found.error_code, found.leader_epoch, found.end_offset),
        (0, 0, 0)
    );
}

/// A client reads the answer before it knows what the broker speaks: in version 0, and behind a
/// header without tagged fields in every version.
#[test]
fn api_versions_can_be_read_whatever_was_asked() {
    let node = Node::new();
    for version in 0..=9 {
        let mut request = ApiVersionsRequest::default();
        if version >= 3 {
            request.client_software_name = StrBytes::from_static_str("tester");
            request.client_software_version = StrBytes::from_static_str("1");
        }
        let mut asked = BytesMut::from(&frame(version.min(4), &request)[..]);
        asked[2..4].copy_from_slice(&version.to_be_bytes());
        let mut answer = node
            .send(asked.freeze())
            .unwrap()
            .expect("an answer, no end");
        let _correlation = answer.split_to(4);
        let codec = if version <= 4 { version } else { 0 };
        let read = ApiVersionsResponse::decode(&mut answer, codec).unwrap();
        assert!(answer.is_empty(), "v{version}: no byte of another header");
        assert_eq!(
            read.error_code,
            if version <= 4 { 0 } else { 35 },
            "v{version}"
        );
        assert!(read.api_keys.len() > 30, "v{version}: the ranges are there");
    }
}

/// Whoever advertises versions that name topics by id must tell the ids.
#[test]
fn topic_ids_told_by_metadata_are_taken_by_every_version_that_names_topics_by_id() {
    let node = Node::new();
    let created = create(&node, "orders", &[]);
    for version in 10..=13 {
        let topic = MetadataRequestTopic::default().with_name(Some(created.name()));
        let answer = node.ask(
            version,
            &MetadataRequest::default().with_topics(Some(vec![topic])),
        );
        let told = answer.topics[0].topic_id;
        assert!(!told.is_nil(), "v{version}");
        let topic = Named {
            name: created.name,
            id: told,
        };
        let written = produce(&node, 13, topic, batch_of(&["a"], None));
        assert_eq!(written.error_code, 0);
        for fetch_version in 13..=18 {
            let read = fetch(&node, fetch_version, topic, written.base_offset);
            assert_eq!(read.error_code, 0, "v{fetch_version}");
            assert!(!read.records.unwrap().is_empty());
        }
    }
}

/// Whoever advertises versions with leader epochs must not answer -1: clients then do not commit.
#[test]
fn leader_epochs_are_told_wherever_there_is_a_place_for_them() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    produce(&node, 9, topic, batch_of(&["a"], None));
    for version in 7..=13 {
        let asked = MetadataRequestTopic::default().with_name(Some(topic.name()));
        let answer = node.ask(
            version,
            &MetadataRequest::default().with_topics(Some(vec![asked])),
        );
        for partition in &answer.topics[0].partitions {
            assert!(partition.leader_epoch >= 0, "Metadata v{version}");
        }
    }
    for version in 4..=10 {
        for timestamp in [-1, -2, 0] {
            let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
            let asked = ListOffsetsTopic::default()
                .with_name(topic.name())
                .with_partitions(vec![partition]);
            let answer = node.ask(
                version,
                &ListOffsetsRequest::default().with_topics(vec![asked]),
            );
            let found = &answer.topics[0].partitions[0];
            assert!(
                found.leader_epoch >= 0,
                "ListOffsets v{version} {timestamp}"
            );
        }
    }
    let records = fetch(&node, 12, topic, 0).records.unwrap();
    let epoch = i32::from_be_bytes(records[12..16].try_into().unwrap());
    assert!(epoch >= 0, "the batch's own epoch is {epoch}");
}

/// Some brokers answered acks=0, which shifts every later answer of the connection.
#[test]
fn acks_zero_has_no_answer_in_any_version() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    for version in 3..=13 {
        let request = produce_request(version, topic, 0, batch_of(&["a"], None)).with_acks(0);
        assert_eq!(
            node.send(frame(version, &request)).unwrap(),
            None,
            "v{version}"
        );
    }
    assert_eq!(
        fetch(&node, 12, topic, 0).high_watermark,
        11,
        "and all were written"
    );
}

/// A fetch from the middle of a batch that got nothing, or the part behind it, hung consumers.
#[test]
fn a_fetch_at_any_offset_inside_a_batch_gets_the_batch_from_its_first_record() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    produce(&node, 9, topic, batch_of(&["a", "b", "c", "d"], None));
    for version in 4..=18 {
        for offset in 0..4 {
            let records = fetch(&node, version, topic, offset).records.unwrap();
            let first = header(&records).unwrap();
            assert_eq!(
                (first.base_offset, first.last_offset()),
                (0, 3),
                "v{version} at {offset}"
            );
        }
    }
}

/// A batch that no frame of the journal could hold is refused before anything changes, whatever its
/// topic allows.
#[test]
fn a_batch_larger_than_a_frame_of_the_journal_is_message_too_large() {
    let node = Node::new();
    let topic = create(&node, "orders", &[("max.message.bytes", "100000000")]);
    // The journal files of this node have a MiB; a unit may fill a quarter.
    let huge: &'static str = "x".repeat(300 << 10).leak();
    for version in 3..=13 {
        let refused = produce(&node, version, topic, batch_of(&[huge], None));
        assert_eq!(refused.error_code, 10, "v{version}: MESSAGE_TOO_LARGE");
        assert_eq!(refused.base_offset, -1);
    }
    assert_eq!(
        produce(&node, 9, topic, batch_of(&["small"], None)).base_offset,
        0
    );
}

/// The headers of requests and answers depend on the key and version, and no document says how.
#[test]
fn a_request_in_each_version_gets_an_answer_in_its_own_header() {
    let node = Node::new();
    // Rigid and flexible versions of keys on both sides of their own first flexible version.
    for version in 0..=13 {
        node.ask(
            version,
            &MetadataRequest::default().with_topics(Some(vec![])),
        );
    }
    for version in 0..=4 {
        let heartbeat =
            HeartbeatRequest::default().with_group_id(StrBytes::from_static_str("nobody").into());
        assert_eq!(node.ask(version, &heartbeat).error_code, 25, "v{version}");
    }
    for version in 4..=18 {
        let empty = FetchRequest::default().with_max_wait_ms(0);
        assert_eq!(node.ask(version, &empty).error_code, 0, "v{version}");
    }
    for version in 3..=13 {
        let empty = ProduceRequest::default().with_acks(-1);
        assert!(node.ask(version, &empty).responses.is_empty(), "v{version}");
    }
}

/// A fetch of what is there does not wait for more, and one of what is not gets its time.
#[test]
fn a_fetch_never_hangs_on_an_offset_it_cannot_reach() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    produce(&node, 9, topic, batch_of(&["a"], None));
    for version in 4..=18 {
        for offset in [-1, 2, i64::MAX] {
            let request = fetch_request(version, topic, 0, offset)
                .with_max_wait_ms(i32::MAX)
                .with_min_bytes(i32::MAX);
            let before = node.now();
            let answer = node.ask(version, &request);
            assert_eq!(
                only(&answer).error_code,
                1,
                "OFFSET_OUT_OF_RANGE v{version}"
            );
            assert_eq!(node.now(), before, "told at once");
        }
    }
}

/// A retried batch answered with offset 0, or -1, made producers believe what was never so.
#[test]
fn a_repeated_batch_is_answered_with_its_first_offset_and_never_with_zero() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    produce(&node, 9, topic, batch_of(&["before", "it"], None));
    let producer = wharf_log::batch::Producer {
        id: 0,
        epoch: 0,
        sequence: 0,
    };
    let batch: Bytes = batch_of(&["once"], Some(producer));
    for version in 3..=13 {
        let answer = produce(&node, version, topic, batch.clone());
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (0, 2),
            "v{version}"
        );
    }
    assert_eq!(fetch(&node, 12, topic, 0).high_watermark, 3);
}
