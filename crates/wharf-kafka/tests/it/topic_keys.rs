//! The keys that change and describe topics (19 to 21, 35, 37, 61) in every version.

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeProducersRequest,
    TopicName,
};
use kafka_protocol::protocol::{Decodable, StrBytes};
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use uuid::Uuid;
use wharf_broker::{Produce, TopicRef};

use crate::support::{Node, START, frame_as};

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn topic_name(value: &str) -> TopicName {
    TopicName(text(value))
}

fn code(error: ResponseError) -> i16 {
    error.code()
}

fn topic(name: &str, partitions: i32) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
}

fn create(node: &Node, version: i16, topics: Vec<CreatableTopic>) -> Vec<CreatableTopicResult> {
    node.ask(version, &CreateTopicsRequest::default().with_topics(topics))
        .topics
}

fn partitions(node: &Node, name: &str) -> Option<usize> {
    node.broker
        .topic(&TopicRef::Name(name.to_owned()))
        .ok()
        .map(|topic| topic.partitions.len())
}

/// Appends a batch of `count` records of `producer`, numbered from `sequence` on (both -1: of nobody).
fn produce(node: &Node, name: &str, count: i32, producer: i64, sequence: i32) {
    let record = |index: i32| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: producer,
        producer_epoch: if producer < 0 { -1 } else { 0 },
        timestamp_type: TimestampType::Creation,
        offset: i64::from(index),
        sequence: sequence + index,
        timestamp: START,
        key: None,
        value: Some(Bytes::from(format!("record {index}"))),
        headers: Default::default(),
    };
    let records: Vec<_> = (0..count).map(record).collect();
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::None,
    };
    let mut batch = BytesMut::new();
    RecordBatchEncoder::encode(&mut batch, &records, &options).unwrap();
    let produce = Produce {
        topic: TopicRef::Name(name.to_owned()),
        partition: 0,
        records: Some(batch.freeze()),
    };
    let results = node.run(node.broker.produce(&node.cx, vec![produce]));
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[test]
fn a_topic_is_created_in_every_version_and_described_as_far_as_the_version_can() {
    let node = Node::new();
    for version in 2..=7 {
        let name = format!("orders-{version}");
        let setting = CreatableTopicConfig::default()
            .with_name(text("retention.ms"))
            .with_value(Some(text("1000")));
        let results = create(
            &node,
            version,
            vec![topic(&name, 3).with_configs(vec![setting])],
        );
        let [result] = results.as_slice() else {
            panic!("one topic: {results:?}")
        };
        assert_eq!(
            (result.name.as_str(), result.error_code),
            (name.as_str(), 0)
        );
        assert_eq!(result.error_message, None);
        assert_eq!(partitions(&node, &name), Some(3));
        if version >= 5 {
            assert_eq!((result.num_partitions, result.replication_factor), (3, 1));
            let configs = result.configs.as_deref().unwrap();
            let retention = configs
                .iter()
                .find(|one| one.name.as_str() == "retention.ms")
                .unwrap();
            assert_eq!(retention.value, Some(text("1000")));
            assert_eq!(retention.config_source, 1, "set on the topic");
            let policy = configs
                .iter()
                .find(|one| one.name.as_str() == "cleanup.policy")
                .unwrap();
            assert_eq!(
                (policy.value.clone(), policy.config_source),
                (Some(text("delete")), 5)
            );
        }
        let stored = node.broker.topic(&TopicRef::Name(name)).unwrap().id;
        assert_eq!(
            result.topic_id,
            if version >= 7 { stored } else { Uuid::nil() }
        );
    }
}

#[test]
fn what_is_wrong_with_a_topic_is_said_for_each_on_its_own() {
    let node = Node::new();
    for version in 2..=7 {
        let fine = format!("fine-{version}");
        let unknown = CreatableTopicConfig::default()
            .with_name(text("retention.millis"))
            .with_value(Some(text("1")));
        let results = create(
            &node,
            version,
            vec![
                topic("a b", 1),
                topic("none", 0),
                topic("copies", 1).with_replication_factor(3),
                topic("unknown", 1).with_configs(vec![unknown]),
                topic("twice", 1),
                topic(&fine, 1),
                topic("twice", 1),
            ],
        );
        let codes: Vec<_> = results
            .iter()
            .map(|result| (result.name.as_str(), result.error_code))
            .collect();
        let expected = [
            ("a b", code(ResponseError::InvalidTopicException)),
            ("none", code(ResponseError::InvalidPartitions)),
            ("copies", code(ResponseError::InvalidReplicationFactor)),
            ("unknown", code(ResponseError::InvalidConfig)),
            ("twice", code(ResponseError::InvalidRequest)),
            (fine.as_str(), 0),
        ];
        assert_eq!(codes, expected, "version {version}");
        for result in results.iter().filter(|result| result.error_code != 0) {
            assert!(
                result
                    .error_message
                    .as_ref()
                    .is_some_and(|message| !message.is_empty())
            );
        }
        assert_eq!(partitions(&node, "twice"), None);
        let again = create(&node, version, vec![topic(&fine, 1)]);
        assert_eq!(again[0].error_code, code(ResponseError::TopicAlreadyExists));
    }
}

