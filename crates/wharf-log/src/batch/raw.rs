//! Records as they are, for compaction: found one after the other, taken over byte for byte, and
//! batches made anew from what is left of them.
//!
//! Invariants: hostile input yields an error, never a panic; nothing is allocated for a record.

use bytes::{BufMut, Bytes, BytesMut};

use super::header::{COMPRESSION, CRC_AT, DELETE_HORIZON};
use super::records::{put_varint, take, varint};
use super::{Compression, HEADER_BYTES, Header, InvalidBatch};

/// A record that was looked into.
#[derive(Clone, Debug)]
pub(crate) struct RawRecord {
    /// All of it, its length included.
    pub(crate) bytes: Bytes,
    pub(crate) offset: i64,
    /// Its time relative to the batch's base.
    pub(crate) timestamp_delta: i64,
    pub(crate) key: Option<Bytes>,
    /// Whether it has no value.
    pub(crate) is_tombstone: bool,
    attributes: u8,
    /// What follows the time.
    rest: Bytes,
}

impl RawRecord {
    /// Writes the record with another time relative to its batch's base.
    pub(crate) fn encode(&self, timestamp_delta: i64, output: &mut BytesMut) {
        let mut time = BytesMut::new();
        put_varint(&mut time, timestamp_delta);
        let bytes = 1 + time.len() + self.rest.len();
        put_varint(output, i64::try_from(bytes).unwrap_or(i64::MAX));
        output.put_u8(self.attributes);
        output.put_slice(&time);
        output.put_slice(&self.rest);
    }
}

/// The records of a batch, decompressed, one after the other; after an error there are none.
#[derive(Debug)]
pub(crate) struct RawRecords {
    base_offset: i64,
    last_delta: i64,
    left: usize,
    index: usize,
    input: Bytes,
}

impl RawRecords {
    pub(crate) fn new(header: &Header, decompressed: &Bytes) -> Self {
        Self {
            base_offset: header.base_offset,
            last_delta: i64::from(header.last_offset_delta),
            left: usize::try_from(header.record_count).unwrap_or(0),
            index: 0,
            input: decompressed.clone(),
        }
    }

    fn read(&mut self) -> Result<RawRecord, &'static str> {
        let before = self.input.clone();
        let mut record = take(&mut self.input)?.ok_or("its length is negative")?;
        let bytes = before.slice(..before.len() - self.input.len());
        if record.is_empty() {
            return Err("it is empty");
        }
        let attributes = record.split_to(1)[0];
        let timestamp_delta = varint(&mut record)?;
        let rest = record.clone();
        let offset_delta = varint(&mut record)?;
        if !(0..=self.last_delta).contains(&offset_delta) {
            return Err("its offset is outside the batch");
        }
        let key = take(&mut record)?;
        let value = take(&mut record)?;
        Ok(RawRecord {
            bytes,
            offset: self.base_offset.saturating_add(offset_delta),
            timestamp_delta,
            key,
            is_tombstone: value.is_none(),
            attributes,
            rest,
        })
    }
}

impl Iterator for RawRecords {
    type Item = Result<RawRecord, InvalidBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.index;
        if self.left == 0 {
            let bytes = std::mem::take(&mut self.input);
            return (!bytes.is_empty()).then_some(Err(InvalidBatch::Trailing(bytes.len())));
        }
        self.left -= 1;
        self.index += 1;
        let read = self.read();
        if read.is_err() {
            self.left = 0;
            self.input = Bytes::new();
        }
        Some(read.map_err(|reason| InvalidBatch::Record { index, reason }))
    }
}

impl Header {
    /// The time of a record in milliseconds.
    pub(crate) fn time_of(&self, record: &RawRecord) -> i64 {
        if self.is_log_append_time() {
            self.max_timestamp
        } else {
            self.base_timestamp.wrapping_add(record.timestamp_delta)
        }
    }
}

/// How a batch differs from the one it was made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) record_count: i32,
    /// The time of the newest record left.
    pub(crate) max_timestamp: i64,
    /// When its tombstones may go: set, it becomes the base of the records' times (KIP-534).
    pub(crate) delete_horizon: Option<i64>,
}

/// The batch with other records in it (compressed as its header says).
pub(crate) fn with_records(
    batch: &Bytes,
    header: &Header,
    change: &Change,
    records: &[u8],
) -> Result<Bytes, InvalidBatch> {
    let length = i32::try_from(HEADER_BYTES - 12 + records.len())
        .map_err(|_error| InvalidBatch::Inconsistent("its records exceed 2 GiB"))?;
    let mut output = BytesMut::with_capacity(HEADER_BYTES + records.len());
    output.put_slice(&batch[..HEADER_BYTES]);
    output.put_slice(records);
    output[8..12].copy_from_slice(&length.to_be_bytes());
    if let Some(horizon) = change.delete_horizon {
        let attributes = header.attributes | DELETE_HORIZON;
        output[21..23].copy_from_slice(&attributes.to_be_bytes());
        output[27..35].copy_from_slice(&horizon.to_be_bytes());
    }
    output[35..43].copy_from_slice(&change.max_timestamp.to_be_bytes());
    output[57..61].copy_from_slice(&change.record_count.to_be_bytes());
    Ok(seal(output))
}

