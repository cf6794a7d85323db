//! What an ingest remembers on disk, and which prefix of its rows is acknowledged.
//!
//! The state file never claims more than the broker acknowledged: it is written after the
//! acknowledgements, by replacing the whole file.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rdkafka::consumer::BaseConsumer;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::input::Position;
use crate::place;

/// How much of the file's beginning tells it from another.
const FINGERPRINT_BYTES: u64 = 64 << 10;

/// The state file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// The ingest's id, in every message.
    pub(super) id: String,
    pub(super) topic: String,
    key: Option<String>,
    /// A hash of the file's beginning, and how many bytes of it were hashed.
    fingerprint: (u64, String),
    /// The end offset of each partition when the ingest began: earlier messages are not its own.
    pub(super) partitions: Vec<(i32, i64)>,
    /// Everything before this is acknowledged.
    position: Position,
    /// Rows before the position that were left out.
    pub(super) invalid: u64,
}

/// `FILE.wharf-ingest`.
pub(super) fn path_beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".wharf-ingest");
    name.into()
}

fn fingerprint(file: &Path, bytes: u64) -> anyhow::Result<(u64, String)> {
    let mut beginning = Vec::new();
    let open = File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let read = open.take(bytes).read_to_end(&mut beginning)?;
    Ok((
        u64::try_from(read)?,
        Uuid::new_v5(&Uuid::NAMESPACE_OID, &beginning).to_string(),
    ))
}

impl State {
    /// The state of an ingest that has sent nothing.
    pub(super) fn begin(
        file: &Path,
        topic: &str,
        key: Option<&str>,
        consumer: &BaseConsumer,
        partitions: &[i32],
    ) -> anyhow::Result<Self> {
        let extents = place::extents(consumer, topic, partitions)?;
        Ok(Self {
            id: Uuid::now_v7().to_string(),
            topic: topic.to_owned(),
            key: key.map(ToOwned::to_owned),
            fingerprint: fingerprint(file, FINGERPRINT_BYTES)?,
            partitions: extents
                .iter()
                .map(|extent| (extent.partition, extent.end))
                .collect(),
            position: Position::default(),
            invalid: 0,
        })
    }

    /// Reads the state file, if there is one.
    pub(super) fn load(path: &Path) -> anyhow::Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be read", path.display()));
            }
        };
        let hint = || format!("{} is damaged; --restart starts over", path.display());
        Ok(Some(serde_json::from_str(&text).with_context(hint)?))
    }

    /// Writes the state file: whole or not at all.
    pub(super) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let cannot = || format!("{} cannot be written", path.display());
        let mut draft = path.as_os_str().to_owned();
        draft.push(".new");
        let draft = PathBuf::from(draft);
        let mut file = File::create(&draft).with_context(cannot)?;
        file.write_all(serde_json::to_string_pretty(self)?.as_bytes())
            .with_context(cannot)?;
        file.sync_all().with_context(cannot)?;
        fs::rename(&draft, path).with_context(cannot)
    }

    /// Whether this is the same ingest: the same rows to the same places.
    pub(super) fn check(
        &self,
        file: &Path,
        topic: &str,
        key: Option<&str>,
        partitions: &[i32],
    ) -> anyhow::Result<()> {
        let known: Vec<i32> = self
            .partitions
            .iter()
            .map(|(partition, _)| *partition)
            .collect();
        let size = fs::metadata(file)
            .with_context(|| format!("{} cannot be read", file.display()))?
            .len();
        let changed = if self.topic != topic {
            format!("it went to the topic {:?}", self.topic)
        } else if self.key.as_deref() != key {
            format!("its key was {:?}", self.key.as_deref().unwrap_or("none"))
        } else if known != partitions {
            format!("the topic had {} partitions", known.len())
        } else if size < self.position.byte
            || fingerprint(file, self.fingerprint.0)? != self.fingerprint
        {
            "the file has changed".to_owned()
        } else {
            return Ok(());
        };
        bail!(
            "an earlier ingest of {} was interrupted and cannot go on: {changed}; \
             --restart starts over (rows already sent are then sent again)",
            file.display()
        )
    }

    /// Everything before this is acknowledged.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Moves forward.
    pub(super) fn advance(&mut self, (position, invalid): (Position, u64)) {
        self.position = position;
        self.invalid += invalid;
    }
}

/// Which prefix of the rows is done: rows are begun in order and acknowledged in any order.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    first: usize,
    rows: VecDeque<Begun>,
    done_until: Option<Position>,
    invalid: u64,
}

#[derive(Debug)]
struct Begun {
    after: Position,
    done: bool,
    invalid: bool,
}

impl Tracker {
    /// A row is being sent; the number to acknowledge it with. `after` is the place after it.
    pub(super) fn sent(&mut self, after: Position) -> usize {
        self.rows.push_back(Begun {
            after,
            done: false,
            invalid: false,
        });
        self.first + self.rows.len() - 1
    }

    /// A row needs no sending.
    pub(super) fn skipped(&mut self, after: Position, invalid: bool) {
        self.rows.push_back(Begun {
            after,
            done: true,
            invalid,
        });
        self.settle();
    }

    /// The row with this number arrived.
    pub(super) fn acknowledged(&mut self, number: usize) {
        if let Some(row) = number
            .checked_sub(self.first)
            .and_then(|index| self.rows.get_mut(index))
        {
            row.done = true;
        }
        self.settle();
    }

    fn settle(&mut self) {
        while self.rows.front().is_some_and(|row| row.done) {
            if let Some(row) = self.rows.pop_front() {
                self.first += 1;
                self.done_until = Some(row.after);
                self.invalid += u64::from(row.invalid);
            }
        }
    }

    /// How far the done prefix has come since the last call, with the invalid rows in it.
    pub(super) fn progress(&mut self) -> Option<(Position, u64)> {
        let position = self.done_until.take()?;
        Some((position, std::mem::take(&mut self.invalid)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(row: u64) -> Position {
        Position {
            row,
            byte: row * 10,
            line: row,
        }
    }

    #[test]
    fn only_an_unbroken_prefix_counts_as_done() {
        let mut tracker = Tracker::default();
        let numbers: Vec<usize> = (1..=3).map(|row| tracker.sent(after(row))).collect();
        tracker.skipped(after(4), true);
        assert_eq!(tracker.progress(), None);
        tracker.acknowledged(numbers[1]);
        assert_eq!(tracker.progress(), None, "the first row is still out");
        tracker.acknowledged(numbers[0]);
        assert_eq!(tracker.progress(), Some((after(2), 0)));
        tracker.acknowledged(numbers[2]);
        assert_eq!(tracker.progress(), Some((after(4), 1)));
        assert_eq!(tracker.progress(), None);
    }
}
