//! The header of a record batch: decoding, verification, and the few fields the log patches.
//!
//! Invariants: nothing here panics or allocates on any input; a batch that [`verify`] accepted has
//! consistent sizes and counts, so the log may add its deltas to offsets. Records are never decoded
//! here.

use wharf_message::Timestamp;

use super::checksum::joined;

/// The size of a batch header in bytes.
pub const HEADER_BYTES: usize = 61;

/// The header of a batch, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The offset of the first record.
    pub base_offset: i64,
    /// Bytes after the length field; the whole batch is 12 longer.
    pub length: i32,
    /// The leader's epoch.
    pub leader_epoch: i32,
    /// The format; 2.
    pub magic: i8,
    /// CRC-32C from the attributes to the end.
    pub crc: u32,
    /// Compression, timestamp type, transactional, control.
    pub attributes: i16,
    /// The last record's offset relative to the first.
    pub last_offset_delta: i32,
    /// The first record's time.
    pub base_timestamp: i64,
    /// The newest record's time.
    pub max_timestamp: i64,
    /// The producer's id, or -1.
    pub producer_id: i64,
    /// The producer's epoch, or -1.
    pub producer_epoch: i16,
    /// The first record's sequence, or -1.
    pub base_sequence: i32,
    /// The number of records.
    pub record_count: i32,
}

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy, with or without Xerial framing.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// The attribute bits of a batch in this codec.
    pub(super) const fn bits(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }
}

