//! A case for every kind of difference: the writer's schema, the reader's, and all that is found.

mod containers;
mod scalars;

use std::collections::BTreeSet;

use self::containers::{ARRAYS, CONTENT_MODELS, OBJECTS};
use self::scalars::{COMBINATIONS, NOTES_AND_TYPES, SCALARS};
use super::super::kind::{Kind, Verdict};
use crate::compat::{Direction, Policy};
use crate::{Limits, json};

/// The writer's schema, the reader's, and the differences as `KIND path`.
type Case = (&'static str, &'static str, &'static [&'static str]);

fn found(writer: &str, reader: &str) -> Vec<String> {
    let limits = Limits::default();
    let parse = |text: &str| json::Schema::parse(text, &[], &limits).expect(text);
    parse(reader)
        .reads(&parse(writer), Policy::Strict, &limits)
        .expect("within bounds")
        .iter()
        .map(|difference| format!("{} {}", difference.kind, difference.path))
        .collect()
}

fn check(cases: &[Case]) {
    for (writer, reader, expected) in cases {
        assert_eq!(found(writer, reader), *expected, "{writer} -> {reader}");
    }
}

#[test]
fn what_schemas_say_of_themselves_and_their_types() {
    check(NOTES_AND_TYPES);
}

#[test]
fn strings_and_numbers() {
    check(SCALARS);
}

#[test]
fn objects() {
    check(OBJECTS);
}

#[test]
fn properties_of_open_closed_and_partly_open_objects() {
    check(CONTENT_MODELS);
}

#[test]
fn arrays() {
    check(ARRAYS);
}

#[test]
fn combinations() {
    check(COMBINATIONS);
}

#[test]
fn every_kind_has_a_case() {
    let tables = [
        NOTES_AND_TYPES,
        SCALARS,
        OBJECTS,
        CONTENT_MODELS,
        ARRAYS,
        COMBINATIONS,
    ];
    let shown = tables
        .iter()
        .flat_map(|table| table.iter())
        .flat_map(|(_, _, expected)| expected.iter())
        .filter_map(|found| found.split(' ').next())
        .collect::<BTreeSet<_>>();
    let known = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(shown, known);
}

