//! Power fails at every single operation; what was acknowledged is there, in order, once.

use std::collections::BTreeMap;

use bytes::Bytes;
use wharf_log::batch::Producer;
use wharf_log::disk::simulated::{Faults, SimulatedDisk};
use wharf_log::{CommitError, Durability, OpenError, StateChange, Unit};

use crate::harness::{
    Node, Outcome, advance, append_to, batch_of, create, keep_all, shared, small,
};

/// What a client knows of one partition.
#[derive(Debug, Default)]
struct Client {
    /// Acknowledged values by offset.
    acknowledged: BTreeMap<i64, Bytes>,
    /// Values whose unit was not answered with success: each may be there or not.
    unsure: Vec<Bytes>,
    start: i64,
    next_sequence: i32,
}

/// A scenario that is the same for every crash: appends to two partitions with state, deletions,
/// maintenance in between.
struct Scenario {
    clients: [Client; 2],
    acknowledged_state: Option<u32>,
    round: u32,
}

impl Scenario {
    fn new() -> Self {
        Self {
            clients: Default::default(),
            acknowledged_state: None,
            round: 0,
        }
    }

    fn unit(&mut self) -> (Unit, [Vec<String>; 2]) {
        self.round += 1;
        let mut unit = Unit::default();
        let mut values = [Vec::new(), Vec::new()];
        for (partition, client) in (0_u64..).zip(&mut self.clients) {
            if (self.round + u32::try_from(partition).unwrap()).is_multiple_of(3) {
                continue;
            }
            let size = (self.round as usize * 977) % 9000;
            let list = [
                format!("{}:{partition}:{}", self.round, "#".repeat(size)),
                format!("{}:{partition}:second", self.round),
            ];
            let producer = Producer {
                id: i64::try_from(partition).unwrap(),
                epoch: 0,
                sequence: client.next_sequence,
            };
            let batch = batch_of(&[&list[0], &list[1]], Some(producer), 0);
            unit.appends.push(append_to(partition, batch));
            values[usize::try_from(partition).unwrap()] = list.to_vec();
        }
        let value = Some(Bytes::from(self.round.to_string()));
        unit.state.push(StateChange {
            key: "round".into(),
            value,
        });
        if self.round.is_multiple_of(5) {
            unit.durability = Durability::Buffered;
        }
        (unit, values)
    }

    fn note(&mut self, outcome: &Outcome, values: [Vec<String>; 2], buffered: bool) {
        let mut appends = outcome
            .as_ref()
            .map_or(&[][..], |done| &done.appends)
            .iter();
        for (client, values) in self.clients.iter_mut().zip(values) {
            if values.is_empty() {
                continue;
            }
            let Some(appended) = appends.next().filter(|_| !buffered) else {
                client.unsure.extend(values.into_iter().map(Bytes::from));
                if outcome.is_ok() {
                    client.next_sequence += 2;
                }
                continue;
            };
            client.next_sequence += 2;
            for (offset, value) in (appended.base_offset..).zip(values) {
                client.acknowledged.insert(offset, Bytes::from(value));
            }
        }
        if outcome.is_ok() && !buffered {
            self.acknowledged_state = Some(self.round);
        }
    }

    /// Runs until `rounds` are done or the machine is off.
    fn run(&mut self, node: &mut Node, disk: &SimulatedDisk, rounds: u32) {
        for _ in 0..rounds {
            let (unit, values) = self.unit();
            let buffered = unit.durability == Durability::Buffered;
            let outcome = node.commit(unit);
            self.note(&outcome, values, buffered);
            if disk.is_off() {
                return;
            }
            if self.round.is_multiple_of(4) {
                node.log.maintenance.run(&keep_all(), node.now);
            }
            if self.round.is_multiple_of(11) {
                let client = &mut self.clients[0];
                let offset = client
                    .acknowledged
                    .keys()
                    .next_back()
                    .map_or(0, |last| last / 2);
                if offset > client.start && node.commit(advance(0, offset)).is_ok() {
                    client.start = offset;
                }
            }
        }
    }

