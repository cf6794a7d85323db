//! The smallest cases of what the simulator (`crates/wharf-sim`) found broken once.

use std::sync::Mutex;

use wharf_log::batch;
use wharf_log::disk::simulated::{Faults, SimulatedDisk};
use wharf_log::disk::{Disk, Open};
use wharf_log::{
    Appender, CommitError, Committer, Durability, PartitionId, Policy, ReadError, Retention,
    StateChange, Unit,
};
use wharf_message::Timestamp;

use crate::harness::{Node, advance, append, create, keep_all, shared, small, split};

fn buffered(unit: Unit) -> Unit {
    let durability = Durability::Buffered;
    Unit { durability, ..unit }
}

#[test]
fn what_a_restart_showed_survives_the_power_loss_that_follows() {
    for seed in 0..30 {
        let (disk, mut node) = Node::simulated(seed, small());
        node.create(1);
        node.commit(buffered(append(1, &["unsynced"]))).unwrap();
        drop(node);
        let disk = disk.kill();
        let node = Node::open(&shared(&disk), small());
        assert_eq!(node.end(1), 1);
        drop(node);
        let node = Node::open(&shared(&disk.crash()), small());
        assert_eq!(node.end(1), 1, "seed {seed}");
    }
}

#[test]
fn what_a_failed_sync_left_in_the_cache_is_written_again_before_it_is_shown() {
    let mut shown = 0;
    for seed in 0..60 {
        let (disk, mut node) = Node::simulated(seed, small());
        node.create(1);
        disk.set_faults(Faults {
            sync_failure_one_in: 1,
            ..Faults::default()
        });
        let refused = node.commit(append(1, &["maybe"]));
        assert_eq!(refused, Err(CommitError::Poisoned));
        drop(node);
        let disk = disk.kill();
        disk.set_faults(Faults::default());
        let node = Node::open(&shared(&disk), small());
        let end = node.end(1);
        shown += end;
        drop(node);
        let node = Node::open(&shared(&disk.crash()), small());
        assert_eq!(node.end(1), end, "seed {seed}");
    }
    assert!(shown > 0, "no restart showed the record");
}

#[test]
fn files_that_a_killed_process_named_are_durable_before_they_are_used() {
    for operation in 1..40 {
        for seed in 0..4 {
            let disk = SimulatedDisk::new(seed, Faults::default());
            disk.power_off_at(operation);
            if let Ok(mut node) = Node::try_open(&shared(&disk), small()) {
                node.commit_all(vec![create(1)]);
            }
            let disk = disk.kill();
            let mut node = Node::open(&shared(&disk), small());
            node.commit_all(vec![create(1)]);
            node.commit(append(1, &["acknowledged"])).unwrap();
            drop(node);
            let node = Node::open(&shared(&disk.crash()), small());
            assert_eq!(node.end(1), 1, "operation {operation}, seed {seed}");
        }
    }
}

#[test]
fn a_first_settling_that_power_loss_interrupts_is_no_reason_to_refuse_to_open() {
    let value = "x".repeat(20 << 10);
    for after in 1..60 {
        let (disk, mut node) = Node::simulated(after, small());
        node.create(1);
        for _ in 0..24 {
            node.commit(append(1, &[&value])).unwrap();
        }
        disk.power_off_at(disk.counters().operations + after);
        while !disk.is_off() && node.log.maintenance.run(&keep_all(), node.now) {}
        drop(node);
        let node = Node::open(&shared(&disk.crash()), small());
        assert_eq!(node.end(1), 24, "{after} operations later");
    }
}

#[test]
fn a_refusal_never_rests_on_a_unit_that_the_full_disk_refused() {
    let (disk, mut node) = Node::simulated(1, small());
    node.create(1);
    node.commit(append(1, &["a", "b"])).unwrap();
    disk.set_faults(Faults {
        capacity_bytes: Some(disk.used_bytes()),
        ..Faults::default()
    });
    let fill = || Unit {
        state: vec![StateChange {
            key: "key".into(),
            value: Some(vec![0; 3000].into()),
        }],
        ..Unit::default()
    };
    while node.commit(fill()).is_ok() {}
    let outcomes = node.commit_all(vec![advance(1, 1), advance(1, 99)]);
    assert_eq!(
        outcomes,
        [Err(CommitError::DiskFull), Err(CommitError::DiskFull)]
    );
}

#[test]
fn a_batch_whose_base_offset_flipped_in_a_segment_is_refused() {
    let value = "x".repeat(20 << 10);
    let (disk, mut node) = Node::simulated(1, small());
    node.create(1);
    for _ in 0..24 {
        node.commit(append(1, &[&value])).unwrap();
    }
    node.maintain(&keep_all());
    node.stop();
    let paths = disk.paths();
    let segment = paths.iter().find(|path| path.ends_with(".log")).unwrap();
    disk.corrupt(segment, 5).unwrap();
    let node = Node::open(&shared(&disk), small());
    let read = node.log.reader.read(PartitionId(1), 0, 1, true);
    assert!(matches!(read, Err(ReadError::Damaged(_))), "{read:?}");
}

