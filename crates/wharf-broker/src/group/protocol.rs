//! A group as the shell sees it, whichever protocol its members speak.

use wharf_message::Timestamp;

use super::consumer::{self, ConsumerGroup};
use super::machine::{Expiry, Machine, refusal};
use super::{CommitCall, Member};
use crate::{Error, ErrorKind};

/// Which groups may be turned into groups of the other protocol while they have members
/// (`group.consumer.migration.policy`). A group without members always may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// Both ways.
    Bidirectional,
    /// Classic groups into groups of the consumer protocol.
    Upgrade,
    /// Groups of the consumer protocol into classic ones.
    Downgrade,
    /// None.
    Disabled,
}

impl MigrationPolicy {
    /// Kafka's name of the policy.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bidirectional => "bidirectional",
            Self::Upgrade => "upgrade",
            Self::Downgrade => "downgrade",
            Self::Disabled => "disabled",
        }
    }

    pub(super) fn allows_upgrade(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Upgrade)
    }

    pub(super) fn allows_downgrade(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Downgrade)
    }
}

/// The machine of a group.
#[derive(Debug)]
pub(super) enum Protocol {
    Classic(Box<Machine>),
    Consumer(Box<ConsumerGroup>),
}

impl Protocol {
    pub(super) fn classic(machine: Machine) -> Self {
        Self::Classic(Box::new(machine))
    }

    pub(super) fn consumer(group: ConsumerGroup) -> Self {
        Self::Consumer(Box::new(group))
    }

    /// Kafka's name of the group's type.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Classic(_) => "classic",
            Self::Consumer(_) => "consumer",
        }
    }

    /// Kafka's name of the state.
    pub(super) fn state(&self) -> &'static str {
        match self {
            Self::Classic(machine) => machine.state().name(),
            Self::Consumer(group) => group.state(),
        }
    }

    /// When the group came into its state; of a group of the consumer protocol, when it became
    /// empty.
    pub(super) fn since(&self) -> Timestamp {
        match self {
            Self::Classic(machine) => machine.since(),
            Self::Consumer(group) => group.since(),
        }
    }

    pub(super) fn protocol_type(&self) -> &str {
        match self {
            Self::Classic(machine) => machine.protocol_type().unwrap_or_default(),
            Self::Consumer(_) => "consumer",
        }
    }

    pub(super) fn member_count(&self) -> usize {
        match self {
            Self::Classic(machine) => machine.members().len(),
            Self::Consumer(group) => group.members().len(),
        }
    }

    /// Whether nothing is left but what a store may hold.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Classic(machine) => machine.is_idle(),
            Self::Consumer(group) => group.is_empty() && !group.is_dead(),
        }
    }

    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        match self {
            Self::Classic(machine) => machine.is_subscribed(topic),
            Self::Consumer(group) => group.is_subscribed(topic),
        }
    }

    pub(super) fn expiry(&self) -> Expiry {
        match self {
            Self::Classic(machine) => machine.expiry(),
            Self::Consumer(group) => group.expiry(),
        }
    }

    pub(super) fn wake(&self) -> Option<Timestamp> {
        match self {
            Self::Classic(machine) => machine.wake(),
            Self::Consumer(group) => group.wake(),
        }
    }

    pub(super) fn tick(&mut self, around: consumer::Around<'_>) {
        match self {
            Self::Classic(machine) => machine.tick(around.now),
            Self::Consumer(group) => group.tick(around),
        }
    }

    /// Whether offsets may be committed in the caller's name. Keeps a classic session alive.
    pub(super) fn check_commit(
        &mut self,
        caller: &Member,
        call: CommitCall,
        now: Timestamp,
    ) -> Result<(), Error> {
        match self {
            Self::Classic(machine) => machine.check_commit(caller, call, now),
            Self::Consumer(group) => group.check_commit(caller, call),
        }
    }

    /// Whether the caller, if it names itself, may be told offsets. As in Kafka, members of classic
    /// groups are not checked.
    pub(super) fn check_fetch(&self, caller: &Member) -> Result<(), Error> {
        match self {
            Self::Classic(_) => Ok(()),
            Self::Consumer(group) => group.check_fetch(caller),
        }
    }

    /// Whether offsets may be deleted at all; those of subscribed topics may not.
    pub(super) fn check_delete_offsets(&self) -> Result<(), Error> {
        match self {
            Self::Classic(machine) => machine.check_delete_offsets(),
            Self::Consumer(group) if group.is_dead() => Err(refusal(ErrorKind::GroupIdNotFound)),
            Self::Consumer(_) => Ok(()),
        }
    }

    /// Starts the deletion: the group answers nobody any more until it is gone or
    /// [`Self::deletion_failed`].
    pub(super) fn start_deletion(&mut self) -> Result<(), Error> {
        match self {
            Self::Classic(machine) => machine.start_deletion(),
            Self::Consumer(group) => group.start_deletion(),
        }
    }

    /// The group could not be deleted and lives on.
    pub(super) fn deletion_failed(&mut self) {
        match self {
            Self::Classic(machine) => machine.deletion_failed(),
            Self::Consumer(group) => group.deletion_failed(),
        }
    }
}
