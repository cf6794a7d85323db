//! A: what is published arrives, as it was, where it was meant to.

use std::collections::HashSet;

use bytes::Bytes;
use futures_util::FutureExt;

use super::world::{Outcome, Seen, Skipped, World, is, keyed};
use crate::transport::{Audience, Capability, Delivery, Error, Start, Subscription, Transport};
use crate::{Message, Timestamp, header};

/// Sends messages through a topic and gives back what arrives, in the order they were sent in. Each
/// is told from the others by a header of its own.
async fn through(world: &World<'_>, messages: &[Message]) -> Vec<Message> {
    let (client, topic, _, mut deliveries) = world.member().await;
    let mut arrived: Vec<Option<Message>> = vec![None; messages.len()];
    for (number, message) in messages.iter().enumerate() {
        let message = message.clone().with_header("number", number.to_string());
        world.publish(&*client, &topic, message).await;
    }
    while arrived.iter().any(Option::is_none) {
        for delivery in world.take(&mut *deliveries, 16).await {
            assert_eq!(delivery.topic, topic);
            let mut message = delivery.message.clone();
            let number = message.headers.text("number").ok().flatten();
            let number: usize = number
                .and_then(|number| number.parse().ok())
                .expect("the header that tells the messages apart arrives");
            message.headers.remove("number");
            delivery.accept();
            arrived[number] = Some(message);
        }
    }
    world.close(deliveries).await;
    arrived.into_iter().flatten().collect()
}

pub(super) async fn a_payload_of_any_size_arrives_as_it_was(world: &World<'_>) -> Outcome {
    let most = world.fixture.bytes_max().unwrap_or(1 << 20);
    let sizes = [0, 1, 64 << 10, 1 << 20, most];
    let body = |size: usize| -> Vec<u8> { (0..size).map(|at| (at % 251) as u8).collect() };
    // The header that tells the messages apart counts, too.
    let own = "number".len() + 1;
    let sizes = sizes.into_iter().filter(|size| *size <= most);
    let sizes = sizes.map(|size| size.min(most - own));
    let sent: Vec<Message> = sizes.map(|size| Message::new(body(size))).collect();
    for (sent, arrived) in sent.iter().zip(through(world, &sent).await) {
        let size = sent.size();
        assert!(
            arrived.payload == sent.payload,
            "a payload of {size} bytes arrived with {:?}",
            arrived.payload.map(|payload| payload.len())
        );
    }
    Ok(())
}

pub(super) async fn a_payload_beyond_the_limit_is_refused_by_its_size(
    world: &World<'_>,
) -> Outcome {
    let Some(most) = world.fixture.bytes_max() else {
        return Err(Skipped("it has no limit".to_owned()));
    };
    let client = world.connect().await;
    let topic = world.topic(&*client).await;
    let publish = client.publish(&topic, Message::new(vec![7; most + 1]));
    let refused = world.within("being refused", publish).await;
    assert!(
        matches!(refused, Err(Error::TooLarge { bytes, .. }) if bytes > most),
        "{refused:?}"
    );
    // It goes on, and nothing of it arrived.
    let group = world.group();
    world.publish(&*client, &topic, Message::new("small")).await;
    let mut deliveries = world.join(&*client, &group, &[&topic]).await;
    if world.capabilities.has(Capability::History) {
        let delivery = world.take_one(&mut *deliveries).await;
        assert!(is(&delivery, "small"), "{delivery:?}");
    }
    Ok(())
}

/// Asserts that headers are the same, in order where the transport keeps one.
fn assert_headers(world: &World<'_>, sent: &Message, arrived: &Message) {
    let entries = |message: &Message| {
        let mut entries = message.headers.clone().into_entries();
        if !world.capabilities.has(Capability::RepeatedHeaders) {
            entries.sort();
        }
        entries
    };
    assert_eq!(entries(arrived), entries(sent));
}

