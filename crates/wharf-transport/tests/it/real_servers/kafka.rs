//! Kafka: Wharf itself and Apache Kafka, each as a process of its own. The name of a test ends with the
//! one that it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use harness::servers::{Protocol, kafka};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use wharf_message::transport::conformance::Fixture as _;
use wharf_message::transport::{
    Deliveries, Delivery, Error, Publish as _, Subscribe as _, Subscription, Transport,
};
use wharf_message::{GroupName, Message, TopicName};
use wharf_transport::kafka::KafkaTransport;

use super::support::{Kind, Server, connected, program, suite};
use crate::raw;

/// The largest message that the transport takes unless it is told otherwise.
const BYTES_MAX: usize = 1 << 20;
/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

const WHARF: Kind = Kind {
    name: "kafka-wharf",
    title: "Kafka (Wharf)",
    protocol: Protocol::Kafka,
    plan: |site| Ok(kafka::wharf(site)),
    connect: |address| client(address).boxed(),
    bytes_max: Some(BYTES_MAX),
    no_restart: None,
};

const PROPERTIES: &str = include_str!("../../../../../xtask/services/kafka.properties");

/// With passwords and access rules: `admin` may do everything, `bob` nothing.
const SECURED: &str = r#"
listener.security.protocol.map=PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="admins" user_admin="admins" user_bob="bobs";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:admin;User:ANONYMOUS
"#;

const APACHE: Kind = Kind {
    name: "kafka-apache",
    title: "Kafka (Apache Kafka 4.3)",
    plan: |site| kafka::apache(site, PROPERTIES),
    ..WHARF
};

async fn client(address: String) -> Arc<dyn Transport> {
    Arc::new(connect(&address).await)
}

async fn connect(address: &str) -> KafkaTransport {
    let address = format!("kafka://{address}");
    connected(|| KafkaTransport::connect(&address)).await
}

fn wharf() -> Server {
    Server::start(WHARF, &program("WHARF_BINARY"))
}

