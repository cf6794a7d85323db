//! Transactions against a model: any sequence of batches and ends, restarts and power losses.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use wharf_log::{Aborted, PartitionId, TransactionOutcome, Unit};

use crate::harness::{
    Event, Node, advance, append, append_to, event, keep_all, remove, shared, small,
};
use crate::transactions::{committed, end, transactional, unit_of};

const PARTITIONS: u64 = 3;

#[derive(Clone, Debug)]
enum Operation {
    Plain {
        partition: u64,
        bytes: usize,
    },
    /// One producer's batches, then perhaps the end, in one unit.
    Transaction {
        producer: usize,
        partitions: BTreeSet<u64>,
        bytes: usize,
        end: Option<(TransactionOutcome, bool)>,
    },
    Advance {
        partition: u64,
        percent: i64,
    },
    Remove(u64),
    Event(Event),
}

fn operation() -> impl Strategy<Value = Operation> {
    let outcome = prop_oneof![
        Just(TransactionOutcome::Commit),
        Just(TransactionOutcome::Abort)
    ];
    let end = proptest::option::of((outcome, any::<bool>()));
    let partition = || 0..PARTITIONS;
    prop_oneof![
        4 => (partition(), 0..9_000_usize)
            .prop_map(|(partition, bytes)| Operation::Plain { partition, bytes }),
        16 => (0..4_usize, btree_set(partition(), 0..3), 0..5_000_usize, end).prop_map(
            |(producer, partitions, bytes, end)| {
                Operation::Transaction { producer, partitions, bytes, end }
            }
        ),
        2 => (partition(), 0..=100_i64)
            .prop_map(|(partition, percent)| Operation::Advance { partition, percent }),
        1 => partition().prop_map(Operation::Remove),
        7 => event().prop_map(Operation::Event),
    ]
}

/// What is at an offset.
#[derive(Clone, Debug, PartialEq)]
enum Slot {
    Plain(Bytes),
    /// The transaction's number.
    Part(usize, Bytes),
    Marker,
}

#[derive(Debug, Default)]
struct Partition {
    start: i64,
    slots: Vec<Slot>,
    /// The open transactions: producer, first offset.
    open: BTreeMap<i64, i64>,
    aborted: Vec<Aborted>,
}

#[derive(Clone, Debug, Default)]
struct Producer {
    epoch: i16,
    sequences: BTreeMap<u64, i32>,
    /// The number of the transaction it is in, or will begin next.
    transaction: usize,
}

#[derive(Debug)]
struct Model {
    partitions: BTreeMap<u64, Partition>,
    producers: Vec<Producer>,
    outcomes: BTreeMap<usize, TransactionOutcome>,
    counter: usize,
}

impl Model {
    fn new() -> Self {
        let fresh = |transaction| Producer {
            transaction,
            ..Producer::default()
        };
        Self {
            partitions: (0..PARTITIONS)
                .map(|id| (id, Partition::default()))
                .collect(),
            producers: (0..4).map(fresh).collect(),
            outcomes: BTreeMap::new(),
            counter: 4,
        }
    }

    fn value(&mut self, bytes: usize) -> String {
        self.counter += 1;
        format!("{}:{}", self.counter, "m".repeat(bytes))
    }

    fn transaction(
        &mut self,
        node: &mut Node,
        index: usize,
        partitions: &BTreeSet<u64>,
        bytes: usize,
        ends: Option<(TransactionOutcome, bool)>,
    ) {
        let id = i64::try_from(index).unwrap() + 100;
        let value = self.value(bytes);
        let producer = self.producers[index].clone();
        let mut unit = Unit::default();
        let here = partitions
            .iter()
            .filter(|id| self.partitions.contains_key(id));
        let here: Vec<u64> = here.copied().collect();
        for partition in &here {
            let sequence = producer.sequences.get(partition).copied().unwrap_or(0);
            let batch = transactional(id, producer.epoch, sequence, &[&value, "and one more"]);
            unit.appends.push(append_to(*partition, batch));
        }
        if let Some((outcome, bump)) = ends {
            let epoch = producer.epoch + i16::from(bump);
            unit.transactions = unit_of(end(id, epoch, outcome)).transactions;
        }
        let answer = node.commit(unit).unwrap();
        for (partition, appended) in here.iter().zip(&answer.appends) {
            let model = self.partitions.get_mut(partition).unwrap();
            let base = i64::try_from(model.slots.len()).unwrap();
            assert_eq!(appended.base_offset, base);
            for value in [value.clone().into(), Bytes::from("and one more")] {
                model.slots.push(Slot::Part(producer.transaction, value));
            }
            model.open.entry(id).or_insert(base);
            *self.producers[index]
                .sequences
                .entry(*partition)
                .or_default() += 2;
        }
        if let Some((outcome, bump)) = ends {
            let ended = self.end(index, id, outcome, bump);
            assert_eq!(answer.ended, ended);
        }
    }

