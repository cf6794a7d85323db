//! Choreographies on a node: what is seen, judged, kept and told, over real topics.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use wharf_broker::{Context, InitTransactions, Produce, Protocol, TopicRef, TransactionalProducer};
use wharf_log::batch;
use wharf_message::ledger::{Commit, Ledger as _, Partition, Record, TopicSpec};
use wharf_message::{Timestamp, TopicName};
use wharf_server::config::{Address, SecretUrl};
use wharf_server::{Config, Node};

use crate::client::{PATIENCE, get, request};
use crate::node::{config, outside};

pub(crate) const ROOT: &str = "/api/v1/choreographies";
pub(crate) const HAPPY: [&str; 6] = [
    "checkout.submitted",
    "order.placed",
    "stock.reserved",
    "payment.captured",
    "parcel.shipped",
    "order.completed",
];

/// The shop's contract, in more of a hurry.
pub(crate) fn contract() -> String {
    let shop = include_str!("../../../../examples/shop/choreography.yaml");
    shop.replace("within: 30s", "within: 1s")
}

pub(crate) fn watched(data: &Path) -> Config {
    let mut config = config(data);
    config.choreography.enabled = true;
    config
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap())
}

fn topic_of(event: &str) -> &'static str {
    match event.split('.').next().unwrap() {
        "checkout" => "shop.checkouts",
        "stock" => "shop.stock",
        "payment" => "shop.payments",
        "parcel" => "shop.shipments",
        _ if event == "order.placed" => "shop.orders",
        _ => "shop.outcomes",
    }
}

fn record(order: &str, event: &str) -> Record {
    let header = |name: &str, value: String| (name.to_owned().into(), Some(value.into()));
    Record {
        timestamp: now(),
        key: Some(order.to_owned().into()),
        value: Some("{}".into()),
        headers: vec![
            header("ce_type", format!("shop.{event}")),
            header("ce_id", format!("{order}/{event}")),
            header("ce_correlationid", order.to_owned()),
        ],
    }
}

/// The one partition of an event's topic, which is made when it is not there.
pub(crate) async fn place(node: &Node, event: &str) -> Partition {
    let name = TopicName::new(topic_of(event)).unwrap();
    let spec = TopicSpec {
        name: name.clone(),
        partitions: 1,
        compacted: false,
    };
    let ledger = node.broker().ledger("test");
    ledger.create_topic(spec).await.unwrap();
    Partition {
        topic: name,
        index: 0,
    }
}

/// Writes events of an order.
pub(crate) async fn happens(node: &Node, order: &str, events: &[&str]) {
    let ledger = node.broker().ledger("test");
    for event in events {
        let place = place(node, event).await;
        let owner = ledger.own(place.clone()).await.unwrap();
        let commit = Commit {
            records: vec![(place, record(order, event))],
            ..Commit::default()
        };
        ledger.commit(&owner, commit).await.unwrap();
    }
}

/// Writes events of an order, each of another topic, in a transaction that ends in this way.
async fn happens_in_transaction(node: &Node, order: &str, events: &[&str], is_committed: bool) {
    let open = begins_transaction(node, order, events).await;
    ends_transaction(node, &open, is_committed).await;
}

async fn ends_transaction(node: &Node, open: &TransactionalProducer, is_committed: bool) {
    let (broker, cx) = (node.broker(), Context::internal("test"));
    let ended = broker.end_transaction(&cx, open, is_committed, Protocol::Implicit);
    ended.await.unwrap();
}

async fn begins_transaction(node: &Node, order: &str, events: &[&str]) -> TransactionalProducer {
    let (broker, cx) = (node.broker(), Context::internal("test"));
    let request = InitTransactions {
        id: "test".to_owned(),
        timeout: PATIENCE,
        current: None,
    };
    let producer = broker.init_transactions(&cx, request).await.unwrap();
    let mut produce = Vec::new();
    for event in events {
        let place = place(node, event).await;
        let record = record(order, event);
        let record = batch::Record {
            offset: 0,
            timestamp: record.timestamp,
            key: record.key,
            value: record.value,
            headers: record.headers,
        };
        let producer = batch::Producer {
            id: producer.id,
            epoch: producer.epoch,
            sequence: 0,
        };
        produce.push(Produce {
            topic: TopicRef::Name(place.topic.as_str().to_owned()),
            partition: 0,
            records: Some(batch::build_transactional(&[record], producer)),
        });
    }
    let protocol = Protocol::Implicit;
    let produced = broker.produce_in_transaction(&cx, "test", protocol, produce);
    for produced in produced.await {
        produced.unwrap();
    }
    TransactionalProducer {
        id: "test".to_owned(),
        producer,
    }
}

