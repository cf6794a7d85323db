//! Metadata, the coordinators, the cluster and its topics, in every version.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse, FindCoordinatorRequest, InitProducerIdRequest,
    MetadataRequest, MetadataResponse, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;
use wharf_broker::CreateTopic;

use crate::support::Node;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn create(node: &Node, name: &str, partitions: i32) -> Uuid {
    let topic = CreateTopic {
        name: name.to_owned(),
        partitions: Some(partitions),
        replication: None,
        assignment: Vec::new(),
        configs: Vec::new(),
    };
    node.run(node.broker.create_topic(&node.cx, topic, false))
        .unwrap()
        .id
}

fn by_name(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(topic_name(name)))
}

fn by_id(id: Uuid) -> MetadataRequestTopic {
    MetadataRequestTopic::default()
        .with_name(None)
        .with_topic_id(id)
}

fn metadata(
    node: &Node,
    version: i16,
    topics: Option<Vec<MetadataRequestTopic>>,
) -> MetadataResponse {
    let request = MetadataRequest::default()
        .with_topics(topics)
        .with_allow_auto_topic_creation(version < 4);
    node.ask(version, &request)
}

fn names(response: &MetadataResponse) -> Vec<String> {
    let names = response
        .topics
        .iter()
        .map(|topic| topic.name.as_ref().unwrap().to_string());
    names.collect()
}

#[test]
fn metadata_describes_node_and_topics_in_every_version() {
    let node = Node::new();
    let id = create(&node, "orders", 3);
    for version in 0..=13 {
        let answer = metadata(&node, version, Some(vec![by_name("orders")]));
        let [broker] = &answer.brokers[..] else {
            panic!("one broker")
        };
        assert_eq!((broker.node_id.0, broker.port), (1, 9092), "v{version}");
        assert_eq!(broker.host.as_str(), "broker.test");
        if version >= 1 {
            assert_eq!(answer.controller_id.0, 1);
        }
        if version >= 2 {
            assert_eq!(answer.cluster_id.as_deref(), Some("wharf"));
        }
        let [topic] = &answer.topics[..] else {
            panic!("one topic")
        };
        assert_eq!(topic.error_code, 0);
        assert_eq!(topic.name.as_ref().unwrap().as_str(), "orders");
        assert_eq!(topic.topic_id, if version >= 10 { id } else { Uuid::nil() });
        assert!(!topic.is_internal);
        let indexes: Vec<i32> = topic.partitions.iter().map(|p| p.partition_index).collect();
        assert_eq!(indexes, [0, 1, 2]);
        for partition in &topic.partitions {
            assert_eq!(partition.leader_id.0, 1);
            assert_eq!(partition.leader_epoch, if version >= 7 { 0 } else { -1 });
            assert_eq!(partition.replica_nodes, [BrokerId(1)]);
            assert_eq!(partition.isr_nodes, [BrokerId(1)]);
            assert!(partition.offline_replicas.is_empty());
        }
        assert_eq!(topic.topic_authorized_operations, i32::MIN);
        assert_eq!(answer.cluster_authorized_operations, i32::MIN);
    }
}

#[test]
fn null_asks_for_every_topic_and_an_empty_list_only_in_version_zero() {
    let node = Node::new();
    create(&node, "a", 1);
    create(&node, "b", 1);
    for version in 1..=13 {
        assert_eq!(
            names(&metadata(&node, version, None)),
            ["a", "b"],
            "v{version}"
        );
        assert!(
            metadata(&node, version, Some(Vec::new())).topics.is_empty(),
            "v{version}"
        );
    }
    assert_eq!(names(&metadata(&node, 0, Some(Vec::new()))), ["a", "b"]);
}

#[test]
fn a_missing_topic_is_created_when_both_sides_agree() {
    let node = Node::with(|options| options.default_partitions = 4);
    for version in 0..=13 {
        let name = format!("new-{version}");
        let request = MetadataRequest::default().with_topics(Some(vec![by_name(&name)]));
        let answer = node.ask(version, &request);
        assert_eq!(answer.topics[0].error_code, 0, "v{version}");
        assert_eq!(answer.topics[0].partitions.len(), 4);
    }
    for version in 4..=13 {
        let answer = metadata(&node, version, Some(vec![by_name("never")]));
        let unknown = ResponseError::UnknownTopicOrPartition.code();
        assert_eq!(answer.topics[0].error_code, unknown, "v{version}");
    }
    let node = Node::with(|options| options.auto_create_topics = false);
    let request = MetadataRequest::default().with_topics(Some(vec![by_name("never")]));
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    assert_eq!(node.ask(12, &request).topics[0].error_code, unknown);
    assert!(node.broker.topics().is_empty());
}

