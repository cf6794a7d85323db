//! Where a polling source goes on in Postgres: what was read, as a snapshot of transactions.
//!
//! Invariant: what version 1 wrote is read by every later version: `P`, the byte 1, then text: the
//! server's system identifier (0 when it does not tell) and the snapshot of which all rows were handed
//! over; within a batch also the snapshot that the batch goes to, the number of its last row that was
//! handed over, and the highest transaction of those, with spaces between.

use std::str::FromStr as _;

use bytes::Bytes;

use crate::postgres::Snapshot;

/// Rows are handed over up to here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// The server's identifier, 0 when it does not tell.
    pub system: u64,
    /// Every row that this snapshot sees was handed over.
    pub done: Snapshot,
    /// The batch that is on its way.
    pub batch: Option<Batch>,
}

/// A batch of many pages: the rows that one snapshot sees and the one before does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// The snapshot it goes to.
    pub upto: Snapshot,
    /// The number of the last row of it that was handed over.
    pub after: i64,
    /// The highest transaction of those rows.
    pub highest: u64,
}

impl Checkpoint {
    /// Before the first row.
    pub(super) fn start(system: u64) -> Self {
        Self {
            system,
            done: Snapshot::below(1),
            batch: None,
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut text = format!("P\x01{} {}", self.system, self.done);
        if let Some(Batch {
            upto,
            after,
            highest,
        }) = &self.batch
        {
            text += &format!(" {upto} {after} {highest}");
        }
        Bytes::from(text)
    }

    /// `None` when it is not of this kind.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes.strip_prefix(b"P\x01")?).ok()?;
        let parts: Vec<&str> = text.split(' ').collect();
        let snapshot = |text: &str| Snapshot::from_str(text).ok();
        let (system, done, batch) = match *parts.as_slice() {
            [system, done] => (system, done, None),
            [system, done, upto, after, highest] => {
                let batch = Batch {
                    upto: snapshot(upto)?,
                    after: after.parse().ok()?,
                    highest: highest.parse().ok()?,
                };
                (system, done, Some(batch))
            }
            _ => return None,
        };
        Some(Self {
            system: system.parse().ok()?,
            done: snapshot(done)?,
            batch,
        })
    }

    /// The highest transaction of which a row was handed over.
    pub(super) fn highest(&self) -> u64 {
        let done = self.done.xmax.saturating_sub(1);
        let batch = self.batch.as_ref().map_or(0, |batch| batch.highest);
        done.max(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_version_1_wrote_is_read_and_nothing_else_is_taken_for_it() {
        let mut checkpoint = Checkpoint::start(7_443_551_211_045_212_345);
        checkpoint.done = "10:20:10,12".parse().unwrap();
        let plain = b"P\x017443551211045212345 10:20:10,12".as_slice();
        assert_eq!(checkpoint.encode(), plain);
        assert_eq!(Checkpoint::decode(plain), Some(checkpoint.clone()));
        checkpoint.batch = Some(Batch {
            upto: "15:31:15".parse().unwrap(),
            after: -4,
            highest: 30,
        });
        let within = b"P\x017443551211045212345 10:20:10,12 15:31:15 -4 30".as_slice();
        assert_eq!(checkpoint.encode(), within);
        assert_eq!(Checkpoint::decode(within), Some(checkpoint.clone()));
        assert_eq!(checkpoint.highest(), 30);
        for other in [
            "",
            "P\x01",
            "P\x02",
            "P\x011",
            "P\x011 1:1",
            "P\x011 1:1: 1:1: 2",
            "P\x01x 1:1:",
            "S\x01\0\0\0\0\0\0\0\x01",
            "P\x011 1:1:x",
        ] {
            assert_eq!(Checkpoint::decode(other.as_bytes()), None, "{other:?}");
        }
    }
}
