//! Each checker finds the damage it is for, and nothing where nothing is wrong.

use std::time::Duration;

use wharf_log::batch::{self, Producer, Record};
use wharf_log::{
    Append, Bounds, Clock, Durability, PartitionChange, Recovery, StateChange, TransactionOutcome,
};

use super::*;
use crate::model::Model;
use crate::view::PartitionView;

const ID: PartitionId = PartitionId(1);
const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn batch_of(value: &'static str, sequence: i32, count: usize) -> Bytes {
    let record = Record {
        timestamp: NOW,
        value: Some(Bytes::from_static(value.as_bytes())),
        ..Record::default()
    };
    let producer = Producer {
        id: 7,
        epoch: 0,
        sequence,
    };
    batch::build(&vec![record; count], Some(producer))
}

fn append(value: &'static str, sequence: i32, count: usize) -> Unit {
    let batch = batch_of(value, sequence, count);
    let append = Append {
        partition: ID,
        batch,
        clock: Clock::CreateTime,
    };
    let state = StateChange {
        key: Bytes::from_static(b"last"),
        value: Some(value.into()),
    };
    Unit {
        appends: vec![append],
        state: vec![state],
        ..Unit::default()
    }
}

/// A log with three batches: offsets 0..=1, 2, 3..=5.
fn model() -> Model {
    let mut model = Model::new(Duration::MAX);
    let create = Unit {
        partitions: vec![PartitionChange::Create(ID)],
        ..Unit::default()
    };
    for unit in [
        create,
        append("a", 0, 2),
        append("b", 2, 1),
        append("c", 3, 3),
    ] {
        model.apply(&unit, NOW).unwrap();
    }
    model
}

fn stored(base: i64, batch: &Bytes) -> Stored {
    let mut bytes = batch.to_vec();
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    let bytes = Bytes::from(bytes);
    Stored {
        header: batch::verify(&bytes).unwrap(),
        bytes,
    }
}

/// What a log that keeps every promise shows.
fn view_of(model: &Model) -> View {
    let mut view = View {
        state: model.state.clone(),
        ..View::default()
    };
    for (id, partition) in &model.partitions {
        let (start, end) = (partition.start, partition.end);
        let producers = partition.producers.iter();
        let producers = producers.map(|(id, one)| (*id, one.remembered()));
        let shown = PartitionView {
            bounds: Bounds {
                start,
                end,
                stable_end: end,
            },
            batches: partition
                .batches
                .iter()
                .map(|one| stored(one.base, &one.bytes))
                .collect(),
            producers: producers.collect(),
            committed: partition.batches.iter().map(|one| one.base).collect(),
        };
        view.partitions.insert(*id, shown);
    }
    view
}

/// Checks a view after `change` against what was acknowledged, with `unit` open.
fn check_with(unit: Option<Unit>, change: impl FnOnce(&mut View)) -> Result<usize, &'static str> {
    let must = model();
    let mut view = view_of(&must);
    change(&mut view);
    let open = unit.map(|unit| Unsettled {
        operation: 9,
        unit,
        tried_at: NOW,
        refused: false,
        disk_may_be_full: false,
    });
    let evidence = Evidence {
        must: &must,
        unsettled: open.as_slice(),
        refused: &[body(&batch_of("refused", 6, 1))].into(),
        retained: &BTreeMap::new(),
        written: &Written::default(),
        now: NOW,
    };
    check_view(&evidence, &view)
        .map(|(_, kept)| kept)
        .map_err(|broken| broken.promise)
}

fn check(change: impl FnOnce(&mut PartitionView)) -> Result<usize, &'static str> {
    check_with(None, |view| change(view.partitions.get_mut(&ID).unwrap()))
}

#[test]
fn a_log_that_kept_everything_passes() {
    assert_eq!(check(|_| {}), Ok(0));
}

#[test]
fn a_lost_changed_or_moved_record_is_found() {
    let promise = Err("no acknowledged record is lost");
    assert_eq!(check(|shown| drop(shown.batches.pop())), promise);
    assert_eq!(
        check(|shown| shown.batches[1] = stored(2, &batch_of("x", 2, 1))),
        promise
    );
    assert_eq!(
        check(|shown| shown.batches[1] = stored(1, &batch_of("b", 2, 1))),
        promise
    );
    assert_eq!(check(|shown| shown.bounds.start = 2), promise);
    assert_eq!(
        check_with(None, |view| drop(view.partitions.remove(&ID))),
        promise
    );
}

#[test]
fn an_end_that_went_back_is_found() {
    let shrunk = check(|shown| {
        shown.bounds = Bounds {
            start: 0,
            end: 5,
            stable_end: 5,
        }
    });
    assert_eq!(shrunk, Err("offsets never go back"));
}

#[test]
fn what_came_back_is_found() {
    let promise = Err("what was deleted stays deleted");
    let returned = check_with(None, |view| {
        let copy = view.partitions[&ID].clone();
        view.partitions.insert(PartitionId(2), copy);
    });
    assert_eq!(returned, promise);
    let key = check_with(None, |view| {
        drop(view.state.insert("old".into(), "value".into()));
    });
    assert_eq!(key, promise);
    assert_eq!(
        check(|shown| shown.bounds.start = -1),
        Err("offsets never go back")
    );
}

