//! What an instance comes to at a moment: a function of its events, however they were read.
//!
//! Events are *admitted* as far as all of them together allow each other: one begins the instance,
//! others are expected by rules after an admitted event, or undo one. Every admitted event takes one
//! permission of its own; which one is found by matching, so neither the order of reading nor clocks
//! that differ a little decide. What is not admitted may only be early: it is wrong when it is still
//! not admitted a while after it happened.

use std::collections::HashMap;
use std::time::Duration;

use wharf_message::Timestamp;

use super::{Consumption, Finding, Kind, Position, Verdict};
use crate::choreography::contract::slot::{Decision, Slot, decisions, slots};
use crate::choreography::contract::{Contract, End, Expect};

/// An event as the judge sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its number in the contract; `None` for one that the contract does not know.
    pub(super) event: Option<usize>,
    /// The type of one that it does not know.
    pub(super) foreign: Option<Box<str>>,
    pub(super) at: Timestamp,
    pub(super) topic: u32,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) identity: u64,
    pub(super) id: Option<Box<str>>,
    pub(super) service: Option<Box<str>>,
}

/// How far the groups have come, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Offsets(pub(super) HashMap<(String, String, i32), i64>);

/// A contract made ready.
#[derive(Clone, Debug)]
pub(super) struct Judge {
    pub(super) contract: Contract,
    slots: Vec<Slot>,
    decisions: Vec<Decision>,
    /// What each event may take.
    permits: Vec<Vec<Permit>>,
    /// The topics by number.
    pub(super) topics: Vec<String>,
    has_back_end: bool,
}

/// What may be taken once for each time that it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Permit {
    Start,
    Decision(usize),
    Undo(usize),
}

/// Which events are admitted, and what there are of them.
#[derive(Debug)]
struct Admitted {
    is: Vec<bool>,
    counts: Vec<usize>,
}

impl Judge {
    pub(super) fn new(contract: Contract) -> Self {
        let slots = slots(&contract);
        let decisions = decisions(&slots);
        let permits = |event: usize| {
            let mut all = Vec::new();
            if contract.starts.contains(&event) {
                all.push(Permit::Start);
            }
            let expected = decisions.iter().enumerate();
            let expected = expected.filter(|(_, decision)| decision.events.contains(&event));
            all.extend(expected.map(|(index, _)| Permit::Decision(index)));
            all.extend(contract.events[event].undoes.map(Permit::Undo));
            all
        };
        Self {
            permits: (0..contract.events.len()).map(permits).collect(),
            topics: contract.topics().into_iter().map(str::to_owned).collect(),
            has_back_end: contract
                .events
                .iter()
                .any(|event| event.end == Some(End::Compensated)),
            slots,
            decisions,
            contract,
        }
    }

    /// What the events, which are in the order of their times, come to at `now`: when everything that
    /// happened before it was read.
    pub(super) fn judge(&self, events: &[Seen], now: Timestamp, offsets: &Offsets) -> Verdict {
        let admitted = self.admit(events);
        let mut case = Case {
            judge: self,
            events,
            now,
            admitted: &admitted,
            findings: Vec::new(),
            due: None,
            is_open: false,
        };
        case.unadmitted();
        case.services();
        let back = case.back();
        case.expected(back.is_some(), offsets);
        if let Some((since, within)) = back {
            case.undone(since, within);
        }
        case.verdict(back.is_some())
    }

    /// Whether an instance began, rather than that only its rest was seen.
    pub(super) fn began(&self, events: &[Seen]) -> bool {
        let begins = |seen: &Seen| {
            seen.event
                .is_some_and(|event| self.contract.starts.contains(&event))
        };
        events.iter().any(begins)
    }

