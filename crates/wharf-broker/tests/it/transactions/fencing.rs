//! Who may act for a transactional id, and who not any more.

use super::*;

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
