//! Where groups live in the log's key-value state: the keys, nothing else.
//!
//! | first byte | table | key | value |
//! |---|---|---|---|
//! | `g` | groups | the group's name | [`super::record`], the last stored generation; of the consumer protocol the header |
//! | `h` | members of the consumer protocol | length and name of the group, member id | one member ([`super::consumer`]) |
//! | `c` | settings of groups | the group's name | [`super::settings`] |
//! | `o` | committed offsets | length and name of the group, length and name of the topic, partition | [`super::record`], one offset |
//! | `xo` | offsets of open transactions | producer id (u64), then as `o` without its first byte | as `o` |
//!
//! Lengths are two bytes, the partition four, all big-endian, so that everything of one group is
//! one prefix. A key that does not parse is reported, never skipped: offsets must not vanish.

use bytes::{BufMut, Bytes, BytesMut};

/// The table of groups.
pub(super) const GROUPS: &[u8] = b"g";
/// The table of committed offsets.
pub(super) const OFFSETS: &[u8] = b"o";
/// The table of members of groups of the consumer protocol.
pub(super) const MEMBERS: &[u8] = b"h";
/// The table of the settings of groups.
pub(super) const SETTINGS: &[u8] = b"c";
/// The table of the offsets of open transactions.
pub(super) const PENDING: &[u8] = b"xo";
/// The longest group name in bytes. It must fit the two length bytes; Kafka itself sets no limit.
pub(crate) const GROUP_NAME_BYTES_MAX: usize = 4096;

/// The key of a group's record.
pub(super) fn group(name: &str) -> Bytes {
    let mut key = BytesMut::with_capacity(1 + name.len());
    key.put_slice(GROUPS);
    key.put_slice(name.as_bytes());
    key.freeze()
}

/// The name in a group record's key.
pub(super) fn parse_group(key: &[u8]) -> Option<String> {
    text(key.strip_prefix(GROUPS)?)
}

/// The key of a member's record.
pub(super) fn member(group: &str, member: &str) -> Bytes {
    let mut key = BytesMut::with_capacity(1 + 2 + group.len() + member.len());
    key.put_slice(MEMBERS);
    key.put_u16(u16::try_from(group.len()).unwrap_or(u16::MAX));
    key.put_slice(group.as_bytes());
    key.put_slice(member.as_bytes());
    key.freeze()
}

/// Group and member id of a member record's key.
pub(super) fn parse_member(key: &[u8]) -> Option<(String, String)> {
    let (group, member) = name(key.strip_prefix(MEMBERS)?)?;
    Some((group, text(member)?))
}

/// The key of a group's settings.
pub(super) fn settings(group: &str) -> Bytes {
    let mut key = BytesMut::with_capacity(1 + group.len());
    key.put_slice(SETTINGS);
    key.put_slice(group.as_bytes());
    key.freeze()
}

/// The group's name in the key of its settings.
pub(super) fn parse_settings(key: &[u8]) -> Option<String> {
    text(key.strip_prefix(SETTINGS)?)
}

/// The key of a committed offset. Names longer than 65,535 bytes do not occur: groups are
/// limited to [`GROUP_NAME_BYTES_MAX`] and topics to 249 bytes.
pub(super) fn offset(group: &str, topic: &str, partition: i32) -> Bytes {
    let mut key = BytesMut::with_capacity(1 + 2 + group.len() + 2 + topic.len() + 4);
    key.put_slice(OFFSETS);
    for name in [group, topic] {
        key.put_u16(u16::try_from(name.len()).unwrap_or(u16::MAX));
        key.put_slice(name.as_bytes());
    }
    key.put_i32(partition);
    key.freeze()
}

/// The key of an offset that a producer's open transaction is going to commit.
pub(super) fn pending(producer: i64, group: &str, topic: &str, partition: i32) -> Bytes {
    let of = offset(group, topic, partition);
    let mut key = BytesMut::with_capacity(PENDING.len() + 8 + of.len());
    key.put_slice(PENDING);
    key.put_i64(producer);
    key.put_slice(&of[OFFSETS.len()..]);
    key.freeze()
}

/// Producer, group, topic and partition of the key of a transaction's offset.
pub(super) fn parse_pending(key: &[u8]) -> Option<(i64, String, String, i32)> {
    let (producer, of) = key.strip_prefix(PENDING)?.split_first_chunk::<8>()?;
    let (group, topic, partition) = parse_names(of)?;
    Some((i64::from_be_bytes(*producer), group, topic, partition))
}

/// Group, topic and partition of a committed offset's key.
pub(super) fn parse_offset(key: &[u8]) -> Option<(String, String, i32)> {
    parse_names(key.strip_prefix(OFFSETS)?)
}

fn parse_names(rest: &[u8]) -> Option<(String, String, i32)> {
    let (group, rest) = name(rest)?;
    let (topic, rest) = name(rest)?;
    let partition = i32::from_be_bytes(rest.try_into().ok()?);
    Some((group, topic, partition))
}

fn name(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((text(name)?, rest))
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_groups_and_offsets_are_read_back() {
        assert_eq!(parse_group(&group("orders")).as_deref(), Some("orders"));
        let both = Some(("gröup".to_owned(), "m".to_owned()));
        assert_eq!(parse_member(&member("gröup", "m")), both);
        assert_eq!(parse_settings(&settings("g")).as_deref(), Some("g"));
        let key = offset("gröup", "t", 7);
        assert_eq!(
            parse_offset(&key),
            Some(("gröup".to_owned(), "t".to_owned(), 7))
        );
    }

    #[test]
    fn the_key_of_a_transactions_offset_is_read_back() {
        let key = pending(9, "g", "t", 7);
        let expected = (9, "g".to_owned(), "t".to_owned(), 7);
        assert_eq!(parse_pending(&key), Some(expected));
        assert_eq!(parse_pending(&key[..key.len() - 1]), None);
        assert_eq!(parse_offset(&key), None);
    }

    #[test]
    fn a_truncated_offset_key_is_not_read_as_another_one() {
        let key = offset("group", "topic", 7);
        for end in 0..key.len() {
            assert_eq!(parse_offset(&key[..end]), None, "{end} bytes");
        }
    }
}
