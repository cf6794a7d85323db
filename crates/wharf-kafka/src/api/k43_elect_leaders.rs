//! ElectLeaders: the one node leads every partition already, so nothing is elected (KIP-460).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use wharf_broker::{Broker, TopicRef};

use super::Card;
use super::repeated::once;
use crate::frame::Call;
use crate::shape::{INT8, INT32, Shape, TEXT, array, items};
use crate::wire::text;
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 43,
    name: "ElectLeaders",
    advertised: 0..=2,
    answered: 0..=2,
    kips: &[183, 460],
    shape: Shape::new(2, &[INT8.from(1), array(&[TEXT, items(&INT32)]), INT32]),
    notes: "ELECTION_NOT_NEEDED for every partition there is: the one node leads it. Asked for \
            all partitions, none is listed, as in Kafka when no leader changes.",
};

/// Preferred and unclean elections.
const ELECTION_TYPES: std::ops::RangeInclusive<i8> = 0..=1;

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(answer)
}

fn answer(call: &Call, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let response = ElectLeadersResponse::default();
    if !ELECTION_TYPES.contains(&request.election_type) {
        // Version 0 has no election type, so it has the default and never comes here.
        return response.with_error_code(ResponseError::InvalidRequest.code());
    }
    let asked = request.topic_partitions.unwrap_or_default();
    let asked = asked
        .into_iter()
        .map(|topic| (topic.topic, topic.partitions))
        .collect();
    let results = once(asked).into_iter().map(|(topic, indexes)| {
        let count = partition_count(&call.broker, &topic);
        let results = indexes
            .into_iter()
            .map(|index| result(index, count))
            .collect();
        ReplicaElectionResult::default()
            .with_topic(topic)
            .with_partition_result(results)
    });
    response.with_replica_election_results(results.collect())
}

fn partition_count(broker: &Broker, name: &str) -> usize {
    let topic = broker.topic(&TopicRef::Name(name.to_owned()));
    topic.map_or(0, |topic| topic.partitions.len())
}

fn result(index: i32, count: usize) -> PartitionResult {
    let known = usize::try_from(index).is_ok_and(|index| index < count);
    let (error, message) = if known {
        (
            ResponseError::ElectionNotNeeded,
            "this node leads the partition already",
        )
    } else {
        (
            ResponseError::UnknownTopicOrPartition,
            "there is no such partition",
        )
    };
    PartitionResult::default()
        .with_partition_id(index)
        .with_error_code(error.code())
        .with_error_message(Some(text(message)))
}
