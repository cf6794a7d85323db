//! How a relay stands: what operators and metrics are told.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wharf_message::Timestamp;

use crate::Trouble;

/// What a relay is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// It connects to its source and its target.
    #[default]
    Connecting,
    /// It moves rows.
    Running,
    /// It moves rows from the table, since the log cannot be read: slower, and to be looked at.
    Degraded,
    /// Another relay serves the source.
    Standby,
    /// Something is in the way; see [`StatusView::trouble`].
    Stopped,
}

impl State {
    /// The name in tables and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Running => "running",
            Self::Degraded => "degraded",
            Self::Standby => "standby",
            Self::Stopped => "stopped",
        }
    }
}

/// What is left to do, as far as a source knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Rows that are committed and not yet durable at the target.
    pub rows: Option<u64>,
    /// Bytes of the database's log behind which the source is.
    pub bytes: Option<u64>,
    /// Bytes of its log that the database keeps because of this source.
    pub retained_bytes: Option<u64>,
    /// How many more bytes of log may be written before the database gives the slot up.
    pub safe_bytes: Option<i64>,
    /// The slot, and what the database says of it: `reserved`, `extended`, `unreserved`, `lost`.
    pub slot: Option<(String, String)>,
    /// What holds the source back, such as the oldest open transaction, for people.
    pub held_by: Option<String>,
}

/// How a relay stands at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusView {
    /// What it is doing.
    pub state: State,
    /// Rows made durable since the start.
    pub rows: u64,
    /// Rows set aside since the start.
    pub set_aside: u64,
    /// Batches made durable since the start.
    pub batches: u64,
    /// When the last row that is durable was committed.
    pub last_commit: Option<Timestamp>,
    /// What is left to do.
    pub lag: Lag,
    /// How often that was looked at.
    pub lag_measured: u64,
    /// The last trouble, and when it came; kept after it is over.
    pub trouble: Option<(Timestamp, Trouble)>,
    /// How often it connected.
    pub connects: u64,
}

impl StatusView {
    /// Whether nothing was left to do when that was last looked at.
    pub fn is_drained(&self) -> bool {
        let left = self.lag.rows.or(self.lag.bytes);
        matches!(self.state, State::Running | State::Degraded) && left == Some(0)
    }

    /// How far it is behind at `now`, by the time of the last row that is durable: zero when nothing
    /// is left, and `None` when nothing is known.
    pub fn behind(&self, now: Timestamp) -> Option<Duration> {
        if self.lag.rows.or(self.lag.bytes) == Some(0) {
            return Some(Duration::ZERO);
        }
        self.last_commit.map(|last| now.since(last))
    }
}

/// How a relay stands, shared by those who know and those who ask.
#[derive(Debug, Default)]
pub struct Status(Mutex<StatusView>);

impl Status {
    /// How it stands now.
    pub fn view(&self) -> StatusView {
        self.lock().clone()
    }

    /// A source tells what is left to do.
    pub fn set_lag(&self, lag: Lag) {
        let mut view = self.lock();
        view.lag = lag;
        view.lag_measured += 1;
    }

    /// A source tells that it has begun to read: as it should, or from the table since the log cannot
    /// be read.
    pub fn set_running(&self, degraded: bool) {
        self.lock().state = if degraded {
            State::Degraded
        } else {
            State::Running
        };
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut StatusView)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, StatusView> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
