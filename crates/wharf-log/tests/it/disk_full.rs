//! A full disk refuses appends, lets reads and deletions go on, and is noticed when it is over.

use std::time::Duration;

use wharf_log::batch::Producer;
use wharf_log::disk::simulated::Faults;
use wharf_log::{CommitError, Health, StateChange, Unit};

use crate::harness::{Node, advance, append, append_to, batch_of, keep_all, remove, shared, small};

fn limit(bytes: Option<u64>) -> Faults {
    Faults {
        capacity_bytes: bytes,
        ..Faults::default()
    }
}

/// Appends until the disk is full; returns how many went in.
fn fill_up(node: &mut Node) -> i64 {
    let value = "v".repeat(20_000);
    for count in 0..1000 {
        match node.commit(append(1, &[&value])) {
            Ok(_) => {}
            Err(CommitError::DiskFull) => return count,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the disk never was full");
}

#[test]
fn appends_are_refused_while_reads_and_deletions_go_on_and_it_ends_by_itself() {
    let (disk, mut node) = Node::simulated(1, small());
    node.create(1);
    node.create(2);
    disk.set_faults(limit(Some(700_000)));
    let count = fill_up(&mut node);
    assert_eq!(node.log.reader.health(), Health::DiskFull);
    assert_eq!(node.values(1, 0).len(), usize::try_from(count).unwrap());
    let put = StateChange {
        key: "k".into(),
        value: Some("v".into()),
    };
    let state = Unit {
        state: vec![put],
        ..Unit::default()
    };
    let outcomes = node.commit_all(vec![advance(1, 2), remove(2), state]);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let large = append(1, &[&"v".repeat(20_000)]);
    assert_eq!(node.commit(large), Err(CommitError::DiskFull));
    assert_eq!(node.end(1), count);
    disk.set_faults(limit(None));
    node.now = node.now.after(Duration::from_secs(1));
    let appended = node
        .commit(append(1, &[&"v".repeat(20_000)]))
        .unwrap()
        .appends[0];
    assert_eq!(appended.base_offset, count);
    assert_eq!(node.log.reader.health(), Health::Writable);
    let node = Node::open(&shared(&disk), small());
    assert_eq!(node.end(1), count + 1);
}

/// The batch of a producer that begins with this sequence.
fn sequenced(sequence: i32, value: &str) -> Unit {
    let producer = Producer {
        id: 7,
        epoch: 0,
        sequence,
    };
    Unit {
        appends: vec![append_to(1, batch_of(&[value], Some(producer), 1_000_000))],
        ..Unit::default()
    }
}

#[test]
fn a_batch_sent_again_is_answered_on_a_full_disk_whatever_comes_with_it() {
    let (disk, mut node) = Node::simulated(1, small());
    node.create(1);
    let first = node.commit(sequenced(0, "first")).unwrap().appends[0];
    let large = "v".repeat(20_000);
    disk.set_faults(limit(Some(700_000)));
    fill_up(&mut node);
    let state = |bytes: usize| Unit {
        state: vec![StateChange {
            key: "k".into(),
            value: Some(vec![0; bytes].into()),
        }],
        ..Unit::default()
    };
    // With units that go into the reserve, and until that is full, too.
    let mut reserve_was_full = false;
    for _ in 0..100 {
        let end = node.end(1);
        let units = vec![
            sequenced(0, "first"),
            sequenced(1, &large),
            sequenced(2, "behind what is refused"),
            state(1_000),
            sequenced(0, "first"),
        ];
        let outcomes = node.commit_all(units);
        for again in [&outcomes[0], &outcomes[4]] {
            let again = again.as_ref().unwrap().appends[0];
            assert!(again.duplicate);
            assert_eq!(again.base_offset, first.base_offset);
        }
        assert_eq!(outcomes[1], Err(CommitError::DiskFull));
        assert_eq!(outcomes[2], Err(CommitError::DiskFull));
        assert_eq!(node.end(1), end, "nothing was appended");
        reserve_was_full |= outcomes[3] == Err(CommitError::DiskFull);
    }
    assert!(reserve_was_full);
    disk.set_faults(limit(None));
    node.now = node.now.after(Duration::from_secs(1));
    assert!(!node.commit(sequenced(1, &large)).unwrap().appends[0].duplicate);
}

#[test]
fn space_freed_by_deletion_is_enough() {
    let (disk, mut node) = Node::simulated(2, small());
    node.create(1);
    disk.set_faults(limit(Some(1_000_000)));
    for round in 0..5 {
        let value = "v".repeat(20_000);
        loop {
            node.maintain(&keep_all());
            match node.commit(append(1, &[&value])) {
                Ok(_) => {}
                Err(CommitError::DiskFull) => break,
                Err(other) => panic!("{other}"),
            }
        }
        let end = node.end(1);
        node.commit(advance(1, end)).unwrap();
        for _ in 0..4 {
            node.now = node.now.after(Duration::from_secs(1));
            node.maintain(&keep_all());
        }
        node.commit(append(1, &["room"]))
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(node.log.reader.health(), Health::Writable);
    }
}

#[test]
fn a_failed_sync_stops_acknowledging_for_good_and_reads_go_on() {
    let (disk, mut node) = Node::simulated(3, small());
    node.create(1);
    node.commit(append(1, &["kept"])).unwrap();
    disk.set_faults(Faults {
        sync_failure_one_in: 1,
        ..Faults::default()
    });
    let outcomes = node.commit_all(vec![append(1, &["lost"]), append(9, &["refused"])]);
    assert_eq!(outcomes[0], Err(CommitError::Poisoned));
    disk.set_faults(Faults::default());
    assert_eq!(
        node.commit(append(1, &["later"])),
        Err(CommitError::Poisoned)
    );
    assert!(matches!(node.log.reader.health(), Health::Poisoned { .. }));
    assert_eq!(node.values(1, 0), [(0, "kept".into())]);
    assert!(node.log.maintenance.finish(node.now).is_err());
    let disk = disk.crash();
    let mut node = Node::open(&shared(&disk), small());
    assert_eq!(node.values(1, 0)[0], (0, "kept".into()));
    node.commit(append(1, &["goes on"])).unwrap();
}

#[test]
fn a_closed_log_drains_and_refuses() {
    let (disk, node) = Node::simulated(4, small());
    let mut node = node;
    node.create(1);
    node.log.appender.close();
    assert_eq!(node.commit(append(1, &["late"])), Err(CommitError::Closed));
    assert!(!node.log.committer.waiter().wait());
    node.stop();
    let node = Node::open(&shared(&disk), small());
    assert_eq!(node.log.recovery.frames_replayed, 0);
}
