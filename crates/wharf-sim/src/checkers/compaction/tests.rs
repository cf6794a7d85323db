//! A compaction that did right passes; each wrong it could do is found.

use std::time::Duration;

use bytes::BytesMut;
use wharf_log::batch::Producer;
use wharf_log::{Append, Bounds, Clock, EndTransaction, PartitionChange, TransactionOutcome, Unit};

use super::*;

const ID: PartitionId = PartitionId(1);
const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn record(key: &'static str, value: Option<&'static str>) -> Record {
    Record {
        timestamp: NOW,
        key: Some(Bytes::from_static(key.as_bytes())),
        value: value.map(|value| Bytes::from_static(value.as_bytes())),
        headers: vec![("h".into(), Some("v".into()))],
        ..Record::default()
    }
}

fn append(batch: Bytes) -> Unit {
    let append = Append {
        partition: ID,
        batch,
        clock: Clock::CreateTime,
    };
    Unit {
        appends: vec![append],
        ..Unit::default()
    }
}

fn plain(records: &[Record]) -> Unit {
    append(batch::build(records, None))
}

/// The offsets 0 to 9 were seen by background work; 10 came later.
fn written() -> Written {
    let producer = Producer {
        id: 9,
        epoch: 0,
        sequence: 0,
    };
    let end = EndTransaction {
        producer: 9,
        epoch: 1,
        coordinator_epoch: 1,
        outcome: TransactionOutcome::Abort,
        partitions: None,
    };
    let mut model = Model::new(Duration::MAX);
    let mut say = |unit: Unit| drop(model.apply(&unit, NOW).unwrap());
    say(Unit {
        partitions: vec![PartitionChange::Create(ID)],
        ..Unit::default()
    });
    say(plain(&[record("k1", Some("a"))]));
    say(plain(&[record("k2", Some("b"))]));
    say(plain(&[record("k1", Some("c"))]));
    say(plain(&[record("k3", Some("v"))]));
    say(plain(&[record("k3", None)]));
    let aborted = batch::build_transactional(&[record("k2", Some("x"))], producer);
    say(append(aborted));
    say(Unit {
        transactions: vec![end],
        ..Unit::default()
    });
    say(plain(&[record("k4", Some("d")), record("k5", Some("e"))]));
    say(plain(&[record("k4", Some("f"))]));
    let mut written = Written::default();
    let settings = Compaction {
        min_lag: Duration::from_secs(10),
        max_lag: None,
        dirty_ratio: 0.5,
        delete_retention: Duration::from_secs(100),
    };
    written.compacts(ID, settings);
    written.learn(&model);
    written.worked(NOW);
    model
        .apply(&plain(&[record("k2", Some("z"))]), NOW)
        .unwrap();
    written.learn(&model);
    written
}

/// What is there when nothing was compacted.
fn everything(written: &Written) -> PartitionView {
    let originals = written.histories[&ID].batches.values();
    PartitionView {
        bounds: Bounds {
            start: 0,
            end: 11,
            stable_end: 11,
        },
        batches: originals.map(|one| one.stored.clone()).collect(),
        producers: [(9, (1, -1, None))].into(),
        committed: vec![0, 1, 2, 3, 4, 7, 9, 10],
    }
}

