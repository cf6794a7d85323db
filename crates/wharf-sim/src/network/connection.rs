//! The virtual network: connections that delay, are cut, and lose answers after the effect.
//!
//! Invariants: what one connection carries stays in order, as TCP keeps it; connections know nothing of
//! each other, so requests of different ones overtake each other. What was on its way when a connection
//! is cut may still arrive and be carried out, but nobody hears of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use wharf_broker::Context;
use wharf_kafka::{Disconnect, Outcome, Response, Service};
use wharf_log::disk::simulated::Random;

use crate::broker::{self, Node};
use crate::checkers::{Broken, broken};

/// What the node made of a request: connection, number of the request, answer.
type Done = (u64, u64, Result<Answer, Disconnect>);

enum Answer {
    None,
    Whole(Bytes),
    /// It could not be read while it was being sent.
    Torn,
}

/// What a client meets.
#[derive(Debug)]
pub(super) enum Event {
    /// An answer arrived for this client.
    Answer(usize, Bytes),
    /// Its connection is gone.
    Cut(usize),
}

#[derive(Debug, Default)]
struct Connection {
    client: usize,
    /// Frames on their way to the node, with the time at which they arrive.
    requests: VecDeque<(i64, Bytes)>,
    arrived: VecDeque<Bytes>,
    /// A request that must be answered before the next one is looked at.
    busy: Option<u64>,
    next_request: u64,
    next_answer: u64,
    answered: BTreeMap<u64, Option<Bytes>>,
    /// Answers on their way to the client.
    answers: VecDeque<(i64, Bytes)>,
    /// The node ends it.
    is_torn: bool,
}

/// All connections.
pub(super) struct Network {
    random: Random,
    /// How long a frame takes at most, in milliseconds.
    delay_max: u64,
    /// One connection in so many is cut in a step.
    cut_one_in: u32,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    done: Arc<Mutex<Vec<Done>>>,
    pub(super) requests: u64,
    pub(super) cuts: u64,
    pub(super) answers_lost: u64,
}

impl Network {
    pub(super) fn new(mut random: Random) -> Self {
        Self {
            delay_max: *crate::plan::pick(&[1, 20, 200], &mut random),
            cut_one_in: *crate::plan::pick(&[0, 20, 60, 200], &mut random),
            random,
            connections: BTreeMap::new(),
            next: 1,
            done: Arc::default(),
            requests: 0,
            cuts: 0,
            answers_lost: 0,
        }
    }

    pub(super) fn connect(&mut self, client: usize) -> u64 {
        let id = self.next;
        self.next += 1;
        let connection = Connection {
            client,
            ..Connection::default()
        };
        self.connections.insert(id, connection);
        id
    }

    /// Sends a frame; nothing happens when the connection is gone.
    pub(super) fn send(&mut self, id: u64, frame: Bytes, now: i64) {
        let at = self.arrival(now);
        if let Some(connection) = self.connections.get_mut(&id) {
            let after = connection.requests.back().map_or(at, |last| last.0.max(at));
            connection.requests.push_back((after, frame));
            self.requests += 1;
        }
    }

    fn arrival(&mut self, now: i64) -> i64 {
        now + i64::try_from(self.random.below(self.delay_max + 1)).unwrap_or(0)
    }

    /// The node is gone, and every connection with it.
    pub(super) fn node_died(&mut self) -> Vec<Event> {
        self.done = Arc::default();
        let gone = std::mem::take(&mut self.connections);
        gone.into_values()
            .map(|gone| Event::Cut(gone.client))
            .collect()
    }

