//! The pure machine of one classic group: every request, answer to a store and passing of time is
//! a step; a step changes the machine and leaves [`Effect`]s to carry out.
//!
//! Invariants: an answer to a join or sync is given exactly once per [`Ticket`]; every member is
//! either waited for by a deadline or vouched for by a waiting request; a generation is never
//! reused while the group lives. Nothing here reads a clock, waits, or depends on the order of a
//! hash map: the same steps give the same effects.

mod join;
mod members;
mod migrate;
mod sync;
#[cfg(test)]
mod tests;
mod time;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use wharf_message::Timestamp;

pub(super) use join::JoinRequest;
pub(super) use members::{Enrolled, Members, Terms};

use super::record::{GroupRecord, MemberRecord};
use super::{CommitCall, JoinRefused, Joined, Leaving, Member, Synced};
use crate::{Error, ErrorKind, Options};

/// The protocol type of consumers, whose metadata names their topics.
const CONSUMER: &str = "consumer";
/// The most protocols one member may offer.
const PROTOCOLS_MAX: usize = 100;
/// The most characters of a client's reason that are kept.
const REASON_CHARS_MAX: usize = 255;
/// The most bytes all members of a group may bring; keeps its record well under what the log
/// takes as one unit.
const MEMBERS_BYTES_MAX: usize = 8 << 20;

/// The number of a waiting request within its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ticket(pub(super) u64);

/// The number of a store within its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Token(pub(super) u64);

/// What the shell must do after a step.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    /// Answer a join.
    Joined(Ticket, Result<Joined, JoinRefused>),
    /// Answer a sync.
    Synced(Ticket, Result<Synced, Error>),
    /// Write the record; then call [`Machine::stored`]. Stores are written in this order.
    Store(Token, GroupRecord),
}

/// Kafka's states of a classic group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// No members; maybe offsets.
    Empty,
    /// Members are asked to join again.
    PreparingRebalance,
    /// All joined; the leader assigns.
    CompletingRebalance,
    /// Everybody has an assignment.
    Stable,
    /// Being deleted.
    Dead,
}

impl State {
    /// Kafka's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

/// The limits a group lives under.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// `group.initial.rebalance.delay.ms`.
    pub(super) initial_delay: Duration,
    /// `group.max.size`.
    pub(super) members_max: usize,
}

impl From<&Options> for Limits {
    fn from(options: &Options) -> Self {
        Self {
            initial_delay: options.group_initial_rebalance_delay,
            members_max: options.group_members_max,
        }
    }
}

/// From when on the retention of a group's offsets counts (KIP-211).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// They do not expire now.
    Never,
    /// Since this time, for all.
    Since(Timestamp),
    /// Since each one's commit.
    SinceCommit,
}

/// Why the group's record is being stored.
#[derive(Clone, Debug)]
enum Purpose {
    /// The leader's assignment.
    Assignment {
        generation: i32,
        assignments: BTreeMap<String, Bytes>,
    },
    /// The group became empty.
    Empty,
    /// A static member came back under another id while the group was stable.
    Replacement(Box<join::Replacement>),
}

/// When the join phase ends at the latest.
#[derive(Clone, Copy, Debug)]
enum JoinTimer {
    /// The first rebalance waits for more members, `remaining` at most after `deadline`.
    Initial {
        deadline: Timestamp,
        delay: Duration,
        remaining: Duration,
    },
    /// The rebalance time-out.
    Rebalance { deadline: Timestamp },
}

/// One group.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    limits: Limits,
    state: State,
    /// When the state was entered.
    since: Timestamp,
    /// The rebalance being prepared is the first one after the group was empty.
    is_initial: bool,
    /// A member came during the initial delay, which extends it.
    member_added: bool,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    /// The topics of the last generation; `None` when not known.
    subscribed: Option<BTreeSet<String>>,
    members: Members,
    /// Ids given out by KIP-394 and when they lapse.
    pending_joins: BTreeMap<String, Timestamp>,
    /// Members of this generation that did not sync yet.
    pending_syncs: BTreeSet<String>,
    join_timer: Option<JoinTimer>,
    sync_deadline: Option<Timestamp>,
    /// Why the last rebalance began.
    reason: String,
    /// No deadline is earlier than this.
    wake: Option<Timestamp>,
    stores: BTreeMap<Token, Purpose>,
    next_token: u64,
    effects: Vec<Effect>,
}

