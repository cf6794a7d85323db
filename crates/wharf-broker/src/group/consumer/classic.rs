//! Members of the classic protocol in a group of the consumer protocol, while it is being migrated.
//!
//! The server assigns for them as well: a join brings the member as near to its target as it can
//! be, the sync tells it what to read, and a heartbeat asks it to join again whenever another step
//! can be made. Nobody leads and nobody waits for anybody. A member's generation is its epoch.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::member::Classic;
use super::{Around, Catalog, ConsumerGroup, Member, Partitions};
use crate::group::embedded::{Named, Subscription, write_assignment};
use crate::group::machine::refusal;
use crate::group::{Join, JoinRefused, Joined, Leaving, Sync, Synced};
use crate::{Error, ErrorKind};

/// The only protocol type that goes together with the consumer protocol.
pub(super) const CONSUMER: &str = "consumer";
/// The most protocols one member may offer, and the most bytes they may have.
const PROTOCOLS_MAX: usize = 100;
const PROTOCOLS_BYTES_MAX: usize = 1 << 20;

/// A join with what the shell adds to it.
#[derive(Clone, Debug)]
pub(in crate::group) struct ClassicJoin {
    /// The request; its session time-out is within the node's limits.
    pub(in crate::group) join: Join,
    /// The id to give to a new member; never used before.
    pub(in crate::group) new_member: String,
    /// The client's name.
    pub(in crate::group) client_id: Arc<str>,
    /// The client's host.
    pub(in crate::group) client_host: Arc<str>,
}

impl ConsumerGroup {
    /// A classic member joins.
    pub(in crate::group) fn join(
        &mut self,
        request: &ClassicJoin,
        around: Around<'_>,
    ) -> Result<Joined, JoinRefused> {
        let join = &request.join;
        let refused = |error| JoinRefused {
            error,
            member: join.member.clone(),
        };
        self.check_alive().map_err(refused)?;
        self.look_around(around.catalog);
        let subscription = self.check_join(join).map_err(refused)?;
        let holder = join.instance.as_ref();
        let holder = holder
            .and_then(|instance| self.instances.get(instance))
            .cloned();
        let id = match (&holder, join.member.is_empty()) {
            (None, true) if join.member_id_required => {
                return Err(JoinRefused {
                    error: refusal(ErrorKind::MemberIdRequired),
                    member: request.new_member.clone(),
                });
            }
            (_, true) => &request.new_member,
            (Some(holder), false) if *holder != join.member => {
                return Err(refused(refusal(ErrorKind::FencedInstanceId)));
            }
            (None, false) if join.instance.is_some() => {
                return Err(refused(refusal(ErrorKind::UnknownMemberId)));
            }
            (_, false) => &join.member,
        };
        let is_new = match &holder {
            Some(holder) if holder != id => {
                self.replace(holder, id, true).map_err(refused)?;
                false
            }
            _ => !self.members.contains_key(id),
        };
        if is_new && self.members.len() >= around.limits.members_max {
            return Err(refused(refusal(ErrorKind::GroupMaxSizeReached)));
        }
        let resubscribed = self.take_join(id, request, &subscription);
        if is_new || resubscribed || self.elected() != self.assignor {
            self.advance(around.catalog);
        }
        let owned = self.owned(id, &subscription, around.catalog);
        self.reconcile(id, Some(&owned), around.now);
        self.renew_session(id, around);
        self.expect_sync(id, around.now);
        Ok(self.joined(id))
    }

    /// What can be refused before anything is changed.
    fn check_join(&self, join: &Join) -> Result<Subscription, Error> {
        let unfit = || refusal(ErrorKind::InconsistentGroupProtocol);
        let bytes: usize = join
            .protocols
            .iter()
            .map(|(_, metadata)| metadata.len())
            .sum();
        if join.protocol_type != CONSUMER
            || join.protocols.len() > PROTOCOLS_MAX
            || bytes > PROTOCOLS_BYTES_MAX
        {
            return Err(unfit());
        }
        let (_, metadata) = join.protocols.first().ok_or_else(unfit)?;
        let subscription = Subscription::read(metadata).ok_or_else(unfit)?;
        let others = self.members.iter().filter(|(id, _)| **id != join.member);
        let others = others.filter_map(|(_, member)| member.classic.as_ref());
        let mut others = others.peekable();
        let offered = join.protocols.iter().map(|(name, _)| name);
        let others: Vec<&Classic> = match others.peek() {
            None => return Ok(subscription),
            Some(_) => others.collect(),
        };
        let mut common = offered.filter(|name| {
            let supports = |other: &&Classic| other.protocols.iter().any(|(own, _)| own == *name);
            others.iter().all(supports)
        });
        match common.next() {
            Some(_) => Ok(subscription),
            None => Err(unfit()),
        }
    }