#[test]
fn an_impossible_name_is_refused_and_a_name_asked_for_twice_answered_once() {
    let node = Node::new();
    let asked = vec![by_name("a b"), by_name("fine"), by_name("fine")];
    let request = MetadataRequest::default().with_topics(Some(asked));
    let answer = node.ask(9, &request);
    let errors: Vec<i16> = answer.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(errors, [ResponseError::InvalidTopicException.code(), 0]);
}

#[test]
fn topics_are_found_by_id_from_version_twelve_on() {
    let node = Node::new();
    let id = create(&node, "orders", 1);
    for version in 10..=11 {
        let mut asked = by_id(id);
        asked.name = Some(topic_name("orders"));
        let answer = metadata(&node, version, Some(vec![asked]));
        assert_eq!(
            answer.topics[0].error_code,
            ResponseError::InvalidRequest.code()
        );
    }
    for version in 12..=13 {
        let other = Uuid::from_u128(99);
        let answer = metadata(&node, version, Some(vec![by_id(id), by_id(other)]));
        let [found, unknown] = &answer.topics[..] else {
            panic!("two topics")
        };
        assert_eq!(found.name, Some(topic_name("orders")));
        assert_eq!(found.error_code, 0);
        assert_eq!(unknown.error_code, ResponseError::UnknownTopicId.code());
        assert_eq!((unknown.name.clone(), unknown.topic_id), (None, other));
    }
}

#[test]
fn authorized_operations_are_told_only_when_asked() {
    let node = Node::new();
    create(&node, "orders", 1);
    for version in 8..=13 {
        let cluster = version <= 10;
        let request = MetadataRequest::default()
            .with_topics(Some(vec![by_name("orders")]))
            .with_include_topic_authorized_operations(true)
            .with_include_cluster_authorized_operations(cluster);
        let answer = node.ask(version, &request);
        let topic = answer.topics[0].topic_authorized_operations;
        assert_eq!(topic, 0b1101_1111_1000, "v{version}");
        let expected = if cluster {
            0b1_1111_1010_0000
        } else {
            i32::MIN
        };
        assert_eq!(answer.cluster_authorized_operations, expected, "v{version}");
    }
}

#[test]
fn every_group_and_transaction_is_coordinated_here_and_nothing_else() {
    let node = Node::new();
    for version in 0..=6 {
        let find = |key_type: i8| {
            let request = FindCoordinatorRequest::default().with_key_type(key_type);
            let answer = node.ask(
                version,
                &match version {
                    0..=3 => request.with_key(text("g")),
                    _ => request.with_coordinator_keys(vec![text("g"), text("h")]),
                },
            );
            match version {
                0..=3 => (
                    answer.error_code,
                    answer.node_id.0,
                    answer.host,
                    answer.port,
                    answer.error_message,
                ),
                _ => {
                    let keys: Vec<_> = answer.coordinators.iter().map(|c| c.key.as_str()).collect();
                    assert_eq!(keys, ["g", "h"]);
                    let one = answer.coordinators[0].clone();
                    (
                        one.error_code,
                        one.node_id.0,
                        one.host,
                        one.port,
                        one.error_message,
                    )
                }
            }
        };
        let (error, id, host, port, _) = find(0);
        assert_eq!(
            (error, id, host.as_str(), port),
            (0, 1, "broker.test", 9092),
            "v{version}"
        );
        if version >= 1 {
            let (error, id, host, port, _) = find(1);
            let here = (error, id, host.as_str(), port);
            assert_eq!(here, (0, 1, "broker.test", 9092), "v{version}");
            let (error, id, host, port, sentence) = find(2);
            let invalid = ResponseError::InvalidRequest.code();
            assert_eq!((error, id, host.as_str(), port), (invalid, -1, "", -1));
            assert!(sentence.unwrap().contains("type 2"), "v{version}");
        }
    }
}

fn init_idempotent() -> InitProducerIdRequest {
    InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1)
}

#[test]
fn producer_ids_are_new_each_time_and_time_outs_of_transactions_are_checked() {
    let node = Node::new();
    let mut seen = std::collections::HashSet::new();
    for version in 0..=5 {
        let answer = node.ask(version, &init_idempotent());
        assert_eq!(
            (answer.error_code, answer.producer_epoch),
            (0, 0),
            "v{version}"
        );
        assert!(answer.producer_id.0 >= 0);
        assert!(seen.insert(answer.producer_id), "v{version}");
        for (timeout, error) in [
            (900_001, ResponseError::InvalidTransactionTimeout),
            (0, ResponseError::InvalidTransactionTimeout),
            (-1, ResponseError::InvalidTransactionTimeout),
        ] {
            let request = InitProducerIdRequest::default()
                .with_transactional_id(Some(TransactionalId(text("t"))))
                .with_transaction_timeout_ms(timeout);
            let refused = node.ask(version, &request);
            assert_eq!(refused.error_code, error.code(), "v{version} {timeout}");
            assert_eq!((refused.producer_id.0, refused.producer_epoch), (-1, -1));
        }
    }
    let half = init_idempotent().with_producer_id(5.into());
    assert_eq!(
        node.ask(3, &half).error_code,
        ResponseError::InvalidRequest.code()
    );
}

