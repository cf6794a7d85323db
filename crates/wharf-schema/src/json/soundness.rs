//! Where Confluent's rules keep their word, shown with generated schemas, and where they do not,
//! shown one by one.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::Schema;
use super::sample::Sampler;
use crate::Limits;
use crate::compat::Policy;

fn parse(text: &Value) -> Schema {
    Schema::parse(&text.to_string(), &[], &Limits::default()).expect("a schema")
}

/// Schemas of the part of the language in which the rules are sound: every schema names its type,
/// nothing has a default or a format, only listed properties are required, and alternatives are
/// `anyOf`.
fn schemas() -> impl Strategy<Value = Value> {
    let bound = || proptest::option::of(0..6_u64);
    let text =
        (bound(), bound(), proptest::option::of(0..3_usize)).prop_map(|(least, most, pattern)| {
            let pattern = pattern.map(|at| ["^a", "[0-9]+", "^(x|yy)$"][at]);
            told(
                json!({"type": "string"}),
                [
                    ("minLength", least.map(Value::from)),
                    ("maxLength", most.map(Value::from)),
                    ("pattern", pattern.map(Value::from)),
                ],
            )
        });
    let number = (
        any::<bool>(),
        bound(),
        bound(),
        bound(),
        proptest::option::of(1..5_u64),
    )
        .prop_map(|(is_whole, least, most, below, step)| {
            told(
                json!({"type": if is_whole { "integer" } else { "number" }}),
                [
                    ("minimum", least.map(Value::from)),
                    ("maximum", most.map(Value::from)),
                    ("exclusiveMaximum", below.map(Value::from)),
                    ("multipleOf", step.map(Value::from)),
                ],
            )
        });
    let choice = proptest::sample::subsequence(vec!["a", "b", "c"], 1..=3)
        .prop_map(|values| json!({ "enum": values }));
    let plain = proptest::sample::select(vec![json!({"type": "boolean"}), json!({"type": "null"})]);
    let leaf = prop_oneof![text, number, choice, plain];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        let others = prop_oneof![
            2 => Just(None),
            2 => Just(Some(json!(false))),
            1 => inner.clone().prop_map(Some)
        ];
        let properties = proptest::collection::btree_map("[abc]", (inner.clone(), any::<bool>()), 0..3);
        let object = (properties, others.clone(), bound(), bound()).prop_map(
            |(properties, others, least, most)| {
                let required = properties.iter().filter(|(_, (_, is_required))| *is_required);
                let required = required.map(|(name, _)| name.clone()).collect::<Vec<_>>();
                let listed = properties
                    .iter()
                    .map(|(name, (schema, _))| (name.clone(), schema.clone()))
                    .collect::<Map<_, _>>();
                told(json!({"type": "object", "properties": listed, "required": required}), [
                    ("additionalProperties", others),
                    ("minProperties", least.filter(|least| *least < 3).map(Value::from)),
                    ("maxProperties", most.map(Value::from)),
                ])
            },
        );
        let array = (proptest::option::of(inner.clone()), bound(), bound(), any::<bool>()).prop_map(
            |(items, least, most, is_unique)| {
                told(json!({"type": "array"}), [
                    ("items", items),
                    ("minItems", least.filter(|least| *least < 3).map(Value::from)),
                    ("maxItems", most.map(Value::from)),
                    ("uniqueItems", is_unique.then_some(json!(true))),
                ])
            },
        );
        let tuple = (proptest::collection::vec(inner.clone(), 1..3), others).prop_map(
            |(first, others)| told(json!({"type": "array", "items": first}), [("additionalItems", others)]),
        );
        let several = |keyword: &'static str| {
            proptest::collection::vec(inner.clone(), 1..3).prop_map(move |parts| json!({ keyword: parts }))
        };
        prop_oneof![3 => object, 2 => array, 1 => tuple, 1 => several("anyOf"), 1 => several("allOf")]
    })
}

fn told<const N: usize>(mut schema: Value, more: [(&str, Option<Value>); N]) -> Value {
    for (keyword, value) in more {
        if let Some(value) = value {
            schema[keyword] = value;
        }
    }
    schema
}

/// A schema changed at one place: a keyword goes, a bound moves, or another schema comes.
fn changed(schema: &Value, at: usize, how: usize, other: &Value) -> Value {
    let mut places = Vec::new();
    let mut waiting = vec![(String::new(), schema)];
    while let Some((path, value)) = waiting.pop() {
        if let Value::Object(members) = value {
            for (name, member) in members {
                let path = format!("{path}/{name}");
                if name != "type" {
                    places.push(path.clone());
                }
                waiting.push((path, member));
            }
        } else if let Value::Array(items) = value {
            let items = items.iter().enumerate();
            waiting.extend(items.map(|(place, item)| (format!("{path}/{place}"), item)));
        }
    }
    let mut changed = schema.clone();
    let Some(place) = places.get(at % places.len().max(1)) else {
        return other.clone();
    };
    let (above, name) = place.rsplit_once('/').expect("a path");
    let above = changed.pointer_mut(above).expect("a place");
    let Some(members) = above.as_object_mut() else {
        return other.clone();
    };
    match members.get_mut(name) {
        Some(number) if number.is_u64() && how < 2 => {
            let value = number.as_u64().unwrap_or_default();
            *number = json!(if how == 0 {
                value + 1
            } else {
                value.saturating_sub(1).max(u64::from(name == "multipleOf"))
            });
        }
        Some(part) if part.is_object() && name != "properties" && how == 2 => *part = other.clone(),
        _ => {
            members.remove(name);
        }
    }
    // A name can be gone that was required: only listed properties are, in these schemas.
    changed
}

