//! E: what could not be handled comes again at its time, or is set aside as it was.

use std::time::Duration;

use futures_util::future::{Either, select};

use super::world::{Outcome, Seen, World, is, keyed};
use crate::transport::{Capability, Deliveries, Delivery, Position, Transport};
use crate::{GroupName, Message, TopicName, dead_letter, header};

pub(super) async fn a_delayed_retry_does_not_come_before_its_time(world: &World<'_>) -> Outcome {
    let (client, topic, group, mut deliveries) = world.member().await;
    let message = Message::new("p").with_key("k").with_header("h", "v");
    world.publish(&*client, &topic, message.clone()).await;
    for attempt in [1, 3] {
        let delivery = world.take_one(&mut *deliveries).await;
        assert_eq!(delivery.attempt, attempt);
        let due = world.fixture.now().after(world.fixture.delay());
        let position = delivery.position;
        delivery.retry(world.fixture.delay());
        let delivery = world.take_one(&mut *deliveries).await;
        let early = due.since(world.fixture.now());
        assert!(early.is_zero(), "it came {early:?} too early");
        assert_eq!(delivery.attempt, attempt + 1);
        assert_eq!((&delivery.topic, delivery.position), (&topic, position));
        assert_eq!(delivery.message.payload, message.payload);
        assert_eq!(delivery.message.key, message.key);
        assert_eq!(delivery.message.headers.text("h"), Ok(Some("v")));
        delivery.retry(Duration::ZERO);
    }
    world.take_one(&mut *deliveries).await.accept();
    world.close(deliveries).await;
    world.assert_nothing_left(&*client, &group, &topic).await;
    Ok(())
}

pub(super) async fn a_delayed_retry_blocks_no_other_key(world: &World<'_>) -> Outcome {
    let (client, topic, _, mut deliveries) = world.member().await;
    let failing = Message::new("failing").with_key("failing");
    world.publish(&*client, &topic, failing).await;
    let delivery = world.take_until(&mut *deliveries, "failing").await;
    delivery.retry(world.fixture.delay() * 4);
    world.publish_all(&*client, &topic, keyed(20, 16)).await;
    let mut others = Seen::default();
    let mut is_back = false;
    while others.distinct() < 20 || !is_back {
        let delivery = world.take_one(&mut *deliveries).await;
        if is(&delivery, "failing") {
            // Under faults the retry itself may be lost, and the message come again at once.
            let too_early = others.distinct() < 20 && !world.is_under_faults();
            assert!(!too_early, "it held up the others: {others:?}");
            is_back = true;
        } else {
            others.note(&delivery);
        }
        delivery.accept();
    }
    Ok(())
}

pub(super) async fn retries_with_different_delays_come_each_in_its_time(
    world: &World<'_>,
) -> Outcome {
    let (client, topic, _, mut deliveries) = world.member().await;
    // The longest delay first: it must not hold up the shorter ones.
    let factors = [("long", 3), ("middle", 2), ("short", 1)];
    let mut due = Vec::new();
    for (payload, factor) in factors {
        world.publish(&*client, &topic, Message::new(payload)).await;
        let delivery = world.take_until(&mut *deliveries, payload).await;
        let delay = world.fixture.delay() * factor;
        due.push((payload, world.fixture.now().after(delay)));
        delivery.retry(delay);
    }
    for (payload, due) in due.into_iter().rev() {
        let delivery = world.take_one(&mut *deliveries).await;
        assert!(is(&delivery, payload), "{delivery:?} before {payload}");
        let early = due.since(world.fixture.now());
        assert!(early.is_zero(), "{payload} came {early:?} too early");
        delivery.accept();
    }
    Ok(())
}

pub(super) async fn a_delayed_retry_outlives_its_consumer(world: &World<'_>) -> Outcome {
    let (client, topic, group, mut deliveries) = world.member().await;
    world.publish(&*client, &topic, Message::new("p")).await;
    let delivery = world.take_one(&mut *deliveries).await;
    let due = world.fixture.now().after(world.fixture.delay());
    delivery.retry(world.fixture.delay());
    world.close(deliveries).await;
    let other = world.connect().await;
    let mut deliveries = world.join(&*other, &group, &[&topic]).await;
    let delivery = world.take_one(&mut *deliveries).await;
    let early = due.since(world.fixture.now());
    assert!(early.is_zero(), "it came {early:?} too early");
    assert_eq!(delivery.attempt, 2);
    delivery.accept();
    Ok(())
}

