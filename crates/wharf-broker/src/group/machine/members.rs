//! The members of a group and what can be said about all of them at once.
//!
//! Invariants: a static instance maps to a member that is in the group; the leader is a member;
//! the counts (protocol support, waiting joins, bytes) agree with the members. They hold because
//! members change only through the methods here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wharf_message::Timestamp;

use super::Ticket;

/// One member.
#[derive(Clone, Debug)]
pub(in crate::group) struct Enrolled {
    pub(in crate::group) instance: Option<String>,
    pub(in crate::group) client_id: Arc<str>,
    pub(in crate::group) client_host: Arc<str>,
    pub(in crate::group) terms: Terms,
    pub(in crate::group) assignment: Bytes,
    /// Joined but not yet part of a generation: it cannot send heartbeats.
    pub(super) is_new: bool,
    /// When it is removed unless it is heard of; `None` while a waiting request vouches for it.
    pub(super) deadline: Option<Timestamp>,
    /// The sync it waits in.
    pub(super) sync: Option<Ticket>,
    join: Option<Ticket>,
}

/// What a member brings with every join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::group) struct Terms {
    pub(in crate::group) session_timeout: Duration,
    pub(in crate::group) rebalance_timeout: Duration,
    /// By preference; names are unique.
    pub(in crate::group) protocols: Vec<(String, Bytes)>,
}

impl Terms {
    fn bytes(&self) -> usize {
        self.protocols
            .iter()
            .map(|(name, metadata)| name.len() + metadata.len())
            .sum()
    }

    /// The metadata for `protocol`, empty when it is not supported.
    pub(in crate::group) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let found = self
            .protocols
            .iter()
            .find(|(name, _)| Some(name.as_str()) == protocol);
        found
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }
}

impl Enrolled {
    pub(in crate::group) fn new(
        instance: Option<String>,
        client_id: Arc<str>,
        client_host: Arc<str>,
        terms: Terms,
    ) -> Self {
        Self {
            instance,
            client_id,
            client_host,
            terms,
            assignment: Bytes::new(),
            is_new: false,
            deadline: None,
            sync: None,
            join: None,
        }
    }

    pub(super) fn is_joining(&self) -> bool {
        self.join.is_some()
    }

    pub(super) fn join(&self) -> Option<Ticket> {
        self.join
    }

    fn bytes(&self) -> usize {
        let instance = self.instance.as_ref().map_or(0, String::len);
        self.terms.bytes() + instance + self.client_id.len() + self.client_host.len()
    }
}

/// All members of a group.
#[derive(Clone, Debug, Default)]
pub(in crate::group) struct Members {
    members: BTreeMap<String, Enrolled>,
    /// Static members: instance id to member id.
    instances: BTreeMap<String, String>,
    leader: Option<String>,
    /// How many members support a protocol.
    support: BTreeMap<String, usize>,
    /// How many members wait in a join.
    joining: usize,
    /// What the members' own data takes.
    bytes: usize,
}

impl Members {
    pub(in crate::group) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn joining(&self) -> usize {
        self.joining
    }

    pub(in crate::group) fn get(&self, member: &str) -> Option<&Enrolled> {
        self.members.get(member)
    }

    pub(super) fn contains(&self, member: &str) -> bool {
        self.members.contains_key(member)
    }

    pub(in crate::group) fn iter(&self) -> impl Iterator<Item = (&String, &Enrolled)> {
        self.members.iter()
    }

    /// The ids, to go through while members change.
    pub(super) fn ids(&self) -> Vec<String> {
        self.members.keys().cloned().collect()
    }

    pub(in crate::group) fn leader(&self) -> Option<&str> {
        self.leader.as_deref()
    }

    pub(super) fn is_leader(&self, member: &str) -> bool {
        self.leader() == Some(member)
    }

    pub(super) fn member_of_instance(&self, instance: &str) -> Option<&str> {
        self.instances.get(instance).map(String::as_str)
    }