pub(super) async fn headers_arrive_as_they_were(world: &World<'_>) -> Outcome {
    let texts = Message::new("p")
        .with_header("plain", "text")
        .with_header("unicode", "grüße, 世界 🦀")
        .with_header("empty", "")
        .with_header("Mixed-Case_and.dots", "kept")
        .with_header("long", "x".repeat(1_000))
        .with_header(
            header::TRACEPARENT,
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        )
        .with_header(header::BAGGAGE, "tenant=eu,tier=gold;ttl=1");
    let mut many = Message::new("p");
    for number in 0..100 {
        let name = format!("header-{number:03}");
        many = many.with_header(name, number.to_string());
    }
    let sent = [Message::new("none"), texts, many];
    for (sent, arrived) in sent.iter().zip(through(world, &sent).await) {
        assert_headers(world, sent, &arrived);
    }
    Ok(())
}

pub(super) async fn headers_that_are_no_text_arrive_as_they_were(world: &World<'_>) -> Outcome {
    let mut absent = Message::new("p").with_header("empty", "");
    absent.headers.push_raw("absent", None);
    let binary = Message::new("p")
        .with_header("bytes", (0..=255).collect::<Vec<u8>>())
        .with_header("zero", vec![0])
        .with_header("名前", "the name is not ASCII");
    let sent = [absent, binary];
    for (sent, arrived) in sent.iter().zip(through(world, &sent).await) {
        assert_headers(world, sent, &arrived);
    }
    Ok(())
}

pub(super) async fn headers_of_one_name_keep_their_order(world: &World<'_>) -> Outcome {
    let sent = [Message::new("p")
        .with_header("hop", "first")
        .with_header("other", "between")
        .with_header("hop", "second")
        .with_header("hop", "first")];
    let arrived = through(world, &sent).await;
    assert_headers(world, &sent[0], &arrived[0]);
    Ok(())
}

pub(super) async fn a_key_arrives_as_it_was(world: &World<'_>) -> Outcome {
    let keys: [Option<&[u8]>; 5] = [
        None,
        Some(b""),
        Some(b"text"),
        Some("grüße".as_bytes()),
        Some(&[0, 0xff, 0x80]),
    ];
    let sent = keys.map(|key| Message {
        key: key.map(Bytes::from_static),
        ..Message::new("p")
    });
    for (sent, arrived) in sent.iter().zip(through(world, &sent).await) {
        assert_eq!(arrived.key, sent.key);
    }
    Ok(())
}

pub(super) async fn a_tombstone_is_not_an_empty_payload(world: &World<'_>) -> Outcome {
    let tombstone = Message::default().with_key("k");
    let sent = [tombstone, Message::new("").with_key("k")];
    for (sent, arrived) in sent.iter().zip(through(world, &sent).await) {
        assert_eq!(arrived.payload, sent.payload);
    }
    Ok(())
}

pub(super) async fn a_time_arrives_as_it_was_given(world: &World<'_>) -> Outcome {
    // Not long ago, or the retention of the topic might take it before it is read.
    let given = Timestamp::from_millis(world.fixture.now().as_millis() - 60_123);
    let with_time = Message {
        timestamp: Some(given),
        ..Message::new("p")
    };
    let arrived = through(world, &[with_time, Message::new("none")]).await;
    match arrived[0].timestamp {
        None => Err(Skipped("it keeps no times".to_owned())),
        Some(time) => {
            assert_eq!(time, given);
            assert!(
                arrived[1].timestamp.is_some(),
                "a missing time is filled in"
            );
            Ok(())
        }
    }
}

pub(super) async fn topics_are_apart(world: &World<'_>) -> Outcome {
    let client = world.connect().await;
    let (wanted, other) = (world.topic(&*client).await, world.topic(&*client).await);
    let group = world.group();
    let mut deliveries = world.join(&*client, &group, &[&wanted]).await;
    for number in 0..10 {
        let (mine, theirs) = (format!("mine {number}"), format!("theirs {number}"));
        world.publish(&*client, &other, Message::new(theirs)).await;
        world.publish(&*client, &wanted, Message::new(mine)).await;
    }
    let mut seen = Seen::default();
    world.accept_until(&mut *deliveries, &mut seen, 10).await;
    let all_mine = (0..10).all(|number| seen.has(&format!("mine {number}")));
    assert!(all_mine, "{seen:?}");
    Ok(())
}

