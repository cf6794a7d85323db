//! JoinGroup: a member joins and waits until the join phase of the rebalance ends.
//!
//! Only the leader learns the members. An empty protocol name up to version 6 is null from
//! version 7 on, where the protocol's type is answered too.

use std::time::Duration;

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use wharf_broker::group::{Join, JoinRefused, Joined};

use super::Card;
use crate::error::error_code;
use crate::frame::Call;
use crate::shape::{BYTES, INT32, Shape, TEXT, array};
use crate::wire::text;
use crate::{Disconnect, Outcome};

/// The first version in which a new dynamic member must come back with its id (KIP-394).
const MEMBER_ID_REQUIRED: i16 = 4;
/// The first version in which the protocol's name may be null.
const NULLABLE_PROTOCOL: i16 = 7;
/// The first version that can tell a leader to skip the assignment (KIP-814).
const SKIP_ASSIGNMENT: i16 = 9;

pub(super) static CARD: Card = Card {
    key: 11,
    name: "JoinGroup",
    advertised: 0..=9,
    answered: 0..=9,
    kips: &[62, 345, 394, 559, 800, 814],
    shape: Shape::new(
        6,
        &[
            TEXT,
            INT32,
            INT32.from(1),
            TEXT,
            TEXT.from(5),
            TEXT,
            array(&[TEXT, BYTES]),
            TEXT.from(8),
        ],
    ),
    notes: "",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer(answer)
}

async fn answer(call: Call, request: JoinGroupRequest) -> JoinGroupResponse {
    let (broker, cx) = (&call.broker, &call.cx);
    let version = call.version();
    match broker.join_group(cx, join(request, version)).await {
        Ok(joined) => accepted(joined),
        Err(refused) => rejected(refused, version),
    }
}

fn join(request: JoinGroupRequest, version: i16) -> Join {
    let session = duration(request.session_timeout_ms).unwrap_or_default();
    let protocols = request.protocols.into_iter();
    Join {
        group: request.group_id.to_string(),
        member: request.member_id.to_string(),
        member_id_required: version >= MEMBER_ID_REQUIRED && request.group_instance_id.is_none(),
        instance: request.group_instance_id.map(|id| id.to_string()),
        session_timeout: session,
        // Version 0 has no rebalance time-out: the session's stands in.
        rebalance_timeout: duration(request.rebalance_timeout_ms).unwrap_or(session),
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols
            .map(|one| (one.name.to_string(), one.metadata))
            .collect(),
        skip_assignment_supported: version >= SKIP_ASSIGNMENT,
        reason: request
            .reason
            .map(|reason| reason.to_string())
            .unwrap_or_default(),
    }
}

fn duration(millis: i32) -> Option<Duration> {
    u64::try_from(millis).ok().map(Duration::from_millis)
}

fn accepted(joined: Joined) -> JoinGroupResponse {
    let members = joined
        .members
        .into_iter()
        .map(|(member, instance, metadata)| {
            JoinGroupResponseMember::default()
                .with_member_id(text(member))
                .with_group_instance_id(instance.map(text))
                .with_metadata(metadata)
        });
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_type(Some(text(joined.protocol_type)))
        .with_protocol_name(Some(text(joined.protocol)))
        .with_leader(text(joined.leader))
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(text(joined.member))
        .with_members(members.collect())
}

fn rejected(refused: JoinRefused, version: i16) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_error_code(error_code(refused.error.kind))
        .with_generation_id(-1)
        .with_protocol_name((version < NULLABLE_PROTOCOL).then(StrBytes::new))
        .with_member_id(text(refused.member))
}

#[cfg(test)]
mod tests {
    use wharf_broker::{Error, ErrorKind};

    use super::*;

    #[test]
    fn without_a_rebalance_time_out_the_sessions_stands_in() {
        let request = JoinGroupRequest::default().with_session_timeout_ms(6000);
        let timeout = |rebalance| {
            join(request.clone().with_rebalance_timeout_ms(rebalance), 1)
                .rebalance_timeout
                .as_millis()
        };
        assert_eq!(timeout(-1), 6000);
        assert_eq!(timeout(60_000), 60_000);
    }

    #[test]
    fn only_dynamic_members_of_version_4_and_later_must_come_back_with_their_id() {
        let dynamic = JoinGroupRequest::default();
        let fixed = dynamic.clone().with_group_instance_id(Some("a".into()));
        assert!(!join(dynamic.clone(), 3).member_id_required);
        assert!(join(dynamic, 4).member_id_required);
        assert!(!join(fixed, 9).member_id_required);
    }

    #[test]
    fn a_refusal_has_a_null_protocol_only_where_null_is_allowed() {
        let refusal = || JoinRefused {
            error: Error::new(ErrorKind::MemberIdRequired, "come back with this id"),
            member: "m-1".to_owned(),
        };
        assert_eq!(rejected(refusal(), 6).protocol_name, Some(StrBytes::new()));
        assert_eq!(rejected(refusal(), 7).protocol_name, None);
        assert_eq!(rejected(refusal(), 7).member_id.as_str(), "m-1");
        assert_eq!(rejected(refusal(), 7).generation_id, -1);
    }
}
