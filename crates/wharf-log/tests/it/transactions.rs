//! Transactions: where they are open, how they end, what readers of committed records see.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use wharf_log::batch::{self, Producer, Record};
use wharf_log::disk::simulated::Faults;
use wharf_log::{
    Aborted, Append, Bounds, CommitError, Condition, EndTransaction, Options, PartitionId,
    ReadError, StateChange, TransactionOutcome, Unit,
};
use wharf_message::Timestamp;

use crate::harness::{
    Node, advance, append, append_to, batch_of, keep_all, remove, shared, small, split,
};

/// A transactional batch with these values.
pub(crate) fn transactional(producer: i64, epoch: i16, sequence: i32, values: &[&str]) -> Bytes {
    let records: Vec<Record> = values
        .iter()
        .map(|value| Record {
            timestamp: Timestamp::from_millis(7),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            ..Record::default()
        })
        .collect();
    let producer = Producer {
        id: producer,
        epoch,
        sequence,
    };
    batch::build_transactional(&records, producer)
}

fn produce(partition: u64, producer: i64, epoch: i16, sequence: i32, value: &str) -> Unit {
    Unit {
        appends: vec![append_to(
            partition,
            transactional(producer, epoch, sequence, &[value]),
        )],
        ..Unit::default()
    }
}

pub(crate) fn end(producer: i64, epoch: i16, outcome: TransactionOutcome) -> EndTransaction {
    EndTransaction {
        producer,
        epoch,
        coordinator_epoch: 0,
        outcome,
        partitions: None,
    }
}

pub(crate) fn unit_of(end: EndTransaction) -> Unit {
    Unit {
        transactions: vec![end],
        ..Unit::default()
    }
}

fn commit(producer: i64, epoch: i16) -> Unit {
    unit_of(end(producer, epoch, TransactionOutcome::Commit))
}

fn abort(producer: i64, epoch: i16) -> Unit {
    unit_of(end(producer, epoch, TransactionOutcome::Abort))
}

/// What a client that reads committed records sees from `offset` on, in answers of about `bytes`:
/// it drops the records of the producers that the aborted transactions name, from their first
/// offset up to their marker.
pub(crate) fn committed(
    node: &Node,
    partition: u64,
    offset: i64,
    bytes: usize,
) -> Vec<(i64, Bytes)> {
    let mut seen = Vec::new();
    let mut next = offset;
    loop {
        let reader = &node.log.reader;
        let slice = reader.read_committed(PartitionId(partition), next, bytes, true);
        let slice = slice.unwrap();
        if slice.batches.is_empty() {
            assert_eq!(next, slice.bounds.unwrap().stable_end.max(offset));
            return seen;
        }
        let mut coming = slice.aborted.into_iter().peekable();
        let mut dropped = BTreeSet::new();
        for batch in split(&slice.batches) {
            let header = batch::verify_stored(&batch).unwrap();
            while let Some(aborted) = coming.next_if(|a| a.first_offset <= header.last_offset()) {
                dropped.insert(aborted.producer_id);
            }
            let first = next;
            next = header.last_offset() + 1;
            if header.is_control() {
                let marker = batch::marker(&header, &batch).unwrap();
                if marker.outcome == TransactionOutcome::Abort {
                    dropped.remove(&marker.producer_id);
                }
                continue;
            }
            if header.is_transactional() && dropped.contains(&header.producer_id) {
                continue;
            }
            let records = batch::records(&header, &batch.slice(batch::HEADER_BYTES..)).unwrap();
            let records = records.into_iter().filter(|record| record.offset >= first);
            seen.extend(records.map(|record| (record.offset, record.value.unwrap())));
        }
    }
}

fn texts(seen: Vec<(i64, Bytes)>) -> Vec<String> {
    let text = |(_, value): (i64, Bytes)| String::from_utf8(value.to_vec()).unwrap();
    seen.into_iter().map(text).collect()
}

fn bounds(node: &Node, partition: u64) -> Bounds {
    node.log.reader.bounds(PartitionId(partition)).unwrap()
}

fn stable_end(node: &Node, partition: u64) -> i64 {
    bounds(node, partition).stable_end
}

fn open_in(node: &Node, producer: i64) -> Vec<u64> {
    let open = node.log.reader.open_transactions(producer);
    open.into_iter().map(|id| id.0).collect()
}

