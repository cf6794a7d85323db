//! The suite that every [`Ledger`] runs: each case gets an empty ledger and panics where the
//! contract is broken. Run [`CASES`] on your executor, each on a fresh ledger.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join, join_all, poll_fn};
use futures_util::{FutureExt, pin_mut};

use super::{Commit, Entry, Error, Ledger, Owner, Partition, Progress, Record, Timer, TopicSpec};
use crate::{Timestamp, TopicName};

/// A case: a name and what to run on an empty ledger.
pub type Case = (&'static str, fn(Arc<dyn Ledger>) -> BoxFuture<'static, ()>);

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// Every case.
        pub const CASES: &[Case] =
            &[$((stringify!($name), |ledger| Box::pin(async move { $name(&*ledger).await }))),*];
    };
}

cases! {
    a_topic_is_created_once_and_must_keep_its_form,
    records_get_offsets_in_order_and_are_followed,
    a_follower_at_the_end_waits_for_the_next_commit,
    a_commit_over_several_topics_is_one_step,
    a_refused_commit_leaves_nothing_behind,
    only_the_newest_owner_commits,
    ownership_of_partitions_is_separate,
    commits_in_flight_keep_the_order_of_calls,
    an_owner_sees_everything_the_one_before_committed,
    progress_is_kept_by_reader_and_partition,
    timers_come_by_time_then_id,
    a_timer_fires_exactly_once,
    timers_are_replaced_and_cancelled,
    unknown_partitions_are_refused,
}

fn name(text: &str) -> TopicName {
    TopicName::new(text).expect("the cases use valid names")
}

fn partition(topic: &str, index: i32) -> Partition {
    Partition {
        topic: name(topic),
        index,
    }
}

fn record(value: &str) -> Record {
    Record {
        timestamp: Timestamp::from_millis(1_000),
        key: Some(Bytes::from_static(b"key")),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: vec![
            (Bytes::from_static(b"twice"), Some(Bytes::from_static(b"1"))),
            (Bytes::from_static(b"twice"), None),
        ],
    }
}

fn timer(id: &str, due: i64, target: Partition) -> Timer {
    Timer {
        id: Bytes::copy_from_slice(id.as_bytes()),
        due: Timestamp::from_millis(due),
        target,
        record: record(id),
    }
}

async fn create(ledger: &dyn Ledger, topic: &str, partitions: i32) {
    let topic = TopicSpec {
        name: name(topic),
        partitions,
        compacted: false,
    };
    ledger.create_topic(topic).await.expect("the topic is new");
}

async fn own(ledger: &dyn Ledger, topic: &str, index: i32) -> Owner {
    ledger
        .own(partition(topic, index))
        .await
        .expect("the partition exists")
}

async fn append(ledger: &dyn Ledger, owner: &Owner, to: &Partition, values: &[&str]) -> Vec<i64> {
    let records = values
        .iter()
        .map(|value| (to.clone(), record(value)))
        .collect();
    let commit = Commit {
        records,
        ..Commit::default()
    };
    ledger
        .commit(owner, commit)
        .await
        .expect("the owner may commit")
        .offsets
}

async fn keep(ledger: &dyn Ledger, owner: &Owner, timers: Vec<Timer>) {
    let commit = Commit {
        timers,
        ..Commit::default()
    };
    ledger
        .commit(owner, commit)
        .await
        .expect("the owner may commit");
}

/// The values from an offset on; must be there already.
async fn values(ledger: &dyn Ledger, from: &Partition, offset: i64, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    let mut next = offset;
    while values.len() < count {
        let entries = ledger
            .follow(from.clone(), next, count - values.len())
            .await;
        for Entry { offset, record } in entries.expect("the partition can be read") {
            assert_eq!(offset, next, "offsets have no gaps");
            let value = record.value.expect("the cases write values");
            values.push(String::from_utf8_lossy(&value).into_owned());
            next += 1;
        }
    }
    values
}

async fn due_ids(ledger: &dyn Ledger, owner: &Owner, now: i64) -> Vec<String> {
    let due = ledger
        .due(owner, Timestamp::from_millis(now), 100)
        .await
        .expect("the owner may ask");
    due.timers
        .iter()
        .map(|timer| String::from_utf8_lossy(&timer.id).into_owned())
        .collect()
}

async fn a_topic_is_created_once_and_must_keep_its_form(ledger: &dyn Ledger) {
    create(ledger, "a", 2).await;
    create(ledger, "a", 2).await;
    for (partitions, compacted) in [(3, false), (2, true)] {
        let other = TopicSpec {
            name: name("a"),
            partitions,
            compacted,
        };
        let refused = ledger.create_topic(other).await;
        assert!(
            matches!(refused, Err(Error::TopicDiffers { .. })),
            "{refused:?}"
        );
    }
    let none = TopicSpec {
        name: name("b"),
        partitions: 0,
        compacted: false,
    };
    assert!(ledger.create_topic(none).await.is_err());
}

