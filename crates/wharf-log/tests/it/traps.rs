//! What other log engines have got wrong, where no other test shows it. The list of all of it is
//! `docs/specs/traps.md`.

use std::time::Duration;

use wharf_log::{PartitionId, Retention, Unit};
use wharf_message::Timestamp;

use crate::harness::{Keep, Node, append, append_to, batch_of, keep_all, shared, small};

#[test]
fn a_reader_far_behind_does_not_take_the_newest_data_out_of_memory() {
    let (_disk, mut node) = Node::simulated(1, small());
    node.create(1);
    for number in 0..200 {
        node.commit(append(1, &[&format!("{number}{}", "x".repeat(2_000))]))
            .unwrap();
    }
    node.maintain(&keep_all());
    let disk_reads = |node: &Node| node.log.reader.statistics().reads_from_disk;
    let newest = node.end(1) - 1;
    for behind in 0..newest - 20 {
        let before = disk_reads(&node);
        let old = node
            .log
            .reader
            .read(PartitionId(1), behind, 4096, true)
            .unwrap();
        assert!(!old.batches.is_empty());
        assert!(
            disk_reads(&node) > before,
            "offset {behind} is not in memory"
        );
        let before = disk_reads(&node);
        let new = node
            .log
            .reader
            .read(PartitionId(1), newest, 4096, false)
            .unwrap();
        assert_eq!(
            (new.batches.len(), disk_reads(&node)),
            (1, before),
            "the newest is"
        );
    }
}

#[test]
fn empty_partitions_have_no_file_and_are_there_after_a_restart_all_the_same() {
    const MANY: u64 = 10_000;
    let (disk, mut node) = Node::simulated(1, wharf_log::Options::default());
    let created: Vec<Unit> = (0..MANY).map(crate::harness::create).collect();
    assert!(node.commit_all(created).iter().all(Result::is_ok));
    node.maintain(&keep_all());
    let journal_alone = |path: &String| path.starts_with("journal/");
    assert!(disk.paths().iter().all(journal_alone), "{:?}", disk.paths());
    node.stop();
    let node = Node::open(&shared(&disk), wharf_log::Options::default());
    assert_eq!(node.log.reader.partitions().len() as u64, MANY);
    assert!(
        disk.paths()
            .iter()
            .all(|path| !path.starts_with("segments/"))
    );
}

#[test]
fn records_stamped_by_a_clock_that_was_far_ahead_do_not_stop_expiry_for_ever() {
    let (_disk, mut node) = Node::simulated(1, small());
    node.create(1);
    let policy = Keep(Retention {
        age: Some(Duration::from_secs(60)),
        ..keep_all().0
    });
    let write = |node: &mut Node, time: Timestamp| {
        let batch = batch_of(&[&"v".repeat(1_000)], None, time.as_millis());
        let unit = Unit {
            appends: vec![append_to(1, batch)],
            ..Unit::default()
        };
        node.commit(unit).unwrap();
    };
    let start = |node: &Node| node.log.reader.bounds(PartitionId(1)).unwrap().start;
    let years_ahead = node.now.after(Duration::from_secs(10 * 365 * 24 * 60 * 60));
    write(&mut node, years_ahead);
    node.now = node.now.after(Duration::from_secs(100));
    node.maintain(&policy);
    assert_eq!(start(&node), 0, "nothing says yet that it is old");
    let now = node.now;
    write(&mut node, now);
    write(&mut node, years_ahead);
    node.now = node.now.after(Duration::from_secs(30));
    node.maintain(&policy);
    assert_eq!(start(&node), 0, "what came after it is not old");
    node.now = node.now.after(Duration::from_secs(31));
    node.maintain(&policy);
    assert_eq!(
        start(&node),
        2,
        "what came after it is old, what came last is kept"
    );
}
