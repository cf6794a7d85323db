//! The calls a breaker's rates are taken of: a ring of the last calls, or ten slices of time.
//!
//! Memory is bounded by the settings, and recording is O(1), whatever the number of calls.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::Window;

/// How many slices a window of time has.
const SLICES: u32 = 10;

/// What the calls of a window, or of a part of it, came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) calls: u64,
    pub(super) failed: u64,
    pub(super) slow: u64,
}

impl Tally {
    pub(super) fn of(failed: bool, slow: bool) -> Self {
        Self {
            calls: 1,
            failed: failed.into(),
            slow: slow.into(),
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.slow += other.slow;
    }

    fn subtract(&mut self, other: Self) {
        self.calls -= other.calls;
        self.failed -= other.failed;
        self.slow -= other.slow;
    }

    /// Whether `part` is at least `percent` of `of`.
    pub(super) fn reaches(part: u64, percent: u8, of: u64) -> bool {
        of > 0 && part * 100 >= u64::from(percent) * of
    }
}

#[derive(Debug)]
pub(super) enum Calls {
    Last {
        calls_max: usize,
        ring: VecDeque<(bool, bool)>,
        sum: Tally,
    },
    Within {
        slice: Duration,
        begin: Instant,
        /// By number since `begin`; the last is the present one.
        slices: VecDeque<(u64, Tally)>,
        sum: Tally,
    },
}

impl Calls {
    pub(super) fn new(window: Window, now: Instant) -> Self {
        let sum = Tally::default();
        match window {
            Window::Calls(calls) => Self::Last {
                calls_max: calls as usize,
                ring: VecDeque::new(),
                sum,
            },
            Window::Time(duration) => Self::Within {
                slice: (duration / SLICES).max(Duration::from_nanos(1)),
                begin: now,
                slices: VecDeque::new(),
                sum,
            },
        }
    }

    pub(super) fn record(&mut self, now: Instant, failed: bool, slow: bool) {
        self.forget(now);
        let call = Tally::of(failed, slow);
        match self {
            Self::Last {
                calls_max,
                ring,
                sum,
            } => {
                if ring.len() == *calls_max
                    && let Some((failed, slow)) = ring.pop_front()
                {
                    sum.subtract(Tally::of(failed, slow));
                }
                ring.push_back((failed, slow));
                sum.add(call);
            }
            Self::Within {
                slice,
                begin,
                slices,
                sum,
            } => {
                let number = number(now, *begin, *slice);
                match slices.back_mut() {
                    Some((last, tally)) if *last == number => tally.add(call),
                    _ => slices.push_back((number, call)),
                }
                sum.add(call);
            }
        }
    }

    pub(super) fn tally(&mut self, now: Instant) -> Tally {
        self.forget(now);
        match self {
            Self::Last { sum, .. } | Self::Within { sum, .. } => *sum,
        }
    }

    /// Drops what is older than the window.
    fn forget(&mut self, now: Instant) {
        let Self::Within {
            slice,
            begin,
            slices,
            sum,
        } = self
        else {
            return;
        };
        let present = number(now, *begin, *slice);
        while let Some((oldest, tally)) = slices.front()
            && oldest + u64::from(SLICES) <= present
        {
            sum.subtract(*tally);
            slices.pop_front();
        }
    }
}

fn number(now: Instant, begin: Instant, slice: Duration) -> u64 {
    let slices = now.saturating_duration_since(begin).as_nanos() / slice.as_nanos();
    u64::try_from(slices).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(calls: u64, failed: u64, slow: u64) -> Tally {
        Tally {
            calls,
            failed,
            slow,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_of_calls_holds_the_last_ones() {
        let now = Instant::now();
        let mut calls = Calls::new(Window::Calls(3), now);
        for failed in [true, true, false, false] {
            calls.record(now, failed, !failed);
        }
        assert_eq!(calls.tally(now), tally(3, 1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_of_time_forgets_and_stays_small() {
        let begin = Instant::now();
        let mut calls = Calls::new(Window::Time(Duration::from_secs(10)), begin);
        for millis in (0..100_000).step_by(100) {
            calls.record(begin + Duration::from_millis(millis), true, false);
        }
        let Calls::Within { slices, .. } = &calls else {
            panic!("a window of time");
        };
        assert!(slices.len() <= SLICES as usize);
        let end = begin + Duration::from_millis(99_900);
        assert_eq!(calls.tally(end), tally(100, 100, 0));
        assert_eq!(calls.tally(end + Duration::from_secs(5)), tally(50, 50, 0));
        assert_eq!(calls.tally(end + Duration::from_secs(10)), Tally::default());
    }
}
