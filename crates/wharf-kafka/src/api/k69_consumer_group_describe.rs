//! ConsumerGroupDescribe: state, epochs and members of groups of the consumer protocol (KIP-848).
//!
//! A classic group, like one that nobody knows, is GROUP_ID_NOT_FOUND with a message: tools then
//! ask DescribeGroups. A group named again is not described again.

use std::collections::HashSet;

use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use kafka_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};
use kafka_protocol::protocol::StrBytes;
use wharf_broker::group::{AssignedTopic, ConsumerGroupDescription, ConsumerMemberDescription};

use super::Card;
use crate::error::error_code;
use crate::frame::Call;
use crate::shape::{BOOL, Shape, TEXT, items};
use crate::wire::{message, operations, text, topic_name};
use crate::{Disconnect, Outcome};

/// The first version that tells the members of the two protocols apart.
const MEMBER_TYPE: i16 = 1;
/// The types of members.
const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;

pub(super) static CARD: Card = Card {
    key: 69,
    name: "ConsumerGroupDescribe",
    advertised: 0..=1,
    answered: 0..=1,
    kips: &[848, 1099],
    shape: Shape::new(0, &[items(&TEXT), BOOL]),
    notes: "",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(answer)
}

fn answer(call: &Call, request: ConsumerGroupDescribeRequest) -> ConsumerGroupDescribeResponse {
    let (broker, cx) = (&call.broker, &call.cx);
    let asked = request.include_authorized_operations;
    let mut seen = HashSet::new();
    let groups = request.group_ids.into_iter();
    let groups = groups.filter(|id| seen.insert(id.clone())).map(|id| {
        let described = match broker.describe_consumer_group(cx, &id) {
            Ok(description) => described(description, call.version())
                .with_authorized_operations(operations::when(asked, operations::GROUP)),
            Err(error) => DescribedGroup::default()
                .with_error_code(error_code(error.kind))
                .with_error_message(Some(message(&error))),
        };
        described.with_group_id(id)
    });
    ConsumerGroupDescribeResponse::default().with_groups(groups.collect())
}

fn described(description: ConsumerGroupDescription, version: i16) -> DescribedGroup {
    let members = description.members.into_iter();
    DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(description.state))
        .with_group_epoch(description.epoch)
        .with_assignment_epoch(description.assignment_epoch)
        .with_assignor_name(StrBytes::from_static_str(description.assignor))
        .with_members(members.map(|one| described_member(one, version)).collect())
}

fn described_member(member: ConsumerMemberDescription, version: i16) -> Member {
    let described = Member::default()
        .with_member_id(text(member.member))
        .with_instance_id(member.instance.map(text))
        .with_rack_id(member.rack.map(text))
        .with_member_epoch(member.epoch)
        .with_client_id(text(member.client_id))
        .with_client_host(text(member.client_host))
        .with_subscribed_topic_names(member.topics.into_iter().map(topic_name).collect())
        .with_subscribed_topic_regex(member.pattern.map(text))
        .with_assignment(assignment(member.assignment))
        .with_target_assignment(assignment(member.target));
    match version >= MEMBER_TYPE {
        true => described.with_member_type(if member.is_classic { CLASSIC } else { CONSUMER }),
        false => described,
    }
}

fn assignment(topics: Vec<AssignedTopic>) -> Assignment {
    let topics = topics.into_iter().map(|topic| {
        TopicPartitions::default()
            .with_topic_id(topic.id)
            .with_topic_name(topic_name(topic.name))
            .with_partitions(topic.partitions)
    });
    Assignment::default().with_topic_partitions(topics.collect())
}
