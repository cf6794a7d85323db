//! What the reference promises beyond the conformance suite: its time, its counting, its readings.

use std::time::Duration;

use futures_util::FutureExt;

use super::*;
use crate::dead_letter::{Failure, Reason};
use crate::header;
use crate::transport::{Audience, Capability, Start};

fn topic(name: &str) -> TopicName {
    TopicName::new(name).expect("valid")
}

fn group(name: &str) -> GroupName {
    GroupName::new(name).expect("valid")
}

fn transport() -> MemoryTransport {
    MemoryTransport::new(Timestamp::from_millis(1_000))
}

fn publish(transport: &MemoryTransport, message: Message) -> Option<Position> {
    let published = transport.publish(&topic("t"), message).now_or_never();
    published.expect("never waits").expect("is taken")
}

fn join(transport: &MemoryTransport) -> Box<dyn Deliveries> {
    let subscription = Subscription::group(group("g"), vec![topic("t")]);
    let joined = transport.subscribe(subscription).now_or_never();
    joined.expect("never waits").expect("is taken")
}

fn take(deliveries: &mut dyn Deliveries, max: usize) -> Vec<Delivery> {
    match deliveries.next(max).now_or_never() {
        Some(taken) => taken.expect("open"),
        None => Vec::new(),
    }
}

fn payloads(deliveries: &[Delivery]) -> Vec<String> {
    let text = |delivery: &Delivery| {
        let payload = delivery.message.payload.as_deref();
        String::from_utf8_lossy(payload.unwrap_or_default()).into_owned()
    };
    deliveries.iter().map(text).collect()
}

#[test]
fn a_key_belongs_to_one_member_until_all_of_it_is_settled() {
    let transport = transport();
    let (mut first, mut second) = (join(&transport), join(&transport));
    for (key, payload) in [
        ("a", "a1"),
        ("a", "a2"),
        ("b", "b1"),
        ("a", "a3"),
        ("b", "b2"),
    ] {
        publish(&transport, Message::new(payload).with_key(key));
    }
    let mut a = take(&mut *first, 2);
    assert_eq!(payloads(&a), ["a1", "a2"]);
    let b = take(&mut *second, 10);
    assert_eq!(payloads(&b), ["b1", "b2"], "a3 waits for its key");
    a.remove(0).accept();
    assert!(take(&mut *second, 10).is_empty());
    a.remove(0).accept();
    assert_eq!(payloads(&take(&mut *second, 10)), ["a3"]);
}

#[test]
fn what_a_member_leaves_unsettled_comes_again_in_order_and_its_settlements_come_too_late() {
    let transport = transport();
    let mut first = join(&transport);
    for payload in ["1", "2", "3"] {
        publish(&transport, Message::new(payload).with_key("k"));
    }
    let mut old = take(&mut *first, 2);
    old.remove(0).accept();
    drop(first);
    let mut second = join(&transport);
    old.remove(0).accept();
    assert_eq!(payloads(&take(&mut *second, 10)), ["2", "3"]);
}

#[test]
fn a_delayed_retry_waits_for_its_time_and_counts_as_neither_in_flight_nor_committed() {
    let transport = transport();
    let mut deliveries = join(&transport);
    publish(&transport, Message::new("1"));
    publish(&transport, Message::new("2"));
    let mut both = take(&mut *deliveries, 2);
    both.remove(0).retry(Duration::from_millis(500));
    both.remove(0).accept();
    assert_eq!(transport.in_flight(), 0);
    let (g, t) = (group("g"), topic("t"));
    assert_eq!(
        (transport.lag(&g, &t), transport.committed(&g, &t)),
        (Some(1), Some(0))
    );
    assert_eq!(transport.next_due(), Some(Timestamp::from_millis(1_500)));
    transport.advance_to(Timestamp::from_millis(1_499));
    assert!(take(&mut *deliveries, 1).is_empty());
    transport.advance_to(Timestamp::from_millis(1_500));
    let again = take(&mut *deliveries, 1).remove(0);
    assert_eq!(
        (again.attempt, again.position.map(|p| p.offset)),
        (2, Some(0))
    );
    again.accept();
    assert_eq!(
        (transport.lag(&g, &t), transport.committed(&g, &t)),
        (Some(0), Some(2))
    );
}

