//! Diaries of groups of the consumer protocol: each test says what happens to whom and what the
//! group answers.

mod classic;
mod epochs;
mod random;
mod statics;
mod topics;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;
use wharf_message::Timestamp;

use super::topics::TopicSize;
use super::{Around, Catalog, ConsumerGroup, GroupHeader, Limits, Member, Request, check_request};
use crate::group::{ConsumerHeartbeat, ConsumerHeartbeatAnswer, keys};
use crate::{Error, ErrorKind};

const SESSION: Duration = Duration::from_secs(45);
const REBALANCE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const MEMBERS_MAX: usize = 20;

/// The topics there are.
#[derive(Debug, Default)]
struct Topics(RefCell<(u64, BTreeMap<String, TopicSize>)>);

impl Topics {
    /// Creates a topic, or gives it more partitions.
    fn put(&self, name: &str, partitions: i32) {
        let mut topics = self.0.borrow_mut();
        topics.0 += 1;
        let version = u128::from(topics.0);
        let new = TopicSize {
            id: Uuid::from_u128(version),
            partitions,
        };
        let topic = topics.1.entry(name.to_owned()).or_insert(new);
        topic.partitions = partitions;
    }

    fn delete(&self, name: &str) {
        let mut topics = self.0.borrow_mut();
        topics.0 += 1;
        topics.1.remove(name);
    }

    fn id(&self, name: &str) -> Uuid {
        self.by_name(name).expect("the topic exists").id
    }
}

impl Catalog for Topics {
    fn version(&self) -> u64 {
        self.0.borrow().0
    }

    fn by_name(&self, name: &str) -> Option<TopicSize> {
        self.0.borrow().1.get(name).copied()
    }

    fn name_of(&self, id: Uuid) -> Option<String> {
        let topics = self.0.borrow();
        let found = topics.1.iter().find(|(_, topic)| topic.id == id);
        found.map(|(name, _)| name.clone())
    }

    fn selectable(&self) -> Vec<String> {
        self.0.borrow().1.keys().cloned().collect()
    }
}

/// A group, its clock, its topics, and what is stored of it.
struct Diary {
    group: ConsumerGroup,
    now: Timestamp,
    topics: Topics,
    stored: BTreeMap<Bytes, Bytes>,
    /// How often something was stored.
    stores: usize,
}

/// A first heartbeat, subscribing to these topics.
fn join(member: &str, topics: &[&str]) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        group: "g".to_owned(),
        member: member.to_owned(),
        brings_id: true,
        epoch: 0,
        rebalance_timeout: Some(REBALANCE),
        topics: Some(topics.iter().map(|topic| (*topic).to_owned()).collect()),
        owned: Some(Vec::new()),
        ..ConsumerHeartbeat::default()
    }
}

/// A heartbeat that says nothing new.
fn beat(member: &str, epoch: i32) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        group: "g".to_owned(),
        member: member.to_owned(),
        brings_id: true,
        epoch,
        ..ConsumerHeartbeat::default()
    }
}

/// Partitions of the answer by index, when all are of one topic.
fn indexes(answer: &ConsumerHeartbeatAnswer) -> Vec<i32> {
    let assignment = answer.assignment.iter().flatten();
    assignment
        .flat_map(|(_, indexes)| indexes.clone())
        .collect()
}

impl Diary {
    /// A group over one topic `t` of these many partitions.
    fn new(partitions: i32) -> Self {
        let topics = Topics::default();
        topics.put("t", partitions);
        let now = Timestamp::from_millis(1_000_000);
        Self {
            group: ConsumerGroup::new(now),
            now,
            topics,
            stored: BTreeMap::new(),
            stores: 0,
        }
    }

    fn limits() -> Limits {
        Limits {
            members_max: MEMBERS_MAX,
            session_timeout: SESSION,
            heartbeat_interval: SECOND * 5,
        }
    }

    /// A step, after which everything that changed is stored.
    fn step<T>(&mut self, step: impl FnOnce(&mut ConsumerGroup, Around<'_>) -> T) -> T {
        let around = Around {
            now: self.now,
            limits: Self::limits(),
            catalog: &self.topics,
        };
        let result = step(&mut self.group, around);
        let (changes, _) = self.group.take_changes("g");
        self.stores += usize::from(!changes.is_empty());
        for change in changes {
            match change.value {
                Some(value) => self.stored.insert(change.key, value),
                None => self.stored.remove(&change.key),
            };
        }
        self.check();
        result
    }

    /// What always holds.
    fn check(&self) {
        let mut held = BTreeSet::new();
        for member in self.group.members.values() {
            for partition in member.assigned.iter().chain(member.revoking.iter()) {
                assert!(held.insert(partition), "{partition:?} is held twice");
            }
        }
    }

    fn beat(&mut self, heartbeat: &ConsumerHeartbeat) -> Result<ConsumerHeartbeatAnswer, Error> {
        check_request(heartbeat)?;
        let request = Request {
            heartbeat,
            new_member: "given".to_owned(),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
        };
        self.step(|group, around| group.heartbeat(&request, around))
    }

    #[track_caller]
    fn ok(&mut self, heartbeat: &ConsumerHeartbeat) -> ConsumerHeartbeatAnswer {
        self.beat(heartbeat).expect("accepted")
    }

    #[track_caller]
    fn refused(&mut self, heartbeat: &ConsumerHeartbeat) -> ErrorKind {
        self.beat(heartbeat).expect_err("refused").kind
    }

    /// A heartbeat that says what the member reads of topic `t`.
    #[track_caller]
    fn own(&mut self, member: &str, epoch: i32, indexes: &[i32]) -> ConsumerHeartbeatAnswer {
        let heartbeat = self.owning(member, epoch, indexes);
        self.ok(&heartbeat)
    }

    fn owning(&self, member: &str, epoch: i32, indexes: &[i32]) -> ConsumerHeartbeat {
        let owned = match indexes.is_empty() {
            true => Vec::new(),
            false => vec![(self.topics.id("t"), indexes.to_vec())],
        };
        ConsumerHeartbeat {
            owned: Some(owned),
            ..beat(member, epoch)
        }
    }

    /// Time passes; what is due happens when it is due.
    fn pass(&mut self, duration: Duration) {
        let until = self.now.after(duration);
        while let Some(wake) = self.group.wake().filter(|wake| *wake <= until) {
            self.now = self.now.max(wake);
            self.step(ConsumerGroup::tick);
        }
        self.now = until;
    }

    /// The node dies and starts again.
    fn restart(&mut self) {
        let header = &self.stored[&keys::group("g")];
        let header = GroupHeader::decode(header).expect("as encoded");
        let members = self.stored.iter().filter_map(|(key, value)| {
            let (_, id) = keys::parse_member(key)?;
            Some((id, Member::decode(value).expect("as encoded")))
        });
        let around = Around {
            now: self.now,
            limits: Self::limits(),
            catalog: &self.topics,
        };
        self.group = ConsumerGroup::recover(&header, members.collect(), around);
        self.check();
    }
}
