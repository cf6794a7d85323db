//! Kafka: Wharf itself and Apache Kafka, each as a process of its own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use harness::servers::{Protocol, kafka};
use wharf_message::transport::conformance::run;
use wharf_message::transport::{
    Deliveries, Delivery, Error, Publish as _, Subscribe as _, Subscription, Transport,
};
use wharf_message::{GroupName, Message, TopicName};
use wharf_transport::kafka::KafkaTransport;

use crate::support::{Kind, Server, keep, program};

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
};

const APACHE: Kind = Kind {
    name: "kafka-apache",
    title: "Kafka (Apache Kafka 4.3)",
    plan: |site| {
        kafka::apache(
            site,
            include_str!("../../../../xtask/services/kafka.properties"),
        )
    },
    ..WHARF
};

async fn client(address: String) -> Arc<dyn Transport> {
    Arc::new(connect(&address).await)
}

async fn connect(address: &str) -> KafkaTransport {
    let address = format!("kafka://{address}");
    KafkaTransport::connect(&address).await.unwrap()
}

fn wharf() -> Option<Server> {
    Some(Server::start(WHARF, &program("WHARF_BINARY")?))
}

fn apache() -> Option<Server> {
    Some(Server::start(APACHE, &program("KAFKA_CLASSES")?))
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
    let Some(server) = wharf() else { return };
    keep(&run(&server).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_the_conformance_suite_on_apache_kafka() {
    let Some(server) = apache() else { return };
    keep(&run(&server).await);
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
    let Some(server) = wharf() else { return };
    smoke(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_its_whole_way_on_apache_kafka() {
    let Some(server) = apache() else { return };
    smoke(&server).await;
}
