//! Transactions over the log: whole or not at all, fenced, timed out, and what survives power loss.

use std::time::Duration;

use bytes::Bytes;
use wharf_broker::group::{CommitCall, CommitOffset, Member};
use wharf_broker::{
    Error, ErrorKind, FetchedPartition, InitTransactions, OffsetQuery, OffsetQueryAt, Options,
    Produce, Produced, ProducerIdentity, Protocol, TransactionState, TransactionalProducer,
    WriteMarker,
};
use wharf_log::batch::{HEADER_BYTES, Producer, Record, build_transactional, header, records};

use crate::fetching::{fetch, from, name, request};
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

fn simple(group: &str) -> Member {
    Member {
        group: group.to_owned(),
        generation: -1,
        member: String::new(),
        instance: None,
    }
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

#[test]
fn a_transaction_is_seen_whole_when_it_is_committed_and_not_before() {
    for protocol in [EXPLICIT, IMPLICIT] {
        let world = world();
        let mut one = Client::start(&world, "one", protocol);
        one.write(&world, 0, "a").unwrap();
        one.write(&world, 1, "b").unwrap();
        assert_eq!((visible(&world, 0).len(), visible(&world, 1).len()), (0, 0));
        assert_eq!(read(&world, 0, true).last_stable, 0);
        assert_eq!(read(&world, 0, false).high_watermark, 1);
        one.end(&world, true).unwrap();
        assert_eq!(visible(&world, 0), ["a"]);
        assert_eq!(visible(&world, 1), ["b"]);
        let after = read(&world, 0, true);
        assert_eq!(
            (after.last_stable, after.high_watermark),
            (2, 2),
            "the marker takes an offset"
        );
        let world = world.lose_power();
        assert_eq!(visible(&world, 0), ["a"]);
        assert_eq!(state(&world, "one"), TransactionState::CompleteCommit);
        one.write(&world, 0, "c").unwrap();
        one.end(&world, true).unwrap();
        assert_eq!(visible(&world, 0), ["a", "c"]);
    }
}

#[test]
fn an_aborted_transaction_is_named_to_readers_of_committed_records_only() {
    for protocol in [EXPLICIT, IMPLICIT] {
        let world = world();
        let mut one = Client::start(&world, "one", protocol);
        let mut two = Client::start(&world, "two", protocol);
        one.write(&world, 0, "gone").unwrap();
        two.write(&world, 0, "kept").unwrap();
        one.end(&world, false).unwrap();
        two.end(&world, true).unwrap();
        let world = world.lose_power();
        assert_eq!(visible(&world, 0), ["kept"]);
        let fetched = read(&world, 0, true);
        assert_eq!(fetched.aborted.len(), 1);
        assert_eq!(fetched.aborted[0].first_offset, 0);
        assert!(read(&world, 0, false).aborted.is_empty());
    }
}

#[test]
fn the_last_stable_offset_waits_for_the_earliest_open_transaction() {
    let world = world();
    let mut early = Client::start(&world, "early", IMPLICIT);
    let mut late = Client::start(&world, "late", IMPLICIT);
    early.write(&world, 0, "early").unwrap();
    late.write(&world, 0, "late").unwrap();
    late.end(&world, true).unwrap();
    assert_eq!(read(&world, 0, true).last_stable, 0);
    let latest = |read_committed| {
        let query = OffsetQuery {
            topic: name("orders"),
            partition: 0,
            current_leader_epoch: -1,
            at: OffsetQueryAt::Latest,
            read_committed,
        };
        let broker = world.broker.clone();
        world
            .run(async move { broker.list_offset(&client(), query).await })
            .unwrap()
            .offset
    };
    assert_eq!((latest(true), latest(false)), (0, 3));
    early.end(&world, true).unwrap();
    assert_eq!((latest(true), latest(false)), (4, 4));
    assert_eq!(visible(&world, 0), ["early", "late"]);
}

#[test]
fn a_long_poll_of_committed_records_ends_when_the_transaction_does() {
    let world = world();
    let mut one = Client::start(&world, "one", IMPLICIT);
    one.write(&world, 0, "a").unwrap();
    let mut waiting = request(vec![from("orders", 0, 0)]);
    waiting.read_committed = true;
    waiting.wait_max = Duration::from_secs(30);
    let broker = world.broker.clone();
    let polling = world.start(async move { broker.fetch(&client(), waiting).await });
    world.settle();
    assert!(!polling.is_done());
    one.end(&world, true).unwrap();
    world.settle();
    assert!(polling.is_done(), "it was not woken");
}

#[test]
fn a_new_instance_fences_the_old_one_and_aborts_what_it_left_open() {
    for protocol in [EXPLICIT, IMPLICIT] {
        let world = world();
        let mut old = Client::start(&world, "one", protocol);
        old.write(&world, 0, "lost").unwrap();
        let mut new = Client::start(&world, "one", protocol);
        assert_eq!(state(&world, "one"), TransactionState::Empty);
        assert_eq!(
            kind(old.send(&world, 0, "late")),
            ErrorKind::InvalidProducerEpoch
        );
        assert_eq!(kind(old.end(&world, true)), ErrorKind::ProducerFenced);
        new.write(&world, 0, "kept").unwrap();
        new.end(&world, true).unwrap();
        assert_eq!(visible(&world, 0), ["kept"]);
        let world = world.lose_power();
        assert_eq!(
            kind(old.send(&world, 0, "late")),
            ErrorKind::InvalidProducerEpoch
        );
        assert_eq!(visible(&world, 0), ["kept"]);
    }
}

#[test]
fn records_that_come_after_the_end_open_no_transaction() {
    let world = world();
    let mut one = Client::start(&world, "one", EXPLICIT);
    one.write(&world, 0, "a").unwrap();
    // On its way when the transaction ends, as from another connection.
    let late = one.batch(0, "late");
    one.end(&world, true).unwrap();
    let produce = Produce {
        topic: name("orders"),
        partition: 0,
        records: Some(late),
    };
    let sending = world
        .broker
        .produce_in_transaction(&client(), "one", EXPLICIT, vec![produce]);
    let refused = world.run(sending).remove(0);
    assert_eq!(kind(refused), ErrorKind::InvalidTxnState);
    let after = read(&world, 0, true);
    assert_eq!(after.last_stable, after.high_watermark, "nothing hangs");
}

#[test]
fn a_partition_that_was_not_added_is_refused_before_kip_890() {
    let world = world();
    let mut one = Client::start(&world, "one", EXPLICIT);
    assert_eq!(kind(one.send(&world, 0, "a")), ErrorKind::InvalidTxnState);
    one.write(&world, 0, "a").unwrap();
    assert_eq!(kind(one.send(&world, 1, "b")), ErrorKind::InvalidTxnState);
    one.end(&world, true).unwrap();
    assert_eq!(visible(&world, 0), ["a"]);
}

#[test]
fn records_of_a_transaction_need_its_transactional_id() {
    let world = world();
    let one = Client::start(&world, "one", IMPLICIT);
    let produce = Produce {
        topic: name("orders"),
        partition: 0,
        records: Some(one.batch(0, "a")),
    };
    let refused = world
        .run(world.broker.produce(&client(), vec![produce.clone()]))
        .remove(0);
    assert_eq!(kind(refused), ErrorKind::TransactionalIdAuthorizationFailed);
    let other = Client::start(&world, "other", IMPLICIT);
    let sending =
        world
            .broker
            .produce_in_transaction(&client(), other.id, IMPLICIT, vec![produce.clone()]);
    assert_eq!(
        kind(world.run(sending).remove(0)),
        ErrorKind::InvalidProducerIdMapping
    );
    let sending = world
        .broker
        .produce_in_transaction(&client(), "nobody", IMPLICIT, vec![produce]);
    assert_eq!(
        kind(world.run(sending).remove(0)),
        ErrorKind::InvalidProducerIdMapping
    );
}

#[test]
fn a_plain_batch_may_go_beside_a_transaction() {
    let world = world();
    let mut one = Client::start(&world, "one", IMPLICIT);
    one.write(&world, 1, "a").unwrap();
    let plain = Produce {
        topic: name("orders"),
        partition: 0,
        records: Some(batch(&["plain"])),
    };
    let sending = world
        .broker
        .produce_in_transaction(&client(), "one", IMPLICIT, vec![plain]);
    world.run(sending).remove(0).unwrap();
    assert_eq!(visible(&world, 0), ["plain"]);
}

#[test]
fn a_repeated_batch_of_an_open_transaction_gets_its_offset_and_is_not_written_again() {
    let world = world();
    let mut one = Client::start(&world, "one", IMPLICIT);
    one.write(&world, 0, "a").unwrap();
    one.sequences[0] = 0;
    assert_eq!(one.write(&world, 0, "a").unwrap().base_offset, 0);
    one.end(&world, true).unwrap();
    assert_eq!(visible(&world, 0), ["a"]);
}

#[test]
fn a_transaction_that_is_open_too_long_is_aborted_also_after_a_restart() {
    for restarts in [false, true] {
        let mut world = world();
        let mut one = Client::start(&world, "one", IMPLICIT);
        one.write(&world, 0, "slow").unwrap();
        one.commit_offset(&world, "g", 5).unwrap();
        world.advance(TIMEOUT / 2);
        assert_eq!(state(&world, "one"), TransactionState::Ongoing);
        if restarts {
            world = world.lose_power();
        }
        world.advance(TIMEOUT);
        assert_eq!(state(&world, "one"), TransactionState::CompleteAbort);
        assert_eq!(visible(&world, 0), [""; 0]);
        assert_eq!(committed(&world, "g"), (-1, false));
        assert_eq!(world.broker.transaction_counts().timed_out, 1);
        assert_eq!(
            kind(one.send(&world, 0, "late")),
            ErrorKind::InvalidProducerEpoch
        );
        let after = read(&world, 0, true);
        assert_eq!(after.last_stable, after.high_watermark, "nothing hangs");
    }
}

#[test]
fn a_clock_that_jumps_neither_aborts_a_transaction_nor_keeps_it_open() {
    let day: i64 = 24 * 60 * 60 * 1000;
    for jump in [day, -day] {
        let world = world();
        let mut one = Client::start(&world, "one", IMPLICIT);
        one.write(&world, 0, "a").unwrap();
        world.jump_clock(jump);
        world.advance(TIMEOUT / 2);
        assert_eq!(state(&world, "one"), TransactionState::Ongoing, "{jump}");
        world.advance(TIMEOUT);
        assert_eq!(
            state(&world, "one"),
            TransactionState::CompleteAbort,
            "{jump}"
        );
    }
}

#[test]
fn a_short_time_out_is_kept_while_the_watch_sleeps_for_long() {
    let world = world();
    Client::start(&world, "idle", IMPLICIT);
    world.advance(Duration::from_secs(30));
    let broker = world.broker.clone();
    let init = InitTransactions {
        id: "short".to_owned(),
        timeout: Duration::from_secs(1),
        current: None,
    };
    let who = world
        .run(async move { broker.init_transactions(&client(), init).await })
        .unwrap();
    let mut short = Client {
        id: "short",
        who,
        sequences: [0; 4],
        protocol: IMPLICIT,
    };
    short.write(&world, 0, "a").unwrap();
    world.advance(Duration::from_millis(900));
    assert_eq!(state(&world, "short"), TransactionState::Ongoing);
    world.advance(Duration::from_millis(200));
    assert_eq!(state(&world, "short"), TransactionState::CompleteAbort);
}

#[test]
fn time_outs_beyond_the_nodes_limit_are_refused() {
    let world = world();
    for timeout in [Duration::ZERO, Duration::from_secs(15 * 60 + 1)] {
        let broker = world.broker.clone();
        let init = InitTransactions {
            id: "one".to_owned(),
            timeout,
            current: None,
        };
        let refused = world.run(async move { broker.init_transactions(&client(), init).await });
        assert_eq!(kind(refused), ErrorKind::InvalidTransactionTimeout);
    }
    assert_eq!(world.broker.transaction_counts().ids, 0);
}

#[test]
fn an_unused_id_is_forgotten_and_one_in_use_is_not() {
    let world = World::with(Options {
        transactional_id_expiration: Duration::from_secs(3600),
        ..Options::default()
    });
    world.topic("orders", 4, &[]);
    let mut used = Client::start(&world, "used", IMPLICIT);
    let idle = Client::start(&world, "idle", IMPLICIT);
    world.advance(Duration::from_secs(3000));
    used.write(&world, 0, "a").unwrap();
    used.end(&world, true).unwrap();
    world.advance(Duration::from_secs(3000));
    let ids: Vec<String> = world
        .broker
        .list_transactions(&client())
        .iter()
        .map(|one| one.id.to_string())
        .collect();
    assert_eq!(ids, ["used"]);
    let refused = end(&world, &idle.caller(), false, IMPLICIT);
    assert_eq!(kind(refused), ErrorKind::InvalidProducerIdMapping);
    let world = world.restart();
    assert_eq!(world.broker.transaction_counts().ids, 1);
    // Its name can be used again, under a producer id of its own.
    let again = Client::start(&world, "idle", IMPLICIT);
    assert_ne!(again.who.id, idle.who.id);
}

#[test]
fn offsets_count_with_the_transaction_that_committed_them() {
    for protocol in [EXPLICIT, IMPLICIT] {
        for (commit, expected) in [(true, 7), (false, 3)] {
            let world = world();
            commit_offset(&world, "g", 3).unwrap();
            let mut one = Client::start(&world, "one", protocol);
            one.write(&world, 0, "a").unwrap();
            if protocol == EXPLICIT {
                assert_eq!(
                    kind(one.commit_offset(&world, "g", 7)),
                    ErrorKind::InvalidTxnState
                );
                let (broker, caller) = (world.broker.clone(), one.caller());
                world
                    .run(async move {
                        broker
                            .add_offsets_to_transaction(&client(), &caller, "g")
                            .await
                    })
                    .unwrap();
            }
            one.commit_offset(&world, "g", 6).unwrap();
            one.commit_offset(&world, "g", 7).unwrap();
            assert_eq!(committed(&world, "g"), (3, true));
            let world = world.lose_power();
            assert_eq!(committed(&world, "g"), (3, true), "pending over a restart");
            one.end(&world, commit).unwrap();
            assert_eq!(committed(&world, "g"), (expected, false));
            let world = world.lose_power();
            assert_eq!(committed(&world, "g"), (expected, false));
        }
    }
}

#[test]
fn a_later_ordinary_commit_wins_over_an_open_transactions_offset() {
    let world = world();
    let mut one = Client::start(&world, "one", IMPLICIT);
    one.commit_offset(&world, "g", 7).unwrap();
    commit_offset(&world, "g", 9).unwrap();
    assert_eq!(committed(&world, "g"), (9, true));
    one.end(&world, true).unwrap();
    assert_eq!(committed(&world, "g"), (9, false));
    let world = world.lose_power();
    assert_eq!(committed(&world, "g"), (9, false));
}

#[test]
fn a_group_with_pending_offsets_does_not_expire_and_deleting_it_drops_them() {
    let world = world();
    let mut one = Client::start(&world, "one", IMPLICIT);
    one.commit_offset(&world, "g", 7).unwrap();
    let delete = |group: &'static str| {
        let broker = world.broker.clone();
        world.run(async move { broker.delete_group(&client(), group).await })
    };
    delete("g").unwrap();
    one.end(&world, true).unwrap();
    assert_eq!(committed(&world, "g"), (-1, false));
    assert_eq!(kind(delete("g")), ErrorKind::GroupIdNotFound);
    let world = world.lose_power();
    assert_eq!(committed(&world, "g"), (-1, false));
}

