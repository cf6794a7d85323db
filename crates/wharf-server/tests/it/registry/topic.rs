//! The topic `_schemas`: everything is in it, in Confluent's form, and nothing is anywhere else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use wharf_log::disk::simulated::{Faults, SimulatedDisk};
use wharf_message::TopicName;
use wharf_message::ledger::{Ledger as _, Partition};
use wharf_server::Node;

use super::{ask, code, read, record, register, start};
use crate::client::{Kafka, PATIENCE};
use crate::node::{config, outside};

/// Everything that can be asked about what is registered.
fn everything(registry: SocketAddr) -> Vec<Value> {
    [
        "/schemas?deleted=true&subjectPrefix=:*:",
        "/subjects?deleted=true&subjectPrefix=:*:",
        "/contexts",
        "/config",
        "/mode",
        "/config/orders",
        "/subjects/orders/versions?deletedAsNegative=true",
        "/schemas/ids/1?fetchMaxId=true",
    ]
    .map(|path| read(registry, path).1)
    .to_vec()
}

/// Waits until `question` has the answer.
fn until(registry: SocketAddr, path: &str, expected: &Value) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = read(registry, path).1;
        if told == *expected {
            return;
        }
        assert!(Instant::now() < deadline, "{path}: {told}");
    }
}

fn schema_key(subject: &str, version: i32) -> String {
    format!(r#"{{"keytype":"SCHEMA","subject":"{subject}","version":{version},"magic":1}}"#)
}

fn old_schema_key(subject: &str, version: i32) -> String {
    format!(r#"{{"subject":"{subject}","version":{version},"magic":0,"keytype":"SCHEMA"}}"#)
}

fn schema_value(subject: &str, version: i32, id: i32, schema: &str) -> String {
    let value = json!({ "subject": subject, "version": version, "id": id, "schema": schema, "deleted": false });
    value.to_string()
}

#[tokio::test]
async fn a_restart_changes_nothing_because_the_topic_is_all_there_is() {
    let data = tempfile::tempdir().unwrap();
    let (node, registry) = start(data.path()).await;
    let before = outside(move || {
        register(registry, "orders", &record("id"));
        let level = json!({ "compatibility": "NONE" });
        ask(registry, "PUT", "/config/orders", Some(&level));
        register(registry, "orders", &record("other"));
        register(registry, "orders", &record("third"));
        register(registry, ":.shop:bills", &record("bill"));
        register(registry, "gone", &record("gone"));
        ask(registry, "DELETE", "/subjects/gone", None);
        ask(registry, "DELETE", "/subjects/gone?permanent=true", None);
        ask(registry, "DELETE", "/subjects/orders/versions/2", None);
        ask(
            registry,
            "PUT",
            "/mode/:.shop:",
            Some(&json!({ "mode": "READONLY" })),
        );
        everything(registry)
    });
    let before = before.await;
    node.shutdown().await.unwrap();
    for _ in 0..2 {
        let (node, registry) = start(data.path()).await;
        let after = outside(move || everything(registry)).await;
        assert_eq!(after, before);
        node.shutdown().await.unwrap();
    }
    let (node, registry) = start(data.path()).await;
    // Four ids were given, and the one of what is gone is not given again.
    let next = outside(move || register(registry, "next", &record("next"))).await;
    assert_eq!(next, 5);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_registrations_of_one_schema_give_one_id() {
    let data = tempfile::tempdir().unwrap();
    let (node, registry) = start(data.path()).await;
    let clients = (0..16).map(|client| {
        outside(move || {
            let same = register(registry, "orders", &record("same"));
            let own = register(
                registry,
                &format!("own-{client}"),
                &record(&format!("f{client}")),
            );
            (same, own)
        })
    });
    let ids = futures_util::future::join_all(clients).await;
    let first = ids[0].0;
    assert!(ids.iter().all(|(same, _)| *same == first), "{ids:?}");
    let mut own: Vec<_> = ids.iter().map(|(_, own)| *own).collect();
    own.sort_unstable();
    own.dedup();
    assert_eq!(own.len(), 16);
    assert!(!own.contains(&first));
    assert_eq!(*own.last().unwrap(), 17);
    let versions = outside(move || read(registry, "/subjects/orders/versions").1).await;
    assert_eq!(versions, json!([1]));
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_topic_of_another_registry_is_adopted_with_its_ids() {
    let data = tempfile::tempdir().unwrap();
    let mut without = config(data.path());
    without.registry.enabled = false;
    let node = Node::start(without).await.unwrap();
    let kafka = node.kafka_address();
    outside(move || {
        let mut kafka = Kafka::connect(kafka);
        assert_eq!(
            kafka.create_topic_with("_schemas", &[("cleanup.policy", "compact")]),
            0
        );
        let mut put = |key: &str, value: Option<&str>| {
            assert_eq!(kafka.produce_pair("_schemas", Some(key), value).0, 0);
        };
        put(r#"{"keytype":"NOOP","magic":0}"#, None);
        let string = schema_value("orders", 1, 40, r#""string""#);
        put(&old_schema_key("orders", 1), Some(&string));
        let long = schema_value("orders", 2, 41, r#""long""#);
        put(&schema_key("orders", 2), Some(&long));
        put("this is no key", Some("and this no value"));
        let level = r#"{"compatibilityLevel":"NONE"}"#;
        put(
            r#"{"keytype":"CONFIG","subject":null,"magic":0}"#,
            Some(level),
        );
        // Another text under an id that is taken.
        let wrong = schema_value("wrong", 1, 40, r#""bytes""#);
        put(&schema_key("wrong", 1), Some(&wrong));
    })
    .await;
    node.shutdown().await.unwrap();
    let (node, registry) = start(data.path()).await;
    let kafka = node.kafka_address();
    outside(move || {
        assert_eq!(
            read(registry, "/schemas/ids/40").1["schema"],
            json!(r#""string""#)
        );
        assert_eq!(read(registry, "/subjects").1, json!(["orders"]));
        assert_eq!(read(registry, "/subjects/orders/versions").1, json!([1, 2]));
        assert_eq!(
            read(registry, "/config").1["compatibilityLevel"],
            json!("NONE")
        );
        assert_eq!(register(registry, "orders", &record("next")), 42);
        // What others go on writing is followed.
        let double = schema_value("bills", 1, 50, r#""double""#);
        let mut kafka = Kafka::connect(kafka);
        let (error, _) =
            kafka.produce_pair("_schemas", Some(&schema_key("bills", 1)), Some(&double));
        assert_eq!(error, 0);
        until(registry, "/subjects", &json!(["bills", "orders"]));
        assert_eq!(register(registry, "last", &record("last")), 51);
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_topic_that_comes_later_is_found_and_one_that_goes_takes_everything_along() {
    let data = tempfile::tempdir().unwrap();
    let (node, registry) = start(data.path()).await;
    let kafka = node.kafka_address();
    outside(move || {
        let mut kafka = Kafka::connect(kafka);
        assert_eq!(read(registry, "/subjects").1, json!([]));
        assert_eq!(
            kafka.create_topic_with("_schemas", &[("cleanup.policy", "compact")]),
            0
        );
        let value = schema_value("orders", 1, 7, r#""string""#);
        kafka.produce_pair("_schemas", Some(&schema_key("orders", 1)), Some(&value));
        until(registry, "/subjects", &json!(["orders"]));
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_was_deleted_for_good_stays_deleted_under_every_form_of_its_key() {
    let data = tempfile::tempdir().unwrap();
    let (node, registry) = start(data.path()).await;
    let kafka = node.kafka_address();
    outside(move || {
        register(registry, "orders", &record("id"));
        let (_, told) = read(registry, "/subjects/orders/versions/1");
        // The same version once more, as an older registry wrote keys.
        let value = schema_value("orders", 1, 1, told["schema"].as_str().unwrap());
        let mut kafka = Kafka::connect(kafka);
        let (error, _) =
            kafka.produce_pair("_schemas", Some(&old_schema_key("orders", 1)), Some(&value));
        assert_eq!(error, 0);
        // A change after it was followed, so that both forms are known.
        register(registry, "other", &record("other"));
        let soft = ask(registry, "DELETE", "/subjects/orders/versions/1", None);
        assert_eq!(soft, (200, json!(1)));
        let again = ask(registry, "DELETE", "/subjects/orders/versions/1", None);
        assert_eq!(code(&again), 40406);
        let hard = ask(
            registry,
            "DELETE",
            "/subjects/orders/versions/1?permanent=true",
            None,
        );
        assert_eq!(hard, (200, json!(1)));
    })
    .await;
    let last = tombstoned(&node);
    assert!(last.contains(&old_schema_key("orders", 1)), "{last:?}");
    assert!(last.contains(&schema_key("orders", 1)), "{last:?}");
    node.shutdown().await.unwrap();
    let (node, registry) = start(data.path()).await;
    outside(move || {
        assert_eq!(read(registry, "/subjects?deleted=true").1, json!(["other"]));
        assert_eq!(code(&read(registry, "/schemas/ids/1")), 40403);
    })
    .await;
    node.shutdown().await.unwrap();
}

/// The keys whose last record in the topic has no value.
fn tombstoned(node: &Node) -> Vec<String> {
    let place = Partition {
        topic: TopicName::new("_schemas").unwrap(),
        index: 0,
    };
    let ledger = node.broker().ledger("test");
    let mut last = BTreeMap::new();
    let mut next = 0;
    // What comes behind the last record is waited for, so not asked for.
    while let Some(entries) = ledger.follow(place.clone(), next, 1_000).now_or_never() {
        for entry in entries.unwrap() {
            next = entry.offset + 1;
            last.insert(entry.record.key.unwrap(), entry.record.value.is_none());
        }
    }
    let gone = last.into_iter().filter(|(_, is_gone)| *is_gone);
    gone.map(|(key, _)| String::from_utf8(key.to_vec()).unwrap())
        .collect()
}

#[tokio::test]
async fn a_topic_in_another_form_is_refused_and_told() {
    let data = tempfile::tempdir().unwrap();
    let (node, registry) = start(data.path()).await;
    let kafka = node.kafka_address();
    outside(move || {
        assert_eq!(Kafka::connect(kafka).create_topic("_schemas"), 0);
        let body = json!({ "schema": record("id") });
        let told = ask(registry, "POST", "/subjects/orders/versions", Some(&body));
        assert_eq!((told.0, code(&told)), (500, 50001));
        assert!(
            told.1["message"].as_str().unwrap().contains("_schemas"),
            "{}",
            told.1
        );
    })
    .await;
    assert!(node.registry().unwrap().trouble().is_some());
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_answered_as_stored_and_reading_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let disk = SimulatedDisk::new(1, Faults::default());
    let open = disk.clone();
    let node = Node::start_on(config(data.path()), move |_| Ok(Arc::new(open)))
        .await
        .unwrap();
    let registry = node.registry_address().unwrap();
    outside(move || register(registry, "orders", &record("id"))).await;
    outside(move || {
        disk.set_faults(Faults {
            sync_failure_one_in: 1,
            ..Faults::default()
        });
        let body = json!({ "schema": record("other") });
        let told = ask(registry, "POST", "/subjects/others/versions", Some(&body));
        assert_eq!(code(&told), 50001);
        assert_eq!(read(registry, "/subjects").1, json!(["orders"]));
        assert_eq!(read(registry, "/schemas/ids/1").0, 200);
    })
    .await;
    node.shutdown().await.unwrap_err();
}
