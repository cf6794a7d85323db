//! Reads what the broker serves, with clients of its own that take no part in the load.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::admin::{AdminClient, AdminOptions, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::checker::Served;
use crate::history::{Place, Stamp};
use crate::load::{self, MEMBER, MODERN, READER, Shared, TRANSFORMER};

/// The longest one answer may take.
const WITHIN: Duration = Duration::from_secs(20);
/// The longest reading one partition may take.
const READ_WITHIN: Duration = Duration::from_secs(120);

/// Committed offsets and topics, while transactions go on: those that are pending do not count.
pub(crate) fn state(shared: &Shared) -> Result<Served> {
    state_with(shared, "read_uncommitted")
}

/// `isolation` decides whether the offsets of an open transaction are waited for.
fn state_with(shared: &Shared, isolation: &str) -> Result<Served> {
    let mut served = Served {
        topics: topics(shared)?,
        ..Served::default()
    };
    for group in [MEMBER, MODERN, READER, TRANSFORMER] {
        let consumer: BaseConsumer = shared
            .config()
            .set("group.id", group)
            .set("isolation.level", isolation)
            .create()?;
        let mut list = TopicPartitionList::new();
        for (topic, partition) in load::places() {
            list.add_partition(topic, partition);
        }
        let answer = consumer
            .committed_offsets(list, WITHIN)
            .with_context(|| format!("the committed offsets of {group}"))?;
        for place in load::places() {
            let found = answer
                .find_partition(place.0, place.1)
                .context("a partition is missing")?;
            found.error()?;
            if let Offset::Offset(offset) = found.offset() {
                served.committed.insert((group, place), offset);
            }
        }
    }
    Ok(served)
}

/// The retention time of every topic that the administrator made.
fn topics(shared: &Shared) -> Result<BTreeMap<String, i64>> {
    let client: AdminClient<DefaultClientContext> = shared.config().create()?;
    let metadata = client
        .inner()
        .fetch_metadata(None, WITHIN)
        .context("the list of topics")?;
    let names: Vec<&str> = metadata
        .topics()
        .iter()
        .map(rdkafka::metadata::MetadataTopic::name)
        .filter(|name| name.starts_with("made-"))
        .collect();
    let asked: Vec<ResourceSpecifier<'_>> = names
        .iter()
        .map(|name| ResourceSpecifier::Topic(name))
        .collect();
    if asked.is_empty() {
        return Ok(BTreeMap::new());
    }
    let options = AdminOptions::new().request_timeout(Some(WITHIN));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let answers = runtime.block_on(client.describe_configs(&asked, &options))?;
    let mut found = BTreeMap::new();
    // A topic that was deleted between the two questions has no answer.
    for resource in answers.into_iter().flatten() {
        let OwnedResourceSpecifier::Topic(name) = &resource.specifier else {
            bail!("asked for topics, answered with {:?}", resource.specifier);
        };
        // Nor does the client library tell errors of single resources: they have no settings.
        if resource.entries.is_empty() {
            continue;
        }
        let value = resource
            .get("retention.ms")
            .and_then(|entry| entry.value.as_deref());
        let value = value.with_context(|| format!("{name} has no retention time"))?;
        found.insert(name.clone(), value.parse()?);
    }
    Ok(found)
}

/// Everything: the state, and every committed record from the first offset to the end.
pub(crate) fn all(shared: &Shared) -> Result<Served> {
    let mut served = state_with(shared, "read_committed")?;
    for place in load::places() {
        served.records.insert(place, records(shared, place)?);
    }
    for place in load::ledger_places() {
        served.ledger.insert(place, records(shared, place)?);
    }
    Ok(served)
}

fn records(shared: &Shared, place: Place) -> Result<Vec<(i64, Option<Stamp>)>> {
    let consumer: BaseConsumer = shared
        .config()
        .set("group.id", "kill-checker")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(place.0, place.1, Offset::Beginning)?;
    consumer.assign(&list)?;
    let (_, end) = consumer.fetch_watermarks(place.0, place.1, WITHIN)?;
    let (mut found, deadline) = (Vec::new(), Instant::now() + READ_WITHIN);
    loop {
        if Instant::now() > deadline {
            bail!(
                "{place:?}: {} records of {end} within {READ_WITHIN:?}",
                found.len()
            );
        }
        match consumer.poll(Duration::from_millis(200)) {
            None => {}
            Some(Ok(message)) => {
                let stamp = load::stamp_of(place, message.payload().unwrap_or_default());
                found.push((message.offset(), stamp));
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(found),
            Some(Err(error)) => return Err(error).with_context(|| format!("reading {place:?}")),
        }
    }
}
