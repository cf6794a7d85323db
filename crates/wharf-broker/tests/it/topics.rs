//! Topics: created once, durable, numbered for ever, refused as Kafka refuses.

use std::collections::HashSet;

use wharf_broker::{Context, CreateTopic, Error, ErrorKind, Options, TopicRef};

use crate::support::{World, client, creation};

fn create(world: &World, request: CreateTopic) -> Result<(), Error> {
    let broker = world.broker.clone();
    world
        .run(async move { broker.create_topic(&client(), request, false).await })
        .map(|_| ())
}

fn delete(world: &World, topic: &str) -> Result<(), Error> {
    let (broker, topic) = (world.broker.clone(), TopicRef::Name(topic.to_owned()));
    world
        .run(async move { broker.delete_topic(&client(), &topic).await })
        .map(|_| ())
}

fn grow(world: &World, topic: &'static str, count: i32) -> Result<(), Error> {
    let broker = world.broker.clone();
    world.run(async move {
        broker
            .create_partitions(&client(), topic, count, false)
            .await
    })
}

fn kind<T: std::fmt::Debug>(outcome: Result<T, Error>) -> ErrorKind {
    outcome.unwrap_err().kind
}

#[test]
fn a_topic_is_found_by_name_and_id_and_survives_power_loss() {
    let world = World::new();
    let created = world.topic("orders", 3, &[("retention.ms", "5")]);
    let world = world.lose_power();
    let by_name = world
        .broker
        .topic(&TopicRef::Name("orders".to_owned()))
        .unwrap();
    let by_id = world.broker.topic(&TopicRef::Id(created.id)).unwrap();
    assert_eq!(by_name.id, created.id);
    assert_eq!(by_id.partitions, created.partitions);
    assert_eq!(by_id.config.overrides["retention.ms"], "5");
    assert_eq!(world.broker.topics().len(), 1);
}

#[test]
fn a_topic_is_not_visible_before_it_is_durable() {
    let world = World::new();
    world.hold_commits(true);
    let broker = world.broker.clone();
    let creating = world.start(async move {
        broker
            .create_topic(&client(), creation("orders", 1, &[]), false)
            .await
    });
    world.settle();
    assert!(!creating.is_done());
    assert!(world.broker.topics().is_empty());
    world.hold_commits(false);
    world.finish(&creating).unwrap();
    assert_eq!(world.broker.topics().len(), 1);
}

#[test]
fn a_caller_who_goes_away_does_not_leave_a_topic_half_there() {
    let world = World::new();
    world.hold_commits(true);
    let broker = world.broker.clone();
    let creating = world.start(async move {
        broker
            .create_topic(&client(), creation("orders", 1, &[]), false)
            .await
    });
    world.settle();
    drop(creating);
    world.hold_commits(false);
    world.settle();
    assert_eq!(world.broker.topics().len(), 1);
}

#[test]
fn of_concurrent_creations_of_colliding_names_exactly_one_succeeds() {
    let world = World::new();
    world.hold_commits(true);
    let running: Vec<_> = ["a.b", "a_b", "a.b", "a_b"]
        .into_iter()
        .map(|name| {
            let broker = world.broker.clone();
            world.start(async move {
                broker
                    .create_topic(&client(), creation(name, 1, &[]), false)
                    .await
            })
        })
        .collect();
    world.settle();
    world.hold_commits(false);
    let kinds: Vec<_> = running
        .iter()
        .map(|running| {
            world
                .finish(running)
                .map(|_| ())
                .map_err(|error| error.kind)
        })
        .collect();
    assert_eq!(
        kinds,
        [
            Ok(()),
            Err(ErrorKind::InvalidTopic),
            Err(ErrorKind::TopicAlreadyExists),
            Err(ErrorKind::InvalidTopic)
        ]
    );
    assert_eq!(world.broker.topics().len(), 1);
}

#[test]
fn partition_numbers_and_ids_are_never_reused() {
    let mut world = World::new();
    let mut numbers = HashSet::new();
    let mut ids = HashSet::new();
    for round in 0..4 {
        let topic = world.topic("orders", 2, &[]);
        assert!(ids.insert(topic.id), "round {round}");
        assert!(
            topic
                .partitions
                .iter()
                .all(|number| numbers.insert(*number)),
            "round {round}"
        );
        delete(&world, "orders").unwrap();
        world = if round % 2 == 0 {
            world.lose_power()
        } else {
            world
        };
    }
}

