//! CreatePartitions: raises the number of partitions of topics (KIP-195), each on its own.
//!
//! A manual assignment must name this node for every partition that is added, and nothing else.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use wharf_broker::{Broker, Context, Error, ErrorKind, TopicRef};

use super::Card;
use super::in_order::in_order;
use super::repeated::named;
use crate::error::code_of;
use crate::frame::Call;
use crate::shape::{BOOL, INT32, Shape, TEXT, array, items};
use crate::wire::message_of;
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 37,
    name: "CreatePartitions",
    advertised: 0..=3,
    answered: 0..=3,
    kips: &[195],
    shape: Shape::new(
        2,
        &[array(&[TEXT, INT32, array(&[items(&INT32)])]), INT32, BOOL],
    ),
    notes: "The time-out is not needed: nothing waits for other nodes.",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer(answer)
}

async fn answer(call: Call, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let (broker, cx) = (&call.broker, &call.cx);
    let validate_only = request.validate_only;
    let topics = named(request.topics, |topic| topic.name.clone());
    let work = topics.map(|(topic, is_repeated)| async move {
        let created = if is_repeated {
            let message = "the topic is named more than once";
            Err(Error::new(ErrorKind::InvalidRequest, message))
        } else {
            create(broker, cx, &topic, validate_only).await
        };
        CreatePartitionsTopicResult::default()
            .with_name(topic.name)
            .with_error_code(code_of(&created))
            .with_error_message(message_of(&created))
    });
    CreatePartitionsResponse::default().with_results(in_order(work).await)
}

async fn create(
    broker: &Broker,
    cx: &Context,
    topic: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), Error> {
    check_assignment(broker, topic)?;
    broker
        .create_partitions(cx, &topic.name, topic.count, validate_only)
        .await
}

fn check_assignment(broker: &Broker, topic: &CreatePartitionsTopic) -> Result<(), Error> {
    let Some(assignments) = &topic.assignments else {
        return Ok(());
    };
    let existing = broker
        .topic(&TopicRef::Name(topic.name.to_string()))?
        .partitions
        .len();
    let wanted = usize::try_from(topic.count).unwrap_or(0);
    let node = broker.options().node_id;
    let invalid = |message| Err(Error::new(ErrorKind::InvalidReplicaAssignment, message));
    if wanted > existing && assignments.len() != wanted - existing {
        return invalid(format!(
            "{} partitions are added, but {} are assigned",
            wanted - existing,
            assignments.len()
        ));
    }
    let elsewhere =
        |ids: &[kafka_protocol::messages::BrokerId]| !matches!(ids, [id] if id.0 == node);
    if assignments
        .iter()
        .any(|assignment| elsewhere(&assignment.broker_ids))
    {
        return invalid(format!("every partition has one copy, on node {node}"));
    }
    Ok(())
}
