//! Concurrency limits: how many sagas of a type may be in a step at once.
//!
//! A view like any other: made of the sagas at every start. Who waits longest is admitted first.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use wharf_saga::machine::SagaId;

/// The type and the state's name.
pub(super) type Limited = (String, String);
/// A visit of it.
pub(super) type Visit = (SagaId, u32);

#[derive(Debug, Default)]
struct Slot {
    limit: usize,
    holding: HashSet<Visit>,
    waiting: VecDeque<Visit>,
}

impl Slot {
    fn admit(&mut self) -> Vec<Visit> {
        let mut admitted = Vec::new();
        while self.holding.len() < self.limit
            && let Some(next) = self.waiting.pop_front()
        {
            self.holding.insert(next);
            admitted.push(next);
        }
        admitted
    }
}

/// All limits.
#[derive(Debug, Default)]
pub(super) struct Slots {
    by_step: Mutex<HashMap<Limited, Slot>>,
}

impl Slots {
    /// The visits of a step that a saga is in: those that wait for a slot and those that have one.
    /// Whatever else it had is free; who is to be admitted now is returned.
    pub(super) fn update(
        &self,
        step: &Limited,
        limit: usize,
        saga: SagaId,
        waiting: &[u32],
        holding: &[u32],
    ) -> Vec<Visit> {
        let mut all = self.by_step.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = all.entry(step.clone()).or_default();
        slot.limit = limit.max(1);
        // One that was admitted and has not heard of it yet keeps its slot.
        slot.holding.retain(|(id, visit)| {
            *id != saga || holding.contains(visit) || waiting.contains(visit)
        });
        slot.waiting
            .retain(|(id, visit)| *id != saga || waiting.contains(visit));
        for visit in holding {
            slot.holding.insert((saga, *visit));
        }
        for visit in waiting {
            let visit = (saga, *visit);
            if !slot.holding.contains(&visit) && !slot.waiting.contains(&visit) {
                slot.waiting.push_back(visit);
            }
        }
        slot.admit()
    }

    /// Forgets the sagas of a partition that is read anew.
    pub(super) fn forget(&self, is_gone: impl Fn(SagaId) -> bool) {
        let mut all = self.by_step.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in all.values_mut() {
            slot.holding.retain(|(id, _)| !is_gone(*id));
            slot.waiting.retain(|(id, _)| !is_gone(*id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_longest_is_admitted_first_and_no_more_than_the_limit() {
        let slots = Slots::default();
        let step = ("checkout".to_owned(), "Pay".to_owned());
        let [one, two, three] = ["1", "2", "3"].map(|key| SagaId::of("checkout", key));
        assert_eq!(slots.update(&step, 1, one, &[1], &[]), [(one, 1)]);
        assert_eq!(slots.update(&step, 1, two, &[1], &[]), []);
        assert_eq!(slots.update(&step, 1, three, &[1], &[]), []);
        assert_eq!(slots.update(&step, 1, one, &[], &[1]), []);
        assert_eq!(slots.update(&step, 1, one, &[], &[]), [(two, 1)]);
        // It gave up before it heard of it.
        assert_eq!(slots.update(&step, 1, two, &[], &[]), [(three, 1)]);
    }
}
