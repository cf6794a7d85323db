//! Compaction, case by case: what goes when, and what is left alone.

use std::time::Duration;

use wharf_log::disk::simulated::Faults;
use wharf_log::{PartitionId, Unit, batch};
use wharf_message::Timestamp;

use crate::compaction::{Said, WHILE, World, compacting, filled, readable, record};
use crate::harness::{Node, append_to, small};

#[test]
fn tombstones_and_markers_go_when_their_time_has_come() {
    let mut world = World::new(1, small());
    let policy = compacting(|settings| {
        settings.delete_retention = Duration::from_secs(100);
    });
    world.append(&[(1, true), (2, true)], false);
    world.append(&[(1, false)], false);
    world.append(&[(3, true)], true);
    world.end(false);
    world.node.now = world.node.now.after(WHILE);
    world.node.maintain(&policy);
    let kept: Vec<i64> = readable(&world.node, false).into_keys().collect();
    assert_eq!(
        kept,
        [1, 2],
        "the value of key 1 and the aborted record are gone"
    );
    let reader = &world.node.log.reader;
    assert!(reader.aborted(PartitionId(1), 0, 9).is_empty());
    let marker_is_there = |node: &Node| {
        let slice = node.log.reader.read(PartitionId(1), 4, 1, true).unwrap();
        batch::header(&slice.batches[0]).unwrap().is_control()
    };
    assert!(marker_is_there(&world.node));
    world.node.now = world.node.now.after(Duration::from_secs(101));
    world.node.maintain(&policy);
    let kept: Vec<i64> = readable(&world.node, false).into_keys().collect();
    assert_eq!(kept, [1]);
    assert!(!marker_is_there(&world.node));
    assert_eq!(world.node.end(1), 5);
}

#[test]
fn nothing_at_or_beyond_an_open_transaction_is_compacted() {
    let mut world = World::new(1, small());
    let policy = compacting(|_| {});
    world.append(&[(1, true)], true);
    for _ in 0..20 {
        world.append(&[(2, true)], false);
    }
    world.node.now = world.node.now.after(WHILE);
    world.node.maintain(&policy);
    assert_eq!(readable(&world.node, false).len(), 21);
    world.end(true);
    world.node.now = world.node.now.after(WHILE);
    world.node.maintain(&policy);
    assert_eq!(readable(&world.node, true).len(), 2);
}

#[test]
fn a_little_dirt_does_not_make_a_partition_dirty() {
    let mut world = World::new(1, small());
    let policy = compacting(|settings| {
        settings.dirty_ratio = 0.5;
        settings.max_lag = None;
    });
    let settling = compacting(|settings| settings.dirty_ratio = 1.0);
    for key in 0..40 {
        world.append(&[(key, true)], false);
    }
    world.node.now = world.node.now.after(WHILE);
    world.node.maintain(&settling);
    let compacted = |world: &World| world.node.log.reader.statistics().compacted_bytes;
    let before = compacted(&world);
    assert!(before > 0);
    world.append(&[(1, true)], false);
    world.node.now = world.node.now.after(WHILE);
    world.node.maintain(&policy);
    assert_eq!(compacted(&world), before);
    assert_eq!(readable(&world.node, true).len(), 41);
}

#[test]
fn a_batch_that_cannot_be_decoded_stays_as_it_is() {
    let mut world = World::new(1, small());
    let mut strange = batch::build(
        &[record(&Said {
            key: "key 1".into(),
            value: Some("zstd, it claims".into()),
            time: 5,
        })],
        None,
    )
    .to_vec();
    strange[22] |= 4;
    let crc = crc32c::crc32c(&strange[21..]);
    strange[17..21].copy_from_slice(&crc.to_be_bytes());
    let unit = Unit {
        appends: vec![append_to(1, strange.into())],
        ..Unit::default()
    };
    let before = world.node.commit(unit).unwrap().appends[0].base_offset;
    world.append(&[(1, true)], false);
    world.append(&[(1, true)], false);
    world.node.now = world.node.now.after(WHILE);
    world.node.maintain(&compacting(|_| {}));
    let slice = world.node.log.reader.read(PartitionId(1), before, 1, true);
    let header = batch::header(&slice.unwrap().batches[0]).unwrap();
    assert_eq!((header.base_offset, header.record_count), (0, 1));
    // Nothing is left at 1, so a read there goes on with what follows.
    let next = world.node.log.reader.read(PartitionId(1), 1, 1, true);
    let header = batch::header(&next.unwrap().batches[0]).unwrap();
    assert_eq!((header.base_offset, header.record_count), (2, 1));
}

