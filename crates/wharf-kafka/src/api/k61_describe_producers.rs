//! DescribeProducers: which producers are active in partitions, and where their open transactions
//! begin (KIP-664).

use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};
use wharf_broker::{Error, ProducerDescription, TopicRef};

use super::Card;
use super::repeated::once;
use crate::error::error_code;
use crate::frame::Call;
use crate::shape::{INT32, Shape, TEXT, array, items};
use crate::wire::message;
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 61,
    name: "DescribeProducers",
    advertised: 0..=0,
    answered: 0..=0,
    kips: &[664],
    shape: Shape::new(0, &[array(&[TEXT, items(&INT32)])]),
    notes: "",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(answer)
}

fn answer(call: &Call, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let (broker, cx) = (&call.broker, &call.cx);
    let asked = request.topics.into_iter();
    let asked = once(
        asked
            .map(|topic| (topic.name, topic.partition_indexes))
            .collect(),
    );
    let topics = asked.into_iter().map(|(name, indexes)| {
        let topic = TopicRef::Name(name.to_string());
        let partitions = indexes.into_iter().map(|index| {
            let producers = broker.describe_producers(cx, &topic, index);
            partition(producers).with_partition_index(index)
        });
        TopicResponse::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

fn partition(producers: Result<Vec<ProducerDescription>, Error>) -> PartitionResponse {
    let response = PartitionResponse::default();
    match producers {
        Ok(producers) => response.with_active_producers(producers.into_iter().map(state).collect()),
        Err(error) => response
            .with_error_code(error_code(error.kind))
            .with_error_message(Some(message(&error))),
    }
}

fn state(producer: ProducerDescription) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(producer.epoch)
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_timestamp)
        .with_coordinator_epoch(producer.coordinator_epoch)
        .with_current_txn_start_offset(producer.transaction_start.unwrap_or(-1))
}
