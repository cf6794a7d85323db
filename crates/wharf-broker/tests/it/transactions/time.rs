//! What time does to transactions and their ids, and what the node's limits are.

use super::*;

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
fn a_transaction_is_described_with_its_start_until_another_begins_also_after_a_restart() {
    let second = Duration::from_secs(1);
    let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap();
    for commits in [true, false] {
        let mut world = world();
        let start = |world: &World| {
            let described = world.broker.describe_transaction(&client(), "one").unwrap();
            described.started_at
        };
        let mut one = Client::start(&world, "one", IMPLICIT);
        assert_eq!(start(&world), None, "nothing began");
        world.advance(second);
        one.write(&world, 0, "a").unwrap();
        let began = start(&world).unwrap();
        assert!(began >= START.as_millis() + millis(second));
        world.advance(second);
        one.end(&world, commits).unwrap();
        assert_eq!(start(&world), Some(began));
        world = world.lose_power();
        assert_eq!(start(&world), Some(began));
        world.advance(second);
        one.end(&world, false).unwrap();
        let nothing = start(&world).unwrap();
        assert!(
            nothing >= began + 2 * millis(second),
            "the end of nothing is its beginning"
        );
        init(&world, "one", None).unwrap();
        assert_eq!(start(&world), None, "a new producer has begun none");
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
