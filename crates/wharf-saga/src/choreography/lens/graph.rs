//! The mined graph of one type of saga: which event follows which, how often, and after how long.
//!
//! Everything an instance has put in can be taken out again, because a record that is read late may
//! change what followed what.

use std::collections::HashMap;

use super::sketch::Sketch;

/// In how many pairs of topic and service an event is told; what is seen beyond is counted, and not told.
const PLACES_MAX: usize = 100;

/// An event of the graph, by the number of its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// How often it came.
    pub(super) count: u64,
    /// How many instances began with it.
    pub(super) starts: u64,
    /// How often it was the last one when its instance had come to rest.
    pub(super) ends: u64,
    /// The topics and the services it was seen with, each by the number of its name.
    pub(super) places: HashMap<(u32, u32), u64>,
}

/// That one event followed another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Follows {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) millis: u64,
}

/// What one instance has put in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mined {
    /// Each event with its topic and service.
    pub(super) events: Vec<(u32, u32, u32)>,
    pub(super) start: Option<u32>,
    pub(super) follows: Vec<Follows>,
    /// The events that nothing followed, once the instance rests.
    pub(super) ends: Vec<u32>,
}

/// The graph.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    pub(super) instances: u64,
    pub(super) nodes: HashMap<u32, Node>,
    pub(super) edges: HashMap<(u32, u32), Sketch>,
    /// Which followed beyond the limit of edges.
    pub(super) beyond: u64,
}

impl Graph {
    /// Puts in what an instance shows.
    pub(super) fn add(&mut self, mined: &Mined, edges_max: usize) {
        self.instances += 1;
        for (event, topic, service) in &mined.events {
            let node = self.nodes.entry(*event).or_default();
            node.count += 1;
            let is_room = node.places.len() < PLACES_MAX;
            match node.places.get_mut(&(*topic, *service)) {
                Some(count) => *count += 1,
                None if is_room => _ = node.places.insert((*topic, *service), 1),
                None => {}
            }
        }
        if let Some(start) = mined.start {
            self.nodes.entry(start).or_default().starts += 1;
        }
        for end in &mined.ends {
            self.nodes.entry(*end).or_default().ends += 1;
        }
        for Follows { from, to, millis } in &mined.follows {
            let is_room = self.edges.len() < edges_max;
            match self.edges.get_mut(&(*from, *to)) {
                Some(edge) => edge.add(*millis),
                None if is_room => self.edges.entry((*from, *to)).or_default().add(*millis),
                None => self.beyond += 1,
            }
        }
    }

    /// Takes out what an instance has put in.
    pub(super) fn take(&mut self, mined: &Mined) {
        self.instances = self.instances.saturating_sub(1);
        for (event, topic, service) in &mined.events {
            if let Some(node) = self.nodes.get_mut(event) {
                node.count = node.count.saturating_sub(1);
                if let Some(place) = node.places.get_mut(&(*topic, *service)) {
                    *place -= 1;
                    if *place == 0 {
                        node.places.remove(&(*topic, *service));
                    }
                }
            }
        }
        if let Some(node) = mined.start.and_then(|start| self.nodes.get_mut(&start)) {
            node.starts = node.starts.saturating_sub(1);
        }
        for end in &mined.ends {
            if let Some(node) = self.nodes.get_mut(end) {
                node.ends = node.ends.saturating_sub(1);
            }
        }
        for Follows { from, to, millis } in &mined.follows {
            let Some(edge) = self.edges.get_mut(&(*from, *to)) else {
                self.beyond = self.beyond.saturating_sub(1);
                continue;
            };
            edge.remove(*millis);
            if edge.total() == 0 {
                self.edges.remove(&(*from, *to));
            }
        }
        for (event, ..) in &mined.events {
            if self.nodes.get(event).is_some_and(|node| node.count == 0) {
                self.nodes.remove(event);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_that_nobody_can_count_do_not_fill_the_memory() {
        let mut graph = Graph::default();
        let seen = |service: u32| Mined {
            events: vec![(1, 2, service)],
            ..Mined::default()
        };
        for service in 0..10_000 {
            graph.add(&seen(service), 10);
        }
        let node = &graph.nodes[&1];
        assert_eq!((node.count, node.places.len()), (10_000, PLACES_MAX));
        // What was put in goes out again, told or not.
        for service in 0..10_000 {
            graph.take(&seen(service));
        }
        assert!(graph.nodes.is_empty() && graph.instances == 0);
    }
}
