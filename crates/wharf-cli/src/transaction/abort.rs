//! `wharf transaction abort`: by its transactional id, or by where it begins in a partition.

use clap::Args;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use kafka_protocol::messages::{InitProducerIdRequest, ProducerId, WriteTxnMarkersRequest};
use wharf_server::Problem;

use super::{ONGOING, describe, hanging, partitions, transactional_id};
use crate::cli::Outcome;
use crate::client::Connection;
use crate::cluster::{Cluster, patiently, topic_name};
use crate::wire::refused;
use crate::{confirm, output};

/// Abort an open transaction: what it wrote will not count, and its producer is fenced.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf transaction abort billing-1
  wharf transaction abort billing-1 --dry-run
  wharf transaction abort --topic invoices --partition 0 --start-offset 1234

By its id it is aborted in all its partitions at once. One that hangs, of which its id knows nothing
any more, is aborted partition by partition: `wharf transaction find-hanging` shows where it begins.")]
pub(crate) struct Abort {
    /// The transactional id
    #[arg(required_unless_present = "topic", conflicts_with = "topic")]
    id: Option<String>,
    /// The topic of a transaction that hangs
    #[arg(long, requires_all = ["partition", "start_offset"])]
    topic: Option<String>,
    /// The partition
    #[arg(long, requires = "topic", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// The offset at which it begins in the partition
    #[arg(long, requires = "topic", value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    start_offset: Option<i64>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Only say what would be aborted
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Abort {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        let mut cluster = Cluster::connect(&self.connection)?;
        match (&self.id, &self.topic, self.partition, self.start_offset) {
            (_, Some(topic), Some(partition), Some(start)) => {
                self.by_place(&mut cluster, topic, partition, start)
            }
            (id, ..) => self.by_id(&mut cluster, id.as_deref().unwrap_or_default()),
        }
    }

    /// A new instance of the producer, which nobody uses, fences the open one.
    fn by_id(&self, cluster: &mut Cluster, id: &str) -> anyhow::Result<Outcome> {
        let state = describe(cluster, id)?;
        if state.transaction_state.as_str() != ONGOING {
            let state = state.transaction_state;
            output::note(&format!("{id} has no open transaction ({state})"))?;
            return Ok(Outcome::Negative);
        }
        let places = partitions(&state).len();
        let what = format!("the transaction of {id} (partitions: {places})");
        if !self.goes_on(id, &what)? {
            return Ok(self.ends_without());
        }
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional_id(id)))
            .with_transaction_timeout_ms(state.transaction_timeout_ms)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        patiently(|| {
            let answer = cluster.transaction_coordinator(id)?.ask(&request)?;
            Ok(match ResponseError::try_from_code(answer.error_code) {
                None => Ok(()),
                Some(error) => {
                    let what = format!("the transaction of {id:?} could not be aborted");
                    Err((error, refused(what, error, None)))
                }
            })
        })?;
        output::note(&format!("{id}: aborted, and its producer is fenced"))?;
        Ok(Outcome::Done)
    }

    /// The mark that its coordinator would write, in this partition alone.
    fn by_place(
        &self,
        cluster: &mut Cluster,
        topic: &str,
        partition: i32,
        start: i64,
    ) -> anyhow::Result<Outcome> {
        let open = hanging::open_transactions(cluster, topic, Some(partition))?;
        let found = open.into_iter().find(|one| one.start == start);
        let Some(found) = found else {
            return Err(Problem::plain(
                format!("no open transaction begins at offset {start} of {topic}[{partition}]"),
                "it has ended meanwhile, or begins elsewhere",
                "`wharf transaction find-hanging` shows where those that hang begin",
            )
            .into());
        };
        let place = format!("{topic}[{partition}]");
        let what = format!("the transaction of producer {} in {place}", found.producer);
        if !self.goes_on(topic, &what)? {
            return Ok(self.ends_without());
        }
        let marked = WritableTxnMarkerTopic::default()
            .with_name(topic_name(topic))
            .with_partition_indexes(vec![partition]);
        let marker = WritableTxnMarker::default()
            .with_producer_id(ProducerId(found.producer))
            .with_producer_epoch(found.epoch)
            .with_transaction_result(false)
            .with_topics(vec![marked])
            .with_coordinator_epoch(found.coordinator_epoch.max(0));
        let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
        let answer = cluster.at(&found.leader)?.ask(&request)?;
        let mut results = answer.markers.iter().flat_map(|marker| &marker.topics);
        let result = results.find_map(|topic| topic.partitions.first());
        let code = result.map_or(ResponseError::UnknownServerError.code(), |one| {
            one.error_code
        });
        if let Some(error) = ResponseError::try_from_code(code) {
            let what = format!("the transaction in {place} could not be aborted");
            return Err(refused(what, error, None));
        }
        output::note(&format!(
            "{place}: the transaction at offset {start} is aborted"
        ))?;
        Ok(Outcome::Done)
    }

    /// Whether to do it; says what would be done where it is not.
    fn goes_on(&self, name: &str, what: &str) -> anyhow::Result<bool> {
        if self.dry_run {
            output::note(&format!("{what} would be aborted"))?;
            return Ok(false);
        }
        let goes_on = confirm::destroy(self.yes, name, &format!("aborting {what}"))?;
        if !goes_on {
            output::note("nothing was aborted")?;
        }
        Ok(goes_on)
    }

    const fn ends_without(&self) -> Outcome {
        if self.dry_run {
            Outcome::Done
        } else {
            Outcome::Negative
        }
    }
}
