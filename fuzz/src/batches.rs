//! A record batch from a producer: verified and read by itself, then through a node that stores it,
//! searches it by time and hands it out again.
//!
//! The first byte of the input says what is repaired: its lowest bit the length and the checksum,
//! without which hardly anything gets past the first look.

use bytes::Bytes;
use wharf_log::batch::{self, HEADER_BYTES, Producer, Record};
use wharf_message::Timestamp;

use crate::requests::{produce, search, send};
use crate::support::{Node, frame};

const REPAIR: u8 = 1;
/// What a batch's length leaves out.
const LENGTH_OVERHEAD: usize = 12;
/// Where the checksum is, and what it covers.
const CRC_AT: usize = 17;
const CHECKSUMMED_AT: usize = 21;

pub(crate) fn run(data: &[u8]) {
    let Some((flags, bytes)) = data.split_first() else {
        return;
    };
    let mut bytes = bytes.to_vec();
    if flags & REPAIR != 0 {
        repair(&mut bytes);
    }
    let batch = Bytes::from(bytes);
    if let Ok(header) = batch::verify(&batch) {
        assert!(header.last_offset() >= header.base_offset);
        if let Ok(records) = batch::records(&header, &batch.slice(HEADER_BYTES..)) {
            assert_eq!(
                records.len(),
                usize::try_from(header.record_count).unwrap_or(0)
            );
        }
    }
    store_and_search(batch);
}

/// Makes length and checksum fit the bytes.
pub(crate) fn repair(batch: &mut [u8]) {
    if batch.len() < HEADER_BYTES {
        return;
    }
    let length = u32::try_from(batch.len() - LENGTH_OVERHEAD).unwrap_or(0);
    batch[8..LENGTH_OVERHEAD].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[CHECKSUMMED_AT..]);
    batch[CRC_AT..CHECKSUMMED_AT].copy_from_slice(&crc.to_be_bytes());
}

fn store_and_search(batch: Bytes) {
    let node = Node::new();
    send(&node, frame(9, &produce(batch)));
    // The newest time (-3) and a time make the broker look into the batch.
    send(&node, frame(7, &search(-3)));
    send(&node, frame(7, &search(5)));
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let records: Vec<Record> = (0..3)
        .map(|index| Record {
            timestamp: Timestamp::from_millis(index * 4),
            key: (index > 0).then(|| Bytes::from_static(b"key")),
            value: (index < 2).then(|| Bytes::from_static(b"a value")),
            headers: vec![(Bytes::from_static(b"name"), Some(Bytes::from_static(b"x")))],
            ..Record::default()
        })
        .collect();
    let producer = Producer {
        id: 1,
        epoch: 0,
        sequence: 0,
    };
    let plain = batch::build(&records, None);
    let mut seeds = vec![
        plain.to_vec(),
        batch::build(&records, Some(producer)).to_vec(),
    ];
    // A batch of each codec's kind: what follows the header is not compressed so, which the search
    // may change byte by byte.
    seeds.extend((1..=4).map(|codec| {
        let mut batch = plain.to_vec();
        batch[CHECKSUMMED_AT + 1] = codec;
        batch
    }));
    for seed in &mut seeds {
        seed.insert(0, REPAIR);
    }
    seeds
}
