//! The history of a saga, record by record: whoever reads it decides what is kept in memory.
//!
//! A history has no bound but the one of the topic, so nothing that answers a request may collect
//! all of it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use wharf_message::ledger::{Ledger, Partition};
use wharf_saga::machine::{Fact, SagaId};

use super::engine::Engine;
use super::refusal::Refused;

/// How long one read may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many bytes of a history are read at once, as they are kept.
const HISTORY_BYTES_MAX: usize = 16 << 20;

/// A place in a history: so many facts of a record are behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) seq: u64,
    pub(super) facts: usize,
}

impl Position {
    /// Reads the text form; `None` for anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (seq, facts) = text.split_once('.')?;
        Some(Self {
            seq: seq.parse().ok()?,
            facts: facts.parse().ok()?,
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.seq, self.facts)
    }
}

/// A history that is being read.
pub(super) struct History {
    ledger: Arc<dyn Ledger>,
    partition: Partition,
    offsets: VecDeque<(u64, i64)>,
    from: Position,
}

/// The facts of one commit, from the position on that was asked for.
pub(super) struct Piece {
    /// Where the first of the facts is.
    pub(super) at: Position,
    pub(super) facts: Vec<Fact>,
    /// How many bytes they have as they are kept.
    pub(super) bytes: usize,
}

impl History {
    /// The next record that is kept.
    pub(super) async fn next(&mut self) -> Result<Option<Piece>, Refused> {
        while let Some((seq, offset)) = self.offsets.pop_front() {
            if seq < self.from.seq {
                continue;
            }
            let read = self.ledger.follow(self.partition.clone(), offset, 1);
            let entries = match timeout(PATIENCE, read).await {
                Ok(Ok(entries)) => entries,
                Ok(Err(error)) => return Err(Refused::from(&error)),
                Err(_late) => return Err(Refused::unavailable("its history cannot be read")),
            };
            // Compaction may have taken it since.
            let entry = entries.into_iter().find(|entry| entry.offset == offset);
            let Some(value) = entry.and_then(|entry| entry.record.value) else {
                continue;
            };
            let mut facts: Vec<Fact> = serde_json::from_slice(&value)
                .map_err(|error| Refused::unavailable(format!("its history: {error}")))?;
            let known = if seq == self.from.seq {
                self.from.facts
            } else {
                0
            };
            facts.drain(..known.min(facts.len()));
            return Ok(Some(Piece {
                at: Position { seq, facts: known },
                facts,
                bytes: value.len(),
            }));
        }
        Ok(None)
    }
}

impl Engine {
    /// The history of a saga from a position on, oldest first, as far as it is kept.
    pub(super) async fn history_from(
        &self,
        id: SagaId,
        from: Position,
    ) -> Result<History, Refused> {
        let offsets = self.look_at(id, |looked| looked.offsets.clone()).await?;
        let shared = self.shared();
        Ok(History {
            ledger: Arc::clone(&shared.ledger),
            partition: Partition {
                topic: shared.names.sagas.clone(),
                index: i32::try_from(shared.at(id)).unwrap_or(0),
            },
            offsets,
            from,
        })
    }

    /// Everything that happened to a saga, oldest first, as far as it is kept; of a history that is larger
    /// than 16 MiB the newest.
    pub async fn history(&self, id: SagaId) -> Result<Vec<Fact>, Refused> {
        let offsets = self.look_at(id, |looked| looked.offsets.clone()).await?;
        let shared = self.shared();
        let partition = Partition {
            topic: shared.names.sagas.clone(),
            index: i32::try_from(shared.at(id)).unwrap_or(0),
        };
        let (mut newest_first, mut bytes) = (Vec::new(), 0);
        for (_, offset) in offsets.into_iter().rev() {
            let read = shared.ledger.follow(partition.clone(), offset, 1);
            let read = timeout(PATIENCE, read).await;
            let entries = match read {
                Ok(Ok(entries)) => entries,
                Ok(Err(error)) => return Err(Refused::from(&error)),
                Err(_late) => return Err(Refused::unavailable("its history cannot be read")),
            };
            // Compaction may have taken it since.
            let entry = entries.into_iter().find(|entry| entry.offset == offset);
            if let Some(value) = entry.and_then(|entry| entry.record.value) {
                bytes += value.len();
                if bytes > HISTORY_BYTES_MAX {
                    break;
                }
                let facts: Vec<Fact> = serde_json::from_slice(&value)
                    .map_err(|error| Refused::unavailable(format!("its history: {error}")))?;
                newest_first.push(facts);
            }
        }
        Ok(newest_first.into_iter().rev().flatten().collect())
    }

    /// The first fact, or the last one, of which something is so.
    pub(super) async fn find_fact(
        &self,
        id: SagaId,
        is_last: bool,
        is: impl Fn(&Fact) -> bool,
    ) -> Result<Option<Fact>, Refused> {
        let mut history = self.history_from(id, Position::default()).await?;
        let mut found = None;
        while let Some(piece) = history.next().await? {
            for fact in piece.facts.into_iter().filter(&is) {
                found = Some(fact);
                if !is_last {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }
}
