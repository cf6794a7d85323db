//! InitProducerId: an identity for idempotent producers (KIP-98, KIP-360).
//!
//! Transactions are refused, never half served: a producer that asks for one must not be told
//! that its records are transactional.

use std::time::Duration;

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use wharf_broker::{Error, ErrorKind, ProducerIdentity};

use super::Card;
use crate::error::error_code;
use crate::frame::Call;
use crate::shape::{INT16, INT32, INT64, Shape, TEXT};
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 22,
    name: "InitProducerId",
    advertised: 0..=5,
    answered: 0..=5,
    kips: &[98, 360],
    shape: Shape::new(2, &[TEXT, INT32, INT64.from(3), INT16.from(3)]),
    notes: "For idempotent producers. A transactional id is refused with INVALID_REQUEST, a \
            time-out beyond 15 minutes with INVALID_TRANSACTION_TIMEOUT.",
};

/// `transaction.max.timeout.ms`, Kafka's default.
const TRANSACTION_TIMEOUT_MAX: Duration = Duration::from_secs(15 * 60);
/// No producer id.
const NO_ID: i64 = -1;
/// No producer epoch.
const NO_EPOCH: i16 = -1;

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer(answer)
}

async fn answer(call: Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let response = InitProducerIdResponse::default();
    match init(&call, &request).await {
        Ok(producer) => response
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch),
        Err(error) => response
            .with_error_code(error_code(error.kind))
            .with_producer_id(ProducerId(NO_ID))
            .with_producer_epoch(NO_EPOCH),
    }
}

async fn init(call: &Call, request: &InitProducerIdRequest) -> Result<ProducerIdentity, Error> {
    let refuse = |kind, sentence| Err(Error::new(kind, sentence));
    if let Some(id) = &request.transactional_id {
        if id.is_empty() {
            return refuse(ErrorKind::InvalidRequest, "the transactional id is empty");
        }
        let timeout = u64::try_from(request.transaction_timeout_ms).unwrap_or(0);
        let allowed = 1..=TRANSACTION_TIMEOUT_MAX.as_millis();
        if !allowed.contains(&u128::from(timeout)) {
            return refuse(
                ErrorKind::InvalidTransactionTimeout,
                "the transaction's time-out is not positive or too long",
            );
        }
        return refuse(ErrorKind::InvalidRequest, "transactions are not supported");
    }
    let current = match (request.producer_id.0, request.producer_epoch) {
        (NO_ID, NO_EPOCH) => None,
        (NO_ID, _) | (_, NO_EPOCH) => {
            return refuse(ErrorKind::InvalidRequest, "a producer id needs its epoch");
        }
        (id, epoch) => Some(ProducerIdentity { id, epoch }),
    };
    call.broker.init_producer(&call.cx, current).await
}
