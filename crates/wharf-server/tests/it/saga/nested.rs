//! Sub-sagas, limits per step, and what comes of strange answers.

use serde_json::{Value, json};

use super::kafka::{Worker, produce, produce_text};
use super::{act, ask, checkout, config, deploy, node, read, start, until};
use crate::client::{Kafka, get};
use crate::node::outside;

/// A saga of one sub-saga and a payment.
pub(super) fn parent() -> Value {
    json!({
        "StartAt": "Delivery",
        "States": {
            "Delivery": {
                "Type": "Task",
                "Resource": "wharf:saga:delivery",
                "TimeoutSeconds": 60,
                "ResultPath": "$.delivery",
                "Compensate": { "Resource": "wharf:topic:recall", "TimeoutSeconds": 60 },
                "Next": "Pay"
            },
            "Pay": { "Type": "Task", "Resource": "wharf:topic:pay", "TimeoutSeconds": 60, "End": true }
        }
    })
}

/// The sub-saga: a step with an undo, and one that decides.
pub(super) fn delivery() -> Value {
    json!({
        "StartAt": "Book",
        "States": {
            "Book": {
                "Type": "Task",
                "Resource": "wharf:topic:book",
                "TimeoutSeconds": 60,
                "ResultPath": "$.booked",
                "Compensate": { "Resource": "wharf:topic:cancel", "TimeoutSeconds": 60 },
                "Next": "Load"
            },
            "Load": { "Type": "Task", "Resource": "wharf:topic:load", "TimeoutSeconds": 60, "ResultPath": "$.loaded", "End": true }
        }
    })
}

/// The sub-saga that runs for the parent.
pub(super) fn child_of(http: std::net::SocketAddr, parent: &str) -> Value {
    let listed = read(http, "/api/v1/sagas?type=delivery");
    let mut sagas = listed["sagas"].as_array().unwrap().iter();
    let child = sagas.find(|saga| saga["parent"] == parent);
    child.unwrap_or_else(|| panic!("{listed}")).clone()
}

