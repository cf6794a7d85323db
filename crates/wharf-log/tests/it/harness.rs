//! A log driven from one thread, so that a test decides what happens when.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use wharf_log::batch::{self, Producer, Record};
use wharf_log::disk::Disk;
use wharf_log::disk::real::RealDisk;
use wharf_log::disk::simulated::{Faults, SimulatedDisk};
use wharf_log::{
    Append, Clock, CommitError, Committed, Log, Observer, OpenError, Options, PartitionChange,
    PartitionId, Policy, Retention, Unit,
};
use wharf_message::Timestamp;

/// The outcome of a unit.
pub(crate) type Outcome = Result<Committed, CommitError>;

/// Remembers which partitions it was told of.
#[derive(Debug, Default)]
pub(crate) struct Told(pub(crate) Mutex<Vec<PartitionId>>);

impl Observer for Told {
    fn appended(&self, partitions: &[PartitionId]) {
        self.0.lock().unwrap().extend(partitions);
    }
}

/// The same retention for all partitions.
#[derive(Debug)]
pub(crate) struct Keep(pub(crate) Retention);

impl Policy for Keep {
    fn retention(&self, _partition: PartitionId) -> Option<Retention> {
        Some(self.0.clone())
    }
}

/// Keeps everything; small segments.
pub(crate) fn keep_all() -> Keep {
    Keep(Retention {
        bytes: None,
        age: None,
        segment_bytes: 64 << 10,
        segment_age: Duration::from_secs(3600),
        compaction: None,
    })
}

/// Small files, so that tests reach every part quickly.
pub(crate) fn small() -> Options {
    Options {
        journal_file_bytes: 128 << 10,
        journal_files_max: 2,
        tail_bytes_max: 32 << 10,
        ..Options::default()
    }
}

/// A directory for a real disk, removed at the end.
pub(crate) fn temporary() -> (tempfile::TempDir, Arc<dyn Disk>) {
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(directory.path().join("data")).unwrap();
    (directory, Arc::new(disk))
}

/// A log with its observer and the time.
pub(crate) struct Node {
    pub(crate) log: Log,
    pub(crate) told: Arc<Told>,
    pub(crate) now: Timestamp,
}

impl Node {
    pub(crate) fn open(disk: &Arc<dyn Disk>, options: Options) -> Self {
        Self::try_open(disk, options).unwrap()
    }

    pub(crate) fn try_open(disk: &Arc<dyn Disk>, options: Options) -> Result<Self, OpenError> {
        let told = Arc::new(Told::default());
        let now = Timestamp::from_millis(1_000_000);
        let observer = Arc::clone(&told) as Arc<dyn Observer>;
        let log = Log::open(Arc::clone(disk), options, observer, now)?;
        Ok(Self { log, told, now })
    }

    /// A fresh simulated disk with a log on it.
    pub(crate) fn simulated(seed: u64, options: Options) -> (SimulatedDisk, Self) {
        let disk = SimulatedDisk::new(seed, Faults::default());
        let node = Self::open(&(Arc::new(disk.clone()) as Arc<dyn Disk>), options);
        (disk, node)
    }

    /// Runs maintenance until nothing is left to do; commits what it asks for.
    pub(crate) fn maintain(&mut self, policy: &dyn Policy) {
        for _ in 0..1000 {
            let more = self.log.maintenance.run(policy, self.now);
            let answered = self.log.committer.run_pending(self.now);
            if !more && answered == 0 {
                return;
            }
        }
        panic!("maintenance does not come to an end");
    }

    /// Stops as a server does: drains, writes the last snapshot.
    pub(crate) fn stop(mut self) {
        self.log.appender.close();
        self.log.committer.run_pending(self.now);
        self.log.maintenance.finish(self.now).unwrap();
    }

    /// Commits units as they are queued together.
    pub(crate) fn commit_all(&mut self, units: Vec<Unit>) -> Vec<Outcome> {
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let units = units
            .into_iter()
            .map(|unit| {
                let outcomes = Arc::clone(&outcomes);
                let done: wharf_log::Done =
                    Box::new(move |outcome| outcomes.lock().unwrap().push(outcome));
                (unit, done)
            })
            .collect();
        self.log.appender.submit(units);
        self.log.committer.run_pending(self.now);
        std::mem::take(&mut *outcomes.lock().unwrap())
    }

