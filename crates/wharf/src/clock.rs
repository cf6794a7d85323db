//! The wall clock as an argument: the real one, or one that goes with tokio's clock in tests.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use wharf_message::Timestamp;

/// Where the time of day comes from.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
/// use std::time::Duration;
/// use wharf::{Clock, Timestamp};
///
/// let clock = Clock::starting_at(Timestamp::ZERO);
/// tokio::time::sleep(Duration::from_secs(3600)).await;
/// assert_eq!(clock.now(), Timestamp::from_millis(3_600_000));
/// assert!(Clock::wall().now() > clock.now());
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Default)]
pub struct Clock(Option<(Timestamp, Instant)>);

impl Clock {
    /// The machine's.
    pub fn wall() -> Self {
        Self(None)
    }

    /// One that shows `start` now and goes on with tokio's clock: it stands still and advances with
    /// `tokio::time::pause` and `advance`.
    pub fn starting_at(start: Timestamp) -> Self {
        Self(Some((start, Instant::now())))
    }

    /// The time: the millisecond that has begun last.
    pub fn now(&self) -> Timestamp {
        let (start, since) = self.since();
        start.after(since)
    }

    /// The first millisecond that is not before now: what is due so long after it is never early.
    pub(crate) fn next(&self) -> Timestamp {
        let (start, since) = self.since();
        start.after(since + Duration::from_nanos(999_999))
    }

    fn since(&self) -> (Timestamp, Duration) {
        match self.0 {
            Some((start, since)) => (start, since.elapsed()),
            None => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                (Timestamp::ZERO, since.unwrap_or_default())
            }
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Clock({})", self.now())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_next_millisecond_is_never_before_now_and_at_most_one_away() {
        let clock = Clock::starting_at(Timestamp::ZERO);
        for (nanos, now, next) in [(0, 0, 0), (1, 0, 1), (999_998, 0, 1), (1, 1, 1), (1, 1, 2)] {
            advance(Duration::from_nanos(nanos)).await;
            let times = (clock.now(), clock.next());
            let expected = (Timestamp::from_millis(now), Timestamp::from_millis(next));
            assert_eq!(times, expected);
        }
    }
}