fn only_listed_are_required(schema: &mut Value) {
    if let Value::Object(members) = schema {
        let listed = members
            .get("properties")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        if let Some(Value::Array(required)) = members.get_mut("required") {
            required.retain(|name| name.as_str().is_some_and(|name| listed.contains_key(name)));
        }
        members.values_mut().for_each(only_listed_are_required);
    } else if let Value::Array(items) = schema {
        items.iter_mut().for_each(only_listed_are_required);
    }
}

fn pairs() -> impl Strategy<Value = (Value, Value)> {
    (schemas(), schemas(), 0..64_usize, 0..3_usize, 0..4_usize).prop_map(
        |(writer, other, at, how, is_mutation)| {
            let mut reader = match is_mutation {
                0 => other,
                _ => changed(&writer, at, how, &other),
            };
            only_listed_are_required(&mut reader);
            (writer, reader)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_witness_is_the_writers_and_fails_and_what_is_compatible_has_no_failing_record(
        (writer_text, reader_text) in pairs()
    ) {
        let (writer, reader) = (parse(&writer_text), parse(&reader_text));
        let limits = Limits::default();
        let found = reader.reads(&writer, Policy::Strict, &limits).expect("within bounds");
        for witness in found.iter().filter_map(|found| found.witness.as_ref()) {
            let payload = writer.encode(&witness.record).expect("the writer allows it");
            prop_assert!(reader.decode(&payload).is_err());
        }
        if found.iter().all(|found| found.is_compatible) {
            let model = &writer.inner.model;
            for record in Sampler::new(model, 2_000).records(0) {
                if writer.encode(&record).is_ok() {
                    prop_assert!(
                        reader.encode(&record).is_ok(),
                        "{record} of {writer_text} is refused by {reader_text}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_schema_reads_what_it_wrote(text in schemas()) {
        let schema = parse(&text);
        let found = schema.reads(&schema, Policy::Strict, &Limits::default()).expect("within bounds");
        prop_assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn most_records_of_the_sampler_are_valid_somewhere(text in schemas()) {
        // Without this, the sampling above could be about nothing.
        let schema = parse(&text);
        let records = Sampler::new(&schema.inner.model, 2_000).records(0);
        prop_assert!(!records.is_empty(), "{text} has no record at all");
    }
}

/// The writer's schema, the reader's, and a record that the one writes and the other refuses though
/// the verdict is "compatible".
const UNSOUND: &[(&str, &str, &str, &str)] = &[
    (
        "a default does not fill in what is missing",
        r#"{"type":"object","properties":{"a":{"type":"string"}}}"#,
        r#"{"type":"object","properties":{"a":{"type":"string","default":""}},"required":["a"]}"#,
        "{}",
    ),
    (
        "a required property that may be anything may still be missing",
        r#"{"type":"object"}"#,
        r#"{"type":"object","properties":{"a":{}},"required":["a"]}"#,
        "{}",
    ),
    (
        "what is required without being listed is not looked at",
        r#"{"type":"object"}"#,
        r#"{"type":"object","required":["a"]}"#,
        "{}",
    ),
    (
        "a keyword stands for its type, said or not",
        r#"{"minLength":1}"#,
        r#"{"type":"string","minLength":1}"#,
        "1",
    ),
    (
        "formats are not looked at",
        r#"{"type":"string"}"#,
        r#"{"type":"string","format":"date"}"#,
        r#""a""#,
    ),
    (
        "an alternative that overlaps another spoils a oneOf",
        r#"{"oneOf":[{"type":"integer"}]}"#,
        r#"{"oneOf":[{"type":"integer"},{"type":"number"}]}"#,
        "1",
    ),
    (
        "patterns of property names are not compared with each other",
        r#"{"type":"object","patternProperties":{"^a":{"type":"string"}}}"#,
        r#"{"type":"object","patternProperties":{"^a":{"type":"number"}}}"#,
        r#"{"a":"b"}"#,
    ),
    (
        "names of properties are not looked at",
        r#"{"type":"object"}"#,
        r#"{"type":"object","propertyNames":{"maxLength":1}}"#,
        r#"{"ab":1}"#,
    ),
    (
        "what an array must contain is not looked at",
        r#"{"type":"array"}"#,
        r#"{"type":"array","contains":{"type":"null"}}"#,
        "[]",
    ),
    (
        "conditions are not compared",
        r#"{"if":{"type":"string"},"then":{"maxLength":2}}"#,
        r#"{"if":{"type":"string"},"then":{"maxLength":1}}"#,
        r#""ab""#,
    ),
    (
        "a decimal of Kafka Connect may change its form",
        r#"{"type":"string","connect.type":"bytes"}"#,
        r#"{"type":"number","connect.type":"bytes"}"#,
        r#""a""#,
    ),
];

#[test]
fn where_confluents_rules_are_unsound() {
    for (why, writer, reader, record) in UNSOUND {
        let value = |text: &str| serde_json::from_str::<Value>(text).expect(text);
        let (writer, reader) = (parse(&value(writer)), parse(&value(reader)));
        let found = reader
            .reads(&writer, Policy::Strict, &Limits::default())
            .expect(why);
        assert!(
            found.iter().all(|found| found.is_compatible),
            "{why}: {found:?}"
        );
        assert!(writer.encode(&value(record)).is_ok(), "{why}");
        assert!(reader.encode(&value(record)).is_err(), "{why}");
    }
}
