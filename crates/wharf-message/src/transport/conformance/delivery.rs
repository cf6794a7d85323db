//! B: at least once, until it is settled, and then not again.

use std::time::Duration;

use futures_util::FutureExt;

use super::world::{Outcome, Seen, World, is, keyed};
use crate::Message;
use crate::transport::Subscription;

pub(super) async fn an_accepted_message_does_not_come_again(world: &World<'_>) -> Outcome {
    let (client, topic, group, mut deliveries) = world.member().await;
    world.publish_all(&*client, &topic, keyed(20, 4)).await;
    let mut seen = Seen::default();
    world.accept_until(&mut *deliveries, &mut seen, 20).await;
    seen.assert_once();
    let again = world.quietly(&mut *deliveries).await;
    assert!(again.is_empty(), "while subscribed: {again:?}");
    world.close(deliveries).await;
    world.assert_nothing_left(&*client, &group, &topic).await;
    Ok(())
}

pub(super) async fn a_retried_message_comes_again_with_the_next_attempt(
    world: &World<'_>,
) -> Outcome {
    let (client, topic, group, mut deliveries) = world.member().await;
    let message = Message::new("p").with_key("k").with_header("h", "v");
    world.publish(&*client, &topic, message.clone()).await;
    let mut position = None;
    let mut expected = 1;
    loop {
        let delivery = world.take_one(&mut *deliveries).await;
        let attempt = delivery.attempt;
        // A retry that is lost with its consumer is no attempt.
        let is_repeat = world.is_under_faults() && attempt < expected;
        assert!(
            attempt == expected || is_repeat,
            "{attempt} instead of {expected}"
        );
        assert_eq!(delivery.topic, topic);
        let (key, payload) = (&delivery.message.key, &delivery.message.payload);
        assert_eq!((key, payload), (&message.key, &message.payload));
        assert_eq!(delivery.message.headers.text("h"), Ok(Some("v")));
        let known = *position.get_or_insert(delivery.position);
        let is_known = delivery.position == known || world.is_under_faults();
        assert!(is_known, "{:?} instead of {known:?}", delivery.position);
        if attempt == 4 {
            delivery.accept();
            break;
        }
        expected = expected.max(attempt + 1);
        delivery.retry(Duration::ZERO);
    }
    if !world.is_under_faults() {
        world.close(deliveries).await;
        world.assert_nothing_left(&*client, &group, &topic).await;
    }
    Ok(())
}

pub(super) async fn a_dropped_delivery_comes_again(world: &World<'_>) -> Outcome {
    let (client, topic, _, mut deliveries) = world.member().await;
    world.publish(&*client, &topic, Message::new("p")).await;
    for _ in 0..3 {
        drop(world.take_until(&mut *deliveries, "p").await);
    }
    world.take_until(&mut *deliveries, "p").await.accept();
    Ok(())
}

pub(super) async fn what_a_crashed_consumer_left_comes_again(world: &World<'_>) -> Outcome {
    let (client, topic, group, mut deliveries) = world.member().await;
    world.publish_all(&*client, &topic, keyed(20, 4)).await;
    let mut held = Vec::new();
    while held.len() < 5 {
        held.extend(world.take(&mut *deliveries, 5).await);
    }
    // As a process that dies: first its connection goes, then what it held.
    drop(deliveries);
    drop(held);
    let other = world.connect().await;
    let mut deliveries = world.join(&*other, &group, &[&topic]).await;
    let mut seen = Seen::default();
    world.accept_until(&mut *deliveries, &mut seen, 20).await;
    Ok(())
}

pub(super) async fn what_was_settled_before_a_close_does_not_come_again(
    world: &World<'_>,
) -> Outcome {
    let (client, topic, group, mut deliveries) = world.member().await;
    world.publish_all(&*client, &topic, keyed(10, 2)).await;
    let mut held = Vec::new();
    let mut accepted = Seen::default();
    while held.len() + accepted.distinct() < 10 {
        let delivery = world.take_one(&mut *deliveries).await;
        // Of each key the first ones are accepted, so that nothing before an unsettled one is left.
        if accepted.distinct() < 6 {
            accepted.note(&delivery);
            delivery.accept();
        } else {
            held.push(delivery);
        }
    }
    world.close(deliveries).await;
    drop(held);
    let mut deliveries = world.join(&*client, &group, &[&topic]).await;
    let mut left = Seen::default();
    while left.distinct() < 4 {
        let delivery = world.take_one(&mut *deliveries).await;
        let payload = delivery.message.payload.clone().unwrap_or_default();
        let payload = String::from_utf8_lossy(&payload).into_owned();
        assert!(
            !accepted.has(&payload),
            "{payload} was accepted before the close"
        );
        left.note(&delivery);
        delivery.accept();
    }
    Ok(())
}

pub(super) async fn a_settlement_that_comes_too_late_harms_nobody(world: &World<'_>) -> Outcome {
    let (client, topic, group, mut deliveries) = world.member().await;
    for payload in ["accepted", "retried", "rejected"] {
        world.publish(&*client, &topic, Message::new(payload)).await;
    }
    let mut held = Vec::new();
    while held.len() < 3 {
        held.extend(world.take(&mut *deliveries, 3).await);
    }
    drop(deliveries);
    for delivery in held {
        if is(&delivery, "accepted") {
            delivery.accept();
        } else if is(&delivery, "retried") {
            delivery.retry(Duration::ZERO);
        } else {
            delivery.reject(world.failure(1));
        }
    }
    // The client itself goes on.
    let mut deliveries = world.join(&*client, &group, &[&topic]).await;
    world
        .publish(&*client, &topic, Message::new("the last"))
        .await;
    let mut seen = Seen::default();
    while !seen.has("the last") {
        let delivery = world.take_one(&mut *deliveries).await;
        seen.note(&delivery);
        delivery.accept();
    }
    Ok(())
}

