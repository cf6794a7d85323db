//! H: what everyone hears, and answers to requests, which stand on it.

use super::world::{Outcome, Seen, World, is, keyed};

use crate::{Message, TopicName, header};

pub(super) async fn everyone_gets_every_message(world: &World<'_>) -> Outcome {
    let clients = [world.connect().await, world.connect().await];
    let topic = world.topic(&*clients[0]).await;
    let mut listeners = Vec::new();
    for client in [&clients[0], &clients[1], &clients[1]] {
        listeners.push(world.listen(&**client, &topic).await);
    }
    let group = world.group();
    listeners.push(world.join(&*clients[0], &group, &[&topic]).await);
    world.publish_all(&*clients[0], &topic, keyed(20, 4)).await;
    for listener in &mut listeners {
        let mut seen = Seen::default();
        world.accept_until(&mut **listener, &mut seen, 20).await;
    }
    Ok(())
}

pub(super) async fn nothing_is_kept_for_everyone(world: &World<'_>) -> Outcome {
    let client = world.connect().await;
    let topic = world.topic(&*client).await;
    world
        .publish(&*client, &topic, Message::new("before"))
        .await;
    let listener = world.listen(&*client, &topic).await;
    world.close(listener).await;
    world
        .publish(&*client, &topic, Message::new("between"))
        .await;
    let mut listener = world.listen(&*client, &topic).await;
    world.publish(&*client, &topic, Message::new("now")).await;
    let delivery = world.take_one(&mut *listener).await;
    assert!(is(&delivery, "now"), "{delivery:?}");
    delivery.accept();
    let more = world.quietly(&mut *listener).await;
    assert!(more.is_empty(), "{more:?}");
    Ok(())
}

pub(super) async fn listening_goes_on_after_an_outage(world: &World<'_>) -> Outcome {
    let client = world.connect().await;
    let topic = world.topic(&*client).await;
    let mut listener = world.listen(&*client, &topic).await;
    world
        .publish(&*client, &topic, Message::new("before"))
        .await;
    world.take_until(&mut *listener, "before").await.accept();
    world.cut_network().await?;
    world.fixture.sleep(world.fixture.quiet()).await;
    world.heal_network().await?;
    // What is published before it listens again is lost to it, and that is no fault.
    let again = async {
        loop {
            world.publish(&*client, &topic, Message::new("after")).await;
            for delivery in world.quietly(&mut *listener).await {
                if is(&delivery, "after") {
                    return;
                }
            }
        }
    };
    world.within("that it listens again", again).await;
    Ok(())
}

pub(super) async fn a_request_is_answered(world: &World<'_>) -> Outcome {
    let (asking, answering) = (world.connect().await, world.connect().await);
    let requests = world.topic(&*asking).await;
    let replies = world.topic(&*asking).await;
    let group = world.group();
    let mut service = world.join(&*answering, &group, &[&requests]).await;
    let mut inbox = world.listen(&*asking, &replies).await;
    for number in 0..3 {
        let id = format!("request {number}");
        let request = Message::new("how much?")
            .with_header(header::CE_ID, id.clone())
            .with_header(header::REPLY_TO, replies.to_string());
        world.publish(&*asking, &requests, request).await;
        let delivery = world.take_one(&mut *service).await;
        let text = |name| delivery.message.headers.text(name).ok().flatten();
        let to = text(header::REPLY_TO).and_then(|to| TopicName::new(to).ok());
        let asked = text(header::CE_ID).unwrap_or_default().to_owned();
        let reply = Message::new("much").with_header(header::REPLY_FOR, asked);
        world
            .publish(&*answering, &to.expect("it came along"), reply)
            .await;
        delivery.accept();
        let reply = world.take_one(&mut *inbox).await;
        assert_eq!(
            reply.message.headers.text(header::REPLY_FOR),
            Ok(Some(&*id))
        );
        reply.accept();
    }
    Ok(())
}
