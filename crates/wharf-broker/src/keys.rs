//! The tables of the broker's durable key-value state: the first byte of a key names the table.
//!
//! | prefix | key | value |
//! |---|---|---|
//! | `t` | `tc` | the next partition number (u64, big endian); never goes back |
//! | `t` | `tn` + name with every `.` as `_` | the topic ([`crate::topics`]); the key is unique per *collision class*, so that neither a name nor one that differs only in `.` and `_` exists twice |
//! | `p` | `p` | the first producer id that was never reserved (u64, big endian) |
//! | `q` | `q` + entity | quotas ([`crate::quotas`]) |
//! | `l` | | owners, progress and timers of the ledger ([`crate::ledger`]) |
//! | `g` | | groups ([`crate::group`]) |
//! | `h` | | members of groups of the consumer protocol ([`crate::group`]) |
//! | `c` | | settings of groups ([`crate::group`]) |
//! | `o` | | committed offsets ([`crate::group`]) |
//! | `x` | | transactional ids, their guards, and the offsets of open transactions ([`crate::transactions`]) |
//!
//! Values are versioned ([`crate::encoding`]). Numbers in keys are big endian, so that the state
//! lists in their order. A prefix is never used for anything else, even after its table is gone.

use bytes::{BufMut, Bytes, BytesMut};

/// The counter of partition numbers.
pub(crate) const PARTITION_COUNTER: Bytes = Bytes::from_static(b"tc");
/// All topics start with this.
pub(crate) const TOPICS: &[u8] = b"tn";
/// All quotas start with this.
pub(crate) const QUOTAS: &[u8] = b"q";
/// The counter of producer ids.
pub(crate) const PRODUCER_COUNTER: Bytes = Bytes::from_static(b"p");

/// The key of a topic, the same for all names that collide with it.
pub(crate) fn topic(name: &str) -> Bytes {
    let mut key = BytesMut::with_capacity(TOPICS.len() + name.len());
    key.put_slice(TOPICS);
    key.extend(
        name.bytes()
            .map(|byte| if byte == b'.' { b'_' } else { byte }),
    );
    key.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_only_in_dots_and_underscores_share_a_key() {
        assert_eq!(topic("a.b_c"), topic("a_b.c"));
        assert_ne!(topic("a.b"), topic("a-b"));
    }
}
