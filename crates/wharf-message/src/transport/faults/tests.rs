//! What each fault does, on the transport in memory.

use futures_util::FutureExt;

use super::*;
use crate::transport::Delivery;
use crate::transport::memory::MemoryTransport;
use crate::{GroupName, Timestamp};

fn topic() -> TopicName {
    TopicName::new("t").expect("valid")
}

fn with(faults: Faults, count: usize) -> (Arc<MemoryTransport>, Box<dyn Deliveries>, Faulty) {
    let memory = Arc::new(MemoryTransport::new(Timestamp::ZERO));
    let transport = Faulty::new(Arc::clone(&memory) as Arc<dyn Transport>, faults);
    for number in 0..count {
        let message = Message::new(number.to_string()).with_key(format!("k{}", number % 3));
        let published = memory.publish(&topic(), message).now_or_never();
        published.expect("never waits").expect("is taken");
    }
    let group = GroupName::new("g").expect("valid");
    let joined = transport.subscribe(Subscription::group(group, vec![topic()]));
    let joined = joined.now_or_never().expect("never waits");
    (memory, joined.expect("is taken"), transport)
}

fn next(deliveries: &mut dyn Deliveries, max: usize) -> Result<Vec<Delivery>, Error> {
    let next = deliveries.next(max).now_or_never();
    next.unwrap_or(Ok(Vec::new()))
}

/// Takes and accepts one by one until nothing comes; the payloads and errors in order.
fn accept_all(deliveries: &mut dyn Deliveries) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        match next(deliveries, 1).map(|mut taken| taken.pop()) {
            Ok(Some(delivery)) => {
                let payload = delivery.message.payload.clone().unwrap_or_default();
                seen.push(String::from_utf8_lossy(&payload).into_owned());
                delivery.accept();
            }
            Ok(None) => return seen,
            Err(_) => seen.push("lost".to_owned()),
        }
    }
}

#[test]
fn without_faults_it_is_the_transport_inside() {
    let (memory, mut deliveries, _) = with(Faults::none(), 3);
    assert_eq!(accept_all(&mut *deliveries), ["0", "1", "2"]);
    assert_eq!(memory.in_flight(), 0);
}

#[test]
fn every_message_comes_twice_or_every_second_one_does() {
    let (_, mut deliveries, _) = with(Faults::none().duplicate_every(1), 2);
    assert_eq!(accept_all(&mut *deliveries), ["0", "0", "1", "1"]);
    let (memory, mut deliveries, _) = with(Faults::none().duplicate_every(2), 4);
    assert_eq!(accept_all(&mut *deliveries), ["0", "1", "1", "2", "3", "3"]);
    assert_eq!(memory.in_flight(), 0);
}

#[test]
fn reordering_keeps_the_order_of_each_key_and_is_the_same_every_time() {
    let run = |seed| {
        let (_, mut deliveries, _) = with(Faults::none().reorder(seed), 12);
        accept_all(&mut *deliveries)
    };
    let seen = run(1);
    assert_eq!(seen, run(1));
    assert_ne!(seen, run(2));
    let numbers: Vec<usize> = seen
        .iter()
        .map(|text| text.parse().expect("a number"))
        .collect();
    assert!(!numbers.is_sorted());
    for key in 0..3 {
        let of_key: Vec<_> = numbers.iter().filter(|number| *number % 3 == key).collect();
        assert_eq!(of_key.len(), 4);
        assert!(of_key.is_sorted(), "{numbers:?}");
    }
}

#[test]
fn a_crash_brings_everything_unsettled_again_and_old_settlements_come_too_late() {
    let (memory, mut deliveries, _) = with(Faults::none().crash_after(2), 3);
    let held = next(&mut *deliveries, 10).expect("open");
    assert_eq!(held.len(), 2, "it crashes with the second");
    held.into_iter().for_each(Delivery::accept);
    assert_eq!(accept_all(&mut *deliveries), ["0", "1", "2"]);
    assert_eq!(memory.in_flight(), 0);
}

#[test]
fn a_crash_after_settling_brings_the_others_again() {
    let (_, mut deliveries, _) = with(Faults::none().crash_after_settling(1), 3);
    let mut held = next(&mut *deliveries, 10).expect("open");
    held.remove(1).accept();
    assert_eq!(accept_all(&mut *deliveries), ["0", "2"]);
}

#[test]
fn a_lost_connection_is_an_error_once_and_nothing_is_lost() {
    let (memory, mut deliveries, transport) = with(Faults::none().lose_connection_every(2, 7), 3);
    let seen = accept_all(&mut *deliveries);
    let losses = seen.iter().filter(|one| *one == "lost").count();
    assert_eq!(losses, 2, "{seen:?}");
    assert!(
        ["0", "1", "2"]
            .iter()
            .all(|one| seen.iter().any(|s| s == one))
    );
    assert_eq!(memory.in_flight(), 0);
    let before = memory.messages("t").len();
    let publish = || {
        let published = transport
            .publish(&topic(), Message::new("p"))
            .now_or_never();
        published.expect("never waits")
    };
    let outcomes: Vec<bool> = (0..20).map(|_| publish().is_ok()).collect();
    let arrived = memory.messages("t").len() - before;
    assert_eq!(outcomes.iter().filter(|ok| **ok).count(), 10);
    assert!(
        (11..20).contains(&arrived),
        "some arrived, some did not: {arrived}"
    );
}
