//! `wharf topic`: create, list, describe, alter, delete.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use rdkafka::admin::{
    AdminClient, AlterConfig, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::metadata::MetadataPartition;
use rdkafka::types::RDKafkaErrorCode;
use serde::Serialize;

use crate::cli::{Outcome, Usage};
use crate::client::{Connection, admin_options, pair, partitions, refused, wait};
use crate::output::{self, Format, OutputArguments};
use crate::{confirm, place};

/// The verbs of `wharf topic`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  wharf topic create orders --partitions 6 --set retention.ms=86400000
  wharf topic list
  wharf topic describe orders")]
pub(crate) enum Command {
    /// Create a topic
    Create(Create),
    /// List topics
    List(List),
    /// Show a topic's partitions and settings
    Describe(Describe),
    /// Change a topic's settings or add partitions
    Alter(Alter),
    /// Delete topics with everything in them
    Delete(Delete),
}

/// Create a topic.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf topic create orders
  wharf topic create orders --partitions 6 --set retention.ms=86400000
  wharf topic create orders --if-not-exists")]
pub(crate) struct Create {
    /// The topic's name
    name: String,
    /// How many partitions [default: the broker's]
    #[arg(short, long, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// A setting, may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    settings: Vec<(String, String)>,
    /// An existing topic is no error
    #[arg(long)]
    if_not_exists: bool,
    /// Only check
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
}

/// List topics.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf topic list
  wharf topic list -o json | jq -r '.[].name'")]
pub(crate) struct List {
    /// Show the broker's own topics too
    #[arg(long)]
    internal: bool,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    connection: Connection,
}

/// Show a topic's partitions and settings.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf topic describe orders
  wharf topic describe orders --all
  wharf topic describe orders -o json | jq .partitions")]
pub(crate) struct Describe {
    /// The topic's name
    name: String,
    /// Show every setting, not only those that differ from the default
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    connection: Connection,
}

/// Change a topic's settings or add partitions.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf topic alter orders --set retention.ms=86400000
  wharf topic alter orders --unset retention.ms
  wharf topic alter orders --partitions 12 --dry-run")]
pub(crate) struct Alter {
    /// The topic's name
    name: String,
    /// A setting to change, may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// A setting to put back to its default, may be repeated
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,
    /// The new number of partitions; it can only grow
    #[arg(short, long, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Only check
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Delete topics with everything in them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf topic delete orders
  wharf topic delete orders payments --yes
  wharf topic delete orders --dry-run")]
pub(crate) struct Delete {
    /// The topics' names
    #[arg(required = true)]
    names: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Only say what would be deleted
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    partitions: usize,
    records: i64,
}

#[derive(Debug, Serialize)]
struct Description {
    name: String,
    partitions: Vec<PartitionRow>,
    settings: Vec<SettingRow>,
}

#[derive(Debug, Serialize)]
struct PartitionRow {
    partition: i32,
    leader: i32,
    start: i64,
    end: i64,
    records: i64,
}

#[derive(Debug, Serialize)]
struct SettingRow {
    name: String,
    value: Option<String>,
    source: &'static str,
}

/// Runs a verb of `wharf topic`.
pub(crate) fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Create(create) => create.run(),
        Command::List(list) => list.run(),
        Command::Describe(describe) => describe.run(),
        Command::Alter(alter) => alter.run(),
        Command::Delete(delete) => delete.run(),
    }
}

impl Create {
    fn run(self) -> anyhow::Result<Outcome> {
        let mut topic = NewTopic::new(
            &self.name,
            self.partitions.unwrap_or(-1),
            TopicReplication::Fixed(-1),
        );
        for (name, value) in &self.settings {
            topic = topic.set(name, value);
        }
        let admin = self.connection.admin()?;
        let results = wait(admin.create_topics([&topic], &admin_options(self.dry_run)))?
            .map_err(|error| self.connection.explain(&error))?;
        for result in results {
            match result {
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) if self.if_not_exists => {
                    output::note(&format!("{} exists already", self.name))?;
                }
                Err((name, code)) => return Err(refused(&name, code)),
                Ok(name) if self.dry_run => output::note(&format!("{name} would be created"))?,
                Ok(name) => output::note(&format!("{name} created"))?,
            }
        }
        Ok(Outcome::Done)
    }
}

fn is_internal(name: &str) -> bool {
    name.starts_with("__") || name.starts_with("_wharf.")
}

impl List {
    fn run(self) -> anyhow::Result<Outcome> {
        let consumer = self.connection.observer("wharf-cli")?;
        let metadata = self.connection.metadata(&consumer, None)?;
        let mut rows = Vec::new();
        for topic in metadata.topics() {
            if !self.internal && is_internal(topic.name()) {
                continue;
            }
            let extents = place::extents(&consumer, topic.name(), &partitions(topic))?;
            rows.push(Row {
                name: topic.name().to_owned(),
                partitions: extents.len(),
                records: extents.iter().map(|extent| extent.end - extent.start).sum(),
            });
        }
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        output::rows(
            self.output.format,
            &["TOPIC", "PARTITIONS", "RECORDS"],
            &rows,
            |row| {
                vec![
                    row.name.clone(),
                    row.partitions.to_string(),
                    row.records.to_string(),
                ]
            },
        )?;
        Ok(Outcome::Done)
    }
}

