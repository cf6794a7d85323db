//! Fetching: whole batches within limits, long polls.

use std::time::Duration;

use bytes::Bytes;
use wharf_broker::{
    ErrorKind, Fetch, FetchPartition, FetchSession, Fetched, FetchedPartition, Options, Produce,
    TopicRef,
};
use wharf_log::batch::{HEADER_BYTES, header, records};

use crate::producing::batch;
use crate::support::{Running, World, client};

const SESSIONLESS: FetchSession = FetchSession { id: 0, epoch: -1 };

pub fn name(topic: &str) -> TopicRef {
    TopicRef::Name(topic.to_owned())
}

pub fn from(topic: &str, partition: i32, offset: i64) -> FetchPartition {
    FetchPartition {
        topic: name(topic),
        partition,
        offset,
        bytes_max: 1 << 20,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        log_start: -1,
    }
}

pub fn request(partitions: Vec<FetchPartition>) -> Fetch {
    Fetch {
        wait_max: Duration::ZERO,
        bytes_min: 1,
        bytes_max: 50 << 20,
        read_committed: false,
        session: SESSIONLESS,
        partitions,
        forgotten: Vec::new(),
    }
}

fn start(world: &World, fetch: Fetch) -> Running<Fetched> {
    let broker = world.broker.clone();
    world.start(async move { broker.fetch(&client(), fetch).await })
}

pub fn fetch(world: &World, request: Fetch) -> Fetched {
    world.finish(&start(world, request))
}

pub fn produce(world: &World, topic: &str, partition: i32, values: &[&str]) {
    let produce = Produce {
        topic: name(topic),
        partition,
        records: Some(batch(values)),
    };
    let sending = world.broker.produce(&client(), vec![produce]);
    world.run(sending).remove(0).unwrap();
}

/// The values fetched from one partition, in order.
pub fn values(fetched: &FetchedPartition) -> Vec<String> {
    let mut values = Vec::new();
    let mut joined: Vec<u8> = fetched.batches.concat();
    if let Some(mut stretch) = fetched.stretch.clone() {
        while stretch.bytes() > 0 {
            joined.extend(stretch.read().unwrap().concat());
        }
    }
    let mut rest = Bytes::from(joined);
    while !rest.is_empty() {
        let header = header(&rest).unwrap();
        let batch = rest.split_to(header.batch_bytes());
        let records = records(&header, &batch.slice(HEADER_BYTES..)).unwrap();
        values.extend(
            records
                .into_iter()
                .map(|record| String::from_utf8_lossy(&record.value.unwrap()).into()),
        );
    }
    values
}

pub fn error(fetched: &FetchedPartition) -> Option<ErrorKind> {
    fetched.error.as_ref().map(|error| error.kind)
}

#[test]
fn a_fetch_from_inside_a_batch_returns_the_whole_batch() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    produce(&world, "orders", 0, &["a", "b", "c"]);
    produce(&world, "orders", 0, &["d"]);
    let fetched = fetch(&world, request(vec![from("orders", 0, 1)]));
    assert_eq!(values(&fetched.partitions[0]), ["a", "b", "c", "d"]);
    assert_eq!(fetched.partitions[0].high_watermark, 4);
    assert_eq!(fetched.partitions[0].last_stable, 4);
    assert_eq!(fetched.partitions[0].log_start, 0);
}

#[test]
fn data_that_left_memory_is_read_away_from_the_tasks() {
    let world = World::with_log(
        Options::default(),
        wharf_log::Options {
            tail_bytes_max: 1,
            ..wharf_log::Options::default()
        },
    );
    world.topic("orders", 1, &[]);
    for value in ["a", "b", "c"] {
        produce(&world, "orders", 0, &[value]);
    }
    let fetched = fetch(&world, request(vec![from("orders", 0, 0)]));
    assert_eq!(values(&fetched.partitions[0]), ["a", "b", "c"]);
    assert!(world.broker.reader().statistics().reads_from_disk > 0);
}

#[test]
fn refusals_are_per_partition_and_carry_the_bounds() {
    let world = World::new();
    let topic = world.topic("orders", 1, &[]);
    produce(&world, "orders", 0, &["a"]);
    let mut by_id = from("orders", 0, 0);
    by_id.topic = TopicRef::Id(uuid::Uuid::from_u128(1));
    let mut known_id = from("orders", 0, 0);
    known_id.topic = TopicRef::Id(topic.id);
    let newer_epoch = FetchPartition {
        current_leader_epoch: 1,
        ..from("orders", 0, 0)
    };
    let same_epoch = FetchPartition {
        current_leader_epoch: 0,
        ..from("orders", 0, 0)
    };
    let fetched = fetch(
        &world,
        request(vec![
            from("orders", 0, 2),
            from("orders", 0, -5),
            from("orders", 1, 0),
            from("none", 0, 0),
            by_id,
            newer_epoch,
            same_epoch,
            known_id,
        ]),
    );
    let kinds: Vec<_> = fetched.partitions.iter().map(error).collect();
    assert_eq!(
        kinds,
        [
            Some(ErrorKind::OffsetOutOfRange),
            Some(ErrorKind::OffsetOutOfRange),
            Some(ErrorKind::UnknownTopicOrPartition),
            Some(ErrorKind::UnknownTopicOrPartition),
            Some(ErrorKind::UnknownTopicId),
            Some(ErrorKind::UnknownLeaderEpoch),
            None,
            None,
        ]
    );
    let out_of_range = &fetched.partitions[0];
    assert_eq!(
        (out_of_range.log_start, out_of_range.high_watermark),
        (0, 1)
    );
    assert_eq!(fetched.partitions[3].high_watermark, -1);
}

