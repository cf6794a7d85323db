//! The Step Functions API as bytes on the wire: what every request has in common. What Amazon's own
//! clients do with it is in `compat/boto3`.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use wharf_server::{Config, Node};

use crate::client::request;
use crate::node::{self, outside};

const KIND: &str = "content-type: application/x-amz-json-1.0";

fn config(data: &Path) -> Config {
    let mut config = node::config(data);
    config.saga.partitions = 1;
    config
}

/// Asks for an operation; the status and the answer.
fn ask(http: SocketAddr, operation: &str, body: &Value) -> (u16, Value) {
    let target = format!("x-amz-target: AWSStepFunctions.{operation}");
    let body = body.to_string();
    let (status, head, answer) = request(http, "POST", "/", &[KIND, &target], body.as_bytes());
    assert!(head.to_lowercase().contains(KIND), "{head}");
    (status, serde_json::from_str(&answer).unwrap())
}

/// Asks, and expects an answer.
fn done(http: SocketAddr, operation: &str, body: &Value) -> Value {
    let (status, answer) = ask(http, operation, body);
    assert_eq!(status, 200, "{operation}: {answer}");
    answer
}

/// Asks, and expects a refusal; its name.
fn refused(http: SocketAddr, operation: &str, body: &Value) -> String {
    let (status, answer) = ask(http, operation, body);
    assert_eq!(status, 400, "{operation}: {answer}");
    assert!(answer["message"].is_string());
    answer["__type"].as_str().unwrap().to_owned()
}

fn passing() -> Value {
    let states = json!({ "Only": { "Type": "Pass", "End": true } });
    json!(json!({ "StartAt": "Only", "States": states }).to_string())
}

#[tokio::test]
async fn a_request_that_is_none_of_this_api_is_refused_by_name() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(config(data.path())).await.unwrap();
    let http = node.http_address();
    outside(move || {
        let list = "x-amz-target: AWSStepFunctions.ListActivities";
        for (headers, body, name) in [
            (vec![KIND], "{}", "UnknownOperationException"),
            (vec![list], "{}", "UnknownOperationException"),
            (
                vec!["content-type: text/plain", list],
                "{}",
                "UnknownOperationException",
            ),
            (
                vec![KIND, "x-amz-target: DynamoDB.ListTables"],
                "{}",
                "UnknownOperationException",
            ),
            (vec![KIND, list], "{", "SerializationException"),
            (vec![KIND, list], "[]", "SerializationException"),
        ] {
            let (status, _, answer) = request(http, "POST", "/", &headers, body.as_bytes());
            let answer: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(
                (status, &answer["__type"]),
                (400, &json!(name)),
                "{headers:?} {body}"
            );
        }
        assert_eq!(
            refused(http, "DescribeMapRun", &json!({})),
            "UnknownOperationException"
        );
        assert_eq!(
            refused(http, "Nonsense", &json!({})),
            "UnknownOperationException"
        );
        assert_eq!(
            refused(http, "CreateActivity", &json!({})),
            "ValidationException"
        );
        let number = json!({ "name": 7 });
        assert_eq!(
            refused(http, "CreateActivity", &number),
            "ValidationException"
        );
        let (status, _, index) = request(http, "GET", "/", &[], b"");
        assert_eq!(status, 200);
        assert!(index.contains("X-Amz-Target"), "{index}");
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn machines_and_activities_are_there_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(config(data.path())).await.unwrap();
    let http = node.http_address();
    let role = "arn:aws:iam::1:role/r";
    let before = outside(move || {
        done(http, "CreateActivity", &json!({ "name": "pack" }));
        let machine =
            json!({ "name": "m", "definition": passing(), "roleArn": role, "publish": true });
        let made = done(http, "CreateStateMachine", &machine);
        let arn = &made["stateMachineArn"];
        assert_eq!(arn, "arn:aws:states:wharf:000000000000:stateMachine:m");
        let elsewhere =
            json!({ "stateMachineArn": "arn:aws:states:eu-west-1:123456789012:stateMachine:m" });
        let found = done(http, "DescribeStateMachine", &elsewhere);
        let start = json!({ "stateMachineArn": made["stateMachineVersionArn"], "name": "one" });
        let execution = done(http, "StartExecution", &start);
        (found, execution)
    })
    .await;
    node.shutdown().await.unwrap();
    let node = Node::start(config(data.path())).await.unwrap();
    let http = node.http_address();
    outside(move || {
        let (found, execution) = before;
        let arn = json!({ "stateMachineArn": found["stateMachineArn"] });
        assert_eq!(done(http, "DescribeStateMachine", &arn), found);
        let activities = done(http, "ListActivities", &json!({}));
        assert_eq!(activities["activities"][0]["name"], "pack");
        let arn = json!({ "executionArn": execution["executionArn"] });
        let described = done(http, "DescribeExecution", &arn);
        assert_eq!(described["status"], "SUCCEEDED");
        assert_eq!(
            described["stateMachineVersionArn"],
            "arn:aws:states:wharf:000000000000:stateMachine:m:1"
        );
        assert_eq!(described["startDate"], execution["startDate"]);
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn where_there_are_users_a_request_without_a_signature_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(data.path());
    config.saga.user = vec![wharf_server::config::User {
        access_key: "AKIATEST".to_owned(),
        secret: "a secret".into(),
    }];
    let node = Node::start(config).await.unwrap();
    let http = node.http_address();
    outside(move || {
        let name = refused(http, "ListActivities", &json!({}));
        assert_eq!(name, "MissingAuthenticationTokenException");
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_node_stops_while_a_worker_waits_for_a_task() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(config(data.path())).await.unwrap();
    let http = node.http_address();
    let arn = outside(move || done(http, "CreateActivity", &json!({ "name": "pack" }))).await;
    let waiting = tokio::task::spawn_blocking(move || ask(http, "GetActivityTask", &arn));
    // Whether it waits already makes no difference: it is answered, or its connection is refused.
    node.shutdown().await.unwrap();
    if let Ok((status, answer)) = waiting.await {
        assert_eq!((status, answer), (200, json!({})));
    }
}

#[test]
fn the_page_of_operations_is_what_the_table_says() {
    let page = wharf_server::saga::step_functions_reference();
    let path = "../../docs/reference/step-functions-api.md";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("WHARF_REWRITE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "run this test with WHARF_REWRITE=1");
}
