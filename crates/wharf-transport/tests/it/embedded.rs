//! The embedded broker: the conformance suite, restarts, power loss, and company over the wire.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::{BoxFuture, FutureExt as _, join_all, ready};
use tempfile::TempDir;
use wharf_broker::{Context, CreateTopic};
use wharf_log::disk::Disk;
use wharf_log::disk::simulated::{Faults, SimulatedDisk};
use wharf_message::header::{DELIVER_AT, DLQ_REASON};
use wharf_message::transport::conformance::{Case, Fixture, run_those};
use wharf_message::transport::{
    Deliveries, Delivery, Error, Publish as _, Subscribe as _, Subscription, Transport,
};
use wharf_message::{Code, GroupName, Message, Timestamp, TopicName};
use wharf_server::config::Address;
use wharf_server::{Config, EmbeddedNode, Listeners};
use wharf_transport::embedded::EmbeddedTransport;

use crate::report::keep;

/// The largest message that a topic takes with the settings of a new node.
const BYTES_MAX: usize = 1 << 20;

/// Settings for a node under `data`.
pub fn config(data: &TempDir) -> Config {
    let mut config = Config::default();
    config.node.data = data.path().to_owned();
    config.kafka.listen = Address::new("127.0.0.1", 0);
    config.log.journal_file_size.0 = 8 << 20;
    config
}

/// A node and its directory.
struct Embedded {
    node: EmbeddedNode,
    _data: TempDir,
}

impl Embedded {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let node = EmbeddedNode::start(config(&data), Listeners::default());
        Self {
            node: node.await.unwrap(),
            _data: data,
        }
    }
}

impl Fixture for Embedded {
    fn name(&self) -> &str {
        "embedded"
    }

    fn title(&self) -> String {
        "Embedded".to_owned()
    }

    fn connect(&self) -> BoxFuture<'_, Arc<dyn Transport>> {
        let transport = EmbeddedTransport::on(self.node.broker().clone(), "suite");
        ready(Arc::new(transport) as Arc<dyn Transport>).boxed()
    }

    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Timestamp::from_millis(since.unwrap().as_millis().try_into().unwrap())
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }

    /// What a batch with one message of that size may have is `max.message.bytes`.
    fn bytes_max(&self) -> Option<usize> {
        Some(BYTES_MAX)
    }

    fn restart_broker(&self) -> BoxFuture<'_, Result<(), &'static str>> {
        let why = "the broker ends with the program that it is in, so no client outlives it (tests of its own restart it)";
        ready(Err(why)).boxed()
    }

    fn cut_network(&self) -> BoxFuture<'_, Result<(), &'static str>> {
        ready(Err("there is no network to cut")).boxed()
    }

    fn heal_network(&self) -> BoxFuture<'_, Result<(), &'static str>> {
        self.cut_network()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_the_conformance_suite() {
    let only = std::env::var("ONLY").ok();
    let chosen = |case: &Case| only.as_ref().is_none_or(|only| case.name.contains(only));
    let embedded = Embedded::start().await;
    keep(&run_those(&embedded, chosen).await);
}

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn name(topic: &str) -> TopicName {
    TopicName::new(topic).unwrap()
}

fn group(group: &str, topic: &str) -> Subscription {
    Subscription::group(GroupName::new(group).unwrap(), vec![name(topic)])
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.payload.clone().unwrap().to_vec()).unwrap()
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("in time")
}

async fn next(deliveries: &mut dyn Deliveries) -> Vec<Delivery> {
    soon(deliveries.next(16)).await.unwrap()
}

async fn join(transport: &dyn Transport, group: Subscription) -> Box<dyn Deliveries> {
    soon(transport.subscribe(group)).await.unwrap()
}

/// Everything of a topic with one partition that the group has not settled, which it then has.
async fn rest(transport: &dyn Transport, group: Subscription) -> Vec<String> {
    let topic = group.topics[0].clone();
    transport
        .publish(&topic, Message::new("the end"))
        .await
        .unwrap();
    let mut deliveries = join(transport, group).await;
    let mut seen = Vec::new();
    loop {
        for delivery in next(&mut *deliveries).await {
            let found = text(&delivery);
            delivery.accept();
            if found == "the end" {
                soon(deliveries.close()).await.unwrap();
                return seen;
            }
            seen.push(found);
        }
    }
}

/// A node on a simulated disk. Each life has a directory of its own for what is not the log.
struct Life {
    node: EmbeddedNode,
    transport: EmbeddedTransport,
    _data: TempDir,
}

