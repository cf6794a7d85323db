//! A transactional id as bytes in the log's state.
//!
//! A record that does not decode is reported to whoever opens the broker, never dropped: its
//! producer would no longer be fenced.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use wharf_log::PartitionId;
use wharf_message::Timestamp;

use crate::encoding::{Decoder, Encoder};
use crate::{Error, ProducerIdentity};

const VERSION: u8 = 1;

/// Kafka's states of a transaction. There is none between: one unit ends a transaction whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransactionState {
    /// None since the producer was initialised.
    Empty,
    /// Open.
    Ongoing,
    /// The last one was committed.
    CompleteCommit,
    /// The last one was aborted.
    CompleteAbort,
}

impl TransactionState {
    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }
}

/// What is known of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Who may act for the id.
    pub(super) producer: ProducerIdentity,
    /// Who might before the last change, when that is still the same producer: it asked for the
    /// change and may have missed the answer, or its transaction lived too long.
    pub(super) last: Option<ProducerIdentity>,
    pub(super) state: TransactionState,
    /// An open transaction is aborted after this long.
    pub(super) timeout: Duration,
    /// Counts the ends and initialisations; part of the guard.
    pub(super) number: u64,
    /// When the open transaction began, or the one that ended last; of no meaning before the first
    /// one of a producer.
    pub(super) started_at: Timestamp,
    /// When the record changed last.
    pub(super) updated_at: Timestamp,
    /// The partitions that were added by name (before KIP-890).
    pub(super) partitions: BTreeSet<PartitionId>,
    /// The groups that were added by name (before KIP-890).
    pub(super) groups: BTreeSet<String>,
}

impl Record {
    /// What every unit of the present transaction is conditional on. It changes when the
    /// transaction ends, so whatever comes late belongs to no transaction.
    pub(super) fn guard(&self) -> Bytes {
        let mut value = BytesMut::with_capacity(10);
        value.put_i16(self.producer.epoch);
        value.put_u64(self.number);
        value.freeze()
    }

    /// When the open transaction began, or the one that ended last; `None` when the producer has
    /// begun none since it was initialised.
    pub(super) fn last_start(&self) -> Option<Timestamp> {
        (self.state != TransactionState::Empty).then_some(self.started_at)
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = Encoder::new(VERSION);
        identity(&mut out, self.producer);
        out.u8(u8::from(self.last.is_some()));
        if let Some(last) = self.last {
            identity(&mut out, last);
        }
        out.u8(match self.state {
            TransactionState::Empty => 0,
            TransactionState::Ongoing => 1,
            TransactionState::CompleteCommit => 2,
            TransactionState::CompleteAbort => 3,
        });
        out.u64(u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX));
        out.u64(self.number);
        out.i64(self.started_at.as_millis());
        out.i64(self.updated_at.as_millis());
        out.u32(length(self.partitions.len()));
        for partition in &self.partitions {
            out.u64(partition.0);
        }
        out.u32(length(self.groups.len()));
        for group in &self.groups {
            out.text(group);
        }
        out.finish()
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Error> {
        let mut input = Decoder::new("transactional id", VERSION, value)?;
        let producer = read_identity(&mut input)?;
        let last = match input.u8()? {
            0 => None,
            1 => Some(read_identity(&mut input)?),
            _ => return Err(input.invalid("an optional field is neither absent nor present")),
        };
        let state = match input.u8()? {
            0 => TransactionState::Empty,
            1 => TransactionState::Ongoing,
            2 => TransactionState::CompleteCommit,
            3 => TransactionState::CompleteAbort,
            _ => return Err(input.invalid("its state is not known")),
        };
        let mut record = Self {
            producer,
            last,
            state,
            timeout: Duration::from_millis(input.u64()?),
            number: input.u64()?,
            started_at: Timestamp::from_millis(input.i64()?),
            updated_at: Timestamp::from_millis(input.i64()?),
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
        };
        for _ in 0..input.count(8)? {
            record.partitions.insert(PartitionId(input.u64()?));
        }
        for _ in 0..input.count(4)? {
            record.groups.insert(input.text()?.to_owned());
        }
        input.finish()?;
        Ok(record)
    }
}

fn length(count: usize) -> u32 {
    u32::try_from(count).expect("a unit of the log holds far fewer than 2^32 names")
}

fn identity(out: &mut Encoder, producer: ProducerIdentity) {
    out.i64(producer.id).i32(i32::from(producer.epoch));
}

fn read_identity(input: &mut Decoder<'_>) -> Result<ProducerIdentity, Error> {
    let id = input.i64()?;
    let epoch = i16::try_from(input.i32()?);
    let epoch = epoch.map_err(|_range| input.invalid("an epoch is out of range"))?;
    Ok(ProducerIdentity { id, epoch })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(last: Option<ProducerIdentity>, state: TransactionState) -> Record {
        Record {
            producer: ProducerIdentity { id: 9, epoch: 3 },
            last,
            state,
            timeout: Duration::from_secs(60),
            number: 17,
            started_at: Timestamp::from_millis(5),
            updated_at: Timestamp::from_millis(6),
            partitions: [PartitionId(4), PartitionId(2)].into(),
            groups: ["gröup".to_owned()].into(),
        }
    }

    #[test]
    fn records_are_read_back_as_written() {
        use TransactionState as S;
        for state in [S::Empty, S::Ongoing, S::CompleteCommit, S::CompleteAbort] {
            for last in [
                None,
                Some(ProducerIdentity {
                    id: 8,
                    epoch: i16::MAX,
                }),
            ] {
                let record = record(last, state);
                assert_eq!(Record::decode(&record.encode()), Ok(record));
            }
        }
    }

    #[test]
    fn a_truncated_or_longer_record_is_refused() {
        let value = record(None, TransactionState::Ongoing).encode();
        for end in 0..value.len() {
            assert!(Record::decode(&value[..end]).is_err(), "{end} bytes");
        }
        assert!(Record::decode(&[&value[..], b"x"].concat()).is_err());
    }

    #[test]
    fn the_guard_changes_with_the_epoch_and_with_the_number() {
        let now = record(None, TransactionState::Ongoing);
        let mut later = now.clone();
        later.number += 1;
        let mut fenced = now.clone();
        fenced.producer.epoch += 1;
        assert_ne!(now.guard(), later.guard());
        assert_ne!(now.guard(), fenced.guard());
        assert_ne!(later.guard(), fenced.guard());
    }
}
