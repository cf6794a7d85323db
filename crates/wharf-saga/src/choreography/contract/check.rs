//! The static checks: every path that the rules allow is walked, and what cannot work is found before
//! anything runs.
//!
//! Events of different branches commute, so only decisions are explored, not orders. The walk is
//! bounded; a contract that is too large for it is told so and is not taken to be good.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::read::at;
use super::slot::{Decision, Slot, decisions, slots};
use super::{Contract, End, Event, Expect, Problem};

/// How many states are walked.
const STATES_MAX: usize = 20_000;
/// How many open expectations a state may have.
const PENDING_MAX: usize = 200;
/// The longest path that is shown.
const SHOWN_MAX: usize = 12;

/// Everything that cannot work.
pub fn check(contract: &Contract) -> Vec<Problem> {
    let slots = slots(contract);
    let decisions = decisions(&slots);
    let mut walk = Walk {
        contract,
        slots: &slots,
        decisions: &decisions,
        states: Vec::new(),
        known: HashMap::new(),
        before: Vec::new(),
        follows: Vec::new(),
        problems: BTreeSet::new(),
        ended: BTreeMap::new(),
        together: BTreeSet::new(),
        before_pivot: BTreeSet::new(),
        seen: BTreeSet::new(),
    };
    walk.decisions();
    if walk.explore() {
        walk.ways_out();
        walk.names();
        walk.undos();
    }
    walk.problems.into_iter().collect()
}

/// What has happened, and what is expected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    seen: BTreeSet<usize>,
    /// Decisions that are waited for, as often as they are.
    pending: Vec<usize>,
    /// Decisions that were taken: whoever waits for one later has it already.
    taken: BTreeSet<usize>,
    /// Whether a rule has asked for everything to be undone.
    asked: bool,
}

struct Walk<'a> {
    contract: &'a Contract,
    slots: &'a [Slot],
    decisions: &'a [Decision],
    states: Vec<State>,
    known: HashMap<State, usize>,
    /// The state and the event that each came of.
    before: Vec<Option<(usize, usize)>>,
    follows: Vec<Vec<usize>>,
    problems: BTreeSet<Problem>,
    /// States where nothing is expected any more, and whether an end was seen.
    ended: BTreeMap<usize, bool>,
    /// Pairs of decisions that are waited for at once.
    together: BTreeSet<(usize, usize)>,
    before_pivot: BTreeSet<usize>,
    seen: BTreeSet<usize>,
}

