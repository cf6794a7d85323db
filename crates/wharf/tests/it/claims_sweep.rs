//! Sweeps over what brokers keep: a payload stays while a message, a retry, a schedule or a dead letter
//! refers to it, and goes when nothing does and it is old.

use std::future::IntoFuture as _;
use std::time::Duration;

use futures_util::stream::StreamExt as _;
use wharf::claim::{
    BlobStore, Claims, Digest, ObjectBlobs, Reference, SweepSettings, TopicReferences, sweep,
};
use wharf::{Backoff, Bus, Clock, Meanwhile, Message, Raw, Retry, Router, group, header};

use crate::support::{text, topic};

/// How long a broker may take.
const PATIENCE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// A handler that leaves messages where their payloads say.
async fn leave(Raw(message): Raw) -> Result<(), wharf::Error> {
    match text(&message, "leave") {
        "letter" => Err(wharf::Error::dead_letter("it is never right")),
        "retry" => Err(wharf::Error::retry("not yet")),
        _ => Ok(()),
    }
}

/// The digests of the payloads that the messages of a topic refer to.
async fn referred(bus: &Bus, name: &str) -> Vec<Digest> {
    let history = bus.transport().history().unwrap();
    let (name, mut found) = (topic(name), Vec::new());
    for extent in history.extents(&name).await.unwrap().unwrap_or_default() {
        let mut each = |_offset: i64, message: &Message| {
            let reference = Reference::of(message).unwrap();
            found.extend(reference.map(|reference| reference.digest));
        };
        history.read(&name, extent, &mut each).await.unwrap();
    }
    found
}

/// Waits until a message with this payload is in a topic.
async fn arrives(bus: &Bus, name: &str, payload: &str) {
    let arrived = async {
        while !referred(bus, name)
            .await
            .contains(&Digest::of(payload.as_bytes()))
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let arrived = tokio::time::timeout(PATIENCE, arrived).await;
    arrived.unwrap_or_else(|_| panic!("{payload} never came to {name}"));
}

async fn keys(store: &ObjectBlobs) -> Vec<String> {
    let listed = store.list("").map(|one| one.unwrap().key);
    let mut keys: Vec<String> = listed.collect().await;
    keys.sort();
    keys
}

fn key(payload: &str) -> String {
    Digest::of(payload.as_bytes()).key("")
}

async fn a_payload_stays_while_anything_refers_to_it(bus: Bus) {
    let store = ObjectBlobs::memory();
    let claims = Claims::new("payloads", store.clone()).unwrap();
    let in_a_day = Backoff {
        first: DAY,
        factor: 1.0,
        max: DAY,
        times: 1,
    };
    let retry = Retry::never().delays(in_a_day);
    let route = group("archive")
        .on(leave)
        .layer(claims.layer())
        .retry(retry.meanwhile(Meanwhile::LetPass));
    let serving = tokio::spawn(bus.serve(Router::new().topic("scans", route)).into_future());

    let in_a_day = Clock::wall().now().after(DAY).to_rfc3339();
    for (payload, headers) in [
        ("message", vec![]),
        ("letter", vec![("leave", "letter")]),
        ("retry", vec![("leave", "retry")]),
        ("scheduled", vec![(header::DELIVER_AT, &*in_a_day)]),
    ] {
        let with = |message: Message, (name, value): (&'static str, &str)| {
            message.with_header(name, value.to_owned())
        };
        let message = headers.into_iter().fold(Message::new(payload), with);
        let message = claims.check_in(message, 0).await.unwrap();
        bus.send(topic("scans"), message).await.unwrap();
    }
    let places = [
        ("message", "scans"),
        ("letter", "dlq.scans.archive"),
        ("retry", "retry.scans.archive"),
        ("scheduled", "scheduled.scans"),
    ];
    for (payload, place) in places {
        arrives(&bus, place, payload).await;
    }
    claims.check_in(Message::new("orphan"), 0).await.unwrap();
    let between = Clock::wall().now().after(Duration::from_millis(1));
    while Clock::wall().now() < between {
        tokio::task::yield_now().await;
    }
    claims.check_in(Message::new("young"), 0).await.unwrap();

    let settings = SweepSettings::default();
    let now = between.after(settings.grace);
    let history = || bus.transport().history().unwrap();
    // Each place protects its payload by itself.
    for (payload, place) in places {
        let only = TopicReferences::new(history(), &[topic(place)], &[]).unwrap();
        let dry_run = SweepSettings {
            dry_run: true,
            ..settings
        };
        let report = sweep(&claims, &[&only], now, dry_run).await.unwrap();
        assert!(
            !report.deleted.contains(&key(payload)),
            "{place}: {report:?}"
        );
        assert!(
            report.deleted.contains(&key("orphan")),
            "{place}: {report:?}"
        );
    }
    assert_eq!(keys(&store).await.len(), 6);

    let all = TopicReferences::all(history()).expecting([topic("scans")]);
    let report = sweep(&claims, &[&all], now, settings).await.unwrap();
    assert_eq!((report.objects, report.live), (6, 4), "{report:?}");
    assert_eq!(report.deleted, [key("orphan")]);
    let mut left = ["message", "letter", "retry", "scheduled", "young"].map(key);
    left.sort();
    assert_eq!(keys(&store).await, left);

    let misspelt = TopicReferences::all(history()).expecting([topic("scnas")]);
    let refused = sweep(&claims, &[&misspelt], now.after(DAY), settings).await;
    let error = refused.expect_err("it is not there").to_string();
    assert!(error.contains("the topic scnas"), "{error}");
    assert_eq!(keys(&store).await, left);
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_reads_the_embedded_broker() {
    let bus = Bus::connect("embedded://temporary", "test").await.unwrap();
    a_payload_stays_while_anything_refers_to_it(bus.clone()).await;
    bus.transport().shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_reads_a_broker_over_the_kafka_protocol() {
    let node = wharf::embedded::Embedded::open("embedded://temporary?kafka=127.0.0.1:0", "node");
    let node = node.await.unwrap();
    let address = format!("kafka://{}", node.kafka_address().unwrap());
    let bus = Bus::connect(&address, "test").await.unwrap();
    a_payload_stays_while_anything_refers_to_it(bus.clone()).await;
    bus.transport().shutdown().await.unwrap();
    wharf_message::transport::Transport::shutdown(&node)
        .await
        .unwrap();
}