fn aborted(producer_id: i64, first_offset: i64, last_offset: i64) -> Aborted {
    Aborted {
        producer_id,
        first_offset,
        last_offset,
    }
}

#[test]
fn the_stable_end_waits_for_the_earliest_open_transaction() {
    let (_, mut node) = Node::simulated(1, small());
    node.create(1);
    node.commit(append(1, &["plain"])).unwrap();
    node.commit(produce(1, 10, 0, 0, "first")).unwrap();
    node.commit(produce(1, 11, 0, 0, "second")).unwrap();
    node.commit(append(1, &["after"])).unwrap();
    assert_eq!(stable_end(&node, 1), 1);
    let ended = node.commit(commit(11, 0)).unwrap().ended;
    assert_eq!(ended, [(PartitionId(1), 4)]);
    assert_eq!(stable_end(&node, 1), 1);
    assert_eq!(texts(committed(&node, 1, 0, 4096)), ["plain"]);
    node.commit(commit(10, 0)).unwrap();
    assert_eq!(stable_end(&node, 1), 6);
    let all = ["plain", "first", "second", "after"];
    assert_eq!(texts(committed(&node, 1, 0, 4096)), all);
}

#[test]
fn aborted_records_are_named_to_readers_by_first_offset() {
    let (_, mut node) = Node::simulated(1, small());
    node.create(1);
    node.commit(produce(1, 10, 0, 0, "gone 1")).unwrap();
    node.commit(produce(1, 11, 0, 0, "gone 2")).unwrap();
    node.commit(abort(11, 0)).unwrap();
    node.commit(abort(10, 0)).unwrap();
    node.commit(produce(1, 10, 0, 1, "kept")).unwrap();
    node.commit(commit(10, 0)).unwrap();
    let reader = &node.log.reader;
    let both = [aborted(10, 0, 3), aborted(11, 1, 2)];
    assert_eq!(reader.aborted(PartitionId(1), 0, 6), both);
    assert_eq!(reader.aborted(PartitionId(1), 3, 6), both[..1]);
    assert!(reader.aborted(PartitionId(1), 4, 6).is_empty());
    assert_eq!(texts(committed(&node, 1, 0, 1)), ["kept"]);
    assert_eq!(texts(committed(&node, 1, 0, 1 << 20)), ["kept"]);
}

#[test]
fn one_unit_ends_a_transaction_in_all_its_partitions_beside_state_and_records() {
    let (disk, mut node) = Node::simulated(1, small());
    for partition in 1..=3 {
        node.create(partition);
    }
    for partition in 1..=2 {
        node.commit(produce(partition, 10, 0, 0, "value")).unwrap();
    }
    assert_eq!(open_in(&node, 10), [1, 2]);
    let state = StateChange {
        key: "transaction".into(),
        value: Some("committed".into()),
    };
    let unit = Unit {
        appends: vec![append_to(3, transactional(10, 0, 0, &["last"]))],
        transactions: vec![end(10, 1, TransactionOutcome::Commit)],
        state: vec![state],
        ..Unit::default()
    };
    let committed_unit = node.commit(unit).unwrap();
    let places = [1, 2, 3].map(|id| (PartitionId(id), 1));
    assert_eq!(committed_unit.ended, places);
    assert!(open_in(&node, 10).is_empty());
    let node = Node::open(&shared(&disk.crash()), small());
    for partition in 1..=3 {
        assert_eq!(bounds(&node, partition).stable_end, 2);
    }
    assert_eq!(node.log.reader.state(b"transaction").len(), 1);
}

#[test]
fn open_transactions_and_aborted_ones_survive_any_kind_of_restart() {
    for round in 0..3 {
        let (disk, mut node) = Node::simulated(round, small());
        node.create(1);
        node.commit(produce(1, 10, 0, 0, "gone")).unwrap();
        node.commit(abort(10, 1)).unwrap();
        node.commit(produce(1, 10, 1, 0, "open")).unwrap();
        let node = match round {
            0 => {
                drop(node);
                Node::open(&shared(&disk.crash()), small())
            }
            1 => {
                node.stop();
                Node::open(&shared(&disk), small())
            }
            _ => {
                for _ in 0..30 {
                    node.commit(append(1, &[&"x".repeat(20_000)])).unwrap();
                    node.maintain(&keep_all());
                }
                drop(node);
                Node::open(&shared(&disk.kill()), small())
            }
        };
        assert_eq!(stable_end(&node, 1), 2);
        assert_eq!(open_in(&node, 10), [1]);
        assert_eq!(node.log.reader.producers_in_transactions(), [10]);
        let reader = &node.log.reader;
        assert_eq!(reader.aborted(PartitionId(1), 0, 9), [aborted(10, 0, 1)]);
        let producer = reader.producers(PartitionId(1)).remove(0);
        assert_eq!((producer.epoch, producer.last_sequence), (1, 0));
        assert_eq!(producer.transaction_start, Some(2));
        assert_eq!(producer.coordinator_epoch, 0);
    }
}

