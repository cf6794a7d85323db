//! The journal's frames: one frame is one atomic set of entries. docs/specs/disk-format.md.
//!
//! ```text
//! | header 72 B | meta: entries | payload: record batches | zeros to 4 KiB |
//! ```
//!
//! Invariants: a frame starts at a multiple of [`ALIGNMENT`]; it carries the log's secret, so no scan
//! takes bytes that a client made up for a frame; decoding never panics or allocates beyond the input. Nothing here reads or writes files.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{PartitionId, TransactionOutcome};

/// Frames start at multiples of this, so that no sector of an acknowledged frame is written again.
pub(crate) const ALIGNMENT: usize = 4096;
/// The fixed part of a frame.
pub(crate) const HEADER_BYTES: usize = 72;
/// The format version written. Version 1, which had no transactions, is read as well.
pub(crate) const VERSION: u16 = 2;
/// The oldest format version read.
const VERSION_MIN: u16 = 1;
/// How many partition ends of the previous frame a frame repeats at most.
pub(crate) const ENDED_MAX: usize = 1024;

const MAGIC: [u8; 8] = *b"WHARFJNL";
const CRC_AT: usize = 12;
const KIND_CREATE: u8 = 1;
const KIND_REMOVE: u8 = 2;
const KIND_ADVANCE_START: u8 = 3;
const KIND_APPEND: u8 = 4;
const KIND_APPEND_PRODUCER: u8 = 5;
const KIND_PUT: u8 = 6;
const KIND_DELETE: u8 = 7;
const KIND_ENDED: u8 = 8;
const KIND_APPEND_TRANSACTIONAL: u8 = 9;
const KIND_MARKER: u8 = 10;

/// What a frame says, in the order in which it takes effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Create(PartitionId),
    Remove(PartitionId),
    AdvanceStart {
        partition: PartitionId,
        offset: i64,
    },
    Append(AppendEntry),
    Put {
        key: Bytes,
        value: Bytes,
    },
    Delete {
        key: Bytes,
    },
    /// The end offset of a partition that the previous frame appended to: what is left of that
    /// frame when it is damaged.
    Ended {
        partition: PartitionId,
        end: i64,
    },
}

/// One batch in the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AppendEntry {
    pub(crate) partition: PartitionId,
    pub(crate) base_offset: i64,
    pub(crate) last_delta: u32,
    /// Where the batch starts in the payload.
    pub(crate) position: u32,
    pub(crate) bytes: u32,
    pub(crate) max_timestamp: i64,
    pub(crate) origin: Origin,
}

/// Who made a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A producer without an id.
    Plain,
    Producer(ProducerEntry),
    /// The log, at the end of a transaction.
    Marker(MarkerEntry),
}

/// The idempotent producer of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerEntry {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    pub(crate) first_sequence: i32,
    pub(crate) transactional: bool,
}

/// The end of a producer's transaction in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MarkerEntry {
    pub(crate) producer: i64,
    pub(crate) epoch: i16,
    pub(crate) coordinator_epoch: i32,
    pub(crate) outcome: TransactionOutcome,
}

impl AppendEntry {
    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_delta))
    }
}

/// The fixed part of a frame, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The number of the file the frame was written for; an older life of the file never matches.
    pub(crate) file: u64,
    /// Grows by one from frame to frame, across files.
    pub(crate) sequence: u64,
    /// Every frame up to this sequence was durable when this one was written.
    pub(crate) synced: u64,
    /// The time of the append in milliseconds.
    pub(crate) time: i64,
    /// The same in all frames of a log; clients cannot know it.
    pub(crate) secret: u64,
    pub(crate) meta_bytes: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) payload_crc: u32,
    /// The size of the file in multiples of [`ALIGNMENT`]; 0 in frames of before it was written down.
    pub(crate) file_blocks: u32,
}

