//! What the simulated clients ask for: idempotent and transactional producers that retry, plain
//! producers, owners that fence each other, people who create, cut and remove partitions.
//!
//! Invariant: every batch and every value carries the number of the unit that wrote it first, so
//! whatever is found on a disk can be traced to its origin. Nothing here looks at the log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use wharf_log::batch::{self, Producer, Record};
use wharf_log::disk::simulated::Random;
use wharf_log::{
    Append, Clock, Condition, Durability, EndTransaction, PartitionChange, PartitionId,
    StateChange, TransactionOutcome, Unit,
};
use wharf_message::Timestamp;

use crate::model::Model;
use crate::plan::{Mix, pick};

/// How many keys the key-value state has at most.
const KEYS: u64 = 24;
/// How many bytes of a value say where it comes from.
const ORIGIN_BYTES: usize = 24;
/// How many batches a client could send again.
const SENT_MAX: usize = 8;

/// An idempotent producer's side of the story.
#[derive(Debug)]
struct Client {
    id: i64,
    epoch: i16,
    /// Whether it writes in transactions. Then its epoch is in the state, and every unit of it asks
    /// for that one, as units of a transaction coordinator do.
    transactional: bool,
    /// The next sequence in each partition, as the client believes.
    next: BTreeMap<PartitionId, i32>,
    sent: VecDeque<Append>,
}

/// The source of units.
#[derive(Debug)]
pub(crate) struct Workload {
    random: Random,
    clients: Vec<Client>,
    next_operation: u64,
    next_partition: u64,
    /// Partitions somebody asked to remove: their numbers are not used again.
    removed: BTreeSet<PartitionId>,
    /// Partitions whose records have keys, and among them tombstones.
    compacted: BTreeSet<PartitionId>,
    /// Batches whose outcome their clients never learnt; sent again first.
    retries: VecDeque<Append>,
}

impl Workload {
    pub(crate) fn new(mut random: Random, mix: &Mix) -> Self {
        let count = random.between(1, 5);
        let mut client = |id| Client {
            id,
            epoch: 0,
            transactional: random.percent(mix.transactional_percent),
            next: BTreeMap::new(),
            sent: VecDeque::new(),
        };
        let clients = (0..count)
            .map(|id| client(i64::try_from(id).unwrap_or(0) + 100))
            .collect();
        Self {
            random,
            clients,
            next_operation: 1,
            next_partition: 1,
            removed: BTreeSet::new(),
            compacted: BTreeSet::new(),
            retries: VecDeque::new(),
        }
    }

    /// The partition is going to be compacted.
    pub(crate) fn compacts(&mut self, id: PartitionId) {
        self.compacted.insert(id);
    }

    /// The next unit, with its number.
    pub(crate) fn next(&mut self, model: &Model, mix: &Mix, now: Timestamp) -> (u64, Unit) {
        let operation = self.next_operation;
        self.next_operation += 1;
        let mut unit = Unit::default();
        if self.random.percent(mix.buffered_percent) {
            unit.durability = Durability::Buffered;
        }
        if let Some(append) = self.retries.pop_front() {
            unit.appends.push(append);
            ask_for_epochs(&mut unit);
            return (operation, unit);
        }
        match self.random.below(100) {
            _ if model.partitions.len() < 2 => self.create(&mut unit, model),
            0..4 => self.create(&mut unit, model),
            4..6 => self.remove(&mut unit, model),
            6..12 => self.advance(&mut unit, model),
            12..20 => self.change_state(&mut unit, model, operation),
            20..30 => self.end(&mut unit, model, operation),
            _ => {
                let count = self.random.between(1, 3);
                for index in 0..count {
                    let append = self.append(model, mix, (operation, index), now);
                    unit.appends.push(append);
                }
                if self.random.percent(30) {
                    self.change_state(&mut unit, model, operation);
                }
            }
        }
        ask_for_epochs(&mut unit);
        if self.random.percent(8) {
            self.condition(&mut unit, model);
        }
        (operation, unit)
    }

    /// A client was refused: it asks where it stands.
    pub(crate) fn refused(&mut self, append: &Append, model: &Model) {
        let header = batch::header(&append.batch).expect("the workload builds valid batches");
        if let Some(client) = self
            .clients
            .iter_mut()
            .find(|one| one.id == header.producer_id)
        {
            if client.transactional {
                client.learn_all(model);
            }
            client.learn(append.partition, model);
        }
    }

    /// The end of a transaction was refused: its producer asks where it stands.
    pub(crate) fn refused_end(&mut self, end: &EndTransaction, model: &Model) {
        let mut clients = self.clients.iter_mut();
        if let Some(client) = clients.find(|one| one.id == end.producer) {
            client.learn_all(model);
        }
    }

