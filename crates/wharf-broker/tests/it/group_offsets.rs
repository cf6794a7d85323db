//! The offsets of groups: when they are answered, what survives the loss of power, when they go.

use wharf_broker::group::{CommitOffset, CommittedOffset, Member};
use wharf_broker::{Error, ErrorKind, Options, TopicRef};

use super::groups::{
    DAY, HALF_AN_HOUR, Results, commit, committed, groups_are_forgotten, kind, kinds, leaving,
    member, offset, one_member, one_member_of, simple, start_commit,
};
use super::support::{World, client};

fn all_committed(world: &World, group: &str) -> Vec<(String, i32, i64)> {
    let found = world
        .broker
        .committed_offsets(&client(), group, None, None)
        .unwrap();
    let plain = |one: Result<CommittedOffset, Error>| {
        let one = one.unwrap();
        (one.topic, one.partition, one.offset)
    };
    found.into_iter().map(plain).collect()
}

fn delete_offsets(world: &World, topics: &[&str]) -> Result<Results, Error> {
    let partitions = topics
        .iter()
        .map(|topic| ((*topic).to_owned(), 0))
        .collect();
    let broker = world.broker.clone();
    world.run(async move { broker.delete_offsets(&client(), "g", partitions).await })
}

#[test]
fn an_offset_is_answered_and_shown_only_after_the_sync() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    world.hold_commits(true);
    let running = start_commit(&world, &simple("g"), vec![offset("orders", 0, 7)]);
    world.settle();
    assert!(!running.is_done());
    assert_eq!(committed(&world, "g", "orders", 0).offset, -1);
    world.hold_commits(false);
    assert_eq!(kinds(world.finish(&running).unwrap()), [None]);
    assert_eq!(committed(&world, "g", "orders", 0).offset, 7);
}

#[test]
fn an_offset_is_committed_even_if_the_caller_goes_away() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    world.hold_commits(true);
    let running = start_commit(&world, &simple("g"), vec![offset("orders", 0, 7)]);
    world.settle();
    drop(running);
    world.hold_commits(false);
    world.settle();
    assert_eq!(committed(&world, "g", "orders", 0).offset, 7);
}

#[test]
fn committed_offsets_survive_the_loss_of_power_with_everything_that_belongs_to_them() {
    let mut world = World::new();
    let topic = world.topic("orders", 3, &[]);
    for round in 1..=3_i64 {
        let by_id = CommitOffset {
            topic: TopicRef::Id(topic.id),
            ..offset("", 1, round * 10)
        };
        let offsets = vec![offset("orders", 0, round), by_id];
        assert_eq!(
            kinds(commit(&world, &simple("g"), offsets).unwrap()),
            [None, None]
        );
        world = world.lose_power();
        let expected = CommittedOffset {
            topic: "orders".to_owned(),
            topic_id: Some(topic.id),
            partition: 0,
            offset: round,
            leader_epoch: 3,
            metadata: "näme".to_owned(),
            is_unstable: false,
        };
        assert_eq!(committed(&world, "g", "orders", 0), expected);
        let all = [
            ("orders".to_owned(), 0, round),
            ("orders".to_owned(), 1, round * 10),
        ];
        assert_eq!(all_committed(&world, "g"), all);
    }
}

#[test]
fn what_was_not_committed_is_offset_minus_one() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    for (group, topic) in [("nobody", "orders"), ("nobody", "missing")] {
        let found = committed(&world, group, topic, 0);
        assert_eq!(
            (found.offset, found.leader_epoch, found.metadata.as_str()),
            (-1, -1, "")
        );
    }
    assert!(all_committed(&world, "nobody").is_empty());
    let unknown = [(TopicRef::Id(uuid::Uuid::from_u128(1)), 0)];
    let found = world
        .broker
        .committed_offsets(&client(), "g", None, Some(&unknown))
        .unwrap();
    assert_eq!(
        found[0].as_ref().unwrap_err().kind,
        ErrorKind::UnknownTopicId
    );
}

#[test]
fn each_offset_of_a_commit_is_judged_for_itself() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    let long = CommitOffset {
        metadata: Some("m".repeat(5000)),
        ..offset("orders", 0, 1)
    };
    let offsets = vec![
        offset("missing", 0, 1),
        offset("orders", 1, 1),
        long,
        offset("orders", 0, 2),
    ];
    let results = commit(&world, &simple("g"), offsets).unwrap();
    let unknown = Some(ErrorKind::UnknownTopicOrPartition);
    assert_eq!(
        kinds(results),
        [
            unknown,
            unknown,
            Some(ErrorKind::OffsetMetadataTooLarge),
            None
        ]
    );
    assert_eq!(all_committed(&world, "g"), [("orders".to_owned(), 0, 2)]);
}

