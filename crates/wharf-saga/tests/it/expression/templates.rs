//! Payload templates and intrinsic functions. "recorded" cases are what AWS answered, out of the
//! recordings of LocalStack's tests; the rest are the examples of AWS's guide.

use serde_json::{Value, json};
use wharf_saga::expression::{Budget, Failure, template};

use super::World;

fn input() -> Value {
    json!({
        "name": "Arnav", "template": "Hello, my name is {}.",
        "nine": [1, 2, 3, 4, 5, 6, 7, 8, 9], "twice": [1, 2, 3, 3, 3, 3, 3, 3, 4, 1.0],
        "json": "{\"foo\": \"bar\"}", "object": {"a": [1, null]}, "empty": "",
        "one": {"a": {"a1": 1, "a2": 2}, "b": 2}, "two": {"a": {"a3": 1, "a4": 2}, "c": 3},
        "text": "This.is+a,test=string", "at": ".+,=", "long": "x".repeat(10_001),
    })
}

fn value(text: &str) -> Result<Value, Failure> {
    let world = World::new(input());
    template::value(text, &world.scope(), Budget::default())
}

#[test]
fn intrinsic_functions_give_what_aws_says() {
    let cases = [
        (
            "States.Format('Hello, my name is {}.', $.name)",
            json!("Hello, my name is Arnav."),
        ),
        (
            "States.Format($.template, $.name)",
            json!("Hello, my name is Arnav."),
        ),
        (
            r"States.Format('\{\}: {} it\'s {} {}', 1, true, null)",
            json!("{}: 1 it's true null"),
        ),
        ("States.StringToJson($.json)", json!({"foo": "bar"})),
        ("States.StringToJson($.empty)", Value::Null),
        ("States.JsonToString($.object)", json!("{\"a\":[1,null]}")),
        (
            "States.Array('a', 1, null, $.name)",
            json!(["a", 1, null, "Arnav"]),
        ),
        ("States.Array()", json!([])),
        (
            "States.ArrayPartition($.nine,4)",
            json!([[1, 2, 3, 4], [5, 6, 7, 8], [9]]),
        ),
        ("States.ArrayContains($.nine, 5)", json!(true)),
        ("States.ArrayContains($.nine, 10)", json!(false)),
        ("States.ArrayRange(1, 9, 2)", json!([1, 3, 5, 7, 9])),
        ("States.ArrayRange(5, 1, -2)", json!([5, 3, 1])),
        ("States.ArrayRange(5, 1, 2)", json!([])),
        ("States.ArrayGetItem($.nine, 5)", json!(6)),
        ("States.ArrayLength($.nine)", json!(9)),
        ("States.ArrayUnique($.twice)", json!([1, 2, 3, 4])),
        (
            "States.Base64Encode('Data to encode')",
            json!("RGF0YSB0byBlbmNvZGU="),
        ),
        (
            "States.Base64Decode('RGF0YSB0byBlbmNvZGU=')",
            json!("Data to encode"),
        ),
        (
            "States.Hash('input data', 'SHA-1')",
            json!("aaff4a450a104cd177d28d18d74485e8cae074b7"),
        ),
        (
            "States.Hash('', 'MD5')",
            json!("d41d8cd98f00b204e9800998ecf8427e"),
        ),
        (
            "States.JsonMerge($.one, $.two, false)",
            json!({"a": {"a3": 1, "a4": 2}, "b": 2, "c": 3}),
        ),
        ("States.MathAdd(111, -1)", json!(110)),
        ("States.MathAdd(1.4, 1.6)", json!(3)),
        (
            "States.StringSplit('1,2,3,4,5', ',')",
            json!(["1", "2", "3", "4", "5"]),
        ),
        // Recorded: every character is a delimiter, and what is empty is left out.
        (
            "States.StringSplit($.text, $.at)",
            json!(["This", "is", "a", "test", "string"]),
        ),
        ("States.StringSplit(', , ,', ',')", json!([" ", " "])),
        ("States.StringSplit(',,,,', ',')", json!([])),
        ("States.StringSplit(' ', ',')", json!([" "])),
        (
            "States.ArrayLength(States.Array(States.Format('{}', $$.State.Name), $total))",
            json!(2),
        ),
    ];
    for (text, wanted) in cases {
        assert_eq!(value(text), Ok(wanted), "{text}");
        assert_eq!(template::check_value(text), Ok(()), "{text}");
    }
}