    /// Everything acknowledged is there; everything that is there was sent, in order, once.
    fn check(&self, node: &Node, at: &str) {
        for (partition, client) in (0..).zip(&self.clients) {
            let Some(bounds) = node.log.reader.bounds(wharf_log::PartitionId(partition)) else {
                assert!(
                    client.acknowledged.is_empty(),
                    "{at}: partition {partition} is gone"
                );
                continue;
            };
            assert!(
                bounds.start >= client.start,
                "{at}: deleted records came back"
            );
            let values: BTreeMap<_, _> = node.values(partition, bounds.start).into_iter().collect();
            let offsets: Vec<_> = values.keys().copied().collect();
            assert_eq!(
                offsets,
                (bounds.start..bounds.end).collect::<Vec<_>>(),
                "{at}"
            );
            for (offset, value) in client.acknowledged.range(bounds.start..) {
                assert_eq!(
                    values.get(offset),
                    Some(value),
                    "{at}: {partition}/{offset}"
                );
            }
            for (offset, value) in &values {
                let known = client.acknowledged.get(offset) == Some(value);
                assert!(
                    known || client.unsure.contains(value),
                    "{at}: {partition}/{offset}"
                );
            }
        }
        let state = node.log.reader.state(b"round");
        let round = state
            .first()
            .map(|(_, value)| std::str::from_utf8(value).unwrap().parse::<u32>().unwrap());
        assert!(round >= self.acknowledged_state, "{at}: {round:?}");
        assert!(
            node.log.recovery.damaged.is_empty(),
            "{at}: {:?}",
            node.log.recovery
        );
    }
}

/// Runs the scenario with a power loss at `operation`; returns whether it came to that.
fn crash_at(seed: u64, operation: u64) -> bool {
    let at = format!("seed {seed}, operation {operation}");
    let mut disk = SimulatedDisk::new(seed, Faults::default());
    let mut scenario = Scenario::new();
    disk.power_off_at(operation);
    if let Ok(mut node) = Node::try_open(&shared(&disk), small()) {
        let created = node.commit_all(vec![create(0), create(1)]);
        if created.iter().all(Result::is_ok) {
            scenario.run(&mut node, &disk, 60);
            // A graceful stop and a start in the middle, which may be interrupted like all else.
            let _may_be_off = node.log.maintenance.finish(node.now);
            if let Ok(mut node) = Node::try_open(&shared(&disk), small()) {
                scenario.run(&mut node, &disk, 20);
            }
        }
    }
    let came = disk.is_off();
    for _restart in 0..2 {
        disk = disk.crash();
        let node = Node::try_open(&shared(&disk), small());
        let mut node = node.unwrap_or_else(|error: OpenError| panic!("{at}: {error:?}"));
        scenario.check(&node, &at);
        if node.log.reader.partitions().is_empty() {
            return came;
        }
        // The producers go on where the log stands, and nothing of before is overwritten.
        for (partition, client) in (0..).zip(&mut scenario.clients) {
            let producers = node.log.reader.producers(wharf_log::PartitionId(partition));
            client.next_sequence = producers.first().map_or(0, |known| known.last_sequence + 1);
        }
        scenario.run(&mut node, &disk, 10);
        scenario.check(&node, &at);
    }
    came
}

#[test]
fn power_loss_at_any_operation_loses_nothing_acknowledged() {
    let mut operation = 1;
    while crash_at(operation, operation) {
        operation += 1;
    }
    assert!(operation > 200, "the scenario does {operation} operations");
}

#[test]
fn failing_syncs_and_writes_lose_nothing_acknowledged() {
    for seed in 0..60 {
        let disk = SimulatedDisk::new(seed, Faults::default());
        let mut scenario = Scenario::new();
        let mut node = Node::open(&shared(&disk), small());
        let created = node.commit_all(vec![create(0), create(1)]);
        assert!(created.iter().all(Result::is_ok));
        let one_in = 40;
        disk.set_faults(if seed % 2 == 0 {
            Faults {
                sync_failure_one_in: one_in,
                ..Faults::default()
            }
        } else {
            Faults {
                write_failure_one_in: one_in,
                ..Faults::default()
            }
        });
        scenario.run(&mut node, &disk, 60);
        disk.set_faults(Faults::default());
        let disk = if seed % 3 == 0 {
            disk.kill()
        } else {
            disk.crash()
        };
        let mut node = Node::open(&shared(&disk), small());
        scenario.check(&node, &format!("seed {seed}"));
        let refused = node.commit(create(0));
        assert!(
            matches!(refused, Err(CommitError::PartitionExists(_))),
            "{refused:?}"
        );
    }
}
