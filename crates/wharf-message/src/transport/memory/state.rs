//! The broker as a state machine under its one lock.
//!
//! Every change is one call, complete when it returns.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem;
use std::task::{Context, Poll, Waker};

use super::NAME;
use super::flights::{Flight, Flights};
use super::reading::{Reading, Topic};
use crate::dead_letter;
use crate::transport::{
    Audience, Capabilities, Capability, Error, Position, Settlement, Start, Subscription, Token,
    deliver_at,
};
use crate::{GroupName, Message, Timestamp, TopicName};

/// A subscription, never used again when it is gone.
pub(super) type MemberId = u64;
pub(super) type ReadingId = u64;
pub(super) type TopicId = usize;

/// What is handed to a member.
pub(super) struct Taken {
    pub(super) topic: TopicName,
    pub(super) position: Option<Position>,
    pub(super) message: Message,
    pub(super) attempt: u32,
    pub(super) token: Token,
}

pub(super) struct State {
    pub(super) now: Timestamp,
    pub(super) capabilities: Capabilities,
    pub(super) bytes_max: usize,
    topics: Vec<Topic>,
    topics_by_name: HashMap<TopicName, TopicId>,
    readings: BTreeMap<ReadingId, Reading>,
    members: BTreeMap<MemberId, Member>,
    flights: Flights,
    delayed: BTreeMap<(Timestamp, u64), Delayed>,
    closed_clients: HashSet<u64>,
    reachable: bool,
    waiting_for_idle: Vec<Waker>,
    ids: u64,
}

struct Member {
    client: u64,
    readings: Vec<ReadingId>,
    /// Which of the readings comes first next time.
    turn: usize,
    in_flight: usize,
    in_flight_max: usize,
    waker: Option<Waker>,
    /// The connection was lost, and the member has not been told yet.
    lost: bool,
}

enum Delayed {
    Publish(TopicId, Message),
    Retry(ReadingId, usize, u32),
}

