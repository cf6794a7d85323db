//! The calls of the broker on groups of the consumer protocol.

use uuid::Uuid;

use super::calls::check_name;
use super::consumer::{Catalog, ConsumerGroup, Member, Partitions, Request, check_request};
use super::machine::refusal;
use super::protocol::Protocol;
use super::shell::stopping;
use super::{
    AssignedTopic, ConsumerGroupDescription, ConsumerHeartbeat, ConsumerHeartbeatAnswer,
    ConsumerMemberDescription,
};
use crate::{Broker, Context, Error, ErrorKind};

/// The epoch of a member that joins.
const JOIN: i32 = 0;

impl Broker {
    /// A heartbeat of the consumer protocol (KIP-848): joins, stays and leaves. Whatever it changed
    /// is durable when this returns; one that changed nothing writes nothing.
    pub async fn consumer_heartbeat(
        &self,
        cx: &Context,
        heartbeat: ConsumerHeartbeat,
    ) -> Result<ConsumerHeartbeatAnswer, Error> {
        check_request(&heartbeat)?;
        check_name(&heartbeat.group)?;
        let groups = &self.shared.groups.inner;
        let id = Uuid::from_bytes(self.shared.runtime.random());
        let request = Request {
            heartbeat: &heartbeat,
            new_member: id.to_string(),
            client_id: cx.client_id.clone(),
            client_host: cx.client_host.clone(),
        };
        let step = |cell: &_, group: &mut super::shell::Group, now| {
            if heartbeat.epoch != JOIN && matches!(group.protocol, Protocol::Classic(_)) {
                let message = "the group is not one of the consumer protocol; join it first";
                return Err(Error::new(ErrorKind::GroupIdNotFound, message));
            }
            let around = groups.around(&heartbeat.group, now);
            let answer = groups
                .consumer(cell, group, now)?
                .heartbeat(&request, around)?;
            Ok(group.stores.answer(answer))
        };
        let answer = match heartbeat.epoch {
            JOIN => groups.with_new(&heartbeat.group, step)?,
            _ => {
                let known = groups.with(&heartbeat.group, step);
                known.unwrap_or_else(|| Err(refusal(ErrorKind::GroupIdNotFound)))
            }
        };
        answer?.await.unwrap_or_else(|_canceled| Err(stopping()))
    }

    /// One group of the consumer protocol; `GroupIdNotFound` when there is none.
    pub fn describe_consumer_group(
        &self,
        _cx: &Context,
        group: &str,
    ) -> Result<ConsumerGroupDescription, Error> {
        let groups = &self.shared.groups.inner;
        let found = groups.with(group, |_, group, _now| match &group.protocol {
            Protocol::Consumer(consumer) => Ok(describe(consumer, &*groups.topics)),
            Protocol::Classic(_) => {
                let message = "the group is not one of the consumer protocol";
                Err(Error::new(ErrorKind::GroupIdNotFound, message))
            }
        });
        found.unwrap_or_else(|| Err(refusal(ErrorKind::GroupIdNotFound)))
    }
}

fn describe(group: &ConsumerGroup, catalog: &dyn Catalog) -> ConsumerGroupDescription {
    ConsumerGroupDescription {
        state: group.state(),
        epoch: group.epoch(),
        assignment_epoch: group.target_epoch(),
        assignor: group.assignor(),
        members: group
            .members()
            .map(|(id, member)| describe_member(id, member, catalog))
            .collect(),
    }
}

fn describe_member(id: &str, member: &Member, catalog: &dyn Catalog) -> ConsumerMemberDescription {
    let topics = |partitions: &Partitions| {
        let topics = ConsumerGroup::listed(partitions).into_iter();
        topics
            .map(|(id, partitions)| AssignedTopic {
                id,
                name: catalog.name_of(id).unwrap_or_default(),
                partitions,
            })
            .collect()
    };
    ConsumerMemberDescription {
        member: id.to_owned(),
        instance: member.instance.clone(),
        rack: member.rack.clone(),
        epoch: member.epoch,
        client_id: member.client_id.to_string(),
        client_host: member.client_host.to_string(),
        topics: member.topics.iter().cloned().collect(),
        pattern: member.pattern.clone(),
        assignment: topics(&member.assigned),
        target: topics(&member.target),
        is_classic: member.classic.is_some(),
    }
}
