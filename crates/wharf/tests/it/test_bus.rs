//! The test kit itself, and the patterns under its faults.

use std::future::IntoFuture as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Instant;
use wharf::testing::{Faults, TestBus};
use wharf::{
    Bus, BusError, Capabilities, Capability, Clock, Correlation, Deadline, Event, Meanwhile, Msg,
    Reason, Reply, Request, Requests, Retry, Router, Schedule, ServeError, State, To, Unknown,
    group, header,
};

use wharf_message::transport::Transport as _;
use wharf_message::transport::memory::MemoryTransport;

use crate::support::{OrderPlaced, START, StockReserved, order, text};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(type = "shop.reservation.expired", topic = "expiries", key = "order")]
struct Expired {
    order: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(type = "shop.price.asked", topic = "prices")]
struct AskPrice {
    article: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(type = "shop.price", topic = "prices")]
struct Price {
    cents: u64,
}

impl Request for AskPrice {
    type Reply = Price;
}

async fn reserve(Msg(placed): Msg<OrderPlaced>) -> (To<StockReserved>, Schedule<Expired>) {
    let expired = Expired {
        order: placed.order.clone(),
    };
    let reserved = StockReserved {
        order: placed.order,
    };
    (
        To::its_topic(reserved).expires_after(Duration::from_secs(60)),
        Schedule::after(Duration::from_secs(900), expired),
    )
}

