//! The data directory that is swept, made by the real log, and what must be in it.

use std::collections::BTreeMap;

use bytes::Bytes;
use wharf_log::batch;
use wharf_log::disk::simulated::{Faults, SimulatedDisk};
use wharf_log::disk::{Disk, Open};
use wharf_log::{Options, StateChange};

use crate::harness::{Node, append, create, keep_all, small};

/// The partition of the last frame.
pub(super) const LAST: u64 = 9;
const PARTITIONS: u64 = 3;
const ROUNDS: u64 = 66;

/// Files by path.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

pub(super) struct Data {
    pub(super) files: Files,
    /// The values of each partition, by offset.
    pub(super) expected: BTreeMap<u64, Vec<Bytes>>,
    pub(super) state: Vec<(Bytes, Bytes)>,
    /// Whether the log was stopped; else it was killed.
    pub(super) stopped: bool,
}

pub(super) fn options() -> Options {
    Options {
        journal_files_max: 1,
        tail_bytes_max: 0,
        secret: 0x5EC7_E700,
        ..small()
    }
}

impl Data {
    /// Three partitions, settled in part, with some state; one frame each for most units.
    pub(super) fn make(stopped: bool) -> Self {
        let (disk, mut node) = Node::simulated(1, options());
        let mut expected = BTreeMap::new();
        for partition in (1..=PARTITIONS).chain([LAST]) {
            node.commit(create(partition)).unwrap();
            expected.insert(partition, Vec::new());
        }
        for round in 0..ROUNDS {
            let partition = 1 + round % PARTITIONS;
            let value = format!("{round}:{}", "s".repeat((round as usize * 131) % 900));
            let mut unit = append(partition, &[&value, "next"]);
            if round % 9 == 0 {
                unit.state.push(StateChange {
                    key: "round".into(),
                    value: Some(round.to_string().into()),
                });
            }
            node.commit(unit).unwrap();
            let values = expected.get_mut(&partition).unwrap();
            values.extend([Bytes::from(value), Bytes::from("next")]);
            if round == ROUNDS - 8 {
                node.maintain(&keep_all());
            }
        }
        node.commit(append(LAST, &["last"])).unwrap();
        expected.insert(LAST, vec![Bytes::from("last")]);
        let state = node.log.reader.state(b"");
        if stopped {
            node.stop();
        }
        Self {
            files: files_of(&disk),
            expected,
            state,
            stopped,
        }
    }
}

/// What is on a disk.
pub(super) fn files_of(disk: &SimulatedDisk) -> Files {
    let content = |path: String| {
        let file = disk.open(&path, Open::Existing).unwrap();
        let mut content = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(&mut content, 0).unwrap();
        (path, content)
    };
    disk.paths().into_iter().map(content).collect()
}

/// A disk that holds these files.
pub(super) fn disk_of(files: &Files) -> SimulatedDisk {
    let disk = SimulatedDisk::new(1, Faults::default());
    for (path, content) in files {
        if let Some((folder, _)) = path.rsplit_once('/') {
            disk.create_dir(folder).unwrap();
        }
        let file = disk.open(path, Open::New).unwrap();
        // Most of a journal file is zeros.
        let end = content.iter().rposition(|byte| *byte != 0);
        file.write_at(&content[..end.map_or(0, |at| at + 1)], 0)
            .unwrap();
        file.preallocate(content.len() as u64).unwrap();
    }
    disk
}

/// The value at `offset` in the first of these batches.
pub(super) fn value_at(batches: &[Bytes], offset: i64) -> Option<Bytes> {
    let first = batches.first()?;
    let header = batch::verify(first).ok()?;
    let records = batch::records(&header, &first.slice(batch::HEADER_BYTES..)).ok()?;
    let record = records.into_iter().find(|record| record.offset == offset)?;
    record.value
}
