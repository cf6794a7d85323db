//! JSON in the one form that equal values share (RFC 8785, JCS).
//!
//! Differs from it in one way: integers of up to 64 bits keep all their digits, since as doubles two
//! different identifiers could become one.

use std::fmt::Write as _;

use serde_json::{Number, Value};

/// `value` as canonical JSON: no white space, members sorted by their names' UTF-16 code units,
/// numbers as ECMAScript writes them.
///
/// ```
/// use wharf_message::idempotency::canonical_json;
///
/// let value = serde_json::from_str(r#"{ "b": 1.0, "a": [1e2, "ä"] }"#).unwrap();
/// assert_eq!(canonical_json(&value), r#"{"a":[100,"ä"],"b":1}"#);
/// ```
pub fn canonical_json(value: &Value) -> String {
    let mut text = String::new();
    write_value(&mut text, value);
    text
}

fn write_value(text: &mut String, value: &Value) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(yes) => text.push_str(if *yes { "true" } else { "false" }),
        Value::Number(number) => write_number(text, number),
        Value::String(string) => write_string(text, string),
        Value::Array(values) => {
            text.push('[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write_value(text, value);
            }
            text.push(']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            text.push('{');
            for (at, (name, value)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write_string(text, name);
                text.push(':');
                write_value(text, value);
            }
            text.push('}');
        }
    }
}

fn write_string(text: &mut String, string: &str) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\u{c}' => text.push_str("\\f"),
            '\r' => text.push_str("\\r"),
            control if control < ' ' => {
                write!(text, "\\u{:04x}", u32::from(control)).expect("a String takes everything");
            }
            other => text.push(other),
        }
    }
    text.push('"');
}

fn write_number(text: &mut String, number: &Number) {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(double) => write_double(text, double),
        None => text.push_str(&number.to_string()),
    }
}

/// `Number::toString` of ECMAScript: the shortest digits that give the double back, with an exponent
/// from 1e21 and below 1e-6.
fn write_double(text: &mut String, double: f64) {
    if double == 0.0 {
        text.push('0');
        return;
    }
    if double < 0.0 {
        text.push('-');
    }
    let scientific = format!("{:e}", double.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits = mantissa.replace('.', "");
    // The place of the point: so many digits are before it.
    let point = exponent.parse::<i32>().unwrap_or(0) + 1;
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or(0));
    match usize::try_from(point) {
        Ok(before) if count <= point && point <= 21 => {
            text.push_str(&digits);
            text.push_str(&zeros(i32::try_from(before).unwrap_or(0) - count));
        }
        Ok(before) if 0 < point && point <= 21 => {
            let (whole, part) = digits.split_at(before);
            text.extend([whole, ".", part]);
        }
        _ if -6 < point && point <= 0 => {
            text.extend(["0.", &zeros(-point), &digits]);
        }
        _ => {
            let (first, rest) = digits.split_at(1);
            text.push_str(first);
            if !rest.is_empty() {
                text.extend([".", rest]);
            }
            let sign = if point > 0 { "+" } else { "" };
            write!(text, "e{sign}{}", point - 1).expect("a String takes everything");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_written_as_the_rfc_writes_them() {
        // From the table of RFC 8785, appendix B.
        for (bits, expected) in [
            (0x0000_0000_0000_0000_u64, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
        ] {
            let mut text = String::new();
            write_double(&mut text, f64::from_bits(bits));
            assert_eq!(text, expected, "{bits:x}");
        }
    }

    #[test]
    fn members_are_sorted_by_utf_16_and_only_what_must_be_is_escaped() {
        let value = serde_json::json!({
            "\u{20ac}": "Euro Sign",
            "\r": "Carriage Return",
            "\u{fb33}": "Hebrew Letter Dalet With Dagesh",
            "1": "One",
            "\u{1f600}": "Emoji: Grinning Face",
            "\u{80}": "Control",
            "ö": "/\"\\\u{1f}\u{7f}",
        });
        let expected = "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\
            \"ö\":\"/\\\"\\\\\\u001f\u{7f}\",\"\u{20ac}\":\"Euro Sign\",\
            \"\u{1f600}\":\"Emoji: Grinning Face\",\
            \"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}";
        assert_eq!(canonical_json(&value), expected);
    }

    #[test]
    fn different_large_integers_stay_different() {
        let [a, b] = [9_007_199_254_740_992_u64, 9_007_199_254_740_993]
            .map(|number| canonical_json(&Value::from(number)));
        assert_ne!(a, b);
    }
}
