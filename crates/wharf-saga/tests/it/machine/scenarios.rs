//! Scenarios, each with its definition and what comes of it.

use serde_json::{Value, json};
use wharf_saga::machine::{Action, Data, Input, Mark, Outcome, ParkReason, Refusal, Status};

use super::kit::{Kit, failure};

/// A task with an undo.
pub(super) fn task(name: &str, next: Option<&str>) -> Value {
    let mut state = json!({
        "Type": "Task",
        "Resource": format!("wharf:topic:{name}"),
        "Compensate": { "Resource": format!("wharf:topic:undo-{name}") },
    });
    match next {
        Some(next) => state["Next"] = json!(next),
        None => state["End"] = json!(true),
    }
    state
}

fn abc() -> Value {
    json!({
        "StartAt": "A",
        "States": { "A": task("a", Some("B")), "B": task("b", Some("C")), "C": task("c", None) },
    })
}

#[test]
fn a_saga_whose_steps_succeed_completes() {
    let mut kit = Kit::begin(&abc(), json!({ "order": 1 }));
    kit.succeed("A", json!({ "a": 1 }));
    kit.succeed("B", json!({ "b": 2 }));
    kit.succeed("C", json!({ "c": 3 }));
    assert_eq!(kit.status(), Status::Completed);
    assert_eq!(kit.saga.output(), Some(&Data::from(json!({ "c": 3 }))));
    insta::assert_snapshot!(kit.told);
}

#[test]
fn what_was_done_is_undone_in_reverse_and_the_failed_step_first() {
    let mut kit = Kit::begin(&abc(), json!({ "order": 1 }));
    kit.succeed("A", json!({ "a": 1 }));
    kit.succeed("B", json!({ "b": 2 }));
    kit.fail("C", "Broken", false);
    assert_eq!(kit.status(), Status::Compensating);
    kit.undone("C");
    kit.undone("B");
    kit.undone("A");
    assert_eq!(kit.status(), Status::Compensated);
    assert_eq!(kit.sent(), ["A", "B", "C", "-C", "-B", "-A"]);
    let undo = kit.command("B", true);
    assert_eq!(
        *undo.arguments,
        json!({ "input": { "a": 1 }, "result": { "b": 2 } })
    );
    assert!(undo.idempotency_key.ends_with("/2/undo"));
    insta::assert_snapshot!(kit.told);
}

#[test]
fn a_declared_failure_is_not_undone() {
    let mut kit = Kit::begin(&abc(), json!({}));
    kit.succeed("A", json!({}));
    kit.fail("B", "Declined", true);
    kit.undone("A");
    assert_eq!(kit.status(), Status::Compensated);
    assert_eq!(kit.sent(), ["A", "B", "-A"]);
}

#[test]
fn a_saga_that_did_nothing_ends_compensated_with_its_error_and_is_redriven_where_it_failed() {
    let definition = json!({
        "StartAt": "A",
        "States": {
            "A": { "Type": "Task", "Resource": "wharf:topic:a", "Next": "B" },
            "B": { "Type": "Task", "Resource": "wharf:topic:b", "End": true },
        },
    });
    let mut kit = Kit::begin(&definition, json!({ "n": 1 }));
    kit.succeed("A", json!({ "n": 2 }));
    let first = kit.command("B", false);
    kit.fail("B", "Broken", false);
    assert_eq!(kit.status(), Status::Compensated);
    assert_eq!(kit.saga.error(), Some(("Broken", "because")));
    kit.act(Action::Redrive).unwrap();
    let second = kit.command("B", false);
    assert_eq!(second.idempotency_key, first.idempotency_key);
    assert!(second.generation > first.generation);
    kit.succeed("B", json!({ "n": 3 }));
    assert_eq!(kit.status(), Status::Completed);
    assert!(matches!(
        kit.act(Action::Redrive),
        Err(Refusal::NotRedrivable(_))
    ));
}