pub(super) async fn a_subscription_to_several_topics_gets_all_of_them(
    world: &World<'_>,
) -> Outcome {
    let client = world.connect().await;
    let (first, second) = (world.topic(&*client).await, world.topic(&*client).await);
    let group = world.group();
    let mut deliveries = world.join(&*client, &group, &[&first, &second]).await;
    for (topic, payload) in [(&first, "in the first"), (&second, "in the second")] {
        world.publish(&*client, topic, Message::new(payload)).await;
    }
    let mut seen = Seen::default();
    while seen.distinct() < 2 {
        let delivery = world.take_one(&mut *deliveries).await;
        let expected = match is(&delivery, "in the first") {
            true => &first,
            false => &second,
        };
        assert_eq!(&delivery.topic, expected);
        seen.note(&delivery);
        delivery.accept();
    }
    Ok(())
}

pub(super) async fn a_new_group_reads_what_was_before_it(world: &World<'_>) -> Outcome {
    let client = world.connect().await;
    let topic = world.topic(&*client).await;
    world.publish_all(&*client, &topic, keyed(20, 4)).await;
    for _ in 0..2 {
        let group = world.group();
        let mut deliveries = world.join(&*client, &group, &[&topic]).await;
        let mut seen = Seen::default();
        world.accept_until(&mut *deliveries, &mut seen, 20).await;
        world.close(deliveries).await;
    }
    Ok(())
}

pub(super) async fn a_group_that_begins_now_reads_nothing_older(world: &World<'_>) -> Outcome {
    let client = world.connect().await;
    let topic = world.topic(&*client).await;
    world.publish_all(&*client, &topic, keyed(20, 4)).await;
    let from_now = Subscription {
        start: Start::Latest,
        ..Subscription::group(world.group(), vec![topic.clone()])
    };
    let mut deliveries = world.subscribe(&*client, from_now).await;
    world.publish(&*client, &topic, Message::new("now")).await;
    let delivery = world.take_one(&mut *deliveries).await;
    assert!(is(&delivery, "now"), "{delivery:?}");
    delivery.accept();
    let more = world.quietly(&mut *deliveries).await;
    let is_repeat = |one: &Delivery| world.is_under_faults() && is(one, "now");
    assert!(more.iter().all(is_repeat), "{more:?}");
    Ok(())
}

pub(super) async fn what_comes_before_the_first_question_is_kept(world: &World<'_>) -> Outcome {
    let client = world.connect().await;
    let topic = world.topic_name();
    let from_now = Subscription {
        start: Start::Latest,
        ..Subscription::group(world.group(), vec![topic.clone()])
    };
    // The topic is made by subscribing to it.
    let mut deliveries = world.subscribe(&*client, from_now).await;
    world.publish_all(&*client, &topic, keyed(20, 4)).await;
    let mut seen = Seen::default();
    world.accept_until(&mut *deliveries, &mut seen, 20).await;
    Ok(())
}

pub(super) async fn creating_a_topic_again_changes_nothing(world: &World<'_>) -> Outcome {
    let (client, topic, _, mut deliveries) = world.member().await;
    world
        .publish(&*client, &topic, Message::new("before"))
        .await;
    for partitions in [1, 8, 16] {
        let again = client.create_topic(&topic, partitions);
        let again = world.within("creating a topic again", again).await;
        assert_eq!(again, Ok(()), "with {partitions} partitions");
    }
    world.publish(&*client, &topic, Message::new("after")).await;
    let mut seen = Seen::default();
    world.accept_until(&mut *deliveries, &mut seen, 2).await;
    Ok(())
}

