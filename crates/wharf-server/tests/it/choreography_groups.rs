//! What a choreography's verdicts say of the groups that should have gone on.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use serde_json::Value;
use wharf_server::Node;
use wharf_server::config::SecretUrl;

use crate::choreography::{
    HAPPY, ROOT, all_of, contract, happens, place, send, until, verdict, watched, webhook,
};
use crate::client::{Kafka, PATIENCE, get, text};
use crate::node::outside;

/// The only member of a group, which reads one topic of one partition.
struct Member {
    kafka: Kafka,
    group: &'static str,
    topic: &'static str,
    generation: i32,
    id: String,
}

impl Member {
    /// Joins and takes the partition (JoinGroup v2, SyncGroup v1).
    fn join(kafka: SocketAddr, group: &'static str, topic: &'static str) -> Self {
        let mut kafka = Kafka::connect(kafka);
        let mut wanted = BytesMut::new();
        wanted.put_i16(0);
        wanted.put_i32(1);
        text(&mut wanted, topic);
        wanted.put_i32(-1);
        let mut body = BytesMut::new();
        text(&mut body, group);
        body.put_i32(30_000);
        body.put_i32(30_000);
        text(&mut body, "");
        text(&mut body, "consumer");
        body.put_i32(1);
        text(&mut body, "range");
        body.put_i32(i32::try_from(wanted.len()).unwrap());
        body.put_slice(&wanted);
        let mut joined = Bytes::from(kafka.call(11, 2, &body));
        // Behind how long to wait: the error, the generation, the protocol, the leader, the member.
        assert_eq!((joined.get_i32(), joined.get_i16()), (0, 0));
        let generation = joined.get_i32();
        let mut name = || {
            let length = usize::try_from(joined.get_i16()).unwrap();
            String::from_utf8(joined.split_to(length).to_vec()).unwrap()
        };
        let (_protocol, _leader, id) = (name(), name(), name());
        let mut assigned = BytesMut::new();
        assigned.put_i16(0);
        assigned.put_i32(1);
        text(&mut assigned, topic);
        assigned.put_i32(1);
        assigned.put_i32(0);
        assigned.put_i32(-1);
        let mut body = BytesMut::new();
        text(&mut body, group);
        body.put_i32(generation);
        text(&mut body, &id);
        body.put_i32(1);
        text(&mut body, &id);
        body.put_i32(i32::try_from(assigned.len()).unwrap());
        body.put_slice(&assigned);
        let mut synced = Bytes::from(kafka.call(14, 1, &body));
        assert_eq!((synced.get_i32(), synced.get_i16()), (0, 0));
        Self {
            kafka,
            group,
            topic,
            generation,
            id,
        }
    }

    /// Reads what is there from an offset on.
    fn read(&mut self, offset: i64) -> usize {
        let (code, records) = self.kafka.fetch(self.topic, offset);
        assert_eq!(code, 0);
        records.len()
    }

    /// Commits how far it is (OffsetCommit v2).
    fn commit(&mut self, offset: i64) {
        let mut body = BytesMut::new();
        text(&mut body, self.group);
        body.put_i32(self.generation);
        text(&mut body, &self.id);
        body.put_i64(-1);
        body.put_i32(1);
        text(&mut body, self.topic);
        body.put_i32(1);
        body.put_i32(0);
        body.put_i64(offset);
        body.put_i16(-1);
        let mut told = Bytes::from(self.kafka.call(8, 2, &body));
        // One topic, its name, one partition, its number.
        told.advance(4 + 2 + self.topic.len() + 4 + 4);
        assert_eq!(told.get_i16(), 0);
    }
}

#[tokio::test]
async fn a_group_that_consumed_and_produced_nothing_is_told_from_one_that_never_consumed() {
    let data = tempfile::tempdir().unwrap();
    let (hook, told) = webhook();
    let mut config = watched(data.path());
    config.choreography.webhook = Some(SecretUrl::from(format!("http://{hook}/alarm").as_str()));
    let node = Node::start(config).await.unwrap();
    let (http, kafka) = (node.http_address(), node.kafka_address());
    let contracts = format!("{ROOT}/contracts/shop");
    assert_eq!(send(http, "PUT", contracts, contract()).await.0, 200);
    place(&node, "order.placed").await;
    let mut member = outside(move || Member::join(kafka, "inventory", "shop.orders")).await;
    happens(&node, "ill", &HAPPY[..2]).await;
    happens(&node, "later", &HAPPY[..2]).await;
    let mut member = outside(move || {
        assert_ne!(member.read(0), 0);
        member.commit(1);
        member
    })
    .await;
    let consumed = |what: &'static str| {
        move |answer: &Value| {
            let finding = answer["findings"][0].as_str().unwrap_or_default();
            answer["verdict"] == "stuck" && finding.contains(what)
        }
    };
    let successor = "the group inventory consumed it, and its successor never came";
    until(http, &verdict("ill"), consumed(successor)).await;
    let never = "the group inventory never consumed it and is at offset 1";
    until(http, &verdict("later"), consumed(never)).await;
    outside(move || member.commit(2)).await;
    until(http, &verdict("later"), consumed(successor)).await;

    // The same in the topic, over the webhook and in the metric.
    let what = |told: &Value| told["findings"][0]["consumption"]["what"].clone();
    let begun = Instant::now();
    loop {
        let kept = all_of(&node, "_wharf.choreography-verdicts").await;
        let last = |key: &str| {
            let mut of_it = kept.iter().rev().filter(|(known, _)| known == key);
            of_it.find_map(|(_, value)| value.clone())
        };
        let is_so = |key: &str| {
            last(key).is_some_and(|told| {
                what(&told) == "consumed-without-successor" && told["verdict"] == "stuck"
            })
        };
        if is_so("shop/ill") && is_so("shop/later") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{kept:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    outside(move || {
        let mut missing = vec!["ill", "later"];
        while !missing.is_empty() {
            let told = told.recv_timeout(PATIENCE).unwrap();
            assert_eq!(told["verdict"], "stuck");
            if what(&told) == "consumed-without-successor" {
                let consumption = &told["findings"][0]["consumption"];
                assert_eq!(consumption["group"], "inventory");
                missing.retain(|order| told["instance"] != *order);
            }
        }
    })
    .await;
    let (_, _, metrics) = outside(move || get(http, "/metrics")).await;
    let line = "wharf_choreography_stuck{choreography=\"shop\"} 2";
    assert!(metrics.contains(line), "{metrics}");
    node.shutdown().await.unwrap();
}
