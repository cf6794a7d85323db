//! The embedded ledger: it conforms, survives power loss, and shares the log with clients.

use std::sync::Arc;

use bytes::Bytes;
use wharf_broker::{Produce, TopicRef};
use wharf_message::ledger::conformance::CASES;
use wharf_message::ledger::{
    Commit, Error, Ledger, Owner, Partition, Progress, Record, Timer, TopicSpec,
};
use wharf_message::{Timestamp, TopicName};

use crate::listing::{compressed, timed};
use crate::support::{START, World, client};

fn partition(topic: &str) -> Partition {
    Partition {
        topic: TopicName::new(topic).unwrap(),
        index: 0,
    }
}

fn record(value: &'static str) -> Record {
    Record {
        timestamp: START,
        value: Some(Bytes::from_static(value.as_bytes())),
        ..Record::default()
    }
}

fn create(world: &World, topic: &str, compacted: bool) {
    let ledger = world.broker.ledger("test");
    let spec = TopicSpec {
        name: TopicName::new(topic).unwrap(),
        partitions: 1,
        compacted,
    };
    world
        .run(async move { ledger.create_topic(spec).await })
        .unwrap();
}

fn own(world: &World, topic: &str) -> Owner {
    let (ledger, partition) = (world.broker.ledger("test"), partition(topic));
    world
        .run(async move { ledger.own(partition).await })
        .unwrap()
}

fn commit(world: &World, owner: &Owner, commit: Commit) -> Result<Vec<i64>, Error> {
    let (ledger, owner) = (world.broker.ledger("test"), owner.clone());
    world
        .run(async move { ledger.commit(&owner, commit).await })
        .map(|committed| committed.offsets)
}

fn follow(world: &World, topic: &str, offset: i64) -> Result<Vec<(i64, Record)>, Error> {
    let (ledger, partition) = (world.broker.ledger("test"), partition(topic));
    let entries = world.run(async move { ledger.follow(partition, offset, 100).await })?;
    Ok(entries
        .into_iter()
        .map(|entry| (entry.offset, entry.record))
        .collect())
}

fn timer(due: i64) -> Timer {
    Timer {
        id: Bytes::from_static(b"t"),
        due: Timestamp::from_millis(due),
        target: partition("_wharf.audit"),
        record: record("fired"),
    }
}

#[test]
fn the_embedded_ledger_conforms() {
    for (_name, case) in CASES {
        let world = World::new();
        world.run(case(Arc::new(world.broker.ledger("test"))));
    }
}

#[test]
fn everything_of_a_commit_survives_power_loss() {
    let world = World::new();
    create(&world, "_wharf.audit", true);
    create(&world, "_wharf.saga", false);
    let owner = own(&world, "_wharf.saga");
    let everything = Commit {
        records: vec![
            (partition("_wharf.audit"), record("a")),
            (partition("_wharf.saga"), record("b")),
        ],
        progress: vec![Progress {
            reader: "r".to_owned(),
            partition: partition("_wharf.audit"),
            offset: 7,
        }],
        timers: vec![timer(10)],
        ..Commit::default()
    };
    assert_eq!(commit(&world, &owner, everything).unwrap(), [0, 0]);
    let world = world.lose_power();
    assert_eq!(
        follow(&world, "_wharf.audit", 0).unwrap(),
        [(0, record("a"))]
    );
    assert_eq!(
        follow(&world, "_wharf.saga", 0).unwrap(),
        [(0, record("b"))]
    );
    let ledger = world.broker.ledger("test");
    let kept = world.run(async move { ledger.progress("r", partition("_wharf.audit")).await });
    assert_eq!(kept, Ok(Some(7)));
    // The owner from before still is one: nobody took its place.
    let fire = Commit {
        fired: vec![timer(10)],
        ..Commit::default()
    };
    assert_eq!(commit(&world, &owner, fire.clone()).unwrap(), [1]);
    let world = world.lose_power();
    assert_eq!(
        commit(&world, &owner, fire),
        Err(Error::TimerGone(Bytes::from_static(b"t")))
    );
    let newer = own(&world, "_wharf.saga");
    assert!(newer.epoch > owner.epoch);
    let fenced = Err(Error::Fenced { epoch: owner.epoch });
    assert_eq!(commit(&world, &owner, Commit::default()), fenced);
}

