//! A member and its way from what it reads to what it shall read.
//!
//! A member reads `assigned`. What it must stop reading moves to `revoking` and stays there until
//! the member says that it does not read it any more; meanwhile it keeps its epoch and gets
//! nothing new. Then it comes to the epoch of the target and gets what nobody else holds. So no
//! partition is ever held by two.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wharf_message::Timestamp;

use super::partitions::{Partition, Partitions};

/// The epoch of a static member that said it will come back.
pub(in crate::group) const AWAY: i32 = -2;

/// One member.
#[derive(Clone, Debug, Default)]
pub(in crate::group) struct Member {
    pub(in crate::group) instance: Option<String>,
    pub(in crate::group) rack: Option<String>,
    pub(in crate::group) client_id: Arc<str>,
    pub(in crate::group) client_host: Arc<str>,
    pub(in crate::group) rebalance_timeout: Duration,
    /// The topics subscribed to by name.
    pub(in crate::group) topics: BTreeSet<String>,
    /// The topics subscribed to by pattern.
    pub(in crate::group) pattern: Option<String>,
    /// The assignor it votes for.
    pub(in crate::group) assignor: Option<String>,
    /// What it brings when it speaks the classic protocol.
    pub(in crate::group) classic: Option<Classic>,
    pub(in crate::group) epoch: i32,
    pub(in crate::group) previous_epoch: i32,
    pub(in crate::group) assigned: Partitions,
    pub(in crate::group) revoking: Partitions,
    pub(in crate::group) target: Partitions,
    pub(in crate::group) deadlines: Deadlines,
}

/// A member of the classic protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::group) struct Classic {
    pub(in crate::group) session_timeout: Duration,
    /// By preference.
    pub(in crate::group) protocols: Vec<(String, Bytes)>,
}

/// When a member is removed, unless something happens before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::group) struct Deadlines {
    /// Unless it is heard of.
    pub(in crate::group) session: Option<Timestamp>,
    /// Unless it has stopped reading what it shall not read any more.
    pub(in crate::group) revocation: Option<Timestamp>,
    /// Unless it joins again, being a classic member that was told to.
    pub(in crate::group) join: Option<Timestamp>,
    /// Unless it syncs, being a classic member that has joined.
    pub(in crate::group) sync: Option<Timestamp>,
}

impl Deadlines {
    pub(in crate::group) fn first(self) -> Option<Timestamp> {
        let all = [self.session, self.revocation, self.join, self.sync];
        all.into_iter().flatten().min()
    }
}

/// Who holds each partition: reads it, or has not yet said that it stopped.
#[derive(Clone, Debug, Default)]
pub(in crate::group) struct Holders(BTreeMap<Partition, String>);

impl Holders {
    pub(in crate::group) fn holder(&self, partition: Partition) -> Option<&str> {
        self.0.get(&partition).map(String::as_str)
    }

    pub(super) fn release(&mut self, partitions: &Partitions) {
        for partition in partitions.iter() {
            self.0.remove(&partition);
        }
    }

    pub(super) fn hold(&mut self, partitions: &Partitions, id: &str) {
        for partition in partitions.iter() {
            self.0.insert(partition, id.to_owned());
        }
    }
}

impl Member {
    /// Whether it reads exactly what it shall.
    pub(in crate::group) fn is_settled(&self, target_epoch: i32) -> bool {
        self.epoch == target_epoch && self.revoking.is_empty() && self.assigned == self.target
    }

    /// Whether something it shall read is still held by another.
    pub(in crate::group) fn waits_for_others(&self, id: &str, holders: &Holders) -> bool {
        let missing = self.target.without(&self.assigned);
        missing
            .iter()
            .any(|partition| holders.holder(partition).is_some_and(|holder| holder != id))
    }

    /// Brings the member as near to its target as it can be. `owned` is what it says it reads;
    /// `None` when it does not say. Returns whether anything changed.
    pub(super) fn reconcile(
        &mut self,
        id: &str,
        owned: Option<&Partitions>,
        target_epoch: i32,
        holders: &mut Holders,
    ) -> bool {
        if self.is_settled(target_epoch) {
            return false;
        }
        let still_reads =
            |partitions: &Partitions| owned.is_none_or(|owned| owned.meets(partitions));
        if !self.revoking.is_empty() && still_reads(&self.revoking) {
            return false;
        }
        let before = (self.epoch, self.assigned.clone(), self.revoking.clone());
        holders.release(&self.revoking);
        let keeps = self.assigned.both(&self.target);
        let gives_up = self.assigned.without(&keeps);
        if !gives_up.is_empty() && still_reads(&gives_up) {
            self.assigned = keeps;
            self.revoking = gives_up;
        } else {
            holders.release(&gives_up);
            let missing = self.target.without(&keeps);
            let free = missing.iter().filter(|one| holders.holder(*one).is_none());
            let gets: Partitions = free.collect();
            holders.hold(&gets, id);
            self.assigned = keeps;
            self.assigned.extend(gets.iter());
            self.revoking = Partitions::default();
            self.enter(target_epoch);
        }
        before != (self.epoch, self.assigned.clone(), self.revoking.clone())
    }

    /// Comes to an epoch, remembering the one before.
    pub(super) fn enter(&mut self, epoch: i32) {
        if self.epoch != epoch {
            self.previous_epoch = self.epoch;
            self.epoch = epoch;
        }
    }
}
