//! Groups over the log: waiting calls, time, and what survives the loss of power. What they commit is
//! in [`super::group_offsets`].

use std::time::Duration;

use bytes::Bytes;
use wharf_broker::group::{
    CommitCall, CommitOffset, CommittedOffset, Join, JoinRefused, Joined, Leaving, Member, Sync,
    Synced,
};
use wharf_broker::{Error, ErrorKind, Options, TopicRef};

use super::support::{Running, World, client};

pub(super) const SESSION: Duration = Duration::from_secs(10);
pub(super) const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The metadata of a consumer that subscribes to one topic.
fn subscription(topic: &str) -> Bytes {
    let mut metadata = vec![0, 0, 0, 0, 0, 1, 0, u8::try_from(topic.len()).unwrap()];
    metadata.extend_from_slice(topic.as_bytes());
    metadata.extend_from_slice(&(-1_i32).to_be_bytes());
    metadata.into()
}

fn join(group: &str, member: &str) -> Join {
    Join {
        group: group.to_owned(),
        member: member.to_owned(),
        instance: None,
        session_timeout: SESSION,
        rebalance_timeout: SESSION * 3,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), subscription("orders"))],
        member_id_required: false,
        skip_assignment_supported: false,
        reason: String::new(),
    }
}

pub(super) fn simple(group: &str) -> Member {
    Member {
        group: group.to_owned(),
        generation: -1,
        member: String::new(),
        instance: None,
    }
}

pub(super) fn member(group: &str, joined: &Joined) -> Member {
    Member {
        group: group.to_owned(),
        generation: joined.generation,
        member: joined.member.clone(),
        instance: None,
    }
}

pub(super) fn offset(topic: &str, partition: i32, offset: i64) -> CommitOffset {
    CommitOffset {
        topic: TopicRef::Name(topic.to_owned()),
        partition,
        offset,
        leader_epoch: 3,
        metadata: Some("näme".to_owned()),
        retention: None,
    }
}

pub(super) fn leaving(member: &str) -> Leaving {
    Leaving {
        member: member.to_owned(),
        instance: None,
        reason: String::new(),
    }
}

type Joining = Running<Result<Joined, JoinRefused>>;
pub(super) type Results = Vec<Result<(), Error>>;

fn start_join(world: &World, join: Join) -> Joining {
    let broker = world.broker.clone();
    world.start(async move { broker.join_group(&client(), join).await })
}

/// A sync; with assignments for all members when the joined one leads.
fn start_sync(world: &World, joined: &Joined) -> Running<Result<Synced, Error>> {
    let assigned = |id: &String| (id.clone(), Bytes::from(format!("for {id}")));
    let sync = Sync {
        group: "g".to_owned(),
        generation: joined.generation,
        member: joined.member.clone(),
        instance: None,
        protocol_type: None,
        protocol: None,
        assignments: joined
            .members
            .iter()
            .map(|(id, _, _)| assigned(id))
            .collect(),
    };
    let broker = world.broker.clone();
    world.start(async move { broker.sync_group(&client(), sync).await })
}

/// A stable group `g` of one member.
pub(super) fn one_member(world: &World) -> Joined {
    one_member_of(world, SESSION)
}

pub(super) fn one_member_of(world: &World, session_timeout: Duration) -> Joined {
    let join = Join {
        session_timeout,
        ..join("g", "")
    };
    let joined = world.finish(&start_join(world, join)).unwrap();
    world.finish(&start_sync(world, &joined)).unwrap();
    joined
}

pub(super) fn start_commit(
    world: &World,
    member: &Member,
    offsets: Vec<CommitOffset>,
) -> Running<Result<Results, Error>> {
    let (broker, member) = (world.broker.clone(), member.clone());
    world.start(async move {
        broker
            .commit_offsets(&client(), &member, CommitCall::New, offsets)
            .await
    })
}

pub(super) fn commit(
    world: &World,
    member: &Member,
    offsets: Vec<CommitOffset>,
) -> Result<Results, Error> {
    world.finish(&start_commit(world, member, offsets))
}

/// The offset committed for a partition, or -1.
pub(super) fn committed(
    world: &World,
    group: &str,
    topic: &str,
    partition: i32,
) -> CommittedOffset {
    let asked = [(TopicRef::Name(topic.to_owned()), partition)];
    let found = world
        .broker
        .committed_offsets(&client(), group, None, Some(&asked))
        .unwrap();
    found.into_iter().next().unwrap().unwrap()
}

pub(super) fn kind<T>(result: Result<T, Error>) -> ErrorKind {
    result.err().map(|error| error.kind).expect("a refusal")
}

