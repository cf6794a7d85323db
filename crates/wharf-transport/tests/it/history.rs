//! Reading back what is kept, in the program and over the wire: all of it, whatever became of it.

use std::time::Duration;

use futures_util::future::join_all;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use wharf_message::transport::{Extent, Publish as _, TopicHistory, Transport as _};
use wharf_message::{Message, TopicName};
use wharf_server::{EmbeddedNode, Listeners};
use wharf_transport::embedded::EmbeddedTransport;
use wharf_transport::kafka::KafkaTransport;

use crate::raw;

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

fn name(topic: &str) -> TopicName {
    TopicName::new(topic).unwrap()
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(message.payload.as_deref().unwrap_or_default()).into_owned()
}

async fn extents(history: &dyn TopicHistory, topic: &str) -> Vec<Extent> {
    history.extents(&name(topic)).await.unwrap().unwrap()
}

/// All that is kept of a topic.
async fn kept(history: &dyn TopicHistory, topic: &str) -> Vec<Message> {
    let mut all = Vec::new();
    for extent in extents(history, topic).await {
        let mut each = |_offset: i64, message: &Message| all.push(message.clone());
        history.read(&name(topic), extent, &mut each).await.unwrap();
    }
    all
}

/// A node, and both ways to read what it keeps.
struct Place {
    node: EmbeddedNode,
    inside: EmbeddedTransport,
    outside: KafkaTransport,
    _data: tempfile::TempDir,
}

impl Place {
    async fn open() -> Self {
        let data = tempfile::tempdir().unwrap();
        let listeners = Listeners {
            kafka: true,
            ..Listeners::default()
        };
        let config = crate::embedded::config(&data);
        let node = EmbeddedNode::start(config, listeners).await.unwrap();
        let inside = EmbeddedTransport::on(node.broker().clone(), "test");
        let address = format!("kafka://{}", node.kafka_address().unwrap());
        let outside = KafkaTransport::connect(&address).await.unwrap();
        Self {
            node,
            inside,
            outside,
            _data: data,
        }
    }

    fn histories(&self) -> [std::sync::Arc<dyn TopicHistory>; 2] {
        [
            self.inside.history().unwrap(),
            self.outside.history().unwrap(),
        ]
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        let address = self.node.kafka_address().unwrap();
        config.set("bootstrap.servers", address.to_string());
        config
    }

    async fn close(self) {
        self.outside.shutdown().await.unwrap();
        self.inside.shutdown().await.unwrap();
        self.node.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_kept_is_read_however_much_it_is_and_no_topic_is_made() {
    let place = Place::open().await;
    // More than one fetch takes, in several partitions.
    place.inside.create_topic(&name("scans"), 3).await.unwrap();
    let published = (0..3_000).map(|number| {
        let mut message = Message::new(format!("{number:01000}")).with_key(number.to_string());
        message.headers.push("number", number.to_string());
        place.inside.publish(&name("scans"), message)
    });
    for published in join_all(published.collect::<Vec<_>>()).await {
        published.unwrap();
    }
    let empty = name("empty");
    place.inside.create_topic(&empty, 2).await.unwrap();

    for history in place.histories() {
        assert_eq!(
            history.topics().await.unwrap(),
            [empty.clone(), name("scans")]
        );
        assert!(kept(&*history, "empty").await.is_empty());
        let all = kept(&*history, "scans").await;
        let mut numbers: Vec<u32> = all
            .iter()
            .map(|message| text(message).parse().unwrap())
            .collect();
        assert!(all.iter().all(|message| message.headers.contains("number")));
        numbers.sort_unstable();
        assert_eq!(numbers, (0..3_000).collect::<Vec<_>>());
        assert_eq!(history.extents(&name("missing")).await.unwrap(), None);
    }
    let [inside, _] = place.histories();
    assert_eq!(inside.topics().await.unwrap().len(), 2);
    place.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undecided_transaction_is_read_and_its_marker_is_no_message() {
    let place = Place::open().await;
    place.inside.create_topic(&name("orders"), 1).await.unwrap();
    let client = place.client();
    let [inside, outside] = place.histories();
    let begin = move || {
        let producer: BaseProducer = client
            .clone()
            .set("transactional.id", "test")
            .create()
            .unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        let record = BaseRecord::<(), str>::to("orders").payload("undecided");
        producer.send(record).unwrap();
        producer.flush(PATIENCE).unwrap();
        producer
    };
    let producer = tokio::task::spawn_blocking(begin).await.unwrap();
    for history in [&inside, &outside] {
        let all = kept(&**history, "orders").await;
        assert_eq!(all.iter().map(text).collect::<Vec<_>>(), ["undecided"]);
    }
    let abort = move || producer.abort_transaction(PATIENCE).unwrap();
    tokio::task::spawn_blocking(abort).await.unwrap();
    for history in [&inside, &outside] {
        // The marker is the last offset; there is an end after it all the same.
        assert_eq!(extents(&**history, "orders").await[0].end, 2);
        let all = kept(&**history, "orders").await;
        assert_eq!(all.iter().map(text).collect::<Vec<_>>(), ["undecided"]);
    }
    place.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_removed_is_passed_by_and_a_header_without_a_readable_name_hides_no_other() {
    let place = Place::open().await;
    place.inside.create_topic(&name("orders"), 1).await.unwrap();
    for number in 0..10 {
        let message = Message::new(number.to_string());
        place
            .inside
            .publish(&name("orders"), message)
            .await
            .unwrap();
    }
    let before = extents(&*place.inside.history().unwrap(), "orders").await[0];
    let admin: AdminClient<DefaultClientContext> = place.client().create().unwrap();
    let mut until = TopicPartitionList::new();
    let at = Offset::Offset(7);
    until.add_partition_offset("orders", 0, at).unwrap();
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    admin.delete_records(&until, &options).await.unwrap();
    for history in place.histories() {
        let mut all = Vec::new();
        let mut each = |_offset: i64, message: &Message| all.push(text(message));
        history
            .read(&name("orders"), before, &mut each)
            .await
            .unwrap();
        assert_eq!(all, ["7", "8", "9"]);
        assert_eq!(extents(&*history, "orders").await[0].first, 7);
    }

    place.inside.create_topic(&name("odd"), 1).await.unwrap();
    let address = place.node.kafka_address().unwrap().to_string();
    let headers: [(&[u8], &[u8]); 3] = [(b"one", b"1"), (&[0xff, 0xfe], b"2"), (b"three", b"3")];
    raw::produce(&address, "odd", b"bad", &headers);
    for history in place.histories() {
        let all = kept(&*history, "odd").await;
        let [message] = &all[..] else {
            panic!("{all:?}")
        };
        assert_eq!(text(message), "bad");
        for (name, value) in [("one", "1"), ("three", "3")] {
            assert_eq!(message.headers.text(name), Ok(Some(value)));
        }
    }
    place.close().await;
}
