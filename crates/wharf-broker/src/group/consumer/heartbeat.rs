//! ConsumerGroupHeartbeat: joining, staying, leaving.
//!
//! The order of the checks is Kafka's, so that a client gets the error it would get there.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::member::AWAY;
use super::{Around, ConsumerGroup, Deadlines, Member, Partitions};
use crate::group::machine::refusal;
use crate::group::{ConsumerHeartbeat, ConsumerHeartbeatAnswer};
use crate::{Error, ErrorKind};

/// The epoch that joins.
const JOIN: i32 = 0;
/// The epoch that leaves for good.
const LEAVE: i32 = -1;

/// A heartbeat with what the shell adds to it.
#[derive(Clone, Debug)]
pub(in crate::group) struct Request<'a> {
    /// The request, checked by [`check_request`].
    pub(in crate::group) heartbeat: &'a ConsumerHeartbeat,
    /// The id for a new member that brings none.
    pub(in crate::group) new_member: String,
    /// The client's name.
    pub(in crate::group) client_id: Arc<str>,
    /// The client's host.
    pub(in crate::group) client_host: Arc<str>,
}

/// The longest id of a member, instance or rack in bytes.
const ID_BYTES_MAX: usize = 4096;
/// The most bytes of topic names that a member may subscribe to.
const TOPICS_BYTES_MAX: usize = 1 << 20;

/// What a request must be like whatever the group is like. From version 1 on a member brings its
/// own id.
pub(in crate::group) fn check_request(heartbeat: &ConsumerHeartbeat) -> Result<(), Error> {
    let invalid = |what: &str| Err(Error::new(ErrorKind::InvalidRequest, what));
    let is_blank = |text: &Option<String>| text.as_ref().is_some_and(|text| text.trim().is_empty());
    let epoch = heartbeat.epoch;
    let needs_id = heartbeat.brings_id || epoch > JOIN || epoch == LEAVE;
    if needs_id && heartbeat.member.trim().is_empty() {
        return invalid("the member id is missing");
    }
    if heartbeat.group.trim().is_empty() {
        return invalid("the group's name is missing");
    }
    if is_blank(&heartbeat.instance) {
        return invalid("an instance id must not be empty");
    }
    if is_blank(&heartbeat.rack) {
        return invalid("a rack must not be empty");
    }
    match epoch {
        JOIN if heartbeat.rebalance_timeout.is_none() => {
            return invalid("whoever joins says its rebalance time-out");
        }
        JOIN if heartbeat
            .owned
            .as_ref()
            .is_none_or(|owned| !owned.is_empty()) =>
        {
            return invalid("whoever joins says that it owns no partitions");
        }
        // Nothing yet is an answer: a client whose pattern matches no topic joins so.
        JOIN if heartbeat.topics.is_none() && heartbeat.pattern.is_none() => {
            return invalid("whoever joins says what it subscribes to");
        }
        AWAY if heartbeat.instance.is_none() => {
            return invalid("only a member with an instance id leaves for a while");
        }
        ..AWAY => return invalid("there is no such member epoch"),
        _ => {}
    }
    let ids = [&heartbeat.instance, &heartbeat.rack].into_iter().flatten();
    let mut ids = ids.chain([&heartbeat.member]);
    let topics = heartbeat.topics.iter().flatten();
    if ids.any(|id| id.len() > ID_BYTES_MAX)
        || topics.map(String::len).sum::<usize>() > TOPICS_BYTES_MAX
    {
        return invalid("an id, or the list of topics, is too long");
    }
    match &heartbeat.assignor {
        Some(name) if !super::ASSIGNORS.contains(&name.as_str()) => Err(Error::new(
            ErrorKind::UnsupportedAssignor,
            format!(
                "there is no such assignor; there are {}",
                super::ASSIGNORS.join(", ")
            ),
        )),
        _ => Ok(()),
    }
}

