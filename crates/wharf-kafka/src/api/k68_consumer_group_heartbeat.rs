//! ConsumerGroupHeartbeat: a member of the consumer protocol joins, stays and leaves (KIP-848).
//!
//! The server assigns: the answer says what to read whenever that changed. Answered after the sync
//! of what the heartbeat changed.

use std::time::Duration;

use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use wharf_broker::group::{ConsumerHeartbeat, ConsumerHeartbeatAnswer};

use super::Card;
use crate::error::error_code;
use crate::frame::Call;
use crate::shape::{INT32, Shape, TEXT, UUID, array, items};
use crate::wire::{message, text};
use crate::{Disconnect, Outcome};

/// The first version in which members bring their own ids and may subscribe by pattern.
const OWN_ID: i16 = 1;

pub(super) static CARD: Card = Card {
    key: 68,
    name: "ConsumerGroupHeartbeat",
    advertised: 0..=1,
    answered: 0..=1,
    kips: &[848, 1082],
    shape: Shape::new(
        0,
        &[
            TEXT,
            TEXT,
            INT32,
            TEXT,
            TEXT,
            INT32,
            items(&TEXT),
            TEXT.from(OWN_ID),
            TEXT,
            array(&[UUID, items(&INT32)]),
        ],
    ),
    notes: "Assignors `uniform` (the default) and `range`. Patterns match whole names, over ASCII; \
            internal topics are not selected. Racks are shown, not used: there is one node.",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer(answer)
}

async fn answer(
    call: Call,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let heartbeat = heartbeat(request, call.version());
    match call.broker.consumer_heartbeat(&call.cx, heartbeat).await {
        Ok(answer) => accepted(answer),
        Err(error) => ConsumerGroupHeartbeatResponse::default()
            .with_error_code(error_code(error.kind))
            .with_error_message(Some(message(&error))),
    }
}

fn heartbeat(request: ConsumerGroupHeartbeatRequest, version: i16) -> ConsumerHeartbeat {
    let topics = request.subscribed_topic_names;
    let owned = request.topic_partitions;
    ConsumerHeartbeat {
        group: request.group_id.to_string(),
        member: request.member_id.to_string(),
        brings_id: version >= OWN_ID,
        epoch: request.member_epoch,
        instance: request.instance_id.map(|id| id.to_string()),
        rack: request.rack_id.map(|rack| rack.to_string()),
        rebalance_timeout: u64::try_from(request.rebalance_timeout_ms)
            .ok()
            .map(Duration::from_millis),
        topics: topics.map(|topics| topics.iter().map(|topic| topic.to_string()).collect()),
        pattern: request
            .subscribed_topic_regex
            .map(|pattern| pattern.to_string()),
        assignor: request.server_assignor.map(|assignor| assignor.to_string()),
        owned: owned.map(|owned| {
            let topics = owned.into_iter();
            topics
                .map(|topic| (topic.topic_id, topic.partitions))
                .collect()
        }),
    }
}

fn accepted(answer: ConsumerHeartbeatAnswer) -> ConsumerGroupHeartbeatResponse {
    let assignment = answer.assignment.map(|topics| {
        let topics = topics.into_iter().map(|(topic, partitions)| {
            TopicPartitions::default()
                .with_topic_id(topic)
                .with_partitions(partitions)
        });
        Assignment::default().with_topic_partitions(topics.collect())
    });
    let interval = i32::try_from(answer.interval.as_millis()).unwrap_or(i32::MAX);
    ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(text(answer.member)))
        .with_member_epoch(answer.epoch)
        .with_heartbeat_interval_ms(interval)
        .with_assignment(assignment)
}
