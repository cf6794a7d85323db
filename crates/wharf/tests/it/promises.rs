//! Promises about handling that need a broker that goes away, a late answer, or a count of the ends.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore};
use wharf::testing::TestBus;
use wharf::{
    Attempt, Bus, BusError, Capabilities, Clock, Event, Failure, GroupName, Meanwhile, Message,
    Meta, Msg, Position, Publish, Raw, Reason, Request, Retry, Router, State, TopicName, Unknown,
    group, header,
};
use wharf_message::transport::memory::MemoryTransport;
use wharf_message::transport::{self, Deliveries, Subscribe, Subscription, Transport};

use crate::support::{OrderPlaced, START, StockReserved, order, text, topic};

#[derive(Debug, thiserror::Error, Failure)]
enum Ended {
    #[error("nothing to do")]
    #[failure(skip)]
    Skipped,
    #[error("never")]
    #[failure(dead_letter)]
    Rejected,
    #[error("not yet")]
    #[failure(retry)]
    NotYet,
}

async fn end(Attempt(attempt): Attempt, Msg(placed): Msg<OrderPlaced>) -> Result<(), Ended> {
    match &*placed.order {
        "skip" => Err(Ended::Skipped),
        "reject" => Err(Ended::Rejected),
        "once more" if attempt < 2 => Err(Ended::NotYet),
        _ => Ok(()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_leaves_its_route_in_exactly_one_way() {
    let retry = Retry::never()
        .delayed(Duration::from_secs(1), 1)
        .meanwhile(Meanwhile::LetPass);
    let route = group("inventory")
        .on(end)
        .retry(retry)
        .unknown(Unknown::Skip);
    let bus = TestBus::start(Router::new().topic("orders", route)).await;
    for name in ["fine", "fine too", "skip", "reject", "once more"] {
        bus.publish(order(name, 1)).await;
    }
    let untyped = Message::new("x");
    let old = untyped
        .clone()
        .with_header(header::EXPIRES_AT, "2020-01-01T00:00:00Z");
    bus.publish_raw("orders", untyped).await;
    bus.publish_raw("orders", old).await;
    bus.settle().await;
    let ends = bus.bus().ends();
    let counts = [
        ends.accepted,
        ends.skipped,
        ends.expired,
        ends.retried,
        ends.dead_lettered,
    ];
    // The one that was retried came a second time, and left a second time.
    assert_eq!(counts, [3, 2, 1, 1, 1]);
    assert_eq!(counts.iter().sum::<u64>(), 7 + 1);
    assert_eq!(bus.dead_letters().len(), 1);
    bus.stop().await.unwrap();
}

/// Tells when a handler has begun, and lets none end before it may.
struct Gate {
    begun: Notify,
    may_end: Semaphore,
}

async fn reserve(
    State(gate): State<Arc<Gate>>,
    Msg(placed): Msg<OrderPlaced>,
) -> Publish<StockReserved> {
    gate.begun.notify_one();
    let _permit = gate.may_end.acquire().await.unwrap();
    Publish(StockReserved {
        order: placed.order,
    })
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_goes_away_before_the_outputs_are_acknowledged_loses_nothing() {
    let gate = Arc::new(Gate {
        begun: Notify::new(),
        may_end: Semaphore::new(0),
    });
    let router = Router::new()
        .topic("orders", group("inventory").on(reserve))
        .with_state(Arc::clone(&gate));
    let bus = TestBus::start(router).await;
    let (topic, inventory) = (topic("orders"), GroupName::new("inventory").unwrap());
    let open = || bus.transport().lag(&inventory, &topic);
    bus.publish(order("o-1", 1)).await;
    gate.begun.notified().await;
    bus.transport().cut();
    gate.may_end.add_permits(1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(bus.messages("stock").is_empty());
    assert_eq!(open(), Some(1), "without its outputs it is not accepted");
    bus.transport().heal();
    bus.settle().await;
    let ids = bus.ids("stock");
    assert_eq!(
        ids.len(),
        1,
        "one id, however often it was handled: {ids:?}"
    );
    assert_eq!(open(), Some(0));
    bus.stop().await.unwrap();
}

/// A broker in memory that takes its time with every acknowledgement.
struct Slow {
    memory: Arc<MemoryTransport>,
    may_acknowledge: Arc<Semaphore>,
}

impl transport::Publish for Slow {
    fn capabilities(&self) -> Capabilities {
        self.memory.capabilities()
    }

    fn create_topic(
        &self,
        topic: &TopicName,
        partitions: u32,
    ) -> BoxFuture<'_, Result<(), transport::Error>> {
        self.memory.create_topic(topic, partitions)
    }

    fn publish(
        &self,
        topic: &TopicName,
        message: Message,
    ) -> BoxFuture<'_, Result<Option<Position>, transport::Error>> {
        let published = self.memory.publish(topic, message);
        Box::pin(async move {
            let _permit = self.may_acknowledge.acquire().await.unwrap();
            published.await
        })
    }
}

impl Subscribe for Slow {
    fn subscribe(
        &self,
        subscription: Subscription,
    ) -> BoxFuture<'_, Result<Box<dyn Deliveries>, transport::Error>> {
        self.memory.subscribe(subscription)
    }
}

impl Transport for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), transport::Error>> {
        self.memory.shutdown()
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_is_accepted_after_its_outputs_are_acknowledged_and_not_before() {
    let memory = Arc::new(MemoryTransport::new(START));
    let may_acknowledge = Arc::new(Semaphore::new(0));
    let slow = Slow {
        memory: Arc::clone(&memory),
        may_acknowledge: Arc::clone(&may_acknowledge),
    };
    let bus = Bus::with_clock(Arc::new(slow), "inventory", Clock::starting_at(START));
    let handle = async |Msg(placed): Msg<OrderPlaced>| {
        Publish(StockReserved {
            order: placed.order,
        })
    };
    let router = Router::new().topic("orders", group("inventory").on(handle));
    let serving = tokio::spawn(bus.serve(router).into_future());
    let message = Message::new(r#"{"order":"o-1","quantity":1}"#)
        .with_header(header::CE_TYPE, OrderPlaced::TYPE);
    transport::Publish::publish(&*memory, &topic("orders"), message)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(memory.messages("stock").len(), 1);
    assert_eq!(memory.in_flight(), 1, "published, and not acknowledged yet");
    may_acknowledge.add_permits(1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(memory.in_flight(), 0);
    assert_eq!(memory.messages("stock").len(), 1);
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn an_attribute_that_is_no_text_sets_its_message_aside_with_its_bytes() {
    let route = group("g").on(async |_: Meta, _: Raw| ());
    let bus = TestBus::start(Router::new().topic("orders", route)).await;
    let message = Message::new("x").with_header(header::CE_CORRELATIONID, vec![0xff, 0xfe]);
    bus.publish_raw("orders", message.clone()).await;
    bus.publish_raw("orders", Message::new("fine")).await;
    bus.settle().await;
    let letters = bus.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (letters[0].reason, letters[0].attempts),
        (Some(Reason::Undecodable), 1)
    );
    let kept = letters[0].message.headers.get(header::CE_CORRELATIONID);
    assert_eq!(kept, message.headers.get(header::CE_CORRELATIONID));
    assert_eq!(bus.bus().ends().accepted, 1);
    bus.stop().await.unwrap();
}

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "shop.price.asked", topic = "prices")]
struct AskPrice {}

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "shop.price", topic = "prices")]
struct Price {
    cents: u64,
}

