//! Rules of a Choice: every comparison of the States Language, and conditions of JSONata.

use serde_json::{Number, Value, json};
use wharf_saga::definition::{Comparison, Condition, Given, Relation, Test};
use wharf_saga::expression::{Budget, Failure, choice};

use super::World;

fn holds(variable: &str, test: Test) -> Result<bool, Failure> {
    let world = World::new(json!({
        "s": "log-2026.txt", "star": "a*b", "n": 5, "d": 5.0, "b": true, "null": null,
        "t": "2026-11-22T20:00:00Z", "same": "2026-11-22T21:00:00+01:00", "later": "2026-11-22T20:00:00.001Z",
        "big": 9_007_199_254_740_993_i64,
    }));
    let variable = variable.to_owned();
    let condition = Condition::Compare(Comparison { variable, test });
    choice::holds(&condition, &world.scope(), Budget::default())
}

fn text(value: &str) -> Given<String> {
    Given::Fixed(value.to_owned())
}

fn path<T>(value: &str) -> Given<T> {
    Given::From(value.to_owned())
}

fn number(value: f64) -> Given<Number> {
    Given::Fixed(Number::from_f64(value).expect("finite"))
}

#[test]
fn every_comparison_holds_and_fails_as_the_states_language_says() {
    use Relation::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
    let cases = [
        ("$.s", Test::Text(Equal, text("log-2026.txt")), true),
        ("$.s", Test::Text(Less, text("m")), true),
        ("$.s", Test::Text(Greater, text("m")), false),
        ("$.s", Test::Text(LessOrEqual, path("$.s")), true),
        ("$.n", Test::Text(Equal, text("5")), false),
        ("$.n", Test::Number(Equal, number(5.0)), true),
        ("$.n", Test::Number(Equal, path("$.d")), true),
        ("$.n", Test::Number(GreaterOrEqual, number(5.5)), false),
        (
            "$.big",
            Test::Number(
                Greater,
                Given::Fixed(Number::from(9_007_199_254_740_992_i64)),
            ),
            true,
        ),
        ("$.s", Test::Number(Equal, number(5.0)), false),
        ("$.b", Test::Boolean(Given::Fixed(true)), true),
        ("$.b", Test::Boolean(path("$.n")), false),
        ("$.t", Test::Moment(Equal, path("$.same")), true),
        ("$.t", Test::Moment(Less, path("$.later")), true),
        (
            "$.t",
            Test::Moment(Greater, text("2026-11-22T20:00:00.001Z")),
            false,
        ),
        (
            "$.s",
            Test::Moment(Equal, text("2026-11-22T20:00:00Z")),
            false,
        ),
        ("$.s", Test::Matches("log-*.txt".to_owned()), true),
        ("$.s", Test::Matches("log-*.tx".to_owned()), false),
        ("$.s", Test::Matches("*".to_owned()), true),
        ("$.s", Test::Matches("*2*6*t".to_owned()), true),
        ("$.star", Test::Matches(r"a\*b".to_owned()), true),
        ("$.s", Test::Matches(r"log-\*".to_owned()), false),
        ("$.n", Test::Matches("*".to_owned()), false),
        ("$.null", Test::IsNull(true), true),
        ("$.n", Test::IsNull(false), true),
        ("$.none", Test::IsPresent(false), true),
        ("$.null", Test::IsPresent(true), true),
        ("$.d", Test::IsNumeric(true), true),
        ("$.s", Test::IsString(true), true),
        ("$.b", Test::IsBoolean(true), true),
        ("$.same", Test::IsTimestamp(true), true),
        ("$.s", Test::IsTimestamp(true), false),
        ("$total", Test::Number(Equal, number(42.0)), true),
        ("$$.State.Name", Test::Text(Equal, text("Pay")), true),
    ];
    for (variable, test, wanted) in cases {
        let shown = format!("{variable} {test:?}");
        assert_eq!(holds(variable, test), Ok(wanted), "{shown}");
    }
}

#[test]
fn a_moment_must_be_one() {
    let not = [
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00+1:00",
        "",
        "é",
        "2026-01-01T00:00:00.",
    ];
    for moment in not {
        let world = World::new(json!({"t": moment}));
        let variable = "$.t".to_owned();
        let test = Test::IsTimestamp(true);
        let condition = Condition::Compare(Comparison { variable, test });
        let outcome = choice::holds(&condition, &world.scope(), Budget::default());
        assert_eq!(outcome, Ok(false), "{moment}");
    }
}

#[test]
fn a_variable_that_is_not_there_is_an_error() {
    let failure = holds("$.none", Test::IsNull(true)).expect_err("missing");
    assert_eq!(failure.error, "States.Runtime");
}

fn decide(condition: &Condition, input: Value) -> Result<bool, Failure> {
    let world = World::new(input);
    choice::holds(condition, &world.scope(), Budget::default())
}

#[test]
fn conditions_are_combined_and_the_rest_is_not_looked_at() {
    let yes = || Condition::Always(true);
    let no = || Condition::Always(false);
    let fails = || Condition::Jsonata("{% $nothing %}".to_owned());
    let cases = [
        (Condition::And(vec![yes(), yes()]), true),
        (Condition::And(vec![no(), fails()]), false),
        (Condition::Or(vec![yes(), fails()]), true),
        (Condition::Or(vec![no(), no()]), false),
        (Condition::Not(Box::new(no())), true),
        (
            Condition::Jsonata("{% $states.input.n > 3 and $total = 42 %}".to_owned()),
            true,
        ),
    ];
    for (condition, wanted) in cases {
        assert_eq!(
            decide(&condition, json!({"n": 4})),
            Ok(wanted),
            "{condition:?}"
        );
    }
    for text in ["{% 1 %}", "{% $nothing %}", "{% 'true' %}"] {
        let failure = decide(&Condition::Jsonata(text.to_owned()), json!({})).expect_err(text);
        assert_eq!(failure.error, "States.QueryEvaluationError", "{text}");
    }
}

#[test]
fn a_pattern_of_many_stars_ends() {
    let input = json!({"s": "a".repeat(20_000)});
    let variable = "$.s".to_owned();
    let test = Test::Matches(format!("{}b", "a*".repeat(2000)));
    let condition = Condition::Compare(Comparison { variable, test });
    assert!(matches!(decide(&condition, input), Ok(false) | Err(_)));
}