    /// Everything is admitted at first; what finds no permission, or hangs in the air, is taken out
    /// until the rest holds together.
    fn admit(&self, events: &[Seen]) -> Admitted {
        let known = events.iter().map(|seen| seen.event.is_some()).collect();
        let first = self.settle(events, known, None);
        let finals = events.iter().zip(&first.is).filter(|(_, is)| **is);
        let mut finals =
            finals.filter(|(seen, _)| seen.event.is_some_and(|event| self.is_final(event)));
        // Nothing is undone after the pivot or the end, but for what a rule asks for.
        match finals.next() {
            Some((last, _)) => {
                let known = events.iter().map(|seen| seen.event.is_some()).collect();
                self.settle(events, known, Some(last.at))
            }
            None => first,
        }
    }

    fn settle(&self, events: &[Seen], mut is: Vec<bool>, last: Option<Timestamp>) -> Admitted {
        loop {
            let mut counts = vec![0; self.contract.events.len()];
            for (seen, _) in events.iter().zip(&is).filter(|(_, is)| **is) {
                counts[seen.event.unwrap_or(0)] += 1;
            }
            let grounded = self.grounded(&counts);
            let mut taken: HashMap<Permit, Vec<usize>> = HashMap::new();
            let mut changed = false;
            for (seen, is) in events.iter().zip(&mut is).filter(|(_, is)| **is) {
                let event = seen.event.unwrap_or(0);
                let mut tried = match last.is_some_and(|last| seen.at > last) {
                    true => self.contract.events[event]
                        .undoes
                        .map(Permit::Undo)
                        .into_iter()
                        .collect(),
                    false => Vec::new(),
                };
                if !grounded[event] || !self.take(event, &counts, &mut taken, &mut tried) {
                    *is = false;
                    changed = true;
                }
            }
            if !changed {
                return Admitted { is, counts };
            }
        }
    }

    /// Which events follow from a beginning.
    fn grounded(&self, counts: &[usize]) -> Vec<bool> {
        let mut grounded = vec![false; counts.len()];
        loop {
            let mut changed = false;
            for event in (0..counts.len()).filter(|event| counts[*event] > 0) {
                let holds = |permit: &Permit| match permit {
                    Permit::Start => true,
                    Permit::Decision(decision) => {
                        let mut slots = self.decisions[*decision].slots.iter();
                        slots.any(|slot| grounded[self.slots[*slot].on])
                    }
                    Permit::Undo(done) => grounded[*done],
                };
                if !grounded[event] && self.permits[event].iter().any(holds) {
                    grounded[event] = true;
                    changed = true;
                }
            }
            if !changed {
                return grounded;
            }
        }
    }

    /// How often a permission is given.
    fn given(&self, permit: Permit, counts: &[usize]) -> usize {
        match permit {
            Permit::Start => 1,
            Permit::Decision(decision) => self.rounds(decision, counts),
            Permit::Undo(done) => counts[done],
        }
    }

    /// How often a decision is to be taken: together for those that wait for it, and once more for
    /// every time round a loop.
    fn rounds(&self, decision: usize, counts: &[usize]) -> usize {
        let slots = self.decisions[decision]
            .slots
            .iter()
            .map(|slot| &self.slots[*slot]);
        let (mut together, mut loops) = (0, 0);
        for slot in slots {
            match slot.is_loop {
                true => loops += counts[slot.on],
                false => together = together.max(counts[slot.on]),
            }
        }
        together + loops
    }

    fn is_final(&self, event: usize) -> bool {
        self.contract.pivot == Some(event) || self.contract.is_end(event, End::Completed)
    }

    /// Takes a permission for an event, moving others to where they have another one.
    fn take(
        &self,
        event: usize,
        counts: &[usize],
        taken: &mut HashMap<Permit, Vec<usize>>,
        tried: &mut Vec<Permit>,
    ) -> bool {
        for permit in &self.permits[event] {
            if tried.contains(permit) {
                continue;
            }
            // Every permission is tried once, which bounds the depth.
            tried.push(*permit);
            let holders = taken.entry(*permit).or_default();
            if holders.len() < self.given(*permit, counts) {
                holders.push(event);
                return true;
            }
            let holders = holders.clone();
            for (place, holder) in holders.into_iter().enumerate() {
                if holder != event && self.take(holder, counts, taken, tried) {
                    taken.entry(*permit).or_default()[place] = event;
                    return true;
                }
            }
        }
        false
    }
}