/// What the start of some bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// No frame of this format.
    Nothing,
    /// A frame of another version (the magic is right).
    OtherVersion(u16),
    /// A header; its checksum is not checked yet (it covers the meta part, too).
    Header(Header),
}

impl Header {
    /// Reads the fixed part.
    pub(crate) fn parse(bytes: &[u8]) -> Parsed {
        if bytes.len() < HEADER_BYTES || bytes[..8] != MAGIC {
            return Parsed::Nothing;
        }
        let mut input = &bytes[8..HEADER_BYTES];
        let version = input.get_u16_le();
        if !(VERSION_MIN..=VERSION).contains(&version) {
            return Parsed::OtherVersion(version);
        }
        input.advance(6);
        Parsed::Header(Self {
            file: input.get_u64_le(),
            sequence: input.get_u64_le(),
            synced: input.get_u64_le(),
            time: input.get_i64_le(),
            secret: input.get_u64_le(),
            meta_bytes: input.get_u32_le(),
            payload_bytes: input.get_u32_le(),
            payload_crc: input.get_u32_le(),
            file_blocks: input.get_u32_le(),
        })
    }

    /// How large the file was made; 0 when the frame does not say.
    pub(crate) fn file_bytes(&self) -> u64 {
        u64::from(self.file_blocks) * ALIGNMENT as u64
    }

    /// Where the payload starts in the frame.
    pub(crate) fn payload_at(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.meta_bytes)
    }

    /// The frame without the zeros that follow it.
    pub(crate) fn frame_bytes(&self) -> u64 {
        self.payload_at() + u64::from(self.payload_bytes)
    }

    /// The frame up to where the next one starts.
    pub(crate) fn padded_bytes(&self) -> u64 {
        self.frame_bytes().next_multiple_of(ALIGNMENT as u64)
    }
}

/// Whether the checksum over header and meta is right; `bytes` holds at least both.
pub(crate) fn meta_holds(bytes: &[u8], header: &Header) -> bool {
    let Ok(end) = usize::try_from(header.payload_at()) else {
        return false;
    };
    end <= bytes.len() && bytes[CRC_AT..CRC_AT + 4] == meta_crc(&bytes[..end]).to_le_bytes()
}

/// The checksum of header and meta, leaving out the checksum itself.
fn meta_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..CRC_AT]), &bytes[CRC_AT + 4..])
}

/// The entries of a meta part whose checksum was right; `None` when they make no sense even so.
pub(crate) fn decode_meta(meta: &Bytes, payload_bytes: u32) -> Option<Vec<Entry>> {
    let mut input = meta.clone();
    let mut entries = Vec::new();
    while input.has_remaining() {
        let entry = match input.get_u8() {
            KIND_CREATE => Entry::Create(partition(&mut input)?),
            KIND_REMOVE => Entry::Remove(partition(&mut input)?),
            KIND_ADVANCE_START => Entry::AdvanceStart {
                partition: partition(&mut input)?,
                offset: input.try_get_i64_le().ok()?,
            },
            kind @ (KIND_APPEND
            | KIND_APPEND_PRODUCER
            | KIND_APPEND_TRANSACTIONAL
            | KIND_MARKER) => Entry::Append(decode_append(&mut input, kind, payload_bytes)?),
            KIND_PUT => Entry::Put {
                key: field(&mut input)?,
                value: field(&mut input)?,
            },
            KIND_DELETE => Entry::Delete {
                key: field(&mut input)?,
            },
            KIND_ENDED => Entry::Ended {
                partition: partition(&mut input)?,
                end: input.try_get_i64_le().ok()?,
            },
            _ => return None,
        };
        entries.push(entry);
    }
    Some(entries)
}

fn partition(input: &mut Bytes) -> Option<PartitionId> {
    input.try_get_u64_le().ok().map(PartitionId)
}

