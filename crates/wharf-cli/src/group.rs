//! `wharf group`: list, describe, reset, delete.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::groups::GroupInfo;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;
use wharf_message::Code;
use wharf_server::Problem;

use crate::cli::{Outcome, Usage};
use crate::client::{Connection, PATIENCE, admin_options, partitions, wait};
use crate::output::{self, Format, OutputArguments};
use crate::place::{self, Place};
use crate::{assignment, confirm, consumer_group};

/// The verbs of `wharf group`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  wharf group list
  wharf group describe billing
  wharf group reset billing --topic orders --to @-1h --dry-run")]
pub(crate) enum Command {
    /// List consumer groups
    List(List),
    /// Show a group's offsets, its lag and its members
    Describe(Describe),
    /// Move a group's offsets; the group must have no members
    Reset(Reset),
    /// Delete a group with its offsets; the group must have no members
    Delete(Delete),
}

/// List consumer groups.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf group list
  wharf group list -o jsonl")]
pub(crate) struct List {
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    connection: Connection,
}

/// Show a group's offsets, its lag and its members.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf group describe billing
  wharf group describe billing -o json | jq '[.partitions[].lag] | add'")]
pub(crate) struct Describe {
    /// The group
    group: String,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    connection: Connection,
}

/// Move a group's offsets.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf group reset billing --topic orders --to beginning --dry-run
  wharf group reset billing --topic orders --to @2026-01-31T12:00:00Z
  wharf group reset billing --topic orders --partition 3 --to 1500")]
pub(crate) struct Reset {
    /// The group
    group: String,
    /// The topic
    #[arg(short, long)]
    topic: String,
    /// Only this partition, may be repeated [default: all]
    #[arg(short, long)]
    partition: Vec<i32>,
    /// Where to: beginning, end, an offset, -N (before the end) or @TIME
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    to: Place,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    connection: Connection,
}

/// Delete a group with its offsets.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf group delete billing
  wharf group delete billing --yes")]
pub(crate) struct Delete {
    /// The group
    group: String,
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
    group: String,
    state: String,
    members: usize,
    protocol: String,
}

#[derive(Debug, Serialize)]
struct Description {
    group: String,
    state: String,
    protocol: String,
    partitions: Vec<PartitionRow>,
    members: Vec<MemberRow>,
}

#[derive(Debug, Serialize)]
struct PartitionRow {
    topic: String,
    partition: i32,
    offset: Option<i64>,
    end: i64,
    lag: Option<i64>,
    metadata: String,
    client: Option<String>,
}

#[derive(Debug, Serialize)]
struct MemberRow {
    member: String,
    client: String,
    host: String,
    partitions: usize,
}

#[derive(Debug, Serialize)]
struct Move {
    topic: String,
    partition: i32,
    from: Option<i64>,
    to: i64,
}

/// Runs a verb of `wharf group`.
pub(crate) fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::List(list) => list.run(),
        Command::Describe(describe) => describe.run(),
        Command::Reset(reset) => reset.run(),
        Command::Delete(delete) => delete.run(),
    }
}

/// A group of either protocol.
struct View {
    name: String,
    state: String,
    /// What the members share partitions by: the protocol they chose, or the server's assignor.
    protocol: String,
    members: Vec<(MemberRow, Vec<(String, i32)>)>,
}

/// The state in which librdkafka shows a group that it cannot describe.
const DEAD: &str = "Dead";

/// All groups, or one. Those that librdkafka cannot describe are asked for as groups of the consumer
/// protocol.
fn groups(
    connection: &Connection,
    consumer: &BaseConsumer,
    group: Option<&str>,
) -> anyhow::Result<Vec<View>> {
    let list = consumer
        .fetch_group_list(group, PATIENCE)
        .map_err(|error| connection.explain(&error))?;
    let mut views: Vec<View> = list.groups().iter().map(View::classic).collect();
    let unknown = views.iter().filter(|view| view.state == DEAD);
    let unknown: Vec<String> = unknown.map(|view| view.name.clone()).collect();
    let mut found = consumer_group::describe(connection, &unknown).unwrap_or_else(|error| {
        // Brokers from before the consumer protocol do not have it, other connections cannot.
        tracing::debug!(%error, "groups of the consumer protocol cannot be asked for");
        BTreeMap::new()
    });
    for view in &mut views {
        if let Some(description) = found.remove(&view.name) {
            view.describe(description);
        }
    }
    Ok(views)
}

impl View {
    fn classic(info: &GroupInfo) -> Self {
        let members = info.members().iter().map(|member| {
            let bytes = member.assignment();
            let assigned = bytes.map(assignment::partitions).unwrap_or_default();
            let row = MemberRow {
                member: member.id().to_owned(),
                client: member.client_id().to_owned(),
                host: member.client_host().to_owned(),
                partitions: assigned.len(),
            };
            (row, assigned)
        });
        Self {
            name: info.name().to_owned(),
            state: info.state().to_owned(),
            protocol: info.protocol().to_owned(),
            members: members.collect(),
        }
    }

