//! `wharf choreography list`, `show`, `graph` and `instances`: what a node sees.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use wharf_saga::choreography::Contract;
use wharf_saga::choreography::contract::draw::Drawing;
use wharf_saga::choreography::lens;
use wharf_saga::choreography::verdict::Kind;

use super::{FIX, path};
use crate::cli::{Outcome, Usage};
use crate::files;
use crate::node_api::{NodeApi, taken};
use crate::output::{self, Format, OutputArguments, cell, clean};
use crate::schema::encoded;

/// List the contracts and what the lens sees.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf choreography list
  wharf choreography list -o json

Exit codes: 0 no instance is in a bad way, 1 one is, 3 the node could not be asked.")]
pub(crate) struct List {
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    node: NodeApi,
}

/// Show a contract, or one instance with its events.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf choreography show shop                  the contract's text
  wharf choreography show shop 4711             an instance, its verdict and its events
  wharf choreography show --lens 4711           an instance as the lens sees it

Exit codes: 0 it is well, 1 the instance has a bad verdict, 3 there is none or the node could not be asked.")]
pub(crate) struct Show {
    /// The contract
    #[arg(required_unless_present = "lens", value_name = "CONTRACT")]
    name: Option<String>,
    /// The instance
    #[arg(value_name = "INSTANCE", conflicts_with = "lens")]
    instance: Option<String>,
    /// An instance as the lens sees it, whatever contracts there are
    #[arg(long, value_name = "INSTANCE", conflicts_with = "name")]
    lens: Option<String>,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    node: NodeApi,
}

/// How a graph is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Style {
    /// For documents
    #[default]
    Mermaid,
    /// For Graphviz
    Dot,
    /// For programs
    Json,
}

/// Draw what follows what: as mined from traffic, or as a contract says.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf choreography graph                               the most frequent saga, as mined
  wharf choreography graph --saga shop.checkout.submitted --format dot | dot -Tsvg -o shop.svg
  wharf choreography graph --contract shop
  wharf choreography graph --file choreography.yaml      without a node

Exit codes: 0 done, 1 the contract in the file has problems, 3 there is none or the node could not be asked.")]
pub(crate) struct Graph {
    /// The saga, by the event it begins with
    #[arg(long, value_name = "EVENT")]
    saga: Option<String>,
    /// A contract of the node
    #[arg(long, value_name = "NAME", conflicts_with = "saga")]
    contract: Option<String>,
    /// A file with a contract; - for stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["saga", "contract"])]
    file: Option<PathBuf>,
    /// How it is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Style,
    #[command(flatten)]
    node: NodeApi,
}

/// List instances by their verdict.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf choreography instances shop
  wharf choreography instances shop --verdict stuck -o json
  wharf choreography instances --limit 20               what the lens sees

Exit codes: 0 none of them is in a bad way, 1 one is, 2 wrong usage, 3 the node could not be asked.")]
pub(crate) struct Instances {
    /// The contract; without one, what the lens sees
    #[arg(value_name = "CONTRACT")]
    name: Option<String>,
    /// Only those with this verdict
    #[arg(long, value_name = "VERDICT", requires = "name")]
    verdict: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    node: NodeApi,
}

fn ask(node: &NodeApi, tail: &str) -> anyhow::Result<Value> {
    node.ask("GET", &path(tail), Duration::ZERO)?.good(FIX)
}

fn is_bad(verdict: &str) -> bool {
    Kind::parse(verdict).is_some_and(Kind::is_bad)
}

fn outcome(is_bad: bool) -> Outcome {
    match is_bad {
        true => Outcome::Negative,
        false => Outcome::Done,
    }
}

