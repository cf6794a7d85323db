//! `wharf transaction`: list, describe, find-hanging, abort.
//!
//! What is aborted is first looked at: a transactional id that is not known is never made up by
//! asking for it, and a partition is marked only for the producer whose transaction begins there.

mod abort;
mod hanging;

use std::time::Duration;

use clap::{Args, Subcommand};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::{
    DescribeTransactionsRequest, ListTransactionsRequest, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use serde::Serialize;
use wharf_server::Problem;

use crate::cli::Outcome;
use crate::client::Connection;
use crate::cluster::{Cluster, address_of, patiently};
use crate::output::{self, Format, OutputArguments};
use crate::place::show_time;
use crate::wire::refused;

/// The state in which a transaction is open.
const ONGOING: &str = "Ongoing";

/// The verbs of `wharf transaction`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  wharf transaction list --state Ongoing
  wharf transaction describe billing-1
  wharf transaction abort billing-1")]
pub(crate) enum Command {
    /// List transactional ids
    List(List),
    /// Show the transaction of an id: its producer, since when, in which partitions
    Describe(Describe),
    /// Find transactions that nobody will end; exit code 1 when there are any
    FindHanging(hanging::FindHanging),
    /// Abort an open transaction
    Abort(abort::Abort),
}

/// List transactional ids.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf transaction list
  wharf transaction list --state Ongoing --longer-than 1m
  wharf transaction list -o json | jq -r '.[].id'")]
pub(crate) struct List {
    /// Only those in this state (Empty, Ongoing, CompleteCommit, …), may be repeated
    #[arg(long, value_name = "STATE")]
    state: Vec<String>,
    /// Only those whose transaction has been open for longer, as in 90s or 15m
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    longer_than: Option<Duration>,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    connection: Connection,
}

/// Show the transaction of an id.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf transaction describe billing-1
  wharf transaction describe billing-1 -o json | jq .partitions")]
pub(crate) struct Describe {
    /// The transactional id
    id: String,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Serialize)]
struct Row {
    id: String,
    state: String,
    producer: i64,
    coordinator: i32,
}

#[derive(Debug, Serialize)]
struct Description {
    id: String,
    state: String,
    producer: i64,
    epoch: i16,
    timeout_ms: i32,
    started: Option<String>,
    partitions: Vec<PartitionRow>,
}

#[derive(Debug, Serialize)]
struct PartitionRow {
    topic: String,
    partition: i32,
}

/// Runs a verb of `wharf transaction`.
pub(crate) fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::List(list) => list.run(),
        Command::Describe(describe) => describe.run(),
        Command::FindHanging(find) => find.run(),
        Command::Abort(abort) => abort.run(),
    }
}

impl List {
    fn run(self) -> anyhow::Result<Outcome> {
        let mut request = ListTransactionsRequest::default();
        let states = self.state.into_iter().map(StrBytes::from_string);
        request.state_filters = states.collect();
        if let Some(longer) = self.longer_than {
            request.duration_filter = i64::try_from(longer.as_millis()).unwrap_or(i64::MAX);
        }
        let mut cluster = Cluster::connect(&self.connection)?;
        let rows = list(&mut cluster, &request)?;
        let header = ["ID", "STATE", "PRODUCER", "COORDINATOR"];
        output::rows(self.output.format, &header, &rows, |row| {
            vec![
                row.id.clone(),
                row.state.clone(),
                row.producer.to_string(),
                row.coordinator.to_string(),
            ]
        })?;
        Ok(Outcome::Done)
    }
}

