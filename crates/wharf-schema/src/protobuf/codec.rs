//! Payloads: bytes to a message to JSON, and back.
//!
//! JSON is Protobuf's own mapping. A message that has no such form (an `Any` of a type that is not
//! in the schema, a timestamp out of range) is given in Protobuf's text format, as a string, so that
//! what can be decoded is never called unreadable; such a string is understood on the way back.
//!
//! Payloads are written by strangers: the decoder bounds their depth, and what a `google.protobuf.Any`
//! holds, which it does not look into, is bounded here; so is the number of values.

use std::collections::HashMap;

use prost_reflect::prost::Message as _;
use prost_reflect::text_format::FormatOptions;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, MessageDescriptor, ReflectMessage as _, SerializeOptions,
    Value as Decoded,
};
use serde_json::Value;

use super::{parse, weight};
use crate::Unreadable;

/// The largest payload that is decoded, in bytes: a decoded message takes many times its bytes.
const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// How deep a record in JSON may be nested; a payload may be as deep.
const DEPTH_MAX: usize = 100;

/// How often an `Any` may hold another one in what is given as JSON.
const ANY_DEPTH_MAX: usize = 4;

/// A message from its bytes. Fields that the schema lacks are kept as unknown ones.
pub(super) fn decode(
    message: MessageDescriptor,
    payload: &[u8],
) -> Result<DynamicMessage, Unreadable> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Unreadable::new(format!(
            "the payload has {} bytes; at most {PAYLOAD_BYTES_MAX} are decoded",
            payload.len()
        )));
    }
    weight::check(&message, payload)?;
    let decoded = DynamicMessage::decode(message, payload)
        .map_err(|error| Unreadable::new(error.to_string()))?;
    match missing(&decoded) {
        Some(path) => Err(Unreadable::new(format!(
            "the required field {path} is missing"
        ))),
        None => Ok(decoded),
    }
}

/// The path of a required field that is not there.
fn missing(message: &DynamicMessage) -> Option<String> {
    let mut path = Required::default().missing(message)?;
    path.reverse();
    Some(path.join("."))
}

/// The required fields of each type that was met: a payload may have one type many times.
#[derive(Default)]
struct Required {
    by_type: HashMap<String, Vec<FieldDescriptor>>,
}

impl Required {
    /// The way to it, innermost first. Depth is bounded by the decoder.
    fn missing(&mut self, message: &DynamicMessage) -> Option<Vec<String>> {
        let descriptor = message.descriptor();
        if !self.by_type.contains_key(descriptor.full_name()) {
            let required = descriptor.fields().filter(FieldDescriptor::is_required);
            let name = descriptor.full_name().to_owned();
            self.by_type.insert(name, required.collect());
        }
        let required = &self.by_type[descriptor.full_name()];
        if let Some(field) = required.iter().find(|field| !message.has_field(field)) {
            return Some(vec![field.name().to_owned()]);
        }
        message.fields().find_map(|(field, value)| {
            field.kind().as_message()?;
            let mut path = messages(value).find_map(|inner| self.missing(inner))?;
            path.push(field.name().to_owned());
            Some(path)
        })
    }
}

/// The messages that a field's value is or holds.
fn messages(value: &Decoded) -> impl Iterator<Item = &DynamicMessage> {
    let (list, map) = match value {
        Decoded::Map(entries) => (&[][..], Some(entries.values())),
        Decoded::List(items) => (&items[..], None),
        one => (std::slice::from_ref(one), None),
    };
    let all = list.iter().chain(map.into_iter().flatten());
    all.filter_map(Decoded::as_message)
}

/// A message as JSON.
pub(super) fn to_json(message: &DynamicMessage) -> Value {
    let text = || {
        let options = FormatOptions::new().expand_any(false);
        Value::String(message.to_text_format_with_options(&options))
    };
    if !is_shallow(message, ANY_DEPTH_MAX) {
        return text();
    }
    let options = SerializeOptions::new();
    let json = message.serialize_with_options(serde_json::value::Serializer, &options);
    json.unwrap_or_else(|_unrepresentable| text())
}