pub(super) fn kinds(results: Results) -> Vec<Option<ErrorKind>> {
    results
        .into_iter()
        .map(|result| result.err().map(|error| error.kind))
        .collect()
}

pub(super) fn state(world: &World, group: &str) -> &'static str {
    world.broker.describe_group(&client(), group).unwrap().state
}

fn delete_group(world: &World, group: &'static str) -> Result<(), Error> {
    let broker = world.broker.clone();
    world.run(async move { broker.delete_group(&client(), group).await })
}

#[test]
fn members_that_join_together_share_one_generation_and_each_gets_its_assignment() {
    let world = World::new();
    let joins = [
        start_join(&world, join("g", "")),
        start_join(&world, join("g", "")),
    ];
    let joined = joins.map(|join| world.finish(&join).unwrap());
    assert_eq!(
        joined
            .iter()
            .filter(|joined| !joined.members.is_empty())
            .count(),
        1
    );
    assert_eq!(joined[0].generation, joined[1].generation);
    let syncs = joined.clone().map(|joined| start_sync(&world, &joined));
    for (sync, joined) in syncs.iter().zip(&joined) {
        let synced = world.finish(sync).unwrap();
        assert_eq!(synced.assignment, format!("for {}", joined.member));
        world
            .broker
            .heartbeat(&client(), &member("g", joined))
            .unwrap();
    }
    let description = world.broker.describe_group(&client(), "g").unwrap();
    assert_eq!(
        (description.state, description.protocol.as_str()),
        ("Stable", "range")
    );
    assert_eq!(description.members.len(), 2);
    assert_eq!(description.members[0].client_host, "/127.0.0.1");
    let listed = world.broker.list_groups(&client());
    assert_eq!(
        (listed.len(), listed[0].protocol_type.as_str()),
        (1, "consumer")
    );
    assert_eq!(world.broker.group_counts().members, 2);
}

#[test]
fn a_call_must_name_a_group_and_a_session_within_the_limits() {
    let world = World::new();
    let refused = |join: Join| {
        world
            .finish(&start_join(&world, join))
            .unwrap_err()
            .error
            .kind
    };
    assert_eq!(refused(join("", "")), ErrorKind::InvalidGroupId);
    assert_eq!(
        refused(join(&"g".repeat(5000), "")),
        ErrorKind::InvalidGroupId
    );
    let session = |session_timeout| Join {
        session_timeout,
        ..join("g", "")
    };
    assert_eq!(
        refused(session(Duration::from_secs(1))),
        ErrorKind::InvalidSessionTimeout
    );
    assert_eq!(refused(session(DAY)), ErrorKind::InvalidSessionTimeout);
    assert_eq!(refused(join("g", "unknown")), ErrorKind::UnknownMemberId);
    assert_eq!(
        kind(world.broker.heartbeat(&client(), &simple(""))),
        ErrorKind::InvalidGroupId
    );
    assert_eq!(
        kind(world.broker.heartbeat(&client(), &simple("g"))),
        ErrorKind::UnknownMemberId
    );
    let left = world
        .broker
        .leave_group(&client(), "g", vec![leaving("m")])
        .unwrap();
    assert_eq!(kinds(left), [Some(ErrorKind::UnknownMemberId)]);
    let described = world.broker.describe_group(&client(), "g");
    assert_eq!(kind(described), ErrorKind::GroupIdNotFound);
    assert!(
        world.broker.list_groups(&client()).is_empty(),
        "refused calls leave no group behind"
    );
}

#[test]
fn a_join_that_is_dropped_leaves_the_group_in_order() {
    let world = World::new();
    let dropped = start_join(&world, join("g", ""));
    world.settle();
    drop(dropped);
    let joined = world.finish(&start_join(&world, join("g", ""))).unwrap();
    let sync = start_sync(&world, &joined);
    // The lost member may lead; its place is cleared when it does not sync, and others go on.
    world.advance(SESSION * 12);
    assert!(sync.is_done());
    assert!(
        world
            .broker
            .list_groups(&client())
            .iter()
            .all(|group| group.state == "Empty")
    );
}

/// No group is left, nothing waits for one, and none comes back with a restart.
pub(crate) fn groups_are_forgotten(world: World) {
    assert!(world.broker.list_groups(&client()).is_empty());
    assert!(
        !world.runtime.has_timers(),
        "an idle node waits for nothing"
    );
    let world = world.restart();
    assert!(world.broker.list_groups(&client()).is_empty());
}