/// The transactional ids that pass the request's filters, of every broker, by name.
fn list(cluster: &mut Cluster, request: &ListTransactionsRequest) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for broker in cluster.metadata(Some(&[]))?.brokers {
        let wire = cluster.at(&address_of(&broker))?;
        let answer = patiently(|| {
            let answer = wire.ask(request)?;
            Ok(match ResponseError::try_from_code(answer.error_code) {
                Some(error) => Err((error, refused("transactions cannot be listed", error, None))),
                None => Ok(answer),
            })
        })?;
        if let Some(unknown) = answer.unknown_state_filters.first() {
            let what = format!("there is no state {:?}", unknown.as_str());
            let why = "the broker does not know it; states are written as it shows them";
            let fix = "`wharf transaction list` without --state shows the states there are";
            return Err(Problem::plain(what, why, fix).into());
        }
        rows.extend(answer.transaction_states.into_iter().map(|one| Row {
            id: one.transactional_id.to_string(),
            state: one.transaction_state.to_string(),
            producer: one.producer_id.0,
            coordinator: broker.node_id.0,
        }));
    }
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(rows)
}

fn transactional_id(id: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(id.to_owned()))
}

/// What its coordinator knows of a transactional id, which must be known.
fn describe(cluster: &mut Cluster, id: &str) -> anyhow::Result<TransactionState> {
    let request =
        DescribeTransactionsRequest::default().with_transactional_ids(vec![transactional_id(id)]);
    patiently(|| {
        let answer = cluster.transaction_coordinator(id)?.ask(&request)?;
        let mut states = answer.transaction_states.into_iter();
        let state = states.find(|state| state.transactional_id.as_str() == id);
        let state = state.ok_or_else(|| {
            let what = format!("the transactional id {id:?} cannot be described");
            let why = "the coordinator's answer does not name it";
            Problem::plain(what, why, "try again")
        })?;
        let Some(error) = ResponseError::try_from_code(state.error_code) else {
            return Ok(Ok(state));
        };
        let told = match error {
            ResponseError::TransactionalIdNotFound => Problem::plain(
                format!("the transactional id {id:?} is not known"),
                "no producer has used it, or not for so long that it was forgotten",
                "`wharf transaction list` shows all",
            )
            .into(),
            error => refused(
                format!("the transactional id {id:?} cannot be described"),
                error,
                None,
            ),
        };
        Ok(Err((error, told)))
    })
}

/// The partitions of a described transaction, in order.
fn partitions(state: &TransactionState) -> Vec<PartitionRow> {
    let mut places: Vec<(&str, i32)> = state
        .topics
        .iter()
        .flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|index| (topic.topic.as_str(), *index))
        })
        .collect();
    places.sort_unstable();
    let row = |(topic, partition): (&str, i32)| PartitionRow {
        topic: topic.to_owned(),
        partition,
    };
    places.into_iter().map(row).collect()
}

impl Describe {
    fn run(self) -> anyhow::Result<Outcome> {
        let mut cluster = Cluster::connect(&self.connection)?;
        let state = describe(&mut cluster, &self.id)?;
        let description = Description {
            partitions: partitions(&state),
            id: self.id,
            state: state.transaction_state.to_string(),
            producer: state.producer_id.0,
            epoch: state.producer_epoch,
            timeout_ms: state.transaction_timeout_ms,
            started: (state.transaction_start_time_ms >= 0)
                .then(|| show_time(state.transaction_start_time_ms)),
        };
        description.print(self.output.format)?;
        Ok(Outcome::Done)
    }
}

impl Description {
    fn print(&self, format: Format) -> anyhow::Result<()> {
        if format != Format::Table {
            return output::one(format, self);
        }
        let since = self.started.as_deref().map(|time| format!(" since {time}"));
        output::text(&format!(
            "{}: {}{}, producer {} epoch {}, time-out {} ms\n",
            self.id,
            self.state,
            since.unwrap_or_default(),
            self.producer,
            self.epoch,
            self.timeout_ms
        ))?;
        if self.partitions.is_empty() {
            return Ok(());
        }
        output::text("\n")?;
        output::rows(format, &["TOPIC", "PARTITION"], &self.partitions, |row| {
            vec![row.topic.clone(), row.partition.to_string()]
        })
    }
}
