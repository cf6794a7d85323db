//! Requests that nobody should send: each is answered in time, and the registry goes on.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::json;
use wharf_server::Node;

use super::{JSON, code, read, record, register, start};
use crate::client::{PATIENCE, request};
use crate::node::{config, outside};

/// Sends a body as it is; the status and the error code.
fn send(registry: SocketAddr, method: &str, path: &str, body: &[u8]) -> (u16, i64) {
    let (status, _, told) = request(registry, method, path, &[JSON], body);
    let told = serde_json::from_str(&told).unwrap_or_else(|_| panic!("{path}: {told}"));
    (status, code(&(status, told)))
}

#[tokio::test]
async fn odd_requests_are_refused_as_json_and_the_registry_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let (node, registry) = start(data.path()).await;
    outside(move || {
        let versions = "/subjects/orders/versions";
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let deep_schema = json!({ "schema": deep }).to_string();
        let deep_array = (0..5_000).fold("\"int\"".to_owned(), |inner, _| {
            format!(r#"{{"type":"array","items":{inner}}}"#)
        });
        let deep_array = json!({ "schema": deep_array }).to_string();
        for (body, expected) in [
            (&b"{\"schema\": \"int"[..], (400, 400)),
            (b"{\"schema\": \xff\xfe}", (400, 400)),
            (b"{\"schema\": \"\xff\xfe\"}", (400, 400)),
            (b"[]", (400, 400)),
            (b"   ", (422, 422)),
            (deep.as_bytes(), (400, 400)),
            (deep_schema.as_bytes(), (422, 42201)),
            (deep_array.as_bytes(), (422, 42201)),
            (b"{\"schema\": \"no schema at all\"}", (422, 42201)),
            (
                b"{\"schema\": \"\\\"int\\\"\", \"schemaType\": \"XML\"}",
                (422, 42201),
            ),
        ] {
            let told = send(registry, "POST", versions, body);
            assert_eq!(
                told,
                expected,
                "{}",
                String::from_utf8_lossy(&body[..body.len().min(80)])
            );
        }
        let get = |path: &str| {
            let (status, _, told) = request(registry, "GET", path, &[], b"");
            (status, told)
        };
        assert_eq!(get("/subjects/%FF/versions").0, 400);
        assert_eq!(get(&format!("/{}", "a/".repeat(2_000))).0, 404);
        assert_eq!(get("/schemas/ids/12345678901234567890").0, 404);
        assert_eq!(get("/schemas/ids/-1").0, 404);
        assert_eq!(get("/schemas/guids/nonsense").0, 404);
        assert_eq!(get("/subjects?offset=-5&limit=99999999999").0, 200);
        assert_eq!(get("/subjects/a%00b/versions").0, 404);
        let (status, ..) = request(registry, "PATCH", "/subjects", &[], b"");
        assert_eq!(status, 405);
        let (status, ..) = request(registry, "GET", "/subjects", &["accept: text/html"], b"");
        assert_eq!(status, 406);
        let kind = ["content-type: text/plain"];
        let (status, ..) = request(registry, "POST", versions, &kind, b"{}");
        assert_eq!(status, 415);
        assert_eq!(register(registry, "orders", &record("id")), 1);
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_whether_its_size_is_told_or_not() {
    let data = tempfile::tempdir().unwrap();
    let mut small = config(data.path());
    small.registry.request_size_max.0 = 16 << 10;
    small.registry.in_flight_size_max.0 = 16 << 10;
    let node = Node::start(small).await.unwrap();
    let registry = node.registry_address().unwrap();
    outside(move || {
        let path = "/subjects/orders/versions";
        let body = json!({ "schema": "x".repeat(20 << 10) }).to_string();
        let (status, ..) = request(registry, "POST", path, &[JSON], body.as_bytes());
        assert_eq!(status, 413);
        let mut stream = TcpStream::connect(registry).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
        for _ in 0..8 {
            // It may be closed before all of it is sent.
            if stream.write_all(chunk.as_bytes()).is_err() {
                break;
            }
        }
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 413");
        // One that never comes takes no more than its share, for its time; others are served.
        let mut silent = TcpStream::connect(registry).unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\n");
        silent.write_all(head.as_bytes()).unwrap();
        assert_eq!(read(registry, "/subjects").0, 200);
        assert_eq!(register(registry, "orders", &record("id")), 1);
        drop(silent);
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_connection_is_kept_for_further_requests() {
    let data = tempfile::tempdir().unwrap();
    let (node, registry) = start(data.path()).await;
    outside(move || {
        let mut stream = TcpStream::connect(registry).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        for _ in 0..3 {
            stream
                .write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
                .unwrap();
            let mut answer = Vec::new();
            let mut byte = [0];
            while !answer.ends_with(b"\r\n\r\n{}") {
                stream.read_exact(&mut byte).unwrap();
                answer.push(byte[0]);
            }
            assert!(answer.starts_with(b"HTTP/1.1 200"));
        }
    })
    .await;
    node.shutdown().await.unwrap();
}
