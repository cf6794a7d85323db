//! The smallest cases of what the simulator (`crates/wharf-sim`) found broken once.

use wharf_log::disk::simulated::{Faults, SimulatedDisk};
use wharf_log::{CommitError, Durability, PartitionId, ReadError, StateChange, Unit};

use crate::harness::{Node, advance, append, create, keep_all, shared, small};

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