/// Why bytes are no valid batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBatch {
    /// Fewer bytes than a header, or than the header promises.
    #[error("the batch is truncated: {found} bytes of {expected}")]
    Truncated {
        /// Bytes there.
        found: usize,
        /// Bytes promised.
        expected: usize,
    },
    /// More bytes than one batch.
    #[error("{0} bytes follow the batch")]
    Trailing(usize),
    /// Another format than 2.
    #[error("batch format {0} is not supported; 2 is")]
    Magic(i8),
    /// The checksum does not match.
    #[error("the batch's checksum is {found:08x}; its content gives {expected:08x}")]
    Crc {
        /// In the header.
        found: u32,
        /// Computed.
        expected: u32,
    },
    /// The counts in the header contradict each other.
    #[error("the batch header contradicts itself: {0}")]
    Inconsistent(&'static str),
    /// The records cannot be decoded.
    #[error("record {index} of the batch cannot be decoded: {reason}")]
    Record {
        /// Which record.
        index: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Where the fields are. Base offset and leader epoch lie before the checksummed part, so patching
/// them leaves the checksum alone.
const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
pub(super) const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
/// The bytes that the length field does not count.
const LENGTH_OVERHEAD: usize = 12;
/// Attribute bits: the codec.
pub(super) const COMPRESSION: i16 = 0x07;
/// Attribute bit: the batch is stamped with the time of the append.
const LOG_APPEND_TIME: i16 = 0x08;
/// Attribute bit: the batch belongs to a transaction.
pub(super) const TRANSACTIONAL: i16 = 0x10;
/// Attribute bit: the base timestamp says when the batch's tombstones may go (KIP-534).
pub(super) const DELETE_HORIZON: i16 = 0x40;
/// Attribute bit: the batch ends a transaction.
pub(super) const CONTROL: i16 = 0x20;

/// The `N` bytes at `at`. The caller has checked that they are there.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

/// Reads the header of the batch that starts `bytes`; checks size and magic, not the CRC.
pub fn header(bytes: &[u8]) -> Result<Header, InvalidBatch> {
    if bytes.len() < HEADER_BYTES {
        return Err(InvalidBatch::Truncated {
            found: bytes.len(),
            expected: HEADER_BYTES,
        });
    }
    let header = Header {
        base_offset: i64::from_be_bytes(field(bytes, 0)),
        length: i32::from_be_bytes(field(bytes, LENGTH_AT)),
        leader_epoch: i32::from_be_bytes(field(bytes, LEADER_EPOCH_AT)),
        magic: i8::from_be_bytes(field(bytes, MAGIC_AT)),
        crc: u32::from_be_bytes(field(bytes, CRC_AT)),
        attributes: i16::from_be_bytes(field(bytes, ATTRIBUTES_AT)),
        last_offset_delta: i32::from_be_bytes(field(bytes, 23)),
        base_timestamp: i64::from_be_bytes(field(bytes, 27)),
        max_timestamp: i64::from_be_bytes(field(bytes, MAX_TIMESTAMP_AT)),
        producer_id: i64::from_be_bytes(field(bytes, 43)),
        producer_epoch: i16::from_be_bytes(field(bytes, 51)),
        base_sequence: i32::from_be_bytes(field(bytes, 53)),
        record_count: i32::from_be_bytes(field(bytes, 57)),
    };
    if header.magic != 2 {
        return Err(InvalidBatch::Magic(header.magic));
    }
    if header.batch_bytes() < HEADER_BYTES {
        return Err(InvalidBatch::Inconsistent(
            "its length is less than a header",
        ));
    }
    Ok(header)
}

/// Checks that `bytes` is exactly one well-formed batch with a correct CRC.
pub fn verify(bytes: &[u8]) -> Result<Header, InvalidBatch> {
    let header = verify_content(bytes)?;
    header.check_consistency()?;
    Ok(header)
}

/// Checks that `bytes` is exactly one batch as the log stores it, with a correct CRC: after compaction
/// a batch may hold fewer records than offsets, or none.
pub fn verify_stored(bytes: &[u8]) -> Result<Header, InvalidBatch> {
    let header = verify_content(bytes)?;
    let (count, delta) = (header.record_count, header.last_offset_delta);
    if count < 0 || delta < 0 || count - 1 > delta {
        return Err(InvalidBatch::Inconsistent(
            "it has more records than offsets",
        ));
    }
    Ok(header)
}

fn verify_content(bytes: &[u8]) -> Result<Header, InvalidBatch> {
    let header = header(bytes)?;
    let expected = header.batch_bytes();
    if bytes.len() < expected {
        return Err(InvalidBatch::Truncated {
            found: bytes.len(),
            expected,
        });
    }
    if bytes.len() > expected {
        return Err(InvalidBatch::Trailing(bytes.len() - expected));
    }
    let computed = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
    if computed != header.crc {
        return Err(InvalidBatch::Crc {
            found: header.crc,
            expected: computed,
        });
    }
    Ok(header)
}

/// Whether the checksum of a whole batch, as stored, is right.
pub(crate) fn checksum_holds(batch: &[u8]) -> bool {
    header(batch).is_ok_and(|header| {
        header.batch_bytes() == batch.len() && crc32c::crc32c(&batch[ATTRIBUTES_AT..]) == header.crc
    })
}

/// From this size on a batch's own checksum is joined instead of computing it once more.
const JOINED_BYTES_MIN: usize = 8 << 10;

/// The checksum of everything before and of a verified batch after it. A large batch is not read
/// again: its header says the checksum of most of it.
pub(crate) fn checksum_on(before: u32, batch: &[u8]) -> u32 {
    match header(batch) {
        Ok(header) if batch.len() >= JOINED_BYTES_MIN && header.batch_bytes() == batch.len() => {
            let (start, rest) = batch.split_at(ATTRIBUTES_AT);
            joined(crc32c::crc32c_append(before, start), header.crc, rest.len())
        }
        _ => crc32c::crc32c_append(before, batch),
    }
}

/// Gives a verified batch its place: base offset, leader epoch 0 and, under log append time, the
/// time of the append (which changes the checksum).
pub(crate) fn place(batch: &mut [u8], base_offset: i64, append_time: Option<Timestamp>) {
    batch[..LENGTH_AT].copy_from_slice(&base_offset.to_be_bytes());
    batch[LEADER_EPOCH_AT..MAGIC_AT].copy_from_slice(&0_i32.to_be_bytes());
    let Some(time) = append_time else { return };
    let attributes = i16::from_be_bytes(field(batch, ATTRIBUTES_AT)) | LOG_APPEND_TIME;
    batch[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&time.as_millis().to_be_bytes());
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

impl Header {
    /// The whole batch in bytes.
    pub fn batch_bytes(&self) -> usize {
        usize::try_from(self.length).unwrap_or(0) + LENGTH_OVERHEAD
    }

    /// The offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
    }

    /// How the records are compressed; `None` for a codec that does not exist.
    pub fn compression(&self) -> Option<Compression> {
        match self.attributes & COMPRESSION {
            0 => Some(Compression::None),
            1 => Some(Compression::Gzip),
            2 => Some(Compression::Snappy),
            3 => Some(Compression::Lz4),
            4 => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether the batch is a control batch.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Whether the records carry the time of the append instead of the producer's.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// When tombstones of a batch that was compacted may go, in milliseconds (KIP-534).
    pub fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// Whether an idempotent producer wrote the batch.
    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    fn check_consistency(&self) -> Result<(), InvalidBatch> {
        let fail = |what| Err(InvalidBatch::Inconsistent(what));
        if self.record_count < 1 {
            return fail("it has no records");
        }
        if self.last_offset_delta != self.record_count - 1 {
            return fail("its offsets do not match its record count");
        }
        if self
            .base_offset
            .checked_add(i64::from(self.record_count))
            .is_none()
        {
            return fail("its offsets overflow");
        }
        if self.compression().is_none() {
            return fail("its compression is unknown");
        }
        let numbered = self.is_control() || self.base_sequence >= 0;
        if self.has_producer() && (self.producer_epoch < 0 || !numbered) {
            return fail("it has a producer id without epoch or sequence");
        }
        if self.is_transactional() && !self.has_producer() {
            return fail("it is transactional without a producer id");
        }
        Ok(())
    }
}
