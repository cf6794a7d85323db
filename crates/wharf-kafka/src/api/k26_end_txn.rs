//! EndTxn: everything a transaction wrote counts, or nothing (KIP-98). From version 5 on the answer
//! says under which epoch the producer goes on (KIP-890).
//!
//! Answered when the end is durable: nothing of it is still on its way then.

use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse, ProducerId};
use wharf_broker::{Error, ProducerIdentity, Protocol, TransactionalProducer};

use super::Card;
use crate::error::producer_code;
use crate::frame::Call;
use crate::shape::{BOOL, INT16, INT64, Shape, TEXT};
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 26,
    name: "EndTxn",
    advertised: 0..=5,
    answered: 0..=5,
    kips: &[98, 588, 890],
    shape: Shape::new(3, &[TEXT, INT64, INT16, BOOL]),
    notes: "One unit of the log ends a transaction whole.",
};

/// The first version that knows PRODUCER_FENCED.
const FENCED_FROM: i16 = 2;
/// The first version under which every end raises the epoch.
const IMPLICIT_FROM: i16 = 5;
/// No producer.
const NOBODY: ProducerIdentity = ProducerIdentity { id: -1, epoch: -1 };

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer(answer)
}

async fn answer(call: Call, request: EndTxnRequest) -> EndTxnResponse {
    let is_implicit = call.version() >= IMPLICIT_FROM;
    let response = EndTxnResponse::default();
    let (response, producer) = match end(&call, &request, is_implicit).await {
        Ok(producer) => (response, producer),
        Err(error) => {
            let code = producer_code(error.kind, call.version() >= FENCED_FROM);
            (response.with_error_code(code), NOBODY)
        }
    };
    if !is_implicit {
        return response;
    }
    response
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(producer.epoch)
}

async fn end(
    call: &Call,
    request: &EndTxnRequest,
    is_implicit: bool,
) -> Result<ProducerIdentity, Error> {
    let caller = TransactionalProducer {
        id: request.transactional_id.to_string(),
        producer: ProducerIdentity {
            id: request.producer_id.0,
            epoch: request.producer_epoch,
        },
    };
    let protocol = match is_implicit {
        true => Protocol::Implicit,
        false => Protocol::Explicit,
    };
    let (broker, cx) = (&call.broker, &call.cx);
    broker
        .end_transaction(cx, &caller, request.committed, protocol)
        .await
}
