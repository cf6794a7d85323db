//! Moments as RFC 3339 has them, as strict as the language wants them: a capital `T`, and a capital
//! `Z` or an offset.

/// Whether a text is one.
pub(super) fn is_moment(text: &str) -> bool {
    let (Some((date, time)), true) = (text.split_once('T'), text.is_ascii() && text.len() <= 64)
    else {
        return false;
    };
    date_of(date) && time_of(time)
}

fn number(text: &str, digits: usize) -> Option<u32> {
    let fits = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

fn date_of(date: &str) -> bool {
    let parts: Vec<_> = date.split('-').collect();
    let [year, month, day] = parts.as_slice() else {
        return false;
    };
    let (Some(year), Some(month), Some(day)) = (number(year, 4), number(month, 2), number(day, 2))
    else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day)
}

fn time_of(time: &str) -> bool {
    let (clock, offset) = match time.find(['Z', '+', '-']) {
        Some(at) => time.split_at(at),
        None => return false,
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let parts: Vec<_> = clock.split(':').collect();
    let [hour, minute, second] = parts.as_slice() else {
        return false;
    };
    let below = |text: &str, most: u32| number(text, 2).is_some_and(|number| number < most);
    let offset_fits = offset == "Z"
        || offset
            .get(1..)
            .and_then(|rest| rest.split_once(':'))
            .is_some_and(|(hours, minutes)| below(hours, 24) && below(minutes, 60));
    let fraction_fits = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    below(hour, 24) && below(minute, 60) && below(second, 61) && fraction_fits && offset_fits
}