    /// The node was restarted: clients send again what was not answered, or give up and ask.
    pub(crate) fn restarted<'a>(
        &mut self,
        unanswered: impl Iterator<Item = &'a Append>,
        model: &Model,
    ) {
        self.retries.clear();
        if self.random.percent(70) {
            self.retries
                .extend(unanswered.filter(|append| is_idempotent(append)).cloned());
        }
        if self.retries.is_empty() {
            for client in &mut self.clients {
                client.learn_all(model);
            }
        }
    }

    /// Ends the transaction of a producer, perhaps with one more batch of it.
    fn end(&mut self, unit: &mut Unit, model: &Model, operation: u64) {
        let mut clients: Vec<usize> = (0..self.clients.len()).collect();
        clients.retain(|index| self.clients[*index].transactional);
        if clients.is_empty() {
            return self.change_state(unit, model, operation);
        }
        let index = *pick(&clients, &mut self.random);
        let partition = self.partition(model);
        let client = &mut self.clients[index];
        let (producer, epoch) = (client.id, client.epoch);
        let outcome = if self.random.coin() {
            TransactionOutcome::Commit
        } else {
            TransactionOutcome::Abort
        };
        let mut end = EndTransaction {
            producer,
            epoch,
            coordinator_epoch: i32::try_from(operation).unwrap_or(i32::MAX),
            outcome,
            partitions: None,
        };
        match self.random.below(100) {
            // The next transaction begins anew (KIP-890).
            0..75 => {
                end.epoch += 1;
                client.epoch += 1;
                client.next.clear();
                unit.state.push(StateChange {
                    key: epoch_key(producer),
                    value: epoch_value(client.epoch),
                });
            }
            75..85 => end.partitions = Some(vec![partition]),
            _ => {}
        }
        unit.conditions.push(Condition::StateEquals {
            key: epoch_key(producer),
            value: epoch_value(epoch),
        });
        unit.transactions.push(end);
    }

    fn create(&mut self, unit: &mut Unit, model: &Model) {
        let existing = model
            .partitions
            .keys()
            .find(|id| !self.removed.contains(id));
        let id = match existing {
            Some(id) if self.random.percent(10) => *id,
            _ => {
                self.next_partition += 1;
                PartitionId(self.next_partition - 1)
            }
        };
        unit.partitions.push(PartitionChange::Create(id));
    }

    fn remove(&mut self, unit: &mut Unit, model: &Model) {
        let id = self.partition(model);
        self.removed.insert(id);
        unit.partitions.push(PartitionChange::Remove(id));
    }

    fn advance(&mut self, unit: &mut Unit, model: &Model) {
        let id = self.partition(model);
        let (start, end) = model
            .partitions
            .get(&id)
            .map_or((0, 0), |found| (found.start, found.end));
        let span = u64::try_from(end - start + 3).unwrap_or(0);
        let offset = start - 1 + i64::try_from(self.random.below(span)).unwrap_or(0);
        unit.partitions.push(PartitionChange::AdvanceStart {
            partition: id,
            offset,
        });
    }

    fn change_state(&mut self, unit: &mut Unit, model: &Model, operation: u64) {
        for _ in 0..self.random.between(1, 4) {
            let key = self.key();
            let removes = model.state.contains_key(&key) && self.random.percent(30);
            let value = (!removes).then(|| {
                let mut value = operation.to_be_bytes().to_vec();
                value.resize(8 + self.random.index(60), b'.');
                Bytes::from(value)
            });
            unit.state.push(StateChange { key, value });
        }
    }

    fn condition(&mut self, unit: &mut Unit, model: &Model) {
        let condition = if self.random.coin() {
            let key = self.key();
            let right = self.random.percent(70);
            let value = if right {
                model.state.get(&key).cloned()
            } else {
                Some(Bytes::new())
            };
            Condition::StateEquals { key, value }
        } else {
            let partition = self.partition(model);
            let end = model
                .partitions
                .get(&partition)
                .map_or(0, |found| found.end);
            Condition::NextOffset {
                partition,
                offset: end + i64::from(self.random.percent(30)),
            }
        };
        unit.conditions.push(condition);
    }

    fn key(&mut self) -> Bytes {
        Bytes::from(format!("k{}", self.random.below(KEYS)))
    }

    /// A partition, mostly one that exists.
    fn partition(&mut self, model: &Model) -> PartitionId {
        let index = self.random.index(model.partitions.len());
        match model.partitions.keys().nth(index) {
            Some(id) if !self.random.percent(2) => *id,
            _ => PartitionId(self.random.between(1, self.next_partition)),
        }
    }

    fn append(&mut self, model: &Model, mix: &Mix, origin: (u64, u64), now: Timestamp) -> Append {
        let partition = self.partition(model);
        let mut records = self.records(mix, origin, now);
        if self.compacted.contains(&partition) {
            records.iter_mut().for_each(|record| self.compact(record));
        }
        let clock = if self.random.percent(15) {
            Clock::LogAppendTime
        } else {
            Clock::CreateTime
        };
        if self.random.percent(25) {
            return Append {
                partition,
                batch: batch::build(&records, None),
                clock,
            };
        }
        let index = self.random.index(self.clients.len());
        let client = &mut self.clients[index];
        let count = i32::try_from(records.len()).unwrap_or(1);
        let choice = self.random.below(100);
        if choice < 18 && !client.sent.is_empty() {
            return client.sent[self.random.index(client.sent.len())].clone();
        }
        if choice < 20 && !client.transactional {
            client.epoch += 1;
            client.next.clear();
        }
        let next = client.next.entry(partition).or_insert(0);
        let (epoch, sequence) = match choice {
            20 | 21 => (client.epoch, *next + 3),
            22 => (client.epoch - 1, 0),
            _ => {
                let sequence = *next;
                *next += count;
                (client.epoch, sequence)
            }
        };
        let producer = Producer {
            id: client.id,
            epoch: epoch.max(0),
            sequence,
        };
        let append = Append {
            partition,
            batch: if client.transactional && choice != 23 {
                batch::build_transactional(&records, producer)
            } else {
                batch::build(&records, Some(producer))
            },
            clock,
        };
        client.sent.push_back(append.clone());
        if client.sent.len() > SENT_MAX {
            client.sent.pop_front();
        }
        append
    }

    /// Makes a record one of a compacted partition.
    fn compact(&mut self, record: &mut Record) {
        let keys = *pick(&[3, KEYS], &mut self.random);
        let has_key = !self.random.percent(2);
        record.key = has_key.then(|| Bytes::from(format!("k{}", self.random.below(keys))));
        if has_key && self.random.percent(20) {
            // It can still be traced.
            let origin = record.value.take();
            let origin = origin.map(|value| value.slice(..ORIGIN_BYTES.min(value.len())));
            record.headers = vec![(Bytes::from_static(b"origin"), origin)];
        }
    }

    fn records(&mut self, mix: &Mix, origin: (u64, u64), now: Timestamp) -> Vec<Record> {
        let count_max = *pick(&[1, 3, 10], &mut self.random);
        let count = self.random.between(1, count_max);
        let mut records = Vec::new();
        for number in 0..count {
            let mut value = [origin.0, origin.1, number].map(u64::to_be_bytes).concat();
            let padding = usize::try_from(self.random.below(mix.value_bytes_max)).unwrap_or(0);
            let fill = u8::try_from(self.random.below(256)).unwrap_or(0);
            value.resize(value.len() + padding, fill);
            if self.random.percent(1) {
                value.resize(60_000, fill);
            }
            let jitter = i64::try_from(self.random.below(10_000)).unwrap_or(0) - 5_000;
            records.push(Record {
                timestamp: Timestamp::from_millis(now.as_millis() + jitter),
                key: self.random.coin().then(|| self.key()),
                value: Some(Bytes::from(value)),
                ..Record::default()
            });
        }
        records
    }
}

