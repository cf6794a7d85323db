//! What the face of the module promises: texts, verdicts, payloads.

use super::*;

pub(super) fn parse(text: &str) -> Schema {
    Schema::parse(text, &[], &Limits::default()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn reads(old: &str, new: &str) -> Vec<Difference> {
    let found = parse(new).reads(&parse(old), Policy::Strict, &Limits::default());
    found.expect("small schemas can be compared")
}

fn differences(old: &str, new: &str) -> Vec<(&'static str, bool, String)> {
    reads(old, new)
        .into_iter()
        .map(|one| (one.kind, one.is_compatible, one.path))
        .collect()
}

fn broken(old: &str, new: &str) -> Vec<&'static str> {
    let found = differences(old, new).into_iter();
    found.filter(|one| !one.1).map(|one| one.0).collect()
}

pub(super) const EVERYTHING: &str = r#"// A comment.
syntax = "proto2";
package shop.orders;
import public "google/protobuf/timestamp.proto";
import "confluent/meta.proto";
option java_package = "com.example";
option (confluent.file_meta).doc = "it's";
/* Another. */
message Order {
  option deprecated = true;
  reserved 10, 20 to 30, 100 to max;
  reserved "old", "older";
  required string id = 1 [default = "a\"b", json_name = "ident"];
  repeated int32 counts = 2 [packed = true];
  map<string, Line> lines = 3;
  optional group Extra = 4 { optional int32 x = 1; }
  oneof payment { string card = 5; Line other = 6 [deprecated = true, (confluent.field_meta) = { tags: ["PII", "X"] doc: "d" }]; }
  optional google.protobuf.Timestamp at = 7;
  optional Kind kind = 8 [default = B];
  extensions 50 to 60, 70;
  message Line { optional double price = 1; }
  enum Kind { option allow_alias = true; A = 0; B = 1; C = 1 [deprecated = true]; reserved 5 to 7, 9; }
}
enum Colour { RED = 0; }
extend Order { optional int32 weight = 50; optional string note = 51; }
extend Order { optional bool flag = 52; }
service Orders { option deprecated = true; rpc Get (Order) returns (stream Order) { option idempotency_level = IDEMPOTENT; } rpc Put (stream Order) returns (Order); }
"#;

#[test]
fn the_canonical_text_has_the_sections_and_spaces_of_confluents_registry() {
    insta::assert_snapshot!(parse(EVERYTHING).canonical());
}

#[test]
fn the_normalized_text_has_one_order_and_names_in_full() {
    insta::assert_snapshot!(parse(EVERYTHING).normalized());
}

#[test]
fn every_text_that_is_printed_is_understood_and_stays_as_it_is() {
    let schema = parse(EVERYTHING);
    let canonical = schema.canonical();
    assert_eq!(parse(&canonical).canonical(), canonical);
    let normalized = schema.normalized();
    assert_eq!(parse(&normalized).canonical(), normalized);
    assert_eq!(parse(&normalized).normalized(), normalized);
    assert_eq!(parse(&canonical).normalized(), normalized);
}

#[test]
fn comments_and_spaces_make_no_other_schema_and_order_does_until_it_is_normalized() {
    let one = parse("syntax = \"proto3\"; /* x */ message A { int32 b = 2; // y\n int32 a = 1; }");
    let same = parse("syntax='proto3';message A{int32 b=2;int32 a=1;}");
    let other = parse("syntax = \"proto3\"; message A { int32 a = 1; int32 b = 2; }");
    assert_eq!(one.canonical(), same.canonical());
    assert_ne!(one.canonical(), other.canonical());
    assert_eq!(one.normalized(), other.normalized());
}

#[test]
fn a_descriptor_in_base64_is_a_schema_with_the_entries_of_maps_spelled_out() {
    let schema = parse(EVERYTHING);
    let sent = schema.formatted("serialized").unwrap();
    let received = parse(&sent);
    assert!(received.canonical().contains("option map_entry = true;"));
    assert_eq!(
        parse(&received.canonical()).canonical(),
        received.canonical()
    );
    assert_eq!(received.normalized(), schema.normalized());
    assert!(received.canonical().contains("(confluent.field_meta) = {"));
    assert!(
        received
            .normalized()
            .contains("map<string, .shop.orders.Order.Line> lines = 3;")
    );
    // Positions count the entry where it is spelled out, and not where it is a map.
    assert_eq!(
        schema.message_index("shop.orders.Order.Line"),
        Some(vec![0, 0])
    );
    assert_eq!(
        received.message_index("shop.orders.Order.Line"),
        Some(vec![0, 1])
    );
    for schema in [schema, received] {
        let index = schema.message_index("shop.orders.Order.Line").unwrap();
        assert_eq!(
            schema.message_name(&index).unwrap(),
            "shop.orders.Order.Line"
        );
        assert_eq!(schema.message_name(&[]).unwrap(), "shop.orders.Order");
        assert_eq!(schema.message_name(&[1]), None);
        assert_eq!(schema.message_name(&[-1]), None);
        assert_eq!(schema.message_index("shop.orders.Orders"), None);
    }
}

#[test]
fn what_cannot_be_understood_is_refused_with_the_place() {
    let refused = |text: &str| {
        let error = Schema::parse(text, &[], &Limits::default()).unwrap_err();
        error.to_string()
    };
    insta::assert_snapshot!(
        [
            refused("syntax = \"proto3\"; message A { int32 a = 1 }"),
            refused("syntax = \"proto3\"; message A { int32 a = 1; int32 b = 1; }"),
            refused("syntax = \"proto3\"; message A { B b = 1; }"),
            refused("import \"other.proto\"; message A {}"),
            refused("edition = \"2023\"; message A {}"),
            refused("syntax = \"proto4\";"),
            refused(&format!("{}{}", "message A {".repeat(65), "}".repeat(65))),
        ]
        .join("\n")
    );
}

#[test]
fn references_are_resolved_by_their_import_path_and_not_beyond() {
    let dependency = |name: &str, text: &str| Dependency {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let text = "import \"a.proto\"; message M { optional A a = 1; }";
    let known = [
        dependency(
            "a.proto",
            "import \"b.proto\"; message A { optional B b = 1; }",
        ),
        dependency("b.proto", "message B { optional int32 x = 1; }"),
    ];
    let limits = Limits::default();
    let schema = Schema::parse(text, &known, &limits).unwrap();
    assert_eq!(
        schema.canonical(),
        "\nimport \"a.proto\";\n\nmessage M {\n  optional A a = 1;\n}\n"
    );
    assert!(schema.normalized().contains("optional .A a = 1;"));
    assert!(Schema::parse(text, &known[..1], &limits).is_err());
    let around = [dependency("a.proto", "import \"a.proto\";")];
    let error = Schema::parse(text, &around, &limits).unwrap_err();
    assert_eq!(error.to_string(), "a.proto imports itself");
    // A chain of any length is followed without recursion.
    let chain: Vec<_> = (0..20_000)
        .map(|at| dependency(&format!("{at}"), &format!("import \"{}\";", at + 1)))
        .collect();
    assert!(Schema::parse("import \"0\";", &chain, &limits).is_err());
}

#[test]
fn hostile_texts_are_refused_before_anything_recurses_or_multiplies() {
    let limits = Limits::default();
    let deep = |open: &str, close: &str| {
        format!(
            "message A {{ {}{} }}",
            open.repeat(100_000),
            close.repeat(100_000)
        )
    };
    let ranges: Vec<String> = (1..5_000).map(|at| (at * 2).to_string()).collect();
    let fields: Vec<String> = (1..5_000)
        .map(|at| format!("optional int32 f{at} = {};", at * 2 + 1))
        .collect();
    for text in [
        deep("message A {", "}"),
        deep("optional group A = 1 {", "}"),
        format!(
            "option (a) = {}{};",
            "{a ".repeat(100_000),
            "}".repeat(100_000)
        ),
        format!(
            "option (a) = {{ a: {}{} }};",
            "[".repeat(100_000),
            "]".repeat(100_000)
        ),
        format!(
            "message A {{ reserved {}; {} }}",
            ranges.join(","),
            fields.join("")
        ),
    ] {
        assert!(Schema::parse(&text, &[], &limits).is_err());
    }
    let many = format!("message A {{ {} }}", fields.join(""));
    let small = Limits {
        nodes_max: 1_000,
        ..limits
    };
    assert!(Schema::parse(&many, &[], &limits).is_ok());
    assert!(Schema::parse(&many, &[], &small).is_err());
    // What is imported counts as well.
    let imported = Dependency {
        name: "many.proto".to_owned(),
        text: many.clone(),
    };
    let importing = "import \"many.proto\"; message B { optional A a = 1; }";
    let of_both = Limits {
        nodes_max: 5_001,
        ..limits
    };
    let parsed = |limits| Schema::parse(importing, std::slice::from_ref(&imported), limits);
    assert!(parsed(&limits).unwrap().memory_bytes() > many.len());
    assert!(parsed(&of_both).is_err());
    let few = Limits {
        comparisons_max: 1_000,
        ..limits
    };
    let schema = parse(&many);
    assert!(schema.reads(&schema, Policy::Strict, &few).is_err());
}

/// Bodies of a message, before and after, that read each other.
const COMPATIBLE: [(&str, &str); 14] = [
    ("int32 a = 1;", ""),
    ("", "int32 a = 1;"),
    ("int32 a = 1;", "int32 b = 1;"),
    ("int32 a = 1;", "uint64 a = 1;"),
    ("bool a = 1;", "E a = 1; enum E { X = 0; }"),
    ("string a = 1;", "bytes a = 1;"),
    ("fixed32 a = 1;", "sfixed32 a = 1;"),
    ("int32 a = 1;", "repeated int32 a = 1;"),
    ("int32 a = 1;", "oneof x { int32 a = 1; string b = 2; }"),
    (
        "oneof x { int32 a = 1; int32 b = 2; }",
        "int32 a = 1; int32 b = 2;",
    ),
    ("oneof x { int32 a = 1; }", "oneof y { int32 a = 1; }"),
    ("oneof x { int32 a = 1; int32 b = 2; }", "int32 c = 3;"),
    ("optional int32 a = 1;", "int32 a = 1;"),
    ("map<string, int32> a = 1;", "map<string, int64> a = 1;"),
];

/// Bodies of a message, before and after, and what breaks.
const INCOMPATIBLE: [(&str, &str, &str); 14] = [
    ("int32 a = 1;", "sint32 a = 1;", "FIELD_SCALAR_KIND_CHANGED"),
    ("int32 a = 1;", "string a = 1;", "FIELD_SCALAR_KIND_CHANGED"),
    (
        "fixed32 a = 1;",
        "float a = 1;",
        "FIELD_SCALAR_KIND_CHANGED",
    ),
    (
        "fixed64 a = 1;",
        "double a = 1;",
        "FIELD_SCALAR_KIND_CHANGED",
    ),
    ("int32 a = 1;", "A a = 1;", "FIELD_KIND_CHANGED"),
    (
        "map<string, int32> a = 1;",
        "A a = 1;",
        "FIELD_KIND_CHANGED",
    ),
    (
        "map<string, int32> a = 1;",
        "map<string, string> a = 1;",
        "FIELD_SCALAR_KIND_CHANGED",
    ),
    (
        "map<int32, int32> a = 1;",
        "map<string, int32> a = 1;",
        "FIELD_SCALAR_KIND_CHANGED",
    ),
    (
        "repeated int32 a = 1;",
        "optional int32 a = 1;",
        "FIELD_NUMERIC_LABEL_CHANGED",
    ),
    (
        "B a = 1; message B { int32 x = 1; } message C {}",
        "C a = 1; message B { int32 x = 1; } message C {}",
        "FIELD_NAMED_TYPE_CHANGED",
    ),
    ("message B {}", "", "MESSAGE_REMOVED"),
    (
        "oneof x { int32 a = 1; int32 b = 2; }",
        "oneof x { int32 a = 1; }",
        "ONEOF_FIELD_REMOVED",
    ),
    (
        "int32 a = 1; int32 b = 2;",
        "oneof x { int32 a = 1; int32 b = 2; }",
        "MULTIPLE_FIELDS_MOVED_TO_ONEOF",
    ),
    (
        "int32 a = 1; oneof x { int32 b = 2; }",
        "oneof x { int32 a = 1; int32 b = 2; }",
        "FIELD_MOVED_TO_EXISTING_ONEOF",
    ),
];

#[test]
fn verdicts_are_those_of_confluents_registry() {
    let text = |body: &str| format!("syntax = \"proto3\"; message A {{ {body} }}");
    let nothing: Vec<&str> = Vec::new();
    for (old, new) in COMPATIBLE {
        assert_eq!(broken(&text(old), &text(new)), nothing, "{old} to {new}");
    }
    for (old, new, kind) in INCOMPATIBLE {
        assert_eq!(broken(&text(old), &text(new)), [kind], "{old} to {new}");
        let found = reads(&text(old), &text(new));
        let one = found.iter().find(|one| one.kind == kind).unwrap();
        assert!(one.witness.is_some(), "{old} to {new}: no witness");
    }
    let text = |body: &str| format!("message A {{ {body} }}");
    let required = text("required int32 a = 1;");
    assert_eq!(broken(&text(""), &required), ["REQUIRED_FIELD_ADDED"]);
    assert_eq!(broken(&required, &text("")), ["REQUIRED_FIELD_REMOVED"]);
    let (one, many) = ("optional string a = 1;", "repeated string a = 1;");
    assert_eq!(broken(&text(one), &text(many)), nothing);
    let packages = ("package a; message A {}", "package b; message A {}");
    assert_eq!(broken(packages.0, packages.1), ["PACKAGE_CHANGED"]);
    let order = ("message A {} message B {}", "message B {} message A {}");
    assert_eq!(broken(order.0, order.1), nothing);
}

#[test]
fn the_sentences_are_those_of_confluents_registry() {
    let old = parse("message A { required int32 a = 1; optional int32 b = 2; } message B {}");
    let new = parse("package p; message A { optional string b = 2; required int32 c = 3; }");
    let found = new.reads(&old, Policy::Strict, &Limits::default()).unwrap();
    let found: Vec<String> = found
        .iter()
        .map(|one| {
            let sentence = one.sentence(crate::compat::Direction::Backward);
            format!("{} {}: {sentence}", one.kind, one.path)
        })
        .collect();
    insta::assert_snapshot!(found.join("\n"));
}

#[test]
fn a_type_of_another_file_is_compared_wherever_it_is_used() {
    let limits = Limits::default();
    let with = |inner: &str| {
        let dependencies = [
            Dependency {
                name: "mid.proto".to_owned(),
                text: "import \"inner.proto\"; package m; message Mid { optional i.Inner inner = 1; optional Mid again = 2; }".to_owned(),
            },
            Dependency {
                name: "inner.proto".to_owned(),
                text: format!("package i; message Inner {{ {inner} }}"),
            },
        ];
        let text =
            "import \"mid.proto\"; message A { optional m.Mid mid = 3; repeated m.Mid more = 4; }";
        Schema::parse(text, &dependencies, &limits).unwrap()
    };
    let (old, new) = (
        with("optional int32 x = 1;"),
        with("optional string x = 1;"),
    );
    let found = new.reads(&old, Policy::Strict, &limits).unwrap();
    let mut found: Vec<String> = found
        .iter()
        .filter(|one| !one.is_compatible)
        .map(|one| format!("{} {}", one.kind, one.path))
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            "FIELD_NAMED_TYPE_CHANGED A.mid",
            "FIELD_NAMED_TYPE_CHANGED A.more",
            "FIELD_NAMED_TYPE_CHANGED m.Mid.again",
            "FIELD_NAMED_TYPE_CHANGED m.Mid.inner",
            "FIELD_SCALAR_KIND_CHANGED i.Inner.x",
        ]
    );
    assert!(old.reads(&old, Policy::Strict, &limits).unwrap().is_empty());
}