impl ConsumerGroup {
    /// A heartbeat.
    pub(in crate::group) fn heartbeat(
        &mut self,
        request: &Request<'_>,
        around: Around<'_>,
    ) -> Result<ConsumerHeartbeatAnswer, Error> {
        self.check_alive()?;
        let heartbeat = request.heartbeat;
        if heartbeat.epoch < JOIN {
            return self.leave(heartbeat, around);
        }
        self.look_around(around.catalog);
        if let Some(pattern) = &heartbeat.pattern
            && !pattern.is_empty()
        {
            self.patterns.add(pattern, around.catalog)?;
        }
        let admitted = match heartbeat.epoch {
            JOIN => self.admit(request, around),
            _ => self.check_member(heartbeat).map(|()| false),
        };
        let is_new = match admitted {
            Ok(is_new) => is_new,
            Err(error) => {
                self.drop_patterns();
                return Err(error);
            }
        };
        let id = request.member();
        let changed = self.update(id, request);
        let votes = heartbeat.assignor.is_some();
        if is_new || changed || votes && self.elected() != self.assignor {
            self.advance(around.catalog);
        }
        let owned = heartbeat.owned.as_ref().map(|topics| owned(topics));
        let behind = self
            .members
            .get(id)
            .is_some_and(|member| member.epoch != heartbeat.epoch);
        let moved = self.reconcile(id, owned.as_ref(), around.now);
        self.renew_session(id, around);
        Ok(self.answer(id, moved || behind || is_full(heartbeat), around))
    }

    /// Lets a member in: a new one, one that comes back, or one that takes over an instance.
    /// Returns whether it is a new one.
    fn admit(&mut self, request: &Request<'_>, around: Around<'_>) -> Result<bool, Error> {
        let (heartbeat, id) = (request.heartbeat, request.member());
        let instance = heartbeat.instance.as_ref();
        let holder = instance
            .and_then(|instance| self.instances.get(instance))
            .cloned();
        match holder {
            Some(holder) if holder != id => self.replace(&holder, id, false).map(|()| false),
            _ if self.members.contains_key(id) => {
                let known = self.members.get(id);
                if known.is_some_and(|member| member.instance.as_ref() != instance) {
                    // The same process under another instance id, or none.
                    let mut member = self.strike(id).unwrap_or_default();
                    member.instance = instance.cloned();
                    self.enlist(id.to_owned(), member);
                }
                Ok(false)
            }
            _ if self.members.len() >= around.limits.members_max => {
                Err(refusal(ErrorKind::GroupMaxSizeReached))
            }
            _ => {
                let member = Member {
                    instance: instance.cloned(),
                    ..Member::default()
                };
                self.enlist(id.to_owned(), member);
                self.save(id);
                Ok(true)
            }
        }
    }

    /// A static member comes back as another process. It gets what the one before had, which must
    /// have said that it goes, unless one of the two is of the classic protocol, where nobody does.
    pub(super) fn replace(&mut self, old: &str, new: &str, classic: bool) -> Result<(), Error> {
        let holder = self.members.get(old);
        let is_away = holder.is_some_and(|member| member.epoch == AWAY || member.classic.is_some());
        if !is_away && !classic {
            return Err(refusal(ErrorKind::UnreleasedInstanceId));
        }
        if let Some(mut member) = self.strike(old) {
            self.strike(new);
            member.epoch = JOIN;
            member.previous_epoch = JOIN;
            member.classic = None;
            member.deadlines = Deadlines::default();
            self.enlist(new.to_owned(), member);
            self.save(new);
        }
        Ok(())
    }

    /// Whether a member that does not join is who it says, in an epoch it may be in: the current
    /// one, or the one before when the answer that told the current one was lost.
    fn check_member(&self, heartbeat: &ConsumerHeartbeat) -> Result<(), Error> {
        let member = self.identify(heartbeat)?;
        if heartbeat.epoch == member.epoch {
            return Ok(());
        }
        let owned = heartbeat.owned.as_ref().map(|topics| owned(topics));
        let is_behind = heartbeat.epoch < member.epoch && heartbeat.epoch == member.previous_epoch;
        match is_behind && owned.is_some_and(|owned| owned.is_within(&member.assigned)) {
            true => Ok(()),
            false => Err(refusal(ErrorKind::FencedMemberEpoch)),
        }
    }

    fn identify(&self, heartbeat: &ConsumerHeartbeat) -> Result<&Member, Error> {
        let caller = crate::group::Member {
            group: heartbeat.group.clone(),
            generation: heartbeat.epoch,
            member: heartbeat.member.clone(),
            instance: heartbeat.instance.clone(),
        };
        self.member_of(&caller)
    }

