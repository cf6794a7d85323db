//! `wharf transaction find-hanging`: transactions that are open in a partition, and of which no
//! coordinator knows: nobody will end them, and readers of committed records wait for good.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::PartitionResponse;
use kafka_protocol::messages::{DescribeProducersRequest, ListTransactionsRequest, ProducerId};
use serde::Serialize;
use wharf_server::Problem;

use super::{ONGOING, describe, list, partitions};
use crate::cli::Outcome;
use crate::client::Connection;
use crate::cluster::{Cluster, topic_name};
use crate::output::{self, OutputArguments};
use crate::place::show_time;
use crate::wire::refused;

/// Find transactions that nobody will end.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf transaction find-hanging
  wharf transaction find-hanging --topic invoices --idle-for 1h
  wharf transaction find-hanging -o json | jq -r '.[].topic'

Exit codes: 0 there is none, 1 there are some, 2 wrong usage, 3 could not run.")]
pub(crate) struct FindHanging {
    /// Only in this topic [default: all]
    #[arg(long)]
    topic: Option<String>,
    /// Only those that wrote nothing for so long: at least the longest time-out there is
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = humantime::parse_duration)]
    idle_for: Duration,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    connection: Connection,
}

/// A transaction that is open in a partition.
#[derive(Debug)]
pub(super) struct Open {
    topic: String,
    partition: i32,
    pub(super) start: i64,
    pub(super) producer: i64,
    pub(super) epoch: i16,
    pub(super) coordinator_epoch: i32,
    last_write: i64,
    /// The address of the partition's leader.
    pub(super) leader: String,
}

#[derive(Debug, Serialize)]
struct Row {
    topic: String,
    partition: i32,
    start_offset: i64,
    producer: i64,
    epoch: i16,
    last_write: String,
}

/// The transactions that are open in a topic, or in one partition of it.
pub(super) fn open_transactions(
    cluster: &mut Cluster,
    topic: &str,
    only: Option<i32>,
) -> anyhow::Result<Vec<Open>> {
    let mut open = Vec::new();
    let mut leaders = cluster.leaders(topic)?;
    if let Some(only) = only {
        leaders
            .values_mut()
            .for_each(|partitions| partitions.retain(|one| *one == only));
        leaders.retain(|_, partitions| !partitions.is_empty());
        if leaders.is_empty() {
            return Err(Problem::plain(
                format!("{topic} has no partition {only}"),
                "the broker does not know it",
                format!("`wharf topic describe {topic}` shows its partitions"),
            )
            .into());
        }
    }
    for (leader, indexes) in leaders {
        let asked = TopicRequest::default()
            .with_name(topic_name(topic))
            .with_partition_indexes(indexes);
        let request = DescribeProducersRequest::default().with_topics(vec![asked]);
        let answer = cluster.at(&leader)?.ask(&request)?;
        for partition in answer.topics.into_iter().flat_map(|topic| topic.partitions) {
            open.extend(in_partition(topic, &leader, partition)?);
        }
    }
    Ok(open)
}

fn in_partition(
    topic: &str,
    leader: &str,
    partition: PartitionResponse,
) -> anyhow::Result<Vec<Open>> {
    let index = partition.partition_index;
    if let Some(error) = ResponseError::try_from_code(partition.error_code) {
        let what = format!("the producers of {topic}[{index}] cannot be described");
        return Err(refused(what, error, partition.error_message.as_deref()));
    }
    let producers = partition.active_producers.into_iter();
    let open = producers.filter(|producer| producer.current_txn_start_offset >= 0);
    let open = open.map(|producer| {
        Ok(Open {
            topic: topic.to_owned(),
            partition: index,
            start: producer.current_txn_start_offset,
            producer: producer.producer_id.0,
            epoch: i16::try_from(producer.producer_epoch)?,
            coordinator_epoch: producer.coordinator_epoch,
            last_write: producer.last_timestamp,
            leader: leader.to_owned(),
        })
    });
    open.collect()
}

impl FindHanging {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        let mut cluster = Cluster::connect(&self.connection)?;
        let topics = match self.topic.clone() {
            Some(topic) => vec![topic],
            None => all_topics(&mut cluster)?,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let latest = now.unwrap_or_default().saturating_sub(self.idle_for);
        let latest = i64::try_from(latest.as_millis()).unwrap_or(i64::MAX);
        let open = hanging(&mut cluster, &topics, latest)?;
        let rows: Vec<Row> = open.into_iter().map(Row::from).collect();
        let header = [
            "TOPIC",
            "PARTITION",
            "START",
            "PRODUCER",
            "EPOCH",
            "LAST WRITE",
        ];
        output::rows(self.output.format, &header, &rows, |row| {
            vec![
                row.topic.clone(),
                row.partition.to_string(),
                row.start_offset.to_string(),
                row.producer.to_string(),
                row.epoch.to_string(),
                row.last_write.clone(),
            ]
        })?;
        Ok(if rows.is_empty() {
            Outcome::Done
        } else {
            Outcome::Negative
        })
    }
}

impl From<Open> for Row {
    fn from(open: Open) -> Self {
        Self {
            topic: open.topic,
            partition: open.partition,
            start_offset: open.start,
            producer: open.producer,
            epoch: open.epoch,
            last_write: show_time(open.last_write),
        }
    }
}

