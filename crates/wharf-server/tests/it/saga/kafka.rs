//! Workers that read command topics and answer over Kafka's protocol.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Value, json};
use wharf_log::batch::{HEADER_BYTES, Record, build, header, records};
use wharf_message::Timestamp;

use super::{ask, checkout, config, deploy, node, read, start, until};
use crate::client::{Kafka, PATIENCE};
use crate::node::outside;

/// A worker: a connection, and how far it has read.
pub(crate) struct Worker {
    kafka: Kafka,
    topic: &'static str,
    next: i64,
}

/// A command as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    record: Record,
}

impl Command {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.record.headers.iter();
        let mut found = found.filter(|(known, _)| known.as_ref() == name.as_bytes());
        std::str::from_utf8(found.next()?.1.as_deref()?).ok()
    }

    pub(crate) fn arguments(&self) -> Value {
        serde_json::from_slice(self.value()).unwrap()
    }

    pub(crate) fn value(&self) -> &[u8] {
        self.record.value.as_deref().unwrap()
    }
}

impl Worker {
    pub(crate) fn new(kafka: SocketAddr, topic: &'static str) -> Self {
        Self {
            kafka: Kafka::connect(kafka),
            topic,
            next: 0,
        }
    }

    /// The next command; waits for it.
    pub(crate) fn take(&mut self) -> Command {
        let begun = Instant::now();
        loop {
            if let Some(command) = self.look() {
                return command;
            }
            assert!(begun.elapsed() < PATIENCE, "no command in {}", self.topic);
        }
    }

    /// The next command, if it comes within the wait of a fetch.
    pub(crate) fn look(&mut self) -> Option<Command> {
        let (code, bytes) = self.kafka.fetch(self.topic, self.next);
        assert_eq!(code, 0);
        let mut bytes = Bytes::from(bytes);
        while !bytes.is_empty() {
            let head = header(&bytes).unwrap();
            let batch = bytes.split_to(head.batch_bytes());
            for record in records(&head, &batch.slice(HEADER_BYTES..)).unwrap() {
                if record.offset >= self.next {
                    self.next = record.offset + 1;
                    return Some(Command { record });
                }
            }
        }
        None
    }

    /// Answers a command.
    pub(crate) fn answer(&mut self, command: &Command, said: &str, value: &Value) {
        let generation = command.header("generation").unwrap().to_owned();
        self.answer_as(command, &generation, said, value);
    }

    /// The same for another dispatch.
    pub(crate) fn answer_as(
        &mut self,
        command: &Command,
        generation: &str,
        said: &str,
        value: &Value,
    ) {
        let named = |name| command.header(name).unwrap();
        let headers = [
            ("saga-id", named("saga-id")),
            ("step", named("step")),
            ("generation", generation),
            ("saga-reply", said),
        ];
        produce(
            &mut self.kafka,
            named("reply-to"),
            named("saga-id"),
            &headers,
            value,
        );
    }
}

/// Produces one record with headers to partition 0 (Produce v3).
pub(crate) fn produce(
    kafka: &mut Kafka,
    topic: &str,
    key: &str,
    headers: &[(&str, &str)],
    value: &Value,
) {
    produce_text(kafka, topic, key, headers, &value.to_string());
}

/// The same with any text as value.
pub(crate) fn produce_text(
    kafka: &mut Kafka,
    topic: &str,
    key: &str,
    headers: &[(&str, &str)],
    value: &str,
) {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let headers = headers
        .iter()
        .map(|(name, value)| (bytes(name), Some(bytes(value))));
    let record = Record {
        timestamp: Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap()),
        key: Some(bytes(key)),
        value: Some(bytes(value)),
        headers: headers.collect(),
        ..Record::default()
    };
    let batch = build(&[record], None);
    let partition = kafka.produce_batch(3, topic, &batch);
    assert_eq!(i16::from_be_bytes(partition[..2].try_into().unwrap()), 0);
}

