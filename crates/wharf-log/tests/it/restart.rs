//! What was committed is there after a restart.

use bytes::Bytes;
use wharf_log::batch::Producer;
use wharf_log::{
    Appended, CommitError, Condition, PartitionChange, PartitionId, ReadError, StateChange, Unit,
};

use crate::harness::{Node, append, append_to, batch_of, create, shared, small, temporary};

fn put(key: &'static str, value: &'static str) -> Unit {
    let (key, value) = (
        Bytes::from_static(key.as_bytes()),
        Bytes::from_static(value.as_bytes()),
    );
    Unit {
        state: vec![StateChange {
            key,
            value: Some(value),
        }],
        ..Unit::default()
    }
}

#[test]
fn what_was_committed_is_read_and_survives_a_restart() {
    let (_directory, disk) = temporary();
    let mut node = Node::open(&disk, small());
    node.create(1);
    node.create(2);
    let outcomes = node.commit_all(vec![
        append(1, &["a", "b"]),
        append(2, &["x"]),
        append(1, &["c"]),
        put("key", "value"),
    ]);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(
        outcomes[2].as_ref().unwrap().appends,
        [Appended {
            base_offset: 2,
            last_offset: 2,
            log_start: 0,
            append_time: None,
            duplicate: false
        }]
    );
    for _restart in 0..3 {
        let values = node.values(1, 0);
        assert_eq!(values, [(0, "a".into()), (1, "b".into()), (2, "c".into())]);
        assert_eq!(node.values(1, 1), values[1..]);
        assert_eq!(node.values(2, 0), [(0, "x".into())]);
        assert_eq!(
            node.log.reader.state(b"k"),
            [("key".into(), "value".into())]
        );
        drop(node);
        node = Node::open(&disk, small());
        assert!(node.log.recovery.damaged.is_empty());
    }
    assert_eq!(
        node.commit(append(1, &["d"])).unwrap().appends[0].base_offset,
        3
    );
}

#[test]
fn many_files_are_read_back_in_order() {
    let (_directory, disk) = temporary();
    let mut node = Node::open(&disk, small());
    node.create(1);
    let value = "v".repeat(10_000);
    for _ in 0..100 {
        node.commit(append(1, &[&value])).unwrap();
    }
    assert!(node.log.reader.statistics().journal_files > 5);
    for _restart in 0..2 {
        let offsets: Vec<i64> = node
            .values(1, 0)
            .iter()
            .map(|(offset, _)| *offset)
            .collect();
        assert_eq!(offsets, (0..100).collect::<Vec<_>>());
        node = Node::open(&disk, small());
    }
}

#[test]
fn a_refused_unit_leaves_no_trace() {
    let (_directory, disk) = temporary();
    let mut node = Node::open(&disk, small());
    node.create(1);
    let mut unit = append(1, &["lost"]);
    unit.partitions
        .push(PartitionChange::Create(PartitionId(5)));
    unit.state.push(StateChange {
        key: "k".into(),
        value: Some("v".into()),
    });
    unit.appends
        .push(append_to(9, batch_of(&["nowhere"], None, 0)));
    let outcomes = node.commit_all(vec![unit, append(1, &["kept"])]);
    assert_eq!(
        outcomes[0],
        Err(CommitError::UnknownPartition(PartitionId(9)))
    );
    assert_eq!(outcomes[1].as_ref().unwrap().appends[0].base_offset, 0);
    assert_eq!(node.log.reader.partitions(), [PartitionId(1)]);
    assert!(node.log.reader.state(b"").is_empty());
}

#[test]
fn conditions_see_earlier_units_of_the_group() {
    let (_directory, disk) = temporary();
    let mut node = Node::open(&disk, small());
    node.create(1);
    let mut fenced = append(1, &["a"]);
    fenced.conditions.push(Condition::StateEquals {
        key: "owner".into(),
        value: Some("me".into()),
    });
    let mut at = append(1, &["b"]);
    at.conditions.push(Condition::NextOffset {
        partition: PartitionId(1),
        offset: 1,
    });
    let mut again = append(1, &["c"]);
    again.conditions.push(Condition::NextOffset {
        partition: PartitionId(1),
        offset: 1,
    });
    let outcomes = node.commit_all(vec![
        fenced,
        put("owner", "me"),
        append(1, &["x"]),
        at,
        again,
    ]);
    assert_eq!(outcomes[0], Err(CommitError::ConditionFailed(0)));
    assert!(outcomes[3].is_ok());
    assert_eq!(outcomes[4], Err(CommitError::ConditionFailed(0)));
}