    /// The longest rebalance time-out of all members.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        let timeouts = self
            .members
            .values()
            .map(|member| member.terms.rebalance_timeout);
        timeouts.max().unwrap_or_default()
    }

    /// Adds a member; the first one leads.
    pub(super) fn add(&mut self, id: String, member: Enrolled) {
        self.remove(&id);
        if let Some(instance) = &member.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        self.count(&member.terms);
        self.bytes += member.bytes();
        self.joining += usize::from(member.is_joining());
        self.members.insert(id, member);
    }

    /// Removes a member; if it led, the first of the others leads.
    pub(super) fn remove(&mut self, id: &str) -> Option<Enrolled> {
        let member = self.members.remove(id)?;
        if let Some(instance) = &member.instance
            && self.member_of_instance(instance) == Some(id)
        {
            self.instances.remove(instance);
        }
        self.discount(&member.terms);
        self.bytes -= member.bytes();
        self.joining -= usize::from(member.is_joining());
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Gives a member another id; leadership goes with it.
    pub(super) fn rename(&mut self, old: &str, new: &str) {
        let led = self.is_leader(old);
        if let Some(member) = self.remove(old) {
            self.add(new.to_owned(), member);
            if led {
                self.leader = Some(new.to_owned());
            }
        }
    }

    /// Replaces what the member said at its last join.
    pub(super) fn set_terms(&mut self, id: &str, terms: Terms) {
        if !self.contains(id) {
            return;
        }
        self.count(&terms);
        if let Some(member) = self.members.get_mut(id) {
            self.bytes = self.bytes - member.terms.bytes() + terms.bytes();
            let old = std::mem::replace(&mut member.terms, terms);
            self.discount(&old);
        }
    }

    /// The member waits in this join now, or in none; returns the one it waited in.
    pub(super) fn set_join(&mut self, id: &str, join: Option<Ticket>) -> Option<Ticket> {
        let member = self.members.get_mut(id)?;
        let before = std::mem::replace(&mut member.join, join);
        self.joining = self.joining + usize::from(join.is_some()) - usize::from(before.is_some());
        before
    }

    /// The member waits in this sync now, or in none; returns the one it waited in.
    pub(super) fn set_sync(&mut self, id: &str, sync: Option<Ticket>) -> Option<Ticket> {
        std::mem::replace(&mut self.members.get_mut(id)?.sync, sync)
    }

    pub(super) fn set_deadline(&mut self, id: &str, deadline: Option<Timestamp>) {
        if let Some(member) = self.members.get_mut(id) {
            member.deadline = deadline;
        }
    }

    pub(super) fn set_assignment(&mut self, id: &str, assignment: Bytes) {
        if let Some(member) = self.members.get_mut(id) {
            member.assignment = assignment;
        }
    }

    /// The member is part of a generation now.
    pub(super) fn settle(&mut self, id: &str) {
        if let Some(member) = self.members.get_mut(id) {
            member.is_new = false;
        }
    }

    pub(super) fn set_leader(&mut self, leader: Option<String>) {
        self.leader = leader
            .filter(|leader| self.contains(leader))
            .or_else(|| self.leader.take());
    }

    /// Keeps the leader if it joined, else takes the first member that did. False when there is
    /// no member or none joined.
    pub(super) fn elect_leader(&mut self) -> bool {
        let joined = |id: &String| self.members.get(id).is_some_and(Enrolled::is_joining);
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let elected = self.members.iter().find(|(_, member)| member.is_joining());
        let Some((id, _)) = elected else { return false };
        self.leader = Some(id.clone());
        true
    }

    /// Whether every member supports one of these protocols; true for no members.
    pub(super) fn support_one_of(&self, protocols: &[(String, Bytes)]) -> bool {
        protocols.iter().any(|(name, _)| self.all_support(name))
    }

    fn all_support(&self, protocol: &str) -> bool {
        self.support.get(protocol).copied().unwrap_or(0) == self.members.len()
    }

    /// The protocol with the most votes: each member votes for the first of its own that all
    /// support. On a tie the first by name, so that the outcome is the same every time.
    pub(super) fn elect_protocol(&self) -> Option<String> {
        let mut votes = BTreeMap::<&str, usize>::new();
        for member in self.members.values() {
            let vote = member
                .terms
                .protocols
                .iter()
                .find(|(name, _)| self.all_support(name));
            if let Some((name, _)) = vote {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes
            .into_iter()
            .find(|(_, count)| *count == most)
            .map(|(name, _)| name.to_owned())
    }

    /// The topics all members subscribe to under `protocol`; `None` when one cannot be read.
    pub(super) fn subscribed(&self, protocol: &str) -> Option<BTreeSet<String>> {
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let metadata = member.terms.metadata(Some(protocol));
            crate::group::subscription::read(&metadata, &mut topics)?;
        }
        Some(topics)
    }

    fn count(&mut self, terms: &Terms) {
        for (name, _) in &terms.protocols {
            *self.support.entry(name.clone()).or_default() += 1;
        }
    }

    fn discount(&mut self, terms: &Terms) {
        for (name, _) in &terms.protocols {
            if let Some(count) = self.support.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.support.remove(name);
                }
            }
        }
    }
}
