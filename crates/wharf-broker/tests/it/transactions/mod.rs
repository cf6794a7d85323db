//! Transactions over the log. What the tests of them share: a client, and a reader that sees what
//! clients make of a fetch.

mod ends;
mod fencing;
mod model;
mod offsets;
mod time;

use std::time::Duration;

use bytes::Bytes;
use wharf_broker::group::{CommitCall, CommitOffset};
use wharf_broker::{
    Error, ErrorKind, FetchedPartition, InitTransactions, OffsetQuery, OffsetQueryAt, Options,
    Produce, Produced, ProducerIdentity, Protocol, TransactionState, TransactionalProducer,
    WriteMarker,
};
use wharf_log::batch::{HEADER_BYTES, Producer, Record, build_transactional, header, records};

use crate::fetching::{fetch, from, name, request};
use crate::groups::simple;
use crate::producing::batch;
use crate::support::{START, World, client};

const TIMEOUT: Duration = Duration::from_secs(60);
const IMPLICIT: Protocol = Protocol::Implicit;
const EXPLICIT: Protocol = Protocol::Explicit;

/// A client's producer: who it is, and the next sequence of each partition.
struct Client {
    id: &'static str,
    who: ProducerIdentity,
    sequences: [i32; 4],
    protocol: Protocol,
}

impl Client {
    fn start(world: &World, id: &'static str, protocol: Protocol) -> Self {
        let who = init(world, id, None).unwrap();
        Self {
            id,
            who,
            sequences: [0; 4],
            protocol,
        }
    }

    fn caller(&self) -> TransactionalProducer {
        TransactionalProducer {
            id: self.id.to_owned(),
            producer: self.who,
        }
    }

    fn batch(&self, partition: usize, value: &str) -> Bytes {
        let record = Record {
            timestamp: START,
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            ..Record::default()
        };
        let producer = Producer {
            id: self.who.id,
            epoch: self.who.epoch,
            sequence: self.sequences[partition],
        };
        build_transactional(&[record], producer)
    }

    /// Writes to a partition of `orders`, having added it where that must be done first.
    fn write(&mut self, world: &World, partition: i32, value: &str) -> Result<Produced, Error> {
        if self.protocol == EXPLICIT {
            add(world, self, partition)?;
        }
        self.send(world, partition, value)
    }

    fn send(&mut self, world: &World, partition: i32, value: &str) -> Result<Produced, Error> {
        let at = usize::try_from(partition).unwrap();
        let produce = Produce {
            topic: name("orders"),
            partition,
            records: Some(self.batch(at, value)),
        };
        let sending =
            world
                .broker
                .produce_in_transaction(&client(), self.id, self.protocol, vec![produce]);
        let produced = world.run(sending).remove(0)?;
        self.sequences[at] += 1;
        Ok(produced)
    }

    fn end(&mut self, world: &World, commit: bool) -> Result<(), Error> {
        let next = end(world, &self.caller(), commit, self.protocol)?;
        if next != self.who {
            self.sequences = [0; 4];
        }
        self.who = next;
        Ok(())
    }

    fn add_group(&self, world: &World, group: &'static str) -> Result<(), Error> {
        let (broker, caller) = (world.broker.clone(), self.caller());
        world.run(async move {
            let cx = client();
            broker.add_offsets_to_transaction(&cx, &caller, group).await
        })
    }

    fn commit_offset(&self, world: &World, group: &str, at: i64) -> Result<(), Error> {
        let (broker, caller) = (world.broker.clone(), self.caller());
        let (protocol, member) = (self.protocol, simple(group));
        let offsets = vec![offset(at)];
        let committed = world.run(async move {
            let (cx, member) = (client(), member);
            broker
                .commit_offsets_in_transaction(&cx, &caller, protocol, &member, offsets)
                .await
        });
        committed?.remove(0)
    }
}

fn init(
    world: &World,
    id: &str,
    current: Option<ProducerIdentity>,
) -> Result<ProducerIdentity, Error> {
    let broker = world.broker.clone();
    let init = InitTransactions {
        id: id.to_owned(),
        timeout: TIMEOUT,
        current,
    };
    world.run(async move { broker.init_transactions(&client(), init).await })
}

fn add(world: &World, client: &Client, partition: i32) -> Result<(), Error> {
    let (broker, caller) = (world.broker.clone(), client.caller());
    let partitions = [(name("orders"), partition)];
    world.run(async move {
        let cx = crate::support::client();
        broker
            .add_partitions_to_transaction(&cx, &caller, &partitions)
            .await
    })
}

fn end(
    world: &World,
    caller: &TransactionalProducer,
    commit: bool,
    protocol: Protocol,
) -> Result<ProducerIdentity, Error> {
    let (broker, caller) = (world.broker.clone(), caller.clone());
    world.run(async move {
        broker
            .end_transaction(&client(), &caller, commit, protocol)
            .await
    })
}

fn offset(offset: i64) -> CommitOffset {
    CommitOffset {
        topic: name("orders"),
        partition: 0,
        offset,
        leader_epoch: -1,
        metadata: None,
        retention: None,
    }
}

fn commit_offset(world: &World, group: &str, at: i64) -> Result<(), Error> {
    let (broker, member) = (world.broker.clone(), simple(group));
    let committed = world.run(async move {
        broker
            .commit_offsets(&client(), &member, CommitCall::New, vec![offset(at)])
            .await
    });
    committed?.remove(0)
}

/// The offset that counts, and whether it is about to change.
fn committed(world: &World, group: &str) -> (i64, bool) {
    let asked = [(name("orders"), 0)];
    let found = world
        .broker
        .committed_offsets(&client(), group, None, Some(&asked));
    let found = found.unwrap().remove(0).unwrap();
    (found.offset, found.is_unstable)
}

fn read(world: &World, partition: i32, committed: bool) -> FetchedPartition {
    let mut request = request(vec![from("orders", partition, 0)]);
    request.read_committed = committed;
    fetch(world, request).partitions.remove(0)
}

/// What a consumer of committed records makes of a fetch, as clients do: records of transactions
/// named as aborted are passed over up to their marker.
fn visible(world: &World, partition: i32) -> Vec<String> {
    let fetched = read(world, partition, true);
    assert!(
        fetched
            .aborted
            .is_sorted_by_key(|aborted| aborted.first_offset)
    );
    let mut aborted = fetched.aborted.into_iter().peekable();
    let mut hidden = std::collections::BTreeSet::new();
    let mut values = Vec::new();
    let mut rest = Bytes::from(fetched.batches.concat());
    while !rest.is_empty() {
        let header = header(&rest).unwrap();
        let batch = rest.split_to(header.batch_bytes());
        while let Some(next) = aborted.next_if(|next| next.first_offset <= header.last_offset()) {
            hidden.insert(next.producer_id);
        }
        let is_hidden = header.is_transactional() && hidden.contains(&header.producer_id);
        if header.is_control() {
            hidden.remove(&header.producer_id);
        } else if !is_hidden {
            let records = records(&header, &batch.slice(HEADER_BYTES..)).unwrap();
            let value = |record: Record| String::from_utf8_lossy(&record.value.unwrap()).into();
            values.extend(records.into_iter().map(value).collect::<Vec<String>>());
        }
    }
    values
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.unwrap_err().kind
}

fn world() -> World {
    let world = World::new();
    world.topic("orders", 4, &[]);
    world
}

fn state(world: &World, id: &str) -> TransactionState {
    world
        .broker
        .describe_transaction(&client(), id)
        .unwrap()
        .state
}
