//! What the node says of a change of a schema over HTTP: its evidence, and what it refuses to look at.

use bytes::Bytes;
use serde_json::{Value, json};
use wharf_log::batch::Record;
use wharf_schema::wire::{self, SchemaId, VALUE_HEADER};

use crate::client::{Kafka, request};
use crate::node::outside;
use crate::registry::{read, record, register};
use crate::schema_validation::{avro, batch, framed, open, produce, value};

const JSON: &str = "content-type: application/json";

fn ask(http: std::net::SocketAddr, query: &str, body: &str) -> (u16, String) {
    let path = format!("/api/v1/schemas/impact{query}");
    let (status, _, body) = request(http, "POST", &path, &[JSON], body.as_bytes());
    (status, body)
}

#[tokio::test]
async fn a_record_that_names_its_schema_by_guid_in_a_header_counts_as_one_of_that_schema() {
    let data = tempfile::tempdir().unwrap();
    let (node, registry, kafka) = open(data.path()).await;
    let http = node.http_address();
    outside(move || {
        let mut kafka = Kafka::connect(kafka);
        assert_eq!(kafka.create_topic_with("orders", &[]), 0);
        let id = register(registry, "orders-value", &record("id"));
        let (_, said) = read(registry, &format!("/schemas/ids/{id}"));
        let guid = said["guid"].as_str().unwrap().parse().unwrap();
        let by_guid = |guid| {
            let mut header = Vec::new();
            wire::write(SchemaId::Guid(guid), None, &mut header);
            let name = Bytes::from_static(VALUE_HEADER.as_bytes());
            Record {
                headers: vec![(name, Some(header.into()))],
                ..value(&avro("o-1"))
            }
        };
        let unknown = by_guid(uuid::Uuid::from_u128(7));
        let records = [
            by_guid(guid),
            framed(id, &avro("o-2")),
            unknown,
            value(b"{}"),
        ];
        assert_eq!(produce(&mut kafka, "orders", &batch(&records)).code, 0);
        let change = json!({ "subject": "orders-value", "schema": record("other") });
        let (status, evidence) = ask(http, "?format=evidence", &change.to_string());
        assert_eq!(status, 200, "{evidence}");
        let evidence: Value = serde_json::from_str(&evidence).unwrap();
        let partition = &evidence["topics"][0]["partitions"][0];
        let runs = partition["runs"].as_array().unwrap();
        let runs: Vec<_> = runs
            .iter()
            .map(|run| (&run["id"], &run["records"]))
            .collect();
        let two = json!(2);
        assert_eq!(runs, [(&json!(id), &two), (&Value::Null, &two)]);
        assert_eq!(partition["scanned_to"], 4);
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_refused_with_its_reason() {
    let data = tempfile::tempdir().unwrap();
    let (node, registry, _) = open(data.path()).await;
    let http = node.http_address();
    outside(move || {
        register(registry, "orders-value", &record("id"));
        let change = |schema: &str| json!({ "subject": "orders-value", "schema": schema });
        let good = change(&record("other")).to_string();
        let mut unknown_field = change(&record("other"));
        unknown_field["levl"] = json!("FULL");
        let mut unknown_reference = change(&record("other"));
        let reference = json!({ "name": "a.b", "subject": "nothing", "version": 1 });
        unknown_reference["references"] = json!([reference]);
        for (query, body, status, sentence) in [
            (
                "?format=pdf",
                good.as_str(),
                400,
                "json, text, markdown, sarif",
            ),
            ("", "{", 400, "EOF"),
            ("", "{}", 400, "subject"),
            ("", &unknown_field.to_string(), 400, "levl"),
            ("", &change("{}").to_string(), 422, "type"),
        ] {
            let (told, problem) = ask(http, query, body);
            assert_eq!(told, status, "{problem}");
            let problem: Value = serde_json::from_str(&problem).unwrap();
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains(sentence), "{detail}");
        }
        let (status, report) = ask(http, "?format=text", &good);
        assert_eq!(status, 200, "{report}");
        // What could not be looked at is said in the report.
        let (status, report) = ask(http, "", &unknown_reference.to_string());
        assert_eq!(status, 200, "{report}");
        let report: Value = serde_json::from_str(&report).unwrap();
        let gap = "a.b refers to nothing version 1, which is not there";
        assert!(report["gaps"].as_array().unwrap().contains(&json!(gap)));
        // A subject without versions is one that nothing of can break.
        let first = json!({ "subject": "new-value", "schema": record("id") });
        let (status, report) = ask(http, "", &first.to_string());
        assert_eq!(status, 200, "{report}");
    })
    .await;
    node.shutdown().await.unwrap();
}
