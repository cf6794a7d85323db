//! The keys that ask about replicas, elections and features (43, 45, 46, 55, 57), where there is
//! one node, and about access rules (29, 30, 31) and passwords (50), of which there are none: what Kafka's tools need to
//! hear to go on.

use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ApiVersionsRequest,
    BrokerId, CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest, DescribeQuorumRequest,
    DescribeQuorumResponse, DescribeUserScramCredentialsRequest, ElectLeadersRequest,
    ListPartitionReassignmentsRequest, TopicName, UpdateFeaturesRequest,
};
use kafka_protocol::protocol::StrBytes;

use crate::records::create;
use crate::support::Node;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn name(name: &str) -> TopicName {
    TopicName(text(name))
}

#[test]
fn no_partition_needs_an_election_and_an_unknown_one_is_told() {
    let node = Node::new();
    create(&node, "orders", &[]);
    for version in 0..=2 {
        for election_type in 0..=version.min(1) as i8 {
            let asked = vec![
                TopicPartitions::default()
                    .with_topic(name("orders"))
                    .with_partitions(vec![0, 99, 0, -1]),
                TopicPartitions::default()
                    .with_topic(name("nowhere"))
                    .with_partitions(vec![0]),
            ];
            let request = ElectLeadersRequest::default()
                .with_election_type(election_type)
                .with_topic_partitions(Some(asked));
            let answer = node.ask(version, &request);
            assert_eq!(answer.error_code, 0);
            let [orders, nowhere] = &answer.replica_election_results[..] else {
                panic!("two")
            };
            let codes = orders
                .partition_result
                .iter()
                .map(|one| (one.partition_id, one.error_code));
            let unknown = E::UnknownTopicOrPartition.code();
            let expected = [
                (0, E::ElectionNotNeeded.code()),
                (99, unknown),
                (-1, unknown),
            ];
            assert_eq!(codes.collect::<Vec<_>>(), expected, "v{version}");
            assert!(
                orders
                    .partition_result
                    .iter()
                    .all(|one| one.error_message.is_some())
            );
            assert_eq!(nowhere.partition_result[0].error_code, unknown);
        }
    }
}

#[test]
fn electing_everywhere_changes_nothing_and_an_unknown_kind_of_election_is_refused() {
    let node = Node::new();
    create(&node, "orders", &[]);
    let everywhere = ElectLeadersRequest::default().with_topic_partitions(None);
    for version in 0..=2 {
        let answer = node.ask(version, &everywhere);
        assert_eq!(
            (answer.error_code, answer.replica_election_results.len()),
            (0, 0)
        );
    }
    for election_type in [-1, 2] {
        let answer = node.ask(2, &everywhere.clone().with_election_type(election_type));
        assert_eq!(answer.error_code, E::InvalidRequest.code());
    }
}

fn reassign(
    node: &Node,
    version: i16,
    topic: &str,
    partitions: &[(i32, Option<&[i32]>)],
) -> AlterPartitionReassignmentsResponse {
    let partitions = partitions.iter().map(|(index, replicas)| {
        let replicas = replicas.map(|ids| ids.iter().copied().map(BrokerId).collect());
        ReassignablePartition::default()
            .with_partition_index(*index)
            .with_replicas(replicas)
    });
    let topic = ReassignableTopic::default()
        .with_name(name(topic))
        .with_partitions(partitions.collect());
    let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
    node.ask(version, &request)
}

#[test]
fn a_partition_may_be_assigned_to_the_node_it_is_on_and_to_no_other() {
    let node = Node::new();
    create(&node, "orders", &[]);
    let only: &[i32] = &[1];
    for version in 0..=1 {
        for (replicas, code) in [
            (Some(only), 0),
            (Some(&[2][..]), E::InvalidReplicaAssignment.code()),
            (Some(&[1, 2]), E::InvalidReplicaAssignment.code()),
            (Some(&[1, 1]), E::InvalidReplicaAssignment.code()),
            (Some(&[]), E::InvalidReplicaAssignment.code()),
            (None, E::NoReassignmentInProgress.code()),
        ] {
            let answer = reassign(&node, version, "orders", &[(0, replicas)]);
            assert_eq!(answer.error_code, 0);
            let partition = &answer.responses[0].partitions[0];
            assert_eq!(partition.error_code, code, "v{version} {replicas:?}");
            assert_eq!(partition.error_message.is_some(), code != 0);
        }
        for (topic, index) in [("orders", 99), ("orders", -1), ("nowhere", 0)] {
            let answer = reassign(&node, version, topic, &[(index, Some(only))]);
            let code = answer.responses[0].partitions[0].error_code;
            assert_eq!(code, E::UnknownTopicOrPartition.code(), "{topic} {index}");
        }
        let twice = reassign(&node, version, "orders", &[(0, Some(only)), (0, None)]);
        assert_eq!(twice.error_code, E::InvalidRequest.code());
    }
}

#[test]
fn no_reassignment_is_ever_under_way() {
    let node = Node::new();
    create(&node, "orders", &[]);
    let orders = ListPartitionReassignmentsTopics::default()
        .with_name(name("orders"))
        .with_partition_indexes(vec![0]);
    for topics in [None, Some(vec![]), Some(vec![orders])] {
        let request = ListPartitionReassignmentsRequest::default().with_topics(topics);
        let answer = node.ask(0, &request);
        assert_eq!((answer.error_code, answer.topics.len()), (0, 0));
    }
}

fn quorum(node: &Node, version: i16, topic: &str, partition: i32) -> DescribeQuorumResponse {
    let partition = PartitionData::default().with_partition_index(partition);
    let topic = TopicData::default()
        .with_topic_name(name(topic))
        .with_partitions(vec![partition]);
    node.ask(
        version,
        &DescribeQuorumRequest::default().with_topics(vec![topic]),
    )
}

