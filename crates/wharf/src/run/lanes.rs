//! Which message may be handled next. Pure: no time, no tasks.
//!
//! A lane holds what must not overtake each other (the messages of a key). Of each lane, at most one
//! message is out at a time; lanes do not wait for each other. What waits is bounded by whoever adds.

use std::collections::{HashMap, VecDeque};

/// The name of a lane. Two keys with the same one only wait for each other.
pub(super) type Lane = u64;

/// Messages by lane.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    /// One of each lane of which nothing is out.
    ready: VecDeque<(Lane, T)>,
    /// What waits behind the one that is out or ready, by lane. An empty queue marks the lane as
    /// taken.
    behind: HashMap<Lane, VecDeque<T>>,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            behind: HashMap::new(),
        }
    }
}

impl<T> Lanes<T> {
    /// Adds a message at the end of its lane. Returns whether it is ready at once.
    pub(super) fn push(&mut self, lane: Lane, item: T) -> bool {
        if let Some(queue) = self.behind.get_mut(&lane) {
            queue.push_back(item);
            return false;
        }
        self.behind.insert(lane, VecDeque::new());
        self.ready.push_back((lane, item));
        true
    }

    /// Takes out the next message that is ready.
    pub(super) fn take(&mut self) -> Option<(Lane, T)> {
        self.ready.pop_front()
    }

    /// Takes out what follows in the lane of a message that is out, while `fits` and at most `max`.
    pub(super) fn take_more(
        &mut self,
        lane: Lane,
        max: usize,
        fits: impl Fn(&T) -> bool,
    ) -> Vec<T> {
        let Some(queue) = self.behind.get_mut(&lane) else {
            return Vec::new();
        };
        let count = queue.iter().take(max).take_while(|item| fits(item)).count();
        queue.drain(..count).collect()
    }

    /// The message of this lane that was out is done: the next one becomes ready. Returns whether
    /// there is one.
    pub(super) fn done(&mut self, lane: Lane) -> bool {
        let Some(queue) = self.behind.get_mut(&lane) else {
            return false;
        };
        match queue.pop_front() {
            Some(next) => {
                self.ready.push_back((lane, next));
                true
            }
            None => {
                self.behind.remove(&lane);
                false
            }
        }
    }

    /// Messages that were out come back, in order, before all others of their lane.
    pub(super) fn put_back(&mut self, lane: Lane, items: impl DoubleEndedIterator<Item = T>) {
        let queue = self.behind.entry(lane).or_default();
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
        Push(Lane),
        Take,
        Done(usize),
        PutBack(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..4_u64).prop_map(Step::Push),
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
            let mut out: Vec<(Lane, u32)> = Vec::new();
            let (mut pushed, mut finished) = (0, BTreeMap::<Lane, Vec<u32>>::new());
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
                let distinct: BTreeSet<Lane> = out.iter().map(|(lane, _)| *lane).collect();
                prop_assert_eq!(distinct.len(), out.len(), "one of each lane is out");
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
            for items in finished.values() {
                prop_assert!(items.is_sorted(), "{items:?}");
            }
        }
    }

    #[test]
    fn a_batch_is_what_follows_in_the_lane_and_fits() {
        let mut lanes = Lanes::default();
        for item in [1, 2, 3, 10, 4] {
            lanes.push(7, item);
        }
        assert_eq!(lanes.take(), Some((7, 1)));
        assert_eq!(lanes.take_more(7, 5, |item| *item < 10), [2, 3]);
        assert!(lanes.take_more(7, 5, |item| *item < 10).is_empty());
        lanes.put_back(7, [1, 2, 3].into_iter());
        assert_eq!(lanes.take(), Some((7, 1)));
    }
}
