//! How groups of the consumer protocol become durable, and their answers wait for it.
//!
//! The machine runs ahead of the disk: a step changes it at once, what changed is written, and the
//! answer leaves when that and everything before it is durable. Every store is written on the
//! condition that the one before it was, so that the state on disk is always one the group was in:
//! otherwise a partition's new holder could be stored without the old one's giving it up. What was
//! refused is part of the next store, which the next request brings about.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_channel::oneshot;
use wharf_log::{Condition, Unit};

use super::keys;
use super::machine::store_failed;
use super::protocol::Protocol;
use super::shell::{Cell, Group, Inner};
use crate::{Error, ErrorKind};

/// An answer that waits for a store.
type Waiter = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// The stores of one group that are under way, and who waits for them.
#[derive(Default)]
pub(super) struct Stores {
    /// In the order of the log.
    under_way: VecDeque<Vec<Waiter>>,
    /// Answers of the step that is being made.
    waiting: Vec<Waiter>,
    /// The header that the next store expects to find; `None` when it may find anything.
    expected: Option<Bytes>,
    /// The header that is stored.
    durable: Option<Bytes>,
    /// A store was refused since the last request.
    is_refused: bool,
}

impl fmt::Debug for Stores {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} stores under way", self.under_way.len())
    }
}

impl Stores {
    /// The header was found in the log.
    pub(super) fn recover(&mut self, header: Bytes) {
        self.expected = Some(header.clone());
        self.durable = Some(header);
    }

    /// The group's next store may find anything: until now it was one of the classic protocol.
    pub(super) fn expect_anything(&mut self) {
        self.expected = None;
        self.durable = None;
    }

    pub(super) fn are_done(&self) -> bool {
        self.under_way.is_empty()
    }

    /// A request came: what was refused is tried again with it.
    pub(super) fn retry(&mut self) {
        self.is_refused = false;
    }

    /// Gives the answer once everything that the group did so far is durable.
    pub(super) fn answer<T: Send + 'static>(
        &mut self,
        answer: T,
    ) -> oneshot::Receiver<Result<T, Error>> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.push(Box::new(move |stored| {
            // Whoever stopped waiting for an answer does not need it.
            sender.send(stored.map(|()| answer)).ok();
        }));
        receiver
    }

    /// The oldest store ended.
    fn ended(&mut self, header: Bytes, result: &Result<(), Error>) {
        for waiter in self.under_way.pop_front().unwrap_or_default() {
            waiter(result.clone());
        }
        match result {
            Ok(()) => self.durable = Some(header),
            Err(_) => self.is_refused = true,
        }
        if self.under_way.is_empty() {
            self.expected = self.durable.clone();
        }
    }
}

impl Inner {
    /// Stores what the last step changed in a group of the consumer protocol.
    pub(super) fn store_changes(self: &Arc<Self>, cell: &Arc<Cell>, group: &mut Group) {
        let waiting = std::mem::take(&mut group.stores.waiting);
        let changes = match &mut group.protocol {
            Protocol::Consumer(consumer) if !group.stores.is_refused => {
                let (state, members) = consumer.take_changes(&cell.name);
                (!state.is_empty()).then(|| (state, members, consumer.stored_header()))
            }
            _ => None,
        };
        let Some((state, members, header)) = changes else {
            match group.stores.under_way.back_mut() {
                Some(last) => last.extend(waiting),
                None => waiting.into_iter().for_each(|waiter| waiter(Ok(()))),
            }
            return;
        };
        let key = keys::group(&cell.name);
        let expected = group.stores.expected.replace(header.clone());
        let unit = Unit {
            conditions: Vec::from_iter(expected.map(|value| Condition::StateEquals {
                key,
                value: Some(value),
            })),
            state,
            ..Unit::default()
        };
        group.is_stored = true;
        group.stores.under_way.push_back(waiting);
        // The waiting answers learn the outcome, nobody else needs it.
        drop(
            self.submit(cell, group, unit, move |_inner, group, result, _now| {
                store_ended(group, members, header, result);
            }),
        );
    }
}

fn store_ended(
    group: &mut Group,
    members: BTreeSet<String>,
    header: Bytes,
    result: Result<(), Error>,
) {
    let result = result.map_err(|error| match error.kind {
        // The store before it was refused.
        ErrorKind::UnknownServerError => {
            Error::new(ErrorKind::CoordinatorNotAvailable, error.message)
        }
        _ => store_failed(error),
    });
    if let (Err(_), Protocol::Consumer(consumer)) = (&result, &mut group.protocol) {
        consumer.not_stored(members);
    }
    group.stores.ended(header, &result);
    group.replan();
}
