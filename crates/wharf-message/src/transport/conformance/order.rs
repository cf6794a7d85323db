//! C: a key keeps its order, and what is settled in another order is not forgotten.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::world::{Outcome, Seen, World, keyed};
use crate::transport::{Deliveries, Delivery, Subscription};

const KEYS: usize = 16;

pub(super) async fn messages_of_a_key_come_in_order(world: &World<'_>) -> Outcome {
    let (client, topic, _, mut deliveries) = world.member().await;
    let many = world.fixture.many();
    world.publish_all(&*client, &topic, keyed(many, KEYS)).await;
    let mut seen = Seen::default();
    world.accept_until(&mut *deliveries, &mut seen, many).await;
    seen.assert_keys_in_order();
    Ok(())
}

/// Members that take a few at a time, hold some, and settle the newest first.
async fn work(
    world: &World<'_>,
    members: &mut [Box<dyn Deliveries>],
    seen: &mut Seen,
    wanted: usize,
) {
    let mut held: VecDeque<Delivery> = VecDeque::new();
    let work = async {
        while seen.distinct() < wanted {
            let moment = world.fixture.sleep(Duration::from_millis(20));
            let take = Box::pin(world.take_any(members, 5));
            match select(take, moment).await {
                Either::Left(((_, taken), _)) => held.extend(taken.into_iter().inspect(|one| {
                    seen.note(one);
                })),
                // Everything else waits for what is held.
                Either::Right(_) => held.drain(..).rev().for_each(Delivery::accept),
            }
            while held.len() > 8 {
                held.pop_back().into_iter().for_each(Delivery::accept);
            }
        }
    };
    world.within("the work of all members", work).await;
    held.into_iter().for_each(Delivery::accept);
}

pub(super) async fn competing_members_keep_the_order_of_keys(world: &World<'_>) -> Outcome {
    let clients = [world.connect().await, world.connect().await];
    let topic = world.topic(&*clients[0]).await;
    let group = world.group();
    let mut members = Vec::new();
    for client in [&clients[0], &clients[1], &clients[1]] {
        members.push(world.join(&**client, &group, &[&topic]).await);
    }
    let many = world.fixture.many();
    let messages = keyed(many, KEYS);
    world.publish_all(&*clients[0], &topic, messages).await;
    let mut seen = Seen::default();
    work(world, &mut members, &mut seen, many).await;
    seen.assert_keys_in_order();
    Ok(())
}

pub(super) async fn the_order_of_keys_holds_while_members_come_and_go(
    world: &World<'_>,
) -> Outcome {
    let clients = [world.connect().await, world.connect().await];
    let topic = world.topic(&*clients[0]).await;
    let group = world.group();
    let many = world.fixture.many();
    let mut members = vec![world.join(&*clients[0], &group, &[&topic]).await];
    let messages = keyed(many, KEYS);
    world.publish_all(&*clients[0], &topic, messages).await;
    let mut seen = Seen::default();
    work(world, &mut members, &mut seen, many / 4).await;
    members.push(world.join(&*clients[1], &group, &[&topic]).await);
    work(world, &mut members, &mut seen, many / 2).await;
    world.close(members.remove(0)).await;
    work(world, &mut members, &mut seen, many * 3 / 4).await;
    members.push(world.join(&*clients[0], &group, &[&topic]).await);
    drop(members.remove(0));
    work(world, &mut members, &mut seen, many).await;
    seen.assert_keys_in_order();
    Ok(())
}

/// Takes twenty and accepts some of them, the newest first; answers with those and holds the others.
async fn settle_out_of_order(
    world: &World<'_>,
    deliveries: &mut dyn Deliveries,
) -> (Seen, Vec<Delivery>) {
    let mut held = Vec::new();
    while held.len() < 20 {
        held.extend(world.take(deliveries, 20 - held.len()).await);
    }
    let mut accepted = Seen::default();
    let mut open = Vec::new();
    for (number, delivery) in held.into_iter().enumerate().rev() {
        if number % 3 == 1 {
            accepted.note(&delivery);
            delivery.accept();
        } else {
            open.push(delivery);
        }
    }
    (accepted, open)
}

/// Takes and accepts until everything of `open` and what was never delivered has come.
async fn assert_all_come(world: &World<'_>, deliveries: &mut dyn Deliveries, accepted: &Seen) {
    let mut seen = Seen::default();
    let is_missing = |seen: &Seen| {
        let number = |number: usize| format!("{number:06}");
        (0..40)
            .map(number)
            .any(|payload| !accepted.has(&payload) && !seen.has(&payload))
    };
    while is_missing(&seen) {
        for delivery in world.take(deliveries, 16).await {
            seen.note(&delivery);
            delivery.accept();
        }
    }
}

pub(super) async fn what_is_settled_out_of_order_is_not_lost_by_a_crash(
    world: &World<'_>,
) -> Outcome {
    let (client, topic, group, mut deliveries) = world.member().await;
    world.publish_all(&*client, &topic, keyed(40, 4)).await;
    let (accepted, open) = settle_out_of_order(world, &mut *deliveries).await;
    drop(deliveries);
    drop(open);
    let other = world.connect().await;
    let mut deliveries = world.join(&*other, &group, &[&topic]).await;
    assert_all_come(world, &mut *deliveries, &accepted).await;
    Ok(())
}

pub(super) async fn what_is_settled_out_of_order_is_not_lost_by_a_close(
    world: &World<'_>,
) -> Outcome {
    let (client, topic, group, mut deliveries) = world.member().await;
    world.publish_all(&*client, &topic, keyed(40, 4)).await;
    let (accepted, open) = settle_out_of_order(world, &mut *deliveries).await;
    world.close(deliveries).await;
    drop(open);
    let mut deliveries = world.join(&*client, &group, &[&topic]).await;
    assert_all_come(world, &mut *deliveries, &accepted).await;
    Ok(())
}

pub(super) async fn more_than_the_limit_comes_bit_by_bit(world: &World<'_>) -> Outcome {
    let client = world.connect().await;
    let topic = world.topic(&*client).await;
    let narrow = Subscription {
        in_flight_max: 4,
        ..Subscription::group(world.group(), vec![topic.clone()])
    };
    let mut deliveries = world.subscribe(&*client, narrow).await;
    let many = world.fixture.many();
    world.publish_all(&*client, &topic, keyed(many, KEYS)).await;
    let mut seen = Seen::default();
    world.accept_until(&mut *deliveries, &mut seen, many).await;
    Ok(())
}
