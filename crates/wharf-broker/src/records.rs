//! Records for services in the same process: from messages to a batch, and back.
//!
//! Nothing here is on the way of clients' requests: their batches stay opaque. Records are decoded
//! one at a time, so a hostile batch costs no more than what is asked of it (and its decompressed
//! bytes, which are bounded); keys and values share the batch's memory.

pub use wharf_log::batch::Record;

use bytes::Bytes;
use wharf_log::TransactionOutcome;
use wharf_log::batch::{self, HEADER_BYTES, Marker};

use crate::{Error, ErrorKind, codec};

/// What a batch takes beside its records, in bytes.
pub const BATCH_BYTES: usize = HEADER_BYTES;

/// The most that a record takes beside its key, its value and its headers, and each header beside its
/// name and value, in bytes.
pub const RECORD_BYTES: usize = 40;

/// A batch of these records, uncompressed.
///
/// # Panics
/// Without records, or when the batch would exceed 2 GiB.
pub fn encode(records: &[Record]) -> Bytes {
    batch::build(records, None)
}

/// A stored batch, opened.
#[derive(Debug)]
pub struct Batch {
    /// One past the last offset; the next batch begins there or later.
    pub end: i64,
    /// What is in it.
    pub content: Content,
}

/// What is in a batch.
#[derive(Debug)]
pub enum Content {
    /// Records.
    Records {
        /// The producer whose transaction they are a part of.
        transaction: Option<i64>,
        /// The records.
        records: Records,
    },
    /// The end of a producer's transaction.
    Marker {
        /// The producer.
        producer: i64,
        /// Whether its records count.
        committed: bool,
    },
    /// Something for brokers only.
    Control,
}

/// The records of a batch, decoded one at a time; ends after the first error.
#[derive(Debug)]
pub struct Records(batch::Records);

impl Iterator for Records {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.0.next()?;
        Some(record.map_err(|error| Error::new(ErrorKind::CorruptMessage, error.to_string())))
    }
}

impl Batch {
    /// Opens a whole batch as it is stored; decompresses it if need be, to a bounded size.
    ///
    /// # Errors
    /// When it cannot be read, or decompresses to more than any client takes.
    pub fn open(bytes: &Bytes) -> Result<Self, Error> {
        let (header, _rest) = codec::first_batch(bytes)?;
        let content = match batch::marker(&header, bytes) {
            Some(Marker {
                producer_id,
                outcome,
                ..
            }) => Content::Marker {
                producer: producer_id,
                committed: outcome == TransactionOutcome::Commit,
            },
            None if header.is_control() => Content::Control,
            None => Content::Records {
                transaction: header.is_transactional().then_some(header.producer_id),
                records: Records(batch::Records::new(&header, codec::body(&header, bytes)?)),
            },
        };
        Ok(Self {
            end: header.last_offset().saturating_add(1),
            content,
        })
    }

    /// The first offset of the batch that begins `bytes`, and one past its last, without opening it.
    ///
    /// # Errors
    /// When its header cannot be read.
    pub fn span(bytes: &Bytes) -> Result<(i64, i64), Error> {
        let (header, _rest) = codec::first_batch(bytes)?;
        Ok((header.base_offset, header.last_offset().saturating_add(1)))
    }

    /// The batch that begins `bytes`, and those after it: neighbours are read together.
    ///
    /// # Errors
    /// When its header cannot be read.
    pub fn split(bytes: &Bytes) -> Result<(Bytes, Bytes), Error> {
        let (header, rest) = codec::first_batch(bytes)?;
        Ok((bytes.slice(..header.batch_bytes()), rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: &'static str) -> Record {
        Record {
            value: Some(Bytes::from_static(value.as_bytes())),
            headers: vec![("name".into(), None)],
            ..Record::default()
        }
    }

    #[test]
    fn records_of_a_batch_come_back_and_share_its_memory() {
        let bytes = encode(&[record("one"), record("two")]);
        assert!(bytes.len() <= BATCH_BYTES + 2 * (RECORD_BYTES + "one".len() + 4 + RECORD_BYTES));
        let batch = Batch::open(&bytes).unwrap();
        assert_eq!((batch.end, Batch::span(&bytes).unwrap()), (2, (0, 2)));
        let Content::Records {
            transaction: None,
            records,
        } = batch.content
        else {
            panic!("these are records of no transaction");
        };
        let values: Vec<_> = records
            .map(|record| record.unwrap().value.unwrap())
            .collect();
        assert_eq!(values, ["one", "two"]);
        assert!(bytes.as_ptr_range().contains(&values[0].as_ptr()));
    }

    #[test]
    fn what_is_no_batch_is_refused() {
        let bytes = encode(&[record("one")]);
        for end in 0..bytes.len() {
            assert!(Batch::open(&bytes.slice(..end)).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn neighbours_are_told_apart() {
        let (one, two) = (encode(&[record("one")]), encode(&[record("two")]));
        let both: Bytes = [&one[..], &two[..]].concat().into();
        let (first, rest) = Batch::split(&both).unwrap();
        assert_eq!((first, rest.clone()), (one, two));
        assert!(Batch::split(&rest).unwrap().1.is_empty());
    }
}