#[test]
fn branches_are_undone_beside_each_other_and_the_parallel_is_one_node() {
    let definition = json!({
        "StartAt": "First",
        "States": {
            "First": task("first", Some("Both")),
            "Both": {
                "Type": "Parallel",
                "Branches": [
                    { "StartAt": "L1", "States": { "L1": task("l1", Some("L2")), "L2": task("l2", None) } },
                    { "StartAt": "R1", "States": { "R1": task("r1", None) } },
                ],
                "Next": "Last",
            },
            "Last": task("last", None),
        },
    });
    let mut kit = Kit::begin(&definition, json!({}));
    kit.succeed("First", json!({}));
    kit.succeed("L1", json!({}));
    kit.succeed("R1", json!({ "r": 1 }));
    kit.succeed("L2", json!({ "l": 2 }));
    assert_eq!(
        *kit.command("Last", false).arguments,
        json!([{ "l": 2 }, { "r": 1 }])
    );
    let stages: Vec<(String, u32)> = kit
        .saga
        .undo_preview(&kit.definition.machine)
        .into_iter()
        .map(|step| (step.name, step.stage))
        .collect();
    let stage = |name: &str, stage: u32| (name.to_owned(), stage);
    assert_eq!(
        stages,
        [
            stage("Last", 0),
            stage("L2", 1),
            stage("R1", 1),
            stage("L1", 2),
            stage("First", 3)
        ]
    );
    kit.fail("Last", "Declined", true);
    assert_eq!(kit.sent()[5..], ["-L2", "-R1"]);
    kit.undone("L2");
    assert_eq!(kit.sent()[5..], ["-L2", "-R1", "-L1"]);
    kit.undone("L1");
    assert_eq!(kit.sent().len(), 8, "the first waits for both branches");
    kit.undone("R1");
    assert_eq!(kit.sent()[8..], ["-First"]);
    kit.undone("First");
    assert_eq!(kit.status(), Status::Compensated);
}

pub(super) fn two_branches() -> Value {
    json!({
        "StartAt": "Both",
        "States": {
            "Both": {
                "Type": "Parallel",
                "Branches": [
                    { "StartAt": "L", "States": { "L": task("l", None) } },
                    { "StartAt": "R", "States": { "R": task("r", None) } },
                ],
                "End": true,
            },
        },
    })
}

#[test]
fn a_task_in_flight_when_the_saga_turns_back_is_unknown_and_its_late_answer_counts() {
    let mut kit = Kit::begin(&two_branches(), json!({}));
    kit.fail("L", "Declined", true);
    assert_eq!(kit.sent(), ["L", "R", "-R"], "nobody knows about R");
    kit.succeed("R", json!({ "late": true }));
    assert!(kit.told.contains("stale_reply"), "{}", kit.told);
    kit.undone("R");
    assert_eq!(kit.status(), Status::Compensated);
    insta::assert_snapshot!(kit.told);
}

#[test]
fn behind_the_pivot_an_error_parks_and_one_action_repairs_it() {
    let mut definition = abc();
    definition["Saga"] = json!({ "Pivot": "B" });
    let mut kit = Kit::begin(&definition, json!({}));
    kit.succeed("A", json!({}));
    kit.succeed("B", json!({}));
    kit.fail("C", "Broken", false);
    assert_eq!(kit.status(), Status::Parked);
    assert_eq!(kit.saga.parked()[0].reason, ParkReason::Step);
    assert_eq!(kit.act(Action::Abort), Err(Refusal::PastPivot));
    kit.act(Action::Retry { step: None }).unwrap();
    assert_eq!(kit.status(), Status::Running);
    kit.succeed("C", json!({}));
    assert_eq!(kit.status(), Status::Completed);
}

