//! Old records go by size and age, deleted ones at once; never more than that.

use std::time::Duration;

use wharf_log::disk::simulated::SimulatedDisk;
use wharf_log::{PartitionId, ReadError, Retention, Unit};
use wharf_message::Timestamp;

use crate::harness::{
    Keep, Node, advance, append, append_to, batch_of, keep_all, remove, shared, small,
};

fn later(node: &mut Node, by: Duration) {
    node.now = node.now.after(by);
}

fn segment_files(disk: &SimulatedDisk) -> usize {
    disk.paths()
        .iter()
        .filter(|path| path.starts_with("segments/"))
        .count()
}

/// 120 batches of 5 kB, one second apart, the first at the node's time.
fn fill(node: &mut Node) {
    node.create(1);
    for index in 0..120 {
        let time = node.now.as_millis() + index * 1000;
        let batch = batch_of(&[&"v".repeat(5_000)], None, time);
        let unit = Unit {
            appends: vec![append_to(1, batch)],
            ..Unit::default()
        };
        node.commit(unit).unwrap();
    }
    node.maintain(&keep_all());
}

fn bounds(node: &Node) -> (i64, i64) {
    let bounds = node.log.reader.bounds(PartitionId(1)).unwrap();
    (bounds.start, bounds.end)
}

#[test]
fn size_keeps_at_least_the_limit_and_removes_files() {
    let (disk, mut node) = Node::simulated(1, small());
    fill(&mut node);
    let before = segment_files(&disk);
    later(&mut node, Duration::from_secs(10));
    let policy = Keep(Retention {
        bytes: Some(200_000),
        ..keep_all().0
    });
    node.maintain(&policy);
    let size = node.log.reader.size_bytes(PartitionId(1));
    assert!((200_000..300_000).contains(&size), "{size}");
    assert!(segment_files(&disk) < before);
    let (start, end) = bounds(&node);
    assert_eq!(end, 120);
    assert_eq!(
        node.values(1, start).len(),
        usize::try_from(end - start).unwrap()
    );
    let gone = node.log.reader.read(PartitionId(1), 0, 1, true);
    assert!(
        matches!(gone, Err(ReadError::OffsetOutOfRange { .. })),
        "{gone:?}"
    );
    let node = Node::open(&shared(&disk), small());
    assert_eq!(bounds(&node), (start, end));
}

#[test]
fn age_counts_from_the_newest_record_and_a_clock_that_jumps_back_deletes_nothing() {
    let (_disk, mut node) = Node::simulated(2, small());
    fill(&mut node);
    let policy = Keep(Retention {
        age: Some(Duration::from_secs(60)),
        ..keep_all().0
    });
    node.now = Timestamp::from_millis(10);
    node.maintain(&policy);
    assert_eq!(bounds(&node), (0, 120));
    node.now = Timestamp::from_millis(1_000_000);
    later(&mut node, Duration::from_secs(100));
    node.maintain(&policy);
    let (start, _) = bounds(&node);
    assert!(
        (20..=40).contains(&start),
        "whole segments whose newest record is over 60 s: {start}"
    );
    later(&mut node, Duration::from_secs(1000));
    node.maintain(&policy);
    assert_eq!(bounds(&node), (120, 120), "in the journal, too");
    assert_eq!(
        node.commit(append(1, &["next"])).unwrap().appends[0].base_offset,
        120
    );
}

#[test]
fn deleted_records_and_removed_partitions_leave_no_file() {
    let (disk, mut node) = Node::simulated(3, small());
    fill(&mut node);
    node.commit(advance(1, 50)).unwrap();
    let before = segment_files(&disk);
    node.maintain(&keep_all());
    assert!(segment_files(&disk) < before);
    assert_eq!(bounds(&node), (50, 120));
    assert_eq!(node.values(1, 50).len(), 70);
    node.commit(remove(1)).unwrap();
    node.maintain(&keep_all());
    assert_eq!(segment_files(&disk), 0);
    node.stop();
    let node = Node::open(&shared(&disk), small());
    assert!(node.log.reader.partitions().is_empty());
}

#[test]
fn what_a_crash_left_behind_is_swept() {
    let (disk, mut node) = Node::simulated(4, small());
    fill(&mut node);
    node.commit(advance(1, 100)).unwrap();
    node.create(2);
    // The process dies before maintenance has removed the files.
    let before = segment_files(&disk);
    let disk = disk.kill();
    let mut node = Node::open(&shared(&disk), small());
    assert_eq!(bounds(&node), (100, 120));
    node.maintain(&keep_all());
    assert!(segment_files(&disk) < before);
    let orphan = "segments/00000000000000ff";
    wharf_log::disk::Disk::create_dir(&disk, orphan).unwrap();
    node.stop();
    let mut node = Node::open(&shared(&disk), small());
    node.maintain(&keep_all());
    let left = wharf_log::disk::Disk::list(&disk, "segments").unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
}
