//! Compression codecs with bounded output, for looking into batches when a question needs it, and for
//! compaction.
//!
//! Nothing here is on the way of ordinary produce and fetch requests: batches stay opaque. Output
//! never exceeds [`OUTPUT_BYTES_MAX`], whatever the input claims, and records are glanced at in
//! place, so a hostile batch costs bounded memory and no allocation per record.

use std::io::{self, Read, Write};
use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};
use wharf_log::batch::{self, Compression, HEADER_BYTES, Header, Record};

use crate::{Error, ErrorKind};

/// The most bytes a batch may decompress to. A fixed bound refuses decompression bombs of any
/// ratio; it is far above what fits a batch that clients accept back.
pub(crate) const OUTPUT_BYTES_MAX: usize = 128 << 20;

/// The start of the framing that Kafka's Java clients put around Snappy blocks.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
/// Magic and two version numbers.
const XERIAL_HEADER_BYTES: usize = 16;
/// How much goes into one Snappy block.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

/// What a record shows without being decoded whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Glance {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) has_key: bool,
}

fn invalid(reason: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::CorruptMessage,
        format!("the batch's records cannot be read: {reason}"),
    )
}

fn too_large(max: usize) -> Error {
    Error::new(
        ErrorKind::CorruptMessage,
        format!("the batch's records decompress to more than {max} bytes"),
    )
}

/// Decompresses to at most `max` bytes; what is not compressed is shared, not copied.
pub(crate) fn decompress(
    compression: Compression,
    input: &Bytes,
    max: usize,
) -> Result<Bytes, Error> {
    let output = match compression {
        Compression::None => return Ok(input.clone()),
        Compression::Gzip => read_bounded(flate2::read::MultiGzDecoder::new(&input[..]), max)?,
        Compression::Snappy => snappy(input, max)?,
        Compression::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(&input[..]), max)?,
        Compression::Zstd => read_bounded(
            zstd::stream::read::Decoder::new(&input[..]).map_err(invalid)?,
            max,
        )?,
    };
    Ok(output.into())
}

/// Compresses as clients expect it: Snappy in Xerial's framing, LZ4 in independent blocks, each at its
/// default level.
pub(crate) fn compress(compression: Compression, input: &Bytes) -> io::Result<Bytes> {
    compress_at(compression, None, input)
}

/// The same at a level, where the codec has levels.
pub(crate) fn compress_at(
    compression: Compression,
    level: Option<i32>,
    input: &Bytes,
) -> io::Result<Bytes> {
    let output = match compression {
        Compression::None => return Ok(input.clone()),
        Compression::Gzip => {
            let level = level.and_then(|level| u32::try_from(level).ok());
            let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(input)?;
            encoder.finish()?
        }
        Compression::Snappy => return xerial(input),
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(input)?;
            encoder.finish().map_err(io::Error::other)?
        }
        Compression::Zstd => {
            zstd::encode_all(&input[..], level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL))?
        }
    };
    Ok(output.into())
}

/// Xerial's sequence of length-prefixed Snappy blocks.
fn xerial(input: &[u8]) -> io::Result<Bytes> {
    let mut output = BytesMut::new();
    output.put_slice(XERIAL_MAGIC);
    output.put_i32(1);
    output.put_i32(1);
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(XERIAL_BLOCK_BYTES) {
        let block = encoder.compress_vec(block).map_err(io::Error::other)?;
        output.put_u32(u32::try_from(block.len()).map_err(io::Error::other)?);
        output.put_slice(&block);
    }
    Ok(output.freeze())
}

/// The codecs as the log's compaction wants them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogCodec;

impl wharf_log::Codec for LogCodec {
    fn decompress(&self, compression: Compression, input: &Bytes) -> io::Result<Bytes> {
        decompress(compression, input, OUTPUT_BYTES_MAX).map_err(io::Error::other)
    }

    fn compress(&self, compression: Compression, input: &Bytes) -> io::Result<Bytes> {
        compress(compression, input)
    }
}

/// The records of a whole batch, decompressed.
pub(crate) fn body(header: &Header, batch: &Bytes) -> Result<Bytes, Error> {
    let compression = header
        .compression()
        .ok_or_else(|| invalid("its compression is unknown"))?;
    if header.batch_bytes() < HEADER_BYTES || header.batch_bytes() > batch.len() {
        return Err(invalid("the batch is shorter than it says"));
    }
    decompress(
        compression,
        &batch.slice(HEADER_BYTES..header.batch_bytes()),
        OUTPUT_BYTES_MAX,
    )
}

/// The header of the first batch in `batches`, and what follows that batch.
pub(crate) fn first_batch(batches: &Bytes) -> Result<(Header, Bytes), Error> {
    let broken = |reason: String| Error::new(ErrorKind::KafkaStorageError, reason);
    let header = batch::header(batches).map_err(|error| broken(error.to_string()))?;
    if header.batch_bytes() > batches.len() {
        return Err(broken("a stored batch is shorter than it says".to_owned()));
    }
    let rest = batches.slice(header.batch_bytes()..);
    Ok((header, rest))
}

