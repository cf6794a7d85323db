//! DescribeGroups: state and members of classic groups.
//!
//! A group nobody knows is `Dead` without an error up to version 5; version 6 says so with
//! GROUP_ID_NOT_FOUND and a message. A group named again is not described again.

use std::collections::HashSet;

use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;
use wharf_broker::group::{GroupDescription, MemberDescription};
use wharf_broker::{Error, ErrorKind};

use super::Card;
use crate::error::error_code;
use crate::frame::Call;
use crate::shape::{BOOL, Shape, TEXT, items};
use crate::wire::{message, operations, text};
use crate::{Disconnect, Outcome};

/// The first version with an error and a message for an unknown group.
const UNKNOWN_IS_ERROR: i16 = 6;

pub(super) static CARD: Card = Card {
    key: 15,
    name: "DescribeGroups",
    advertised: 0..=6,
    answered: 0..=6,
    kips: &[345, 430, 1043],
    shape: Shape::new(5, &[items(&TEXT), BOOL.from(3)]),
    notes: "An unknown group is Dead, and an error from version 6 on.",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(answer)
}

fn answer(call: &Call, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let (broker, cx) = (&call.broker, &call.cx);
    let version = call.version();
    let mut seen = HashSet::new();
    let groups = request
        .groups
        .into_iter()
        .filter(|id| seen.insert(id.clone()));
    let groups = groups.map(|id| match broker.describe_group(cx, &id) {
        Ok(description) => {
            let asked = request.include_authorized_operations;
            described(id, description)
                .with_authorized_operations(operations::when(asked, operations::GROUP))
        }
        Err(error) => refused(id, &error, version),
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

fn described(id: GroupId, description: GroupDescription) -> DescribedGroup {
    DescribedGroup::default()
        .with_group_id(id)
        .with_group_state(StrBytes::from_static_str(description.state))
        .with_protocol_type(text(description.protocol_type))
        .with_protocol_data(text(description.protocol))
        .with_members(
            description
                .members
                .into_iter()
                .map(described_member)
                .collect(),
        )
}

fn described_member(member: MemberDescription) -> DescribedGroupMember {
    DescribedGroupMember::default()
        .with_member_id(text(member.member))
        .with_group_instance_id(member.instance.map(text))
        .with_client_id(text(member.client_id))
        .with_client_host(text(member.client_host))
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment)
}

fn refused(id: GroupId, error: &Error, version: i16) -> DescribedGroup {
    let group = DescribedGroup::default().with_group_id(id);
    let unknown = error.kind == ErrorKind::GroupIdNotFound;
    let group = if unknown {
        group.with_group_state("Dead".into())
    } else {
        group
    };
    if version >= UNKNOWN_IS_ERROR {
        group
            .with_error_code(error_code(error.kind))
            .with_error_message(Some(message(error)))
    } else if unknown {
        group
    } else {
        group.with_error_code(error_code(error.kind))
    }
}
