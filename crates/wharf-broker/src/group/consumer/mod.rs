//! The pure machine of one group of the consumer protocol (KIP-848).
//!
//! The group's epoch grows with every change of its members, their subscriptions or the topics
//! they read; each time the target (who shall read what) is computed anew, and every member comes
//! to it step by step with its own heartbeats ([`member`]). Members of the classic protocol take
//! part through [`classic`]; [`convert`] turns a group of one protocol into one of the other.
//!
//! Invariants: no partition is held by two members; epochs never go back. Nothing here reads a
//! clock, waits or writes: what a step changed is handed out by [`ConsumerGroup::take_changes`],
//! and nobody may be answered before it is durable.

pub(super) mod assignor;
mod classic;
mod convert;
mod heartbeat;
mod member;
mod partitions;
mod record;
#[cfg(test)]
mod tests;
mod time;
mod topics;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;
use wharf_log::StateChange;
use wharf_message::Timestamp;

pub(crate) use assignor::NAMES as ASSIGNORS;
pub(super) use classic::ClassicJoin;
pub(super) use heartbeat::{Request, check_request};
pub(super) use member::Member;
pub(super) use partitions::Partitions;
pub(super) use record::{GroupHeader, is_header};
pub(super) use topics::Catalog;

use super::machine::{Expiry, refusal};
use super::{CommitCall, keys};
use crate::{Error, ErrorKind, Options};
use member::{Deadlines, Holders};
use topics::{Patterns, TopicSize, fingerprint};

/// The limits a group of the consumer protocol lives under; some may be set for a single group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// `group.consumer.max.size`.
    pub(super) members_max: usize,
    /// `group.consumer.session.timeout.ms`, or the group's own.
    pub(super) session_timeout: Duration,
    /// `group.consumer.heartbeat.interval.ms`, or the group's own.
    pub(super) heartbeat_interval: Duration,
}

impl From<&Options> for Limits {
    fn from(options: &Options) -> Self {
        Self {
            members_max: options.consumer_members_max,
            session_timeout: options.consumer_session_timeout,
            heartbeat_interval: options.consumer_heartbeat_interval,
        }
    }
}

/// What a step happens in.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) now: Timestamp,
    pub(super) limits: Limits,
    pub(super) catalog: &'a dyn Catalog,
}

/// One group.
#[derive(Clone, Debug)]
pub(super) struct ConsumerGroup {
    epoch: i32,
    /// The epoch that the target was computed for.
    target_epoch: i32,
    assignor: &'static str,
    members: BTreeMap<String, Member>,
    /// Static members: instance id to member id.
    instances: BTreeMap<String, String>,
    holders: Holders,
    patterns: Patterns,
    /// What is subscribed to, as it was when the epoch last changed.
    fingerprint: u64,
    /// The catalog's version when it was last looked at.
    seen: Option<u64>,
    /// When the group became empty, or came into being.
    since: Timestamp,
    /// No deadline is earlier than this.
    wake: Option<Timestamp>,
    is_dead: bool,
    /// How often the group was stored; tells stored headers apart.
    revision: u64,
    /// Members whose records are not what they are here.
    unsaved: BTreeSet<String>,
    /// Something changed since the last [`Self::take_changes`].
    is_changed: bool,
}

