//! What is accepted and what is refused.

use serde_json::{Value, json};
use wharf_saga::definition::{Accepted, Code, Definition, Given, Kind, QueryLanguage, Severity};

pub(super) const CHECKOUT: &str = include_str!("../../data/checkout.json");

fn codes(machine: &Value) -> Vec<(&'static str, String)> {
    match Definition::of(machine) {
        Ok(accepted) => listed(&accepted.remarks),
        Err(problems) => listed(&problems.0),
    }
}

fn listed(problems: &[wharf_saga::definition::Problem]) -> Vec<(&'static str, String)> {
    problems
        .iter()
        .map(|p| (p.code.as_str(), p.path.clone()))
        .collect()
}

fn one(state: &Value) -> Value {
    json!({ "StartAt": "A", "States": { "A": state } })
}

fn task(fields: &Value) -> Value {
    let mut state =
        json!({ "Type": "Task", "Resource": "wharf:topic:a", "TimeoutSeconds": 5, "End": true });
    for (key, value) in fields.as_object().into_iter().flatten() {
        state[key] = value.clone();
    }
    one(&state)
}

#[test]
fn a_checkout_is_read_with_its_undo_and_its_defaults() {
    let Accepted {
        definition,
        remarks,
    } = Definition::read(CHECKOUT).unwrap();
    let machine = &definition.machine;
    assert_eq!(machine.flow.start_at, "ReserveStock");
    assert_eq!(machine.saga.pivot.as_deref(), Some("ArrangeShipping"));
    let charge = &machine.flow.states["ChargeCard"];
    assert_eq!(charge.language(), QueryLanguage::Jsonata);
    let Kind::Task(task) = &charge.kind else {
        panic!("a task")
    };
    assert_eq!(
        task.timeout_seconds,
        Some(Given::From("{% 5 + 5 %}".to_owned()))
    );
    assert_eq!(
        charge.compensate.as_ref().unwrap().retry[0].attempts_max,
        19
    );
    assert!(remarks.iter().all(|p| p.severity != Severity::Error));
    assert_eq!(
        listed(&remarks),
        [(
            "UNDO_WITHOUT_RETRY",
            "/States/ChargeCard/Compensate".to_owned()
        )]
    );
}

#[test]
fn a_bad_file_is_told_everything_at_once() {
    let problems = Definition::read(include_str!("../../data/bad.json")).unwrap_err();
    insta::assert_snapshot!(problems.to_string());
}

#[test]
fn every_code_has_a_meaning_and_a_name_of_its_own() {
    for code in Code::ALL {
        assert!(code.meaning().ends_with('.'), "{code}");
        assert_eq!(Code::ALL.iter().filter(|other| other == &code).count(), 1);
    }
}

#[test]
fn each_mistake_has_its_code_and_its_place() {
    let at = |code: &'static str, path: &str| vec![(code, path.to_owned())];
    let missing = json!({ "StartAt": "A", "States": { "A": { "Type": "Pass", "Next": "B" } } });
    assert_eq!(
        codes(&missing)[0],
        ("MISSING_TRANSITION_TARGET", "/States/A/Next".to_owned())
    );
    let apart = json!({ "StartAt": "A", "States": { "A": { "Type": "Succeed" }, "B/~": { "Type": "Succeed" } } });
    assert_eq!(codes(&apart), at("UNREACHABLE_STATE", "/States/B~1~0"));
    let ring = json!({ "StartAt": "A", "States": { "A": { "Type": "Pass", "Next": "A" } } });
    assert_eq!(codes(&ring), at("MISSING_END_STATE", "/States"));
    let mixed = json!({ "QueryLanguage": "JSONata", "StartAt": "A",
        "States": { "A": { "Type": "Pass", "QueryLanguage": "JSONPath", "End": true } } });
    assert_eq!(
        codes(&mixed),
        at("MIXED_LANGUAGES", "/States/A/QueryLanguage")
    );
    assert_eq!(
        codes(&task(&json!({ "Output": 1 }))),
        at("FIELD_OF_OTHER_LANGUAGE", "/States/A/Output")
    );
    assert_eq!(
        codes(&task(&json!({ "HeartbeatSeconds": 5 }))),
        at("OUT_OF_RANGE", "/States/A/HeartbeatSeconds")
    );
    assert_eq!(
        codes(&task(&json!({ "Credentials": {} }))),
        at("CREDENTIALS_IGNORED", "/States/A/Credentials")
    );
    assert_eq!(
        codes(&task(&json!({ "Parameters": { "a": "$.b" } }))),
        at("NO_DOLLAR", "/States/A/Parameters/a")
    );
    let fixed = one(&json!({ "Type": "Pass", "Result": { "a.$": "$.b" }, "End": true }));
    assert_eq!(
        codes(&fixed),
        at("PASS_RESULT_IS_STATIC", "/States/A/Result")
    );
    let long = "n".repeat(81);
    let named = json!({ "StartAt": &long, "States": { &long: { "Type": "Succeed" } } });
    assert_eq!(codes(&named)[0].0, "INVALID_STATE_NAME");
    assert_eq!(codes(&json!([]))[0].0, "WRONG_TYPE");
    assert_eq!(codes(&json!({}))[0], ("MISSING_FIELD", String::new()));
}

