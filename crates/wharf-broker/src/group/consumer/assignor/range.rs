//! `range`: each topic's partitions in contiguous shares, in the order of the members.
//!
//! Topics with the same number of partitions and the same subscribers are split alike, so that
//! what is partitioned by the same key meets at one member. Members with an instance id come
//! first, by that id, so that one that restarts keeps its place.

use std::collections::BTreeMap;

use super::{Assignment, Sizes, Subscriber, Subscribers};
use crate::group::consumer::partitions::Partitions;

pub(super) fn assign(members: &Subscribers<'_>, sizes: &Sizes) -> Assignment {
    let mut ordered: Vec<(&String, &Subscriber<'_>)> = members.iter().collect();
    ordered.sort_by_key(|(id, member)| (member.instance.is_none(), &member.instance, *id));
    let mut assignment: Assignment = members
        .keys()
        .map(|id| (id.clone(), Partitions::default()))
        .collect();
    let mut subscribers = BTreeMap::<_, Vec<&String>>::new();
    for (id, member) in ordered {
        for topic in &member.topics {
            subscribers.entry(*topic).or_default().push(id);
        }
    }
    for (topic, subscribers) in subscribers {
        let size = sizes.get(&topic).copied().unwrap_or(0);
        let count = i32::try_from(subscribers.len()).unwrap_or(i32::MAX);
        let (share, rest) = (size / count, size % count);
        let mut next = 0;
        for (place, id) in (0..).zip(subscribers) {
            let end = next + share + i32::from(place < rest);
            if let Some(assigned) = assignment.get_mut(id) {
                assigned.extend((next..end).map(|partition| (topic, partition)));
            }
            next = end;
        }
    }
    assignment
}
