//! Questions about offsets and epochs, in every version.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{ListOffsetsRequest, OffsetForLeaderEpochRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use wharf_log::batch::{Record, build};
use wharf_message::Timestamp;

use crate::records::{batch_of, create, produce};
use crate::support::{Node, START};

fn list(node: &Node, version: i16, timestamp: i64) -> ListOffsetsPartitionResponse {
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
    let name = TopicName(StrBytes::from_static_str("orders"));
    let topic = ListOffsetsTopic::default()
        .with_name(name)
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_topics(vec![topic]);
    let answer = node.ask_as(version, version.min(10), &request);
    answer.topics[0].partitions[0].clone()
}

#[test]
fn offsets_are_listed_by_end_and_by_time_in_every_version() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    let at = |millis: i64| Record {
        timestamp: Timestamp::from_millis(START + millis),
        value: Some(Bytes::from_static(b"v")),
        ..Record::default()
    };
    produce(&node, 9, topic, build(&[at(10), at(20)], None));
    produce(&node, 9, topic, build(&[at(40), at(30)], None));
    for version in 1..=11 {
        let epoch = if version >= 4 { 0 } else { -1 };
        let found = |timestamp| {
            let found = list(&node, version, timestamp);
            (
                found.error_code,
                found.offset,
                found.timestamp,
                found.leader_epoch,
            )
        };
        assert_eq!(found(-1), (0, 4, -1, epoch), "v{version}");
        assert_eq!(found(-2), (0, 0, -1, epoch), "v{version}");
        for (asked, offset, time) in [(0, 0, 10), (START + 11, 1, 20), (START + 21, 2, 40)] {
            assert_eq!(
                found(asked),
                (0, offset, START + time, epoch),
                "v{version} {asked}"
            );
        }
        assert_eq!(found(START + 41), (0, -1, -1, -1), "v{version}");
        let unsupported = (ResponseError::UnsupportedVersion.code(), -1, -1, -1);
        let newest = (0, 2, START + 40, epoch);
        assert_eq!(
            found(-3),
            if version >= 7 { newest } else { unsupported },
            "v{version}"
        );
        let earliest = (0, 0, -1, epoch);
        assert_eq!(
            found(-4),
            if version >= 8 { earliest } else { unsupported },
            "v{version}"
        );
        let none = (0, -1, -1, -1);
        assert_eq!(
            found(-5),
            if version >= 9 { none } else { unsupported },
            "v{version}"
        );
        assert_eq!(
            found(-6),
            if version >= 11 { none } else { unsupported },
            "v{version}"
        );
        assert_eq!(found(-7), unsupported);
    }
}

#[test]
fn a_partition_asked_for_twice_or_not_there_is_refused() {
    let node = Node::new();
    create(&node, "orders", &[]);
    let partition = |index| {
        ListOffsetsPartition::default()
            .with_partition_index(index)
            .with_timestamp(-1)
    };
    let name = TopicName(StrBytes::from_static_str("orders"));
    let topic = ListOffsetsTopic::default()
        .with_name(name)
        .with_partitions(vec![partition(0), partition(1), partition(0), partition(9)]);
    let request = ListOffsetsRequest::default().with_topics(vec![topic]);
    let answer = node.ask(6, &request);
    let errors: Vec<i16> = answer.topics[0]
        .partitions
        .iter()
        .map(|p| p.error_code)
        .collect();
    let twice = ResponseError::InvalidRequest.code();
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    assert_eq!(errors, [twice, 0, twice, unknown]);
}

#[test]
fn the_only_leader_epoch_ends_at_the_high_watermark() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    produce(&node, 9, topic, batch_of(&["a", "b", "c"], None));
    for version in 2..=4 {
        let end = |current, epoch| {
            let partition = OffsetForLeaderPartition::default()
                .with_current_leader_epoch(current)
                .with_leader_epoch(epoch);
            let asked = OffsetForLeaderTopic::default()
                .with_topic(topic.name())
                .with_partitions(vec![partition]);
            let request = OffsetForLeaderEpochRequest::default().with_topics(vec![asked]);
            let answer = node.ask(version, &request);
            let found = answer.topics[0].partitions[0].clone();
            (found.error_code, found.leader_epoch, found.end_offset)
        };
        assert_eq!(end(-1, 0), (0, 0, 3), "v{version}");
        assert_eq!(end(0, 0), (0, 0, 3), "v{version}");
        assert_eq!(end(0, 5), (0, -1, -1), "v{version}");
        let unknown = ResponseError::UnknownLeaderEpoch.code();
        assert_eq!(end(5, 0), (unknown, -1, -1), "v{version}");
    }
}