#[test]
fn a_name_used_in_two_flows_is_refused() {
    let branch = json!({ "StartAt": "A", "States": { "A": { "Type": "Succeed" } } });
    let machine = one(&json!({ "Type": "Parallel", "Branches": [branch], "End": true }));
    let found = codes(&machine);
    assert_eq!(
        found,
        [(
            "DUPLICATE_STATE_NAME",
            "/States/A/Branches/0/States/A".to_owned()
        )]
    );
}

#[test]
fn a_state_that_is_wrong_makes_no_other_unreachable() {
    let machine = json!({ "StartAt": "A", "States": {
        "A": { "Type": "Tsk", "Next": "B" }, "B": { "Type": "Succeed" } } });
    assert_eq!(
        codes(&machine),
        [("UNKNOWN_VALUE", "/States/A/Type".to_owned())]
    );
}

#[test]
fn a_saga_is_told_which_steps_nothing_undoes() {
    let machine = json!({
        "StartAt": "A", "Saga": { "Pivot": "B" },
        "States": {
            "A": { "Type": "Task", "Resource": "wharf:topic:a", "Next": "B" },
            "B": { "Type": "Task", "Resource": "wharf:topic:b", "TimeoutSeconds": 1, "Next": "C" },
            "C": { "Type": "Task", "Resource": "wharf:topic:c", "TimeoutSeconds": 1, "Next": "D",
                "Compensate": { "Resource": "wharf:topic:c", "TimeoutSeconds": 1, "Retry": [] } },
            "D": { "Type": "Fail" } } });
    let found = codes(&machine);
    let expected = [
        ("UNDO_NEVER_TRIED_AGAIN", "/States/C/Compensate/Retry"),
        ("STEP_WITHOUT_TIMEOUT", "/States/A"),
        ("STEP_WITHOUT_UNDO", "/States/A"),
        ("UNDO_AFTER_PIVOT", "/States/C/Compensate"),
        ("FAIL_AFTER_PIVOT", "/States/D"),
    ];
    assert_eq!(found, expected.map(|(code, path)| (code, path.to_owned())));
}

#[test]
fn to_wait_for_a_signal_needs_no_undo() {
    let machine = json!({ "StartAt": "Approve", "States": {
        "Approve": { "Type": "Task", "Resource": "wharf:signal:Yes", "TimeoutSeconds": 9, "Next": "Pay" },
        "Pay": { "Type": "Task", "Resource": "wharf:topic:pay", "TimeoutSeconds": 9, "End": true,
            "Compensate": { "Resource": "wharf:topic:back", "TimeoutSeconds": 9, "Retry": [{ "ErrorEquals": ["States.ALL"] }] } } } });
    assert_eq!(codes(&machine), []);
}

#[test]
fn the_specification_lists_every_code() {
    let page = include_str!("../../../../../docs/specs/saga-definition.md");
    let mut table =
        String::from("| code | for Step Functions | severity | meaning |\n|---|---|---|---|\n");
    for code in Code::ALL {
        let (severity, meaning) = (code.severity().as_str(), code.meaning());
        table.push_str(&format!(
            "| `{code}` | `{}` | {severity} | {meaning} |\n",
            code.aws()
        ));
    }
    assert!(
        page.ends_with(&table),
        "the table of codes should be:\n{table}"
    );
}
