//! What must hold of a saga, from what it sent and what it was told.

use std::collections::{BTreeMap, BTreeSet};

use crate::definition::{Flow, Kind, Machine, OnUnknown, Order};
use crate::machine::{Action, Decision, Fact, Failed, Input, Mark, Outcome, Status, Undone, What};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

/// What the worker's side of a step knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Nothing,
    Unknown,
    Done,
}

/// Where a visit was.
#[derive(Clone, Debug)]
struct Visit {
    state: String,
    scope: u32,
    effect: Effect,
    undone: bool,
    begun: bool,
    /// It was left out because nobody knew, and may come back by a late answer at any time.
    skipped: bool,
}

/// Watches one saga.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    undoable: BTreeMap<String, OnUnknown>,
    order: Option<Order>,
    pivot: Option<String>,
    visits: BTreeMap<u32, Visit>,
    /// The Parallel or Map of a scope, and its round.
    scopes: BTreeMap<u32, (u32, u32)>,
    rounds: BTreeMap<u32, u32>,
    pivoted: bool,
    turned: bool,
    undone_first: bool,
    answered: BTreeSet<u32>,
    ended: Option<Status>,
}

impl Oracle {
    /// For sagas of this machine. Undos of whole Parallels and Maps, and sub-sagas, are not modelled.
    pub fn new(machine: &Machine) -> Self {
        let mut undoable = BTreeMap::new();
        collect(&machine.flow, &mut undoable);
        Self {
            undoable,
            order: Some(machine.saga.order),
            pivot: machine.saga.pivot.clone(),
            ..Self::default()
        }
    }

    /// How the saga ended, if it did.
    pub fn ended(&self) -> Option<Status> {
        self.ended
    }

    /// Takes an input that was not refused, and what came of it.
    pub fn observe(&mut self, input: &Input, decision: &Decision) -> Result<(), Broken> {
        let stale = |fact: &Fact| matches!(fact.what, What::StaleReply { .. });
        if !decision.facts.iter().any(stale) {
            self.told(input);
        }
        for fact in &decision.facts {
            self.fact(&fact.what)?;
        }
        Ok(())
    }

    /// What the worker's side, or a person, says of a step.
    fn told(&mut self, input: &Input) {
        match input {
            Input::Reply { step, outcome, .. } => {
                let Some(visit) = self.visits.get_mut(step).filter(|visit| !visit.begun) else {
                    return;
                };
                match outcome {
                    Outcome::Success(_) => visit.effect = Effect::Done,
                    Outcome::Failure(failure)
                        if failure.declared && visit.effect == Effect::Unknown =>
                    {
                        visit.effect = Effect::Nothing;
                    }
                    _ => {}
                }
            }
            Input::Operator(order) => {
                if let Action::Mark {
                    step: Some(step),
                    mark,
                } = &order.action
                    && let Some(visit) = self.visits.get_mut(step)
                {
                    visit.effect = match mark {
                        Mark::Compensated => Effect::Nothing,
                        Mark::Completed { .. } => Effect::Done,
                    };
                }
            }
            _ => {}
        }
    }

    fn fact(&mut self, what: &What) -> Result<(), Broken> {
        if let Some(ended) = self.ended
            && !matches!(
                what,
                What::StaleReply { .. } | What::Acted(_) | What::Redriven { .. }
            )
        {
            return Err(Broken(format!("a fact after the end {ended}: {what:?}")));
        }
        match what {
            What::Entered {
                step, scope, state, ..
            } => {
                if self.turned {
                    return Err(Broken(format!("{state} was entered after the turn")));
                }
                let visit = Visit {
                    state: state.clone(),
                    scope: *scope,
                    effect: Effect::Nothing,
                    undone: false,
                    begun: false,
                    skipped: false,
                };
                if self.visits.insert(*step, visit).is_some() {
                    return Err(Broken(format!("step {step} was entered twice")));
                }
            }
            What::Forked { step, .. } => *self.rounds.entry(*step).or_insert(0) += 1,
            What::Branched { scope, step, .. } => {
                let round = self.rounds.get(step).copied().unwrap_or(0);
                self.scopes.insert(*scope, (*step, round));
            }
            What::Dispatched(sent) if sent.undo => self.undo_sent(sent.step)?,
            What::Dispatched(sent) => {
                if self.turned || self.undone_first {
                    return Err(Broken(format!(
                        "{} went forward after the turn",
                        sent.state
                    )));
                }
                let Some(visit) = self.visits.get_mut(&sent.step) else {
                    return Err(Broken(format!("step {} was never entered", sent.step)));
                };
                if visit.effect == Effect::Nothing {
                    visit.effect = Effect::Unknown;
                }
            }
            What::Failed(failed) => self.failed(failed)?,
            What::Left(left) => {
                let state = self.visits.get(&left.step).map(|visit| &visit.state);
                self.pivoted |= state.is_some() && state == self.pivot.as_ref() && !left.caught;
            }
            What::Compensating { .. } => {
                if self.turned || self.pivoted {
                    return Err(Broken(
                        "it turned back twice, or behind the pivot".to_owned(),
                    ));
                }
                self.turned = true;
            }
            What::Undone { step, how, .. } => self.undone(*step, *how)?,
            What::Redriven { .. } => {
                self.ended = None;
                self.turned = false;
            }
            What::Ended { status, .. } => self.end(*status)?,
            _ => {}
        }
        Ok(())
    }