#[test]
fn a_refused_batch_that_appears_is_found() {
    let appeared = check(|shown| {
        shown.batches.push(stored(6, &batch_of("refused", 6, 1)));
        shown.bounds = Bounds {
            start: 0,
            end: 7,
            stable_end: 7,
        };
    });
    assert_eq!(appeared, Err("nothing that was refused appears"));
}

#[test]
fn gaps_and_disorder_are_found() {
    let promise = Err("records keep their order without gaps");
    let gap = check(|shown| {
        shown.batches.push(stored(8, &batch_of("d", 6, 1)));
        shown.bounds = Bounds {
            start: 0,
            end: 9,
            stable_end: 9,
        };
    });
    assert_eq!(gap, promise);
    let mut swapped = view_of(&model());
    swapped.partitions.get_mut(&ID).unwrap().batches.swap(0, 1);
    assert_eq!(
        order::check(&swapped).map_err(|broken| broken.promise),
        promise.map(drop)
    );
    let early = check(|shown| {
        shown.batches.push(stored(6, &batch_of("d", 1, 1)));
        shown.bounds = Bounds {
            start: 0,
            end: 7,
            stable_end: 7,
        };
    });
    assert_eq!(early, promise);
}

#[test]
fn a_sequence_that_is_there_twice_is_found() {
    let mut view = view_of(&model());
    let shown = view.partitions.get_mut(&ID).unwrap();
    shown.batches.push(stored(6, &batch_of("c", 3, 3)));
    let broken = once_per_sequence::check(&view).unwrap_err();
    assert_eq!(broken.promise, "a batch is there once per sequence");
}

#[test]
fn a_repetition_answered_with_another_offset_is_found() {
    let header = batch::header(&batch_of("a", 0, 2)).unwrap();
    let answer = |base_offset, duplicate| wharf_log::Appended {
        base_offset,
        last_offset: base_offset + 1,
        log_start: 0,
        append_time: None,
        duplicate,
    };
    let mut once = OncePerSequence::default();
    once.answered(ID, &header, &answer(0, false)).unwrap();
    once.answered(ID, &header, &answer(0, true)).unwrap();
    once.answered(ID, &header, &answer(6, true)).unwrap_err();
    once.answered(ID, &header, &answer(0, false)).unwrap_err();
    once.restarted(|_| Some(0));
    once.answered(ID, &header, &answer(0, false)).unwrap();
}

#[test]
fn an_open_unit_may_be_there_whole_or_not_at_all() {
    let unit = append("d", 6, 1);
    let mut with = model();
    with.apply(&unit, NOW).unwrap();
    let whole = view_of(&with);
    assert_eq!(check_with(Some(unit.clone()), |_| {}), Ok(0));
    assert_eq!(
        check_with(Some(unit.clone()), |view| *view = whole.clone()),
        Ok(1)
    );
    let promise = Err("a unit is there whole or not at all");
    let without_state = check_with(Some(unit.clone()), |view| {
        let state = std::mem::take(&mut view.state);
        *view = View {
            state,
            ..whole.clone()
        };
    });
    assert_eq!(without_state, promise);
    let without_records = check_with(Some(unit), |view| view.state = whole.state.clone());
    assert_eq!(without_records, promise);
    let producer_forgotten = check(|shown| shown.producers.clear());
    assert_eq!(producer_forgotten, promise);
}

#[test]
fn an_orderly_restart_that_changes_anything_is_found() {
    let before = view_of(&model());
    let clean = Recovery::default();
    restart_changes_nothing(&before, &before, &clean).unwrap();
    let replayed = Recovery {
        frames_replayed: 1,
        ..Recovery::default()
    };
    restart_changes_nothing(&before, &before, &replayed).unwrap_err();
    let mut after = before.clone();
    after.partitions.get_mut(&ID).unwrap().producers.clear();
    restart_changes_nothing(&before, &after, &clean).unwrap_err();
    restart_changes_nothing(&before, &View::default(), &clean).unwrap_err();
}

#[test]
fn an_acknowledgement_after_a_failed_sync_is_found() {
    let mut watch = FailStop::default();
    watch
        .answered(&Ok(wharf_log::Committed::default()), false)
        .unwrap();
    watch
        .answered(&Err(wharf_log::CommitError::Poisoned), true)
        .unwrap();
    watch
        .answered(&Ok(wharf_log::Committed::default()), true)
        .unwrap_err();
    let mut watch = FailStop::default();
    watch
        .answered(&Err(wharf_log::CommitError::Poisoned), false)
        .unwrap_err();
}

