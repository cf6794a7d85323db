//! Records inside a batch: building and iterating, for the server's own roles and for tests.
//!
//! Invariants: hostile input yields an error, never a panic; nothing is allocated beyond what the
//! input's own size allows; decoded keys and values share the input's memory.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use wharf_message::Timestamp;

use super::{HEADER_BYTES, Header, InvalidBatch};

/// The smallest encodings, by which allocations are bounded.
const RECORD_BYTES_MIN: usize = 7;
const HEADER_BYTES_MIN: usize = 2;
/// Where the checksummed part of a batch starts.
const CHECKSUMMED_AT: usize = 21;

/// A record, borrowed from or built into a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its offset (ignored when building).
    pub offset: i64,
    /// Its time in milliseconds.
    pub timestamp: Timestamp,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers in order; a name may repeat.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// The producer of a built batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// The producer id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The first record's sequence.
    pub sequence: i32,
}

/// Builds an uncompressed batch with base offset 0. `records` must not be empty.
///
/// # Panics
/// Without records, or when the batch would exceed 2 GiB.
pub fn build(records: &[Record], producer: Option<Producer>) -> Bytes {
    let nobody = Producer {
        id: -1,
        epoch: -1,
        sequence: -1,
    };
    encode(records, producer.unwrap_or(nobody), 0)
}

/// As [`build`], a batch that belongs to its producer's transaction.
///
/// # Panics
/// Without records, or when the batch would exceed 2 GiB.
pub fn build_transactional(records: &[Record], producer: Producer) -> Bytes {
    encode(records, producer, super::header::TRANSACTIONAL)
}

/// A batch with these attributes (none of which compresses).
pub(super) fn encode(records: &[Record], producer: Producer, attributes: i16) -> Bytes {
    assert!(!records.is_empty(), "a batch has at least one record");
    let base_timestamp = records[0].timestamp.as_millis();
    let max_timestamp = records
        .iter()
        .map(|record| record.timestamp.as_millis())
        .max();
    let sizes: Vec<usize> = records
        .iter()
        .enumerate()
        .map(|(delta, record)| record_bytes(record, delta, base_timestamp))
        .collect();
    let body: usize = sizes
        .iter()
        .map(|size| size + length_bytes(Some(*size)))
        .sum();
    let count = i32::try_from(records.len()).expect("the caller keeps batches below 2 GiB");
    let length =
        i32::try_from(HEADER_BYTES - 12 + body).expect("the caller keeps batches below 2 GiB");
    let mut batch = BytesMut::with_capacity(HEADER_BYTES + body);
    batch.put_i64(0);
    batch.put_i32(length);
    batch.put_i32(-1);
    batch.put_i8(2);
    batch.put_u32(0);
    batch.put_i16(attributes);
    batch.put_i32(count - 1);
    batch.put_i64(base_timestamp);
    batch.put_i64(max_timestamp.unwrap_or(base_timestamp));
    batch.put_i64(producer.id);
    batch.put_i16(producer.epoch);
    batch.put_i32(producer.sequence);
    batch.put_i32(count);
    for ((delta, record), size) in records.iter().enumerate().zip(sizes) {
        put_length(&mut batch, Some(size));
        batch.put_i8(0);
        put_varint(
            &mut batch,
            record.timestamp.as_millis().wrapping_sub(base_timestamp),
        );
        put_length(&mut batch, Some(delta));
        put_field(&mut batch, record.key.as_ref());
        put_field(&mut batch, record.value.as_ref());
        put_length(&mut batch, Some(record.headers.len()));
        for (name, value) in &record.headers {
            put_field(&mut batch, Some(name));
            put_field(&mut batch, value.as_ref());
        }
    }
    let crc = crc32c::crc32c(&batch[CHECKSUMMED_AT..]);
    batch[CHECKSUMMED_AT - 4..CHECKSUMMED_AT].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}

/// What a record takes in a batch after its length.
fn record_bytes(record: &Record, delta: usize, base_timestamp: i64) -> usize {
    let field = |field: Option<&Bytes>| {
        let length = field.map(Bytes::len);
        length_bytes(length) + length.unwrap_or(0)
    };
    let headers = record.headers.iter();
    let headers = headers.map(|(name, value)| field(Some(name)) + field(value.as_ref()));
    1 + varint_bytes(record.timestamp.as_millis().wrapping_sub(base_timestamp))
        + length_bytes(Some(delta))
        + field(record.key.as_ref())
        + field(record.value.as_ref())
        + length_bytes(Some(record.headers.len()))
        + headers.sum::<usize>()
}