impl State {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            now,
            capabilities: Capabilities::all(),
            bytes_max: usize::MAX,
            topics: Vec::new(),
            topics_by_name: HashMap::new(),
            readings: BTreeMap::new(),
            members: BTreeMap::new(),
            flights: Flights::default(),
            delayed: BTreeMap::new(),
            closed_clients: HashSet::new(),
            reachable: true,
            waiting_for_idle: Vec::new(),
            ids: 0,
        }
    }

    fn new_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    pub(super) fn new_client(&mut self) -> u64 {
        self.new_id()
    }

    fn check_open(&self, client: u64) -> Result<(), Error> {
        if self.closed_clients.contains(&client) {
            return Err(Error::Closed);
        }
        match self.reachable {
            true => Ok(()),
            false => Err(unreachable_broker()),
        }
    }

    // Outages

    /// Every member loses its connection and with it what it has not settled.
    pub(super) fn cut(&mut self) {
        self.reachable = false;
        let ids: Vec<MemberId> = self.members.keys().copied().collect();
        for id in ids {
            self.give_back(id);
            if let Some(member) = self.members.get_mut(&id) {
                member.in_flight = 0;
                member.lost = true;
                member.waker.take().into_iter().for_each(Waker::wake);
            }
        }
    }

    pub(super) fn heal(&mut self) {
        self.reachable = true;
        for member in self.members.values_mut() {
            member.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    pub(super) fn shut_down(&mut self, client: u64) {
        self.closed_clients.insert(client);
        let members = self.members.iter();
        let its = members.filter(|(_, member)| member.client == client);
        let its: Vec<MemberId> = its.map(|(id, _)| *id).collect();
        its.into_iter().for_each(|member| self.leave(member));
    }

    // Publishing

    pub(super) fn create_topic(&mut self, client: u64, name: &TopicName) -> Result<(), Error> {
        self.check_open(client)?;
        self.topic(name);
        Ok(())
    }

    /// The topic of that name, made if it is missing.
    fn topic(&mut self, name: &TopicName) -> TopicId {
        if let Some(topic) = self.topics_by_name.get(name) {
            return *topic;
        }
        self.topics.push(Topic {
            name: name.clone(),
            messages: Vec::new(),
            readings: Vec::new(),
        });
        let topic = self.topics.len() - 1;
        self.topics_by_name.insert(name.clone(), topic);
        topic
    }

    pub(super) fn publish(
        &mut self,
        client: u64,
        topic: &TopicName,
        message: Message,
    ) -> Result<Option<Position>, Error> {
        self.check_open(client)?;
        self.check(&message)?;
        let position = self.put(topic, message)?;
        Ok(position.filter(|_| self.capabilities.has(Capability::Positions)))
    }

    fn check(&self, message: &Message) -> Result<(), Error> {
        let (bytes, bytes_max) = (message.size(), self.bytes_max);
        if bytes > bytes_max {
            return Err(Error::TooLarge { bytes, bytes_max });
        }
        self.capabilities.check(NAME, message)
    }

    /// Appends a message, or keeps it until its time.
    fn put(&mut self, topic: &TopicName, message: Message) -> Result<Option<Position>, Error> {
        let due = deliver_at(&message)?;
        let topic = self.topic(topic);
        if let Some(due) = due.filter(|due| *due > self.now) {
            let key = (due, self.new_id());
            self.delayed.insert(key, Delayed::Publish(topic, message));
            return Ok(None);
        }
        Ok(Some(self.append(topic, message)))
    }

    fn append(&mut self, topic: TopicId, mut message: Message) -> Position {
        message.timestamp.get_or_insert(self.now);
        let topic = &mut self.topics[topic];
        topic.messages.push(message);
        for reading in &topic.readings {
            wake(&self.readings[reading].members, &mut self.members);
        }
        position(topic.messages.len() - 1)
    }

    // Subscribing

    pub(super) fn subscribe(
        &mut self,
        client: u64,
        subscription: &Subscription,
    ) -> Result<MemberId, Error> {
        self.check_open(client)?;
        let group = match &subscription.audience {
            Audience::Group(group) => Some(group.clone()),
            Audience::Everyone if self.capabilities.has(Capability::Broadcast) => None,
            Audience::Everyone => return Err(unsupported(Capability::Broadcast)),
        };
        for topic in &subscription.topics {
            if let Some(group) = &group {
                let letters = dead_letter::topic(topic, group);
                letters.map_err(|error| Error::Refused(format!("dead letters: {error}")))?;
            }
        }
        let earliest = group.is_some()
            && subscription.start == Start::Earliest
            && self.capabilities.has(Capability::History);
        let member = self.new_id();
        let mut readings = Vec::new();
        for topic in &subscription.topics {
            let topic = self.topic(topic);
            let reading = self.reading(topic, group.as_ref(), earliest);
            if !readings.contains(&reading) {
                self.joined(reading, member);
                readings.push(reading);
            }
        }
        let joined = Member {
            client,
            readings,
            turn: 0,
            in_flight: 0,
            in_flight_max: subscription.in_flight_max.max(1),
            waker: None,
            lost: false,
        };
        self.members.insert(member, joined);
        Ok(member)
    }

    fn joined(&mut self, reading: ReadingId, member: MemberId) {
        if let Some(reading) = self.readings.get_mut(&reading) {
            reading.members.push(member);
        }
    }

    /// The group's reading of the topic, which is begun if there is none.
    fn reading(&mut self, topic: TopicId, group: Option<&GroupName>, earliest: bool) -> ReadingId {
        if let Some(known) = group.and_then(|group| self.find(group, topic)) {
            return known;
        }
        let id = self.new_id();
        let cursor = match earliest {
            true => 0,
            false => self.topics[topic].messages.len(),
        };
        let reading = Reading::new(group.cloned(), topic, cursor);
        self.readings.insert(id, reading);
        self.topics[topic].readings.push(id);
        id
    }

    fn find(&self, group: &GroupName, topic: TopicId) -> Option<ReadingId> {
        let mut readings = self.topics[topic].readings.iter().copied();
        readings.find(|id| self.readings[id].group.as_ref() == Some(group))
    }

    /// A member is gone: what it had unsettled is available again, with the same attempt numbers.
    pub(super) fn leave(&mut self, member: MemberId) {
        let Some(mut gone) = self.members.remove(&member) else {
            return;
        };
        self.give_back(member);
        for id in gone.readings {
            let Some(reading) = self.readings.get_mut(&id) else {
                continue;
            };
            reading.members.retain(|other| *other != member);
            wake(&reading.members, &mut self.members);
            if reading.group.is_none() {
                self.topics[reading.topic]
                    .readings
                    .retain(|other| *other != id);
                self.readings.remove(&id);
            }
        }
        // Whoever still waits learns that it is closed.
        gone.waker.take().into_iter().for_each(Waker::wake);
        self.wake_if_idle();
    }

    /// What a member has unsettled is available again.
    fn give_back(&mut self, member: MemberId) {
        for flight in self.flights.remove_all_of(member) {
            if let Some(reading) = self.readings.get_mut(&flight.reading) {
                let message = &self.topics[reading.topic].messages[flight.offset];
                reading.unsettled -= 1;
                reading.returned.insert(flight.offset, flight.attempt);
                reading.release_key(message.key.as_ref());
            }
        }
    }

    // Delivering

    pub(super) fn poll_take(
        &mut self,
        member: MemberId,
        max: usize,
        cx: &Context<'_>,
    ) -> Poll<Result<Vec<Taken>, Error>> {
        let Some(known) = self.members.get_mut(&member) else {
            return Poll::Ready(Err(Error::Closed));
        };
        if known.lost {
            known.lost = false;
            return Poll::Ready(Err(unreachable_broker()));
        }
        if !self.reachable {
            known.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let room = known.in_flight_max - known.in_flight;
        let max = max.max(1).min(room);
        let mut taken = Vec::new();
        let first = known.turn;
        known.turn += 1;
        for at in 0..known.readings.len() {
            let reading = known.readings[(first + at) % known.readings.len()];
            let Some(reading_of) = self.readings.get_mut(&reading) else {
                continue;
            };
            let topic = &self.topics[reading_of.topic];
            while taken.len() < max {
                let Some((offset, attempt)) = reading_of.next(topic) else {
                    break;
                };
                let message = &topic.messages[offset];
                if !reading_of.admits(member, message.key.as_ref(), (offset, attempt)) {
                    continue;
                }
                reading_of.unsettled += 1;
                let token = self.flights.insert(Flight {
                    member,
                    reading,
                    offset,
                    attempt,
                });
                let has_position = self.capabilities.has(Capability::Positions);
                taken.push(Taken {
                    topic: topic.name.clone(),
                    position: has_position.then(|| position(offset)),
                    message: message.clone(),
                    attempt,
                    token,
                });
            }
        }
        known.in_flight += taken.len();
        match taken.is_empty() {
            true => {
                known.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            false => Poll::Ready(Ok(taken)),
        }
    }

    // Settling

    pub(super) fn settle(&mut self, token: Token, settlement: Settlement) {
        // The member is gone, and the message was given back when it went.
        let Some(flight) = self.flights.remove(token) else {
            return;
        };
        let (id, offset) = (flight.reading, flight.offset);
        let Some(reading) = self.readings.get_mut(&id) else {
            return;
        };
        let topic = &self.topics[reading.topic];
        match settlement {
            Settlement::Accept => reading.unsettled -= 1,
            Settlement::Release => {
                reading.unsettled -= 1;
                reading.returned.insert(offset, flight.attempt);
            }
            Settlement::Retry { after, .. } => {
                let attempt = flight.attempt.saturating_add(1);
                if after.is_zero() {
                    reading.unsettled -= 1;
                    reading.returned.insert(offset, attempt);
                } else {
                    self.ids += 1;
                    let due = (self.now.after(after), self.ids);
                    self.delayed
                        .insert(due, Delayed::Retry(id, offset, attempt));
                }
            }
            Settlement::Reject { message, failure } => {
                reading.unsettled -= 1;
                if let Some(group) = reading.group.clone() {
                    let name = topic.name.clone();
                    let at = Some(position(offset))
                        .filter(|_| self.capabilities.has(Capability::Positions));
                    let letter = dead_letter::dead_letter(message, &name, at, &group, &failure);
                    let letters = dead_letter::topic(&name, &group);
                    let letters = self.topic(&letters.expect("checked when it was subscribed to"));
                    self.append(letters, letter);
                }
            }
        }
        self.settled(&flight);
    }

    pub(super) fn accept_with(
        &mut self,
        token: Token,
        outputs: Vec<(TopicName, Message)>,
    ) -> Result<(), Error> {
        let accepted = self.check_outputs(token, &outputs);
        let outcome = match accepted {
            Ok(()) => Settlement::Accept,
            Err(_) => Settlement::Release,
        };
        if accepted.is_ok() {
            for (topic, message) in outputs {
                self.put(&topic, message)?;
            }
        }
        self.settle(token, outcome);
        accepted
    }

    /// Whether everything can be published, so that nothing fails half-way.
    fn check_outputs(&self, token: Token, outputs: &[(TopicName, Message)]) -> Result<(), Error> {
        if !self.capabilities.has(Capability::AtomicOutputs) {
            return Err(unsupported(Capability::AtomicOutputs));
        }
        if !self.reachable {
            return Err(unreachable_broker());
        }
        if self.flights.get(token).is_none() {
            let lost = "the delivery went to another consumer".to_owned();
            return Err(Error::Refused(lost));
        }
        let mut messages = outputs.iter().map(|(_, message)| message);
        messages.try_for_each(|message| {
            self.check(message)?;
            deliver_at(message).map(drop)
        })
    }

    fn settled(&mut self, flight: &Flight) {
        if let Some(member) = self.members.get_mut(&flight.member) {
            member.in_flight -= 1;
        }
        if let Some(reading) = self.readings.get_mut(&flight.reading) {
            let message = &self.topics[reading.topic].messages[flight.offset];
            reading.release_key(message.key.as_ref());
            wake(&reading.members, &mut self.members);
        }
        self.wake_if_idle();
    }

    // Time

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.delayed.keys().next().map(|(due, _)| *due)
    }

    pub(super) fn advance_to(&mut self, time: Timestamp) {
        while let Some(entry) = self.delayed.first_entry()
            && entry.key().0 <= time
        {
            let ((due, _), delayed) = entry.remove_entry();
            self.now = self.now.max(due);
            match delayed {
                Delayed::Publish(topic, message) => {
                    self.append(topic, message);
                }
                Delayed::Retry(id, offset, attempt) => {
                    if let Some(reading) = self.readings.get_mut(&id) {
                        reading.unsettled -= 1;
                        reading.returned.insert(offset, attempt);
                        wake(&reading.members, &mut self.members);
                    }
                }
            }
        }
        self.now = self.now.max(time);
    }

    // Asking

    pub(super) fn in_flight(&self) -> usize {
        let live = self.readings.values().filter(|r| !r.members.is_empty());
        let available = live.map(|reading| reading.available(&self.topics[reading.topic]));
        self.flights.len() + available.sum::<usize>()
    }

    pub(super) fn poll_idle(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.in_flight() == 0 {
            return Poll::Ready(());
        }
        self.waiting_for_idle.push(cx.waker().clone());
        Poll::Pending
    }

    fn wake_if_idle(&mut self) {
        if !self.waiting_for_idle.is_empty() && self.in_flight() == 0 {
            mem::take(&mut self.waiting_for_idle)
                .into_iter()
                .for_each(Waker::wake);
        }
    }

    pub(super) fn messages(&self, topic: &str) -> Vec<Message> {
        let topic = self.topics_by_name.get(topic);
        topic.map_or_else(Vec::new, |topic| self.topics[*topic].messages.clone())
    }

    pub(super) fn topic_names(&self) -> Vec<TopicName> {
        let mut names: Vec<_> = self.topics_by_name.keys().cloned().collect();
        names.sort();
        names
    }

    pub(super) fn scheduled(&self) -> Vec<(Timestamp, TopicName, Message)> {
        let scheduled = self.delayed.iter().filter_map(|((due, _), one)| match one {
            Delayed::Publish(topic, message) => {
                Some((*due, self.topics[*topic].name.clone(), message.clone()))
            }
            Delayed::Retry(..) => None,
        });
        scheduled.collect()
    }

    fn known(&self, group: &GroupName, topic: &TopicName) -> Option<(ReadingId, &Reading)> {
        let topic = self.topics_by_name.get(topic)?;
        let id = self.find(group, *topic)?;
        Some((id, &self.readings[&id]))
    }

    pub(super) fn lag(&self, group: &GroupName, topic: &TopicName) -> Option<usize> {
        let (_, reading) = self.known(group, topic)?;
        Some(reading.available(&self.topics[reading.topic]) + reading.unsettled)
    }

    pub(super) fn committed(&self, group: &GroupName, topic: &TopicName) -> Option<i64> {
        let (id, reading) = self.known(group, topic)?;
        let in_flight = self.flights.of(id).map(|flight| flight.offset);
        let returned = reading.returned.keys().copied();
        let delayed = self.delayed.values().filter_map(|delayed| match delayed {
            Delayed::Retry(reading, offset, _) if *reading == id => Some(*offset),
            _ => None,
        });
        let open = in_flight.chain(returned).chain(delayed);
        let first = open.chain(reading.parked()).min();
        Some(position(first.unwrap_or(reading.cursor)).offset)
    }
}

fn wake(who: &[MemberId], members: &mut BTreeMap<MemberId, Member>) {
    for id in who {
        if let Some(waker) = members.get_mut(id).and_then(|member| member.waker.take()) {
            waker.wake();
        }
    }
}

fn position(offset: usize) -> Position {
    Position {
        partition: 0,
        offset: i64::try_from(offset).unwrap_or(i64::MAX),
    }
}

fn unsupported(capability: Capability) -> Error {
    Error::Unsupported {
        transport: NAME,
        capability,
        hint: String::new(),
    }
}

fn unreachable_broker() -> Error {
    Error::Unavailable("the broker in memory is cut off".to_owned())
}
