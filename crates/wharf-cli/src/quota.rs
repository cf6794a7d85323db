//! `wharf quota`: list, set, delete.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::{AlterClientQuotasRequest, DescribeClientQuotasRequest};
use kafka_protocol::protocol::StrBytes;
use serde::Serialize;

use crate::cli::{Outcome, Usage};
use crate::client::{Connection, pair};
use crate::cluster::Cluster;
use crate::output::{self, OutputArguments};
use crate::wire::refused;

/// The verbs of `wharf quota`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  wharf quota list
  wharf quota set --client-id reports consumer_byte_rate=1048576
  wharf quota delete --client-id reports")]
pub(crate) enum Command {
    /// List the quotas of users, clients and addresses
    List(List),
    /// Set quotas of one user, client or address, or of each that has none of its own
    Set(Set),
    /// Take quotas back
    Delete(Delete),
}

/// Whose quotas.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Whose")]
struct Whose {
    /// A user
    #[arg(long, value_name = "NAME", conflicts_with = "default_user")]
    user: Option<String>,
    /// Each user that has none of its own
    #[arg(long)]
    default_user: bool,
    /// A client, by its client.id
    #[arg(long, value_name = "NAME", conflicts_with = "default_client_id")]
    client_id: Option<String>,
    /// Each client that has none of its own
    #[arg(long)]
    default_client_id: bool,
    /// An IP address
    #[arg(long, value_name = "ADDRESS", conflicts_with = "default_ip")]
    ip: Option<String>,
    /// Each address that has none of its own
    #[arg(long)]
    default_ip: bool,
}

/// List quotas.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf quota list
  wharf quota list --client-id reports
  wharf quota list -o json | jq '.[] | select(.quota == \"producer_byte_rate\")'")]
pub(crate) struct List {
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    connection: Connection,
}

/// Set quotas.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf quota set --client-id reports consumer_byte_rate=1048576 producer_byte_rate=524288
  wharf quota set --default-user request_percentage=25
  wharf quota set --user alice --client-id reports producer_byte_rate=1024 --dry-run
  wharf quota set --ip 10.0.0.7 connection_creation_rate=5")]
pub(crate) struct Set {
    /// The quotas: producer_byte_rate, consumer_byte_rate, request_percentage, connection_creation_rate
    #[arg(required = true, value_name = "QUOTA=VALUE", value_parser = pair)]
    quotas: Vec<(String, String)>,
    /// Only check
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    connection: Connection,
}

/// Take quotas back.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf quota delete --client-id reports
  wharf quota delete --client-id reports consumer_byte_rate
  wharf quota delete --default-user --dry-run")]
pub(crate) struct Delete {
    /// The quotas [default: all there are]
    #[arg(value_name = "QUOTA")]
    quotas: Vec<String>,
    /// Only check
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    /// Names by kind (`user`, `client-id`, `ip`); none for the default.
    entity: BTreeMap<String, Option<String>>,
    quota: String,
    value: f64,
}

/// Runs a verb of `wharf quota`.
pub(crate) fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::List(list) => list.run(),
        Command::Set(set) => set.run(),
        Command::Delete(delete) => delete.run(),
    }
}

impl Whose {
    /// Names by kind; none for the default.
    fn entity(&self) -> BTreeMap<&'static str, Option<&str>> {
        let kinds = [
            ("user", &self.user, self.default_user),
            ("client-id", &self.client_id, self.default_client_id),
            ("ip", &self.ip, self.default_ip),
        ];
        let given = kinds
            .into_iter()
            .filter(|(_, name, default)| name.is_some() || *default);
        given
            .map(|(kind, name, _)| (kind, name.as_deref()))
            .collect()
    }

    /// The entity, which must be named for a change.
    fn named(&self) -> anyhow::Result<BTreeMap<&'static str, Option<&str>>> {
        let entity = self.entity();
        if entity.is_empty() {
            let message = "say whose quotas: --user, --client-id, --ip, or one of the defaults";
            return Err(Usage(message.to_owned()).into());
        }
        Ok(entity)
    }
}

/// An entity as people read it: the user first.
fn shown<'a>(entity: impl DoubleEndedIterator<Item = (&'a str, Option<&'a str>)>) -> String {
    let parts = entity
        .rev()
        .map(|(kind, name)| format!("{kind} {}", name.unwrap_or("<default>")));
    parts.collect::<Vec<_>>().join(", ")
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// The quotas of entities that have these parts, perhaps others too; by entity and name.
fn describe(
    cluster: &mut Cluster,
    entity: &BTreeMap<&str, Option<&str>>,
    strict: bool,
) -> anyhow::Result<Vec<Row>> {
    const EXACTLY: i8 = 0;
    const DEFAULT: i8 = 1;
    let part = |(kind, name): (&&str, &Option<&str>)| {
        ComponentData::default()
            .with_entity_type(text(kind))
            .with_match_type(if name.is_some() { EXACTLY } else { DEFAULT })
            .with_match(name.map(text))
    };
    let request = DescribeClientQuotasRequest::default()
        .with_components(entity.iter().map(part).collect())
        .with_strict(strict);
    let answer = cluster.any()?.ask(&request)?;
    if let Some(error) = ResponseError::try_from_code(answer.error_code) {
        let said = answer.error_message.as_deref();
        return Err(refused("the quotas cannot be listed", error, said));
    }
    let mut rows = Vec::new();
    for entry in answer.entries.unwrap_or_default() {
        let entity = entry.entity.into_iter().map(|part| {
            let name = part.entity_name.map(|name| name.to_string());
            (part.entity_type.to_string(), name)
        });
        let entity: BTreeMap<_, _> = entity.collect();
        rows.extend(entry.values.into_iter().map(|value| Row {
            entity: entity.clone(),
            quota: value.key.to_string(),
            value: value.value,
        }));
    }
    rows.sort_by(|a, b| (&a.entity, &a.quota).cmp(&(&b.entity, &b.quota)));
    Ok(rows)
}

