//! Where transactions live in the log's key-value state: the keys, nothing else.
//!
//! | first bytes | table | key | value |
//! |---|---|---|---|
//! | `xi` | transactional ids | the id | [`super::record::Record`] |
//! | `xg` | guards | producer id (u64) | [`super::record::Record::guard`]: what every unit of a transaction is conditional on |
//! | `xo` | offsets of open transactions | producer id (u64), then as a committed offset's key without its first byte | one offset, as committed ones are kept |
//!
//! Numbers are big-endian, so that everything of one producer is one prefix.

use bytes::{BufMut, Bytes, BytesMut};

/// The table of transactional ids.
pub(super) const IDS: &[u8] = b"xi";
/// The table of guards.
const GUARDS: &[u8] = b"xg";
/// The longest transactional id in bytes; Kafka itself sets no limit.
pub(super) const ID_BYTES_MAX: usize = 4096;

/// The key of a transactional id's record.
pub(super) fn id(id: &str) -> Bytes {
    [IDS, id.as_bytes()].concat().into()
}

/// The id in a record's key.
pub(super) fn parse_id(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(IDS)?).ok()
}

/// The key of a producer's guard.
pub(super) fn guard(producer: i64) -> Bytes {
    let mut key = BytesMut::with_capacity(GUARDS.len() + 8);
    key.put_slice(GUARDS);
    key.put_i64(producer);
    key.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_and_is_no_guard() {
        assert_eq!(parse_id(&id("örders")), Some("örders"));
        assert_eq!(parse_id(&guard(7)), None);
        assert_eq!(parse_id(b"xi\xff"), None);
    }
}
