//! Where the states of a flow lead, even those that are wrong otherwise.

use std::collections::{HashMap, HashSet};

use super::super::text::clip;
use super::super::{Code, escape};
use super::{Reader, nearest};

/// One flow.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// `StartAt`: where it stands and what it says.
    pub(super) start: Option<(String, String)>,
    pub(super) states: Vec<Node>,
}

/// One state of a flow.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    /// `Type`, or nothing when it is wrong.
    pub(super) kind: &'static str,
    /// Where it goes on: the place that says so, and the name.
    pub(super) targets: Vec<(String, String)>,
    /// Whether the flow may end here.
    pub(super) ends: bool,
    /// Whether it may lead elsewhere too, because it could not be read.
    pub(super) unclear: bool,
}

impl Outline {
    pub(super) fn node(&self, name: &str) -> Option<&Node> {
        self.states.iter().find(|node| node.name == name)
    }

    /// The states that some way from there leads to, itself among them.
    pub(super) fn reached<'o>(&'o self, from: &'o str) -> HashSet<&'o str> {
        let by_name: HashMap<_, _> = self.states.iter().map(|n| (n.name.as_str(), n)).collect();
        let mut reached = HashSet::new();
        let mut open = vec![from];
        while let Some(name) = open.pop() {
            let Some(node) = by_name.get(name) else {
                continue;
            };
            if reached.insert(node.name.as_str()) {
                open.extend(node.targets.iter().map(|(_, target)| target.as_str()));
            }
        }
        reached
    }
}

impl Reader<'_> {
    /// A place that says where to go on.
    pub(super) fn target(&mut self, at: String, name: &str) {
        if let Some(node) = self.outline().states.last_mut() {
            node.targets.push((at, name.to_owned()));
        }
    }

    /// Targets that are not there, states that nothing leads to, flows that never end.
    pub(super) fn check_outline(&mut self, outline: &Outline, at: &str) {
        let names: HashSet<&str> = outline.states.iter().map(|n| n.name.as_str()).collect();
        let starts = outline.start.iter().map(|(at, name)| (at, name));
        let targets = outline.states.iter().flat_map(|node| &node.targets);
        for (at, name) in starts.chain(targets.map(|(at, name)| (at, name))) {
            if names.contains(name.as_str()) {
                continue;
            }
            let elsewhere = self.names.get(name.as_str());
            let message = match elsewhere {
                Some(place) => format!(
                    "the state `{}` is in another flow, at {place}; a state goes on only among the states beside it",
                    clip(name)
                ),
                None => format!(
                    "there is no state `{}` here; name one of the states beside it{}",
                    clip(name),
                    nearest(name, names.iter().copied()),
                ),
            };
            self.add(Code::MISSING_TRANSITION_TARGET, at.clone(), message);
        }
        let Some((_, start)) = outline
            .start
            .as_ref()
            .filter(|(_, s)| names.contains(s.as_str()))
        else {
            return;
        };
        if outline.states.iter().any(|node| node.unclear) {
            return;
        }
        let reached = outline.reached(start);
        for node in &outline.states {
            if !reached.contains(node.name.as_str()) {
                let message = format!(
                    "no way leads from `{}` to this state; let a Next, Default or Catch name it, or take it away",
                    clip(start)
                );
                self.add(
                    Code::UNREACHABLE_STATE,
                    format!("{at}/{}", escape(&node.name)),
                    message,
                );
            }
        }
        let ends = outline
            .states
            .iter()
            .any(|n| n.ends && reached.contains(n.name.as_str()));
        if !ends {
            let message = "no way through these states ends; give one of them \"End\": true, or add a Succeed or Fail state";
            self.add(Code::MISSING_END_STATE, at, message);
        }
    }
}
