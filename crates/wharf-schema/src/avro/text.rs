//! JSON as Java's Jackson prints it: compact, its escapes, its numbers.
//!
//! Two schemas are equal to a registry when their texts are, so each byte here matters.

use serde_json::{Number, Value};

use crate::jackson::put_string;

/// Appends a name and the colon behind it.
pub(super) fn put_key(out: &mut String, key: &str) {
    put_string(out, key);
    out.push(':');
}

/// Appends any value. It nests no deeper than the text it was read from.
pub(super) fn put_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Number(number) => put_number(out, number),
        Value::String(text) => put_string(out, text),
        Value::Array(items) => put_list(out, items, put_value),
        Value::Object(entries) => {
            out.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                put_key(out, key);
                put_value(out, value);
            }
            out.push('}');
        }
    }
}

/// Appends a list, each item by `put`.
pub(super) fn put_list<T>(
    out: &mut String,
    items: impl IntoIterator<Item = T>,
    mut put: impl FnMut(&mut String, T),
) {
    out.push('[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        put(out, item);
    }
    out.push(']');
}

fn put_number(out: &mut String, number: &Number) {
    match number.as_f64() {
        Some(double) if number.is_f64() => out.push_str(&java_double(double)),
        _ => out.push_str(&number.to_string()),
    }
}

/// A number as Java's `Double.toString` prints it: plain between a thousandth and ten millions, with
/// an exponent beyond, always with a digit on both sides of the point.
pub(super) fn java_double(double: f64) -> String {
    let scientific = format!("{double:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    if double == 0.0 || (1e-3..1e7).contains(&double.abs()) {
        let plain = double.to_string();
        if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        }
    } else {
        let point = if digits.contains('.') { "" } else { ".0" };
        format!("{digits}{point}E{exponent}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_java_prints_them() {
        for (double, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (9_999_999.0, "9999999.0"),
            (10_000_000.0, "1.0E7"),
            (-1.25e30, "-1.25E30"),
            (f64::MAX, "1.7976931348623157E308"),
        ] {
            assert_eq!(java_double(double), text);
        }
    }
}
