//! Damage is refused, never served, never cut; the rest is served.

use wharf_log::batch::{self, Record};
use wharf_log::disk::simulated::SimulatedDisk;
use wharf_log::disk::{Disk, Open};
use wharf_log::{OpenError, Options, PartitionId, ReadError, Unit};

use crate::harness::{Node, append, append_to, keep_all, shared, small};

/// One frame per value: the first creates the partitions.
fn frames(node: &mut Node, values: &[(u64, &str)]) {
    for (partition, value) in values {
        node.commit(append(*partition, &[value])).unwrap();
    }
}

fn two_partitions(seed: u64, options: Options) -> (SimulatedDisk, Node) {
    let (disk, mut node) = Node::simulated(seed, options);
    node.commit_all(vec![crate::harness::create(1), crate::harness::create(2)]);
    (disk, node)
}

const FILE: &str = "journal/0000000000000001.wal";
/// Every frame of these tests fits into one aligned block.
const FRAME: u64 = 4096;

fn read(node: &Node, partition: u64, offset: i64) -> Result<usize, ReadError> {
    let slice = node
        .log
        .reader
        .read(PartitionId(partition), offset, 1, true)?;
    Ok(slice.batches.len())
}

#[test]
fn a_damaged_payload_refuses_exactly_its_batch() {
    let (disk, mut node) = two_partitions(1, small());
    frames(&mut node, &[(1, "a"), (1, "b"), (2, "x"), (1, "c")]);
    drop(node);
    disk.corrupt(FILE, 2 * FRAME + 72 + 17 + 37 + 65).unwrap();
    let mut node = Node::open(&shared(&disk), small());
    let damaged = &node.log.recovery.damaged;
    assert_eq!(damaged.len(), 1, "{damaged:?}");
    assert_eq!(
        (damaged[0].partition, damaged[0].first, damaged[0].last),
        (Some(PartitionId(1)), 1, 1)
    );
    assert_eq!(read(&node, 1, 0).unwrap(), 1);
    assert!(matches!(read(&node, 1, 1), Err(ReadError::Damaged(_))));
    assert_eq!(node.values(1, 2), [(2, "c".into())]);
    assert_eq!(node.values(2, 0), [(0, "x".into())]);
    frames(&mut node, &[(1, "d")]);
    assert_eq!(node.values(1, 2).len(), 2);
}

#[test]
fn a_damaged_header_is_reported_and_its_offsets_are_not_given_again() {
    let (disk, mut node) = two_partitions(2, small());
    frames(&mut node, &[(1, "a"), (2, "lost"), (1, "b"), (1, "c")]);
    drop(node);
    disk.corrupt(FILE, 2 * FRAME + 20).unwrap();
    for _restart in 0..2 {
        let node = Node::open(&shared(&disk), small());
        let damaged = node.log.reader.damaged();
        assert!(
            damaged.iter().any(|range| range.partition.is_none()),
            "{damaged:?}"
        );
        assert!(matches!(read(&node, 2, 0), Err(ReadError::Damaged(_))));
        assert_eq!(node.values(1, 0).len(), 3);
        assert_eq!(
            node.end(2),
            1,
            "the next frame says where partition 2 ended"
        );
    }
    let mut node = Node::open(&shared(&disk), small());
    let base = node.commit(append(2, &["new"])).unwrap().appends[0].base_offset;
    assert_eq!(base, 1);
    assert_eq!(node.values(2, 1), [(1, "new".into())]);
}

#[test]
fn the_last_frame_torn_is_cut_and_its_offsets_are_free() {
    let (disk, mut node) = two_partitions(3, small());
    frames(&mut node, &[(1, "a"), (1, "torn")]);
    drop(node);
    disk.corrupt(FILE, 2 * FRAME + 30).unwrap();
    let mut node = Node::open(&shared(&disk), small());
    assert!(node.log.recovery.damaged.is_empty());
    assert!(node.log.recovery.torn_tail_bytes > 0);
    assert_eq!(node.end(1), 1);
    assert_eq!(
        node.commit(append(1, &["b"])).unwrap().appends[0].base_offset,
        1
    );
    let node = Node::open(&shared(&disk), small());
    assert_eq!(node.values(1, 0), [(0, "a".into()), (1, "b".into())]);
    assert_eq!(node.log.recovery.torn_tail_bytes, 0);
}

#[test]
fn frames_of_a_former_life_are_never_replayed() {
    let (disk, mut node) = Node::simulated(4, small());
    node.create(1);
    let value = "v".repeat(3_000);
    for _ in 0..400 {
        frames(&mut node, &[(1, &value)]);
        node.maintain(&keep_all());
    }
    // Every file but the first few was recycled and is full of old frames.
    let disk = disk.crash();
    let node = Node::open(&shared(&disk), small());
    assert!(
        node.log.recovery.damaged.is_empty(),
        "{:?}",
        node.log.recovery
    );
    assert_eq!(node.end(1), 400);
    assert_eq!(node.values(1, 0).len(), 400);
}