fn apache() -> Server {
    Server::start(APACHE, &program("KAFKA_CLASSES"))
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn group(name: &str, topics: &[&TopicName]) -> Subscription {
    let topics = topics.iter().map(|topic| (*topic).clone()).collect();
    Subscription::group(GroupName::new(name).unwrap(), topics)
}

async fn next(deliveries: &mut dyn Deliveries, max: usize) -> Vec<Delivery> {
    loop {
        let next = tokio::time::timeout(PATIENCE, deliveries.next(max)).await;
        match next.expect("a delivery in time") {
            Ok(taken) => return taken,
            Err(Error::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.payload.clone().unwrap().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_the_conformance_suite_on_wharf() {
    let server = wharf();
    suite(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_the_conformance_suite_on_apache_kafka() {
    let server = apache();
    suite(&server).await;
}

async fn smoke(server: &Server) {
    let transport = connect(&server.address()).await;
    let orders = topic("orders");
    let message = || Message::new("hello").with_key("k").with_header("x", "1");
    let position = transport
        .publish(&orders, message())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(position.offset, 0);
    let mut deliveries = transport
        .subscribe(group("billing", &[&orders]))
        .await
        .unwrap();
    let delivery = next(&mut *deliveries, 10).await.remove(0);
    assert_eq!((delivery.attempt, delivery.position), (1, Some(position)));
    delivery.retry(Duration::from_millis(300));
    let delivery = next(&mut *deliveries, 10).await.remove(0);
    assert_eq!((delivery.attempt, delivery.position), (2, Some(position)));
    assert_eq!(delivery.topic, orders);
    assert_eq!(delivery.message.headers.text("x"), Ok(Some("1")));
    delivery
        .accept_with(vec![(topic("out"), message())])
        .await
        .unwrap();
    deliveries.close().await.unwrap();
    let mut out = transport
        .subscribe(group("reader", &[&topic("out")]))
        .await
        .unwrap();
    let delivery = next(&mut *out, 10).await.remove(0);
    assert_eq!(text(&delivery), "hello");
    delivery.accept();
    out.close().await.unwrap();
    transport.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_its_whole_way_on_wharf() {
    let server = wharf();
    smoke(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_its_whole_way_on_apache_kafka() {
    let server = apache();
    smoke(&server).await;
}

/// The first record of a topic, as a client that knows nothing of us reads it.
fn first_record(server: &Server, topic: &str) -> (Vec<u8>, Vec<(String, Vec<u8>)>) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", server.address());
    config
        .set("group.id", "looks")
        .set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "nothing comes of {topic}");
        let Some(Ok(record)) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let headers = record.headers().unwrap();
        // The first is the one that the client library cannot name.
        let named = (1..headers.count()).map(|at| headers.get(at));
        let named = named.map(|one| (one.key.to_owned(), one.value.unwrap().to_vec()));
        return (record.payload().unwrap().to_vec(), named.collect());
    }
}

async fn an_unreadable_name(server: &Server) {
    let transport = connect(&server.address()).await;
    let orders = topic("orders");
    transport.create_topic(&orders, 1).await.unwrap();
    let mut deliveries = transport
        .subscribe(group("billing", &[&orders]))
        .await
        .unwrap();
    let address = server.address();
    tokio::task::spawn_blocking(move || {
        raw::produce(&address, "orders", b"bad", &[(&[0xff, 0xfe], b"value")]);
    })
    .await
    .unwrap();
    transport
        .publish(&orders, Message::new("good"))
        .await
        .unwrap();
    let delivery = next(&mut *deliveries, 10).await.remove(0);
    assert_eq!(text(&delivery), "good");
    delivery.accept();
    deliveries.close().await.unwrap();
    let (payload, headers) =
        tokio::task::block_in_place(|| first_record(server, "dlq.orders.billing"));
    assert_eq!(payload, b"bad");
    let headers: BTreeMap<_, _> = headers.into_iter().collect();
    assert_eq!(headers["wharf-dlq-reason"], b"undecodable");
    assert_eq!(headers["wharf-dlq-offset"], b"0");
    transport.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_whose_name_is_no_text_goes_to_the_dead_letters_on_wharf() {
    let server = wharf();
    an_unreadable_name(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_whose_name_is_no_text_goes_to_the_dead_letters_on_apache_kafka() {
    let server = apache();
    an_unreadable_name(&server).await;
}

/// Members come and go and the broker is killed while messages are published: each is handled.
async fn members_and_a_kill(server: &Server) {
    const COUNT: usize = 3_000;
    let transport = connect(&server.address()).await;
    let orders = topic("orders");
    transport.create_topic(&orders, 6).await.unwrap();
    let publishing = {
        let (transport, orders) = (transport.clone(), orders.clone());
        tokio::spawn(async move {
            for chunk in (0..COUNT).collect::<Vec<_>>().chunks(100) {
                let publish = |number: &usize| {
                    let key = format!("k{}", number % 50);
                    Message::new(number.to_string()).with_key(key)
                };
                for message in chunk.iter().map(publish) {
                    while let Err(error) = transport.publish(&orders, message.clone()).await {
                        assert!(error.is_transient(), "{error}");
                    }
                }
            }
        })
    };
    let seen = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let member = |lifetime: usize| {
        let (seen, mut stopped, orders) = (Arc::clone(&seen), stopped.clone(), orders.clone());
        let address = server.address();
        tokio::spawn(async move {
            let transport = connect(&address).await;
            let mut deliveries = transport
                .subscribe(group("billing", &[&orders]))
                .await
                .unwrap();
            let mut taken = 0;
            while taken < lifetime {
                let batch = tokio::select! {
                    batch = next(&mut *deliveries, 50) => batch,
                    _ = stopped.wait_for(|stop| *stop) => break,
                };
                for delivery in batch {
                    seen.lock().unwrap().insert(text(&delivery));
                    delivery.accept();
                    taken += 1;
                }
            }
            deliveries.close().await.unwrap();
            transport.shutdown().await.unwrap();
        })
    };
    let mut members: Vec<_> = [usize::MAX, 200, 400].map(member).into();
    wait_until(|| seen.lock().unwrap().len() > COUNT / 3).await;
    server.restart_broker().await.unwrap();
    members.push(member(usize::MAX));
    publishing.await.unwrap();
    wait_until(|| seen.lock().unwrap().len() == COUNT).await;
    stop.send(true).unwrap();
    for member in members {
        member.await.unwrap();
    }
    // What was settled before an orderly end does not come again.
    let mut deliveries = transport
        .subscribe(group("billing", &[&orders]))
        .await
        .unwrap();
    for partition in 0..50 {
        let last = Message::new("last").with_key(format!("k{partition}"));
        transport.publish(&orders, last).await.unwrap();
    }
    let mut lasts = 0;
    while lasts < 50 {
        for delivery in next(&mut *deliveries, 50).await {
            assert_eq!(text(&delivery), "last");
            delivery.accept();
            lasts += 1;
        }
    }
    deliveries.close().await.unwrap();
    transport.shutdown().await.unwrap();
}

async fn wait_until(done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(
            Instant::now() < deadline,
            "it does not come to that in time"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_members_come_and_go_and_the_broker_is_killed_on_wharf() {
    let server = wharf();
    members_and_a_kill(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_members_come_and_go_and_the_broker_is_killed_on_apache_kafka() {
    let server = apache();
    members_and_a_kill(&server).await;
}

async fn as_user(server: &Server, user: &str, password: &str) -> Result<KafkaTransport, Error> {
    let sasl = format!("sasl.username={user}&sasl.password={password}");
    let properties = "security.protocol=sasl_plaintext&sasl.mechanisms=PLAIN";
    let address = format!("kafka://{}?{properties}&{sasl}", server.address());
    KafkaTransport::connect(&address).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_denied_is_told_and_nothing_hangs_on_apache_kafka() {
    let secured = Kind {
        plan: |site| kafka::apache(site, &format!("{PROPERTIES}{SECURED}")),
        ..APACHE
    };
    let server = Server::start(secured, &program("KAFKA_CLASSES"));
    let wrong = as_user(&server, "admin", "wrong").await.err();
    assert!(matches!(wrong, Some(Error::Denied(_))), "{wrong:?}");
    let admin = as_user(&server, "admin", "admins").await.unwrap();
    let orders = topic("orders");
    admin.create_topic(&orders, 1).await.unwrap();
    let bob = as_user(&server, "bob", "bobs").await.unwrap();
    let published = bob.publish(&orders, Message::new("p")).await;
    assert!(matches!(published, Err(Error::Denied(_))), "{published:?}");
    let subscribed = bob.subscribe(group("billing", &[&orders])).await.err();
    assert!(
        matches!(subscribed, Some(Error::Denied(_))),
        "{subscribed:?}"
    );
    bob.shutdown().await.unwrap();
    admin.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_of_the_producer_delays_publishes_and_keeps_their_order_on_wharf() {
    let server = wharf();
    let address = format!(
        "kafka://{}?queue.buffering.max.messages=10",
        server.address()
    );
    let transport = KafkaTransport::connect(&address).await.unwrap();
    let orders = topic("orders");
    transport.create_topic(&orders, 1).await.unwrap();
    let publish = |number: usize| transport.publish(&orders, Message::new(number.to_string()));
    let published: Vec<_> = (0..3_000).map(publish).collect();
    for (number, published) in published.into_iter().enumerate() {
        let position = published.await.unwrap().unwrap();
        assert_eq!(usize::try_from(position.offset).unwrap(), number);
    }
    transport.shutdown().await.unwrap();
    let closed = transport.publish(&orders, Message::new("p")).await;
    assert_eq!(closed, Err(Error::Closed));
}
