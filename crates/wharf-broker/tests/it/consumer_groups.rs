//! Groups of the consumer protocol over the log: what survives, and what waits for the disk.

use std::time::Duration;

use wharf_broker::group::{
    CommitCall, CommitOffset, ConsumerHeartbeat, ConsumerHeartbeatAnswer, Member,
};
use wharf_broker::{ConfigChange, ConfigOperation, Error, ErrorKind, Options, TopicRef};

use super::support::{Running, World, client};

pub(super) const SECOND: Duration = Duration::from_secs(1);
const SESSION: Duration = Duration::from_secs(45);
const HOUR_MS: i64 = 3_600_000;

/// A first heartbeat of a member that subscribes to the topic `orders`.
pub(super) fn join(group: &str, member: &str) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        group: group.to_owned(),
        member: member.to_owned(),
        brings_id: true,
        rebalance_timeout: Some(SECOND * 60),
        topics: Some(vec!["orders".to_owned()]),
        owned: Some(Vec::new()),
        ..ConsumerHeartbeat::default()
    }
}

pub(super) fn beat(group: &str, member: &str, epoch: i32) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        group: group.to_owned(),
        member: member.to_owned(),
        brings_id: true,
        epoch,
        ..ConsumerHeartbeat::default()
    }
}

type Beating = Running<Result<ConsumerHeartbeatAnswer, Error>>;

fn start(world: &World, heartbeat: ConsumerHeartbeat) -> Beating {
    let broker = world.broker.clone();
    world.start(async move { broker.consumer_heartbeat(&client(), heartbeat).await })
}

fn send(world: &World, heartbeat: ConsumerHeartbeat) -> Result<ConsumerHeartbeatAnswer, Error> {
    world.finish(&start(world, heartbeat))
}

#[track_caller]
pub(super) fn ok(world: &World, heartbeat: ConsumerHeartbeat) -> ConsumerHeartbeatAnswer {
    send(world, heartbeat).unwrap()
}

pub(super) fn refused(world: &World, heartbeat: ConsumerHeartbeat) -> ErrorKind {
    send(world, heartbeat).unwrap_err().kind
}

/// What the member reads of `orders`, told with its heartbeat.
fn owning(world: &World, heartbeat: ConsumerHeartbeat, indexes: &[i32]) -> ConsumerHeartbeat {
    let topic = world.broker.topic(&TopicRef::Name("orders".to_owned()));
    let id = topic.unwrap().id;
    ConsumerHeartbeat {
        owned: Some(vec![(id, indexes.to_vec())]),
        ..heartbeat
    }
}

pub(super) fn indexes(answer: &ConsumerHeartbeatAnswer) -> Vec<i32> {
    let topics = answer.assignment.iter().flatten();
    topics.flat_map(|(_, indexes)| indexes.clone()).collect()
}

fn state(world: &World, group: &str) -> &'static str {
    let listed = world.broker.list_groups(&client());
    let found = listed.into_iter().find(|listed| listed.group == group);
    found.map_or("none", |listed| listed.state)
}

pub(super) fn kind_of(world: &World, group: &str) -> &'static str {
    let listed = world.broker.list_groups(&client());
    let found = listed.into_iter().find(|listed| listed.group == group);
    found.map_or("none", |listed| listed.group_type)
}

pub(super) fn commit(world: &World, member: &Member, call: CommitCall) -> Option<ErrorKind> {
    let (broker, member) = (world.broker.clone(), member.clone());
    let offset = CommitOffset {
        topic: TopicRef::Name("orders".to_owned()),
        partition: 0,
        offset: 7,
        leader_epoch: 0,
        metadata: None,
        retention: None,
    };
    let result = world.run(async move {
        let cx = client();
        broker
            .commit_offsets(&cx, &member, call, vec![offset])
            .await
    });
    match result {
        Ok(results) => results
            .into_iter()
            .find_map(Result::err)
            .map(|error| error.kind),
        Err(error) => Some(error.kind),
    }
}

pub(super) fn caller(group: &str, member: &str, generation: i32) -> Member {
    Member {
        group: group.to_owned(),
        generation,
        member: member.to_owned(),
        instance: None,
    }
}

pub(super) fn orders(world: &World, partitions: i32) {
    world.topic("orders", partitions, &[]);
}

