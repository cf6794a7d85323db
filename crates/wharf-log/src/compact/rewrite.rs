//! What becomes of one batch: which of its records stay, and the batch without the others.
//!
//! Invariants: offsets never change, neither those of records nor those of the batch; a batch that
//! cannot be decoded or encoded again stays byte for byte; nothing is held for each record, so a
//! batch costs no more memory than its records decompressed, twice.

use std::io;

use bytes::{Bytes, BytesMut};

use crate::Codec;
use crate::batch::{self, Header, RawRecord, RawRecords};

/// What becomes of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays as it is.
    Stays,
    /// It becomes this one.
    Becomes(Bytes),
    /// Nothing of it is left.
    Goes,
}

/// When tombstones and markers go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Horizon {
    /// The time now in milliseconds.
    pub(super) now: i64,
    /// How long they are kept once they were compacted, in milliseconds.
    pub(super) retention: i64,
}

/// What a first look at the records says.
#[derive(Debug, Default)]
struct Survey {
    kept: i32,
    gone: i32,
    /// Whether tombstones (or a marker) stay.
    tombstones: bool,
    newest: Option<i64>,
}

/// Judges a batch by `keep`, which says whether a record is the newest of its key. Returns what
/// becomes of it, and when its first tombstone may go.
pub(super) fn rewrite(
    header: &Header,
    batch: &Bytes,
    codec: &dyn Codec,
    horizon: Horizon,
    keep: impl Fn(&RawRecord) -> bool,
) -> (Fate, Option<i64>) {
    try_rewrite(header, batch, codec, horizon, keep).unwrap_or((Fate::Stays, None))
}

fn try_rewrite(
    header: &Header,
    batch: &Bytes,
    codec: &dyn Codec,
    horizon: Horizon,
    keep: impl Fn(&RawRecord) -> bool,
) -> io::Result<(Fate, Option<i64>)> {
    let body = body(header, batch, codec)?;
    let due = header.delete_horizon();
    let expired = due.is_some_and(|due| horizon.now >= due);
    let is_tombstone = |record: &RawRecord| record.is_tombstone || header.is_control();
    let stays = |record: &RawRecord| keep(record) && !(expired && is_tombstone(record));
    let mut survey = Survey::default();
    for record in RawRecords::new(header, &body) {
        let record = record.map_err(io::Error::other)?;
        if stays(&record) {
            survey.kept += 1;
            survey.tombstones |= is_tombstone(&record);
            survey.newest = survey.newest.max(Some(header.time_of(&record)));
        } else {
            survey.gone += 1;
        }
    }
    let Some(newest) = survey.newest else {
        return Ok((Fate::Goes, None));
    };
    let new_due = survey
        .tombstones
        .then(|| due.unwrap_or_else(|| horizon.now.saturating_add(horizon.retention)));
    let sets_horizon = due.is_none() && new_due.is_some();
    if survey.gone == 0 && !sets_horizon {
        return Ok((Fate::Stays, new_due));
    }
    let base_timestamp = new_due.filter(|_| sets_horizon);
    let mut records = BytesMut::new();
    for record in RawRecords::new(header, &body) {
        let record = record.map_err(io::Error::other)?;
        if stays(&record) {
            match base_timestamp {
                None => records.extend_from_slice(&record.bytes),
                Some(base) => {
                    let delta = header.base_timestamp.wrapping_sub(base);
                    record.encode(record.timestamp_delta.wrapping_add(delta), &mut records);
                }
            }
        }
    }
    let compression = header.compression().ok_or(io::ErrorKind::InvalidData)?;
    let records = codec.compress(compression, &records.freeze())?;
    let change = batch::Change {
        record_count: survey.kept,
        max_timestamp: newest,
        delete_horizon: base_timestamp,
    };
    let bytes = batch::with_records(batch, header, &change, &records).map_err(io::Error::other)?;
    Ok((Fate::Becomes(bytes), new_due))
}

/// The records of a batch, decompressed.
pub(super) fn body(header: &Header, batch: &Bytes, codec: &dyn Codec) -> io::Result<Bytes> {
    let compression = header.compression().ok_or(io::ErrorKind::InvalidData)?;
    codec.decompress(compression, &batch.slice(batch::HEADER_BYTES..))
}
