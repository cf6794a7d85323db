//! Producer ids: durable, never given twice.
//!
//! Ids are reserved in blocks: one commit moves the counter in the state, and the ids below it are
//! given from memory. A crash loses the rest of a block, never reuses it.

use bytes::Bytes;
use futures_util::lock::Mutex;
use wharf_log::{CommitError, Condition, Reader, StateChange, Unit};

use crate::{Broker, Context, Error, ErrorKind, commit, keys};

/// Ids reserved by one commit: one sync for many producers, and 2^63 ids last for 10^15 restarts.
const BLOCK: i64 = 1_000;
/// How often a reservation is tried again because an abandoned one came first.
const ATTEMPTS_MAX: usize = 10;

/// A producer's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// The id, never reused.
    pub id: i64,
    /// The epoch.
    pub epoch: i16,
}

/// What is reserved and not given yet. The asynchronous lock makes callers that find the block
/// empty share one reservation.
#[derive(Debug)]
pub(crate) struct Producers {
    block: Mutex<Block>,
}

#[derive(Debug)]
struct Block {
    next: i64,
    /// One past the last id reserved.
    end: i64,
}

impl Producers {
    /// Reads the counter.
    pub(crate) fn recover(reader: &Reader) -> Result<Self, Error> {
        let next = decode_counter(stored_counter(reader).as_ref())?;
        Ok(Self {
            block: Mutex::new(Block { next, end: next }),
        })
    }
}

impl Broker {
    /// A new producer id, or the next epoch of `current` (KIP-360). Durable when this returns.
    ///
    /// The answer to `current` depends on it alone, so a repeated request gets the same answer;
    /// partitions refuse epochs older than the newest they have seen. When the epochs of an id are
    /// used up, or the id was not given by this node, a new id is given.
    pub async fn init_producer(
        &self,
        cx: &Context,
        current: Option<ProducerIdentity>,
    ) -> Result<ProducerIdentity, Error> {
        let _anyone_may_produce = cx;
        let mut block = self.shared.producers.block.lock().await;
        // The last epoch is kept free, as in Kafka, for fencing the producer itself.
        let usable = current.filter(|current| {
            (0..block.next).contains(&current.id) && (0..i16::MAX - 1).contains(&current.epoch)
        });
        if let Some(current) = usable {
            return Ok(ProducerIdentity {
                id: current.id,
                epoch: current.epoch + 1,
            });
        }
        if block.next == block.end {
            self.reserve(&mut block).await?;
        }
        let id = block.next;
        block.next += 1;
        Ok(ProducerIdentity { id, epoch: 0 })
    }

    /// Moves the counter by one block. The condition keeps a reservation whose caller went away
    /// before it was answered from giving the same ids; the counter is then read again.
    async fn reserve(&self, block: &mut Block) -> Result<(), Error> {
        for _ in 0..ATTEMPTS_MAX {
            let stored = stored_counter(&self.shared.reader);
            let start = decode_counter(stored.as_ref())?;
            let end = start.checked_add(BLOCK).ok_or_else(|| {
                Error::new(
                    ErrorKind::UnknownServerError,
                    "the producer ids are used up",
                )
            })?;
            let key = keys::PRODUCER_COUNTER;
            let value = Some(Bytes::copy_from_slice(&end.to_be_bytes()));
            let unit = Unit {
                conditions: vec![Condition::StateEquals {
                    key: key.clone(),
                    value: stored,
                }],
                state: vec![StateChange { key, value }],
                ..Unit::default()
            };
            match commit::submit(&self.shared.appender, unit, |_outcome| ())
                .wait()
                .await
            {
                Ok(_) => {
                    *block = Block { next: start, end };
                    return Ok(());
                }
                Err(CommitError::ConditionFailed(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::new(
            ErrorKind::RequestTimedOut,
            "no producer id could be reserved; try again",
        ))
    }
}

fn stored_counter(reader: &Reader) -> Option<Bytes> {
    reader
        .state(&keys::PRODUCER_COUNTER)
        .pop()
        .map(|(_, value)| value)
}

fn decode_counter(value: Option<&Bytes>) -> Result<i64, Error> {
    let Some(value) = value else { return Ok(0) };
    value
        .as_ref()
        .try_into()
        .map(i64::from_be_bytes)
        .map_err(|_size| {
            Error::new(
                ErrorKind::UnknownServerError,
                format!(
                    "the stored producer id counter has {} bytes instead of 8",
                    value.len()
                ),
            )
        })
}
