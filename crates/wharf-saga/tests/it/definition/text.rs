//! Texts: JSON and YAML are the same definition, and no text does harm.

use proptest::prelude::*;
use wharf_saga::definition::{Code, Definition, Format, Hash, Limits};

use super::read::CHECKOUT;

fn refused(text: &str) -> Vec<Code> {
    match Definition::read(text) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.iter().map(|p| p.code).collect(),
    }
}

#[test]
fn json_and_yaml_of_a_machine_have_one_hash() {
    let value: serde_json::Value = serde_json::from_str(CHECKOUT).unwrap();
    let yaml = serde_yaml_ng::to_string(&value).unwrap();
    assert_eq!(Format::of(&yaml), Format::Yaml);
    let (json, yaml) = (
        Definition::read(CHECKOUT).unwrap(),
        Definition::read(&yaml).unwrap(),
    );
    assert_eq!(json, yaml);
}

#[test]
fn the_canonical_form_is_the_same_definition() {
    let first = Definition::read(CHECKOUT).unwrap().definition;
    let second = Definition::read(&first.canonical).unwrap().definition;
    assert_eq!(first.hash, second.hash);
    assert_eq!(first.canonical, second.canonical);
    assert_eq!(first.hash, first.hash.to_string().parse::<Hash>().unwrap());
    let shown = Definition::of(&first.machine.to_value())
        .unwrap()
        .definition;
    assert_eq!(shown, first);
}

#[test]
fn defaults_and_order_do_not_change_the_hash() {
    let short =
        r#"{"StartAt":"A","States":{"A":{"Type":"Pass","Next":"B"},"B":{"Type":"Succeed"}}}"#;
    let long = r#"{"Version":"1.0","QueryLanguage":"JSONPath","States":{"B":{"OutputPath":"$","Type":"Succeed"},
        "A":{"Next":"B","InputPath":"$","Type":"Pass"}},"Saga":{},"StartAt":"A"}"#;
    let hash = |text| Definition::read(text).unwrap().definition.hash;
    assert_eq!(hash(short), hash(long));
    assert_ne!(hash(short), hash(&short.replace("Succeed", "Fail")));
}

#[test]
fn keys_that_come_twice_are_refused_in_both_forms() {
    let json = r#"{"StartAt":"A","States":{"A":{"Type":"Succeed","Type":"Fail"}},"StartAt":"B"}"#;
    let problems = Definition::read(json).unwrap_err();
    let places: Vec<_> = problems
        .0
        .iter()
        .map(|p| (p.code, p.path.as_str()))
        .collect();
    assert_eq!(
        places,
        [
            (Code::DUPLICATE_KEY, "/States/A/Type"),
            (Code::DUPLICATE_KEY, "/StartAt")
        ]
    );
    let yaml = "StartAt: A\nStates:\n  A: {Type: Succeed}\n  A: {Type: Fail}\n";
    assert_eq!(refused(yaml), [Code::DUPLICATE_KEY]);
}

#[test]
fn what_yaml_says_beyond_json_is_refused() {
    assert_eq!(
        refused("StartAt: A\nStates:\n  A: {Type: Succeed, Comment: !Ref x}\n"),
        [Code::NOT_JSON]
    );
    assert_eq!(
        refused("StartAt: A\nStates:\n  A: {Type: Pass, Result: .nan, End: true}\n"),
        [Code::NOT_JSON]
    );
    assert_eq!(
        refused("StartAt: A\nStates:\n  A: {Type: Pass, Result: {1: x}, End: true}\n"),
        [Code::NOT_JSON]
    );
}

#[test]
fn texts_that_would_grow_or_sink_are_refused_quickly() {
    assert_eq!(refused(""), [Code::EMPTY_TEXT]);
    assert_eq!(refused("{"), [Code::UNREADABLE_TEXT]);
    assert_eq!(refused(&"{".repeat(500_000)), [Code::UNREADABLE_TEXT]);
    assert_eq!(
        refused(&format!("a: {}", "[".repeat(500_000))),
        [Code::TOO_DEEP]
    );
    assert_eq!(refused(&"- ".repeat(300_000)).len(), 1);
    let nested = format!("{{\"a\":{}1{}}}", "[".repeat(120), "]".repeat(120));
    assert_eq!(refused(&nested), [Code::TOO_DEEP]);
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..9 {
        let items = vec![format!("*a{}", level - 1); 10].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    assert!(matches!(
        refused(&bomb)[..],
        [Code::TOO_MANY_VALUES | Code::UNREADABLE_TEXT]
    ));
    assert_eq!(refused(&" ".repeat(2 << 20)), [Code::TEXT_TOO_LARGE]);
}

#[test]
fn problems_are_bounded() {
    let many: String = (0..5_000).map(|n| format!("\"x{n}\":1,")).collect();
    let problems = Definition::read(&format!("{{{many}\"StartAt\":1}}")).unwrap_err();
    assert_eq!(problems.0.len(), Limits::default().problems_max);
}

proptest! {
    #[test]
    fn no_mutation_of_a_definition_does_harm(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40, "\\PC{0,4}|[\\[\\]{}:,\"&*-]{1,3}"), 1..6),
        yaml in any::<bool>(),
    ) {
        let mut text = if yaml {
            let value: serde_json::Value = serde_json::from_str(CHECKOUT).unwrap();
            serde_yaml_ng::to_string(&value).unwrap()
        } else {
            CHECKOUT.to_owned()
        };
        for (at, length, put) in edits {
            let mut from = at.index(text.len());
            while !text.is_char_boundary(from) { from -= 1; }
            let mut to = (from + length).min(text.len());
            while !text.is_char_boundary(to) { to += 1; }
            text.replace_range(from..to, &put);
            if text.is_empty() { text.push('x'); }
        }
        if let Ok(accepted) = Definition::read(&text) {
            let again = Definition::read(&accepted.definition.canonical).unwrap();
            prop_assert_eq!(again.definition.hash, accepted.definition.hash);
        }
    }
}