#[tokio::test]
async fn a_sub_saga_that_completed_is_undone_by_the_compensate_of_its_step() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, kafka) = node(config(data.path())).await;
    outside(move || {
        deploy(http, "delivery", &delivery());
        deploy(http, "order", &parent());
        let id = start(http, "order", "1", &json!({ "order": 1 }));
        let (mut book, mut load) = (Worker::new(kafka, "book"), Worker::new(kafka, "load"));
        let command = book.take();
        assert_eq!(command.arguments(), json!({ "order": 1 }));
        let child = child_of(http, &id);
        assert_eq!(command.header("saga-id"), child["id"].as_str());
        book.answer(&command, "SUCCESS", &json!("b-1"));
        let command = load.take();
        load.answer(&command, "SUCCESS", &json!("l-1"));
        until(http, child["id"].as_str().unwrap(), "COMPLETED");
        let mut pay = Worker::new(kafka, "pay");
        let command = pay.take();
        assert_eq!(
            command.arguments()["delivery"],
            json!({ "order": 1, "booked": "b-1", "loaded": "l-1" })
        );
        pay.answer(
            &command,
            "BUSINESS_FAILURE",
            &json!({ "error": "Declined" }),
        );
        let mut recall = Worker::new(kafka, "recall");
        let command = recall.take();
        assert_eq!(command.header("undo"), Some("true"));
        assert_eq!(command.arguments()["result"]["booked"], "b-1");
        recall.answer(&command, "SUCCESS", &Value::Null);
        until(http, &id, "COMPENSATED");
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_sub_saga_that_fails_undoes_itself_and_fails_its_step_with_nothing_left_to_undo() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, kafka) = node(config(data.path())).await;
    outside(move || {
        deploy(http, "delivery", &delivery());
        deploy(http, "order", &parent());
        let id = start(http, "order", "1", &json!({}));
        let (mut book, mut load) = (Worker::new(kafka, "book"), Worker::new(kafka, "load"));
        let command = book.take();
        book.answer(&command, "SUCCESS", &json!("b-1"));
        let command = load.take();
        load.answer(&command, "BUSINESS_FAILURE", &json!({ "error": "Full" }));
        let mut cancel = Worker::new(kafka, "cancel");
        let command = cancel.take();
        cancel.answer(&command, "SUCCESS", &Value::Null);
        let told = until(http, &id, "COMPENSATED");
        assert_eq!(told["error"], "Full", "{told}");
        // Undone by itself: the parent's own undo is for one that completed.
        let child = child_of(http, &id);
        assert_eq!(child["status"], "COMPENSATED");
        let timeline = read(http, &format!("/api/v1/sagas/{id}/timeline"));
        let attempts = timeline["steps"][0]["attempts"].as_array().unwrap();
        assert!(
            attempts.iter().all(|one| one["undo"] == false),
            "{timeline}"
        );
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_abort_of_the_parent_reaches_a_sub_saga_under_way_also_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let (first, http, kafka) = node(config(data.path())).await;
    let (id, child) = outside(move || {
        deploy(http, "delivery", &delivery());
        deploy(http, "order", &parent());
        let id = start(http, "order", "1", &json!({}));
        let mut book = Worker::new(kafka, "book");
        let command = book.take();
        book.answer(&command, "SUCCESS", &json!("b-1"));
        Worker::new(kafka, "load").take();
        let child = child_of(http, &id)["id"].as_str().unwrap().to_owned();
        (id, child)
    })
    .await;
    first.shutdown().await.unwrap();
    let (second, http, kafka) = node(config(data.path())).await;
    outside(move || {
        let (status, told) = act(http, &id, "abort", &json!({}));
        assert_eq!(status, 200, "{told}");
        let mut cancel = Worker::new(kafka, "cancel");
        let command = cancel.take();
        assert_eq!(command.header("saga-id"), Some(child.as_str()));
        assert_eq!(
            read(http, &format!("/api/v1/sagas/{id}"))["ended"],
            Value::Null
        );
        cancel.answer(&command, "SUCCESS", &Value::Null);
        until(http, &child, "ABORTED_BY_OPERATOR");
        until(http, &id, "ABORTED_BY_OPERATOR");
    })
    .await;
    second.shutdown().await.unwrap();
}

#[tokio::test]
async fn no_more_sagas_than_the_limit_are_in_a_step_also_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let (first, http, kafka) = node(config(data.path())).await;
    let ids = outside(move || {
        let mut definition = checkout();
        definition["States"]["Reserve"]["ConcurrencyLimit"] = json!(1);
        deploy(http, "checkout", &definition);
        let ids = ["1", "2", "3"].map(|key| start(http, "checkout", key, &json!({})));
        let mut reserve = Worker::new(kafka, "reserve");
        let command = reserve.take();
        assert!(reserve.look().is_none(), "two are in the step");
        reserve.answer(&command, "SUCCESS", &json!("r"));
        reserve.take();
        assert!(reserve.look().is_none(), "two are in the step");
        ids
    })
    .await;
    first.shutdown().await.unwrap();
    let (second, http, kafka) = node(config(data.path())).await;
    outside(move || {
        let mut reserve = Worker::new(kafka, "reserve");
        reserve.take();
        let command = reserve.take();
        assert!(reserve.look().is_none(), "two are in the step");
        let doing = |id: &String| {
            let told = read(http, &format!("/api/v1/sagas/{id}"));
            told["current"][0]["doing"].as_str().unwrap().to_owned()
        };
        let held = ids.iter().filter(|id| doing(id) == "held").count();
        assert_eq!(held, 1);
        reserve.answer(&command, "SUCCESS", &json!("r"));
        let command = reserve.take();
        reserve.answer(&command, "SUCCESS", &json!("r"));
        let mut pay = Worker::new(kafka, "pay");
        for _ in &ids {
            let command = pay.take();
            pay.answer(&command, "SUCCESS", &json!("p"));
        }
        for id in &ids {
            until(http, id, "COMPLETED");
        }
    })
    .await;
    second.shutdown().await.unwrap();
}

#[tokio::test]
async fn answers_for_unknown_and_ended_sagas_change_nothing_and_hold_nobody_up() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, kafka) = node(config(data.path())).await;
    outside(move || {
        deploy(http, "checkout", &checkout());
        let ended = start(http, "checkout", "1", &json!({}));
        let mut reserve = Worker::new(kafka, "reserve");
        let old = reserve.take();
        reserve.answer(&old, "BUSINESS_FAILURE", &json!({ "error": "None" }));
        let before = until(http, &ended, "COMPENSATED");
        let next = start(http, "checkout", "2", &json!({}));
        let command = reserve.take();
        // Of a saga that ended, of one there never was, of a step there is not, and no answer at all.
        reserve.answer(&old, "SUCCESS", &json!("late"));
        let mut client = Kafka::connect(kafka);
        let unknown = "7f6b1c52-93d4-5e0a-8a41-6c0e57a9d1b3";
        for (id, step, said) in [
            (unknown, "1", "SUCCESS"),
            (next.as_str(), "999", "SUCCESS"),
            (next.as_str(), "-1", "SUCCESS"),
            (next.as_str(), "1", "PERHAPS"),
            ("nobody", "1", "SUCCESS"),
        ] {
            let headers = [
                ("saga-id", id),
                ("step", step),
                ("generation", "1"),
                ("saga-reply", said),
            ];
            let topic = "_wharf.saga-replies";
            produce(&mut client, topic, id, &headers, &json!({ "a": 1 }));
        }
        reserve.answer(&command, "SUCCESS", &json!("r"));
        let mut pay = Worker::new(kafka, "pay");
        let command = pay.take();
        pay.answer(&command, "SUCCESS", &json!("p"));
        until(http, &next, "COMPLETED");
        let after = read(http, &format!("/api/v1/sagas/{ended}"));
        assert_eq!(
            (&before["status"], &before["output"], &before["error"]),
            (&after["status"], &after["output"], &after["error"])
        );
        let (_, _, metrics) = get(http, "/metrics");
        assert!(metrics.contains("wharf_saga_ends_total"), "{metrics}");
        for token in [
            format!("{unknown}.1.1"),
            format!("{ended}.1.1"),
            "nonsense".to_owned(),
        ] {
            let place = format!("/api/v1/sagas/callbacks/{token}");
            let (status, told) = ask(http, "POST", &place, &json!({ "output": 1 }));
            assert!(matches!(status, 404 | 409), "{token}: {told}");
        }
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_payload_that_a_worker_checked_in_goes_through_a_saga_as_its_reference() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, kafka) = node(config(data.path())).await;
    outside(move || {
        let task = |topic: &str| json!({ "Type": "Task", "Resource": topic, "TimeoutSeconds": 60 });
        let mut definition = json!({ "StartAt": "Scan", "States": {
            "Scan": task("wharf:topic:scan"), "Print": task("wharf:topic:print") } });
        definition["States"]["Scan"]["Next"] = json!("Print");
        definition["States"]["Print"]["End"] = json!(true);
        deploy(http, "archive", &definition);
        let id = start(http, "archive", "1", &json!({}));
        let command = Worker::new(kafka, "scan").take();
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let target = format!("claim://payloads/{digest}");
        let claim = [
            ("ce_dataref", target.as_str()),
            ("wharf-claim-sha256", digest),
            ("wharf-claim-size", "5000000"),
        ];
        let named = ["saga-id", "step", "generation"];
        let mut headers = named
            .map(|name| (name, command.header(name).unwrap()))
            .to_vec();
        headers.push(("saga-reply", "SUCCESS"));
        headers.extend(claim);
        let mut client = Kafka::connect(kafka);
        produce_text(&mut client, "_wharf.saga-replies", &id, &headers, "");
        let mut print = Worker::new(kafka, "print");
        let command = print.take();
        assert_eq!(command.value(), b"");
        for (name, value) in claim {
            assert_eq!(command.header(name), Some(value));
        }
        print.answer(&command, "SUCCESS", &json!({ "pages": 3 }));
        let told = until(http, &id, "COMPLETED");
        assert_eq!(told["output"], json!({ "pages": 3 }));
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_name_goes_when_its_sagas_ended_and_comes_back_with_the_next_deployment() {
    let data = tempfile::tempdir().unwrap();
    let (first, http, kafka) = node(config(data.path())).await;
    let id = outside(move || {
        let path = "/api/v1/saga-definitions/checkout";
        deploy(http, "checkout", &checkout());
        let id = start(http, "checkout", "1", &json!({}));
        let (status, told) = ask(http, "DELETE", path, &Value::Null);
        assert_eq!(
            (status, &told["code"]),
            (409, &json!("WHARF-7007")),
            "{told}"
        );
        // It runs on, and may be started as before.
        let mut reserve = Worker::new(kafka, "reserve");
        let command = reserve.take();
        reserve.answer(&command, "BUSINESS_FAILURE", &json!({ "error": "None" }));
        until(http, &id, "COMPENSATED");
        assert_eq!(ask(http, "DELETE", path, &Value::Null).0, 200);
        assert_eq!(ask(http, "GET", path, &Value::Null).0, 404);
        let body = json!({ "type": "checkout", "key": "2", "input": {} });
        let (status, told) = ask(http, "POST", "/api/v1/sagas", &body);
        assert_eq!(
            (status, &told["code"]),
            (404, &json!("WHARF-7005")),
            "{told}"
        );
        id
    })
    .await;
    first.shutdown().await.unwrap();
    let (second, http, _) = node(config(data.path())).await;
    outside(move || {
        // What ended stays to be looked at.
        let told = read(http, &format!("/api/v1/sagas/{id}"));
        assert_eq!(told["error"], "None", "{told}");
        let (status, told) = act(http, &id, "redrive", &json!({}));
        assert!(matches!(status, 404 | 409), "{told}");
        deploy(http, "checkout", &checkout());
        start(http, "checkout", "2", &json!({}));
    })
    .await;
    second.shutdown().await.unwrap();
}
