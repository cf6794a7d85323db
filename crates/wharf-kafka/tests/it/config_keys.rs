//! The keys of settings (32, 33, 44, 74) in every version.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::{
    AlterConfigsRequest, CreateTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest, ListConfigResourcesRequest, TopicName, alter_configs_request,
    incremental_alter_configs_request,
};
use kafka_protocol::protocol::StrBytes;

use crate::support::Node;

const TOPIC: i8 = 2;
const NODE: i8 = 4;
const LOGGERS: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn invalid() -> i16 {
    ResponseError::InvalidRequest.code()
}

fn node_with(topics: &[&str]) -> Node {
    let node = Node::new();
    create(&node, topics);
    node
}

fn create(node: &Node, topics: &[&str]) {
    let topic = |name: &&str| {
        CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(1)
            .with_replication_factor(1)
    };
    let request = CreateTopicsRequest::default().with_topics(topics.iter().map(topic).collect());
    assert!(
        node.ask(7, &request)
            .topics
            .iter()
            .all(|topic| topic.error_code == 0)
    );
}

fn resource(kind: i8, name: &str) -> DescribeConfigsResource {
    DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(None)
}

fn describe(
    node: &Node,
    version: i16,
    resources: Vec<DescribeConfigsResource>,
) -> Vec<DescribeConfigsResult> {
    node.ask(
        version,
        &DescribeConfigsRequest::default().with_resources(resources),
    )
    .results
}

/// One setting of a topic: its value and Kafka's number of where it comes from.
fn setting(node: &Node, topic: &str, name: &str) -> (String, i8) {
    let asked = resource(TOPIC, topic).with_configuration_keys(Some(vec![text(name)]));
    let results = describe(node, 4, vec![asked]);
    let [entry] = results[0].configs.as_slice() else {
        panic!("one setting: {results:?}")
    };
    (
        entry.value.as_ref().unwrap().to_string(),
        entry.config_source,
    )
}

#[test]
fn topics_are_described_in_every_version() {
    let node = node_with(&["orders"]);
    for version in 1..=4 {
        let request = DescribeConfigsRequest::default()
            .with_resources(vec![resource(TOPIC, "orders"), resource(TOPIC, "nowhere")])
            .with_include_synonyms(true)
            .with_include_documentation(version >= 3);
        let results = node.ask(version, &request).results;
        let [known, unknown] = results.as_slice() else {
            panic!("two results: {results:?}")
        };
        assert_eq!((known.error_code, known.error_message.clone()), (0, None));
        assert_eq!(
            (known.resource_type, known.resource_name.as_str()),
            (TOPIC, "orders")
        );
        let find = |name: &str| {
            known
                .configs
                .iter()
                .find(|one| one.name.as_str() == name)
                .unwrap()
        };
        let retention: &DescribeConfigsResourceResult = find("retention.ms");
        assert_eq!(retention.value, Some(text("604800000")));
        assert!(!retention.read_only && !retention.is_sensitive);
        assert_eq!(retention.config_source, 5);
        let synonym = retention.synonyms.last().unwrap();
        assert_eq!(
            (synonym.value.clone(), synonym.source),
            (Some(text("604800000")), 5)
        );
        if version >= 3 {
            assert_eq!(retention.config_type, 5, "a long");
            assert!(
                retention
                    .documentation
                    .as_ref()
                    .is_some_and(|text| !text.is_empty())
            );
        }
        let code = ResponseError::UnknownTopicOrPartition.code();
        assert_eq!(unknown.error_code, code, "version {version}");
        assert!(unknown.error_message.is_some() && unknown.configs.is_empty());
    }
}

#[test]
fn synonyms_and_documentation_are_given_only_when_asked_for() {
    let node = node_with(&["orders"]);
    let results = describe(&node, 4, vec![resource(TOPIC, "orders")]);
    assert!(results[0].configs.iter().all(|one| one.synonyms.is_empty()));
    assert!(
        results[0]
            .configs
            .iter()
            .all(|one| one.documentation.is_none())
    );
}

