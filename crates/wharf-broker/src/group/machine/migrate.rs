//! A classic group on its way to or from the consumer protocol (KIP-848).

use wharf_message::Timestamp;

use super::{Enrolled, Limits, Machine, State, refusal};
use crate::ErrorKind;

impl Machine {
    /// The current generation.
    pub(in crate::group) fn generation(&self) -> i32 {
        self.generation
    }

    /// The group goes on under the consumer protocol: whoever waits here is asked to join again.
    pub(in crate::group) fn hand_over(&mut self) {
        for id in self.members.ids() {
            if let Some(join) = self.members.set_join(&id, None) {
                self.refuse_join(join, &id, ErrorKind::RebalanceInProgress);
            }
            if let Some(sync) = self.members.set_sync(&id, None) {
                self.refuse_sync(sync, refusal(ErrorKind::RebalanceInProgress));
            }
        }
        self.state = State::Dead;
    }

    /// A group that takes over these members, if there are any, from the consumer protocol: they
    /// read what they read, and are asked to join again, so that one of them leads.
    pub(in crate::group) fn take_over(
        limits: Limits,
        generation: i32,
        members: impl IntoIterator<Item = (String, Enrolled)>,
        now: Timestamp,
    ) -> Self {
        let mut group = Self::new(limits, now);
        group.generation = generation;
        group.protocol_type = Some(super::CONSUMER.to_owned());
        for (id, member) in members {
            group.members.add(id.clone(), member);
            group.renew_session(&id, now);
        }
        group.protocol = group.members.elect_protocol();
        group.subscribed = group.read_subscriptions();
        if !group.members.is_empty() {
            group.state = State::Stable;
            group.prepare_rebalance("the last member of the consumer protocol left", now);
        }
        group
    }

    /// The group as it is to be stored, asked for by who moves it here.
    pub(in crate::group) fn stored_as(&self) -> super::GroupRecord {
        self.record(None)
    }
}

impl Enrolled {
    /// Whether it does not belong to a generation yet.
    pub(in crate::group) fn is_new(&self) -> bool {
        self.is_new
    }
}
