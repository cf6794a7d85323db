//! Groups on their way from the classic to the consumer protocol and back, with members that read.

use bytes::Bytes;
use wharf_broker::group::{CommitCall, Join, JoinRefused, Joined, Leaving, MigrationPolicy, Sync};
use wharf_broker::{Error, ErrorKind, Options};

use super::consumer_groups::{
    SECOND, beat, caller, commit, indexes, join, kind_of, ok, orders, refused,
};
use super::support::{Running, World, client};

/// A classic consumer of `orders` that gives everything up before it joins.
fn classic(member: &str) -> Join {
    let mut metadata = vec![0, 0, 0, 0, 0, 1, 0, 6];
    metadata.extend_from_slice(b"orders");
    metadata.extend_from_slice(&(-1_i32).to_be_bytes());
    Join {
        group: "g".to_owned(),
        member: member.to_owned(),
        instance: None,
        session_timeout: SECOND * 10,
        rebalance_timeout: SECOND * 30,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), metadata.into())],
        member_id_required: false,
        skip_assignment_supported: false,
        reason: String::new(),
    }
}

fn start_classic(world: &World, join: Join) -> Running<Result<Joined, JoinRefused>> {
    let broker = world.broker.clone();
    world.start(async move { broker.join_group(&client(), join).await })
}

/// An assignment of partitions of `orders` as a classic leader writes it.
fn assignment(indexes: &[i32]) -> Bytes {
    let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, 6];
    bytes.extend_from_slice(b"orders");
    for number in [&[i32::try_from(indexes.len()).unwrap()], indexes, &[-1]].concat() {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.into()
}

fn sync(world: &World, joined: &Joined, assignments: Vec<(String, Bytes)>) -> Result<Bytes, Error> {
    let sync = Sync {
        group: "g".to_owned(),
        generation: joined.generation,
        member: joined.member.clone(),
        instance: None,
        protocol_type: None,
        protocol: None,
        assignments,
    };
    let broker = world.broker.clone();
    let synced = world.run(async move { broker.sync_group(&client(), sync).await })?;
    Ok(synced.assignment)
}

/// A stable classic group of one member that reads three partitions.
fn classic_group(world: &World) -> Joined {
    orders(world, 3);
    let joined = world.finish(&start_classic(world, classic(""))).unwrap();
    let own = (joined.member.clone(), assignment(&[0, 1, 2]));
    sync(world, &joined, vec![own]).unwrap();
    joined
}

fn classic_beat(world: &World, joined: &Joined) -> Option<ErrorKind> {
    let member = caller("g", &joined.member, joined.generation);
    world
        .broker
        .heartbeat(&client(), &member)
        .err()
        .map(|error| error.kind)
}

#[test]
fn a_classic_group_is_upgraded_and_downgraded_while_its_members_read() {
    let world = World::new();
    let old = classic_group(&world);
    let new = ok(&world, join("g", "new"));
    assert_eq!((new.epoch, indexes(&new)), (old.generation + 1, vec![]));
    assert_eq!(kind_of(&world, "g"), "consumer");
    assert_eq!(
        classic_beat(&world, &old),
        Some(ErrorKind::RebalanceInProgress)
    );
    let world = world.lose_power();
    assert_eq!(
        classic_beat(&world, &old),
        Some(ErrorKind::RebalanceInProgress)
    );
    let again = world
        .finish(&start_classic(&world, classic(&old.member)))
        .unwrap();
    assert_eq!((again.generation, again.leader.as_str()), (new.epoch, ""));
    assert_eq!(
        sync(&world, &again, Vec::new()).unwrap(),
        assignment(&[0, 1])
    );
    assert_eq!(indexes(&ok(&world, beat("g", "new", new.epoch))), [2]);
    assert_eq!(classic_beat(&world, &again), None);
    assert_eq!(
        commit(
            &world,
            &caller("g", &again.member, again.generation),
            CommitCall::Old
        ),
        None
    );

    ok(&world, beat("g", "new", -1));
    assert_eq!(kind_of(&world, "g"), "classic");
    assert_eq!(
        classic_beat(&world, &again),
        Some(ErrorKind::RebalanceInProgress)
    );
    let world = world.lose_power();
    assert_eq!(kind_of(&world, "g"), "classic");
    let alone = world
        .finish(&start_classic(&world, classic(&old.member)))
        .unwrap();
    assert_eq!(alone.leader, alone.member);
    assert!(alone.generation > again.generation);
}