/// A log whose third and last frame holds `value`; returns where in the frame's blocks it lies.
fn third_frame(secret: u64, value: Vec<u8>) -> (SimulatedDisk, usize) {
    let (disk, mut node) = Node::simulated(5, Options { secret, ..small() });
    node.create(1);
    frames(&mut node, &[(1, "first")]);
    let start = value[..8].to_vec();
    let record = Record {
        value: Some(value.into()),
        ..Record::default()
    };
    let appends = vec![append_to(1, batch::build(&[record], None))];
    node.commit(Unit {
        appends,
        ..Unit::default()
    })
    .unwrap();
    let mut content = vec![0; 64 << 10];
    disk.open(FILE, Open::Existing)
        .unwrap()
        .read_at(&mut content, 0)
        .unwrap();
    let at = content
        .windows(8)
        .position(|window| window == start)
        .unwrap();
    (disk, at % 4096)
}

#[test]
fn frames_that_a_client_made_up_are_not_taken_for_frames() {
    // The client has a log of its own, and its fifth frame says that all before it were durable.
    let (own, mut node) = Node::simulated(
        4,
        Options {
            secret: 11,
            ..small()
        },
    );
    node.create(1);
    frames(&mut node, &[(1, "a"), (1, "b"), (1, "c"), (1, "made up")]);
    let mut made_up = vec![0; 4096];
    let file = own.open(FILE, Open::Existing).unwrap();
    file.read_at(&mut made_up, 4 * FRAME).unwrap();
    let mut value = vec![b'#'; 8192];
    let (_, at) = third_frame(22, value.clone());
    let aligned = 4096 - at;
    value[aligned..aligned + 4096].copy_from_slice(&made_up);
    for (secret, fooled) in [(11, true), (22, false)] {
        let (disk, _) = third_frame(secret, value.clone());
        // The frame around it cannot be read.
        disk.corrupt(FILE, 2 * FRAME + 30).unwrap();
        let node = Node::open(&shared(&disk), small());
        let damaged = !node.log.recovery.damaged.is_empty();
        assert_eq!(
            damaged, fooled,
            "only who knows the secret can make up frames"
        );
        assert_eq!(node.end(1) > 1, fooled);
    }
}

#[test]
fn damage_in_a_settled_file_is_kept_aside() {
    let (disk, mut node) = Node::simulated(6, small());
    node.create(1);
    let value = "v".repeat(3_000);
    frames(&mut node, &vec![(1, value.as_str()); 10]);
    disk.corrupt(FILE, 5 * FRAME + 1000).unwrap();
    frames(&mut node, &vec![(1, value.as_str()); 120]);
    node.maintain(&keep_all());
    assert!(
        disk.paths()
            .contains(&"damaged/0000000000000001.wal".to_owned()),
        "{:?}",
        disk.paths()
    );
    node.stop();
    let node = Node::open(&shared(&disk), small());
    let damaged = node.log.reader.damaged();
    assert_eq!(damaged.len(), 1);
    assert_eq!(damaged[0].path, "damaged/0000000000000001.wal");
    assert!(matches!(read(&node, 1, 4), Err(ReadError::Damaged(_))));
    assert_eq!(node.values(1, 5).len(), 125);
}

#[test]
fn a_damaged_segment_is_refused_where_it_is_damaged() {
    let (disk, mut node) = Node::simulated(7, small());
    node.create(1);
    let value = "v".repeat(3_000);
    frames(&mut node, &vec![(1, value.as_str()); 130]);
    node.maintain(&keep_all());
    node.stop();
    let paths = disk.paths();
    let path = paths.iter().find(|path| path.ends_with(".log")).unwrap();
    let node = Node::open(&shared(&disk), small());
    let size = node
        .log
        .reader
        .read(PartitionId(1), 0, 1, true)
        .unwrap()
        .bytes as u64;
    disk.corrupt(path, 2 * size + 500).unwrap();
    let two = node
        .log
        .reader
        .read(PartitionId(1), 0, 1 << 20, true)
        .unwrap();
    assert_eq!(two.bytes as u64, 2 * size, "what comes before is served");
    let refused = read(&node, 1, 2);
    let Err(ReadError::Damaged(range)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((range.first, range.last), (2, 2));
    assert_eq!(&range.path, path);
    assert_eq!(node.values(1, 3).len(), 127);
}

#[test]
fn a_damaged_snapshot_falls_back_or_refuses_to_open_and_deletes_nothing() {
    let (disk, mut node) = Node::simulated(8, small());
    node.create(1);
    node.log.maintenance.finish(node.now).unwrap();
    frames(&mut node, &[(1, "a")]);
    node.log.maintenance.finish(node.now).unwrap();
    drop(node);
    let snapshots = |disk: &SimulatedDisk| {
        let mut paths = disk.paths();
        paths.retain(|path| path.starts_with("snapshot/"));
        paths
    };
    let paths = snapshots(&disk);
    assert_eq!(paths.len(), 2);
    disk.corrupt(&paths[1], 40).unwrap();
    let node = Node::open(&shared(&disk), small());
    assert_eq!(node.values(1, 0), [(0, "a".into())]);
    disk.corrupt(&paths[0], 40).unwrap();
    let refused = Node::try_open(&shared(&disk), small());
    assert!(matches!(refused.err(), Some(OpenError::Snapshot { .. })));
    assert_eq!(snapshots(&disk), paths);
}
