//! The keys of group membership (11 to 16, 42) in every version, as clients use them.

use bytes::Bytes;
use futures_util::future::join;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, GroupId, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, SyncGroupRequest,
    SyncGroupResponse,
};
use kafka_protocol::protocol::{Request, StrBytes};
use wharf_kafka::Outcome;

use crate::support::{Node, frame, read};

const JOIN_MAX: i16 = 9;

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn group_id(value: &str) -> GroupId {
    GroupId(text(value))
}

/// Asks without holding up the node, so that several members can wait at the same time.
async fn ask<Q: Request>(node: &Node, version: i16, request: Q) -> Q::Response {
    let outcome = node
        .service
        .handle(&node.cx, frame(version, &request))
        .unwrap();
    let Outcome::Answer(answer) = outcome else {
        panic!("group requests keep their turn: {outcome:?}")
    };
    let answer = Bytes::from(answer.await.unwrap().parts.concat());
    read::<Q>(version, version, answer)
}

fn join_request(group: &str, member: &str, version: i16) -> JoinGroupRequest {
    let protocol = |name: &str| {
        JoinGroupRequestProtocol::default()
            .with_name(text(name))
            .with_metadata(Bytes::from(format!("{name} metadata")))
    };
    let request = JoinGroupRequest::default()
        .with_group_id(group_id(group))
        .with_member_id(text(member))
        .with_session_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol("range"), protocol("roundrobin")]);
    let request = if version >= 1 {
        request.with_rebalance_timeout_ms(20_000)
    } else {
        request
    };
    if version >= 8 {
        request.with_reason(Some(text("the test says so")))
    } else {
        request
    }
}

/// Joins as a client does: from version 4 on a new member is told its id and comes back with it.
async fn join_group(node: &Node, group: &str, version: i16) -> JoinGroupResponse {
    let first = ask(node, version, join_request(group, "", version)).await;
    if version < 4 {
        return first;
    }
    assert_eq!(first.error_code, ResponseError::MemberIdRequired.code());
    assert_eq!(first.generation_id, -1);
    assert_eq!(
        first.protocol_name.is_none(),
        version >= 7,
        "version {version}"
    );
    assert!(!first.member_id.is_empty());
    ask(
        node,
        version,
        join_request(group, &first.member_id, version),
    )
    .await
}

fn sync_request(group: &str, joined: &JoinGroupResponse, version: i16) -> SyncGroupRequest {
    let assignments = joined.members.iter().map(|member| {
        SyncGroupRequestAssignment::default()
            .with_member_id(member.member_id.clone())
            .with_assignment(Bytes::from(format!("for {}", member.member_id)))
    });
    let request = SyncGroupRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_assignments(assignments.collect());
    if version < 5 {
        return request;
    }
    request
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(joined.protocol_name.clone())
}

fn heartbeat(node: &Node, group: &str, generation: i32, member: &StrBytes, version: i16) -> i16 {
    let request = HeartbeatRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id(generation)
        .with_member_id(member.clone());
    node.ask(version, &request).error_code
}

fn leave(node: &Node, group: &str, members: &[&StrBytes], version: i16) -> LeaveGroupResponse {
    let request = LeaveGroupRequest::default().with_group_id(group_id(group));
    let request = if version < 3 {
        request.with_member_id(members[0].clone())
    } else {
        let members = members
            .iter()
            .map(|id| MemberIdentity::default().with_member_id((*id).clone()));
        request.with_members(members.collect())
    };
    node.ask(version, &request)
}

/// Two members that joined and were assigned.
struct Pair {
    leader: JoinGroupResponse,
    follower: JoinGroupResponse,
}

fn pair(node: &Node, group: &str, version: i16) -> (Pair, SyncGroupResponse, SyncGroupResponse) {
    let joining = join(
        join_group(node, group, version),
        join_group(node, group, version),
    );
    let (one, other) = node.run(joining);
    let (leader, follower) = if one.members.is_empty() {
        (other, one)
    } else {
        (one, other)
    };
    let sync = version.min(5);
    let syncing = join(
        ask(node, sync, sync_request(group, &follower, sync)),
        ask(node, sync, sync_request(group, &leader, sync)),
    );
    let (of_follower, of_leader) = node.run(syncing);
    (Pair { leader, follower }, of_leader, of_follower)
}

