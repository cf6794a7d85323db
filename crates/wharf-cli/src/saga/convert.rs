//! `wharf saga import` and `export`: to and from plain Amazon States Language.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use wharf_saga::definition::{Accepted, Definition, Problem, Problems, Standing};

use super::{define, get};
use crate::cli::{Outcome, Usage};
use crate::files;
use crate::node_api::NodeApi;
use crate::output::{self, Format, OutputArguments, clean};
use crate::schema::encoded;

/// Turn a saga made by hand with Catch into one with Compensate, and report on it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf saga import trip.asl.json > trip.yaml
  wharf saga import trip.asl.json --as json > trip.json
  wharf saga import trip.asl.json -o json | jq .states

The definition goes to stdout, the report to stderr: a line for each state, then what was guessed, what
has no undo, which undo had no Retry, what nothing leads to, and what is otherwise than before. With
-o json, jsonl or yaml both are one document.

Exit codes: 0 it was imported, 1 it has errors, 3 the file cannot be read.")]
pub(crate) struct Import {
    /// The file with the machine; - for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How the definition is written [default: yaml]
    #[arg(long = "as", value_enum, value_name = "LANGUAGE")]
    written: Option<Written>,
    #[command(flatten)]
    output: OutputArguments,
}

/// How a definition is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Written {
    /// YAML
    Yaml,
    /// JSON
    Json,
}

impl Written {
    fn print(self, definition: &Value) -> anyhow::Result<()> {
        match self {
            Self::Yaml => output::text(&serde_yaml_ng::to_string(definition)?),
            Self::Json => output::json(definition),
        }
    }
}

/// Which definition: of a file, or of a node.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The file with the definition or its sidecar; - for stdin
    #[arg(value_name = "FILE", conflicts_with_all = ["name", "version"])]
    file: Option<PathBuf>,
    /// A definition that is deployed
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Its version: a number or an alias [default: the current one]
    #[arg(long = "definition-version", value_name = "VERSION", requires = "name")]
    version: Option<String>,
    #[command(flatten)]
    pub(super) node: NodeApi,
}

impl Which {
    /// Reads it; problems are those of the file.
    pub(super) fn read(&self) -> anyhow::Result<Result<Accepted, Problems>> {
        let Some(name) = &self.name else {
            let file = self.file.as_ref().ok_or_else(|| {
                Usage("name a file, or with --name a definition that is deployed".to_owned())
            })?;
            return define::load(file);
        };
        let version = self.version.as_deref();
        let version = version.map(|version| format!("?version={}", encoded(version)));
        let path = format!(
            "/api/v1/saga-definitions/{}{}",
            encoded(name),
            version.unwrap_or_default()
        );
        let answer = get(&self.node, &path)?;
        Ok(Definition::of(&answer["definition"]))
    }

    /// Tells every problem of it.
    pub(super) fn refused(&self, problems: &Problems) -> anyhow::Result<Outcome> {
        let of = self.file.clone().unwrap_or_default();
        define::refused(&of, problems)
    }
}

/// Write a definition as plain Amazon States Language, its undo as states.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf saga export checkout.yaml > checkout.asl.json
  wharf saga export --name checkout --definition-version 3
  wharf saga export --name checkout --as-deployed        with Compensate and Saga, as it is deployed

What plain States Language cannot say is told on stderr, place by place.

Exit codes: 0 done, 1 the definition has errors, 2 wrong usage, 3 there is none or the node could not be asked.")]
pub(crate) struct Export {
    /// Leave it as it is, with Compensate and Saga
    #[arg(long)]
    as_deployed: bool,
    /// How it is written [default: json]
    #[arg(long = "as", value_enum, value_name = "LANGUAGE")]
    written: Option<Written>,
    #[command(flatten)]
    which: Which,
}

impl Import {
    /// Imports.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        if self.written.is_some() && self.output.format != Format::Table {
            let message =
                "--as is how the definition alone is written; -o writes the report with it";
            return Err(Usage(message.to_owned()).into());
        }
        let source = files::text(&self.file)?;
        let imported = Definition::import(&source);
        let states = wharf_saga::definition::report(&source, &imported);
        let (definition, remarks) = match &imported {
            Ok(accepted) => {
                let value = accepted.definition.machine.to_value();
                (Some(value), &accepted.remarks)
            }
            Err(Problems(problems)) => (None, problems),
        };
        if self.output.format == Format::Table {
            note_all(&states, remarks)?;
            if let Some(definition) = &definition {
                self.written.unwrap_or(Written::Yaml).print(definition)?;
            }
        } else {
            let all = json!({ "definition": definition, "states": states, "remarks": remarks });
            output::one(self.output.format, &all)?;
        }
        Ok(match imported {
            Ok(_) => Outcome::Done,
            Err(_) => Outcome::Negative,
        })
    }
}

fn note_all(states: &[Standing], remarks: &[Problem]) -> anyhow::Result<()> {
    for state in states {
        let (path, kind) = (clean(&state.path), clean(&state.kind));
        let why = match state.why.is_empty() {
            true => String::new(),
            false => format!(": {}", clean(&state.why)),
        };
        output::note(&format!("{path}  {kind}  {}{why}", state.verdict.as_str()))?;
    }
    for remark in remarks {
        output::note(&clean(&remark.to_string()))?;
    }
    Ok(())
}

impl Export {
    /// Exports.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let machine = match self.which.read()? {
            Ok(accepted) => accepted.definition.machine,
            Err(problems) => return self.which.refused(&problems),
        };
        let written = self.written.unwrap_or(Written::Json);
        if self.as_deployed {
            written.print(&machine.to_value())?;
            return Ok(Outcome::Done);
        }
        let exported = machine.export();
        for remark in &exported.remarks {
            output::note(&clean(&remark.to_string()))?;
        }
        written.print(&exported.machine)?;
        Ok(Outcome::Done)
    }
}
