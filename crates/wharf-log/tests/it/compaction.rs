//! Compaction: of each key, the newest record stays, whatever happens meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use wharf_log::batch::{self, HEADER_BYTES, Producer, Record};
use wharf_log::disk::simulated::SimulatedDisk;
use wharf_log::{
    Compaction, Durability, Options, PartitionId, Retention, TransactionOutcome, Unit,
};
use wharf_message::Timestamp;

use crate::harness::{Keep, Node, advance, append_to, keep_all, shared, small, split};
use crate::transactions::{end, unit_of};

/// Long enough for every look that maintenance takes.
pub(crate) const WHILE: Duration = Duration::from_secs(6);

pub(crate) fn compacting(change: impl FnOnce(&mut Compaction)) -> Keep {
    let mut compaction = Compaction {
        min_lag: Duration::ZERO,
        max_lag: Some(Duration::from_millis(1)),
        dirty_ratio: 0.0,
        delete_retention: Duration::from_secs(60),
    };
    change(&mut compaction);
    Keep(Retention {
        compaction: Some(compaction),
        segment_bytes: 4_000,
        ..keep_all().0
    })
}

/// A record as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) key: Bytes,
    pub(crate) value: Option<Bytes>,
    pub(crate) time: i64,
}

pub(crate) fn record(said: &Said) -> Record {
    Record {
        timestamp: Timestamp::from_millis(said.time),
        key: Some(said.key.clone()),
        value: said.value.clone(),
        ..Record::default()
    }
}

/// What is readable: offset and record; and that offsets have no gaps.
pub(crate) fn readable(node: &Node, committed: bool) -> BTreeMap<i64, Said> {
    let reader = &node.log.reader;
    let id = PartitionId(1);
    let bounds = reader.bounds(id).unwrap();
    let mut seen = BTreeMap::new();
    let mut next = bounds.start;
    loop {
        let slice = if committed {
            reader.read_committed(id, next, 3_000, true).unwrap()
        } else {
            reader.read(id, next, 3_000, true).unwrap()
        };
        if slice.batches.is_empty() {
            let until = if committed {
                bounds.stable_end
            } else {
                bounds.end
            };
            assert_eq!(next, until.max(bounds.start));
            return seen;
        }
        let mut coming = slice.aborted.into_iter().peekable();
        let mut dropped = BTreeSet::new();
        for (index, batch) in split(&slice.batches).into_iter().enumerate() {
            let header = batch::verify_stored(&batch).unwrap();
            // Within a slice offsets have no gaps; between slices, where nothing is left.
            let follows = header.base_offset == next || index == 0;
            assert!(follows, "{header:?} at {next}");
            while let Some(one) = coming.next_if(|one| one.first_offset <= header.last_offset()) {
                dropped.insert(one.producer_id);
            }
            let from = next;
            next = header.last_offset() + 1;
            if header.is_control() {
                dropped.remove(&header.producer_id);
                continue;
            }
            if header.is_transactional() && dropped.contains(&header.producer_id) {
                continue;
            }
            for record in batch::records(&header, &batch.slice(HEADER_BYTES..)).unwrap() {
                let said = Said {
                    key: record.key.unwrap(),
                    value: record.value,
                    time: record.timestamp.as_millis(),
                };
                if record.offset >= from {
                    seen.insert(record.offset, said);
                }
            }
        }
    }
}

/// What was said to a partition, by offset, and which of it counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    said: BTreeMap<i64, Said>,
    /// Offsets of the open transaction.
    open: Vec<i64>,
    aborted: BTreeSet<i64>,
    epoch: i16,
    sequence: i32,
    start: i64,
}

impl Model {
    /// The newest committed record of each key below `until`.
    fn newest(&self, until: i64) -> BTreeMap<Bytes, i64> {
        let counts = |offset: &i64| *offset < until && !self.aborted.contains(offset);
        let said = self.said.iter().filter(|(offset, _)| counts(offset));
        said.map(|(offset, said)| (said.key.clone(), *offset))
            .collect()
    }

