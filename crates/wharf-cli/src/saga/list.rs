//! `wharf saga list`.

use clap::Args;
use serde_json::{Value, json};

use super::filter::Filter;
use super::{get, path};
use crate::cli::Outcome;
use crate::node_api::{NodeApi, taken};
use crate::output::{self, Format, OutputArguments, cell, clean};

/// How many a page of the API has at most.
const PAGE_MAX: usize = 1_000;

/// List sagas, the newest first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf saga list
  wharf saga list --status PARKED
  wharf saga list --type checkout --at Pay --older-than 10m
  wharf saga list --attribute country=DE --all -o jsonl
  wharf saga list --counts                    how many there are of each type and status
  wharf saga list --definitions               what is deployed

Exit codes: 0 done, 3 the node could not be asked or refused.")]
pub(crate) struct List {
    /// How many at most
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
    /// All of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Only count them, by type and status
    #[arg(long, conflicts_with_all = ["limit", "all", "definitions"])]
    counts: bool,
    /// List the definitions instead
    #[arg(long, conflicts_with_all = ["limit", "all"])]
    definitions: bool,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    node: NodeApi,
}

impl List {
    /// Lists.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        if (self.counts || self.definitions) && !self.filter.is_empty() {
            let message = "--counts and --definitions are of everything there is; leave the others";
            return Err(crate::cli::Usage(message.to_owned()).into());
        }
        if self.counts {
            return counts(&self.node, self.output.format);
        }
        if self.definitions {
            return definitions(&self.node, self.output.format);
        }
        let limit = if self.all { usize::MAX } else { self.limit };
        let (rows, more) = listed(&self.node, &self.filter, limit)?;
        print(self.output.format, &rows)?;
        if more {
            output::note(&format!(
                "there are more than {limit}; --limit or --all shows them"
            ))?;
        }
        Ok(Outcome::Done)
    }
}

/// The sagas that are meant, so many at most, page by page; and whether there are more.
pub(super) fn listed(
    node: &NodeApi,
    filter: &Filter,
    limit: usize,
) -> anyhow::Result<(Vec<Value>, bool)> {
    let mut rows = Vec::new();
    let mut after = String::new();
    loop {
        let page = limit.saturating_sub(rows.len()).clamp(1, PAGE_MAX);
        let tail = format!("?{}limit={page}{after}", filter.query());
        let mut answer = get(node, &path(&tail))?;
        rows.append(&mut taken(&mut answer["sagas"]));
        match answer["next"].as_str() {
            Some(next) if rows.len() < limit => after = format!("&after={next}"),
            next => {
                let more = next.is_some() || rows.len() > limit;
                rows.truncate(limit);
                return Ok((rows, more));
            }
        }
    }
}

/// Prints rows of sagas.
pub(super) fn print(format: Format, rows: &[Value]) -> anyhow::Result<()> {
    let header = ["ID", "TYPE", "STATUS", "AT", "WHY", "KEY", "STARTED"];
    output::rows(format, &header, rows, |row| {
        let status = match row["paused"].as_bool() {
            Some(true) => format!("{}, paused", cell(&row["status"])),
            _ => cell(&row["status"]),
        };
        let why = if row["parked"].is_null() {
            &row["error"]
        } else {
            &row["parked"]
        };
        vec![
            cell(&row["id"]),
            cell(&row["type"]),
            status,
            cell(&row["steps"]),
            cell(why),
            cell(&row["key"]),
            cell(&row["started"]),
        ]
    })
}

fn counts(node: &NodeApi, format: Format) -> anyhow::Result<Outcome> {
    let mut answer = get(node, &path("/counts"))?;
    if let Some(trouble) = answer["trouble"].as_str() {
        output::note(&format!(
            "the node has trouble with its topics: {}",
            clean(trouble)
        ))?;
    }
    let counts = taken(&mut answer["counts"]);
    output::rows(format, &["TYPE", "STATUS", "SAGAS"], &counts, |row| {
        ["type", "status", "count"]
            .map(|key| cell(&row[key]))
            .to_vec()
    })?;
    Ok(Outcome::Done)
}

fn definitions(node: &NodeApi, format: Format) -> anyhow::Result<Outcome> {
    let mut answer = get(node, "/api/v1/saga-definitions")?;
    let names = taken(&mut answer["definitions"]);
    let header = ["NAME", "CURRENT", "VERSIONS", "ALIASES", "DEPLOYED", "BY"];
    output::rows(format, &header, &names, |row| {
        let versions = row["versions"].as_array();
        let current = versions
            .and_then(|all| all.iter().find(|one| one["version"] == row["current"]))
            .cloned()
            .unwrap_or_else(|| json!({}));
        let aliases = row["aliases"].as_object().into_iter().flatten();
        let aliases: Vec<_> = aliases
            .map(|(alias, version)| format!("{alias}={}", cell(version)))
            .collect();
        vec![
            cell(&row["name"]),
            cell(&row["current"]),
            versions.map_or(0, Vec::len).to_string(),
            if aliases.is_empty() {
                "-".to_owned()
            } else {
                aliases.join(", ")
            },
            cell(&current["deployed"]),
            cell(&current["by"]),
        ]
    })?;
    Ok(Outcome::Done)
}
