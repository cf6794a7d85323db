//! The schemas that are registered, looked up and compared: of the size that services have.

use serde_json::{Value, json};

/// How many fields a schema has, beside what makes it different from others.
const FIELDS: usize = 20;

/// The kinds of schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Avro,
    Json,
    Protobuf,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Avro, Self::Json, Self::Protobuf];

    /// As rows are named.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Avro => "avro",
            Self::Json => "json",
            Self::Protobuf => "protobuf",
        }
    }

    /// As the registry names it.
    fn name(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Json => "JSON",
            Self::Protobuf => "PROTOBUF",
        }
    }

    /// The request's body with version `number` of a schema whose every version can read all before it.
    pub(super) fn version(self, number: u64) -> String {
        let text = match self {
            Self::Avro => avro("Order", &format!("added{number}")),
            Self::Json => json_schema(number),
            Self::Protobuf => protobuf(number),
        };
        json!({ "schema": text, "schemaType": self.name() }).to_string()
    }
}

/// The request's body with a schema that no other number has.
pub(super) fn distinct(number: u64) -> String {
    json!({ "schema": avro(&format!("Order{number}"), "added") }).to_string()
}

/// A record whose last field is its own, with a default.
fn avro(name: &str, last: &str) -> String {
    let types: [Value; 5] = [
        json!("string"),
        json!("long"),
        json!({ "type": "array", "items": "string" }),
        json!(["null", "double"]),
        json!({ "type": "long", "logicalType": "timestamp-millis" }),
    ];
    let field = |at: usize, kind: &Value| json!({ "name": format!("field{at}"), "type": kind });
    let fields = types.iter().cycle().take(FIELDS).enumerate();
    let mut fields: Vec<Value> = fields.map(|(at, kind)| field(at, kind)).collect();
    fields.push(json!({ "name": last, "type": ["null", "string"], "default": null }));
    json!({ "type": "record", "name": name, "namespace": "shop", "fields": fields }).to_string()
}

/// An object whose texts may be longer with each version.
fn json_schema(number: u64) -> String {
    let properties: serde_json::Map<String, Value> = (0..FIELDS)
        .map(|at| {
            let longest = 100 + number;
            let shape = match at % 4 {
                0 => json!({ "type": "string", "maxLength": longest }),
                1 => json!({ "type": "integer", "minimum": 0 }),
                2 => {
                    json!({ "type": "array", "items": { "type": "string", "maxLength": longest } })
                }
                _ => json!({ "type": "object", "properties": { "inner": { "type": "number" } } }),
            };
            (format!("field{at}"), shape)
        })
        .collect();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Order",
        "type": "object",
        "properties": properties,
        "required": ["field0", "field1"],
        "additionalProperties": false,
    })
    .to_string()
}

/// A message in a file whose option is its own: others take the removal of a field for a break.
fn protobuf(number: u64) -> String {
    let types = ["string", "int64", "repeated string", "double", "Money"];
    let fields = types.iter().cycle().take(FIELDS).enumerate();
    let fields: String = fields
        .map(|(at, kind)| format!("  {kind} field{at} = {};\n", at + 1))
        .collect();
    format!(
        "syntax = \"proto3\";\npackage shop;\n\noption java_package = \"shop.v{number}\";\n\n\
         message Order {{\n{fields}}}\n\nmessage Money {{\n  int64 cents = 1;\n  string currency = 2;\n}}\n"
    )
}