#[test]
fn offsets_of_a_deleted_topic_or_partition_are_not_committed_later() {
    let world = world();
    let mut one = Client::start(&world, "one", IMPLICIT);
    one.commit_offset(&world, "g", 7).unwrap();
    let broker = world.broker.clone();
    let deleted = world.run(async move {
        let partitions = vec![("orders".to_owned(), 0)];
        broker.delete_offsets(&client(), "g", partitions).await
    });
    assert_eq!(deleted.unwrap(), [Ok(())]);
    one.write(&world, 0, "a").unwrap();
    one.commit_offset(&world, "h", 7).unwrap();
    let broker = world.broker.clone();
    world
        .run(async move { broker.delete_topic(&client(), &name("orders")).await })
        .unwrap();
    world.settle();
    one.end(&world, true).unwrap();
    world.topic("orders", 1, &[]);
    assert_eq!(committed(&world, "g"), (-1, false));
    assert_eq!(committed(&world, "h"), (-1, false));
    let world = world.lose_power();
    assert_eq!(committed(&world, "h"), (-1, false));
}

#[test]
fn a_producer_that_goes_on_after_an_error_may_ask_twice() {
    let world = world();
    let one = Client::start(&world, "one", IMPLICIT);
    let next = init(&world, "one", Some(one.who)).unwrap();
    assert_eq!((next.id, next.epoch), (one.who.id, one.who.epoch + 1));
    let world = world.lose_power();
    assert_eq!(
        init(&world, "one", Some(one.who)),
        Ok(next),
        "the answer was lost"
    );
    let newer = init(&world, "one", None).unwrap();
    assert_eq!(
        kind(init(&world, "one", Some(one.who))),
        ErrorKind::ProducerFenced
    );
    assert_eq!(
        kind(init(&world, "one", Some(next))),
        ErrorKind::ProducerFenced
    );
    assert_eq!(newer.epoch, next.epoch + 1);
}

