//! What an error leads to.

use std::collections::HashSet;

use super::super::{Kind, Machine, Next, State};

/// A way from a Catch to a Fail state.
#[derive(Clone, Debug)]
pub(super) struct Chain<'m> {
    /// The place of the catcher in its step.
    pub(super) catcher: usize,
    /// The Tasks on the way, in order.
    pub(super) tasks: Vec<&'m str>,
}

/// The states that are reached without any error: each after those that lead to it, loops aside.
pub(in super::super) fn forward(machine: &Machine) -> Vec<&str> {
    let states = &machine.flow.states;
    let mut seen = HashSet::new();
    let mut finished = Vec::new();
    let mut open: Vec<(&State, Vec<&str>)> = Vec::new();
    if let Some(start) = states.get(&machine.flow.start_at) {
        seen.insert(start.name.as_str());
        open.push((start, onward(start)));
    }
    while let Some((state, targets)) = open.last_mut() {
        match targets.pop() {
            Some(target) => {
                if let Some(next) = states.get(target)
                    && seen.insert(next.name.as_str())
                {
                    open.push((next, onward(next)));
                }
            }
            None => {
                finished.push(state.name.as_str());
                open.pop();
            }
        }
    }
    finished.reverse();
    finished
}

/// Where a state goes on when nothing fails.
pub(in super::super) fn onward(state: &State) -> Vec<&str> {
    let mut all = Vec::new();
    if let Next::To(next) = &state.next {
        all.push(next.as_str());
    }
    if let Kind::Choice(choice) = &state.kind {
        all.extend(choice.default.as_deref());
        all.extend(choice.rules.iter().map(|rule| rule.next.as_str()));
    }
    all
}

/// The way from a state to a Fail state, over Tasks and Pass states alone.
pub(super) fn walk<'m>(
    machine: &'m Machine,
    catcher: usize,
    from: &str,
    forward: &HashSet<&str>,
) -> Option<Chain<'m>> {
    let mut tasks = Vec::new();
    let mut seen = HashSet::new();
    let mut name = from;
    loop {
        let state = machine.flow.states.get(name)?;
        if forward.contains(name) || !seen.insert(state.name.as_str()) {
            return None;
        }
        match (&state.kind, &state.next) {
            (Kind::Fail(_), _) => return Some(Chain { catcher, tasks }),
            (Kind::Task(_), Next::To(next)) => {
                tasks.push(state.name.as_str());
                name = next;
            }
            (Kind::Pass(_) | Kind::Wait(_), Next::To(next)) => name = next,
            _ => return None,
        }
    }
}
