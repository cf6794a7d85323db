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