/// One judgement.
struct Case<'a> {
    judge: &'a Judge,
    events: &'a [Seen],
    now: Timestamp,
    admitted: &'a Admitted,
    findings: Vec<Finding>,
    due: Option<Timestamp>,
    /// Whether something is still to come, in time.
    is_open: bool,
}

impl<'a> Case<'a> {
    fn contract(&self) -> &'a Contract {
        &self.judge.contract
    }

    fn count(&self, event: usize) -> usize {
        self.admitted.counts[event]
    }

    /// Whether a time is over; otherwise it is waited for.
    fn is_over(&mut self, time: Timestamp) -> bool {
        if time < self.now {
            return true;
        }
        self.is_open = true;
        // A moment later it is over.
        let moment = time.after(Duration::from_millis(1));
        self.due = Some(self.due.map_or(moment, |due| due.min(moment)));
        false
    }

    fn position(&self, seen: &Seen) -> Position {
        let topic = usize::try_from(seen.topic).ok();
        let topic = topic.and_then(|topic| self.judge.topics.get(topic));
        Position {
            topic: topic.cloned().unwrap_or_default(),
            partition: seen.partition,
            offset: seen.offset,
        }
    }

    /// What nothing allows.
    fn unadmitted(&mut self) {
        let began = self.judge.began(self.events);
        for (index, seen) in self.events.iter().enumerate() {
            if self.admitted.is[index] {
                continue;
            }
            let Some(event) = seen.event else {
                let event = seen.foreign.as_deref().unwrap_or("").to_owned();
                let why = "the contract does not know it".to_owned();
                let position = self.position(seen);
                self.findings.push(Finding::Unexpected {
                    event,
                    position,
                    why,
                });
                continue;
            };
            if !self.is_over(seen.at.after(self.contract().reorder)) {
                continue;
            }
            let finding = self.wrong(seen, event, began);
            self.findings.push(finding);
        }
        self.never_done();
        self.two_ends();
    }

    /// An instance that ended has not ended otherwise.
    fn two_ends(&mut self) {
        let events = 0..self.contract().events.len();
        let ends = events.filter(|event| self.contract().events[*event].end.is_some());
        let mut ends: Vec<&Seen> = ends
            .filter_map(|event| self.admitted(event).next())
            .collect();
        ends.sort_by_key(|seen| seen.at);
        let end = |seen: &Seen| self.contract().events[seen.event.unwrap_or(0)].end;
        let Some(first) = ends.first() else { return };
        if let Some(other) = ends.iter().find(|other| end(other) != end(first)) {
            let name = |seen: &Seen| self.contract().event(seen.event.unwrap_or(0)).to_owned();
            let finding = Finding::Unexpected {
                event: name(other),
                position: self.position(other),
                why: format!("the instance has ended with {}", name(first)),
            };
            self.findings.push(finding);
        }
    }

    fn wrong(&self, seen: &Seen, event: usize, began: bool) -> Finding {
        let name = self.contract().event(event).to_owned();
        let position = self.position(seen);
        let undoes = self.contract().events[event].undoes;
        if let Some(done) = undoes.filter(|done| self.count(*done) == 0) {
            return Finding::NeverDone {
                undo: name,
                done: self.contract().event(done).to_owned(),
                position,
            };
        }
        if self.count(event) > 0 {
            return Finding::Again {
                event: name,
                position,
                id: seen.id.as_deref().map(str::to_owned),
            };
        }
        let mut events = 0..self.contract().events.len();
        let is_final = events.any(|event| self.judge.is_final(event) && self.count(event) > 0);
        let why = match (began, undoes) {
            (false, _) => "nothing has begun the instance".to_owned(),
            (true, Some(_)) if is_final => {
                "nothing is undone any more after the pivot or the end".to_owned()
            }
            _ => "no rule expects it after what has happened".to_owned(),
        };
        Finding::Unexpected {
            event: name,
            position,
            why,
        }
    }

    /// Undos that rules asked for, of what was never done.
    fn never_done(&mut self) {
        for (number, event) in self.judge.contract.events.iter().enumerate() {
            let Some(done) = event.undoes else { continue };
            if self.count(number) <= self.count(done) {
                continue;
            }
            let seen = self.last(number);
            let Some(seen) = seen else { continue };
            if self.is_over(seen.at.after(self.contract().reorder)) {
                let finding = Finding::NeverDone {
                    undo: event.name.clone(),
                    done: self.contract().event(done).to_owned(),
                    position: self.position(seen),
                };
                self.findings.push(finding);
            }
        }
    }

    fn admitted(&self, event: usize) -> impl Iterator<Item = &'a Seen> + use<'a> {
        let all = self.events.iter().zip(&self.admitted.is);
        all.filter(move |(seen, is)| **is && seen.event == Some(event))
            .map(|(seen, _)| seen)
    }

    fn last(&self, event: usize) -> Option<&'a Seen> {
        self.admitted(event).last()
    }

    /// Events of another service than the contract says.
    fn services(&mut self) {
        for seen in self.events {
            let Some(event) = seen.event else { continue };
            let event_of = &self.contract().events[event];
            // A dead letter still names who made what it was.
            let from = event_of
                .from
                .as_deref()
                .filter(|_| event_of.dead_letter_of.is_none());
            let (Some(from), Some(service)) = (from, seen.service.as_deref()) else {
                continue;
            };
            // A source may be written as a path or an address that ends with the service's name.
            let name = service.trim_end_matches('/').rsplit('/').next();
            if from != service && Some(from) != name {
                let finding = Finding::Unexpected {
                    event: self.contract().event(event).to_owned(),
                    position: self.position(seen),
                    why: format!("it comes from {service}, and not from {from}"),
                };
                self.findings.push(finding);
            }
        }
    }

    /// Since when the instance is on its way back, and how long that may take.
    fn back(&self) -> Option<(Timestamp, Duration)> {
        let contract = self.contract();
        let asked = contract
            .rules
            .iter()
            .filter(|rule| rule.expect == Expect::Compensation);
        let asked = asked.filter_map(|rule| Some((self.admitted(rule.on).next()?.at, rule.within)));
        let completed = self.ended(End::Completed);
        let is_sign = |event: usize| {
            let is_undo = contract.events[event].undoes.is_some();
            contract.is_end(event, End::Compensated) || (is_undo && !completed)
        };
        let signs = (0..contract.events.len()).filter(|event| is_sign(*event));
        let signs =
            signs.filter_map(|event| Some((self.admitted(event).next()?.at, contract.undo_within)));
        // The longest of the times that are given.
        asked
            .chain(signs)
            .max_by_key(|(at, within)| at.after(*within))
    }

    fn ended(&self, end: End) -> bool {
        let contract = self.contract();
        (0..contract.events.len()).any(|event| contract.is_end(event, end) && self.count(event) > 0)
    }

    /// What rules expect and did not get.
    fn expected(&mut self, is_back: bool, offsets: &Offsets) {
        for decision in &self.judge.decisions {
            let got: usize = decision.events.iter().map(|event| self.count(*event)).sum();
            // The rounds that were answered are the first ones.
            for (slot, seen) in self.rounds(decision).into_iter().skip(got).flatten() {
                if is_back && slot.is_forward {
                    continue;
                }
                let due = seen.at.after(self.contract().rules[slot.rule].within);
                if self.is_over(due) {
                    let finding = self.missing(slot, seen, due, offsets);
                    self.findings.push(finding);
                }
            }
        }
    }

    /// What waits for a decision, in the rounds in which it is answered.
    fn rounds(&self, decision: &Decision) -> Vec<Vec<(&'a Slot, &'a Seen)>> {
        let mut rounds: Vec<Vec<(&Slot, &Seen)>> = Vec::new();
        let mut loops = Vec::new();
        for slot in decision.slots.iter().map(|slot| &self.judge.slots[*slot]) {
            let waiting = self.admitted(slot.on);
            if slot.is_loop {
                loops.extend(waiting.map(|seen| vec![(slot, seen)]));
                continue;
            }
            for (round, seen) in waiting.enumerate() {
                match rounds.get_mut(round) {
                    Some(round) => round.push((slot, seen)),
                    None => rounds.push(vec![(slot, seen)]),
                }
            }
        }
        rounds.extend(loops);
        let first = |round: &Vec<(&Slot, &Seen)>| round.iter().map(|(_, seen)| seen.at).min();
        rounds.sort_by_key(first);
        rounds
    }

    fn missing(&self, slot: &Slot, seen: &Seen, due: Timestamp, offsets: &Offsets) -> Finding {
        let contract = self.contract();
        let position = self.position(seen);
        let names = slot
            .events
            .iter()
            .map(|event| contract.event(*event).to_owned());
        let group = contract.group(slot.rule, &slot.events).map(str::to_owned);
        let consumption = match group {
            None => Consumption::Unknown,
            Some(group) => {
                let place = (group.clone(), position.topic.clone(), seen.partition);
                match offsets.0.get(&place).copied() {
                    None => Consumption::NothingCommitted { group },
                    Some(committed) if committed <= seen.offset => {
                        Consumption::NeverConsumed { group, committed }
                    }
                    Some(_) => Consumption::ConsumedWithoutSuccessor { group },
                }
            }
        };
        Finding::Missing {
            expected: names.collect(),
            after: contract.event(slot.on).to_owned(),
            position,
            due: due.to_rfc3339(),
            consumption,
        }
    }

    /// On the way back: everything that was done is undone.
    fn undone(&mut self, since: Timestamp, within: Duration) {
        let contract = &self.judge.contract;
        let (mut undone, mut left) = (Vec::new(), Vec::new());
        for (number, event) in contract.events.iter().enumerate() {
            let Some(undo) = event.undo else { continue };
            let (done, back) = (self.count(number), self.count(undo));
            if back > 0 && done > 0 {
                undone.push(Finding::Undone {
                    done: event.name.clone(),
                    undo: contract.event(undo).to_owned(),
                });
            }
            let Some(last) = self.last(number).filter(|_| done > back) else {
                continue;
            };
            let due = last.at.max(since).after(within);
            if self.is_over(due) {
                left.push(Finding::NotUndone {
                    done: event.name.clone(),
                    undo: contract.event(undo).to_owned(),
                    due: due.to_rfc3339(),
                });
            }
        }
        // An undo that a rule misses is as absent as one that nobody asked for.
        let misses_undo = self.findings.iter().any(|finding| match finding {
            Finding::Missing { expected, .. } => contract
                .events
                .iter()
                .any(|event| event.undoes.is_some() && expected.contains(&event.name)),
            _ => false,
        });
        let is_half = !left.is_empty() || misses_undo;
        self.findings.extend(left);
        if is_half {
            self.findings.extend(undone);
        }
    }

    fn verdict(self, is_back: bool) -> Verdict {
        let worst = self.findings.iter().map(Finding::kind).max();
        let back_end = self.ended(End::Compensated) || !self.judge.has_back_end;
        let verdict = match worst {
            Some(worst) => worst,
            None if self.is_open => Kind::Running,
            None if is_back && back_end => Kind::Compensated,
            None if self.ended(End::Completed) && !is_back => Kind::Completed,
            None => Kind::Running,
        };
        Verdict {
            verdict,
            findings: self.findings,
            due: self.due,
        }
    }
}
