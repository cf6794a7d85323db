//! The value of a column in a header, or within a document of JSON.
//!
//! Invariant: nothing here fails; what is not in the form of its type is sent as the text that it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Number;

use super::java;
use super::json::Json;
use crate::Kind;

const DAY_MICROS: i64 = 86_400_000_000;

/// As Connect's converter of headers writes it. `exact` is Debezium's form of times and fractions, too.
pub(super) fn header_value(kind: &Kind, value: &Bytes, exact: bool) -> Bytes {
    if *kind == Kind::Bytes {
        return STANDARD.encode(value).into();
    }
    match exact.then(|| number(kind, value)).flatten() {
        Some(number) => java::text(&Json::Number(number)).into(),
        None => value.clone(),
    }
}

/// As Connect's converter of JSON writes it. `exact` is Debezium's form of times and fractions, too.
pub(super) fn document(kind: &Kind, value: &[u8], exact: bool) -> Json {
    let text = || Json::Text(String::from_utf8_lossy(value).into_owned());
    match kind {
        Kind::Bytes => Json::Text(STANDARD.encode(value)),
        Kind::Integer | Kind::Boolean => Json::parse(value).unwrap_or_else(|_other| text()),
        _ => match exact.then(|| number(kind, value)).flatten() {
            Some(number) => Json::Number(number),
            None => text(),
        },
    }
}

/// The number that Debezium has, as it does by default, for a time without a zone (since 1970 or since
/// midnight) and for a fraction.
fn number(kind: &Kind, value: &[u8]) -> Option<Number> {
    let text = std::str::from_utf8(value).ok()?;
    match kind {
        Kind::LocalTime { is_millis } => {
            let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
            let micros = days(date)? * DAY_MICROS + micros_of_day(clock)?;
            Some(units(micros, *is_millis))
        }
        Kind::Other(name) => match name.as_str() {
            "date" => days(text).map(Number::from),
            "real" | "double precision" => Number::from_f64(text.parse().ok()?),
            _ if name.starts_with("time") && name.ends_with(" without time zone") => {
                let is_millis = (0..=3).any(|digits| name.contains(&format!("({digits})")));
                Some(units(micros_of_day(text)?, is_millis))
            }
            _ => None,
        },
        _ => None,
    }
}

fn units(micros: i64, is_millis: bool) -> Number {
    match is_millis {
        true => micros.div_euclid(1000).into(),
        false => micros.into(),
    }
}

/// The days from 1970 to `2026-11-22`.
fn days(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, '-').map(|part| part.parse::<u32>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if year > 9999 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March end with the day that some lack.
    let year = i64::from(year) - i64::from(month <= 2);
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((i64::from(month) + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    Some(era * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - 719_468)
}

/// Of `08:16:03.5`.
fn micros_of_day(text: &str) -> Option<i64> {
    let (clock, micros) = match text.split_once('.') {
        Some((clock, digits)) => (clock, fraction(digits)?),
        None => (text, 0),
    };
    let mut parts = clock.split(':');
    let mut next = || parts.next()?.parse::<u32>().ok().filter(|part| *part < 60);
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    let seconds = i64::from(hours * 3600 + minutes * 60 + seconds);
    Some(seconds * 1_000_000 + micros)
}

/// The microseconds of up to six digits behind the point.
fn fraction(digits: &str) -> Option<i64> {
    let is_fraction = digits.len() <= 6 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_fraction.then(|| format!("{digits:0<6}").parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn other(name: &str) -> Kind {
        Kind::Other(name.to_owned())
    }

    #[test]
    fn times_and_fractions_have_debeziums_numbers_where_it_is_to_be_exact() {
        let (millis, micros) = (true, false);
        let local = |is_millis| Kind::LocalTime { is_millis };
        let at = "2026-11-22T08:16:03.120000Z";
        for (kind, value, expected) in [
            (local(micros), at, "1795335363120000"),
            (local(millis), at, "1795335363120"),
            (local(micros), "1969-12-31T23:59:59.999999Z", "-1"),
            (local(micros), "infinity", "infinity"),
            (Kind::Time, at, at),
            (other("date"), "2026-11-22", "20779"),
            (other("date"), "1969-12-31", "-1"),
            (other("date"), "2024-02-29", "19782"),
            (other("date"), "0001-01-01", "-719162"),
            (other("date"), "0044-03-15 BC", "0044-03-15 BC"),
            (other("date"), "infinity", "infinity"),
            (other("time without time zone"), "08:16:03.5", "29763500000"),
            (other("time(3) without time zone"), "08:16:03.5", "29763500"),
            (other("time without time zone"), "24:00:00", "86400000000"),
            (other("time with time zone"), "08:16:03+00", "08:16:03+00"),
            (other("real"), "1.5", "1.5"),
            (other("double precision"), "10000000000", "1.0E10"),
            (other("double precision"), "NaN", "NaN"),
            (other("numeric(10,2)"), "12.50", "12.50"),
        ] {
            let bytes = Bytes::copy_from_slice(value.as_bytes());
            assert_eq!(header_value(&kind, &bytes, true), expected, "{kind:?}");
            assert_eq!(header_value(&kind, &bytes, false), value, "{kind:?}");
            let exactly = java::text(&document(&kind, value.as_bytes(), true));
            assert_eq!(exactly.trim_matches('"'), expected, "{kind:?}");
            let plain = document(&kind, value.as_bytes(), false);
            assert_eq!(plain, Json::Text(value.to_owned()), "{kind:?}");
        }
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic(value in prop_oneof!["\\PC*", "[0-9:.TZ+-]{0,30}"], is_millis in any::<bool>()) {
            let bytes = Bytes::from(value);
            for kind in [Kind::LocalTime { is_millis }, other("date"), other("time without time zone"), other("real")] {
                header_value(&kind, &bytes, true);
                document(&kind, &bytes, true);
            }
        }
    }
}
