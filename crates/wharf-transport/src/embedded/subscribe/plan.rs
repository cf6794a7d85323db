//! What the next unit of the log carries out, and what follows from its outcome.
//!
//! Invariant: what is accepted together with outputs is settled by the unit that appends them, as the
//! group's offset says it or the metadata beside it (`whole.rs`).

use std::collections::{HashMap, HashSet, VecDeque};

use tokio::time::Instant;
use wharf_message::transport::{Error, Token};

use super::state::{Phase, State};
use super::work::Work;
use crate::log::{Slot, TopicPartition};

/// What one unit appends for settlements together; a single one may append more.
const UNIT_BYTES_MAX: usize = 512 << 10;

/// What one unit is to carry out.
pub(super) struct Plan {
    pub(super) works: Vec<Work>,
    pub(super) watermarks: Vec<(TopicPartition, i64)>,
    /// Accepted with outputs, and not before the watermark: said in its metadata.
    pub(super) accepted: Vec<(Slot, i64)>,
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        self.works.is_empty() && self.watermarks.is_empty()
    }
}

impl State {
    /// What the next unit carries out.
    pub(super) fn plan(&mut self, now: Instant) -> Plan {
        self.has_work = false;
        self.is_dirty = false;
        let works = match self.works.is_empty() {
            true => Vec::new(),
            false => self.choose(now),
        };
        let mut watermarks = self.tracker.uncommitted();
        let mut accepted = Vec::new();
        if self.group.is_none() {
            self.tracker.committed(&watermarks);
            watermarks.clear();
        } else if !works.is_empty() {
            let chosen = works.iter().map(|work| work.token).collect();
            let ahead = self.tracker.prefix(&chosen);
            watermarks.retain(|(of, _)| ahead.watermarks.iter().all(|(other, _)| other != of));
            watermarks.extend(ahead.watermarks);
            for work in works.iter().filter(|work| work.is_atomic()) {
                let slot = Slot::of(work.token);
                let Some((of, offset)) = self.tracker.origin(work.token) else {
                    continue;
                };
                let known = watermarks.iter().any(|(other, _)| other == of);
                if ahead.tokens.contains(&work.token) {
                    continue;
                }
                accepted.push((slot, offset));
                if let Some(watermark) = self.tracker.watermark(slot).filter(|_| !known) {
                    watermarks.push((of.clone(), watermark));
                }
            }
        }
        Plan {
            works,
            watermarks,
            accepted,
        }
    }

    /// The settlements of the next unit. Outputs that belong to an acceptance wait when neither the
    /// offset nor its metadata can say that it happened.
    fn choose(&mut self, now: Instant) -> Vec<Work> {
        let (mut works, mut left) = (Vec::<Work>::new(), VecDeque::new());
        let (mut bytes, mut is_more) = (0, false);
        for work in std::mem::take(&mut self.works) {
            let is_due = work.not_before.is_none_or(|time| time <= now);
            let is_alone = work.is_alone || works.first().is_some_and(|first| first.is_alone);
            let fits = works.is_empty() || !is_alone && bytes + work.bytes() <= UNIT_BYTES_MAX;
            if is_due && fits {
                bytes += work.bytes();
                works.push(work);
            } else {
                is_more |= is_due;
                left.push_back(work);
            }
        }
        self.works = left;
        self.has_work |= is_more;
        if self.group.is_none() {
            return works;
        }
        let chosen = works.iter().map(|work| work.token).collect();
        let prefix: HashSet<Token> = self.tracker.prefix(&chosen).tokens.into_iter().collect();
        let mut named = HashMap::<Slot, usize>::new();
        let (works, waiting): (Vec<Work>, Vec<Work>) = works.into_iter().partition(|work| {
            if !work.is_atomic() || prefix.contains(&work.token) {
                return true;
            }
            let slot = Slot::of(work.token);
            let part = self.parts.get(&slot);
            let named = named
                .entry(slot)
                .or_insert_with(|| part.map_or(0, |part| part.accepted.len()));
            *named += 1;
            *named <= self.accepted_max
        });
        for work in waiting.into_iter().rev() {
            self.works.push_front(work);
        }
        works
    }

    /// A unit is durable. Whether `next` waits for what it settled.
    pub(super) fn carried_out(&mut self, plan: Plan) -> bool {
        self.tracker.committed(&plan.watermarks);
        for (slot, offset) in plan.accepted {
            if let Some(part) = self.parts.get_mut(&slot) {
                part.accepted.insert(offset);
            }
        }
        for (of, watermark) in &plan.watermarks {
            let part = self.parts.values_mut().find(|part| part.partition == *of);
            if let Some(part) = part.filter(|part| !part.accepted.is_empty()) {
                part.accepted = part.accepted.split_off(watermark);
            }
        }
        let mut is_awaited = false;
        for work in plan.works {
            is_awaited |= self.done(work.token);
            work.answer(Ok(()));
        }
        is_awaited
    }

    /// A unit was refused: its settlements are tried again, after `not_before` if that is given,
    /// each alone if one of them may be to blame.
    pub(super) fn put_back(&mut self, plan: Plan, not_before: Option<Instant>, is_alone: bool) {
        for mut work in plan.works.into_iter().rev() {
            work.not_before = not_before;
            work.is_alone |= is_alone;
            self.works.push_front(work);
        }
        self.is_dirty = true;
        self.has_work |= not_before.is_none();
    }

    /// An acceptance was refused for good: its delivery comes again.
    pub(super) fn refuse(&mut self, work: Work, error: Error) {
        let slot = Slot::of(work.token);
        if self.tracker.release(work.token) {
            self.seek(slot);
            self.count_out(slot);
        }
        work.answer(Err(error));
    }

    /// When something that was refused is tried again.
    pub(super) fn next_try(&self) -> Option<Instant> {
        self.works.iter().filter_map(|work| work.not_before).min()
    }

    /// Whether everything settled was carried out.
    pub(super) fn is_settled(&self) -> bool {
        self.works.is_empty() && !self.is_dirty
    }

    /// Tells whoever still waits that nothing more is carried out.
    pub(super) fn end(&mut self) {
        self.phase = Phase::Ended;
        for work in std::mem::take(&mut self.works) {
            work.answer(Err(Error::Closed));
        }
        let slots: Vec<Slot> = self.parts.keys().copied().collect();
        for slot in slots {
            self.revoke(slot);
        }
    }
}
