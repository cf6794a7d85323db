//! Consumer groups: a pure machine for each of the two protocols, their shell, committed offsets.
//!
//! [`machine`] is the classic protocol, in which a member assigns; [`consumer`] is the consumer
//! protocol, in which the server does. A machine is `step(input, now) -> outputs`; the shell owns
//! waiting requests, stores and timers. Kafka's `GroupCoordinator` semantics: KIP-62, KIP-134,
//! KIP-345, KIP-389, KIP-394, KIP-429, KIP-496, KIP-559, KIP-800, KIP-814, KIP-848.

mod alarm;
mod atomic;
mod calls;
mod consumer;
mod consumer_calls;
mod embedded;
mod keys;
mod machine;
mod migrate;
mod offsets;
mod pending;
mod protocol;
mod readers;
mod record;
mod recover;
mod settings;
mod shell;
mod stores;
mod subscription;
mod transactional;

pub(crate) use consumer::ASSIGNORS;
pub(crate) use keys::GROUP_NAME_BYTES_MAX as NAME_BYTES_MAX;
pub use protocol::MigrationPolicy;
pub use readers::{ReaderOffset, TopicReader};
pub(crate) use shell::Groups;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use uuid::Uuid;

use crate::{Error, TopicRef};

/// JoinGroup.
#[derive(Clone, Debug)]
pub struct Join {
    /// The group.
    pub group: String,
    /// The member id, empty for a new member.
    pub member: String,
    /// The static instance id (KIP-345).
    pub instance: Option<String>,
    /// Session time-out.
    pub session_timeout: Duration,
    /// Rebalance time-out.
    pub rebalance_timeout: Duration,
    /// Protocol type, `consumer` for consumers.
    pub protocol_type: String,
    /// Protocols by preference, with metadata.
    pub protocols: Vec<(String, Bytes)>,
    /// Whether the member must come back with the id it is given (KIP-394; v4 and later).
    pub member_id_required: bool,
    /// Whether a static leader may skip the assignment (KIP-814; v9 and later).
    pub skip_assignment_supported: bool,
    /// Why (KIP-800), or empty.
    pub reason: String,
}

/// What a member learns when the join phase ends.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The generation.
    pub generation: i32,
    /// The protocol type.
    pub protocol_type: String,
    /// The protocol chosen.
    pub protocol: String,
    /// The leader's member id.
    pub leader: String,
    /// Whether the leader shall not assign (KIP-814).
    pub skip_assignment: bool,
    /// This member's id.
    pub member: String,
    /// For the leader: all members (id, instance, metadata); else empty.
    pub members: Vec<(String, Option<String>, Bytes)>,
}

/// A refused join; carries the id to come back with (KIP-394).
#[derive(Clone, Debug)]
pub struct JoinRefused {
    /// Why.
    pub error: Error,
    /// The member id given, or the one sent.
    pub member: String,
}

/// SyncGroup.
#[derive(Clone, Debug)]
pub struct Sync {
    /// The group.
    pub group: String,
    /// The generation.
    pub generation: i32,
    /// The member.
    pub member: String,
    /// The static instance id.
    pub instance: Option<String>,
    /// The protocol type the member believes in (v5).
    pub protocol_type: Option<String>,
    /// The protocol the member believes in (v5).
    pub protocol: Option<String>,
    /// From the leader: assignments by member.
    pub assignments: Vec<(String, Bytes)>,
}

/// What a member learns when the sync phase ends.
#[derive(Clone, Debug)]
pub struct Synced {
    /// The protocol type.
    pub protocol_type: String,
    /// The protocol.
    pub protocol: String,
    /// The member's assignment.
    pub assignment: Bytes,
}

/// Who calls, as a member of a group.
#[derive(Clone, Debug)]
pub struct Member {
    /// The group.
    pub group: String,
    /// The generation, or -1 outside the group protocol.
    pub generation: i32,
    /// The member id, or empty outside the group protocol.
    pub member: String,
    /// The static instance id.
    pub instance: Option<String>,
}

/// A member to remove (LeaveGroup).
#[derive(Clone, Debug)]
pub struct Leaving {
    /// The member id; empty when only the instance id is known.
    pub member: String,
    /// The static instance id.
    pub instance: Option<String>,
    /// Why (KIP-800).
    pub reason: String,
}

/// An offset to commit.
#[derive(Clone, Debug)]
pub struct CommitOffset {
    /// The topic.
    pub topic: TopicRef,
    /// The partition index.
    pub partition: i32,
    /// The next offset to consume.
    pub offset: i64,
    /// The leader epoch of the last consumed record, or -1.
    pub leader_epoch: i32,
    /// Free text.
    pub metadata: Option<String>,
    /// Keep it this long from now instead of the node's setting (v2 to v4).
    pub retention: Option<Duration>,
}

