//! D: groups, their members, and outages of what they stand on.

use futures_util::FutureExt;
use futures_util::future::{Either, select};

use super::world::{Outcome, Seen, Skipped, World, is, keyed};
use crate::transport::{Deliveries, Delivery, Error, Transport};
use crate::{Message, TopicName};

pub(super) async fn two_groups_each_get_everything(world: &World<'_>) -> Outcome {
    let client = world.connect().await;
    let topic = world.topic(&*client).await;
    let (first, second) = (world.group(), world.group());
    let mut first = world.join(&*client, &first, &[&topic]).await;
    let mut second = world.join(&*client, &second, &[&topic]).await;
    world.publish_all(&*client, &topic, keyed(30, 6)).await;
    for deliveries in [&mut first, &mut second] {
        let mut seen = Seen::default();
        world.accept_until(&mut **deliveries, &mut seen, 30).await;
    }
    Ok(())
}

/// Goes on publishing until each member got something and everything was seen. The payloads are
/// `<name> <number>`.
async fn share(
    world: &World<'_>,
    client: &dyn Transport,
    topic: &TopicName,
    members: &mut [Box<dyn Deliveries>],
    name: &str,
) {
    let mut works = vec![false; members.len()];
    let (mut seen, mut published) = (Seen::default(), 0);
    let share = async {
        while works.contains(&false) {
            // An odd number, so that the member that is asked first is another one in each round.
            for number in published..published + 17 {
                let message =
                    Message::new(format!("{name} {number}")).with_key(format!("k{number}"));
                world.publish(client, topic, message).await;
            }
            published += 17;
            while (0..published).any(|number| !seen.has(&format!("{name} {number}"))) {
                let (at, taken) = world.take_any(members, 2).await;
                works[at] = true;
                for delivery in taken {
                    seen.note(&delivery);
                    delivery.accept();
                }
            }
        }
    };
    world.within("that each member works", share).await;
}

pub(super) async fn members_share_the_work(world: &World<'_>) -> Outcome {
    let clients = [world.connect().await, world.connect().await];
    let topic = world.topic(&*clients[0]).await;
    let group = world.group();
    let mut members = Vec::new();
    for client in &clients {
        members.push(world.join(&**client, &group, &[&topic]).await);
    }
    share(world, &*clients[0], &topic, &mut members, "m").await;
    if world.is_under_faults() {
        return Ok(());
    }
    // Both are at work, so nothing is on its way from one to the other.
    world.publish_all(&*clients[0], &topic, keyed(40, 8)).await;
    let mut seen = Seen::default();
    while seen.distinct() < 40 {
        for delivery in world.take_any(&mut members, 4).await.1 {
            assert!(seen.note(&delivery), "two members got it: {delivery:?}");
            delivery.accept();
        }
    }
    for member in &mut members {
        let more = world.quietly(&mut **member).await;
        assert!(more.is_empty(), "two members got it: {more:?}");
    }
    Ok(())
}

pub(super) async fn a_member_that_joins_takes_part(world: &World<'_>) -> Outcome {
    let clients = [world.connect().await, world.connect().await];
    let topic = world.topic(&*clients[0]).await;
    let group = world.group();
    let mut members = vec![world.join(&*clients[0], &group, &[&topic]).await];
    share(world, &*clients[0], &topic, &mut members, "alone").await;
    members.push(world.join(&*clients[1], &group, &[&topic]).await);
    share(world, &*clients[0], &topic, &mut members, "together").await;
    Ok(())
}

/// Two members, one of which holds what it got.
async fn one_of_two_holds(
    world: &World<'_>,
) -> (Box<dyn Deliveries>, Vec<Delivery>, Box<dyn Deliveries>) {
    let clients = [world.connect().await, world.connect().await];
    let topic = world.topic(&*clients[0]).await;
    let group = world.group();
    let mut first = world.join(&*clients[0], &group, &[&topic]).await;
    world.publish_all(&*clients[0], &topic, keyed(40, 8)).await;
    let held = world.take(&mut *first, 5).await;
    let second = world.join(&*clients[1], &group, &[&topic]).await;
    (first, held, second)
}

/// Takes and accepts until everything came, except what was accepted before.
async fn assert_rest_comes(world: &World<'_>, deliveries: &mut dyn Deliveries, before: &Seen) {
    let mut seen = Seen::default();
    let all = || (0..40).map(|number| format!("{number:06}"));
    while all().any(|payload| !before.has(&payload) && !seen.has(&payload)) {
        for delivery in world.take(deliveries, 16).await {
            seen.note(&delivery);
            delivery.accept();
        }
    }
}

pub(super) async fn a_member_that_leaves_hands_over(world: &World<'_>) -> Outcome {
    let (first, held, mut second) = one_of_two_holds(world).await;
    let mut accepted = Seen::default();
    for (number, delivery) in held.into_iter().enumerate() {
        match number {
            0 => {
                accepted.note(&delivery);
                delivery.accept();
            }
            _ => drop(delivery),
        }
    }
    world.close(first).await;
    assert_rest_comes(world, &mut *second, &accepted).await;
    Ok(())
}