impl Machine {
    /// An empty group that was never stored.
    pub(super) fn new(limits: Limits, now: Timestamp) -> Self {
        Self {
            limits,
            state: State::Empty,
            since: now,
            is_initial: false,
            member_added: false,
            generation: 0,
            protocol_type: None,
            protocol: None,
            subscribed: None,
            members: Members::default(),
            pending_joins: BTreeMap::new(),
            pending_syncs: BTreeSet::new(),
            join_timer: None,
            sync_deadline: None,
            reason: String::new(),
            wake: None,
            stores: BTreeMap::new(),
            next_token: 0,
            effects: Vec::new(),
        }
    }

    /// The group as it was last stored. Members get a full session to be heard of.
    pub(super) fn recover(limits: Limits, record: GroupRecord, now: Timestamp) -> Self {
        let mut group = Self::new(limits, now);
        group.generation = record.generation;
        group.protocol_type = record.protocol_type;
        group.protocol = record.protocol;
        group.since = record.since;
        for stored in record.members {
            let terms = Terms {
                session_timeout: stored.session_timeout,
                rebalance_timeout: stored.rebalance_timeout,
                protocols: group
                    .protocol
                    .iter()
                    .map(|name| (name.clone(), stored.metadata.clone()))
                    .collect(),
            };
            let mut member =
                Enrolled::new(stored.instance, stored.client_id, stored.client_host, terms);
            member.assignment = stored.assignment;
            group.members.add(stored.member.clone(), member);
            group.renew_session(&stored.member, now);
        }
        group.members.set_leader(record.leader);
        group.subscribed = group.read_subscriptions();
        if !group.members.is_empty() {
            group.state = State::Stable;
        }
        if group.members.len() > limits.members_max {
            group.prepare_rebalance("the recovered group has too many members", now);
        }
        group
    }

    /// What is to be done since the last call.
    pub(super) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// When the state was entered.
    pub(super) fn since(&self) -> Timestamp {
        self.since
    }

    pub(super) fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    pub(super) fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    pub(super) fn members(&self) -> &Members {
        &self.members
    }

    /// Why the last rebalance since the node started began; empty when there was none.
    pub(super) fn rebalance_reason(&self) -> &str {
        &self.reason
    }

    /// Whether nothing is left but what a store may hold.
    pub(super) fn is_idle(&self) -> bool {
        self.state == State::Empty && self.pending_joins.is_empty() && self.stores.is_empty()
    }

    /// A heartbeat. `RebalanceInProgress` asks the member to join again.
    pub(super) fn heartbeat(&mut self, caller: &Member, now: Timestamp) -> Result<(), Error> {
        self.check_alive()?;
        self.check_member(&caller.member, caller.instance.as_deref())?;
        self.check_generation(caller.generation)?;
        self.renew_session(&caller.member, now);
        match self.state {
            State::PreparingRebalance => Err(refusal(ErrorKind::RebalanceInProgress)),
            State::CompletingRebalance | State::Stable => Ok(()),
            State::Empty | State::Dead => Err(refusal(ErrorKind::UnknownMemberId)),
        }
    }

    /// Members leave, each known by its id or, from an administrator, by its instance alone.
    pub(super) fn leave(
        &mut self,
        leaving: &[Leaving],
        now: Timestamp,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        self.check_alive()?;
        let results: Vec<_> = leaving
            .iter()
            .map(|leaving| self.leave_one(leaving))
            .collect();
        if results.iter().any(Result::is_ok) {
            match self.state {
                State::Stable | State::CompletingRebalance => {
                    let reason = leaving.iter().find(|leaving| !leaving.reason.is_empty());
                    let reason = reason.map_or("", |leaving| &leaving.reason);
                    self.prepare_rebalance(&describe("members leave", reason), now);
                }
                State::PreparingRebalance => self.maybe_complete_join(now),
                State::Empty | State::Dead => {}
            }
        }
        Ok(results)
    }

    fn leave_one(&mut self, leaving: &Leaving) -> Result<(), Error> {
        let instance = leaving.instance.as_deref();
        if leaving.member.is_empty() {
            let member = instance.and_then(|instance| self.members.member_of_instance(instance));
            let Some(member) = member.map(str::to_owned) else {
                return Err(refusal(ErrorKind::UnknownMemberId));
            };
            self.remove_member(&member);
        } else if self.pending_joins.remove(&leaving.member).is_none() {
            self.check_member(&leaving.member, instance)?;
            self.remove_member(&leaving.member);
        }
        Ok(())
    }

