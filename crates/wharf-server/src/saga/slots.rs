//! Concurrency limits: how many sagas of a type may be in a step at once.
//!
//! A view like any other: made of the sagas at every start. Who waits longest is admitted first, and
//! nobody before every partition has told which of its sagas are in a step already. Very many may wait
//! for one slot: what is told of one saga never looks at the others.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use wharf_saga::machine::SagaId;

/// The type and the state's name.
pub(super) type Limited = (String, String);
/// A visit of it.
pub(super) type Visit = (SagaId, u32);

#[derive(Debug, Default)]
struct Slot {
    limit: usize,
    holding: BTreeSet<Visit>,
    /// Those that wait, in the order in which they came, and where in it each is.
    waiting: BTreeMap<u64, Visit>,
    places: BTreeMap<Visit, u64>,
    /// How many ever waited.
    count: u64,
}

impl Slot {
    fn admit(&mut self) -> Vec<Visit> {
        let mut admitted = Vec::new();
        while self.holding.len() < self.limit
            && let Some((_, next)) = self.waiting.pop_first()
        {
            self.places.remove(&next);
            self.holding.insert(next);
            admitted.push(next);
        }
        admitted
    }

    /// One more that waits, unless it does already.
    fn wait(&mut self, visit: Visit) {
        if !self.places.contains_key(&visit) {
            self.count += 1;
            self.places.insert(visit, self.count);
            self.waiting.insert(self.count, visit);
        }
    }

    /// Forgets the visits of a saga that are not among those.
    fn keep(&mut self, saga: SagaId, waiting: &[u32], holding: &[u32]) {
        let of_saga = (saga, 0)..=(saga, u32::MAX);
        // One that was admitted and has not heard of it yet keeps its slot.
        let is_gone = |visit: &u32| !holding.contains(visit) && !waiting.contains(visit);
        let held = self.holding.range(of_saga.clone());
        let gone: Vec<_> = held.filter(|(_, visit)| is_gone(visit)).copied().collect();
        for visit in gone {
            self.holding.remove(&visit);
        }
        let waits = self.places.range(of_saga);
        let gone = waits.filter(|((_, visit), _)| !waiting.contains(visit));
        let gone: Vec<_> = gone.map(|(visit, place)| (*visit, *place)).collect();
        for (visit, place) in gone {
            self.places.remove(&visit);
            self.waiting.remove(&place);
        }
    }

    fn forget(&mut self, is_gone: impl Fn(SagaId) -> bool) {
        self.holding.retain(|(id, _)| !is_gone(*id));
        self.waiting.retain(|_, (id, _)| !is_gone(*id));
        self.places.retain(|(id, _), _| !is_gone(*id));
    }
}

/// All limits.
#[derive(Debug, Default)]
pub(super) struct Slots {
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    by_step: BTreeMap<Limited, Slot>,
    /// The partitions of which it is not known who is where.
    unread: HashSet<i32>,
}

impl Slots {
    /// For so many partitions, of which none was read yet.
    pub(super) fn new(partitions: i32) -> Self {
        let all = All {
            unread: (0..partitions).collect(),
            ..All::default()
        };
        Self {
            all: Mutex::new(all),
        }
    }

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
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let may_admit = all.unread.is_empty();
        let slot = all.by_step.entry(step.clone()).or_default();
        slot.limit = limit.max(1);
        slot.keep(saga, waiting, holding);
        for visit in holding {
            slot.holding.insert((saga, *visit));
        }
        let mut again = Vec::new();
        for visit in waiting {
            let visit = (saga, *visit);
            if slot.holding.contains(&visit) {
                // It kept its slot while it waited for a retry, or has not heard of it yet.
                again.push(visit);
            } else {
                slot.wait(visit);
            }
        }
        if may_admit {
            again.extend(slot.admit());
        }
        again
    }

    /// Forgets the sagas of a partition that is read anew. Nobody is admitted until it told who is
    /// where.
    pub(super) fn forget(&self, partition: i32, is_gone: impl Fn(SagaId) -> bool) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.unread.insert(partition);
        for slot in all.by_step.values_mut() {
            slot.forget(&is_gone);
        }
    }

    /// A partition has told of all its sagas; who is to be admitted now is returned.
    pub(super) fn told(&self, partition: i32) -> Vec<Visit> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.unread.remove(&partition);
        if !all.unread.is_empty() {
            return Vec::new();
        }
        all.by_step.values_mut().flat_map(Slot::admit).collect()
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
        // It is tried again, and kept its slot in between.
        assert_eq!(slots.update(&step, 1, two, &[], &[1]), []);
        assert_eq!(slots.update(&step, 1, two, &[1], &[]), [(two, 1)]);
        // It gave up before it heard of it.
        assert_eq!(slots.update(&step, 1, two, &[], &[]), [(three, 1)]);
    }

    #[test]
    fn of_very_many_that_wait_each_has_its_turn_and_those_that_give_up_have_none() {
        const MANY: u32 = 100_000;
        let slots = Slots::default();
        let step = ("checkout".to_owned(), "Pay".to_owned());
        let ids: Vec<_> = (0..MANY)
            .map(|number| SagaId::of("checkout", &number.to_string()))
            .collect();
        for id in &ids {
            slots.update(&step, 1, *id, &[1], &[]);
        }
        for id in ids.iter().skip(1).step_by(2) {
            assert_eq!(slots.update(&step, 1, *id, &[], &[]), []);
        }
        for pair in ids.chunks(4) {
            let next = slots.update(&step, 1, pair[0], &[], &[]);
            assert_eq!(next, [(pair[2], 1)]);
            let next = slots.update(&step, 1, pair[2], &[], &[]);
            assert!(next.len() <= 1, "{next:?}");
        }
        let all = slots.all.lock().unwrap();
        let slot = &all.by_step[&step];
        let left = (slot.holding.len(), slot.waiting.len(), slot.places.len());
        assert_eq!(left, (0, 0, 0));
    }

    #[test]
    fn nobody_is_admitted_before_every_partition_told_who_is_where() {
        let slots = Slots::new(2);
        let step = ("checkout".to_owned(), "Pay".to_owned());
        let [one, two] = ["1", "2"].map(|key| SagaId::of("checkout", key));
        assert_eq!(slots.update(&step, 1, one, &[1], &[]), []);
        assert_eq!(slots.told(0), []);
        assert_eq!(slots.update(&step, 1, two, &[], &[4]), []);
        assert_eq!(slots.told(1), []);
        assert_eq!(slots.update(&step, 1, two, &[], &[]), [(one, 1)]);
        // While a partition is read anew, who had its slots may have them still.
        slots.forget(0, |id| id == one);
        assert_eq!(slots.update(&step, 1, two, &[5], &[]), []);
        assert_eq!(slots.update(&step, 1, one, &[], &[1]), []);
        assert_eq!(slots.told(0), []);
        assert_eq!(slots.update(&step, 1, one, &[], &[]), [(two, 5)]);
    }
}