    pub(crate) fn commit(&mut self, unit: Unit) -> Outcome {
        self.commit_all(vec![unit]).pop().unwrap()
    }

    pub(crate) fn create(&mut self, partition: u64) {
        self.commit(create(partition)).unwrap();
    }

    /// The values of all records from `offset` on.
    pub(crate) fn values(&self, partition: u64, offset: i64) -> Vec<(i64, Bytes)> {
        let mut values = Vec::new();
        let mut next = offset;
        loop {
            let slice = self
                .log
                .reader
                .read(PartitionId(partition), next, 4096, true)
                .unwrap();
            if slice.batches.is_empty() {
                return values;
            }
            for batch in split(&slice.batches) {
                let header = batch::verify_stored(&batch).unwrap();
                next = header.last_offset() + 1;
                if header.is_control() {
                    continue;
                }
                let records = batch::records(&header, &batch.slice(batch::HEADER_BYTES..)).unwrap();
                for record in records.into_iter().filter(|record| record.offset >= offset) {
                    values.push((record.offset, record.value.unwrap()));
                }
            }
        }
    }

    pub(crate) fn end(&self, partition: u64) -> i64 {
        self.log.reader.bounds(PartitionId(partition)).unwrap().end
    }
}

/// The batches of a slice, one by one.
pub(crate) fn split(joined: &[Bytes]) -> Vec<Bytes> {
    let mut batches = Vec::new();
    for bytes in joined {
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let header = batch::header(&rest).unwrap();
            batches.push(rest.split_to(header.batch_bytes()));
        }
    }
    batches
}

pub(crate) fn create(partition: u64) -> Unit {
    Unit {
        partitions: vec![PartitionChange::Create(PartitionId(partition))],
        ..Unit::default()
    }
}

/// A batch with these values.
pub(crate) fn batch_of(values: &[&str], producer: Option<Producer>, time: i64) -> Bytes {
    let records: Vec<Record> = values
        .iter()
        .map(|value| Record {
            timestamp: Timestamp::from_millis(time),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            ..Record::default()
        })
        .collect();
    batch::build(&records, producer)
}

pub(crate) fn append_to(partition: u64, batch: Bytes) -> Append {
    Append {
        partition: PartitionId(partition),
        batch,
        clock: Clock::CreateTime,
    }
}

/// A unit that appends one batch with these values.
pub(crate) fn append(partition: u64, values: &[&str]) -> Unit {
    Unit {
        appends: vec![append_to(partition, batch_of(values, None, 7))],
        ..Unit::default()
    }
}

/// A unit that moves the start of a partition.
pub(crate) fn advance(partition: u64, offset: i64) -> Unit {
    let partition = PartitionId(partition);
    let change = PartitionChange::AdvanceStart { partition, offset };
    Unit {
        partitions: vec![change],
        ..Unit::default()
    }
}

pub(crate) fn remove(partition: u64) -> Unit {
    Unit {
        partitions: vec![PartitionChange::Remove(PartitionId(partition))],
        ..Unit::default()
    }
}

/// The disk as the log wants it.
pub(crate) fn shared(disk: &SimulatedDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

/// What becomes of a node between the operations of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Maintain,
    Stop,
    Kill,
    PowerLoss,
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Maintain),
        1 => Just(Event::Stop),
        1 => Just(Event::Kill),
        1 => Just(Event::PowerLoss),
    ]
}

impl Event {
    /// Lets it happen to a node with [`small`] files; one that ended is opened again.
    pub(crate) fn happen(self, disk: SimulatedDisk, mut node: Node) -> (SimulatedDisk, Node) {
        let disk = match self {
            Self::Maintain => {
                node.log.maintenance.run(&keep_all(), node.now);
                return (disk, node);
            }
            Self::Stop => {
                node.stop();
                disk
            }
            Self::Kill => disk.kill(),
            Self::PowerLoss => disk.crash(),
        };
        let node = Node::open(&shared(&disk), small());
        (disk, node)
    }
}