#[test]
fn the_last_member_that_falls_silent_leaves_an_empty_group_that_is_forgotten_later() {
    let world = World::new();
    one_member(&world);
    world.advance(SESSION - Duration::from_secs(1));
    assert_eq!(state(&world, "g"), "Stable");
    world.advance(Duration::from_secs(1));
    assert_eq!(state(&world, "g"), "Empty");
    world.advance(Duration::from_secs(10 * 60));
    groups_are_forgotten(world);
}

#[test]
fn members_go_on_after_a_restart_without_a_rebalance() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    let joined = one_member(&world);
    let world = world.lose_power();
    let own = member("g", &joined);
    world.broker.heartbeat(&client(), &own).unwrap();
    assert_eq!(
        kinds(commit(&world, &own, vec![offset("orders", 0, 5)]).unwrap()),
        [None]
    );
    let synced = world.finish(&start_sync(&world, &joined)).unwrap();
    assert_eq!(synced.assignment, format!("for {}", joined.member));
    let rejoined = world
        .finish(&start_join(&world, join("g", &joined.member)))
        .unwrap();
    assert_eq!(rejoined.generation, joined.generation + 1);
}

#[test]
fn a_generation_is_not_used_again_after_a_restart() {
    let mut world = World::new();
    let mut generation = 0;
    for _ in 0..3 {
        let joined = one_member(&world);
        assert!(
            joined.generation > generation,
            "{} after {generation}",
            joined.generation
        );
        generation = joined.generation;
        let left = world
            .broker
            .leave_group(&client(), "g", vec![leaving(&joined.member)]);
        assert_eq!(kinds(left.unwrap()), [None]);
        world.settle();
        world = world.lose_power();
        assert_eq!(state(&world, "g"), "Empty");
    }
}

#[test]
fn only_an_empty_group_can_be_deleted_and_its_offsets_go_with_it() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    let joined = one_member(&world);
    let own = member("g", &joined);
    commit(&world, &own, vec![offset("orders", 0, 5)]).unwrap();
    assert_eq!(kind(delete_group(&world, "g")), ErrorKind::NonEmptyGroup);
    world
        .broker
        .leave_group(&client(), "g", vec![leaving(&joined.member)])
        .unwrap();
    delete_group(&world, "g").unwrap();
    assert_eq!(kind(delete_group(&world, "g")), ErrorKind::GroupIdNotFound);
    assert_eq!(committed(&world, "g", "orders", 0).offset, -1);
    let world = world.restart();
    assert!(world.broker.list_groups(&client()).is_empty());
    assert_eq!(committed(&world, "g", "orders", 0).offset, -1);
}

#[test]
fn a_group_on_its_way_out_answers_nobody() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    commit(&world, &simple("g"), vec![offset("orders", 0, 5)]).unwrap();
    world.hold_commits(true);
    let broker = world.broker.clone();
    let deleting = world.start(async move { broker.delete_group(&client(), "g").await });
    world.settle();
    let again = start_commit(&world, &simple("g"), vec![offset("orders", 0, 6)]);
    assert_eq!(
        kind(world.finish(&again)),
        ErrorKind::CoordinatorNotAvailable
    );
    world.hold_commits(false);
    world.finish(&deleting).unwrap();
    commit(&world, &simple("g"), vec![offset("orders", 0, 6)]).unwrap();
    let world = world.restart();
    assert_eq!(committed(&world, "g", "orders", 0).offset, 6);
}

#[test]
fn a_node_holds_a_bounded_number_of_groups() {
    let world = World::with(Options {
        groups_max: 1,
        ..Options::default()
    });
    world.topic("orders", 1, &[]);
    let one = || vec![offset("orders", 0, 5)];
    commit(&world, &simple("a"), one()).unwrap();
    assert_eq!(
        kind(commit(&world, &simple("b"), one())),
        ErrorKind::PolicyViolation
    );
    let refused = world
        .finish(&start_join(&world, join("b", "")))
        .unwrap_err();
    assert_eq!(refused.error.kind, ErrorKind::PolicyViolation);
    delete_group(&world, "a").unwrap();
    commit(&world, &simple("b"), one()).unwrap();
}

#[test]
fn a_closed_log_refuses_assignments_and_offsets_without_blocking_anybody() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    let joined = world.finish(&start_join(&world, join("g", ""))).unwrap();
    world.close_log();
    let sync = start_sync(&world, &joined);
    assert_eq!(kind(world.finish(&sync)), ErrorKind::NotCoordinator);
    let one = vec![offset("orders", 0, 5)];
    assert_eq!(
        kind(commit(&world, &simple("h"), one)),
        ErrorKind::NotCoordinator
    );
    assert_eq!(state(&world, "g"), "PreparingRebalance");
}
