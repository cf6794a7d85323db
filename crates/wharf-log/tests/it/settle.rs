//! Settled batches are read from segments as they were written.

use std::time::Duration;

use wharf_log::batch;
use wharf_log::disk::simulated::{Faults, SimulatedDisk};
use wharf_log::{Health, PartitionId, Retention, Unit};
use wharf_message::Timestamp;

use crate::harness::{Keep, Node, append, append_to, batch_of, keep_all, shared, small};

/// Fills about `files` journal files with batches for three partitions.
fn fill(node: &mut Node, files: u64) -> Vec<Vec<(i64, bytes::Bytes)>> {
    let mut expected = vec![Vec::new(); 3];
    for partition in 0..3 {
        node.create(partition);
    }
    for round in 0..files * 10 {
        for partition in 0..3_u64 {
            let value = format!("{round}-{partition}-{}", "x".repeat(2_000));
            let outcome = node.commit(append(partition, &[&value, "y"])).unwrap();
            let base = outcome.appends[0].base_offset;
            let list = &mut expected[usize::try_from(partition).unwrap()];
            list.extend([(base, value.into()), (base + 1, "y".into())]);
        }
    }
    expected
}

fn segments(disk: &SimulatedDisk, partition: u64) -> Vec<String> {
    let directory = format!("segments/{partition:016x}/");
    let mut paths = disk.paths();
    paths.retain(|path| path.starts_with(&directory) && path.ends_with(".log"));
    paths
}

#[test]
fn batches_move_to_segments_and_read_the_same_before_and_after_a_restart() {
    let (disk, mut node) = Node::simulated(1, small());
    let expected = fill(&mut node, 12);
    node.maintain(&keep_all());
    assert!(segments(&disk, 0).len() > 1, "{:?}", disk.paths());
    assert!(node.log.reader.statistics().settled_bytes > 100_000);
    let journal = disk
        .paths()
        .iter()
        .filter(|path| path.starts_with("journal/"))
        .count();
    assert!(
        journal <= 5,
        "two sealed, the active one, two prepared: {journal}"
    );
    for restart in 0..3 {
        for (partition, expected) in (0..).zip(&expected) {
            assert_eq!(&node.values(partition, 0), expected, "restart {restart}");
            for at in (0..expected.len()).step_by(7) {
                let offset = i64::try_from(at).unwrap();
                assert_eq!(node.values(partition, offset), expected[at..]);
            }
        }
        if restart == 0 {
            node.stop();
        }
        node = Node::open(&shared(&disk), small());
        assert_eq!(node.log.recovery.frames_replayed, 0);
        node.maintain(&keep_all());
    }
}

#[test]
fn a_missing_or_broken_index_is_rebuilt() {
    let (disk, mut node) = Node::simulated(2, small());
    let expected = fill(&mut node, 12);
    let large = Keep(Retention {
        segment_bytes: 1 << 30,
        ..keep_all().0
    });
    node.maintain(&large);
    node.stop();
    let paths = disk.paths();
    let indexes: Vec<_> = paths.iter().filter(|path| path.ends_with(".idx")).collect();
    assert_eq!(indexes.len(), 3);
    disk.corrupt(indexes[0], 3).unwrap();
    disk.corrupt(indexes[1], 35).unwrap();
    wharf_log::disk::Disk::remove(&disk, indexes[2]).unwrap();
    let mut node = Node::open(&shared(&disk), small());
    for (partition, expected) in (0..).zip(&expected) {
        assert_eq!(&node.values(partition, 0), expected);
    }
    for round in 0..200 {
        node.commit(append(2, &[&format!("more {round} {}", "z".repeat(5_000))]))
            .unwrap();
    }
    node.maintain(&large);
    assert_eq!(node.values(2, 0).len(), expected[2].len() + 200);
}