/// Whether no `Any` holds others deeper than allowed: they are decoded while JSON is written.
fn is_shallow(message: &DynamicMessage, depth: usize) -> bool {
    let descriptor = message.descriptor();
    if descriptor.full_name() == "google.protobuf.Any" {
        let url = message.get_field_by_name("type_url");
        let bytes = message.get_field_by_name("value");
        let (Some(url), Some(bytes)) = (url, bytes) else {
            return false;
        };
        let (Some(url), Some(bytes)) = (url.as_str(), bytes.as_bytes()) else {
            return false;
        };
        let name = url.rsplit('/').next().unwrap_or_default();
        let pool = descriptor.parent_pool();
        let Some(inner) = pool.get_message_by_name(name) else {
            return true;
        };
        let inner = DynamicMessage::decode(inner, &bytes[..]);
        return inner.map_or(true, |inner| depth > 0 && is_shallow(&inner, depth - 1));
    }
    let holds_none = |value| messages(value).all(|inner| is_shallow(inner, depth));
    message.fields().all(|(_, value)| holds_none(value))
}

/// The bytes of a record.
pub(super) fn encode(message: MessageDescriptor, record: &Value) -> Result<Vec<u8>, Unreadable> {
    if depth(record) > DEPTH_MAX {
        return Err(Unreadable::new(format!(
            "the record is nested more than {DEPTH_MAX} deep"
        )));
    }
    let read = match record {
        Value::String(text) if !is_json_string(&message) => {
            if parse::nesting(text) > DEPTH_MAX || text.len() > PAYLOAD_BYTES_MAX {
                return Err(Unreadable::new("the text is too long or nested too deep"));
            }
            DynamicMessage::parse_text_format(message, text)
                .map_err(|error| Unreadable::new(error.to_string()))?
        }
        record => DynamicMessage::deserialize(message, record)
            .map_err(|error| Unreadable::new(error.to_string()))?,
    };
    match missing(&read) {
        Some(path) => Err(Unreadable::new(format!(
            "the required field {path} is missing"
        ))),
        None => Ok(read.encode_to_vec()),
    }
}

/// Whether the JSON form of a message is a string by itself, as that of a timestamp is.
fn is_json_string(message: &MessageDescriptor) -> bool {
    let name = message.full_name();
    name.starts_with("google.protobuf.") && name != "google.protobuf.Any"
}