/// The batch without its first record.
fn without_first(stored: &Stored) -> Stored {
    let mut bytes = BytesMut::from(&stored.bytes[..]);
    let first = 1 + usize::from(bytes[HEADER_BYTES] / 2);
    let rest = bytes.split_off(HEADER_BYTES + first);
    bytes.truncate(HEADER_BYTES);
    bytes.extend_from_slice(&rest);
    let length = i32::try_from(bytes.len() - 12).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[57..61].copy_from_slice(&(stored.header.record_count - 1).to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let bytes = bytes.freeze();
    Stored {
        header: batch::verify_stored(&bytes).unwrap(),
        bytes,
    }
}

/// Checks what is left so many seconds after everything was written, without the batches at `gone`.
fn check(seconds: u64, gone: &[i64], change: fn(&mut PartitionView)) -> Result<View, String> {
    let written = written();
    let mut shown = everything(&written);
    let is_gone = |base: i64| gone.contains(&base);
    shown.batches.retain(|one| !is_gone(one.header.base_offset));
    shown.committed.retain(|base| !is_gone(*base));
    change(&mut shown);
    let view = View {
        partitions: [(ID, shown)].into(),
        ..View::default()
    };
    let evidence = Evidence {
        must: &Model::default(),
        unsettled: &[],
        refused: &[].into(),
        retained: &BTreeMap::new(),
        written: &written,
        now: NOW.after(Duration::from_secs(seconds)),
    };
    match super::check(&evidence, &view) {
        Ok(whole) => Ok(whole.into_owned()),
        Err(broken) => {
            assert_eq!(broken.promise, PROMISE);
            Err(broken.detail)
        }
    }
}

fn nothing(_shown: &mut PartitionView) {}

fn at(shown: &mut PartitionView, base: i64) -> &mut Stored {
    let mut batches = shown.batches.iter_mut();
    batches
        .find(|one| one.header.base_offset == base)
        .expect("it is there")
}

#[test]
fn what_may_be_gone_is_put_back_as_it_was() {
    let whole = everything(&written());
    let restored = |seconds, gone: &[i64], change| {
        let view = check(seconds, gone, change).unwrap();
        view.partitions[&ID].clone()
    };
    assert_eq!(restored(0, &[], nothing), whole);
    assert_eq!(restored(20, &[0, 3, 5], nothing), whole);
    let all = [0, 3, 4, 5, 6];
    assert_eq!(restored(200, &all, nothing), whole);
    let partly = restored(200, &all, |shown| {
        let batch = at(shown, 7);
        *batch = without_first(batch);
    });
    assert_eq!(partly, whole);
}

#[test]
fn a_record_that_is_gone_and_should_not_is_found() {
    let finds = |seconds, gone: &[i64], why: &str| {
        let found = check(seconds, gone, nothing).unwrap_err();
        assert!(found.contains(why), "{found}");
    };
    finds(200, &[2], "2 is gone, but it is the newest of its key");
    // What supersedes it came after the last background work.
    finds(200, &[1], "1 is gone, but it is the newest of its key");
    finds(200, &[10], "in the part that is written");
    finds(200, &[7], "8 is gone, but it is the newest of its key");
    finds(5, &[0], "too young");
    finds(5, &[5], "too young");
    finds(50, &[4], "its time is not over");
    finds(50, &[6], "its time is not over");
    finds(200, &[4], "ends as");
}

#[test]
fn a_record_that_is_another_or_elsewhere_is_found() {
    let finds = |change| {
        check(200, &[0], change).unwrap_err();
    };
    finds(|shown| {
        let other = batch::build(&[record("k1", Some("C"))], None);
        let mut bytes = other.to_vec();
        bytes[..8].copy_from_slice(&2_i64.to_be_bytes());
        at(shown, 2).bytes = bytes.into();
    });
    finds(|shown| {
        let mut moved = at(shown, 2).clone();
        moved.header.base_offset = 0;
        shown.batches.insert(0, moved);
    });
    finds(|shown| at(shown, 7).header.last_offset_delta = 0);
    finds(|shown| at(shown, 7).header.base_sequence = 5);
    // Its tombstones go at a time that nobody set.
    finds(|shown| {
        let batch = at(shown, 7);
        *batch = without_first(batch);
        batch.header.attributes |= 0x40;
    });
    finds(|shown| {
        let batch = at(shown, 7);
        *batch = without_first(batch);
        batch.header.max_timestamp += 1;
    });
}

#[test]
fn nothing_of_an_open_transaction_may_be_gone() {
    let mut written = written();
    let history = written.histories.get_mut(&ID).unwrap();
    history.batches.remove(&6).unwrap();
    let later = NOW.after(Duration::from_secs(1_000));
    let judge = written.judge(ID, 0, 11, later).unwrap();
    let shown = everything(&written);
    for gone in [5, 7] {
        let left = shown.batches.iter();
        let left = left.filter(|one| one.header.base_offset != gone).cloned();
        judge.restore(0, 11, left).unwrap_err();
    }
}

#[test]
fn what_a_crash_took_is_forgotten_and_what_it_left_is_learnt() {
    let mut written = written();
    let mut model = Model::new(Duration::MAX);
    let create = Unit {
        partitions: vec![PartitionChange::Create(ID)],
        ..Unit::default()
    };
    model.apply(&create, NOW).unwrap();
    model
        .apply(&plain(&[record("k1", Some("a"))]), NOW)
        .unwrap();
    written.restarted(&model);
    assert_eq!(written.histories[&ID].end(), 1);
    model
        .apply(&plain(&[record("k9", Some("new"))]), NOW)
        .unwrap();
    written.restarted(&model);
    let history = &written.histories[&ID];
    assert_eq!(history.batches[&1].records[0].key, Some("k9".into()));
    assert_eq!(history.reached, 1);
    written.restarted(&Model::default());
    assert!(written.histories[&ID].batches.is_empty());
}