impl Describe {
    fn run(self) -> anyhow::Result<Outcome> {
        let consumer = self.connection.observer("wharf-cli")?;
        let metadata = self.connection.metadata(&consumer, Some(&self.name))?;
        let admin = self.connection.admin()?;
        let mut description = Description {
            name: self.name.clone(),
            partitions: Vec::new(),
            settings: Vec::new(),
        };
        for topic in metadata
            .topics()
            .iter()
            .filter(|topic| topic.name() == self.name)
        {
            let extents = place::extents(&consumer, topic.name(), &partitions(topic))?;
            let leader = |id| {
                let partition = topic.partitions().iter().find(|one| one.id() == id);
                partition.map_or(-1, MetadataPartition::leader)
            };
            for extent in extents {
                description.partitions.push(PartitionRow {
                    partition: extent.partition,
                    leader: leader(extent.partition),
                    start: extent.start,
                    end: extent.end,
                    records: extent.end - extent.start,
                });
            }
        }
        description.settings = settings(&self.connection, &admin, &self.name)?;
        description
            .settings
            .retain(|row| self.all || row.source == "topic");
        if self.output.format != Format::Table {
            output::one(self.output.format, &description)?;
            return Ok(Outcome::Done);
        }
        let header = ["PARTITION", "LEADER", "START", "END", "RECORDS"];
        output::rows(Format::Table, &header, &description.partitions, |row| {
            [
                i64::from(row.partition),
                i64::from(row.leader),
                row.start,
                row.end,
                row.records,
            ]
            .iter()
            .map(ToString::to_string)
            .collect()
        })?;
        if !description.settings.is_empty() {
            output::text("\n")?;
            output::rows(
                Format::Table,
                &["SETTING", "VALUE", "FROM"],
                &description.settings,
                |row| {
                    vec![
                        row.name.clone(),
                        row.value.clone().unwrap_or_default(),
                        row.source.to_owned(),
                    ]
                },
            )?;
        }
        Ok(Outcome::Done)
    }
}

/// All settings of a topic, by name.
fn settings(
    connection: &Connection,
    admin: &AdminClient<DefaultClientContext>,
    topic: &str,
) -> anyhow::Result<Vec<SettingRow>> {
    let asked = [ResourceSpecifier::Topic(topic)];
    let results = wait(admin.describe_configs(&asked, &admin_options(false)))?
        .map_err(|error| connection.explain(&error))?;
    let mut rows = Vec::new();
    for result in results {
        let resource = result.map_err(|code| refused(topic, code))?;
        rows.extend(resource.entries.into_iter().map(|entry| SettingRow {
            name: entry.name,
            value: entry.value,
            source: match entry.source {
                ConfigSource::DynamicTopic => "topic",
                ConfigSource::Default => "default",
                _ => "broker",
            },
        }));
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rows)
}

impl Alter {
    fn run(self) -> anyhow::Result<Outcome> {
        if self.set.is_empty() && self.unset.is_empty() && self.partitions.is_none() {
            return Err(
                Usage("say what to change: --set, --unset or --partitions".to_owned()).into(),
            );
        }
        let admin = self.connection.admin()?;
        if !self.set.is_empty() || !self.unset.is_empty() {
            self.alter_settings(&admin)?;
        }
        if let Some(count) = self.partitions {
            let count = usize::try_from(count)?;
            let asked = [&NewPartitions::new(&self.name, count)];
            let results = wait(admin.create_partitions(asked, &admin_options(self.dry_run)))?
                .map_err(|error| self.connection.explain(&error))?;
            for result in results {
                result.map_err(|(name, code)| refused(&name, code))?;
            }
        }
        let done = if self.dry_run {
            "would be altered"
        } else {
            "altered"
        };
        output::note(&format!("{} {done}", self.name))?;
        Ok(Outcome::Done)
    }

    /// librdkafka's AlterConfigs replaces all settings, so what is set now is sent along.
    fn alter_settings(&self, admin: &AdminClient<DefaultClientContext>) -> anyhow::Result<()> {
        let current = settings(&self.connection, admin, &self.name)?;
        let mut wanted: BTreeMap<String, String> = current
            .into_iter()
            .filter(|row| row.source == "topic")
            .filter_map(|row| Some((row.name, row.value?)))
            .collect();
        wanted.extend(self.set.iter().cloned());
        for name in &self.unset {
            if wanted.remove(name).is_none() {
                return Err(Usage(format!("{name} is not set on {}", self.name)).into());
            }
        }
        let mut change = AlterConfig::new(ResourceSpecifier::Topic(&self.name));
        for (name, value) in &wanted {
            change = change.set(name, value);
        }
        let results = wait(admin.alter_configs([&change], &admin_options(self.dry_run)))?
            .map_err(|error| self.connection.explain(&error))?;
        for result in results {
            result.map_err(|(_, code)| refused(&self.name, code))?;
        }
        Ok(())
    }
}

impl Delete {
    fn run(self) -> anyhow::Result<Outcome> {
        let consumer = self.connection.observer("wharf-cli")?;
        for name in &self.names {
            let partitions = self.connection.partitions(&consumer, name)?;
            let extents = place::extents(&consumer, name, &partitions)?;
            let records: i64 = extents.iter().map(|extent| extent.end - extent.start).sum();
            if self.dry_run {
                output::note(&format!("{name} would be deleted with {records} records"))?;
            } else if !confirm::destroy(
                self.yes,
                name,
                &format!("deleting {name} with {records} records"),
            )? {
                output::note("nothing was deleted")?;
                return Ok(Outcome::Negative);
            }
        }
        if self.dry_run {
            return Ok(Outcome::Done);
        }
        let admin = self.connection.admin()?;
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let results = wait(admin.delete_topics(&names, &admin_options(false)))?
            .map_err(|error| self.connection.explain(&error))?;
        for result in results {
            let name = result.map_err(|(name, code)| refused(&name, code))?;
            output::note(&format!("{name} deleted"))?;
        }
        Ok(Outcome::Done)
    }
}