#[test]
fn a_heartbeat_that_changes_something_is_answered_after_the_sync_and_others_at_once() {
    let world = World::new();
    orders(&world, 2);
    world.hold_commits(true);
    let first = start(&world, join("g", "a"));
    world.settle();
    assert!(!first.is_done());
    let second = start(&world, beat("g", "a", 1));
    world.settle();
    assert!(!second.is_done(), "it would tell what is not stored yet");
    world.hold_commits(false);
    assert_eq!(indexes(&world.finish(&first).unwrap()), [0, 1]);
    assert_eq!(world.finish(&second).unwrap().assignment, None);
    world.hold_commits(true);
    let nothing_new = start(&world, beat("g", "a", 1));
    world.settle();
    assert!(nothing_new.is_done(), "it writes nothing");
}

#[test]
fn members_and_their_partitions_survive_the_loss_of_power() {
    let world = World::new();
    orders(&world, 4);
    ok(&world, join("g", "a"));
    ok(&world, join("g", "b"));
    assert_eq!(indexes(&ok(&world, beat("g", "a", 1))), [0, 1]);
    let world = world.lose_power();
    assert_eq!(
        ok(&world, beat("g", "b", 2)).assignment,
        None,
        "the other may still read"
    );
    let a = owning(&world, beat("g", "a", 1), &[0, 1]);
    assert_eq!(ok(&world, a).epoch, 2);
    let world = world.lose_power();
    assert_eq!(indexes(&ok(&world, beat("g", "b", 2))), [2, 3]);
    assert_eq!(state(&world, "g"), "Stable");
    world.advance(SESSION);
    assert_eq!(
        state(&world, "g"),
        "Empty",
        "the dead are removed after a restart as well"
    );
}

/// Whatever answer a crash lets out, the group after it knows it.
#[test]
fn no_answered_epoch_is_forgotten_whenever_the_power_fails() {
    for steps in 0..4 {
        let world = World::new();
        orders(&world, 3);
        ok(&world, join("g", "a"));
        let beats = [
            join("g", "b"),
            beat("g", "a", 1),
            owning(&world, beat("g", "a", 1), &[0, 1]),
            beat("g", "b", 2),
        ];
        for heartbeat in beats.iter().take(steps) {
            ok(&world, heartbeat.clone());
        }
        world.hold_commits(true);
        let unanswered = beats
            .get(steps)
            .map(|heartbeat| start(&world, heartbeat.clone()));
        world.settle();
        drop(unanswered);
        let world = world.lose_power();
        let group = world
            .broker
            .describe_consumer_group(&client(), "g")
            .unwrap();
        let epochs: Vec<i32> = group.members.iter().map(|member| member.epoch).collect();
        let wanted = match steps {
            0 => vec![1],
            1 | 2 => vec![1, 2],
            _ => vec![2, 2],
        };
        assert_eq!(epochs, wanted, "after {steps} steps");
    }
}

#[test]
fn what_the_log_refused_is_told_to_nobody() {
    let world = World::new();
    orders(&world, 1);
    ok(&world, join("g", "a"));
    world.close_log();
    assert_eq!(refused(&world, join("g", "b")), ErrorKind::NotCoordinator);
    assert_eq!(
        refused(&world, beat("g", "a", 1)),
        ErrorKind::NotCoordinator,
        "epoch 2 is not there"
    );
    let world = world.restart();
    assert_eq!(ok(&world, beat("g", "a", 1)).epoch, 1);
    assert_eq!(
        refused(&world, beat("g", "b", 2)),
        ErrorKind::UnknownMemberId
    );
}

#[test]
fn a_clock_that_jumps_neither_evicts_members_nor_keeps_dead_ones_of_the_consumer_protocol() {
    for jump in [HOUR_MS, -HOUR_MS] {
        let world = World::new();
        orders(&world, 1);
        ok(&world, join("g", "a"));
        world.jump_clock(jump);
        world.advance(SESSION - SECOND);
        ok(&world, beat("g", "a", 1));
        world.jump_clock(-jump);
        world.advance(SESSION + SECOND);
        assert_eq!(state(&world, "g"), "Empty", "{jump}");
    }
}

#[test]
fn a_topic_that_grows_reaches_members_with_their_next_heartbeat() {
    let world = World::new();
    orders(&world, 1);
    ok(&world, join("g", "a"));
    let broker = world.broker.clone();
    world
        .run(async move {
            broker
                .create_partitions(&client(), "orders", 3, false)
                .await
        })
        .unwrap();
    let world = world.restart();
    assert_eq!(indexes(&ok(&world, beat("g", "a", 1))), [0, 1, 2]);
}

