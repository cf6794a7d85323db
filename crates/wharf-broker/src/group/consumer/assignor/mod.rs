//! The server's assignors: pure functions from who subscribes to what, to who shall read what.
//!
//! Every partition of a topic that somebody subscribes to goes to exactly one of its subscribers.
//! The same input gives the same assignment. Racks are not looked at: there is one node, so every
//! partition is equally near.

mod range;
#[cfg(test)]
mod tests;
mod uniform;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::partitions::Partitions;

/// The names of the assignors, the default first.
pub(crate) const NAMES: [&str; 2] = ["uniform", "range"];

/// What an assignor knows of a member.
#[derive(Clone, Debug, Default)]
pub(in crate::group) struct Subscriber<'a> {
    /// The static instance id.
    pub(in crate::group) instance: Option<String>,
    /// The topics it subscribes to, as far as they exist.
    pub(in crate::group) topics: BTreeSet<Uuid>,
    /// What it was to read so far.
    pub(in crate::group) current: Cow<'a, Partitions>,
}

/// Members by id.
pub(in crate::group) type Subscribers<'a> = BTreeMap<String, Subscriber<'a>>;
/// The number of partitions of every topic that somebody subscribes to.
pub(in crate::group) type Sizes = BTreeMap<Uuid, i32>;
/// What each member is to read; every member is in it.
pub(in crate::group) type Assignment = BTreeMap<String, Partitions>;

/// The assignment by the assignor of this name, which must be one of [`NAMES`].
pub(in crate::group) fn assign(name: &str, members: &Subscribers<'_>, sizes: &Sizes) -> Assignment {
    match name {
        "range" => range::assign(members, sizes),
        _ => uniform::assign(members, sizes),
    }
}

/// The assignor with the most votes; the earlier of [`NAMES`] on a tie or without votes.
pub(in crate::group) fn elect(votes: &[&str]) -> &'static str {
    let count = |name: &str| votes.iter().filter(|vote| **vote == name).count();
    let counted = NAMES.iter().rev().map(|name| (count(name), *name));
    // `max_by_key` keeps the last of equals.
    counted
        .max_by_key(|(votes, _)| *votes)
        .map_or(NAMES[0], |(_, name)| name)
}