#[test]
fn a_marker_moves_the_epoch_and_fences_the_old_one() {
    let (_, mut node) = Node::simulated(1, small());
    node.create(1);
    node.commit(produce(1, 10, 3, 0, "a")).unwrap();
    let fenced = |current, found| Err(CommitError::InvalidProducerEpoch { current, found });
    assert_eq!(node.commit(abort(10, 2)), fenced(3, 2));
    node.commit(abort(10, 4)).unwrap();
    assert_eq!(node.commit(produce(1, 10, 3, 1, "late")), fenced(4, 3));
    assert_eq!(node.commit(produce(1, 10, 3, 0, "a")), fenced(4, 3));
    node.commit(produce(1, 10, 4, 0, "b")).unwrap();
    // Under the same epoch the sequences go on, and a repetition after the end begins nothing.
    node.commit(commit(10, 4)).unwrap();
    let again = node.commit(produce(1, 10, 4, 0, "b")).unwrap();
    assert!(again.appends[0].duplicate);
    assert_eq!(again.appends[0].base_offset, 2);
    assert!(open_in(&node, 10).is_empty());
    node.commit(produce(1, 10, 4, 1, "c")).unwrap();
    assert_eq!(open_in(&node, 10), [1]);
    let coordinator = |coordinator_epoch, epoch| {
        unit_of(EndTransaction {
            coordinator_epoch,
            ..end(10, epoch, TransactionOutcome::Commit)
        })
    };
    node.commit(coordinator(5, 4)).unwrap();
    node.commit(produce(1, 10, 4, 2, "d")).unwrap();
    let (current, found) = (5, 4);
    assert_eq!(
        node.commit(coordinator(4, 4)),
        Err(CommitError::CoordinatorFenced { current, found })
    );
}

#[test]
fn a_batch_that_is_no_part_of_the_open_transaction_is_refused() {
    let (_, mut node) = Node::simulated(1, small());
    node.create(1);
    node.commit(produce(1, 10, 0, 0, "a")).unwrap();
    let producer = Producer {
        id: 10,
        epoch: 0,
        sequence: 1,
    };
    let plain = Unit {
        appends: vec![append_to(1, batch_of(&["b"], Some(producer), 7))],
        ..Unit::default()
    };
    let refused = Err(CommitError::InvalidTransactionState);
    assert_eq!(node.commit(plain.clone()), refused);
    assert_eq!(node.commit(produce(1, 10, 1, 0, "b")), refused);
    node.commit(commit(10, 0)).unwrap();
    node.commit(plain).unwrap();
}

#[test]
fn clients_cannot_append_markers() {
    let (_, mut node) = Node::simulated(1, small());
    node.create(1);
    node.commit(produce(1, 10, 0, 0, "a")).unwrap();
    node.commit(commit(10, 0)).unwrap();
    let slice = node.log.reader.read(PartitionId(1), 1, 1, true).unwrap();
    let marker = split(&slice.batches).remove(0);
    assert!(batch::header(&marker).unwrap().is_control());
    let unit = Unit {
        appends: vec![append_to(1, marker)],
        ..Unit::default()
    };
    assert_eq!(node.commit(unit), Err(CommitError::InvalidBatch));
}

#[test]
fn markers_go_exactly_where_they_are_asked_for() {
    let (_, mut node) = Node::simulated(1, small());
    for partition in 1..=3 {
        node.create(partition);
    }
    node.commit(produce(1, 10, 0, 0, "a")).unwrap();
    node.commit(produce(2, 10, 0, 0, "b")).unwrap();
    let some = |partitions: &[u64]| {
        unit_of(EndTransaction {
            partitions: Some(partitions.iter().map(|id| PartitionId(*id)).collect()),
            ..end(10, 0, TransactionOutcome::Abort)
        })
    };
    let unknown = CommitError::UnknownPartition(PartitionId(9));
    assert_eq!(node.commit(some(&[1, 9])), Err(unknown));
    assert_eq!(open_in(&node, 10), [1, 2]);
    let ended = node.commit(some(&[2, 3])).unwrap().ended;
    assert_eq!(ended, [(PartitionId(2), 1), (PartitionId(3), 0)]);
    assert_eq!(open_in(&node, 10), [1]);
    // Where nothing was open, nothing was aborted.
    assert!(node.log.reader.aborted(PartitionId(3), 0, 9).is_empty());
    assert_eq!(node.commit(commit(77, 0)).unwrap().ended, []);
}