pub(super) async fn a_member_that_crashes_halfway_loses_nothing(world: &World<'_>) -> Outcome {
    let (first, held, mut second) = one_of_two_holds(world).await;
    drop(first);
    drop(held);
    assert_rest_comes(world, &mut *second, &Seen::default()).await;
    Ok(())
}

pub(super) async fn a_restart_of_the_broker_loses_nothing(world: &World<'_>) -> Outcome {
    let (client, topic, _, mut deliveries) = world.member().await;
    let messages = keyed(60, 6);
    let mut seen = Seen::default();
    // At a third and at two thirds of the way.
    for (round, part) in messages.chunks(20).enumerate() {
        for message in part {
            world.publish(&*client, &topic, message.clone()).await;
        }
        let half = round * 20 + 10;
        world.accept_until(&mut *deliveries, &mut seen, half).await;
        if round < 2 {
            world.restart_broker().await?;
        }
    }
    world.accept_until(&mut *deliveries, &mut seen, 60).await;
    Ok(())
}

pub(super) async fn settlements_outlive_a_restart_of_the_broker(world: &World<'_>) -> Outcome {
    let (client, topic, group, mut deliveries) = world.member().await;
    world.publish_all(&*client, &topic, keyed(20, 4)).await;
    let mut seen = Seen::default();
    world.accept_until(&mut *deliveries, &mut seen, 20).await;
    world.close(deliveries).await;
    world.restart_broker().await?;
    let other = world.connect().await;
    let mut deliveries = world.join(&*other, &group, &[&topic]).await;
    world
        .publish(&*other, &topic, Message::new("the last"))
        .await;
    let last = world.take_one(&mut *deliveries).await;
    if is(&last, "the last") {
        last.accept();
        return Ok(());
    }
    // At least once allows it; who chooses a transport should know.
    assert!(last.message.payload.is_some(), "nobody published {last:?}");
    let reason =
        "its server may forget the newest settlements when it is killed, and then delivers again";
    Err(Skipped(reason.to_owned()))
}

pub(super) async fn an_outage_loses_nothing_and_is_told_once(world: &World<'_>) -> Outcome {
    let (client, topic, _, mut deliveries) = world.member().await;
    world
        .publish(&*client, &topic, Message::new("before"))
        .await;
    world.take_until(&mut *deliveries, "before").await.accept();
    world.cut_network().await?;
    let during = client.publish(&topic, Message::new("during"));
    let mut told = 0;
    loop {
        let quiet = world.fixture.sleep(world.fixture.quiet());
        match select(deliveries.next(1), quiet).await {
            Either::Left((Err(Error::Unavailable(_)), _)) => told += 1,
            Either::Left((Err(error), _)) => panic!("an outage is not {error}"),
            // What was on its way already, or comes again.
            Either::Left((Ok(taken), _)) => taken.into_iter().for_each(Delivery::accept),
            Either::Right(_) => break,
        }
        assert!(told <= 1, "told {told} times");
    }
    world.heal_network().await?;
    // It came to its end, one way or the other; what was acknowledged must come.
    let published = world.within("publishing during the outage", during).await;
    let is_expected = match published {
        Ok(_) => true,
        Err(Error::Unavailable(_)) => false,
        Err(other) => panic!("an outage is not {other}"),
    };
    world.publish(&*client, &topic, Message::new("after")).await;
    let mut seen = Seen::default();
    while !seen.has("after") || (is_expected && !seen.has("during")) {
        let delivery = world.take_one(&mut *deliveries).await;
        seen.note(&delivery);
        delivery.accept();
    }
    Ok(())
}

pub(super) async fn a_settlement_during_an_outage_loses_nothing(world: &World<'_>) -> Outcome {
    let (client, topic, _, mut deliveries) = world.member().await;
    for payload in ["accepted", "retried", "dropped"] {
        world.publish(&*client, &topic, Message::new(payload)).await;
    }
    let mut held = Vec::new();
    while held.len() < 3 {
        held.extend(world.take(&mut *deliveries, 3).await);
    }
    world.cut_network().await?;
    // The subscription may or may not notice.
    drop(deliveries.next(1).now_or_never());
    for delivery in held {
        if is(&delivery, "accepted") {
            delivery.accept();
        } else if is(&delivery, "retried") {
            delivery.retry(world.fixture.delay() / 4);
        }
    }
    world.fixture.sleep(world.fixture.quiet()).await;
    world.heal_network().await?;
    let mut seen = Seen::default();
    while !seen.has("retried") || !seen.has("dropped") {
        let delivery = world.take_one(&mut *deliveries).await;
        seen.note(&delivery);
        delivery.accept();
    }
    Ok(())
}