#[test]
fn times_are_found_in_segments_and_in_the_journal() {
    let (_disk, mut node) = Node::simulated(3, small());
    node.create(1);
    // Times go up and down; the newest lies in the middle.
    let time = |index: i64| {
        if index == 70 {
            5_000
        } else {
            index * 10 + (index % 3) * 7
        }
    };
    let mut times = Vec::new();
    for index in 0..150 {
        let batch = batch_of(&["a", &"v".repeat(3_000)], None, time(index));
        let unit = Unit {
            appends: vec![append_to(1, batch)],
            ..Unit::default()
        };
        let base = node.commit(unit).unwrap().appends[0].base_offset;
        times.push((base, time(index)));
    }
    node.maintain(&keep_all());
    assert!(node.log.reader.statistics().settled_bytes > 0);
    let base = |found: Option<wharf_log::TimedBatch>| {
        found.map(|found| batch::header(&found.batch).unwrap().base_offset)
    };
    for wanted in (0..1600).step_by(13).chain([4_999, 5_000, 5_001]) {
        let expected = times
            .iter()
            .find(|(_, time)| *time >= wanted)
            .map(|(base, _)| *base);
        let at = Timestamp::from_millis(wanted);
        let found = node.log.reader.batch_at_time(PartitionId(1), at).unwrap();
        assert_eq!(base(found), expected, "time {wanted}");
    }
    let newest = || base(node.log.reader.batch_of_max_time(PartitionId(1)).unwrap());
    assert_eq!(newest(), Some(140));
    node.commit(crate::harness::advance(1, 142)).unwrap();
    let newest = base(node.log.reader.batch_of_max_time(PartitionId(1)).unwrap());
    assert_eq!(newest, times.last().map(|(base, _)| *base));
}

#[test]
fn a_segment_is_rolled_by_the_age_of_its_first_record() {
    let (disk, mut node) = Node::simulated(4, small());
    node.create(1);
    for index in 0..100 {
        let batch = batch_of(&[&"v".repeat(8_000)], None, index * 1000);
        let unit = Unit {
            appends: vec![append_to(1, batch)],
            ..Unit::default()
        };
        node.commit(unit).unwrap();
    }
    let age = Duration::from_secs(20);
    node.maintain(&Keep(Retention {
        segment_age: age,
        segment_bytes: 1 << 30,
        ..keep_all().0
    }));
    let count = segments(&disk, 1).len();
    assert!((3..=5).contains(&count), "{count}");
}

#[test]
fn many_tiny_batches_settle_early() {
    let options = wharf_log::Options {
        index_batches_max: 500,
        ..small()
    };
    let (_disk, mut node) = Node::simulated(5, options);
    node.create(1);
    for _ in 0..30 {
        node.commit_all((0..40).map(|_| append(1, &["t"])).collect());
        node.maintain(&keep_all());
    }
    let settled = node.log.reader.statistics().settled_bytes;
    assert!(
        settled > 0,
        "the index holds at most what a file and 500 batches make"
    );
    assert_eq!(node.values(1, 0).len(), 1200);
}

#[test]
fn a_settling_that_cannot_read_changes_nothing_and_is_tried_again() {
    let (disk, mut node) = Node::simulated(6, small());
    let expected = fill(&mut node, 6);
    disk.set_faults(Faults {
        read_failure_one_in: 1,
        ..Faults::default()
    });
    assert!(!node.log.maintenance.run(&keep_all(), node.now));
    let statistics = node.log.reader.statistics();
    assert_eq!(
        (statistics.maintenance_failures, statistics.settled_bytes),
        (1, 0)
    );
    assert_eq!(node.log.reader.health(), Health::Writable);
    assert!(segments(&disk, 0).is_empty());
    disk.set_faults(Faults::default());
    node.now = node.now.after(Duration::from_secs(1));
    node.maintain(&keep_all());
    assert!(!segments(&disk, 0).is_empty());
    assert_eq!(node.values(0, 0), expected[0]);
}

#[test]
fn a_settling_whose_sync_fails_stops_the_log_and_loses_nothing() {
    let (disk, mut node) = Node::simulated(7, small());
    let expected = fill(&mut node, 6);
    disk.set_faults(Faults {
        sync_failure_one_in: 1,
        ..Faults::default()
    });
    assert!(!node.log.maintenance.run(&keep_all(), node.now));
    assert!(matches!(node.log.reader.health(), Health::Poisoned { .. }));
    disk.set_faults(Faults::default());
    let disk = disk.crash();
    let mut node = Node::open(&shared(&disk), small());
    node.maintain(&keep_all());
    for (partition, expected) in (0..).zip(&expected) {
        assert_eq!(&node.values(partition, 0), expected);
    }
}