#[test]
fn requests_kafka_refuses_are_refused_with_kafkas_errors() {
    let world = World::new();
    world.topic("a.b", 1, &[]);
    let long = "x".repeat(250);
    for (name, expected) in [
        ("", ErrorKind::InvalidTopic),
        ("..", ErrorKind::InvalidTopic),
        ("with space", ErrorKind::InvalidTopic),
        (long.as_str(), ErrorKind::InvalidTopic),
        ("a.b", ErrorKind::TopicAlreadyExists),
        ("a_b", ErrorKind::InvalidTopic),
        ("_wharf.audit", ErrorKind::InvalidTopic),
        ("__consumer_offsets", ErrorKind::InvalidTopic),
    ] {
        assert_eq!(
            kind(create(&world, creation(name, 1, &[]))),
            expected,
            "{name}"
        );
    }
    for (partitions, expected) in [
        (0, ErrorKind::InvalidPartitions),
        (-2, ErrorKind::InvalidPartitions),
        (i32::MAX, ErrorKind::InvalidPartitions),
    ] {
        assert_eq!(
            kind(create(&world, creation("t", partitions, &[]))),
            expected,
            "{partitions}"
        );
    }
    for factor in [0, 2, 3, -2] {
        let request = CreateTopic {
            replication: Some(factor),
            ..creation("t", 1, &[])
        };
        assert_eq!(
            kind(create(&world, request)),
            ErrorKind::InvalidReplicationFactor,
            "{factor}"
        );
    }
    let request = creation("t", 1, &[("no.such.setting", "1")]);
    assert_eq!(kind(create(&world, request)), ErrorKind::InvalidConfig);
    assert_eq!(world.broker.topics().len(), 1);
}

#[test]
fn a_manual_assignment_must_name_this_node_for_every_partition_once() {
    let world = World::new();
    let request = |assignment: &[(i32, &[i32])]| CreateTopic {
        partitions: Some(-1),
        replication: Some(-1),
        assignment: assignment
            .iter()
            .map(|(index, nodes)| (*index, nodes.to_vec()))
            .collect(),
        ..creation("t", 1, &[])
    };
    for bad in [
        &[(0, &[2][..])][..],
        &[(0, &[1, 1][..])],
        &[(0, &[][..])],
        &[(1, &[1][..])],
        &[(0, &[1][..]), (0, &[1][..])],
        &[(0, &[1][..]), (-1, &[1][..])],
    ] {
        let refused = kind(create(&world, request(bad)));
        assert_eq!(refused, ErrorKind::InvalidReplicaAssignment, "{bad:?}");
    }
    let both = CreateTopic {
        partitions: Some(1),
        ..request(&[(0, &[1])])
    };
    assert_eq!(kind(create(&world, both)), ErrorKind::InvalidRequest);
    create(&world, request(&[(1, &[1]), (0, &[1])])).unwrap();
    assert_eq!(world.broker.topics()[0].partitions.len(), 2);
}

#[test]
fn defaults_apply_where_nothing_is_asked_for() {
    let world = World::with(Options {
        default_partitions: 4,
        ..Options::default()
    });
    for (name, partitions) in [("t", None), ("u", Some(-1))] {
        let request = CreateTopic {
            partitions,
            ..creation(name, 1, &[])
        };
        create(&world, request).unwrap();
    }
    assert!(
        world
            .broker
            .topics()
            .iter()
            .all(|topic| topic.partitions.len() == 4)
    );
}

#[test]
fn validating_creates_nothing() {
    let world = World::new();
    let broker = world.broker.clone();
    let topic = world
        .run(async move {
            broker
                .create_topic(&client(), creation("t", 3, &[]), true)
                .await
        })
        .unwrap();
    assert_eq!(topic.partitions.len(), 3);
    assert!(world.broker.topics().is_empty());
}

