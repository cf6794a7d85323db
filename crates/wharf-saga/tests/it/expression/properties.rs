//! Whatever is written, an expression ends without a panic and says the same twice.

use proptest::prelude::*;
use serde_json::{Value, json};
use wharf_saga::definition::Selection;
use wharf_saga::definition::{Comparison, Condition, Test};
use wharf_saga::expression::{Budget, choice, jsonata, jsonpath, template};

use super::World;

fn tight() -> Budget {
    Budget {
        steps: 20_000,
        depth: 60,
        bytes: 8192,
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c$.]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec(("[a-c]{1,2}", inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Texts made of what expressions are made of.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "$",
        "$$",
        "$.",
        "..",
        "[",
        "]",
        "[?(",
        ")",
        "@",
        ".a",
        "'a'",
        "*",
        ":",
        ",",
        "1",
        "-1",
        " ",
        "==",
        "&&",
        "||",
        "!",
        "States.",
        "Format(",
        "Array(",
        "UUID()",
        "{}",
        "\\",
        "{",
        "}",
        "(",
        "function($x)",
        "$states.input",
        "~>",
        "&",
        ":=",
        "$map",
        "/a+/",
        "%",
        "?",
        "|",
        "^(",
        "#$i",
        "@$v",
        "and",
        "in",
        "é",
        "\u{1F600}",
        "$string",
        "0.1e308",
        "`",
        "\"",
        "null",
    ]);
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_brings_an_evaluation_down(text in prop_oneof![pieces(), ".{0,40}"], input in any_json()) {
        let world = World::new(input);
        let scope = world.scope();
        let path = jsonpath::value(&text, &scope, tight());
        prop_assert_eq!(&path, &jsonpath::value(&text, &scope, tight()));
        if path.is_ok() {
            prop_assert_eq!(jsonpath::check(&text), Ok(()));
        }
        let value = template::value(&text, &scope, tight());
        if value.is_ok() {
            prop_assert_eq!(template::check_value(&text), Ok(()));
        }
        let query = format!("{{%{text}%}}");
        let outcome = jsonata::value(&query, &scope, tight());
        prop_assert_eq!(&outcome, &jsonata::value(&query, &scope, tight()));
        if outcome.is_ok() {
            prop_assert_eq!(jsonata::check_value(&query), Ok(()));
        }
        let test = Test::Matches(text.clone());
        let condition = Condition::Compare(Comparison { variable: "$.a".to_owned(), test });
        let _held = choice::holds(&condition, &scope, tight());
        let _put = jsonpath::put(&Selection::At(text), scope.input, json!(1), tight());
    }

    #[test]
    fn a_template_without_expressions_is_itself(plain in any_json()) {
        let world = World::new(json!({}));
        prop_assert_eq!(template::fill(&plain, &world.scope(), Budget::default()), Ok(plain.clone()));
        prop_assert_eq!(jsonata::fill(&plain, &world.scope(), Budget::default()), Ok(plain));
    }

    #[test]
    fn what_is_put_is_found_again(names in prop::collection::vec("[a-c]{1,2}", 1..4), value in any_json()) {
        let path = format!("$.{}", names.join("."));
        let selection = Selection::At(path.clone());
        let whole = jsonpath::put(&selection, &json!({}), value.clone(), Budget::default());
        let world = World::new(whole.expect("an empty object has room"));
        prop_assert_eq!(jsonpath::value(&path, &world.scope(), Budget::default()), Ok(value));
    }
}