#[test]
fn the_first_batch_comes_whatever_the_limits_and_the_others_only_within_them() {
    let world = World::new();
    world.topic("orders", 2, &[]);
    produce(&world, "orders", 0, &["a"]);
    produce(&world, "orders", 0, &["b"]);
    produce(&world, "orders", 1, &["c"]);
    let tiny = |partition| FetchPartition {
        bytes_max: 1,
        ..from("orders", partition, 0)
    };
    let fetched = fetch(&world, request(vec![tiny(0)]));
    assert_eq!(values(&fetched.partitions[0]), ["a"]);
    let overall = Fetch {
        bytes_max: 1,
        ..request(vec![from("orders", 0, 0), from("orders", 1, 0)])
    };
    let fetched = fetch(&world, overall);
    let counts: Vec<_> = fetched
        .partitions
        .iter()
        .map(|one| values(one).len())
        .collect();
    assert_eq!(
        counts.iter().sum::<usize>(),
        1,
        "one batch in all: {counts:?}"
    );
    assert!(
        fetched
            .partitions
            .iter()
            .all(|one| one.error.is_none() && one.high_watermark > 0)
    );
}

#[test]
fn the_node_caps_what_one_fetch_returns() {
    let size = batch(&["a"]).len();
    let world = World::with(Options {
        fetch_bytes_max: 2 * size,
        ..Options::default()
    });
    world.topic("orders", 1, &[]);
    for value in ["a", "b", "c"] {
        produce(&world, "orders", 0, &[value]);
    }
    let fetched = fetch(&world, request(vec![from("orders", 0, 0)]));
    assert_eq!(values(&fetched.partitions[0]), ["a", "b"]);
}

#[test]
fn the_more_connections_there_are_the_less_each_is_answered_at_once() {
    let value = "x".repeat(50_000);
    let size = batch(&[&value]).len();
    let world = World::with(Options {
        fetches_bytes_max: 8 * size,
        ..Options::default()
    });
    world.topic("orders", 1, &[]);
    for _ in 0..8 {
        produce(&world, "orders", 0, &[&value]);
    }
    let answered = |connections| {
        world.broker.share_fetches(connections);
        values(&fetch(&world, request(vec![from("orders", 0, 0)])).partitions[0]).len()
    };
    assert_eq!(answered(0), 8);
    assert_eq!(answered(1), 8);
    assert_eq!(answered(2), 4);
    assert_eq!(answered(1_000_000), 1, "one batch is always answered");
    assert_eq!(answered(1), 8);
}

#[test]
fn no_partition_starves_behind_a_busy_one() {
    let world = World::new();
    world.topic("orders", 3, &[]);
    for partition in 0..3 {
        produce(&world, "orders", partition, &["x"]);
    }
    let mut served = [0; 3];
    for _ in 0..60 {
        let all = (0..3)
            .map(|partition| from("orders", partition, 0))
            .collect();
        let fetched = fetch(
            &world,
            Fetch {
                bytes_max: 1,
                ..request(all)
            },
        );
        for (at, one) in fetched.partitions.iter().enumerate() {
            served[at] += values(one).len();
        }
    }
    assert_eq!(served.iter().sum::<usize>(), 60);
    assert!(served.iter().all(|count| *count >= 6), "{served:?}");
}

#[test]
fn a_fetch_at_the_end_waits_until_something_arrives() {
    let world = World::new();
    world.topic("orders", 2, &[]);
    let waiting = Fetch {
        wait_max: Duration::from_secs(30),
        ..request(vec![from("orders", 0, 0), from("orders", 1, 0)])
    };
    let running = start(&world, waiting);
    world.settle();
    assert!(!running.is_done());
    let before = world.runtime_now();
    produce(&world, "orders", 1, &["late"]);
    let fetched = world.finish(&running);
    assert_eq!(values(&fetched.partitions[1]), ["late"]);
    assert_eq!(
        world.runtime_now(),
        before,
        "woken by the append, not by the clock"
    );
}

#[test]
fn a_fetch_waits_no_longer_than_asked() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    let waiting = Fetch {
        wait_max: Duration::from_millis(500),
        ..request(vec![from("orders", 0, 0)])
    };
    let running = start(&world, waiting);
    world.advance(Duration::from_millis(499));
    assert!(!running.is_done());
    world.advance(Duration::from_millis(1));
    assert!(running.is_done());
    assert!(values(&world.finish(&running).partitions[0]).is_empty());
}

