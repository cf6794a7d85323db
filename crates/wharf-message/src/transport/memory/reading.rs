//! How far one group has come in one topic, and which of its members has which key.
//!
//! Invariant: at any time every offset of the topic is exactly one of: not yet reached, returned,
//! parked, in flight, delayed, or settled for good.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::state::{MemberId, ReadingId, TopicId};
use crate::{GroupName, Message, TopicName};

/// An offset and the attempt number of its next delivery.
pub(super) type Entry = (usize, u32);

/// A topic: a list of messages.
pub(super) struct Topic {
    pub(super) name: TopicName,
    pub(super) messages: Vec<Message>,
    pub(super) readings: Vec<ReadingId>,
}

/// How far a group has come in a topic; without a group, a subscription of its own.
pub(super) struct Reading {
    pub(super) group: Option<GroupName>,
    pub(super) topic: TopicId,
    /// The first offset that nobody was given yet.
    pub(super) cursor: usize,
    /// What is before the cursor and to be delivered (again), with its attempt number.
    pub(super) returned: BTreeMap<usize, u32>,
    keys: HashMap<Bytes, Key>,
    pub(super) members: Vec<MemberId>,
    /// How many are in flight or wait for another attempt.
    pub(super) unsettled: usize,
    parked: usize,
}

/// A key belongs to one member as long as it has unsettled messages there; what others took of it
/// meanwhile is parked.
struct Key {
    owner: MemberId,
    unsettled: usize,
    parked: Vec<Entry>,
}

impl Reading {
    /// A reading that begins at `cursor`.
    pub(super) fn new(group: Option<GroupName>, topic: TopicId, cursor: usize) -> Self {
        Self {
            group,
            topic,
            cursor,
            returned: BTreeMap::new(),
            keys: HashMap::new(),
            members: Vec::new(),
            unsettled: 0,
            parked: 0,
        }
    }

    /// What comes next for whoever takes: what came back, then what is new.
    pub(super) fn next(&mut self, topic: &Topic) -> Option<Entry> {
        if let Some(returned) = self.returned.pop_first() {
            return Some(returned);
        }
        let offset = self.cursor;
        (offset < topic.messages.len()).then(|| {
            self.cursor += 1;
            (offset, 1)
        })
    }

    /// Whether `member` may have this message now; if not, it is parked until its key is free.
    pub(super) fn admits(&mut self, member: MemberId, key: Option<&Bytes>, entry: Entry) -> bool {
        let Some(key) = key else { return true };
        match self.keys.get_mut(key) {
            None => {
                let key_of = Key {
                    owner: member,
                    unsettled: 1,
                    parked: Vec::new(),
                };
                self.keys.insert(key.clone(), key_of);
                true
            }
            Some(held) if held.owner == member && held.parked.is_empty() => {
                held.unsettled += 1;
                true
            }
            Some(held) => {
                held.parked.push(entry);
                self.parked += 1;
                false
            }
        }
    }

    /// One message of the key is settled: when it was the last, the parked ones are available.
    pub(super) fn release_key(&mut self, key: Option<&Bytes>) {
        let Some(held) = key.and_then(|key| self.keys.get_mut(key)) else {
            return;
        };
        held.unsettled -= 1;
        if held.unsettled == 0
            && let Some(held) = key.and_then(|key| self.keys.remove(key))
        {
            self.parked -= held.parked.len();
            self.returned.extend(held.parked);
        }
    }

    /// The offsets that wait for their key.
    pub(super) fn parked(&self) -> impl Iterator<Item = usize> {
        let parked = self.keys.values().flat_map(|key| &key.parked);
        parked.map(|(offset, _)| *offset)
    }

    /// How many could be delivered now or when a key is free.
    pub(super) fn available(&self, topic: &Topic) -> usize {
        self.returned.len() + self.parked + (topic.messages.len() - self.cursor)
    }
}
