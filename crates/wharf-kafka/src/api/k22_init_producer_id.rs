//! InitProducerId: an identity for idempotent (KIP-98, KIP-360) and transactional producers.
//!
//! With a transactional id the answer also says that no earlier instance can write any more, and
//! that nothing of it is still open.

use std::time::Duration;

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use wharf_broker::{Error, ErrorKind, InitTransactions, ProducerIdentity};

use super::Card;
use crate::error::producer_code;
use crate::frame::Call;
use crate::shape::{INT16, INT32, INT64, Shape, TEXT};
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 22,
    name: "InitProducerId",
    advertised: 0..=5,
    answered: 0..=5,
    kips: &[98, 360, 588, 890],
    shape: Shape::new(2, &[TEXT, INT32, INT64.from(3), INT16.from(3)]),
    notes: "An open transaction of an earlier instance is aborted at once: the answer is not \
            CONCURRENT_TRANSACTIONS first, as in Kafka.",
};

/// The first version that knows PRODUCER_FENCED.
const FENCED_FROM: i16 = 4;
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
            .with_error_code(producer_code(error.kind, call.version() >= FENCED_FROM))
            .with_producer_id(ProducerId(NO_ID))
            .with_producer_epoch(NO_EPOCH),
    }
}

async fn init(call: &Call, request: &InitProducerIdRequest) -> Result<ProducerIdentity, Error> {
    let current = match (request.producer_id.0, request.producer_epoch) {
        (NO_ID, NO_EPOCH) => None,
        (NO_ID, _) | (_, NO_EPOCH) => {
            let sentence = "a producer id needs its epoch";
            return Err(Error::new(ErrorKind::InvalidRequest, sentence));
        }
        (id, epoch) => Some(ProducerIdentity { id, epoch }),
    };
    let Some(id) = &request.transactional_id else {
        return call.broker.init_producer(&call.cx, current).await;
    };
    // A time-out that is no time at all is refused like one that is too long.
    let timeout = u64::try_from(request.transaction_timeout_ms).unwrap_or(0);
    let init = InitTransactions {
        id: id.to_string(),
        timeout: Duration::from_millis(timeout),
        current,
    };
    call.broker.init_transactions(&call.cx, init).await
}
