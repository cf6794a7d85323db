//! Data directories written by earlier versions still open, with everything in them.
//!
//! `tests/fixtures/disk-v1` was left by a process that died: settled segments, a snapshot, and
//! frames after it; `disk-v2` has transactions and compacted segments besides. They are never
//! regenerated for a format that exists; a new format gets a folder of its own (`WHARF_REWRITE=1`
//! writes a missing one).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wharf_log::batch::{self, Record};
use wharf_log::disk::Disk;
use wharf_log::disk::real::RealDisk;
use wharf_log::{
    Compaction, Options, PartitionChange, PartitionId, Retention, StateChange, TransactionOutcome,
    Unit,
};
use wharf_message::Timestamp;

use crate::harness::{Keep, Node, append_to, batch_of, keep_all};
use crate::transactions::{committed, end, transactional, unit_of};

const BATCHES: usize = 90;

fn options() -> Options {
    Options {
        journal_file_bytes: 128 << 10,
        journal_files_max: 1,
        secret: 0x5eed,
        ..Options::default()
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// A copy of a fixture, which is written first when it is missing and that is asked for.
fn copy_of(name: &str, fill: fn(&Arc<dyn Disk>)) -> tempfile::TempDir {
    if !fixture(name).exists() && std::env::var_os("WHARF_REWRITE").is_some() {
        fill(&(Arc::new(RealDisk::open(fixture(name)).unwrap()) as Arc<dyn Disk>));
    }
    let directory = tempfile::tempdir().unwrap();
    copy(&fixture(name), directory.path());
    directory
}

fn value(partition: u64, number: usize) -> String {
    format!(
        "partition {partition}, batch {number}: {}",
        "·".repeat(number * 7)
    )
}

/// Fills a new log, with maintenance half-way, and leaves it as a crash would.
fn fill(disk: &Arc<dyn Disk>) {
    let mut node = Node::open(disk, options());
    node.create(1);
    node.create(2);
    for number in 0..BATCHES {
        let time = 1_000 + i64::try_from(number).unwrap();
        let append = |partition| {
            append_to(
                partition,
                batch_of(&[&value(partition, number)], None, time),
            )
        };
        let state = StateChange {
            key: Bytes::from(format!("k{}", number % 7)),
            value: (number % 5 != 0).then(|| Bytes::from(number.to_string())),
        };
        let unit = Unit {
            appends: vec![append(1), append(2)],
            state: vec![state],
            ..Unit::default()
        };
        node.commit(unit).unwrap();
        if number == BATCHES * 5 / 6 {
            node.maintain(&keep_all());
        }
    }
    let cut = PartitionChange::AdvanceStart {
        partition: PartitionId(2),
        offset: 5,
    };
    node.commit(Unit {
        partitions: vec![cut],
        ..Unit::default()
    })
    .unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn check(node: &Node) {
    for partition in [1, 2] {
        let first = if partition == 2 { 5 } else { 0 };
        let expected = (first..BATCHES).map(|number| {
            (
                i64::try_from(number).unwrap(),
                Bytes::from(value(partition, number)),
            )
        });
        let found = node.values(partition, i64::try_from(first).unwrap());
        assert_eq!(found, expected.collect::<Vec<_>>(), "partition {partition}");
    }
    let state = node.log.reader.state(b"k");
    let state: Vec<_> = state
        .iter()
        .map(|(key, value)| format!("{}={}", key.escape_ascii(), value.escape_ascii()))
        .collect();
    assert_eq!(
        state,
        ["k0=84", "k2=86", "k3=87", "k4=88", "k5=89", "k6=83"]
    );
    assert!(node.log.reader.damaged().is_empty());
}

#[test]
fn a_directory_of_format_1_opens_with_everything_in_it() {
    let directory = copy_of("disk-v1", fill);
    assert!(
        directory
            .path()
            .join("segments")
            .read_dir()
            .unwrap()
            .count()
            > 0,
        "some is settled"
    );
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(directory.path()).unwrap());
    let mut node = Node::open(&disk, options());
    check(&node);
    let more = Unit {
        appends: vec![append_to(1, batch_of(&["more"], None, 1))],
        ..Unit::default()
    };
    let offset = node.commit(more).unwrap().appends[0].base_offset;
    assert_eq!(offset, i64::try_from(BATCHES).unwrap());
}

/// A log in which one producer's transactions were committed and aborted and one is open, and a
/// partition of keyed records was compacted; left as a crash would.
fn fill_with_transactions(disk: &Arc<dyn Disk>) {
    let mut node = Node::open(disk, options());
    node.create(1);
    node.create(2);
    let part = |sequence: i32, epoch: i16| Unit {
        appends: vec![append_to(1, transactional(9, epoch, sequence, &["part"]))],
        ..Unit::default()
    };
    node.commit(part(0, 0)).unwrap();
    let aborted = unit_of(end(9, 1, TransactionOutcome::Abort));
    node.commit(aborted).unwrap();
    for number in 0..20 {
        node.commit(keyed(number)).unwrap();
    }
    node.now = node.now.after(Duration::from_secs(10));
    node.maintain(&compacting());
    node.commit(part(0, 1)).unwrap();
    let committed = unit_of(end(9, 1, TransactionOutcome::Commit));
    node.commit(committed).unwrap();
    node.commit(part(1, 1)).unwrap();
}

/// A record of one of three keys.
fn keyed(number: i64) -> Unit {
    let record = Record {
        timestamp: Timestamp::from_millis(1_000 + number),
        key: Some(Bytes::from(format!("key {}", number % 3))),
        value: Some(Bytes::from(number.to_string())),
        ..Record::default()
    };
    Unit {
        appends: vec![append_to(2, batch::build(&[record], None))],
        ..Unit::default()
    }
}

fn compacting() -> Keep {
    Keep(Retention {
        compaction: Some(Compaction {
            min_lag: Duration::ZERO,
            max_lag: Some(Duration::from_secs(1)),
            dirty_ratio: 0.0,
            delete_retention: Duration::from_secs(60),
        }),
        ..keep_all().0
    })
}

#[test]
fn a_directory_of_format_2_opens_with_its_transactions_and_what_compaction_left() {
    let directory = copy_of("disk-v2", fill_with_transactions);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(directory.path()).unwrap());
    let mut node = Node::open(&disk, options());
    let left = [(17, "17".into()), (18, "18".into()), (19, "19".into())];
    assert_eq!(node.values(2, 0), left);
    let reader = &node.log.reader;
    let id = PartitionId(1);
    let bounds = reader.bounds(id).unwrap();
    assert_eq!((bounds.stable_end, bounds.end), (4, 5));
    assert_eq!(reader.open_transactions(9), [id]);
    let seen = committed(&node, 1, 0, 4096);
    assert_eq!(seen, [(2, Bytes::from("part"))]);
    let rest = unit_of(end(9, 1, TransactionOutcome::Commit));
    assert_eq!(node.commit(rest).unwrap().ended, [(id, 5)]);
    assert_eq!(committed(&node, 1, 0, 4096).len(), 2);
}