async fn records_get_offsets_in_order_and_are_followed(ledger: &dyn Ledger) {
    create(ledger, "a", 1).await;
    let owner = own(ledger, "a", 0).await;
    let a = partition("a", 0);
    assert_eq!(append(ledger, &owner, &a, &["0", "1"]).await, [0, 1]);
    assert_eq!(append(ledger, &owner, &a, &["2"]).await, [2]);
    assert_eq!(values(ledger, &a, 0, 3).await, ["0", "1", "2"]);
    assert_eq!(values(ledger, &a, 1, 2).await, ["1", "2"]);
    let some = ledger
        .follow(a.clone(), 0, 1)
        .await
        .expect("there are records");
    assert_eq!(
        some,
        [Entry {
            offset: 0,
            record: record("0")
        }],
        "whole, and no more than asked"
    );
    let refused = ledger.follow(a, -1, 1).await;
    assert!(
        matches!(
            refused,
            Err(Error::OutOfRange {
                offset: -1,
                start: 0
            })
        ),
        "{refused:?}"
    );
}

async fn a_follower_at_the_end_waits_for_the_next_commit(ledger: &dyn Ledger) {
    create(ledger, "a", 1).await;
    let owner = own(ledger, "a", 0).await;
    let a = partition("a", 0);
    append(ledger, &owner, &a, &["0"]).await;
    let following = ledger.follow(a.clone(), 1, 10);
    pin_mut!(following);
    let early = poll_fn(|cx| std::task::Poll::Ready(following.poll_unpin(cx).is_ready())).await;
    assert!(!early, "there is nothing to follow yet");
    let (entries, _) = join(following, append(ledger, &owner, &a, &["1"])).await;
    assert_eq!(entries.expect("woken")[0].offset, 1);
    // One who stopped waiting disturbs nobody.
    drop(ledger.follow(a.clone(), 2, 1));
    append(ledger, &owner, &a, &["2"]).await;
}

async fn a_commit_over_several_topics_is_one_step(ledger: &dyn Ledger) {
    create(ledger, "a", 2).await;
    create(ledger, "b", 1).await;
    let owner = own(ledger, "a", 0).await;
    let (a0, a1, b) = (partition("a", 0), partition("a", 1), partition("b", 0));
    let commit = Commit {
        records: vec![
            (a1.clone(), record("1")),
            (b.clone(), record("2")),
            (a1.clone(), record("3")),
        ],
        progress: vec![Progress {
            reader: "r".to_owned(),
            partition: a0.clone(),
            offset: 5,
        }],
        timers: vec![timer("t", 10, b.clone())],
        ..Commit::default()
    };
    let committed = ledger
        .commit(&owner, commit)
        .await
        .expect("the owner may commit");
    assert_eq!(committed.offsets, [0, 0, 1]);
    assert_eq!(values(ledger, &a1, 0, 2).await, ["1", "3"]);
    assert_eq!(values(ledger, &b, 0, 1).await, ["2"]);
    assert_eq!(ledger.progress("r", a0).await, Ok(Some(5)));
    assert_eq!(due_ids(ledger, &owner, 10).await, ["t"]);
}

async fn a_refused_commit_leaves_nothing_behind(ledger: &dyn Ledger) {
    create(ledger, "a", 1).await;
    let owner = own(ledger, "a", 0).await;
    let a = partition("a", 0);
    let commit = Commit {
        records: vec![(a.clone(), record("lost"))],
        progress: vec![Progress {
            reader: "r".to_owned(),
            partition: a.clone(),
            offset: 5,
        }],
        fired: vec![timer("never set", 1, a.clone())],
        timers: vec![timer("t", 1, a.clone())],
        ..Commit::default()
    };
    let refused = ledger.commit(&owner, commit).await;
    assert!(matches!(refused, Err(Error::TimerGone(_))), "{refused:?}");
    assert_eq!(ledger.progress("r", a.clone()).await, Ok(None));
    assert_eq!(due_ids(ledger, &owner, 100).await, [] as [&str; 0]);
    assert_eq!(append(ledger, &owner, &a, &["first"]).await, [0]);
    assert_eq!(values(ledger, &a, 0, 1).await, ["first"]);
}

