//! Each rule finds what it is for, and leaves alone what it recommends.

use super::*;

fn ids(kind: SchemaType, text: &str, previous: Option<&str>) -> Vec<String> {
    let findings = lint(kind, text, previous, &Choice::default(), &Limits::default()).unwrap();
    findings.into_iter().map(|finding| finding.rule).collect()
}

const BAD_AVRO: &str = r#"{"type": "record", "name": "Order", "fields": [
  {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["OPEN"]}},
  {"name": "coupon", "type": ["string", "null"]},
  {"name": "placed_at", "type": "long"}
]}"#;

const GOOD_AVRO: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "doc": "placed",
  "fields": [
  {"name": "state", "doc": "d", "default": "OPEN",
   "type": {"type": "enum", "name": "State", "symbols": ["OPEN"], "default": "OPEN"}},
  {"name": "coupon", "doc": "d", "type": ["null", "string"], "default": null},
  {"name": "placed_at", "doc": "d", "default": 0,
   "type": {"type": "long", "logicalType": "timestamp-millis"}}
]}"#;

const BAD_JSON: &str = r#"{"type": "object",
  "properties": {"a": {"type": "string"}, "b": {"description": "anything"}},
  "required": ["a", "c"]}"#;

const GOOD_JSON: &str = r#"{"$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "Order", "type": "object", "additionalProperties": false,
  "properties": {"a": {"type": "string"}}, "required": ["a"]}"#;

const BAD_PROTOBUF: &str = "message Order { required string Id = 1; enum State { OPEN = 0; } }";

const GOOD_PROTOBUF: &str = "syntax = \"proto3\"; package shop.v1;
message Order { reserved 2; reserved \"card\"; string id = 1; }
enum State { STATE_UNSPECIFIED = 0; }";

#[test]
fn every_rule_finds_something_and_nothing_is_found_in_what_is_well_made() {
    let removed =
        "syntax = \"proto3\"; package a; message Order { string id = 1; string card = 2; }";
    let kept = "syntax = \"proto3\"; package a; message Order { string id = 1; }";
    let mut found = ids(SchemaType::Avro, BAD_AVRO, None);
    found.extend(ids(SchemaType::Json, BAD_JSON, None));
    found.extend(ids(SchemaType::Protobuf, BAD_PROTOBUF, None));
    found.extend(ids(SchemaType::Protobuf, kept, Some(removed)));
    for rule in RULES {
        assert!(
            found.iter().any(|id| id == rule.id),
            "{} found nothing",
            rule.id
        );
    }
    assert_eq!(ids(SchemaType::Avro, GOOD_AVRO, None), [""; 0]);
    assert_eq!(ids(SchemaType::Json, GOOD_JSON, None), [""; 0]);
    assert_eq!(
        ids(SchemaType::Protobuf, GOOD_PROTOBUF, Some(removed)),
        [""; 0]
    );
}

#[test]
fn findings_have_their_line_and_rules_are_chosen_by_id() {
    let mut choice = Choice::default();
    choice.only.insert("avro-null-first".to_owned());
    let findings = lint(
        SchemaType::Avro,
        BAD_AVRO,
        None,
        &choice,
        &Limits::default(),
    )
    .unwrap();
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].line, Some(3));
    assert_eq!(findings[0].path, "/fields/1");
    assert_eq!(worst(&findings), Some(Severity::Warning));
    choice.allowed.insert("avro-null-first".to_owned());
    let findings = lint(
        SchemaType::Avro,
        BAD_AVRO,
        None,
        &choice,
        &Limits::default(),
    )
    .unwrap();
    assert_eq!(findings, []);
    choice.only.insert("no-such-rule".to_owned());
    assert_eq!(choice.unknown(), Some("no-such-rule"));
}

#[test]
fn a_schema_beyond_the_limits_is_refused_and_not_walked() {
    let limits = Limits {
        nodes_max: 3,
        ..Limits::default()
    };
    let refused = lint(
        SchemaType::Avro,
        BAD_AVRO,
        None,
        &Choice::default(),
        &limits,
    );
    assert!(refused.unwrap_err().what.contains("too large"));
}

#[test]
fn ids_are_in_order_and_the_page_is_made_from_them() {
    let of = |rule: &Rule| (rule.kind, rule.id);
    assert!(RULES.is_sorted_by_key(of), "the rules are not in order");
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/reference/schema-lint.md"
    );
    if std::env::var_os("WHARF_REWRITE").is_some() {
        std::fs::write(path, markdown()).unwrap();
    }
    let page = std::fs::read_to_string(path).unwrap();
    assert_eq!(
        page,
        markdown(),
        "run it with WHARF_REWRITE=1 to write the page anew"
    );
}
