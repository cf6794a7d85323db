//! Schemas that were asked for, kept: what an id or GUID means never changes.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{PoisonError, RwLock};

/// How many are kept; then the memory begins anew, and what is used is asked for again.
const KEPT_MAX: usize = 10_000;

/// A bounded memory. A clone of a value is cheap.
#[derive(Debug)]
pub(super) struct Cache<K, V>(RwLock<HashMap<K, V>>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(RwLock::new(HashMap::new()))
    }
}

impl<K: Hash + Eq, V: Clone> Cache<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<V> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).cloned()
    }

    pub(super) fn put(&self, key: K, value: V) {
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(key, value);
    }
}