async fn only_the_newest_owner_commits(ledger: &dyn Ledger) {
    create(ledger, "a", 1).await;
    let old = own(ledger, "a", 0).await;
    let new = own(ledger, "a", 0).await;
    assert_ne!(old.epoch, new.epoch);
    let a = partition("a", 0);
    let commit = Commit {
        records: vec![(a.clone(), record("old"))],
        ..Commit::default()
    };
    for refused in [
        ledger.commit(&old, commit).await,
        ledger.commit(&old, Commit::default()).await,
    ] {
        assert_eq!(refused, Err(Error::Fenced { epoch: old.epoch }));
    }
    let refused = ledger.due(&old, Timestamp::ZERO, 1).await;
    assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
    assert_eq!(append(ledger, &new, &a, &["new"]).await, [0]);
    let forged = Owner {
        epoch: new.epoch + 1,
        ..new.clone()
    };
    assert!(
        ledger.commit(&forged, Commit::default()).await.is_err(),
        "an epoch yet to come"
    );
    assert!(ledger.commit(&new, Commit::default()).await.is_ok());
}

async fn ownership_of_partitions_is_separate(ledger: &dyn Ledger) {
    create(ledger, "a", 2).await;
    let (first, second) = (own(ledger, "a", 0).await, own(ledger, "a", 1).await);
    let to = partition("a", 0);
    append(ledger, &first, &to, &["by the owner"]).await;
    append(ledger, &second, &to, &["by another owner"]).await;
    keep(ledger, &first, vec![timer("t", 1, to.clone())]).await;
    assert_eq!(due_ids(ledger, &second, 9).await, [] as [&str; 0]);
    assert_eq!(due_ids(ledger, &first, 9).await, ["t"]);
}

async fn commits_in_flight_keep_the_order_of_calls(ledger: &dyn Ledger) {
    create(ledger, "a", 1).await;
    let owner = own(ledger, "a", 0).await;
    let a = partition("a", 0);
    let commits = (0..20).map(|number| {
        let records = vec![(a.clone(), record(&number.to_string()))];
        ledger.commit(
            &owner,
            Commit {
                records,
                ..Commit::default()
            },
        )
    });
    // Awaited in the opposite order.
    let mut commits: Vec<_> = commits.collect();
    commits.reverse();
    for (at, committed) in join_all(commits).await.into_iter().rev().enumerate() {
        let offsets = committed.expect("the owner may commit").offsets;
        assert_eq!(usize::try_from(offsets[0]), Ok(at));
    }
}

async fn an_owner_sees_everything_the_one_before_committed(ledger: &dyn Ledger) {
    create(ledger, "a", 1).await;
    let old = own(ledger, "a", 0).await;
    let a = partition("a", 0);
    let commit = Commit {
        progress: vec![Progress {
            reader: "r".to_owned(),
            partition: a.clone(),
            offset: 9,
        }],
        timers: vec![timer("t", 1, a.clone())],
        ..Commit::default()
    };
    // In flight while the ownership changes: it comes first, or never.
    let (committed, new) = join(ledger.commit(&old, commit), ledger.own(a.clone())).await;
    let new = new.expect("the partition exists");
    let expected = committed.is_ok().then_some(9);
    assert_eq!(ledger.progress("r", a).await, Ok(expected));
    let timers = due_ids(ledger, &new, 1).await.len();
    assert_eq!(
        timers,
        usize::from(expected.is_some()),
        "timers stay with the partition"
    );
}

async fn progress_is_kept_by_reader_and_partition(ledger: &dyn Ledger) {
    create(ledger, "a", 12).await;
    let owner = own(ledger, "a", 0).await;
    let at = |reader: &str, index, offset| Progress {
        reader: reader.to_owned(),
        partition: partition("a", index),
        offset,
    };
    let progress = vec![at("r", 1, 5), at("r", 11, 6), at("rr", 1, 7), at("r", 1, 8)];
    let commit = Commit {
        progress,
        ..Commit::default()
    };
    ledger
        .commit(&owner, commit)
        .await
        .expect("the owner may commit");
    for (reader, index, expected) in [
        ("r", 1, Some(8)),
        ("r", 11, Some(6)),
        ("rr", 1, Some(7)),
        ("r", 2, None),
        ("", 1, None),
    ] {
        let kept = ledger.progress(reader, partition("a", index)).await;
        assert_eq!(kept, Ok(expected), "{reader} {index}");
    }
    let back = Commit {
        progress: vec![at("r", 1, 2)],
        ..Commit::default()
    };
    ledger
        .commit(&owner, back)
        .await
        .expect("a reader may go back");
    assert_eq!(ledger.progress("r", partition("a", 1)).await, Ok(Some(2)));
}

