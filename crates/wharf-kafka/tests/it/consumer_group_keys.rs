//! The keys of the consumer protocol (68, 69) in every version, and what other keys answer about
//! its groups.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::consumer_group_describe_response::DescribedGroup;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    CreateTopicsRequest, DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest,
    GroupId, ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::support::Node;

const MAX: i16 = 1;

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn group_id(value: &str) -> GroupId {
    GroupId(text(value))
}

fn node() -> Node {
    let node = Node::new();
    let topic = CreatableTopic::default()
        .with_name(TopicName(text("orders")))
        .with_num_partitions(4)
        .with_replication_factor(1);
    let created = node.ask(7, &CreateTopicsRequest::default().with_topics(vec![topic]));
    assert_eq!(created.topics[0].error_code, 0);
    node
}

fn join(member: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group_id("g"))
        .with_member_id(text(member))
        .with_rebalance_timeout_ms(60_000)
        .with_subscribed_topic_names(Some(vec![TopicName(text("orders"))]))
        .with_topic_partitions(Some(Vec::new()))
}

fn beat(member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group_id("g"))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
}

fn indexes(answer: &ConsumerGroupHeartbeatResponse) -> Vec<i32> {
    let topics = answer
        .assignment
        .iter()
        .flat_map(|one| &one.topic_partitions);
    topics.flat_map(|topic| topic.partitions.clone()).collect()
}

fn describe(node: &Node, version: i16, group: &str) -> DescribedGroup {
    let request = ConsumerGroupDescribeRequest::default()
        .with_group_ids(vec![group_id(group), group_id(group)])
        .with_include_authorized_operations(true);
    let mut groups = node.ask(version, &request).groups;
    assert_eq!(groups.len(), 1, "described once");
    groups.remove(0)
}

#[test]
fn members_join_share_and_leave_in_every_version() {
    for version in 0..=MAX {
        let node = node();
        let first = node.ask(version, &join("a"));
        assert_eq!((first.error_code, first.member_epoch), (0, 1), "v{version}");
        assert_eq!(first.heartbeat_interval_ms, 5_000);
        assert_eq!(indexes(&first), [0, 1, 2, 3]);
        let topic = first.assignment.as_ref().unwrap().topic_partitions[0].topic_id;
        assert_eq!(indexes(&node.ask(version, &join("b"))), [0; 0]);
        assert_eq!(indexes(&node.ask(version, &beat("a", 1))), [0, 1]);
        let owned = TopicPartitions::default()
            .with_topic_id(topic)
            .with_partitions(vec![0, 1]);
        let acknowledged = node.ask(
            version,
            &beat("a", 1).with_topic_partitions(Some(vec![owned])),
        );
        assert_eq!(acknowledged.member_epoch, 2);
        assert_eq!(indexes(&node.ask(version, &beat("b", 2))), [2, 3]);
        let left = node.ask(version, &beat("a", -1));
        assert_eq!((left.error_code, left.member_epoch), (0, -1));
        assert!(left.assignment.is_none());
    }
}

#[test]
fn a_member_brings_its_own_id_from_version_1_on() {
    let node = node();
    let given = node.ask(0, &join(""));
    assert!(!given.member_id.unwrap().is_empty());
    let refused = node.ask(1, &join(""));
    assert_eq!(refused.error_code, ResponseError::InvalidRequest.code());
    assert!(refused.error_message.is_some());
}

#[test]
fn a_pattern_is_resolved_by_the_server() {
    let node = node();
    let by_pattern = |pattern: &str| {
        join("a")
            .with_subscribed_topic_names(None)
            .with_subscribed_topic_regex(Some(text(pattern)))
    };
    assert_eq!(indexes(&node.ask(1, &by_pattern("^ord.*"))), [0, 1, 2, 3]);
    let wrong = node.ask(1, &by_pattern("("));
    assert_eq!(
        wrong.error_code,
        ResponseError::InvalidRegularExpression.code()
    );
}

#[test]
fn refusals_have_the_numbers_and_sentences_of_the_protocol() {
    let node = node();
    node.ask(1, &join("a").with_instance_id(Some(text("i"))));
    for (request, expected) in [
        (beat("a", 9), ResponseError::FencedMemberEpoch),
        (beat("x", 1), ResponseError::UnknownMemberId),
        (
            beat("x", 1).with_instance_id(Some(text("i"))),
            ResponseError::FencedInstanceId,
        ),
        (
            join("x").with_instance_id(Some(text("i"))),
            ResponseError::UnreleasedInstanceId,
        ),
        (
            join("x").with_server_assignor(Some(text("best"))),
            ResponseError::UnsupportedAssignor,
        ),
        (
            beat("a", 1).with_group_id(group_id("none")),
            ResponseError::GroupIdNotFound,
        ),
    ] {
        let answer = node.ask(1, &request);
        assert_eq!(answer.error_code, expected.code(), "{expected:?}");
        assert!(
            answer
                .error_message
                .is_some_and(|message| !message.is_empty())
        );
    }
}