#[test]
fn an_end_asked_for_again_after_power_loss_gives_the_same_answer() {
    for protocol in [EXPLICIT, IMPLICIT] {
        let world = world();
        let mut one = Client::start(&world, "one", protocol);
        one.write(&world, 0, "a").unwrap();
        let caller = one.caller();
        let first = end(&world, &caller, true, protocol).unwrap();
        let world = world.lose_power();
        assert_eq!(end(&world, &caller, true, protocol), Ok(first));
        assert_eq!(
            kind(end(&world, &caller, false, protocol)),
            ErrorKind::InvalidTxnState
        );
        assert_eq!(visible(&world, 0), ["a"]);
    }
}

#[test]
fn an_administrator_aborts_an_open_transaction_whole() {
    let world = world();
    let mut one = Client::start(&world, "one", IMPLICIT);
    one.write(&world, 0, "a").unwrap();
    one.write(&world, 1, "b").unwrap();
    let described = world.broker.describe_transaction(&client(), "one").unwrap();
    let partitions: Vec<i32> = described
        .partitions
        .iter()
        .map(|(_, index)| *index)
        .collect();
    assert_eq!(partitions, [0, 1]);
    let producers = world
        .broker
        .describe_producers(&client(), &name("orders"), 0)
        .unwrap();
    assert_eq!(producers[0].transaction_start, Some(0));
    let write = |commit| {
        let broker = world.broker.clone();
        let marker = WriteMarker {
            producer: one.who,
            commit,
            partitions: vec![("orders".to_owned(), 0), ("none".to_owned(), 0)],
        };
        world.run(async move { broker.write_markers(&client(), marker).await })
    };
    let refused = write(true);
    assert_eq!(kind(refused[0].clone()), ErrorKind::InvalidTxnState);
    assert_eq!(kind(refused[1].clone()), ErrorKind::UnknownTopicOrPartition);
    assert_eq!(write(false)[0], Ok(()));
    assert_eq!(state(&world, "one"), TransactionState::CompleteAbort);
    assert_eq!((visible(&world, 0).len(), visible(&world, 1).len()), (0, 0));
    let producers = world
        .broker
        .describe_producers(&client(), &name("orders"), 1)
        .unwrap();
    assert_eq!(
        (
            producers[0].transaction_start,
            producers[0].coordinator_epoch
        ),
        (None, 0)
    );
    assert_eq!(
        kind(one.send(&world, 0, "late")),
        ErrorKind::InvalidProducerEpoch
    );
}