/// A node that gives members time to join the first generation together.
fn node() -> Node {
    Node::with(|options| {
        options.group_initial_rebalance_delay = std::time::Duration::from_secs(3);
    })
}

#[test]
fn two_members_share_a_group_in_every_version_until_one_leaves() {
    let node = node();
    for version in 0..=JOIN_MAX {
        let group = format!("diary-{version}");
        let (Pair { leader, follower }, of_leader, of_follower) = pair(&node, &group, version);
        for joined in [&leader, &follower] {
            assert_eq!(joined.error_code, 0, "version {version}");
            assert_eq!(joined.generation_id, 1, "version {version}");
            assert_eq!(joined.leader, leader.member_id);
            assert_eq!(joined.protocol_name, Some(text("range")));
            assert_eq!(joined.protocol_type.is_some(), version >= 7);
            assert!(!joined.skip_assignment);
        }
        assert_ne!(leader.member_id, follower.member_id);
        assert_eq!(leader.members.len(), 2);
        assert!(
            leader
                .members
                .iter()
                .all(|member| member.metadata == "range metadata")
        );
        assert!(follower.members.is_empty());
        for (joined, synced) in [(&leader, &of_leader), (&follower, &of_follower)] {
            assert_eq!(synced.error_code, 0, "version {version}");
            assert_eq!(synced.assignment, format!("for {}", joined.member_id));
            assert_eq!(synced.protocol_name.is_some(), version >= 5);
        }

        let beat = version.min(4);
        assert_eq!(heartbeat(&node, &group, 1, &leader.member_id, beat), 0);
        let stale = heartbeat(&node, &group, 7, &leader.member_id, beat);
        assert_eq!(stale, ResponseError::IllegalGeneration.code());
        let stranger = heartbeat(&node, &group, 1, &text("stranger"), beat);
        assert_eq!(stranger, ResponseError::UnknownMemberId.code());

        let left = leave(&node, &group, &[&follower.member_id], version.min(5));
        assert_eq!(left.error_code, 0);
        assert_eq!(left.members.len(), usize::from(version >= 3));
        let rebalancing = heartbeat(&node, &group, 1, &leader.member_id, beat);
        assert_eq!(rebalancing, ResponseError::RebalanceInProgress.code());
        let again = node.ask(version, &join_request(&group, &leader.member_id, version));
        assert_eq!((again.error_code, again.generation_id), (0, 2));
        assert_eq!(again.members.len(), 1);
        let synced = node.ask(
            version.min(5),
            &sync_request(&group, &again, version.min(5)),
        );
        assert_eq!(synced.assignment, format!("for {}", leader.member_id));
        assert_eq!(heartbeat(&node, &group, 2, &leader.member_id, beat), 0);
    }
}

#[test]
fn several_members_leave_at_once_and_each_has_its_own_result() {
    let node = node();
    for version in 3..=5 {
        let group = format!("leave-{version}");
        let (Pair { leader, follower }, ..) = pair(&node, &group, JOIN_MAX);
        let stranger = text("stranger");
        let members = [&follower.member_id, &stranger, &leader.member_id];
        let left = leave(&node, &group, &members, version);
        assert_eq!(left.error_code, 0);
        let results: Vec<_> = left
            .members
            .iter()
            .map(|member| (&member.member_id, member.error_code))
            .collect();
        let unknown = ResponseError::UnknownMemberId.code();
        assert_eq!(
            results,
            [(members[0], 0), (members[1], unknown), (members[2], 0)]
        );
    }
}

#[test]
fn one_member_leaving_an_unknown_group_is_an_unknown_member() {
    let node = node();
    for version in 0..=5 {
        let left = leave(&node, "nowhere", &[&text("nobody")], version);
        let code = left
            .members
            .first()
            .map_or(left.error_code, |member| member.error_code);
        assert_eq!(
            code,
            ResponseError::UnknownMemberId.code(),
            "version {version}"
        );
    }
}

