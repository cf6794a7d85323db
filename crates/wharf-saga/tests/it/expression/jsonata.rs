//! JSONata as AWS has it, and that what runs away is stopped.

use serde_json::{Value, json};
use wharf_saga::expression::{Budget, Failure, jsonata};

use super::World;

fn value(text: &str) -> Result<Value, Failure> {
    let world =
        World::new(json!({"n": 3, "lines": [{"p": 2, "q": 3}, {"p": 5, "q": 1}], "s": "x"}));
    let result = json!({"ok": true});
    let mut scope = world.scope();
    scope.result = Some(&result);
    jsonata::value(&format!("{{% {text} %}}"), &scope, Budget::default())
}

#[test]
fn expressions_of_one_template_know_nothing_of_each_other() {
    let world = World::new(json!({"n": 3}));
    let template = json!({
        "a": "{% ($x := 7; $states := {'input': {'n': 9}}; $total := 1; $x + $states.input.n) %}",
        "b": ["{% $exists($x) %}", "{% $states.input.n %}", "{% $total %}"],
        "c": "{% $join($map([1, 2], function($n) { $string($n) }), '-') & $length($uuid()) %}",
        "d": "{% $join(['a'], '-') %}",
        "e": "{% $exists($uuid()) %}",
    });
    let told = jsonata::fill(&template, &world.scope(), Budget::default()).unwrap();
    assert_eq!(
        told,
        json!({"a": 16, "b": [false, 3, 42], "c": "1-236", "d": "a", "e": true})
    );
}

#[test]
fn expressions_see_the_states_and_the_variables() {
    let cases = [
        ("$states.input.n + $total", json!(45)),
        ("$sum($states.input.lines.(p * q))", json!(11)),
        ("$states.input.lines[p > 2].q", json!(1)),
        ("$states.input.lines[0].p", json!(2)),
        ("$states.result.ok", json!(true)),
        (
            "$states.context.State.Name & '-' & $order.id",
            json!("Pay-o-1"),
        ),
        (
            "{'a': $states.input.s, 'b': [1, 2.5, null]}",
            json!({"a": "x", "b": [1, 2.5, null]}),
        ),
        ("$exists($states.errorOutput)", json!(false)),
        ("$exists($)", json!(false)),
        ("$exists($$)", json!(false)),
        (
            "$map($states.input.lines, function($l) { $l.p })",
            json!([2, 5]),
        ),
        (
            "($f := function($n) { $n < 2 ? 1 : $n * $f($n - 1) }; $f(5))",
            json!(120),
        ),
        ("$join(['a', 'b'], '-')", json!("a-b")),
        ("'a b' ~> $replace(' ', '_') ~> $uppercase()", json!("A_B")),
        ("$pad('a', 3, '.')", json!("a..")),
        ("$now()", json!("2026-11-22T04:00:00.123Z")),
        ("$now('[Y]')", json!("2026")),
        ("$millis()", json!(1_795_320_000_123_i64)),
        ("$toMillis('1970-01-01T00:00:01Z')", json!(1000)),
        (
            "$partition([1, 2, 3, 4, 5], 2)",
            json!([[1, 2], [3, 4], [5]]),
        ),
        ("$range(0, 9, 3)", json!([0, 3, 6, 9])),
        ("$range(3, 1, -1)", json!([3, 2, 1])),
        (
            "$hash('input data', 'SHA-1')",
            json!("aaff4a450a104cd177d28d18d74485e8cae074b7"),
        ),
        ("$parse('{\"a\": [1]}').a", json!([1])),
        ("$random(3) = $random(3)", json!(true)),
    ];
    for (text, wanted) in cases {
        assert_eq!(value(text), Ok(wanted), "{text}");
    }
}

#[test]
fn what_gives_nothing_or_fails_is_an_error_of_the_query() {
    let cases = [
        "$nothing",
        "$states.input.nobody",
        "$",
        "$$",
        "n",
        "1 + 'a'",
        "$error('no')",
        "$sum",
        "function($x) { $x }",
        "[$sum]",
        "$eval('1')",
        "1 +",
        "(",
        "'a",
        "$partition([1], 0)",
        "$range(1, 2, 0)",
        "$range(1, 100000, 1)",
        "$hash('a', 'X')",
        "$parse('{')",
        "1/0",
        "$map([1], $join)",
        "$toMillis('10', '[H]')",
        "$x(1)",
    ];
    for text in cases {
        let failure = value(text).expect_err(text);
        assert_eq!(failure.error, "States.QueryEvaluationError", "{text}");
        assert!(
            failure.cause.contains("The JSONata expression"),
            "{failure}"
        );
    }
}

