//! Sub-sagas, and Parallels with an undo of their own.

use serde_json::{Value, json};
use wharf_saga::machine::{
    Action, ChildEnd, Command, Data, Effect, Failure, Input, Parent, Refusal, SagaId, Start, Status,
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
    let asked: Vec<_> = kit.saga.aborting().iter().map(Command::token).collect();
    assert_eq!(asked, [child.token()], "it can be asked again");
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

#[test]
fn the_end_of_a_sub_saga_that_was_given_up_says_nothing_about_the_one_after_it() {
    let definition = json!({ "StartAt": "Inside", "States": { "Inside": {
        "Type": "Task", "Resource": "wharf:saga:child", "TimeoutSeconds": 5, "End": true,
        "Retry": [{ "ErrorEquals": ["States.Timeout"], "IntervalSeconds": 1 }],
    } } });
    let mut kit = Kit::begin(&definition, json!({}));
    let first = kit.command("Inside", false);
    kit.tick();
    kit.tick();
    let second = kit.command("Inside", false);
    assert!(second.generation > first.generation);
    let ended = |command: &Command, output: Value| Input::ChildEnded {
        step: command.step,
        generation: command.generation,
        end: ChildEnd::Completed(Data::from(output)),
    };
    // It is recorded, or refused.
    drop(kit.give(ended(&first, json!("too late"))));
    assert_eq!(kit.status(), Status::Running);
    let awaited = kit.saga.sub_saga(second.step, second.generation).unwrap();
    assert_eq!((awaited.token(), awaited.attempt), (second.token(), 2));
    kit.give(ended(&second, json!("in time"))).unwrap();
    assert_eq!(kit.status(), Status::Completed);
    assert_eq!(kit.saga.output(), Some(&Data::from(json!("in time"))));
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
