//! AlterPartitionReassignments: every partition is on the one node and stays there (KIP-455).
//!
//! To assign a partition to this node changes nothing and succeeds; anything else is refused. No
//! reassignment is ever under way, so there is none to cancel.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::ReassignableTopic;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, BrokerId,
};
use wharf_broker::{Broker, TopicRef};

use super::Card;
use super::repeated::repeated;
use crate::error::NONE;
use crate::frame::Call;
use crate::shape::{BOOL, INT32, Shape, TEXT, array, items};
use crate::wire::text;
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 45,
    name: "AlterPartitionReassignments",
    advertised: 0..=1,
    answered: 0..=1,
    kips: &[455, 860],
    shape: Shape::new(
        0,
        &[
            INT32,
            BOOL.from(1),
            array(&[TEXT, array(&[INT32, items(&INT32)])]),
        ],
    ),
    notes: "To this node: nothing to do. Elsewhere: INVALID_REPLICA_ASSIGNMENT. Cancelling: \
            NO_REASSIGNMENT_IN_PROGRESS.",
};

type Refusal = Option<(ResponseError, String)>;

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(answer)
}

fn answer(
    call: &Call,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let named = request.topics.iter().flat_map(|topic| {
        let indexes = topic.partitions.iter();
        indexes.map(|partition| (topic.name.clone(), partition.partition_index))
    });
    if let Some((name, index)) = repeated(named).into_iter().next() {
        let message = format!(
            "partition {index} of {} is named more than once",
            name.as_str()
        );
        return AlterPartitionReassignmentsResponse::default()
            .with_allow_replication_factor_change(request.allow_replication_factor_change)
            .with_error_code(ResponseError::InvalidRequest.code())
            .with_error_message(Some(text(message)));
    }
    let topics = request
        .topics
        .into_iter()
        .map(|one| topic(&call.broker, one));
    let response = AlterPartitionReassignmentsResponse::default()
        .with_error_message(None)
        .with_responses(topics.collect());
    // The flag is told back in the version that has it.
    response.with_allow_replication_factor_change(request.allow_replication_factor_change)
}

fn topic(broker: &Broker, asked: ReassignableTopic) -> ReassignableTopicResponse {
    let count = broker
        .topic(&TopicRef::Name(asked.name.to_string()))
        .map_or(0, |topic| topic.partitions.len());
    let node = BrokerId(broker.options().node_id);
    let partitions = asked.partitions.into_iter().map(|partition| {
        let index = partition.partition_index;
        let is_known = usize::try_from(index).is_ok_and(|index| index < count);
        let refusal = if is_known {
            assignment(node, partition.replicas.as_deref())
        } else {
            let message = "there is no such partition".to_owned();
            Some((ResponseError::UnknownTopicOrPartition, message))
        };
        ReassignablePartitionResponse::default()
            .with_partition_index(index)
            .with_error_code(refusal.as_ref().map_or(NONE, |(error, _)| error.code()))
            .with_error_message(refusal.map(|(_, message)| text(message)))
    });
    let partitions = partitions.collect();
    ReassignableTopicResponse::default()
        .with_name(asked.name)
        .with_partitions(partitions)
}

fn assignment(node: BrokerId, replicas: Option<&[BrokerId]>) -> Refusal {
    match replicas {
        None => Some((
            ResponseError::NoReassignmentInProgress,
            "no reassignment is under way".to_owned(),
        )),
        Some([only]) if *only == node => None,
        Some(_) => Some((
            ResponseError::InvalidReplicaAssignment,
            format!("every partition has one copy, on node {}", node.0),
        )),
    }
}