    /// A member leaves, or says that it will be back.
    fn leave(
        &mut self,
        heartbeat: &ConsumerHeartbeat,
        around: Around<'_>,
    ) -> Result<ConsumerHeartbeatAnswer, Error> {
        self.identify(heartbeat)?;
        let id = &heartbeat.member;
        if heartbeat.epoch == LEAVE {
            self.remove(std::slice::from_ref(id), around);
        } else if let Some(member) = self.members.get_mut(id) {
            // It has stopped reading; what it was to keep stays its own until it is back.
            self.holders.release(&std::mem::take(&mut member.revoking));
            member.enter(AWAY);
            member.deadlines.revocation = None;
            self.save(id);
            self.renew_session(id, around);
        }
        Ok(ConsumerHeartbeatAnswer {
            member: id.clone(),
            epoch: heartbeat.epoch,
            interval: around.limits.heartbeat_interval,
            assignment: None,
        })
    }

    /// Takes what the member says about itself. Returns whether it subscribes to something else
    /// than before.
    fn update(&mut self, id: &str, request: &Request<'_>) -> bool {
        let heartbeat = request.heartbeat;
        let Some(member) = self.members.get_mut(id) else {
            return false;
        };
        // Whoever joins says everything: what it leaves out is not there.
        let joins = heartbeat.epoch == JOIN;
        let mut changed = set(&mut member.client_id, &request.client_id);
        changed |= set(&mut member.client_host, &request.client_host);
        if joins {
            changed |= member.classic.take().is_some();
            member.deadlines.join = None;
            member.deadlines.sync = None;
        }
        if heartbeat.rack.is_some() {
            changed |= set(&mut member.rack, &heartbeat.rack);
        }
        if let Some(timeout) = &heartbeat.rebalance_timeout {
            changed |= set(&mut member.rebalance_timeout, timeout);
        }
        if heartbeat.assignor.is_some() {
            changed |= set(&mut member.assignor, &heartbeat.assignor);
        }
        let mut resubscribed = false;
        if joins || heartbeat.topics.is_some() {
            let topics = heartbeat.topics.iter().flatten().cloned();
            resubscribed |= set(&mut member.topics, &topics.collect());
        }
        let repatterned = (joins || heartbeat.pattern.is_some()) && {
            let pattern = heartbeat.pattern.clone();
            set(&mut member.pattern, &pattern.filter(|one| !one.is_empty()))
        };
        resubscribed |= repatterned;
        if changed || resubscribed {
            self.save(id);
        }
        if repatterned {
            self.drop_patterns();
        }
        resubscribed
    }

    pub(super) fn drop_patterns(&mut self) {
        let used: BTreeSet<String> = self
            .members
            .values()
            .filter_map(|member| member.pattern.clone())
            .collect();
        self.patterns.retain(|pattern| used.contains(pattern));
    }

    fn answer(&self, id: &str, tell: bool, around: Around<'_>) -> ConsumerHeartbeatAnswer {
        let member = self.members.get(id);
        let assignment = member
            .filter(|_| tell)
            .map(|member| Self::listed(&member.assigned));
        ConsumerHeartbeatAnswer {
            member: id.to_owned(),
            epoch: member.map_or(LEAVE, |member| member.epoch),
            interval: around.limits.heartbeat_interval,
            assignment,
        }
    }
}

impl Request<'_> {
    /// The id the member has or gets.
    fn member(&self) -> &str {
        match self.heartbeat.member.is_empty() {
            true => &self.new_member,
            false => &self.heartbeat.member,
        }
    }
}

/// Sets a value; returns whether it was another.
fn set<T: Clone + PartialEq>(place: &mut T, value: &T) -> bool {
    let changed = place != value;
    if changed {
        place.clone_from(value);
    }
    changed
}

/// Whether the member says everything, which asks to be told everything.
fn is_full(heartbeat: &ConsumerHeartbeat) -> bool {
    heartbeat.epoch == JOIN
        || heartbeat.rebalance_timeout.is_some()
            && (heartbeat.topics.is_some() || heartbeat.pattern.is_some())
            && heartbeat.owned.is_some()
}

fn owned(topics: &[(uuid::Uuid, Vec<i32>)]) -> Partitions {
    let topics = topics.iter();
    topics
        .flat_map(|(topic, indexes)| indexes.iter().map(|index| (*topic, *index)))
        .collect()
}
