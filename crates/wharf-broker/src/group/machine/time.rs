//! What the passing of time does: sessions end, ids lapse, phases time out.
//!
//! Deadlines are kept where they belong; `wake` is never later than the earliest of them, and is
//! made exact when time passes. Putting a deadline off therefore costs nothing.

use std::time::Duration;

use wharf_message::Timestamp;

use super::{Enrolled, JoinTimer, Machine, State};

/// A new member cannot send heartbeats before it knows its id; it is given up after this long, so
/// that clients that went away do not pile up in a long rebalance.
const NEW_MEMBER_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Whose time is up, in the order of ties.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Session(String),
    PendingJoin(String),
    Join,
    Sync,
}

impl Machine {
    /// When [`Self::tick`] is to be called next; calling it earlier or later does no harm.
    pub(in crate::group) fn wake(&self) -> Option<Timestamp> {
        self.wake
    }

    /// Does everything whose time has come, in the order of the deadlines.
    pub(in crate::group) fn tick(&mut self, now: Timestamp) {
        if self.wake.is_none_or(|wake| wake > now) {
            return;
        }
        loop {
            let mut due = self.deadlines();
            due.retain(|(deadline, _)| *deadline <= now);
            if due.is_empty() {
                break;
            }
            due.sort();
            for (_, due) in due {
                self.expire(&due, now);
            }
        }
        self.wake = self
            .deadlines()
            .into_iter()
            .map(|(deadline, _)| deadline)
            .min();
    }

    fn deadlines(&self) -> Vec<(Timestamp, Due)> {
        let sessions = self.members.iter().filter_map(|(id, member)| {
            member
                .deadline
                .map(|deadline| (deadline, Due::Session(id.clone())))
        });
        let pending = self
            .pending_joins
            .iter()
            .map(|(id, deadline)| (*deadline, Due::PendingJoin(id.clone())));
        let join = self.join_timer.map(|timer| match timer {
            JoinTimer::Initial { deadline, .. } | JoinTimer::Rebalance { deadline } => {
                (deadline, Due::Join)
            }
        });
        let sync = self.sync_deadline.map(|deadline| (deadline, Due::Sync));
        sessions.chain(pending).chain(join).chain(sync).collect()
    }

    /// What was due when the tick began may have been put off by what came before it.
    fn expire(&mut self, due: &Due, now: Timestamp) {
        match due {
            Due::Session(id) => {
                let member = self.members.get(id);
                if member.is_some_and(|member| member.deadline.is_some_and(|at| at <= now)) {
                    self.expire_session(id, now);
                }
            }
            Due::PendingJoin(id) => {
                if self.pending_joins.get(id).is_some_and(|at| *at <= now) {
                    self.pending_joins.remove(id);
                    self.complete_after_removal(now);
                }
            }
            Due::Join => self.expire_join(now),
            Due::Sync => {
                if self.sync_deadline.is_some_and(|at| at <= now) {
                    self.expire_sync(now);
                }
            }
        }
    }

    /// A waiting request vouches for a member, except for a new one.
    fn expire_session(&mut self, id: &str, now: Timestamp) {
        let vouched = |m: &Enrolled| !m.is_new && (m.is_joining() || m.sync.is_some());
        if self.members.get(id).is_some_and(vouched) {
            return self.members.set_deadline(id, None);
        }
        self.remove_member(id);
        match self.state {
            State::Stable | State::CompletingRebalance => {
                self.prepare_rebalance(&format!("member {id} was not heard of"), now);
            }
            State::PreparingRebalance => self.complete_after_removal(now),
            State::Empty | State::Dead => {}
        }
    }

    /// Unlike a join, a member's end may end the initial join phase early.
    fn complete_after_removal(&mut self, now: Timestamp) {
        if self.state == State::PreparingRebalance && self.have_all_joined() {
            self.complete_join(now);
        }
    }

    fn expire_join(&mut self, now: Timestamp) {
        match self.join_timer {
            Some(JoinTimer::Initial {
                deadline,
                delay,
                remaining,
            }) if deadline <= now => {
                if !self.member_added || remaining.is_zero() {
                    return self.complete_join(now);
                }
                self.member_added = false;
                let next = self.limits.initial_delay.min(remaining);
                self.set_join_timer(JoinTimer::Initial {
                    deadline: now.after(next),
                    delay: next,
                    remaining: remaining.saturating_sub(delay),
                });
            }
            Some(JoinTimer::Rebalance { deadline }) if deadline <= now => self.complete_join(now),
            _ => {}
        }
    }

    /// Members that did not sync in time are gone, be it the leader or a follower.
    fn expire_sync(&mut self, now: Timestamp) {
        self.sync_deadline = None;
        for id in std::mem::take(&mut self.pending_syncs) {
            self.remove_member(&id);
        }
        self.prepare_rebalance("members did not sync in time", now);
    }

    /// The member was heard of.
    pub(super) fn renew_session(&mut self, id: &str, now: Timestamp) {
        let Some(member) = self.members.get(id) else {
            return;
        };
        self.expect(id, now.after(member.terms.session_timeout));
    }

    /// A member that does not know its id yet.
    pub(super) fn expect_new_member(&mut self, id: &str, now: Timestamp) {
        self.expect(id, now.after(NEW_MEMBER_TIMEOUT));
    }

    fn expect(&mut self, id: &str, deadline: Timestamp) {
        self.members.set_deadline(id, Some(deadline));
        self.wake_at(deadline);
    }

    pub(super) fn set_join_timer(&mut self, timer: JoinTimer) {
        let (JoinTimer::Initial { deadline, .. } | JoinTimer::Rebalance { deadline }) = timer;
        self.join_timer = Some(timer);
        self.wake_at(deadline);
    }

    pub(super) fn set_sync_deadline(&mut self, deadline: Timestamp) {
        self.sync_deadline = Some(deadline);
        self.wake_at(deadline);
    }

    pub(super) fn wake_at(&mut self, deadline: Timestamp) {
        self.wake = Some(self.wake.map_or(deadline, |wake| wake.min(deadline)));
    }
}
