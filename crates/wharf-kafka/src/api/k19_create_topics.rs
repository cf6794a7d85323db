//! CreateTopics: each topic on its own, durable when answered.
//!
//! A name that stands twice in a request is refused once and created never. From version 5 on the
//! answer describes the topic with all its settings, from version 7 on with its id. The time-out
//! of the request is not needed: nothing waits for other nodes.

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use kafka_protocol::protocol::StrBytes;
use wharf_broker::{Broker, ConfigEntry, CreateTopic, Error, ErrorKind, Topic};

use super::Card;
use super::config_resource::source_code;
use super::in_order::in_order;
use super::repeated::named;
use crate::error::error_code;
use crate::frame::Call;
use crate::shape::{BOOL, INT16, INT32, Shape, TEXT, array, items};
use crate::wire::{message, text};
use crate::{Disconnect, Outcome};

/// The first version that describes the topic created.
const DESCRIBED: i16 = 5;
/// How many topics of one request are described with their settings; the settings of the others
/// are null. It bounds the answer to a request that names very many topics.
const DESCRIBED_MAX: usize = 10_000;
/// The number of copies of every partition: one node, one copy.
const REPLICATION: i16 = 1;

pub(super) static CARD: Card = Card {
    key: 19,
    name: "CreateTopics",
    advertised: 2..=7,
    answered: 2..=7,
    kips: &[4, 464, 516, 525],
    shape: Shape::new(
        5,
        &[
            array(&[
                TEXT,
                INT32,
                INT16,
                array(&[INT32, items(&INT32)]),
                array(&[TEXT, TEXT]),
            ]),
            INT32,
            BOOL,
        ],
    ),
    notes: "The time-out is not needed: nothing waits for other nodes. The replication factor is \
            1.",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer(answer)
}

async fn answer(call: Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let (broker, cx) = (&call.broker, &call.cx);
    let version = call.version();
    let validate_only = request.validate_only;
    let topics = named(request.topics, |topic| topic.name.clone());
    let work = topics.map(|(topic, is_repeated)| {
        let name = topic.name.clone();
        async move {
            let created = if is_repeated {
                let message = "the topic is named more than once";
                Err(Error::new(ErrorKind::InvalidRequest, message))
            } else {
                broker.create_topic(cx, create(topic), validate_only).await
            };
            (name, created)
        }
    });
    let mut described = 0;
    let results = in_order(work).await.into_iter().map(|(name, created)| {
        let result = CreatableTopicResult::default().with_name(name);
        match created {
            Ok(topic) if version >= DESCRIBED => {
                described += 1;
                describe(broker, result, &topic, described <= DESCRIBED_MAX)
            }
            Ok(_) => result.with_error_message(None),
            Err(error) => refused(result, &error),
        }
    });
    CreateTopicsResponse::default().with_topics(results.collect())
}

fn refused(result: CreatableTopicResult, error: &Error) -> CreatableTopicResult {
    result
        .with_error_code(error_code(error.kind))
        .with_error_message(Some(message(error)))
}

/// The broker's form of the request.
fn create(topic: CreatableTopic) -> CreateTopic {
    let assignments = topic.assignments.into_iter();
    let configs = topic.configs.into_iter();
    CreateTopic {
        name: topic.name.to_string(),
        partitions: (topic.num_partitions != -1).then_some(topic.num_partitions),
        replication: (topic.replication_factor != -1).then_some(topic.replication_factor),
        assignment: assignments
            .map(|one| {
                (
                    one.partition_index,
                    one.broker_ids.iter().map(|id| id.0).collect(),
                )
            })
            .collect(),
        configs: configs
            .map(|one| {
                (
                    one.name.to_string(),
                    one.value.map(|value| value.to_string()),
                )
            })
            .collect(),
    }
}

fn describe(
    broker: &Broker,
    result: CreatableTopicResult,
    topic: &Topic,
    with_configs: bool,
) -> CreatableTopicResult {
    let setting = |entry: ConfigEntry| {
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_static_str(entry.name))
            .with_value(entry.value.map(text))
            .with_read_only(entry.read_only)
            .with_config_source(source_code(entry.source))
    };
    let configs = with_configs.then(|| {
        broker
            .describe_config(&topic.config)
            .into_iter()
            .map(setting)
            .collect()
    });
    result
        .with_error_message(None)
        .with_topic_id(topic.id)
        .with_num_partitions(i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX))
        .with_replication_factor(REPLICATION)
        .with_configs(configs)
}