#[test]
fn a_join_that_waits_when_the_group_is_upgraded_is_asked_to_come_again() {
    let world = World::new();
    let old = classic_group(&world);
    let waiting = start_classic(&world, classic(""));
    world.settle();
    assert!(!waiting.is_done());
    ok(&world, join("g", "new"));
    let refused = world.finish(&waiting).unwrap_err();
    assert_eq!(refused.error.kind, ErrorKind::RebalanceInProgress);
    assert_eq!(
        classic_beat(&world, &old),
        Some(ErrorKind::RebalanceInProgress)
    );
}

#[test]
fn empty_groups_go_over_to_whatever_protocol_comes() {
    let world = World::with(Options {
        consumer_migration_policy: MigrationPolicy::Disabled,
        ..Options::default()
    });
    let old = classic_group(&world);
    assert_eq!(
        refused(&world, join("g", "new")),
        ErrorKind::GroupIdNotFound
    );
    let leaving = Leaving {
        member: old.member,
        instance: None,
        reason: String::new(),
    };
    world
        .broker
        .leave_group(&client(), "g", vec![leaving])
        .unwrap();
    assert_eq!(ok(&world, join("g", "new")).epoch, 1);
    assert_eq!(kind_of(&world, "g"), "consumer");
    let world = world.restart();
    ok(&world, beat("g", "new", -1));
    let joined = world.finish(&start_classic(&world, classic(""))).unwrap();
    assert_eq!(joined.leader, joined.member);
    assert_eq!(kind_of(&world, "g"), "classic");
    let world = world.restart();
    assert_eq!(kind_of(&world, "g"), "classic");
}

#[test]
fn a_group_that_may_not_be_downgraded_serves_its_classic_members_on() {
    let world = World::with(Options {
        consumer_migration_policy: MigrationPolicy::Upgrade,
        ..Options::default()
    });
    let old = classic_group(&world);
    ok(&world, join("g", "new"));
    ok(&world, beat("g", "new", -1));
    assert_eq!(kind_of(&world, "g"), "consumer");
    let again = world
        .finish(&start_classic(&world, classic(&old.member)))
        .unwrap();
    assert_eq!(
        sync(&world, &again, Vec::new()).unwrap(),
        assignment(&[0, 1, 2])
    );
}

#[test]
fn a_group_is_described_by_the_request_of_its_protocol_only() {
    let world = World::new();
    classic_group(&world);
    ok(&world, join("h", "a"));
    let (broker, cx) = (&world.broker, client());
    assert!(broker.describe_group(&cx, "g").is_ok());
    assert!(broker.describe_consumer_group(&cx, "h").is_ok());
    let kind = |error: Error| error.kind;
    let other = broker.describe_group(&cx, "h").map(|_| ()).map_err(kind);
    assert_eq!(other, Err(ErrorKind::GroupIdNotFound));
    let other = broker
        .describe_consumer_group(&cx, "g")
        .map(|_| ())
        .map_err(kind);
    assert_eq!(other, Err(ErrorKind::GroupIdNotFound));
    assert_eq!(
        refused(&world, beat("none", "a", 1)),
        ErrorKind::GroupIdNotFound
    );
    assert_eq!(
        refused(&world, beat("g", "a", 1)),
        ErrorKind::GroupIdNotFound
    );
}