#[test]
fn what_the_verdict_allows_and_readers_may_be_surprised_by_is_said() {
    let text = |body: &str| format!("syntax = \"proto3\"; message A {{ {body} }}");
    let said = |old: &str, new: &str| -> Vec<&'static str> {
        let found = differences(&text(old), &text(new));
        assert!(found.iter().all(|one| one.1), "{found:?}");
        found.into_iter().map(|one| one.0).collect()
    };
    assert!(said("int32 a = 1;", "int32 b = 1; int32 a = 2;").contains(&"FIELD_NUMBER_REUSED"));
    assert!(said("int32 a = 1;", "bool b = 1;").contains(&"FIELD_NUMBER_REUSED"));
    assert!(said("int32 a = 1;", "int32 b = 1;").contains(&"FIELD_JSON_NAME_CHANGED"));
    assert!(said("reserved 5 to 7;", "int32 a = 6;").contains(&"FIELD_NUMBER_WAS_RESERVED"));
    assert!(said("int32 a = 1;", "").contains(&"FIELD_NUMBER_NOT_RESERVED"));
    assert!(!said("int32 a = 1;", "reserved 1;").contains(&"FIELD_NUMBER_NOT_RESERVED"));
    assert!(said("int64 a = 1;", "int32 a = 1;").contains(&"FIELD_SCALAR_TYPE_CHANGED"));
    assert!(said("int32 a = 1;", "repeated int32 a = 1;").contains(&"FIELD_CARDINALITY_CHANGED"));
    let required = differences(
        "message A { optional A a = 1; }",
        "message A { required A a = 1; }",
    );
    let required: Vec<_> = required.iter().map(|one| (one.0, one.1)).collect();
    assert_eq!(required, [("FIELD_REQUIRED_CHANGED", true)]);
    assert!(
        said("enum E { X = 0; Y = 1; }", "enum E { X = 0; Y = 2; }")
            .contains(&"ENUM_CONST_NUMBER_CHANGED")
    );
}

