//! A log on a simulated disk whose files are replaced, and everything that can be asked of it.
//!
//! Invariant: what a segment serves has a right checksum and holds the offset asked for, whatever the
//! files hold; everything else is refused with an error. (What the journal serves was covered by its
//! frame's checksum, which the target for it makes right on purpose.)

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wharf_log::batch::{self, InvalidBatch, Producer, Record};
use wharf_log::disk::simulated::{Faults, SimulatedDisk};
use wharf_log::disk::{Disk, Open};
use wharf_log::{
    Append, Clock, Done, Log, Observer, Options, PartitionChange, PartitionId, Policy, Retention,
    StateChange, Unit,
};
use wharf_message::Timestamp;

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_000_000);
/// What frames of this log carry.
pub(crate) const SECRET: u64 = 0x5EC7_E700;
pub(crate) const JOURNAL_FILE_BYTES: u64 = 128 << 10;
/// How many offsets of a partition are asked for one by one; damaged ends can be anywhere.
const OFFSETS_MAX: i64 = 64;
const STEPS_MAX: usize = 200;

/// Files by path.
pub(crate) type Files = Vec<(String, Vec<u8>)>;

#[derive(Debug)]
struct Nobody;

impl Observer for Nobody {
    fn appended(&self, _partitions: &[PartitionId]) {}
}

/// Keeps everything in small segments.
#[derive(Debug)]
struct Keep;

impl Policy for Keep {
    fn retention(&self, _partition: PartitionId) -> Option<Retention> {
        Some(Retention {
            bytes: None,
            age: None,
            segment_bytes: 16 << 10,
            segment_age: Duration::from_secs(3600),
            compaction: None,
        })
    }
}

pub(crate) fn open(disk: &SimulatedDisk) -> Option<Log> {
    let options = Options {
        journal_file_bytes: JOURNAL_FILE_BYTES,
        journal_files_max: 1,
        tail_bytes_max: 8 << 10,
        secret: SECRET,
        ..Options::default()
    };
    Log::open(Arc::new(disk.clone()), options, Arc::new(Nobody), NOW).ok()
}

/// Commits units one by one, without waiting for what they become.
pub(crate) fn commit(log: &mut Log, units: impl IntoIterator<Item = Unit>) {
    for unit in units {
        let done: Done = Box::new(|_outcome| {});
        log.appender.submit(vec![(unit, done)]);
        log.committer.run_pending(NOW);
    }
}

pub(crate) fn maintain(log: &mut Log) {
    let mut steps = 0..STEPS_MAX;
    while steps.next().is_some() && log.maintenance.run(&Keep, NOW) {
        log.committer.run_pending(NOW);
    }
}

pub(crate) fn create(partition: u64) -> Unit {
    Unit {
        partitions: vec![PartitionChange::Create(PartitionId(partition))],
        ..Unit::default()
    }
}

/// A batch of two records, with some state beside it.
pub(crate) fn append(partition: u64, value: &[u8], producer: Option<Producer>) -> Unit {
    let record = Record {
        timestamp: NOW,
        value: Some(Bytes::copy_from_slice(value)),
        ..Record::default()
    };
    Unit {
        appends: vec![Append {
            partition: PartitionId(partition),
            batch: batch::build(&[record.clone(), record], producer),
            clock: Clock::CreateTime,
        }],
        state: vec![StateChange {
            key: Bytes::from_static(b"key"),
            value: Some(Bytes::copy_from_slice(&value[..value.len().min(4)])),
        }],
        ..Unit::default()
    }
}

/// A log with two partitions, some of it settled and some in the journal, with a producer.
pub(crate) fn filled(rounds: u64, stop: bool) -> SimulatedDisk {
    let disk = SimulatedDisk::new(1, Faults::default());
    let mut log = open(&disk).expect("an empty disk opens");
    commit(&mut log, [create(1), create(2)]);
    for round in 0..rounds {
        let sequence = i32::try_from(round * 2).unwrap_or(0);
        let producer = Producer {
            id: 7,
            epoch: 0,
            sequence,
        };
        let value = [b'v'; 900];
        commit(&mut log, [append(1, &value[..40], Some(producer))]);
        commit(&mut log, [append(2, &value, None)]);
        if round % 20 == 19 {
            maintain(&mut log);
        }
    }
    if stop {
        log.appender.close();
        log.committer.run_pending(NOW);
        log.maintenance.finish(NOW).expect("the disk does not fail");
    }
    disk
}