#[test]
fn a_fetch_waits_for_the_least_bytes_it_wants() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    let size = i32::try_from(batch(&["a"]).len()).unwrap();
    let waiting = Fetch {
        wait_max: Duration::from_secs(30),
        bytes_min: 3 * size,
        ..request(vec![from("orders", 0, 0)])
    };
    let running = start(&world, waiting);
    for value in ["a", "b"] {
        produce(&world, "orders", 0, &[value]);
        world.advance(Duration::from_secs(1));
        assert!(!running.is_done());
    }
    produce(&world, "orders", 0, &["c"]);
    world.advance(Duration::from_secs(1));
    assert!(running.is_done());
    assert_eq!(
        values(&world.finish(&running).partitions[0]),
        ["a", "b", "c"]
    );
}

#[test]
fn a_fetch_does_not_wait_for_more_while_the_log_goes_on_in_another_file() {
    let log = wharf_log::Options {
        journal_file_bytes: 0,
        journal_files_max: 1,
        ..wharf_log::Options::default()
    };
    let world = World::with_log(Options::default(), log);
    world.topic("orders", 1, &[]);
    let large = "x".repeat(10_000);
    let mut produced = 0;
    while world.broker.reader().statistics().settled_bytes == 0 {
        produce(&world, "orders", 0, &[&large]);
        world.maintain();
        produced += 1;
        assert!(produced < 1_000, "nothing is ever settled");
    }
    produce(&world, "orders", 0, &["in the journal"]);
    let waiting = Fetch {
        wait_max: Duration::from_secs(30),
        bytes_min: i32::MAX,
        bytes_max: i32::MAX,
        ..request(vec![FetchPartition {
            bytes_max: i32::MAX,
            ..from("orders", 0, 0)
        }])
    };
    let running = start(&world, waiting);
    world.settle();
    assert!(running.is_done(), "what is there is not kept back");
    let fetched = world.finish(&running).partitions.remove(0);
    let count = i64::try_from(values(&fetched).len()).unwrap();
    assert!(count > 0 && count < fetched.high_watermark, "{count}");
}

#[test]
fn a_fetch_does_not_wait_when_what_is_there_does_not_fit_any_more() {
    let world = World::new();
    world.topic("orders", 2, &[]);
    produce(&world, "orders", 0, &[&"x".repeat(10_000)]);
    produce(&world, "orders", 0, &[&"x".repeat(10_000)]);
    produce(&world, "orders", 1, &[&"x".repeat(20_000)]);
    // Whichever partition it begins with.
    for _ in 0..4 {
        let waiting = Fetch {
            wait_max: Duration::from_secs(30),
            bytes_min: 25_000,
            bytes_max: 25_000,
            ..request(vec![from("orders", 0, 0), from("orders", 1, 0)])
        };
        let running = start(&world, waiting);
        world.settle();
        assert!(running.is_done(), "nothing more can come");
        let fetched = world.finish(&running);
        let with_values = |one: &&FetchedPartition| !values(one).is_empty();
        assert_eq!(fetched.partitions.iter().filter(with_values).count(), 1);
    }
}

#[test]
fn many_waiters_each_get_their_own_news() {
    let world = World::new();
    world.topic("orders", 20, &[]);
    let running: Vec<_> = (0..20)
        .map(|partition| {
            let wait_max = Duration::from_secs(30);
            start(
                &world,
                Fetch {
                    wait_max,
                    ..request(vec![from("orders", partition, 0)])
                },
            )
        })
        .collect();
    world.settle();
    for partition in [3, 17] {
        produce(&world, "orders", partition, &["x"]);
    }
    world.settle();
    let done: Vec<_> = running
        .iter()
        .enumerate()
        .filter(|(_, one)| one.is_done())
        .map(|(at, _)| at)
        .collect();
    assert_eq!(done, [3, 17]);
}

#[test]
fn deleting_a_topic_ends_the_waits_for_it() {
    let world = World::new();
    let topic = world.topic("orders", 1, &[]);
    let wait_max = Duration::from_secs(30);
    let mut by_id = from("orders", 0, 0);
    by_id.topic = TopicRef::Id(topic.id);
    let running = [from("orders", 0, 0), by_id].map(|partition| {
        start(
            &world,
            Fetch {
                wait_max,
                ..request(vec![partition])
            },
        )
    });
    world.settle();
    let broker = world.broker.clone();
    world
        .run(async move { broker.delete_topic(&client(), &name("orders")).await })
        .unwrap();
    world.settle();
    let kinds = running
        .each_ref()
        .map(|one| error(&world.finish(one).partitions[0]));
    assert_eq!(
        kinds,
        [
            Some(ErrorKind::UnknownTopicOrPartition),
            Some(ErrorKind::UnknownTopicId)
        ]
    );
}

#[test]
fn a_refusal_is_told_at_once() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    let wait_max = Duration::from_secs(30);
    for partition in [from("orders", 0, 9), from("none", 0, 0)] {
        let running = start(
            &world,
            Fetch {
                wait_max,
                ..request(vec![partition])
            },
        );
        world.settle();
        assert!(running.is_done());
    }
}
