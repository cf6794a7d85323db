//! DeleteRecords: moves the first offset of partitions forward. Durable when answered. A refused
//! partition has the low watermark -1.

use std::sync::Arc;

use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use wharf_broker::TopicRef;

use super::Card;
use super::in_order::in_order;
use crate::error::code_of;
use crate::frame::Call;
use crate::shape::{INT32, INT64, Shape, TEXT, array};
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 21,
    name: "DeleteRecords",
    advertised: 0..=2,
    answered: 0..=2,
    kips: &[107],
    shape: Shape::new(2, &[array(&[TEXT, array(&[INT32, INT64])]), INT32]),
    notes: "The time-out is not needed: nothing waits for other nodes.",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer(answer)
}

async fn answer(call: Call, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let (broker, cx) = (&call.broker, &call.cx);
    let mut asked = Vec::new();
    for topic in &request.topics {
        let name = Arc::new(TopicRef::Name(topic.name.to_string()));
        let partitions = topic.partitions.iter();
        asked.extend(partitions.map(|one| (Arc::clone(&name), one.partition_index, one.offset)));
    }
    let work = asked.into_iter().map(|(topic, index, offset)| async move {
        let deleted = broker.delete_records(cx, &topic, index, offset).await;
        DeleteRecordsPartitionResult::default()
            .with_partition_index(index)
            .with_low_watermark(deleted.as_ref().map_or(-1, |records| records.low_watermark))
            .with_error_code(code_of(&deleted))
    });
    let mut results = in_order(work).await.into_iter();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = results.by_ref().take(topic.partitions.len()).collect();
        DeleteRecordsTopicResult::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}