/// librdkafka takes an answer without any record for one that was cut off, and asks for twice as much
/// each time.
#[test]
fn a_reader_is_never_given_nothing_but_emptied_batches_while_records_follow() {
    let mut world = World::new(1, small());
    for _ in 0..200 {
        world.append(&[(11, true)], false);
    }
    world.node.now = world.node.now.after(WHILE);
    world.node.maintain(&compacting(|_| {}));
    let emptied = |path: &String| path.ends_with(".log");
    assert!(
        world
            .disk
            .paths()
            .iter()
            .filter(|path| emptied(path))
            .count()
            > 2
    );
    for offset in 0..200 {
        let slice = world.node.log.reader.read(PartitionId(1), offset, 1, true);
        let header = batch::header(&slice.unwrap().batches[0]).unwrap();
        assert_eq!((header.base_offset, header.record_count), (199, 1));
    }
}

#[test]
fn a_search_by_time_finds_nothing_where_compaction_has_left_nothing() {
    let mut world = World::new(1, small());
    let policy = compacting(|settings| settings.delete_retention = Duration::ZERO);
    world.append(&[(1, false)], false);
    world.append(&[(2, true)], true);
    world.end(false);
    for _ in 0..3 {
        world.node.now = world.node.now.after(WHILE);
        world.node.maintain(&policy);
    }
    let reader = &world.node.log.reader;
    let slice = reader.read(PartitionId(1), 0, 1, true).unwrap();
    assert_eq!(batch::header(&slice.batches[0]).unwrap().record_count, 0);
    let found = reader.batch_of_max_time(PartitionId(1));
    assert!(found.unwrap().is_none());
    let before_all = Timestamp::from_millis(-1);
    let found = reader.batch_at_time(PartitionId(1), before_all);
    assert!(found.unwrap().is_none());
}

#[test]
fn a_partition_with_damage_is_left_alone() {
    let mut world = filled(1);
    // Settled, and not compacted yet.
    let mut settling = compacting(|settings| settings.min_lag = Duration::from_secs(1_000));
    world.node.maintain(&settling);
    let paths = world.disk.paths();
    let path = paths.iter().find(|path| path.ends_with(".log")).unwrap();
    world.disk.corrupt(path, 30).unwrap();
    world.reopen();
    settling.0.compaction.as_mut().unwrap().min_lag = Duration::ZERO;
    world.node.now = world.node.now.after(WHILE);
    world.node.maintain(&settling);
    assert_eq!(world.node.log.reader.statistics().compacted_bytes, 0);
    assert_eq!(world.node.log.reader.damaged().len(), 1);
    assert!(
        world
            .node
            .log
            .reader
            .read(PartitionId(1), 2, 1, true)
            .is_ok()
    );
}

#[test]
fn a_full_disk_ends_a_compaction_and_nothing_else() {
    let mut world = filled(1);
    let policy = compacting(|_| {});
    let settling = compacting(|settings| settings.min_lag = Duration::from_secs(1_000));
    world.node.maintain(&settling);
    let before = readable(&world.node, true);
    world.disk.set_faults(Faults {
        capacity_bytes: Some(world.disk.used_bytes()),
        ..Faults::default()
    });
    world.node.now = world.node.now.after(WHILE);
    for _ in 0..50 {
        world.node.log.maintenance.run(&policy, world.node.now);
    }
    assert_eq!(readable(&world.node, true), before);
    world.append(&[(1, true)], false);
    world.disk.set_faults(Faults::default());
    world.node.now = world.node.now.after(WHILE);
    world.node.maintain(&policy);
    assert!(readable(&world.node, true).len() < before.len());
}

#[test]
fn compacted_segments_are_deleted_by_age_like_others() {
    let mut world = filled(1);
    let mut policy = compacting(|_| {});
    world.node.maintain(&policy);
    let kept = readable(&world.node, true).len();
    assert!(kept > 0);
    policy.0.age = Some(Duration::from_secs(50));
    world.node.now = world.node.now.after(Duration::from_secs(100));
    world.append(&[(1, true)], false);
    world.node.maintain(&policy);
    let left = readable(&world.node, true);
    assert_eq!(left.len(), 1, "{left:?}");
}
