//! Where the ledger's state is kept: owners, progress, timers.
//!
//! Names in keys carry their length, and what follows has a fixed size or ends the key; so no key
//! is the beginning of another of its table, and looking one up by prefix finds it alone.

use bytes::{BufMut, Bytes, BytesMut};
use wharf_message::TopicName;
use wharf_message::ledger::Partition;

/// All owners: + partition.
pub(super) const OWNERS: &[u8] = b"lo";
/// All progress: + reader + partition.
pub(super) const PROGRESS: &[u8] = b"lp";
/// All timers: + partition + id.
pub(super) const TIMERS: &[u8] = b"lt";

fn put_name(key: &mut BytesMut, name: &str) {
    key.put_u32(u32::try_from(name.len()).expect("names are far below 4 GiB"));
    key.put_slice(name.as_bytes());
}

fn put_partition(key: &mut BytesMut, partition: &Partition) {
    put_name(key, partition.topic.as_str());
    key.put_i32(partition.index);
}

pub(super) fn owner(partition: &Partition) -> Bytes {
    let mut key = BytesMut::from(OWNERS);
    put_partition(&mut key, partition);
    key.freeze()
}

pub(super) fn progress(reader: &str, partition: &Partition) -> Bytes {
    let mut key = BytesMut::from(PROGRESS);
    put_name(&mut key, reader);
    put_partition(&mut key, partition);
    key.freeze()
}

pub(super) fn timer(owned: &Partition, id: &[u8]) -> Bytes {
    let mut key = BytesMut::from(TIMERS);
    put_partition(&mut key, owned);
    key.put_slice(id);
    key.freeze()
}

/// The owned partition of an owner's key, or of a timer's key with the timer's id.
pub(super) fn parse(key: &[u8], table: &[u8]) -> Option<(Partition, Bytes)> {
    let (length, rest) = key.strip_prefix(table)?.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (name, rest) = rest.split_at_checked(length)?;
    let topic = TopicName::new(std::str::from_utf8(name).ok()?).ok()?;
    let (index, rest) = rest.split_first_chunk::<4>()?;
    let partition = Partition {
        topic,
        index: i32::from_be_bytes(*index),
    };
    Some((partition, Bytes::copy_from_slice(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_hostile_ones_refused() {
        let partition = Partition {
            topic: TopicName::new("a").unwrap(),
            index: 7,
        };
        let key = timer(&partition, b"id");
        assert_eq!(
            parse(&key, TIMERS),
            Some((partition.clone(), Bytes::from_static(b"id")))
        );
        assert_eq!(
            parse(&owner(&partition), OWNERS),
            Some((partition, Bytes::new()))
        );
        for cut in 0..key.len() - 2 {
            assert_eq!(parse(&key[..cut], TIMERS), None, "{cut}");
        }
        assert_eq!(parse(b"lt\xff\xff\xff\xffa", TIMERS), None);
    }
}