#[test]
fn a_static_member_that_comes_back_fences_its_former_self() {
    let node = node();
    for version in 5..=JOIN_MAX {
        let group = format!("static-{version}");
        let request =
            || join_request(&group, "", version).with_group_instance_id(Some(text("till-4")));
        let first = node.ask(version, &request());
        assert_eq!(first.error_code, 0, "a static member needs no second round");
        assert_eq!(first.members[0].group_instance_id, Some(text("till-4")));
        node.ask(5, &sync_request(&group, &first, 5));
        let second = node.ask(version, &request());
        assert_eq!(second.error_code, 0);
        assert_ne!(second.member_id, first.member_id);
        let former = HeartbeatRequest::default()
            .with_group_id(group_id(&group))
            .with_generation_id(first.generation_id)
            .with_member_id(first.member_id.clone())
            .with_group_instance_id(Some(text("till-4")));
        assert_eq!(
            node.ask(4, &former).error_code,
            ResponseError::FencedInstanceId.code()
        );
    }
}

#[test]
fn a_protocol_that_nobody_else_speaks_and_a_short_session_are_refused() {
    let node = node();
    let group = "strict";
    let (pair, ..) = pair(&node, group, 3);
    assert_eq!(pair.leader.error_code, 0);
    let other = join_request(group, "", 3).with_protocols(vec![
        JoinGroupRequestProtocol::default().with_name(text("sticky")),
    ]);
    let refused = node.ask(3, &other);
    assert_eq!(
        refused.error_code,
        ResponseError::InconsistentGroupProtocol.code()
    );
    let short = node.ask(3, &join_request("short", "", 3).with_session_timeout_ms(1));
    assert_eq!(
        short.error_code,
        ResponseError::InvalidSessionTimeout.code()
    );
    let nameless = node.ask(3, &join_request("", "", 3));
    assert_eq!(nameless.error_code, ResponseError::InvalidGroupId.code());
}

#[test]
fn version_5_of_sync_must_say_which_protocol_it_believes_in() {
    let node = node();
    let joined = node.run(join_group(&node, "sync", 9));
    let silent = sync_request("sync", &joined, 4);
    let refused = node.ask(5, &silent);
    assert_eq!(
        refused.error_code,
        ResponseError::InconsistentGroupProtocol.code()
    );
    let wrong = sync_request("sync", &joined, 5).with_protocol_name(Some(text("sticky")));
    let refused = node.ask(5, &wrong);
    assert_eq!(
        refused.error_code,
        ResponseError::InconsistentGroupProtocol.code()
    );
    assert_eq!((refused.protocol_type, refused.protocol_name), (None, None));
    assert_eq!(node.ask(5, &sync_request("sync", &joined, 5)).error_code, 0);
}

#[test]
fn a_group_is_described_in_every_version() {
    let node = node();
    let (Pair { leader, .. }, ..) = pair(&node, "described", JOIN_MAX);
    for version in 0..=6 {
        let request = DescribeGroupsRequest::default()
            .with_groups(vec![group_id("described"), group_id("nowhere")])
            .with_include_authorized_operations(version >= 3);
        let groups = node.ask(version, &request).groups;
        let [known, unknown] = groups.as_slice() else {
            panic!("two groups: {groups:?}")
        };
        assert_eq!(known.error_code, 0);
        assert_eq!(known.group_state.as_str(), "Stable");
        assert_eq!(known.protocol_type.as_str(), "consumer");
        assert_eq!(known.protocol_data.as_str(), "range");
        assert_eq!(known.members.len(), 2);
        let member = known
            .members
            .iter()
            .find(|one| one.member_id == leader.member_id)
            .unwrap();
        assert_eq!(member.client_id.as_str(), "tester");
        assert_eq!(member.client_host.as_str(), "/127.0.0.1");
        assert_eq!(member.member_metadata, "range metadata");
        assert_eq!(
            member.member_assignment,
            format!("for {}", leader.member_id)
        );
        assert_eq!(known.authorized_operations > 0, version >= 3);

        assert_eq!(unknown.group_id, group_id("nowhere"));
        assert_eq!(unknown.group_state.as_str(), "Dead");
        let not_found = if version >= 6 {
            ResponseError::GroupIdNotFound.code()
        } else {
            0
        };
        assert_eq!(unknown.error_code, not_found, "version {version}");
        assert_eq!(unknown.error_message.is_some(), version >= 6);
    }
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id("described")]);
    let groups = node.ask(6, &request).groups;
    assert_eq!(groups[0].authorized_operations, i32::MIN, "nobody asked");
}