#[test]
fn a_node_holds_no_more_partitions_than_its_limit() {
    let world = World::with(Options {
        partitions_max: 5,
        ..Options::default()
    });
    world.topic("a", 3, &[]);
    assert_eq!(
        kind(create(&world, creation("b", 3, &[]))),
        ErrorKind::PolicyViolation
    );
    assert_eq!(kind(grow(&world, "a", 6)), ErrorKind::PolicyViolation);
    grow(&world, "a", 5).unwrap();
    delete(&world, "a").unwrap();
    create(&world, creation("b", 5, &[])).unwrap();
}

#[test]
fn partitions_are_added_never_taken_away() {
    let world = World::new();
    let before = world.topic("orders", 2, &[]);
    grow(&world, "orders", 5).unwrap();
    assert_eq!(
        kind(grow(&world, "orders", 5)),
        ErrorKind::InvalidPartitions
    );
    assert_eq!(
        kind(grow(&world, "orders", 1)),
        ErrorKind::InvalidPartitions
    );
    assert_eq!(
        kind(grow(&world, "orders", -1)),
        ErrorKind::InvalidPartitions
    );
    assert_eq!(
        kind(grow(&world, "none", 3)),
        ErrorKind::UnknownTopicOrPartition
    );
    let world = world.lose_power();
    let after = world
        .broker
        .topic(&TopicRef::Name("orders".to_owned()))
        .unwrap();
    assert_eq!(after.partitions.len(), 5);
    assert_eq!(after.partitions[..2], before.partitions[..]);
    assert_eq!(after.id, before.id);
}

#[test]
fn a_deleted_topic_is_gone_for_good() {
    let world = World::new();
    let topic = world.topic("orders", 1, &[]);
    delete(&world, "orders").unwrap();
    assert_eq!(
        kind(delete(&world, "orders")),
        ErrorKind::UnknownTopicOrPartition
    );
    let broker = world.broker.clone();
    let by_id = TopicRef::Id(topic.id);
    let outcome = world.run(async move { broker.delete_topic(&client(), &by_id).await });
    assert_eq!(kind(outcome), ErrorKind::UnknownTopicId);
    let world = world.lose_power();
    assert!(world.broker.topics().is_empty());
    assert_eq!(world.broker.reader().bounds(topic.partitions[0]), None);
}

#[test]
fn internal_topics_belong_to_the_nodes_own_roles() {
    let world = World::new();
    let broker = world.broker.clone();
    world
        .run(async move {
            let cx = Context::internal("audit");
            broker
                .create_topic(&cx, creation("_wharf.audit", 1, &[]), false)
                .await
        })
        .unwrap();
    assert_eq!(
        kind(delete(&world, "_wharf.audit")),
        ErrorKind::InvalidTopic
    );
    assert_eq!(
        kind(grow(&world, "_wharf.audit", 9)),
        ErrorKind::InvalidTopic
    );
}

#[test]
fn a_missing_topic_is_created_on_demand_where_that_is_allowed() {
    let find = |world: &World, name: &'static str, allow: bool| {
        let broker = world.broker.clone();
        world.run(async move { broker.topic_or_create(&client(), name, allow).await })
    };
    let world = World::new();
    assert_eq!(
        kind(find(&world, "orders", false)),
        ErrorKind::UnknownTopicOrPartition
    );
    assert_eq!(
        kind(find(&world, "bad name", true)),
        ErrorKind::InvalidTopic
    );
    assert_eq!(
        kind(find(&world, "_wharf.x", true)),
        ErrorKind::UnknownTopicOrPartition
    );
    let created = find(&world, "orders", true).unwrap();
    assert_eq!(find(&world, "orders", true).unwrap().id, created.id);
    let world = World::with(Options {
        auto_create_topics: false,
        ..Options::default()
    });
    assert_eq!(
        kind(find(&world, "orders", true)),
        ErrorKind::UnknownTopicOrPartition
    );
}

#[test]
fn two_clients_asking_for_a_missing_topic_get_the_same_one() {
    let world = World::new();
    world.hold_commits(true);
    let running = [1, 2].map(|_| {
        let broker = world.broker.clone();
        world.start(async move { broker.topic_or_create(&client(), "orders", true).await })
    });
    world.settle();
    world.hold_commits(false);
    let ids = running
        .each_ref()
        .map(|running| world.finish(running).unwrap().id);
    assert_eq!(ids[0], ids[1]);
}