#[test]
fn validation_alone_creates_nothing_but_says_what_would_be() {
    let node = Node::new();
    for version in 2..=7 {
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic("planned", 4), topic("bad", 0)])
            .with_validate_only(true);
        let results = node.ask(version, &request).topics;
        assert_eq!(results[0].error_code, 0);
        assert_eq!(
            results[1].error_code,
            code(ResponseError::InvalidPartitions)
        );
        if version >= 5 {
            assert_eq!(results[0].num_partitions, 4);
            assert!(!results[0].configs.as_deref().unwrap().is_empty());
        }
        assert_eq!(partitions(&node, "planned"), None);
    }
}

#[test]
fn defaults_and_manual_assignments_give_the_counts() {
    let node = Node::with(|options| options.default_partitions = 5);
    let replica = |index, node: i32| {
        CreatableReplicaAssignment::default()
            .with_partition_index(index)
            .with_broker_ids(vec![BrokerId(node)])
    };
    let own = node.broker.options().node_id;
    let manual = |name, assignments| {
        topic(name, -1)
            .with_replication_factor(-1)
            .with_assignments(assignments)
    };
    let results = create(
        &node,
        7,
        vec![
            topic("defaults", -1).with_replication_factor(-1),
            manual("manual", vec![replica(0, own), replica(1, own)]),
            manual("elsewhere", vec![replica(0, own + 1)]),
            topic("both", 1).with_assignments(vec![replica(0, own)]),
        ],
    );
    let codes: Vec<_> = results.iter().map(|result| result.error_code).collect();
    let elsewhere = code(ResponseError::InvalidReplicaAssignment);
    assert_eq!(
        codes,
        [0, 0, elsewhere, code(ResponseError::InvalidRequest)]
    );
    assert_eq!(partitions(&node, "defaults"), Some(5));
    assert_eq!(partitions(&node, "manual"), Some(2));
}

#[test]
fn topics_are_deleted_by_name_in_every_version() {
    let node = Node::new();
    for version in 1..=6 {
        let name = format!("gone-{version}");
        create(&node, 7, vec![topic(&name, 1)]);
        let names = vec![topic_name(&name), topic_name("nowhere")];
        let request = DeleteTopicsRequest::default();
        let request = if version < 6 {
            request.with_topic_names(names)
        } else {
            let state = |name| DeleteTopicState::default().with_name(Some(name));
            request.with_topics(names.into_iter().map(state).collect())
        };
        let responses = node.ask(version, &request).responses;
        let codes: Vec<_> = responses
            .iter()
            .map(|one| (one.name.as_ref().unwrap().to_string(), one.error_code))
            .collect();
        let unknown = code(ResponseError::UnknownTopicOrPartition);
        assert_eq!(
            codes,
            [(name.clone(), 0), ("nowhere".to_owned(), unknown)],
            "version {version}"
        );
        assert_eq!(responses[1].error_message.is_some(), version >= 5);
        assert_eq!(partitions(&node, &name), None);
    }
}

#[test]
fn topics_are_deleted_by_id_and_what_is_named_twice_stays() {
    let node = Node::new();
    let created = create(&node, 7, vec![topic("by-id", 1), topic("kept", 1)]);
    let (by_id, kept) = (created[0].topic_id, created[1].topic_id);
    let stranger = Uuid::from_u128(42);
    let named = |name: &str| DeleteTopicState::default().with_name(Some(topic_name(name)));
    let with_id = |id| {
        DeleteTopicState::default()
            .with_name(None)
            .with_topic_id(id)
    };
    let request = DeleteTopicsRequest::default().with_topics(vec![
        with_id(by_id),
        with_id(stranger),
        named("kept"),
        with_id(kept),
        named("both").with_topic_id(stranger),
        with_id(Uuid::nil()),
    ]);
    let responses = node.ask(6, &request).responses;
    let invalid = code(ResponseError::InvalidRequest);
    let codes: Vec<_> = responses.iter().map(|one| one.error_code).collect();
    let unknown = code(ResponseError::UnknownTopicId);
    assert_eq!(codes, [0, unknown, invalid, invalid, invalid, invalid]);
    assert_eq!(responses[0].name, Some(topic_name("by-id")));
    assert_eq!(responses[0].topic_id, by_id);
    assert_eq!(
        (&responses[1].name, responses[1].topic_id),
        (&None, stranger)
    );
    assert_eq!(partitions(&node, "by-id"), None);
    assert_eq!(partitions(&node, "kept"), Some(1));
}

