//! Drains a backlog: from when a node is ready, or the first row has come, until the last row is in
//! the topic.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::clients::Counter;

/// How often it is looked how many have come.
const LOOK: Duration = Duration::from_millis(25);
/// The longest a drain may go on without a row.
const STUCK: Duration = Duration::from_secs(60);

/// One drain.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Drained {
    pub(super) rows_per_second: f64,
    /// The process's time on the processor for each row, in microseconds.
    pub(super) cpu_micros: f64,
    /// The most memory that the process had, in MiB.
    pub(super) peak_mebibytes: f64,
}

/// When what had come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    /// When the first rows were seen, and how many.
    pub(super) first: (Instant, u64),
    /// When all were there.
    pub(super) last: Instant,
}

/// Waits until there are so many rows.
pub(super) fn watch(counter: &Counter, rows: u64) -> Result<Watched> {
    let mut first = None;
    let mut seen = (0, Instant::now());
    loop {
        let count = counter.count()?;
        let now = Instant::now();
        if count > 0 {
            first.get_or_insert((now, count));
        }
        if count > seen.0 {
            seen = (count, now);
        }
        if let Some(first) = first
            && count >= rows
        {
            ensure!(count == rows, "{count} messages of {rows} rows");
            return Ok(Watched { first, last: now });
        }
        ensure!(
            now - seen.1 < STUCK,
            "{count} of {rows} rows, and none in {STUCK:?}"
        );
        std::thread::park_timeout(LOOK);
    }
}

impl Watched {
    /// Rows per second from the first that were seen.
    pub(super) fn rate_from_first(&self, rows: u64) -> f64 {
        let (at, count) = self.first;
        (rows - count) as f64 / (self.last - at).as_secs_f64()
    }
}