#[test]
fn groups_are_listed_and_filtered_whatever_the_case() {
    let node = node();
    let (members, ..) = pair(&node, "busy", JOIN_MAX);
    let (Pair { leader, follower }, ..) = pair(&node, "idle", JOIN_MAX);
    leave(&node, "idle", &[&leader.member_id, &follower.member_id], 5);
    assert_eq!(members.leader.error_code, 0);
    let listed = |version, states: &[&str], types: &[&str]| {
        let texts = |all: &[&str]| all.iter().map(|one| text(one)).collect();
        let request = ListGroupsRequest::default();
        let request = if version >= 4 {
            request.with_states_filter(texts(states))
        } else {
            request
        };
        let request = if version >= 5 {
            request.with_types_filter(texts(types))
        } else {
            request
        };
        let response = node.ask(version, &request);
        assert_eq!(response.error_code, 0);
        response.groups
    };
    for version in 0..=5 {
        let groups = listed(version, &[], &[]);
        let mut names: Vec<_> = groups.iter().map(|group| group.group_id.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["busy", "idle"], "version {version}");
        let busy = groups
            .iter()
            .find(|group| group.group_id.as_str() == "busy")
            .unwrap();
        assert_eq!(busy.protocol_type.as_str(), "consumer");
        assert_eq!(
            busy.group_state.as_str(),
            if version >= 4 { "Stable" } else { "" }
        );
        let kind = if version >= 5 { "classic" } else { "" };
        assert!(
            busy.group_type.eq_ignore_ascii_case(kind),
            "version {version}"
        );
    }
    let names = |states: &[&str], types: &[&str]| {
        listed(5, states, types)
            .iter()
            .map(|group| group.group_id.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&["stable"], &[]), ["busy"]);
    assert_eq!(names(&["EMPTY"], &["Classic"]), ["idle"]);
    assert!(names(&[], &["consumer"]).is_empty());
    assert!(names(&["no such state"], &[]).is_empty());
}

#[test]
fn only_empty_groups_are_deleted_and_each_has_its_own_result() {
    let node = node();
    for version in 0..=2 {
        let (busy, idle) = (format!("busy-{version}"), format!("idle-{version}"));
        pair(&node, &busy, JOIN_MAX);
        let (Pair { leader, follower }, ..) = pair(&node, &idle, JOIN_MAX);
        leave(&node, &idle, &[&leader.member_id, &follower.member_id], 5);
        let names = [&busy, &idle, "nowhere", &idle].map(group_id);
        let request = DeleteGroupsRequest::default().with_groups_names(names.to_vec());
        let results = node.ask(version, &request).results;
        let results: Vec<_> = results
            .iter()
            .map(|one| (one.group_id.as_str(), one.error_code))
            .collect();
        let expected = [
            (busy.as_str(), ResponseError::NonEmptyGroup.code()),
            (idle.as_str(), 0),
            ("nowhere", ResponseError::GroupIdNotFound.code()),
        ];
        assert_eq!(
            results, expected,
            "a name that stands twice is answered once"
        );
    }
}

#[test]
fn a_group_asked_for_a_thousand_times_is_described_once() {
    let node = node();
    pair(&node, "big", JOIN_MAX);
    let names = vec![group_id("big"); 1000];
    let groups = node
        .ask(6, &DescribeGroupsRequest::default().with_groups(names))
        .groups;
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].members.len(), 2);
}
