//! Kafka record batches, format v2, as bytes: header access, verification, building, iterating.
//!
//! The log never decodes records on the produce or fetch path; `Builder` and `records` exist for
//! the server's own roles and for tests. Layout: Kafka protocol, "Record Batch".

use bytes::Bytes;
use wharf_message::Timestamp;

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

/// Reads the header of the batch that starts `bytes`; checks size and magic, not the CRC.
pub fn header(bytes: &[u8]) -> Result<Header, InvalidBatch> {
    let _ = bytes;
    unimplemented!()
}

/// Checks that `bytes` is exactly one well-formed batch with a correct CRC.
pub fn verify(bytes: &[u8]) -> Result<Header, InvalidBatch> {
    let _ = bytes;
    unimplemented!()
}

/// Builds an uncompressed batch with base offset 0. `records` must not be empty.
pub fn build(records: &[Record], producer: Option<Producer>) -> Bytes {
    let _ = (records, producer);
    unimplemented!()
}

/// The records of a batch whose records section is `decompressed` (for an uncompressed batch:
/// `batch.slice(HEADER_BYTES..)`). Never allocates more than the input allows.
pub fn records(header: &Header, decompressed: &Bytes) -> Result<Vec<Record>, InvalidBatch> {
    let _ = (header, decompressed);
    unimplemented!()
}

impl Header {
    /// The whole batch in bytes.
    pub fn batch_bytes(&self) -> usize {
        usize::try_from(self.length).unwrap_or(0) + 12
    }

    /// The offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// How the records are compressed; `None` for a codec that does not exist.
    pub fn compression(&self) -> Option<Compression> {
        match self.attributes & 0x07 {
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
        self.attributes & 0x10 != 0
    }

    /// Whether the batch is a control batch.
    pub fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }
}
