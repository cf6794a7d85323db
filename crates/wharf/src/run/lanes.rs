//! Which message may be handled next. Pure: no time, no tasks.
//!
//! A lane holds what must not overtake each other (the messages of a key). Of each lane, at most one
//! message is out at a time; lanes do not wait for each other. A message without a lane waits for
//! nobody. What waits is bounded by whoever adds.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// The name of a lane, a keyed hash. Two keys with the same one only wait for each other.
pub(super) type Lane = u64;

/// Messages by lane.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    /// One of each lane of which nothing is out.
    ready: VecDeque<(Option<Lane>, T)>,
    /// What waits behind the one that is out or ready, by lane; nothing in most.
    behind: HashMap<Lane, Option<VecDeque<T>>, BuildHasherDefault<AsItIs>>,
}

/// Takes the name of a lane as its hash, which it is.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0.rotate_left(8) ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, lane: Lane) {
        self.0 = lane;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            behind: HashMap::default(),
        }
    }
}

impl<T> Lanes<T> {
    /// Adds a message at the end of its lane.
    pub(super) fn push(&mut self, lane: Option<Lane>, item: T) {
        match lane.map(|lane| self.behind.entry(lane)) {
            Some(Entry::Occupied(mut queue)) => {
                return queue.get_mut().get_or_insert_default().push_back(item);
            }
            Some(Entry::Vacant(free)) => drop(free.insert(None)),
            None => {}
        }
        self.ready.push_back((lane, item));
    }

    /// How many messages can be taken out now.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Takes out the next message that is ready.
    pub(super) fn take(&mut self) -> Option<(Option<Lane>, T)> {
        self.ready.pop_front()
    }

    /// Takes out what follows in the lane of a message that is out, while `fits` and at most `max`.
    pub(super) fn take_more(
        &mut self,
        lane: Option<Lane>,
        max: usize,
        fits: impl Fn(&T) -> bool,
    ) -> Vec<T> {
        let Some(Some(queue)) = lane.and_then(|lane| self.behind.get_mut(&lane)) else {
            return Vec::new();
        };
        let count = queue.iter().take(max).take_while(|item| fits(item)).count();
        queue.drain(..count).collect()
    }

    /// The message of this lane that was out is done: the next one becomes ready.
    pub(super) fn done(&mut self, lane: Option<Lane>) {
        if let Some(Entry::Occupied(mut queue)) = lane.map(|lane| self.behind.entry(lane)) {
            match queue.get_mut().as_mut().and_then(VecDeque::pop_front) {
                Some(next) => self.ready.push_back((lane, next)),
                None => drop(queue.remove()),
            }
        }
    }

    /// Messages that were out come back, in order, before all others of their lane.
    pub(super) fn put_back(
        &mut self,
        lane: Option<Lane>,
        items: impl DoubleEndedIterator<Item = T>,
    ) {
        let Some(known) = lane else {
            return self.ready.extend(items.map(|item| (None, item)));
        };
        let queue = self.behind.entry(known).or_default();
        let queue = queue.get_or_insert_default();
        for item in items.rev() {
            queue.push_front(item);
        }
        self.done(lane);
    }

    /// Drops everything that waits.
    pub(super) fn clear(&mut self) {
        self.ready.clear();
        self.behind.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(Option<Lane>),
        Take,
        Done(usize),
        PutBack(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            proptest::option::weighted(0.8, 0..4_u64).prop_map(Step::Push),
            Just(Step::Take),
            (0..4_usize).prop_map(Step::Done),
            (0..4_usize).prop_map(Step::PutBack),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn each_lane_is_in_order_with_one_out_at_a_time_and_nothing_is_lost(steps in steps()) {
            let mut lanes = Lanes::default();
            let mut out: Vec<(Option<Lane>, u32)> = Vec::new();
            let (mut pushed, mut finished) = (0, BTreeMap::<Option<Lane>, Vec<u32>>::new());
            for step in steps {
                match step {
                    Step::Push(lane) => {
                        lanes.push(lane, pushed);
                        pushed += 1;
                    }
                    Step::Take => out.extend(lanes.take()),
                    Step::Done(at) if at < out.len() => {
                        let (lane, item) = out.remove(at);
                        finished.entry(lane).or_default().push(item);
                        lanes.done(lane);
                    }
                    Step::PutBack(at) if at < out.len() => {
                        let (lane, item) = out.remove(at);
                        lanes.put_back(lane, [item].into_iter());
                    }
                    Step::Done(_) | Step::PutBack(_) => {}
                }
                let lanes_out: Vec<Lane> = out.iter().filter_map(|(lane, _)| *lane).collect();
                let distinct: BTreeSet<&Lane> = lanes_out.iter().collect();
                prop_assert_eq!(distinct.len(), lanes_out.len(), "one of each lane is out");
            }
            loop {
                for (lane, item) in std::mem::take(&mut out) {
                    finished.entry(lane).or_default().push(item);
                    lanes.done(lane);
                }
                match lanes.take() {
                    Some(next) => out.push(next),
                    None => break,
                }
            }
            let all: usize = finished.values().map(Vec::len).sum();
            prop_assert_eq!(all, pushed as usize);
            for (lane, items) in finished {
                prop_assert!(lane.is_none() || items.is_sorted(), "{items:?}");
            }
        }
    }

    #[test]
    fn a_batch_is_what_follows_in_the_lane_and_fits() {
        let mut lanes = Lanes::default();
        for item in [1, 2, 3, 10, 4] {
            lanes.push(Some(7), item);
        }
        assert_eq!(lanes.take(), Some((Some(7), 1)));
        assert_eq!(lanes.take_more(Some(7), 5, |item| *item < 10), [2, 3]);
        assert!(lanes.take_more(Some(7), 5, |item| *item < 10).is_empty());
        lanes.put_back(Some(7), [1, 2, 3].into_iter());
        assert_eq!(lanes.take(), Some((Some(7), 1)));
    }
}
