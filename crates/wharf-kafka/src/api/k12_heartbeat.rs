//! Heartbeat: a member is alive, and learns of a rebalance.

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use wharf_broker::group::Member;

use super::Card;
use crate::error::code_of;
use crate::frame::Call;
use crate::shape::{INT32, Shape, TEXT};
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 12,
    name: "Heartbeat",
    advertised: 0..=4,
    answered: 0..=4,
    kips: &[345],
    shape: Shape::new(4, &[TEXT, INT32, TEXT, TEXT.from(3)]),
    notes: "",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(answer)
}

fn answer(call: &Call, request: HeartbeatRequest) -> HeartbeatResponse {
    let (broker, cx) = (&call.broker, &call.cx);
    let member = Member {
        group: request.group_id.to_string(),
        generation: request.generation_id,
        member: request.member_id.to_string(),
        instance: request.group_instance_id.map(|id| id.to_string()),
    };
    let result = broker.heartbeat(cx, &member);
    let code = code_of(&result);
    HeartbeatResponse::default().with_error_code(code)
}