    fn failed(&mut self, failed: &Failed) -> Result<(), Broken> {
        if failed.generation != 0 && !self.answered.insert(failed.generation) {
            let generation = failed.generation;
            return Err(Broken(format!("dispatch {generation} failed twice")));
        }
        Ok(())
    }

    fn undo_sent(&mut self, step: u32) -> Result<(), Broken> {
        self.undone_first = true;
        let Some(visit) = self.visits.get(&step).cloned() else {
            return Err(Broken(format!("an undo of step {step}, which never was")));
        };
        let name = &visit.state;
        if !self.turned || self.pivoted {
            return Err(Broken(format!(
                "{name} is undone without a turn or behind the pivot"
            )));
        }
        if !self.undoable.contains_key(name) || visit.effect == Effect::Nothing || visit.undone {
            return Err(Broken(format!(
                "{name} ({step}) is undone and must not be: {visit:?}"
            )));
        }
        for (later, other) in &self.visits {
            // Another attempt of an undo has its place already.
            let open =
                !visit.begun && !other.skipped && !other.undone && self.must_be_undone(other);
            if open && self.order != Some(Order::Unordered) && self.is_after(*later, step) {
                let other = &other.state;
                return Err(Broken(format!(
                    "{name} ({step}) is undone before {other} ({later})"
                )));
            }
        }
        if let Some(visit) = self.visits.get_mut(&step) {
            visit.begun = true;
        }
        Ok(())
    }

    fn must_be_undone(&self, visit: &Visit) -> bool {
        match self.undoable.get(&visit.state) {
            None => false,
            Some(OnUnknown::Skip) => visit.effect == Effect::Done,
            Some(_) => visit.effect != Effect::Nothing,
        }
    }

    fn undone(&mut self, step: u32, how: Undone) -> Result<(), Broken> {
        let Some(visit) = self.visits.get_mut(&step) else {
            return Err(Broken(format!("step {step} was undone and never was")));
        };
        if visit.undone {
            return Err(Broken(format!("{} ({step}) was undone twice", visit.state)));
        }
        match how {
            Undone::Done if !visit.begun => Err(Broken(format!(
                "{} ({step}) is undone by nobody",
                visit.state
            ))),
            Undone::Done | Undone::GivenUp | Undone::Marked => {
                visit.undone = true;
                Ok(())
            }
            Undone::Inside => Ok(()),
            Undone::Nothing | Undone::Skipped => {
                visit.skipped = how == Undone::Skipped;
                let visit = visit.clone();
                if self.must_be_undone(&visit) {
                    return Err(Broken(format!("{} ({step}) was left out", visit.state)));
                }
                Ok(())
            }
        }
    }

    fn end(&mut self, status: Status) -> Result<(), Broken> {
        self.ended = Some(status);
        if status == Status::Completed {
            if self.turned {
                return Err(Broken("it completed after the turn".to_owned()));
            }
            return Ok(());
        }
        for (step, visit) in &self.visits {
            if !visit.undone && self.must_be_undone(visit) {
                return Err(Broken(format!("{} ({step}) was never undone", visit.state)));
            }
        }
        Ok(())
    }

    /// Whether a visit came after another in the same flow, or in a later round, seen from the flow
    /// that holds both.
    fn is_after(&self, later: u32, step: u32) -> bool {
        let (one, other) = (self.path(later), self.path(step));
        for (one, other) in one.iter().zip(&other) {
            if one.visit != other.visit {
                return one.scope == other.scope && one.visit > other.visit;
            }
            if one.into != other.into {
                // Two branches of one Parallel: only rounds have an order.
                let round = |scope: Option<u32>| {
                    scope
                        .and_then(|scope| self.scopes.get(&scope))
                        .map_or(0, |(_, round)| *round)
                };
                return round(one.into) > round(other.into);
            }
        }
        false
    }

    /// From the top level down to a visit.
    fn path(&self, step: u32) -> Vec<Place> {
        let mut path = Vec::new();
        let mut at = Some((step, None));
        while let Some((visit, into)) = at {
            let scope = self.visits.get(&visit).map_or(0, |visit| visit.scope);
            path.push(Place { scope, visit, into });
            at = self
                .scopes
                .get(&scope)
                .map(|(parent, _)| (*parent, Some(scope)));
        }
        path.reverse();
        path
    }
}

/// One level of a path.
struct Place {
    scope: u32,
    visit: u32,
    /// The branch that the path goes into.
    into: Option<u32>,
}

fn collect(flow: &Flow, undoable: &mut BTreeMap<String, OnUnknown>) {
    for state in &flow.states {
        if let Some(undo) = &state.compensate {
            undoable.insert(state.name.clone(), undo.on_unknown);
        }
        match &state.kind {
            Kind::Parallel(parallel) => {
                for branch in &parallel.branches {
                    collect(branch, undoable);
                }
            }
            Kind::Map(map) => collect(&map.processor, undoable),
            _ => {}
        }
    }
}
