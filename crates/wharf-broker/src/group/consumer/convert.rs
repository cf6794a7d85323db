//! From a group of one protocol to one of the other, while its members go on reading.
//!
//! A classic group keeps its generation as the epoch, and what its members read as their target,
//! so that nothing moves until somebody new joins. The other way round the epoch becomes the
//! generation, and a rebalance lets the members choose a leader.

use bytes::Bytes;

use super::classic::{CONSUMER, named, resolve};
use super::member::Classic;
use super::{Around, Catalog, ConsumerGroup, Member, Partitions};
use crate::group::embedded::{Subscription, read_assignment, write_assignment};
use crate::group::machine::{Enrolled, Machine};
use crate::{Error, ErrorKind};

/// A member of the classic protocol on its way out of a group of the consumer protocol.
#[derive(Clone, Debug)]
pub(in crate::group) struct Downgraded {
    pub(in crate::group) id: String,
    pub(in crate::group) member: Enrolled,
}

impl ConsumerGroup {
    /// The group that goes on where a classic group stops. Refused, with nothing changed, when
    /// the group's members are no consumers as Kafka knows them.
    pub(in crate::group) fn upgraded(machine: &Machine, around: Around<'_>) -> Result<Self, Error> {
        let refused = |why: &str| {
            let what = "the classic group cannot be upgraded";
            Err(Error::new(
                ErrorKind::GroupIdNotFound,
                format!("{what}: {why}"),
            ))
        };
        if machine.protocol_type() != Some(CONSUMER) {
            return refused("its members are no consumers");
        }
        if machine.members().len() > around.limits.members_max {
            return refused("it has too many members");
        }
        let mut group = Self::new(around.now);
        group.epoch = machine.generation();
        group.target_epoch = group.epoch;
        for (id, enrolled) in machine
            .members()
            .iter()
            .filter(|(_, member)| !member.is_new())
        {
            let Some(mut member) = upgraded(enrolled, around.catalog) else {
                return refused("what its members subscribe to or read cannot be read");
            };
            // Of two that a leader gave the same, the first keeps it.
            let twice = |one: &_| group.holders.holder(*one).is_some();
            let held: Partitions = member.assigned.iter().filter(twice).collect();
            member.assigned = member.assigned.without(&held);
            member.target = member.assigned.clone();
            member.epoch = group.epoch;
            member.previous_epoch = group.epoch;
            group.enlist(id.clone(), member);
            group.save(id);
            group.renew_session(id, around);
        }
        group.fingerprint = group.look(around.catalog);
        Ok(group)
    }

    /// The generation that a classic group goes on from: the newest epoch that a member is in, so
    /// that it is asked to join again rather than told that it is out of date.
    pub(in crate::group) fn generation(&self) -> i32 {
        let epochs = self.members.values().map(|member| member.epoch);
        epochs.max().unwrap_or(self.epoch).max(0)
    }

    /// The members as a classic group takes them over.
    pub(in crate::group) fn downgraded(&self, catalog: &dyn Catalog) -> Vec<Downgraded> {
        let members = self.members.iter();
        let members =
            members.filter_map(|(id, member)| Some((id, member, member.classic.as_ref()?)));
        members
            .map(|(id, member, classic)| {
                let version = classic.protocols.first();
                let version = version.and_then(|(_, metadata)| Subscription::read(metadata));
                let version = version.map_or(0, |said| said.version);
                let mut enrolled = Enrolled::new(
                    member.instance.clone(),
                    member.client_id.clone(),
                    member.client_host.clone(),
                    crate::group::machine::Terms {
                        session_timeout: classic.session_timeout,
                        rebalance_timeout: member.rebalance_timeout,
                        protocols: classic.protocols.clone(),
                    },
                );
                enrolled.assignment = write_assignment(version, &named(&member.assigned, catalog));
                Downgraded {
                    id: id.clone(),
                    member: enrolled,
                }
            })
            .collect()
    }
}

fn upgraded(enrolled: &Enrolled, catalog: &dyn Catalog) -> Option<Member> {
    let terms = &enrolled.terms;
    let metadata: &Bytes = terms.protocols.first().map(|(_, metadata)| metadata)?;
    let subscription = Subscription::read(metadata)?;
    let assigned = resolve(&read_assignment(&enrolled.assignment)?, catalog);
    Some(Member {
        instance: enrolled.instance.clone(),
        client_id: enrolled.client_id.clone(),
        client_host: enrolled.client_host.clone(),
        rebalance_timeout: terms.rebalance_timeout,
        topics: subscription.topics.into_iter().collect(),
        classic: Some(Classic {
            session_timeout: terms.session_timeout,
            protocols: terms.protocols.clone(),
        }),
        assigned,
        ..Member::default()
    })
}