/// Decodes the records of neighbouring batches from offset `from` on, until `records` holds `max`;
/// returns the offset after the last batch looked into.
pub(crate) fn records_from(
    batches: &Bytes,
    from: i64,
    max: usize,
    records: &mut Vec<Record>,
) -> Result<i64, Error> {
    let mut rest = batches.clone();
    let mut next = from;
    while !rest.is_empty() && records.len() < max {
        let (header, after) = first_batch(&rest)?;
        next = header.last_offset() + 1;
        let body = body(&header, &rest)?;
        // One at a time, so that a batch of very many tiny records costs no more than asked for.
        let one = Header {
            record_count: 1,
            ..header
        };
        let mut unread = &body[..];
        for _ in 0..header.record_count {
            let start = body.len() - unread.len();
            let glance = glance_at(&header, next_record(&mut unread)?)?;
            if records.len() == max {
                break;
            }
            if glance.offset >= from {
                let bytes = body.slice(start..body.len() - unread.len());
                records.extend(batch::records(&one, &bytes).map_err(invalid)?);
            }
        }
        rest = after;
    }
    Ok(next)
}

fn read_bounded(reader: impl Read, max: usize) -> Result<Vec<u8>, Error> {
    let mut output = Vec::new();
    reader
        .take(max as u64 + 1)
        .read_to_end(&mut output)
        .map_err(invalid)?;
    if output.len() > max {
        Err(too_large(max))
    } else {
        Ok(output)
    }
}

/// Raw Snappy, or Xerial's sequence of length-prefixed raw blocks.
fn snappy(input: &[u8], max: usize) -> Result<Vec<u8>, Error> {
    if !input.starts_with(XERIAL_MAGIC) {
        return snappy_block(input, max);
    }
    let mut rest = input
        .get(XERIAL_HEADER_BYTES..)
        .ok_or_else(|| invalid("no block follows"))?;
    let mut output = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let Some((block, after)) = after.split_at_checked(length) else {
            return Err(invalid("a Snappy block is truncated"));
        };
        output.extend(snappy_block(block, max - output.len())?);
        rest = after;
    }
    if rest.is_empty() {
        Ok(output)
    } else {
        Err(invalid("a Snappy block has no length"))
    }
}

fn snappy_block(block: &[u8], max: usize) -> Result<Vec<u8>, Error> {
    // The length is only claimed: it must fit the bound and be possible for the input's size
    // (Snappy expands a byte to 64 at most) before anything is allocated for it.
    let claimed = snap::raw::decompress_len(block).map_err(invalid)?;
    if claimed > max {
        return Err(too_large(max));
    }
    if claimed > block.len().saturating_mul(64) {
        return Err(invalid("a Snappy block claims an impossible size"));
    }
    snap::raw::Decoder::new()
        .decompress_vec(block)
        .map_err(invalid)
}

/// Shows the records of a whole batch one after the other, until `look` breaks.
pub(crate) fn glance<B>(
    header: &Header,
    batch: &Bytes,
    mut look: impl FnMut(Glance) -> ControlFlow<B>,
) -> Result<Option<B>, Error> {
    let records = body(header, batch)?;
    let mut rest = &records[..];
    for _ in 0..header.record_count {
        let record = next_record(&mut rest)?;
        if let ControlFlow::Break(found) = look(glance_at(header, record)?) {
            return Ok(Some(found));
        }
    }
    if rest.is_empty() {
        Ok(None)
    } else {
        Err(invalid("bytes follow its last record"))
    }
}

fn next_record<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Error> {
    let length =
        usize::try_from(varint(rest)?).map_err(|_negative| invalid("a length is negative"))?;
    let (record, after) = rest
        .split_at_checked(length)
        .ok_or_else(|| invalid("a record exceeds the batch"))?;
    *rest = after;
    Ok(record)
}

fn glance_at(header: &Header, record: &[u8]) -> Result<Glance, Error> {
    let (_attributes, mut rest) = record
        .split_first()
        .ok_or_else(|| invalid("a record is empty"))?;
    let timestamp_delta = varint(&mut rest)?;
    let offset_delta = varint(&mut rest)?;
    let has_key = varint(&mut rest)? >= 0;
    // Compaction leaves batches with fewer records than offsets.
    if !(0..=i64::from(header.last_offset_delta)).contains(&offset_delta) {
        return Err(invalid("a record's offset is outside the batch"));
    }
    let timestamp = if header.is_log_append_time() {
        header.max_timestamp
    } else {
        header.base_timestamp.wrapping_add(timestamp_delta)
    };
    Ok(Glance {
        offset: header.base_offset.saturating_add(offset_delta),
        timestamp,
        has_key,
    })
}

/// A zigzag-encoded variable-length number of at most ten bytes.
fn varint(rest: &mut &[u8]) -> Result<i64, Error> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (byte, after) = rest
            .split_first()
            .ok_or_else(|| invalid("a number is cut off"))?;
        *rest = after;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    Err(invalid("a number is longer than ten bytes"))
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
