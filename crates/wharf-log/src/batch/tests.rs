//! Batches: what is built is read back, hostile bytes are refused.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use wharf_message::Timestamp;

use super::*;

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn record() -> impl Strategy<Value = Record> {
    let headers = vec((bytes(8), option::of(bytes(8))), 0..4);
    (
        any::<i64>(),
        option::of(bytes(20)),
        option::of(bytes(200)),
        headers,
    )
        .prop_map(|(time, key, value, headers)| Record {
            offset: 0,
            timestamp: Timestamp::from_millis(time),
            key,
            value,
            headers,
        })
}

fn one_record(value: &'static [u8]) -> Bytes {
    build(
        &[Record {
            value: Some(Bytes::from_static(value)),
            ..Record::default()
        }],
        None,
    )
}

fn with_checksum(mut batch: BytesMut) -> BytesMut {
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

proptest! {
    #[test]
    fn what_is_built_is_verified_and_read_back(list in vec(record(), 1..20), base in 0..i64::MAX / 2) {
        let producer = Producer { id: 7, epoch: 3, sequence: 11 };
        let mut batch = BytesMut::from(&build(&list, Some(producer))[..]);
        place(&mut batch, base, None);
        let batch = batch.freeze();
        let header = verify(&batch).unwrap();
        prop_assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (7, 3, 11));
        prop_assert_eq!(header.last_offset(), base + list.len() as i64 - 1);
        let mut expected = list;
        for (index, record) in expected.iter_mut().enumerate() {
            record.offset = base + index as i64;
        }
        let one_by_one = Records::new(&header, batch.slice(HEADER_BYTES..));
        prop_assert_eq!(one_by_one.collect::<Result<Vec<_>, _>>().unwrap(), expected.clone());
        prop_assert_eq!(records(&header, &batch.slice(HEADER_BYTES..)).unwrap(), expected);
    }

    #[test]
    fn arbitrary_bytes_never_panic(data in vec(any::<u8>(), 0..300), count in any::<i32>()) {
        let _refused = verify(&data);
        let mut header = header(&one_record(b"x")).unwrap();
        header.record_count = count;
        let _refused = records(&header, &Bytes::from(data.clone()));
        let mut one_by_one = Records::new(&header, Bytes::from(data));
        let failed = one_by_one.by_ref().find(Result::is_err);
        prop_assert!(failed.is_none() || one_by_one.next().is_none());
    }

    #[test]
    fn a_flipped_bit_after_the_epoch_is_found(at in 16_usize..70, bit in 0..8) {
        let mut batch = BytesMut::from(&one_record(b"a value of some length")[..]);
        batch[at] ^= 1_u8 << bit;
        prop_assert!(verify(&batch).is_err());
    }
}

#[test]
fn append_time_changes_the_stamp_and_keeps_the_checksum_right() {
    let mut batch = BytesMut::from(&one_record(b"x")[..]);
    place(&mut batch, 42, Some(Timestamp::from_millis(99)));
    assert!(checksum_holds(&batch));
    let batch = batch.freeze();
    let header = verify(&batch).unwrap();
    assert!(header.is_log_append_time());
    assert_eq!(header.max_timestamp, 99);
    let records = records(&header, &batch.slice(HEADER_BYTES..)).unwrap();
    assert_eq!(records[0].timestamp.as_millis(), 99);
    assert_eq!(records[0].offset, 42);
}

#[test]
fn sizes_that_do_not_match_are_refused() {
    let batch = one_record(b"value");
    let short = verify(&batch[..batch.len() - 1]);
    assert_eq!(
        short,
        Err(InvalidBatch::Truncated {
            found: batch.len() - 1,
            expected: batch.len()
        })
    );
    let mut long = BytesMut::from(&batch[..]);
    long.extend_from_slice(b"zz");
    assert_eq!(verify(&long), Err(InvalidBatch::Trailing(2)));
    assert_eq!(
        verify(&[]),
        Err(InvalidBatch::Truncated {
            found: 0,
            expected: HEADER_BYTES
        })
    );
}

#[test]
fn contradicting_counts_are_refused() {
    let mut batch = BytesMut::from(&one_record(b"value")[..]);
    batch[57..61].copy_from_slice(&2_i32.to_be_bytes());
    let refused = verify(&with_checksum(batch));
    assert!(
        matches!(refused, Err(InvalidBatch::Inconsistent(_))),
        "{refused:?}"
    );
}

#[test]
fn an_old_format_is_named() {
    let mut batch = BytesMut::from(&one_record(b"value")[..]);
    batch[16] = 1;
    assert_eq!(verify(&batch), Err(InvalidBatch::Magic(1)));
}

#[test]
fn a_record_count_beyond_the_input_is_refused_without_allocating_for_it() {
    let batch = one_record(b"value");
    let mut header = header(&batch).unwrap();
    header.record_count = i32::MAX;
    let refused = records(&header, &batch.slice(HEADER_BYTES..));
    assert!(
        matches!(refused, Err(InvalidBatch::Record { index: 1, .. })),
        "{refused:?}"
    );
}
