//! `wharf consume`: records of a topic to stdout, from a place, until a place, or as a group.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::cli::{Outcome, Usage};
use crate::client::{Connection, wait};
use crate::output::{self, OutputArguments};
use crate::place::{self, Place};
use crate::record::Record;

/// How long one look for a record takes when there is none.
const IDLE: Duration = Duration::from_secs(1);
/// Output is written at the latest when so much has gathered.
const OUT_BYTES_MAX: usize = 64 << 10;

/// Print the records of a topic.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf consume orders                                  everything, then what comes
  wharf consume orders --from end                       only what comes
  wharf consume orders --until end -o jsonl             everything there is, then stop
  wharf consume orders --from @-1h --until @-30m
  wharf consume orders --from -10 --until end --values  the last ten of each partition
  wharf consume orders --group billing                  as a member of a group")]
pub(crate) struct Consume {
    /// The topic
    topic: String,
    /// Where to start: beginning, end, an offset, -N (the last N) or @TIME.
    /// With --group only where the group has committed nothing
    #[arg(
        long,
        value_name = "PLACE",
        default_value = "beginning",
        allow_hyphen_values = true
    )]
    from: Place,
    /// Where to stop, as at the start of the command [default: go on]
    #[arg(
        long,
        value_name = "PLACE",
        allow_hyphen_values = true,
        conflicts_with = "group"
    )]
    until: Option<Place>,
    /// Stop after so many records
    #[arg(short = 'n', long)]
    count: Option<u64>,
    /// Only this partition, may be repeated
    #[arg(short, long, conflicts_with = "group")]
    partition: Vec<i32>,
    /// Join this group, share its partitions and commit what was printed
    #[arg(short, long)]
    group: Option<String>,
    /// Only the values, one per line, as they are
    #[arg(long, conflicts_with = "format")]
    values: bool,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    connection: Connection,
}

impl Consume {
    /// Runs `wharf consume`.
    pub(crate) fn run(&self) -> anyhow::Result<Outcome> {
        match &self.group {
            Some(group) => wait(self.as_member(group))?,
            None => self.alone(),
        }
    }

    fn write(&self, message: &BorrowedMessage<'_>, out: &mut Vec<u8>) -> anyhow::Result<()> {
        if self.values {
            out.extend_from_slice(message.payload().unwrap_or_default());
            out.push(b'\n');
            return Ok(());
        }
        Record::new(message).write(self.output.format, out)
    }

    /// Reads partitions directly; nothing is committed.
    fn alone(&self) -> anyhow::Result<Outcome> {
        let mut config = self.connection.config();
        config.set("group.id", "wharf-cli");
        config.set("enable.auto.commit", "false");
        // The end of a partition shows even where its last records were deleted.
        config.set("enable.partition.eof", "true");
        let consumer: BaseConsumer = self.connection.create(&config)?;
        let mut open = self.assign(&consumer)?;
        let bounded = self.until.is_some();
        let mut left = self.count.unwrap_or(u64::MAX);
        let mut out = Vec::new();
        while left > 0 && !(bounded && open.is_empty()) {
            let wait = if out.is_empty() { IDLE } else { Duration::ZERO };
            let Some(message) = consumer.poll(wait) else {
                flush(&mut out)?;
                continue;
            };
            let message = match message {
                Ok(message) => message,
                Err(KafkaError::PartitionEOF(partition)) => {
                    if bounded {
                        open.remove(&partition);
                    }
                    continue;
                }
                // The broker went away; the client reconnects by itself.
                Err(error) if is_passing(&error) => continue,
                Err(error) => return Err(self.connection.explain(&error)),
            };
            let end = open.get(&message.partition()).copied();
            if bounded && end.is_none_or(|end| message.offset() >= end) {
                open.remove(&message.partition());
                continue;
            }
            self.write(&message, &mut out)?;
            if out.len() >= OUT_BYTES_MAX {
                flush(&mut out)?;
            }
            left -= 1;
            if bounded && end == Some(message.offset() + 1) {
                open.remove(&message.partition());
            }
        }
        flush(&mut out)?;
        Ok(Outcome::Done)
    }

    /// Starts at the places asked for; the end of each partition that has something to read.
    fn assign(&self, consumer: &BaseConsumer) -> anyhow::Result<BTreeMap<i32, i64>> {
        let all = self.connection.partitions(consumer, &self.topic)?;
        if let Some(unknown) = self.partition.iter().find(|wanted| !all.contains(wanted)) {
            return Err(Usage(format!("{} has no partition {unknown}", self.topic)).into());
        }
        let chosen = if self.partition.is_empty() {
            all
        } else {
            self.partition.clone()
        };
        let extents = place::extents(consumer, &self.topic, &chosen)?;
        let from = self.from.resolve(consumer, &self.topic, &extents)?;
        let until = self
            .until
            .unwrap_or(Place::End)
            .resolve(consumer, &self.topic, &extents)?;
        let mut assigned = TopicPartitionList::new();
        let mut open = BTreeMap::new();
        for ((extent, from), until) in extents.iter().zip(from).zip(until) {
            if self.until.is_some() && from >= until {
                continue;
            }
            assigned.add_partition_offset(&self.topic, extent.partition, Offset::Offset(from))?;
            open.insert(extent.partition, until);
        }
        consumer.assign(&assigned)?;
        Ok(open)
    }

    /// Reads as a member of a group; commits what was printed, and leaves on Ctrl-C.
    async fn as_member(&self, group: &str) -> anyhow::Result<Outcome> {
        let reset = match self.from {
            Place::Beginning => "earliest",
            Place::End => "latest",
            _ => {
                let message =
                    "with --group, --from is beginning or end; `wharf group reset` moves a group";
                return Err(Usage(message.to_owned()).into());
            }
        };
        let defaults = [("auto.commit.interval.ms", "1000")];
        let mut config = self.connection.config_over(&defaults);
        config.set("group.id", group);
        config.set("auto.offset.reset", reset);
        config.set("enable.auto.offset.store", "false");
        let consumer: StreamConsumer = self.connection.create(&config)?;
        self.connection
            .metadata(&self.connection.observer(group)?, Some(&self.topic))?;
        consumer.subscribe(&[&self.topic])?;
        let mut left = self.count.unwrap_or(u64::MAX);
        let mut out = Vec::new();
        while left > 0 {
            let message = tokio::select! {
                message = consumer.recv() => message,
                interrupted = tokio::signal::ctrl_c() => { interrupted?; break; }
            };
            match message {
                Ok(message) => {
                    self.write(&message, &mut out)?;
                    flush(&mut out)?;
                    consumer.store_offset_from_message(&message)?;
                    left -= 1;
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(self.connection.explain(&error)),
            }
        }
        match consumer.commit_consumer_state(CommitMode::Sync) {
            Err(error)
                if error.rdkafka_error_code()
                    != Some(rdkafka::types::RDKafkaErrorCode::NoOffset) =>
            {
                Err(self.connection.explain(&error))
            }
            _ => Ok(Outcome::Done),
        }
    }
}

fn is_passing(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    let passing = [
        Code::BrokerTransportFailure,
        Code::AllBrokersDown,
        Code::OperationTimedOut,
    ];
    error
        .rdkafka_error_code()
        .is_some_and(|code| passing.contains(&code))
}

fn flush(out: &mut Vec<u8>) -> anyhow::Result<()> {
    if !out.is_empty() {
        output::bytes(out)?;
        out.clear();
    }
    Ok(())
}