async fn ask(address: SocketAddr, path: String) -> (u16, Value) {
    let answer = outside(move || get(address, &path)).await;
    (
        answer.0,
        serde_json::from_str(&answer.2).unwrap_or_default(),
    )
}

pub(crate) async fn send(
    address: SocketAddr,
    method: &'static str,
    path: String,
    body: String,
) -> (u16, Value) {
    let answer = outside(move || request(address, method, &path, &[], body.as_bytes())).await;
    (
        answer.0,
        serde_json::from_str(&answer.2).unwrap_or_default(),
    )
}

/// The answer to a question, once it is as wanted.
pub(crate) async fn until(
    address: SocketAddr,
    path: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let begun = Instant::now();
    loop {
        let (_, answer) = ask(address, path.to_owned()).await;
        if wanted(&answer) {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "{path}: {answer:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn verdict(order: &str) -> String {
    format!("{ROOT}/contracts/shop/instances/{order}")
}

/// Takes what is sent to a webhook; the first time it is not well.
pub(crate) fn webhook() -> (SocketAddr, Receiver<Value>) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let (sender, received) = channel();
    std::thread::spawn(move || {
        for (count, stream) in socket.incoming().enumerate() {
            let Ok(stream) = stream else { return };
            let mut reader = BufReader::new(stream);
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let lower = line.to_ascii_lowercase();
                if let Some(text) = lower.strip_prefix("content-length:") {
                    length = text.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let status = if count == 0 {
                "503 Service Unavailable"
            } else {
                "200 OK"
            };
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
            if count > 0 && sender.send(serde_json::from_slice(&body).unwrap()).is_err() {
                return;
            }
        }
    });
    (address, received)
}

/// Everything in a topic of one partition.
pub(crate) async fn all_of(node: &Node, topic: &str) -> Vec<(String, Option<Value>)> {
    let ledger = node.broker().ledger("test");
    let place = Partition {
        topic: TopicName::new(topic).unwrap(),
        index: 0,
    };
    let entries = ledger.follow(place, 0, 1_000).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let pair = |entry: &wharf_message::ledger::Entry| {
        let key = text(entry.record.key.as_deref().unwrap());
        let value = entry.record.value.as_deref();
        (
            key,
            value.map(|value| serde_json::from_slice(value).unwrap()),
        )
    };
    entries.iter().map(pair).collect()
}

#[tokio::test]
async fn a_stuck_order_is_told_in_a_topic_by_a_metric_and_to_the_webhook() {
    let data = tempfile::tempdir().unwrap();
    let contracts = tempfile::tempdir().unwrap();
    std::fs::write(contracts.path().join("shop.yaml"), contract()).unwrap();
    std::fs::write(
        contracts.path().join("broken.yaml"),
        "choreography: broken\n",
    )
    .unwrap();
    std::fs::write(contracts.path().join("notes.txt"), "nothing to read").unwrap();
    let (hook, told) = webhook();
    let mut config = watched(data.path());
    config.choreography.contracts = Some(contracts.path().to_owned());
    config.choreography.webhook = Some(SecretUrl::from(format!("http://{hook}/alarm").as_str()));
    let node = Node::start(config).await.unwrap();
    let http = node.http_address();
    happens(&node, "well", &HAPPY).await;
    happens(&node, "ill", &HAPPY[..2]).await;
    let is = |kind: &'static str| move |answer: &Value| answer["verdict"] == kind;
    until(http, &verdict("well"), is("completed")).await;
    let stuck = until(http, &verdict("ill"), is("stuck")).await;
    let finding = stuck["findings"][0].as_str().unwrap();
    assert!(
        finding.contains("the group inventory has never consumed"),
        "{finding}"
    );
    let told = outside(move || told.recv_timeout(PATIENCE).unwrap()).await;
    assert_eq!(
        (&told["instance"], &told["verdict"]),
        (&json!("ill"), &json!("stuck"))
    );
    assert_eq!(
        told["findings"][0]["consumption"]["what"],
        "nothing-committed"
    );
    let kept = all_of(&node, "_wharf.choreography-verdicts").await;
    let mut keys: Vec<&str> = kept.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["shop/ill", "shop/well"]);
    let (_, _, metrics) = outside(move || get(http, "/metrics")).await;
    for line in [
        "wharf_choreography_stuck{choreography=\"shop\"} 1",
        "wharf_choreography_instances{choreography=\"shop\",verdict=\"completed\"} 1",
        "wharf_choreography_verdicts_total{choreography=\"shop\",verdict=\"stuck\"} 1",
        "wharf_choreography_webhooks_sent_total 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    let (_, listed) = ask(
        http,
        format!("{ROOT}/contracts/shop/instances?verdict=stuck"),
    )
    .await;
    assert_eq!(listed["instances"].as_array().unwrap().len(), 1);
    let (status, _) = ask(http, format!("{ROOT}/contracts/shop/instances?verdict=ill")).await;
    assert_eq!(status, 400);
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn after_a_restart_the_topics_give_the_same_verdicts_and_nothing_is_told_twice() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(watched(data.path())).await.unwrap();
    let http = node.http_address();
    let place = format!("{ROOT}/contracts/shop");
    let (status, answer) = send(http, "PUT", place, contract()).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["replaced"], false);
    for order in ["a", "b", "c"] {
        happens(&node, order, &HAPPY).await;
    }
    happens(&node, "ill", &HAPPY[..3]).await;
    until(http, &verdict("ill"), |answer| answer["verdict"] == "stuck").await;
    until(http, &verdict("c"), |answer| {
        answer["verdict"] == "completed"
    })
    .await;
    let graph = format!("{ROOT}/lens/graph");
    let seen = until(http, &graph, |answer| answer["instances"] == 4).await;
    let is_told = |kept: &[(String, Option<Value>)]| kept.len();
    let told = is_told(&all_of(&node, "_wharf.choreography-verdicts").await);
    assert_eq!(told, 4);
    let (_, before) = ask(http, verdict("ill")).await;
    node.shutdown().await.unwrap();

    let node = Node::start(watched(data.path())).await.unwrap();
    let http = node.http_address();
    until(http, ROOT, |answer| {
        answer["contracts"][0]["isRead"] == true
    })
    .await;
    assert_eq!(ask(http, verdict("ill")).await.1, before);
    let seen_again = until(http, &graph, |answer| answer["instances"] == 4).await;
    assert_eq!(seen_again["edges"], seen["edges"]);
    assert_eq!(
        is_told(&all_of(&node, "_wharf.choreography-verdicts").await),
        told
    );
    // Life goes on: what was stuck is answered.
    happens(
        &node,
        "ill",
        &["payment.declined", "stock.released", "order.rejected"],
    )
    .await;
    until(http, &verdict("ill"), |answer| {
        answer["verdict"] == "compensated"
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_a_transaction_took_back_was_never_there() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(watched(data.path())).await.unwrap();
    let http = node.http_address();
    let place = format!("{ROOT}/contracts/shop");
    assert_eq!(send(http, "PUT", place, contract()).await.0, 200);
    happens(&node, "o", &HAPPY[..2]).await;
    happens_in_transaction(&node, "o", &HAPPY[2..], false).await;
    let is = |kind: &'static str| move |answer: &Value| answer["verdict"] == kind;
    let stuck = until(http, &verdict("o"), is("stuck")).await;
    assert_eq!(stuck["events"].as_array().unwrap().len(), 2, "{stuck:#}");
    happens_in_transaction(&node, "o", &HAPPY[2..], true).await;
    let done = until(http, &verdict("o"), is("completed")).await;
    assert_eq!(done["events"].as_array().unwrap().len(), 6, "{done:#}");
    let graph = format!("{ROOT}/lens/graph");
    let seen = until(http, &graph, |graph| {
        graph["events"].as_array().is_some_and(|all| all.len() == 6)
    })
    .await;
    assert_eq!(seen["instances"], 1);
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_in_an_open_transaction_or_behind_it_has_not_happened_yet() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(watched(data.path())).await.unwrap();
    let http = node.http_address();
    let place = format!("{ROOT}/contracts/shop");
    assert_eq!(send(http, "PUT", place, contract()).await.0, 200);
    happens(&node, "within", &HAPPY[..2]).await;
    let open = begins_transaction(&node, "within", &HAPPY[2..]).await;
    happens(&node, "behind", &HAPPY).await;
    let is = |kind: &'static str| move |answer: &Value| answer["verdict"] == kind;
    for order in ["within", "behind"] {
        let stuck = until(http, &verdict(order), is("stuck")).await;
        assert_eq!(stuck["events"].as_array().unwrap().len(), 2, "{stuck:#}");
    }
    ends_transaction(&node, &open, true).await;
    for order in ["within", "behind"] {
        let done = until(http, &verdict(order), is("completed")).await;
        assert_eq!(done["events"].as_array().unwrap().len(), 6, "{done:#}");
    }
    node.shutdown().await.unwrap();
}

/// A configuration that is in order and of which a role cannot be started: its address is none.
fn failing_late(data: &Path) -> Config {
    let mut wrong = watched(data);
    wrong.saga.alarm_webhook = Some(SecretUrl::from("http://["));
    wrong
}

#[tokio::test]
async fn when_a_role_cannot_start_those_that_run_are_stopped() {
    let data = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut wrong = failing_late(data.path());
    wrong.registry.enabled = true;
    wrong.registry.listen = Address::new("127.0.0.1", port);
    let refused = Node::start(wrong).await.unwrap_err();
    assert!(refused.to_string().contains("WHARF-7001"), "{refused}");
    // The registry was there first, and gave its socket back.
    TcpListener::bind(("127.0.0.1", port)).unwrap();
}

#[tokio::test]
async fn what_a_start_that_failed_had_begun_is_stopped_when_it_is_told() {
    let data = tempfile::tempdir().unwrap();
    for _ in 0..10 {
        Node::start(failing_late(data.path())).await.unwrap_err();
        let lock = std::fs::File::open(data.path().join("LOCK")).unwrap();
        lock.try_lock().expect("the directory is free at once");
        assert!(
            data.path().join("stopped").exists(),
            "it was closed in good order"
        );
    }
    let node = Node::start(watched(data.path())).await.unwrap();
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn contracts_are_deployed_shown_and_removed() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(watched(data.path())).await.unwrap();
    let http = node.http_address();
    happens(&node, "o", &HAPPY).await;
    let at = |tail: &str| format!("{ROOT}{tail}");
    let carried = json!({ "contract": contract() }).to_string();
    assert_eq!(
        send(http, "PUT", at("/contracts/shop"), carried.clone())
            .await
            .0,
        200
    );
    assert_eq!(
        send(http, "PUT", at("/contracts/shop"), carried).await.1["replaced"],
        true
    );
    let (_, shown) = ask(http, at("/contracts/shop")).await;
    assert_eq!(shown["contract"], contract());
    // What happened before it was deployed is judged too.
    until(http, &verdict("o"), |answer| {
        answer["verdict"] == "completed"
    })
    .await;
    let drawn =
        outside(move || get(http, &format!("{ROOT}/contracts/shop/graph?format=mermaid"))).await;
    assert!(drawn.2.starts_with("flowchart"), "{}", drawn.2);
    assert_eq!(
        ask(http, at("/contracts/shop/graph?format=png")).await.0,
        400
    );
    let (status, missing) = ask(http, at("/contracts/shopp")).await;
    assert_eq!(status, 404);
    assert!(
        missing["detail"]
            .as_str()
            .unwrap()
            .contains("did you mean shop?")
    );
    assert_eq!(
        send(http, "DELETE", at("/contracts/shop"), String::new())
            .await
            .0,
        200
    );
    assert_eq!(
        send(http, "DELETE", at("/contracts/shop"), String::new())
            .await
            .0,
        404
    );
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn contracts_are_checked_and_refused_with_all_that_is_wrong() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(watched(data.path())).await.unwrap();
    let http = node.http_address();
    happens(&node, "o", &HAPPY).await;
    let graph = format!("{ROOT}/lens/graph");
    until(http, &graph, |answer| {
        answer["events"]
            .as_array()
            .is_some_and(|all| all.len() == 6)
    })
    .await;
    let at = |tail: &str| format!("{ROOT}{tail}");
    // Names that the node does not know are told, with those that it does.
    let misspelt = contract().replace("shop.shipments", "shop.shipment");
    let (status, checked) = send(http, "POST", at("/check"), misspelt).await;
    assert_eq!(
        (status, checked["problems"].as_array().unwrap().len()),
        (200, 0)
    );
    let warnings = checked["warnings"].to_string();
    assert!(
        warnings.contains("there is no topic `shop.shipment`; did you mean shop.shipments?"),
        "{warnings}"
    );
    assert!(
        warnings.contains("no group `inventory` reads these topics"),
        "{warnings}"
    );
    let broken = contract().replace(
        "expect: shop.order.completed",
        "expect: shop.order.complete",
    );
    let (status, refused) = send(http, "PUT", at("/contracts/shop"), broken).await;
    assert_eq!((status, &refused["code"]), (422, &json!("WHARF-7090")));
    assert!(
        refused["detail"]
            .as_str()
            .unwrap()
            .contains("did you mean shop.order.completed?")
    );
    let (status, _) = send(http, "PUT", at("/contracts/store"), contract()).await;
    assert_eq!(status, 400, "the names differ");
    let long = "x".repeat(2 << 20);
    assert_eq!(send(http, "POST", at("/check"), long).await.0, 400);
    let binary =
        outside(move || request(http, "POST", &format!("{ROOT}/check"), &[], &[0xff, 0xfe])).await;
    assert_eq!(binary.0, 400);
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_and_without_the_role_nothing_is_there() {
    let data = tempfile::tempdir().unwrap();
    let mut wrong = watched(data.path());
    wrong.choreography.webhook = Some(SecretUrl::from("ftp://somewhere"));
    let refused = Node::start(wrong).await.unwrap_err();
    assert!(
        refused.to_string().contains("choreography.webhook"),
        "{refused}"
    );
    let node = Node::start(config(data.path())).await.unwrap();
    let http = node.http_address();
    assert_eq!(ask(http, ROOT.to_owned()).await.0, 404);
    node.shutdown().await.unwrap();
}