#[test]
fn what_runs_away_is_stopped() {
    let cases = [
        "($f := function() { $f() }; $f())",
        "($f := function($n) { 1 + $f($n) }; $f(1))",
        "($f := function($s, $n) { $n = 0 ? $s : $f($s & $s, $n - 1) }; $f('ab', 60))",
        "$reduce([1..60], function($a, $x) { $a & $a }, 'ab')",
        "$reduce([1..60], function($a, $x) { [$a, $a] }, [[1]])",
        "$reduce([1..60], function($a, $x) { {'a': $a, 'b': $a} }, {})",
        "$reduce([1..60], function($a, $x) { $append($a, $a) }, [1, 2])",
        "[1..10000000]",
        "$count([1..9000000])",
        "$pad('a', 1000000000)",
        "$pad('a', -1000000000)",
        "$join([1..100000].'', $pad('', 100000, 'x'))",
        "$replace($pad('', 200000, 'a'), 'a', $pad('', 200000, 'b'))",
        "$pad('', 200000, 'a') ~> $replace(/a/, $pad('', 200000, 'b'))",
        "[1..1000].($sum([1..1000].($sum([1..1000]))))",
        "$map([1..100000], function($x) { $map([1..100000], function($y) { $x * $y }) })",
        "$string([1..100000]) & $string([1..100000])",
    ];
    for text in cases {
        let failure = value(text).expect_err(text);
        let known = [
            "States.QueryEvaluationError",
            "States.DataLimitExceeded",
            "States.Runtime",
        ];
        assert!(known.contains(&failure.error), "{text}: {failure}");
    }
}

#[test]
fn a_hostile_pattern_ends() {
    for pattern in ["/(a+)+$/", "/(a|a)*b/", "/(.*a){20}/"] {
        let text = format!("$contains($pad('', 30000, 'a') & '!', {pattern})");
        // Whatever it gives: it comes back.
        let _answer = value(&text);
    }
}

#[test]
fn texts_that_nest_without_end_are_refused() {
    for text in [
        "(",
        "[",
        "{'a':",
        "-",
        "$f(",
        "1+",
        "a.",
        "a[",
        "function(){",
        "/",
        "'",
        "%",
    ] {
        let deep = text.repeat(16_000 / text.len());
        let failure = value(&deep).expect_err(text);
        assert_eq!(failure.error, "States.QueryEvaluationError", "{text}");
        let _kept = jsonata::check_value(&format!("{{%{deep}%}}"));
    }
}

#[test]
fn only_texts_with_both_marks_are_expressions() {
    let world = World::new(json!({"n": 1}));
    let template =
        json!({"a": "{% $states.input.n %}", "b": ["{% 1 + 1 %}", "$states", 3], "c": "{ % }"});
    let filled = jsonata::fill(&template, &world.scope(), Budget::default());
    assert_eq!(
        filled,
        Ok(json!({"a": 1, "b": [2, "$states", 3], "c": "{ % }"}))
    );
    let wrong = jsonata::check(&json!({"a": "{% 1 +", "b": ["{% ( %}", "{% 1 %}"], "c": "%}"}));
    let pointers: Vec<_> = wrong.iter().map(|wrong| wrong.pointer.as_str()).collect();
    assert_eq!(pointers, ["/a", "/b/0", "/c"]);
}

#[test]
fn the_same_scope_and_seed_give_the_same_bytes() {
    let text = "{'a': $uuid(), 'b': $random(), 'c': $shuffle([1..20]), 'd': $now()}";
    let drawn = value(text).expect("drawn");
    assert_eq!(
        value(text).map(|value| value.to_string()),
        Ok(drawn.to_string())
    );
    assert_ne!(value("$uuid()"), value("[$uuid(), $uuid()][1]"));
}
