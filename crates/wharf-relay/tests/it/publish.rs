//! The target over a transport: at least once, in order, and with the same ids when messages come again.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use wharf_message::transport::memory::MemoryTransport;
use wharf_message::transport::{Capabilities, Error, Position, Publish};
use wharf_message::{Message, Timestamp, TopicName, header};
use wharf_relay::{
    Checkpoint, Connect, Delivered, Opened, PublishTarget, Routed, Sink, Target, TroubleKind,
};

fn connect_to(publish: Arc<dyn Publish>) -> Connect {
    Arc::new(move || {
        let publish = Arc::clone(&publish);
        async move { Ok(publish) }.boxed()
    })
}

fn target(transport: &MemoryTransport) -> PublishTarget {
    PublishTarget::new(connect_to(Arc::new(transport.client())), 2, || {
        Timestamp::ZERO
    })
}

fn numbered(number: usize) -> Routed {
    Routed {
        topic: TopicName::new("orders").unwrap(),
        partition: None,
        message: Message::new(number.to_string())
            .with_key("k")
            .with_header("id", number.to_string()),
    }
}

async fn deliver(
    sink: &mut dyn Sink,
    numbers: std::ops::Range<usize>,
) -> Result<Delivered, wharf_relay::Trouble> {
    let messages = numbers.map(numbered).collect();
    sink.deliver(messages, Checkpoint::default()).await
}

fn ids(messages: &[Message]) -> Vec<usize> {
    let id = |message: &Message| {
        message
            .headers
            .text("id")
            .unwrap()
            .unwrap()
            .parse()
            .unwrap()
    };
    messages.iter().map(id).collect()
}

#[tokio::test]
async fn messages_keep_the_order_of_deliveries_and_come_again_with_their_ids_after_a_lost_connection()
 {
    let transport = MemoryTransport::new(Timestamp::ZERO);
    let cut = transport.client();
    let target = PublishTarget::new(connect_to(Arc::new(cut.client())), 2, || Timestamp::ZERO);
    assert!(!target.keeps_checkpoints());
    let Opened { mut sink, history } = target.open("orders").await.unwrap();
    assert!(history.is_empty());
    let under_way: Vec<_> = (0..5)
        .map(|batch| {
            let messages = (batch * 10..batch * 10 + 10).map(numbered).collect();
            sink.deliver(messages, Checkpoint::default())
        })
        .collect();
    for delivered in under_way {
        assert_eq!(delivered.await, Ok(Delivered::default()));
    }
    assert_eq!(
        ids(&transport.messages("orders")),
        (0..50).collect::<Vec<_>>()
    );
}

/// Takes messages, and says of every `n`-th that it does not know; the same when asked again.
struct Ambiguous {
    transport: MemoryTransport,
    unknown: std::sync::Mutex<HashSet<Vec<u8>>>,
}

impl Publish for Ambiguous {
    fn capabilities(&self) -> Capabilities {
        self.transport.capabilities()
    }

    fn create_topic(&self, topic: &TopicName, partitions: u32) -> BoxFuture<'_, Result<(), Error>> {
        self.transport.create_topic(topic, partitions)
    }

    fn publish(
        &self,
        topic: &TopicName,
        message: Message,
    ) -> BoxFuture<'_, Result<Option<Position>, Error>> {
        let payload = message.payload.clone().unwrap().to_vec();
        let published = self.transport.publish(topic, message);
        if payload.ends_with(b"7") && self.unknown.lock().unwrap().insert(payload) {
            return std::future::ready(Err(Error::Unavailable("no answer".to_owned()))).boxed();
        }
        published
    }
}

#[tokio::test]
async fn an_unknown_outcome_is_an_error_and_going_on_from_what_is_confirmed_loses_nothing() {
    let transport = MemoryTransport::new(Timestamp::ZERO);
    let ambiguous = Ambiguous {
        transport: transport.client(),
        unknown: std::sync::Mutex::default(),
    };
    let target = PublishTarget::new(connect_to(Arc::new(ambiguous)), 1, || Timestamp::ZERO);
    let (mut confirmed, mut openings) = (0, 0);
    while confirmed < 40 {
        openings += 1;
        let mut opened = target.open("orders").await.unwrap();
        while confirmed < 40 {
            let batch = confirmed..confirmed + 5;
            match deliver(&mut *opened.sink, batch).await {
                Ok(_) => confirmed += 5,
                Err(trouble) => {
                    assert_eq!(trouble.kind, TroubleKind::Unavailable);
                    assert!(
                        deliver(&mut *opened.sink, 0..1).await.is_err(),
                        "it is over"
                    );
                    break;
                }
            }
        }
    }
    assert_eq!(openings, 5, "each of four was unknown once");
    let ids = ids(&transport.messages("orders"));
    let mut first_times = ids.clone();
    let mut seen = HashSet::new();
    first_times.retain(|id| seen.insert(*id));
    assert_eq!(
        first_times,
        (0..40).collect::<Vec<_>>(),
        "in order once repeats are removed"
    );
    assert!(ids.len() > 40, "and some came again");
}

#[tokio::test]
async fn what_the_transport_does_not_take_is_set_aside_and_the_rest_goes_on() {
    let transport = MemoryTransport::new(Timestamp::ZERO).with_bytes_max(2_000);
    let mut opened = target(&transport).open("orders").await.unwrap();
    let mut large = numbered(1);
    large.message.payload = Some(vec![b'x'; 3_000].into());
    let mut elsewhere = numbered(2);
    elsewhere.partition = Some(1);
    let messages = vec![numbered(0), elsewhere, numbered(3)];
    let delivered = opened.sink.deliver(messages, Checkpoint::default()).await;
    assert_eq!(delivered, Ok(Delivered { set_aside: 1 }));
    assert_eq!(ids(&transport.messages("orders")), [0, 3]);
    let letters = transport.messages("dlq.outbox.orders.relay");
    assert_eq!(ids(&letters), [2]);
    let why = letters[0].headers.text(header::DLQ_ERROR).unwrap().unwrap();
    assert!(why.contains("by the key alone"), "{why}");
    // Not even the dead-letter topic takes this one: it is never dropped in silence.
    let stuck = opened
        .sink
        .deliver(vec![large], Checkpoint::default())
        .await;
    assert_eq!(stuck.unwrap_err().kind, TroubleKind::Refused);
}

#[tokio::test]
async fn a_target_that_cannot_be_reached_says_so_without_its_password() {
    let connect: Connect =
        Arc::new(|| async { Err(Error::Denied("the password is wrong".to_owned())) }.boxed());
    let target = PublishTarget::new(connect, 1, || Timestamp::ZERO);
    let trouble = target.open("orders").await.unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::Refused);
    assert!(trouble.fix.is_some(), "{trouble}");
}