    /// Whether offsets may be committed in the caller's name. Keeps its session alive.
    pub(super) fn check_commit(
        &mut self,
        caller: &Member,
        call: CommitCall,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.check_alive()?;
        if caller.generation < 0 && self.state == State::Empty {
            return Ok(()); // not using the group protocol, or an administrator
        }
        if caller.generation < 0 && caller.member.is_empty() && caller.instance.is_none() {
            return match call {
                CommitCall::Transactional => Ok(()), // the fields came later than the request
                CommitCall::Old | CommitCall::New => Err(refusal(ErrorKind::UnknownMemberId)),
            };
        }
        self.check_member(&caller.member, caller.instance.as_deref())?;
        self.check_generation(caller.generation)?;
        // Who belongs to the generation may end what it began (KIP-447).
        let may_wait = call != CommitCall::Transactional;
        if self.state == State::CompletingRebalance && may_wait {
            return Err(refusal(ErrorKind::RebalanceInProgress));
        }
        self.renew_session(&caller.member, now);
        Ok(())
    }

    /// Whether offsets may be deleted at all; those of subscribed topics may not.
    pub(super) fn check_delete_offsets(&self) -> Result<(), Error> {
        match self.state {
            State::Dead => Err(refusal(ErrorKind::GroupIdNotFound)),
            State::Empty => Ok(()),
            _ if self.is_of_consumers() => Ok(()),
            _ => Err(refusal(ErrorKind::NonEmptyGroup)),
        }
    }

    /// Starts the deletion: the group answers nobody any more until it is gone or
    /// [`Self::deletion_failed`].
    pub(super) fn start_deletion(&mut self) -> Result<(), Error> {
        match self.state {
            State::Dead => Err(refusal(ErrorKind::GroupIdNotFound)),
            State::Empty => {
                self.state = State::Dead;
                Ok(())
            }
            _ => Err(refusal(ErrorKind::NonEmptyGroup)),
        }
    }

    /// The group could not be deleted and lives on.
    pub(super) fn deletion_failed(&mut self) {
        if self.state == State::Dead {
            self.state = State::Empty;
        }
    }

    /// Whether members read the topic, as far as the group can tell: consumers whose
    /// subscription is not known are taken to.
    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.is_of_consumers(),
        }
    }

    /// From when on the retention of the offsets counts; subscribed topics' offsets never expire.
    pub(super) fn expiry(&self) -> Expiry {
        match (self.protocol_type.is_some(), self.state) {
            (_, State::Dead) => Expiry::Never,
            (false, _) => Expiry::SinceCommit,
            (true, State::Empty) => Expiry::Since(self.since),
            (true, State::Stable) if self.is_of_consumers() && self.subscribed.is_some() => {
                Expiry::SinceCommit
            }
            (true, _) => Expiry::Never,
        }
    }

    fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    fn check_alive(&self) -> Result<(), Error> {
        match self.state {
            State::Dead => Err(refusal(ErrorKind::CoordinatorNotAvailable)),
            _ => Ok(()),
        }
    }

    /// A named instance must be known and belong to this member, which must be known.
    fn check_member(&self, member: &str, instance: Option<&str>) -> Result<(), Error> {
        if let Some(instance) = instance {
            match self.members.member_of_instance(instance) {
                None => return Err(refusal(ErrorKind::UnknownMemberId)),
                Some(owner) if owner != member => {
                    return Err(refusal(ErrorKind::FencedInstanceId));
                }
                Some(_) => {}
            }
        }
        match self.members.contains(member) {
            true => Ok(()),
            false => Err(refusal(ErrorKind::UnknownMemberId)),
        }
    }

    fn check_generation(&self, generation: i32) -> Result<(), Error> {
        match generation == self.generation {
            true => Ok(()),
            false => Err(refusal(ErrorKind::IllegalGeneration)),
        }
    }

    fn enter(&mut self, state: State, now: Timestamp) {
        self.state = state;
        self.since = now;
    }

    /// Removes a member, telling its waiting requests.
    fn remove_member(&mut self, id: &str) {
        self.pending_joins.remove(id);
        self.pending_syncs.remove(id);
        let Some(member) = self.members.remove(id) else {
            return;
        };
        if let Some(join) = member.join() {
            self.refuse_join(join, "", ErrorKind::UnknownMemberId);
        }
        if let Some(sync) = member.sync {
            self.refuse_sync(sync, refusal(ErrorKind::UnknownMemberId));
        }
    }

    fn refuse_join(&mut self, ticket: Ticket, member: &str, kind: ErrorKind) {
        let refused = JoinRefused {
            error: refusal(kind),
            member: member.to_owned(),
        };
        self.effects.push(Effect::Joined(ticket, Err(refused)));
    }

    fn refuse_sync(&mut self, ticket: Ticket, error: Error) {
        self.effects.push(Effect::Synced(ticket, Err(error)));
    }

    fn read_subscriptions(&self) -> Option<BTreeSet<String>> {
        if !self.is_of_consumers() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        self.members.subscribed(self.protocol.as_deref()?)
    }

    /// Asks for the group's record to be stored, with these assignments or the current ones.
    fn store(&mut self, purpose: Purpose) {
        let assignments = match &purpose {
            Purpose::Assignment { assignments, .. } => Some(assignments),
            Purpose::Empty | Purpose::Replacement(_) => None,
        };
        let record = self.record(assignments);
        let token = Token(self.next_token);
        self.next_token += 1;
        self.stores.insert(token, purpose);
        self.effects.push(Effect::Store(token, record));
    }

    fn record(&self, assignments: Option<&BTreeMap<String, Bytes>>) -> GroupRecord {
        let members = self.members.iter().map(|(id, member)| MemberRecord {
            member: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            session_timeout: member.terms.session_timeout,
            rebalance_timeout: member.terms.rebalance_timeout,
            metadata: member.terms.metadata(self.protocol()),
            assignment: match assignments {
                Some(assignments) => assignments.get(id).cloned().unwrap_or_default(),
                None => member.assignment.clone(),
            },
        });
        GroupRecord {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.members.leader().map(str::to_owned),
            since: self.since,
            members: members.collect(),
        }
    }
}