impl Life {
    async fn begin(disk: &SimulatedDisk) -> Self {
        let data = tempfile::tempdir().unwrap();
        let disk = disk.clone();
        let open = move |_: &Path| Ok(Arc::new(disk) as Arc<dyn Disk>);
        let node = EmbeddedNode::start_on(config(&data), Listeners::default(), open);
        let node = node.await.unwrap();
        let transport = EmbeddedTransport::on(node.broker().clone(), "test");
        Self {
            node,
            transport,
            _data: data,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_node_binds_nothing_unless_it_is_asked_to() {
    let data = tempfile::tempdir().unwrap();
    let node = EmbeddedNode::start(config(&data), Listeners::default());
    let node = node.await.unwrap();
    assert_eq!((node.kafka_address(), node.http_address()), (None, None));
    let held = EmbeddedNode::start(config(&data), Listeners::default()).await;
    assert_eq!(held.unwrap_err().code, Some(Code::DATA_DIRECTORY_LOCKED));
    node.shutdown().await.unwrap();
    let kafka = Listeners {
        kafka: true,
        ..Listeners::default()
    };
    let node = EmbeddedNode::start(config(&data), kafka).await.unwrap();
    assert!(node.kafka_address().is_some() && node.http_address().is_none());
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_on_after_a_restart_in_order() {
    let data = tempfile::tempdir().unwrap();
    for life in 0..3 {
        let node = EmbeddedNode::start(config(&data), Listeners::default());
        let node = node.await.unwrap();
        let transport = EmbeddedTransport::on(node.broker().clone(), "test");
        for number in 0..5 {
            let message = Message::new(format!("{life}.{number}"));
            transport.publish(&name("orders"), message).await.unwrap();
        }
        let expected: Vec<String> = (0..5).map(|number| format!("{life}.{number}")).collect();
        assert_eq!(rest(&transport, group("billing", "orders")).await, expected);
        soon(transport.shutdown()).await.unwrap();
        assert_eq!(
            transport
                .publish(&name("orders"), Message::new("late"))
                .await,
            Err(Error::Closed)
        );
        node.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_crashed_keeps_nobody_waiting_and_loses_nothing() {
    let disk = SimulatedDisk::new(7, Faults::default());
    let life = Life::begin(&disk).await;
    for number in 0..10 {
        let message = Message::new(number.to_string());
        life.transport
            .publish(&name("orders"), message)
            .await
            .unwrap();
    }
    let mut deliveries = join(&life.transport, group("billing", "orders")).await;
    let mut taken = Vec::new();
    while taken.len() < 10 {
        taken.extend(next(&mut *deliveries).await);
    }
    // The third before the first, and the second not at all.
    for at in [2, 0] {
        let delivery = taken.remove(at);
        let out = vec![(name("out"), Message::new(text(&delivery)))];
        soon(delivery.accept_with(out)).await.unwrap();
    }
    // The member is still in its group when the power goes.
    let disk = disk.crash();
    let began = Instant::now();
    let again = Life::begin(&disk).await;
    let left = rest(&again.transport, group("billing", "orders")).await;
    assert_eq!(left, ["1", "3", "4", "5", "6", "7", "8", "9"]);
    assert!(
        began.elapsed() < Duration::from_secs(40),
        "a session's time-out was waited for"
    );
    assert_eq!(
        rest(&again.transport, group("reader", "out")).await,
        ["2", "0"]
    );
    again.node.shutdown().await.unwrap();
}

/// What a life on a disk that dies had acknowledged.
#[derive(Default)]
struct Acknowledged {
    published: Vec<String>,
    accepted: Vec<String>,
}

/// Publishes and processes until the disk dies, or everything is done.
async fn work(life: &Life) -> Result<Acknowledged, Error> {
    let mut done = Acknowledged::default();
    let mut deliveries = match life.transport.subscribe(group("billing", "orders")).await {
        Ok(deliveries) => deliveries,
        Err(_off) => return Ok(done),
    };
    for round in 0..3 {
        let messages: Vec<String> = (0..4).map(|number| format!("{round}.{number}")).collect();
        let publish = |text: &String| {
            let message = Message::new(text.clone()).with_key("k");
            life.transport.publish(&name("orders"), message)
        };
        let published = join_all(messages.iter().map(publish)).await;
        let all = published.iter().all(Result::is_ok);
        let acknowledged = messages.into_iter().zip(published);
        done.published.extend(
            acknowledged
                .filter(|(_, ok)| ok.is_ok())
                .map(|(text, _)| text),
        );
        if !all {
            return Ok(done);
        }
        let mut wanted = 4;
        while wanted > 0 {
            let Ok(taken) = soon(deliveries.next(2)).await else {
                return Ok(done);
            };
            wanted -= taken.len();
            for delivery in taken {
                let found = text(&delivery);
                let out = vec![
                    (name("out"), Message::new(found.clone())),
                    (name("audit"), Message::new(found.clone())),
                ];
                match soon(delivery.accept_with(out)).await {
                    Ok(()) => done.accepted.push(found),
                    Err(_off) => return Ok(done),
                }
            }
        }
    }
    Ok(done)
}

#[tokio::test(flavor = "multi_thread")]
async fn power_lost_at_any_moment_leaves_what_was_acknowledged_and_no_half_of_anything() {
    let (mut cut, mut accepted) = (0, 0);
    for step in 0..24 {
        let disk = SimulatedDisk::new(step, Faults::default());
        let life = Life::begin(&disk).await;
        for topic in ["orders", "out", "audit"] {
            life.transport.create_topic(&name(topic), 1).await.unwrap();
        }
        disk.power_off_at(disk.counters().operations + 2 * step);
        let working = tokio::time::timeout(Duration::from_secs(5), work(&life)).await;
        let done = match working {
            Ok(done) => done.unwrap(),
            // It waits for a disk that is gone; what it had acknowledged is checked elsewhere.
            Err(_waits) => Acknowledged::default(),
        };
        cut += usize::from(disk.is_off());
        accepted += done.accepted.len();
        let disk = disk.crash();
        drop(life);

        let again = Life::begin(&disk).await;
        let all = rest(&again.transport, group("all", "orders")).await;
        for text in &done.published {
            assert!(
                all.contains(text),
                "step {step}: {text} was acknowledged and is gone"
            );
        }
        let out = rest(&again.transport, group("reader", "out")).await;
        let audit = rest(&again.transport, group("reader", "audit")).await;
        assert_eq!(out, audit, "step {step}: half of the outputs");
        for text in &done.accepted {
            assert!(
                out.contains(text),
                "step {step}: {text} was accepted and its output is gone"
            );
        }
        let left = rest(&again.transport, group("billing", "orders")).await;
        for text in all {
            let (is_out, is_left) = (out.contains(&text), left.contains(&text));
            let came = left.iter().filter(|one| **one == text).count();
            assert!(
                is_out != is_left && came <= 1,
                "step {step}: {text}: {is_out}, {came} times"
            );
        }
        again.node.shutdown().await.unwrap();
    }
    assert!(
        cut > 5 && accepted > 5,
        "{cut} cuts, {accepted} acceptances"
    );
}

/// Takes and accepts everything that comes until nothing has for a while; returns who got what.
async fn share(members: &mut [Box<dyn Deliveries>], wanted: usize) -> Vec<Vec<String>> {
    let mut shares = vec![Vec::new(); members.len()];
    let deadline = Instant::now() + PATIENCE;
    while shares.iter().map(Vec::len).sum::<usize>() < wanted {
        assert!(Instant::now() < deadline, "{shares:?}");
        for (member, share) in members.iter_mut().zip(&mut shares) {
            let soon = tokio::time::timeout(Duration::from_millis(50), member.next(16));
            for delivery in soon.await.unwrap_or(Ok(Vec::new())).unwrap_or_default() {
                share.push(text(&delivery));
                delivery.accept();
            }
        }
    }
    shares
}

/// Publishes `count` messages with as many keys.
async fn publish(transport: &dyn Transport, topic: &str, count: usize) {
    let published = (0..count).map(|number| {
        let message = Message::new(number.to_string()).with_key(number.to_string());
        transport.publish(&name(topic), message)
    });
    for published in join_all(published.collect::<Vec<_>>()).await {
        published.unwrap();
    }
}

/// That the shares together are the numbers up to `count`, each once.
fn assert_shared(shares: &[Vec<String>], count: usize) {
    let all: BTreeSet<&String> = shares.iter().flatten().collect();
    let total: usize = shares.iter().map(Vec::len).sum();
    assert_eq!((all.len(), total), (count, count), "{shares:?}");
}

/// Waits until the group's members have the partitions of a topic among them, so many each.
async fn settled(node: &EmbeddedNode, group: &str, members: usize) {
    let cx = Context::internal("test");
    soon(async {
        loop {
            let described = node.broker().describe_consumer_group(&cx, group);
            let is_settled = described.is_ok_and(|group| {
                let has_some = |member: &wharf_broker::group::ConsumerMemberDescription| {
                    !member.assignment.is_empty() && member.assignment == member.target
                };
                group.members.len() == members && group.members.iter().all(has_some)
            });
            if is_settled {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_one_program_share_the_partitions_and_take_over_from_each_other() {
    let embedded = Embedded::start().await;
    let (one, two) = (embedded.connect().await, embedded.connect().await);
    one.create_topic(&name("orders"), 6).await.unwrap();
    let mut members = vec![
        join(&*one, group("billing", "orders")).await,
        join(&*two, group("billing", "orders")).await,
    ];
    settled(&embedded.node, "billing", 2).await;
    publish(&*one, "orders", 60).await;
    let shares = share(&mut members, 60).await;
    assert_shared(&shares, 60);
    assert!(shares.iter().all(|share| !share.is_empty()), "{shares:?}");
    soon(members.remove(0).close()).await.unwrap();
    publish(&*one, "orders", 60).await;
    assert_shared(&share(&mut members, 60).await, 60);
}

#[cfg(feature = "kafka")]
#[tokio::test(flavor = "multi_thread")]
async fn members_over_the_wire_share_a_group_with_members_in_the_program() {
    let data = tempfile::tempdir().unwrap();
    let kafka = Listeners {
        kafka: true,
        ..Listeners::default()
    };
    let node = EmbeddedNode::start(config(&data), kafka).await.unwrap();
    let inside = EmbeddedTransport::on(node.broker().clone(), "test");
    let address = format!("kafka://{}", node.kafka_address().unwrap());
    let outside = wharf_transport::kafka::KafkaTransport::connect(&address)
        .await
        .unwrap();
    inside.create_topic(&name("orders"), 6).await.unwrap();
    let mut members = vec![
        join(&inside, group("billing", "orders")).await,
        join(&outside, group("billing", "orders")).await,
    ];
    settled(&node, "billing", 2).await;
    publish(&inside, "orders", 60).await;
    let shares = share(&mut members, 60).await;
    assert_shared(&shares, 60);
    assert!(shares.iter().all(|share| !share.is_empty()), "{shares:?}");
    // A key goes to one partition, whoever publishes it.
    for number in 0..20 {
        let message = || Message::new("p").with_key(format!("key-{number}"));
        let by_us = inside.publish(&name("places"), message()).await.unwrap();
        let by_them = outside.publish(&name("places"), message()).await.unwrap();
        assert_eq!(by_us.unwrap().partition, by_them.unwrap().partition);
    }
    // What the one retries, the other may get.
    inside
        .publish(&name("orders"), Message::new("again"))
        .await
        .unwrap();
    let mut attempts = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while attempts.len() < 3 {
        assert!(Instant::now() < deadline, "{attempts:?}");
        for member in &mut members {
            let soon = tokio::time::timeout(Duration::from_millis(50), member.next(16));
            for delivery in soon.await.unwrap_or(Ok(Vec::new())).unwrap_or_default() {
                attempts.push(delivery.attempt);
                match attempts.len() {
                    3 => delivery.accept(),
                    _ => delivery.retry(Duration::from_millis(10)),
                }
            }
        }
    }
    assert_eq!(attempts, [1, 2, 3]);
    for member in members {
        soon(member.close()).await.unwrap();
    }
    soon(outside.shutdown()).await.unwrap();
    soon(inside.shutdown()).await.unwrap();
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_message_that_its_topic_refuses_is_set_aside_and_those_behind_it_go_on() {
    let world = Embedded::start().await;
    let broker = world.node.broker();
    // It takes nothing without a key.
    let orders = CreateTopic {
        name: "orders".to_owned(),
        partitions: Some(1),
        replication: None,
        assignment: Vec::new(),
        configs: vec![("cleanup.policy".to_owned(), Some("compact".to_owned()))],
    };
    let cx = Context::internal("test");
    broker.create_topic(&cx, orders, false).await.unwrap();
    let transport = EmbeddedTransport::on(broker.clone(), "test");
    let due = Timestamp::from_millis(world.now().as_millis() + 200).to_rfc3339();
    let scheduled = |text: &'static str| Message::new(text).with_header(DELIVER_AT, due.clone());
    for message in [scheduled("refused"), scheduled("taken").with_key("7")] {
        transport.publish(&name("orders"), message).await.unwrap();
    }
    let mut orders = join(&transport, group("billing", "orders")).await;
    let taken = next(&mut *orders).await;
    assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), ["taken"]);
    let letters = group("people", "dlq.orders.wharf.scheduler");
    let mut letters = join(&transport, letters).await;
    let letter = next(&mut *letters).await;
    assert_eq!(letter.iter().map(text).collect::<Vec<_>>(), ["refused"]);
    let headers = &letter[0].message.headers;
    assert_eq!(headers.text(DLQ_REASON), Ok(Some("rejected")));
    soon(transport.shutdown()).await.unwrap();
}
