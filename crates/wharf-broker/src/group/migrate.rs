//! The shell's part of turning a group of one protocol into one of the other (KIP-848).

use std::sync::Arc;

use wharf_log::StateChange;
use wharf_message::Timestamp;

use super::consumer::ConsumerGroup;
use super::keys;
use super::machine::{Limits, Machine, State, refusal};
use super::protocol::Protocol;
use super::shell::{Cell, Group, Inner, of_state};
use crate::{Error, ErrorKind};

impl Inner {
    /// The group as one of the consumer protocol. An empty classic group becomes one, a group of
    /// classic consumers does so if the policy allows it; others refuse.
    pub(super) fn consumer<'a>(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        group: &'a mut Group,
        now: Timestamp,
    ) -> Result<&'a mut ConsumerGroup, Error> {
        if let Protocol::Classic(machine) = &mut group.protocol {
            let around = self.around(&cell.name, now);
            let upgraded = match machine.state() {
                State::Dead => return Err(refusal(ErrorKind::CoordinatorNotAvailable)),
                State::Empty => ConsumerGroup::new(now),
                _ if !self.options.consumer_migration_policy.allows_upgrade() => {
                    let message = "the group has classic members, and the node's policy does not \
                                   allow upgrading it";
                    return Err(Error::new(ErrorKind::GroupIdNotFound, message));
                }
                _ => ConsumerGroup::upgraded(machine, around)?,
            };
            machine.hand_over();
            self.carry_out_all(cell, group);
            group.protocol = Protocol::consumer(upgraded);
            group.stores.expect_anything();
        }
        match &mut group.protocol {
            Protocol::Consumer(consumer) => Ok(consumer),
            Protocol::Classic(_) => Err(refusal(ErrorKind::GroupIdNotFound)),
        }
    }

    /// A group of the consumer protocol whose last member of that protocol is gone, while classic
    /// ones are left, becomes a classic group if the policy allows it.
    pub(super) fn downgrade_if_due(self: &Arc<Self>, cell: &Arc<Cell>, group: &mut Group) {
        let Protocol::Consumer(consumer) = &group.protocol else {
            return;
        };
        let policy = self.options.consumer_migration_policy;
        let fits = consumer.members().len() <= self.options.group_members_max;
        if !consumer.has_classic_only() || consumer.is_dead() || !policy.allows_downgrade() || !fits
        {
            return;
        }
        let members = consumer.downgraded(&*self.topics);
        let machine = Machine::take_over(
            Limits::from(&self.options),
            consumer.generation(),
            members.into_iter().map(|one| (one.id, one.member)),
            self.runtime.steady(),
        );
        self.become_classic(cell, group, machine);
    }

    /// An empty group of the consumer protocol becomes an empty classic one.
    pub(super) fn empty_to_classic(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        group: &mut Group,
        now: Timestamp,
    ) {
        if let Protocol::Consumer(consumer) = &group.protocol
            && consumer.is_empty()
            && !consumer.is_dead()
        {
            let limits = Limits::from(&self.options);
            let machine = Machine::take_over(limits, consumer.epoch(), [], now);
            self.become_classic(cell, group, machine);
        }
    }

    /// Stores the classic group in place of the other one. Should that be refused, a restart finds
    /// the group as it was, and its members join it again.
    fn become_classic(self: &Arc<Self>, cell: &Arc<Cell>, group: &mut Group, machine: Machine) {
        let Protocol::Consumer(consumer) = &group.protocol else {
            return;
        };
        let mut changes = consumer.removal(&cell.name);
        changes.push(StateChange {
            key: keys::group(&cell.name),
            value: Some(machine.stored_as().encode()),
        });
        group.protocol = Protocol::classic(machine);
        group.is_stored = true;
        drop(
            self.submit(cell, group, of_state(changes), |_, group, _, _| {
                group.replan();
            }),
        );
        self.carry_out_all(cell, group);
    }
}
