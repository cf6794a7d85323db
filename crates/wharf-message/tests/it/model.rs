//! The transport in memory against a model of it: whatever members do in whatever order, nothing is
//! lost, nothing is at two places, and keys keep their order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;
use wharf_message::transport::memory::MemoryTransport;
use wharf_message::transport::{Deliveries, Delivery, Publish, Subscribe, Subscription};
use wharf_message::{GroupName, Message, Timestamp, TopicName};

const IN_FLIGHT_MAX: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Publish(Option<u8>),
    Join,
    Leave(usize),
    Take(usize, usize),
    Settle(usize, How),
    Advance(u64),
}

#[derive(Clone, Copy, Debug)]
enum How {
    Accept,
    RetryNow,
    RetryLater(u64),
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![
        4 => Just(How::Accept),
        1 => Just(How::RetryNow),
        1 => (1..50u64).prop_map(How::RetryLater),
        1 => Just(How::Release),
    ];
    prop_oneof![
        6 => proptest::option::of(0..3u8).prop_map(Step::Publish),
        1 => Just(Step::Join),
        1 => (0..4usize).prop_map(Step::Leave),
        6 => (0..4usize, 1..6usize).prop_map(|(member, max)| Step::Take(member, max)),
        8 => (0..16usize, how).prop_map(|(held, how)| Step::Settle(held, how)),
        1 => (1..40u64).prop_map(Step::Advance),
    ]
}

/// A member and what it holds, by offset.
struct Member {
    deliveries: Box<dyn Deliveries>,
    held: BTreeMap<i64, Delivery>,
}

struct Run {
    transport: MemoryTransport,
    topic: TopicName,
    group: GroupName,
    members: Vec<Member>,
    published: i64,
    accepted: BTreeSet<i64>,
    attempts: HashMap<i64, u32>,
    /// The newest offset that was ever delivered of each key.
    newest: HashMap<Vec<u8>, i64>,
}

impl Run {
    fn new() -> Self {
        Self {
            transport: MemoryTransport::new(Timestamp::ZERO),
            topic: TopicName::new("t").unwrap(),
            group: GroupName::new("g").unwrap(),
            members: Vec::new(),
            published: 0,
            accepted: BTreeSet::new(),
            attempts: HashMap::new(),
            newest: HashMap::new(),
        }
    }

    fn join(&mut self) {
        let subscription = Subscription {
            in_flight_max: IN_FLIGHT_MAX,
            ..Subscription::group(self.group.clone(), vec![self.topic.clone()])
        };
        let joined = self.transport.subscribe(subscription).now_or_never();
        self.members.push(Member {
            deliveries: joined.unwrap().unwrap(),
            held: BTreeMap::new(),
        });
    }

    fn publish(&mut self, key: Option<u8>) {
        let mut message = Message::new("p");
        message.key = key.map(|key| vec![key].into());
        let published = self.transport.publish(&self.topic, message).now_or_never();
        let position = published.unwrap().unwrap().unwrap();
        assert_eq!(position.offset, self.published);
        self.published += 1;
    }

    /// Whether anything came.
    fn take(&mut self, at: usize, max: usize) -> bool {
        let taken = self.members[at].deliveries.next(max).now_or_never();
        let taken = taken.map_or_else(Vec::new, Result::unwrap);
        assert!(taken.len() <= max);
        let is_some = !taken.is_empty();
        for delivery in taken {
            self.note(at, delivery);
        }
        assert!(self.members[at].held.len() <= IN_FLIGHT_MAX);
        is_some
    }

    fn note(&mut self, at: usize, delivery: Delivery) {
        let offset = delivery.position.unwrap().offset;
        assert!(!self.accepted.contains(&offset), "{offset} was accepted");
        let attempt = *self.attempts.entry(offset).or_insert_with(|| {
            // It comes for the first time: everything before it of its key did so earlier.
            if let Some(key) = &delivery.message.key {
                let before = self.newest.insert(key.to_vec(), offset);
                assert!(before < Some(offset), "{offset} after {before:?}");
            }
            1
        });
        assert_eq!(delivery.attempt, attempt);
        for (other, member) in self.members.iter().enumerate() {
            assert!(
                !member.held.contains_key(&offset),
                "{offset} is at two places"
            );
            let mut keys = member.held.values().map(|held| &held.message.key);
            let is_shared =
                delivery.message.key.is_some() && keys.any(|key| *key == delivery.message.key);
            assert!(other == at || !is_shared, "a key is at two members");
        }
        self.members[at].held.insert(offset, delivery);
    }

    fn settle(&mut self, at: usize, offset: i64, how: How) {
        let Some(delivery) = self.members[at].held.remove(&offset) else {
            return;
        };
        match how {
            How::Accept => {
                self.accepted.insert(offset);
                delivery.accept();
            }
            How::RetryNow | How::RetryLater(_) => {
                *self.attempts.entry(offset).or_default() += 1;
                let millis = if let How::RetryLater(millis) = how {
                    millis
                } else {
                    0
                };
                delivery.retry(Duration::from_millis(millis));
            }
            How::Release => drop(delivery),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish(key) => self.publish(key),
            Step::Join => self.join(),
            Step::Leave(at) if at < self.members.len() => {
                // What it holds is settled too late.
                let left = self.members.remove(at);
                drop(left.deliveries);
                left.held.into_values().for_each(Delivery::accept);
            }
            Step::Take(at, max) if at < self.members.len() => {
                self.take(at, max);
            }
            Step::Settle(number, how) => {
                let held = self.members.iter().enumerate();
                let held =
                    held.flat_map(|(at, one)| one.held.keys().map(move |offset| (at, *offset)));
                let all: Vec<(usize, i64)> = held.collect();
                if let Some((at, offset)) = all.get(number) {
                    self.settle(*at, *offset, how);
                }
            }
            Step::Advance(millis) => {
                let later = self.transport.now().after(Duration::from_millis(millis));
                self.transport.advance_to(later);
            }
            Step::Leave(_) | Step::Take(..) => {}
        }
        self.check();
    }

    fn check(&self) {
        let unsettled = usize::try_from(self.published).unwrap() - self.accepted.len();
        if let Some(lag) = self.transport.lag(&self.group, &self.topic) {
            assert_eq!(lag, unsettled);
            let committed = self.transport.committed(&self.group, &self.topic);
            let first = (0..self.published).find(|offset| !self.accepted.contains(offset));
            assert_eq!(committed, Some(first.unwrap_or(self.published)));
        }
    }

    /// Everybody settles what they hold, and what is left comes and is accepted.
    fn finish(&mut self) {
        self.members.clear();
        self.join();
        loop {
            let far = self.transport.now().after(Duration::from_secs(60));
            self.transport.advance_to(far);
            let came = self.take(0, IN_FLIGHT_MAX);
            let held: Vec<i64> = self.members[0].held.keys().copied().collect();
            for offset in held {
                self.settle(0, offset, How::Accept);
            }
            if !came {
                break;
            }
        }
        assert!(
            (0..self.published).eq(self.accepted.iter().copied()),
            "something is lost"
        );
        assert_eq!(self.transport.in_flight(), 0);
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_or_at_two_places_and_keys_keep_their_order(
        steps in proptest::collection::vec(step(), 1..120)
    ) {
        let mut run = Run::new();
        run.join();
        for step in &steps {
            run.step(step);
        }
        run.finish();
    }
}