#[test]
fn an_abort_while_nobody_knows_whether_the_pivot_was_done_parks_it() {
    let mut definition = abc();
    definition["Saga"] = json!({ "Pivot": "B" });
    let pivot = definition["States"]["B"].as_object_mut();
    pivot.unwrap().remove("Compensate");
    let parked = || {
        let mut kit = Kit::begin(&definition, json!({}));
        kit.succeed("A", json!({}));
        kit.act(Action::Abort).unwrap();
        assert_eq!(kit.status(), Status::Parked);
        assert_eq!(kit.saga.parked()[0].reason, ParkReason::Step);
        assert_eq!(kit.act(Action::Abort), Err(Refusal::PivotInDoubt));
        kit
    };
    // It was not done.
    let mut kit = parked();
    let mark = Mark::Compensated;
    kit.act(Action::Mark { step: None, mark }).unwrap();
    kit.act(Action::Abort).unwrap();
    kit.undone("A");
    assert_eq!(kit.status(), Status::AbortedByOperator);
    // Its worker says so after all.
    let mut kit = parked();
    kit.succeed("B", json!({}));
    kit.succeed("C", json!({}));
    assert_eq!(kit.status(), Status::Completed);
}

#[test]
fn a_parked_step_is_skipped_or_marked_or_edited() {
    let mut definition = abc();
    definition["Saga"] = json!({ "Pivot": "A" });
    let mut kit = Kit::begin(&definition, json!({}));
    kit.succeed("A", json!({}));
    kit.fail("B", "Broken", false);
    kit.act(Action::Edit {
        step: None,
        input: json!({ "better": true }).into(),
    })
    .unwrap();
    kit.act(Action::Retry { step: Some(2) }).unwrap();
    assert_eq!(
        *kit.command("B", false).arguments,
        json!({ "better": true })
    );
    kit.fail("B", "Broken", false);
    kit.act(Action::Skip {
        step: None,
        output: json!({ "skipped": 1 }).into(),
    })
    .unwrap();
    assert_eq!(*kit.command("C", false).arguments, json!({ "skipped": 1 }));
    kit.fail("C", "Broken", false);
    kit.act(Action::Mark {
        step: None,
        mark: Mark::Completed {
            output: json!({ "by": "hand" }).into(),
        },
    })
    .unwrap();
    assert_eq!(kit.status(), Status::Completed);
    assert_eq!(
        kit.saga.output(),
        Some(&Data::from(json!({ "by": "hand" })))
    );
    insta::assert_snapshot!(kit.told);
}

#[test]
fn an_undo_that_fails_is_tried_again_and_parked_at_last() {
    let mut kit = Kit::begin(&abc(), json!({}));
    kit.succeed("A", json!({}));
    kit.fail("B", "Declined", true);
    let mut failures = 0;
    while kit.status() == Status::Compensating {
        let before = kit.now;
        kit.reply("A", true, failure("Unreachable", false));
        failures += 1;
        if kit.status() == Status::Compensating {
            kit.tick();
            assert!(kit.now - before <= 60_000, "at most a minute apart");
        }
    }
    assert_eq!(failures, 20);
    assert_eq!(kit.saga.parked()[0].reason, ParkReason::Compensation);
    kit.act(Action::Retry { step: None }).unwrap();
    kit.undone("A");
    assert_eq!(kit.status(), Status::Compensated);
}

#[test]
fn an_undo_that_is_declined_for_certain_is_parked_at_once_and_repaired_by_hand() {
    let mut kit = Kit::begin(&abc(), json!({}));
    kit.succeed("A", json!({}));
    kit.fail("B", "Declined", true);
    kit.reply("A", true, failure("RefundRefused", true));
    assert_eq!(kit.status(), Status::Parked);
    kit.act(Action::Mark {
        step: None,
        mark: Mark::Compensated,
    })
    .unwrap();
    assert_eq!(kit.status(), Status::Compensated);
}

