//! What the passing of time does: members that were not heard of, or do not give up what they
//! must, are removed.
//!
//! `wake` is never later than the earliest deadline, and is made exact when time passes. Putting a
//! deadline off therefore costs nothing.

use wharf_message::Timestamp;

use super::{Around, ConsumerGroup, Deadlines, Member};

impl ConsumerGroup {
    /// When [`Self::tick`] is to be called next; calling it earlier or later does no harm.
    pub(in crate::group) fn wake(&self) -> Option<Timestamp> {
        self.wake
    }

    /// Removes every member whose time is up.
    pub(in crate::group) fn tick(&mut self, around: Around<'_>) {
        if self.wake.is_none_or(|wake| wake > around.now) {
            return;
        }
        let is_late = |member: &Member| {
            let first = member.deadlines.first();
            first.is_some_and(|deadline| deadline <= around.now)
        };
        let members = self.members.iter();
        let late: Vec<String> = members
            .filter(|(_, member)| is_late(member))
            .map(|(id, _)| id.clone())
            .collect();
        self.remove(&late, around);
        let deadlines = self.members.values().map(|member| member.deadlines);
        self.wake = deadlines.filter_map(Deadlines::first).min();
    }

    /// The member was heard of.
    pub(super) fn renew_session(&mut self, id: &str, around: Around<'_>) {
        let session = around.limits.session_timeout;
        self.expect(id, |member| {
            let classic = member.classic.as_ref();
            let timeout = classic.map(|classic| classic.session_timeout);
            member.deadlines.session = Some(around.now.after(timeout.unwrap_or(session)));
        });
    }

    /// While a member has to give partitions up, it has its rebalance time-out to do so.
    pub(super) fn expect_revocation(&mut self, id: &str, now: Timestamp) {
        self.expect(id, |member| {
            let deadline = now.after(member.rebalance_timeout);
            let must = !member.revoking.is_empty();
            member.deadlines.revocation = must.then_some(deadline);
        });
    }

    /// A classic member that was told to join again has its rebalance time-out to do so.
    pub(super) fn expect_join(&mut self, id: &str, now: Timestamp) {
        self.expect(id, |member| {
            let deadline = now.after(member.rebalance_timeout);
            member.deadlines.join.get_or_insert(deadline);
        });
    }

    /// A classic member that has joined has its rebalance time-out to sync.
    pub(super) fn expect_sync(&mut self, id: &str, now: Timestamp) {
        self.expect(id, |member| {
            member.deadlines.join = None;
            member.deadlines.sync = Some(now.after(member.rebalance_timeout));
        });
    }

    fn expect(&mut self, id: &str, set: impl FnOnce(&mut Member)) {
        if let Some(member) = self.members.get_mut(id) {
            set(member);
            let earliest = [self.wake, member.deadlines.first()];
            self.wake = earliest.into_iter().flatten().min();
        }
    }
}
