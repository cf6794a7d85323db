//! `wharf choreography check`, `deploy` and `remove`.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use wharf_saga::choreography::contract::check::check;
use wharf_saga::choreography::{Contract, Problem};

use super::{FIX, path};
use crate::cli::Outcome;
use crate::node_api::NodeApi;
use crate::output::{self, Format, OutputArguments};
use crate::schema::encoded;

/// The largest file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Check contracts, without a node.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf choreography check choreography.yaml
  wharf choreography check contracts/*.yaml -o json

Exit codes: 0 nothing was found, 1 something was, 2 wrong usage, 3 a file cannot be read.")]
pub(crate) struct Check {
    /// Files with contracts; - for stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    output: OutputArguments,
}

/// Check a contract and have the node watch it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf choreography deploy choreography.yaml
  wharf choreography deploy choreography.yaml --dry-run    also asks which names the node knows

Exit codes: 0 it is watched, 1 it has problems, 3 the node could not be asked or refused.")]
pub(crate) struct Deploy {
    /// The file with the contract; - for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Change nothing: only check, and ask the node which names it knows
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    node: NodeApi,
}

/// Have the node forget a contract.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf choreography remove shop

Exit codes: 0 it is gone, 3 there is none or the node could not be asked.")]
pub(crate) struct Remove {
    /// The contract's name
    name: String,
    #[command(flatten)]
    node: NodeApi,
}

#[derive(Debug, Serialize)]
struct Found {
    file: String,
    #[serde(flatten)]
    problem: Problem,
}

impl Check {
    /// Checks.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let mut found = Vec::new();
        for file in &self.files {
            let problems = problems(&read(file)?);
            let file = file.display().to_string();
            found.extend(problems.into_iter().map(|problem| Found {
                file: file.clone(),
                problem,
            }));
        }
        match self.output.format {
            Format::Table => {
                for Found { file, problem } in &found {
                    output::text(&format!("{file}: {problem}\n"))?;
                }
            }
            format => output::rows(format, &[], &found, |_| Vec::new())?,
        }
        if found.is_empty() {
            output::note("nothing was found")?;
            return Ok(Outcome::Done);
        }
        Ok(Outcome::Negative)
    }
}

impl Deploy {
    /// Checks and deploys.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let text = read(&self.file)?;
        let problems = problems(&text);
        if !problems.is_empty() {
            for problem in &problems {
                output::text(&format!("{}: {problem}\n", self.file.display()))?;
            }
            return Ok(Outcome::Negative);
        }
        // It was just read without a problem.
        let name = Contract::parse(&text)
            .map(|contract| contract.name)
            .unwrap_or_default();
        let body = json!({ "contract": text });
        let (method, place) = match self.dry_run {
            true => ("POST", path("/check")),
            false => ("PUT", path(&format!("/contracts/{}", encoded(&name)))),
        };
        let answer = self
            .node
            .send(method, &place, Some(&body), Duration::ZERO)?
            .good(FIX)?;
        for warning in answer["warnings"].as_array().into_iter().flatten() {
            let text = |key: &str| warning[key].as_str().unwrap_or_default();
            output::note(&format!("{}: {}", text("path"), text("sentence")))?;
        }
        output::note(&match (self.dry_run, answer["replaced"].as_bool()) {
            (true, _) => format!("{name} can be deployed; nothing was changed"),
            (false, Some(true)) => format!("{name} is watched, in place of the one before"),
            (false, _) => format!("{name} is watched"),
        })?;
        Ok(Outcome::Done)
    }
}

impl Remove {
    /// Removes.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let place = path(&format!("/contracts/{}", encoded(&self.name)));
        self.node.ask("DELETE", &place, Duration::ZERO)?.good(FIX)?;
        output::note(&format!("{} is watched no more", self.name))?;
        Ok(Outcome::Done)
    }
}

fn problems(text: &str) -> Vec<Problem> {
    match Contract::parse(text) {
        Ok(contract) => check(&contract),
        Err(problems) => problems,
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin()
            .take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)?;
        return Ok(text);
    }
    let opened = std::fs::File::open(file);
    let opened = opened.with_context(|| format!("{} cannot be opened", file.display()))?;
    let read = opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    read.with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(text)
}
