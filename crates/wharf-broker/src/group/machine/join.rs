//! Joining: who is let in, and what a join changes.
//!
//! The order of the checks is Kafka's, so that a client gets the error it would get there.

use std::sync::Arc;

use bytes::Bytes;
use wharf_message::Timestamp;

use super::members::{Enrolled, Terms};
use super::{
    Effect, MEMBERS_BYTES_MAX, Machine, PROTOCOLS_MAX, Purpose, State, Ticket, describe, refusal,
    store_failed,
};
use crate::group::{Join, JoinRefused, Joined};
use crate::{Error, ErrorKind};

/// A join with what the shell adds to it.
#[derive(Clone, Debug)]
pub(in crate::group) struct JoinRequest {
    /// How to answer.
    pub(in crate::group) ticket: Ticket,
    /// The request; its session time-out is within the node's limits.
    pub(in crate::group) join: Join,
    /// The id to give to a new member; never used before.
    pub(in crate::group) new_member: String,
    /// The client's name.
    pub(in crate::group) client_id: Arc<str>,
    /// The client's host.
    pub(in crate::group) client_host: Arc<str>,
}

/// A static member that came back while the group was stable; undone when it cannot be stored.
#[derive(Clone, Debug)]
pub(super) struct Replacement {
    ticket: Ticket,
    old: String,
    new: String,
    old_terms: Terms,
    old_leader: String,
    generation: i32,
    skip_supported: bool,
}

impl JoinRequest {
    /// What the join does to the group, with the client's own words (KIP-800).
    fn reason(&self, what: &str) -> String {
        let id = if self.join.member.is_empty() {
            &self.new_member
        } else {
            &self.join.member
        };
        describe(&format!("member {id} {what}"), &self.join.reason)
    }

    /// Protocol names once each, in copies that do not keep the request's frame in memory.
    fn terms(&self) -> Terms {
        let mut protocols = Vec::<(String, Bytes)>::new();
        for (name, metadata) in &self.join.protocols {
            if protocols.iter().all(|(known, _)| known != name) {
                protocols.push((name.clone(), Bytes::copy_from_slice(metadata)));
            }
        }
        Terms {
            session_timeout: self.join.session_timeout,
            rebalance_timeout: self.join.rebalance_timeout,
            protocols,
        }
    }
}

impl Machine {
    /// A join. Answered at once or when the join phase ends.
    pub(in crate::group) fn join(&mut self, request: &JoinRequest, now: Timestamp) {
        let member = &request.join.member;
        if !self.accepts(member) {
            self.remove_member(member);
            self.refuse_join(request.ticket, "", ErrorKind::GroupMaxSizeReached);
            self.maybe_complete_join(now);
        } else if !self.has_room_for(request) {
            self.refuse_join(request.ticket, member, ErrorKind::GroupMaxSizeReached);
        } else if self.state == State::Dead {
            self.refuse_join(request.ticket, member, ErrorKind::CoordinatorNotAvailable);
        } else if !self.supports(request) {
            self.refuse_join(request.ticket, member, ErrorKind::InconsistentGroupProtocol);
        } else if member.is_empty() {
            self.join_new(request, now);
        } else {
            self.join_known(request, now);
        }
    }

    /// `group.max.size`. A member that waits already, or is known outside of a rebalance, counts.
    fn accepts(&self, member: &str) -> bool {
        let max = self.limits.members_max;
        let known = self.members.get(member);
        match self.state {
            State::Empty | State::Dead => true,
            State::PreparingRebalance => {
                known.is_some_and(Enrolled::is_joining) || self.members.joining() < max
            }
            State::CompletingRebalance | State::Stable => {
                known.is_some() || self.members.len() < max
            }
        }
    }

    fn has_room_for(&self, request: &JoinRequest) -> bool {
        let protocols = &request.join.protocols;
        let offered: usize = protocols.iter().map(|(_, metadata)| metadata.len()).sum();
        let bytes = self.members.bytes().saturating_add(offered);
        protocols.len() <= PROTOCOLS_MAX && bytes <= MEMBERS_BYTES_MAX
    }

    fn supports(&self, request: &JoinRequest) -> bool {
        let join = &request.join;
        if self.state == State::Empty {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        self.protocol_type.as_ref() == Some(&join.protocol_type)
            && self.members.support_one_of(&join.protocols)
    }

    fn join_new(&mut self, request: &JoinRequest, now: Timestamp) {
        let instance = request.join.instance.as_deref();
        if let Some(instance) = instance {
            match self.members.member_of_instance(instance).map(str::to_owned) {
                Some(old) => self.replace_static(request, &old, now),
                None => self.add_member(request, &request.new_member, now),
            }
        } else if request.join.member_id_required {
            if self.pending_joins.len() >= self.limits.members_max {
                self.refuse_join(request.ticket, "", ErrorKind::GroupMaxSizeReached);
                return;
            }
            let deadline = now.after(request.join.session_timeout);
            self.pending_joins
                .insert(request.new_member.clone(), deadline);
            self.wake_at(deadline);
            self.refuse_join(
                request.ticket,
                &request.new_member,
                ErrorKind::MemberIdRequired,
            );
        } else {
            self.add_member(request, &request.new_member, now);
        }
    }

    fn join_known(&mut self, request: &JoinRequest, now: Timestamp) {
        let id = request.join.member.as_str();
        let instance = request.join.instance.as_deref();
        if self.pending_joins.contains_key(id) && instance.is_none() {
            return self.add_member(request, id, now);
        }
        if let Err(error) = self.check_member(id, instance) {
            return self.refuse_join(request.ticket, id, error.kind);
        }
        let terms = request.terms();
        let same = self
            .members
            .get(id)
            .is_some_and(|m| m.terms.protocols == terms.protocols);
        match self.state {
            State::CompletingRebalance if same => {
                self.answer_join(request.ticket, id); // the first answer may have been lost
            }
            State::Stable if same && !self.members.is_leader(id) => {
                self.answer_join(request.ticket, id);
            }
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                self.update_member(request.ticket, id, terms);
                self.rebalance_or_complete(&request.reason("joins again"), now);
            }
            State::Empty | State::Dead => {
                self.refuse_join(request.ticket, id, ErrorKind::UnknownMemberId);
            }
        }
    }