    /// Takes what the member says about itself, in copies that do not keep the request's frame in
    /// memory. Returns whether it subscribes to something else than before.
    fn take_join(&mut self, id: &str, request: &ClassicJoin, said: &Subscription) -> bool {
        let join = &request.join;
        let protocols = join.protocols.iter();
        let protocols =
            protocols.map(|(name, metadata)| (name.clone(), Bytes::copy_from_slice(metadata)));
        let classic = Classic {
            session_timeout: join.session_timeout,
            protocols: protocols.collect(),
        };
        let before = self.strike(id);
        let topics = said.topics.iter().cloned().collect();
        let resubscribed = before
            .as_ref()
            .is_none_or(|before| before.topics != topics || before.pattern.is_some());
        let member = Member {
            instance: join.instance.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            rebalance_timeout: join.rebalance_timeout,
            topics,
            pattern: None,
            assignor: None,
            classic: Some(classic),
            ..before.unwrap_or_default()
        };
        self.enlist(id.to_owned(), member);
        self.drop_patterns();
        resubscribed
    }

    /// What the member says it still reads. What it says of another generation counts for nothing:
    /// it has lost it.
    fn owned(&self, id: &str, said: &Subscription, catalog: &dyn Catalog) -> Partitions {
        let epoch = self.members.get(id).map(|member| member.epoch);
        if said.generation.is_some() && said.generation != epoch {
            return Partitions::default();
        }
        resolve(&said.owned, catalog)
    }

    fn joined(&self, id: &str) -> Joined {
        let member = self.members.get(id);
        Joined {
            generation: member.map_or(-1, |member| member.epoch),
            protocol_type: CONSUMER.to_owned(),
            protocol: member
                .map(|member| self.protocol_of(member))
                .unwrap_or_default(),
            leader: String::new(),
            skip_assignment: false,
            member: id.to_owned(),
            members: Vec::new(),
        }
    }

    /// The first of a member's protocols that all classic members support. It only says how the
    /// client takes its assignment; the server assigns.
    fn protocol_of(&self, member: &Member) -> String {
        let supports =
            |classic: &Classic, name: &String| classic.protocols.iter().any(|(own, _)| own == name);
        let all_support = |name: &String| {
            let mut classic = self
                .members
                .values()
                .filter_map(|member| member.classic.as_ref());
            classic.all(|classic| supports(classic, name))
        };
        let own = member.classic.iter().flat_map(|classic| &classic.protocols);
        let mut own = own.map(|(name, _)| name);
        own.find(|name| all_support(name))
            .cloned()
            .unwrap_or_default()
    }

    /// A classic member asks for its assignment.
    pub(in crate::group) fn sync(
        &mut self,
        sync: &Sync,
        around: Around<'_>,
    ) -> Result<Synced, Error> {
        self.check_alive()?;
        self.look_around(around.catalog);
        let id = &sync.member;
        let (member, classic) = self.classic(id, sync.instance.as_ref(), sync.generation)?;
        let protocol = self.protocol_of(member);
        let differs =
            |said: &Option<String>, is: &str| said.as_ref().is_some_and(|said| said != is);
        if differs(&sync.protocol_type, CONSUMER) || differs(&sync.protocol, &protocol) {
            return Err(refusal(ErrorKind::InconsistentGroupProtocol));
        }
        if member.epoch < self.epoch && member.revoking.is_empty() {
            self.expect_join(id, around.now);
            return Err(refusal(ErrorKind::RebalanceInProgress));
        }
        let metadata = classic.protocols.first().map(|(_, metadata)| metadata);
        let said = metadata.and_then(|metadata| Subscription::read(metadata));
        let version = said.map_or(0, |said| said.version);
        let synced = Synced {
            protocol_type: CONSUMER.to_owned(),
            protocol,
            assignment: write_assignment(version, &named(&member.assigned, around.catalog)),
        };
        self.renew_session(id, around);
        if let Some(member) = self.members.get_mut(id) {
            member.deadlines.sync = None;
        }
        Ok(synced)
    }