#[test]
fn an_answer_that_breaks_the_rules_is_found() {
    let answers = Answers {
        unit_bytes_max: 10_000,
    };
    let check = |unit: &Unit, answer| answers.check(&mut model(), unit, &answer, false, NOW);
    let next = append("d", 6, 1);
    let right = model().apply(&next, NOW);
    let mut wrong = right.clone().unwrap();
    wrong.appends[0].base_offset = 4;
    check(&next, right).unwrap();
    check(&next, Ok(wrong)).unwrap_err();
    check(&next, Err(wharf_log::CommitError::DiskFull)).unwrap_err();
    check(&append("gap", 9, 1), Ok(wharf_log::Committed::default())).unwrap_err();
    let buffered = Unit {
        durability: Durability::Buffered,
        ..Unit::default()
    };
    check(&buffered, Ok(wharf_log::Committed::default())).unwrap();
}

#[test]
fn retention_that_deletes_what_is_not_due_is_found() {
    let settings = |bytes, age| Retention {
        bytes,
        age,
        segment_bytes: 1 << 20,
        segment_age: Duration::from_secs(60),
        compaction: None,
    };
    let check = |start, retention: Retention| {
        let must = model();
        let mut view = view_of(&must);
        let shown = view.partitions.get_mut(&ID).unwrap();
        shown.bounds.start = start;
        shown
            .batches
            .retain(|one| one.header.last_offset() >= start);
        let left = shown.batches.iter();
        shown.committed = left.map(|one| one.header.base_offset).collect();
        let evidence = Evidence {
            must: &must,
            unsettled: &[],
            refused: &BTreeSet::new(),
            retained: &[(ID, retention)].into(),
            written: &Written::default(),
            now: NOW.after(Duration::from_secs(10)),
        };
        check_view(&evidence, &view)
            .map(|_| ())
            .map_err(|broken| broken.promise)
    };
    let promise = Err("retention deletes only what is due");
    assert_eq!(
        check(2, settings(None, Some(Duration::from_secs(9)))),
        Ok(())
    );
    assert_eq!(
        check(2, settings(None, Some(Duration::from_secs(11)))),
        promise
    );
    assert_eq!(
        check(1, settings(None, Some(Duration::from_secs(9)))),
        promise
    );
    assert_eq!(check(2, settings(Some(100), None)), Ok(()));
    assert_eq!(check(2, settings(Some(100_000), None)), promise);
}

/// Two partitions, in both of which a producer's transaction was aborted, under a new epoch, and
/// another one is open.
fn with_transactions() -> View {
    let marker = batch::Marker {
        producer_id: 9,
        producer_epoch: 1,
        coordinator_epoch: 5,
        outcome: TransactionOutcome::Abort,
    };
    let part = |epoch| {
        let producer = Producer {
            id: 9,
            epoch,
            sequence: 0,
        };
        batch::build_transactional(&[Record::default()], producer)
    };
    let partition = PartitionView {
        bounds: Bounds {
            start: 0,
            end: 5,
            stable_end: 3,
        },
        batches: vec![
            stored(0, &part(0)),
            stored(1, &batch_of("plain", 0, 1)),
            stored(2, &marker.build(NOW)),
            stored(3, &part(1)),
            stored(4, &batch_of("plain", 1, 1)),
        ],
        producers: [(9, (1, 0, Some(3)))].into(),
        committed: vec![1],
    };
    View {
        partitions: [(ID, partition.clone()), (PartitionId(2), partition)].into(),
        ..View::default()
    }
}

#[test]
fn an_aborted_or_open_transaction_that_is_seen_is_found() {
    let check = |change: fn(&mut PartitionView)| {
        let mut view = with_transactions();
        change(view.partitions.get_mut(&ID).unwrap());
        aborted_never_seen::check(&view).map_err(|broken| broken.promise)
    };
    let promise = Err("aborted and open transactions are never seen");
    assert_eq!(check(|_| {}), Ok(()));
    assert_eq!(check(|shown| shown.committed = vec![0, 1]), promise);
    assert_eq!(check(|shown| shown.committed = vec![1, 3]), promise);
    assert_eq!(check(|shown| shown.committed = vec![1, 4]), promise);
    assert_eq!(check(|shown| shown.committed = vec![]), promise);
    assert_eq!(check(|shown| shown.bounds.stable_end = 5), promise);
    assert_eq!(check(|shown| shown.bounds.stable_end = 1), promise);
    assert_eq!(check(|shown| shown.producers.clear()), promise);
}

#[test]
fn a_half_ended_transaction_is_found() {
    let check = |change: fn(&mut PartitionView)| {
        let mut view = with_transactions();
        change(view.partitions.get_mut(&ID).unwrap());
        transactions_are_whole::check(&view).map_err(|broken| broken.promise)
    };
    let promise = Err("a transaction ends in all its partitions or in none");
    assert_eq!(check(|_| {}), Ok(()));
    assert_eq!(check(|shown| drop(shown.batches.remove(2))), promise);
    // Ended, but by a later end.
    let late = check(|shown| {
        let marker = batch::Marker {
            producer_id: 9,
            producer_epoch: 1,
            coordinator_epoch: 6,
            outcome: TransactionOutcome::Commit,
        };
        shown.batches[2] = stored(2, &marker.build(NOW));
    });
    assert_eq!(late, promise);
    // With its data it may be gone.
    let deleted = check(|shown| {
        shown.bounds.start = 3;
        shown.batches.drain(..3);
    });
    assert_eq!(deleted, Ok(()));
}
