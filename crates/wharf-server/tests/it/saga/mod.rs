//! Sagas on a whole node: deployed and started over HTTP, worked on over Kafka's protocol and HTTP,
//! killed in the middle, parked, repaired and forgotten.

mod given_up;
mod http;
mod kafka;
mod large;
mod lasting;
mod nested;
mod operators;
mod protocol;
mod restarts;
mod tokens;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use wharf_server::{Config, Node};

use crate::client::{PATIENCE, request};
use crate::node;

/// An answer: the status and the body as JSON.
pub(crate) type Told = (u16, Value);

/// A configuration with few partitions.
pub(crate) fn config(data: &Path) -> Config {
    let mut config = node::config(data);
    config.saga.partitions = 2;
    config
}

/// Asks the API.
pub(crate) fn ask(http: SocketAddr, method: &str, path: &str, body: &Value) -> Told {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let (status, _, answer) = request(http, method, path, &[], body.as_bytes());
    let value = serde_json::from_str(&answer);
    (
        status,
        value.unwrap_or_else(|_| panic!("{method} {path}: {answer}")),
    )
}

pub(crate) fn read(http: SocketAddr, path: &str) -> Value {
    let (status, told) = ask(http, "GET", path, &Value::Null);
    assert_eq!(status, 200, "{path}: {told}");
    told
}

pub(crate) fn deploy(http: SocketAddr, name: &str, definition: &Value) {
    let path = format!("/api/v1/saga-definitions/{name}?by=tests");
    let (status, told) = ask(http, "PUT", &path, definition);
    assert!(matches!(status, 200 | 201), "{told}");
}

/// Starts a saga and returns its id.
pub(crate) fn start(http: SocketAddr, saga_type: &str, key: &str, input: &Value) -> String {
    let body = json!({ "type": saga_type, "key": key, "input": input });
    let (status, told) = ask(http, "POST", "/api/v1/sagas", &body);
    assert!(matches!(status, 200 | 201), "{told}");
    told["id"].as_str().unwrap().to_owned()
}

/// Waits until a saga stands so.
pub(crate) fn until(http: SocketAddr, id: &str, status: &str) -> Value {
    let begun = Instant::now();
    loop {
        let told = read(http, &format!("/api/v1/sagas/{id}"));
        if told["status"] == status {
            return told;
        }
        assert!(begun.elapsed() < PATIENCE, "not {status}: {told}");
        std::thread::yield_now();
    }
}

/// An action with who and why.
pub(crate) fn act(http: SocketAddr, id: &str, action: &str, rest: &Value) -> Told {
    let mut body = json!({ "by": "ada", "reason": "the test says so" });
    for (name, value) in rest.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    ask(http, "POST", &format!("/api/v1/sagas/{id}/{action}"), &body)
}

/// Two steps on command topics; the first is undone by a third.
pub(crate) fn checkout() -> Value {
    json!({
        "StartAt": "Reserve",
        "States": {
            "Reserve": {
                "Type": "Task",
                "Resource": "wharf:topic:reserve",
                "TimeoutSeconds": 60,
                "ResultPath": "$.reserved",
                "Compensate": { "Resource": "wharf:topic:release", "TimeoutSeconds": 60 },
                "Next": "Pay"
            },
            "Pay": {
                "Type": "Task",
                "Resource": "wharf:topic:pay",
                "TimeoutSeconds": 60,
                "ResultPath": "$.paid",
                "End": true
            }
        }
    })
}

/// Starts a node and says where its API and its Kafka listener are.
pub(crate) async fn node(config: Config) -> (Node, SocketAddr, SocketAddr) {
    let node = Node::start(config).await.unwrap();
    let (http, kafka) = (node.http_address(), node.kafka_address());
    (node, http, kafka)
}