    fn check(&self, node: &Node, policy: &Compaction) {
        let bounds = node.log.reader.bounds(PartitionId(1)).unwrap();
        let all = readable(node, false);
        let committed = readable(node, true);
        for (offset, said) in &all {
            assert_eq!(Some(said), self.said.get(offset), "at {offset}");
        }
        for (offset, said) in &committed {
            assert_eq!(Some(said), self.said.get(offset), "at {offset}");
            assert!(!self.aborted.contains(offset), "{offset} was aborted");
        }
        let newest = self.newest(bounds.stable_end);
        for (key, offset) in &newest {
            let there = committed.contains_key(offset);
            let tombstone = self.said[offset].value.is_none();
            assert!(
                there || tombstone || *offset < self.start,
                "{key:?} at {offset} is gone"
            );
        }
        let young = node.now.as_millis() - i64::try_from(policy.min_lag.as_millis()).unwrap();
        for (offset, said) in self.said.range(self.start..bounds.stable_end) {
            let kept = said.time > young || *offset >= bounds.stable_end;
            assert!(
                !kept || self.aborted.contains(offset) || committed.contains_key(offset),
                "{offset} is younger than the lag and gone"
            );
        }
        for offset in &self.open {
            assert!(*offset < self.start || all.contains_key(offset));
        }
    }
}

#[derive(Clone, Debug)]
enum Operation {
    /// Keys, and whether there is a value.
    Append(Vec<(u8, bool)>),
    Transactional(Vec<(u8, bool)>),
    End(bool),
    Advance(i64),
    Maintain(u32),
    Later(u64),
    Stop,
    Kill,
    PowerLoss,
}

fn operation() -> impl Strategy<Value = Operation> {
    let records = || vec((0..12_u8, proptest::bool::weighted(0.8)), 1..8);
    prop_oneof![
        12 => records().prop_map(Operation::Append),
        6 => records().prop_map(Operation::Transactional),
        3 => any::<bool>().prop_map(Operation::End),
        1 => (0..=40_i64).prop_map(Operation::Advance),
        6 => (1..40_u32).prop_map(Operation::Maintain),
        3 => (1..100_u64).prop_map(Operation::Later),
        1 => Just(Operation::Stop),
        1 => Just(Operation::Kill),
        1 => Just(Operation::PowerLoss),
    ]
}

/// A log with one partition and what it was told.
pub(crate) struct World {
    pub(crate) disk: SimulatedDisk,
    pub(crate) node: Node,
    pub(crate) model: Model,
    pub(crate) counter: u64,
    pub(crate) options: Options,
}

impl World {
    pub(crate) fn new(seed: u64, options: Options) -> Self {
        let (disk, mut node) = Node::simulated(seed, options.clone());
        node.create(1);
        Self {
            disk,
            node,
            model: Model::default(),
            counter: 0,
            options,
        }
    }

    pub(crate) fn append(&mut self, records: &[(u8, bool)], transactional: bool) {
        let mut says = Vec::new();
        for (key, value) in records {
            self.counter += 1;
            let text = format!("{}{}", self.counter, "v".repeat(usize::from(*key) * 9));
            says.push(Said {
                key: Bytes::from(format!("key {key}")),
                value: value.then(|| text.into()),
                time: self.node.now.as_millis() - i64::from(*key),
            });
        }
        let records: Vec<Record> = says.iter().map(record).collect();
        let batch = if transactional {
            let producer = Producer {
                id: 10,
                epoch: self.model.epoch,
                sequence: self.model.sequence,
            };
            self.model.sequence += i32::try_from(says.len()).unwrap();
            batch::build_transactional(&records, producer)
        } else {
            batch::build(&records, None)
        };
        let unit = Unit {
            appends: vec![append_to(1, batch)],
            durability: Durability::Synced,
            ..Unit::default()
        };
        let base = self.node.commit(unit).unwrap().appends[0].base_offset;
        for (offset, said) in (base..).zip(says) {
            self.model.said.insert(offset, said);
            if transactional {
                self.model.open.push(offset);
            }
        }
    }

    pub(crate) fn end(&mut self, commits: bool) {
        let outcome = if commits {
            TransactionOutcome::Commit
        } else {
            TransactionOutcome::Abort
        };
        self.model.epoch += 1;
        self.model.sequence = 0;
        let ended = self
            .node
            .commit(unit_of(end(10, self.model.epoch, outcome)));
        ended.unwrap();
        let open = std::mem::take(&mut self.model.open);
        if !commits {
            self.model.aborted.extend(open);
        }
    }

    pub(crate) fn reopen(&mut self) {
        let now = self.node.now;
        self.node = Node::open(&shared(&self.disk), self.options.clone());
        self.node.now = now;
    }