pub(super) async fn no_more_than_the_limit_is_unsettled(world: &World<'_>) -> Outcome {
    let client = world.connect().await;
    let topic = world.topic(&*client).await;
    let limited = Subscription {
        in_flight_max: 3,
        ..Subscription::group(world.group(), vec![topic.clone()])
    };
    let mut deliveries = world.subscribe(&*client, limited).await;
    world.publish_all(&*client, &topic, keyed(12, 6)).await;
    let mut held = Vec::new();
    while held.len() < 3 {
        held.extend(world.take(&mut *deliveries, 10).await);
        assert!(held.len() <= 3, "{} are unsettled", held.len());
    }
    let more = world.quietly(&mut *deliveries).await;
    assert!(more.is_empty(), "{} more are unsettled", more.len());
    let mut seen = Seen::default();
    while seen.distinct() < 12 {
        for delivery in held.drain(..) {
            seen.note(&delivery);
            delivery.accept();
        }
        if seen.distinct() < 12 {
            held = world.take(&mut *deliveries, 10).await;
            assert!(held.len() <= 3, "{} are unsettled", held.len());
        }
    }
    Ok(())
}

pub(super) async fn no_more_is_given_than_asked_for(world: &World<'_>) -> Outcome {
    let (client, topic, _, mut deliveries) = world.member().await;
    world.publish_all(&*client, &topic, keyed(30, 4)).await;
    let mut seen = Seen::default();
    for max in (1..=4).cycle() {
        // What is taken is checked against `max` there.
        for delivery in world.take(&mut *deliveries, max).await {
            seen.note(&delivery);
            delivery.accept();
        }
        if seen.distinct() == 30 {
            break;
        }
    }
    Ok(())
}

pub(super) async fn a_consumer_that_does_not_ask_keeps_what_it_has(world: &World<'_>) -> Outcome {
    let (client, topic, _, mut deliveries) = world.member().await;
    world.publish_all(&*client, &topic, keyed(4, 1)).await;
    let mut held = Vec::new();
    while held.len() < 2 {
        held.extend(world.take(&mut *deliveries, 2).await);
    }
    // Longer than any round of the group's protocol, and shorter than the patience with a handler.
    let pause = world.fixture.quiet() * 6;
    world.fixture.sleep(pause).await;
    let mut seen = Seen::default();
    for delivery in held {
        assert_eq!(delivery.attempt, 1);
        seen.note(&delivery);
        delivery.accept();
    }
    while seen.distinct() < 4 {
        let delivery = world.take_one(&mut *deliveries).await;
        assert!(seen.note(&delivery), "it lost its place: {delivery:?}");
        delivery.accept();
    }
    Ok(())
}

pub(super) async fn a_question_that_is_dropped_loses_nothing(world: &World<'_>) -> Outcome {
    let (client, topic, _, mut deliveries) = world.member().await;
    let mut seen = Seen::default();
    for (number, message) in keyed(20, 4).into_iter().enumerate() {
        for _ in 0..3 {
            if let Some(Ok(taken)) = deliveries.next(4).now_or_never() {
                for delivery in taken {
                    seen.note(&delivery);
                    delivery.accept();
                }
            }
        }
        world.publish(&*client, &topic, message).await;
        if number % 5 == 0 {
            world.fixture.sleep(Duration::from_millis(5)).await;
        }
    }
    world.accept_until(&mut *deliveries, &mut seen, 20).await;
    Ok(())
}

pub(super) async fn attempts_are_counted_over_a_restart_of_the_consumer(
    world: &World<'_>,
) -> Outcome {
    let client = world.connect().await;
    let topic = world.topic(&*client).await;
    let group = world.group();
    world.create(&*client, &topic).await;
    let mut attempts = Vec::new();
    // The group is there before the message, for transports without history.
    world
        .close(world.join(&*client, &group, &[&topic]).await)
        .await;
    world.publish(&*client, &topic, Message::new("p")).await;
    for _ in 0..3 {
        let mut deliveries = world.join(&*client, &group, &[&topic]).await;
        let delivery = world.take_one(&mut *deliveries).await;
        attempts.push(delivery.attempt);
        delivery.retry(Duration::ZERO);
        world.close(deliveries).await;
    }
    assert_eq!(attempts, [1, 2, 3]);
    Ok(())
}

pub(super) async fn the_attempt_number_never_goes_back(world: &World<'_>) -> Outcome {
    let (client, topic, _, mut deliveries) = world.member().await;
    world.publish(&*client, &topic, Message::new("p")).await;
    let mut before = 1;
    for round in 0..6 {
        let delivery = world.take_until(&mut *deliveries, "p").await;
        let attempt = delivery.attempt;
        if !world.is_under_faults() {
            assert!(attempt >= before, "{attempt} after {before}");
        }
        assert!(attempt >= 1);
        before = attempt;
        match round % 2 {
            0 => delivery.retry(Duration::ZERO),
            _ => drop(delivery),
        }
    }
    world.take_until(&mut *deliveries, "p").await.accept();
    Ok(())
}
