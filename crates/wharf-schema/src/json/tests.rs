//! Schemas as strangers write them: drafts, references, payloads, and what must be refused.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Schema;
use crate::compat::Policy;
use crate::{Dependency, Limits};

fn parse(text: &str) -> Result<Schema, String> {
    with(text, &[])
}

fn with(text: &str, dependencies: &[(&str, &str)]) -> Result<Schema, String> {
    let dependencies = dependencies
        .iter()
        .map(|(name, text)| Dependency {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
        })
        .collect::<Vec<_>>();
    Schema::parse(text, &dependencies, &Limits::default()).map_err(|invalid| invalid.what)
}

fn accepts(schema: &Schema, record: &Value) -> bool {
    schema.encode(record).is_ok()
}

const DRAFTS: [&str; 5] = [
    "http://json-schema.org/draft-04/schema#",
    "http://json-schema.org/draft-06/schema#",
    "http://json-schema.org/draft-07/schema#",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
];

#[test]
fn every_draft_is_read_by_its_own_rules() {
    for draft in DRAFTS {
        let schema = parse(&format!(
            r#"{{"$schema":"{draft}","type":"object","required":["a"]}}"#
        ));
        let schema = schema.expect(draft);
        assert!(accepts(&schema, &json!({"a": 1})));
        assert!(!accepts(&schema, &json!({})));
        let error =
            parse(&format!(r#"{{"$schema":"{draft}","type":"strange"}}"#)).expect_err(draft);
        assert!(
            error.starts_with("it is no JSON Schema of its draft: at #/type"),
            "{error}"
        );
    }
    let exclusive = r#"{"$schema":"http://json-schema.org/draft-04/schema#","maximum":3,"exclusiveMaximum":true}"#;
    let exclusive = parse(exclusive).expect("draft 4");
    assert!(accepts(&exclusive, &json!(2)) && !accepts(&exclusive, &json!(3)));
    parse(r#"{"maximum":3,"exclusiveMaximum":true}"#).expect_err("draft 7 wants a number");
    let tuple = parse(
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","prefixItems":[{"type":"null"}]}"#,
    );
    let tuple = tuple.expect("2020-12");
    assert!(accepts(&tuple, &json!([null, 1])) && !accepts(&tuple, &json!([1])));
}

#[test]
fn an_unknown_dialect_is_read_as_draft_7() {
    let schema = parse(r#"{"$schema":"http://example.com/own","type":"string"}"#).expect("draft 7");
    assert!(accepts(&schema, &json!("a")) && !accepts(&schema, &json!(1)));
}

#[test]
fn what_is_no_schema_is_refused_with_a_sentence() {
    for (text, start) in [
        ("", "the schema is not JSON:"),
        ("{", "the schema is not JSON:"),
        ("3", "a JSON Schema is an object, true or false"),
        ("[]", "a JSON Schema is an object, true or false"),
        (
            r#"{"pattern":"("}"#,
            "it is no JSON Schema of its draft: at #/pattern",
        ),
        (
            r##"{"$ref":"#/definitions/a"}"##,
            "the reference '#/definitions/a' leads nowhere",
        ),
        (
            r#"{"$ref":"other.json"}"#,
            "the reference 'other.json' leads nowhere",
        ),
        (
            r#"{"$ref":"file:///etc/passwd"}"#,
            "the reference 'file:///etc/passwd' leads nowhere",
        ),
        (
            r#"{"$ref":"http://[::"}"#,
            "it is no JSON Schema of its draft: at #/$ref",
        ),
        (r##"{"$ref":"#"}"##, "the schema refers to itself without"),
        (
            r##"{"definitions":{"a":{"allOf":[{"$ref":"#/definitions/a"}]}},"$ref":"#/definitions/a"}"##,
            "the schema refers to itself without",
        ),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.starts_with(start), "{text}: {error}");
    }
}

#[test]
fn a_stored_schema_need_not_be_valid_by_its_meta_schema() {
    let text = r#"{"type":"object","required":"a","properties":{"a":{"type":"string"}}}"#;
    parse(text).expect_err("required is a list");
    let stored = Schema::parse_stored(text, &[], &Limits::default()).expect("understood");
    let new = parse(r#"{"type":"object","properties":{"a":{"type":"number"}}}"#).expect("a schema");
    let found = new
        .reads(&stored, Policy::Strict, &Limits::default())
        .expect("fits");
    assert_eq!(
        found.iter().map(|found| found.kind).collect::<Vec<_>>(),
        ["TYPE_CHANGED"]
    );
}

#[test]
fn references_are_found_in_the_document() {
    for text in [
        r##"{"definitions":{"s":{"type":"string"}},"properties":{"a":{"$ref":"#/definitions/s"}}}"##,
        r##"{"definitions":{"s":{"$id":"#s","type":"string"}},"properties":{"a":{"$ref":"#s"}}}"##,
        r#"{"$id":"http://h/root.json","definitions":{"s":{"$id":"s.json","type":"string"}},"properties":{"a":{"$ref":"s.json"}}}"#,
        r##"{"definitions":{"a/b %~":{"type":"string"}},"properties":{"a":{"$ref":"#/definitions/a~1b%20%25~0"}}}"##,
        r##"{"$schema":"https://json-schema.org/draft/2020-12/schema","$defs":{"s":{"$anchor":"s","type":"string"}},"properties":{"a":{"$ref":"#s"}}}"##,
        r##"{"$schema":"https://json-schema.org/draft/2020-12/schema","$defs":{"s":{"$dynamicAnchor":"s","type":"string"}},"properties":{"a":{"$dynamicRef":"#s"}}}"##,
        r##"{"$schema":"http://json-schema.org/draft-04/schema#","id":"http://h/r","definitions":{"s":{"id":"#s","type":"string"}},"properties":{"a":{"$ref":"#s"}}}"##,
    ] {
        let schema = parse(text).expect(text);
        assert!(accepts(&schema, &json!({"a": "x"})), "{text}");
        assert!(!accepts(&schema, &json!({"a": 1})), "{text}");
        let other = parse(&text.replace("string", "boolean")).expect(text);
        let found = other
            .reads(&schema, Policy::Strict, &Limits::default())
            .expect(text);
        let found = found.iter().map(|found| (found.kind, found.path.as_str()));
        assert_eq!(
            found.collect::<Vec<_>>(),
            [("TYPE_CHANGED", "#/properties/a")],
            "{text}"
        );
    }
}

#[test]
fn references_are_found_in_the_dependencies() {
    let address = r##"{"definitions":{"zip":{"type":"string"}},"type":"object","properties":{"zip":{"$ref":"#/definitions/zip"}}}"##;
    for (root, dependencies) in [
        (
            r#"{"$ref":"address.json"}"#,
            vec![("address.json", address)],
        ),
        (
            r##"{"$id":"http://h/x/person.json","allOf":[{"$ref":"address.json"},{"$ref":"address.json#/definitions/zip"}]}"##,
            vec![("address.json", address)],
        ),
        (
            r#"{"$ref":"http://h/address.json"}"#,
            vec![("http://h/address.json", address)],
        ),
        (
            r#"{"properties":{},"allOf":[{"$ref":"a.json"}]}"#,
            vec![
                ("address.json", address),
                ("a.json", r#"{"$ref":"address.json"}"#),
            ],
        ),
    ] {
        let schema = with(root, &dependencies).expect(root);
        assert!(!accepts(&schema, &json!({"zip": 1})), "{root}");
        with(root, &[]).expect_err("the dependency is missing");
    }
    let error = with("{}", &[("a.json", "{")]).expect_err("not JSON");
    assert!(
        error.starts_with("the schema referred to as a.json is not JSON"),
        "{error}"
    );
}

#[test]
fn a_reference_that_nothing_leads_to_may_lead_nowhere() {
    let root = r#"{"definitions":{"unused":{"$ref":"http://nowhere/else.json"}},"properties":{"a":{"$ref":"a.json"}}}"#;
    let dependency = r##"{"type":"string","definitions":{"unused":{"$ref":"gone.json#/x"},"b":{"$ref":"#/gone"}}}"##;
    let schema = with(root, &[("a.json", dependency)]).expect("all that is used is there");
    assert!(accepts(&schema, &json!({"a": "x"})));
    assert!(!accepts(&schema, &json!({"a": 1})));
}

#[test]
fn a_schema_of_schemas_may_refer_to_the_meta_schemas() {
    for draft in DRAFTS {
        let schema = parse(&format!(
            r#"{{"$schema":"{draft}","type":"object","properties":{{"schema":{{"$ref":"{draft}"}}}}}}"#
        ));
        let schema = schema.expect(draft);
        assert!(accepts(&schema, &json!({"schema": {"type": "object"}})));
        assert!(!accepts(&schema, &json!({"schema": {"type": "strange"}})));
    }
}

#[test]
fn the_canonical_text_keeps_the_order_and_the_normal_one_sorts() {
    let schema =
        parse("{ \"type\": \"object\",\n \"title\": \"Order\", \"x\": 1.50 }").expect("a schema");
    assert_eq!(
        schema.canonical(),
        r#"{"type":"object","title":"Order","x":1.50}"#
    );
    assert_eq!(
        schema.normalized(),
        r#"{"title":"Order","type":"object","x":1.50}"#
    );
    assert_eq!(schema.name().as_deref(), Some("Order"));
    assert_eq!(parse("true").expect("a schema").name(), None);
    assert_eq!(schema.formatted("resolved"), None);
}

#[test]
fn a_payload_is_refused_with_the_place_of_its_error() {
    let schema = parse(
        r#"{"type":"object","properties":{"lines":{"items":{"type":"object","required":["sku"]}}}}"#,
    );
    let schema = schema.expect("a schema");
    let record = schema.decode(br#"{"lines":[{"sku":"a"}]}"#).expect("valid");
    assert_eq!(
        schema.encode(&record).expect("valid"),
        br#"{"lines":[{"sku":"a"}]}"#
    );
    let error = schema
        .decode(br#"{"lines":[{"sku":"a"},{}]}"#)
        .expect_err("invalid");
    assert_eq!(
        error.what,
        r#"the record at /lines/1 does not match the schema: "sku" is a required property"#
    );
    let error = schema.decode(b"{").expect_err("no JSON");
    assert!(error.what.starts_with("the payload is not JSON"), "{error}");
}

#[test]
fn hostile_expressions_end_soon() {
    let payload = Value::from(format!("{}!", "a".repeat(5_000)));
    for pattern in [
        "(a+)+$",
        "^(a|aa)+$",
        "(?=a)(a+)+$",
        "^(?!b)(a*)*$",
        "(.*)*x",
        r"(a+)\\1+$",
    ] {
        let schema = parse(&json!({"pattern": pattern}).to_string()).expect(pattern);
        assert!(!accepts(&schema, &payload), "{pattern}");
    }
    for pattern in [
        "((a{1000}){1000}){1000}",
        "(a{9999}){9999}",
        r"\\w{5000}",
        "(?=x)(\\\\w{1000}){1000}",
    ] {
        let error = parse(&format!(r#"{{"pattern":"{pattern}"}}"#)).expect_err(pattern);
        assert!(error.contains("takes more than"), "{pattern}: {error}");
    }
    let looking = (0..40)
        .map(|index| {
            (
                format!("p{index}"),
                json!({"pattern": format!("^(?!{index})")}),
            )
        })
        .collect::<serde_json::Map<_, _>>();
    let error = parse(&json!({"properties": looking}).to_string()).expect_err("too many");
    assert_eq!(
        error,
        "the schema has more than 32 regular expressions that look around or refer back"
    );
    let many = (0..1_001)
        .map(|index| {
            (
                format!("p{index}"),
                json!({"pattern": format!("^{index}$")}),
            )
        })
        .collect::<serde_json::Map<_, _>>();
    let error = parse(&json!({"properties": many}).to_string()).expect_err("too many");
    assert_eq!(error, "the schema has more than 1000 regular expressions");
}

#[test]
fn nesting_and_size_are_bounded() {
    let deep = format!("{}{{}}{}", r#"{"not":"#.repeat(200), "}".repeat(200));
    assert!(
        parse(&deep)
            .expect_err("too deep")
            .starts_with("the schema is not JSON: recursion limit")
    );
    let limits = Limits {
        depth_max: 5,
        ..Limits::default()
    };
    let nested = r#"{"properties":{"a":{"properties":{"b":{"type":"null"}}}}}"#;
    Schema::parse(nested, &[], &limits).expect("five levels");
    let limits = Limits {
        depth_max: 4,
        ..limits
    };
    let error = Schema::parse(nested, &[], &limits).expect_err("too deep");
    assert_eq!(error.what, "the schema is nested deeper than 4 levels");

    let values = (0..200_001).collect::<Vec<_>>();
    let error = parse(&json!({"enum": values}).to_string()).expect_err("too many");
    assert_eq!(
        error,
        "the schema has more than 200000 schemas, names and enumerated values"
    );
    let values = (0..20_000).collect::<Vec<_>>();
    let (huge, larger) = (
        json!({"enum": values}).to_string(),
        json!({"enum": [0, -1]}).to_string(),
    );
    let (huge, larger) = (parse(&huge).expect("fits"), parse(&larger).expect("fits"));
    assert_eq!(
        huge.reads(&larger, Policy::Strict, &Limits::default())
            .expect("fits")
            .len(),
        1
    );
}

#[test]
fn long_and_branching_chains_for_one_value_are_refused() {
    let chain = |length: usize, link: &dyn Fn(usize) -> String| {
        let links = (0..length).map(|index| format!(r#""d{index}":{}"#, link(index)));
        let links = links.collect::<Vec<_>>().join(",");
        parse(&format!(
            r##"{{"definitions":{{{links},"d{length}":{{"type":"null"}}}},"allOf":[{{"$ref":"#/definitions/d0"}}]}}"##
        ))
    };
    let single = |index: usize| format!(r##"{{"$ref":"#/definitions/d{}"}}"##, index + 1);
    chain(50, &single).expect("short enough");
    let refusal = "references and combinations lead from one schema to another in more than 64 steps or 100000 ways for one value";
    assert_eq!(chain(5_000, &single).expect_err("too long"), refusal);
    let double = |index: usize| {
        let next = single(index);
        format!(r#"{{"anyOf":[{next},{next}]}}"#)
    };
    assert_eq!(chain(20, &double).expect_err("too many ways"), refusal);
}

#[test]
fn a_long_chain_through_properties_is_compiled_and_compared_without_recursion() {
    let schema = |end: &str| {
        let links = (0..3_000).map(|index| {
            format!(
                r##""d{index}":{{"properties":{{"next":{{"$ref":"#/definitions/d{}"}}}}}}"##,
                index + 1
            )
        });
        let links = links.collect::<Vec<_>>().join(",");
        let text = format!(
            r##"{{"definitions":{{{links},"d3000":{{"type":"{end}"}}}},"allOf":[{{"$ref":"#/definitions/d0"}}]}}"##
        );
        parse(&text).expect("a schema")
    };
    let (writer, reader) = (schema("null"), schema("boolean"));
    assert!(accepts(&writer, &json!({"next": {"next": {}}})));
    assert!(
        !accepts(&writer, &json!({"next": {"next": 3}})) || accepts(&writer, &json!({"next": 3}))
    );
    let found = reader
        .reads(&writer, Policy::Strict, &Limits::default())
        .expect("fits");
    assert!(found.iter().any(|found| !found.is_compatible));
}

#[test]
fn deep_payloads_under_long_chains_are_refused_and_others_are_judged() {
    let links = (0..60).map(|index| {
        format!(
            r##""d{index}":{{"allOf":[{{"$ref":"#/definitions/d{}"}}]}}"##,
            index + 1
        )
    });
    let links = links.take(30).collect::<Vec<_>>().join(",");
    let text = format!(
        r##"{{"definitions":{{{links},"d30":{{"properties":{{"c":{{"$ref":"#/definitions/d0"}}}}}}}},"$ref":"#/definitions/d0"}}"##
    );
    let schema = parse(&text).expect("a schema");
    let nested = |levels: usize| format!("{}{{}}{}", r#"{"c":"#.repeat(levels), "}".repeat(levels));
    schema.decode(nested(20).as_bytes()).expect("valid");
    let error = schema.decode(nested(120).as_bytes()).expect_err("too deep");
    assert_eq!(
        error.what,
        "the record is nested too deeply for a schema with so many references"
    );
    let plain = parse(r##"{"properties":{"c":{"$ref":"#"}}}"##).expect("a schema");
    plain.decode(nested(120).as_bytes()).expect("valid");
}

#[test]
fn the_deepest_payloads_that_are_judged_fit_the_stack_of_a_thread() {
    for length in [1, 4, 12, 28] {
        let links = (0..length).map(|index| {
            format!(
                r##""d{index}":{{"allOf":[{{"$ref":"#/definitions/d{}"}}]}}"##,
                index + 1
            )
        });
        let links = links.collect::<Vec<_>>().join(",");
        let text = format!(
            r##"{{"definitions":{{{links},"d{length}":{{"required":["c"],"properties":{{"c":{{"$ref":"#/definitions/d0"}}}}}}}},"$ref":"#/definitions/d0"}}"##
        );
        let schema = parse(&text).expect("short enough");
        let judged = (1..127).filter(|levels| {
            let payload = format!("{}1{}", r#"{"c":"#.repeat(*levels), "}".repeat(*levels));
            schema.decode(payload.as_bytes()).is_ok()
        });
        assert!(judged.count() >= 8, "{length}");
    }
}

#[test]
fn long_addresses_are_refused() {
    let long = format!("http://h/{}", "a".repeat(10_000));
    let text = json!({"$id": long, "properties": {"a": {"$id": "b"}}}).to_string();
    let error = parse(&text).expect_err("too long");
    assert_eq!(
        error,
        "an identifier or a reference has more than 8192 bytes"
    );
}

const KEYWORDS: &str = "$id $ref $anchor $dynamicRef $dynamicAnchor $recursiveRef $defs definitions type \
    enum const not allOf anyOf oneOf if then properties patternProperties \
    additionalProperties required dependencies minProperties items prefixItems \
    additionalItems contains minItems maxItems uniqueItems minimum exclusiveMaximum \
    multipleOf minLength maxLength pattern format title default \
    unevaluatedProperties unevaluatedItems dependentRequired maxContains \
    connect.type";

const TEXTS: &str = "# #/ #/definitions/a #a a b.json http://h/x# % ( ^a string object array null \
    integer bytes ../.. #/$defs/0";

fn values() -> impl Strategy<Value = Value> {
    let keywords = KEYWORDS.split(' ').collect::<Vec<_>>();
    let texts = TEXTS.split(' ').chain([""]).collect::<Vec<_>>();
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop_oneof![
            (-3..5_i64).prop_map(Value::from),
            Just(json!(0.5)),
            Just(json!(1e300)),
            Just(json!(u64::MAX))
        ],
        proptest::sample::select(texts).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 5, move |inner| {
        let member = (proptest::sample::select(keywords.clone()), inner.clone());
        prop_oneof![
            1 => proptest::collection::vec(inner, 0..4).prop_map(Value::from),
            4 => proptest::collection::vec(member, 0..6).prop_map(|members| {
                members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_keywords_in_any_order_make_it_panic(
        draft in proptest::sample::select(DRAFTS.to_vec()), mut left in values(), right in values(), record in values()
    ) {
        if let Some(members) = left.as_object_mut() {
            members.insert("$schema".to_owned(), json!(draft));
        }
        let limits = Limits::default();
        let dependency = Dependency { name: "b.json".to_owned(), text: right.to_string() };
        let left = Schema::parse_stored(&left.to_string(), &[dependency], &limits);
        let right = Schema::parse_stored(&right.to_string(), &[], &limits);
        for schema in [&left, &right].into_iter().flatten() {
            let text = schema.canonical();
            let again = Schema::parse_stored(&text, &[], &limits);
            prop_assert_eq!(again.map_or(text.clone(), |again| again.canonical()), text);
            if let Ok(payload) = schema.encode(&record) {
                prop_assert_eq!(schema.decode(&payload).expect("it was just written"), record.clone());
            }
        }
        if let (Ok(left), Ok(right)) = (left, right) {
            for policy in [Policy::Strict, Policy::Lenient] {
                let found = left.reads(&right, policy, &limits).expect("small");
                let broken = found.iter().filter(|found| found.witness.is_some());
                prop_assert!(broken.into_iter().all(|found| !found.is_compatible));
            }
        }
    }
}

#[test]
fn recursive_alternatives_judge_a_deep_record_soon() {
    let text = r##"{"anyOf":[
        {"type":"object","required":["c"],"properties":{"c":{"$ref":"#"}}},
        {"type":"object","minProperties":1,"properties":{"c":{"$ref":"#"}}},
        {"type":"object","maxProperties":3,"required":["c"],"properties":{"c":{"$ref":"#"}}}]}"##;
    let schema = parse(text).expect("a schema");
    let nested = format!("{}1{}", r#"{"c":"#.repeat(120), "}".repeat(120));
    let error = schema.decode(nested.as_bytes()).expect_err("invalid");
    assert_eq!(error.what, "the record does not match the schema");
}
