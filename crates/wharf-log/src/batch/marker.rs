//! Markers: the control batches that end transactions (KIP-98, "End Transaction Marker").
//!
//! Invariants: a marker holds one record, whose key names the outcome; whatever else bytes hold is no
//! marker, and reading it never panics.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use wharf_message::Timestamp;

use super::header::{CONTROL, TRANSACTIONAL};
use super::records::encode;
use super::{HEADER_BYTES, Header, Producer, Record, records};
use crate::TransactionOutcome;

/// The size of a marker in bytes.
pub const MARKER_BYTES: usize = HEADER_BYTES + 17;
const VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;

/// What a marker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The producer whose transaction it ends.
    pub producer_id: i64,
    /// The producer's epoch from then on.
    pub producer_epoch: i16,
    /// The epoch of the coordinator that decided.
    pub coordinator_epoch: i32,
    /// What it decided.
    pub outcome: TransactionOutcome,
}

impl Marker {
    /// The control batch, with base offset 0 and this time.
    pub fn build(&self, now: Timestamp) -> Bytes {
        let mut key = BytesMut::with_capacity(4);
        key.put_i16(VERSION);
        key.put_i16(match self.outcome {
            TransactionOutcome::Abort => ABORT,
            TransactionOutcome::Commit => COMMIT,
        });
        let mut value = BytesMut::with_capacity(6);
        value.put_i16(VERSION);
        value.put_i32(self.coordinator_epoch);
        let record = Record {
            timestamp: now,
            key: Some(key.freeze()),
            value: Some(value.freeze()),
            ..Record::default()
        };
        let producer = Producer {
            id: self.producer_id,
            epoch: self.producer_epoch,
            sequence: -1,
        };
        encode(&[record], producer, TRANSACTIONAL | CONTROL)
    }
}

/// What the control batch with this header and these bytes says; `None` for any other batch, and for
/// control records other than the end of a transaction.
pub fn marker(header: &Header, batch: &Bytes) -> Option<Marker> {
    if !header.is_control() || batch.len() < HEADER_BYTES {
        return None;
    }
    let records = records(header, &batch.slice(HEADER_BYTES..)).ok()?;
    let [record] = records.as_slice() else {
        return None;
    };
    let (mut key, mut value) = (record.key.clone()?, record.value.clone()?);
    let _version = key.try_get_i16().ok()?;
    let outcome = match key.try_get_i16().ok()? {
        ABORT => TransactionOutcome::Abort,
        COMMIT => TransactionOutcome::Commit,
        _ => return None,
    };
    let _version = value.try_get_i16().ok()?;
    Some(Marker {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        coordinator_epoch: value.try_get_i32().ok()?,
        outcome,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{build, header, verify};

    #[test]
    fn a_marker_is_read_back_and_nothing_else_is_one() {
        for outcome in [TransactionOutcome::Commit, TransactionOutcome::Abort] {
            let said = Marker {
                producer_id: 9,
                producer_epoch: 4,
                coordinator_epoch: 7,
                outcome,
            };
            let bytes = said.build(Timestamp::from_millis(1));
            assert_eq!(bytes.len(), MARKER_BYTES);
            let header = verify(&bytes).unwrap();
            assert_eq!(header.base_sequence, -1);
            assert_eq!(marker(&header, &bytes), Some(said));
            for cut in 0..bytes.len() {
                assert_eq!(marker(&header, &bytes.slice(..cut)), None);
            }
        }
        let data = build(&[Record::default()], None);
        assert_eq!(marker(&header(&data).unwrap(), &data), None);
    }

    /// The bytes that Kafka 4 writes for a commit marker, apart from offset and checksum.
    #[test]
    fn a_marker_has_the_bytes_that_clients_know() {
        let said = Marker {
            producer_id: 1,
            producer_epoch: 2,
            coordinator_epoch: 3,
            outcome: TransactionOutcome::Commit,
        };
        let bytes = said.build(Timestamp::ZERO);
        assert_eq!(&bytes[21..23], [0, 0x30]);
        let body = [32, 0, 0, 0, 8, 0, 0, 0, 1, 12, 0, 0, 0, 0, 0, 3, 0];
        assert_eq!(&bytes[HEADER_BYTES..], body);
    }
}