/// The names of quotas as people read them.
fn names(changes: &[(&str, Option<f64>)]) -> String {
    let names: Vec<&str> = changes.iter().map(|(quota, _)| *quota).collect();
    names.join(", ")
}

/// Sets quotas, or takes them back where there is no value.
fn alter(
    cluster: &mut Cluster,
    entity: &BTreeMap<&str, Option<&str>>,
    changes: &[(&str, Option<f64>)],
    dry_run: bool,
) -> anyhow::Result<()> {
    let part = |(kind, name): (&&str, &Option<&str>)| {
        EntityData::default()
            .with_entity_type(text(kind))
            .with_entity_name(name.map(text))
    };
    let change = |(quota, value): &(&str, Option<f64>)| {
        OpData::default()
            .with_key(text(quota))
            .with_value(value.unwrap_or_default())
            .with_remove(value.is_none())
    };
    let entry = EntryData::default()
        .with_entity(entity.iter().map(part).collect())
        .with_ops(changes.iter().map(change).collect());
    let request = AlterClientQuotasRequest::default()
        .with_entries(vec![entry])
        .with_validate_only(dry_run);
    for entry in cluster.any()?.ask(&request)?.entries {
        if let Some(error) = ResponseError::try_from_code(entry.error_code) {
            let entity = shown(entity.iter().map(|(kind, name)| (*kind, *name)));
            let what = format!("the quotas of {entity} were not changed");
            return Err(refused(what, error, entry.error_message.as_deref()));
        }
    }
    Ok(())
}

impl List {
    fn run(self) -> anyhow::Result<Outcome> {
        let mut cluster = Cluster::connect(&self.connection)?;
        let rows = describe(&mut cluster, &self.whose.entity(), false)?;
        output::rows(
            self.output.format,
            &["OF", "QUOTA", "VALUE"],
            &rows,
            |row| {
                let entity = row.entity.iter();
                vec![
                    shown(entity.map(|(kind, name)| (kind.as_str(), name.as_deref()))),
                    row.quota.clone(),
                    row.value.to_string(),
                ]
            },
        )?;
        Ok(Outcome::Done)
    }
}

impl Set {
    fn run(self) -> anyhow::Result<Outcome> {
        let entity = self.whose.named()?;
        let mut changes = Vec::new();
        for (quota, value) in &self.quotas {
            let number = value
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite());
            let number = number.ok_or_else(|| Usage(format!("{quota}={value}: not a number")))?;
            changes.push((quota.as_str(), Some(number)));
        }
        let mut cluster = Cluster::connect(&self.connection)?;
        alter(&mut cluster, &entity, &changes, self.dry_run)?;
        let done = if self.dry_run { "would be set" } else { "set" };
        let whose = shown(entity.into_iter());
        output::note(&format!("{whose}: {} {done}", names(&changes)))?;
        Ok(Outcome::Done)
    }
}

impl Delete {
    fn run(self) -> anyhow::Result<Outcome> {
        let entity = self.whose.named()?;
        let mut cluster = Cluster::connect(&self.connection)?;
        let whose = shown(entity.iter().map(|(kind, name)| (*kind, *name)));
        let there = describe(&mut cluster, &entity, true)?;
        let wanted = |row: &&Row| self.quotas.is_empty() || self.quotas.contains(&row.quota);
        let found: Vec<&Row> = there.iter().filter(wanted).collect();
        let missing = |quota: &&String| !there.iter().any(|row| row.quota == **quota);
        if let Some(missing) = self.quotas.iter().find(missing) {
            output::note(&format!("{whose} has no {missing}; nothing was taken back"))?;
            return Ok(Outcome::Negative);
        }
        if found.is_empty() {
            output::note(&format!("{whose} has no quotas"))?;
            return Ok(Outcome::Negative);
        }
        let changes: Vec<_> = found.iter().map(|row| (row.quota.as_str(), None)).collect();
        alter(&mut cluster, &entity, &changes, self.dry_run)?;
        let done = if self.dry_run {
            "would be taken back"
        } else {
            "taken back"
        };
        output::note(&format!("{whose}: {} {done}", names(&changes)))?;
        Ok(Outcome::Done)
    }
}
