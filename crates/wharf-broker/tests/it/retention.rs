//! The settings of topics at work: the log's maintenance deletes what they allow, no more.

use std::time::Duration;

use bytes::Bytes;
use wharf_broker::{Options, Produce, TopicRef};
use wharf_log::batch::{Record, build};

use crate::support::{World, client};

/// A keyed batch of 100 KiB.
fn large(world: &World) -> Bytes {
    let record = Record {
        timestamp: world.runtime_now(),
        key: Some(Bytes::from_static(b"key")),
        value: Some(vec![7; 100 << 10].into()),
        ..Record::default()
    };
    build(&[record], None)
}

fn produce(world: &World, topic: &str) {
    let produce = Produce {
        topic: TopicRef::Name(topic.to_owned()),
        partition: 0,
        records: Some(large(world)),
    };
    let sending = world.broker.produce(&client(), vec![produce]);
    world.run(sending).remove(0).unwrap();
    world.maintain();
}

/// Lets the log look at its partitions again (it does so every few seconds) and commit the result.
fn retain(world: &World) {
    world.advance(Duration::from_secs(10));
    world.maintain();
    world.settle();
}

fn start(world: &World, topic: &str) -> i64 {
    let topic = world
        .broker
        .topic(&TopicRef::Name(topic.to_owned()))
        .unwrap();
    world
        .broker
        .reader()
        .bounds(topic.partitions[0])
        .unwrap()
        .start
}

#[test]
fn old_segments_go_by_age_and_size_and_only_where_the_topic_says_so() {
    let log = wharf_log::Options {
        journal_file_bytes: 1 << 20,
        journal_files_max: 1,
        tail_bytes_max: 1 << 20,
        ..wharf_log::Options::default()
    };
    let world = World::with_log(Options::default(), log);
    let segments = ("segment.bytes", "250000");
    world.topic("by-age", 1, &[segments, ("retention.ms", "60000")]);
    world.topic(
        "by-size",
        1,
        &[
            segments,
            ("retention.ms", "-1"),
            ("retention.bytes", "900000"),
        ],
    );
    world.topic("all", 1, &[segments, ("retention.ms", "-1")]);
    world.topic(
        "compacted",
        1,
        &[
            segments,
            ("retention.ms", "1"),
            ("cleanup.policy", "compact"),
        ],
    );
    let topics = ["by-age", "by-size", "all", "compacted"];
    for _ in 0..30 {
        topics.iter().for_each(|topic| produce(&world, topic));
    }
    retain(&world);
    assert_eq!(
        topics.map(|topic| start(&world, topic) > 0),
        [false, true, false, false]
    );
    world.advance(Duration::from_secs(120));
    for _ in 0..12 {
        topics.iter().for_each(|topic| produce(&world, topic));
    }
    retain(&world);
    assert_eq!(
        topics.map(|topic| start(&world, topic) > 0),
        [true, true, false, false]
    );
    let by_age = world
        .broker
        .topic(&TopicRef::Name("by-age".to_owned()))
        .unwrap();
    let bounds = world.broker.reader().bounds(by_age.partitions[0]).unwrap();
    assert!(bounds.start <= 30, "what is younger stays: {bounds:?}");
    let world = world.restart();
    assert_eq!(
        topics.map(|topic| start(&world, topic) > 0),
        [true, true, false, false]
    );
}