fn field(input: &mut Bytes) -> Option<Bytes> {
    let bytes = usize::try_from(input.try_get_u32_le().ok()?).ok()?;
    // A copy: the state lives long and must not keep a whole frame in memory.
    (bytes <= input.len()).then(|| Bytes::copy_from_slice(&input.split_to(bytes)))
}

fn decode_append(input: &mut Bytes, kind: u8, payload_bytes: u32) -> Option<AppendEntry> {
    let mut entry = AppendEntry {
        partition: partition(input)?,
        base_offset: input.try_get_i64_le().ok()?,
        last_delta: input.try_get_u32_le().ok()?,
        position: input.try_get_u32_le().ok()?,
        bytes: input.try_get_u32_le().ok()?,
        max_timestamp: input.try_get_i64_le().ok()?,
        origin: Origin::Plain,
    };
    if kind != KIND_APPEND {
        let id = input.try_get_i64_le().ok()?;
        let epoch = input.try_get_i16_le().ok()?;
        let number = input.try_get_i32_le().ok()?;
        entry.origin = if kind == KIND_MARKER {
            Origin::Marker(MarkerEntry {
                producer: id,
                epoch,
                coordinator_epoch: number,
                outcome: outcome(input.try_get_u8().ok()?)?,
            })
        } else {
            Origin::Producer(ProducerEntry {
                id,
                epoch,
                first_sequence: number,
                transactional: kind == KIND_APPEND_TRANSACTIONAL,
            })
        };
    }
    let inside = entry
        .position
        .checked_add(entry.bytes)
        .is_some_and(|end| end <= payload_bytes);
    let sane = entry.base_offset >= 0 && entry.base_offset.checked_add(1 << 33).is_some();
    (inside && sane).then_some(entry)
}

fn outcome(code: u8) -> Option<TransactionOutcome> {
    match code {
        0 => Some(TransactionOutcome::Abort),
        1 => Some(TransactionOutcome::Commit),
        _ => None,
    }
}

/// How many bytes an entry takes in the meta part.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    match entry {
        Entry::Create(_) | Entry::Remove(_) => 9,
        Entry::AdvanceStart { .. } | Entry::Ended { .. } => 17,
        Entry::Append(append) => match append.origin {
            Origin::Plain => 37,
            Origin::Producer(_) => 51,
            Origin::Marker(_) => 52,
        },
        Entry::Put { key, value } => 9 + key.len() + value.len(),
        Entry::Delete { key } => 5 + key.len(),
    }
}

fn encode_entry(output: &mut BytesMut, entry: &Entry) {
    let field = |output: &mut BytesMut, bytes: &Bytes| {
        output.put_u32_le(u32::try_from(bytes.len()).expect("units are far smaller than 4 GiB"));
        output.put_slice(bytes);
    };
    match entry {
        Entry::Create(partition) => {
            output.put_u8(KIND_CREATE);
            output.put_u64_le(partition.0);
        }
        Entry::Remove(partition) => {
            output.put_u8(KIND_REMOVE);
            output.put_u64_le(partition.0);
        }
        Entry::AdvanceStart { partition, offset } => {
            output.put_u8(KIND_ADVANCE_START);
            output.put_u64_le(partition.0);
            output.put_i64_le(*offset);
        }
        Entry::Append(append) => encode_append(output, append),
        Entry::Put { key, value } => {
            output.put_u8(KIND_PUT);
            field(output, key);
            field(output, value);
        }
        Entry::Delete { key } => {
            output.put_u8(KIND_DELETE);
            field(output, key);
        }
        Entry::Ended { partition, end } => {
            output.put_u8(KIND_ENDED);
            output.put_u64_le(partition.0);
            output.put_i64_le(*end);
        }
    }
}