/// The same records in another codec: `records` is what the whole batch's records are in
/// `compression`. Nothing else of the batch changes.
pub fn recompressed(
    batch: &Bytes,
    compression: Compression,
    records: &[u8],
) -> Result<Bytes, InvalidBatch> {
    let header = super::header(batch)?;
    let length = i32::try_from(HEADER_BYTES - 12 + records.len())
        .map_err(|_error| InvalidBatch::Inconsistent("its records exceed 2 GiB"))?;
    let attributes = header.attributes & !COMPRESSION | compression.bits();
    let mut output = BytesMut::with_capacity(HEADER_BYTES + records.len());
    output.put_slice(&batch[..HEADER_BYTES]);
    output.put_slice(records);
    output[8..12].copy_from_slice(&length.to_be_bytes());
    output[21..23].copy_from_slice(&attributes.to_be_bytes());
    Ok(seal(output))
}

/// A batch without records that stands for the offsets from `first` to `last`, so that offsets have no
/// gaps; at most 2^31 of them.
pub(crate) fn filler(first: i64, last: i64) -> Bytes {
    let delta = i32::try_from(last - first).expect("the caller splits longer ranges");
    let mut output = BytesMut::with_capacity(HEADER_BYTES);
    output.put_i64(first);
    output.put_i32(49);
    output.put_i32(0);
    output.put_i8(2);
    output.put_u32(0);
    output.put_i16(0);
    output.put_i32(delta);
    output.put_i64(-1);
    output.put_i64(-1);
    output.put_i64(-1);
    output.put_i16(-1);
    output.put_i32(-1);
    output.put_i32(0);
    seal(output)
}

fn seal(mut batch: BytesMut) -> Bytes {
    let crc = crc32c::crc32c(&batch[CRC_AT + 4..]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use wharf_message::Timestamp;

    use super::*;
    use crate::batch::{Record, build, header, records, verify, verify_stored};

    fn record() -> impl Strategy<Value = Record> {
        let bytes = || proptest::option::of(vec(any::<u8>(), 0..20).prop_map(Bytes::from));
        (any::<u32>(), bytes(), bytes()).prop_map(|(time, key, value)| Record {
            timestamp: Timestamp::from_millis(i64::from(time)),
            key,
            value,
            headers: vec![("h".into(), None)],
            ..Record::default()
        })
    }

    proptest! {
        #[test]
        fn what_is_left_of_a_batch_keeps_offsets_times_and_content(
            all in vec(record(), 1..20),
            keep in vec(any::<bool>(), 20),
            horizon in proptest::option::of(any::<u32>()),
        ) {
            let batch = build(&all, None);
            let before = header(&batch).unwrap();
            let body = batch.slice(HEADER_BYTES..);
            let delete_horizon = horizon.map(i64::from);
            let base = delete_horizon.unwrap_or(before.base_timestamp);
            let mut left = BytesMut::new();
            let mut count = 0;
            for (raw, keep) in RawRecords::new(&before, &body).zip(&keep) {
                let raw = raw.unwrap();
                if *keep {
                    raw.encode(before.time_of(&raw) - base, &mut left);
                    count += 1;
                }
            }
            let change = Change { record_count: count, max_timestamp: 5, delete_horizon };
            let after = with_records(&batch, &before, &change, &left).unwrap();
            let header = verify_stored(&after).unwrap();
            prop_assert_eq!(header.last_offset(), before.last_offset());
            prop_assert_eq!(header.delete_horizon(), delete_horizon);
            let expected: Vec<_> = records(&before, &body).unwrap().into_iter()
                .zip(keep).filter(|(_, keep)| *keep).map(|(record, _)| record).collect();
            prop_assert_eq!(records(&header, &after.slice(HEADER_BYTES..)).unwrap(), expected);
        }

        #[test]
        fn nonsense_is_refused_without_a_panic(
            body in vec(any::<u8>(), 0..80),
            record_count: i32,
            last_offset_delta: i32,
        ) {
            let header = Header {
                record_count,
                last_offset_delta,
                ..header(&build(&[Record::default()], None)).unwrap()
            };
            prop_assert!(RawRecords::new(&header, &Bytes::from(body)).count() <= 81);
        }
    }

    #[test]
    fn a_filler_is_a_stored_batch_that_no_client_may_send() {
        let filler = filler(5, 1_000_000);
        let header = verify_stored(&filler).unwrap();
        assert_eq!((header.base_offset, header.last_offset()), (5, 1_000_000));
        assert_eq!(header.record_count, 0);
        verify(&filler).unwrap_err();
    }
}
