//! What an earlier run got into the topic, read from the topic itself.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::state::State;
use super::{ID_HEADER, ROW_HEADER};
use crate::client::Connection;
use crate::place;

/// The last row of the ingest in each partition. Rows of a partition arrive in order, so all
/// earlier ones of that partition are in, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Arrived(BTreeMap<i32, u64>);

impl Arrived {
    /// Whether a row that belongs to `partition` is in.
    pub(super) fn has(&self, partition: i32, row: u64) -> bool {
        self.0.get(&partition).is_some_and(|last| row <= *last)
    }
}

/// Scans what came into the topic since the ingest began.
pub(super) fn arrived(connection: &Connection, state: &State) -> anyhow::Result<Arrived> {
    let mut config = connection.config();
    config.set("group.id", "wharf-cli");
    config.set("enable.auto.commit", "false");
    config.set("enable.partition.eof", "true");
    let consumer: BaseConsumer = connection.create(&config)?;
    let ids: Vec<i32> = state
        .partitions
        .iter()
        .map(|(partition, _)| *partition)
        .collect();
    let mut assigned = TopicPartitionList::new();
    let mut open = BTreeMap::new();
    for (extent, (_, begun)) in place::extents(&consumer, &state.topic, &ids)?
        .iter()
        .zip(&state.partitions)
    {
        let from = extent.start.max(*begun);
        if from < extent.end {
            assigned.add_partition_offset(&state.topic, extent.partition, Offset::Offset(from))?;
            open.insert(extent.partition, extent.end);
        }
    }
    let mut arrived = Arrived::default();
    if open.is_empty() {
        return Ok(arrived);
    }
    consumer.assign(&assigned)?;
    while !open.is_empty() {
        match consumer.poll(Duration::from_secs(1)) {
            Some(Ok(message)) => {
                if let Some(row) = row_of(&message, &state.id) {
                    let last = arrived.0.entry(message.partition()).or_insert(row);
                    *last = row.max(*last);
                }
                if open
                    .get(&message.partition())
                    .is_some_and(|end| message.offset() + 1 >= *end)
                {
                    open.remove(&message.partition());
                }
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(error)) => return Err(connection.explain(&error)),
            None => {}
        }
    }
    Ok(arrived)
}

fn row_of(message: &impl Message, id: &str) -> Option<u64> {
    let headers = message.headers()?;
    let value = |name: &str| {
        headers
            .iter()
            .find(|header| header.key == name)
            .and_then(|header| header.value)
    };
    if value(ID_HEADER)? != id.as_bytes() {
        return None;
    }
    std::str::from_utf8(value(ROW_HEADER)?).ok()?.parse().ok()
}