fn encode_append(output: &mut BytesMut, append: &AppendEntry) {
    let kind = match append.origin {
        Origin::Plain => KIND_APPEND,
        Origin::Producer(producer) if producer.transactional => KIND_APPEND_TRANSACTIONAL,
        Origin::Producer(_) => KIND_APPEND_PRODUCER,
        Origin::Marker(_) => KIND_MARKER,
    };
    output.put_u8(kind);
    output.put_u64_le(append.partition.0);
    output.put_i64_le(append.base_offset);
    output.put_u32_le(append.last_delta);
    output.put_u32_le(append.position);
    output.put_u32_le(append.bytes);
    output.put_i64_le(append.max_timestamp);
    match append.origin {
        Origin::Plain => {}
        Origin::Producer(producer) => {
            output.put_i64_le(producer.id);
            output.put_i16_le(producer.epoch);
            output.put_i32_le(producer.first_sequence);
        }
        Origin::Marker(marker) => {
            output.put_i64_le(marker.producer);
            output.put_i16_le(marker.epoch);
            output.put_i32_le(marker.coordinator_epoch);
            output.put_u8(u8::from(marker.outcome == TransactionOutcome::Commit));
        }
    }
}

/// What identifies a frame to be encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) file: u64,
    pub(crate) sequence: u64,
    pub(crate) synced: u64,
    pub(crate) time: i64,
    pub(crate) secret: u64,
    pub(crate) file_bytes: u64,
}

/// The size of the frame up to the next one.
pub(crate) fn size(meta_bytes: usize, payload_bytes: usize) -> usize {
    (HEADER_BYTES + meta_bytes + payload_bytes).next_multiple_of(ALIGNMENT)
}

/// A frame ready to be written: padded to [`ALIGNMENT`].
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) frame: Bytes,
    /// Where the payload starts.
    pub(crate) payload_at: usize,
}