#[test]
fn units_of_one_group_see_each_others_transactions_and_refused_ones_leave_no_trace() {
    let (_, mut node) = Node::simulated(1, small());
    node.create(1);
    node.create(2);
    let impossible = Condition::NextOffset {
        partition: PartitionId(2),
        offset: 99,
    };
    let refused_at_the_end = |unit: Unit| Unit {
        partitions: vec![wharf_log::PartitionChange::AdvanceStart {
            partition: PartitionId(1),
            offset: 0,
        }],
        appends: [unit.appends, vec![append_to(9, batch_of(&["x"], None, 7))]].concat(),
        ..unit
    };
    let outcomes = node.commit_all(vec![
        produce(1, 10, 0, 0, "a"),
        refused_at_the_end(produce(2, 10, 0, 0, "never")),
        Unit {
            conditions: vec![impossible],
            ..commit(10, 0)
        },
        produce(2, 10, 0, 0, "b"),
        commit(10, 1),
        produce(1, 10, 1, 0, "c"),
        remove(2),
        abort(10, 1),
    ]);
    let ended = |index: usize| outcomes[index].clone().unwrap().ended;
    assert_eq!(
        outcomes[1],
        Err(CommitError::UnknownPartition(PartitionId(9)))
    );
    assert_eq!(outcomes[2], Err(CommitError::ConditionFailed(0)));
    assert_eq!(ended(4), [(PartitionId(1), 1), (PartitionId(2), 1)]);
    assert_eq!(ended(7), [(PartitionId(1), 3)]);
    assert_eq!(texts(committed(&node, 1, 0, 4096)), ["a"]);
    assert!(node.log.reader.producers_in_transactions().is_empty());
}

#[test]
fn a_removed_partition_takes_its_part_of_the_transaction_with_it() {
    let (disk, mut node) = Node::simulated(1, small());
    node.create(1);
    node.create(2);
    node.commit(produce(1, 10, 0, 0, "a")).unwrap();
    node.commit(produce(2, 10, 0, 0, "b")).unwrap();
    node.commit(remove(1)).unwrap();
    assert_eq!(open_in(&node, 10), [2]);
    let mut node = Node::open(&shared(&disk.crash()), small());
    assert_eq!(open_in(&node, 10), [2]);
    assert_eq!(
        node.commit(commit(10, 0)).unwrap().ended,
        [(PartitionId(2), 1)]
    );
}

#[test]
fn records_may_be_deleted_beyond_the_start_of_an_open_transaction() {
    let (disk, mut node) = Node::simulated(1, small());
    node.create(1);
    for sequence in 0..3 {
        node.commit(produce(1, 10, 0, sequence, "gone")).unwrap();
    }
    node.commit(advance(1, 2)).unwrap();
    assert_eq!(stable_end(&node, 1), 2);
    assert!(committed(&node, 1, 2, 4096).is_empty());
    let mut node = Node::open(&shared(&disk.crash()), small());
    assert_eq!(
        bounds(&node, 1),
        Bounds {
            start: 2,
            end: 3,
            stable_end: 2
        }
    );
    node.commit(abort(10, 0)).unwrap();
    assert_eq!(stable_end(&node, 1), 4);
    assert!(committed(&node, 1, 2, 4096).is_empty());
    assert_eq!(node.log.reader.aborted(PartitionId(1), 2, 9).len(), 1);
    node.commit(advance(1, 3)).unwrap();
    assert_eq!(node.log.reader.aborted(PartitionId(1), 3, 9).len(), 1);
    node.commit(advance(1, 4)).unwrap();
    assert!(node.log.reader.aborted(PartitionId(1), 0, 9).is_empty());
    let gone = node.log.reader.read_committed(PartitionId(1), 2, 1, true);
    assert!(matches!(gone, Err(ReadError::OffsetOutOfRange { .. })));
}

