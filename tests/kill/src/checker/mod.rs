//! Pure: compares what was promised with what the broker serves. It knows nothing of the broker.
//!
//! A finding is one line. No finding means that every promise of docs/specs/delivery.md which a
//! killed process can break was kept.

pub(crate) mod transactions;

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Facts, Growing, Place, PlaceFacts, Stamp, State};
use crate::load::TRANSFORMER;

/// What the broker serves after a restart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Served {
    /// The records of each partition in the order served; `None` stands for one that nobody sent.
    pub(crate) records: BTreeMap<Place, Vec<(i64, Option<Stamp>)>>,
    /// Committed offsets, by group and partition.
    pub(crate) committed: BTreeMap<(&'static str, Place), i64>,
    /// The retention time of every topic that there is.
    pub(crate) topics: BTreeMap<String, i64>,
    /// What readers of committed records are served of the topics that transactions write to.
    pub(crate) ledger: transactions::Committed,
}

/// Checks records, committed offsets and topics.
pub(crate) fn check_all(facts: &Facts, served: &Served) -> Vec<String> {
    let mut found = check_state(&facts.state, served);
    // What transactions wrote is judged by transaction.
    let plain = |place: &&Place| !served.ledger.contains_key(place);
    for (place, promised) in facts.places.iter().filter(|(place, _)| plain(place)) {
        let nothing = Vec::new();
        let records = served.records.get(place).unwrap_or(&nothing);
        found.extend(check_records(*place, promised, &facts.idempotent, records));
    }
    let offsets = served.committed.iter();
    let offsets = offsets.filter(|((group, _), _)| *group == TRANSFORMER);
    let offsets = offsets
        .map(|((_, place), offset)| (*place, *offset))
        .collect();
    found.extend(transactions::check(facts, &served.ledger, &offsets));
    found
}

/// Checks committed offsets and topics only, which is quick enough for every restart.
pub(crate) fn check_state(state: &State, served: &Served) -> Vec<String> {
    let mut found = state.violations.clone();
    for (key, promised) in &state.committed {
        let value = served.committed.get(key).copied();
        found.extend(check_growing(
            &format!("{key:?} committed"),
            *promised,
            value,
        ));
    }
    for (name, promised) in &state.topics {
        let value = served.topics.get(name).copied();
        match value {
            Some(_) if promised.delete_acknowledged => found.push(format!("{name}: is back")),
            None if promised.delete_attempted => {}
            _ => found.extend(check_growing(name, promised.retention, value)),
        }
    }
    found
}

/// What was acknowledged is there; what is there was attempted.
fn check_growing(what: &str, promised: Growing, served: Option<i64>) -> Option<String> {
    let Growing {
        acknowledged,
        attempted,
    } = promised;
    match (acknowledged, served) {
        (Some(least), None) => Some(format!("{what}: {least} was acknowledged and is gone")),
        (Some(least), Some(value)) if value < least => Some(format!(
            "{what}: {least} was acknowledged, {value} is served"
        )),
        (_, Some(value)) if value > attempted => Some(format!(
            "{what}: {value} is served, at most {attempted} was attempted"
        )),
        _ => None,
    }
}