#[test]
fn it_is_idle_when_all_is_settled_and_not_before() {
    let transport = transport();
    publish(&transport, Message::new("nobody listens"));
    assert!(transport.idle().now_or_never().is_some());
    let mut deliveries = join(&transport);
    let idle = transport.idle();
    futures_util::pin_mut!(idle);
    assert_eq!(transport.in_flight(), 1, "deliverable");
    let delivery = take(&mut *deliveries, 1).remove(0);
    assert_eq!(transport.in_flight(), 1, "delivered");
    assert!(idle.as_mut().now_or_never().is_none());
    delivery.accept();
    assert!(idle.now_or_never().is_some());
}

#[test]
fn a_rejected_message_is_a_dead_letter_before_it_is_gone() {
    let transport = transport();
    let mut deliveries = join(&transport);
    publish(&transport, Message::new("p").with_header("h", "v"));
    let failure = Failure {
        reason: Reason::Rejected,
        error: "no".to_owned(),
        attempts: 1,
        first_failed_at: None,
        failed_at: transport.now(),
        handler: "h".to_owned(),
    };
    take(&mut *deliveries, 1).remove(0).reject(failure);
    let letters = transport.messages("dlq.t.g");
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].headers.text(header::DLQ_OFFSET), Ok(Some("0")));
    assert_eq!(transport.lag(&group("g"), &topic("t")), Some(0));
}

#[test]
fn outputs_that_one_of_them_forbids_are_not_published_and_the_input_comes_again() {
    let transport = transport().with_bytes_max(10);
    let mut deliveries = join(&transport);
    publish(&transport, Message::new("p"));
    let outputs = vec![
        (topic("out"), Message::new("small")),
        (topic("out"), Message::new("much too large")),
    ];
    let accepted = take(&mut *deliveries, 1).remove(0).accept_with(outputs);
    let refused = accepted.now_or_never().expect("never waits");
    assert!(
        matches!(refused, Err(Error::TooLarge { .. })),
        "{refused:?}"
    );
    assert!(transport.messages("out").is_empty());
    assert_eq!(take(&mut *deliveries, 1).len(), 1);
}

#[test]
fn everyone_hears_what_comes_while_they_listen_and_leaves_nothing_behind() {
    let transport = transport();
    publish(&transport, Message::new("before"));
    let everyone = Subscription {
        topics: vec![topic("t")],
        audience: Audience::Everyone,
        start: Start::Earliest,
        in_flight_max: 10,
    };
    let listen = || {
        let joined = transport.subscribe(everyone.clone()).now_or_never();
        joined.expect("never waits").expect("is taken")
    };
    let (mut first, mut second) = (listen(), listen());
    publish(&transport, Message::new("now"));
    for deliveries in [&mut first, &mut second] {
        assert_eq!(payloads(&take(&mut **deliveries, 10)), ["now"]);
    }
    drop((first, second));
    assert_eq!(transport.in_flight(), 0);
    assert!(take(&mut *listen(), 10).is_empty());
}

#[test]
fn one_who_waits_is_woken_by_a_shutdown_and_other_clients_go_on() {
    let transport = transport();
    let other = transport.client();
    let mut deliveries = join(&transport);
    let next = deliveries.next(1);
    futures_util::pin_mut!(next);
    assert!(next.as_mut().now_or_never().is_none());
    transport.shutdown().now_or_never();
    assert_eq!(
        next.now_or_never().map(|r| r.map(drop)),
        Some(Err(Error::Closed))
    );
    let refused = transport.publish(&topic("t"), Message::new("p"));
    assert_eq!(refused.now_or_never(), Some(Err(Error::Closed)));
    publish(&other, Message::new("p"));
}

#[test]
fn what_it_is_told_to_lack_it_refuses_by_name() {
    let poor = transport().with_capabilities(Capabilities::NONE);
    let everyone = Subscription {
        audience: Audience::Everyone,
        ..Subscription::group(group("g"), vec![topic("t")])
    };
    let refused = poor
        .subscribe(everyone)
        .now_or_never()
        .expect("never waits");
    let is_named = |refused: &Error, named| matches!(refused, Error::Unsupported { capability, .. } if *capability == named);
    assert!(refused.is_err_and(|error| is_named(&error, Capability::Broadcast)));
    assert_eq!(publish(&poor, Message::new("before")), None, "no positions");
    let mut deliveries = join(&poor);
    publish(&poor, Message::new("after"));
    let mut taken = take(&mut *deliveries, 10);
    assert_eq!(payloads(&taken), ["after"], "no history");
    let accepted = taken.remove(0).accept_with(Vec::new()).now_or_never();
    let refused = accepted.expect("never waits").expect_err("not atomic");
    assert!(is_named(&refused, Capability::AtomicOutputs));
}
