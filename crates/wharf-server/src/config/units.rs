//! Values with their unit in the text: `64MiB`, `30s`, `unlimited`, `127.0.0.1:9092`.
//!
//! A bare number is only ever a count of bytes; a time without a unit is refused, because whoever
//! wrote it may have meant seconds or milliseconds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Why a text is no value with a unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidUnit(String);

/// A size in bytes, written `512B`, `64KiB`, `64MiB`, `1GiB`, `10MB` or as a bare number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteCount(pub u64);

/// A length of time, written `250ms`, `30s`, `10m`, `1h30m`, `7d` or `2w`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// A value, or `"unlimited"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit<T> {
    /// There is no limit.
    Unlimited,
    /// This much.
    At(T),
}

/// Which groups may change their protocol while they have members, written `upgrade`, `downgrade`,
/// `bidirectional` or `disabled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Migration {
    /// Both ways.
    Bidirectional,
    /// To the consumer protocol.
    Upgrade,
    /// To the classic protocol.
    Downgrade,
    /// None.
    Disabled,
}

/// A host and a port, written `127.0.0.1:9092`, `[::1]:9092` or `broker.example:9092`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The port; 0 lets the system pick a free one.
    pub port: u16,
}

const BYTE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// In milliseconds. The first that divides a value is the one it is printed in.
const TIME_UNITS: &[(&str, u64)] = &[
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A hundred years: beyond it, adding to the time now could overflow.
const PERIOD_MILLIS_MAX: u64 = 36_500 * 86_400_000;

/// The sum of every `number unit` pair in `text`.
fn sum(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let mut rest = text.trim();
    let mut total = 0_u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (digits, tail) = rest.split_at(
            rest.find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len()),
        );
        let tail = tail.trim_start();
        let (unit, tail) = tail.split_at(
            tail.find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(tail.len()),
        );
        let (_, factor) = units
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
        let number: u64 = digits.parse().ok()?;
        total = total.checked_add(number.checked_mul(*factor)?)?;
        rest = tail.trim_start();
    }
    Some(total)
}

impl FromStr for ByteCount {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, InvalidUnit> {
        let plain = text.trim().parse().ok();
        plain
            .or_else(|| sum(text, BYTE_UNITS))
            .map(Self)
            .ok_or_else(|| {
                InvalidUnit(format!(
                    "{text:?} is not a size; write it like \"64MiB\" or \"512KiB\""
                ))
            })
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = BYTE_UNITS.iter().filter(|(name, _)| name.ends_with("iB"));
        match binary
            .into_iter()
            .find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor))
        {
            Some((name, factor)) => write!(formatter, "{}{name}", self.0 / factor),
            None => write!(formatter, "{}B", self.0),
        }
    }
}

impl ByteCount {
    /// As a size in memory; saturates on machines whose memory is smaller than the number.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Period {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, InvalidUnit> {
        match sum(text, TIME_UNITS) {
            None => Err(InvalidUnit(format!(
                "{text:?} is not a length of time; write it like \"30s\" or \"7d\""
            ))),
            Some(millis) if millis > PERIOD_MILLIS_MAX => Err(InvalidUnit(format!(
                "{text:?} is more than a hundred years"
            ))),
            Some(millis) => Ok(Self(Duration::from_millis(millis))),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let unit = TIME_UNITS
            .iter()
            .skip(1)
            .find(|(_, factor)| millis.is_multiple_of(*factor));
        match unit {
            Some((name, factor)) if millis != 0 => {
                write!(formatter, "{}{name}", millis / factor)
            }
            _ => formatter.write_str("0s"),
        }
    }
}

impl<T: FromStr<Err = InvalidUnit>> FromStr for Limit<T> {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, InvalidUnit> {
        if text.trim() == "unlimited" {
            return Ok(Self::Unlimited);
        }
        text.parse()
            .map(Self::At)
            .map_err(|InvalidUnit(reason)| InvalidUnit(format!("{reason}, or \"unlimited\"")))
    }
}

impl<T: fmt::Display> fmt::Display for Limit<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => formatter.write_str("unlimited"),
            Self::At(value) => value.fmt(formatter),
        }
    }
}

