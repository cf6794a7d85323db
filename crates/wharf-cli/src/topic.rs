//! `wharf topic`: create, list, describe, alter, delete.

use clap::{Args, Subcommand};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::IncrementalAlterConfigsRequest;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::protocol::StrBytes;
use rdkafka::admin::{
    AdminClient, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::metadata::MetadataPartition;
use rdkafka::types::RDKafkaErrorCode;
use serde::Serialize;
use wharf_message::Code;
use wharf_server::Problem;

use crate::cli::{Outcome, Usage};
use crate::client::{Connection, admin_options, pair, partitions, refused, unknown_topic, wait};
use crate::cluster::Cluster;
use crate::output::{self, Format, OutputArguments};
use crate::{confirm, place, wire};

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

    /// Each setting on its own: what others change at the same time stays.
    fn alter_settings(&self, admin: &AdminClient<DefaultClientContext>) -> anyhow::Result<()> {
        if !self.unset.is_empty() {
            let current = settings(&self.connection, admin, &self.name)?;
            let is_set = |name: &str| {
                let mut rows = current.iter();
                rows.any(|row| row.name == name && row.source == "topic")
            };
            if let Some(name) = self.unset.iter().find(|name| !is_set(name)) {
                return Err(Usage(format!("{name} is not set on {}", self.name)).into());
            }
        }
        let set = self.set.iter();
        let set = set.map(|(name, value)| (name.as_str(), Some(value.as_str())));
        let unset = self.unset.iter().map(|name| (name.as_str(), None));
        let mut cluster = Cluster::connect(&self.connection)?;
        let changes = set.chain(unset);
        change_settings(&mut cluster, &self.name, changes, self.dry_run)
    }
}

/// Sets what has a value, and leaves the rest to its default again.
pub(crate) fn change_settings<'a>(
    cluster: &mut Cluster,
    topic: &str,
    changes: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    dry_run: bool,
) -> anyhow::Result<()> {
    const TOPIC: i8 = 2;
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let changes = changes.map(|(name, value)| {
        AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(if value.is_some() { SET } else { DELETE })
            .with_value(value.map(text))
    });
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configs(changes.collect());
    let request = IncrementalAlterConfigsRequest::default()
        .with_resources(vec![resource])
        .with_validate_only(dry_run);
    for answer in cluster.any()?.ask(&request)?.responses {
        match ResponseError::try_from_code(answer.error_code) {
            None => {}
            Some(ResponseError::UnknownTopicOrPartition) => {
                return Err(unknown_topic(topic, std::iter::empty()).into());
            }
            Some(error) => {
                let what = format!("the settings of {topic:?} were refused");
                let said = answer.error_message.as_deref();
                return Err(not_allowed(what, error, said));
            }
        }
    }
    Ok(())
}

/// The broker's refusal of a setting.
fn not_allowed(what: String, error: ResponseError, said: Option<&str>) -> anyhow::Error {
    if error != ResponseError::InvalidConfig {
        return wire::refused(what, error, said);
    }
    Problem::new(
        Code::INVALID_TOPIC_CONFIGURATION,
        what,
        said.unwrap_or("a setting is unknown or its value is not allowed"),
        "`wharf topic describe TOPIC --all` shows every setting there is",
    )
    .into()
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