#[test]
fn the_documentation_names_the_kinds_that_break_readers() {
    let page = include_str!("../../../../../../docs/specs/compatibility.md");
    let section = page
        .split("\n## ")
        .find(|section| section.starts_with("JSON Schema\n"));
    let mut tables = section.expect("a section").split("\n| incompatible");
    let mut named = |verdict: Verdict| {
        let table = tables
            .nth(usize::from(verdict == Verdict::Incompatible))
            .expect("a table");
        let rows = table.lines().filter(|line| line.starts_with("| `"));
        let named = rows.flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`'));
        let named = named
            .filter(|name| name.contains('_'))
            .collect::<BTreeSet<_>>();
        let kinds = Kind::ALL.iter().filter(|kind| kind.verdict() == verdict);
        assert_eq!(
            named,
            kinds.map(|kind| kind.as_str()).collect(),
            "{verdict:?}"
        );
    };
    named(Verdict::Incompatible);
    named(Verdict::LenientOnly);
}

/// Incompatible differences of the cases above that no record shows, because the rule is stricter
/// than what the schemas mean.
const SYNTACTIC: &[(&str, &str)] = &[(
    "COMBINED_TYPE_CHANGED",
    r#"{"oneOf":[{"type":"string"},{"type":"null"}]}"#,
)];

#[test]
fn every_incompatible_case_has_a_witness_unless_it_is_only_syntactic() {
    let tables = [
        NOTES_AND_TYPES,
        SCALARS,
        OBJECTS,
        CONTENT_MODELS,
        ARRAYS,
        COMBINATIONS,
    ];
    let limits = Limits::default();
    let parse = |text: &str| json::Schema::parse(text, &[], &limits).expect(text);
    let mut without = Vec::new();
    for (writer_text, reader_text, _) in tables.iter().flat_map(|table| table.iter()) {
        let (writer, reader) = (parse(writer_text), parse(reader_text));
        for found in reader
            .reads(&writer, Policy::Strict, &limits)
            .expect("within bounds")
        {
            match &found.witness {
                Some(witness) => {
                    assert!(!found.is_compatible, "{found:?}");
                    let payload = writer.encode(&witness.record).expect("the writer's");
                    reader.decode(&payload).expect_err("not the reader's");
                }
                None if found.is_compatible => {}
                None => without.push((found.kind, *reader_text)),
            }
        }
    }
    assert_eq!(without, SYNTACTIC);
}

#[test]
fn sentences_are_confluents_in_both_directions() {
    let limits = Limits::default();
    let parse = |text: &str| json::Schema::parse(text, &[], &limits).expect(text);
    let writer = parse(r#"{"type":"object"}"#);
    let reader = parse(r#"{"type":"object","properties":{"a":{"type":"string"}}}"#);
    let found = reader
        .reads(&writer, Policy::Strict, &limits)
        .expect("within bounds");
    assert_eq!(
        found[0].sentence(Direction::Backward),
        "The new schema has an open content model and has a property or item at path '#/properties/a' which is missing in the old schema"
    );
    assert_eq!(
        found[0].sentence(Direction::Forward),
        "The old schema has an open content model and has a property or item at path '#/properties/a' which is missing in the new schema"
    );
    assert!(!found[0].is_compatible);
    let found = reader
        .reads(&writer, Policy::Lenient, &limits)
        .expect("within bounds");
    assert!(found[0].is_compatible);
}

#[test]
fn a_recursive_schema_is_compared_once_and_its_break_is_found() {
    let list = |item: &str| {
        format!(
            r##"{{"definitions":{{"node":{{"type":"object","additionalProperties":false,"properties":{{"value":{item},"next":{{"oneOf":[{{"type":"null"}},{{"$ref":"#/definitions/node"}}]}}}}}}}},"$ref":"#/definitions/node"}}"##
        )
    };
    assert_eq!(
        found(&list(r#"{"type":"string"}"#), &list(r#"{"type":"string"}"#)),
        Vec::<String>::new()
    );
    assert_eq!(
        found(&list(r#"{"type":"string"}"#), &list(r#"{"type":"number"}"#)),
        [
            "COMBINED_TYPE_SUBSCHEMAS_CHANGED #/properties/next",
            "TYPE_CHANGED #/properties/value"
        ]
    );
}

#[test]
fn recursive_alternatives_do_not_blow_up() {
    let mut definitions = Vec::new();
    for index in 0..12 {
        let others = (0..12)
            .map(|other| format!(r##"{{"type":"object","properties":{{"x{other}":{{"$ref":"#/definitions/d{other}"}}}}}}"##))
            .collect::<Vec<_>>();
        definitions.push(format!(r#""d{index}":{{"oneOf":[{}]}}"#, others.join(",")));
    }
    let schema = |last: &str| {
        format!(
            r##"{{"definitions":{{{}}},"oneOf":[{{"$ref":"#/definitions/d0"}},{last}]}}"##,
            definitions.join(",")
        )
    };
    let writer = schema(r#"{"type":"string"}"#);
    assert_eq!(found(&writer, &writer), Vec::<String>::new());
    assert_eq!(
        found(&writer, &schema(r#"{"type":"number"}"#)),
        ["COMBINED_TYPE_SUBSCHEMAS_CHANGED #/"]
    );
}

#[test]
fn a_comparison_beyond_its_bound_gives_no_verdict() {
    let parts = |from: usize| {
        let parts = (from..from + 60)
            .map(|index| format!(r#"{{"type":"object","additionalProperties":false,"properties":{{"p{index}":{{"type":"null"}}}}}}"#))
            .collect::<Vec<_>>();
        format!(r#"{{"oneOf":[{}]}}"#, parts.join(","))
    };
    let limits = Limits::default();
    let parse = |text: &str| json::Schema::parse(text, &[], &limits).expect("a schema");
    let (writer, reader) = (parse(&parts(0)), parse(&parts(100)));
    let few = Limits {
        comparisons_max: 1_000,
        ..limits
    };
    assert!(reader.reads(&writer, Policy::Strict, &limits).is_ok());
    let error = reader
        .reads(&writer, Policy::Strict, &few)
        .expect_err("too many steps");
    assert_eq!(
        error.what,
        "comparing the two schemas takes more than 1000 steps, so there is no verdict"
    );
}
