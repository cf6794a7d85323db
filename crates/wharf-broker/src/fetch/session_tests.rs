//! Sessions against a model: whatever a client changes, it is told exactly the news.

use std::collections::BTreeMap;

use proptest::prelude::*;
use wharf_log::Bounds;

use super::*;

fn asked(partition: i32) -> FetchPartition {
    FetchPartition {
        topic: TopicRef::Name("orders".to_owned()),
        partition,
        offset: 0,
        bytes_max: 1,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        log_start: -1,
    }
}

fn request(id: i32, epoch: i32, add: &[i32], forget: &[i32]) -> Fetch {
    Fetch {
        wait_max: Duration::ZERO,
        bytes_min: 0,
        bytes_max: 1,
        read_committed: false,
        session: FetchSession { id, epoch },
        partitions: add.iter().copied().map(asked).collect(),
        forgotten: forget
            .iter()
            .map(|partition| (TopicRef::Name("orders".to_owned()), *partition))
            .collect(),
    }
}

/// What is found for a plan, with these high watermarks.
fn found(plan: &Plan, ends: &BTreeMap<i32, i64>) -> Vec<Found> {
    let found = |asked: &Arc<FetchPartition>| {
        let end = ends.get(&asked.partition).copied().unwrap_or(0);
        Found {
            bounds: Some(Bounds {
                start: 0,
                end,
                stable_end: end,
            }),
            ..Found::default()
        }
    };
    plan.partitions.iter().map(found).collect()
}

proptest! {
    #[test]
    fn a_client_knows_every_end_of_what_it_asked_for(
        steps in prop::collection::vec(
            (prop::collection::vec(0..6_i32, 0..3), prop::collection::vec(0..6_i32, 0..3), 0..6_i32),
            1..30,
        )
    ) {
        let sessions = Sessions::new(2);
        let mut ends = BTreeMap::new();
        let mut known: BTreeMap<i32, i64> = BTreeMap::new();
        let plan = sessions.begin(request(0, 0, &[0, 9], &[]), Timestamp::ZERO).unwrap();
        let (id, told) =
            sessions.finish(&plan, found(&plan, &ends), Timestamp::ZERO, [7; 16]);
        prop_assert!(id > 0);
        known.extend(told.iter().map(|one| (one.partition, one.high_watermark)));
        for (step, (add, forget, grow)) in steps.into_iter().enumerate() {
            *ends.entry(grow).or_insert(0) += 1;
            let epoch = i32::try_from(step).unwrap() + 1;
            let plan = sessions.begin(request(id, epoch, &add, &forget), Timestamp::ZERO).unwrap();
            for partition in &forget {
                known.remove(partition);
            }
            for partition in &add {
                known.entry(*partition).or_insert(-1);
            }
            let mut asked: Vec<_> = plan.partitions.iter().map(|one| one.partition).collect();
            asked.sort_unstable();
            prop_assert_eq!(&asked, &known.keys().copied().collect::<Vec<_>>());
            let (_, told) =
                sessions.finish(&plan, found(&plan, &ends), Timestamp::ZERO, [7; 16]);
            for one in told {
                let before = known.insert(one.partition, one.high_watermark);
                prop_assert_ne!(before, Some(one.high_watermark), "told twice");
            }
            for (partition, end) in &known {
                prop_assert_eq!(*end, ends.get(partition).copied().unwrap_or(0));
            }
            let table = sync::lock(&sessions.table);
            prop_assert_eq!(table.partitions, known.len());
        }
    }
}

#[test]
fn names_no_topic_can_have_are_not_remembered() {
    let sessions = Sessions::new(2);
    let mut fetch = request(0, 0, &[0], &[]);
    fetch.partitions[0].topic = TopicRef::Name("x".repeat(30_000));
    let plan = sessions.begin(fetch, Timestamp::ZERO).unwrap();
    let found = found(&plan, &BTreeMap::new());
    let (id, told) = sessions.finish(&plan, found, Timestamp::ZERO, [7; 16]);
    assert_eq!((id, told.len()), (0, 1));
}

#[test]
fn epochs_wrap_around_to_one() {
    assert_eq!(next_epoch(i32::MAX), 1);
    assert_eq!(next_epoch(1), 2);
}

#[test]
fn a_new_session_never_takes_the_id_of_another() {
    let sessions = Sessions::new(2);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let plan = sessions
            .begin(request(0, 0, &[0], &[]), Timestamp::ZERO)
            .unwrap();
        let found = found(&plan, &BTreeMap::new());
        ids.push(sessions.finish(&plan, found, Timestamp::ZERO, [0xff; 16]).0);
    }
    assert_eq!(ids, [i32::MAX, 1]);
}
