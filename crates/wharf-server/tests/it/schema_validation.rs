//! Topics that ask for schemas, on a whole node: registered over HTTP, produced over Kafka's protocol.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use bytes::{Buf as _, Bytes};
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use wharf_log::batch::{Compression, HEADER_BYTES, Record, build, recompressed};
use wharf_message::Timestamp;
use wharf_schema::wire::{self, SchemaId, VALUE_HEADER};
use wharf_server::Node;

use crate::client::{Kafka, get};
use crate::node::{config, outside};
use crate::registry::{read, record, register, start};

const INVALID_RECORD: i16 = 87;
const INVALID_CONFIG: i16 = 40;
const POLICY_VIOLATION: i16 = 44;

/// What the answer says of one partition (Produce v8).
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) code: i16,
    offset: i64,
    /// The records that are named, and why.
    named: Vec<(i32, String)>,
    message: String,
}

pub(crate) fn produce(kafka: &mut Kafka, topic: &str, batch: &[u8]) -> Answer {
    let partition = kafka.produce_batch(8, topic, batch);
    let mut answer = partition.as_slice();
    let (code, offset) = (answer.get_i16(), answer.get_i64());
    answer.advance(8 + 8);
    let named = (0..answer.get_i32())
        .map(|_| (answer.get_i32(), said(&mut answer)))
        .collect();
    let message = said(&mut answer);
    Answer {
        code,
        offset,
        named,
        message,
    }
}

/// A text that may be none.
fn said(answer: &mut &[u8]) -> String {
    let length = usize::try_from(answer.get_i16()).unwrap_or(0);
    let text = String::from_utf8(answer[..length].to_vec()).unwrap();
    answer.advance(length);
    text
}

fn now() -> Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap())
}

pub(crate) fn value(bytes: &[u8]) -> Record {
    Record {
        timestamp: now(),
        value: Some(Bytes::copy_from_slice(bytes)),
        ..Record::default()
    }
}

/// A record whose value begins with the id of its schema.
pub(crate) fn framed(id: i64, payload: &[u8]) -> Record {
    let mut bytes = Vec::new();
    wire::write(SchemaId::Id(i32::try_from(id).unwrap()), None, &mut bytes);
    bytes.extend_from_slice(payload);
    value(&bytes)
}

/// The Avro record of [`record`] with this text in its one field.
pub(crate) fn avro(text: &str) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(2 * text.len()).unwrap()];
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

pub(crate) fn batch(records: &[Record]) -> Bytes {
    build(records, None)
}

/// A node, its registry, and a connection.
pub(crate) async fn open(data: &Path) -> (Node, SocketAddr, SocketAddr) {
    let (node, registry) = start(data).await;
    let kafka = node.kafka_address();
    (node, registry, kafka)
}

