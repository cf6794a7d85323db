//! From the end of the join phase to a stable group: the leader's assignment, stored before
//! anybody learns it.

use std::collections::BTreeMap;

use bytes::Bytes;
use wharf_message::Timestamp;

use super::{Effect, JoinTimer, Machine, Purpose, State, Ticket, Token, refusal, store_failed};
use crate::group::{Sync, Synced};
use crate::{Error, ErrorKind};

/// How long a rebalance that nobody joined waits again at least.
const RETRY_MIN: std::time::Duration = std::time::Duration::from_secs(1);

impl Machine {
    /// A sync. Answered at once or when the leader's assignment is stored.
    pub(in crate::group) fn sync(&mut self, ticket: Ticket, sync: &Sync, now: Timestamp) {
        if let Err(error) = self.check_sync(sync) {
            return self.refuse_sync(ticket, error);
        }
        match self.state {
            State::CompletingRebalance => self.sync_completing(ticket, sync),
            State::Stable => {
                self.note_synced(&sync.member);
                self.renew_session(&sync.member, now);
                self.answer_sync(ticket, &sync.member);
            }
            State::PreparingRebalance => {
                self.refuse_sync(ticket, refusal(ErrorKind::RebalanceInProgress));
            }
            State::Empty | State::Dead => {
                self.refuse_sync(ticket, refusal(ErrorKind::UnknownMemberId));
            }
        }
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), Error> {
        self.check_alive()?;
        self.check_member(&sync.member, sync.instance.as_deref())?;
        self.check_generation(sync.generation)?;
        let differs = |said: &Option<String>, is: &Option<String>| {
            said.is_some() && is.is_some() && said != is
        };
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol, &self.protocol)
        {
            return Err(refusal(ErrorKind::InconsistentGroupProtocol));
        }
        Ok(())
    }

    fn sync_completing(&mut self, ticket: Ticket, sync: &Sync) {
        if let Some(superseded) = self.members.set_sync(&sync.member, Some(ticket)) {
            self.refuse_sync(superseded, refusal(ErrorKind::RebalanceInProgress));
        }
        self.note_synced(&sync.member);
        if !self.members.is_leader(&sync.member) || self.is_storing_assignment() {
            return;
        }
        let given: BTreeMap<&str, &Bytes> = sync
            .assignments
            .iter()
            .map(|(member, bytes)| (member.as_str(), bytes))
            .collect();
        let assignments = self.members.iter().map(|(id, _)| {
            let assignment = given
                .get(id.as_str())
                .map(|bytes| Bytes::copy_from_slice(bytes));
            (id.clone(), assignment.unwrap_or_default())
        });
        let assignments = assignments.collect();
        self.store(Purpose::Assignment {
            generation: self.generation,
            assignments,
        });
    }

    /// The leader repeated its sync while the first is being stored.
    fn is_storing_assignment(&self) -> bool {
        self.stores.values().any(|purpose| {
            matches!(purpose, Purpose::Assignment { generation, .. } if *generation == self.generation)
        })
    }

    fn note_synced(&mut self, member: &str) {
        self.pending_syncs.remove(member);
        if self.pending_syncs.is_empty() {
            self.sync_deadline = None;
        }
    }

    fn answer_sync(&mut self, ticket: Ticket, member: &str) {
        let assignment = self
            .members
            .get(member)
            .map(|member| member.assignment.clone());
        let synced = Synced {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone().unwrap_or_default(),
            assignment: assignment.unwrap_or_default(),
        };
        self.effects.push(Effect::Synced(ticket, Ok(synced)));
    }

    /// A store ended. A result that the group has moved past changes nothing.
    pub(in crate::group) fn stored(
        &mut self,
        token: Token,
        result: Result<(), Error>,
        now: Timestamp,
    ) {
        match self.stores.remove(&token) {
            Some(Purpose::Assignment {
                generation,
                assignments,
            }) => {
                if self.state == State::CompletingRebalance && generation == self.generation {
                    self.assigned(assignments, result, now);
                }
            }
            Some(Purpose::Replacement(replacement)) => self.replaced(*replacement, result, now),
            // An empty generation that was not stored harms nobody: there are no members in it.
            Some(Purpose::Empty) | None => {}
        }
    }

    fn assigned(
        &mut self,
        assignments: BTreeMap<String, Bytes>,
        result: Result<(), Error>,
        now: Timestamp,
    ) {
        if let Err(error) = result {
            self.drop_assignments(&store_failed(error), now);
            return self.prepare_rebalance("the assignment could not be stored", now);
        }
        for (id, assignment) in assignments {
            self.members.set_assignment(&id, assignment);
        }
        self.enter(State::Stable, now);
        for id in self.members.ids() {
            if let Some(ticket) = self.members.set_sync(&id, None) {
                self.answer_sync(ticket, &id);
                self.renew_session(&id, now);
            }
        }
    }

    /// Tells everybody who waits for an assignment that there is none.
    fn drop_assignments(&mut self, error: &Error, now: Timestamp) {
        for id in self.members.ids() {
            self.members.set_assignment(&id, Bytes::new());
            if let Some(ticket) = self.members.set_sync(&id, None) {
                self.refuse_sync(ticket, error.clone());
                self.renew_session(&id, now);
            }
        }
    }

    /// Begins a rebalance where one may begin, or sees whether the one that runs can end.
    pub(super) fn rebalance_or_complete(&mut self, reason: &str, now: Timestamp) {
        match self.state {
            State::Empty | State::CompletingRebalance | State::Stable => {
                self.prepare_rebalance(reason, now);
            }
            State::PreparingRebalance => self.maybe_complete_join(now),
            State::Dead => {}
        }
    }

    /// Asks all members to join again. A group that was empty waits a while for more members.
    pub(super) fn prepare_rebalance(&mut self, reason: &str, now: Timestamp) {
        if self.state == State::CompletingRebalance {
            self.drop_assignments(&refusal(ErrorKind::RebalanceInProgress), now);
        }
        self.pending_syncs.clear();
        self.sync_deadline = None;
        reason.clone_into(&mut self.reason);
        self.is_initial = self.state == State::Empty;
        self.member_added = false;
        self.enter(State::PreparingRebalance, now);
        let timeout = self.members.rebalance_timeout();
        if self.is_initial {
            let delay = self.limits.initial_delay;
            let remaining = timeout.saturating_sub(delay);
            self.set_join_timer(JoinTimer::Initial {
                deadline: now.after(delay),
                delay,
                remaining,
            });
        } else if self.have_all_joined() {
            self.complete_join(now);
        } else {
            self.set_join_timer(JoinTimer::Rebalance {
                deadline: now.after(timeout),
            });
        }
    }

    pub(super) fn have_all_joined(&self) -> bool {
        self.members.len() == self.members.joining() && self.pending_joins.is_empty()
    }

    /// Ends the join phase if everybody joined; the initial one ends by time only.
    pub(super) fn maybe_complete_join(&mut self, now: Timestamp) {
        if self.state == State::PreparingRebalance && !self.is_initial && self.have_all_joined() {
            self.complete_join(now);
        }
    }

    /// Ends the join phase: dynamic members that did not join are gone, the others form the next
    /// generation. Static members that did not join stay until their session ends.
    pub(super) fn complete_join(&mut self, now: Timestamp) {
        self.join_timer = None;
        let missing = self
            .members
            .iter()
            .filter(|(_, m)| !m.is_joining() && m.instance.is_none());
        for id in missing.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.remove_member(&id);
        }
        if !self.members.elect_leader() && !self.members.is_empty() {
            let timeout = self.members.rebalance_timeout().max(RETRY_MIN);
            return self.set_join_timer(JoinTimer::Rebalance {
                deadline: now.after(timeout),
            });
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.pending_syncs.clear();
        self.protocol = self.members.elect_protocol();
        self.subscribed = self.read_subscriptions();
        if self.members.is_empty() {
            self.enter(State::Empty, now);
            return self.store(Purpose::Empty);
        }
        self.enter(State::CompletingRebalance, now);
        for id in self.members.ids() {
            if let Some(ticket) = self.members.set_join(&id, None) {
                let joined = self.joined(&id);
                self.effects.push(Effect::Joined(ticket, Ok(joined)));
            }
            self.members.settle(&id);
            self.renew_session(&id, now);
            self.pending_syncs.insert(id);
        }
        self.set_sync_deadline(now.after(self.members.rebalance_timeout()));
    }
}