/// The records of a batch, decoded one at a time: what is not asked for costs nothing. It ends after
/// the first error.
#[derive(Clone, Debug)]
pub struct Records {
    header: Header,
    input: Bytes,
    index: usize,
    count: usize,
}

impl Records {
    /// Those of a batch whose records section is `decompressed`, as for [`records`].
    pub fn new(header: &Header, decompressed: Bytes) -> Self {
        Self {
            header: *header,
            input: decompressed,
            index: 0,
            count: usize::try_from(header.record_count).unwrap_or(0),
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record, InvalidBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index == self.count {
            return None;
        }
        let index = std::mem::replace(&mut self.index, self.count);
        let record = read_record(&self.header, &mut self.input);
        if record.is_ok() {
            self.index = index + 1;
        }
        Some(record.map_err(|reason| InvalidBatch::Record { index, reason }))
    }
}

/// The records of a batch whose records section is `decompressed` (for an uncompressed batch:
/// `batch.slice(HEADER_BYTES..)`). Never allocates more than the input allows.
pub fn records(header: &Header, decompressed: &Bytes) -> Result<Vec<Record>, InvalidBatch> {
    let count = usize::try_from(header.record_count)
        .map_err(|_error| InvalidBatch::Inconsistent("its record count is negative"))?;
    let mut input = decompressed.clone();
    let mut records = Vec::with_capacity(count.min(input.len() / RECORD_BYTES_MIN));
    for index in 0..count {
        let record = read_record(header, &mut input)
            .map_err(|reason| InvalidBatch::Record { index, reason })?;
        records.push(record);
    }
    if input.is_empty() {
        Ok(records)
    } else {
        Err(InvalidBatch::Trailing(input.len()))
    }
}

fn read_record(header: &Header, input: &mut Bytes) -> Result<Record, &'static str> {
    let mut record = take(input)?.ok_or("its length is negative")?;
    if record.is_empty() {
        return Err("it is empty");
    }
    record.advance(1);
    let timestamp_delta = varint(&mut record)?;
    let offset_delta = varint(&mut record)?;
    let key = take(&mut record)?;
    let value = take(&mut record)?;
    let count =
        usize::try_from(varint(&mut record)?).map_err(|_error| "its header count is negative")?;
    if count > record.len() / HEADER_BYTES_MIN {
        return Err("its header count exceeds its size");
    }
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let name = take(&mut record)?.ok_or("a header has no name")?;
        headers.push((name, take(&mut record)?));
    }
    if !record.is_empty() {
        return Err("bytes follow its headers");
    }
    let timestamp = if header.is_log_append_time() {
        header.max_timestamp
    } else {
        header.base_timestamp.wrapping_add(timestamp_delta)
    };
    Ok(Record {
        offset: header
            .base_offset
            .checked_add(offset_delta)
            .ok_or("its offset overflows")?,
        timestamp: Timestamp::from_millis(timestamp),
        key,
        value,
        headers,
    })
}

/// A length-prefixed field; `None` for the length -1.
pub(super) fn take(input: &mut Bytes) -> Result<Option<Bytes>, &'static str> {
    let length = varint(input)?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_error| "a length is negative")?;
    if length > input.len() {
        return Err("a length exceeds the batch");
    }
    Ok(Some(input.split_to(length)))
}

/// A zigzag-encoded variable-length number of at most ten bytes.
pub(super) fn varint(input: &mut Bytes) -> Result<i64, &'static str> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        if input.is_empty() {
            return Err("it ends inside a number");
        }
        let byte = input.get_u8();
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    Err("a number is longer than ten bytes")
}

pub(super) fn put_varint(output: &mut BytesMut, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while value >= 0x80 {
        output.put_u8(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    output.put_u8(u8::try_from(value).unwrap_or(0));
}

/// What [`put_varint`] writes.
fn varint_bytes(value: i64) -> usize {
    let value = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let bits = u64::BITS - value.max(1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// What [`put_length`] writes.
fn length_bytes(length: Option<usize>) -> usize {
    varint_bytes(length.map_or(-1, |length| i64::try_from(length).unwrap_or(i64::MAX)))
}

/// A length, or -1 for none.
fn put_length(output: &mut BytesMut, length: Option<usize>) {
    let length = length.map_or(-1, |length| i64::try_from(length).unwrap_or(i64::MAX));
    put_varint(output, length);
}

fn put_field(output: &mut BytesMut, field: Option<&Bytes>) {
    put_length(output, field.map(Bytes::len));
    if let Some(field) = field {
        output.put_slice(field);
    }
}