#[test]
fn retries_wait_longer_each_time_and_a_caught_error_undoes_nothing() {
    let mut definition = abc();
    let b = &mut definition["States"]["B"];
    b["Retry"] = json!([{ "ErrorEquals": ["Flaky"], "IntervalSeconds": 2, "MaxAttempts": 2, "BackoffRate": 3 }]);
    b["Catch"] = json!([{ "ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "C" }]);
    let mut kit = Kit::begin(&definition, json!({ "x": 1 }));
    kit.succeed("A", json!({ "x": 2 }));
    for seconds in [2, 6] {
        let before = kit.now;
        kit.fail("B", "Flaky", false);
        kit.tick();
        assert_eq!(kit.now - before, seconds * 1_000);
    }
    kit.fail("B", "Flaky", false);
    let input = json!({ "x": 2, "error": { "Error": "Flaky", "Cause": "because" } });
    assert_eq!(*kit.command("C", false).arguments, input);
    kit.fail("C", "Declined", true);
    assert_eq!(kit.sent()[5..], ["-B"], "its outcome is unknown still");
    kit.undone("B");
    kit.undone("A");
    assert_eq!(kit.status(), Status::Compensated);
}

#[test]
fn what_takes_too_long_or_is_silent_is_given_up_and_a_stale_answer_is_fenced() {
    let definition = json!({
        "StartAt": "A",
        "States": { "A": {
            "Type": "Task", "Resource": "wharf:topic:a", "TimeoutSeconds": 10,
            "HeartbeatSeconds": 3, "End": true,
            "Retry": [{ "ErrorEquals": ["States.Timeout"], "IntervalSeconds": 1 }],
        } },
    });
    let mut kit = Kit::begin(&definition, json!({}));
    let first = kit.command("A", false);
    kit.now += 2_000;
    kit.reply("A", false, Outcome::Heartbeat);
    kit.tick();
    assert_eq!(
        kit.now - 1_795_320_000_000,
        5_000,
        "silent for three seconds"
    );
    kit.tick();
    let second = kit.command("A", false);
    assert_eq!((second.attempt, second.generation), (2, 2));
    let stale = |kit: &mut Kit| {
        kit.give(Input::Reply {
            step: first.step,
            generation: first.generation,
            outcome: Outcome::Success(Data::null()),
        })
    };
    let decision = stale(&mut kit).unwrap();
    assert!(decision.effects(&kit.saga).is_empty());
    assert!(matches!(stale(&mut kit), Err(Refusal::Stale { .. })));
    kit.succeed("A", json!(1));
    assert_eq!(kit.status(), Status::Completed);
    insta::assert_snapshot!(kit.told);
}

#[test]
fn a_map_runs_so_many_items_at_once_tolerates_failures_and_is_undone_the_same_way() {
    let definition = json!({
        "StartAt": "Each",
        "States": {
            "Each": {
                "Type": "Map", "ItemsPath": "$.items", "MaxConcurrency": 2,
                "ItemSelector": { "n.$": "$$.Map.Item.Value", "i.$": "$$.Map.Item.Index" },
                "ToleratedFailureCount": 1,
                "ItemProcessor": { "StartAt": "One", "States": { "One": task("one", None) } },
                "Next": "Last",
            },
            "Last": task("last", None),
        },
    });
    let mut kit = Kit::begin(&definition, json!({ "items": [7, 8, 9] }));
    assert_eq!(kit.sent().len(), 2);
    assert_eq!(
        *kit.command("One", false).arguments,
        json!({ "n": 8, "i": 1 })
    );
    kit.fail("One", "Bad", true);
    kit.succeed("One", json!("nine"));
    let first = kit.commands[0].clone();
    kit.give(Input::Reply {
        step: first.step,
        generation: first.generation,
        outcome: Outcome::Success(json!("seven").into()),
    })
    .unwrap();
    assert_eq!(
        *kit.command("Last", false).arguments,
        json!(["seven", { "Error": "Bad", "Cause": "because" }, "nine"])
    );
    kit.fail("Last", "Declined", true);
    assert_eq!(kit.sent()[4..], ["-One", "-One"]);
}

#[test]
fn a_paused_saga_keeps_answers_and_goes_on_with_them() {
    let mut kit = Kit::begin(&abc(), json!({}));
    kit.act(Action::Pause).unwrap();
    assert_eq!(kit.act(Action::Pause), Err(Refusal::AlreadyPaused));
    kit.succeed("A", json!({ "kept": 1 }));
    assert_eq!(kit.saga.kept(), 1);
    assert_eq!(kit.saga.due(), None);
    assert_eq!(kit.sent(), ["A"]);
    kit.act(Action::Resume).unwrap();
    assert_eq!(kit.sent(), ["A", "B"]);
    assert_eq!(*kit.command("B", false).arguments, json!({ "kept": 1 }));
}

#[test]
fn an_abort_undoes_everything_and_says_so() {
    let mut kit = Kit::begin(&abc(), json!({}));
    kit.succeed("A", json!({}));
    kit.act(Action::Abort).unwrap();
    assert_eq!(kit.act(Action::Abort), Err(Refusal::AlreadyCompensating));
    kit.undone("B");
    kit.undone("A");
    assert_eq!(kit.status(), Status::AbortedByOperator);
    assert_eq!(
        kit.act(Action::Pause),
        Err(Refusal::Ended(Status::AbortedByOperator))
    );
}

#[test]
fn signals_wait_for_whom_asks_and_who_asks_waits_for_them() {
    let signal = |next: &str| json!({ "Type": "Task", "Resource": "wharf:signal:go", "Next": next, "TimeoutSeconds": 60 });
    let definition = json!({
        "StartAt": "A",
        "States": { "A": signal("B"), "B": signal("C"), "C": { "Type": "Succeed" } },
    });
    let mut kit = Kit::begin(&definition, json!({}));
    let send = |kit: &mut Kit, payload| {
        kit.give(Input::Signal {
            name: "go".to_owned(),
            payload: Data::from(payload),
        })
    };
    send(&mut kit, json!(1)).unwrap();
    assert_eq!(kit.saga.current()[0].doing, "listening");
    kit.tick();
    assert_eq!(kit.status(), Status::Compensated, "B timed out");

    let mut kit = Kit::new(&definition);
    kit.start(json!({}));
    kit.act(Action::Pause).unwrap();
    for number in 0..100 {
        send(&mut kit, json!(number)).unwrap();
    }
    assert!(matches!(
        send(&mut kit, json!(0)),
        Err(Refusal::TooManySignals { .. })
    ));
    kit.act(Action::Resume).unwrap();
    assert_eq!(kit.saga.output(), Some(&Data::from(json!(1))));
}

#[test]
fn the_deadline_undoes_once_or_parks() {
    let mut definition = abc();
    definition["Saga"] = json!({ "DeadlineSeconds": 30 });
    let mut kit = Kit::begin(&definition, json!({}));
    kit.succeed("A", json!({}));
    kit.tick();
    assert_eq!(kit.sent(), ["A", "B", "-B"]);
    assert_eq!(kit.saga.due(), None, "it fires once");

    definition["Saga"] = json!({ "DeadlineSeconds": 30, "OnDeadline": "Park" });
    let mut kit = Kit::begin(&definition, json!({}));
    kit.tick();
    assert_eq!(kit.status(), Status::Parked);
    kit.succeed("A", json!({}));
    kit.act(Action::Resume).unwrap();
    assert_eq!(kit.status(), Status::Running);
    assert_eq!(kit.sent(), ["A", "B"]);
}

#[test]
fn a_loop_without_a_wait_does_not_hang_and_is_forgotten_as_it_goes() {
    let definition = json!({
        "StartAt": "Again",
        "States": { "Again": { "Type": "Pass", "Next": "Choose" }, "Choose": {
            "Type": "Choice", "Default": "Again",
            "Choices": [{ "Variable": "$.end", "BooleanEquals": true, "Next": "Done" }],
        }, "Done": { "Type": "Succeed" } },
    });
    let mut kit = Kit::begin(&definition, json!({ "end": false }));
    for _ in 0..3 {
        kit.tick();
        kit.told.clear();
    }
    assert!(serde_json::to_string(&kit.saga).unwrap().len() < 2_000);
    kit.act(Action::Abort).unwrap();
    assert_eq!(kit.status(), Status::AbortedByOperator);
}

#[test]
fn variables_are_seen_from_the_next_state_on_and_inside_branches() {
    let definition = json!({
        "QueryLanguage": "JSONata",
        "StartAt": "Set",
        "States": {
            "Set": { "Type": "Pass", "Assign": { "who": "{% $states.input.name %}" }, "Next": "Each" },
            "Each": {
                "Type": "Map", "Items": "{% [1, 2] %}", "End": true,
                "Output": "{% $sum($states.result) %}",
                "ItemProcessor": { "StartAt": "One", "States": { "One": {
                    "Type": "Task", "Resource": "wharf:topic:one", "End": true,
                    "Arguments": { "who": "{% $who %}", "n": "{% $states.context.Map.Item.Value %}",
                                   "run": "{% $states.context.Execution.Name %}" },
                    "Output": "{% $states.result.n * 10 %}",
                } } },
            },
        },
    });
    let mut kit = Kit::begin(&definition, json!({ "name": "ann" }));
    assert_eq!(
        *kit.commands[1].arguments,
        json!({ "who": "ann", "n": 2, "run": "one" })
    );
    for command in kit.commands.clone() {
        let output = json!({ "n": command.arguments["n"] });
        kit.give(Input::Reply {
            step: command.step,
            generation: command.generation,
            outcome: Outcome::Success(output.into()),
        })
        .unwrap();
    }
    assert_eq!(kit.saga.output(), Some(&Data::from(json!(30))));
}

#[test]
fn an_undo_whose_arguments_cannot_be_worked_out_is_parked_with_the_reason() {
    let mut definition = abc();
    definition["States"]["A"]["Compensate"]["Parameters"] = json!({ "id.$": "$.result.id" });
    let mut kit = Kit::begin(&definition, json!({}));
    kit.succeed("A", json!({ "other": 1 }));
    kit.fail("B", "Declined", true);
    let parked = kit.saga.parked();
    assert_eq!(parked[0].reason, ParkReason::Expression);
    assert!(
        parked[0].cause.contains("$.result.id"),
        "{}",
        parked[0].cause
    );
    kit.act(Action::Mark {
        step: None,
        mark: Mark::Completed {
            output: json!({ "id": 9 }).into(),
        },
    })
    .unwrap();
    assert_eq!(*kit.command("A", true).arguments, json!({ "id": 9 }));
}

#[test]
fn a_task_with_a_limit_waits_for_its_slot() {
    let mut definition = abc();
    definition["States"]["A"]["ConcurrencyLimit"] = json!(1);
    let mut kit = Kit::begin(&definition, json!({}));
    assert!(kit.sent().is_empty());
    assert!(kit.saga.open()[0].held);
    kit.give(Input::Admit { step: 1 }).unwrap();
    assert_eq!(kit.sent(), ["A"]);
    assert_eq!(
        kit.give(Input::Admit { step: 1 }),
        Err(Refusal::NotHeld { step: 1 })
    );
}

#[test]
fn the_timeline_shows_every_attempt() {
    let mut kit = Kit::begin(&abc(), json!({ "order": 1 }));
    kit.now += 1_000;
    kit.succeed("A", json!({ "a": 1 }));
    kit.now += 1_000;
    kit.fail("B", "Declined", true);
    kit.now += 1_000;
    kit.undone("A");
    let rows = wharf_saga::machine::timeline(&kit.facts);
    let rows: Vec<String> = rows
        .iter()
        .map(|row| serde_json::to_string(row).unwrap())
        .collect();
    insta::assert_snapshot!(rows.join("\n"));
}
