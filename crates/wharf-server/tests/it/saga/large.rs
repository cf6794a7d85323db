//! Payloads that are too large for a saga: they go into the node's store, and workers get them.

use std::path::Path;

use serde_json::{Value, json};
use wharf_saga::machine::{Data, Outcome};

use super::http::{one, server};
use super::kafka::{Worker, produce};
use super::{ask, config, deploy, node, read, start, until};
use crate::client::{Kafka, PATIENCE, get, request};
use crate::node::outside;

const MIB: usize = 1 << 20;

/// A text of so many bytes.
fn large(letter: &str, size: usize) -> Value {
    json!({ "text": letter.repeat(size) })
}

/// What a reference stands for, as the API hands it out.
fn fetched(http: std::net::SocketAddr, reference: &Value) -> Value {
    let target = reference["ce_dataref"].as_str().unwrap();
    let digest = target.strip_prefix("claim://wharf-sagas/").unwrap();
    let (status, head, body) = get(http, &format!("/api/v1/sagas/claims/{digest}"));
    assert_eq!(status, 200, "{head}");
    assert_eq!(reference["wharf-claim-size"], body.len());
    serde_json::from_str(&body).unwrap()
}

/// The file of a reference in the data directory.
fn file(data: &Path, target: &str) -> Vec<u8> {
    let digest = target.rsplit_once('/').unwrap().1;
    let (first, rest) = digest.split_at(2);
    std::fs::read(data.join("claims/sha256").join(first).join(rest)).unwrap()
}

