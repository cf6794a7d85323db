//! Nodes: the steps that may have to be undone, kept in the order of completion, and what is
//! forgotten because nothing of it has to be.

use std::mem;

use super::data::Data;
use super::saga::{Cursor, Fork, Phase, Saga, Scope, Step};

impl Saga {
    /// Makes a step one that may have to be undone, the last that was completed in its scope.
    pub(super) fn become_node(&mut self, number: u32, phase: Phase) {
        self.prune(number);
        self.state.completions = self.state.completions.saturating_add(1);
        let completion = self.state.completions;
        self.change(number, |step| {
            step.completion = completion;
            step.retries.clear();
            step.phase = phase;
            if let Some(fork) = &mut step.fork {
                fork.input = Data::null();
            }
        });
        let Some(scope) = self.step(number).map(|step| step.scope) else {
            return;
        };
        if let Some(place) = self.state.scopes.get_mut(&scope) {
            place.nodes.push(number);
        }
    }

    /// Forgets the branches of a step that have nothing to undo.
    pub(super) fn prune(&mut self, number: u32) {
        let Some(fork) = self
            .state
            .steps
            .get_mut(&number)
            .and_then(|step| step.fork.as_mut())
        else {
            return;
        };
        let scopes = &mut self.state.scopes;
        fork.scopes.retain(|scope| {
            let keep = scopes
                .get(scope)
                .is_some_and(|place| !place.nodes.is_empty());
            if !keep {
                scopes.remove(scope);
            }
            keep
        });
    }

    /// Forgets the branches of the current round of a step, which is undone as a whole.
    pub(super) fn drop_round(&mut self, number: u32) {
        let Some(fork) = self.fork_mut(number) else {
            return;
        };
        let (round, all) = (fork.round, mem::take(&mut fork.scopes));
        let scopes = &self.state.scopes;
        let of_round = |scope: &u32| scopes.get(scope).is_some_and(|place| place.round == round);
        let (current, earlier): (Vec<u32>, Vec<u32>) = all.into_iter().partition(of_round);
        if let Some(fork) = self.fork_mut(number) {
            fork.scopes = current;
        }
        self.drop_inside(number);
        if let Some(fork) = self.fork_mut(number) {
            fork.scopes = earlier;
        }
    }

    /// Forgets a step and what is inside it.
    pub(super) fn forget(&mut self, number: u32) {
        self.drop_inside(number);
        self.change(number, |step| step.phase = Phase::Node);
        self.state.steps.remove(&number);
    }

    /// Forgets what is inside a step. Depth is that of the definition.
    pub(super) fn drop_inside(&mut self, number: u32) {
        let fork = self.state.steps.get_mut(&number).and_then(|step| {
            let fork = step.fork.as_mut()?;
            Some(mem::take(&mut fork.scopes))
        });
        for scope in fork.unwrap_or_default() {
            let Some(place) = self.state.scopes.remove(&scope) else {
                continue;
            };
            let current = match place.cursor {
                Cursor::At(step) => Some(step),
                _ => None,
            };
            for step in place.nodes.into_iter().chain(current) {
                self.forget(step);
            }
        }
    }

    pub(super) fn fork_mut(&mut self, step: u32) -> Option<&mut Fork> {
        self.state.steps.get_mut(&step)?.fork.as_deref_mut()
    }
}

impl Step {
    /// From doing to undoing; the attempts are counted anew.
    pub(super) fn turn_to_undo(&mut self) {
        if !self.undo {
            self.undo = true;
            self.attempt = 0;
            self.retries.clear();
        }
    }
}

impl Scope {
    pub(super) fn new(parent: u32, index: u32, round: u32, first: &str, input: Data) -> Self {
        Self {
            parent,
            index,
            round,
            variables: std::collections::BTreeMap::new(),
            cursor: Cursor::Before {
                state: first.to_owned(),
                input,
            },
            nodes: Vec::new(),
        }
    }
}

impl Fork {
    /// What the branch of this index gets, where nothing else is said.
    pub(super) fn input_of(&self, index: u32) -> Data {
        if !self.items {
            return self.input.clone();
        }
        let item = self.input.get(index as usize);
        item.cloned().map(Data::from).unwrap_or_default()
    }
}
