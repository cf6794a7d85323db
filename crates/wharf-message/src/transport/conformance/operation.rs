//! K: coming to an end in order.

use futures_util::FutureExt;

use super::world::{Outcome, Seen, World, keyed};
use crate::Message;
use crate::transport::{Error, Subscription};

pub(super) async fn after_a_shutdown_everything_says_closed(world: &World<'_>) -> Outcome {
    let (client, topic, group, mut deliveries) = world.member().await;
    let ended = world.within("shutting down", client.shutdown()).await;
    assert_eq!(ended, Ok(()));
    let next = world
        .within("the answer after the end", deliveries.next(1))
        .await;
    assert_eq!(next.map(drop), Err(Error::Closed));
    let published = client.publish(&topic, Message::new("p"));
    let published = world.within("the answer after the end", published).await;
    assert_eq!(published.map(drop), Err(Error::Closed));
    let subscribed = client.subscribe(Subscription::group(group, vec![topic]));
    let subscribed = world.within("the answer after the end", subscribed).await;
    assert_eq!(subscribed.map(drop), Err(Error::Closed));
    let again = world.within("shutting down again", client.shutdown()).await;
    assert_eq!(again, Ok(()));
    Ok(())
}

pub(super) async fn a_question_that_waits_ends_with_the_shutdown(world: &World<'_>) -> Outcome {
    let (client, _, _, mut deliveries) = world.member().await;
    let mut next = deliveries.next(1);
    assert!(
        (&mut next).now_or_never().is_none(),
        "there is nothing to deliver"
    );
    let ended = world.within("shutting down", client.shutdown()).await;
    assert_eq!(ended, Ok(()));
    let next = world.within("the end of the question", next).await;
    assert_eq!(next.map(drop), Err(Error::Closed));
    Ok(())
}

pub(super) async fn a_shutdown_keeps_what_was_settled(world: &World<'_>) -> Outcome {
    let (client, topic, group, mut deliveries) = world.member().await;
    world.publish_all(&*client, &topic, keyed(20, 4)).await;
    let mut seen = Seen::default();
    world.accept_until(&mut *deliveries, &mut seen, 20).await;
    let ended = world.within("shutting down", client.shutdown()).await;
    assert_eq!(ended, Ok(()));
    drop(deliveries);
    let other = world.connect().await;
    world.assert_nothing_left(&*other, &group, &topic).await;
    Ok(())
}

pub(super) async fn one_client_goes_on_when_another_is_shut_down(world: &World<'_>) -> Outcome {
    let (first, second) = (world.connect().await, world.connect().await);
    let topic = world.topic(&*first).await;
    let group = world.group();
    let held = world.join(&*first, &group, &[&topic]).await;
    let mut deliveries = world.join(&*second, &group, &[&topic]).await;
    let ended = world.within("shutting down", first.shutdown()).await;
    assert_eq!(ended, Ok(()));
    drop(held);
    world.publish_all(&*second, &topic, keyed(20, 4)).await;
    let mut seen = Seen::default();
    world.accept_until(&mut *deliveries, &mut seen, 20).await;
    Ok(())
}
