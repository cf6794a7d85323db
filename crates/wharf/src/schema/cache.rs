//! Schemas that were asked for, kept: what an id or GUID means never changes.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{PoisonError, RwLock};

/// A bounded memory: `MAX` are kept; then it begins anew, and what is used is asked for again. A clone
/// of a value is cheap.
#[derive(Debug)]
pub(super) struct Cache<K, V, const MAX: usize = 10_000>(RwLock<HashMap<K, V>>);

impl<K, V, const MAX: usize> Default for Cache<K, V, MAX> {
    fn default() -> Self {
        Self(RwLock::new(HashMap::new()))
    }
}

impl<K: Hash + Eq, V: Clone, const MAX: usize> Cache<K, V, MAX> {
    pub(super) fn get(&self, key: &K) -> Option<V> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).cloned()
    }

    pub(super) fn put(&self, key: K, value: V) {
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX {
            kept.clear();
        }
        kept.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::Cache;

    #[test]
    fn no_more_is_kept_than_the_bound() {
        let cache = Cache::<u32, u32, 3>::default();
        for it in 0..100 {
            cache.put(it, it);
            assert_eq!(cache.get(&it), Some(it));
            assert!(cache.0.read().unwrap().len() <= 3);
        }
    }
}