impl List {
    /// Lists.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let mut contracts = ask(&self.node, "")?;
        let lens = ask(&self.node, "/lens")?;
        let bad = |contract: &Value| {
            let instances = contract["instances"].as_object();
            let count = |(kind, count): (&String, &Value)| is_bad(kind) && count.as_u64() > Some(0);
            instances.is_some_and(|instances| instances.iter().any(count))
        };
        let all = taken(&mut contracts["contracts"]);
        let is_bad = all.iter().any(bad);
        if self.output.format != Format::Table {
            output::one(
                self.output.format,
                &json!({ "contracts": all, "lens": lens, "trouble": contracts["trouble"] }),
            )?;
            return Ok(outcome(is_bad));
        }
        if let Some(trouble) = contracts["trouble"].as_str() {
            output::note(&format!(
                "the node has trouble with its topics: {}",
                clean(trouble)
            ))?;
        }
        for contract in &all {
            let count = contract["dropped"]["uncorrelated"].as_u64().unwrap_or(0);
            if count > 0 {
                let name = cell(&contract["name"]);
                output::note(&format!(
                    "{count} records of {name}'s events say not which instance they belong to"
                ))?;
            }
        }
        let header = [
            "CONTRACT",
            "RUNNING",
            "COMPLETED",
            "COMPENSATED",
            "STUCK",
            "HALF",
            "OTHER BAD",
            "READ",
        ];
        output::rows(Format::Table, &header, &all, |contract| {
            let count = |kind: Kind| contract["instances"][kind.name()].as_u64().unwrap_or(0);
            let other = count(Kind::Duplicated) + count(Kind::Orphan) + count(Kind::Diverged);
            let counts = [
                Kind::Running,
                Kind::Completed,
                Kind::Compensated,
                Kind::Stuck,
                Kind::HalfCompensated,
            ];
            let counts = counts.map(|kind| count(kind).to_string());
            let mut cells = vec![cell(&contract["name"])];
            cells.extend(counts);
            cells.push(other.to_string());
            cells.push(
                if contract["isRead"] == true {
                    "yes"
                } else {
                    "not yet"
                }
                .to_owned(),
            );
            cells
        })?;
        let sagas: Vec<&Value> = lens["sagas"].as_array().into_iter().flatten().collect();
        output::text("\n")?;
        output::rows(
            Format::Table,
            &["SAGA SEEN", "INSTANCES", "EVENTS", "EDGES"],
            &sagas,
            |saga| {
                ["saga", "instances", "events", "edges"]
                    .map(|key| cell(&saga[key]))
                    .to_vec()
            },
        )?;
        Ok(outcome(is_bad))
    }
}

impl Show {
    /// Shows.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let shown = match (&self.lens, &self.name, &self.instance) {
            (Some(id), ..) => ask(&self.node, &format!("/lens/instances/{}", encoded(id)))?,
            (None, Some(name), Some(id)) => {
                let tail = format!("/contracts/{}/instances/{}", encoded(name), encoded(id));
                ask(&self.node, &tail)?
            }
            (None, Some(name), None) => {
                let answer = ask(&self.node, &format!("/contracts/{}", encoded(name)))?;
                match self.output.format {
                    Format::Table => output::text(answer["contract"].as_str().unwrap_or_default())?,
                    format => output::one(format, &answer)?,
                }
                return Ok(Outcome::Done);
            }
            (None, None, _) => {
                return Err(Usage("name a contract, or an instance with --lens".to_owned()).into());
            }
        };
        match self.output.format {
            Format::Table => output::text(&described(&shown))?,
            format => output::one(format, &shown)?,
        }
        Ok(outcome(shown["verdict"].as_str().is_some_and(is_bad)))
    }
}

/// An instance, for people.
fn described(shown: &Value) -> String {
    let id = if shown["instance"].is_null() {
        &shown["id"]
    } else {
        &shown["instance"]
    };
    let what = if shown["verdict"].is_null() {
        &shown["saga"]
    } else {
        &shown["verdict"]
    };
    let mut lines = vec![format!("{}: {}", cell(id), cell(what))];
    for finding in shown["findings"].as_array().into_iter().flatten() {
        lines.push(format!("  {}", cell(finding)));
    }
    for step in shown["events"].as_array().into_iter().flatten() {
        lines.push(format!(
            "{}  {}  {}-{}@{}  {}  {}",
            cell(&step["at"]),
            cell(&step["event"]),
            cell(&step["topic"]),
            cell(&step["partition"]),
            cell(&step["offset"]),
            cell(&step["service"]),
            cell(&step["id"]),
        ));
    }
    lines.join("\n") + "\n"
}