#[test]
fn offsets_are_committed_in_the_members_epoch_and_kept_with_the_group() {
    let world = World::new();
    orders(&world, 1);
    let nobody = caller("none", "a", 3);
    assert_eq!(
        commit(&world, &nobody, CommitCall::New),
        Some(ErrorKind::GroupIdNotFound)
    );
    assert_eq!(
        commit(&world, &nobody, CommitCall::Old),
        Some(ErrorKind::IllegalGeneration)
    );
    ok(&world, join("g", "a"));
    assert_eq!(commit(&world, &caller("g", "a", 1), CommitCall::New), None);
    assert_eq!(
        commit(&world, &caller("g", "a", 0), CommitCall::New),
        Some(ErrorKind::StaleMemberEpoch)
    );
    assert_eq!(
        commit(&world, &caller("g", "a", 1), CommitCall::Old),
        Some(ErrorKind::UnsupportedVersion)
    );
    let world = world.lose_power();
    let fetch = |member: Member| {
        let found = world
            .broker
            .committed_offsets(&client(), "g", Some(&member), None);
        found.map(|found| found.len()).map_err(|error| error.kind)
    };
    assert_eq!(fetch(caller("g", "a", 1)), Ok(1));
    assert_eq!(fetch(caller("g", "a", 2)), Err(ErrorKind::StaleMemberEpoch));
    assert_eq!(fetch(caller("g", "b", 1)), Err(ErrorKind::UnknownMemberId));
}

#[test]
fn only_an_empty_group_of_the_consumer_protocol_can_be_deleted_and_nothing_of_it_is_left() {
    let world = World::new();
    orders(&world, 1);
    let delete = |world: &World| {
        let broker = world.broker.clone();
        let deleted = world.run(async move { broker.delete_group(&client(), "g").await });
        deleted.map_err(|error| error.kind)
    };
    ok(&world, join("g", "a"));
    commit(&world, &caller("g", "a", 1), CommitCall::New);
    assert_eq!(delete(&world), Err(ErrorKind::NonEmptyGroup));
    ok(&world, beat("g", "a", -1));
    assert_eq!(delete(&world), Ok(()));
    let world = world.restart();
    assert_eq!(state(&world, "g"), "none");
    assert_eq!(ok(&world, join("g", "a")).epoch, 1);
}

#[test]
fn a_group_may_have_a_session_time_out_and_an_interval_of_its_own() {
    let world = World::new();
    orders(&world, 1);
    let set = |world: &World, name: &str, value: Option<&str>| {
        let change = ConfigChange {
            name: name.to_owned(),
            operation: match value {
                Some(_) => ConfigOperation::Set,
                None => ConfigOperation::Delete,
            },
            value: value.map(str::to_owned),
        };
        let broker = world.broker.clone();
        let changed = world.run(async move {
            let cx = client();
            broker
                .alter_group_config(&cx, "g", vec![change], false, false)
                .await
        });
        changed.map_err(|error| error.kind)
    };
    assert_eq!(
        set(&world, "consumer.session.timeout.ms", Some("60000")),
        Ok(())
    );
    assert_eq!(
        set(&world, "consumer.heartbeat.interval.ms", Some("7000")),
        Ok(())
    );
    for (name, value) in [
        ("consumer.session.timeout.ms", "1000"),
        ("consumer.session.timeout.ms", "60001"),
        ("consumer.heartbeat.interval.ms", "soon"),
        ("retention.ms", "1"),
    ] {
        assert_eq!(
            set(&world, name, Some(value)),
            Err(ErrorKind::InvalidConfig),
            "{name}"
        );
    }
    let world = world.lose_power();
    assert_eq!(ok(&world, join("g", "a")).interval, SECOND * 7);
    world.advance(SECOND * 59);
    assert_eq!(state(&world, "g"), "Stable");
    assert_eq!(set(&world, "consumer.session.timeout.ms", None), Ok(()));
    let described = world.broker.describe_group_config(&client(), "g");
    let values: Vec<_> = described
        .iter()
        .map(|entry| entry.value.clone().unwrap())
        .collect();
    assert_eq!(values, ["7000", "45000"]);
    ok(&world, beat("g", "a", 1));
    world.advance(SESSION + SECOND);
    assert_eq!(state(&world, "g"), "Empty");
}

#[test]
fn a_bounded_number_of_groups_have_settings_of_their_own() {
    let world = World::with(Options {
        groups_max: 1,
        ..Options::default()
    });
    let set = |group: &'static str| {
        let change = ConfigChange {
            name: "consumer.session.timeout.ms".to_owned(),
            operation: ConfigOperation::Set,
            value: Some("50000".to_owned()),
        };
        let broker = world.broker.clone();
        let changed = world.run(async move {
            let cx = client();
            broker
                .alter_group_config(&cx, group, vec![change], false, false)
                .await
        });
        changed.map_err(|error| error.kind)
    };
    assert_eq!(set("g"), Ok(()));
    assert_eq!(set("h"), Err(ErrorKind::PolicyViolation));
    assert_eq!(set("g"), Ok(()));
}
