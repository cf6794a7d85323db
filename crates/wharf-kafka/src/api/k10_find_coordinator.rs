//! FindCoordinator: this node, for every group and transactional id; several keys at once from version 4 on (KIP-699).

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;
use wharf_broker::{Error, ErrorKind};

use super::Card;
use crate::error::error_code;
use crate::frame::Call;
use crate::shape::{INT8, Shape, TEXT, items};
use crate::wire::{NO_NODE, message, text};
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 10,
    name: "FindCoordinator",
    advertised: 0..=6,
    answered: 0..=6,
    kips: &[98, 699],
    shape: Shape::new(3, &[TEXT.to(3), INT8.from(1), items(&TEXT).from(4)]),
    notes: "Coordinators of groups and of transactions. Share groups are refused with \
            INVALID_REQUEST and a sentence.",
};

/// The key type of consumer groups.
const GROUP: i8 = 0;
/// The key type of transactions.
const TRANSACTION: i8 = 1;
/// The first version with several keys.
const BATCHED_FROM: i16 = 4;

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(answer)
}

fn answer(call: &Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let response = FindCoordinatorResponse::default();
    if call.version() >= BATCHED_FROM {
        let keys = request.coordinator_keys.into_iter();
        return response
            .with_coordinators(keys.map(|key| find(call, key, request.key_type)).collect());
    }
    let found = find(call, request.key, request.key_type);
    response
        .with_error_code(found.error_code)
        .with_error_message(found.error_message)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port)
}

fn find(call: &Call, key: StrBytes, key_type: i8) -> Coordinator {
    let found = Coordinator::default().with_key(key);
    match refusal(key_type) {
        None => found
            .with_node_id(BrokerId(call.broker.options().node_id))
            .with_host(text(call.endpoint.host.as_str()))
            .with_port(i32::from(call.endpoint.port)),
        Some(error) => found
            .with_node_id(NO_NODE)
            .with_port(-1)
            .with_error_code(error_code(error.kind))
            .with_error_message(Some(message(&error))),
    }
}

fn refusal(key_type: i8) -> Option<Error> {
    let sentence = match key_type {
        GROUP | TRANSACTION => return None,
        other => format!("coordinators of type {other} are not known"),
    };
    Some(Error::new(ErrorKind::InvalidRequest, sentence))
}
