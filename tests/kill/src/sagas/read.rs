//! Reads everything that is compared: the API, the topics, the metric, and the books of the banks.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use super::bank::Bank;
use super::check::{Alarm, Evidence, Known, Seen, Sent};
use super::machines::{self, NORTH};
use super::worker::group;
use super::{BANKS, http};

/// The longest one answer may take.
const WITHIN: Duration = Duration::from_secs(20);
/// The longest reading one topic may take.
const READ_WITHIN: Duration = Duration::from_secs(60);
/// The topics that are read.
const ALARMS: &str = "_wharf.saga-alarms";
const AUDIT: &str = "_wharf.audit";

/// Everything there is.
pub(super) fn evidence(kafka: &str, api: &str, scratch: &Path, known: Known) -> Result<Evidence> {
    let (mut books, mut opening) = (Vec::new(), BTreeMap::new());
    for bank in BANKS {
        books.push(Bank::open(&scratch.join(bank).with_extension("db"))?.books()?);
        opening.extend(machines::accounts(bank));
    }
    Ok(Evidence {
        known,
        sagas: sagas(api)?,
        books,
        opening,
        commands: records(kafka, NORTH, command)?,
        alarms: records(kafka, ALARMS, alarm)?,
        audit: records(kafka, AUDIT, |message| Ok(reason(&value(message)?)))?
            .into_iter()
            .flatten()
            .collect(),
        parked: parked(api)?,
    })
}

/// Every row of the list.
pub(super) fn list(api: &str, filter: &str) -> Result<Vec<Value>> {
    let (mut rows, mut after) = (Vec::new(), String::new());
    loop {
        let page = http::read(api, &format!("/api/v1/sagas?limit=500{filter}{after}"))?;
        let found = page["sagas"].as_array().context("there is no list")?;
        rows.extend(found.iter().cloned());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(rows),
        }
    }
}

fn sagas(api: &str) -> Result<BTreeMap<String, Seen>> {
    let mut sagas = BTreeMap::new();
    for row in list(api, "")? {
        let id = row["id"]
            .as_str()
            .context("a row without an id")?
            .to_owned();
        let path = format!("/api/v1/sagas/{id}");
        let shown = http::read(api, &path)?;
        let mut history = http::read(api, &format!("{path}/facts"))?;
        let facts = serde_json::from_value(history["facts"].take())?;
        sagas.insert(id, Seen { row, shown, facts });
    }
    Ok(sagas)
}

/// Everything that the API says of sagas, byte by byte.
pub(super) fn bytes(api: &str) -> Result<BTreeMap<String, String>> {
    let mut said = BTreeMap::new();
    let mut keep = |path: String| {
        let text = http::read_text(api, &path)?;
        Ok::<_, anyhow::Error>(said.insert(path, text))
    };
    keep("/api/v1/sagas/counts".to_owned())?;
    keep("/api/v1/sagas?limit=1000".to_owned())?;
    keep("/api/v1/saga-definitions".to_owned())?;
    for row in list(api, "")? {
        let id = row["id"].as_str().unwrap_or_default();
        for part in ["", "/facts", "/timeline", "/undo"] {
            keep(format!("/api/v1/sagas/{id}{part}"))?;
        }
    }
    Ok(said)
}

/// What differs between two readings.
pub(super) fn differences(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<String> {
    let paths = before
        .keys()
        .chain(after.keys().filter(|path| !before.contains_key(*path)));
    let wrong = paths.filter(|path| before.get(*path) != after.get(*path));
    wrong
        .map(|path| {
            let text = |all: &BTreeMap<String, String>| all.get(path).cloned().unwrap_or_default();
            let (before, after) = (text(before), text(after));
            let pairs = before.chars().zip(after.chars());
            let same = pairs.take_while(|(one, other)| one == other).count();
            let part = |text: &str| -> String {
                text.chars()
                    .skip(same.saturating_sub(40))
                    .take(240)
                    .collect()
            };
            format!("{path}: …{}… became …{}…", part(&before), part(&after))
        })
        .collect()
}

fn parked(api: &str) -> Result<u64> {
    let text = http::read_text(api, "/metrics")?;
    let lines = text
        .lines()
        .filter(|line| line.starts_with("wharf_saga_parked{"));
    let mut sum = 0;
    for line in lines {
        let (_, number) = line.rsplit_once(' ').context("a metric without a number")?;
        sum += number.parse::<u64>()?;
    }
    Ok(sum)
}

/// How many commands no worker has told to have read.
pub(super) fn lag(kafka: &str) -> Result<i64> {
    let consumer = consumer(kafka, &group(NORTH))?;
    let mut lag = 0;
    for partition in partitions(&consumer, NORTH)? {
        let (start, end) = consumer.fetch_watermarks(NORTH, partition, WITHIN)?;
        let mut list = TopicPartitionList::new();
        list.add_partition(NORTH, partition);
        let committed = consumer.committed_offsets(list, WITHIN)?;
        let committed = committed.find_partition(NORTH, partition);
        lag += match committed.map(|found| found.offset()) {
            Some(Offset::Offset(offset)) => end - offset,
            _ => end - start,
        };
    }
    Ok(lag)
}

fn consumer(kafka: &str, group: &str) -> Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", kafka)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true");
    Ok(config.create()?)
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), WITHIN)?;
    let found = metadata.topics().first().context("no such topic")?;
    Ok(found
        .partitions()
        .iter()
        .map(rdkafka::metadata::MetadataPartition::id)
        .collect())
}

fn records<T>(
    kafka: &str,
    topic: &str,
    read: impl Fn(&BorrowedMessage<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let consumer = consumer(kafka, "kill-checker")?;
    let mut found = Vec::new();
    for partition in partitions(&consumer, topic)? {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
        consumer.assign(&list)?;
        let deadline = Instant::now() + READ_WITHIN;
        loop {
            if Instant::now() > deadline {
                bail!("{topic}: {} records within {READ_WITHIN:?}", found.len());
            }
            match consumer.poll(Duration::from_millis(200)) {
                None => {}
                Some(Ok(message)) => found.push(read(&message)?),
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) => return Err(error).with_context(|| format!("reading {topic}")),
            }
        }
    }
    Ok(found)
}

fn command(message: &BorrowedMessage<'_>) -> Result<Sent> {
    let header = |name: &str| {
        let headers = message.headers()?;
        let found = headers.iter().find(|header| header.key == name)?;
        std::str::from_utf8(found.value?).ok()
    };
    let need = |name: &str| header(name).with_context(|| format!("a command without {name}"));
    Ok((
        need("saga-id")?.to_owned(),
        need("step")?.parse()?,
        need("generation")?.parse()?,
        header("undo") == Some("true"),
    ))
}

fn value(message: &BorrowedMessage<'_>) -> Result<Value> {
    Ok(serde_json::from_slice(
        message.payload().unwrap_or_default(),
    )?)
}

fn alarm(message: &BorrowedMessage<'_>) -> Result<Alarm> {
    Ok(alarm_of(&value(message)?))
}

/// An alarm, as it is recorded and as it is posted.
pub(super) fn alarm_of(value: &Value) -> Alarm {
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let step = value["step"]
        .as_u64()
        .and_then(|step| u32::try_from(step).ok());
    (text("saga"), step, text("reason"))
}

/// The reason of an action on a saga.
fn reason(value: &Value) -> Option<String> {
    let on_saga = value["saga"].is_string();
    let found = value["reason"].as_str().filter(|_| on_saga)?;
    Some(found.to_owned())
}
