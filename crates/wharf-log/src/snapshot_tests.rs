//! A snapshot is read back as it was, and nothing else passes for one.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::Options;
use crate::disk::simulated::{Faults, SimulatedDisk};
use crate::partition::Compacted;

fn example() -> Shared {
    let disk = Arc::new(SimulatedDisk::new(1, Faults::default()));
    let shared = Shared::new(disk, Options::default());
    let mut producers = Producers::default();
    let mut producer = Producer::new(3, Timestamp::from_millis(77));
    for first_sequence in [0, 5] {
        let base_offset = i64::from(first_sequence);
        producer.remember(Remembered {
            first_sequence,
            base_offset,
            last_delta: 4,
            max_timestamp: 1,
        });
    }
    producers.insert(12, producer);
    producer.transaction_start = Some(7);
    producer.coordinator_epoch = 2;
    producers.insert(13, producer);
    let mut aborted = AbortedIndex::default();
    aborted.push(AbortedEntry {
        transaction: Aborted {
            producer_id: 13,
            first_offset: 2,
            last_offset: 5,
        },
        stable_after: 6,
    });
    let segment = Segment {
        base_offset: 2,
        last_offset: 5,
        bytes: 100,
        first_timestamp: -1,
        max_timestamp: 8,
        generation: 3,
    };
    let batch = BatchRef {
        base_offset: 6,
        max_timestamp: 9,
        file: 4,
        position: 4200,
        bytes: 70,
        last_delta: 3,
    };
    let range = |partition| DamagedRange {
        partition,
        first: 3,
        last: 3,
        path: "damaged/x".to_owned(),
        position: 64,
    };
    let data = Data {
        start: 2,
        end: 10,
        segments: vec![segment],
        closed: None,
        compacted: Compacted {
            end: 4,
            horizon: Some(99),
            exchanges: 0,
        },
        index: [batch].into(),
        index_bytes: 70,
        producers: Some(Box::new(producers)),
        aborted,
        damaged: vec![range(Some(PartitionId(5)))],
    };
    let snapshot = Snapshot {
        cut: Cut {
            sequence: 8,
            file: 4,
            position: 8192,
        },
        secret: 31,
        state: [(Bytes::from("key"), Bytes::from("value"))].into(),
        partitions: vec![(PartitionId(5), data), (PartitionId(6), Data::default())],
        lost: vec![range(None)],
    };
    install(&shared, snapshot);
    shared
}

#[test]
fn a_snapshot_is_read_back() {
    let shared = example();
    let (cut, bytes) = encode(&shared);
    let snapshot = decode(&bytes).unwrap();
    assert_eq!(snapshot.cut, cut);
    assert_eq!(snapshot.state, *read(&shared.state));
    let copy = Shared::new(Arc::clone(&shared.disk), Options::default());
    install(&copy, snapshot);
    assert_eq!(encode(&copy).1, bytes);
    assert_eq!(copy.journal.touched(4), [PartitionId(5)]);
    assert_eq!(copy.transactions.of(13), [PartitionId(5)].into());
}

#[test]
fn another_version_is_named() {
    let mut bytes = BytesMut::from(&encode(&example()).1[..]);
    bytes[8] = 9;
    reseal(&mut bytes);
    assert!(matches!(
        decode(&bytes.freeze()),
        Err(Unreadable::Version(9))
    ));
}

fn reseal(bytes: &mut BytesMut) {
    let end = bytes.len() - CRC_BYTES;
    let crc = crc32c::crc32c(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
}

proptest! {
    #[test]
    fn a_flipped_bit_is_found(at: usize, bit in 0..8) {
        let mut bytes = BytesMut::from(&encode(&example()).1[..]);
        let at = at % bytes.len();
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(decode(&bytes.freeze()).is_err());
    }

    #[test]
    fn nonsense_with_a_right_checksum_never_panics(
        changes in vec((any::<usize>(), any::<u8>()), 1..20),
        cut in 0..400_usize,
    ) {
        let mut bytes = BytesMut::from(&encode(&example()).1[..]);
        for (at, value) in changes {
            let at = HEADER_BYTES + at % (bytes.len() - HEADER_BYTES);
            bytes[at] = value;
        }
        let length = bytes.len().saturating_sub(cut).max(HEADER_BYTES + CRC_BYTES);
        bytes.truncate(length);
        let body = (bytes.len() - HEADER_BYTES - CRC_BYTES) as u64;
        bytes[16..HEADER_BYTES].copy_from_slice(&body.to_le_bytes());
        reseal(&mut bytes);
        let _maybe = decode(&bytes.freeze());
    }
}
