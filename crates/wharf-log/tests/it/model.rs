//! The log against a map: any sequence of operations, restarts and power losses.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use wharf_log::{CommitError, PartitionId};

use crate::harness::{
    Event, Node, advance, append, create, event, keep_all, remove, shared, small,
};

#[derive(Clone, Debug)]
enum Operation {
    Create(u64),
    Append {
        partition: u64,
        records: usize,
        bytes: usize,
    },
    Group(Vec<(u64, usize)>),
    Advance {
        partition: u64,
        percent: i64,
    },
    Remove(u64),
    Event(Event),
}

fn operation() -> impl Strategy<Value = Operation> {
    let partition = || 0..4_u64;
    prop_oneof![
        3 => partition().prop_map(Operation::Create),
        12 => (partition(), 1..4_usize, 0..12_000_usize).prop_map(|(partition, records, bytes)| {
            Operation::Append { partition, records, bytes }
        }),
        4 => vec((partition(), 0..3_000_usize), 1..8).prop_map(Operation::Group),
        2 => (partition(), 0..=100_i64)
            .prop_map(|(partition, percent)| Operation::Advance { partition, percent }),
        1 => partition().prop_map(Operation::Remove),
        7 => event().prop_map(Operation::Event),
    ]
}

#[derive(Debug, Default)]
struct Expected {
    start: i64,
    values: Vec<Bytes>,
}

/// Partition ids are never reused: a new number for each life.
#[derive(Debug, Default)]
struct Model {
    ids: BTreeMap<u64, u64>,
    next_id: u64,
    partitions: BTreeMap<u64, Expected>,
    counter: u64,
}

impl Model {
    fn value(&mut self, bytes: usize) -> String {
        self.counter += 1;
        format!("{}:{}", self.counter, "m".repeat(bytes))
    }

    fn create(&mut self, slot: u64) -> Option<u64> {
        if self.ids.contains_key(&slot) {
            return None;
        }
        self.next_id += 1;
        self.ids.insert(slot, self.next_id);
        self.partitions.insert(self.next_id, Expected::default());
        Some(self.next_id)
    }

    fn check(&self, node: &Node) {
        let ids: Vec<_> = node.log.reader.partitions().iter().map(|id| id.0).collect();
        assert_eq!(ids, self.partitions.keys().copied().collect::<Vec<_>>());
        for (id, expected) in &self.partitions {
            let bounds = node.log.reader.bounds(PartitionId(*id)).unwrap();
            let end = i64::try_from(expected.values.len()).unwrap();
            assert_eq!((bounds.start, bounds.end), (expected.start, end));
            let start = usize::try_from(expected.start).unwrap();
            let wanted: Vec<_> = (expected.start..)
                .zip(expected.values[start..].to_vec())
                .collect();
            assert_eq!(node.values(*id, bounds.start), wanted);
        }
        assert!(node.log.recovery.damaged.is_empty());
    }
}

fn append_one(model: &mut Model, node: &mut Node, slot: u64, values: &[String]) {
    let Some(id) = model.ids.get(&slot).copied() else {
        return;
    };
    let borrowed: Vec<&str> = values.iter().map(String::as_str).collect();
    let appended = node.commit(append(id, &borrowed)).unwrap().appends[0];
    let expected = model.partitions.get_mut(&id).unwrap();
    assert_eq!(
        appended.base_offset,
        i64::try_from(expected.values.len()).unwrap()
    );
    expected
        .values
        .extend(values.iter().cloned().map(Bytes::from));
}

fn append_group(model: &mut Model, node: &mut Node, group: &[(u64, usize)]) {
    let mut units = Vec::new();
    let mut added = Vec::new();
    for (slot, bytes) in group {
        let value = model.value(*bytes);
        let id = model.ids.get(slot).copied();
        units.push(append(id.unwrap_or(u64::MAX), &[&value]));
        added.push((id, value));
    }
    for (outcome, (id, value)) in node.commit_all(units).into_iter().zip(added) {
        match id {
            Some(id) => {
                outcome.unwrap();
                model
                    .partitions
                    .get_mut(&id)
                    .unwrap()
                    .values
                    .push(value.into());
            }
            None => assert!(matches!(outcome, Err(CommitError::UnknownPartition(_)))),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_log_behaves_like_a_map(seed: u64, operations in vec(operation(), 1..120)) {
        let (mut disk, mut node) = Node::simulated(seed, small());
        let mut model = Model::default();
        for operation in operations {
            node.now = node.now.after(Duration::from_millis(700));
            match operation {
                Operation::Create(slot) => if let Some(id) = model.create(slot) {
                    node.commit(create(id)).unwrap();
                },
                Operation::Append { partition, records, bytes } => {
                    let values: Vec<_> = (0..records).map(|_| model.value(bytes / records)).collect();
                    append_one(&mut model, &mut node, partition, &values);
                }
                Operation::Group(group) => append_group(&mut model, &mut node, &group),
                Operation::Advance { partition, percent } => {
                    if let Some(id) = model.ids.get(&partition).copied() {
                        let expected = model.partitions.get_mut(&id).unwrap();
                        let end = i64::try_from(expected.values.len()).unwrap();
                        expected.start += (end - expected.start) * percent / 100;
                        node.commit(advance(id, expected.start)).unwrap();
                    }
                }
                Operation::Remove(slot) => if let Some(id) = model.ids.remove(&slot) {
                    model.partitions.remove(&id);
                    node.commit(remove(id)).unwrap();
                },
                Operation::Event(event) => {
                    (disk, node) = event.happen(disk, node);
                    if event == Event::Stop {
                        assert_eq!(node.log.recovery.frames_replayed, 0);
                    }
                }
            }
        }
        model.check(&node);
        node.maintain(&keep_all());
        model.check(&node);
        disk = disk.crash();
        model.check(&Node::open(&shared(&disk), small()));
    }
}
