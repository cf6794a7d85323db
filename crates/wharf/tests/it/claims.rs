//! Claim checks on the way through a route.

use std::sync::{Arc, Mutex};

use futures_util::stream::StreamExt;
use wharf::claim::{Blob, BlobStore, Claims, ObjectBlobs};
use wharf::{Message, Msg, Retry, Router, State, group, header};

use crate::support::{OrderPlaced, placed, serve, text, verdict};

type Seen = Arc<Mutex<Vec<String>>>;

async fn whole(State(seen): State<Seen>, Msg(placed): Msg<OrderPlaced>) {
    seen.lock().unwrap().push(placed.order);
}

async fn streamed(State(seen): State<Seen>, blob: Blob) -> Result<(), wharf::claim::ClaimError> {
    let stored = blob.is_stored();
    let bytes = blob.bytes().await?;
    seen.lock()
        .unwrap()
        .push(format!("{stored} {}", bytes.len()));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_handler_of_events_sees_no_difference_and_a_lost_payload_is_a_dead_letter() {
    let seen = Seen::default();
    let store = ObjectBlobs::memory();
    let claims = Claims::new("payloads", store.clone()).unwrap();
    let route = group("billing").on(whole).layer(claims.layer());
    let bus = serve(
        Router::new()
            .topic("orders", route)
            .with_state(Arc::clone(&seen)),
    )
    .await;

    bus.publish_raw("orders", placed("in the message")).await;
    bus.publish_raw(
        "orders",
        claims.check_in(placed("in the store"), 0).await.unwrap(),
    )
    .await;
    bus.settle().await;
    let lost = claims.check_in(placed("lost"), 0).await.unwrap();
    let objects: Vec<_> = store.list("").collect().await;
    for object in objects {
        store.delete(&object.unwrap().key).await.unwrap();
    }
    bus.publish_raw("orders", lost.clone()).await;
    bus.settle().await;

    assert_eq!(*seen.lock().unwrap(), ["in the message", "in the store"]);
    let [letter] = &bus.messages("dlq.orders.billing")[..] else {
        panic!("one dead letter")
    };
    assert_eq!((verdict(letter).0, verdict(letter).1), ("claim-lost", "1"));
    assert_eq!(
        text(letter, header::CE_DATAREF),
        text(&lost, header::CE_DATAREF)
    );
    bus.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_read_a_payload_as_it_comes_and_says_what_is_wrong_with_it() {
    let seen = Seen::default();
    let claims = Claims::new("payloads", ObjectBlobs::memory()).unwrap();
    let route = group("archive")
        .on(streamed)
        .retry(Retry::never())
        .layer(claims.streamed());
    let bus = serve(
        Router::new()
            .topic("scans", route)
            .with_state(Arc::clone(&seen)),
    )
    .await;

    bus.publish_raw("scans", Message::new(vec![7; 10])).await;
    bus.publish_raw(
        "scans",
        claims
            .check_in(Message::new(vec![7; 100_000]), 10)
            .await
            .unwrap(),
    )
    .await;
    let mut hostile = claims.check_in(Message::new("x"), 0).await.unwrap();
    hostile
        .headers
        .set(header::CE_DATAREF, "claim://payloads/../../etc/passwd");
    bus.publish_raw("scans", hostile).await;
    bus.settle().await;

    let mut all = seen.lock().unwrap().clone();
    all.sort();
    assert_eq!(all, ["false 10", "true 100000"]);
    let [letter] = &bus.messages("dlq.scans.archive")[..] else {
        panic!("one dead letter")
    };
    assert_eq!(verdict(letter).0, "undecodable");
    bus.stop().await.unwrap();
}
