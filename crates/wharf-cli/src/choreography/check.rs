//! `wharf choreography check`, `deploy` and `remove`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use wharf_saga::choreography::contract::check::check;
use wharf_saga::choreography::{Contract, Problem};

use super::{FIX, path};
use crate::cli::Outcome;
use crate::files;
use crate::node_api::NodeApi;
use crate::output::{self, OutputArguments, cell, clean};
use crate::schema::encoded;

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

impl Check {
    /// Checks.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let found = files::look(&self.files, |file| Ok(problems(&files::text(file)?)))?;
        files::print(self.output.format, &found)?;
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
        let text = files::text(&self.file)?;
        let problems = problems(&text);
        if !problems.is_empty() {
            for problem in &problems {
                let told = clean(&problem.to_string());
                output::text(&format!("{}: {told}\n", self.file.display()))?;
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
            let (place, sentence) = (cell(&warning["path"]), cell(&warning["sentence"]));
            output::note(&format!("{place}: {sentence}"))?;
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