#[tokio::test(start_paused = true)]
async fn what_is_scheduled_comes_when_its_time_has_come_and_not_before() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let expire = |State(seen): State<Arc<Mutex<Vec<String>>>>, Msg(expired): Msg<Expired>| async move {
        seen.lock().unwrap().push(expired.order);
    };
    let router = Router::new()
        .topic("orders", group("inventory").on(reserve))
        .topic("expiries", group("inventory-expiries").on(expire));
    let bus = TestBus::start(router.with_state(Arc::clone(&seen))).await;
    bus.publish(order("o-1", 1)).await;
    bus.settle().await;
    assert_eq!(bus.scheduled::<Expired>().len(), 1);
    bus.advance(Duration::from_secs(899)).await;
    assert!(seen.lock().unwrap().is_empty());
    bus.advance(Duration::from_secs(1)).await;
    assert_eq!(*seen.lock().unwrap(), ["o-1"]);
    let reserved = &bus.messages("stock")[0];
    assert!(!text(reserved, header::EXPIRES_AT).is_empty());
    bus.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn duplicates_crashes_and_reordering_publish_the_same_ids_and_lose_nothing() {
    for seed in 0..20 {
        let faults = Faults::none()
            .duplicate_every(2)
            .reorder(seed)
            .crash_after(3)
            .crash_after(9);
        let router = Router::new().topic("orders", group("inventory").on(reserve));
        let bus = TestBus::builder().faults(faults).start(router).await;
        for number in 0..20 {
            bus.publish(order(&format!("o-{number}"), 1)).await;
        }
        bus.settle().await;
        let ids = bus.ids("stock");
        assert_eq!(
            ids.len(),
            20,
            "seed {seed}: each order has its own id, however often it came"
        );
        assert!(
            ids.values().any(|times| *times > 1),
            "seed {seed}: the faults did happen"
        );
        assert!(bus.dead_letters().is_empty());
        bus.stop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_with_its_correlation_and_deadline() {
    let answer = |Deadline { .. }: Deadline, Msg(ask): Msg<AskPrice>| async move {
        Reply(Price {
            cents: ask.article.len() as u64,
        })
    };
    let bus = TestBus::start(
        Router::new().topic("prices", group("prices").on(answer).unknown(Unknown::Skip)),
    )
    .await;
    let ask = || AskPrice {
        article: "tea".to_owned(),
    };
    assert_eq!(bus.bus().request(ask()).await.unwrap(), Price { cents: 3 });
    let replies = bus.messages("replies.test");
    let request = &bus.messages("prices")[0];
    assert_eq!(
        text(&replies[0], header::REPLY_FOR),
        text(request, header::CE_ID)
    );
    assert_eq!(
        text(&replies[0], header::CE_CORRELATIONID),
        text(request, header::CE_ID)
    );
    bus.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_late_reply_is_dropped_and_counted_and_nobody_works_for_whom_nobody_waits() {
    let slow = |Msg(_): Msg<AskPrice>| async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Reply(Price { cents: 1 })
    };
    let bus = TestBus::start(Router::new().topic("prices", group("prices").on(slow))).await;
    let ask = AskPrice {
        article: "tea".to_owned(),
    };
    let asked = bus.bus().request(ask).timeout(Duration::from_secs(1)).await;
    assert!(matches!(asked, Err(BusError::NoReply { .. })), "{asked:?}");
    bus.settle().await;
    assert!(
        bus.messages("replies.test").is_empty(),
        "its deadline had passed"
    );
    bus.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_handler_asks_another_service_within_the_same_conversation() {
    let answer = |Correlation(id): Correlation, Msg(_): Msg<AskPrice>| async move {
        Reply(Price {
            cents: id.len() as u64,
        })
    };
    let buy = |requests: Requests, Msg(placed): Msg<OrderPlaced>| async move {
        let price = requests
            .ask(AskPrice {
                article: placed.order.clone(),
            })
            .await?;
        let order = format!("{} for {}", placed.order, price.cents);
        Ok::<_, wharf::Error>(wharf::Publish(StockReserved { order }))
    };
    let router = Router::new()
        .topic("prices", group("prices").on(answer))
        .topic("orders", group("buying").on(buy));
    let bus = TestBus::start(router).await;
    bus.publish(order("tea", 1)).await;
    bus.settle().await;
    assert_eq!(
        bus.published::<StockReserved>(),
        [StockReserved {
            order: "tea for 36".to_owned()
        }]
    );
    bus.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_that_lets_others_pass_waits_at_the_broker_with_its_attempts() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let handle = |State(seen): State<Arc<Mutex<Vec<String>>>>,
                  wharf::Attempt(attempt): wharf::Attempt,
                  Msg(placed): Msg<OrderPlaced>| async move {
        seen.lock()
            .unwrap()
            .push(format!("{}{} {attempt}", placed.order, placed.quantity));
        if placed.quantity == 0 {
            Err(wharf::Error::retry("no"))
        } else {
            Ok(())
        }
    };
    let retry = Retry::default()
        .immediate(0)
        .delayed(Duration::from_secs(1), 2)
        .meanwhile(Meanwhile::LetPass);
    let route = group("inventory").on(handle).retry(retry);
    let bus = TestBus::start(
        Router::new()
            .topic("orders", route)
            .with_state(Arc::clone(&seen)),
    )
    .await;
    bus.publish(order("a", 0)).await;
    bus.publish(order("a", 1)).await;
    bus.settle().await;
    assert_eq!(*seen.lock().unwrap(), ["a0 1", "a1 1", "a0 2", "a0 3"]);
    let letters = bus.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (letters[0].reason, letters[0].attempts),
        (Some(Reason::RetriesExhausted), 3)
    );
    bus.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_route_needs_and_the_transport_lacks_is_named_at_start() {
    let has = Capabilities::all().without(Capability::Schedule);
    let bus = TestBus::builder().capabilities(has);
    let bus = bus
        .start(Router::new().topic("stock", group("g").on(async |_: wharf::Raw| ())))
        .await;
    let refused = bus
        .bus()
        .serve(Router::new().topic("orders", group("inventory").on(reserve)))
        .await;
    let Err(error @ ServeError::Capabilities { .. }) = refused else {
        panic!("{refused:?}")
    };
    let expected = "the group inventory needs schedule of the transport, which memory has not; see docs/transports.md";
    assert_eq!(error.to_string(), expected);
    bus.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn outputs_that_are_atomic_with_their_input_are_there_once_whatever_crashes() {
    for seed in 1..10 {
        let route = group("inventory").on(reserve).atomic_outputs();
        let builder = TestBus::builder().crash_after(seed).crash_after(seed + 7);
        let bus = builder.start(Router::new().topic("orders", route)).await;
        for number in 0..20 {
            bus.publish(order(&format!("o-{number}"), 1)).await;
        }
        bus.settle().await;
        let ids = bus.ids("stock");
        assert_eq!(
            (ids.len(), ids.values().sum::<usize>()),
            (20, 20),
            "seed {seed}"
        );
        bus.stop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_transport_is_closed_ends_at_once_and_says_so() {
    let transport = Arc::new(MemoryTransport::new(START));
    let bus = Bus::with_clock(transport.clone(), "inventory", Clock::starting_at(START));
    let (tell, ready) = oneshot::channel();
    let serve = bus.serve(Router::new().topic("orders", group("inventory").on(reserve)));
    let serving = tokio::spawn(serve.tell_when_ready(tell).into_future());
    ready.await.unwrap();
    let since = Instant::now();
    transport.shutdown().await.unwrap();
    let ended = serving.await.unwrap();
    assert!(
        matches!(ended, Err(ServeError::Transport { .. })),
        "{ended:?}"
    );
    assert!(since.elapsed().is_zero(), "its idle workers end with it");
}