#[tokio::test]
async fn a_saga_of_kafka_workers_goes_from_start_to_completed() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, kafka) = node(config(data.path())).await;
    outside(move || {
        deploy(http, "checkout", &checkout());
        let id = start(http, "checkout", "order-1", &json!({ "order": 1 }));
        let mut reserve = Worker::new(kafka, "reserve");
        let command = reserve.take();
        assert_eq!(command.header("saga-id"), Some(id.as_str()));
        assert_eq!(command.header("saga-type"), Some("checkout"));
        assert_eq!(command.header("step-name"), Some("Reserve"));
        assert_eq!(command.header("attempt"), Some("1"));
        let key = command.header("idempotency-key").unwrap();
        assert!(key.starts_with(&format!("{id}/")), "{key}");
        assert_eq!(command.arguments(), json!({ "order": 1 }));
        reserve.answer(&command, "SUCCESS", &json!("r-1"));
        let mut pay = Worker::new(kafka, "pay");
        let command = pay.take();
        assert_eq!(
            command.arguments(),
            json!({ "order": 1, "reserved": "r-1" })
        );
        pay.answer(&command, "SUCCESS", &json!("p-1"));
        let told = until(http, &id, "COMPLETED");
        assert_eq!(
            told["output"],
            json!({ "order": 1, "reserved": "r-1", "paid": "p-1" })
        );
        let timeline = read(http, &format!("/api/v1/sagas/{id}/timeline"));
        let steps = timeline["steps"].as_array().unwrap();
        assert_eq!(steps.len(), 2, "{timeline}");
        assert_eq!(steps[0]["attempts"][0]["outcome"], "succeeded");
        let listed = read(http, "/api/v1/sagas?type=checkout&status=COMPLETED");
        assert_eq!(listed["sagas"][0]["id"], id);
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_declared_failure_undoes_what_was_done_before_it() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, kafka) = node(config(data.path())).await;
    outside(move || {
        deploy(http, "checkout", &checkout());
        let id = start(http, "checkout", "order-1", &json!({}));
        let mut reserve = Worker::new(kafka, "reserve");
        let command = reserve.take();
        let step = command.header("step").unwrap().to_owned();
        reserve.answer(&command, "SUCCESS", &json!("r-1"));
        let mut pay = Worker::new(kafka, "pay");
        let command = pay.take();
        let undo = read(http, &format!("/api/v1/sagas/{id}/undo"));
        assert_eq!(undo["undo"][0]["name"], "Reserve", "{undo}");
        pay.answer(
            &command,
            "BUSINESS_FAILURE",
            &json!({ "error": "Declined" }),
        );
        let mut release = Worker::new(kafka, "release");
        let command = release.take();
        assert_eq!(command.header("undo"), Some("true"));
        let key = format!("{id}/{step}/undo");
        assert_eq!(command.header("idempotency-key"), Some(key.as_str()));
        release.answer(&command, "SUCCESS", &Value::Null);
        let told = until(http, &id, "COMPENSATED");
        assert_eq!(told["error"], "Declined");
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_restart_in_the_middle_changes_nothing_and_sends_no_command_twice() {
    let data = tempfile::tempdir().unwrap();
    let (first, http, kafka) = node(config(data.path())).await;
    let id = outside(move || {
        deploy(http, "checkout", &checkout());
        let id = start(http, "checkout", "order-1", &json!({}));
        let mut reserve = Worker::new(kafka, "reserve");
        let command = reserve.take();
        reserve.answer(&command, "SUCCESS", &json!("r-1"));
        Worker::new(kafka, "pay").take();
        id
    })
    .await;
    first.shutdown().await.unwrap();
    let (second, http, kafka) = node(config(data.path())).await;
    outside(move || {
        assert_eq!(
            read(http, &format!("/api/v1/sagas/{id}"))["steps"],
            json!(["Pay"])
        );
        let mut pay = Worker::new(kafka, "pay");
        let command = pay.take();
        assert!(pay.look().is_none(), "the command was sent twice");
        pay.answer(&command, "SUCCESS", &json!("p-1"));
        until(http, &id, "COMPLETED");
    })
    .await;
    second.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_stale_worker_is_fenced_by_its_generation() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, kafka) = node(config(data.path())).await;
    outside(move || {
        let mut definition = checkout();
        definition["States"]["Reserve"]["Retry"] =
            json!([{ "ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, "MaxAttempts": 2 }]);
        deploy(http, "checkout", &definition);
        let id = start(http, "checkout", "order-1", &json!({}));
        let mut reserve = Worker::new(kafka, "reserve");
        let first = reserve.take();
        reserve.answer(&first, "RETRYABLE", &json!({ "error": "Busy" }));
        let second = reserve.take();
        assert_eq!(second.header("attempt"), Some("2"));
        assert_eq!(
            first.header("idempotency-key"),
            second.header("idempotency-key")
        );
        assert_ne!(first.header("generation"), second.header("generation"));
        // The first worker was only slow.
        reserve.answer(&first, "SUCCESS", &json!("stale"));
        reserve.answer(&second, "SUCCESS", &json!("fresh"));
        let mut pay = Worker::new(kafka, "pay");
        assert_eq!(pay.take().arguments()["reserved"], "fresh");
        let told = read(http, &format!("/api/v1/sagas/{id}"));
        assert_eq!(told["status"], "RUNNING");
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn many_starts_with_one_key_are_one_saga_and_another_input_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, kafka) = node(config(data.path())).await;
    outside(move || {
        deploy(http, "checkout", &checkout());
        let starts: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn(move || start(http, "checkout", "order-1", &json!({ "a": 1 })))
            })
            .collect();
        let ids: Vec<_> = starts
            .into_iter()
            .map(|start| start.join().unwrap())
            .collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        let mut reserve = Worker::new(kafka, "reserve");
        reserve.take();
        assert!(reserve.look().is_none(), "the saga began twice");
        let other = json!({ "type": "checkout", "key": "order-1", "input": { "a": 2 } });
        let (status, told) = ask(http, "POST", "/api/v1/sagas", &other);
        assert_eq!(
            (status, &told["code"]),
            (409, &json!("WHARF-7003")),
            "{told}"
        );
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_record_starts_a_saga_once_however_often_it_is_sent() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, kafka) = node(config(data.path())).await;
    outside(move || {
        deploy(http, "checkout", &checkout());
        let mut client = Kafka::connect(kafka);
        for _ in 0..2 {
            let headers = [("saga-type", "checkout"), ("saga-attribute-city", "Köln")];
            produce(
                &mut client,
                "_wharf.saga-starts",
                "order-7",
                &headers,
                &json!({ "a": 1 }),
            );
        }
        let mut reserve = Worker::new(kafka, "reserve");
        assert_eq!(reserve.take().arguments(), json!({ "a": 1 }));
        assert!(reserve.look().is_none(), "the saga began twice");
        let listed = read(http, "/api/v1/sagas?attribute.city=K%C3%B6ln");
        assert_eq!(listed["sagas"][0]["key"], "order-7");
    })
    .await;
    node.shutdown().await.unwrap();
}
