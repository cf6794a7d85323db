//! Machines written in Rust, and machines with their undo in a file beside them.

use serde_json::{Value, json};
use wharf_saga::definition::{
    Branch, Catch, Code, Definition, Each, OnDeadline, QueryLanguage, Retry, Saga, Sidecar, Step,
    Undo, When,
};

use super::read::CHECKOUT;

fn checkout() -> Saga {
    let label = Branch::new().step("Label", Step::handler("label").timeout(5));
    let pack = Branch::new().pass("Pack", json!({ "packed": true }));
    let parcels = Each::of(&pack)
        .items_path("$.order.lines")
        .concurrency(4)
        .tolerate_percentage(10.0)
        .selector(json!({ "line.$": "$$.Map.Item.Value" }));
    let trusted = When::compare("$.order.trusted", "BooleanEquals", true);
    let large = [
        When::compare("$.order.total", "NumericGreaterThan", 1000),
        When::not(trusted),
    ];
    Saga::define("checkout")
        .comment("A checkout: stock, card, shipping")
        .timeout(3600)
        .pivot("ArrangeShipping")
        .deadline(600, OnDeadline::Park)
        .step(
            "ReserveStock",
            Step::topic("stock-commands")
                .arguments(json!({ "order.$": "$.order", "currency": "EUR" }))
                .result_path("$.reservation")
                .timeout(30)
                .concurrency(50),
        )
        .retry(Retry::on(&["Busy"]).interval(2).attempts(5).backoff(1.5))
        .undo(
            Undo::topic("stock-commands")
                .arguments(json!({ "release.$": "$.reservation.id" }))
                .timeout(30)
                .retry(Retry::any().attempts(10)),
        )
        .choice(
            "LargeOrder",
            vec![
                When::all(&large, "CoolOff"),
                When::is(
                    "$.order.total",
                    "NumericLessThanEqualsPath",
                    "$.order.limit",
                    "ChargeCard",
                ),
            ],
            Some("ChargeCard"),
        )
        .wait("CoolOff", 60)
        .step(
            "ChargeCard",
            Step::http("payments")
                .jsonata(json!({ "amount": "{% $states.input.order.total %}" }))
                .output(json!(
                    "{% $merge([$states.input, {'charge': $states.result}]) %}"
                )),
        )
        .field("QueryLanguage", json!("JSONata"))
        .field("TimeoutSeconds", json!("{% 5 + 5 %}"))
        .catch(Catch::on(&["CardDeclined"], "Declined"))
        .undo(
            Undo::http("payments-refund")
                .jsonata(json!({ "charge": "{% $states.result.id %}" }))
                .timeout(10),
        )
        .parallel(
            "ArrangeShipping",
            &[label, Branch::new().map("Parcels", parcels)],
        )
        .succeed("Done")
        .fail("Declined", "CardDeclined", "")
        .field("CausePath", json!("$.Cause"))
}

#[test]
fn the_builder_makes_the_machine_of_the_text() {
    let mut value = checkout().to_value();
    value["States"]["Declined"]
        .as_object_mut()
        .unwrap()
        .remove("Cause");
    let built = Definition::of(&value).unwrap().definition;
    assert_eq!(built, Definition::read(CHECKOUT).unwrap().definition);
}

#[test]
fn a_step_follows_the_one_before_unless_it_says_otherwise() {
    let saga = Saga::define("short")
        .language(QueryLanguage::Jsonata)
        .step("A", Step::topic("a").timeout(1))
        .step("B", Step::topic("b").timeout(1))
        .catch(Catch::any("Z"))
        .end()
        .succeed("Z");
    assert_eq!(saga.name(), "short");
    let machine = saga.build().unwrap().definition.machine.to_value();
    assert_eq!(machine["States"]["A"]["Next"], "B");
    assert_eq!(machine["States"]["B"]["End"], true);
}

#[test]
fn the_builder_names_problems_as_the_reader_does() {
    let saga = Saga::define("bad")
        .step("A", Step::topic("a"))
        .then("C")
        .pivot("Q")
        .succeed("A");
    let found: Vec<_> = saga
        .build()
        .unwrap_err()
        .0
        .into_iter()
        .map(|p| p.code)
        .collect();
    assert!(
        found.contains(&Code::MISSING_TRANSITION_TARGET),
        "{found:?}"
    );
    assert!(found.contains(&Code::INVALID_STATE_NAME), "{found:?}");
    assert!(found.contains(&Code::PIVOT_UNKNOWN), "{found:?}");
}

fn take(value: &mut Value, name: &str) -> Value {
    value
        .as_object_mut()
        .and_then(|map| map.shift_remove(name))
        .unwrap_or_default()
}

fn apart() -> (Value, Value) {
    let mut machine: Value = serde_json::from_str(CHECKOUT).unwrap_or_default();
    let saga = take(&mut machine, "Saga");
    let mut compensate = json!({});
    for name in ["ReserveStock", "ChargeCard"] {
        compensate[name] = take(&mut machine["States"][name], "Compensate");
    }
    let sidecar = json!({ "machine": "checkout.asl.json", "compensate": compensate, "saga": saga });
    (machine, sidecar)
}

#[test]
fn a_sidecar_and_its_machine_are_the_machine_with_its_undo() {
    let (machine, sidecar) = apart();
    let whole = Definition::read(CHECKOUT).unwrap().definition;
    let read = Sidecar::read(&sidecar.to_string()).unwrap();
    assert_eq!(read.apply(&machine).unwrap().definition, whole);
    let mut together = sidecar;
    together["machine"] = machine;
    assert_eq!(
        Definition::read(&together.to_string()).unwrap().definition,
        whole
    );
}

#[test]
fn problems_of_a_sidecar_are_at_their_place_in_it() {
    let (machine, mut sidecar) = apart();
    sidecar["compensate"]["ChargCard"] = json!({});
    sidecar["compensate"]["Label"] = json!({ "Resource": "x" });
    sidecar["saga"]["Pivot"] = json!("Nobody");
    let read = Sidecar::of(sidecar).unwrap();
    let problems = read.apply(&machine).unwrap_err();
    let errors: Vec<_> = problems
        .0
        .iter()
        .map(|p| (p.code, p.path.as_str()))
        .collect();
    assert!(
        errors.contains(&(Code::SIDECAR_UNKNOWN_STATE, "/compensate/ChargCard")),
        "{errors:?}"
    );
    assert!(
        errors.contains(&(Code::INVALID_RESOURCE, "/compensate/Label/Resource")),
        "{errors:?}"
    );
    assert!(
        errors.contains(&(Code::PIVOT_UNKNOWN, "/saga/Pivot")),
        "{errors:?}"
    );
    assert!(Sidecar::read("{\"machines\":1}").is_err());
}