#[tokio::test]
async fn two_mebibytes_go_over_http_into_a_saga_to_its_worker_and_back() {
    let data = tempfile::tempdir().unwrap();
    let (first, http, _) = node(config(data.path())).await;
    let answer = large("b", 2 * MIB).to_string();
    let (worker, requests) = server(vec![(200, Box::leak(answer.into_boxed_str()))]).await;
    let (id, output) = outside(move || {
        deploy(
            http,
            "work",
            &one(&format!("wharf:http:http://{worker}/work")),
        );
        let id = start(http, "work", "1", &large("a", 2 * MIB));
        let told = until(http, &id, "COMPLETED");
        // The worker knows nothing of stores.
        let request = requests.recv_timeout(PATIENCE).unwrap();
        assert!(request.ends_with(&large("a", 2 * MIB).to_string()));
        assert_eq!(fetched(http, &told["input"]), large("a", 2 * MIB));
        assert_eq!(fetched(http, &told["output"]), large("b", 2 * MIB));
        let facts = read(http, &format!("/api/v1/sagas/{id}/facts"));
        assert!(
            facts.to_string().len() < 64 << 10,
            "the saga keeps references"
        );
        // The same key with the same input, and with another one.
        assert_eq!(start(http, "work", "1", &large("a", 2 * MIB)), id);
        let body = json!({ "type": "work", "key": "1", "input": large("c", 2 * MIB) });
        let (status, refused) = ask(http, "POST", "/api/v1/sagas", &body);
        assert_eq!((status, &refused["code"]), (409, &json!("WHARF-7003")));
        (id, told["output"].clone())
    })
    .await;
    first.shutdown().await.unwrap();
    let (second, http, _) = node(config(data.path())).await;
    outside(move || {
        let told = read(http, &format!("/api/v1/sagas/{id}"));
        assert_eq!(told["output"], output);
        assert_eq!(fetched(http, &output), large("b", 2 * MIB));
    })
    .await;
    second.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_beyond_the_largest_is_refused_with_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let mut small = config(data.path());
    small.saga.claim_max.0 = 512 << 10;
    let (first, http, kafka) = node(small).await;
    let refused = |http, size| {
        let body = json!({ "type": "work", "key": "1", "input": large("a", size) });
        let (status, told) = ask(http, "POST", "/api/v1/sagas", &body);
        assert_eq!(
            (status, &told["code"]),
            (413, &json!("WHARF-7009")),
            "{told}"
        );
        told["detail"].as_str().unwrap().to_owned()
    };
    outside(move || {
        deploy(http, "work", &one("wharf:topic:work"));
        for size in [600 << 10, 9 * MIB] {
            let said = refused(http, size);
            assert!(said.contains("saga.claim-max"), "{said}");
            assert!(said.contains("reference"), "{said}");
        }
        let (status, ..) = get(http, &format!("/api/v1/sagas/claims/{:064}", 0));
        assert_eq!(status, 404);
        let (status, ..) = get(http, "/api/v1/sagas/claims/..%2F..%2Fwharf.json");
        assert_eq!(status, 404);
        // By a record it is refused, counted, and those behind it go on.
        let mut client = Kafka::connect(kafka);
        let header = [("saga-type", "work")];
        produce(
            &mut client,
            "_wharf.saga-starts",
            "too-large",
            &header,
            &large("a", 600 << 10),
        );
        produce(
            &mut client,
            "_wharf.saga-starts",
            "large",
            &header,
            &large("a", 400 << 10),
        );
        produce(
            &mut client,
            "_wharf.saga-starts",
            "small",
            &header,
            &json!({}),
        );
        let mut work = Worker::new(kafka, "work");
        work.take();
        work.take();
        let listed = read(http, "/api/v1/sagas");
        let keys = listed["sagas"].as_array().unwrap().iter();
        let mut keys: Vec<_> = keys.map(|row| row["key"].as_str().unwrap()).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["large", "small"]);
        let (_, _, metrics) = get(http, "/metrics");
        assert!(
            metrics.contains("wharf_saga_starts_refused_total 1"),
            "{metrics}"
        );
    })
    .await;
    first.shutdown().await.unwrap();
    let mut none = config(data.path());
    none.saga.claim_max.0 = 0;
    let (second, http, _) = node(none).await;
    outside(move || {
        let said = refused(http, 400 << 10);
        assert!(said.contains("claim://STORE/SHA256"), "{said}");
    })
    .await;
    second.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_reads_a_topic_gets_the_reference_and_one_in_the_process_the_payload() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().to_owned();
    let (node, http, kafka) = node(config(data.path())).await;
    let handlers = node.sagas().unwrap().handlers();
    handlers.register("length", |command| async move {
        let text = command.arguments["text"].as_str().unwrap_or_default();
        Outcome::Success(Data::from(json!(text.len())))
    });
    outside(move || {
        let task = |resource: &str| json!({ "Type": "Task", "Resource": resource });
        let mut definition = json!({ "StartAt": "Read", "States": {
            "Read": task("wharf:topic:read"), "Wait": task("wharf:signal:go"),
            "Count": task("wharf:handler:length") } });
        definition["States"]["Read"]["Next"] = json!("Wait");
        definition["States"]["Wait"]["Next"] = json!("Count");
        definition["States"]["Count"]["End"] = json!(true);
        deploy(http, "mixed", &definition);
        let id = start(http, "mixed", "1", &large("a", MIB));
        let mut worker = Worker::new(kafka, "read");
        let command = worker.take();
        assert_eq!(command.value(), b"");
        let target = command.header("ce_dataref").unwrap();
        let digest = command.header("wharf-claim-sha256").unwrap();
        assert_eq!(target, format!("claim://wharf-sagas/{digest}"));
        assert_eq!(file(&path, target), large("a", MIB).to_string().as_bytes());
        worker.answer(&command, "SUCCESS", &large("b", 400 << 10));
        let signal = json!({ "name": "go", "payload": large("c", 3 * MIB) });
        let place = format!("/api/v1/sagas/{id}/signals");
        let (status, told) = ask(http, "POST", &place, &signal);
        assert_eq!(status, 202, "{told}");
        assert_eq!(until(http, &id, "COMPLETED")["output"], 3 * MIB);
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_execution_and_its_activity_take_more_than_amazon_allows() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, _) = node(config(data.path())).await;
    outside(move || {
        let ask = |operation: &str, body: Value| {
            let kind = "content-type: application/x-amz-json-1.0";
            let target = format!("x-amz-target: AWSStepFunctions.{operation}");
            let body = body.to_string();
            let told = request(http, "POST", "/", &[kind, &target], body.as_bytes());
            assert_eq!(told.0, 200, "{operation}: {}", told.2);
            serde_json::from_str::<Value>(&told.2).unwrap()
        };
        let activity = ask("CreateActivity", json!({ "name": "slow" }))["activityArn"].clone();
        let definition = one(activity.as_str().unwrap()).to_string();
        let machine = json!({ "name": "slow", "definition": definition,
            "roleArn": "arn:aws:iam::123456789012:role/any" });
        let machine = ask("CreateStateMachine", machine)["stateMachineArn"].clone();
        let input = large("\"", MIB).to_string();
        let execution = json!({ "stateMachineArn": machine, "name": "1", "input": input });
        let execution = ask("StartExecution", execution)["executionArn"].clone();
        let task = ask("GetActivityTask", json!({ "activityArn": activity }));
        assert_eq!(task["input"], input);
        let output = large("b", 2 * MIB).to_string();
        let done = json!({ "taskToken": task["taskToken"], "output": output });
        ask("SendTaskSuccess", done);
        let told = ask("DescribeExecution", json!({ "executionArn": execution }));
        assert_eq!(told["status"], "SUCCEEDED", "{told}");
        let output: Value = serde_json::from_str(told["output"].as_str().unwrap()).unwrap();
        assert_eq!(fetched(http, &output), large("b", 2 * MIB));
    })
    .await;
    node.shutdown().await.unwrap();
}
