//! SyncGroup: the leader hands in the assignment, every member waits for its own.

use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use wharf_broker::ErrorKind;
use wharf_broker::group::Sync;

use super::Card;
use crate::error::error_code;
use crate::frame::Call;
use crate::shape::{BYTES, INT32, Shape, TEXT, array};
use crate::wire::text;
use crate::{Disconnect, Outcome};

/// The first version in which a member must say which protocol it believes in (KIP-559).
const PROTOCOL_REQUIRED: i16 = 5;

pub(super) static CARD: Card = Card {
    key: 14,
    name: "SyncGroup",
    advertised: 0..=5,
    answered: 0..=5,
    kips: &[345, 559],
    shape: Shape::new(
        4,
        &[
            TEXT,
            INT32,
            TEXT,
            TEXT.from(3),
            TEXT.from(5),
            TEXT.from(5),
            array(&[TEXT, BYTES]),
        ],
    ),
    notes: "",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer(answer)
}

async fn answer(call: Call, request: SyncGroupRequest) -> SyncGroupResponse {
    let (broker, cx) = (&call.broker, &call.cx);
    let version = call.version();
    let response = SyncGroupResponse::default();
    let protocol_given = request.protocol_type.is_some() && request.protocol_name.is_some();
    if version >= PROTOCOL_REQUIRED && !protocol_given {
        return response.with_error_code(error_code(ErrorKind::InconsistentGroupProtocol));
    }
    let assignments = request.assignments.into_iter();
    let sync = Sync {
        group: request.group_id.to_string(),
        generation: request.generation_id,
        member: request.member_id.to_string(),
        instance: request.group_instance_id.map(|id| id.to_string()),
        protocol_type: request.protocol_type.map(|kind| kind.to_string()),
        protocol: request.protocol_name.map(|name| name.to_string()),
        assignments: assignments
            .map(|one| (one.member_id.to_string(), one.assignment))
            .collect(),
    };
    match broker.sync_group(cx, sync).await {
        Ok(synced) => response
            .with_protocol_type(Some(text(synced.protocol_type)))
            .with_protocol_name(Some(text(synced.protocol)))
            .with_assignment(synced.assignment),
        Err(error) => response.with_error_code(error_code(error.kind)),
    }
}