pub(super) async fn a_delayed_retry_outlives_a_restart_of_the_broker(world: &World<'_>) -> Outcome {
    let (client, topic, group, mut deliveries) = world.member().await;
    world.publish(&*client, &topic, Message::new("p")).await;
    let delivery = world.take_one(&mut *deliveries).await;
    let due = world.fixture.now().after(world.fixture.delay());
    delivery.retry(world.fixture.delay());
    // Closed, so that the retry is at the broker when it goes down.
    world.close(deliveries).await;
    world.restart_broker().await?;
    let other = world.connect().await;
    let mut deliveries = world.join(&*other, &group, &[&topic]).await;
    let delivery = world.take_one(&mut *deliveries).await;
    let early = due.since(world.fixture.now());
    assert!(early.is_zero(), "it came {early:?} too early");
    assert!(is(&delivery, "p"), "{delivery:?}");
    assert_eq!(delivery.attempt, 2);
    delivery.accept();
    Ok(())
}

pub(super) async fn retries_stay_within_their_group(world: &World<'_>) -> Outcome {
    let client = world.connect().await;
    let topic = world.topic(&*client).await;
    let (failing, calm) = (world.group(), world.group());
    let mut failing = world.join(&*client, &failing, &[&topic]).await;
    let mut calm = world.join(&*client, &calm, &[&topic]).await;
    world.publish_all(&*client, &topic, keyed(6, 3)).await;
    let mut done = Seen::default();
    while done.distinct() < 6 {
        let delivery = world.take_one(&mut *failing).await;
        match delivery.attempt {
            1 => delivery.retry(world.fixture.delay() / 8),
            2 => delivery.retry(Duration::ZERO),
            _ => {
                done.note(&delivery);
                delivery.accept();
            }
        }
    }
    let mut seen = Seen::default();
    while seen.distinct() < 6 {
        let delivery = world.take_one(&mut *calm).await;
        let is_first = seen.note(&delivery) && delivery.attempt == 1;
        assert!(is_first || world.is_under_faults(), "{delivery:?}");
        delivery.accept();
    }
    if !world.is_under_faults() {
        let more = world.quietly(&mut *calm).await;
        assert!(more.is_empty(), "{more:?}");
    }
    Ok(())
}

/// A subscription to the dead letters of a group, begun before there are any.
async fn letters(
    world: &World<'_>,
    client: &dyn Transport,
    topic: &TopicName,
    group: &GroupName,
) -> Box<dyn Deliveries> {
    let letters = dead_letter::topic(topic, group).expect("the names are short");
    let reader = world.group();
    world.join(client, &reader, &[&letters]).await
}

/// A message with everything that a dead letter must keep.
fn rich(world: &World<'_>) -> Message {
    let message = Message::new((0..=255).collect::<Vec<u8>>())
        .with_key("the key")
        .with_header(header::CE_ID, "7")
        .with_header(
            header::TRACEPARENT,
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        )
        .with_header("unicode", "grüße");
    match world.capabilities.has(Capability::BinaryHeaders) {
        true => message.with_header("bytes", vec![0, 0xff]),
        false => message,
    }
}

/// Asserts that a dead letter is exactly what [`dead_letter::dead_letter`] makes of a message.
async fn assert_letter(
    world: &World<'_>,
    letters: &mut dyn Deliveries,
    expected: (Message, &TopicName, Option<Position>, &GroupName),
    attempts: u32,
) {
    let (message, topic, position, group) = expected;
    let letter = world.take_one(letters).await;
    let failed_at = letter.message.headers.text(header::DLQ_FAILED_AT);
    let failed_at = failed_at.ok().flatten().unwrap_or_default().to_owned();
    let mut failure = world.failure(attempts);
    failure.failed_at = crate::Timestamp::parse_rfc3339(&failed_at).expect("a time");
    let expected = dead_letter::dead_letter(message, topic, position, group, &failure);
    assert_eq!(letter.message.payload, expected.payload);
    assert_eq!(letter.message.key, expected.key);
    let sorted = |message: &Message| {
        let mut entries = message.headers.clone().into_entries();
        if !world.capabilities.has(Capability::RepeatedHeaders) {
            entries.sort();
        }
        entries
    };
    assert_eq!(sorted(&letter.message), sorted(&expected));
    letter.accept();
}

