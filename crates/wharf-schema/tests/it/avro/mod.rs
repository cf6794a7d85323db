//! Avro from outside.

mod generate;
mod parsing;
mod payloads;
mod properties;
mod recorded;
mod verdicts;

use wharf_schema::Limits;
use wharf_schema::avro::Schema;

/// A schema that must be sound.
fn schema(text: &str) -> Schema {
    Schema::parse(text, &[], &Limits::default()).unwrap()
}

/// Why a text is no schema.
fn refusal(text: &str) -> String {
    let error = Schema::parse(text, &[], &Limits::default()).map(|schema| schema.canonical());
    error.expect_err("refused").what
}

/// Bytes written in hexadecimal digits.
fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