    fn describe(&mut self, description: consumer_group::Description) {
        self.state = description.state;
        self.protocol = description.assignor;
        let members = description.members.into_iter().map(|member| {
            let row = MemberRow {
                member: member.id,
                client: member.client,
                host: member.host,
                partitions: member.partitions.len(),
            };
            (row, member.partitions)
        });
        self.members = members.collect();
    }
}

/// One group, which must exist.
fn find(views: Vec<View>, group: &str) -> anyhow::Result<View> {
    let found = views.into_iter().find(|view| view.name == group);
    found.filter(|view| view.state != DEAD).ok_or_else(|| {
        anyhow::Error::from(Problem::plain(
            format!("the group {group:?} does not exist"),
            "it has neither members nor committed offsets",
            "`wharf group list` shows all",
        ))
    })
}

/// The committed offset of every partition of `topics`; none where nothing is committed.
fn committed(
    connection: &Connection,
    consumer: &BaseConsumer,
    topics: &BTreeMap<String, Vec<i32>>,
) -> anyhow::Result<BTreeMap<(String, i32), (i64, String)>> {
    let mut asked = TopicPartitionList::new();
    for (topic, partitions) in topics {
        for partition in partitions {
            asked.add_partition(topic, *partition);
        }
    }
    let answered = consumer
        .committed_offsets(asked, PATIENCE)
        .map_err(|error| connection.explain(&error))?;
    let elements = answered.elements();
    let known = elements.iter().filter_map(|one| match one.offset() {
        Offset::Offset(offset) => Some((
            (one.topic().to_owned(), one.partition()),
            (offset, one.metadata().to_owned()),
        )),
        _ => None,
    });
    Ok(known.collect())
}

fn partitions_by_topic(metadata: &rdkafka::metadata::Metadata) -> BTreeMap<String, Vec<i32>> {
    let topics = metadata.topics().iter();
    topics
        .map(|topic| (topic.name().to_owned(), partitions(topic)))
        .collect()
}

impl List {
    fn run(self) -> anyhow::Result<Outcome> {
        let consumer = self.connection.observer("wharf-cli")?;
        let list = groups(&self.connection, &consumer, None)?;
        let mut rows: Vec<Row> = list
            .into_iter()
            .map(|view| Row {
                members: view.members.len(),
                group: view.name,
                state: view.state,
                protocol: view.protocol,
            })
            .collect();
        rows.sort_by(|a, b| a.group.cmp(&b.group));
        let header = ["GROUP", "STATE", "MEMBERS", "PROTOCOL"];
        output::rows(self.output.format, &header, &rows, |row| {
            vec![
                row.group.clone(),
                row.state.clone(),
                row.members.to_string(),
                row.protocol.clone(),
            ]
        })?;
        Ok(Outcome::Done)
    }
}