impl Graph {
    /// Draws.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        if let Some(file) = &self.file {
            return self.contract(&files::text(file)?);
        }
        if let Some(name) = &self.contract {
            let answer = ask(&self.node, &format!("/contracts/{}", encoded(name)))?;
            return self.contract(answer["contract"].as_str().unwrap_or_default());
        }
        let saga = self
            .saga
            .as_deref()
            .map(|saga| format!("?saga={}", encoded(saga)));
        let answer = ask(
            &self.node,
            &format!("/lens/graph{}", saga.unwrap_or_default()),
        )?;
        if self.format == Style::Json {
            output::json(&answer)?;
            return Ok(Outcome::Done);
        }
        let graph: lens::Graph =
            serde_json::from_value(answer).context("the node's answer is no graph")?;
        self.draw(&Drawing::of_graph(&graph))
    }

    fn contract(&self, text: &str) -> anyhow::Result<Outcome> {
        match Contract::parse(text) {
            Ok(contract) => self.draw(&Drawing::of(&contract)),
            Err(problems) => {
                for problem in problems {
                    output::note(&clean(&problem.to_string()))?;
                }
                Ok(Outcome::Negative)
            }
        }
    }

    fn draw(&self, drawing: &Drawing) -> anyhow::Result<Outcome> {
        match self.format {
            Style::Mermaid => output::text(&drawing.mermaid())?,
            Style::Dot => output::text(&drawing.dot())?,
            Style::Json => output::json(drawing)?,
        }
        Ok(Outcome::Done)
    }
}

impl Instances {
    /// Lists.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        if let Some(verdict) = &self.verdict
            && Kind::parse(verdict).is_none()
        {
            let known = Kind::ALL.map(Kind::name).join(", ");
            return Err(Usage(format!("there is no verdict {verdict}; there are {known}")).into());
        }
        let limit = self.limit;
        let Some(name) = &self.name else {
            let mut answer = ask(&self.node, &format!("/lens/instances?limit={limit}"))?;
            let all = taken(&mut answer["instances"]);
            let header = ["INSTANCE", "SAGA", "EVENTS", "BEGAN", "LAST", "AT REST"];
            output::rows(self.output.format, &header, &all, |one| {
                let events = one["events"].as_array().map_or(0, Vec::len).to_string();
                let cell = |key: &str| cell(&one[key]);
                vec![
                    cell("id"),
                    cell("saga"),
                    events,
                    cell("beganAt"),
                    cell("lastAt"),
                    cell("isAtRest"),
                ]
            })?;
            return Ok(Outcome::Done);
        };
        let verdict = self
            .verdict
            .as_ref()
            .map(|verdict| format!("&verdict={verdict}"));
        let tail = format!(
            "/contracts/{}/instances?limit={limit}{}",
            encoded(name),
            verdict.unwrap_or_default()
        );
        let mut answer = ask(&self.node, &tail)?;
        if answer["isRead"] == false {
            output::note("the topics are still being read; what is shown is not complete")?;
        }
        let all = taken(&mut answer["instances"]);
        let header = [
            "INSTANCE",
            "VERDICT",
            "BEGAN",
            "LAST EVENT",
            "AT",
            "FINDINGS",
        ];
        output::rows(self.output.format, &header, &all, |one| {
            [
                "instance",
                "verdict",
                "beganAt",
                "lastEvent",
                "lastAt",
                "findings",
            ]
            .map(|key| cell(&one[key]))
            .to_vec()
        })?;
        let is_bad = all
            .iter()
            .any(|one| one["verdict"].as_str().is_some_and(is_bad));
        Ok(outcome(is_bad))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_records_of_strangers_say_cannot_control_the_terminal() {
        let instance = json!({
            "instance": "order-1\x1b[2J",
            "verdict": "diverged",
            "findings": ["event `Paid\u{9b}31m` is not allowed"],
            "events": [{ "at": "now", "event": "Paid\x07", "topic": "t", "service": "\r", "id": "1" }],
        });
        let shown = described(&instance);
        let controls = |c: &char| c.is_control() && *c != '\n';
        assert_eq!(shown.chars().find(controls), None, "{shown:?}");
        assert!(
            shown.starts_with("order-1\\u{1b}[2J: diverged\n"),
            "{shown}"
        );
        assert_eq!(shown.lines().count(), 3);
    }
}
