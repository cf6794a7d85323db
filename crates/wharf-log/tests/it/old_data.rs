//! Data directories written by earlier versions still open, with everything in them.
//!
//! `tests/fixtures/disk-v1` was left by a process that died: settled segments, a snapshot, and
//! frames after it. It is never regenerated for a format that exists;
//! a new format gets a folder of its own (`WHARF_REWRITE=1` writes a missing one).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use wharf_log::disk::Disk;
use wharf_log::disk::real::RealDisk;
use wharf_log::{Options, PartitionChange, PartitionId, StateChange, Unit};

use crate::harness::{Node, append_to, batch_of, keep_all};

const BATCHES: usize = 90;

fn options() -> Options {
    Options {
        journal_file_bytes: 128 << 10,
        journal_files_max: 1,
        secret: 0x5eed,
        ..Options::default()
    }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/disk-v1")
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
    if !fixture().exists() && std::env::var_os("WHARF_REWRITE").is_some() {
        fill(&(Arc::new(RealDisk::open(fixture()).unwrap()) as Arc<dyn Disk>));
    }
    let directory = tempfile::tempdir().unwrap();
    copy(&fixture(), directory.path());
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
