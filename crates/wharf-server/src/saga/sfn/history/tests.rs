//! The words that facts become.

use wharf_saga::machine::Trigger;

use super::*;

fn fact(at: i64, what: What) -> Fact {
    Fact {
        at: Timestamp::from_millis(at),
        what,
    }
}

fn entered(step: u32, state: &str) -> What {
    What::Entered {
        step,
        scope: 0,
        state: state.to_owned(),
        undoable: true,
    }
}

fn dispatched(step: u32, generation: u32, undo: bool, resource: &str) -> What {
    What::Dispatched(Box::new(Dispatched {
        step,
        attempt: 1,
        generation,
        undo,
        state: "Pay".to_owned(),
        resource: resource.to_owned(),
        arguments: Data::from(json!({ "sum": 5 })),
        timeout: Some(Timestamp::from_millis(60_000)),
        heartbeat: None,
    }))
}

#[test]
fn an_undo_is_shown_as_a_task_state_of_its_own() {
    let machine = json!({ "StartAt": "Pay", "States": { "Pay": {
        "Type": "Task", "Resource": "wharf:topic:pay", "TimeoutSeconds": 60, "End": true,
        "Compensate": { "Resource": "wharf:activity:refund", "TimeoutSeconds": 60 },
    } } });
    let accepted = wharf_saga::definition::Definition::of(&machine).unwrap();
    let facts = [
        fact(0, entered(1, "Pay")),
        fact(0, dispatched(1, 1, false, "wharf:topic:pay")),
        fact(
            1_500,
            What::Compensating {
                trigger: Trigger::Operator,
                error: "Saga.Aborted".to_owned(),
                cause: String::new(),
            },
        ),
        fact(2_000, dispatched(1, 2, true, "wharf:activity:refund")),
    ];
    let machine = Some(&accepted.definition.machine);
    let events = events(&facts, machine, &About::default());
    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    let wanted = [
        "TaskStateEntered",
        "TaskScheduled",
        "TaskStarted",
        "TaskStateEntered",
        "ActivityScheduled",
    ];
    assert_eq!(kinds, wanted);
    let shown = events[3].shown(true);
    assert_eq!(shown["stateEnteredEventDetails"]["name"], "Pay (undo)");
    assert_eq!(
        (&shown["id"], &shown["previousEventId"]),
        (&json!(4), &json!(3))
    );
    assert_eq!(shown["timestamp"], json!(2.0));
    let scheduled = events[1].shown(true);
    let details = &scheduled["taskScheduledEventDetails"];
    assert_eq!(
        (&details["resourceType"], &details["resource"]),
        (&json!("topic"), &json!("pay"))
    );
    assert_eq!(details["timeoutInSeconds"], 60);
    let bare = events[1].shown(false);
    assert_eq!(bare["taskScheduledEventDetails"].get("parameters"), None);
}

#[test]
fn every_resource_has_the_events_that_clients_look_for() {
    for (resource, expected) in [
        ("wharf:activity:pack", "Activity"),
        ("arn:aws:states:eu-west-1:1:activity:pack", "Activity"),
        ("arn:aws:lambda:eu-west-1:1:function:pay", "LambdaFunction"),
        ("arn:aws:states:::lambda:invoke", "Task"),
        ("wharf:http:http://localhost/pay", "Task"),
    ] {
        assert_eq!(family(resource).0, expected, "{resource}");
    }
}
