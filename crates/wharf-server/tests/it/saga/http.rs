//! Workers behind an address, and handlers in the process.

use std::net::SocketAddr;
use std::sync::mpsc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wharf_saga::machine::{Data, Outcome};

use super::{ask, config, deploy, node, start, until};
use crate::client::PATIENCE;
use crate::node::outside;

/// A server that tells every request it gets and answers each with the next of these.
pub(crate) async fn server(
    answers: Vec<(u16, &'static str)>,
) -> (SocketAddr, mpsc::Receiver<String>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (sender, requests) = mpsc::channel();
    tokio::spawn(async move {
        for (status, body) in answers {
            let (mut stream, _) = socket.accept().await.unwrap();
            let mut request = Vec::new();
            loop {
                let mut part = vec![0; 256 << 10];
                let read = stream.read(&mut part).await.unwrap();
                request.extend_from_slice(&part[..read]);
                let text = String::from_utf8_lossy(&request).to_lowercase();
                let Some((head, rest)) = text.split_once("\r\n\r\n") else {
                    continue;
                };
                let length = head.split("content-length: ").nth(1);
                let length = length.and_then(|rest| rest.lines().next()?.parse().ok());
                if read == 0 || rest.len() >= length.unwrap_or(0) {
                    break;
                }
            }
            let answer = format!(
                "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            sender.send(String::from_utf8(request).unwrap()).ok();
        }
    });
    (address, requests)
}

/// One step.
pub(crate) fn one(resource: &str) -> Value {
    json!({
        "StartAt": "Work",
        "States": { "Work": { "Type": "Task", "Resource": resource, "TimeoutSeconds": 60, "End": true } }
    })
}

#[tokio::test]
async fn an_http_worker_gets_its_key_and_a_signature_and_its_answer_is_the_result() {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(data.path());
    config.saga.http_secret = Some("key".into());
    let (node, http, _) = node(config).await;
    let (worker, requests) = server(vec![(200, r#"{"done":true}"#)]).await;
    outside(move || {
        deploy(
            http,
            "work",
            &one(&format!("wharf:http:http://{worker}/work")),
        );
        let id = start(http, "work", "1", &json!({ "a": 1 }));
        let told = until(http, &id, "COMPLETED");
        assert_eq!(told["output"], json!({ "done": true }));
        let request = requests.recv_timeout(PATIENCE).unwrap().to_lowercase();
        assert!(request.starts_with("post /work"), "{request}");
        assert!(
            request.contains(&format!("idempotency-key: {id}/")),
            "{request}"
        );
        assert!(request.contains("wharf-signature: t="), "{request}");
        assert!(request.ends_with(r#"{"a":1}"#), "{request}");
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_http_worker_may_answer_later_with_its_token_and_only_once() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, _) = node(config(data.path())).await;
    let (worker, requests) = server(vec![(202, "")]).await;
    outside(move || {
        deploy(
            http,
            "work",
            &one(&format!("wharf:http:http://{worker}/work")),
        );
        let id = start(http, "work", "1", &json!({}));
        let request = requests.recv_timeout(PATIENCE).unwrap();
        let callback = request.split("saga-callback: ").nth(1).unwrap();
        let callback = callback.lines().next().unwrap();
        let path = callback.split_once("/api/").unwrap().1.to_owned();
        let path = format!("/api/{path}");
        let (status, told) = ask(http, "POST", &path, &json!({ "output": 7 }));
        assert_eq!(status, 200, "{told}");
        assert_eq!(until(http, &id, "COMPLETED")["output"], 7);
        let (status, told) = ask(http, "POST", &path, &json!({ "output": 8 }));
        assert!(matches!(status, 404 | 409), "{told}");
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_handler_in_the_process_does_its_task_also_when_it_is_registered_late() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, _) = node(config(data.path())).await;
    let id = outside(move || {
        deploy(http, "work", &one("wharf:handler:double"));
        start(http, "work", "1", &json!({ "a": 21 }))
    })
    .await;
    node.sagas()
        .unwrap()
        .handlers()
        .register("double", |command| async move {
            let number = command.arguments["a"].as_i64().unwrap_or(0);
            Outcome::Success(Data::from(json!(2 * number)))
        });
    outside(move || assert_eq!(until(http, &id, "COMPLETED")["output"], 42)).await;
    node.shutdown().await.unwrap();
}