#[test]
fn duplicates_are_answered_with_the_first_offset_across_a_restart() {
    let (_directory, disk) = temporary();
    let mut node = Node::open(&disk, small());
    node.create(1);
    let unit = |sequence| {
        let producer = Producer {
            id: 9,
            epoch: 0,
            sequence,
        };
        let batch = batch_of(&["p", "q"], Some(producer), 0);
        Unit {
            appends: vec![append_to(1, batch)],
            ..Unit::default()
        }
    };
    let outcomes = node.commit_all(vec![unit(0), unit(2), unit(0)]);
    let repeated = outcomes[2].as_ref().unwrap().appends[0];
    assert_eq!(
        (
            repeated.base_offset,
            repeated.last_offset,
            repeated.duplicate
        ),
        (0, 1, true)
    );
    let mut node = Node::open(&disk, small());
    let repeated = node.commit(unit(2)).unwrap().appends[0];
    assert_eq!((repeated.base_offset, repeated.duplicate), (2, true));
    let gap = node.commit(unit(6));
    assert_eq!(
        gap,
        Err(CommitError::OutOfOrderSequence {
            expected: 4,
            found: 6
        })
    );
    assert_eq!(node.end(1), 4);
    assert_eq!(
        node.log.reader.producers(PartitionId(1))[0].last_sequence,
        3
    );
}

#[test]
fn removed_partitions_and_deleted_records_stay_gone() {
    let (_directory, disk) = temporary();
    let mut node = Node::open(&disk, small());
    node.create(1);
    node.create(2);
    node.commit(append(1, &["a", "b"])).unwrap();
    node.commit(append(1, &["c"])).unwrap();
    let advance = |offset| Unit {
        partitions: vec![PartitionChange::AdvanceStart {
            partition: PartitionId(1),
            offset,
        }],
        ..Unit::default()
    };
    assert_eq!(
        node.commit(advance(4)),
        Err(CommitError::OffsetOutOfRange {
            offset: 4,
            start: 0,
            end: 3
        })
    );
    node.commit(advance(1)).unwrap();
    let remove = PartitionChange::Remove(PartitionId(2));
    node.commit(Unit {
        partitions: vec![remove],
        ..Unit::default()
    })
    .unwrap();
    let node = Node::open(&disk, small());
    assert_eq!(node.log.reader.partitions(), [PartitionId(1)]);
    let below = node.log.reader.read(PartitionId(1), 0, 100, true);
    assert!(
        matches!(
            below,
            Err(ReadError::OffsetOutOfRange {
                start: 1,
                end: 3,
                ..
            })
        ),
        "{below:?}"
    );
    assert_eq!(node.values(1, 1), [(1, "b".into()), (2, "c".into())]);
}

#[test]
fn a_unit_that_is_too_large_is_refused_before_anything_changes() {
    let (_directory, disk) = temporary();
    let mut node = Node::open(&disk, small());
    node.create(1);
    let outcomes = node.commit_all(vec![append(1, &[&"x".repeat(40_000)]), append(1, &["y"])]);
    assert!(
        matches!(outcomes[0], Err(CommitError::TooLarge { .. })),
        "{outcomes:?}"
    );
    assert_eq!(outcomes[1].as_ref().unwrap().appends[0].base_offset, 0);
    assert_eq!(
        node.commit(create(1)),
        Err(CommitError::PartitionExists(PartitionId(1)))
    );
}

#[test]
fn the_observer_hears_of_appends_and_reads_know_when_they_need_the_disk() {
    let (_directory, disk) = temporary();
    let mut node = Node::open(&disk, small());
    node.create(1);
    for _ in 0..10 {
        node.commit(append(1, &[&"x".repeat(5_000)])).unwrap();
    }
    assert_eq!(node.told.0.lock().unwrap().len(), 10);
    let cold = node.log.reader.read(PartitionId(1), 0, 100, false);
    assert!(matches!(cold, Err(ReadError::NeedsDisk)), "{cold:?}");
    let warm = node.log.reader.read(PartitionId(1), 9, 100, false).unwrap();
    assert_eq!(warm.batches.len(), 1);
    let end = node
        .log
        .reader
        .read(PartitionId(1), 10, 100, false)
        .unwrap();
    assert!(end.batches.is_empty());
}

#[test]
fn a_graceful_stop_is_believed_once() {
    let (disk, mut node) = Node::simulated(1, small());
    node.create(1);
    node.commit(append(1, &["a"])).unwrap();
    node.stop();
    assert!(disk.paths().contains(&"stopped".to_owned()));
    let mut node = Node::open(&shared(&disk), small());
    assert!(!disk.paths().contains(&"stopped".to_owned()));
    node.commit(append(1, &["b"])).unwrap();
    let disk = disk.crash();
    let node = Node::open(&shared(&disk), small());
    assert_eq!(node.log.recovery.frames_replayed, 1);
    assert_eq!(node.values(1, 0).len(), 2);
}
