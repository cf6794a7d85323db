//! The schema registry over real HTTP: what is registered, found, deleted, adopted and refused, and
//! that the topic alone decides what there is.

mod hostile;
mod topic;

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use wharf_server::Node;

use crate::client::{get, request};
use crate::node::{config, outside};

pub(crate) const JSON: &str = "content-type: application/vnd.schemaregistry.v1+json";

/// An answer: the status and the body as JSON.
pub(crate) type Told = (u16, Value);

/// Asks the registry.
pub(crate) fn ask(registry: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Told {
    let body = body.map(Value::to_string).unwrap_or_default();
    let (status, head, body) = request(registry, method, path, &[JSON], body.as_bytes());
    if body.is_empty() {
        return (status, Value::Null);
    }
    assert!(
        head.to_lowercase()
            .contains("content-type: application/vnd.schemaregistry.v1+json")
    );
    let value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{path}: {body}"));
    (status, value)
}

pub(crate) fn read(registry: SocketAddr, path: &str) -> Told {
    ask(registry, "GET", path, None)
}

/// A record with one field.
pub(crate) fn record(field: &str) -> String {
    let fields = json!([{ "name": field, "type": "string" }]);
    json!({ "type": "record", "name": "Order", "fields": fields }).to_string()
}

/// Registers an Avro schema and returns its id.
pub(crate) fn register(registry: SocketAddr, subject: &str, schema: &str) -> i64 {
    let path = format!("/subjects/{subject}/versions");
    let (status, told) = ask(registry, "POST", &path, Some(&json!({ "schema": schema })));
    assert_eq!(status, 200, "{told}");
    told["id"].as_i64().unwrap()
}

pub(crate) async fn start(data: &Path) -> (Node, SocketAddr) {
    let node = Node::start(config(data)).await.unwrap();
    let registry = node.registry_address().unwrap();
    (node, registry)
}

/// The code of a refusal.
pub(crate) fn code((_, told): &Told) -> i64 {
    told["error_code"].as_i64().unwrap()
}

#[tokio::test]
async fn a_schema_is_registered_and_found_by_everything_that_names_it() {
    let data = tempfile::tempdir().unwrap();
    let (node, registry) = start(data.path()).await;
    outside(move || {
        let (status, told) = ask(
            registry,
            "POST",
            "/subjects/orders-value/versions?normalize=False",
            Some(&json!({ "schema": record("id") })),
        );
        assert_eq!((status, &told["id"]), (200, &json!(1)));
        let (_, by_id) = read(
            registry,
            "/schemas/ids/1?subject=orders-value&fetchMaxId=false",
        );
        let schema: Value = serde_json::from_str(by_id["schema"].as_str().unwrap()).unwrap();
        assert_eq!(schema["fields"][0]["name"], "id");
        let guid = by_id["guid"].as_str().unwrap();
        assert_eq!(
            read(registry, &format!("/schemas/guids/{guid}")).1["schema"],
            by_id["schema"]
        );
        let ids = read(registry, &format!("/schemas/guids/{guid}/ids")).1;
        assert_eq!(ids, json!([{ "context": ".", "id": 1 }]));
        let (_, latest) = read(registry, "/subjects/orders-value/versions/latest");
        assert_eq!((&latest["version"], &latest["id"]), (&json!(1), &json!(1)));
        assert_eq!(read(registry, "/subjects/").1, json!(["orders-value"]));
        assert_eq!(
            read(registry, "/subjects/orders-value/versions").1,
            json!([1])
        );
        assert_eq!(read(registry, "/schemas/ids/1/schema").1, schema);
        assert_eq!(
            read(registry, "/schemas/ids/1/subjects").1,
            json!(["orders-value"])
        );
        let versions = read(registry, "/schemas/ids/1/versions").1;
        assert_eq!(
            versions,
            json!([{ "subject": "orders-value", "version": 1 }])
        );
        let lookup = json!({ "schema": record("id") });
        let (_, found) = ask(registry, "POST", "/subjects/orders-value", Some(&lookup));
        assert_eq!((&found["id"], &found["version"]), (&json!(1), &json!(1)));
        // The same again is no new version, under another subject it has the same id.
        assert_eq!(register(registry, "orders-value", &record("id")), 1);
        assert_eq!(register(registry, "other-value", &record("id")), 1);
        assert_eq!(
            read(registry, "/subjects/orders-value/versions").1,
            json!([1])
        );
        assert_eq!(read(registry, "/schemas").1.as_array().unwrap().len(), 2);
        assert_eq!(read(registry, "/").1, json!({}));
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_not_there_is_refused_with_the_codes_that_clients_know() {
    let data = tempfile::tempdir().unwrap();
    let (node, registry) = start(data.path()).await;
    outside(move || {
        register(registry, "orders", &record("id"));
        let other = json!({ "schema": record("other") });
        for (method, path, body, status, expected) in [
            ("GET", "/subjects/none/versions", None, 404, 40401),
            ("GET", "/subjects/orders/versions/2", None, 404, 40402),
            ("GET", "/subjects/orders/versions/none", None, 422, 42202),
            ("GET", "/schemas/ids/99", None, 404, 40403),
            ("GET", "/config/orders", None, 404, 40408),
            ("GET", "/mode/orders", None, 404, 40409),
            ("POST", "/subjects/none", Some(&other), 404, 40401),
            ("POST", "/subjects/orders", Some(&other), 404, 40403),
            (
                "POST",
                "/subjects/orders/versions",
                Some(&other),
                409,
                40901,
            ),
            (
                "DELETE",
                "/subjects/orders?permanent=true",
                None,
                404,
                40405,
            ),
            ("DELETE", "/subjects/none", None, 404, 40401),
            ("GET", "/associations/resources/ns/topic", None, 404, 404),
            ("GET", "/nothing/here", None, 404, 404),
            ("POST", "/config", None, 405, 405),
        ] {
            let told = ask(registry, method, path, body);
            assert_eq!(
                (told.0, code(&told)),
                (status, expected),
                "{method} {path}: {}",
                told.1
            );
            assert!(told.1["message"].is_string());
        }
        let level = json!({ "compatibility": "none" });
        assert_eq!(ask(registry, "PUT", "/config/orders", Some(&level)).0, 200);
        assert_eq!(
            read(registry, "/config/orders").1,
            json!({ "compatibilityLevel": "NONE" })
        );
        assert_eq!(
            ask(registry, "POST", "/subjects/orders/versions", Some(&other)).0,
            200
        );
        let level = json!({ "compatibility": "SIDEWAYS" });
        assert_eq!(
            code(&ask(registry, "PUT", "/config/orders", Some(&level))),
            42203
        );
        let mode = json!({ "mode": "READONLY" });
        assert_eq!(ask(registry, "PUT", "/mode/orders", Some(&mode)).0, 200);
        let third = json!({ "schema": record("third") });
        assert_eq!(
            code(&ask(
                registry,
                "POST",
                "/subjects/orders/versions",
                Some(&third)
            )),
            42205
        );
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn compatibility_is_told_with_its_reasons() {
    let data = tempfile::tempdir().unwrap();
    let (node, registry) = start(data.path()).await;
    outside(move || {
        register(registry, "orders", &record("id"));
        let other = json!({ "schema": record("other") });
        // The slash at the end is Java's.
        let path = "/compatibility/subjects/orders/versions/?verbose=true";
        let (_, told) = ask(registry, "POST", path, Some(&other));
        assert_eq!(told["is_compatible"], json!(false));
        let messages = told["messages"].to_string();
        assert!(
            messages.contains("READER_FIELD_MISSING_DEFAULT_VALUE"),
            "{messages}"
        );
        let path = "/compatibility/subjects/orders/versions/latest";
        let same = json!({ "schema": record("id") });
        let (_, told) = ask(registry, "POST", path, Some(&same));
        assert_eq!(told, json!({ "is_compatible": true }));
        let path = "/compatibility/subjects/none/versions/latest";
        assert_eq!(
            ask(registry, "POST", path, Some(&same)).1["is_compatible"],
            json!(true)
        );
        let path = "/compatibility/subjects/orders/versions/7";
        assert_eq!(code(&ask(registry, "POST", path, Some(&same))), 40402);
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_context_in_the_path_and_in_the_name_is_the_same_one() {
    let data = tempfile::tempdir().unwrap();
    let (node, registry) = start(data.path()).await;
    outside(move || {
        register(registry, "a%2Fb", &record("id"));
        let path = "/contexts/.shop/subjects/orders/versions";
        let (_, told) = ask(
            registry,
            "POST",
            path,
            Some(&json!({ "schema": record("name") })),
        );
        // Ids are counted in each context.
        assert_eq!(told["id"], json!(1));
        assert_eq!(
            read(registry, "/subjects/:.shop:orders/versions").1,
            json!([1])
        );
        assert_eq!(
            read(registry, "/contexts/shop/subjects").1,
            json!([":.shop:orders"])
        );
        assert_eq!(read(registry, "/contexts").1, json!([".", ".shop"]));
        assert_eq!(
            read(registry, "/subjects?subjectPrefix=a/").1,
            json!(["a/b"])
        );
        let by_id = read(registry, "/contexts/.shop/schemas/ids/1").1;
        assert!(
            by_id["schema"].as_str().unwrap().contains("name"),
            "{by_id}"
        );
        let alias = json!({ "alias": "a/b" });
        assert_eq!(ask(registry, "PUT", "/config/old", Some(&alias)).0, 200);
        assert_eq!(read(registry, "/subjects/old/versions").1, json!([1]));
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn who_fetches_a_schema_is_noted() {
    let data = tempfile::tempdir().unwrap();
    let (node, registry) = start(data.path()).await;
    outside(move || {
        register(registry, "orders", &record("id"));
        let headers = ["Confluent-Client-Version: python/2.16.1"];
        for _ in 0..2 {
            let (status, ..) = request(registry, "GET", "/schemas/ids/1", &headers, b"");
            assert_eq!(status, 200);
        }
    })
    .await;
    let uses = node.registry().unwrap().uses();
    assert_eq!(uses.len(), 1);
    assert_eq!((uses[0].id, uses[0].times), (1, 2));
    assert_eq!(uses[0].client.version.as_deref(), Some("python/2.16.1"));
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_the_registry_answers_is_counted() {
    let data = tempfile::tempdir().unwrap();
    let (node, registry) = start(data.path()).await;
    let http = node.http_address();
    outside(move || {
        register(registry, "orders", &record("id"));
        read(registry, "/schemas/ids/9");
        let metrics = get(http, "/metrics").2;
        for line in [
            "wharf_registry_requests_total{route=\"/subjects/{subject}/versions\",status=\"200\"} 1",
            "wharf_registry_requests_total{route=\"/schemas/ids/{id}\",status=\"404\"} 1",
            "wharf_registry_schemas 1",
            "wharf_registry_subjects 1",
            "wharf_registry_unavailable 0",
        ] {
            assert!(metrics.lines().any(|found| found == line), "no {line} in\n{metrics}");
        }
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_registry_that_is_switched_off_opens_no_port() {
    let data = tempfile::tempdir().unwrap();
    let mut off = config(data.path());
    off.registry.enabled = false;
    let node = Node::start(off).await.unwrap();
    assert_eq!(node.registry_address(), None);
    assert!(node.registry().is_none());
    node.shutdown().await.unwrap();
}

#[test]
fn the_page_of_routes_is_what_the_routes_say() {
    let page = wharf_server::registry::reference();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/registry-api.md");
    if std::env::var_os("WHARF_REWRITE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "run this test with WHARF_REWRITE=1");
}
