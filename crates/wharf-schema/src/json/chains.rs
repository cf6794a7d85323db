//! How far and in how many ways schemas lead to others that look at the same value: what decides
//! whether a validator judges a value in bounded time and on a bounded stack.
//!
//! Nothing here calls itself.

use super::shape::{Criterion, Model, Node, Shape};
use crate::Invalid;

/// How many schemas may look at one and the same value in a row: validation recurses over them.
const CHAIN_MAX: usize = 64;

/// How many ways through combinations there may be from one schema to what looks at the same value.
const WAYS_MAX: u64 = 100_000;

const ENDLESS: &str =
    "the schema refers to itself without looking at a part of the value, so no value can be judged";

/// Refuses schemas that lead back to themselves, or by too many steps or ways to others, while
/// looking at one and the same value: no validator could judge a value by them in bounded time.
pub(super) fn longest_chain(model: &Model) -> Result<usize, Invalid> {
    #[derive(Clone, Copy)]
    enum State {
        New,
        Open,
        Done { length: usize, ways: u64 },
    }
    let mut states = vec![State::New; model.nodes.len()];
    let mut longest = 1;
    for start in 0..model.nodes.len() {
        let mut stack = vec![start];
        while let Some(&at) = stack.last() {
            let same_value = model.nodes[at]
                .children()
                .into_iter()
                .filter(|(_, is_same_value)| *is_same_value)
                .map(|(child, _)| child as usize);
            match states[at] {
                State::New => {
                    states[at] = State::Open;
                    for child in same_value {
                        match states[child] {
                            State::New => stack.push(child),
                            State::Open => {
                                return Err(Invalid::new(ENDLESS));
                            }
                            State::Done { .. } => {}
                        }
                    }
                }
                State::Open => {
                    stack.pop();
                    let (mut length, mut ways) = (1, 1_u64);
                    for child in same_value {
                        if let State::Done {
                            length: below,
                            ways: more,
                        } = states[child]
                        {
                            length = length.max(below + 1);
                            ways = ways.saturating_add(more);
                        }
                    }
                    if length > CHAIN_MAX || ways > WAYS_MAX {
                        return Err(Invalid::new(format!(
                            "references and combinations lead from one schema to another in more than {CHAIN_MAX} steps or {WAYS_MAX} ways for one value"
                        )));
                    }
                    longest = longest.max(length);
                    states[at] = State::Done { length, ways };
                }
                State::Done { .. } => {
                    stack.pop();
                }
            }
        }
    }
    Ok(longest)
}

/// Whether there is no recursion, or there are no alternatives, and few ways to each schema: what
/// gathers errors looks into every alternative anew, each time it meets it.
pub(super) fn explains(model: &Model) -> bool {
    let has_alternatives = model.nodes.iter().any(|node| {
        matches!(&node.shape, Shape::Combined(combined) if combined.criterion != Criterion::All)
    });
    if !has_alternatives {
        return true;
    }
    // In topological order (Kahn's), the ways to each node add up; what is left over is recursive.
    let children = model.nodes.iter().map(Node::children).collect::<Vec<_>>();
    let mut entries = vec![0_usize; model.nodes.len()];
    for (child, _) in children.iter().flatten() {
        entries[*child as usize] += 1;
    }
    let mut ways = vec![1_u64; model.nodes.len()];
    let mut waiting = (0..model.nodes.len())
        .filter(|node| entries[*node] == 0)
        .collect::<Vec<_>>();
    let mut settled = 0;
    while let Some(node) = waiting.pop() {
        settled += 1;
        if ways[node] > WAYS_MAX {
            return false;
        }
        for (child, _) in &children[node] {
            let child = *child as usize;
            ways[child] = ways[child].saturating_add(ways[node]);
            entries[child] -= 1;
            if entries[child] == 0 {
                waiting.push(child);
            }
        }
    }
    settled == model.nodes.len()
}