#[tokio::test]
async fn each_mode_does_what_it_says_with_a_bad_record_among_good_ones() {
    let data = tempfile::tempdir().unwrap();
    let (node, registry, kafka) = open(data.path()).await;
    let http = node.http_address();
    outside(move || {
        let mut kafka = Kafka::connect(kafka);
        for mode in ["off", "warn", "reject"] {
            let setting = [("wharf.schema.validation", mode)];
            assert_eq!(kafka.create_topic_with(mode, &setting), 0);
            let id = register(registry, &format!("{mode}-value"), &record("id"));
            let good = || framed(id, &avro("o-1"));
            let mixed = batch(&[good(), value(b"{}"), good(), framed(99, b"")]);
            let answer = produce(&mut kafka, mode, &mixed);
            if mode == "reject" {
                assert_eq!((answer.code, answer.offset), (INVALID_RECORD, -1));
                assert_eq!(answer.named.len(), 2);
                let [(1, plain), (3, unknown)] = &answer.named[..] else {
                    panic!("{answer:?}")
                };
                assert!(plain.contains("begins with the byte 0x7b"), "{plain}");
                assert!(unknown.contains("id 99"), "{unknown}");
                assert!(unknown.contains("WHARF-6010"), "{unknown}");
                assert!(answer.message.starts_with("2 of the batch's records"));
            } else {
                assert_eq!((answer.code, answer.offset), (0, 0), "{answer:?}");
            }
            let answer = produce(&mut kafka, mode, &batch(&[good()]));
            let offset = if mode == "reject" { 0 } else { 4 };
            assert_eq!((answer.code, answer.offset), (0, offset));
        }
        let (_, _, metrics) = get(http, "/metrics");
        for line in [
            r#"wharf_schema_checked_records_total{topic="warn",client="test"} 5"#,
            r#"wharf_schema_checked_records_total{topic="reject",client="test"} 5"#,
            r#"wharf_schema_broken_records_total{topic="warn",client="test",action="warned"} 2"#,
            r#"wharf_schema_broken_records_total{topic="reject",client="test",action="rejected"} 2"#,
        ] {
            assert!(metrics.contains(line), "{line} is not in {metrics}");
        }
        assert!(!metrics.contains(r#"topic="off""#));
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_guid_in_a_header_a_tombstone_and_a_compressed_batch_pass_and_are_looked_into() {
    let data = tempfile::tempdir().unwrap();
    let (node, registry, kafka) = open(data.path()).await;
    outside(move || {
        let mut kafka = Kafka::connect(kafka);
        let settings = [
            ("confluent.value.schema.validation", "true"),
            ("wharf.schema.validation.depth", "payload"),
        ];
        assert_eq!(kafka.create_topic_with("orders", &settings), 0);
        let id = register(registry, "orders-value", &record("id"));
        let (_, said) = read(registry, &format!("/schemas/ids/{id}"));
        let guid: uuid::Uuid = said["guid"].as_str().unwrap().parse().unwrap();
        let mut header = Vec::new();
        wire::write(SchemaId::Guid(guid), None, &mut header);
        let with_header = |payload: &[u8]| Record {
            headers: vec![(
                Bytes::from_static(VALUE_HEADER.as_bytes()),
                Some(header.clone().into()),
            )],
            ..value(payload)
        };
        let tombstone = Record {
            key: Some(Bytes::from_static(b"o-1")),
            value: None,
            ..value(b"")
        };
        let records = [with_header(&avro("o-1")), tombstone, framed(id, &avro("x"))];
        assert_eq!(produce(&mut kafka, "orders", &batch(&records)).code, 0);
        let answer = produce(&mut kafka, "orders", &batch(&[with_header(b"\x09cut")]));
        assert_eq!(answer.code, INVALID_RECORD);
        let why = &answer.named[0].1;
        assert!(why.contains("version 1 of orders-value"), "{why}");

        for (payload, code) in [(avro("o-1"), 0), (b"\x09cut".to_vec(), INVALID_RECORD)] {
            let plain = batch(&[framed(id, &avro("x")), framed(id, &payload)]);
            let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::default());
            gzip.write_all(&plain[HEADER_BYTES..]).unwrap();
            let records = gzip.finish().unwrap();
            let compressed = recompressed(&plain, Compression::Gzip, &records).unwrap();
            let answer = produce(&mut kafka, "orders", &compressed);
            assert_eq!(answer.code, code, "{answer:?}");
            assert!(answer.named.iter().all(|(index, _)| *index == 1));
        }
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn keys_and_subjects_named_after_types_are_checked_as_the_topic_says() {
    let data = tempfile::tempdir().unwrap();
    let (node, registry, kafka) = open(data.path()).await;
    outside(move || {
        let mut kafka = Kafka::connect(kafka);
        let settings = [
            ("wharf.schema.validation", "reject"),
            ("confluent.key.schema.validation", "true"),
            (
                "confluent.value.subject.name.strategy",
                "io.confluent.kafka.serializers.subject.TopicRecordNameStrategy",
            ),
        ];
        assert_eq!(kafka.create_topic_with("orders", &settings), 0);
        let of_value = register(registry, "orders-Order", &record("id"));
        let of_key = register(registry, "orders-key", &record("key"));
        let with_key = |key: i64| Record {
            key: framed(key, &avro("k")).value,
            ..framed(of_value, &avro("o-1"))
        };
        let mut code = |record: Record| produce(&mut kafka, "orders", &batch(&[record])).code;
        assert_eq!(code(with_key(of_key)), 0);
        assert_eq!(code(framed(of_value, &avro("o-1"))), 0, "no key is no key");
        assert_eq!(code(with_key(of_value)), INVALID_RECORD);
        assert_eq!(code(framed(of_key, &avro("o-1"))), INVALID_RECORD);
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_node_without_a_registry_keeps_the_contract_by_taking_nothing() {
    let data = tempfile::tempdir().unwrap();
    let (node, registry, kafka) = open(data.path()).await;
    let id = outside(move || {
        let setting = [("wharf.schema.validation", "reject")];
        assert_eq!(
            Kafka::connect(kafka).create_topic_with("orders", &setting),
            0
        );
        register(registry, "orders-value", &record("id"))
    })
    .await;
    node.shutdown().await.unwrap();

    let mut without = config(data.path());
    without.registry.enabled = false;
    let node = Node::start(without).await.unwrap();
    let kafka = node.kafka_address();
    outside(move || {
        let mut kafka = Kafka::connect(kafka);
        let answer = produce(&mut kafka, "orders", &batch(&[framed(id, &avro("o-1"))]));
        assert_eq!(answer.code, POLICY_VIOLATION);
        assert!(answer.message.contains("--registry-listen"), "{answer:?}");
        let setting = [("wharf.schema.validation", "reject")];
        assert_eq!(
            kafka.create_topic_with("payments", &setting),
            INVALID_CONFIG
        );
    })
    .await;
    node.shutdown().await.unwrap();

    let (node, _registry, kafka) = open(data.path()).await;
    outside(move || {
        let mut kafka = Kafka::connect(kafka);
        let good = batch(&[framed(id, &avro("o-1"))]);
        assert_eq!(produce(&mut kafka, "orders", &good).code, 0);
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_deleted_from_the_subject_is_no_longer_taken() {
    let data = tempfile::tempdir().unwrap();
    let (node, registry, kafka) = open(data.path()).await;
    outside(move || {
        let mut kafka = Kafka::connect(kafka);
        let setting = [("wharf.schema.validation", "reject")];
        assert_eq!(kafka.create_topic_with("orders", &setting), 0);
        let id = register(registry, "orders-value", &record("id"));
        let good = batch(&[framed(id, &avro("o-1"))]);
        assert_eq!(produce(&mut kafka, "orders", &good).code, 0);
        let none: Option<&Value> = None;
        let deleted = crate::registry::ask(registry, "DELETE", "/subjects/orders-value", none);
        assert_eq!(deleted, (200, json!([1])));
        let answer = produce(&mut kafka, "orders", &good);
        assert_eq!(answer.code, INVALID_RECORD);
        let why = &answer.named[0].1;
        assert!(why.contains("was deleted from orders-value"), "{why}");
    })
    .await;
    node.shutdown().await.unwrap();
}