#[test]
fn a_group_is_described_with_its_epochs_and_assignments() {
    for version in 0..=MAX {
        let node = node();
        let member = join("a")
            .with_instance_id(Some(text("i")))
            .with_rack_id(Some(text("r")));
        node.ask(version, &member);
        node.ask(version, &join("b"));
        let group = describe(&node, version, "g");
        assert_eq!(
            (group.error_code, group.group_state.as_str()),
            (0, "Reconciling")
        );
        assert_eq!((group.group_epoch, group.assignment_epoch), (2, 2));
        assert_eq!(group.assignor_name.as_str(), "uniform");
        assert_ne!(group.authorized_operations, i32::MIN);
        let a = &group.members[0];
        assert_eq!((a.member_id.as_str(), a.member_epoch), ("a", 1));
        assert_eq!(a.instance_id, Some(text("i")));
        assert_eq!(a.rack_id, Some(text("r")));
        assert_eq!(a.subscribed_topic_names, [TopicName(text("orders"))]);
        let topic = &a.assignment.topic_partitions[0];
        assert_eq!(
            (topic.topic_name.as_str(), &topic.partitions[..]),
            ("orders", &[0, 1, 2, 3][..])
        );
        assert_eq!(a.target_assignment.topic_partitions[0].partitions, [0, 1]);
        assert_eq!(a.member_type, if version == 0 { -1 } else { 1 });
        assert_eq!(
            describe(&node, version, "x").error_code,
            ResponseError::GroupIdNotFound.code()
        );
    }
}

#[test]
fn other_keys_know_a_group_of_the_consumer_protocol_as_kafka_does() {
    let node = node();
    node.ask(1, &join("a"));
    for version in 0..=6 {
        let request = DescribeGroupsRequest::default().with_groups(vec![group_id("g")]);
        let described = &node.ask(version, &request).groups[0];
        assert_eq!(described.group_state.as_str(), "Dead", "v{version}");
        let code = if version >= 6 {
            ResponseError::GroupIdNotFound.code()
        } else {
            0
        };
        assert_eq!(described.error_code, code, "v{version}");
    }
    let listed = |types: &[&str], states: &[&str]| {
        let words = |words: &[&str]| words.iter().map(|word| text(word)).collect::<Vec<_>>();
        let request = ListGroupsRequest::default()
            .with_types_filter(words(types))
            .with_states_filter(words(states));
        let groups = node.ask(5, &request).groups;
        groups
            .iter()
            .map(|one| one.group_type.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(&[], &[]), ["consumer"]);
    assert_eq!(listed(&["Consumer"], &["stable"]), ["consumer"]);
    assert_eq!(listed(&["classic"], &[]), [""; 0]);
    assert_eq!(listed(&[], &["Reconciling"]), [""; 0]);
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group_id("g")]);
    let deleted = &node.ask(2, &delete).results[0];
    assert_eq!(deleted.error_code, ResponseError::NonEmptyGroup.code());
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
    assert_eq!(node.ask(6, &find).coordinators[0].error_code, 0);
}

fn commit(node: &Node, version: i16, member: &str, epoch: i32) -> i16 {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(3);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text("orders")))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group_id("g"))
        .with_member_id(text(member))
        .with_generation_id_or_member_epoch(epoch)
        .with_topics(vec![topic]);
    node.ask(version, &request).topics[0].partitions[0].error_code
}

fn fetch(node: &Node, member: &str, epoch: i32) -> i16 {
    let topic = OffsetFetchRequestTopics::default()
        .with_name(TopicName(text("orders")))
        .with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(group_id("g"))
        .with_member_id(Some(text(member)))
        .with_member_epoch(epoch)
        .with_topics(Some(vec![topic]));
    node.ask(9, &OffsetFetchRequest::default().with_groups(vec![group]))
        .groups[0]
        .error_code
}

#[test]
fn offsets_are_committed_and_fetched_in_the_members_epoch_from_version_9_on() {
    let node = node();
    assert_eq!(
        commit(&node, 9, "a", 1),
        ResponseError::GroupIdNotFound.code()
    );
    assert_eq!(
        commit(&node, 8, "a", 1),
        ResponseError::IllegalGeneration.code()
    );
    node.ask(1, &join("a"));
    assert_eq!(commit(&node, 9, "a", 1), 0);
    assert_eq!(
        commit(&node, 8, "a", 1),
        ResponseError::UnsupportedVersion.code()
    );
    assert_eq!(
        commit(&node, 9, "a", 0),
        ResponseError::StaleMemberEpoch.code()
    );
    assert_eq!(
        commit(&node, 9, "x", 1),
        ResponseError::UnknownMemberId.code()
    );
    assert_eq!(fetch(&node, "a", 1), 0);
    assert_eq!(fetch(&node, "a", 0), ResponseError::StaleMemberEpoch.code());
    assert_eq!(fetch(&node, "x", 1), ResponseError::UnknownMemberId.code());
}