#[test]
fn what_an_intrinsic_function_cannot_take_is_its_own_error() {
    let cases = [
        "States.Format('{} {}', 1)",
        "States.Format('{}', 1, 2)",
        "States.StringToJson('{')",
        "States.ArrayPartition($.nine, 0)",
        "States.ArrayPartition($.name, 2)",
        "States.ArrayRange(1, 9, 0)",
        "States.ArrayRange(0, 1000, 1)",
        "States.ArrayGetItem($.nine, 9)",
        "States.ArrayGetItem($.nine, -1)",
        "States.Base64Decode('&')",
        "States.Base64Encode($.long)",
        "States.Hash($.long, 'MD5')",
        "States.Hash('a', 'CRC')",
        "States.JsonMerge($.one, $.two, true)",
        "States.JsonMerge($.one, 1, false)",
        "States.MathAdd(3000000000, 1)",
        "States.MathAdd('1', 1)",
        "States.MathRandom(5, 5)",
    ];
    for text in cases {
        let failure = value(text).expect_err(text);
        assert_eq!(failure.error, "States.IntrinsicFailure", "{text}");
        assert!(failure.cause.starts_with("States."), "{failure}");
    }
}

#[test]
fn a_call_that_is_not_written_right_is_refused_with_its_position() {
    let nested = format!("{}1{}", "States.Array(".repeat(11), ")".repeat(11));
    let cases = [
        ("States.Nothing()", 7),
        ("States.Uuid()", 7),
        ("States.Format", 13),
        ("States.Format('a'", 17),
        ("States.Format('a", 16),
        (r"States.Format('\n')", 16),
        ("States.UUID(1)", 7),
        ("States.MathAdd(1)", 7),
        ("States.MathAdd(1 2)", 17),
        ("States.Array(a)", 13),
        ("States.Array() x", 15),
        ("Format('a')", 0),
        (nested.as_str(), 130),
    ];
    for (text, at) in cases {
        let wrong = template::check_value(text).expect_err(text);
        assert_eq!(wrong.at, at, "{text}: {wrong}");
    }
}

#[test]
fn random_numbers_come_from_the_seed_alone() {
    let text = "States.Array(States.UUID(), States.UUID(), States.MathRandom(1, 999))";
    let drawn = value(text).expect("drawn");
    assert_eq!(value(text), Ok(drawn.clone()));
    assert_ne!(drawn[0], drawn[1]);
    let id = uuid::Uuid::parse_str(drawn[0].as_str().expect("text")).expect("a uuid");
    assert_eq!(id.get_version_num(), 4);
    let world = World::new(input());
    let mut other = world.scope();
    other.seed = 8;
    assert_ne!(template::value(text, &other, Budget::default()), Ok(drawn));
    assert_eq!(
        value("States.MathRandom(1, 999, 3)"),
        template::value("States.MathRandom(1, 999, 3)", &other, Budget::default())
    );
}

fn fill(template: &Value) -> Result<Value, Failure> {
    let world = World::new(input());
    template::fill(template, &world.scope(), Budget::default())
}

#[test]
fn only_names_that_end_in_dollar_are_evaluated() {
    let filled = fill(&json!({
        "plain": "$.name", "n": 1, "who.$": "$.name", "deep": [{"x.$": "$$.State.Name"}],
        "list.$": "$.nine[0,1]", "id.$": "States.Format('{}-{}', $order.id, $total)",
    }));
    let wanted = json!({
        "plain": "$.name", "n": 1, "who": "Arnav", "deep": [{"x": "Pay"}],
        "list": [1, 2], "id": "o-1-42",
    });
    assert_eq!(filled, Ok(wanted));
}

#[test]
fn a_template_whose_path_finds_nothing_is_an_error_with_its_own_name() {
    let failure = fill(&json!({"x.$": "$.nobody"})).expect_err("missing");
    assert_eq!(failure.error, "States.ParameterPathFailure");
    insta::assert_snapshot!(failure, @"States.ParameterPathFailure: The JSONPath '$.nobody' specified for the field 'x.$' could not be found in the input");
}

#[test]
fn everything_wrong_in_a_template_is_found_at_once() {
    let wrong = template::check(&json!({
        "a.$": "$.", "b": [{"c.$": 1}, {"d.$": "States.X()"}], "e": 1, "e.$": "$", "ok.$": "$.x",
    }));
    let pointers: Vec<_> = wrong.iter().map(|wrong| wrong.pointer.as_str()).collect();
    assert_eq!(pointers, ["/a.$", "/b/0/c.$", "/b/1/d.$", "/e.$"]);
}
