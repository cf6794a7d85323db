//! WriteTxnMarkers: the end of a transaction in single partitions, as `kafka-transactions.sh abort`
//! asks for one that hangs (KIP-664). There is one coordinator, so nobody else needs it.
//!
//! Version 2 adds a field that says how the transaction began (KIP-1228); the message crate does
//! not know it.

use bytes::Bytes;
use kafka_protocol::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{ProducerId, WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use wharf_broker::{ProducerIdentity, WriteMarker};

use super::Card;
use super::repeated::once;
use crate::compact::{Input, Truncated};
use crate::error::code_of;
use crate::frame::Call;
use crate::shape::{BOOL, INT8, INT16, INT32, INT64, Shape, TEXT, array, items};
use crate::wire::topic_name;
use crate::{Disconnect, Outcome};

/// The newest version the message crate knows.
const CODEC_VERSION: i16 = 1;
/// The version that says how the transaction began.
const WITH_TRANSACTION_VERSION: i16 = 2;

pub(super) static CARD: Card = Card {
    key: 27,
    name: "WriteTxnMarkers",
    advertised: 1..=2,
    answered: 1..=2,
    kips: &[98, 664, 1228],
    shape: Shape::new(
        1,
        &[array(&[
            INT64,
            INT16,
            BOOL,
            array(&[TEXT, items(&INT32)]),
            INT32,
            INT8.from(WITH_TRANSACTION_VERSION),
        ])],
    ),
    notes: "For administrators. A transaction that its transactional id knows to be open is \
            aborted whole, and never committed this way. The coordinator's epoch is always this \
            node's.",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    let request = match call.version() {
        WITH_TRANSACTION_VERSION => decode_with_transaction_version(call.body.clone())?,
        _ => call.decode_as(CODEC_VERSION)?,
    };
    let reply = call.reply;
    Ok(Outcome::Answer(Box::pin(async move {
        reply.encode_as(&answer(&call, request).await, CODEC_VERSION)
    })))
}

async fn answer(call: &Call, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    let mut markers = Vec::with_capacity(request.markers.len());
    for marker in request.markers {
        markers.push(write(call, marker).await);
    }
    WriteTxnMarkersResponse::default().with_markers(markers)
}

async fn write(call: &Call, marker: WritableTxnMarker) -> WritableTxnMarkerResult {
    let topics = marker.topics.into_iter();
    let topics = topics.map(|topic| (topic.name.to_string(), topic.partition_indexes));
    let topics = once(topics.collect());
    let partitions = topics
        .iter()
        .flat_map(|(topic, indexes)| indexes.iter().map(move |index| (topic.clone(), *index)));
    let wanted = WriteMarker {
        producer: ProducerIdentity {
            id: marker.producer_id.0,
            epoch: marker.producer_epoch,
        },
        commit: marker.transaction_result,
        partitions: partitions.collect(),
    };
    let written = call.broker.write_markers(&call.cx, wanted).await;
    let mut codes = written.iter().map(code_of);
    let topics = topics.into_iter().map(|(topic, indexes)| {
        let partitions = indexes.into_iter().zip(&mut codes).map(|(index, code)| {
            WritableTxnMarkerPartitionResult::default()
                .with_partition_index(index)
                .with_error_code(code)
        });
        WritableTxnMarkerTopicResult::default()
            .with_name(topic_name(topic))
            .with_partitions(partitions.collect())
    });
    WritableTxnMarkerResult::default()
        .with_producer_id(marker.producer_id)
        .with_topics(topics.collect())
}

/// Decodes version 2. Which version the transaction began with makes no difference here.
fn decode_with_transaction_version(body: Bytes) -> Result<WriteTxnMarkersRequest, Truncated> {
    let mut input = Input::new(body);
    let markers = input.array(|input| {
        let marker = WritableTxnMarker::default()
            .with_producer_id(ProducerId(input.int64()?))
            .with_producer_epoch(input.int16()?)
            .with_transaction_result(input.boolean()?)
            .with_topics(input.array(|input| {
                let topic = WritableTxnMarkerTopic::default()
                    .with_name(input.text()?.into())
                    .with_partition_indexes(input.array(Input::int32)?);
                input.tagged().map(|()| topic)
            })?)
            .with_coordinator_epoch(input.int32()?);
        let _began_with = input.int8()?;
        input.tagged().map(|()| marker)
    })?;
    input
        .tagged()
        .map(|()| WriteTxnMarkersRequest::default().with_markers(markers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::tests::assert_reads_to_the_last_byte;

    #[test]
    fn version_2_is_read_to_its_last_byte() {
        assert_reads_to_the_last_byte(
            &CARD.shape,
            WITH_TRANSACTION_VERSION,
            decode_with_transaction_version,
        );
    }
}
