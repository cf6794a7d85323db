//! The wall clock as an argument: the real one, or one that goes with tokio's clock in tests.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

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

    /// The time.
    pub fn now(&self) -> Timestamp {
        match self.0 {
            Some((start, since)) => start.after(since.elapsed()),
            None => {
                let since = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Clock({})", self.now())
    }
}
