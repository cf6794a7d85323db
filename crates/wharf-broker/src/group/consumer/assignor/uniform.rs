//! `uniform`: everybody gets as much as everybody else, as far as the subscriptions allow, and
//! keeps what it has as far as that allows.
//!
//! Members keep their partitions, what nobody has goes to whoever has least, and then single
//! partitions move from whoever has most to whoever has at least two less. Every move makes the
//! shares more equal, so it ends; between members of equal subscriptions nothing moves that need
//! not.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{Assignment, Sizes, Subscribers};
use crate::group::consumer::partitions::{Partition, Partitions};

pub(super) fn assign(members: &Subscribers, sizes: &Sizes) -> Assignment {
    let mut shares = Shares::new(members, sizes);
    shares.keep(members);
    shares.hand_out();
    shares.balance();
    shares.by_member
}

/// Members that subscribe to the same topics, by how much each has: the first has least.
type Loads = BTreeSet<(usize, String)>;

struct Shares<'a> {
    sizes: &'a Sizes,
    by_member: Assignment,
    owners: BTreeMap<Partition, String>,
    /// For each topic, the classes of equal subscriptions that contain it.
    classes_of: BTreeMap<Uuid, Vec<usize>>,
    class_of: BTreeMap<String, usize>,
    loads: Vec<Loads>,
}

impl<'a> Shares<'a> {
    fn new(members: &Subscribers, sizes: &'a Sizes) -> Self {
        let mut classes = BTreeMap::<&BTreeSet<Uuid>, usize>::new();
        let mut shares = Self {
            sizes,
            by_member: Assignment::new(),
            owners: BTreeMap::new(),
            classes_of: BTreeMap::new(),
            class_of: BTreeMap::new(),
            loads: Vec::new(),
        };
        for (id, member) in members {
            let next = shares.loads.len();
            let class = *classes.entry(&member.topics).or_insert(next);
            if class == next {
                shares.loads.push(Loads::new());
                for topic in &member.topics {
                    shares.classes_of.entry(*topic).or_default().push(class);
                }
            }
            shares.class_of.insert(id.clone(), class);
            shares.loads[class].insert((0, id.clone()));
            shares.by_member.insert(id.clone(), Partitions::default());
        }
        shares
    }

    /// Everybody keeps what exists, is subscribed to and is not kept by another.
    fn keep(&mut self, members: &Subscribers) {
        for (id, member) in members {
            for partition in member.current.iter() {
                let exists = self
                    .sizes
                    .get(&partition.0)
                    .is_some_and(|size| partition.1 < *size);
                if exists
                    && member.topics.contains(&partition.0)
                    && !self.owners.contains_key(&partition)
                {
                    self.give(partition, id);
                }
            }
        }
    }

    /// What nobody has goes to whoever has least; topics with few subscribers first, because
    /// the others have more to choose from.
    fn hand_out(&mut self) {
        let subscribers = |topic: &Uuid| -> usize {
            let classes = self.classes_of.get(topic).into_iter().flatten();
            classes.map(|class| self.loads[*class].len()).sum()
        };
        let mut topics: Vec<_> = self
            .sizes
            .iter()
            .map(|(topic, size)| (subscribers(topic), *topic, *size))
            .collect();
        topics.sort_unstable();
        for (_, topic, size) in topics {
            for partition in (0..size).map(|index| (topic, index)) {
                if !self.owners.contains_key(&partition)
                    && let Some((_, id)) = self.least(topic)
                {
                    self.give(partition, &id);
                }
            }
        }
    }

    /// Moves single partitions, from whoever has most, until no move would make two shares more
    /// equal.
    fn balance(&mut self) {
        while let Some((partition, id)) = self.next_move() {
            self.give(partition, &id);
        }
    }

    fn next_move(&self) -> Option<(Partition, String)> {
        let mut loads: Vec<(usize, &String)> = self
            .by_member
            .iter()
            .map(|(id, partitions)| (partitions.len(), id))
            .collect();
        loads.sort_unstable();
        let lowest = loads.first()?.0;
        let heavy = loads.into_iter().rev();
        let mut heavy = heavy.take_while(|(load, _)| *load > lowest + 1);
        heavy.find_map(|(load, id)| self.move_from(load, id))
    }

    /// A partition that somebody with at least two less could have; of the best topic the last.
    fn move_from(&self, load: usize, id: &str) -> Option<(Partition, String)> {
        let topics = self.by_member.get(id)?.topics();
        let moves = topics.filter_map(|(topic, partitions)| {
            let (least, taker) = self.least(topic)?;
            (load > least + 1).then_some((least, (topic, *partitions.last()?), taker))
        });
        let (_, partition, taker) =
            moves.min_by_key(|(least, partition, _)| (*least, *partition))?;
        Some((partition, taker))
    }

    /// The subscriber of the topic that has least, and how much.
    fn least(&self, topic: Uuid) -> Option<(usize, String)> {
        let classes = self.classes_of.get(&topic)?.iter();
        let firsts = classes.filter_map(|class| self.loads[*class].first());
        firsts.min().cloned()
    }

    /// Gives a partition to a member, taking it from whoever has it.
    fn give(&mut self, partition: Partition, id: &str) {
        if let Some(owner) = self.owners.insert(partition, id.to_owned()) {
            self.change(&owner, |partitions| partitions.remove(partition));
        }
        self.change(id, |partitions| {
            partitions.insert(partition);
        });
    }

    fn change(&mut self, id: &str, change: impl FnOnce(&mut Partitions)) {
        let (Some(partitions), Some(class)) = (self.by_member.get_mut(id), self.class_of.get(id))
        else {
            return;
        };
        let loads = &mut self.loads[*class];
        loads.remove(&(partitions.len(), id.to_owned()));
        change(partitions);
        loads.insert((partitions.len(), id.to_owned()));
    }
}