#[test]
fn what_is_in_the_way_of_an_end_does_not_lose_it() {
    let world = world();
    let mut one = Client::start(&world, "one", IMPLICIT);
    one.write(&world, 0, "a").unwrap();
    world.hold_commits(true);
    let (broker, caller) = (world.broker.clone(), one.caller());
    let ending = world.start(async move {
        broker
            .end_transaction(&client(), &caller, true, IMPLICIT)
            .await
    });
    world.settle();
    // While it is on its way the transaction takes nothing more, and cannot be ended twice.
    let produce = Produce {
        topic: name("orders"),
        partition: 0,
        records: Some(one.batch(0, "late")),
    };
    let sending = world
        .broker
        .produce_in_transaction(&client(), "one", IMPLICIT, vec![produce]);
    assert_eq!(
        kind(world.run(sending).remove(0)),
        ErrorKind::ConcurrentTransactions
    );
    let again = end(&world, &one.caller(), true, IMPLICIT);
    assert_eq!(kind(again), ErrorKind::ConcurrentTransactions);
    world.hold_commits(false);
    assert!(world.finish(&ending).is_ok());
    assert_eq!(visible(&world, 0), ["a"]);
}

#[test]
fn a_first_batch_that_is_refused_leaves_no_transaction_open() {
    let world = world();
    let mut one = Client::start(&world, "one", IMPLICIT);
    one.write(&world, 0, "a").unwrap();
    one.end(&world, true).unwrap();
    one.sequences[0] = 5;
    assert_eq!(
        kind(one.send(&world, 0, "torn")),
        ErrorKind::OutOfOrderSequenceNumber
    );
    assert_eq!(state(&world, "one"), TransactionState::CompleteCommit);
    one.sequences[0] = 0;
    one.write(&world, 0, "b").unwrap();
    one.end(&world, true).unwrap();
    assert_eq!(visible(&world, 0), ["a", "b"]);
}

#[test]
fn the_node_holds_no_more_ids_than_it_may() {
    let world = World::with(Options {
        transactional_ids_max: 1,
        ..Options::default()
    });
    assert!(init(&world, "one", None).is_ok());
    assert_eq!(kind(init(&world, "two", None)), ErrorKind::PolicyViolation);
    assert!(init(&world, "one", None).is_ok());
    assert_eq!(kind(init(&world, "", None)), ErrorKind::InvalidRequest);
    assert_eq!(
        kind(init(&world, &"x".repeat(5000), None)),
        ErrorKind::InvalidRequest
    );
}