pub(super) async fn a_rejected_message_becomes_a_dead_letter_as_it_was(
    world: &World<'_>,
) -> Outcome {
    let client = world.connect().await;
    let topic = world.topic(&*client).await;
    let group = world.group();
    let mut letters = letters(world, &*client, &topic, &group).await;
    let mut deliveries = world.join(&*client, &group, &[&topic]).await;
    let message = rich(world);
    world.publish(&*client, &topic, message.clone()).await;
    let delivery = world.take_one(&mut *deliveries).await;
    let position = delivery.position;
    delivery.reject(world.failure(1));
    let expected = (message, &topic, position, &group);
    assert_letter(world, &mut *letters, expected, 1).await;
    let more = world.quietly(&mut *letters).await;
    assert!(more.is_empty(), "one is enough: {more:?}");
    Ok(())
}

pub(super) async fn a_rejected_retry_tells_where_it_came_from(world: &World<'_>) -> Outcome {
    let client = world.connect().await;
    let topic = world.topic(&*client).await;
    let group = world.group();
    let mut letters = letters(world, &*client, &topic, &group).await;
    let mut deliveries = world.join(&*client, &group, &[&topic]).await;
    let message = rich(world);
    world.publish(&*client, &topic, message.clone()).await;
    let delivery = world.take_one(&mut *deliveries).await;
    let position = delivery.position;
    delivery.retry(world.fixture.delay() / 4);
    let delivery = world.take_one(&mut *deliveries).await;
    assert_eq!((delivery.attempt, delivery.position), (2, position));
    delivery.reject(world.failure(2));
    let expected = (message, &topic, position, &group);
    assert_letter(world, &mut *letters, expected, 2).await;
    Ok(())
}

pub(super) async fn a_rejected_message_does_not_come_again(world: &World<'_>) -> Outcome {
    let (client, topic, group, mut deliveries) = world.member().await;
    for payload in ["rejected", "behind it"] {
        let message = Message::new(payload).with_key("k");
        world.publish(&*client, &topic, message).await;
    }
    world
        .take_until(&mut *deliveries, "rejected")
        .await
        .reject(world.failure(1));
    world
        .take_until(&mut *deliveries, "behind it")
        .await
        .accept();
    let more = world.quietly(&mut *deliveries).await;
    assert!(more.is_empty(), "{more:?}");
    world.close(deliveries).await;
    world.assert_nothing_left(&*client, &group, &topic).await;
    Ok(())
}

pub(super) async fn every_rejected_message_becomes_a_dead_letter(world: &World<'_>) -> Outcome {
    let client = world.connect().await;
    let topic = world.topic(&*client).await;
    let group = world.group();
    let mut letters = letters(world, &*client, &topic, &group).await;
    let mut deliveries = world.join(&*client, &group, &[&topic]).await;
    world.publish_all(&*client, &topic, keyed(20, 4)).await;
    let mut handled = Seen::default();
    while handled.distinct() < 20 {
        for delivery in world.take(&mut *deliveries, 16).await {
            handled.note(&delivery);
            let attempts = delivery.attempt;
            delivery.reject(world.failure(attempts));
        }
    }
    assert_letters_of_all(world, &mut *letters, &mut *deliveries, 20).await;
    Ok(())
}

/// Waits for the dead letters of the payloads `000000`, `000001`, …, and rejects again what comes
/// again meanwhile.
async fn assert_letters_of_all(
    world: &World<'_>,
    letters: &mut dyn Deliveries,
    deliveries: &mut dyn Deliveries,
    count: usize,
) {
    let mut set_aside = Seen::default();
    let all = async {
        while set_aside.distinct() < count {
            let letter = Box::pin(world.take_one(letters));
            let again = Box::pin(world.take_one(deliveries));
            match select(letter, again).await {
                Either::Left((letter, _)) => {
                    set_aside.note(&letter);
                    letter.accept();
                }
                Either::Right((delivery, _)) => {
                    let attempts = delivery.attempt;
                    delivery.reject(world.failure(attempts));
                }
            }
        }
    };
    world.within("a dead letter of each message", all).await;
}

pub(super) async fn a_rejection_during_an_outage_loses_nothing(world: &World<'_>) -> Outcome {
    let client = world.connect().await;
    let topic = world.topic(&*client).await;
    let group = world.group();
    let mut letters = letters(world, &*client, &topic, &group).await;
    let mut deliveries = world.join(&*client, &group, &[&topic]).await;
    world.publish_all(&*client, &topic, keyed(4, 2)).await;
    let mut held: Vec<Delivery> = Vec::new();
    while held.len() < 4 {
        held.extend(world.take(&mut *deliveries, 4).await);
    }
    world.cut_network().await?;
    for delivery in held {
        delivery.reject(world.failure(1));
    }
    world.fixture.sleep(world.fixture.quiet()).await;
    world.heal_network().await?;
    assert_letters_of_all(world, &mut *letters, &mut *deliveries, 4).await;
    Ok(())
}