#[test]
fn the_cluster_is_this_node_and_has_no_controllers_to_talk_to() {
    let node = Node::new();
    for version in 0..=2 {
        let request = DescribeClusterRequest::default();
        let answer = node.ask(version, &request);
        assert_eq!(
            (answer.error_code, answer.controller_id.0),
            (0, 1),
            "v{version}"
        );
        assert_eq!(answer.cluster_id.as_str(), "wharf");
        assert_eq!(answer.cluster_authorized_operations, i32::MIN);
        let [broker] = &answer.brokers[..] else {
            panic!("one broker")
        };
        assert_eq!((broker.host.as_str(), broker.port), ("broker.test", 9092));
        let asked = request.with_include_cluster_authorized_operations(true);
        assert_ne!(
            node.ask(version, &asked).cluster_authorized_operations,
            i32::MIN
        );
    }
    for version in 1..=2 {
        for (endpoint, error) in [
            (2, ResponseError::MismatchedEndpointType),
            (7, ResponseError::UnsupportedEndpointType),
        ] {
            let request = DescribeClusterRequest::default().with_endpoint_type(endpoint);
            let refused = node.ask(version, &request);
            assert_eq!(refused.error_code, error.code());
            assert!(refused.brokers.is_empty());
        }
    }
}

fn pages(node: &Node, topics: &[&str], limit: i32) -> Vec<DescribeTopicPartitionsResponse> {
    let names = topics
        .iter()
        .map(|name| TopicRequest::default().with_name(topic_name(name)));
    let mut request = DescribeTopicPartitionsRequest::default()
        .with_topics(names.collect())
        .with_response_partition_limit(limit);
    let mut pages = Vec::new();
    loop {
        let page = node.ask(0, &request);
        let next = page.next_cursor.clone();
        pages.push(page);
        let Some(next) = next else { return pages };
        let cursor = Cursor::default()
            .with_topic_name(next.topic_name)
            .with_partition_index(next.partition_index);
        request.cursor = Some(cursor);
        assert!(pages.len() < 100, "the pages do not end");
    }
}

fn partitions(page: &DescribeTopicPartitionsResponse) -> Vec<(String, i32)> {
    let mut all = Vec::new();
    for topic in &page.topics {
        let name = topic.name.as_ref().unwrap().to_string();
        all.extend(
            topic
                .partitions
                .iter()
                .map(|p| (name.clone(), p.partition_index)),
        );
    }
    all
}

#[test]
fn topics_are_described_in_pages_without_gap_or_repetition() {
    let node = Node::new();
    create(&node, "b", 3);
    create(&node, "a", 2);
    create(&node, "c", 1);
    let all: Vec<(String, i32)> = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2), ("c", 0)]
        .map(|(name, index)| (name.to_owned(), index))
        .into();
    for limit in [1, 2, 3, 4, 5, 6, 7, 2000] {
        for asked in [&[][..], &["c", "b", "a"]] {
            let pages = pages(&node, asked, limit);
            let seen: Vec<_> = pages.iter().flat_map(partitions).collect();
            assert_eq!(seen, all, "limit {limit}");
            let full = pages
                .iter()
                .all(|page| partitions(page).len() <= limit as usize);
            assert!(full, "limit {limit}");
        }
    }
    let ends_there = pages(&node, &["b"], 3);
    assert_eq!(ends_there.len(), 1);
    let one = &ends_there[0].topics[0].partitions[1];
    assert_eq!((one.leader_id.0, one.leader_epoch), (1, 0));
    assert_eq!(
        (&one.replica_nodes[..], &one.isr_nodes[..]),
        (&[BrokerId(1)][..], &[BrokerId(1)][..])
    );
}

#[test]
fn unknown_topics_and_impossible_cursors_are_refused() {
    let node = Node::new();
    create(&node, "a", 1);
    let [page] = &pages(&node, &["a", "nowhere"], 10)[..] else {
        panic!("one page")
    };
    let errors: Vec<i16> = page.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(errors, [0, ResponseError::UnknownTopicOrPartition.code()]);
    let cursor = Cursor::default()
        .with_topic_name(topic_name("a"))
        .with_partition_index(-1);
    let request = DescribeTopicPartitionsRequest::default()
        .with_topics(vec![TopicRequest::default().with_name(topic_name("a"))])
        .with_cursor(Some(cursor));
    let refused = node.ask(0, &request);
    assert_eq!(
        refused.topics[0].error_code,
        ResponseError::InvalidRequest.code()
    );
}