/// Encodes a frame. `fill` appends exactly `payload_bytes` of payload to the buffer it is given and
/// returns their CRC-32C.
pub(crate) fn encode(
    identity: Identity,
    entries: &[Entry],
    payload_bytes: usize,
    fill: impl FnOnce(&mut BytesMut) -> u32,
) -> Encoded {
    let meta_bytes = entries.iter().map(entry_bytes).sum::<usize>();
    let mut frame = BytesMut::with_capacity(size(meta_bytes, payload_bytes));
    frame.put_bytes(0, HEADER_BYTES);
    for entry in entries {
        encode_entry(&mut frame, entry);
    }
    let payload_at = frame.len();
    let payload_crc = fill(&mut frame);
    debug_assert_eq!(
        frame.len(),
        payload_at + payload_bytes,
        "the payload has the size announced"
    );
    let length = |bytes: usize| u32::try_from(bytes).expect("frames are far smaller than 4 GiB");
    let mut header = BytesMut::with_capacity(HEADER_BYTES);
    header.put_slice(&MAGIC);
    header.put_u16_le(VERSION);
    header.put_u16_le(0);
    header.put_u32_le(0);
    header.put_u64_le(identity.file);
    header.put_u64_le(identity.sequence);
    header.put_u64_le(identity.synced);
    header.put_i64_le(identity.time);
    header.put_u64_le(identity.secret);
    header.put_u32_le(length(payload_at - HEADER_BYTES));
    header.put_u32_le(length(payload_bytes));
    header.put_u32_le(payload_crc);
    // Journal files are at most 2 GiB.
    let blocks = identity.file_bytes / ALIGNMENT as u64;
    header.put_u32_le(u32::try_from(blocks).unwrap_or(0));
    frame[..HEADER_BYTES].copy_from_slice(&header);
    let crc = meta_crc(&frame[..payload_at]);
    frame[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    let padding = frame.len().next_multiple_of(ALIGNMENT) - frame.len();
    frame.put_bytes(0, padding);
    Encoded {
        frame: frame.freeze(),
        payload_at,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        vec(any::<u8>(), 0..40).prop_map(Bytes::from)
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let partition = || any::<u64>().prop_map(PartitionId);
        let origin = (
            any::<i64>(),
            any::<i16>(),
            any::<i32>(),
            any::<bool>(),
            0..3_u8,
        )
            .prop_map(|(id, epoch, number, choice, kind)| match kind {
                0 => Origin::Plain,
                1 => Origin::Producer(ProducerEntry {
                    id,
                    epoch,
                    first_sequence: number,
                    transactional: choice,
                }),
                _ => Origin::Marker(MarkerEntry {
                    producer: id,
                    epoch,
                    coordinator_epoch: number,
                    outcome: if choice {
                        TransactionOutcome::Commit
                    } else {
                        TransactionOutcome::Abort
                    },
                }),
            });
        let append = (
            partition(),
            0..i64::MAX / 2,
            any::<u32>(),
            0..50_u32,
            0..50_u32,
            any::<i64>(),
            origin,
        );
        prop_oneof![
            partition().prop_map(Entry::Create),
            partition().prop_map(Entry::Remove),
            (partition(), any::<i64>())
                .prop_map(|(partition, offset)| Entry::AdvanceStart { partition, offset }),
            (partition(), any::<i64>())
                .prop_map(|(partition, end)| Entry::Ended { partition, end }),
            (bytes(), bytes()).prop_map(|(key, value)| Entry::Put { key, value }),
            bytes().prop_map(|key| Entry::Delete { key }),
            append.prop_map(
                |(partition, base_offset, last_delta, position, bytes, max_timestamp, origin)| {
                    Entry::Append(AppendEntry {
                        partition,
                        base_offset,
                        last_delta,
                        position,
                        bytes,
                        max_timestamp,
                        origin,
                    })
                }
            ),
        ]
    }

    const IDENTITY: Identity = Identity {
        file: 3,
        sequence: 9,
        synced: 8,
        time: -1,
        secret: 77,
        file_bytes: 128 << 10,
    };

    fn encoded(entries: &[Entry], payload: &[u8]) -> Encoded {
        encode(IDENTITY, entries, payload.len(), |frame| {
            frame.put_slice(payload);
            crc32c::crc32c(payload)
        })
    }

    proptest! {
        #[test]
        fn a_frame_is_read_back(entries in vec(entry(), 0..30), payload in vec(any::<u8>(), 100..9000)) {
            let Encoded { frame, payload_at } = encoded(&entries, &payload);
            let Parsed::Header(header) = Header::parse(&frame) else { panic!("no header") };
            prop_assert_eq!((header.file, header.sequence, header.synced, header.time, header.secret), (3, 9, 8, -1, 77));
            prop_assert_eq!(header.file_blocks, 32);
            prop_assert_eq!(header.padded_bytes(), frame.len() as u64);
            prop_assert_eq!(header.payload_at(), payload_at as u64);
            prop_assert!(meta_holds(&frame, &header));
            prop_assert_eq!(&frame[payload_at..payload_at + payload.len()], &payload[..]);
            prop_assert_eq!(header.payload_crc, crc32c::crc32c(&payload));
            let meta = frame.slice(HEADER_BYTES..payload_at);
            prop_assert_eq!(decode_meta(&meta, header.payload_bytes), Some(entries));
        }

        #[test]
        fn a_flipped_bit_in_header_or_meta_is_found(entries in vec(entry(), 1..9), at: usize, bit in 0..8) {
            let Encoded { frame, payload_at } = encoded(&entries, &[7; 100]);
            let mut broken = BytesMut::from(&frame[..]);
            broken[at % payload_at] ^= 1_u8 << bit;
            let holds = match Header::parse(&broken) {
                Parsed::Header(header) => meta_holds(&broken, &header),
                _ => false,
            };
            prop_assert!(!holds);
        }

        #[test]
        fn arbitrary_meta_never_panics(meta in vec(any::<u8>(), 0..400), payload_bytes: u32) {
            let _nonsense = decode_meta(&Bytes::from(meta), payload_bytes);
        }
    }
}