    fn add_member(&mut self, request: &JoinRequest, id: &str, now: Timestamp) {
        let join = &request.join;
        if self.state == State::PreparingRebalance && self.is_initial {
            self.member_added = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        self.pending_joins.remove(id);
        let mut member = Enrolled::new(
            join.instance.clone(),
            request.client_id.clone(),
            request.client_host.clone(),
            request.terms(),
        );
        member.is_new = true;
        self.members.add(id.to_owned(), member);
        self.members.set_join(id, Some(request.ticket));
        self.expect_new_member(id, now);
        self.rebalance_or_complete(&request.reason("is new"), now);
    }

    /// The member waits in this join with what it says now. A join it still waited in lost its
    /// connection; it is answered all the same.
    fn update_member(&mut self, ticket: Ticket, id: &str, terms: Terms) {
        self.members.set_terms(id, terms);
        if let Some(superseded) = self.members.set_join(id, Some(ticket)) {
            self.refuse_join(superseded, id, ErrorKind::RebalanceInProgress);
        }
    }

    /// A static member comes back without its id (KIP-345). The old id is fenced; a stable group
    /// does not rebalance unless its protocol would change.
    fn replace_static(&mut self, request: &JoinRequest, old: &str, now: Timestamp) {
        let new = request.new_member.as_str();
        let old_leader = self.members.leader().unwrap_or_default().to_owned();
        self.fence(old);
        let Some(old_terms) = self.members.get(old).map(|member| member.terms.clone()) else {
            return self.refuse_join(request.ticket, "", ErrorKind::UnknownMemberId);
        };
        self.members.rename(old, new);
        if self.pending_syncs.remove(old) {
            self.pending_syncs.insert(new.to_owned());
        }
        self.update_member(request.ticket, new, request.terms());
        self.renew_session(new, now);
        match self.state {
            State::Stable if self.members.elect_protocol() == self.protocol => {
                self.store(Purpose::Replacement(Box::new(Replacement {
                    ticket: request.ticket,
                    old: old.to_owned(),
                    new: new.to_owned(),
                    old_terms,
                    old_leader,
                    generation: self.generation,
                    skip_supported: request.join.skip_assignment_supported,
                })));
            }
            // The leader may be assigning to the old id already.
            State::Stable | State::CompletingRebalance => {
                self.prepare_rebalance(&request.reason("takes over its instance"), now);
            }
            State::PreparingRebalance | State::Empty | State::Dead => self.maybe_complete_join(now),
        }
    }

    /// Tells whoever waits under this id that another took over.
    fn fence(&mut self, id: &str) {
        if let Some(join) = self.members.set_join(id, None) {
            self.refuse_join(join, id, ErrorKind::FencedInstanceId);
        }
        if let Some(sync) = self.members.set_sync(id, None) {
            self.refuse_sync(sync, refusal(ErrorKind::FencedInstanceId));
        }
    }

    /// The replacement was stored, or not. If a rebalance began meanwhile, the join ends with it.
    pub(super) fn replaced(
        &mut self,
        replacement: Replacement,
        result: Result<(), Error>,
        now: Timestamp,
    ) {
        let Replacement {
            ticket,
            old,
            new,
            generation,
            ..
        } = replacement;
        let waits = self
            .members
            .get(&new)
            .is_some_and(|member| member.join() == Some(ticket));
        if !waits || self.state != State::Stable || self.generation != generation {
            return;
        }
        self.members.set_join(&new, None);
        if let Err(error) = result {
            self.members.set_terms(&new, replacement.old_terms);
            self.members.rename(&new, &old);
            if self.pending_syncs.remove(&new) {
                self.pending_syncs.insert(old.clone());
            }
            self.renew_session(&old, now);
            let refused = JoinRefused {
                error: store_failed(error),
                member: String::new(),
            };
            self.effects.push(Effect::Joined(ticket, Err(refused)));
            return;
        }
        self.renew_session(&new, now);
        let mut joined = self.joined(&new);
        if replacement.skip_supported {
            joined.skip_assignment = self.members.is_leader(&new);
        } else {
            // Told the old leader's id, it does not assign: nobody waits for an assignment now.
            joined.leader = replacement.old_leader;
            joined.members = Vec::new();
        }
        self.effects.push(Effect::Joined(ticket, Ok(joined)));
    }

    /// Answers with the current generation.
    fn answer_join(&mut self, ticket: Ticket, id: &str) {
        let joined = self.joined(id);
        self.effects.push(Effect::Joined(ticket, Ok(joined)));
    }

    /// What a member learns about the current generation.
    pub(super) fn joined(&self, id: &str) -> Joined {
        let members = match self.members.is_leader(id) {
            true => self
                .members
                .iter()
                .map(|(id, member)| {
                    (
                        id.clone(),
                        member.instance.clone(),
                        member.terms.metadata(self.protocol()),
                    )
                })
                .collect(),
            false => Vec::new(),
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone().unwrap_or_default(),
            leader: self.members.leader().unwrap_or_default().to_owned(),
            skip_assignment: false,
            member: id.to_owned(),
            members,
        }
    }
}
