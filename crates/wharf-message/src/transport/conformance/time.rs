//! G: messages for later.

use std::time::Duration;

use super::world::{Outcome, Seen, World, is, keyed};
use crate::transport::{Capability, Error};
use crate::{Message, Timestamp, header};

fn at(time: Timestamp, payload: impl Into<String>) -> Message {
    Message::new(payload.into()).with_header(header::DELIVER_AT, time.to_rfc3339())
}

pub(super) async fn a_scheduled_message_comes_not_before_its_time(world: &World<'_>) -> Outcome {
    let (client, topic, _, mut deliveries) = world.member().await;
    let due = world.fixture.now().after(world.fixture.delay() * 2);
    let later = at(due, "later").with_key("k").with_header("h", "v");
    world.publish(&*client, &topic, later).await;
    world.publish(&*client, &topic, Message::new("now")).await;
    let delivery = world.take_one(&mut *deliveries).await;
    assert!(is(&delivery, "now"), "it held up others: {delivery:?}");
    delivery.accept();
    let delivery = world.take_one(&mut *deliveries).await;
    let early = due.since(world.fixture.now());
    assert!(early.is_zero(), "it came {early:?} too early");
    assert!(is(&delivery, "later"), "{delivery:?}");
    assert_eq!((&delivery.topic, delivery.attempt), (&topic, 1));
    assert_eq!(delivery.message.key.as_deref(), Some(&b"k"[..]));
    assert_eq!(delivery.message.headers.text("h"), Ok(Some("v")));
    delivery.accept();
    let more = world.quietly(&mut *deliveries).await;
    assert!(more.is_empty(), "once is enough: {more:?}");
    Ok(())
}

pub(super) async fn a_time_that_has_passed_is_no_schedule(world: &World<'_>) -> Outcome {
    let (client, topic, _, mut deliveries) = world.member().await;
    let before = Timestamp::from_millis(world.fixture.now().as_millis() - 60_000);
    let messages = keyed(10, 2).into_iter();
    let messages =
        messages.map(|message| message.with_header(header::DELIVER_AT, before.to_rfc3339()));
    world
        .publish_all(&*client, &topic, messages.collect())
        .await;
    let mut seen = Seen::default();
    world.accept_until(&mut *deliveries, &mut seen, 10).await;
    Ok(())
}

pub(super) async fn a_scheduled_message_reaches_every_group(world: &World<'_>) -> Outcome {
    let client = world.connect().await;
    let topic = world.topic(&*client).await;
    let (first, second) = (world.group(), world.group());
    let mut groups = [
        world.join(&*client, &first, &[&topic]).await,
        world.join(&*client, &second, &[&topic]).await,
    ];
    let due = world.fixture.now().after(world.fixture.delay() / 2);
    let messages = keyed(10, 2).into_iter();
    let messages =
        messages.map(|message| message.with_header(header::DELIVER_AT, due.to_rfc3339()));
    world
        .publish_all(&*client, &topic, messages.collect())
        .await;
    for deliveries in &mut groups {
        let mut seen = Seen::default();
        while seen.distinct() < 10 {
            let delivery = world.take_one(&mut **deliveries).await;
            let early = due.since(world.fixture.now());
            assert!(early.is_zero(), "it came {early:?} too early");
            let is_new = seen.note(&delivery);
            assert!(is_new || world.is_under_faults(), "twice: {delivery:?}");
            delivery.accept();
        }
    }
    Ok(())
}

pub(super) async fn scheduled_messages_come_in_the_order_of_their_times(
    world: &World<'_>,
) -> Outcome {
    let (client, topic, _, mut deliveries) = world.member().await;
    let now = world.fixture.now();
    // Far enough apart for transports that look at their schedule now and then.
    let step = world.fixture.delay();
    for number in [3, 1, 2] {
        let due = now.after(step * number);
        world
            .publish(&*client, &topic, at(due, number.to_string()))
            .await;
    }
    for number in 1..=3 {
        let delivery = world.take_one(&mut *deliveries).await;
        assert!(is(&delivery, &number.to_string()), "{delivery:?}");
        let early = now.after(step * number).since(world.fixture.now());
        assert!(early.is_zero(), "{number} came {early:?} too early");
        delivery.accept();
    }
    Ok(())
}

pub(super) async fn a_schedule_outlives_a_restart_of_the_broker(world: &World<'_>) -> Outcome {
    let (client, topic, _, mut deliveries) = world.member().await;
    let due = world.fixture.now().after(world.fixture.delay());
    world.publish(&*client, &topic, at(due, "later")).await;
    world.restart_broker().await?;
    let delivery = world.take_until(&mut *deliveries, "later").await;
    let early = due.since(world.fixture.now());
    assert!(early.is_zero(), "it came {early:?} too early");
    delivery.accept();
    Ok(())
}

pub(super) async fn a_schedule_that_is_no_time_is_refused(world: &World<'_>) -> Outcome {
    let client = world.connect().await;
    let topic = world.topic(&*client).await;
    for text in ["", "soon", "2026-13-01T00:00:00Z", "1800000000000"] {
        let message = Message::new("p").with_header(header::DELIVER_AT, text);
        let publish = client.publish(&topic, message);
        match world.within("being refused", publish).await {
            Err(Error::Refused(_)) => {}
            Err(Error::Unsupported { capability, .. })
                if capability == Capability::Schedule
                    && !world.capabilities.has(Capability::Schedule) => {}
            other => panic!("{text:?} is no time, and the answer is {other:?}"),
        }
    }
    let group = world.group();
    let mut deliveries = world.join(&*client, &group, &[&topic]).await;
    world.fixture.sleep(Duration::from_millis(1)).await;
    world.publish(&*client, &topic, Message::new("good")).await;
    let delivery = world.take_one(&mut *deliveries).await;
    assert!(is(&delivery, "good"), "{delivery:?}");
    delivery.accept();
    Ok(())
}
