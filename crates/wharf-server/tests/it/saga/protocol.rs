//! Rules of the protocol that need a worker or a sender who does something odd.

use std::time::Instant;

use serde_json::json;
use wharf_broker::{Context, TopicRef};

use super::kafka::{Worker, produce};
use super::{act, ask, config, deploy, node, read, start, until};
use crate::client::{Kafka, PATIENCE, get};
use crate::node::outside;

#[tokio::test]
async fn a_worker_that_falls_silent_is_replaced_and_its_late_answer_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, kafka) = node(config(data.path())).await;
    outside(move || {
        let silence = json!({ "ErrorEquals": ["States.HeartbeatTimeout"],
            "IntervalSeconds": 1, "BackoffRate": 1, "MaxAttempts": 20 });
        deploy(
            http,
            "work",
            &json!({ "StartAt": "Work", "States": { "Work": {
            "Type": "Task", "Resource": "wharf:topic:work", "TimeoutSeconds": 600,
            "HeartbeatSeconds": 2, "Retry": [silence], "End": true } } }),
        );
        let id = start(http, "work", "1", &json!({}));
        let mut worker = Worker::new(kafka, "work");
        let silent = worker.take();
        worker.answer(&silent, "HEARTBEAT", &json!(null));
        // Nothing more is heard of it.
        let mut other = worker.take();
        assert_eq!(silent.header("generation"), Some("1"));
        assert_ne!(other.header("generation"), Some("1"));
        assert_eq!(other.header("attempt"), Some("2"));
        let key = silent.header("idempotency-key");
        assert_eq!(other.header("idempotency-key"), key, "one effect");
        worker.answer(&silent, "SUCCESS", &json!("late"));
        let begun = Instant::now();
        let told = loop {
            worker.answer(&other, "SUCCESS", &json!("in time"));
            let told = read(http, &format!("/api/v1/sagas/{id}"));
            if told["status"] != "RUNNING" {
                break told;
            }
            assert!(begun.elapsed() < PATIENCE, "{told}");
            // A slow machine makes this one too slow, too.
            other = worker.look().unwrap_or(other);
        };
        assert_eq!(told["status"], "COMPLETED", "{told}");
        assert_eq!(told["output"], "in time");
        let timeline = read(http, &format!("/api/v1/sagas/{id}/timeline"));
        let timeline = timeline.to_string();
        assert!(timeline.contains("States.HeartbeatTimeout"), "{timeline}");
        let (_, _, metrics) = get(http, "/metrics");
        let stale = metrics
            .lines()
            .find_map(|line| line.strip_prefix("wharf_saga_stale_replies_total "));
        assert_ne!(stale, Some("0"), "{metrics}");
        assert!(stale.is_some(), "{metrics}");
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn of_two_correlation_ids_of_a_start_the_plain_header_counts() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, kafka) = node(config(data.path())).await;
    outside(move || {
        deploy(http, "work", &super::http::one("wharf:topic:work"));
        let mut client = Kafka::connect(kafka);
        let plain = ("correlation-id", "plain");
        let event = ("ce_correlationid", "event");
        let kind = ("saga-type", "work");
        for (key, headers) in [
            ("1", vec![kind, event, plain]),
            ("2", vec![plain, event, kind]),
            ("3", vec![kind, event]),
        ] {
            produce(&mut client, "_wharf.saga-starts", key, &headers, &json!({}));
        }
        let mut worker = Worker::new(kafka, "work");
        let mut found = Vec::new();
        for _ in 0..3 {
            let command = worker.take();
            let correlation = command.header("ce_correlationid").unwrap().to_owned();
            let id = command.header("saga-id").unwrap();
            let told = read(http, &format!("/api/v1/sagas/{id}"));
            assert_eq!(told["correlation_id"], correlation);
            found.push((told["key"].as_str().unwrap().to_owned(), correlation));
        }
        found.sort_unstable();
        let found: Vec<_> = found.iter().map(|(_, id)| id.as_str()).collect();
        assert_eq!(found, ["plain", "plain", "event"]);
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_task_whose_command_topic_was_deleted_fails_and_is_done_once_the_topic_is_there() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, kafka) = node(config(data.path())).await;
    let definition = super::http::one("wharf:topic:work");
    let again = definition.clone();
    outside(move || deploy(http, "work", &definition)).await;
    let topic = TopicRef::Name("work".to_owned());
    let cx = Context::internal("test");
    node.broker().delete_topic(&cx, &topic).await.unwrap();
    outside(move || {
        let body = json!({ "type": "work", "key": "1", "input": {} });
        let begun = Instant::now();
        let id = loop {
            let (status, told) = ask(http, "POST", "/api/v1/sagas", &body);
            match told["id"].as_str() {
                Some(id) => break id.to_owned(),
                // It was there a moment ago.
                None => assert_eq!(status, 503, "{told}"),
            }
            assert!(begun.elapsed() < PATIENCE, "{told}");
        };
        let told = until(http, &id, "COMPENSATED");
        assert_eq!(told["error"], "Wharf.TopicUnknown", "{told}");
        deploy(http, "work", &again);
        let (status, told) = act(http, &id, "redrive", &json!({}));
        assert_eq!(status, 200, "{told}");
        let mut worker = Worker::new(kafka, "work");
        let command = worker.take();
        worker.answer(&command, "SUCCESS", &json!("done"));
        assert_eq!(until(http, &id, "COMPLETED")["output"], "done");
    })
    .await;
    node.shutdown().await.unwrap();
}