#[test]
fn partitions_are_added_in_every_version_and_never_taken_away() {
    let node = Node::new();
    let own = node.broker.options().node_id;
    let more = |name: &str, count| {
        CreatePartitionsTopic::default()
            .with_name(topic_name(name))
            .with_count(count)
            .with_assignments(None)
    };
    let assigned = |name: &str, count, nodes: &[i32]| {
        let to = |node: &i32| {
            CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(*node)])
        };
        more(name, count).with_assignments(Some(nodes.iter().map(to).collect()))
    };
    for version in 0..=3 {
        let names = [
            "plain",
            "manual",
            "few",
            "elsewhere",
            "smaller",
            "same",
            "twice",
        ];
        let names = names.map(|name| format!("{name}-{version}"));
        create(&node, 7, names.iter().map(|name| topic(name, 2)).collect());
        let [plain, manual, few, elsewhere, smaller, same, twice] = &names;
        let request = CreatePartitionsRequest::default().with_topics(vec![
            more(plain, 4),
            assigned(manual, 4, &[own, own]),
            assigned(few, 4, &[own]),
            assigned(elsewhere, 3, &[own + 1]),
            more(smaller, 1),
            more(same, 2),
            more(twice, 3),
            more("nowhere", 3),
            more(twice, 3),
        ]);
        let results = node.ask(version, &request).results;
        let codes: Vec<_> = results
            .iter()
            .map(|one| (one.name.as_str(), one.error_code))
            .collect();
        let expected = [
            (plain.as_str(), 0),
            (manual.as_str(), 0),
            (few.as_str(), code(ResponseError::InvalidReplicaAssignment)),
            (
                elsewhere.as_str(),
                code(ResponseError::InvalidReplicaAssignment),
            ),
            (smaller.as_str(), code(ResponseError::InvalidPartitions)),
            (same.as_str(), code(ResponseError::InvalidPartitions)),
            (twice.as_str(), code(ResponseError::InvalidRequest)),
            ("nowhere", code(ResponseError::UnknownTopicOrPartition)),
        ];
        assert_eq!(codes, expected, "version {version}");
        assert!(
            results
                .iter()
                .all(|one| one.error_message.is_some() == (one.error_code != 0))
        );
        let counts = names
            .each_ref()
            .map(|name| partitions(&node, name).unwrap());
        assert_eq!(counts, [4, 4, 2, 2, 2, 2, 2]);

        let checked = CreatePartitionsRequest::default()
            .with_topics(vec![more(plain, 9)])
            .with_validate_only(true);
        assert_eq!(node.ask(version, &checked).results[0].error_code, 0);
        assert_eq!(partitions(&node, plain), Some(4));
    }
}

#[test]
fn records_are_deleted_up_to_an_offset_and_the_low_watermark_is_answered() {
    let node = Node::new();
    for version in 0..=2 {
        let name = format!("records-{version}");
        create(&node, 7, vec![topic(&name, 1)]);
        produce(&node, &name, 10, -1, -1);
        let delete = |name: &str, partition, offset| {
            let partition = DeleteRecordsPartition::default()
                .with_partition_index(partition)
                .with_offset(offset);
            let topic = DeleteRecordsTopic::default()
                .with_name(topic_name(name))
                .with_partitions(vec![partition]);
            let request = DeleteRecordsRequest::default().with_topics(vec![topic]);
            let topics = node.ask(version, &request).topics;
            let result = &topics[0].partitions[0];
            assert_eq!(result.partition_index, partition_of(&request));
            (result.low_watermark, result.error_code)
        };
        assert_eq!(delete(&name, 0, 4), (4, 0), "version {version}");
        assert_eq!(delete(&name, 0, 2), (4, 0), "never back");
        assert_eq!(
            delete(&name, 0, 11),
            (-1, code(ResponseError::OffsetOutOfRange))
        );
        assert_eq!(delete(&name, 0, -1), (10, 0), "to the end");
        let unknown = code(ResponseError::UnknownTopicOrPartition);
        assert_eq!(delete(&name, 7, 1), (-1, unknown));
        assert_eq!(delete("nowhere", 0, 1), (-1, unknown));
    }
}