/// Fills the journal, so that its oldest files are due for settling.
fn fill(node: &mut Node) {
    let filler = "x".repeat(20 << 10);
    for _ in 0..24 {
        node.commit(append(2, &[&filler])).unwrap();
    }
}

fn commit_pairs(node: &mut Node, batches: u64) {
    for _ in 0..batches {
        node.commit(append(1, &["a", "b"])).unwrap();
    }
}

/// The one segment of partition 1.
fn segment_of_1(disk: &SimulatedDisk) -> String {
    let paths = disk.paths().into_iter();
    let segments: Vec<_> = paths
        .filter(|path| path.contains("0001/") && path.ends_with(".log"))
        .collect();
    assert_eq!(segments.len(), 1, "{segments:?}");
    segments[0].clone()
}

/// Flips this bit of a big-endian number at `position`, on the medium.
fn flip(disk: &SimulatedDisk, path: &str, position: u64, bit: u32) {
    let file = disk.open(path, Open::Existing).unwrap();
    let mut number = [0; 8];
    assert_eq!(file.read_at(&mut number, position).unwrap(), number.len());
    let flipped = u64::from_be_bytes(number) ^ (1 << bit);
    file.write_at(&flipped.to_be_bytes(), position).unwrap();
    file.sync().unwrap();
}

/// Reads every offset of partition 1, where only this batch of two records is damaged.
fn check_pairs(node: &Node, batches: u64, damaged: u64, bytes_max: usize, case: &str) {
    for offset in 0..2 * batches {
        let at = offset.cast_signed();
        let read = node.log.reader.read(PartitionId(1), at, bytes_max, true);
        if offset / 2 == damaged {
            let told = matches!(read, Err(ReadError::Damaged(_)));
            assert!(told, "{case}, at {at}: {read:?}");
        } else {
            let first = split(&read.expect(case).batches).swap_remove(0);
            let base = batch::verify(&first).unwrap().base_offset;
            assert_eq!(base, at & !1, "{case}");
        }
    }
}

#[test]
fn any_flipped_bit_of_a_base_offset_in_a_segment_is_told_and_hides_no_other_batch() {
    for (batches, with_index) in [(1, true), (1, false), (5, true), (5, false)] {
        let (disk, mut node) = Node::simulated(1, small());
        node.create(1);
        node.create(2);
        commit_pairs(&mut node, batches);
        fill(&mut node);
        node.maintain(&keep_all());
        node.stop();
        let segment = segment_of_1(&disk);
        if !with_index {
            disk.remove(&segment.replace(".log", ".idx")).unwrap();
        }
        let file = disk.open(&segment, Open::Existing).unwrap();
        let size = file.len().unwrap() / batches;
        for (flipped, bit) in (0..batches).flat_map(|one| (0..64).map(move |bit| (one, bit))) {
            flip(&disk, &segment, flipped * size, bit);
            for bytes_max in [1, 4096] {
                let node = Node::open(&shared(&disk), small());
                let case = format!("batch {flipped} of {batches}, bit {bit}, index {with_index}");
                check_pairs(&node, batches, flipped, bytes_max, &case);
            }
            flip(&disk, &segment, flipped * size, bit);
        }
    }
}

/// Keeps everything, but moves the start of partition 1 when it is first asked.
struct DeletesMeanwhile {
    log: Mutex<Option<(Appender, Committer)>>,
    start: i64,
    now: Timestamp,
}

impl Policy for DeletesMeanwhile {
    fn retention(&self, partition: PartitionId) -> Option<Retention> {
        if let Some((appender, mut committer)) = self.log.lock().unwrap().take() {
            appender.submit(vec![(advance(1, self.start), Box::new(|_| {}))]);
            assert_eq!(committer.run_pending(self.now), 1);
        }
        keep_all().retention(partition)
    }
}

#[test]
fn what_was_deleted_while_it_was_to_be_settled_is_no_damage_of_the_segment() {
    let (disk, mut node) = Node::simulated(1, small());
    node.create(1);
    node.create(2);
    commit_pairs(&mut node, 3);
    fill(&mut node);
    node.maintain(&keep_all());
    node.stop();
    let mut node = Node::open(&shared(&disk), small());
    commit_pairs(&mut node, 4);
    fill(&mut node);
    let Node { log, now, .. } = node;
    let mut maintenance = log.maintenance;
    let policy = DeletesMeanwhile {
        log: Mutex::new(Some((log.appender, log.committer))),
        start: 9,
        now,
    };
    while maintenance.run(&policy, now) {}
    assert!(segment_of_1(&disk).ends_with("/00000000000000000000.log"));
    drop(log.reader);
    let node = Node::open(&shared(&disk), small());
    let offsets: Vec<i64> = node.values(1, 9).iter().map(|one| one.0).collect();
    assert_eq!(offsets, [9, 10, 11, 12, 13]);
}