#[test]
fn only_the_settings_asked_for_are_described_and_none_asked_means_all() {
    let node = node_with(&["orders"]);
    let count = |keys: Option<&[&str]>| {
        let keys = keys.map(|keys| keys.iter().map(|key| text(key)).collect());
        let asked = resource(TOPIC, "orders").with_configuration_keys(keys);
        describe(&node, 4, vec![asked])[0].configs.len()
    };
    assert_eq!(
        count(Some(&["retention.ms", "cleanup.policy", "nonsense"])),
        2
    );
    let all = count(None);
    assert!(all > 20, "{all}");
    assert_eq!(count(Some(&[])), all);
}

#[test]
fn the_node_is_described_under_its_id_and_other_resources_as_kafka_does() {
    let node = node_with(&[]);
    let own = node.broker.options().node_id;
    let results = describe(
        &node,
        4,
        vec![
            resource(NODE, &own.to_string()),
            resource(NODE, ""),
            resource(NODE, &(own + 1).to_string()),
            resource(NODE, "one"),
            resource(LOGGERS, &own.to_string()),
            resource(LOGGERS, ""),
            resource(CLIENT_METRICS, "some"),
            resource(CLIENT_METRICS, ""),
            resource(GROUP, "some"),
            resource(GROUP, ""),
            resource(77, "some"),
            resource(TOPIC, "not a topic"),
        ],
    );
    let codes: Vec<_> = results.iter().map(|one| one.error_code).collect();
    let (bad, topic) = (invalid(), ResponseError::InvalidTopicException.code());
    assert_eq!(codes, [0, 0, bad, bad, 0, bad, 0, bad, 0, bad, bad, topic]);
    assert!(
        results
            .iter()
            .all(|one| one.error_message.is_some() == (one.error_code != 0))
    );
    let id = results[0]
        .configs
        .iter()
        .find(|one| one.name.as_str() == "node.id")
        .unwrap();
    assert_eq!(id.value, Some(text(&own.to_string())));
    assert!(id.read_only);
    let group = "some";
    let without = |one: &DescribeConfigsResult| {
        one.resource_name.as_str() != group || one.resource_type != GROUP
    };
    let mut others = results[1..].iter().filter(|one| without(one));
    assert!(others.all(|one| one.configs.is_empty()));
}

