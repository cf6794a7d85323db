//! Tokens that are shown by whoever answers later: nobody can guess one, and restarts keep them.

use serde_json::{Value, json};

use super::http::{one, server};
use super::{ask, config, deploy, node, start, until};
use crate::client::{PATIENCE, request};
use crate::node::outside;

/// The callback that a request named, without the address.
fn callback(request: &str) -> String {
    let line = request.split("saga-callback: ").nth(1).unwrap();
    let place = line.lines().next().unwrap().split_once("/api/").unwrap().1;
    format!("/api/{place}")
}

/// What one could make of a token without the key.
fn guesses(token: &str) -> Vec<String> {
    let (plain, seal) = token.rsplit_once('.').unwrap();
    assert_eq!(seal.len(), 32, "128 bits in hex");
    let mut wrong = seal.to_owned();
    let last = if wrong.ends_with('0') { "1" } else { "0" };
    wrong.replace_range(31.., last);
    let (saga_and_step, generation) = plain.rsplit_once('.').unwrap();
    let next = generation.parse::<u32>().unwrap() + 1;
    vec![
        plain.to_owned(),
        format!("{plain}."),
        format!("{plain}.{wrong}"),
        format!("{saga_and_step}.{next}.{seal}"),
        format!("{plain}.{:032x}", 0),
    ]
}

#[tokio::test]
async fn a_guessed_callback_is_refused_and_the_one_given_out_is_good_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let (first, http, _) = node(config(data.path())).await;
    let (worker, requests) = server(vec![(202, "")]).await;
    let (id, place) = outside(move || {
        let url = format!("wharf:http:http://{worker}/work");
        deploy(http, "work", &one(&url));
        let id = start(http, "work", "1", &json!({}));
        let place = callback(&requests.recv_timeout(PATIENCE).unwrap());
        (id, place)
    })
    .await;
    let (told, kept) = (place.clone(), id.clone());
    outside(move || {
        let (before, token) = told.rsplit_once('/').unwrap();
        assert!(token.starts_with(&kept), "{token}");
        for guess in guesses(token) {
            let answer = ask(
                http,
                "POST",
                &format!("{before}/{guess}"),
                &json!({ "output": 1 }),
            );
            let (status, said) = answer;
            assert_eq!(status, 404, "{guess}: {said}");
            assert_eq!(said["code"], "WHARF-7011", "{said}");
            assert!(said.to_string().contains("seal"), "{said}");
        }
        let (status, said) = ask(http, "POST", &told, &json!({ "heartbeat": true }));
        assert_eq!(status, 200, "{said}");
    })
    .await;
    first.shutdown().await.unwrap();
    let (second, http, _) = node(config(data.path())).await;
    outside(move || {
        let (status, said) = ask(http, "POST", &place, &json!({ "output": 7 }));
        assert_eq!(status, 200, "{said}");
        assert_eq!(until(http, &id, "COMPLETED")["output"], 7);
    })
    .await;
    second.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_guessed_task_token_is_one_of_a_task_that_does_not_exist() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, _) = node(config(data.path())).await;
    outside(move || {
        let ask = |operation: &str, body: Value| {
            let kind = "content-type: application/x-amz-json-1.0";
            let target = format!("x-amz-target: AWSStepFunctions.{operation}");
            let body = body.to_string();
            let told = request(http, "POST", "/", &[kind, &target], body.as_bytes());
            let value: Value = serde_json::from_str(&told.2).unwrap();
            (told.0, value)
        };
        let (_, made) = ask("CreateActivity", json!({ "name": "slow" }));
        // The task's own worker, and somebody whom the arguments tell the token, may answer.
        let arn = made["activityArn"].clone();
        deploy(
            http,
            "slow",
            &json!({ "StartAt": "Slow", "States": { "Slow": {
            "Type": "Task", "Resource": arn, "End": true,
            "Parameters": { "token.$": "$$.Task.Token" } } } }),
        );
        let id = start(http, "slow", "1", &json!({}));
        let (_, task) = ask("GetActivityTask", json!({ "activityArn": arn }));
        let token = task["taskToken"].as_str().unwrap();
        let input: Value = serde_json::from_str(task["input"].as_str().unwrap()).unwrap();
        assert_eq!(input["token"], token);
        for guess in guesses(token) {
            for (operation, more) in [
                ("SendTaskSuccess", json!({ "output": "1" })),
                ("SendTaskFailure", json!({ "error": "Mine" })),
                ("SendTaskHeartbeat", json!({})),
            ] {
                let mut body = more;
                body["taskToken"] = json!(guess);
                let (status, said) = ask(operation, body);
                assert_eq!(status, 400, "{said}");
                assert_eq!(said["__type"], "TaskDoesNotExist", "{guess}: {said}");
            }
        }
        let (status, said) = ask("SendTaskHeartbeat", json!({ "taskToken": token }));
        assert_eq!(status, 200, "{said}");
        let done = json!({ "taskToken": token, "output": "\"done\"" });
        let (status, said) = ask("SendTaskSuccess", done);
        assert_eq!(status, 200, "{said}");
        assert_eq!(until(http, &id, "COMPLETED")["output"], "done");
    })
    .await;
    node.shutdown().await.unwrap();
}
