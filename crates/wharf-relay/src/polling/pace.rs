//! How many rows are asked for at once, and how long to wait when there are none.
//!
//! Invariants: a batch is asked for so that it likely has [`BYTES`] bytes, never more than
//! [`ROWS_MAX`] rows; a wait never exceeds the longest one that was set.

use std::time::Duration;

/// What a batch has at most, about.
pub(crate) const BYTES: usize = 1 << 20;
/// The most rows of a batch.
const ROWS_MAX: u32 = 5_000;
/// The first batch of all, and the least that is asked for: a surprise of large rows stays small.
const ROWS_MIN: u32 = 16;
/// The first wait.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// What to ask for, and how long to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    rows: u32,
    wait: Duration,
    wait_max: Duration,
}

impl Pace {
    pub(crate) fn new(wait_max: Duration) -> Self {
        Self {
            rows: ROWS_MIN,
            wait: WAIT_MIN,
            wait_max: wait_max.max(WAIT_MIN),
        }
    }

    /// How many rows to ask for.
    pub(crate) fn rows(&self) -> u32 {
        self.rows
    }

    /// Learns from a batch.
    pub(crate) fn read(&mut self, rows: usize, bytes: usize) {
        if rows == 0 {
            return;
        }
        self.wait = WAIT_MIN;
        let fits = u32::try_from(BYTES / (bytes / rows).max(1)).unwrap_or(ROWS_MAX);
        // Growing step by step: the rows behind may be larger.
        let grown = fits.min(self.rows.saturating_mul(4));
        self.rows = grown.clamp(ROWS_MIN, ROWS_MAX);
    }

    /// How long to wait now; the next time twice as long, unless rows come.
    pub(crate) fn wait(&mut self) -> Duration {
        let wait = self.wait.min(self.wait_max);
        self.wait = (wait * 2).min(self.wait_max);
        wait
    }

    /// Somebody said that there are rows.
    pub(crate) fn hinted(&mut self) {
        self.wait = WAIT_MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_grow_with_small_rows_and_shrink_with_large_ones() {
        let mut pace = Pace::new(Duration::from_millis(250));
        for _ in 0..10 {
            pace.read(pace.rows() as usize, pace.rows() as usize * 100);
        }
        assert_eq!(pace.rows(), ROWS_MAX);
        pace.read(1, BYTES);
        assert_eq!(pace.rows(), ROWS_MIN);
        pace.read(16, 16 << 14);
        assert_eq!(pace.rows(), 64);
        pace.read(64, 64 << 14);
        assert_eq!(pace.rows(), 64);
    }

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_with_rows_and_hints() {
        let mut pace = Pace::new(Duration::from_millis(250));
        let waits: Vec<_> = (0..10).map(|_| pace.wait().as_millis()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 250, 250]);
        pace.hinted();
        assert_eq!(pace.wait(), WAIT_MIN);
        assert_eq!(pace.wait(), WAIT_MIN * 2);
        pace.read(1, 1);
        assert_eq!(pace.wait(), WAIT_MIN);
    }
}
