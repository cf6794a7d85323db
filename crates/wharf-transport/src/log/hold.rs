//! Messages whose time has not come: kept until they are due, within bounds.
//!
//! At most `count_max` are known at a time and the items of the nearest ones take at most
//! `bytes_max`; of those further away only the token is kept, and the reader fetches them again
//! from the log when they are due. Invariants: nothing comes out before it is due; everything that
//! came in comes out once, nearest first, or is forgotten with its partition.

use std::collections::{BTreeMap, HashMap};

use wharf_message::Timestamp;
use wharf_message::transport::Token;

use super::Slot;

/// What is held. See the module.
#[derive(Debug)]
pub struct Hold<T> {
    /// By due time, then in the order they came.
    items: BTreeMap<(Timestamp, u64), Held<T>>,
    next: u64,
    /// Up to which the items are kept; those after it are tokens only.
    kept: BTreeMap<(Timestamp, u64), usize>,
    bytes: usize,
    of: HashMap<Slot, usize>,
    count_max: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Held<T> {
    slot: Slot,
    token: Token,
    item: Option<T>,
}

/// One whose time has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due<T> {
    /// What its delivery is known by.
    pub token: Token,
    /// The item; `None` when it has to be read again.
    pub item: Option<T>,
}

impl<T> Hold<T> {
    /// Nothing is held.
    pub fn new(count_max: usize, bytes_max: usize) -> Self {
        Self {
            items: BTreeMap::new(),
            next: 0,
            kept: BTreeMap::new(),
            bytes: 0,
            of: HashMap::new(),
            count_max: count_max.max(1),
            bytes_max,
        }
    }

    /// Whether another one may come in. When not, the partitions in [`Self::holds`] are to be
    /// paused until something is due.
    pub fn has_room(&self) -> bool {
        self.items.len() < self.count_max
    }

    /// Whether something of this assignment is held.
    pub fn holds(&self, slot: Slot) -> bool {
        self.of.contains_key(&slot)
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The bytes of the items that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps one until `due`. To be called only where there is room: it is taken in any case, since
    /// refusing what was read would lose it.
    pub fn push(&mut self, due: Timestamp, slot: Slot, token: Token, item: T, bytes: usize) {
        let key = (due, self.next);
        self.next += 1;
        *self.of.entry(slot).or_default() += 1;
        let item = Some(item);
        self.items.insert(key, Held { slot, token, item });
        self.kept.insert(key, bytes);
        self.bytes += bytes;
        while self.bytes > self.bytes_max {
            let Some((furthest, bytes)) = self.kept.pop_last() else {
                break;
            };
            self.bytes -= bytes;
            if let Some(held) = self.items.get_mut(&furthest) {
                held.item = None;
            }
        }
    }

    /// When the nearest is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.items.first_key_value().map(|((due, _), _)| *due)
    }

    /// The nearest, if its time has come.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<Due<T>> {
        let nearest = self
            .items
            .first_entry()
            .filter(|entry| entry.key().0 <= now)?;
        let (key, held) = nearest.remove_entry();
        self.forget(key, held.slot);
        Some(Due {
            token: held.token,
            item: held.item,
        })
    }

    /// Forgets what is held of an assignment; its tokens.
    pub fn revoke(&mut self, slot: Slot) -> Vec<Token> {
        if !self.holds(slot) {
            return Vec::new();
        }
        let mut tokens = Vec::new();
        let of_slot =
            |(key, held): (&(Timestamp, u64), &Held<T>)| (held.slot == slot).then_some(*key);
        for key in self.items.iter().filter_map(of_slot).collect::<Vec<_>>() {
            tokens.extend(self.items.remove(&key).map(|held| held.token));
            self.forget(key, slot);
        }
        tokens
    }

    fn forget(&mut self, key: (Timestamp, u64), slot: Slot) {
        self.bytes -= self.kept.remove(&key).unwrap_or(0);
        if let Some(count) = self.of.get_mut(&slot) {
            *count -= 1;
            if *count == 0 {
                self.of.remove(&slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wharf_message::TopicName;

    use super::super::{TopicPartition, Tracker};
    use super::*;

    fn slots() -> [Slot; 2] {
        let topic = TopicName::new("scheduled.orders").expect("valid");
        let mut tracker = Tracker::new(1);
        [0, 1].map(|partition| {
            let topic = topic.clone();
            tracker.assign(TopicPartition { topic, partition }, None)
        })
    }

    proptest! {
        #[test]
        fn everything_comes_out_once_when_due_and_nothing_before(
            dues in prop::collection::vec((0..50_i64, 1..40_usize, any::<bool>()), 1..80),
            bytes_max in 0..200_usize,
        ) {
            let slots = slots();
            let mut hold = Hold::new(1_000, bytes_max);
            for (token, (due, bytes, second)) in dues.iter().enumerate() {
                let slot = slots[usize::from(*second)];
                hold.push(Timestamp::from_millis(*due), slot, token as u64, token, *bytes);
                prop_assert!(hold.bytes() <= bytes_max);
            }
            let count = |second: bool| dues.iter().filter(|(_, _, of)| *of == second).count();
            prop_assert_eq!(hold.len(), dues.len());
            let revoked = count(true);
            prop_assert_eq!(hold.holds(slots[1]), revoked > 0);
            prop_assert_eq!(hold.revoke(slots[1]).len(), revoked);
            prop_assert_eq!(hold.len(), dues.len() - revoked);
            let mut out = Vec::new();
            for now in 0..50 {
                let now = Timestamp::from_millis(now);
                while let Some(due) = hold.pop_due(now) {
                    let index = usize::try_from(due.token).unwrap();
                    prop_assert_eq!(dues[index].0, now.as_millis());
                    prop_assert!(due.item.is_none_or(|item| item == index));
                    out.push(index);
                }
                prop_assert!(hold.next_due().is_none_or(|due| due > now));
            }
            out.sort_unstable();
            let expected: Vec<usize> = (0..dues.len()).filter(|at| !dues[*at].2).collect();
            prop_assert_eq!(out, expected);
            prop_assert!(hold.is_empty() && hold.bytes() == 0 && !hold.holds(slots[0]));
        }
    }

    #[test]
    fn the_items_of_the_furthest_are_given_up_first_and_a_full_hold_says_so() {
        let [slot, _] = slots();
        let mut hold = Hold::new(3, 20);
        for (token, due) in [(0, 30), (1, 10), (2, 20)] {
            assert!(hold.has_room());
            hold.push(Timestamp::from_millis(due), slot, token, token, 10);
        }
        assert!(!hold.has_room());
        let mut out = Vec::new();
        while let Some(due) = hold.pop_due(Timestamp::from_millis(30)) {
            out.push((due.token, due.item));
        }
        assert_eq!(out, [(1, Some(1)), (2, Some(2)), (0, None)]);
    }
}