fn check_records(
    place: Place,
    promised: &PlaceFacts,
    idempotent: &BTreeSet<usize>,
    records: &[(i64, Option<Stamp>)],
) -> Vec<String> {
    let mut found = Vec::new();
    let mut by_offset = BTreeMap::new();
    let mut next: BTreeMap<usize, u64> = BTreeMap::new();
    for (position, (offset, stamp)) in records.iter().enumerate() {
        if i64::try_from(position) != Ok(*offset) {
            found.push(format!("{place:?}: record {position} has offset {offset}"));
        }
        let Some(stamp) = stamp else {
            found.push(format!(
                "{place:?} offset {offset}: a record that nobody sent"
            ));
            continue;
        };
        by_offset.insert(*offset, *stamp);
        if !idempotent.contains(&stamp.producer) {
            continue;
        }
        let expected = next.entry(stamp.producer).or_default();
        if stamp.sequence != *expected {
            found.push(format!(
                "{place:?} offset {offset}: producer {}'s message {} where {expected} should be",
                stamp.producer, stamp.sequence
            ));
        }
        *expected = stamp.sequence + 1;
    }
    for (how, promises) in [
        ("acknowledged", &promised.acknowledged),
        ("seen", &promised.seen),
    ] {
        for (offset, stamp) in promises {
            let there = by_offset.get(offset);
            if there != Some(stamp) {
                found.push(format!(
                    "{place:?} offset {offset}: {stamp:?} was {how}, {there:?} is served"
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = ("topic", 0);

    fn stamp(sequence: u64) -> Stamp {
        Stamp {
            producer: 7,
            sequence,
        }
    }

    /// Three acknowledged messages of an idempotent producer, served as they should be.
    fn kept() -> (Facts, Served) {
        let mut facts = Facts::default();
        facts.idempotent.insert(7);
        for offset in 0..3 {
            let stamp = facts.attempt(PLACE, 7);
            facts.acknowledge(PLACE, offset, stamp);
        }
        let records = (0..3)
            .map(|offset| (offset, Some(stamp(i64::unsigned_abs(offset)))))
            .collect();
        let served = Served {
            records: [(PLACE, records)].into(),
            ..Served::default()
        };
        (facts, served)
    }

    fn findings_after(change: impl FnOnce(&mut Vec<(i64, Option<Stamp>)>)) -> Vec<String> {
        let (facts, mut served) = kept();
        change(
            served
                .records
                .get_mut(&PLACE)
                .expect("the partition is served"),
        );
        check_all(&facts, &served)
    }

    #[test]
    fn kept_promises_give_no_finding() {
        assert!(findings_after(|_| {}).is_empty());
        let unanswered = findings_after(|records| records.push((3, Some(stamp(3)))));
        assert!(
            unanswered.is_empty(),
            "an unanswered message may be there: {unanswered:?}"
        );
    }

    #[test]
    fn a_lost_record_is_found() {
        assert!(!findings_after(|records| records.truncate(2)).is_empty());
        assert!(!findings_after(Vec::clear).is_empty());
    }

    #[test]
    fn a_record_in_the_wrong_place_is_found() {
        let swapped = findings_after(|records| {
            records[0].1 = Some(stamp(1));
            records[1].1 = Some(stamp(0));
        });
        assert!(
            swapped.iter().any(|line| line.contains("should be")),
            "{swapped:?}"
        );
    }

    #[test]
    fn a_duplicate_is_found_even_when_every_promise_is_still_there() {
        let twice = findings_after(|records| records.push((3, Some(stamp(2)))));
        assert_eq!(twice.len(), 1, "{twice:?}");
    }

    #[test]
    fn a_hole_and_a_stranger_are_found() {
        assert!(!findings_after(|records| records.push((9, Some(stamp(3))))).is_empty());
        assert!(!findings_after(|records| records.push((3, None))).is_empty());
    }

    #[test]
    fn an_offset_that_is_given_twice_is_found() {
        let (mut facts, served) = kept();
        facts.acknowledge(PLACE, 1, stamp(3));
        assert!(!check_all(&facts, &served).is_empty());
    }

    #[test]
    fn a_record_that_changes_after_it_was_seen_is_found() {
        let (mut facts, served) = kept();
        facts.see(PLACE, 1, stamp(1));
        assert!(check_all(&facts, &served).is_empty());
        facts.see(PLACE, 1, stamp(2));
        assert!(!check_all(&facts, &served).is_empty());
    }

    #[test]
    fn a_committed_offset_may_neither_vanish_nor_go_back_nor_be_invented() {
        let (mut facts, mut served) = kept();
        *facts.state.committed.entry(("group", PLACE)).or_default() = Growing {
            acknowledged: Some(5),
            attempted: 8,
        };
        for (value, good) in [
            (None, false),
            (Some(4), false),
            (Some(5), true),
            (Some(8), true),
            (Some(9), false),
        ] {
            served.committed = value
                .map(|offset| (("group", PLACE), offset))
                .into_iter()
                .collect();
            assert_eq!(
                check_state(&facts.state, &served).is_empty(),
                good,
                "{value:?}"
            );
        }
    }

    #[test]
    fn a_topic_keeps_its_setting_and_stays_deleted() {
        let (mut facts, mut served) = kept();
        let topic = facts.state.topics.entry("made".to_owned()).or_default();
        topic.retention = Growing {
            acknowledged: Some(10),
            attempted: 11,
        };
        assert!(
            !check_state(&facts.state, &served).is_empty(),
            "it vanished"
        );
        served.topics.insert("made".to_owned(), 9);
        assert!(
            !check_state(&facts.state, &served).is_empty(),
            "an older setting"
        );
        served.topics.insert("made".to_owned(), 11);
        assert!(check_state(&facts.state, &served).is_empty());
        let topic = facts
            .state
            .topics
            .get_mut("made")
            .expect("the topic is known");
        (topic.delete_attempted, topic.delete_acknowledged) = (true, true);
        assert!(
            !check_state(&facts.state, &served).is_empty(),
            "it came back"
        );
        served.topics.clear();
        assert!(check_state(&facts.state, &served).is_empty());
    }
}