impl ConsumerGroup {
    /// An empty group.
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            epoch: 0,
            target_epoch: 0,
            assignor: ASSIGNORS[0],
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            holders: Holders::default(),
            patterns: Patterns::default(),
            fingerprint: fingerprint(&BTreeMap::new()),
            seen: None,
            since: now,
            wake: None,
            is_dead: false,
            revision: 0,
            unsaved: BTreeSet::new(),
            is_changed: false,
        }
    }

    /// The group as it was stored. Members get a full session to be heard of.
    pub(super) fn recover(
        header: &GroupHeader,
        members: Vec<(String, Member)>,
        around: Around<'_>,
    ) -> Self {
        let mut group = Self::new(around.now);
        group.epoch = header.epoch;
        group.target_epoch = header.target_epoch;
        group.assignor = header.assignor;
        group.fingerprint = header.fingerprint;
        group.revision = header.revision;
        group.since = header.since;
        for (id, member) in members {
            if let Some(pattern) = &member.pattern {
                // It was compiled before it was stored. Should a newer node not take it any
                // more, it selects nothing.
                group.patterns.add(pattern, around.catalog).ok();
            }
            group.enlist(id.clone(), member);
            group.renew_session(&id, around);
            group.expect_revocation(&id, around.now);
        }
        group
    }

    /// Kafka's name of the state.
    pub(super) fn state(&self) -> &'static str {
        let settled = |member: &Member| member.is_settled(self.target_epoch);
        match () {
            () if self.is_dead => "Dead",
            () if self.members.is_empty() => "Empty",
            () if self.epoch > self.target_epoch => "Assigning",
            () if self.members.values().all(settled) => "Stable",
            () => "Reconciling",
        }
    }

    pub(super) fn since(&self) -> Timestamp {
        self.since
    }

    pub(super) fn epoch(&self) -> i32 {
        self.epoch
    }

    pub(super) fn target_epoch(&self) -> i32 {
        self.target_epoch
    }

    pub(super) fn assignor(&self) -> &'static str {
        self.assignor
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn is_dead(&self) -> bool {
        self.is_dead
    }

    pub(super) fn members(&self) -> impl ExactSizeIterator<Item = (&String, &Member)> {
        self.members.iter()
    }

    /// Whether members read the topic.
    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        self.members.values().any(|member| {
            let by_pattern = member.pattern.iter();
            let mut by_pattern = by_pattern.flat_map(|pattern| self.patterns.topics(pattern));
            member.topics.contains(topic) || by_pattern.any(|selected| selected == topic)
        })
    }

    /// From when on the retention of the offsets counts; subscribed topics' offsets never expire.
    pub(super) fn expiry(&self) -> Expiry {
        match () {
            () if self.is_dead => Expiry::Never,
            () if self.members.is_empty() => Expiry::Since(self.since),
            () => Expiry::SinceCommit,
        }
    }

    /// Whether offsets may be committed in the caller's name.
    pub(super) fn check_commit(
        &self,
        caller: &super::Member,
        call: CommitCall,
    ) -> Result<(), Error> {
        self.check_alive()?;
        if caller.generation < 0 && self.members.is_empty() {
            return Ok(()); // not using the group protocol, or an administrator
        }
        let is_nameless =
            caller.generation < 0 && caller.member.is_empty() && caller.instance.is_none();
        if is_nameless && call == CommitCall::Transactional {
            return Ok(()); // the fields came later than the request
        }
        let member = self.member_of(caller)?;
        if call == CommitCall::Old && member.classic.is_none() {
            return Err(Error::new(
                ErrorKind::UnsupportedVersion,
                "members of the consumer protocol commit with OffsetCommit version 9 or later",
            ));
        }
        check_epoch(caller.generation, member, call)
    }

    /// Whether the caller, if it names itself, is a member in its current epoch.
    pub(super) fn check_fetch(&self, caller: &super::Member) -> Result<(), Error> {
        if caller.generation < 0 && caller.member.is_empty() {
            return Ok(());
        }
        self.check_alive()?;
        check_epoch(caller.generation, self.member_of(caller)?, CommitCall::New)
    }

    fn member_of(&self, caller: &super::Member) -> Result<&Member, Error> {
        if let Some(instance) = &caller.instance {
            match self.instances.get(instance) {
                None => return Err(refusal(ErrorKind::UnknownMemberId)),
                Some(holder) if *holder != caller.member => {
                    return Err(refusal(ErrorKind::FencedInstanceId));
                }
                Some(_) => {}
            }
        }
        let member = self.members.get(&caller.member);
        member.ok_or_else(|| refusal(ErrorKind::UnknownMemberId))
    }

    pub(super) fn check_alive(&self) -> Result<(), Error> {
        match self.is_dead {
            true => Err(refusal(ErrorKind::CoordinatorNotAvailable)),
            false => Ok(()),
        }
    }

    /// Starts the deletion: the group answers nobody any more until it is gone or
    /// [`Self::deletion_failed`].
    pub(super) fn start_deletion(&mut self) -> Result<(), Error> {
        match () {
            () if self.is_dead => Err(refusal(ErrorKind::GroupIdNotFound)),
            () if self.members.is_empty() => {
                self.is_dead = true;
                Ok(())
            }
            () => Err(refusal(ErrorKind::NonEmptyGroup)),
        }
    }

    /// The group could not be deleted and lives on.
    pub(super) fn deletion_failed(&mut self) {
        self.is_dead = false;
    }

    /// What to write so that a restart finds the group as it is; empty when nothing changed. Every
    /// stored header differs from the one before.
    pub(super) fn take_changes(&mut self, name: &str) -> (Vec<StateChange>, BTreeSet<String>) {
        if !std::mem::take(&mut self.is_changed) {
            return (Vec::new(), BTreeSet::new());
        }
        self.revision += 1;
        let unsaved = std::mem::take(&mut self.unsaved);
        let mut changes = vec![StateChange {
            key: keys::group(name),
            value: Some(self.header().encode()),
        }];
        changes.extend(unsaved.iter().map(|id| StateChange {
            key: keys::member(name, id),
            value: self.members.get(id).map(Member::encode),
        }));
        (changes, unsaved)
    }

    /// The last changes were not stored: they are part of the next ones.
    pub(super) fn not_stored(&mut self, members: BTreeSet<String>) {
        self.is_changed = true;
        self.unsaved.extend(members);
    }

    /// What to write to remove every record of members.
    pub(super) fn removal(&self, name: &str) -> Vec<StateChange> {
        let ids = self.members.keys().chain(&self.unsaved);
        ids.map(|id| StateChange {
            key: keys::member(name, id),
            value: None,
        })
        .collect()
    }

    fn header(&self) -> GroupHeader {
        GroupHeader {
            revision: self.revision,
            epoch: self.epoch,
            target_epoch: self.target_epoch,
            assignor: self.assignor,
            fingerprint: self.fingerprint,
            since: self.since,
        }
    }

    /// The header as it was last handed out to be stored.
    pub(super) fn stored_header(&self) -> Bytes {
        self.header().encode()
    }

    fn save(&mut self, id: &str) {
        self.is_changed = true;
        self.unsaved.insert(id.to_owned());
    }

    /// Puts a member in, with everything that is known of it elsewhere. It must hold nothing that
    /// another holds.
    fn enlist(&mut self, id: String, member: Member) {
        if let Some(instance) = &member.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.holders.hold(&member.assigned, &id);
        self.holders.hold(&member.revoking, &id);
        self.members.insert(id, member);
    }

    /// Takes a member out, with everything that is known of it elsewhere.
    fn strike(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        if let Some(instance) = &member.instance
            && self
                .instances
                .get(instance)
                .is_some_and(|holder| holder == id)
        {
            self.instances.remove(instance);
        }
        self.holders.release(&member.assigned);
        self.holders.release(&member.revoking);
        self.save(id);
        Some(member)
    }

    /// Removes members for good; the others get what they had.
    fn remove(&mut self, ids: &[String], around: Around<'_>) {
        let mut is_any = false;
        for id in ids {
            is_any |= self.strike(id).is_some();
        }
        if is_any {
            if self.members.is_empty() {
                self.since = around.now;
            }
            self.advance(around.catalog);
        }
    }

    /// Begins the next epoch: the target is computed anew.
    fn advance(&mut self, catalog: &dyn Catalog) {
        let topics = self.topics(catalog);
        let sizes = sizes(&topics);
        let assignor = self.elected();
        let subscribers = self.members.iter().map(|(id, member)| {
            let found = self.names(member).filter_map(|name| topics.get(name));
            let subscriber = assignor::Subscriber {
                instance: member.instance.clone(),
                topics: found.map(|topic| topic.id).collect(),
                current: Cow::Borrowed(&member.target),
            };
            (id.clone(), subscriber)
        });
        let assignment = assignor::assign(assignor, &subscribers.collect(), &sizes);
        self.is_changed = true;
        self.epoch = self.epoch.saturating_add(1);
        self.fingerprint = fingerprint(&sizes);
        self.assignor = assignor;
        for (id, target) in assignment {
            if let Some(member) = self.members.get_mut(&id)
                && member.target != target
            {
                member.target = target;
                self.unsaved.insert(id);
            }
        }
        self.target_epoch = self.epoch;
    }

    fn elected(&self) -> &'static str {
        let members = self.members.values();
        let votes = members.filter_map(|member| member.assignor.as_deref());
        assignor::elect(&votes.collect::<Vec<_>>())
    }

    /// The names of the topics a member subscribes to, whether they exist or not.
    fn names<'a>(&'a self, member: &'a Member) -> impl Iterator<Item = &'a str> {
        let by_pattern = member.pattern.iter();
        let by_pattern = by_pattern.flat_map(|pattern| self.patterns.topics(pattern));
        member.topics.iter().map(String::as_str).chain(by_pattern)
    }

    /// The topics subscribed to that exist, by name.
    fn topics(&self, catalog: &dyn Catalog) -> BTreeMap<&str, TopicSize> {
        let members = self.members.values();
        let names: BTreeSet<&str> = members.flat_map(|member| self.names(member)).collect();
        let found = |name| Some((name, catalog.by_name(name)?));
        names.into_iter().filter_map(found).collect()
    }

    /// What tells whether those are others than before.
    fn look(&self, catalog: &dyn Catalog) -> u64 {
        fingerprint(&sizes(&self.topics(catalog)))
    }

    /// Looks whether topics came, went or grew; if any of them is subscribed to, begins an epoch.
    fn look_around(&mut self, catalog: &dyn Catalog) {
        let version = catalog.version();
        if self.seen.replace(version) == Some(version) {
            return;
        }
        self.patterns.refresh(catalog);
        if !self.members.is_empty() && self.look(catalog) != self.fingerprint {
            self.advance(catalog);
        }
    }

    fn reconcile(&mut self, id: &str, owned: Option<&Partitions>, now: Timestamp) -> bool {
        let Some(member) = self.members.get_mut(id) else {
            return false;
        };
        let changed = member.reconcile(id, owned, self.target_epoch, &mut self.holders);
        if changed {
            self.save(id);
            self.expect_revocation(id, now);
        }
        changed
    }

    /// Topics with their partitions, by id.
    pub(super) fn listed(partitions: &Partitions) -> Vec<(Uuid, Vec<i32>)> {
        let topics = partitions.topics();
        topics
            .map(|(topic, indexes)| (topic, indexes.iter().copied().collect()))
            .collect()
    }
}

/// How many partitions each topic has.
fn sizes(topics: &BTreeMap<&str, TopicSize>) -> assignor::Sizes {
    let topics = topics.values();
    topics.map(|topic| (topic.id, topic.partitions)).collect()
}

fn check_epoch(epoch: i32, member: &Member, call: CommitCall) -> Result<(), Error> {
    match () {
        () if epoch == member.epoch => Ok(()),
        () if member.classic.is_some() || call == CommitCall::Transactional => {
            Err(refusal(ErrorKind::IllegalGeneration))
        }
        () => Err(refusal(ErrorKind::StaleMemberEpoch)),
    }
}