/// The transactions open in these topics that no coordinator knows, and in which nothing was
/// written after `latest`, in milliseconds since the Unix epoch.
fn hanging(cluster: &mut Cluster, topics: &[String], latest: i64) -> anyhow::Result<Vec<Open>> {
    let mut open = Vec::new();
    for topic in topics {
        open.extend(open_transactions(cluster, topic, None)?);
    }
    open.retain(|one| one.last_write <= latest);
    let known = known_to_coordinators(cluster, &open)?;
    let unknown = |one: &Open| !known.contains(&(one.producer, one.topic.clone(), one.partition));
    open.retain(unknown);
    // What ended between the two questions is none.
    let topics: BTreeSet<String> = open.iter().map(|one| one.topic.clone()).collect();
    let mut still = BTreeSet::new();
    for topic in &topics {
        let open = open_transactions(cluster, topic, None)?.into_iter();
        still.extend(open.map(|one| (one.producer, one.topic, one.partition, one.start)));
    }
    open.retain(|one| still.contains(&(one.producer, one.topic.clone(), one.partition, one.start)));
    Ok(open)
}

fn all_topics(cluster: &mut Cluster) -> anyhow::Result<Vec<String>> {
    let topics = cluster.metadata(None)?.topics.into_iter();
    let mut names: Vec<String> = topics
        .filter_map(|one| Some(one.name?.to_string()))
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// The partitions, with the producer, that coordinators will end themselves: those of the open
/// transactions of these producers' ids.
fn known_to_coordinators(
    cluster: &mut Cluster,
    open: &[Open],
) -> anyhow::Result<BTreeSet<(i64, String, i32)>> {
    let mut known = BTreeSet::new();
    let producers: BTreeSet<i64> = open.iter().map(|one| one.producer).collect();
    if producers.is_empty() {
        return Ok(known);
    }
    let filters = producers.into_iter().map(ProducerId).collect();
    let request = ListTransactionsRequest::default().with_producer_id_filters(filters);
    let ids: BTreeMap<String, String> = list(cluster, &request)?
        .into_iter()
        .map(|row| (row.id, row.state))
        .collect();
    // What is being ended needs nobody's help either.
    let ending = |state: &str| state == ONGOING || state.starts_with("Prepare");
    for (id, _) in ids.iter().filter(|(_, state)| ending(state)) {
        let state = describe(cluster, id)?;
        let producer = state.producer_id.0;
        let places = partitions(&state).into_iter();
        known.extend(places.map(|place| (producer, place.topic, place.partition)));
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use kafka_protocol::messages::describe_producers_response::{ProducerState, TopicResponse};
    use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
    use kafka_protocol::messages::find_coordinator_response::Coordinator;
    use kafka_protocol::messages::list_transactions_response::TransactionState as Listed;
    use kafka_protocol::messages::metadata_response::{
        MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };
    use kafka_protocol::messages::*;
    use kafka_protocol::protocol::StrBytes;

    use super::*;
    use crate::transaction::transactional_id;
    use crate::wire::fake::{Answers, serve};

    fn open(producer: i64, start: i64, last_write: i64) -> ProducerState {
        ProducerState::default()
            .with_producer_id(ProducerId(producer))
            .with_current_txn_start_offset(start)
            .with_last_timestamp(last_write)
    }

    /// A broker with one partition, in which producers 7, 8 and 9 have open transactions and 10 has
    /// none; only that of producer 7 has an id that knows of it.
    fn answers(port: u16) -> Answers {
        let host = StrBytes::from_static_str("127.0.0.1");
        let broker = MetadataResponseBroker::default()
            .with_host(host.clone())
            .with_port(port.into());
        let partition = MetadataResponsePartition::default();
        let topic = MetadataResponseTopic::default()
            .with_name(Some(topic_name("invoices")))
            .with_partitions(vec![partition]);
        let metadata = MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_topics(vec![topic]);
        let coordinator = Coordinator::default()
            .with_key(StrBytes::from_static_str("billing-1"))
            .with_host(host)
            .with_port(port.into());
        let producers = vec![
            open(7, 5, 1000),
            open(8, 6, 1000),
            open(9, 7, 3000),
            open(10, -1, 1000),
        ];
        let partition = PartitionResponse::default().with_active_producers(producers);
        let topic = TopicResponse::default().with_partitions(vec![partition]);
        let ongoing = StrBytes::from_static_str(ONGOING);
        let listed = Listed::default()
            .with_transactional_id(transactional_id("billing-1"))
            .with_transaction_state(ongoing.clone());
        let place = TopicData::default()
            .with_topic(topic_name("invoices"))
            .with_partitions(vec![0]);
        let described = TransactionState::default()
            .with_transactional_id(transactional_id("billing-1"))
            .with_transaction_state(ongoing)
            .with_producer_id(ProducerId(7))
            .with_topics(vec![place]);
        Answers::default()
            .with::<MetadataRequest>(4, &metadata)
            .with::<FindCoordinatorRequest>(
                4,
                &FindCoordinatorResponse::default().with_coordinators(vec![coordinator]),
            )
            .with::<DescribeProducersRequest>(
                0,
                &DescribeProducersResponse::default().with_topics(vec![topic]),
            )
            .with::<ListTransactionsRequest>(
                1,
                &ListTransactionsResponse::default().with_transaction_states(vec![listed]),
            )
            .with::<DescribeTransactionsRequest>(
                0,
                &DescribeTransactionsResponse::default().with_transaction_states(vec![described]),
            )
    }

    #[test]
    fn what_no_coordinator_knows_hangs() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let server = serve(listener, answers(address.port()));
        let mut cluster = Cluster::of(&address.to_string(), None).expect("it answers");
        assert_eq!(all_topics(&mut cluster).expect("an answer"), ["invoices"]);
        let topics = ["invoices".to_owned()];
        let found = hanging(&mut cluster, &topics, 2000).expect("answers");
        let found: Vec<_> = found.iter().map(|one| (one.producer, one.start)).collect();
        assert_eq!(found, [(8, 6)]);
        drop(cluster);
        server.join().expect("the broker ended");
    }
}
