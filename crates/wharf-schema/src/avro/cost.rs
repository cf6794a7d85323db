//! The smallest way to make something out of parts, when parts may be made of each other.
//!
//! Knuth's generalisation of Dijkstra's algorithm: what is cheapest is settled first, so recursion
//! needs no bound, and what cannot be made at all (a record within itself) is never settled.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How a thing is made of others, given by their numbers.
#[derive(Debug)]
pub(super) enum Rule {
    /// Of nothing, at this cost.
    Leaf(u64),
    /// Of all of these; costs add up.
    All(Vec<usize>),
    /// Of one of these, at what it costs and this much more.
    One(Vec<(usize, u64)>),
}

/// What each thing costs at least.
#[derive(Debug)]
pub(super) struct Costs(Vec<Option<Settled>>);

#[derive(Clone, Copy, Debug)]
struct Settled {
    cost: u64,
    /// Which of the parts of [`Rule::One`] it is made of.
    choice: usize,
}

impl Costs {
    /// Settles all that can be made.
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut users: Vec<Vec<(usize, usize)>> = vec![Vec::new(); rules.len()];
        let mut waiting = vec![0usize; rules.len()];
        let mut sums = vec![1u64; rules.len()];
        let mut heap = BinaryHeap::new();
        for (thing, rule) in rules.iter().enumerate() {
            match rule {
                Rule::Leaf(cost) => heap.push(Reverse((*cost, thing, 0))),
                Rule::All(parts) => {
                    waiting[thing] = parts.len();
                    parts.iter().for_each(|part| users[*part].push((thing, 0)));
                    if parts.is_empty() {
                        heap.push(Reverse((1, thing, 0)));
                    }
                }
                Rule::One(parts) => {
                    for (choice, (part, _)) in parts.iter().enumerate() {
                        users[*part].push((thing, choice));
                    }
                }
            }
        }
        let mut settled: Vec<Option<Settled>> = vec![None; rules.len()];
        while let Some(Reverse((cost, thing, choice))) = heap.pop() {
            if settled[thing].is_some() {
                continue;
            }
            settled[thing] = Some(Settled { cost, choice });
            for (user, choice) in &users[thing] {
                match &rules[*user] {
                    Rule::Leaf(_) => {}
                    Rule::All(_) => {
                        waiting[*user] -= 1;
                        sums[*user] = sums[*user].saturating_add(cost);
                        if waiting[*user] == 0 {
                            heap.push(Reverse((sums[*user], *user, 0)));
                        }
                    }
                    Rule::One(parts) => {
                        let cost = cost.saturating_add(parts[*choice].1).saturating_add(1);
                        heap.push(Reverse((cost, *user, *choice)));
                    }
                }
            }
        }
        Self(settled)
    }

    /// What it costs; `None` where it cannot be made.
    pub(super) fn cost(&self, thing: usize) -> Option<u64> {
        self.0[thing].map(|settled| settled.cost)
    }

    /// The part of a [`Rule::One`] that it is made of, by its place in the rule.
    pub(super) fn choice(&self, thing: usize) -> Option<usize> {
        self.0[thing].map(|settled| settled.choice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_way_is_found_and_a_circle_is_no_way() {
        let rules = [
            Rule::One(vec![(1, 0), (2, 0)]),
            Rule::All(vec![0, 3]),
            Rule::Leaf(7),
            Rule::Leaf(1),
            Rule::All(vec![4]),
        ];
        let costs = Costs::new(&rules);
        assert_eq!((costs.cost(0), costs.choice(0)), (Some(8), Some(1)));
        assert_eq!(costs.cost(1), Some(10));
        assert_eq!(costs.cost(4), None);
    }
}
