//! Points in time as rows carry them: RFC 3339 in UTC with microseconds.

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// A time since the Unix epoch, also far from it: `2026-11-22T08:16:04.123456Z`.
pub(crate) fn rfc3339(micros: i64) -> String {
    let (days, rest) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (seconds, micros) = (rest / 1_000_000, rest % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Year, month and day of a day since the Unix epoch, in the Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Counted from the first of March of the year 0, so that a leap day ends its year.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march_based = (5 * day + 2) / 153;
    let month = if march_based < 10 {
        march_based + 3
    } else {
        march_based - 9
    };
    let year = era * 400 + year + i64::from(month <= 2);
    (year, month, day - (153 * march_based + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wharf_message::Timestamp;

    use super::*;

    #[test]
    fn times_before_the_epoch_and_leap_days_are_written_right() {
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999999Z");
        let leap = 951_782_400_000_000;
        assert_eq!(rfc3339(leap), "2000-02-29T00:00:00.000000Z");
        assert_eq!(rfc3339(leap + DAY), "2000-03-01T00:00:00.000000Z");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_by_others(millis in 0_i64..253_402_300_799_999) {
            let text = rfc3339(millis * 1000);
            prop_assert_eq!(Timestamp::parse_rfc3339(&text), Some(Timestamp::from_millis(millis)));
        }
    }
}
