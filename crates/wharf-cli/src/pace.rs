//! Sending at a steady rate.

use std::time::{Duration, Instant};

/// Lets a caller through so many times per second, without bursts after a pause.
#[derive(Debug)]
pub(crate) struct Pace {
    gap: Duration,
    next: Instant,
}

impl Pace {
    /// At most `per_second` turns per second.
    pub(crate) fn new(per_second: u64) -> Self {
        let gap = Duration::from_nanos(1_000_000_000 / per_second.max(1));
        Self {
            gap,
            next: Instant::now(),
        }
    }

    /// Waits for the next turn.
    pub(crate) fn wait(&mut self) {
        let now = Instant::now();
        if let Some(early) = self.next.checked_duration_since(now) {
            std::thread::park_timeout(early);
            self.next += self.gap;
        } else {
            // Late: the rate is kept from here on, what was missed is not made up for.
            self.next = (self.next + self.gap).max(now - Duration::from_millis(100));
        }
    }
}
