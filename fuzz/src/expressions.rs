//! Expressions of strangers, of both languages, over data of strangers.
//!
//! The input is an expression behind its length, and the data as JSON. What is evaluated must have
//! been found right by the check before, must be within the budget, and must come out the same
//! twice. The budget is small, so that what is not counted is seen as slow early.

use serde_json::{Map, Value, json};
use wharf_message::Timestamp;
use wharf_saga::definition::{Comparison, Condition, Selection, Test};
use wharf_saga::expression::{Budget, Scope, choice, jsonata, jsonpath, template};

use crate::input::{Input, put_piece};

const BUDGET: Budget = Budget {
    steps: 20_000,
    depth: 40,
    bytes: 8 << 10,
};

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let text = String::from_utf8_lossy(input.piece()).into_owned();
    let value = serde_json::from_slice(input.rest()).unwrap_or(Value::Null);
    let context = json!({"State": {"Name": "Pay"}});
    let mut variables = Map::new();
    variables.insert("v".to_owned(), value.clone());
    let scope = Scope {
        input: &value,
        result: None,
        error_output: None,
        context: &context,
        variables: &variables,
        now: Timestamp::from_millis(1_795_320_000_123),
        seed: 7,
    };
    let path = jsonpath::value(&text, &scope, BUDGET);
    assert!(path.is_err() || jsonpath::check(&text).is_ok(), "{text}");
    let call = template::value(&text, &scope, BUDGET);
    assert!(
        call.is_err() || template::check_value(&text).is_ok(),
        "{text}"
    );
    assert_eq!(call, template::value(&text, &scope, BUDGET));
    let query = format!("{{%{text}%}}");
    let answer = jsonata::value(&query, &scope, BUDGET);
    assert!(
        answer.is_err() || jsonata::check_value(&query).is_ok(),
        "{text}"
    );
    if let Ok(answer) = &answer {
        assert_eq!(Ok(answer), jsonata::value(&query, &scope, BUDGET).as_ref());
    }
    let _filled = template::fill(&value, &scope, BUDGET);
    let _filled = jsonata::fill(&value, &scope, BUDGET);
    let _put = jsonpath::put(&Selection::At(text.clone()), &value, Value::Null, BUDGET);
    let test = Test::Matches(text);
    let variable = "$.s".to_owned();
    let condition = Condition::Compare(Comparison { variable, test });
    let _held = choice::holds(&condition, &scope, BUDGET);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "$.a[?(@.b >= 5 && !(@.c == 'x'))]['d','e'][-1]..f[1:2]",
        "States.Format('{} is \\{{}\\}', States.UUID(), States.Array($.a, 1, null))",
        "States.JsonMerge($.a, States.StringToJson($$.b), false)",
        "$sum($states.input.a.(b * c)) & $now() ~> $uppercase()",
        "($f := function($n) { $n < 2 ? 1 : $n * $f($n - 1) }; $f($v.a))",
        "$states.input.a^(>b)[0]{c: $join(d, '-')}",
        "$replace($v.s, /(a+)+b/i, '$1') ~> |$|{'x': 1}, ['y']|",
        "$partition($range(1, 9, 2), 2)[$random() > 0.5]",
        "a*\\*b",
    ];
    let data =
        br#"{"a": [{"b": 5, "c": 2, "d": ["x"]}], "s": "aab", "x.$": "$.a", "q": "{% 1 + 1 %}"}"#;
    texts
        .iter()
        .map(|text| {
            let mut seed = Vec::new();
            put_piece(&mut seed, text.as_bytes());
            seed.extend_from_slice(data);
            seed
        })
        .collect()
}