async fn timers_come_by_time_then_id(ledger: &dyn Ledger) {
    create(ledger, "a", 1).await;
    let owner = own(ledger, "a", 0).await;
    let target = partition("a", 0);
    let timers = [("d", 30), ("c", 10), ("b", 20), ("a", 20), ("before", -5)];
    let timers = timers
        .map(|(id, due)| timer(id, due, target.clone()))
        .to_vec();
    keep(ledger, &owner, timers).await;
    assert_eq!(due_ids(ledger, &owner, 20).await, ["before", "c", "a", "b"]);
    let due = ledger
        .due(&owner, Timestamp::from_millis(20), 2)
        .await
        .expect("the owner may ask");
    assert_eq!(
        (due.timers.len(), due.next),
        (2, Some(Timestamp::from_millis(20)))
    );
    let due = ledger
        .due(&owner, Timestamp::from_millis(29), 9)
        .await
        .expect("the owner may ask");
    assert_eq!(
        (due.timers.len(), due.next),
        (4, Some(Timestamp::from_millis(30)))
    );
    assert_eq!(due.timers[1], timer("c", 10, target), "whole");
}

async fn a_timer_fires_exactly_once(ledger: &dyn Ledger) {
    create(ledger, "a", 1).await;
    let owner = own(ledger, "a", 0).await;
    let a = partition("a", 0);
    keep(ledger, &owner, vec![timer("t", 10, a.clone())]).await;
    let twice = vec![timer("t", 10, a.clone()), timer("t", 10, a.clone())];
    let refused = ledger
        .commit(
            &owner,
            Commit {
                fired: twice,
                ..Commit::default()
            },
        )
        .await;
    assert_eq!(refused, Err(Error::TimerGone(Bytes::from_static(b"t"))));
    let fired = vec![timer("t", 10, a.clone())];
    let fire = Commit {
        fired,
        records: vec![(a.clone(), record("with it"))],
        ..Commit::default()
    };
    let (first, second) = join(
        ledger.commit(&owner, fire.clone()),
        ledger.commit(&owner, fire),
    )
    .await;
    assert_eq!(first.expect("the timer was there").offsets, [0, 1]);
    assert_eq!(second, Err(Error::TimerGone(Bytes::from_static(b"t"))));
    assert_eq!(values(ledger, &a, 0, 2).await, ["with it", "t"]);
    assert_eq!(due_ids(ledger, &owner, 100).await, [] as [&str; 0]);
    assert_eq!(append(ledger, &owner, &a, &["next"]).await, [2]);
}

async fn timers_are_replaced_and_cancelled(ledger: &dyn Ledger) {
    create(ledger, "a", 1).await;
    let owner = own(ledger, "a", 0).await;
    let target = partition("a", 0);
    let old = timer("t", 10, target.clone());
    keep(
        ledger,
        &owner,
        vec![old.clone(), timer("u", 10, target.clone())],
    )
    .await;
    keep(ledger, &owner, vec![timer("t", 50, target.clone())]).await;
    assert_eq!(
        due_ids(ledger, &owner, 49).await,
        ["u"],
        "the old time no longer counts"
    );
    let stale = Commit {
        fired: vec![old],
        ..Commit::default()
    };
    assert!(matches!(
        ledger.commit(&owner, stale).await,
        Err(Error::TimerGone(_))
    ));
    let cancelled = vec![Bytes::from_static(b"u"), Bytes::from_static(b"unknown")];
    let commit = Commit {
        cancelled,
        ..Commit::default()
    };
    ledger
        .commit(&owner, commit)
        .await
        .expect("cancelling what is not there is no failure");
    assert_eq!(due_ids(ledger, &owner, 50).await, ["t"]);
    // Fired and set anew in one step: a periodic timer.
    let again = Commit {
        fired: vec![timer("t", 50, target.clone())],
        timers: vec![timer("t", 90, target)],
        ..Commit::default()
    };
    ledger
        .commit(&owner, again)
        .await
        .expect("the timer was there");
    assert_eq!(due_ids(ledger, &owner, 89).await, [] as [&str; 0]);
    assert_eq!(due_ids(ledger, &owner, 90).await, ["t"]);
}

async fn unknown_partitions_are_refused(ledger: &dyn Ledger) {
    create(ledger, "a", 1).await;
    let owner = own(ledger, "a", 0).await;
    for missing in [partition("a", 1), partition("a", -1), partition("none", 0)] {
        let unknown = |refused: Result<(), Error>| {
            assert_eq!(refused, Err(Error::UnknownPartition(missing.clone())));
        };
        unknown(ledger.own(missing.clone()).await.map(drop));
        unknown(ledger.follow(missing.clone(), 0, 1).await.map(drop));
        let records = vec![(missing.clone(), record("x"))];
        let commit = Commit {
            records,
            ..Commit::default()
        };
        unknown(ledger.commit(&owner, commit).await.map(drop));
        let timers = vec![timer("t", 1, missing.clone())];
        let commit = Commit {
            timers,
            ..Commit::default()
        };
        unknown(ledger.commit(&owner, commit).await.map(drop));
    }
    assert_eq!(due_ids(ledger, &owner, 9).await, [] as [&str; 0]);
}
