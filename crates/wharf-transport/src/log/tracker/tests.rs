//! A tracker against a model of it, and its rules one by one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn partition(partition: i32) -> TopicPartition {
    let topic = TopicName::new("orders").expect("valid");
    TopicPartition { topic, partition }
}

#[test]
fn the_watermark_waits_for_the_earliest_unsettled_and_steps_over_gaps() {
    let mut tracker = Tracker::new(100);
    let slot = tracker.assign(partition(0), None);
    let tokens = [3, 7, 8].map(|offset| tracker.deliver(slot, offset).expect("new"));
    assert!(tracker.settle(tokens[1]));
    assert_eq!(tracker.uncommitted(), []);
    assert!(tracker.settle(tokens[0]));
    assert_eq!(tracker.uncommitted(), [(partition(0), 8)]);
    tracker.committed(&[(partition(0), 8)]);
    assert!(tracker.settle(tokens[2]));
    assert!(!tracker.settle(tokens[2]), "settled twice");
    tracker.read_to(slot, 12);
    assert_eq!(tracker.revoke(slot), Some((partition(0), 12)));
}

#[test]
fn the_tokens_of_a_revoked_assignment_do_nothing_when_it_is_assigned_again() {
    let mut tracker = Tracker::new(100);
    let first = tracker.assign(partition(0), Some(0));
    let old = tracker.deliver(first, 0).expect("new");
    assert_eq!(tracker.revoke(first), None);
    let second = tracker.assign(partition(0), Some(0));
    let new = tracker.deliver(second, 0).expect("new");
    assert!(!tracker.settle(old) && !tracker.release(old));
    assert_eq!((tracker.origin(old), tracker.unsettled()), (None, 1));
    assert_eq!(tracker.origin(new), Some((&partition(0), 0)));
}

#[test]
fn what_was_released_is_delivered_again_and_what_is_gone_holds_nothing_up() {
    let mut tracker = Tracker::new(100);
    let slot = tracker.assign(partition(0), Some(0));
    let tokens = [0, 1, 2, 3].map(|offset| tracker.deliver(slot, offset).expect("new"));
    assert!(tracker.release(tokens[1]) && tracker.release(tokens[3]));
    assert_eq!(tracker.reread(slot), Some(1));
    assert_eq!(tracker.gone(slot, 1, 2), 1);
    assert_eq!(tracker.deliver(slot, 2), None, "it is out");
    assert_eq!(tracker.deliver(slot, 3), Some(tokens[3]));
    assert_eq!((tracker.reread(slot), tracker.unsettled()), (None, 3));
}

#[test]
fn only_what_everything_before_is_settled_of_can_be_accepted_at_once() {
    let mut tracker = Tracker::new(100);
    let slot = tracker.assign(partition(0), Some(0));
    let tokens = [0, 1, 2, 3].map(|offset| tracker.deliver(slot, offset).expect("new"));
    tracker.settle(tokens[1]);
    let pending = HashSet::from([tokens[0], tokens[3]]);
    let prefix = Prefix {
        tokens: vec![tokens[0]],
        watermarks: vec![(partition(0), 2)],
    };
    assert_eq!(tracker.prefix(&pending), prefix);
    assert_eq!(
        tracker.prefix(&HashSet::from([tokens[2]])),
        Prefix::default()
    );
}

#[test]
fn what_is_noted_is_committed_beside_the_watermark_and_skipped_after_a_restart() {
    let mut tracker = Tracker::new(100);
    let slot = tracker.assign(partition(0), Some(0));
    let tokens = [0, 1, 2, 3].map(|offset| tracker.deliver(slot, offset).expect("new"));
    tracker.settle(tokens[1]);
    let commit = |watermark, noted: &[i64]| Commit {
        partition: partition(0),
        watermark,
        noted: noted.to_vec(),
    };
    let ahead = tracker.noting(&HashSet::from([tokens[2]]));
    assert_eq!(ahead, [commit(0, &[2])]);
    assert!(tracker.note(tokens[2]));
    let whole = tracker.noting(&HashSet::from([tokens[0]]));
    assert_eq!(whole, [commit(3, &[])]);

    let mut tracker = Tracker::new(100);
    let slot = tracker.assign(partition(0), None);
    tracker.skip(slot, BTreeSet::from([2, 9]));
    let first = tracker.deliver(slot, 0).expect("it is not noted");
    assert_eq!(tracker.deliver(slot, 2), None);
    assert_eq!(tracker.unsettled(), 1);
    let now = tracker.with_noted((partition(0), 0));
    assert_eq!(now, commit(0, &[2, 9]), "also what was not read yet");
    tracker.settle(first);
    assert_eq!(tracker.uncommitted(), [(partition(0), 3)]);
    assert_eq!(tracker.with_noted((partition(0), 3)), commit(3, &[9]));
}

