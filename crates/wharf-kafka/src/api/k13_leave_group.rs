//! LeaveGroup: members leave, or an administrator removes static ones.
//!
//! Up to version 2 one member leaves and its error is the response's. From version 3 on every
//! member has its own result, in the order asked.

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use wharf_broker::group::Leaving;

use super::Card;
use crate::error::{NONE, code_of, error_code};
use crate::frame::Call;
use crate::shape::{Shape, TEXT, array};
use crate::{Disconnect, Outcome};

/// The first version that can remove several members.
const SEVERAL_MEMBERS: i16 = 3;

pub(super) static CARD: Card = Card {
    key: 13,
    name: "LeaveGroup",
    advertised: 0..=5,
    answered: 0..=5,
    kips: &[345, 800],
    shape: Shape::new(
        4,
        &[TEXT, TEXT.to(2), array(&[TEXT, TEXT, TEXT.from(5)]).from(3)],
    ),
    notes: "",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(answer)
}

fn answer(call: &Call, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let (broker, cx) = (&call.broker, &call.cx);
    let version = call.version();
    let members = if version >= SEVERAL_MEMBERS {
        request.members
    } else {
        vec![MemberIdentity::default().with_member_id(request.member_id)]
    };
    let leaving = members.iter().map(|member| Leaving {
        member: member.member_id.to_string(),
        instance: member.group_instance_id.as_ref().map(ToString::to_string),
        reason: member
            .reason
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    });
    let response = LeaveGroupResponse::default();
    let results = match broker.leave_group(cx, &request.group_id, leaving.collect()) {
        Ok(results) => results,
        Err(error) => return response.with_error_code(error_code(error.kind)),
    };
    let mut codes = results.iter().map(code_of);
    if version < SEVERAL_MEMBERS {
        return response.with_error_code(codes.next().unwrap_or(NONE));
    }
    let members = members.into_iter().zip(codes).map(|(member, code)| {
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(code)
    });
    response.with_members(members.collect())
}
