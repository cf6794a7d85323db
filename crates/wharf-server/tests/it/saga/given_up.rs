//! Sub-sagas that nobody waits for any more: they are undone, and waited for until they are.

use serde_json::{Value, json};

use super::kafka::{Command, Worker};
use super::nested::{child_of, delivery, parent};
use super::{act, config, deploy, node, read, start, until};
use crate::node::outside;

fn answer(worker: &mut Worker, command: &Command, output: &Value) {
    worker.answer(command, "SUCCESS", output);
}

#[tokio::test]
async fn a_sub_saga_that_took_too_long_is_undone_before_its_step_is_tried_again() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, kafka) = node(config(data.path())).await;
    outside(move || {
        let mut order = parent();
        order["States"]["Delivery"]["TimeoutSeconds"] = json!(1);
        order["States"]["Delivery"]["Retry"] =
            json!([{ "ErrorEquals": ["States.Timeout"], "IntervalSeconds": 1 }]);
        deploy(http, "delivery", &delivery());
        deploy(http, "order", &order);
        let id = start(http, "order", "1", &json!({}));
        let (mut book, mut cancel) = (Worker::new(kafka, "book"), Worker::new(kafka, "cancel"));
        let first = book.take();
        answer(&mut book, &first, &json!("b-1"));
        // It was given up, and undoes what it did.
        let undo = cancel.take();
        assert_eq!(undo.header("saga-id"), first.header("saga-id"));
        let told = read(http, &format!("/api/v1/sagas/{id}"));
        assert_eq!(told["current"][0]["doing"], "backoff", "{told}");
        assert_eq!(told["current"][0]["until"], Value::Null, "{told}");
        assert_eq!(told["sub_sagas"]["open"], 1, "{told}");
        answer(&mut cancel, &undo, &Value::Null);
        let second = book.take();
        assert_ne!(second.header("saga-id"), first.header("saga-id"));
        until(
            http,
            first.header("saga-id").unwrap(),
            "ABORTED_BY_OPERATOR",
        );
        // The second is given up as well, but its undo may wait: nothing else is asked for.
        act(http, &id, "abort", &json!({}));
        answer(&mut book, &second, &json!("b-2"));
        let undo = cancel.take();
        assert_eq!(undo.header("saga-id"), second.header("saga-id"));
        answer(&mut cancel, &undo, &Value::Null);
        let told = until(http, &id, "ABORTED_BY_OPERATOR");
        assert_eq!(told["sub_sagas"], Value::Null, "{told}");
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_parked_sub_saga_keeps_its_parent_waiting_for_all_to_see_until_a_person_repairs_it() {
    let data = tempfile::tempdir().unwrap();
    let (first, http, kafka) = node(config(data.path())).await;
    let (id, child) = outside(move || {
        deploy(http, "delivery", &delivery());
        deploy(http, "order", &parent());
        let id = start(http, "order", "1", &json!({}));
        let (mut book, mut cancel) = (Worker::new(kafka, "book"), Worker::new(kafka, "cancel"));
        let command = book.take();
        answer(&mut book, &command, &json!("b-1"));
        Worker::new(kafka, "load").take();
        assert_eq!(act(http, &id, "abort", &json!({})).0, 200);
        let undo = cancel.take();
        cancel.answer(&undo, "BUSINESS_FAILURE", &json!({ "error": "NotMine" }));
        let child = child_of(http, &id)["id"].as_str().unwrap().to_owned();
        until(http, &child, "PARKED");
        (id, child)
    })
    .await;
    first.shutdown().await.unwrap();
    let (second, http, _) = node(config(data.path())).await;
    outside(move || {
        let told = read(http, &format!("/api/v1/sagas/{id}"));
        assert_eq!(told["status"], "COMPENSATING", "{told}");
        assert_eq!(told["current"][0]["doing"], "aborting", "{told}");
        let waits = json!({ "open": 1, "sagas": [{
            "id": child, "type": "delivery", "status": "PARKED",
            "parked": ["compensation: NotMine"],
        }] });
        assert_eq!(told["sub_sagas"], waits);
        let timeline = read(http, &format!("/api/v1/sagas/{id}/timeline"));
        assert_eq!(timeline["sub_sagas"], waits);
        let listed = read(http, "/api/v1/sagas?type=order");
        assert_eq!(listed["sagas"][0]["sub_sagas"], waits, "{listed}");
        let mark = json!({ "as": "compensated" });
        let (status, told) = act(http, &child, "mark", &mark);
        assert_eq!(status, 200, "{told}");
        until(http, &child, "ABORTED_BY_OPERATOR");
        until(http, &id, "ABORTED_BY_OPERATOR");
    })
    .await;
    second.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_execution_that_is_waited_for_is_aborted_with_the_one_that_started_it() {
    let data = tempfile::tempdir().unwrap();
    let (first, http, kafka) = node(config(data.path())).await;
    let (stopped, kept) = outside(move || {
        let machine = "arn:aws:states:us-east-1:000000000000:stateMachine:delivery";
        let starts = |form: &str| {
            json!({ "StartAt": "Deliver", "States": { "Deliver": {
                "Type": "Task",
                "Resource": format!("arn:aws:states:::states:startExecution{form}"),
                "Parameters": { "StateMachineArn": machine, "Input": {} },
                "TimeoutSeconds": 60,
                "Next": "Rest",
            }, "Rest": { "Type": "Wait", "Seconds": 600, "End": true } } })
        };
        deploy(http, "delivery", &delivery());
        deploy(http, "waits", &starts(".sync:2"));
        deploy(http, "goes-on", &starts(""));
        let mut book = Worker::new(kafka, "book");
        let mut begun = |name: &str| {
            let id = start(http, name, "1", &json!({}));
            let command = book.take();
            (id, command.header("saga-id").unwrap().to_owned())
        };
        (begun("waits"), begun("goes-on"))
    })
    .await;
    first.shutdown().await.unwrap();
    let (second, http, _) = node(config(data.path())).await;
    outside(move || {
        for (parent, _) in [&stopped, &kept] {
            assert_eq!(act(http, parent, "abort", &json!({})).0, 200);
            until(http, parent, "ABORTED_BY_OPERATOR");
        }
        until(http, &stopped.1, "COMPENSATING");
        until(http, &kept.1, "RUNNING");
    })
    .await;
    second.shutdown().await.unwrap();
}