/// A committed offset. None committed: offset -1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The topic's name.
    pub topic: String,
    /// The topic's id, if the topic exists.
    pub topic_id: Option<Uuid>,
    /// The partition index.
    pub partition: i32,
    /// The offset, or -1.
    pub offset: i64,
    /// The leader epoch, or -1.
    pub leader_epoch: i32,
    /// Free text.
    pub metadata: String,
    /// An open transaction is going to commit another offset of the partition (KIP-447).
    pub is_unstable: bool,
}

/// Which request commits offsets; it decides about details of who may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitCall {
    /// OffsetCommit before version 9, whose senders know the classic protocol only.
    Old,
    /// OffsetCommit from version 9 on.
    New,
    /// TxnOffsetCommit.
    Transactional,
}

/// ConsumerGroupHeartbeat (KIP-848). What is `None` is as it was in the heartbeat before.
#[derive(Clone, Debug, Default)]
pub struct ConsumerHeartbeat {
    /// The group.
    pub group: String,
    /// The member id; may be empty for a new member that does not bring its own.
    pub member: String,
    /// Whether members must bring their own ids (version 1 and later).
    pub brings_id: bool,
    /// The member's epoch; 0 joins, -1 leaves, -2 leaves a static member's place open.
    pub epoch: i32,
    /// The static instance id.
    pub instance: Option<String>,
    /// The rack; kept for descriptions only, as there is one node.
    pub rack: Option<String>,
    /// How long the member may take to give partitions up.
    pub rebalance_timeout: Option<Duration>,
    /// The topics subscribed to by name.
    pub topics: Option<Vec<String>>,
    /// The topics subscribed to by pattern; empty for none.
    pub pattern: Option<String>,
    /// The assignor the member votes for.
    pub assignor: Option<String>,
    /// What the member reads.
    pub owned: Option<Vec<(Uuid, Vec<i32>)>>,
}

/// What a member of the consumer protocol learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerHeartbeatAnswer {
    /// Its id.
    pub member: String,
    /// Its epoch.
    pub epoch: i32,
    /// When to send the next heartbeat.
    pub interval: Duration,
    /// What it is to read; `None` when that did not change.
    pub assignment: Option<Vec<(Uuid, Vec<i32>)>>,
}

/// A group of the consumer protocol described.
#[derive(Clone, Debug)]
pub struct ConsumerGroupDescription {
    /// Kafka's name of the state: `Empty`, `Assigning`, `Reconciling`, `Stable`, `Dead`.
    pub state: &'static str,
    /// The group's epoch.
    pub epoch: i32,
    /// The epoch that the target was computed for.
    pub assignment_epoch: i32,
    /// The assignor.
    pub assignor: &'static str,
    /// The members.
    pub members: Vec<ConsumerMemberDescription>,
}

/// A member of a group of the consumer protocol described.
#[derive(Clone, Debug)]
pub struct ConsumerMemberDescription {
    /// The member id.
    pub member: String,
    /// The static instance id.
    pub instance: Option<String>,
    /// The rack it said it is in.
    pub rack: Option<String>,
    /// Its epoch.
    pub epoch: i32,
    /// The client's name.
    pub client_id: String,
    /// The client's host.
    pub client_host: String,
    /// The topics subscribed to by name.
    pub topics: Vec<String>,
    /// The topics subscribed to by pattern.
    pub pattern: Option<String>,
    /// What it reads.
    pub assignment: Vec<AssignedTopic>,
    /// What it shall read.
    pub target: Vec<AssignedTopic>,
    /// Whether it speaks the classic protocol.
    pub is_classic: bool,
}

/// Partitions of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignedTopic {
    /// The topic's id.
    pub id: Uuid,
    /// The topic's name; empty when it is gone.
    pub name: String,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// A group in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// The group.
    pub group: String,
    /// The protocol type, or empty.
    pub protocol_type: String,
    /// Kafka's name of the state: `PreparingRebalance`, `CompletingRebalance`, `Assigning`,
    /// `Reconciling`, `Stable`, `Dead`, `Empty`.
    pub state: &'static str,
    /// Kafka's name of the group type: `classic` or `consumer`.
    pub group_type: &'static str,
}

/// A group described.
#[derive(Clone, Debug)]
pub struct GroupDescription {
    /// The state's name.
    pub state: &'static str,
    /// The protocol type, or empty.
    pub protocol_type: String,
    /// The protocol, or empty unless stable.
    pub protocol: String,
    /// Why the last rebalance since the node started began, with the client's own words
    /// (KIP-800); empty when there was none.
    pub rebalance_reason: String,
    /// The members.
    pub members: Vec<MemberDescription>,
}

/// A member described.
#[derive(Clone, Debug)]
pub struct MemberDescription {
    /// The member id.
    pub member: String,
    /// The static instance id.
    pub instance: Option<String>,
    /// The client's name.
    pub client_id: String,
    /// The client's host.
    pub client_host: String,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

/// How many groups and members there are, for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    /// Groups by Kafka's name of their state; states without groups are left out.
    pub by_state: BTreeMap<&'static str, usize>,
    /// Members of all groups.
    pub members: usize,
    /// Committed offsets of all groups.
    pub offsets: usize,
}