pub(super) async fn a_delivery_knows_its_position(world: &World<'_>) -> Outcome {
    let (client, topic, _, mut deliveries) = world.member().await;
    let mut positions = Vec::new();
    for message in keyed(20, 4) {
        positions.push(world.publish(&*client, &topic, message).await);
    }
    let mut known = HashSet::new();
    while known.len() < 20 {
        for delivery in world.take(&mut *deliveries, 16).await {
            let payload = delivery.message.payload.as_deref().unwrap_or_default();
            let number: Option<usize> = String::from_utf8_lossy(payload).parse().ok();
            let published = positions[number.expect("the payloads are numbers")];
            let position = delivery.position.expect("it has the capability");
            if let Some(published) = published
                && !world.is_under_faults()
            {
                assert_eq!(position, published);
            }
            known.insert(position);
            delivery.accept();
        }
    }
    Ok(())
}

pub(super) async fn what_is_lacking_is_refused_by_name(world: &World<'_>) -> Outcome {
    let client = world.connect().await;
    let topic = world.topic(&*client).await;
    let lacks = |capability| !world.capabilities.has(capability);
    let at = Timestamp::from_millis(world.fixture.now().as_millis() + 3_600_000);
    let needing = [
        (Capability::Tombstones, Message::default()),
        (
            Capability::Schedule,
            Message::new("p").with_header(header::DELIVER_AT, at.to_rfc3339()),
        ),
        (
            Capability::BinaryHeaders,
            Message::new("p").with_header("h", vec![0xff, 0xfe]),
        ),
        (
            Capability::RepeatedHeaders,
            Message::new("p")
                .with_header("h", "1")
                .with_header("h", "2"),
        ),
    ];
    let mut tried = 0;
    for (capability, message) in needing {
        if lacks(capability) {
            let refused = world.within("being refused", client.publish(&topic, message));
            assert_unsupported(&*client, refused.await.map(drop), capability);
            tried += 1;
        }
    }
    if lacks(Capability::Broadcast) {
        let everyone = Subscription {
            audience: Audience::Everyone,
            ..Subscription::group(world.group(), vec![topic.clone()])
        };
        let refused = world.within("being refused", client.subscribe(everyone));
        assert_unsupported(&*client, refused.await.map(drop), Capability::Broadcast);
        tried += 1;
    }
    if lacks(Capability::AtomicOutputs) {
        let group = world.group();
        let mut deliveries = world.join(&*client, &group, &[&topic]).await;
        world.publish(&*client, &topic, Message::new("input")).await;
        let delivery = world.take_one(&mut *deliveries).await;
        let output = vec![(topic.clone(), Message::new("output"))];
        let refused = world.within("being refused", delivery.accept_with(output));
        assert_unsupported(&*client, refused.await, Capability::AtomicOutputs);
        let again = world.take_one(&mut *deliveries).await;
        assert!(is(&again, "input"), "it is unsettled: {again:?}");
        tried += 1;
    }
    match tried {
        0 => Err(Skipped("it lacks nothing that could be refused".to_owned())),
        _ => Ok(()),
    }
}

fn assert_unsupported(client: &dyn Transport, refused: Result<(), Error>, wanted: Capability) {
    match refused {
        Err(Error::Unsupported {
            transport,
            capability,
            ..
        }) => assert_eq!((transport, capability), (client.name(), wanted)),
        other => panic!("{wanted} is missing, and the answer is {other:?}"),
    }
}

pub(super) async fn a_publish_that_nobody_waits_for_arrives(world: &World<'_>) -> Outcome {
    let (client, topic, _, mut deliveries) = world.member().await;
    for payload in ["never polled", "polled once"] {
        let publish = client.publish(&topic, Message::new(payload));
        match payload {
            "polled once" => drop(publish.now_or_never()),
            _ => drop(publish),
        }
    }
    let mut seen = Seen::default();
    world.accept_until(&mut *deliveries, &mut seen, 2).await;
    Ok(())
}
