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

fn page(facts: &[Fact], machine: Option<&Machine>, window: Window) -> (Vec<Event>, Option<u64>) {
    let about = About::default();
    let mut events = Events::new(machine, &about, window);
    facts.iter().for_each(|fact| events.take(fact));
    events.page()
}

fn events(facts: &[Fact], machine: Option<&Machine>) -> Vec<Event> {
    page(facts, machine, Window::new(1_000, None, false)).0
}

#[test]
fn pages_of_either_direction_add_up_to_the_whole_history() {
    let facts: Vec<_> = (1..=20).map(|step| fact(0, entered(step, "Pay"))).collect();
    let whole = events(&facts, None);
    assert_eq!(whole.len(), 20);
    for size in [1, 3, 7, 19, 20, 21] {
        for is_backwards in [false, true] {
            let (mut all, mut from) = (Vec::new(), None);
            loop {
                let window = Window::new(size, from, is_backwards);
                let (events, next) = page(&facts, None, window);
                assert!(events.len() <= size);
                all.extend(events);
                if next.is_none() {
                    break;
                }
                from = next;
            }
            if is_backwards {
                all.reverse();
            }
            assert_eq!(all, whole);
        }
    }
}

#[test]
fn a_page_of_large_events_ends_before_its_limit() {
    let started = |step| {
        let what = What::Left(Box::new(Left {
            step,
            output: Data::from(json!("x".repeat(1 << 20))),
            next: Some("Pay".to_owned()),
            assign: std::collections::BTreeMap::new(),
            caught: false,
            node: false,
            whole: false,
            pivot: false,
        }));
        [fact(0, entered(step, "Pay")), fact(0, what)]
    };
    let facts: Vec<_> = (1..=30).flat_map(started).collect();
    let (events, next) = page(&facts, None, Window::new(1_000, None, false));
    assert!(events.len() < 20 && next.is_some(), "{}", events.len());
    let (events, next) = page(&facts, None, Window::new(1_000, None, true));
    assert!(events.len() < 20 && next.is_some(), "{}", events.len());
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
    let events = events(&facts, machine);
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
