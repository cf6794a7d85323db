//! Offsets that transactions commit: they count with the transaction, and what else may happen to them.

use super::*;

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
                one.add_group(&world, "g").unwrap();
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
fn of_two_open_transactions_the_offset_that_was_asked_for_last_counts_whichever_ends_last() {
    // When the node restarts: not at all, before the first end, between the ends.
    for restart in 0..3 {
        let mut world = world();
        // Its producer id is the lower one: ids do not decide.
        let mut next = Client::start(&world, "next", IMPLICIT);
        let mut late = Client::start(&world, "late", IMPLICIT);
        late.commit_offset(&world, "g", 5).unwrap();
        world.advance(Duration::from_millis(1));
        next.commit_offset(&world, "g", 9).unwrap();
        if restart == 1 {
            world = world.lose_power();
        }
        next.end(&world, true).unwrap();
        assert_eq!(committed(&world, "g"), (9, true), "still one is open");
        if restart == 2 {
            world = world.lose_power();
        }
        late.end(&world, true).unwrap();
        assert_eq!(committed(&world, "g"), (9, false), "restart {restart}");
        let world = world.lose_power();
        assert_eq!(committed(&world, "g"), (9, false));
    }
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
fn a_transaction_takes_no_more_offsets_than_its_end_can_commit() {
    let small = wharf_log::Options {
        journal_file_bytes: 128 << 10,
        ..wharf_log::Options::default()
    };
    let world = World::with_log(Options::default(), small);
    world.topic("orders", 4, &[]);
    let mut one = Client::start(&world, "one", IMPLICIT);
    let group = |number: usize| -> &'static str { ["g0", "g1", "g2", "g3", "g4", "g5"][number] };
    let refused = (0..6).find_map(|number| {
        let (broker, caller) = (world.broker.clone(), one.caller());
        let large = (0..4).map(|partition| CommitOffset {
            partition,
            metadata: Some("x".repeat(1000)),
            ..offset(7)
        });
        let (member, offsets) = (simple(group(number)), large.collect());
        let committed = world.run(async move {
            broker
                .commit_offsets_in_transaction(&client(), &caller, IMPLICIT, &member, offsets)
                .await
        });
        committed.err().map(|error| (number, error.kind))
    });
    let (first_refused, kind) = refused.unwrap();
    assert_eq!(kind, ErrorKind::InvalidCommitOffsetSize);
    assert!(first_refused > 0);
    one.end(&world, true).unwrap();
    for number in 0..6 {
        let expected = if number < first_refused { 7 } else { -1 };
        assert_eq!(committed(&world, group(number)), (expected, false));
    }
}
