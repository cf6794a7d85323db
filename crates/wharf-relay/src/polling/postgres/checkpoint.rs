//! Where a polling source goes on in Postgres, in bytes.
//!
//! Invariant: what version 1 wrote is read by every later version. 26 bytes: `P`, the version, then
//! the server's system identifier (0 when it does not tell), the transaction and the number, each of
//! eight bytes with the highest first.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::Position;

/// Its length.
const LENGTH: usize = 26;

/// Where to go on, and in which server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub system: u64,
    pub position: Position,
}

impl Checkpoint {
    pub(super) fn encode(self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(LENGTH);
        bytes.put_slice(b"P\x01");
        bytes.put_u64(self.system);
        bytes.put_u64(self.position.transaction);
        bytes.put_i64(self.position.sequence);
        bytes.freeze()
    }

    /// `None` when it is not of this kind.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let numbers = bytes.strip_prefix(b"P\x01")?;
        let (numbers, []) = numbers.as_chunks::<8>() else {
            return None;
        };
        let &[system, transaction, sequence] = numbers else {
            return None;
        };
        Some(Self {
            system: u64::from_be_bytes(system),
            position: Position {
                transaction: u64::from_be_bytes(transaction),
                sequence: i64::from_be_bytes(sequence),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_version_1_wrote_is_read_and_nothing_else_is_taken_for_it() {
        let checkpoint = Checkpoint {
            system: 0x0102_0304_0506_0708,
            position: Position {
                transaction: 9,
                sequence: -1,
            },
        };
        let bytes = checkpoint.encode();
        let mut written = b"P\x01\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0\0\0\0\x09".to_vec();
        written.extend([0xff; 8]);
        assert_eq!(bytes, written);
        assert_eq!(Checkpoint::decode(&bytes), Some(checkpoint));
        for end in 0..LENGTH {
            assert_eq!(Checkpoint::decode(&bytes[..end]), None);
        }
        written.push(0);
        assert_eq!(Checkpoint::decode(&written), None);
        written.truncate(LENGTH);
        written[1] = 2;
        assert_eq!(Checkpoint::decode(&written), None);
    }
}