#[test]
fn the_one_node_leads_the_quorum_that_it_is_and_its_offset_grows_with_what_is_durable() {
    let node = Node::new();
    let mut last = -1;
    for version in 0..=2 {
        let answer = quorum(&node, version, "__cluster_metadata", 0);
        assert_eq!((answer.error_code, answer.topics.len()), (0, 1));
        let partition = &answer.topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.leader_id.0), (0, 1));
        assert!(partition.leader_epoch >= 0 && partition.observers.is_empty());
        let [voter] = &partition.current_voters[..] else {
            panic!("one voter")
        };
        assert_eq!(
            (voter.replica_id.0, voter.log_end_offset),
            (1, partition.high_watermark)
        );
        assert_eq!(answer.nodes.len(), usize::from(version >= 2));
        if let Some(node) = answer.nodes.first() {
            let listener = &node.listeners[0];
            assert_eq!(
                (node.node_id.0, listener.host.as_str(), listener.port),
                (1, "broker.test", 9092)
            );
        }
        assert!(partition.high_watermark > last, "v{version}");
        last = partition.high_watermark;
        create(
            &node,
            ["a", "b", "c"][usize::try_from(version).unwrap()],
            &[],
        );
    }
    for (topic, partition) in [("orders", 0), ("__cluster_metadata", 1)] {
        let answer = quorum(&node, 2, topic, partition);
        let code = answer.topics[0].partitions[0].error_code;
        assert_eq!(code, E::UnknownTopicOrPartition.code());
    }
}

fn update(feature: &str, level: i16) -> FeatureUpdateKey {
    FeatureUpdateKey::default()
        .with_feature(text(feature))
        .with_max_version_level(level)
}

#[test]
fn a_feature_stays_at_the_level_that_api_versions_tells() {
    let node = Node::new();
    let asked = ApiVersionsRequest::default()
        .with_client_software_name(text("tester"))
        .with_client_software_version(text("1"));
    let told = node.ask(4, &asked).finalized_features;
    let told = told
        .iter()
        .map(|one| (one.name.to_string(), one.max_version_level));
    let absent = ("warp.drive".to_owned(), 0);
    for (feature, level) in told.chain([absent]) {
        for version in 0..=2 {
            for (wanted, is_refused) in [(level, false), (level + 1, true), (-1, true)] {
                let request = UpdateFeaturesRequest::default()
                    .with_feature_updates(vec![update(&feature, wanted)]);
                let answer = node.ask(version, &request);
                let refusal = if version == 2 {
                    (answer.error_code, answer.error_message)
                } else {
                    let result = &answer.results[0];
                    assert_eq!(result.feature.as_str(), feature);
                    (result.error_code, result.error_message.clone())
                };
                let code = if is_refused {
                    E::InvalidUpdateVersion.code()
                } else {
                    0
                };
                assert_eq!(refusal.0, code, "v{version} {feature} {wanted}");
                assert_eq!(refusal.1.is_some(), is_refused);
            }
        }
    }
}

#[test]
fn a_feature_named_twice_or_updated_in_an_unknown_way_is_refused() {
    let node = Node::new();
    let twice = vec![update("a", 0), update("a", 0)];
    let answer = node.ask(
        2,
        &UpdateFeaturesRequest::default().with_feature_updates(twice),
    );
    assert_eq!(answer.error_code, E::InvalidRequest.code());
    let oddly = vec![update("a", 0).with_upgrade_type(9)];
    let answer = node.ask(
        2,
        &UpdateFeaturesRequest::default().with_feature_updates(oddly),
    );
    assert_eq!(answer.error_code, E::InvalidUpdateVersion.code());
}

#[test]
fn access_rules_are_refused_as_by_a_kafka_without_an_authorizer() {
    let node = Node::new();
    let disabled = E::SecurityDisabled.code();
    for version in 1..=3 {
        let answer = node.ask(version, &DescribeAclsRequest::default());
        assert_eq!((answer.error_code, answer.resources.len()), (disabled, 0));
        assert!(answer.error_message.is_some());

        let rules = vec![AclCreation::default(); 2];
        let answer = node.ask(version, &CreateAclsRequest::default().with_creations(rules));
        let codes: Vec<_> = answer.results.iter().map(|one| one.error_code).collect();
        assert_eq!(codes, [disabled; 2], "one answer for each rule");

        let filters = vec![DeleteAclsFilter::default(); 3];
        let answer = node.ask(version, &DeleteAclsRequest::default().with_filters(filters));
        let results = &answer.filter_results;
        let codes: Vec<_> = results.iter().map(|one| one.error_code).collect();
        assert_eq!(codes, [disabled; 3], "one answer for each filter");
        assert!(results.iter().all(|one| one.matching_acls.is_empty()));
    }
}

#[test]
fn nobody_has_scram_credentials_and_each_user_asked_for_is_told_so() {
    let node = Node::new();
    let all = DescribeUserScramCredentialsRequest::default().with_users(None);
    let answer = node.ask(0, &all);
    assert_eq!((answer.error_code, answer.results.len()), (0, 0));

    let users = ["alice", "bob"].map(|name| UserName::default().with_name(text(name)));
    let answer = node.ask(0, &all.with_users(Some(users.to_vec())));
    let results = answer.results.iter();
    let found: Vec<_> = results
        .map(|one| {
            (
                one.user.as_str(),
                one.error_code,
                one.credential_infos.len(),
            )
        })
        .collect();
    let unknown = E::ResourceNotFound.code();
    assert_eq!(found, [("alice", unknown, 0), ("bob", unknown, 0)]);
}