#[test]
fn a_producer_with_an_open_transaction_is_never_forgotten() {
    let options = || Options {
        producers_per_partition_max: 2,
        producer_expiry: Duration::from_secs(10),
        ..small()
    };
    let (disk, mut node) = Node::simulated(1, options());
    node.create(1);
    node.commit(produce(1, 10, 0, 0, "a")).unwrap();
    for id in 20..26 {
        let producer = Producer {
            id,
            epoch: 0,
            sequence: 0,
        };
        let unit = Unit {
            appends: vec![append_to(1, batch_of(&["b"], Some(producer), 7))],
            ..Unit::default()
        };
        node.commit(unit).unwrap();
    }
    node.now = node.now.after(Duration::from_secs(3600));
    node.maintain(&keep_all());
    assert_eq!(stable_end(&node, 1), 0);
    let now = node.now;
    let mut node = Node::open(&shared(&disk.crash()), options());
    node.now = now;
    node.commit(produce(1, 10, 0, 1, "goes on")).unwrap();
    assert_eq!(node.commit(commit(10, 0)).unwrap().ended.len(), 1);
    assert_eq!(stable_end(&node, 1), node.end(1));
    // Ended, it may go like any other.
    node.now = node.now.after(Duration::from_secs(3600));
    node.maintain(&keep_all());
    assert!(node.log.reader.producers(PartitionId(1)).is_empty());
}

#[test]
fn a_transaction_is_not_let_into_more_partitions_than_it_can_be_ended_in() {
    let (disk, mut node) = Node::simulated(1, small());
    let partitions = 140;
    for partition in 0..partitions {
        node.create(partition);
    }
    let mut most = None;
    for partition in 0..partitions {
        match node.commit(produce(partition, 10, 0, 0, "v")) {
            Ok(_) => assert!(most.is_none()),
            Err(CommitError::TransactionTooWide(limit)) => most = Some(limit),
            Err(other) => panic!("{other}"),
        }
    }
    let most = most.expect("some partition is too much");
    assert_eq!(open_in(&node, 10).len(), most);
    let mut node = Node::open(&shared(&disk.crash()), small());
    assert_eq!(node.commit(commit(10, 0)).unwrap().ended.len(), most);
    // In one unit as well.
    let appends = (0..partitions)
        .map(|partition| append_to(partition, transactional(11, 0, 0, &["v"])))
        .collect::<Vec<Append>>();
    let unit = Unit {
        appends,
        ..Unit::default()
    };
    assert_eq!(
        node.commit(unit),
        Err(CommitError::TransactionTooWide(most))
    );
    assert!(open_in(&node, 11).is_empty());
}

#[test]
fn a_full_disk_or_a_failed_sync_leaves_the_transaction_open() {
    let (disk, mut node) = Node::simulated(3, small());
    node.create(1);
    node.commit(produce(1, 10, 0, 0, "a")).unwrap();
    disk.set_faults(Faults {
        capacity_bytes: Some(disk.used_bytes()),
        ..Faults::default()
    });
    while node.commit(append(1, &[&"x".repeat(20_000)])).is_ok() {}
    while node.commit(append(1, &["x"])).is_ok() {}
    assert_eq!(node.commit(commit(10, 0)), Err(CommitError::DiskFull));
    assert_eq!(open_in(&node, 10), [1]);
    disk.set_faults(Faults::default());
    node.now = node.now.after(Duration::from_secs(1));
    node.commit(commit(10, 0)).unwrap();
    assert_eq!(stable_end(&node, 1), node.end(1));
    node.commit(produce(1, 10, 0, 1, "b")).unwrap();
    disk.set_faults(Faults {
        sync_failure_one_in: 1,
        ..Faults::default()
    });
    assert_eq!(node.commit(commit(10, 0)), Err(CommitError::Poisoned));
    assert_eq!(open_in(&node, 10), [1]);
}

#[test]
fn those_who_wait_for_the_stable_end_are_told_of_markers() {
    let (_, mut node) = Node::simulated(1, small());
    node.create(1);
    node.create(2);
    node.commit(produce(1, 10, 0, 0, "a")).unwrap();
    node.commit(produce(2, 10, 0, 0, "b")).unwrap();
    node.told.0.lock().unwrap().clear();
    node.commit(commit(10, 0)).unwrap();
    let told = node.told.0.lock().unwrap().clone();
    assert_eq!(told, [PartitionId(1), PartitionId(2)]);
}