    /// Ends a producer's transaction; returns where the markers go.
    fn end(
        &mut self,
        index: usize,
        id: i64,
        outcome: TransactionOutcome,
        bump: bool,
    ) -> Vec<(PartitionId, i64)> {
        let mut ended = Vec::new();
        for (partition, model) in &mut self.partitions {
            let Some(first_offset) = model.open.remove(&id) else {
                continue;
            };
            let last_offset = i64::try_from(model.slots.len()).unwrap();
            ended.push((PartitionId(*partition), last_offset));
            model.slots.push(Slot::Marker);
            if outcome == TransactionOutcome::Abort {
                model.aborted.push(Aborted {
                    producer_id: id,
                    first_offset,
                    last_offset,
                });
            }
        }
        self.outcomes
            .insert(self.producers[index].transaction, outcome);
        self.counter += 1;
        let producer = &mut self.producers[index];
        producer.transaction = self.counter;
        if bump {
            producer.epoch += 1;
            producer.sequences.clear();
        }
        ended
    }

    fn check(&self, node: &Node) {
        let reader = &node.log.reader;
        let mut open: BTreeMap<i64, Vec<PartitionId>> = BTreeMap::new();
        for (id, model) in &self.partitions {
            let partition = PartitionId(*id);
            let bounds = reader.bounds(partition).unwrap();
            let end = i64::try_from(model.slots.len()).unwrap();
            let stable = model.open.values().copied().min().unwrap_or(end);
            let stable = stable.max(model.start);
            let found = (bounds.start, bounds.end, bounds.stable_end);
            assert_eq!(found, (model.start, end, stable));
            let mut aborted = model.aborted.clone();
            aborted.retain(|one| one.last_offset >= model.start);
            aborted.sort_by_key(|one| one.first_offset);
            assert_eq!(reader.aborted(partition, model.start, end), aborted);
            let visible = |(offset, slot): (i64, &Slot)| match slot {
                Slot::Plain(value) => Some((offset, value.clone())),
                Slot::Part(transaction, value) => (self.outcomes.get(transaction)
                    == Some(&TransactionOutcome::Commit))
                .then(|| (offset, value.clone())),
                Slot::Marker => None,
            };
            let all = (0..).zip(&model.slots).filter_map(visible);
            let range = model.start..stable;
            let expected: Vec<_> = all.filter(|(at, _)| range.contains(at)).collect();
            for bytes in [1, 4096, 1 << 20] {
                assert_eq!(committed(node, *id, model.start, bytes), expected);
            }
            for producer in model.open.keys() {
                open.entry(*producer).or_default().push(partition);
            }
        }
        assert_eq!(
            reader.producers_in_transactions(),
            open.keys().copied().collect::<Vec<_>>()
        );
        for (producer, partitions) in open {
            assert_eq!(reader.open_transactions(producer), partitions);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn transactions_behave_like_their_model(
        seed: u64,
        operations in vec(operation(), 1..100),
    ) {
        let (mut disk, mut node) = Node::simulated(seed, small());
        for partition in 0..PARTITIONS {
            node.create(partition);
        }
        let mut model = Model::new();
        for operation in operations {
            node.now = node.now.after(Duration::from_millis(700));
            match operation {
                Operation::Plain { partition, bytes } => {
                    let value = model.value(bytes);
                    if let Some(found) = model.partitions.get_mut(&partition) {
                        node.commit(append(partition, &[&value])).unwrap();
                        found.slots.push(Slot::Plain(value.into()));
                    }
                }
                Operation::Transaction { producer, partitions, bytes, end } => {
                    model.transaction(&mut node, producer, &partitions, bytes, end);
                }
                Operation::Advance { partition, percent } => {
                    if let Some(found) = model.partitions.get_mut(&partition) {
                        let end = i64::try_from(found.slots.len()).unwrap();
                        found.start += (end - found.start) * percent / 100;
                        node.commit(advance(partition, found.start)).unwrap();
                    }
                }
                Operation::Remove(partition) => {
                    if model.partitions.len() > 1 && model.partitions.remove(&partition).is_some() {
                        node.commit(remove(partition)).unwrap();
                    }
                }
                Operation::Event(event) => {
                    (disk, node) = event.happen(disk, node);
                    if event != Event::Maintain {
                        model.check(&node);
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
