//! The topics a consumer says it subscribes to, read from its protocol metadata.
//!
//! Only the first version's fields are read; every later version starts with them. Unreadable
//! metadata is `None`, never a guess: members are free to speak a protocol of their own.

use std::collections::BTreeSet;

/// Adds the topics of one member's metadata to `topics`; `None` when it cannot be read.
pub(super) fn read(metadata: &[u8], topics: &mut BTreeSet<String>) -> Option<()> {
    let (version, rest) = metadata.split_first_chunk::<2>()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let count = i32::from_be_bytes(*count);
    if count < 0 {
        return None;
    }
    for _ in 0..count {
        let (length, tail) = rest.split_first_chunk::<2>()?;
        let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
        let (name, tail) = tail.split_at_checked(length)?;
        topics.insert(std::str::from_utf8(name).ok()?.to_owned());
        rest = tail;
    }
    Some(())
}

#[cfg(test)]
pub(super) fn write(topics: &[&str]) -> bytes::Bytes {
    use bytes::BufMut;
    let mut metadata = bytes::BytesMut::new();
    metadata.put_i16(1);
    metadata.put_i32(i32::try_from(topics.len()).expect("few topics"));
    for topic in topics {
        metadata.put_i16(i16::try_from(topic.len()).expect("a short name"));
        metadata.put_slice(topic.as_bytes());
    }
    metadata.put_i32(-1); // no user data
    metadata.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topics_of_a_subscription_are_read_and_later_fields_ignored() {
        let mut topics = BTreeSet::new();
        assert_eq!(read(&write(&["b", "a"]), &mut topics), Some(()));
        assert_eq!(topics.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn metadata_that_is_no_subscription_is_not_guessed_at() {
        let mut topics = BTreeSet::new();
        for metadata in [
            &b""[..],
            b"\x00",
            b"\xff\xff\0\0\0\0",
            b"\0\0\x7f\xff\xff\xff",
            b"\0\0\xff\xff\xff\xff",
        ] {
            assert_eq!(read(metadata, &mut topics), None, "{metadata:?}");
        }
        assert!(topics.is_empty());
    }
}
