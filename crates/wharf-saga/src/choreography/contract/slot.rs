//! What the rules expect, made ready: single expectations, and the decisions that they share.

use super::{Contract, Expect};

/// One expectation: after an event, one of these. A rule that expects all of several has several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The rule's index.
    pub(crate) rule: usize,
    /// After what.
    pub(crate) on: usize,
    /// One of these, in the order of their numbers.
    pub(crate) events: Vec<usize>,
    /// Whether it need not be met once the instance is on its way back.
    pub(crate) is_forward: bool,
    /// Whether what it expects may lead to what it follows: it is part of a loop, and each time round
    /// has an answer of its own.
    pub(crate) is_loop: bool,
}

/// All expectations of the same events. Those that are part of no loop wait together: one answer is
/// enough for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// One of these.
    pub(crate) events: Vec<usize>,
    /// Indices of slots.
    pub(crate) slots: Vec<usize>,
}

/// The expectations of a contract's rules, those of compensations apart.
pub(crate) fn slots(contract: &Contract) -> Vec<Slot> {
    let mut slots = Vec::new();
    for (index, rule) in contract.rules.iter().enumerate() {
        let mut slot = |events: &[usize]| {
            let mut events = events.to_vec();
            events.sort_unstable();
            slots.push(Slot {
                rule: index,
                on: rule.on,
                is_forward: !contract.is_back(&events),
                events,
                is_loop: false,
            });
        };
        match &rule.expect {
            Expect::OneOf(events) => slot(events),
            Expect::AllOf(events) => events.iter().for_each(|event| slot(&[*event])),
            Expect::Compensation => {}
        }
    }
    let loops: Vec<bool> = slots.iter().map(|slot| leads_to(&slots, slot)).collect();
    for (slot, is_loop) in slots.iter_mut().zip(loops) {
        slot.is_loop = is_loop;
    }
    slots
}

/// Whether what a slot expects may lead to what it follows.
fn leads_to(slots: &[Slot], slot: &Slot) -> bool {
    let mut seen = Vec::new();
    let mut left = slot.events.clone();
    while let Some(event) = left.pop() {
        if event == slot.on {
            return true;
        }
        if seen.contains(&event) {
            continue;
        }
        seen.push(event);
        let after = slots.iter().filter(|slot| slot.on == event);
        left.extend(after.flat_map(|slot| &slot.events));
    }
    false
}

pub(crate) fn decisions(slots: &[Slot]) -> Vec<Decision> {
    let mut decisions: Vec<Decision> = Vec::new();
    for (index, slot) in slots.iter().enumerate() {
        match decisions
            .iter_mut()
            .find(|decision| decision.events == slot.events)
        {
            Some(decision) => decision.slots.push(index),
            None => decisions.push(Decision {
                events: slot.events.clone(),
                slots: vec![index],
            }),
        }
    }
    decisions
}
