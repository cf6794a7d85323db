//! What a route does with messages: every way one may end.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Barrier;
use wharf::{
    Attempt, Batch, Disposition, Failure, Message, Msg, Publish, Raw, Retry, Router, State,
    Unknown, group, header,
};

use crate::support::{OrderPlaced, StockReserved, order, placed, serve, serve_over, text, verdict};

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[wharf::handler]
async fn reserve(
    State(seen): State<Seen>,
    Msg(placed): Msg<OrderPlaced>,
) -> Publish<StockReserved> {
    seen.add(&placed.order);
    Publish(StockReserved {
        order: placed.order,
    })
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_returns_is_published_with_the_envelope_of_what_it_handled() {
    let seen = Seen::default();
    let router = Router::new()
        .topic("orders", group("inventory").on(reserve))
        .with_state(seen.clone());
    let bus = serve(router).await;
    bus.publish(order("o-1", 1)).await;
    bus.settle().await;
    assert_eq!(seen.all(), ["o-1"]);
    let placed = &bus.messages("orders")[0];
    let [reserved] = &bus.messages("stock")[..] else {
        panic!("one message")
    };
    assert_eq!(reserved.key.as_deref(), Some(&b"o-1"[..]));
    assert_eq!(
        reserved.payload.as_deref(),
        Some(&br#"{"order":"o-1"}"#[..])
    );
    let id = text(placed, header::CE_ID);
    assert_eq!(text(reserved, header::CE_CORRELATIONID), id);
    assert_eq!(text(reserved, header::CE_CAUSATIONID), id);
    assert_eq!(text(reserved, header::CE_TYPE), "shop.stock.reserved");
    assert_eq!(text(reserved, header::CE_SOURCE), "inventory");
    assert_eq!(text(reserved, header::CE_SPECVERSION), "1.0");
    bus.stop().await.unwrap();
}

#[derive(Debug, thiserror::Error, Failure)]
enum Fails {
    #[error("the database is down")]
    #[failure(retry)]
    Down,
    #[error("there is no such article")]
    #[failure(dead_letter)]
    Unknown,
    #[error("nothing to do")]
    #[failure(skip)]
    Nothing,
    #[error("somebody was quicker")]
    #[failure(conflict)]
    Conflict,
    #[error("not yet")]
    #[failure(retry = "1s x2, max 3s, 2 times")]
    Slow,
}

#[tokio::test(start_paused = true)]
async fn an_error_decides_whether_its_message_is_tried_again_set_aside_or_passed_over() {
    let seen = Seen::default();
    let handle = |State(seen): State<Seen>,
                  Attempt(attempt): Attempt,
                  Msg(placed): Msg<OrderPlaced>| async move {
        seen.add(format!("{} {attempt}", placed.order));
        match &*placed.order {
            "down" => Err(Fails::Down),
            "unknown" => Err(Fails::Unknown),
            "nothing" => Err(Fails::Nothing),
            "conflict" if seen.all().len() < 40 => Err(Fails::Conflict),
            "slow" => Err(Fails::Slow),
            _ => Ok(()),
        }
    };
    let retry = Retry::default()
        .immediate(1)
        .delayed(Duration::from_secs(1), 2);
    let router = Router::new().topic("orders", group("inventory").on(handle).retry(retry));
    let bus = serve(router.with_state(seen.clone())).await;
    for name in ["down", "unknown", "nothing", "conflict", "slow", "fine"] {
        bus.publish(order(name, 1)).await;
    }
    bus.settle().await;
    let count = |name: &str| {
        seen.all()
            .iter()
            .filter(|seen| seen.starts_with(name))
            .count()
    };
    let counts = ["down", "unknown", "nothing", "slow", "fine"].map(count);
    assert_eq!(counts, [4, 1, 1, 4, 1]);
    assert!(count("conflict") > 20 && seen.all().iter().all(|seen| seen != "conflict 2"));
    let letters = bus.messages("dlq.orders.inventory");
    let mut verdicts: Vec<_> = letters.iter().map(verdict).collect();
    verdicts.sort_unstable();
    let expected = [
        ("rejected", "1", "there is no such article"),
        ("retries-exhausted", "4", "not yet"),
        ("retries-exhausted", "4", "the database is down"),
    ];
    assert_eq!(verdicts, expected);
    bus.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn poison_is_set_aside_with_its_bytes_and_stops_nobody() {
    let seen = Seen::default();
    let panics = |Msg(placed): Msg<StockReserved>| async move {
        assert_ne!(placed.order, "o-1", "boom");
    };
    let never = |Raw(_): Raw| std::future::pending::<()>();
    let route = group("inventory").on(reserve).on(panics);
    let slow = group("slow")
        .on(never)
        .timeout(Duration::from_secs(5))
        .retry(Retry::never());
    let router = Router::new().topic("orders", route).topic("slow", slow);
    let bus = serve(router.with_state(seen.clone())).await;
    let broken = Message::new(vec![0xff, 0x00]).with_header(header::CE_TYPE, "shop.order.placed");
    let untyped = Message::new("x").with_header("mine", vec![0xff]);
    let not_text = Message::new("x").with_header(header::CE_TYPE, vec![0xff]);
    let boom =
        Message::new(r#"{"order":"o-1"}"#).with_header(header::CE_TYPE, "shop.stock.reserved");
    for message in [broken.clone(), untyped.clone(), not_text, boom] {
        bus.publish_raw("orders", message).await;
    }
    bus.publish_raw("slow", Message::new("x")).await;
    bus.publish(order("fine", 1)).await;
    bus.settle().await;
    assert_eq!(seen.all(), ["fine"]);
    let letters = bus.messages("dlq.orders.inventory");
    let mut reasons: Vec<_> = letters.iter().map(|letter| verdict(letter).0).collect();
    reasons.sort_unstable();
    assert_eq!(
        reasons,
        ["panicked", "undecodable", "unknown-type", "unknown-type"]
    );
    let kept = letters
        .iter()
        .find(|letter| verdict(letter).0 == "undecodable")
        .unwrap();
    assert_eq!(kept.payload, broken.payload);
    let kept = letters
        .iter()
        .find(|letter| letter.headers.contains("mine"))
        .unwrap();
    assert_eq!(kept.headers.get("mine"), Some(&Bytes::from_static(&[0xff])));
    assert_eq!(verdict(&bus.messages("dlq.slow.slow")[0]).0, "timed-out");
    bus.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_key_that_waits_for_its_next_attempt_keeps_its_order_and_holds_up_no_other() {
    let seen = Seen::default();
    let handle = |State(seen): State<Seen>,
                  Attempt(attempt): Attempt,
                  Msg(placed): Msg<OrderPlaced>| async move {
        if placed.order == "a" && placed.quantity == 0 && attempt < 5 {
            return Err(wharf::Error::retry("not yet"));
        }
        seen.add(format!("{}{}", placed.order, placed.quantity));
        Ok(())
    };
    let router = Router::new().topic("orders", group("inventory").on(handle));
    let bus = serve(router.with_state(seen.clone())).await;
    for quantity in 0..3 {
        for name in ["a", "b"] {
            bus.publish(order(name, quantity)).await;
        }
    }
    bus.settle().await;
    assert_eq!(seen.all(), ["b0", "b1", "b2", "a0", "a1", "a2"]);
    bus.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_is_handled_one_by_one_so_that_only_the_bad_one_is_set_aside() {
    let seen = Seen::default();
    let handle = |State(seen): State<Seen>, Batch(placed): Batch<OrderPlaced>| async move {
        seen.add(placed.len().to_string());
        if placed.iter().any(|placed| placed.order == "bad") {
            return Err(wharf::Error::dead_letter("bad"));
        }
        Ok(())
    };
    let router = Router::new().topic("orders", group("inventory").on(handle));
    let orders = ["a", "b", "bad", "c"].map(placed).to_vec();
    let bus = serve_over(orders, router.with_state(seen.clone())).await;
    bus.settle().await;
    assert_eq!(
        seen.all()
            .iter()
            .map(|count| count.parse::<usize>().unwrap())
            .max(),
        Some(4)
    );
    let letters = bus.messages("dlq.orders.inventory");
    assert_eq!(letters.len(), 1);
    assert!(
        letters[0]
            .payload
            .as_deref()
            .unwrap()
            .starts_with(br#"{"order":"bad""#)
    );
    bus.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_is_passed_over_and_what_nobody_takes_may_be_skipped() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let handle = move |Msg(_): Msg<OrderPlaced>| {
        counted.fetch_add(1, Ordering::Relaxed);
        async {}
    };
    let route = group("inventory").on(handle).unknown(Unknown::Skip);
    let bus = serve(Router::new().topic("orders", route)).await;
    let old = placed("o").with_header(header::EXPIRES_AT, "2020-01-01T00:00:00Z");
    let other = Message::new("x").with_header(header::CE_TYPE, "other");
    for message in [old, other] {
        bus.publish_raw("orders", message).await;
    }
    bus.settle().await;
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    assert!(bus.messages("dlq.orders.inventory").is_empty());
    bus.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_keep_their_thread_run_on_all_threads() {
    const PATIENCE: Duration = Duration::from_secs(30);
    let (inside, met) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (entered, counted) = (Arc::clone(&inside), Arc::clone(&met));
    // Waits for the other one without giving its thread to anybody.
    let handle = move |Raw(_): Raw| {
        entered.fetch_add(1, Ordering::SeqCst);
        let since = Instant::now();
        while entered.load(Ordering::SeqCst) < 2 && since.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        let both = u32::from(entered.load(Ordering::SeqCst) == 2 && since.elapsed() < PATIENCE);
        counted.fetch_add(both, Ordering::SeqCst);
        async {}
    };
    let bus = serve(Router::new().topic("orders", group("inventory").on(handle))).await;
    for key in ["one", "two"] {
        let message = Message::new("x").with_key(key);
        bus.publish_raw("orders", message).await;
    }
    bus.settle().await;
    bus.stop().await.unwrap();
    assert_eq!(met.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn as_many_handlers_wait_at_the_same_time_as_the_route_allows() {
    const MANY: usize = 64;
    let barrier = Arc::new(Barrier::new(MANY));
    let handle = move |Raw(_): Raw| {
        let barrier = Arc::clone(&barrier);
        async move {
            barrier.wait().await;
        }
    };
    let bus = serve(Router::new().topic("orders", group("inventory").on(handle))).await;
    for key in 0..MANY {
        let message = Message::new("x").with_key(key.to_string());
        bus.publish_raw("orders", message).await;
    }
    bus.settle().await;
    assert_eq!(bus.bus().ends().accepted, MANY as u64);
    bus.stop().await.unwrap();
}

#[test]
fn a_failure_says_its_disposition_with_its_delays() {
    assert!(
        matches!(Fails::Slow.disposition(), Disposition::RetryWith(delays) if delays.times == 2)
    );
}
