//! Sub-sagas, and Parallels with an undo of their own.

use serde_json::{Value, json};
use wharf_saga::machine::{
    Action, ChildEnd, Command, Data, Effect, Failure, Input, Parent, Refusal, SagaId, Start,
    Status, TaskToken,
};

use super::kit::Kit;
use super::scenarios::{task, two_branches};

#[test]
fn a_parallel_with_an_undo_of_its_own_is_undone_as_a_whole() {
    let mut definition = two_branches();
    definition["States"]["Both"]["End"] = Value::Null;
    let both = definition["States"]["Both"].as_object_mut().unwrap();
    both.remove("End");
    both.insert("Next".to_owned(), json!("Last"));
    both.insert(
        "Compensate".to_owned(),
        json!({ "Resource": "wharf:topic:undo-both" }),
    );
    definition["States"]["Last"] = task("last", None);
    let mut kit = Kit::begin(&definition, json!({}));
    kit.succeed("L", json!(1));
    kit.succeed("R", json!(2));
    kit.fail("Last", "Declined", true);
    assert_eq!(kit.sent()[3..], ["-Both"]);
    assert_eq!(kit.command("Both", true).arguments["result"], json!([1, 2]));
    kit.undone("Both");
    assert_eq!(kit.status(), Status::Compensated);

    let mut kit = Kit::begin(&definition, json!({}));
    kit.succeed("L", json!(1));
    kit.fail("R", "Declined", true);
    assert_eq!(kit.sent()[2..], ["-L"], "it had not completed");
}

#[test]
fn a_sub_saga_is_asked_to_abort_and_waited_for() {
    let mut definition = two_branches();
    let r = &mut definition["States"]["Both"]["Branches"][1]["States"]["R"];
    r["Resource"] = json!("wharf:saga:child");
    let mut kit = Kit::begin(&definition, json!({}));
    assert!(matches!(kit.effects[1], Effect::StartChild(_)));
    kit.fail("L", "Declined", true);
    assert_eq!(kit.status(), Status::Compensating);
    assert_eq!(kit.sent(), ["L", "R"]);
    assert!(
        kit.effects
            .iter()
            .any(|effect| matches!(effect, Effect::AbortChild(_)))
    );
    let child = kit.command("R", false);
    assert_eq!(given_up(&kit), [child.token()], "it can be asked again");
    kit.give(Input::ChildEnded {
        step: child.step,
        generation: child.generation,
        end: ChildEnd::Aborted(Failure {
            error: "Saga.Aborted".to_owned(),
            cause: String::new(),
            declared: false,
        }),
    })
    .unwrap();
    assert_eq!(kit.status(), Status::Compensated, "the child undid itself");
}

/// A saga of one sub-saga that is tried again when it takes too long.
fn tried_again() -> Value {
    json!({ "StartAt": "Inside", "States": { "Inside": {
        "Type": "Task", "Resource": "wharf:saga:child", "TimeoutSeconds": 5, "End": true,
        "Retry": [{ "ErrorEquals": ["States.Timeout"], "IntervalSeconds": 1 }],
    } } })
}

fn completed(command: &Command, output: Value) -> Input {
    Input::ChildEnded {
        step: command.step,
        generation: command.generation,
        end: ChildEnd::Completed(Data::from(output)),
    }
}

fn undone(command: &Command) -> Input {
    Input::ChildEnded {
        step: command.step,
        generation: command.generation,
        end: ChildEnd::Aborted(Failure {
            error: "Saga.Aborted".to_owned(),
            cause: String::new(),
            declared: true,
        }),
    }
}

/// The dispatches that were given up and whose sub-sagas have not ended.
fn given_up(kit: &Kit) -> Vec<TaskToken> {
    let all = kit.saga.sub_sagas().into_iter();
    let given_up = all.filter(|sub_saga| sub_saga.is_given_up);
    given_up.map(|sub_saga| sub_saga.command.token()).collect()
}

