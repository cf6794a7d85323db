//! What a restart must neither lose nor add, and what may happen between two commits.

use serde_json::json;
use wharf_saga::machine::{Action, Order, SagaId};
use wharf_server::saga::NewSaga;

use super::kafka::Worker;
use super::{checkout, config, deploy, node, read, start, until};
use crate::node::outside;

#[tokio::test]
async fn a_restart_adds_nothing_to_a_saga_that_ended() {
    let data = tempfile::tempdir().unwrap();
    let (first, http, kafka) = node(config(data.path())).await;
    let (id, before) = outside(move || {
        deploy(http, "checkout", &checkout());
        let id = start(http, "checkout", "1", &json!({}));
        for topic in ["reserve", "pay"] {
            let mut worker = Worker::new(kafka, topic);
            let command = worker.take();
            worker.answer(&command, "SUCCESS", &json!({}));
        }
        until(http, &id, "COMPLETED");
        let facts = read(http, &format!("/api/v1/sagas/{id}/facts"));
        (id, facts)
    })
    .await;
    first.shutdown().await.unwrap();
    let (second, http, kafka) = node(config(data.path())).await;
    outside(move || {
        // Its answer lies behind those that were read before.
        let other = start(http, "checkout", "2", &json!({}));
        let mut worker = Worker::new(kafka, "reserve");
        worker.take();
        let command = worker.take();
        worker.answer(&command, "BUSINESS_FAILURE", &json!({ "error": "SoldOut" }));
        until(http, &other, "COMPENSATED");
        let after = read(http, &format!("/api/v1/sagas/{id}/facts"));
        assert_eq!(before, after);
    })
    .await;
    second.shutdown().await.unwrap();
}

/// A saga that waits for a signal that never comes, and one that waits for it.
fn family() -> [(&'static str, serde_json::Value); 2] {
    let waits = |resource: &str| {
        json!({
            "StartAt": "Wait",
            "States": { "Wait": { "Type": "Task", "Resource": resource, "End": true } }
        })
    };
    [
        ("child", waits("wharf:signal:never")),
        ("parent", waits("wharf:saga:child")),
    ]
}

#[tokio::test]
async fn a_sub_saga_that_is_only_about_to_begin_is_aborted_with_its_parent() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, _) = node(config(data.path())).await;
    outside(move || {
        for (name, definition) in family() {
            deploy(http, name, &definition);
        }
    })
    .await;
    let engine = node.sagas().unwrap();
    for key in 0..10 {
        let key = key.to_string();
        let new = NewSaga {
            saga_type: "parent".to_owned(),
            key: Some(key.clone()),
            input: json!({}),
            ..NewSaga::default()
        };
        let order = Order {
            action: Action::Abort,
            by: "ada".to_owned(),
            reason: "the order was a mistake".to_owned(),
        };
        let id = SagaId::of("parent", &key);
        // Decided together: the sub-saga's start goes out only once they are committed.
        let (started, aborted) = tokio::join!(engine.start(new), engine.operate(id, order));
        started.unwrap();
        aborted.unwrap();
    }
    outside(move || {
        for key in 0..10 {
            let id = SagaId::of("parent", &key.to_string()).to_string();
            until(http, &id, "ABORTED_BY_OPERATOR");
            let child = SagaId::of("child", &format!("{id}/1")).to_string();
            until(http, &child, "ABORTED_BY_OPERATOR");
        }
    })
    .await;
    node.shutdown().await.unwrap();
}
