//! Values of Postgres, in text or binary form, as [`Row`](crate::Row)s have them.
//!
//! Invariant: both forms of a value give the same bytes. A value that is not in the form of its type
//! is kept as it is, so that the router can set its row aside with a reason; nothing is lost here.

use std::fmt::Write as _;

use bytes::Bytes;
use wharf_message::Timestamp;

use super::pgoutput::Value;
use crate::Kind;

/// From 1970 to 2000, where Postgres begins to count.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
const DAY_MICROS: i64 = 86_400_000_000;

/// What a column of a built-in type holds; `None` for a type that has to be asked for.
pub(crate) fn kind_of(type_id: u32) -> Option<Kind> {
    Some(match type_id {
        // text, varchar, bpchar, name, "char", unknown
        25 | 1043 | 1042 | 19 | 18 | 705 => Kind::Text,
        // json, jsonb
        114 | 3802 => Kind::Json,
        // bytea
        17 => Kind::Bytes,
        // int8, int2, int4, oid, xid, xid8
        20 | 21 | 23 | 26 | 28 | XID8 => Kind::Integer,
        16 => Kind::Boolean,
        2950 => Kind::Uuid,
        // timestamp, whose digits the table knows
        1114 => Kind::LocalTime { is_millis: false },
        // timestamptz
        1184 => Kind::Time,
        _ => return None,
    })
}

/// The type of 64-bit transaction ids.
pub(crate) const XID8: u32 = 5069;

/// A value in the one form; `None` is SQL's NULL.
pub(crate) fn convert(value: Value, kind: &Kind, type_id: u32) -> Option<Bytes> {
    match value {
        Value::Null | Value::Unchanged => None,
        Value::Text(text) => Some(from_text(text, kind)),
        Value::Binary(bytes) => Some(from_binary(bytes, kind, type_id)),
    }
}

fn from_text(text: Bytes, kind: &Kind) -> Bytes {
    let converted = match kind {
        Kind::Bytes => unhex(&text),
        Kind::Boolean => match &text[..] {
            b"t" => Some(Bytes::from_static(b"true")),
            b"f" => Some(Bytes::from_static(b"false")),
            _ => None,
        },
        Kind::Time | Kind::LocalTime { .. } => rfc3339(&text),
        Kind::Text | Kind::Json | Kind::Integer | Kind::Uuid | Kind::Other(_) => None,
    };
    converted.unwrap_or(text)
}

fn from_binary(bytes: Bytes, kind: &Kind, type_id: u32) -> Bytes {
    let converted = match kind {
        Kind::Boolean => match &bytes[..] {
            [0] => Some(Bytes::from_static(b"false")),
            [_] => Some(Bytes::from_static(b"true")),
            _ => None,
        },
        Kind::Integer => integer(&bytes, type_id).map(Bytes::from),
        Kind::Uuid => uuid(&bytes),
        Kind::Time | Kind::LocalTime { .. } => bytes.first_chunk().and_then(|micros| {
            let micros = i64::from_be_bytes(*micros);
            time(micros.checked_add(EPOCH_MICROS)?).map(Bytes::from)
        }),
        // The version of jsonb's form, which no JSON begins with, then its text.
        Kind::Json if bytes.first() == Some(&1) => Some(bytes.slice(1..)),
        Kind::Text | Kind::Json | Kind::Bytes | Kind::Other(_) => None,
    };
    converted.unwrap_or(bytes)
}

fn integer(bytes: &[u8], type_id: u32) -> Option<String> {
    Some(match (type_id, bytes.len()) {
        (26 | 28, 4) => u32::from_be_bytes(*bytes.first_chunk()?).to_string(),
        (XID8, 8) => u64::from_be_bytes(*bytes.first_chunk()?).to_string(),
        (_, 2) => i16::from_be_bytes(*bytes.first_chunk()?).to_string(),
        (_, 4) => i32::from_be_bytes(*bytes.first_chunk()?).to_string(),
        (_, 8) => i64::from_be_bytes(*bytes.first_chunk()?).to_string(),
        _ => return None,
    })
}

fn uuid(bytes: &[u8]) -> Option<Bytes> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bytes: &[u8; 16] = bytes.try_into().ok()?;
    let mut text = Vec::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push(b'-');
        }
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
    Some(text.into())
}

/// `\x` and hexadecimal digits.
fn unhex(text: &[u8]) -> Option<Bytes> {
    let digits = text.strip_prefix(br"\x")?;
    if digits.len() % 2 == 1 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = digits.chunks_exact(2);
    let bytes = pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?));
    bytes.collect::<Option<Vec<u8>>>().map(Bytes::from)
}