/// What happened, with the client's own words for it, cut to a sane length.
fn describe(what: &str, words: &str) -> String {
    match words.char_indices().nth(REASON_CHARS_MAX) {
        _ if words.is_empty() => what.to_owned(),
        None => format!("{what}: {words}"),
        Some((end, _)) => format!("{what}: {}…", &words[..end]),
    }
}

/// A refusal with the sentence that goes with its kind.
pub(super) fn refusal(kind: ErrorKind) -> Error {
    let message = match kind {
        ErrorKind::CoordinatorNotAvailable => "the group is being deleted; try again",
        ErrorKind::FencedMemberEpoch => {
            "the member epoch is not the current one; give all partitions up and join again"
        }
        ErrorKind::FencedInstanceId => "another member took over this group.instance.id",
        ErrorKind::GroupIdNotFound => "there is no such group",
        ErrorKind::GroupMaxSizeReached => "the group has as many members as it may have",
        ErrorKind::GroupSubscribedToTopic => "members of the group are subscribed to the topic",
        ErrorKind::IllegalGeneration => "the generation is not the group's current one",
        ErrorKind::InconsistentGroupProtocol => {
            "the protocol type or protocols do not go together with those of the group"
        }
        ErrorKind::InvalidGroupId => "the group's name is empty or too long",
        ErrorKind::InvalidRegularExpression => "the pattern is not one of RE2",
        ErrorKind::InvalidSessionTimeout => "the session time-out is outside what the node allows",
        ErrorKind::MemberIdRequired => "join again with the member id given",
        ErrorKind::NonEmptyGroup => "the group has members",
        ErrorKind::OffsetMetadataTooLarge => "the metadata of the offset is too long",
        ErrorKind::RebalanceInProgress => "the group is rebalancing; join again",
        ErrorKind::StaleMemberEpoch => "the member epoch is not the current one",
        ErrorKind::UnknownMemberId => "the group does not know this member",
        ErrorKind::UnreleasedInstanceId => {
            "another member holds this group.instance.id and has not said that it goes"
        }
        _ => "the request was refused",
    };
    Error::new(kind, message)
}

/// What a failed store means to clients, as Kafka maps it.
pub(super) fn store_failed(error: Error) -> Error {
    let kind = match error.kind {
        ErrorKind::KafkaStorageError | ErrorKind::NotLeaderOrFollower => ErrorKind::NotCoordinator,
        ErrorKind::MessageTooLarge | ErrorKind::RecordListTooLarge => ErrorKind::UnknownServerError,
        kind => kind,
    };
    Error::new(kind, error.message)
}