fn partition_of(request: &DeleteRecordsRequest) -> i32 {
    request.topics[0].partitions[0].partition_index
}

/// Asks for sizes. Version 5 is read as version 4 without the flag that version 5 adds.
fn log_dirs(
    node: &Node,
    version: i16,
    request: &DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    if version < 5 {
        return node.ask(version, request);
    }
    let answer = node
        .send(frame_as(5, 4, request))
        .unwrap()
        .expect("an answer");
    let flag = answer.len() - 3;
    assert_eq!(answer[flag], 0, "not cordoned");
    let mut body: Bytes = [&answer[5..flag], &answer[flag + 1..]].concat().into();
    let response = DescribeLogDirsResponse::decode(&mut body, 4).unwrap();
    assert!(body.is_empty());
    response
}

#[test]
fn sizes_of_partitions_are_described_in_every_version() {
    let node = Node::with(|options| options.log_directory = "/data".to_owned());
    create(&node, 7, vec![topic("full", 2), topic("empty", 1)]);
    produce(&node, "full", 100, -1, -1);
    for version in 1..=5 {
        let all = log_dirs(
            &node,
            version,
            &DescribeLogDirsRequest::default().with_topics(None),
        );
        assert_eq!((all.error_code, all.results.len()), (0, 1));
        let directory = &all.results[0];
        assert_eq!(
            (directory.error_code, directory.log_dir.as_str()),
            (0, "/data")
        );
        let sizes = |name: &str| {
            let topic = directory
                .topics
                .iter()
                .find(|topic| topic.name.as_str() == name)
                .unwrap();
            let mut sizes: Vec<_> = topic
                .partitions
                .iter()
                .map(|one| (one.partition_index, one.partition_size > 0))
                .collect();
            sizes.sort_unstable();
            sizes
        };
        assert_eq!(sizes("full"), [(0, true), (1, false)], "version {version}");
        assert_eq!(sizes("empty"), [(0, false)]);

        let asked = |name: &str, partitions: &[i32]| {
            DescribableLogDirTopic::default()
                .with_topic(topic_name(name))
                .with_partitions(partitions.to_vec())
        };
        let request = DescribeLogDirsRequest::default()
            .with_topics(Some(vec![asked("full", &[0, 9]), asked("nowhere", &[0])]));
        let some = log_dirs(&node, version, &request);
        let topics = &some.results[0].topics;
        assert_eq!(topics.len(), 1, "what does not exist is left out");
        let indexes: Vec<_> = topics[0]
            .partitions
            .iter()
            .map(|one| one.partition_index)
            .collect();
        assert_eq!(indexes, [0]);
    }
}

#[test]
fn active_producers_are_described() {
    let node = Node::new();
    create(&node, 7, vec![topic("orders", 1)]);
    let identity = node.run(node.broker.init_producer(&node.cx, None)).unwrap();
    produce(&node, "orders", 3, identity.id, 0);
    let asked = |name: &str, indexes: &[i32]| {
        TopicRequest::default()
            .with_name(topic_name(name))
            .with_partition_indexes(indexes.to_vec())
    };
    let request = DescribeProducersRequest::default()
        .with_topics(vec![asked("orders", &[0, 5]), asked("nowhere", &[0])]);
    let topics = node.ask(0, &request).topics;
    let [known, missing] = topics[0].partitions.as_slice() else {
        panic!("{topics:?}")
    };
    let [producer] = known.active_producers.as_slice() else {
        panic!("{known:?}")
    };
    assert_eq!((known.partition_index, known.error_code), (0, 0));
    assert_eq!(producer.producer_id.0, identity.id);
    assert_eq!((producer.producer_epoch, producer.last_sequence), (0, 2));
    assert_eq!(producer.last_timestamp, START);
    assert_eq!(
        (
            producer.coordinator_epoch,
            producer.current_txn_start_offset
        ),
        (-1, -1)
    );
    let unknown = code(ResponseError::UnknownTopicOrPartition);
    assert_eq!((missing.partition_index, missing.error_code), (5, unknown));
    assert!(missing.error_message.is_some());
    assert_eq!(topics[1].partitions[0].error_code, unknown);
}
