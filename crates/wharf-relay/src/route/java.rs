//! JSON letter by letter as Kafka Connect's `JsonConverter` writes it without schemas, for consumers that
//! compare bytes: Java's form of numbers, and escapes where others write the character.
//!
//! Invariant: what is written means the same as [`Json::text`].

use std::io::{self, Write};

use serde::Serialize as _;
use serde_json::Serializer;
use serde_json::ser::{CharEscape, Formatter};

use super::json::Json;

/// The document as compact text.
pub(super) fn text(document: &Json) -> String {
    let mut out = Vec::with_capacity(128);
    let mut serializer = Serializer::with_formatter(&mut out, Java);
    document
        .serialize(&mut serializer)
        .expect("a document always has a text form");
    String::from_utf8(out).expect("it is written as UTF-8")
}

struct Java;

impl Formatter for Java {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(double(value).as_bytes())
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c: char| c > '\u{ffff}') {
            let (before, from) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut chars = from.chars();
            for unit in chars.next().unwrap_or_default().encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04X}")?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        let plain = match escape {
            CharEscape::Quote => "\\\"",
            CharEscape::ReverseSolidus => "\\\\",
            CharEscape::Solidus => "\\/",
            CharEscape::Backspace => "\\b",
            CharEscape::FormFeed => "\\f",
            CharEscape::LineFeed => "\\n",
            CharEscape::CarriageReturn => "\\r",
            CharEscape::Tab => "\\t",
            CharEscape::AsciiControl(byte) => return write!(writer, "\\u{byte:04X}"),
        };
        writer.write_all(plain.as_bytes())
    }
}

/// What `Double.toString` says: digits with a point from a thousandth to ten million, and else one digit
/// before the point, at least one behind it, and the power of ten.
pub(super) fn double(value: f64) -> String {
    if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        return format!("{value:?}");
    }
    let shortest = format!("{value:e}");
    if shortest.contains('.') {
        return shortest.replace('e', "E");
    }
    // Of two digits the nearest, if that is still the same number.
    let nearest = format!("{value:.1e}");
    match nearest.parse() == Ok(value) {
        true => nearest.replace('e', "E"),
        false => shortest.replace('e', ".0E"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_written_as_java_does() {
        for (value, expected) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (39.98, "39.98"),
            (0.001, "0.001"),
            (0.000_999_99, "9.9999E-4"),
            (0.000_01, "1.0E-5"),
            (1_234_567.5, "1234567.5"),
            (12_345_678.5, "1.23456785E7"),
            (-1e7, "-1.0E7"),
            (1.5e300, "1.5E300"),
            (5e-324, "4.9E-324"),
            (f64::MAX, "1.7976931348623157E308"),
        ] {
            assert_eq!(double(value), expected);
        }
    }

    #[test]
    fn what_is_beyond_the_basic_plane_and_controls_are_escaped_in_upper_case() {
        let document = Json::parse("{\"🦀\":\"ä\\u001f/\\n\\\"\u{7f}世🚢\"}".as_bytes());
        let expected = "{\"\\uD83E\\uDD80\":\"ä\\u001F/\\n\\\"\u{7f}世\\uD83D\\uDEA2\"}";
        assert_eq!(text(&document.expect("it is JSON")), expected);
    }

    proptest! {
        #[test]
        fn it_means_the_same(value in any::<f64>().prop_filter("JSON has no other", |value| value.is_finite()), name in "\\PC*") {
            prop_assert_eq!(double(value).parse::<f64>(), Ok(value));
            let number = serde_json::Number::from_f64(value).map_or(Json::Null, Json::Number);
            let document = Json::Object(vec![(name.clone(), number), (format!("{name}2"), Json::Text(name))]);
            let again = Json::parse(text(&document).as_bytes());
            prop_assert_eq!(again.ok(), Some(document));
        }
    }
}
