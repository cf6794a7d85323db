//! What the passing of time does: members that were not heard of, or do not give up what they
//! must, are removed.

use wharf_message::Timestamp;

use super::{Around, ConsumerGroup, Deadlines, Member};

impl ConsumerGroup {
    /// When [`Self::tick`] is to be called next; calling it earlier or later does no harm.
    pub(in crate::group) fn wake(&self) -> Option<Timestamp> {
        let deadlines = self.members.values().map(|member| member.deadlines);
        deadlines.filter_map(Deadlines::first).min()
    }

    /// Removes every member whose time is up.
    pub(in crate::group) fn tick(&mut self, around: Around<'_>) {
        let is_late = |member: &Member| {
            let first = member.deadlines.first();
            first.is_some_and(|deadline| deadline <= around.now)
        };
        let members = self.members.iter();
        let late: Vec<String> = members
            .filter(|(_, member)| is_late(member))
            .map(|(id, _)| id.clone())
            .collect();
        if !late.is_empty() {
            self.remove(&late, around);
        }
    }

    /// The member was heard of.
    pub(super) fn renew_session(&mut self, id: &str, around: Around<'_>) {
        if let Some(member) = self.members.get_mut(id) {
            let classic = member.classic.as_ref();
            let timeout = classic.map(|classic| classic.session_timeout);
            let timeout = timeout.unwrap_or(around.limits.session_timeout);
            member.deadlines.session = Some(around.now.after(timeout));
        }
    }

    /// While a member has to give partitions up, it has its rebalance time-out to do so.
    pub(super) fn expect_revocation(&mut self, id: &str, now: Timestamp) {
        if let Some(member) = self.members.get_mut(id) {
            let deadline = now.after(member.rebalance_timeout);
            let must = !member.revoking.is_empty();
            member.deadlines.revocation = must.then_some(deadline);
        }
    }
}