impl Walk<'_> {
    fn problem(&mut self, path: String, sentence: String) {
        self.problems.insert(Problem::new(path, sentence));
    }

    fn name(&self, event: usize) -> &str {
        self.contract.event(event)
    }

    fn names_of(&self, events: &[usize]) -> String {
        let names: Vec<&str> = events.iter().map(|event| self.name(*event)).collect();
        names.join(", ")
    }

    /// Each decision is made by one participant.
    fn decisions(&mut self) {
        for rule in &self.contract.rules {
            let Expect::OneOf(events) = &rule.expect else {
                continue;
            };
            if events.len() < 2 {
                continue;
            }
            let from = |event: &usize| self.contract.events[*event].from.as_deref();
            let services: BTreeSet<Option<&str>> = events.iter().map(from).collect();
            let names = self.names_of(events);
            if services.contains(&None) {
                let sentence =
                    format!("nothing says who decides between {names}: give the rule a `from:`");
                self.problem(format!("{}/expect", rule.path), sentence);
            } else if services.len() > 1 {
                let services: Vec<&str> = services.into_iter().flatten().collect();
                let sentence = format!(
                    "{names} exclude each other, but {} decide apart from each other, so both may happen; let one of them decide",
                    services.join(" and ")
                );
                self.problem(format!("{}/expect", rule.path), sentence);
            }
        }
    }

    /// Walks all states; false when there are too many.
    fn explore(&mut self) -> bool {
        for start in &self.contract.starts {
            let state = self.occur(&State::default(), *start, None);
            self.reach(state, None);
        }
        let mut next = 0;
        while next < self.states.len() {
            if self.states.len() > STATES_MAX || self.states[next].pending.len() > PENDING_MAX {
                let sentence = format!(
                    "the contract allows more than {STATES_MAX} states, too many to check: split it into smaller ones"
                );
                self.problem("/rules".to_owned(), sentence);
                return false;
            }
            self.step(next);
            next += 1;
        }
        true
    }

    fn reach(&mut self, state: State, before: Option<(usize, usize)>) {
        let index = match self.known.get(&state) {
            Some(index) => *index,
            None => {
                let index = self.states.len();
                self.known.insert(state.clone(), index);
                self.states.push(state);
                self.before.push(before);
                self.follows.push(Vec::new());
                index
            }
        };
        if let Some((from, _)) = before {
            self.follows[from].push(index);
        }
    }

    /// The state after an event, which answers the pending decision at `place`.
    fn occur(&mut self, state: &State, event: usize, place: Option<usize>) -> State {
        let mut after = state.clone();
        if let Some(place) = place {
            after.pending.remove(place);
        }
        let answered = place.map(|place| state.pending[place]);
        if self.matters(event) {
            after.seen.insert(event);
        }
        self.seen.insert(event);
        let pivot = self.contract.pivot;
        if pivot.is_some_and(|pivot| !state.seen.contains(&pivot)) {
            self.before_pivot.insert(event);
        }
        for (number, decision) in self.decisions.iter().enumerate() {
            if !decision.events.contains(&event) {
                continue;
            }
            after.taken.insert(number);
            // Whoever else waits for it has it too.
            let other = after.pending.iter().position(|one| *one == number);
            if let Some(place) = other.filter(|_| answered != Some(number)) {
                after.pending.remove(place);
            }
        }
        for (number, decision) in self.decisions.iter().enumerate() {
            let slots = decision.slots.iter().map(|slot| &self.slots[*slot]);
            for slot in slots.filter(|slot| slot.on == event) {
                let waits = after.pending.contains(&number) || after.taken.contains(&number);
                if slot.is_loop || !waits {
                    after.pending.push(number);
                }
            }
        }
        after.pending.sort_unstable();
        let rules = self.contract.rules.iter();
        let asks = |rule: &super::Rule| rule.on == event && rule.expect == Expect::Compensation;
        after.asked |= rules.into_iter().any(asks);
        after
    }

    /// The rule that a decision is shown with.
    fn shown(&self, decision: usize) -> &Slot {
        &self.slots[self.decisions[decision].slots[0]]
    }

    /// Whether it makes a difference later that this has happened.
    fn matters(&self, number: usize) -> bool {
        let event = &self.contract.events[number];
        let is_start = self.contract.starts.contains(&number);
        let is_bound = event.undo.is_some() || event.undoes.is_some() || event.end.is_some();
        is_start || is_bound || !event.is_notice || self.contract.pivot == Some(number)
    }

    fn is_back(&self, state: &State) -> bool {
        let events = &self.contract.events;
        let has = |is: &dyn Fn(&Event) -> bool| state.seen.iter().any(|event| is(&events[*event]));
        let completed = has(&|event| event.end == Some(End::Completed));
        state.asked
            || has(&|event| event.end == Some(End::Compensated))
            || (!completed && has(&|event| event.undoes.is_some()))
    }

    /// What was done and not undone.
    fn left(&self, state: &State) -> Vec<(usize, usize)> {
        let done = state.seen.iter().filter_map(|event| {
            let undo = self.contract.events[*event].undo?;
            (!state.seen.contains(&undo)).then_some((*event, undo))
        });
        done.collect()
    }

    /// Everything that may happen in a state.
    fn step(&mut self, index: usize) {
        let state = self.states[index].clone();
        self.conditions(index, &state);
        let is_back = self.is_back(&state);
        let Some(number) = state.pending.first().copied() else {
            if state.asked
                && let Some((_, undo)) = self.left(&state).first().copied()
            {
                let after = self.occur(&state, undo, None);
                self.reach(after, Some((index, undo)));
                return;
            }
            self.terminal(index, &state, is_back);
            return;
        };
        let slot = self.shown(number).clone();
        if is_back && slot.is_forward {
            self.may_still_come(index, &state, &slot);
            return;
        }
        for event in &slot.events {
            let undoes = self.contract.events[*event].undoes;
            if let Some(done) = undoes.filter(|done| !state.seen.contains(done)) {
                let (undo, done, path) = (self.name(*event), self.name(done), self.way(index));
                let sentence = format!(
                    "`{undo}` is expected where `{done}`, which it undoes, has not happened: {path}; `expect: compensation` asks only for the undo of what was done"
                );
                self.problem(self.rule_path(slot.rule, "expect"), sentence);
            }
            let after = self.occur(&state, *event, Some(0));
            self.reach(after, Some((index, *event)));
        }
    }

    /// On the way back nothing further is waited for, but what was under way may still come.
    fn may_still_come(&mut self, index: usize, state: &State, slot: &Slot) {
        for event in &slot.events {
            self.needs_undo(*event, Some(index));
            let Some(undo) = self.contract.events[*event].undo.filter(|_| !state.asked) else {
                continue;
            };
            let (event, undo, way) = (self.name(*event), self.name(undo), self.way(index));
            let sentence = format!(
                "`{event}` may still come when all is undone, and nobody is expected to answer it by `{undo}`: {way}; `expect: compensation` where the way back begins"
            );
            self.problem(at("/compensation", event), sentence);
        }
        let mut after = state.clone();
        after.pending.remove(0);
        self.reach(after, Some((index, usize::MAX)));
    }

    fn conditions(&mut self, index: usize, state: &State) {
        let waits: BTreeSet<usize> = state.pending.iter().copied().collect();
        for one in &waits {
            for other in waits.range(one + 1..) {
                self.together.insert((*one, *other));
            }
        }
        let pivot = self
            .contract
            .pivot
            .filter(|pivot| state.seen.contains(pivot));
        if let Some(pivot) = pivot.filter(|_| self.is_back(state)) {
            let (pivot, way) = (self.name(pivot).to_owned(), self.way(index));
            let sentence = format!("after the pivot `{pivot}` nothing may be undone, but: {way}");
            self.problem("/pivot".to_owned(), sentence);
        }
    }

    /// Nothing is expected any more.
    fn terminal(&mut self, index: usize, state: &State, is_back: bool) {
        let ends: BTreeSet<End> = state
            .seen
            .iter()
            .filter_map(|event| self.contract.events[*event].end)
            .collect();
        let has_back_end = self
            .contract
            .events
            .iter()
            .any(|event| event.end == Some(End::Compensated));
        let is_good = !ends.is_empty() || (is_back && !has_back_end);
        self.ended.insert(index, is_good);
        if !is_good {
            let (path, way) = (self.last_path(index), self.way(index));
            let sentence =
                format!("a dead end: nothing is expected any more, and no end was reached: {way}");
            self.problem(path, sentence);
        }
        if ends.len() > 1 {
            let sentence = format!(
                "an instance may end both completed and compensated: {}",
                self.way(index)
            );
            self.problem("/ends".to_owned(), sentence);
        }
        if !is_back {
            return;
        }
        for (done, undo) in self.left(state) {
            let (done, undo, way) = (self.name(done), self.name(undo), self.way(index));
            let sentence = format!(
                "nobody is expected to undo `{done}` by `{undo}` here: {way}; expect it, or `expect: compensation`"
            );
            self.problem(
                at(
                    "/compensation",
                    self.name(
                        self.contract
                            .events
                            .iter()
                            .position(|event| event.name == *done)
                            .unwrap_or(0),
                    ),
                ),
                sentence,
            );
        }
        for event in &state.seen {
            self.needs_undo(*event, Some(index));
        }
    }

    /// A doing event that may have to be undone has an undo.
    fn needs_undo(&mut self, number: usize, index: Option<usize>) {
        let event = &self.contract.events[number];
        let has = event.undo.is_some() || event.undoes.is_some() || event.end.is_some();
        if has || event.is_notice || self.contract.pivot == Some(number) {
            return;
        }
        let why = match index {
            Some(index) => format!("has happened when all is undone: {}", self.way(index)),
            None => "happens before the pivot".to_owned(),
        };
        let sentence = format!(
            "`{}` {why}; but nothing undoes it: name its undo under `compensation:`, or say `effect: none` if it changes nothing",
            event.name
        );
        let path = at("/events", &event.name);
        // One way to it is enough.
        if !self.problems.iter().any(|problem| problem.path == path) {
            self.problem(path, sentence);
        }
    }

    fn undos(&mut self) {
        for event in self.before_pivot.clone() {
            self.needs_undo(event, None);
        }
    }

    /// From everywhere an end can be reached.
    fn ways_out(&mut self) {
        let mut comes_from = vec![Vec::new(); self.states.len()];
        for (from, follows) in self.follows.iter().enumerate() {
            for to in follows {
                comes_from[*to].push(from);
            }
        }
        let mut out = vec![false; self.states.len()];
        let mut left: Vec<usize> = self.ended.keys().copied().collect();
        while let Some(state) = left.pop() {
            if !std::mem::replace(&mut out[state], true) {
                left.extend(&comes_from[state]);
            }
        }
        if let Some(stuck) = out.iter().position(|out| !out) {
            let (path, way) = (self.last_path(stuck), self.way(stuck));
            self.problem(
                path,
                format!("from here no end can be reached, it goes round for ever: {way}"),
            );
        }
    }

    /// No name is without use, and none is ambiguous.
    fn names(&mut self) {
        for (index, rule) in self.contract.rules.iter().enumerate() {
            if !self.seen.contains(&rule.on) {
                let sentence = format!(
                    "the rule is never used: no path leads to `{}`",
                    self.name(rule.on)
                );
                self.problem(self.rule_path(index, "on"), sentence);
            }
        }
        for (number, event) in self.contract.events.iter().enumerate() {
            if self.seen.contains(&number) || event.undoes.is_some() {
                continue;
            }
            let what = match event.end {
                Some(_) => "the end",
                None => "the event",
            };
            let sentence = format!("no path leads to {what} `{}`", event.name);
            self.problem(at("/events", &event.name), sentence);
        }
        for (one, other) in self.together.clone() {
            let (first, second) = (self.shown(one), self.shown(other));
            let shared: Vec<usize> = first
                .events
                .iter()
                .filter(|event| second.events.contains(event))
                .copied()
                .collect();
            if shared.is_empty() {
                continue;
            }
            let sentence = format!(
                "it cannot be told whether `{}` answers this rule or that at {}, which may both wait: let each have events of its own",
                self.names_of(&shared),
                self.rule_path(first.rule, "expect"),
            );
            self.problem(self.rule_path(second.rule, "expect"), sentence);
        }
    }

    fn rule_path(&self, rule: usize, key: &str) -> String {
        format!("{}/{key}", self.contract.rules[rule].path)
    }

    /// Where the last event of a way is declared.
    fn last_path(&self, index: usize) -> String {
        let last = self.events_to(index).last().copied();
        let last = last.or_else(|| self.contract.starts.first().copied());
        at("/events", last.map_or("", |event| self.name(event)))
    }

    fn events_to(&self, mut index: usize) -> Vec<usize> {
        let mut events = Vec::new();
        while let Some((before, event)) = self.before[index] {
            if event != usize::MAX {
                events.push(event);
            }
            index = before;
        }
        let starts = self.contract.starts.iter();
        events.extend(starts.filter(|start| self.states[index].seen.contains(start)));
        events.reverse();
        events
    }

    /// The events of a way to a state, for people.
    fn way(&self, index: usize) -> String {
        let events = self.events_to(index);
        let skipped = events.len().saturating_sub(SHOWN_MAX);
        let names: Vec<&str> = events[skipped..]
            .iter()
            .map(|event| self.name(*event))
            .collect();
        let dots = if skipped > 0 { "… → " } else { "" };
        format!("{dots}{}", names.join(" → "))
    }
}