    fn run(&mut self, operation: &Operation, policy: &Keep) {
        match operation {
            Operation::Append(records) => self.append(records, false),
            Operation::Transactional(records) => self.append(records, true),
            Operation::End(commits) => self.end(*commits),
            Operation::Advance(percent) => {
                let bounds = self.node.log.reader.bounds(PartitionId(1)).unwrap();
                self.model.start = bounds.start + (bounds.end - bounds.start) * percent / 100;
                self.node.commit(advance(1, self.model.start)).unwrap();
            }
            Operation::Maintain(steps) => {
                for _ in 0..*steps {
                    self.node.log.maintenance.run(policy, self.node.now);
                    self.node.log.committer.run_pending(self.node.now);
                }
            }
            Operation::Later(seconds) => {
                self.node.now = self.node.now.after(Duration::from_secs(*seconds));
            }
            Operation::Stop => {
                self.node.log.appender.close();
                self.node.log.maintenance.finish(self.node.now).unwrap();
                self.reopen();
            }
            Operation::Kill => {
                self.disk = self.disk.kill();
                self.reopen();
            }
            Operation::PowerLoss => {
                self.disk = self.disk.crash();
                self.reopen();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn after_compaction_the_newest_record_of_each_key_is_there_at_its_offset(
        seed: u64,
        keys_max in prop_oneof![Just(3_usize), Just(1_000)],
        min_lag in prop_oneof![Just(0_u64), Just(30)],
        operations in vec(operation(), 1..120),
    ) {
        let options = Options { compaction_keys_max: keys_max, ..small() };
        let policy = compacting(|settings| settings.min_lag = Duration::from_secs(min_lag));
        let settings = policy.0.compaction.unwrap();
        let mut world = World::new(seed, options);
        for operation in &operations {
            world.run(operation, &policy);
            world.model.check(&world.node, &settings);
        }
        for _ in 0..12 {
            world.node.now = world.node.now.after(WHILE * 6);
            world.node.maintain(&policy);
            world.model.check(&world.node, &settings);
        }
        // By now everything below the stable end was compacted.
        let stable = world.node.log.reader.bounds(PartitionId(1)).unwrap().stable_end;
        let newest = world.model.newest(stable);
        let left = readable(&world.node, true);
        prop_assert_eq!(world.node.log.reader.damaged(), []);
        if keys_max > 12 && world.model.open.is_empty() {
            for (offset, said) in &left {
                prop_assert_eq!(newest[&said.key], *offset, "{:?} is superseded", said);
                prop_assert!(said.value.is_some(), "an old tombstone at {offset}");
            }
        }
        world.disk = world.disk.crash();
        world.reopen();
        prop_assert_eq!(readable(&world.node, true), left);
    }
}

/// A partition in which most records are superseded, and an aborted transaction.
pub(crate) fn filled(seed: u64) -> World {
    let mut world = World::new(seed, small());
    for round in 0..40_u8 {
        world.append(&[(round % 5, true), (round % 3, round % 7 != 0)], false);
        if round % 10 == 3 {
            world.append(&[(9, true), (round % 5, true)], true);
            world.end(round == 3);
        }
    }
    world.node.now = world.node.now.after(WHILE);
    world
}

#[test]
fn a_crash_at_any_point_of_compaction_leaves_the_old_segments_or_the_new_one() {
    let policy = compacting(|_| {});
    let settings = policy.0.compaction.unwrap();
    let mut exchanged = BTreeSet::new();
    for at in 1.. {
        let mut world = filled(at);
        let before = readable(&world.node, true);
        world
            .disk
            .power_off_at(world.disk.counters().operations + at);
        for _ in 0..200 {
            world.node.log.maintenance.run(&policy, world.node.now);
        }
        let finished = !world.disk.is_off();
        world.disk = if at % 2 == 0 {
            world.disk.kill()
        } else {
            world.disk.crash()
        };
        world.reopen();
        world.model.check(&world.node, &settings);
        let after = readable(&world.node, true);
        exchanged.insert(after.len() < before.len());
        // It is done in the end, and the leftovers of the crash are gone.
        world.node.maintain(&policy);
        world.node.now = world.node.now.after(WHILE);
        world.node.maintain(&policy);
        world.model.check(&world.node, &settings);
        assert!(readable(&world.node, true).len() < before.len());
        let logs = world.disk.paths();
        let logs = logs.iter().filter(|path| path.ends_with(".log")).count();
        assert!(logs <= 2, "{:?}", world.disk.paths());
        if finished {
            break;
        }
    }
    assert_eq!(exchanged, [false, true].into());
}

#[test]
fn who_reads_while_segments_are_exchanged_sees_whole_batches() {
    let mut world = filled(1);
    let policy = compacting(|_| {});
    let settings = policy.0.compaction.unwrap();
    for _ in 0..200 {
        world.node.log.maintenance.run(&policy, world.node.now);
        world.model.check(&world.node, &settings);
    }
    assert!(world.node.log.reader.statistics().compacted_bytes > 0);
}
