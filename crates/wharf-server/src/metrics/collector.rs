//! What the broker and the log know, asked at each scrape.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use wharf_broker::{Broker, Context, Topic, TopicRef};
use wharf_log::Health;

/// How many pairs of group and topic have their lag shown; the first by name.
const LAGS_MAX: usize = 1_000;

/// Asks broker and log when somebody scrapes.
#[derive(Debug)]
pub(crate) struct NodeCollector {
    pub(crate) broker: Broker,
    pub(crate) node: String,
    pub(crate) cluster_id: String,
}

impl Collector for NodeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let info = [
            ("node", self.node.clone()),
            ("cluster_id", self.cluster_id.clone()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        gauges(&mut encoder, ("node_info", "The node"), [(info, 1)])?;
        self.log(&mut encoder)?;
        self.broker(&mut encoder)
    }
}

impl NodeCollector {
    fn log(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let reader = self.broker.reader();
        let numbers = reader.statistics();
        for (name, help, value) in [
            (
                "log_frames",
                "Frames written to the journal",
                numbers.frames,
            ),
            ("log_syncs", "Syncs of the journal", numbers.syncs),
            ("log_units", "Atomic units committed", numbers.units),
            ("log_batches", "Record batches appended", numbers.batches),
            ("log_records", "Records appended", numbers.records),
            (
                "log_memory_reads",
                "Reads answered from memory",
                numbers.reads_from_memory,
            ),
            (
                "log_disk_reads",
                "Reads that touched the disk",
                numbers.reads_from_disk,
            ),
        ] {
            counter(encoder, (name, help), None, value)?;
        }
        let bytes = Some(&Unit::Bytes);
        let appended = ("log_appended", "Record batches appended");
        counter(encoder, appended, bytes, numbers.batch_bytes)?;
        let settled = (
            "log_settled",
            "Record batches moved from the journal to segments",
        );
        counter(encoder, settled, bytes, numbers.settled_bytes)?;
        let compacted = ("log_compacted", "Segments that compaction has replaced");
        counter(encoder, compacted, bytes, numbers.compacted_bytes)?;
        let health = reader.health();
        let is = |yes: bool| i64::from(yes);
        for (name, help, value) in [
            (
                "log_journal_files",
                "Journal files on disk",
                whole(numbers.journal_files),
            ),
            (
                "log_damaged_ranges",
                "Damaged ranges that are refused",
                count(reader.damaged().len()),
            ),
            (
                "log_disk_full",
                "1 while writes are refused for want of space",
                is(health == Health::DiskFull),
            ),
            (
                "log_poisoned",
                "1 after a failed write or sync, until the node is restarted",
                is(matches!(health, Health::Poisoned { .. })),
            ),
        ] {
            gauge(encoder, name, help, value)?;
        }
        Ok(())
    }

    fn broker(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let topics = self.broker.topics();
        let partitions = topics.iter().map(|topic| topic.partitions.len()).sum();
        for (name, help, value) in [
            ("broker_topics", "Topics", count(topics.len())),
            ("broker_partitions", "Partitions", count(partitions)),
        ] {
            gauge(encoder, name, help, value)?;
        }
        self.transactions(encoder)?;
        let groups = self.broker.list_groups(&context());
        let mut states: BTreeMap<&str, i64> = BTreeMap::new();
        for group in &groups {
            *states.entry(group.state).or_default() += 1;
        }
        let states = states
            .into_iter()
            .map(|(state, count)| ([("state", state.to_owned())], count));
        gauges(encoder, ("broker_groups", "Groups, by state"), states)?;
        let lags = self.lags(groups.into_iter().map(|group| group.group));
        let name = (
            "group_lag_records",
            "Records a group has not committed yet, by topic",
        );
        let lags = lags
            .into_iter()
            .map(|((group, topic), lag)| ([("group", group), ("topic", topic)], lag));
        gauges(encoder, name, lags)
    }

    fn transactions(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counts = self.broker.transaction_counts();
        for (name, help, value) in [
            (
                "broker_transactional_ids",
                "Transactional ids known",
                counts.ids,
            ),
            (
                "broker_transactions_open",
                "Open transactions",
                counts.ongoing,
            ),
        ] {
            gauge(encoder, name, help, count(value))?;
        }
        for (name, help, value) in [
            (
                "broker_transactions_committed",
                "Transactions committed",
                counts.committed,
            ),
            (
                "broker_transactions_aborted",
                "Transactions aborted, for whatever reason",
                counts.aborted,
            ),
            (
                "broker_transactions_timed_out",
                "Transactions aborted because they were open longer than their time-out",
                counts.timed_out,
            ),
        ] {
            counter(encoder, (name, help), None, value)?;
        }
        Ok(())
    }

    /// The lag of each group in each topic it has committed offsets for.
    fn lags(&self, groups: impl Iterator<Item = String>) -> BTreeMap<(String, String), i64> {
        let mut lags = BTreeMap::new();
        for group in groups {
            if lags.len() >= LAGS_MAX {
                break;
            }
            let committed = self
                .broker
                .committed_offsets(&context(), &group, None, None);
            let mut topic: Option<std::sync::Arc<Topic>> = None;
            for offset in committed.unwrap_or_default().into_iter().flatten() {
                if topic
                    .as_ref()
                    .is_none_or(|topic| topic.name.as_str() != offset.topic)
                {
                    topic = self
                        .broker
                        .topic(&TopicRef::Name(offset.topic.clone()))
                        .ok();
                }
                let partition = topic.as_ref().zip(usize::try_from(offset.partition).ok());
                let partition = partition.and_then(|(topic, index)| topic.partitions.get(index));
                let bounds = partition.and_then(|id| self.broker.reader().bounds(*id));
                if let Some(bounds) = bounds {
                    let lag = bounds
                        .end
                        .saturating_sub(offset.offset.max(bounds.start))
                        .max(0);
                    *lags.entry((group.clone(), offset.topic)).or_insert(0) += lag;
                }
            }
        }
        lags
    }
}

fn context() -> Context {
    Context::internal("metrics")
}

/// A size in memory never exceeds an `i64`.
fn count(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    unit: Option<&Unit>,
    value: u64,
) -> fmt::Result {
    let metric = ConstCounter::new(value);
    metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
}

/// One gauge.
fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> fmt::Result {
    let metric = ConstGauge::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// One gauge, once per set of labels.
fn gauges<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    values: impl IntoIterator<Item = ([(&'static str, String); N], i64)>,
) -> fmt::Result {
    let kind = ConstGauge::new(0_i64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in values {
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
