//! `uniform`: everybody gets as much as everybody else, as far as the subscriptions allow, and
//! keeps what it has as far as that allows.
//!
//! Members keep their partitions, what nobody has goes to whoever has least, and then single
//! partitions move from whoever has most to whoever has at least two less. Every move makes the
//! shares more equal, so it ends; between members of equal subscriptions nothing moves that need
//! not. Members go by their places in the order of their ids, so that a step costs little more
//! than finding whoever has least or most: the target is computed anew with every member that joins.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{Assignment, Sizes, Subscriber, Subscribers};
use crate::group::consumer::partitions::{Partition, Partitions};

pub(super) fn assign(members: &Subscribers<'_>, sizes: &Sizes) -> Assignment {
    let mut shares = Shares::new(members, sizes);
    shares.keep(members);
    shares.hand_out(sizes);
    shares.balance();
    members.keys().cloned().zip(shares.by_member).collect()
}

/// Members, by how much each has: the first has least.
type Loads = BTreeSet<(usize, usize)>;

struct Shares {
    /// By the member's place.
    by_member: Vec<Partitions>,
    /// How many those are.
    counts: Vec<usize>,
    /// Each partition's owner.
    owners: BTreeMap<Uuid, Vec<Option<usize>>>,
    /// For each topic, the classes of equal subscriptions that contain it.
    classes_of: BTreeMap<Uuid, Vec<usize>>,
    /// By the member's place.
    class_of: Vec<usize>,
    /// The members of each class.
    loads: Vec<Loads>,
    /// All members.
    all: Loads,
}

impl Shares {
    /// Nobody has anything.
    fn new(members: &Subscribers<'_>, sizes: &Sizes) -> Self {
        let mut classes = BTreeMap::<&BTreeSet<Uuid>, usize>::new();
        let mut classes_of = BTreeMap::<Uuid, Vec<usize>>::new();
        let mut class_of = Vec::with_capacity(members.len());
        for Subscriber { topics, .. } in members.values() {
            let next = classes.len();
            let class = *classes.entry(topics).or_insert(next);
            if class == next {
                for topic in topics {
                    classes_of.entry(*topic).or_default().push(class);
                }
            }
            class_of.push(class);
        }
        let nobody = |size: i32| vec![None; usize::try_from(size).unwrap_or(0)];
        let owners = sizes.iter().map(|(topic, size)| (*topic, nobody(*size)));
        Self {
            by_member: vec![Partitions::default(); members.len()],
            counts: vec![0; members.len()],
            owners: owners.collect(),
            classes_of,
            loads: vec![Loads::new(); classes.len()],
            class_of,
            all: Loads::new(),
        }
    }

    /// Everybody keeps what exists, is subscribed to and is not kept by another.
    fn keep(&mut self, members: &Subscribers<'_>) {
        for (place, member) in members.values().enumerate() {
            for partition in member.current.iter() {
                let is_subscribed = member.topics.contains(&partition.0);
                if let Some(owner @ None) = self.owner(partition)
                    && is_subscribed
                {
                    *owner = Some(place);
                    self.by_member[place].insert(partition);
                    self.counts[place] += 1;
                }
            }
            let load = (self.counts[place], place);
            self.loads[self.class_of[place]].insert(load);
            self.all.insert(load);
        }
    }

    /// What nobody has goes to whoever has least; topics with few subscribers first, because
    /// the others have more to choose from.
    fn hand_out(&mut self, sizes: &Sizes) {
        let subscribers = |topic: &Uuid| -> usize {
            let classes = self.classes_of.get(topic).into_iter().flatten();
            classes.map(|class| self.loads[*class].len()).sum()
        };
        let topics = sizes.iter();
        let mut topics: Vec<_> = topics
            .map(|(topic, size)| (subscribers(topic), *topic, *size))
            .collect();
        topics.sort_unstable();
        for (_, topic, size) in topics {
            for partition in (0..size).map(|index| (topic, index)) {
                if let Some(None) = self.owner(partition)
                    && let Some((_, place)) = self.least(topic)
                {
                    self.give(partition, place);
                }
            }
        }
    }

    /// Moves single partitions, from whoever has most, until no move would make two shares more
    /// equal.
    fn balance(&mut self) {
        while let Some((partition, place)) = self.next_move() {
            self.give(partition, place);
        }
    }

    fn next_move(&self) -> Option<(Partition, usize)> {
        let (lowest, _) = *self.all.first()?;
        let heavy = self.all.iter().rev();
        let mut heavy = heavy.take_while(|(load, _)| *load > lowest + 1);
        heavy.find_map(|(load, place)| self.move_from(*load, *place))
    }

    /// A partition that somebody with at least two less could have; of the best topic the last.
    fn move_from(&self, load: usize, place: usize) -> Option<(Partition, usize)> {
        let moves = self.by_member[place].topics();
        let moves = moves.filter_map(|(topic, partitions)| {
            let (least, taker) = self.least(topic)?;
            (load > least + 1).then_some((least, (topic, *partitions.last()?), taker))
        });
        let (_, partition, taker) =
            moves.min_by_key(|(least, partition, _)| (*least, *partition))?;
        Some((partition, taker))
    }

    /// The subscriber of the topic that has least, and how much.
    fn least(&self, topic: Uuid) -> Option<(usize, usize)> {
        let classes = self.classes_of.get(&topic)?.iter();
        let firsts = classes.filter_map(|class| self.loads[*class].first());
        firsts.min().copied()
    }

    /// Who has a partition; `None` when there is no such partition.
    fn owner(&mut self, (topic, index): Partition) -> Option<&mut Option<usize>> {
        let owners = self.owners.get_mut(&topic)?;
        owners.get_mut(usize::try_from(index).ok()?)
    }

    /// Gives a partition to a member, taking it from whoever has it.
    fn give(&mut self, partition: Partition, place: usize) {
        let Some(owner) = self.owner(partition) else {
            return;
        };
        if let Some(before) = owner.replace(place) {
            self.by_member[before].remove(partition);
            self.count(before, self.counts[before] - 1);
        }
        self.by_member[place].insert(partition);
        self.count(place, self.counts[place] + 1);
    }

    fn count(&mut self, place: usize, count: usize) {
        let before = std::mem::replace(&mut self.counts[place], count);
        for loads in [&mut self.loads[self.class_of[place]], &mut self.all] {
            loads.remove(&(before, place));
            loads.insert((count, place));
        }
    }
}