impl Request for AskPrice {
    type Reply = Price;
}

#[tokio::test(start_paused = true)]
async fn a_reply_after_its_requester_gave_up_is_counted_and_does_no_harm() {
    let bus = TestBus::start(Router::new().topic("other", group("g").on(async |_: Raw| ()))).await;
    let asked = bus.bus().request(AskPrice {});
    let asked = asked.timeout(Duration::from_secs(1)).await;
    assert!(matches!(asked, Err(BusError::NoReply { .. })), "{asked:?}");
    let request = bus.messages("prices")[0].clone();
    let reply = |for_: &str| {
        Message::new(r#"{"cents":1}"#)
            .with_header(header::CE_TYPE, Price::TYPE)
            .with_header(header::REPLY_FOR, for_.to_owned())
    };
    let to = text(&request, header::REPLY_TO).to_owned();
    bus.publish_raw(&to, reply("of somebody else")).await;
    bus.publish_raw(&to, reply(text(&request, header::CE_ID)))
        .await;
    bus.settle().await;
    assert_eq!(bus.bus().late_replies(), 1);
    bus.stop().await.unwrap();
}

#[test]
fn a_transport_whose_topics_can_only_be_consumed_says_so_by_name() {
    let slow = Slow {
        memory: Arc::new(MemoryTransport::new(START)),
        may_acknowledge: Arc::new(Semaphore::new(0)),
    };
    let refused = slow.history().err().expect("it has none").to_string();
    assert!(refused.starts_with("slow has no history"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn nobody_listens_for_replies_any_more_when_the_bus_is_gone() {
    let memory = Arc::new(MemoryTransport::new(START));
    let bus = Bus::with_clock(memory.clone(), "shop", Clock::starting_at(START));
    let asked = bus.request(AskPrice {}).timeout(Duration::from_secs(1));
    assert!(matches!(asked.await, Err(BusError::NoReply { .. })));
    let replies = topic("replies.shop");
    let publish = || transport::Publish::publish(&*memory, &replies, Message::new("x"));
    publish().await.unwrap();
    assert_eq!(memory.in_flight(), 1, "the bus listens");
    memory.idle().await;
    drop(bus);
    tokio::task::yield_now().await;
    publish().await.unwrap();
    assert_eq!(memory.in_flight(), 0);
}