/// From `2026-11-22 08:16:03.12+00`, or without the zone, always with microseconds.
fn rfc3339(text: &[u8]) -> Option<Bytes> {
    let text = text.strip_suffix(b"+00").unwrap_or(text);
    let (whole, fraction) = text.split_at_checked(19)?;
    let shape = b"dddd-dd-dd dd:dd:dd";
    let fits = |(&byte, &shape): (&u8, &u8)| match shape {
        b'd' => byte.is_ascii_digit(),
        shape => byte == shape,
    };
    if !whole.iter().zip(shape).all(fits) {
        return None;
    }
    let fraction = match fraction {
        [] => &[],
        [b'.', digits @ ..] if digits.len() <= 6 && digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return None,
    };
    let mut out = whole.to_vec();
    out[10] = b'T';
    out.push(b'.');
    out.extend(fraction);
    out.resize(26, b'0');
    out.push(b'Z');
    Some(out.into())
}

/// From microseconds since 1970; `None` outside of the years 0 to 9999.
fn time(micros: i64) -> Option<String> {
    let (days, within) = (micros.div_euclid(DAY_MICROS), micros.rem_euclid(DAY_MICROS));
    // Days since 0000-03-01, so that a leap day is the last of its year; then by eras of 400 years.
    let days = days.checked_add(719_468)?;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    if !(0..=9999).contains(&year) {
        return None;
    }
    let (seconds, micros) = (within / 1_000_000, within % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text = String::with_capacity(27);
    write!(
        text,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
    )
    .ok()?;
    Some(text)
}

/// The lower half of a number of 64 bits.
pub(crate) fn low_half(bytes: &[u8]) -> Option<u32> {
    let bytes: &[u8; 8] = bytes.try_into().ok()?;
    Some(u64::from_be_bytes(*bytes) as u32)
}

/// A point in time, from microseconds since 2000.
pub(crate) fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_millis(micros.saturating_add(EPOCH_MICROS).div_euclid(1000))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str, kind: &Kind) -> String {
        let bytes = from_text(Bytes::copy_from_slice(text.as_bytes()), kind);
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn binary(bytes: &[u8], type_id: u32) -> String {
        let kind = kind_of(type_id).unwrap();
        let bytes = from_binary(Bytes::copy_from_slice(bytes), &kind, type_id);
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn text_and_binary_forms_give_the_same() {
        let time = "2026-11-22T08:16:03.120000Z";
        assert_eq!(text("2026-11-22 08:16:03.12+00", &Kind::Time), time);
        assert_eq!(text("2026-11-22 08:16:03.12", &Kind::Time), time);
        let micros = 848_650_563_120_000_i64;
        assert_eq!(binary(&micros.to_be_bytes(), 1184), time);
        assert_eq!(
            binary(&(-1_i64).to_be_bytes(), 1114),
            "1999-12-31T23:59:59.999999Z"
        );
        assert_eq!(text("t", &Kind::Boolean), "true");
        assert_eq!(binary(&[1], 16), "true");
        assert_eq!(binary(&[0], 16), "false");
        assert_eq!(text(r"\x6869", &Kind::Bytes), "hi");
        assert_eq!(binary(b"hi", 17), "hi");
        assert_eq!(binary(b"\x01{}", 3802), "{}");
        assert_eq!(binary(b"{}", 114), "{}");
        assert_eq!(binary(&u64::MAX.to_be_bytes(), XID8), u64::MAX.to_string());
        assert_eq!(binary(&(-5_i16).to_be_bytes(), 21), "-5");
        assert_eq!(binary(&u32::MAX.to_be_bytes(), 26), u32::MAX.to_string());
        let uuid = [
            0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x12, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x14,
        ];
        let uuid = [&uuid[..], &[0x17, 0x40, 0]].concat();
        assert_eq!(binary(&uuid, 2950), "123e4567-e89b-12d3-a456-426614174000");
    }

    #[test]
    fn what_is_not_in_the_form_of_its_type_is_kept_as_it_is() {
        for (value, kind) in [
            ("infinity", Kind::Time),
            ("0044-03-15 10:00:00+00 BC", Kind::Time),
            ("abc", Kind::Bytes),
            (r"\x123", Kind::Bytes),
            (r"\xzz", Kind::Bytes),
            ("maybe", Kind::Boolean),
            ("12.5", Kind::Other("numeric".to_owned())),
        ] {
            assert_eq!(text(value, &kind), value);
        }
        assert_eq!(binary(b"x", 2950), "x");
        assert_eq!(binary(b"abc", 23), "abc");
    }

    proptest! {
        #[test]
        fn times_agree_with_the_vocabulary(millis in 0..253_402_300_799_999_i64) {
            let ours = time(millis * 1000).unwrap();
            let theirs = Timestamp::from_millis(millis).to_rfc3339();
            prop_assert_eq!(ours.replace("000Z", "Z"), theirs);
        }

        #[test]
        fn no_time_makes_it_panic(micros in any::<i64>(), text in any::<Vec<u8>>()) {
            from_binary(micros.to_be_bytes().to_vec().into(), &Kind::Time, 1184);
            from_text(text.into(), &Kind::Time);
            timestamp(micros);
        }
    }
}