#[test]
fn a_sub_saga_that_was_given_up_has_ended_before_the_next_is_asked_for() {
    let mut kit = Kit::begin(&tried_again(), json!({}));
    let first = kit.command("Inside", false);
    kit.tick();
    assert_eq!(given_up(&kit), [first.token()], "it can be asked again");
    assert_eq!(kit.saga.due(), None, "the next attempt waits for its end");
    kit.now += 60_000;
    kit.give(undone(&first)).unwrap();
    kit.tick();
    let second = kit.command("Inside", false);
    assert_eq!((second.attempt, given_up(&kit)), (2, Vec::new()));
    // What the first says again is recorded, or refused.
    drop(kit.give(completed(&first, json!("too late"))));
    assert_eq!(kit.status(), Status::Running);
    kit.give(completed(&second, json!("in time"))).unwrap();
    assert_eq!(kit.saga.output(), Some(&Data::from(json!("in time"))));
}

#[test]
fn a_sub_saga_that_was_given_up_and_completed_all_the_same_is_the_result_of_its_step() {
    let mut kit = Kit::begin(&tried_again(), json!({}));
    let first = kit.command("Inside", false);
    kit.tick();
    kit.give(completed(&first, json!("late"))).unwrap();
    assert_eq!(kit.sent(), ["Inside"]);
    assert_eq!(kit.saga.output(), Some(&Data::from(json!("late"))));
}

#[test]
fn a_person_who_retries_a_parked_step_waits_for_the_sub_saga_that_it_gave_up() {
    let mut definition = tried_again();
    let inside = definition["States"]["Inside"].as_object_mut().unwrap();
    inside.remove("Retry");
    definition["Saga"] = json!({ "CompensateOn": ["Other"] });
    let mut kit = Kit::begin(&definition, json!({}));
    let first = kit.command("Inside", false);
    kit.tick();
    assert_eq!(kit.status(), Status::Parked);
    kit.act(Action::Retry { step: None }).unwrap();
    assert_eq!(kit.sent(), ["Inside"], "the first has not ended");
    kit.give(undone(&first)).unwrap();
    assert_eq!(kit.sent(), ["Inside", "Inside"]);
}

#[test]
fn an_undo_that_is_a_sub_saga_is_not_asked_for_twice_at_once() {
    let definition = json!({ "StartAt": "A", "States": {
        "A": { "Type": "Task", "Resource": "wharf:topic:a", "Next": "B",
               "Compensate": { "Resource": "wharf:saga:refund", "TimeoutSeconds": 5 } },
        "B": { "Type": "Task", "Resource": "wharf:topic:b", "End": true },
    } });
    let mut kit = Kit::begin(&definition, json!({}));
    kit.succeed("A", json!("a"));
    kit.fail("B", "Broken", true);
    let first = kit.command("A", true);
    assert!(matches!(kit.effects.last(), Some(Effect::StartChild(_))));
    kit.tick();
    assert!(matches!(kit.effects.last(), Some(Effect::AbortChild(_))));
    assert_eq!(given_up(&kit), [first.token()]);
    assert!(kit.saga.sub_sagas()[0].command.undo);
    assert_eq!(kit.saga.due(), None);
    // The undo was itself undone, so it is asked for again.
    kit.give(undone(&first)).unwrap();
    kit.tick();
    let second = kit.command("A", true);
    assert_eq!(second.attempt, 2);
    kit.tick();
    // This one was done before it heard that nobody waits for it.
    kit.give(completed(&second, json!({}))).unwrap();
    assert_eq!(kit.sent(), ["A", "B", "-A", "-A"]);
    assert_eq!(kit.status(), Status::Compensated);
}

/// A saga whose pivot is a sub-saga, behind a step with an undo.
fn pivot() -> Value {
    json!({ "StartAt": "A", "Saga": { "Pivot": "Inside" }, "States": {
        "A": { "Type": "Task", "Resource": "wharf:topic:a", "Next": "Inside",
               "Compensate": { "Resource": "wharf:topic:undo-a" } },
        "Inside": { "Type": "Task", "Resource": "wharf:saga:child", "TimeoutSeconds": 5, "End": true },
    } })
}