/// What is on a disk.
pub(crate) fn files(disk: &SimulatedDisk) -> Files {
    let content = |path: &String| {
        let file = disk.open(path, Open::Existing).expect("it was listed");
        let bytes = file.len().expect("it is open");
        let mut content = vec![0; usize::try_from(bytes).expect("it is in memory")];
        file.read_at(&mut content, 0).expect("it is open");
        (path.clone(), content)
    };
    disk.paths().iter().map(content).collect()
}

/// A disk that holds these files.
pub(crate) fn disk_of<'a>(files: impl IntoIterator<Item = &'a (String, Vec<u8>)>) -> SimulatedDisk {
    let disk = SimulatedDisk::new(1, Faults::default());
    for (path, content) in files {
        if let Some((folder, _)) = path.rsplit_once('/') {
            disk.create_dir(folder).expect("nothing fails here");
        }
        let file = disk.open(path, Open::New).expect("paths are there once");
        file.write_at(content, 0).expect("nothing fails here");
    }
    disk
}

/// Whether what is served is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    Checked,
    Ignored,
}

/// Opens what is there and asks for everything; changes it, stops, and asks again.
pub(crate) fn exercise(disk: &SimulatedDisk, served: Served) {
    let Some(mut log) = open(disk) else { return };
    read_all(&log, served);
    let units = [create(9), append(9, b"new", None), append(1, b"more", None)];
    commit(&mut log, units);
    maintain(&mut log);
    read_all(&log, served);
    log.appender.close();
    log.committer.run_pending(NOW);
    if log.maintenance.finish(NOW).is_err() {
        return;
    }
    drop(log);
    if let Some(log) = open(disk) {
        read_all(&log, served);
    }
}

fn read_all(log: &Log, served: Served) {
    let reader = &log.reader;
    reader.state(b"");
    reader.damaged();
    for partition in reader.partitions().into_iter().take(4) {
        reader.producers(partition);
        reader.size_bytes(partition);
        for time in [0, NOW.as_millis(), i64::MAX] {
            // An answer or a refusal.
            drop(reader.batch_at_time(partition, Timestamp::from_millis(time)));
        }
        drop(reader.batch_of_max_time(partition));
        let Some(bounds) = reader.bounds(partition) else {
            continue;
        };
        let first = bounds.start..bounds.start.saturating_add(OFFSETS_MAX).min(bounds.end);
        let last = bounds.end.saturating_sub(OFFSETS_MAX).max(first.end)..bounds.end;
        for offset in first.chain(last) {
            for bytes_max in [1, 64 << 10] {
                let read = reader.read(partition, offset, bytes_max, true);
                if let (Ok(slice), Served::Checked) = (read, served) {
                    check(&slice, offset);
                }
            }
        }
    }
}

fn check(slice: &wharf_log::Slice, offset: i64) {
    let mut next = None;
    for joined in &slice.batches {
        let mut rest = joined.clone();
        while !rest.is_empty() {
            let header = batch::header(&rest).expect("what is served has whole headers");
            let one = rest.split_to(header.batch_bytes());
            // What contradicts itself under a right checksum was written so.
            match batch::verify(&one) {
                Ok(_) | Err(InvalidBatch::Inconsistent(_)) => {}
                Err(error) => panic!("{offset}: {error}"),
            }
            match next {
                // It may begin further on: batches that say they are empty are passed over.
                None => assert!(header.last_offset() >= offset, "offsets go back"),
                Some(next) => assert!(header.base_offset >= next, "offsets go back"),
            }
            next = Some(header.last_offset() + 1);
        }
    }
}
