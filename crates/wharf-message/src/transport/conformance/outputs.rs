//! J: outputs and the acceptance of their input, both or neither.

use futures_util::future::{Either, join_all, select};

use super::world::{Outcome, Seen, World, is, keyed};
use crate::Message;
use crate::transport::Error;

pub(super) async fn outputs_and_acceptance_are_one_step(world: &World<'_>) -> Outcome {
    let (client, looking) = (world.connect().await, world.connect_plainly().await);
    let inputs = world.topic(&*client).await;
    let outputs = [world.topic(&*client).await, world.topic(&*client).await];
    let (group, reader) = (world.group(), world.group());
    let mut deliveries = world.join(&*client, &group, &[&inputs]).await;
    let topics = [&outputs[0], &outputs[1]];
    let mut reading = world.join(&*looking, &reader, &topics).await;
    // Without faults, so that there is one input of each.
    world.publish_all(&*looking, &inputs, keyed(20, 4)).await;
    let process = Box::pin(async {
        loop {
            // All at the same time: each may wait for those that were delivered before it.
            let taken = world.take(&mut *deliveries, 64).await;
            let accepted = taken.into_iter().map(|delivery| {
                let payload = delivery.message.payload.clone().unwrap_or_default();
                let payload = String::from_utf8_lossy(&payload).into_owned();
                let output = |at: usize| {
                    let message = Message::new(format!("{payload} in {at}"));
                    (outputs[at].clone(), message)
                };
                delivery.accept_with(vec![output(0), output(1)])
            });
            for accepted in join_all(accepted).await {
                match accepted {
                    Ok(()) | Err(Error::Unavailable(_) | Error::Closed | Error::Refused(_)) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        }
    });
    let read = Box::pin(async {
        let mut seen = Seen::default();
        while seen.distinct() < 40 {
            for delivery in world.take(&mut *reading, 16).await {
                assert!(seen.note(&delivery), "an output came twice: {delivery:?}");
                delivery.accept();
            }
        }
    });
    match select(process, read).await {
        Either::Right(((), process)) => drop(process),
        Either::Left((never, _)) => never,
    }
    let more = world.quietly(&mut *reading).await;
    assert!(more.is_empty(), "an output came twice: {more:?}");
    if !world.is_under_faults() {
        world.close(deliveries).await;
        world.assert_nothing_left(&*client, &group, &inputs).await;
    }
    Ok(())
}

pub(super) async fn one_refused_output_refuses_all(world: &World<'_>) -> Outcome {
    let client = world.connect().await;
    let (inputs, outputs) = (world.topic(&*client).await, world.topic(&*client).await);
    let (group, reader) = (world.group(), world.group());
    let mut deliveries = world.join(&*client, &group, &[&inputs]).await;
    let mut reading = world.join(&*client, &reader, &[&outputs]).await;
    world
        .publish(&*client, &inputs, Message::new("input"))
        .await;
    let impossible = Message::new("p").with_header(crate::header::DELIVER_AT, "no time");
    let both = vec![
        (outputs.clone(), Message::new("half")),
        (outputs.clone(), impossible),
    ];
    let delivery = world.take_one(&mut *deliveries).await;
    let refused = world
        .within("being refused", delivery.accept_with(both))
        .await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    let half = world.quietly(&mut *reading).await;
    assert!(half.is_empty(), "{half:?}");
    let again = world.take_one(&mut *deliveries).await;
    assert!(is(&again, "input"), "{again:?}");
    let output = vec![(outputs.clone(), Message::new("whole"))];
    let accepted = world.within("accepting", again.accept_with(output)).await;
    assert_eq!(accepted, Ok(()));
    let whole = world.take_one(&mut *reading).await;
    assert!(is(&whole, "whole"), "{whole:?}");
    Ok(())
}

pub(super) async fn a_consumer_that_lost_its_delivery_publishes_nothing(
    world: &World<'_>,
) -> Outcome {
    let client = world.connect().await;
    let (inputs, outputs) = (world.topic(&*client).await, world.topic(&*client).await);
    let (group, reader) = (world.group(), world.group());
    let mut reading = world.join(&*client, &reader, &[&outputs]).await;
    let mut deliveries = world.join(&*client, &group, &[&inputs]).await;
    world
        .publish(&*client, &inputs, Message::new("input"))
        .await;
    let stale = world.take_one(&mut *deliveries).await;
    drop(deliveries);
    let mut deliveries = world.join(&*client, &group, &[&inputs]).await;
    let fresh = world.take_one(&mut *deliveries).await;
    let output = |payload: &'static str| vec![(outputs.clone(), Message::new(payload))];
    let refused = world
        .within("being refused", stale.accept_with(output("stale")))
        .await;
    assert!(refused.is_err(), "it is not the owner any more");
    let accepted = world
        .within("accepting", fresh.accept_with(output("fresh")))
        .await;
    assert_eq!(accepted, Ok(()));
    let only = world.take_one(&mut *reading).await;
    assert!(is(&only, "fresh"), "{only:?}");
    only.accept();
    let more = world.quietly(&mut *reading).await;
    assert!(more.is_empty(), "{more:?}");
    Ok(())
}
