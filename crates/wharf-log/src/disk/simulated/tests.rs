//! The simulated disk keeps the seam's contract, and breaks everything the contract leaves open.

use super::*;
use crate::disk::conformance::{self, Subject};

fn disk(seed: u64) -> SimulatedDisk {
    SimulatedDisk::new(seed, Faults::default())
}

fn create(disk: &SimulatedDisk, path: &str) -> Arc<dyn DiskFile> {
    disk.open(path, Open::New).unwrap()
}

fn content(disk: &SimulatedDisk, path: &str) -> Vec<u8> {
    let file = disk.open(path, Open::Existing).unwrap();
    let mut buffer = vec![0; to_usize(file.len().unwrap()).unwrap()];
    file.read_at(&mut buffer, 0).unwrap();
    buffer
}

#[test]
fn it_keeps_the_contract_through_power_loss() {
    for seed in 0..50 {
        conformance::run(|| {
            let disk = disk(seed);
            let before = disk.clone();
            Subject {
                disk: Arc::new(disk),
                restart: Box::new(move || Arc::new(before.crash())),
            }
        });
    }
}

#[test]
fn it_keeps_the_contract_when_the_process_is_killed() {
    conformance::run(|| {
        let disk = disk(1);
        let before = disk.clone();
        Subject {
            disk: Arc::new(disk),
            restart: Box::new(move || Arc::new(before.kill())),
        }
    });
}

#[test]
fn the_same_seed_and_calls_give_the_same_disk() {
    let run = |seed| {
        let disk = disk(seed);
        let file = create(&disk, "a");
        disk.sync_dir("").unwrap();
        for index in 0..20u8 {
            file.write_at(&[index + 1; 300], u64::from(index) * 250)
                .unwrap();
        }
        content(&disk.crash(), "a")
    };
    assert_eq!(run(3), run(3));
    assert!((0..20).any(|seed| run(seed) != run(3)));
}

#[test]
fn a_killed_process_loses_nothing_until_the_power_goes() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = disk(seed);
        let file = create(&disk, "a");
        file.write_at(b"unsynced", 0).unwrap();
        let disk = disk.kill();
        assert!(
            file.write_at(b"x", 0).is_err(),
            "the old process still writes"
        );
        assert_eq!(content(&disk, "a"), b"unsynced");
        let after = disk.crash();
        lost += usize::from(after.paths().is_empty() || content(&after, "a") != b"unsynced");
    }
    assert!(lost > 0 && lost < 50, "lost {lost}");
}

#[test]
fn a_full_disk_refuses_growth_and_nothing_else() {
    let capacity = |bytes| Faults {
        capacity_bytes: Some(bytes),
        ..Faults::default()
    };
    let disk = SimulatedDisk::new(1, capacity(1000));
    let file = create(&disk, "a");
    file.write_at(&[1; 600], 0).unwrap();
    let full = file.write_at(&[2; 600], 600).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(
        file.preallocate(2000).unwrap_err().kind(),
        io::ErrorKind::StorageFull
    );
    assert!(disk.used_bytes() <= 1000);
    file.write_at(&[3; 600], 0).unwrap();
    file.sync().unwrap();
    assert_eq!(content(&disk, "a")[..600], [3; 600]);
    disk.set_faults(capacity(3000));
    file.preallocate(2000).unwrap();
    file.truncate(0).unwrap();
    assert_eq!(disk.used_bytes(), 0);
}

#[test]
fn a_failed_sync_is_reported_once_and_its_pages_may_be_gone() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = disk(seed);
        let file = create(&disk, "a");
        disk.sync_dir("").unwrap();
        file.write_at(&[1; 4096], 0).unwrap();
        disk.set_faults(Faults {
            sync_failure_one_in: 1,
            ..Faults::default()
        });
        file.sync().unwrap_err();
        disk.sync_dir("").unwrap_err();
        disk.set_faults(Faults::default());
        file.sync().unwrap();
        lost += usize::from(content(&disk.crash(), "a") != [1; 4096]);
    }
    assert!(lost > 10, "lost {lost}");
}

#[test]
fn failing_reads_and_writes_are_reported() {
    let disk = disk(1);
    let file = create(&disk, "a");
    file.write_at(b"abc", 0).unwrap();
    disk.set_faults(Faults {
        write_failure_one_in: 1,
        read_failure_one_in: 1,
        ..Faults::default()
    });
    file.write_at(b"abc", 0).unwrap_err();
    file.read_at(&mut [0; 3], 0).unwrap_err();
    assert_eq!(disk.counters().faults, 2);
}

#[test]
fn the_machine_dies_at_the_chosen_operation() {
    let (mut happened, mut not) = (0, 0);
    for seed in 0..40 {
        let disk = disk(seed);
        let file = create(&disk, "a");
        disk.sync_dir("").unwrap();
        disk.power_off_at(4);
        file.write_at(b"abc", 0).unwrap();
        file.sync().unwrap_err();
        assert!(disk.is_off());
        file.write_at(b"x", 0).unwrap_err();
        file.read_at(&mut [0; 1], 0).unwrap_err();
        disk.list("").unwrap_err();
        let after = disk.kill();
        assert_eq!(content(&after, "a"), b"abc");
        match content(&after.crash(), "a")[..] {
            [b'a', b'b', b'c'] => happened += 1,
            _ => not += 1,
        }
    }
    assert!(happened > 0 && not > 0);
}

#[test]
fn corruption_flips_one_bit_for_good() {
    let disk = disk(1);
    let file = create(&disk, "a");
    disk.sync_dir("").unwrap();
    file.write_at(&[0; 100], 0).unwrap();
    file.sync().unwrap();
    disk.corrupt("a", 42).unwrap();
    disk.corrupt("a", 100).unwrap_err();
    let bytes = content(&disk.crash(), "a");
    assert_eq!(bytes[42].count_ones(), 1);
    assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
}