impl Describe {
    fn run(self) -> anyhow::Result<Outcome> {
        let consumer = self.connection.observer(&self.group)?;
        let metadata = self.connection.metadata(&consumer, None)?;
        let list = groups(&self.connection, &consumer, Some(&self.group))?;
        let view = find(list, &self.group)?;
        let mut owners = BTreeMap::new();
        let mut members = Vec::new();
        for (member, assigned) in view.members {
            let assigned = assigned.into_iter();
            owners.extend(assigned.map(|partition| (partition, member.client.clone())));
            members.push(member);
        }
        let topics = partitions_by_topic(&metadata);
        let committed = committed(&self.connection, &consumer, &topics)?;
        let mut partitions = Vec::new();
        for (topic, ids) in topics {
            for partition in ids {
                let place = (topic.clone(), partition);
                let offset = committed.get(&place);
                let client = owners.get(&place).cloned();
                if offset.is_none() && client.is_none() {
                    continue;
                }
                let (_, end) = consumer.fetch_watermarks(&topic, partition, PATIENCE)?;
                partitions.push(PartitionRow {
                    topic: topic.clone(),
                    partition,
                    offset: offset.map(|(offset, _)| *offset),
                    end,
                    lag: offset.map(|(offset, _)| (end - offset).max(0)),
                    metadata: offset
                        .map(|(_, metadata)| metadata.clone())
                        .unwrap_or_default(),
                    client,
                });
            }
        }
        let description = Description {
            group: self.group.clone(),
            state: view.state,
            protocol: view.protocol,
            partitions,
            members,
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
        let protocol = if self.protocol.is_empty() {
            "-"
        } else {
            &self.protocol
        };
        output::text(&format!(
            "{}: {}, {} members, protocol {protocol}\n\n",
            self.group,
            self.state,
            self.members.len()
        ))?;
        let shown =
            |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
        let header = ["TOPIC", "PARTITION", "OFFSET", "END", "LAG", "CLIENT"];
        output::rows(format, &header, &self.partitions, |row| {
            vec![
                row.topic.clone(),
                row.partition.to_string(),
                shown(row.offset),
                row.end.to_string(),
                shown(row.lag),
                row.client.clone().unwrap_or("-".to_owned()),
            ]
        })?;
        if self.members.is_empty() {
            return Ok(());
        }
        output::text("\n")?;
        output::rows(
            format,
            &["MEMBER", "CLIENT", "HOST", "PARTITIONS"],
            &self.members,
            |row| {
                vec![
                    row.member.clone(),
                    row.client.clone(),
                    row.host.clone(),
                    row.partitions.to_string(),
                ]
            },
        )
    }
}

fn not_empty(group: &str, members: usize) -> anyhow::Error {
    Problem::new(
        Code::GROUP_NOT_EMPTY,
        format!("the group {group:?} still has {members} members"),
        "its members would go on from where they are, and the change be lost",
        "stop its consumers first; `wharf group describe` shows where they run",
    )
    .into()
}

impl Reset {
    fn run(self) -> anyhow::Result<Outcome> {
        let consumer = self.connection.observer(&self.group)?;
        let all = self.connection.partitions(&consumer, &self.topic)?;
        let list = groups(&self.connection, &consumer, Some(&self.group))?;
        let known = list.iter().find(|view| view.name == self.group);
        let members = known.map_or(0, |view| view.members.len());
        if members > 0 {
            return Err(not_empty(&self.group, members));
        }
        if let Some(unknown) = self.partition.iter().find(|wanted| !all.contains(wanted)) {
            return Err(Usage(format!("{} has no partition {unknown}", self.topic)).into());
        }
        let chosen = if self.partition.is_empty() {
            all
        } else {
            self.partition.clone()
        };
        let extents = place::extents(&consumer, &self.topic, &chosen)?;
        let targets = self.to.resolve(&consumer, &self.topic, &extents)?;
        let asked = BTreeMap::from([(self.topic.clone(), chosen.clone())]);
        let committed = committed(&self.connection, &consumer, &asked)?;
        let moves: Vec<Move> = chosen
            .iter()
            .zip(targets)
            .map(|(&partition, to)| {
                let from = committed
                    .get(&(self.topic.clone(), partition))
                    .map(|(offset, _)| *offset);
                Move {
                    topic: self.topic.clone(),
                    partition,
                    from,
                    to,
                }
            })
            .collect();
        if !self.dry_run {
            commit(&self.connection, &consumer, &moves)?;
        }
        let header = ["TOPIC", "PARTITION", "FROM", "TO"];
        output::rows(self.output.format, &header, &moves, |row| {
            let from = row.from.map_or("-".to_owned(), |offset| offset.to_string());
            vec![
                row.topic.clone(),
                row.partition.to_string(),
                from,
                row.to.to_string(),
            ]
        })?;
        if self.dry_run {
            output::note("nothing was changed (--dry-run)")?;
        }
        Ok(Outcome::Done)
    }
}

fn commit(connection: &Connection, consumer: &BaseConsumer, moves: &[Move]) -> anyhow::Result<()> {
    let mut offsets = TopicPartitionList::new();
    for one in moves {
        offsets.add_partition_offset(&one.topic, one.partition, Offset::Offset(one.to))?;
    }
    consumer
        .commit(&offsets, CommitMode::Sync)
        .map_err(|error| connection.explain(&error))
}

impl Delete {
    fn run(self) -> anyhow::Result<Outcome> {
        let consumer = self.connection.observer("wharf-cli")?;
        let list = groups(&self.connection, &consumer, Some(&self.group))?;
        let members = find(list, &self.group)?.members.len();
        if members > 0 {
            return Err(not_empty(&self.group, members));
        }
        if self.dry_run {
            output::note(&format!("{} would be deleted with its offsets", self.group))?;
            return Ok(Outcome::Done);
        }
        let what = format!("deleting {} with its offsets", self.group);
        if !confirm::destroy(self.yes, &self.group, &what)? {
            output::note("nothing was deleted")?;
            return Ok(Outcome::Negative);
        }
        let admin = self.connection.admin()?;
        let results = wait(admin.delete_groups(&[&self.group], &admin_options(false)))?
            .map_err(|error| self.connection.explain(&error))?;
        for result in results {
            match result {
                Ok(group) => output::note(&format!("{group} deleted"))?,
                Err((group, RDKafkaErrorCode::NonEmptyGroup)) => return Err(not_empty(&group, 1)),
                Err((group, code)) => anyhow::bail!("{group}: {code}"),
            }
        }
        Ok(Outcome::Done)
    }
}