/// How deep a record is nested, without recursion.
fn depth(record: &Value) -> usize {
    let mut deepest = 0;
    let mut open = vec![(record, 1)];
    while let Some((value, depth)) = open.pop() {
        deepest = deepest.max(depth);
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(entries) => {
                open.extend(entries.values().map(|value| (value, depth + 1)));
            }
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::tests::{EVERYTHING, parse};

    #[test]
    fn payloads_are_read_and_written_as_json() {
        let schema = parse(EVERYTHING);
        let record = serde_json::json!({
            "ident": "o-1", "counts": [1, 2], "lines": {"a": {"price": 2.5}}, "other": {"price": 1.0},
            "at": "2026-01-02T03:04:05Z", "kind": "B", "extra": {"x": 7}
        });
        let payload = schema.encode(&record, &[0]).unwrap();
        let decoded = schema.decode(&payload, &[]).unwrap();
        assert_eq!(schema.encode(&decoded, &[0]).unwrap(), payload);
        assert_eq!(decoded["lines"], record["lines"]);
        // A message without a required field is no message.
        assert!(schema.encode(&serde_json::json!({}), &[0]).is_err());
        assert!(
            schema
                .decode(&[], &[0])
                .unwrap_err()
                .what
                .contains("required field id")
        );
        assert!(schema.decode(&payload[..payload.len() - 1], &[0]).is_err());
        assert!(schema.decode(&payload, &[7]).is_err());
        // What is nested too deep is refused on both sides.
        let recursive = parse("syntax = \"proto3\"; message R { R r = 1; }");
        let deep = (0..300).fold(
            serde_json::json!({}),
            |inner, _| serde_json::json!({"r": inner}),
        );
        assert!(recursive.encode(&deep, &[0]).is_err());
        let mut bytes: Vec<u8> = Vec::new();
        for _ in 0..300 {
            let mut length = bytes.len();
            let mut front = vec![0x0a];
            while length > 127 {
                front.push(u8::try_from(length & 127).unwrap() | 128);
                length >>= 7;
            }
            front.push(u8::try_from(length).unwrap());
            front.append(&mut bytes);
            bytes = front;
        }
        assert!(recursive.decode(&bytes, &[0]).is_err());
    }

    #[test]
    fn a_message_without_a_json_form_is_given_as_text() {
        let text = "syntax = \"proto3\"; import \"google/protobuf/any.proto\"; message A { google.protobuf.Any any = 1; }";
        let schema = parse(text);
        let payload = [0x0a, 5, 0x0a, 3, b'x', b'/', b'y'];
        let decoded = schema.decode(&payload, &[0]).unwrap();
        assert!(decoded.is_string(), "{decoded}");
        assert_eq!(schema.encode(&decoded, &[0]).unwrap(), payload);
    }

    #[test]
    fn a_payload_that_is_small_on_the_wire_and_large_in_memory_is_refused() {
        let schema =
            parse("syntax = \"proto3\"; message A { repeated A a = 1; repeated bool b = 2; }");
        let empty_messages = [0x0a, 0].repeat(1_000_000);
        let packed = [&[0x12, 0x80, 0x89, 0x7a][..], &vec![1; 2_000_000][..]].concat();
        for payload in [&empty_messages, &packed] {
            let error = schema.decode(payload, &[0]).unwrap_err();
            assert_eq!(error.what, "the payload has more than 500000 values");
        }
        let long = parse("syntax = \"proto3\"; message A { string a = 1; }");
        let record = serde_json::json!({"a": "x".repeat(1 << 20)});
        let payload = long.encode(&record, &[0]).unwrap();
        assert_eq!(long.decode(&payload, &[0]).unwrap(), record);
    }

    #[test]
    fn an_any_within_an_any_within_an_any_does_not_recurse_without_end() {
        let text = "syntax = \"proto3\"; import \"google/protobuf/any.proto\"; message A { google.protobuf.Any any = 1; }";
        let schema = parse(text);
        let length = |bytes: &[u8]| {
            let mut length = bytes.len();
            let mut out = Vec::new();
            while length > 127 {
                out.push(u8::try_from(length & 127).unwrap() | 128);
                length >>= 7;
            }
            out.push(u8::try_from(length).unwrap());
            out
        };
        let url = b"x/google.protobuf.Any";
        let nested = |times: usize| {
            let mut any = [&[0x0a, 3][..], b"x/A"].concat();
            for _ in 0..times {
                let head = [&[0x0a][..], &length(url), url, &[0x12], &length(&any)].concat();
                any = [head, any].concat();
            }
            [vec![0x0a], length(&any), any].concat()
        };
        assert!(schema.decode(&nested(2), &[0]).unwrap().is_object());
        assert!(schema.decode(&nested(3_000), &[0]).unwrap().is_string());
        // Nor does a text for a record.
        let deep = format!("{}{}", "any { ".repeat(100_000), "}".repeat(100_000));
        assert!(schema.encode(&Value::String(deep), &[0]).is_err());
    }

    #[test]
    fn types_that_only_have_the_names_of_well_known_ones_break_nothing() {
        let names = [
            "Any",
            "Timestamp",
            "Duration",
            "Struct",
            "Value",
            "ListValue",
            "FieldMask",
            "Empty",
            "Int32Value",
            "BoolValue",
            "StringValue",
            "BytesValue",
            "NullValue",
            "DoubleValue",
        ];
        for (at, name) in names.iter().enumerate() {
            for body in [
                "int32 a = 1; string b = 2;",
                "repeated string type_url = 1;",
                "",
            ] {
                let text = format!(
                    "syntax = \"proto3\"; package google.protobuf; message Main {{ {name} it = 1; repeated {name} more = 2; map<string, {name}> by = 3; }} message {name} {{ {body} }}"
                );
                let schema = parse(&text);
                let small = u8::try_from(at).unwrap();
                for payload in [
                    vec![0x0a, 0],
                    vec![0x0a, 2, 8, small],
                    vec![0x0a, 3, 0x0a, 1, b'x'],
                    vec![0x12, 2, 0x12, 0],
                    vec![0x1a, 6, 0x0a, 1, b'k', 0x12, 1, 8],
                ] {
                    if let Ok(decoded) = schema.decode(&payload, &[0]) {
                        drop(schema.encode(&decoded, &[0]));
                    }
                }
                for record in [
                    "\"x\"",
                    "{}",
                    "null",
                    "[1]",
                    "{\"a\": 1}",
                    "1",
                    "{\"@type\": \"x/y\"}",
                ] {
                    let record = format!(
                        "{{\"it\": {record}, \"more\": [{record}], \"by\": {{\"k\": {record}}}}}"
                    );
                    drop(schema.encode(&serde_json::from_str(&record).unwrap(), &[0]));
                }
            }
        }
    }
}