#[test]
fn a_partition_has_no_room_when_too_much_waits_behind_one_delivery() {
    let mut tracker = Tracker::new(2);
    let slot = tracker.assign(partition(0), None);
    let first = tracker.deliver(slot, 0).expect("new");
    let second = tracker.deliver(slot, 1).expect("new");
    tracker.settle(second);
    assert!(!tracker.has_room(slot));
    tracker.settle(first);
    assert!(tracker.has_room(slot));
}

#[derive(Clone, Debug)]
enum Step {
    Deliver { gap: i64 },
    Settle(prop::sample::Index),
    Release(prop::sample::Index),
    Reread,
    Commit,
    Reassign,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_i64).prop_map(|gap| Step::Deliver { gap }),
        4 => any::<prop::sample::Index>().prop_map(Step::Settle),
        1 => any::<prop::sample::Index>().prop_map(Step::Release),
        1 => Just(Step::Reread),
        1 => Just(Step::Commit),
        1 => Just(Step::Reassign),
    ]
}

/// What a tracker must say, from sets alone.
#[derive(Default)]
struct Model {
    log: Vec<i64>,
    read: usize,
    out: BTreeMap<i64, Token>,
    released: Vec<i64>,
    committed: i64,
}

impl Model {
    fn watermark(&self) -> i64 {
        let open = self.out.keys().chain(&self.released).min().copied();
        let read_to = self.log[..self.read].last().map_or(0, |offset| offset + 1);
        open.unwrap_or(read_to.max(self.committed))
    }
}

proptest! {
    #[test]
    fn a_tracker_behaves_like_its_model(steps in prop::collection::vec(step(), 1..200)) {
        let mut tracker = Tracker::new(1_000);
        let mut slot = tracker.assign(partition(0), Some(0));
        let mut model = Model::default();
        let mut stale: Vec<Token> = Vec::new();
        for step in steps {
            match step {
                Step::Deliver { gap } => {
                    let offset = model.log.last().map_or(0, |last| last + 1) + gap;
                    if model.read == model.log.len() {
                        model.log.push(offset);
                    }
                    let offset = model.log[model.read];
                    model.read += 1;
                    let token = tracker.deliver(slot, offset);
                    prop_assert!(token.is_some());
                    model.out.insert(offset, token.unwrap());
                }
                Step::Settle(which) if !model.out.is_empty() => {
                    let offset = *which.get(&model.out.keys().copied().collect::<Vec<_>>());
                    let token = model.out.remove(&offset).unwrap();
                    prop_assert!(tracker.settle(token));
                    stale.push(token);
                }
                Step::Release(which) if !model.out.is_empty() => {
                    let offset = *which.get(&model.out.keys().copied().collect::<Vec<_>>());
                    prop_assert!(tracker.release(model.out.remove(&offset).unwrap()));
                    model.released.push(offset);
                }
                Step::Reread => {
                    let from = tracker.reread(slot);
                    prop_assert_eq!(from, model.released.iter().min().copied());
                    let Some(from) = from else { continue };
                    for offset in model.log[..model.read].iter().filter(|o| **o >= from) {
                        let again = tracker.deliver(slot, *offset);
                        prop_assert_eq!(again.is_some(), model.released.contains(offset));
                        if let Some(token) = again {
                            model.out.insert(*offset, token);
                        }
                    }
                    model.released.clear();
                }
                Step::Commit => {
                    let due = tracker.uncommitted();
                    let expected = model.watermark();
                    let offsets: Vec<i64> = due.iter().map(|(_, offset)| *offset).collect();
                    if expected == model.committed {
                        prop_assert!(offsets.is_empty(), "{:?}", offsets);
                    } else {
                        prop_assert_eq!(offsets, vec![expected]);
                    }
                    tracker.committed(&due);
                    model.committed = expected;
                }
                Step::Reassign => {
                    let last = tracker.revoke(slot);
                    let watermark = model.watermark();
                    prop_assert_eq!(last.map_or(model.committed, |(_, o)| o), watermark);
                    stale.extend(model.out.values());
                    slot = tracker.assign(partition(0), Some(watermark));
                    model.read = model.log.iter().filter(|o| **o < watermark).count();
                    model.out.clear();
                    model.released.clear();
                    model.committed = watermark;
                    for token in stale.drain(..) {
                        prop_assert!(!tracker.settle(token) && !tracker.release(token));
                    }
                }
                Step::Settle(_) | Step::Release(_) => {}
            }
            prop_assert_eq!(tracker.unsettled(), model.out.len() + model.released.len());
            prop_assert_eq!(tracker.unsettled_of(slot), tracker.unsettled());
            prop_assert_eq!(tracker.delivered(), model.out.len());
        }
    }
}
