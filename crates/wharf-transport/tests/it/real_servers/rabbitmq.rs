//! RabbitMQ.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use harness::servers::{Protocol, rabbitmq};
use wharf_message::transport::{Error, Publish as _, Subscription, Transport};
use wharf_message::{GroupName, Message, TopicName};
use wharf_transport::rabbitmq::RabbitTransport;

use super::support::{Kind, Server, connected, program, suite};

/// The largest payload that the server of the tests takes.
const BYTES_MAX: usize = 4 << 20;

fn uri(address: &str) -> String {
    format!("amqp://guest:guest@{address}/%2f")
}

const RABBITMQ: Kind = Kind {
    name: "rabbitmq",
    title: "RabbitMQ 3.10",
    protocol: Protocol::Amqp,
    plan: |site| rabbitmq::plan(site, &format!("max_message_size = {BYTES_MAX}\n")),
    connect: |address| {
        async move {
            let address = uri(&address);
            let transport = connected(|| RabbitTransport::connect(&address)).await;
            Arc::new(transport) as Arc<dyn Transport>
        }
        .boxed()
    },
    bytes_max: Some(BYTES_MAX),
    no_restart: Some(
        "on a single node, a quorum queue of RabbitMQ 3.10 that is used before it has elected its leader after a restart stays without one (rabbitmq-server#10070)",
    ),
};

fn server() -> Server {
    Server::start(RABBITMQ, &program("WHARF_RABBITMQ_SERVER"))
}

fn names(topic: &str, group: &str) -> (TopicName, GroupName) {
    (
        TopicName::new(topic).unwrap(),
        GroupName::new(group).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_the_conformance_suite() {
    let server = server();
    suite(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_can_wait_is_told_that_a_topic_has_no_queue_yet_and_dead_letters_have_one() {
    let server = server();
    let address = uri(&server.address());
    let refusing = connected(|| RabbitTransport::connect(&address)).await;
    let refusing = refusing.refusing_unrouted();
    let (topic, group) = names("parcels.v1", "drivers");
    let refused = refusing.publish(&topic, Message::new("early")).await;
    let said = refused.unwrap_err();
    assert!(matches!(said, Error::Unavailable(_)), "{said:?}");
    assert!(said.to_string().contains("parcels.v1"), "{said}");
    let letters = TopicName::new("dlq.parcels.v1.relay").unwrap();
    refusing.create_topic(&letters, 1).await.unwrap();
    let letter = refusing.publish(&letters, Message::new("letter")).await;
    letter.unwrap();
    let client = server.client().await;
    let dropped = client.publish(&topic, Message::new("dropped")).await;
    dropped.unwrap();
    let mut deliveries = client
        .subscribe(Subscription::group(group, vec![topic.clone()]))
        .await
        .unwrap();
    let kept = refusing.publish(&topic, Message::new("kept")).await;
    kept.unwrap();
    let delivered = deliveries.next(9).await.unwrap();
    let payloads: Vec<_> = delivered
        .iter()
        .map(|it| it.message.payload.as_deref().unwrap())
        .collect();
    assert_eq!(payloads, [b"kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_why_it_cannot_connect_and_takes_up_again_after_delays_of_different_length() {
    let server = server();
    let address = format!("amqp://guest:wrong@{}/%2f", server.address());
    let denied = RabbitTransport::connect(&address).await.err();
    assert!(matches!(denied, Some(Error::Denied(_))), "{denied:?}");
    let nonsense = RabbitTransport::connect("nonsense").await.err();
    assert!(matches!(nonsense, Some(Error::Refused(_))), "{nonsense:?}");

    // A short delay does not wait behind a long one.
    let client = server.client().await;
    let (topic, group) = names("orders.v1", "billing");
    let mut deliveries = client
        .subscribe(Subscription::group(group, vec![topic.clone()]))
        .await
        .unwrap();
    for name in ["long", "short"] {
        client.publish(&topic, Message::new(name)).await.unwrap();
    }
    let mut began = Vec::new();
    while began.len() < 2 {
        for delivery in deliveries.next(1).await.unwrap() {
            let is_long = delivery.message.payload.as_deref() == Some(b"long");
            let wait = Duration::from_millis(if is_long { 1_500 } else { 100 });
            began.push((wait, Instant::now()));
            delivery.retry(wait);
        }
    }
    let mut order = Vec::new();
    while order.len() < 2 {
        for delivery in deliveries.next(1).await.unwrap() {
            let (wait, began) = began[usize::from(order.is_empty())];
            assert!(began.elapsed() >= wait);
            assert_eq!(delivery.attempt, 2);
            order.push(delivery.message.payload.clone().unwrap());
            delivery.accept();
        }
    }
    assert_eq!(order, ["short", "long"]);
    deliveries.close().await.unwrap();
    client.shutdown().await.unwrap();
}