    /// Everything that is due at `now`.
    pub(super) fn step(
        &mut self,
        node: &Node,
        service: &Service,
        now: i64,
    ) -> Result<Vec<Event>, Broken> {
        self.take_done(now)?;
        let mut events = Vec::new();
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for id in ids {
            if let Some(connection) = self.connections.get_mut(&id) {
                while let Some(frame) = due(&mut connection.requests, now) {
                    connection.arrived.push_back(frame);
                }
            }
            self.serve(id, node, service)?;
            if let Some(connection) = self.connections.get_mut(&id) {
                while let Some(answer) = due(&mut connection.answers, now) {
                    events.push(Event::Answer(connection.client, answer));
                }
            }
            let is_torn = self.connections.get(&id).is_some_and(|one| one.is_torn);
            if self.random.one_in(self.cut_one_in) || is_torn {
                events.extend(self.cut(id, node, service)?);
            }
        }
        Ok(events)
    }

    /// Cuts a connection; some of what was on its way still gets through, unheard.
    fn cut(&mut self, id: u64, node: &Node, service: &Service) -> Result<Option<Event>, Broken> {
        let through = self.random.index(4);
        if let Some(connection) = self.connections.get_mut(&id) {
            for (_, frame) in connection.requests.drain(..).take(through) {
                connection.arrived.push_back(frame);
            }
        }
        self.serve(id, node, service)?;
        let Some(gone) = self.connections.remove(&id) else {
            return Ok(None);
        };
        self.cuts += 1;
        self.answers_lost += gone.next_request - gone.next_answer + gone.answers.len() as u64;
        Ok(Some(Event::Cut(gone.client)))
    }

    /// Hands over what has arrived, one request at a time unless its work is queued already.
    fn serve(&mut self, id: u64, node: &Node, service: &Service) -> Result<(), Broken> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Ok(());
        };
        while connection.busy.is_none()
            && let Some(frame) = connection.arrived.pop_front()
        {
            let number = connection.next_request;
            connection.next_request += 1;
            let cx = Context {
                connection: id,
                ..broker::client()
            };
            let work = match service.handle(&cx, frame) {
                Ok(Outcome::Answer(answer)) => {
                    connection.busy = Some(number);
                    answer.map(|answer| answer.map(joined)).boxed()
                }
                Ok(Outcome::Queued(answer)) => answer.map(|answer| answer.map(joined)).boxed(),
                Ok(Outcome::Silent(work)) => work.map(|done| done.map(|()| Answer::None)).boxed(),
                Err(error) => return broken("a true request is answered", error.to_string()),
            };
            spawn(node, Arc::clone(&self.done), (id, number), work);
        }
        Ok(())
    }

    /// Puts finished answers on their way, in the order of the requests.
    fn take_done(&mut self, now: i64) -> Result<(), Broken> {
        let done = std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner));
        for (id, number, answer) in done {
            let at = self.arrival(now);
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            let answer = match answer {
                Ok(Answer::Torn) => {
                    connection.is_torn = true;
                    continue;
                }
                Ok(Answer::None) => None,
                Ok(Answer::Whole(frame)) => Some(frame),
                Err(error) => return broken("a true request is answered", error.to_string()),
            };
            connection.busy.take_if(|busy| *busy == number);
            connection.answered.insert(number, answer);
            while let Some(answer) = connection.answered.remove(&connection.next_answer) {
                connection.next_answer += 1;
                let after = connection.answers.back().map_or(at, |last| last.0.max(at));
                connection
                    .answers
                    .extend(answer.map(|answer| (after, answer)));
            }
        }
        Ok(())
    }
}

/// The next frame, if it has arrived.
fn due(frames: &mut VecDeque<(i64, Bytes)>, now: i64) -> Option<Bytes> {
    let arrived = frames.front().is_some_and(|first| first.0 <= now);
    arrived
        .then(|| frames.pop_front())
        .flatten()
        .map(|first| first.1)
}

fn joined(response: Response) -> Answer {
    response.joined().map_or(Answer::Torn, Answer::Whole)
}

fn spawn(
    node: &Node,
    done: Arc<Mutex<Vec<Done>>>,
    (id, number): (u64, u64),
    work: BoxFuture<'static, Result<Answer, Disconnect>>,
) {
    let task = async move {
        let answer = work.await;
        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
        done.push((id, number, answer));
    };
    wharf_broker::Runtime::spawn(&node.runtime, task.boxed());
}
