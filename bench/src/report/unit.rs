//! What a figure of a page of its own is measured in, which way is better, and how it is shown.

use serde::Serialize;

use super::number;

/// What a row is measured in, and what is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// More is better.
    PerSecond,
    /// Less is better.
    Micros,
    /// Less is better.
    Millis,
    /// Less is better.
    Mebibytes,
}

impl Unit {
    /// A value with its unit.
    pub(crate) fn shown(self, value: f64) -> String {
        let value = number(value);
        match self {
            Self::PerSecond => format!("{value}/s"),
            Self::Micros => format!("{value} µs"),
            Self::Millis => format!("{value} ms"),
            Self::Mebibytes => format!("{value} MiB"),
        }
    }

    /// How many times better one value is than another; below 1 it is worse.
    pub(crate) fn ratio(self, one: f64, other: f64) -> f64 {
        match self {
            Self::PerSecond => one / other,
            Self::Micros | Self::Millis | Self::Mebibytes => other / one,
        }
    }
}

/// A shown figure with what must be known of it.
pub(crate) fn noted(mut text: String, note: Option<&str>) -> String {
    if let Some(note) = note {
        let more = format!(" ({note})");
        text.push_str(&more);
    }
    text
}