#[test]
fn settings_of_a_group_are_changed_described_and_listed() {
    let node = node_with(&[]);
    let timeout = "consumer.session.timeout.ms";
    let set: &[Change<'_>] = &[(timeout, SET, Some("50000"))];
    let wrong: &[Change<'_>] = &[(timeout, SET, Some("5"))];
    let unknown: &[Change<'_>] = &[("retention.ms", SET, Some("5"))];
    let config = ResponseError::InvalidConfig.code();
    assert_eq!(incremental(&node, 1, &[(GROUP, "g", set)], false), [0]);
    assert_eq!(
        incremental(&node, 1, &[(GROUP, "g", wrong)], false),
        [config]
    );
    assert_eq!(
        incremental(&node, 1, &[(GROUP, "g", unknown)], false),
        [config]
    );
    let results = describe(
        &node,
        4,
        vec![resource(GROUP, "g"), resource(GROUP, "other")],
    );
    let told = |at: usize| {
        let entry = results[at]
            .configs
            .iter()
            .find(|one| one.name.as_str() == timeout);
        let entry = entry.unwrap();
        (
            entry.value.as_ref().unwrap().to_string(),
            entry.config_source,
        )
    };
    assert_eq!(told(0), ("50000".to_owned(), 8));
    assert_eq!(told(1), ("45000".to_owned(), 5));
}

#[test]
fn a_resource_described_again_in_one_request_is_refused() {
    let node = node_with(&["orders"]);
    let again = || resource(TOPIC, "orders");
    let results = describe(&node, 4, vec![again(), again(), again()]);
    let codes: Vec<_> = results.iter().map(|one| one.error_code).collect();
    assert_eq!(codes, [0, invalid(), invalid()]);
    assert!(results[1..].iter().all(|one| one.configs.is_empty()));
}

#[test]
fn synonyms_go_from_the_topic_over_the_node_to_the_default() {
    let node = Node::with(|options| {
        options.topic_defaults = vec![("retention.ms".to_owned(), "9000".to_owned())];
    });
    create(&node, &["orders"]);
    incremental(
        &node,
        1,
        &[(TOPIC, "orders", &[("retention.ms", SET, Some("5000"))])],
        false,
    );
    let asked = |kind, name: &str, key| {
        let resource = resource(kind, name).with_configuration_keys(Some(vec![text(key)]));
        let request = DescribeConfigsRequest::default()
            .with_resources(vec![resource])
            .with_include_synonyms(true);
        let results = node.ask(4, &request).results;
        let synonyms = results[0].configs[0].synonyms.iter();
        let synonyms = synonyms.map(|one| {
            (
                one.name.to_string(),
                one.value.as_ref().unwrap().to_string(),
                one.source,
            )
        });
        synonyms.collect::<Vec<_>>()
    };
    let expected = [
        ("retention.ms", "5000", 1),
        ("log.retention.ms", "9000", 4),
        ("log.retention.ms", "604800000", 5),
    ];
    let expected =
        expected.map(|(name, value, source)| (name.to_owned(), value.to_owned(), source));
    assert_eq!(asked(TOPIC, "orders", "retention.ms"), expected);
    let own = node.broker.options().node_id.to_string();
    assert_eq!(asked(NODE, &own, "log.retention.ms"), expected[1..]);
}

type Change<'a> = (&'a str, i8, Option<&'a str>);

fn incremental(
    node: &Node,
    version: i16,
    resources: &[(i8, &str, &[Change<'_>])],
    validate_only: bool,
) -> Vec<i16> {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let change = |(name, operation, value): &Change<'_>| {
        AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(*operation)
            .with_value(value.map(text))
    };
    let resources = resources.iter().map(|(kind, name, changes)| {
        AlterConfigsResource::default()
            .with_resource_type(*kind)
            .with_resource_name(text(name))
            .with_configs(changes.iter().map(change).collect())
    });
    let request = IncrementalAlterConfigsRequest::default()
        .with_resources(resources.collect())
        .with_validate_only(validate_only);
    let responses = node.ask(version, &request).responses;
    assert!(
        responses
            .iter()
            .all(|one| one.error_message.is_some() == (one.error_code != 0))
    );
    responses.iter().map(|one| one.error_code).collect()
}

#[test]
fn single_settings_are_set_appended_subtracted_and_deleted() {
    let node = node_with(&["orders"]);
    for version in 0..=1 {
        let change = |change: Change<'_>| {
            assert_eq!(
                incremental(&node, version, &[(TOPIC, "orders", &[change])], false),
                [0]
            );
        };
        change(("retention.ms", SET, Some("5000")));
        assert_eq!(
            setting(&node, "orders", "retention.ms"),
            ("5000".to_owned(), 1)
        );
        change(("cleanup.policy", APPEND, Some("compact")));
        assert_eq!(
            setting(&node, "orders", "cleanup.policy"),
            ("delete,compact".to_owned(), 1)
        );
        assert_eq!(
            setting(&node, "orders", "retention.ms").0,
            "5000",
            "others stay"
        );
        change(("cleanup.policy", SUBTRACT, Some("compact")));
        assert_eq!(setting(&node, "orders", "cleanup.policy").0, "delete");
        change(("retention.ms", DELETE, None));
        assert_eq!(
            setting(&node, "orders", "retention.ms"),
            ("604800000".to_owned(), 5)
        );
        change(("cleanup.policy", DELETE, None));
    }
}

#[test]
fn a_bad_change_is_refused_with_its_whole_resource_and_only_with_that() {
    let node = node_with(&["bad", "good", "twice"]);
    for version in 0..=1 {
        let good: &[Change<'_>] = &[("retention.ms", SET, Some("7000"))];
        let codes = incremental(
            &node,
            version,
            &[
                (
                    TOPIC,
                    "bad",
                    &[
                        ("retention.ms", SET, Some("1")),
                        ("nonsense", SET, Some("1")),
                    ],
                ),
                (TOPIC, "good", good),
                (TOPIC, "twice", good),
                (TOPIC, "nowhere", good),
                (TOPIC, "twice", good),
            ],
            false,
        );
        let unknown = ResponseError::UnknownTopicOrPartition.code();
        let config = ResponseError::InvalidConfig.code();
        assert_eq!(
            codes,
            [config, 0, invalid(), unknown, invalid()],
            "version {version}"
        );
        assert_eq!(setting(&node, "bad", "retention.ms").1, 5);
        assert_eq!(setting(&node, "good", "retention.ms").1, 1);
        assert_eq!(setting(&node, "twice", "retention.ms").1, 5);
        let refused: &[&[Change<'_>]] = &[
            &[("retention.ms", SET, None)],
            &[("retention.ms", 9, Some("1"))],
            &[
                ("retention.ms", SET, Some("1")),
                ("retention.ms", DELETE, None),
            ],
        ];
        for changes in refused {
            let codes = incremental(&node, version, &[(TOPIC, "good", changes)], false);
            assert_eq!(codes, [invalid()], "{changes:?}");
        }
        let value = incremental(
            &node,
            version,
            &[(TOPIC, "good", &[("retention.ms", SET, Some("soon"))])],
            false,
        );
        assert_eq!(value, [config]);
    }
}

#[test]
fn validation_alone_changes_nothing() {
    let node = node_with(&["orders"]);
    let change: &[Change<'_>] = &[("retention.ms", SET, Some("5000"))];
    assert_eq!(
        incremental(&node, 1, &[(TOPIC, "orders", change)], true),
        [0]
    );
    let wrong: &[Change<'_>] = &[("retention.ms", SET, Some("soon"))];
    let config = ResponseError::InvalidConfig.code();
    assert_eq!(
        incremental(&node, 1, &[(TOPIC, "orders", wrong)], true),
        [config]
    );
    assert_eq!(setting(&node, "orders", "retention.ms").1, 5);
}

#[test]
fn changes_of_what_does_not_change_are_refused_politely() {
    let node = node_with(&[]);
    let own = node.broker.options().node_id.to_string();
    let change: &[Change<'_>] = &[("num.partitions", SET, Some("4"))];
    let resources = [
        (NODE, own.as_str(), change),
        (NODE, "", change),
        (NODE, "77", change),
        (LOGGERS, own.as_str(), change),
        (CLIENT_METRICS, "some", change),
        (99, "some", change),
    ];
    assert_eq!(incremental(&node, 1, &resources, false), [invalid(); 6]);
    assert_eq!(node.broker.options().default_partitions, 1);
}

/// What `kafka-reassign-partitions --verify` does to every node and topic when it is done.
#[test]
fn to_delete_a_setting_that_was_never_changed_is_no_change_and_no_error() {
    let node = node_with(&["orders"]);
    let own = node.broker.options().node_id.to_string();
    let of_node: &[Change<'_>] = &[
        ("leader.replication.throttled.rate", DELETE, None),
        ("follower.replication.throttled.rate", DELETE, None),
        (
            "replica.alter.log.dirs.io.max.bytes.per.second",
            DELETE,
            None,
        ),
    ];
    let of_topic: &[Change<'_>] = &[
        ("leader.replication.throttled.replicas", DELETE, None),
        ("follower.replication.throttled.replicas", DELETE, None),
    ];
    let resources = [
        (NODE, own.as_str(), of_node),
        (NODE, "", of_node),
        (TOPIC, "orders", of_topic),
    ];
    assert_eq!(incremental(&node, 1, &resources, false), [0; 3]);
    let other = [(NODE, "77", of_node)];
    assert_eq!(incremental(&node, 1, &other, false), [invalid()]);
}

fn replace(
    node: &Node,
    version: i16,
    kind: i8,
    name: &str,
    settings: &[(&str, Option<&str>)],
) -> i16 {
    use alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let set = |(name, value): &(&str, Option<&str>)| {
        AlterableConfig::default()
            .with_name(text(name))
            .with_value(value.map(text))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(settings.iter().map(set).collect());
    let request = AlterConfigsRequest::default().with_resources(vec![resource]);
    let responses = node.ask(version, &request).responses;
    assert_eq!(
        (
            responses[0].resource_type,
            responses[0].resource_name.as_str()
        ),
        (kind, name)
    );
    assert_eq!(
        responses[0].error_message.is_some(),
        responses[0].error_code != 0
    );
    responses[0].error_code
}

#[test]
fn the_old_request_replaces_all_settings() {
    let node = node_with(&["orders"]);
    let own = node.broker.options().node_id.to_string();
    for version in 0..=2 {
        let both = [
            ("retention.ms", Some("1000")),
            ("max.message.bytes", Some("2000")),
        ];
        assert_eq!(replace(&node, version, TOPIC, "orders", &both), 0);
        assert_eq!(
            setting(&node, "orders", "max.message.bytes"),
            ("2000".to_owned(), 1)
        );
        assert_eq!(
            replace(
                &node,
                version,
                TOPIC,
                "orders",
                &[("retention.ms", Some("3000"))]
            ),
            0
        );
        assert_eq!(setting(&node, "orders", "retention.ms").0, "3000");
        assert_eq!(
            setting(&node, "orders", "max.message.bytes").1,
            5,
            "back to the default"
        );
        assert_eq!(
            replace(&node, version, TOPIC, "orders", &[("retention.ms", None)]),
            invalid()
        );
        assert_eq!(
            replace(&node, version, NODE, &own, &[("num.partitions", Some("2"))]),
            invalid()
        );
        assert_eq!(
            setting(&node, "orders", "retention.ms").0,
            "3000",
            "nothing was dropped"
        );
        assert_eq!(replace(&node, version, TOPIC, "orders", &[]), 0);
        assert_eq!(setting(&node, "orders", "retention.ms").1, 5);
    }
}

#[test]
fn resources_with_settings_are_listed_by_kind() {
    let node = node_with(&["a", "b"]);
    let own = node.broker.options().node_id.to_string();
    let list = |version, kinds: &[i8]| {
        let request = ListConfigResourcesRequest::default().with_resource_types(kinds.to_vec());
        let response = node.ask(version, &request);
        let resources = response.config_resources.iter();
        let resources: Vec<_> = resources
            .map(|one| (one.resource_type, one.resource_name.to_string()))
            .collect();
        (response.error_code, resources)
    };
    assert_eq!(
        list(0, &[]),
        (0, vec![]),
        "there are no client metrics subscriptions"
    );
    let topics = vec![(TOPIC, "a".to_owned()), (TOPIC, "b".to_owned())];
    assert_eq!(list(1, &[TOPIC]), (0, topics.clone()));
    assert_eq!(list(1, &[GROUP, CLIENT_METRICS]), (0, vec![]));
    let nodes = vec![(NODE, own.clone()), (LOGGERS, own)];
    assert_eq!(list(1, &[]), (0, [topics, nodes].concat()));
    assert_eq!(
        list(1, &[TOPIC, 77]),
        (ResponseError::UnsupportedVersion.code(), vec![])
    );
}
