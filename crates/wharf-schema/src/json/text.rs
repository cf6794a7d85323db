//! The canonical text: JSON as Jackson prints it after reading it, which is what Confluent's registry
//! stores, hashes and compares.
//!
//! No white space, keys in the order of their first appearance with the value of their last, numbers
//! as Java's `BigDecimal` writes them, Jackson's escapes. It works on the text and never on `f64`s,
//! so that no digit is lost. The text must have been read by `serde_json` before: that it is JSON,
//! and not nested deeper than that reader allows, is taken for granted.

use std::borrow::Cow;

use crate::jackson::put_string;

/// The canonical text of a JSON text; with `sorted`, every object's keys are in Java's order.
pub(super) fn canonical(text: &str, sorted: bool) -> String {
    let mut reader = Reader { rest: text };
    let mut out = String::with_capacity(text.len());
    reader.value().write(sorted, &mut out);
    out
}

enum Token<'a> {
    /// A literal or a number, as it is to be written.
    Plain(Cow<'a, str>),
    Text(String),
    List(Vec<Token<'a>>),
    Object(Vec<(String, Token<'a>)>),
}

impl Token<'_> {
    fn write(&self, sorted: bool, out: &mut String) {
        match self {
            Self::Plain(text) => out.push_str(text),
            Self::Text(text) => put_string(out, text),
            Self::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write(sorted, out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                let mut members = members.iter().collect::<Vec<_>>();
                if sorted {
                    members.sort_by(|(left, _), (right, _)| {
                        left.encode_utf16().cmp(right.encode_utf16())
                    });
                }
                out.push('{');
                for (index, (key, value)) in members.into_iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    put_string(out, key);
                    out.push(':');
                    value.write(sorted, out);
                }
                out.push('}');
            }
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn peek(&mut self) -> u8 {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.rest.as_bytes().first().copied().unwrap_or(b']')
    }

    fn skip(&mut self) {
        let mut characters = self.rest.chars();
        characters.next();
        self.rest = characters.as_str();
    }

    fn value(&mut self) -> Token<'a> {
        match self.peek() {
            b'{' => self.object(),
            b'[' => self.list(),
            b'"' => Token::Text(self.text()),
            _ => {
                let end = self
                    .rest
                    .find([',', ']', '}', ' ', '\t', '\n', '\r'])
                    .unwrap_or(self.rest.len());
                let (plain, rest) = self.rest.split_at(end);
                self.rest = rest;
                Token::Plain(number(plain))
            }
        }
    }

    fn list(&mut self) -> Token<'a> {
        self.skip();
        let mut items = Vec::new();
        while self.peek() != b']' {
            items.push(self.value());
            if self.peek() == b',' {
                self.skip();
            }
        }
        self.skip();
        Token::List(items)
    }

    fn object(&mut self) -> Token<'a> {
        self.skip();
        let mut members: Vec<(String, Token<'a>)> = Vec::new();
        let mut places = std::collections::HashMap::new();
        while self.peek() == b'"' {
            let key = self.text();
            self.peek();
            self.skip();
            let value = self.value();
            match places.get(&key) {
                Some(&place) => {
                    let member: &mut (String, Token<'a>) = &mut members[place];
                    member.1 = value;
                }
                None => {
                    places.insert(key.clone(), members.len());
                    members.push((key, value));
                }
            }
            if self.peek() == b',' {
                self.skip();
                self.peek();
            }
        }
        self.skip();
        Token::Object(members)
    }

    fn text(&mut self) -> String {
        let bytes = self.rest.as_bytes();
        let mut end = 1;
        while end < bytes.len() && bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        let (quoted, rest) = self.rest.split_at((end + 1).min(self.rest.len()));
        self.rest = rest;
        serde_json::from_str(quoted).unwrap_or_default()
    }
}

/// A number as Java writes it: a whole one as `BigInteger` does, any other as `BigDecimal` does.
fn number(text: &str) -> Cow<'_, str> {
    let (negative, magnitude) = match text.strip_prefix('-') {
        Some(magnitude) => (true, magnitude),
        None => (false, text),
    };
    if !magnitude.starts_with(|first: char| first.is_ascii_digit()) {
        return Cow::Borrowed(text);
    }
    let (mantissa, exponent) = match magnitude.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (magnitude, None),
    };
    if exponent.is_none() && !mantissa.contains('.') {
        return Cow::Borrowed(if magnitude == "0" { "0" } else { text });
    }
    let exponent = exponent.map_or(Ok(0), |exponent| {
        exponent.trim_start_matches('+').parse::<i32>()
    });
    let Ok(exponent) = exponent else {
        return Cow::Borrowed(text);
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let scale = fraction.len() as i64 - i64::from(exponent);
    let digits = format!("{whole}{fraction}");
    let digits = match digits.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    let sign = if negative && digits != "0" { "-" } else { "" };
    Cow::Owned(format!("{sign}{}", decimal(digits, scale)))
}

/// `digits` with the last `scale` of them behind the point.
fn decimal(digits: &str, scale: i64) -> String {
    let count = digits.len() as i64;
    let adjusted = count - 1 - scale;
    if scale < 0 || adjusted < -6 {
        let (first, others) = digits.split_at(1);
        let point = if others.is_empty() { "" } else { "." };
        let exponent = match adjusted {
            0 => String::new(),
            _ => format!("E{adjusted:+}"),
        };
        return format!("{first}{point}{others}{exponent}");
    }
    if scale == 0 {
        return digits.to_owned();
    }
    if count <= scale {
        let zeros = usize::try_from(scale - count).unwrap_or_default();
        return format!("0.{}{digits}", "0".repeat(zeros));
    }
    let (whole, fraction) = digits.split_at(usize::try_from(count - scale).unwrap_or_default());
    format!("{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn white_space_goes_and_order_stays() {
        let text = "{ \"b\" : [ 1 , 2 ] ,\n\t\"a\" : { \"z\":true, \"y\" : null } }";
        assert_eq!(
            canonical(text, false),
            r#"{"b":[1,2],"a":{"z":true,"y":null}}"#
        );
        assert_eq!(
            canonical(text, true),
            r#"{"a":{"y":null,"z":true},"b":[1,2]}"#
        );
        assert_eq!(canonical("{ }", false), "{}");
        assert_eq!(canonical(" true ", false), "true");
    }

    #[test]
    fn a_key_twice_keeps_its_first_place_and_its_last_value() {
        assert_eq!(
            canonical(r#"{"a":1,"b":2,"a":{"c":3}}"#, false),
            r#"{"a":{"c":3},"b":2}"#
        );
    }

    #[test]
    fn numbers_are_written_as_java_writes_them() {
        for (text, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("-12", "-12"),
            (
                "123456789012345678901234567890",
                "123456789012345678901234567890",
            ),
            ("1.0", "1.0"),
            ("1.50", "1.50"),
            ("-0.0", "0.0"),
            ("0.000001", "0.000001"),
            ("0.0000001", "1E-7"),
            ("1e3", "1E+3"),
            ("1.5e3", "1.5E+3"),
            ("15e-1", "1.5"),
            ("100e-2", "1.00"),
            ("1.25E+2", "125"),
            ("0.1234567890123456789012345", "0.1234567890123456789012345"),
        ] {
            assert_eq!(canonical(text, false), expected, "{text}");
        }
    }

    #[test]
    fn strings_are_escaped_as_jackson_escapes_them() {
        assert_eq!(
            canonical(r#""\u0041\/\"\\\n\u001f\u00e9 [,]""#, false),
            "\"A/\\\"\\\\\\n\\u001F\u{e9} [,]\""
        );
        let key_order = "{\"\u{ffff}\":1,\"\u{10000}\":2}";
        assert_eq!(
            canonical(key_order, true),
            "{\"\u{10000}\":2,\"\u{ffff}\":1}"
        );
    }
}