#[test]
fn a_commit_that_power_loss_interrupts_happened_whole_or_not_at_all() {
    // Power fails at every single operation of the disk during one commit.
    for operation in 1..60 {
        let world = World::new();
        create(&world, "_wharf.audit", false);
        create(&world, "_wharf.saga", false);
        let owner = own(&world, "_wharf.saga");
        let at = world.disk.counters().operations + operation;
        world.disk.power_off_at(at);
        let both = Commit {
            records: vec![
                (partition("_wharf.audit"), record("a")),
                (partition("_wharf.saga"), record("b")),
            ],
            timers: vec![timer(10)],
            ..Commit::default()
        };
        let acknowledged = commit(&world, &owner, both).is_ok();
        let survived_power = !world.disk.is_off();
        let world = world.lose_power();
        let end = |topic: &str| {
            let topic = world
                .broker
                .topic(&TopicRef::Name(topic.to_owned()))
                .unwrap();
            world
                .broker
                .reader()
                .bounds(topic.partitions[0])
                .unwrap()
                .end
        };
        let (audit, saga) = (end("_wharf.audit"), end("_wharf.saga"));
        let (ledger, owner) = (world.broker.ledger("test"), owner.clone());
        let due = world.run(async move { ledger.due(&owner, Timestamp::from_millis(10), 9).await });
        let timers = i64::try_from(due.unwrap().timers.len()).unwrap();
        assert_eq!(
            (audit, audit),
            (saga, timers),
            "operation {operation}: torn"
        );
        assert!(
            !acknowledged || audit == 1,
            "operation {operation}: acknowledged and lost"
        );
        if survived_power {
            return;
        }
    }
    panic!("a commit takes fewer operations than tried here");
}

#[test]
fn a_role_follows_what_clients_produce_compressed_or_not() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    for codec in 0..=4 {
        let produce = Produce {
            topic: TopicRef::Name("orders".to_owned()),
            partition: 0,
            records: Some(compressed(&timed(&[100, 200]), codec)),
        };
        let sending = world.broker.produce(&client(), vec![produce]);
        world.run(sending).remove(0).unwrap();
    }
    let followed = follow(&world, "orders", 3).unwrap();
    let offsets: Vec<_> = followed.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, [3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(followed[0].1.timestamp, Timestamp::from_millis(200));
    let ledger = world.broker.ledger("test");
    let two = world
        .run(async move { ledger.follow(partition("orders"), 1, 2).await })
        .unwrap();
    assert_eq!(
        two.iter().map(|entry| entry.offset).collect::<Vec<_>>(),
        [1, 2]
    );
}

#[test]
fn following_says_what_is_gone() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    let following = {
        let ledger = world.broker.ledger("test");
        world.start(async move { ledger.follow(partition("orders"), 0, 1).await })
    };
    world.settle();
    assert!(!following.is_done());
    let broker = world.broker.clone();
    world
        .run(async move {
            let topic = TopicRef::Name("orders".to_owned());
            broker.delete_topic(&client(), &topic).await
        })
        .unwrap();
    let gone = world.finish(&following);
    assert_eq!(gone, Err(Error::UnknownPartition(partition("orders"))));
}

#[test]
fn records_before_the_start_are_refused_with_the_start() {
    let world = World::new();
    create(&world, "_wharf.audit", false);
    let owner = own(&world, "_wharf.audit");
    let records = vec![(partition("_wharf.audit"), record("a")); 3];
    commit(
        &world,
        &owner,
        Commit {
            records,
            ..Commit::default()
        },
    )
    .unwrap();
    let broker = world.broker.clone();
    world
        .run(async move {
            let topic = TopicRef::Name("_wharf.audit".to_owned());
            broker
                .delete_records(&wharf_broker::Context::internal("test"), &topic, 0, 2)
                .await
        })
        .unwrap();
    assert_eq!(
        follow(&world, "_wharf.audit", 1),
        Err(Error::OutOfRange {
            offset: 1,
            start: 2
        })
    );
    assert_eq!(follow(&world, "_wharf.audit", 2).unwrap().len(), 1);
}
