//! Kafka record batches, format v2, as bytes: header access, verification, building, iterating.
//!
//! The log never decodes records on the produce or fetch path; [`build`] and [`records()`] exist for
//! the server's own roles and for tests. Layout: Kafka protocol, "Record Batch".

mod checksum;
mod header;
mod marker;
mod raw;
mod records;
#[cfg(test)]
mod tests;

pub use header::{Compression, HEADER_BYTES, Header, InvalidBatch, header, verify, verify_stored};
pub(crate) use header::{checksum_holds, checksum_on, place};
pub use marker::{MARKER_BYTES, Marker, marker};
pub use raw::recompressed;
pub(crate) use raw::{Change, RawRecord, RawRecords, filler, with_records};
pub use records::{Producer, Record, Records, build, build_transactional, records};
