//! Points in time as the protocol carries them. Never read from a clock here: time is an argument.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

/// 9999-12-31T23:59:59.999Z.
const RFC3339_MILLIS_MAX: u64 = 253_402_300_799_999;

/// Milliseconds since the Unix epoch, as Kafka records carry them.
///
/// ```
/// use std::time::Duration;
/// use wharf_message::Timestamp;
///
/// let start = Timestamp::parse_rfc3339("2026-01-01T00:00:00Z").unwrap();
/// assert_eq!(start.as_millis(), 1_767_225_600_000);
/// let later = start.after(Duration::from_millis(1_500));
/// assert_eq!(later.to_rfc3339(), "2026-01-01T00:00:01.500Z");
/// assert_eq!(later.since(start), Duration::from_millis(1_500));
/// assert_eq!(start.since(later), Duration::ZERO);
/// assert_eq!(Timestamp::from_millis(0), Timestamp::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch.
    pub const ZERO: Self = Self(0);

    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This time plus `duration`; saturates at the far end.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// As RFC 3339 with milliseconds, in UTC. Times before 1970 are shown as 1970, and those after
    /// the year 9999 as its end: no header needs more.
    pub fn to_rfc3339(self) -> String {
        let millis = u64::try_from(self.0).unwrap_or(0).min(RFC3339_MILLIS_MAX);
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(millis)).to_string()
    }

    /// Reads RFC 3339 in UTC (`Z`), to the millisecond; `None` for anything else or before 1970.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let time = humantime::parse_rfc3339(text).ok()?;
        let millis = time.duration_since(UNIX_EPOCH).ok()?.as_millis();
        i64::try_from(millis).ok().map(Self)
    }

    /// How long after `earlier` this is; zero when it is not after it (a clock that jumped back
    /// never yields a negative age).
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}ms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_being_written_as_text_and_foreign_text_is_no_time() {
        for millis in [0, 1_500, 1_795_320_000_123, 253_402_300_799_999] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(Timestamp::parse_rfc3339(&time.to_rfc3339()), Some(time));
        }
        assert_eq!(
            Timestamp::from_millis(i64::MAX).to_rfc3339(),
            "9999-12-31T23:59:59.999Z"
        );
        assert_eq!(
            Timestamp::from_millis(-1).to_rfc3339(),
            "1970-01-01T00:00:00.000Z"
        );
        for text in [
            "",
            "now",
            "2026-11-22",
            "2026-11-22T10:00:00",
            "2026-13-01T00:00:00Z",
        ] {
            assert_eq!(Timestamp::parse_rfc3339(text), None, "{text}");
        }
    }
}
