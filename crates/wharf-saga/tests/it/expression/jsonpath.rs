//! Paths, with the document of AWS's guide ("Paths" and "Reference paths" of the States Language).

use serde_json::{Value, json};
use wharf_saga::definition::Selection;
use wharf_saga::expression::{Budget, Failure, jsonpath};

use super::World;

fn document() -> Value {
    json!({
        "foo": 123,
        "bar": ["a", "b", "c"],
        "car": {"cdr": true},
        "jar": [{"a": 1}, {"a": 5}, {"a": 2}, {"a": 7}, {"a": 3}],
        "odd.name": {"a b": 1},
        "deep": {"price": 1, "more": [{"price": 2}, {"price": 3, "in": {"price": 4}}]},
    })
}

fn get(path: &str) -> Result<Value, Failure> {
    let world = World::new(document());
    jsonpath::value(path, &world.scope(), Budget::default())
}

#[test]
fn a_definite_path_gives_one_value_and_any_other_a_list() {
    let cases = [
        ("$", document()),
        // The four examples of the States Language's page on paths.
        ("$.foo", json!(123)),
        ("$.bar", json!(["a", "b", "c"])),
        ("$.car.cdr", json!(true)),
        ("$.jar[?(@.a >= 5)].a", json!([5, 7])),
        ("$['car']['cdr']", json!(true)),
        ("$['odd.name']['a b']", json!(1)),
        (r"$.odd\.name.a\ b", json!(1)),
        ("$.bar[0]", json!("a")),
        ("$.bar[-1]", json!("c")),
        ("$.bar[0,2]", json!(["a", "c"])),
        ("$.bar[1:]", json!(["b", "c"])),
        ("$.bar[:2]", json!(["a", "b"])),
        ("$.bar[-2:]", json!(["b", "c"])),
        ("$.bar[0:1]", json!(["a"])),
        ("$.bar[7,8]", json!([])),
        ("$.car.*", json!([true])),
        ("$.jar[*].a", json!([1, 5, 2, 7, 3])),
        ("$.deep..price", json!([1, 2, 3, 4])),
        ("$..cdr", json!([true])),
        ("$['foo','car']", json!({"foo": 123, "car": {"cdr": true}})),
        ("$.jar[?(@.a > 1 && @.a < 5)]", json!([{"a": 2}, {"a": 3}])),
        ("$.jar[?(@.a == 1 || @.a == 7)].a", json!([1, 7])),
        ("$.jar[?(!(@.a == 1) && @.a != 5)].a", json!([2, 7, 3])),
        ("$.jar[?(@.a in [5, 3])].a", json!([5, 3])),
        ("$.bar[?(@ == 'b')]", json!(["b"])),
        ("$.deep.more[?(@.in)].price", json!([3])),
        ("$.jar[?(@.nothing == 1)]", json!([])),
        ("$$.Execution.Id", json!("e-1")),
        ("$total", json!(42)),
        ("$order.lines[1]", json!(2)),
    ];
    for (path, wanted) in cases {
        assert_eq!(get(path), Ok(wanted), "{path}");
    }
}

#[test]
fn a_definite_path_that_finds_nothing_is_an_error() {
    for path in [
        "$.none",
        "$.foo.none",
        "$.bar[3]",
        "$.bar[-4]",
        "$nobody",
        "$.bar.x",
    ] {
        let failure = get(path).expect_err(path);
        assert_eq!(failure.error, "States.Runtime", "{path}");
    }
}

#[test]
fn what_is_no_path_is_refused_with_its_position() {
    let cases = [
        ("", 0),
        ("foo", 0),
        ("$.", 2),
        ("$..", 3),
        ("$.a[", 4),
        ("$.a['b'", 7),
        ("$.a['b]", 7),
        ("$.a[1:2:3]", 7),
        ("$.a[?(@.b ==)]", 12),
        ("$.a b", 3),
        ("$.a.length()", 10),
        ("$.a[99999999999999999999]", 24),
    ];
    for (path, at) in cases {
        let wrong = jsonpath::check(path).expect_err(path);
        assert_eq!(wrong.at, at, "{path}: {wrong}");
        assert_eq!(get(path).expect_err(path).error, "States.Runtime");
    }
}

#[test]
fn a_reference_path_means_one_place() {
    for path in ["$", "$.a.b", "$['a'][0].c", "$.store\\.book"] {
        assert_eq!(jsonpath::check_reference(path), Ok(()), "{path}");
    }
    for path in [
        "$..a",
        "$.a[*]",
        "$.a[0,1]",
        "$.a[1:2]",
        "$.a[?(@.b)]",
        "$$.a",
        "$v",
        "$.a[-1]",
    ] {
        assert!(jsonpath::check_reference(path).is_err(), "{path}");
    }
}

fn put(path: &str, input: &Value) -> Result<Value, Failure> {
    let selection = Selection::At(path.to_owned());
    jsonpath::put(&selection, input, json!({"id": 1}), Budget::default())
}

#[test]
fn a_result_is_put_where_its_path_says() {
    // The examples of `ResultPath` in the States Language.
    let title = json!({"title": "Numbers to add", "numbers": {"val1": 3, "val2": 4}});
    let cases = [
        ("$.sum", title.clone(), {
            let mut all = title.clone();
            all["sum"] = json!({"id": 1});
            all
        }),
        (
            "$.numbers",
            title,
            json!({"title": "Numbers to add", "numbers": {"id": 1}}),
        ),
        ("$.a.b.c", json!({}), json!({"a": {"b": {"c": {"id": 1}}}})),
        ("$.a.b", json!({"a": null}), json!({"a": {"b": {"id": 1}}})),
        ("$.a[1]", json!({"a": [1, 2]}), json!({"a": [1, {"id": 1}]})),
    ];
    for (path, input, wanted) in cases {
        assert_eq!(put(path, &input), Ok(wanted), "{path}");
    }
    let kept = jsonpath::put(
        &Selection::Nothing,
        &json!([1]),
        json!(2),
        Budget::default(),
    );
    assert_eq!(kept, Ok(json!([1])));
    let replaced = jsonpath::put(&Selection::All, &json!([1]), json!(2), Budget::default());
    assert_eq!(replaced, Ok(json!(2)));
}

#[test]
fn a_result_that_has_no_place_is_an_error_with_its_own_name() {
    let cases = [
        ("$.a.b", json!({"a": 1})),
        ("$.a", json!("text")),
        ("$.a[2]", json!({"a": [1, 2]})),
        ("$.a[0]", json!({"a": {}})),
    ];
    for (path, input) in cases {
        let failure = put(path, &input).expect_err(path);
        assert_eq!(failure.error, "States.ResultPathMatchFailure", "{path}");
    }
}

#[test]
fn no_path_takes_more_than_its_budget() {
    let mut nested = json!({"a": 1});
    for _ in 0..60 {
        nested = json!([nested, nested_leaf()]);
    }
    let world = World::new(nested);
    for path in ["$..*..*..*..*", "$..*[?($..*)]", "$..*"] {
        let tight = Budget {
            steps: 20_000,
            ..Budget::default()
        };
        let failure = jsonpath::value(path, &world.scope(), tight);
        assert!(failure.is_err() || path == "$..*", "{path}");
    }
    let large = World::new(json!({"t": "x".repeat(300_000)}));
    let failure = jsonpath::value("$.t", &large.scope(), Budget::default()).expect_err("too large");
    assert_eq!(failure.error, "States.DataLimitExceeded");
}

fn nested_leaf() -> Value {
    json!({"b": [1, 2, 3]})
}