/// Where the epoch of a transactional producer is kept.
fn epoch_key(producer: i64) -> Bytes {
    Bytes::from(format!("e{producer}"))
}

fn epoch_value(epoch: i16) -> Option<Bytes> {
    (epoch > 0).then(|| Bytes::from(epoch.to_string()))
}

/// Lets transactional batches in only as long as their epoch is the producer's.
fn ask_for_epochs(unit: &mut Unit) {
    for append in &unit.appends {
        let header = batch::header(&append.batch).expect("the workload builds valid batches");
        if header.is_transactional() {
            unit.conditions.push(Condition::StateEquals {
                key: epoch_key(header.producer_id),
                value: epoch_value(header.producer_epoch),
            });
        }
    }
}

impl Client {
    fn learn_all(&mut self, model: &Model) {
        if self.transactional {
            let epoch = model.state.get(&epoch_key(self.id));
            let epoch = epoch.and_then(|epoch| std::str::from_utf8(epoch).ok()?.parse().ok());
            self.epoch = epoch.unwrap_or(0);
        }
        let known: Vec<PartitionId> = self.next.keys().copied().collect();
        for id in known {
            self.learn(id, model);
        }
    }

    fn learn(&mut self, partition: PartitionId, model: &Model) {
        let producers = model
            .partitions
            .get(&partition)
            .map(|found| &found.producers);
        match producers.and_then(|producers| producers.get(&self.id)) {
            Some(known) if self.transactional => {
                let expected = known.expected();
                let same = known.epoch == self.epoch;
                self.next.insert(partition, if same { expected } else { 0 });
            }
            Some(known) if known.epoch >= self.epoch => {
                self.epoch = known.epoch;
                self.next.insert(partition, known.expected());
            }
            _ => {
                self.next.insert(partition, 0);
            }
        }
    }
}

fn is_idempotent(append: &Append) -> bool {
    batch::header(&append.batch).is_ok_and(|header| header.producer_id >= 0)
}
