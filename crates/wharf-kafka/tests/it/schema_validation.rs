//! What a producer is told about records that break their topic's contract. The registry is a
//! stand-in, for which a value is fine unless it begins with `bad`.

use std::sync::Arc;

use wharf_broker::{Context, SchemaAction, SchemaCheck, SchemaCounts, SchemaRefusal, SchemaRules};
use wharf_log::batch::Record;
use wharf_message::TopicName;

use crate::records::{Named, batch_of, create, nowhere, produce, produce_request};
use crate::support::Node;

/// Kafka's INVALID_RECORD.
const INVALID_RECORD: i16 = 87;

#[derive(Debug)]
struct Registry;

impl SchemaCheck for Registry {
    fn check(
        &self,
        _topic: &TopicName,
        _rules: &SchemaRules,
        record: &Record,
    ) -> Result<(), SchemaRefusal> {
        match &record.value {
            Some(value) if value.starts_with(b"bad") => {
                Err(SchemaRefusal::Broken("it is bad; send another".to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn count(&self, _: &Context, _: &TopicName, _: SchemaAction, _: &SchemaCounts<'_>) {}
}

fn node(mode: &str) -> (Node, Named) {
    let node = Node::new();
    assert!(node.broker.check_schemas_with(Arc::new(Registry)));
    let topic = create(&node, "orders", &[("wharf.schema.validation", mode)]);
    (node, topic)
}

#[test]
fn a_refused_batch_names_its_bad_records_from_version_8_on() {
    let (node, topic) = node("reject");
    for version in 3..=13 {
        let answer = produce(
            &node,
            version,
            topic,
            batch_of(&["fine", "bad", "good", "bad"], None),
        );
        assert_eq!(answer.error_code, INVALID_RECORD, "v{version}");
        assert_eq!(answer.base_offset, -1);
        if version < 8 {
            assert!(answer.error_message.is_none() && answer.record_errors.is_empty());
            continue;
        }
        let message = answer.error_message.unwrap();
        assert!(
            message.contains("2 of the batch's records break the contract of orders"),
            "{message}"
        );
        let named: Vec<_> = answer
            .record_errors
            .iter()
            .map(|error| {
                let message = error.batch_index_error_message.as_ref().unwrap();
                (error.batch_index, message.as_str())
            })
            .collect();
        let why = "it is bad; send another";
        assert_eq!(named, [(1, why), (3, why)]);
    }
    let good = produce(&node, 13, topic, batch_of(&["fine"], None));
    assert_eq!((good.error_code, good.base_offset), (0, 0));
}

#[test]
fn what_is_warned_of_or_not_looked_at_is_answered_as_ever() {
    for mode in ["warn", "off"] {
        let (node, topic) = node(mode);
        let answer = produce(&node, 9, topic, batch_of(&["fine", "bad"], None));
        assert_eq!((answer.error_code, answer.base_offset), (0, 0), "{mode}");
    }
}

#[test]
fn one_partition_that_is_refused_does_not_keep_another_from_its_records() {
    let (node, topic) = node("reject");
    let mut request = produce_request(9, topic, 0, batch_of(&["bad"], None));
    let other = produce_request(9, topic, 1, batch_of(&["fine"], None));
    let more = other.topic_data[0].partition_data.clone();
    request.topic_data[0].partition_data.extend(more);
    let missing = produce_request(9, nowhere(), 0, batch_of(&["bad"], None));
    request.topic_data.extend(missing.topic_data);
    let answer = node.ask(9, &request);
    let codes: Vec<i16> = answer
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses)
        .map(|partition| partition.error_code)
        .collect();
    assert_eq!(codes, [INVALID_RECORD, 0, 3]);
}
