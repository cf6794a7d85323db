//! The broker against a model, with power loss in between: whatever was acknowledged is there, and
//! nothing that was taken away comes back.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use wharf_broker::{
    ConfigChange, ConfigOperation, ErrorKind, FetchPartition, Options, Produce, TopicRef,
};
use wharf_log::batch::{HEADER_BYTES, header, records};

use crate::fetching::{fetch, from, request};
use crate::producing::batch;
use crate::support::{World, client, creation};

#[derive(Clone, Debug)]
enum Step {
    Create {
        topic: usize,
        partitions: i32,
    },
    Delete {
        topic: usize,
    },
    Grow {
        topic: usize,
        count: i32,
    },
    Configure {
        topic: usize,
        retention: u32,
    },
    Produce {
        topic: usize,
        partition: usize,
        records: usize,
    },
    DeleteRecords {
        topic: usize,
        partition: usize,
        offset: i64,
    },
    /// The log settles journal files and takes snapshots.
    Maintain,
    LosePower,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let topic = 0..3_usize;
    prop_oneof![
        3 => (topic.clone(), 1..4_i32)
            .prop_map(|(topic, partitions)| Step::Create { topic, partitions }),
        1 => topic.clone().prop_map(|topic| Step::Delete { topic }),
        1 => (topic.clone(), 1..6_i32).prop_map(|(topic, count)| Step::Grow { topic, count }),
        1 => (topic.clone(), any::<u32>())
            .prop_map(|(topic, retention)| Step::Configure { topic, retention }),
        8 => (topic.clone(), 0..4_usize, 1..4_usize)
            .prop_map(|(topic, partition, records)| Step::Produce { topic, partition, records }),
        2 => (topic, 0..4_usize, -1..9_i64).prop_map(|(topic, partition, offset)| {
            Step::DeleteRecords { topic, partition, offset }
        }),
        2 => Just(Step::Maintain),
        1 => Just(Step::LosePower),
        1 => Just(Step::Restart),
    ]
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Partition {
    start: i64,
    values: Vec<String>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Topic {
    partitions: Vec<Partition>,
    retention: Option<u32>,
}

type Model = BTreeMap<String, Topic>;

fn name(topic: usize) -> String {
    format!("topic-{topic}")
}

/// Carries a step out in both; they must agree on whether it works.
fn apply(world: &World, model: &mut Model, step: &Step, counter: &mut u32) {
    match *step {
        Step::Create { topic, partitions } => create(world, model, topic, partitions),
        Step::Delete { topic } => delete(world, model, topic),
        Step::Grow { topic, count } => grow(world, model, topic, count),
        Step::Configure { topic, retention } => configure(world, model, topic, retention),
        Step::Produce {
            topic,
            partition,
            records,
        } => {
            let values: Vec<String> = (0..records)
                .map(|_| {
                    *counter += 1;
                    counter.to_string()
                })
                .collect();
            produce(world, model, topic, partition, &values);
        }
        Step::DeleteRecords {
            topic,
            partition,
            offset,
        } => {
            delete_records(world, model, topic, partition, offset);
        }
        Step::Maintain => world.maintain(),
        Step::LosePower | Step::Restart => unreachable!("done by the caller"),
    }
}

fn create(world: &World, model: &mut Model, topic: usize, partitions: i32) {
    let (broker, name) = (world.broker.clone(), name(topic));
    let request = creation(&name, partitions, &[]);
    let created = world.run(async move { broker.create_topic(&client(), request, false).await });
    assert_eq!(created.is_ok(), !model.contains_key(&name));
    let partitions = vec![Partition::default(); usize::try_from(partitions).unwrap()];
    model.entry(name).or_insert(Topic {
        partitions,
        retention: None,
    });
}

fn delete(world: &World, model: &mut Model, topic: usize) {
    let (broker, asked) = (world.broker.clone(), TopicRef::Name(name(topic)));
    let deleted = world.run(async move { broker.delete_topic(&client(), &asked).await });
    assert_eq!(deleted.is_ok(), model.remove(&name(topic)).is_some());
}

fn grow(world: &World, model: &mut Model, topic: usize, count: i32) {
    let (broker, asked) = (world.broker.clone(), name(topic));
    let grown = world.run(async move {
        broker
            .create_partitions(&client(), &asked, count, false)
            .await
    });
    let topic = model.get_mut(&name(topic));
    let count = usize::try_from(count).unwrap();
    let may_grow = topic
        .as_ref()
        .is_some_and(|topic| topic.partitions.len() < count);
    assert_eq!(grown.is_ok(), may_grow);
    if let Some(topic) = topic.filter(|_| may_grow) {
        topic.partitions.resize(count, Partition::default());
    }
}

fn configure(world: &World, model: &mut Model, topic: usize, retention: u32) {
    let (broker, asked) = (world.broker.clone(), TopicRef::Name(name(topic)));
    let change = ConfigChange {
        name: "retention.ms".to_owned(),
        operation: ConfigOperation::Set,
        value: Some(retention.to_string()),
    };
    let altered = world.run(async move {
        broker
            .alter_topic_config(&client(), &asked, vec![change], false, false)
            .await
    });
    let topic = model.get_mut(&name(topic));
    assert_eq!(altered.is_ok(), topic.is_some());
    if let Some(topic) = topic {
        topic.retention = Some(retention);
    }
}

fn produce(world: &World, model: &mut Model, topic: usize, partition: usize, values: &[String]) {
    let texts: Vec<&str> = values.iter().map(String::as_str).collect();
    let produce = Produce {
        topic: TopicRef::Name(name(topic)),
        partition: i32::try_from(partition).unwrap(),
        records: Some(batch(&texts)),
    };
    let sending = world.broker.produce(&client(), vec![produce]);
    let produced = world.run(sending).remove(0);
    let kept = model.get_mut(&name(topic));
    let kept = kept.and_then(|topic| topic.partitions.get_mut(partition));
    assert_eq!(produced.is_ok(), kept.is_some());
    if let (Ok(produced), Some(kept)) = (produced, kept) {
        assert_eq!(usize::try_from(produced.base_offset), Ok(kept.values.len()));
        kept.values.extend_from_slice(values);
    }
}

fn delete_records(world: &World, model: &mut Model, topic: usize, partition: usize, offset: i64) {
    let (broker, asked) = (world.broker.clone(), TopicRef::Name(name(topic)));
    let index = i32::try_from(partition).unwrap();
    let deleted = world.run(async move {
        broker
            .delete_records(&client(), &asked, index, offset)
            .await
    });
    let kept = model.get_mut(&name(topic));
    let Some(kept) = kept.and_then(|topic| topic.partitions.get_mut(partition)) else {
        assert_eq!(
            deleted.unwrap_err().kind,
            ErrorKind::UnknownTopicOrPartition
        );
        return;
    };
    let end = i64::try_from(kept.values.len()).unwrap();
    let offset = if offset == -1 { end } else { offset };
    assert_eq!(deleted.is_ok(), offset <= end);
    if let Ok(deleted) = deleted {
        kept.start = kept.start.max(offset);
        assert_eq!(deleted.low_watermark, kept.start);
    }
}

/// The values of a partition from its start on, as fetched: an answer may end where the log goes on
/// in another file, so it takes several.
fn fetched(world: &World, topic: &str, index: usize, start: i64) -> Vec<String> {
    let mut values = Vec::new();
    let mut next = start;
    loop {
        let asked = FetchPartition {
            bytes_max: i32::MAX,
            current_leader_epoch: 0,
            ..from(topic, i32::try_from(index).unwrap(), next)
        };
        let partition = fetch(world, request(vec![asked])).partitions.remove(0);
        assert_eq!((partition.error, partition.log_start), (None, start));
        if next == partition.high_watermark {
            return values;
        }
        let before = next;
        let mut rest = Bytes::from(partition.batches.concat());
        while !rest.is_empty() {
            let header = header(&rest).unwrap();
            let batch = rest.split_to(header.batch_bytes());
            for record in records(&header, &batch.slice(HEADER_BYTES..)).unwrap() {
                if record.offset >= next {
                    values.push(String::from_utf8_lossy(&record.value.unwrap()).into_owned());
                }
            }
            next = header.last_offset() + 1;
        }
        assert!(next > before, "there is more, and it is not served");
    }
}

/// A log whose journal files are full after a few dozen commits, and that keeps little in memory.
fn smallest_log() -> wharf_log::Options {
    wharf_log::Options {
        journal_file_bytes: 0,
        journal_files_max: 1,
        tail_bytes_max: 1_000,
        ..wharf_log::Options::default()
    }
}

fn check(world: &World, model: &Model) {
    let topics = world.broker.topics();
    let names: Vec<_> = topics.iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(names, model.keys().collect::<Vec<_>>());
    for (topic, kept) in topics.iter().zip(model.values()) {
        assert_eq!(topic.partitions.len(), kept.partitions.len());
        let retention = topic.config.overrides.get("retention.ms");
        assert_eq!(
            retention.cloned(),
            kept.retention.map(|retention| retention.to_string())
        );
        for (index, partition) in kept.partitions.iter().enumerate() {
            let start = usize::try_from(partition.start).unwrap();
            assert_eq!(
                fetched(world, topic.name.as_str(), index, partition.start),
                partition.values[start..]
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_broker_keeps_what_it_acknowledged(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::with_log(Options::default(), smallest_log());
        let mut model = Model::new();
        let mut counter = 0;
        for step in steps {
            match step {
                Step::LosePower => world = world.lose_power(),
                Step::Restart => world = world.restart(),
                step => {
                    apply(&world, &mut model, &step, &mut counter);
                    continue;
                }
            }
            check(&world, &model);
        }
        check(&world.lose_power(), &model);
    }
}
