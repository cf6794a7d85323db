//! How transactions end: whole or not at all, for every reader, over power loss.

use super::*;

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
