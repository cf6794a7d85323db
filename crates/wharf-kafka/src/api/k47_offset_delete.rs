//! OffsetDelete: committed offsets of topics the group does not subscribe to (KIP-496). Durable
//! when answered. An error of the group stands alone, without any partition.

use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::Card;
use crate::error::{code_of, error_code};
use crate::frame::Call;
use crate::shape::{INT32, Shape, TEXT, array};
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 47,
    name: "OffsetDelete",
    advertised: 0..=0,
    answered: 0..=0,
    kips: &[496],
    shape: Shape::rigid(&[TEXT, array(&[TEXT, array(&[INT32])])]),
    notes: "",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer(answer)
}

async fn answer(call: Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let (broker, cx) = (&call.broker, &call.cx);
    let partitions = request.topics.iter().flat_map(|topic| {
        let name = topic.name.to_string();
        topic
            .partitions
            .iter()
            .map(move |partition| (name.clone(), partition.partition_index))
    });
    let response = OffsetDeleteResponse::default();
    let results = match broker
        .delete_offsets(cx, &request.group_id, partitions.collect())
        .await
    {
        Ok(results) => results,
        Err(error) => return response.with_error_code(error_code(error.kind)),
    };
    let mut codes = results.iter().map(code_of);
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic
            .partitions
            .iter()
            .zip(&mut codes)
            .map(|(partition, code)| {
                OffsetDeleteResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code)
            });
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    response.with_topics(topics.collect())
}
