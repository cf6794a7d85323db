//! Definitions in files: read with their sidecars, checked, deployed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;
use wharf_saga::definition::{Accepted, Beside, Definition, Problem, Problems, Severity, Sidecar};

use super::act::user;
use super::good;
use crate::cli::{Outcome, Usage};
use crate::files::{self, Found};
use crate::node_api::{NodeApi, taken};
use crate::output::{self, Format, OutputArguments, cell, clean};
use crate::schema::encoded;

/// Check definitions, without a node.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf saga validate checkout.yaml
  wharf saga validate sagas/*.json --strict
  wharf saga validate checkout.yaml -o json

A file is a machine in Amazon States Language, JSON or YAML, with the undo of its steps in it, or a
sidecar that names the file of its machine. Every problem is told at once, each with its place. Which
resources are mapped only the node knows: `wharf saga deploy --dry-run` asks it.

Exit codes: 0 no errors, 1 errors (with --strict warnings, too), 2 wrong usage, 3 a file cannot be read.")]
pub(crate) struct Validate {
    /// Files with definitions; - for stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Warnings are errors
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    output: OutputArguments,
}

/// Check a definition and deploy it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf saga deploy checkout.yaml                        as checkout
  wharf saga deploy trip.saga.json --name trip           a sidecar, with the machine beside it
  wharf saga deploy checkout.yaml --dry-run              also asks the node which resources it knows

Sagas under way stay with the definition they were started with.

Exit codes: 0 it is deployed, 1 it has errors, 2 wrong usage, 3 the node could not be asked or refused.")]
pub(crate) struct Deploy {
    /// The file with the definition or its sidecar; - for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The name, which is the type of its sagas [default: the file's name up to its first dot]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Who, for the list of versions [default: the user of the system]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Change nothing: only check, and ask the node which resources it knows
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    node: NodeApi,
}

impl Validate {
    /// Checks.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let found = files::look(&self.files, |file| {
            Ok(match load(file)? {
                Ok(accepted) => accepted.remarks,
                Err(Problems(problems)) => problems,
            })
        })?;
        files::print(self.output.format, &found)?;
        let count = |severity| {
            let of = |found: &&Found<Problem>| found.problem.severity == severity;
            found.iter().filter(of).count()
        };
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        output::note(&format!("{errors} errors, {warnings} warnings"))?;
        Ok(match errors > 0 || (self.strict && warnings > 0) {
            true => Outcome::Negative,
            false => Outcome::Done,
        })
    }
}

impl Deploy {
    /// Checks and deploys.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => name_of(&self.file)?,
        };
        let accepted = match load(&self.file)? {
            Ok(accepted) => accepted,
            Err(problems) => return refused(&self.file, &problems),
        };
        let definition: Value = serde_json::from_str(&accepted.definition.canonical)?;
        let by = self.by.clone().unwrap_or_else(user);
        let (method, place) = match self.dry_run {
            true => ("POST", "/api/v1/saga-definitions/check".to_owned()),
            false => {
                let (name, by) = (encoded(&name), encoded(&by));
                ("PUT", format!("/api/v1/saga-definitions/{name}?by={by}"))
            }
        };
        let mut answer = self
            .node
            .send(method, &place, Some(&definition), Duration::ZERO)?;
        for problem in taken(&mut answer.body["problems"]) {
            let (place, message) = (cell(&problem["path"]), cell(&problem["message"]));
            output::text(&format!("{}: {place}: {message}\n", self.file.display()))?;
        }
        let answer = good(answer)?;
        for remark in &accepted.remarks {
            output::note(&format!(
                "{}: {}",
                self.file.display(),
                clean(&remark.to_string())
            ))?;
        }
        if self.output.format != Format::Table {
            output::one(self.output.format, &answer)?;
        }
        let version = cell(&answer["version"]);
        output::note(&match (self.dry_run, answer["new"].as_bool()) {
            (true, _) => format!("{name} can be deployed; nothing was changed"),
            (false, Some(true)) => format!("{name} is deployed as version {version}"),
            (false, _) => format!("{name} says the same as before: version {version}"),
        })?;
        Ok(Outcome::Done)
    }
}

/// A definition out of a file, with the machine of a sidecar read from beside it.
pub(super) fn load(file: &Path) -> anyhow::Result<Result<Accepted, Problems>> {
    let text = files::text(file)?;
    let Ok(sidecar) = Sidecar::read(&text) else {
        return Ok(Definition::read(&text));
    };
    let Beside::File(name) = &sidecar.machine else {
        return Ok(Definition::read(&text));
    };
    let beside = file.parent().unwrap_or(Path::new("")).join(name);
    let machine = files::text(&beside)
        .with_context(|| format!("{} says that its machine is there", file.display()))?;
    Ok(match Definition::read(&machine) {
        Ok(machine) => sidecar.apply(&machine.definition.machine.to_value()),
        Err(Problems(problems)) => {
            let inside = |problem: Problem| Problem {
                path: format!("/machine{}", problem.path),
                ..problem
            };
            Err(Problems(problems.into_iter().map(inside).collect()))
        }
    })
}

/// Tells every problem of a file.
pub(super) fn refused(file: &Path, problems: &Problems) -> anyhow::Result<Outcome> {
    for problem in &problems.0 {
        let told = clean(&problem.to_string());
        output::note(&format!("{}: {told}", file.display()))?;
    }
    Ok(Outcome::Negative)
}

/// The name that a file gives to its definition.
fn name_of(file: &Path) -> anyhow::Result<String> {
    let name = file.file_name().and_then(|name| name.to_str());
    let name = name.and_then(|name| name.split('.').next());
    let name = name.filter(|name| !name.is_empty() && *name != "-");
    Ok(name.map(str::to_owned).ok_or_else(|| {
        let message = format!("{} gives no name; say it with --name", file.display());
        Usage(message)
    })?)
}
