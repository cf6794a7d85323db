//! A map whose clone shares everything with the original until one of the two is changed, and then
//! copies a small part: how a writer decides on a working copy while readers keep theirs.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

const SHARDS: usize = 256;

/// A hash map in parts that are copied when written while shared.
pub(super) struct Shards<K, V> {
    hasher: RandomState,
    parts: Box<[Arc<HashMap<K, V>>]>,
    len: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> Shards<K, V> {
    pub(super) fn new() -> Self {
        let empty = Arc::new(HashMap::new());
        Self {
            hasher: RandomState::new(),
            parts: (0..SHARDS).map(|_| Arc::clone(&empty)).collect(),
            len: 0,
        }
    }

    fn index<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        let hash = self.hasher.hash_one(key);
        usize::try_from(hash % SHARDS as u64).unwrap_or(0)
    }

    pub(super) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.parts[self.index(key)].get(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let index = self.index(&key);
        let old = Arc::make_mut(&mut self.parts[index]).insert(key, value);
        self.len += usize::from(old.is_none());
        old
    }

    pub(super) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let index = self.index(key);
        if !self.parts[index].contains_key(key) {
            return None;
        }
        let old = Arc::make_mut(&mut self.parts[index]).remove(key);
        self.len -= usize::from(old.is_some());
        old
    }

    /// The value of a key, to be changed.
    pub(super) fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let index = self.index(key);
        if !self.parts[index].contains_key(key) {
            return None;
        }
        Arc::make_mut(&mut self.parts[index]).get_mut(key)
    }

    /// The value of a key, to be changed; made where there is none.
    pub(super) fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let index = self.index(&key);
        let part = Arc::make_mut(&mut self.parts[index]);
        self.len += usize::from(!part.contains_key(&key));
        part.entry(key).or_insert_with(make)
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.parts.iter().flat_map(|part| part.iter())
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl<K, V> Clone for Shards<K, V> {
    fn clone(&self) -> Self {
        Self {
            hasher: self.hasher.clone(),
            parts: self.parts.clone(),
            len: self.len,
        }
    }
}

impl<K, V> fmt::Debug for Shards<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} entries", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_keeps_what_it_had_when_the_original_changes() {
        let mut map = Shards::new();
        for key in 0..1_000 {
            map.insert(key, key);
        }
        let snapshot = map.clone();
        map.insert(7, 70);
        map.remove(&8);
        *map.entry(9, || 0) += 1;
        assert_eq!(snapshot.get(&7), Some(&7));
        assert_eq!(snapshot.get(&8), Some(&8));
        assert_eq!(snapshot.get(&9), Some(&9));
        assert_eq!(
            (map.get(&7), map.get(&8), map.get(&9)),
            (Some(&70), None, Some(&10))
        );
        assert_eq!((snapshot.len(), map.len()), (1_000, 999));
    }
}
