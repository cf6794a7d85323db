//! Strings as Java's Jackson prints them in JSON, which is what canonical texts are compared in.

use std::fmt::Write as _;

/// Appends a string in quotes.
pub(crate) fn put_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            control if control < ' ' => {
                let _infallible = write!(out, "\\u{:04X}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_in_capitals_and_others_are_not() {
        let mut out = String::new();
        put_string(&mut out, "a\"\\\n\u{1f}/é\u{7f}");
        assert_eq!(out, "\"a\\\"\\\\\\n\\u001F/é\u{7f}\"");
    }
}