#[test]
fn a_pivot_that_is_a_sub_saga_is_waited_for_before_anything_is_undone() {
    for (deadline, aborts) in [(3, false), (60, true), (60, false)] {
        let mut definition = pivot();
        definition["Saga"]["DeadlineSeconds"] = json!(deadline);
        let give_up = |kit: &mut Kit| {
            kit.succeed("A", json!("a"));
            match aborts {
                true => drop(kit.act(Action::Abort).unwrap()),
                false => kit.tick(),
            }
            let child = kit.command("Inside", false);
            assert_eq!(given_up(kit), [child.token()]);
            assert_eq!(kit.sent(), ["A", "Inside"], "nothing is undone yet");
            child
        };
        let mut kit = Kit::begin(&definition, json!({}));
        let child = give_up(&mut kit);
        kit.give(completed(&child, json!("done"))).unwrap();
        assert_eq!(kit.status(), Status::Completed, "the pivot was done");

        let mut kit = Kit::begin(&definition, json!({}));
        let child = give_up(&mut kit);
        kit.give(undone(&child)).unwrap();
        assert_eq!(kit.sent(), ["A", "Inside", "-A"]);
        kit.undone("A");
        let ended = match aborts {
            true => Status::AbortedByOperator,
            false => Status::Compensated,
        };
        assert_eq!(kit.status(), ended);
    }
}

#[test]
fn a_sub_saga_whose_parent_was_told_of_its_end_is_not_redriven() {
    let definition = json!({
        "StartAt": "A",
        "States": { "A": { "Type": "Task", "Resource": "wharf:topic:a", "End": true } },
    });
    let mut kit = Kit::new(&definition);
    let start = Start {
        id: SagaId::of("test", "child"),
        saga_type: "test".to_owned(),
        definition: kit.definition.hash,
        key: "child".to_owned(),
        input: json!({}).into(),
        correlation: None,
        traceparent: None,
        attributes: std::collections::BTreeMap::new(),
        parent: Some(Parent {
            saga: SagaId::of("test", "parent"),
            step: 1,
            generation: 1,
        }),
    };
    kit.give(Input::Start(start)).unwrap();
    kit.fail("A", "Broken", false);
    assert_eq!(kit.status(), Status::Compensated);
    assert!(matches!(
        kit.act(Action::Redrive),
        Err(Refusal::NotRedrivable(_))
    ));
}

#[test]
fn a_map_of_which_more_items_fail_than_it_tolerates_fails_with_that_whoever_deals_with_it() {
    let mut definition = json!({
        "StartAt": "Each",
        "States": {
            "Each": {
                "Type": "Map", "ItemsPath": "$.items", "MaxConcurrency": 1,
                "ToleratedFailureCount": 1, "End": true,
                "ItemProcessor": { "StartAt": "One", "States": { "One": task("one", None) } },
            },
            "Caught": task("caught", None),
        },
    });
    let exceeded = "States.ExceedToleratedFailureThreshold";
    let items = json!({ "items": [7, 8] });
    let caught = json!([{ "ErrorEquals": [exceeded], "Next": "Caught" }]);
    definition["States"]["Each"]["Catch"] = caught;
    let mut kit = Kit::begin(&definition, items.clone());
    kit.fail("One", "Bad", true);
    kit.fail("One", "Worse", true);
    assert_eq!(kit.command("Caught", false).arguments["Error"], exceeded);

    definition["States"]["Each"]["Catch"] = json!([]);
    definition["States"]
        .as_object_mut()
        .unwrap()
        .remove("Caught");
    let mut kit = Kit::begin(&definition, items);
    kit.fail("One", "Bad", true);
    kit.fail("One", "Worse", true);
    assert_eq!(kit.status(), Status::Compensated);
    let (error, cause) = kit.saga.error().unwrap();
    assert_eq!(error, exceeded);
    assert!(cause.contains("Worse"), "{cause}");
}