#[test]
fn a_witness_says_what_was_written_and_what_becomes_of_it() {
    let text = |body: &str| format!("syntax = \"proto3\"; message A {{ {body} }}");
    let shown = |old: &str, new: &str| -> Vec<String> {
        let found = reads(&text(old), &text(new)).into_iter();
        found
            .filter_map(|one| one.witness.map(|witness| (one.kind, witness)))
            .map(|(kind, witness)| format!("{kind}: {} {:?}", witness.record, witness.outcome))
            .collect()
    };
    insta::assert_snapshot!(
        [
            shown("int32 a = 1;", "sint32 a = 1;"),
            shown("int32 a = 1;", "string a = 1;"),
            shown(
                "int32 a = 1; int32 b = 2;",
                "oneof x { int32 a = 1; int32 b = 2; }"
            ),
            shown(
                "oneof x { int32 a = 1; int32 b = 2; }",
                "oneof x { int32 a = 1; }"
            ),
            shown("message B { int32 x = 1; }", ""),
        ]
        .concat()
        .join("\n")
    );
}

#[test]
fn a_type_that_breaks_in_thousands_of_fields_is_compared_in_bounded_time_and_reports_no_more_than_asked()
 {
    let fields = |kind: &str| -> String {
        let each = (1..15_000).map(|at| format!("optional {kind} f{at} = {at};"));
        each.collect()
    };
    let text = |kind: &str| format!("message A {{ {} }}", fields(kind));
    let found = reads(&text("int32"), &text("string"));
    let broken: Vec<_> = found.iter().filter(|one| !one.is_compatible).collect();
    assert_eq!(broken.len(), Limits::default().incompatibilities_max);
    assert!(broken[0].witness.is_some());
    assert!(broken[broken.len() - 1].witness.is_none());
}
