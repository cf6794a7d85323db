//! Schemas of strangers, of all three kinds: understood, printed, compared, and used on a payload.
//!
//! The input is the kind (a byte), two texts and a payload, each behind its length. A schema that was
//! taken must have a canonical text that is taken again, what a payload is read to must be written
//! again, and every witness must be one. The bounds are tight, so that what grows with the square of
//! its input is seen as slow early.

use wharf_schema::compat::{Direction, Policy};
use wharf_schema::model::SchemaType;
use wharf_schema::{Dependency, Limits, Parsed};

use crate::input::{Input, put_piece};

const LIMITS: Limits = Limits {
    text_bytes_max: 64 << 10,
    depth_max: 64,
    nodes_max: 2_000,
    comparisons_max: 20_000,
    incompatibilities_max: 20,
};

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = SchemaType::ALL[usize::from(input.u8()) % SchemaType::ALL.len()];
    let texts = [input.piece(), input.piece()].map(String::from_utf8_lossy);
    let payload = input.rest();
    let [one, other] = texts.map(|text| understood(kind, &text));
    if let (Some(one), Some(other)) = (&one, &other) {
        compare(one, other);
        compare(other, one);
    }
    for schema in [one, other].into_iter().flatten() {
        if let Ok(record) = schema.decode(payload, &[0])
            && kind == SchemaType::Avro
        {
            let written = schema.encode(&record, &[0]);
            written.expect("what was read can be written");
        }
    }
}

fn understood(kind: SchemaType, text: &str) -> Option<Parsed> {
    let _old = Parsed::parse_stored(kind, text, &[], &LIMITS);
    let schema = Parsed::parse(kind, text, &[], &LIMITS).ok()?;
    let canonical = schema.canonical();
    if kind == SchemaType::Avro {
        Parsed::parse_stored(kind, &canonical, &[], &LIMITS).expect("a canonical text is a schema");
    }
    let _texts = (
        schema.normalized(),
        schema.formatted("resolved"),
        schema.name(),
    );
    let dependency = Dependency {
        name: schema.name().unwrap_or_default(),
        text: canonical,
    };
    let _referring = Parsed::parse(kind, text, &[dependency], &LIMITS);
    Some(schema)
}

fn compare(reader: &Parsed, writer: &Parsed) {
    let Ok(differences) = reader.reads(writer, Policy::Strict, &LIMITS) else {
        return;
    };
    for difference in differences {
        assert!(!difference.sentence(Direction::Backward).is_empty());
        // A witness of Protobuf may be of any message of its file.
        if let Some(witness) = difference.witness
            && writer.kind() != SchemaType::Protobuf
        {
            let payload = writer.encode(&witness.record, &[0]);
            payload.expect("a witness is a record of the writer");
        }
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    const AVRO: [&str; 5] = [
        r#"{"type":"record","name":"n.L","doc":"d","aliases":["O"],"fields":[{"name":"v","type":"int","default":1,"aliases":["w"]},{"name":"n","type":["null","L"],"default":null}]}"#,
        r#"{"type":"record","name":"n.L","fields":[{"name":"w","type":"long"},{"name":"n","type":["null","L"]},{"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":4}}]}"#,
        r#"[{"type":"enum","name":"E","symbols":["A","B"],"default":"A"},{"type":"map","values":"E"}]"#,
        r#"[{"type":"fixed","name":"F","size":2},{"type":"array","items":{"type":"enum","name":"E","symbols":["B"]}}]"#,
        r#"{"type":"array","items":"null"}"#,
    ];
    const JSON: [&str; 3] = [
        r##"{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{"a":{"type":"integer","minimum":1},"b":{"$ref":"#/definitions/x"}},"required":["a"],"additionalProperties":false,"definitions":{"x":{"type":"string","pattern":"^a+$"}}}"##,
        r##"{"$schema":"https://json-schema.org/draft/2020-12/schema","$defs":{"n":{"type":"object","properties":{"next":{"$ref":"#/$defs/n"}}}},"oneOf":[{"$ref":"#/$defs/n"},{"enum":[1,"x",null]}],"unevaluatedProperties":false}"##,
        r#"{"type":["array","null"],"items":{"anyOf":[{"type":"number","multipleOf":0.5},{"const":"k"}]},"uniqueItems":true}"#,
    ];
    const PROTOBUF: [&str; 3] = [
        "syntax = \"proto3\"; package p; message M { int32 a = 1; repeated string b = 2; oneof o { bool c = 3; N d = 4; } message N { M m = 1; } enum E { Z = 0; Y = 1; } E e = 5; map<string, int64> f = 6; }",
        "syntax = \"proto3\"; package p; message M { int64 a = 1; bytes b = 2; reserved 3; } message X { }",
        "syntax = \"proto2\"; message M { required fixed32 a = 1; optional group G = 2 { optional double g = 1; } extensions 100 to 200; }",
    ];
    let kinds: [&[&str]; 3] = [&AVRO, &JSON, &PROTOBUF];
    let payloads: [&[u8]; 3] = [
        &[2, 2, 4, 0],
        b"{\"a\":1,\"b\":\"aa\"}",
        &[8, 1, 18, 1, b'x'],
    ];
    let mut seeds = Vec::new();
    for (kind, texts) in (0u8..).zip(kinds) {
        for one in texts {
            for other in texts {
                let mut seed = vec![kind];
                put_piece(&mut seed, one.as_bytes());
                put_piece(&mut seed, other.as_bytes());
                seed.extend(payloads[usize::from(kind)]);
                seeds.push(seed);
            }
        }
    }
    seeds
}