#[test]
fn a_commit_by_a_stranger_is_refused_as_a_whole() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    let stranger = Member {
        generation: 1,
        member: "m".to_owned(),
        ..simple("g")
    };
    let one = || vec![offset("orders", 0, 1)];
    assert_eq!(
        kind(commit(&world, &stranger, one())),
        ErrorKind::GroupIdNotFound
    );
    let joined = one_member(&world);
    assert_eq!(
        kind(commit(&world, &stranger, one())),
        ErrorKind::UnknownMemberId
    );
    assert_eq!(
        kind(commit(&world, &simple("g"), one())),
        ErrorKind::UnknownMemberId
    );
    let own = member("g", &joined);
    assert_eq!(kinds(commit(&world, &own, one()).unwrap()), [None]);
    let stale = Member {
        generation: 0,
        ..own.clone()
    };
    assert_eq!(
        kind(commit(&world, &stale, one())),
        ErrorKind::IllegalGeneration
    );
    let fetch = |member| {
        world
            .broker
            .committed_offsets(&client(), "g", Some(member), None)
    };
    assert_eq!(fetch(&own).unwrap().len(), 1);
    assert_eq!(
        fetch(&stale).unwrap().len(),
        1,
        "as in Kafka, only commits are checked"
    );
}

#[test]
fn offsets_of_topics_that_members_read_cannot_be_deleted() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    world.topic("other", 1, &[]);
    assert_eq!(
        kind(delete_offsets(&world, &["orders"])),
        ErrorKind::GroupIdNotFound
    );
    let own = member("g", &one_member(&world));
    commit(
        &world,
        &own,
        vec![offset("orders", 0, 5), offset("other", 0, 6)],
    )
    .unwrap();
    let results = delete_offsets(&world, &["orders", "other", "missing"]).unwrap();
    let subscribed = Some(ErrorKind::GroupSubscribedToTopic);
    assert_eq!(
        kinds(results),
        [subscribed, None, Some(ErrorKind::UnknownTopicOrPartition)]
    );
    let world = world.restart();
    assert_eq!(all_committed(&world, "g"), [("orders".to_owned(), 0, 5)]);
}

#[test]
fn a_topic_takes_its_offsets_with_it() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    world.topic("other", 1, &[]);
    let offsets = vec![offset("orders", 0, 5), offset("other", 0, 6)];
    commit(&world, &simple("g"), offsets).unwrap();
    let broker = world.broker.clone();
    let orders = TopicRef::Name("orders".to_owned());
    world
        .run(async move { broker.delete_topic(&client(), &orders).await })
        .unwrap();
    assert_eq!(committed(&world, "g", "orders", 0).offset, -1);
    world.settle();
    assert_eq!(world.broker.group_counts().offsets, 1);
    world.topic("orders", 1, &[]);
    assert_eq!(committed(&world, "g", "orders", 0).offset, -1);
    let world = world.restart();
    assert_eq!(all_committed(&world, "g"), [("other".to_owned(), 0, 6)]);
}

#[test]
fn offsets_expire_a_while_after_the_group_became_empty_and_the_group_with_them() {
    let world = World::with(Options {
        offsets_retention: DAY * 7,
        ..Options::default()
    });
    world.topic("orders", 1, &[]);
    let joined = one_member_of(&world, HALF_AN_HOUR);
    let own = member("g", &joined);
    commit(&world, &own, vec![offset("orders", 0, 5)]).unwrap();
    for _ in 0..8 * 24 * 3 {
        world.advance(HALF_AN_HOUR * 2 / 3);
        world.broker.heartbeat(&client(), &own).unwrap();
    }
    assert_eq!(
        committed(&world, "g", "orders", 0).offset,
        5,
        "members keep their offsets"
    );
    world
        .broker
        .leave_group(&client(), "g", vec![leaving(&joined.member)])
        .unwrap();
    world.advance(DAY * 6);
    let world = world.lose_power();
    assert_eq!(committed(&world, "g", "orders", 0).offset, 5);
    world.advance(DAY);
    assert_eq!(committed(&world, "g", "orders", 0).offset, -1);
    groups_are_forgotten(world);
}

#[test]
fn a_commit_may_ask_for_a_shorter_retention() {
    let world = World::new();
    world.topic("orders", 2, &[]);
    let short = CommitOffset {
        retention: Some(DAY),
        ..offset("orders", 0, 5)
    };
    commit(&world, &simple("g"), vec![short, offset("orders", 1, 6)]).unwrap();
    world.advance(DAY * 2);
    assert_eq!(all_committed(&world, "g"), [("orders".to_owned(), 1, 6)]);
}

#[test]
fn a_topics_readers_are_who_committed_for_it_and_who_subscribes_to_it() {
    let world = World::new();
    let orders = TopicRef::Name("orders".to_owned());
    world.topic("orders", 2, &[]);
    world.topic("other", 1, &[]);
    let both = vec![offset("orders", 1, 7), offset("orders", 0, 3)];
    commit(&world, &simple("past"), both).unwrap();
    commit(&world, &simple("elsewhere"), vec![offset("other", 0, 1)]).unwrap();
    one_member(&world);
    let readers = world.broker.readers(&client(), &orders).unwrap();
    let names: Vec<_> = readers.iter().map(|reader| reader.group.as_str()).collect();
    assert_eq!(names, ["g", "past"]);
    assert_eq!((readers[0].members.len(), readers[0].offsets.len()), (1, 0));
    let offsets = readers[1].offsets.iter();
    let offsets: Vec<_> = offsets.map(|at| (at.partition, at.offset)).collect();
    assert_eq!(offsets, [(0, 3), (1, 7)]);
    assert_eq!(readers[1].members, []);
    let missing = TopicRef::Name("missing".to_owned());
    assert!(world.broker.readers(&client(), &missing).is_err());
}
