//! The newest offset of each key, by a digest of the key, in bounded memory.
//!
//! Invariants: keys themselves are not kept; the digest has 128 bits and begins with the log's secret,
//! so nobody can make up keys that are taken for each other.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};

/// What stands for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Digest(u64, u64);

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// Passes digests on: they are hashes already.
#[derive(Debug, Default)]
struct Unchanged(u64);

impl Hasher for Unchanged {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Keys {
    secret: u64,
    newest: HashMap<Digest, i64, BuildHasherDefault<Unchanged>>,
}

impl Keys {
    pub(crate) fn new(secret: u64) -> Self {
        Self {
            secret,
            newest: HashMap::default(),
        }
    }

    fn digest(&self, key: &[u8]) -> Digest {
        let half = |number: u8| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(self.secret);
            hasher.write_u8(number);
            hasher.write(key);
            hasher.finish()
        };
        Digest(half(1), half(2))
    }

    /// Notes a record. Offsets come in ascending order.
    pub(crate) fn note(&mut self, key: &[u8], offset: i64) {
        let digest = self.digest(key);
        self.newest.insert(digest, offset);
    }

    /// Whether no later record of the key was noted.
    pub(crate) fn is_newest(&self, key: &[u8], offset: i64) -> bool {
        let newest = self.newest.get(&self.digest(key));
        newest.is_none_or(|newest| *newest <= offset)
    }

    pub(crate) fn len(&self) -> usize {
        self.newest.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_of_each_key_counts() {
        let mut keys = Keys::new(7);
        for offset in 0..10_000_i64 {
            keys.note(format!("key {}", offset % 1_000).as_bytes(), offset);
        }
        assert_eq!(keys.len(), 1_000);
        for offset in 0..10_000_i64 {
            let key = format!("key {}", offset % 1_000);
            assert_eq!(keys.is_newest(key.as_bytes(), offset), offset >= 9_000);
        }
        assert!(keys.is_newest(b"unknown", 0));
    }

    #[test]
    fn another_secret_gives_other_digests() {
        assert_ne!(Keys::new(1).digest(b"key"), Keys::new(2).digest(b"key"));
    }
}