    /// A classic member is alive. `RebalanceInProgress` asks it to join again: for a new epoch, to
    /// say that it gave up what it had to, or because what it waited for is free.
    pub(in crate::group) fn classic_heartbeat(
        &mut self,
        caller: &crate::group::Member,
        around: Around<'_>,
    ) -> Result<(), Error> {
        self.check_alive()?;
        self.look_around(around.catalog);
        let id = &caller.member;
        let (member, _) = self.classic(id, caller.instance.as_ref(), caller.generation)?;
        let lacks = member.assigned != member.target;
        let can_step = member.epoch < self.epoch
            || !member.revoking.is_empty()
            || lacks && !member.waits_for_others(id, &self.holders);
        self.renew_session(id, around);
        if can_step {
            self.expect_join(id, around.now);
            return Err(refusal(ErrorKind::RebalanceInProgress));
        }
        Ok(())
    }

    fn classic(
        &self,
        id: &str,
        instance: Option<&String>,
        generation: i32,
    ) -> Result<(&Member, &Classic), Error> {
        let member = self.member_of(&crate::group::Member {
            group: String::new(),
            generation,
            member: id.to_owned(),
            instance: instance.cloned(),
        })?;
        let classic = member.classic.as_ref();
        let classic = classic.ok_or_else(|| refusal(ErrorKind::UnknownMemberId))?;
        match generation == member.epoch {
            true => Ok((member, classic)),
            false => Err(refusal(ErrorKind::IllegalGeneration)),
        }
    }

    /// Members leave, of either protocol, each known by its id or, from an administrator, by its
    /// instance alone.
    pub(in crate::group) fn leave_all(
        &mut self,
        leaving: &[Leaving],
        around: Around<'_>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        self.check_alive()?;
        let mut gone = BTreeSet::new();
        let results = leaving.iter().map(|leaving| {
            let instance = leaving.instance.as_ref();
            let holder = instance.and_then(|instance| self.instances.get(instance));
            let id = match (instance, holder) {
                (Some(_), None) => return Err(refusal(ErrorKind::UnknownMemberId)),
                (Some(_), Some(holder)) => {
                    if !leaving.member.is_empty() && leaving.member != *holder {
                        return Err(refusal(ErrorKind::FencedInstanceId));
                    }
                    holder
                }
                (None, _) => &leaving.member,
            };
            match self.members.contains_key(id) && gone.insert(id.clone()) {
                true => Ok(()),
                false => Err(refusal(ErrorKind::UnknownMemberId)),
            }
        });
        let results = results.collect();
        self.remove(&Vec::from_iter(gone), around);
        Ok(results)
    }

    /// Whether the last member of the consumer protocol is gone and others are left.
    pub(in crate::group) fn has_classic_only(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(|member| member.classic.is_some())
    }
}

/// Partitions by the names of their topics; what does not exist is left out.
pub(super) fn named(partitions: &Partitions, catalog: &dyn Catalog) -> Named {
    let topics = partitions.topics();
    topics
        .filter_map(|(topic, indexes)| {
            Some((catalog.name_of(topic)?, indexes.iter().copied().collect()))
        })
        .collect()
}

/// Partitions by the ids of their topics; what does not exist is left out.
pub(super) fn resolve(named: &Named, catalog: &dyn Catalog) -> Partitions {
    let topics = named.iter();
    let found = topics.filter_map(|(name, indexes)| Some((catalog.by_name(name)?, indexes)));
    found
        .flat_map(|(topic, indexes)| indexes.iter().map(move |index| (topic.id, *index)))
        .collect()
}
