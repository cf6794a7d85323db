//! From a subscription to its running thread: topics made, positions resolved, group joined.
//!
//! All of it blocks (the client library has no other way), so it is called on a thread for that.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use wharf_message::dead_letter;
use wharf_message::transport::{Audience, Error, Start, Subscription};
use wharf_message::{GroupName, InvalidName, TopicName};

use super::admin::{Form, PATIENCE};
use super::committer::Committer;
use super::context::offsets;
use super::deliveries::Running;
use super::error;
use super::reader::Reader;
use super::state::{Kind, Shared};
use super::wiring::Wiring;
use crate::log::{Commit, TopicPartition, detour};

/// How many scheduled messages may be on their way to their topic at a time.
const FORWARDED_MAX: usize = 1_000;

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn invalid(error: InvalidName) -> Error {
    Error::Refused(error.to_string())
}

/// Subscribes.
pub(super) fn subscribe(wiring: &Wiring, subscription: Subscription) -> Result<Running, Error> {
    let Subscription {
        topics,
        audience,
        start,
        in_flight_max,
    } = subscription;
    if topics.is_empty() {
        return Err(Error::Refused("a subscription needs a topic".to_owned()));
    }
    for topic in &topics {
        wiring.admin.ensure(topic, Form::Messages(None))?;
    }
    match audience {
        Audience::Group(group) => {
            let mut kinds = BTreeMap::new();
            for topic in &topics {
                let retries = detour::retry_topic(topic, &group).map_err(invalid)?;
                dead_letter::topic(topic, &group).map_err(invalid)?;
                wiring.admin.ensure(&retries, Form::Detour)?;
                kinds.insert(topic.clone(), Kind::Messages);
                kinds.insert(retries, Kind::Retries(topic.clone()));
            }
            if start == Start::Latest {
                skip_history(wiring, &group, &topics)?;
            }
            join(wiring, group, kinds, in_flight_max)
        }
        Audience::Everyone => everyone(wiring, &topics, in_flight_max),
    }
}

/// Publishes the scheduled messages of a topic when they are due, until it is dropped.
pub(super) fn forward(wiring: &Wiring, topic: &TopicName) -> Result<Running, Error> {
    let scheduled = detour::scheduled_topic(topic).map_err(invalid)?;
    wiring.admin.ensure(&scheduled, Form::Detour)?;
    let group = detour::scheduler_group(topic).map_err(invalid)?;
    let kinds = BTreeMap::from([(scheduled, Kind::Scheduled(topic.clone()))]);
    join(wiring, group, kinds, FORWARDED_MAX)
}

fn join(
    wiring: &Wiring,
    group: GroupName,
    kinds: BTreeMap<TopicName, Kind>,
    in_flight_max: usize,
) -> Result<Running, Error> {
    let config = wiring.options.client(&[
        ("group.id", group.as_str()),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "earliest"),
        ("isolation.level", "read_committed"),
    ]);
    let shared = Shared::new(Some(group), kinds, in_flight_max, wiring.clone());
    let reader = Reader::open(Arc::clone(&shared), &config)?;
    let committer = Committer::start(&shared)?;
    // Made a moment ago: nobody else sets it.
    shared.committer.set(committer).ok();
    reader.join()?;
    reader.start()?;
    Ok(Running(shared))
}

/// Everything that is published from now on, for this subscription alone.
fn everyone(wiring: &Wiring, topics: &[TopicName], in_flight_max: usize) -> Result<Running, Error> {
    // The client library wants a name even where no group is joined and nothing is committed.
    let name = format!("wharf.everyone.{}", uuid::Uuid::now_v7());
    let config = wiring.options.client(&[
        ("group.id", &name),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "earliest"),
        ("isolation.level", "read_committed"),
    ]);
    let kinds = topics.iter().map(|topic| (topic.clone(), Kind::Messages));
    let shared = Shared::new(None, kinds.collect(), in_flight_max, wiring.clone());
    let reader = Reader::open(Arc::clone(&shared), &config)?;
    let mut ends = Vec::new();
    for topic in topics {
        let partitions = wiring.admin.partitions(topic)?;
        for partition in 0..partitions.unwrap_or(0) {
            let end = wiring.admin.end(topic, partition)?;
            let topic = topic.clone();
            ends.push(beginning(topic, partition, end));
        }
    }
    reader.assign(&ends)?;
    reader.start()?;
    Ok(Running(shared))
}

/// Commits the ends of the partitions that the group has never committed, so that whoever of it
/// reads them first begins there and nowhere later.
fn skip_history(wiring: &Wiring, group: &GroupName, topics: &[TopicName]) -> Result<(), Error> {
    let config = wiring.options.client(&[
        ("group.id", group.as_str()),
        ("enable.auto.commit", "false"),
    ]);
    let consumer: BaseConsumer = config.create().map_err(|error| error::general(&error))?;
    let mut list = TopicPartitionList::new();
    for topic in topics {
        for partition in 0..wiring.admin.partitions(topic)?.unwrap_or(0) {
            list.add_partition(topic.as_str(), partition);
        }
    }
    let known = consumer.committed_offsets(list, PATIENCE);
    let known = known.map_err(|error| error::general(&error))?;
    let mut ends = Vec::new();
    for one in known.elements() {
        if !matches!(one.offset(), Offset::Offset(_)) {
            let topic = TopicName::new(one.topic()).map_err(invalid)?;
            let partition = one.partition();
            let end = wiring.admin.end(&topic, partition)?;
            ends.push(beginning(topic, partition, end));
        }
    }
    if ends.is_empty() {
        return Ok(());
    }
    if let Err(error) = consumer.commit(&offsets(&ends), CommitMode::Sync) {
        tracing::warn!(%error, %group, "the group has members already, so its beginning cannot be set at the end of partitions that are new to it; it reads them from the earliest message kept");
    }
    Ok(())
}

fn beginning(topic: TopicName, partition: i32, watermark: i64) -> Commit {
    Commit {
        partition: TopicPartition { topic, partition },
        watermark,
        noted: Vec::new(),
    }
}
