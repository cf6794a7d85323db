//! Sagas made by hand, and back to plain States Language.

use serde_json::json;
use wharf_saga::definition::{Code, Definition};

const TRIP: &str = include_str!("../../data/trip.asl.json");

#[test]
fn a_trip_undone_by_hand_becomes_a_saga_with_undo() {
    let accepted = Definition::import(TRIP).unwrap();
    let machine = accepted.definition.machine.to_value();
    let remarks: Vec<String> = accepted.remarks.iter().map(ToString::to_string).collect();
    let shown = serde_json::to_string_pretty(&machine).unwrap();
    insta::assert_snapshot!(format!("{shown}\n\n{}", remarks.join("\n")));
}

#[test]
fn a_chain_that_leaves_the_failed_step_alone_is_kept_so() {
    let all = |next: &str| json!([{ "ErrorEquals": ["States.ALL"], "Next": next }]);
    let machine = json!({ "StartAt": "ReserveStock", "States": {
        "ReserveStock": { "Type": "Task", "Resource": "wharf:topic:a", "TimeoutSeconds": 1, "Catch": all("No"), "Next": "ChargeCard" },
        "ChargeCard": { "Type": "Task", "Resource": "wharf:topic:b", "TimeoutSeconds": 1, "Catch": all("ReleaseStock"), "Next": "Ok" },
        "Ok": { "Type": "Succeed" },
        "ReleaseStock": { "Type": "Task", "Resource": "wharf:topic:c", "TimeoutSeconds": 1, "Next": "No" },
        "No": { "Type": "Fail" } } });
    let accepted = Definition::import(&machine.to_string()).unwrap();
    let states = accepted.definition.machine.to_value()["States"].clone();
    assert_eq!(states["ReserveStock"]["Compensate"]["OnUnknown"], "Skip");
    assert_eq!(states["ReserveStock"]["Catch"][0]["Next"], "No");
    assert!(states.get("ReleaseStock").is_none());
    assert!(states["ChargeCard"].get("Catch").is_none());
}

#[test]
fn a_catch_that_goes_on_forward_is_left_alone() {
    let machine = json!({ "StartAt": "A", "States": {
        "A": { "Type": "Task", "Resource": "wharf:topic:a", "TimeoutSeconds": 1, "End": true,
            "Catch": [{ "ErrorEquals": ["States.ALL"], "Next": "B" }] },
        "B": { "Type": "Task", "Resource": "wharf:topic:b", "TimeoutSeconds": 1, "End": true } } });
    let accepted = Definition::import(&machine.to_string()).unwrap();
    assert_eq!(
        accepted.definition,
        Definition::of(&machine).unwrap().definition
    );
    let codes: Vec<_> = accepted.remarks.iter().map(|p| p.code).collect();
    assert_eq!(codes, [Code::CATCH_KEPT, Code::UNDO_NOT_RECOGNISED]);
}

fn line() -> serde_json::Value {
    let undo = |name: &str, what: &str| {
        json!({ "Resource": format!("arn:aws:lambda:eu-west-1:123456789012:function:{name}"),
        "Parameters": { "id.$": what }, "TimeoutSeconds": 5, "Retry": [{ "ErrorEquals": ["States.ALL"], "MaxAttempts": 9 }] })
    };
    let step = |name: &str, next: &str| {
        json!({ "Type": "Task", "TimeoutSeconds": 5, "Next": next,
        "Resource": format!("arn:aws:lambda:eu-west-1:123456789012:function:{name}") })
    };
    let mut machine = json!({ "StartAt": "BookHotel", "States": {
        "BookHotel": step("hotel", "BookTrain"), "BookTrain": step("train", "TakePayment"),
        "TakePayment": step("pay", "Done"), "Done": { "Type": "Succeed" } } });
    machine["States"]["BookHotel"]["Compensate"] = undo("cancel-hotel", "$.result.id");
    machine["States"]["BookTrain"]["Compensate"] = undo("cancel-train", "$.input.trip");
    machine["States"]["BookTrain"]["Compensate"]["OnUnknown"] = json!("Skip");
    machine
}

#[test]
fn a_saga_in_one_line_is_exported_as_a_chain_of_catch() {
    let machine = Definition::of(&line()).unwrap().definition.machine;
    let exported = machine.export();
    let plain = Definition::of(&exported.machine)
        .unwrap()
        .definition
        .machine;
    assert!(
        plain
            .flow
            .states
            .iter()
            .all(|state| state.compensate.is_none())
    );
    let remarks: Vec<String> = exported.remarks.iter().map(ToString::to_string).collect();
    let shown = serde_json::to_string_pretty(&exported.machine).unwrap();
    insta::assert_snapshot!(format!("{shown}\n\n{}", remarks.join("\n")));
}

#[test]
fn a_saga_with_choices_is_exported_with_questions() {
    let checkout = Definition::read(super::read::CHECKOUT)
        .unwrap()
        .definition
        .machine;
    let exported = checkout.export();
    let plain = Definition::of(&exported.machine)
        .unwrap()
        .definition
        .machine;
    assert_eq!(plain.flow.start_at, "Saga begins");
    assert!(plain.flow.states.get("Undo ChargeCard?").is_some());
    let places: Vec<_> = exported
        .remarks
        .iter()
        .map(|p| (p.code, p.path.as_str()))
        .collect();
    assert!(
        places.contains(&(Code::NOT_EXPORTED, "/Saga/DeadlineSeconds")),
        "{places:?}"
    );
    assert!(places.contains(&(
        Code::RESOURCE_NOT_AWS,
        "/States/ReserveStock/Compensate/Resource"
    )));
}

#[test]
fn what_was_exported_in_one_line_is_imported_as_it_was() {
    let first = Definition::of(&line()).unwrap().definition;
    let plain = first.machine.export().machine;
    let again = Definition::import(&plain.to_string()).unwrap().definition;
    assert_eq!(again.machine.to_value(), first.machine.to_value());
    assert_eq!(again.hash, first.hash);
}