impl<T> Limit<T> {
    /// The value, if there is a limit.
    pub fn as_option(&self) -> Option<&T> {
        match self {
            Self::Unlimited => None,
            Self::At(value) => Some(value),
        }
    }
}

impl Address {
    /// From its parts.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }
}

impl FromStr for Address {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, InvalidUnit> {
        let parts = text.trim().rsplit_once(':').and_then(|(host, port)| {
            let bracketed = host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'));
            let host = bracketed.unwrap_or(host);
            let ambiguous = bracketed.is_none() && host.contains(':');
            let named = !host.is_empty() && !host.contains(char::is_whitespace) && !ambiguous;
            Some((host, port.parse().ok()?)).filter(|_| named)
        });
        parts
            .map(|(host, port)| Self::new(host, port))
            .ok_or_else(|| {
                InvalidUnit(format!(
                    "{text:?} is not an address; write it like \"127.0.0.1:9092\""
                ))
            })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

/// Reads a text; where `numbers` says so, a number as well.
struct Text {
    expecting: &'static str,
    numbers: bool,
}

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.expecting)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<String, E> {
        if self.numbers {
            return Ok(number.to_string());
        }
        Err(E::custom(format!(
            "{number} has no unit; expected {}",
            self.expecting
        )))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<String, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::custom(format!(
                "{number} is negative; expected {}",
                self.expecting
            ))),
        }
    }
}

macro_rules! as_text {
    ($type:ty, $numbers:literal, $expecting:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Text {
                    expecting: $expecting,
                    numbers: $numbers,
                };
                deserializer
                    .deserialize_any(text)?
                    .parse()
                    .map_err(D::Error::custom)
            }
        }
    };
}

as_text!(ByteCount, true, "a size like \"64MiB\"");
as_text!(
    Limit<ByteCount>,
    true,
    "a size like \"64MiB\" or \"unlimited\""
);
as_text!(Period, false, "a length of time like \"30s\"");
as_text!(
    Limit<Period>,
    false,
    "a length of time like \"30s\" or \"unlimited\""
);
as_text!(Address, false, "an address like \"127.0.0.1:9092\"");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_a_unit_and_printed_in_the_largest_that_fits() {
        for (text, bytes, printed) in [
            ("64MiB", 64 << 20, "64MiB"),
            ("64 mib", 64 << 20, "64MiB"),
            ("1536KiB", 1_572_864, "1536KiB"),
            ("1GiB512MiB", 1_610_612_736, "1536MiB"),
            ("10MB", 10_000_000, "10000000B"),
            ("1000", 1000, "1000B"),
            ("0", 0, "0B"),
        ] {
            let size: ByteCount = text.parse().unwrap();
            assert_eq!(
                (size.0, size.to_string().as_str()),
                (bytes, printed),
                "{text}"
            );
        }
        for text in ["", "MiB", "-1", "1 parsec", "99999999999TiB", "1.5GiB"] {
            assert!(text.parse::<ByteCount>().is_err(), "{text}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        for (text, millis, printed) in [
            ("30s", 30_000, "30s"),
            ("1h30m", 5_400_000, "90m"),
            ("250ms", 250, "250ms"),
            ("7d", 604_800_000, "7d"),
            ("2w", 1_209_600_000, "14d"),
            ("0s", 0, "0s"),
        ] {
            let period: Period = text.parse().unwrap();
            assert_eq!(
                (period.0.as_millis(), period.to_string().as_str()),
                (millis, printed)
            );
        }
        for text in ["30", "", "s", "30 fortnights", "5300w"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_keep_names_and_both_kinds_of_ip() {
        for text in [
            "127.0.0.1:9092",
            "[::1]:0",
            "broker.example:65535",
            "localhost:1",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["9092", ":9092", "::1:9092", "host:", "host:65536", "a b:1"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_limit_is_a_value_or_the_word_unlimited() {
        assert_eq!("unlimited".parse(), Ok(Limit::<Period>::Unlimited));
        assert_eq!("1KiB".parse(), Ok(Limit::At(ByteCount(1024))));
        let error = "none".parse::<Limit<Period>>().unwrap_err().to_string();
        assert!(error.ends_with("or \"unlimited\""), "{error}");
    }
}
