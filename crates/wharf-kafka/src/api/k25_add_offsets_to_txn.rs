//! AddOffsetsToTxn: a transaction is going to commit offsets of a group (KIP-98).

use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use wharf_broker::{ProducerIdentity, TransactionalProducer};

use super::Card;
use crate::error::{NONE, producer_code};
use crate::frame::Call;
use crate::shape::{INT16, INT64, Shape, TEXT};
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 25,
    name: "AddOffsetsToTxn",
    advertised: 0..=4,
    answered: 0..=4,
    kips: &[98, 588],
    shape: Shape::new(3, &[TEXT, INT64, INT16, TEXT]),
    notes: "",
};

/// The first version that knows PRODUCER_FENCED.
const FENCED_FROM: i16 = 2;

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer(answer)
}

async fn answer(call: Call, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
    let caller = TransactionalProducer {
        id: request.transactional_id.to_string(),
        producer: ProducerIdentity {
            id: request.producer_id.0,
            epoch: request.producer_epoch,
        },
    };
    let (broker, cx) = (&call.broker, &call.cx);
    let added = broker
        .add_offsets_to_transaction(cx, &caller, &request.group_id)
        .await;
    let code =
        |error: wharf_broker::Error| producer_code(error.kind, call.version() >= FENCED_FROM);
    AddOffsetsToTxnResponse::default().with_error_code(added.map_or_else(code, |()| NONE))
}
