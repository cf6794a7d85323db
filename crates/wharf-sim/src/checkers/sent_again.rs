//! Promise: what a client sends again, because an answer was lost on the way, is there once, at the
//! offset that was acknowledged; and what a reader was handed stays what it was.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{Broken, body, broken};
use crate::view::Stored;

const PROMISE: &str = "what is sent again is there once";

/// A partition of a topic and an offset in it.
pub(super) type Position = (i32, i64);

/// What clients sent, were answered and read.
#[derive(Debug, Default)]
pub struct SentAgain {
    sent: BTreeSet<Bytes>,
    acknowledged: BTreeMap<Position, Bytes>,
    seen: BTreeMap<Position, Bytes>,
}

impl SentAgain {
    /// A batch is sent for the first time.
    pub fn sent(&mut self, batch: &Bytes) {
        self.sent.insert(body(batch));
    }

    /// A batch is acknowledged.
    pub fn acknowledged(&mut self, at: Position, batch: &Bytes) -> Result<(), Broken> {
        match self.acknowledged.insert(at, body(batch)) {
            Some(other) if other != body(batch) => {
                broken(PROMISE, format!("{at:?} was given to two batches"))
            }
            _ => Ok(()),
        }
    }

    /// A reader is handed a batch.
    pub fn seen(&mut self, partition: i32, stored: &Stored) -> Result<(), Broken> {
        let at = (partition, stored.header.base_offset);
        let found = body(&stored.bytes);
        if !self.sent.contains(&found) {
            return broken(PROMISE, format!("{at:?} holds what nobody sent"));
        }
        match self.seen.insert(at, found.clone()) {
            Some(before) if before != found => {
                broken(PROMISE, format!("{at:?} showed something else before"))
            }
            _ => Ok(()),
        }
    }

    /// How many batches were acknowledged.
    pub fn count(&self) -> usize {
        self.acknowledged.len()
    }

    /// Compares with everything that a partition holds.
    pub fn check(&self, partition: i32, batches: &[Stored]) -> Result<(), Broken> {
        let mut found = BTreeMap::new();
        let mut bodies = BTreeSet::new();
        for stored in batches {
            let at = (partition, stored.header.base_offset);
            let body = body(&stored.bytes);
            if !self.sent.contains(&body) {
                return broken(PROMISE, format!("{at:?} holds what nobody sent"));
            }
            if !bodies.insert(body.clone()) {
                return broken(PROMISE, format!("{at:?} holds a batch for the second time"));
            }
            found.insert(at, body);
        }
        for (how, known) in [("acknowledged", &self.acknowledged), ("seen", &self.seen)] {
            let of_partition = known.range((partition, i64::MIN)..=(partition, i64::MAX));
            for (at, body) in of_partition {
                if found.get(at) != Some(body) {
                    return broken(PROMISE, format!("what was {how} at {at:?} is not there"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wharf_log::batch::{self, Producer, Record};

    use super::*;

    fn stored(base: i64, sequence: i32) -> Stored {
        let producer = Producer {
            id: 1,
            epoch: 0,
            sequence,
        };
        let built = batch::build(&[Record::default()], Some(producer));
        let mut bytes = built.to_vec();
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        let bytes = Bytes::from(bytes);
        Stored {
            header: batch::verify(&bytes).unwrap(),
            bytes,
        }
    }

    fn known() -> SentAgain {
        let mut known = SentAgain::default();
        for sequence in 0..3 {
            let one = stored(i64::from(sequence), sequence);
            known.sent(&one.bytes);
            if sequence < 2 {
                known
                    .acknowledged((0, i64::from(sequence)), &one.bytes)
                    .unwrap();
            }
        }
        known
    }

    #[test]
    fn what_was_acknowledged_and_what_may_be_there_pass() {
        known().check(0, &[stored(0, 0), stored(1, 1)]).unwrap();
        known()
            .check(0, &[stored(0, 0), stored(1, 1), stored(2, 2)])
            .unwrap();
        known().check(1, &[]).unwrap();
    }

    #[test]
    fn a_batch_that_is_there_twice_or_not_at_all_or_of_nobody_is_found() {
        for batches in [
            vec![stored(0, 0), stored(1, 1), stored(2, 1)],
            vec![stored(0, 0)],
            vec![stored(0, 1), stored(1, 0)],
            vec![stored(0, 0), stored(1, 1), stored(2, 9)],
        ] {
            assert!(known().check(0, &batches).is_err(), "{batches:?}");
        }
    }

    #[test]
    fn what_was_seen_must_stay() {
        let mut known = known();
        known.seen(0, &stored(2, 2)).unwrap();
        known.check(0, &[stored(0, 0), stored(1, 1)]).unwrap_err();
        known.seen(0, &stored(2, 0)).unwrap_err();
        known.seen(0, &stored(3, 9)).unwrap_err();
        known.acknowledged((0, 0), &stored(0, 1).bytes).unwrap_err();
    }
}
