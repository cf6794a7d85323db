//! `wharf schema list`, `get` and `register`: a registry's subjects.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};
use wharf_schema::model::{Reference, SchemaType};

use super::files;
use super::registry::{Registry, encoded, reference};
use crate::cli::{Outcome, Usage};
use crate::output::{self, Format, OutputArguments};

/// List the subjects of a registry.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf schema list
  wharf schema list --prefix shop. -o json
  wharf schema list --registry http://registry.internal:8081")]
pub(crate) struct List {
    /// Only subjects that begin so
    #[arg(
        long,
        value_name = "PREFIX",
        default_value = "",
        hide_default_value = true
    )]
    prefix: String,
    /// Also those that are deleted and can be had back
    #[arg(long)]
    deleted: bool,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    registry: Registry,
}

/// Print a schema of a registry.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf schema get orders-value                    the latest version
  wharf schema get orders-value --version 2 > order.avsc
  wharf schema get --id 7 -o json

Without -o the text of the schema is printed, as it was registered.

Exit codes: 0 found, 1 there is none, 2 wrong usage, 3 could not run.")]
pub(crate) struct Get {
    /// The subject
    #[arg(required_unless_present = "id")]
    subject: Option<String>,
    /// The version: a number, or latest
    #[arg(long, default_value = "latest", value_name = "VERSION")]
    version: String,
    /// The schema with this id
    #[arg(long, value_name = "ID", conflicts_with_all = ["subject", "version"])]
    id: Option<i32>,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    registry: Registry,
}

/// Register a schema.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf schema register order.avsc --subject orders-value
  wharf schema register order.proto --subject orders-value --reference line.proto=lines:1
  wharf schema register order.json --subject orders-value --normalize -o json

The id and the version are printed; a schema that is there already keeps both.

Exit codes: 0 registered, 2 wrong usage, 3 refused or could not run.")]
pub(crate) struct Register {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The subject
    #[arg(long, value_name = "SUBJECT")]
    subject: String,
    /// The kind of schema [default: by the file's ending]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<SchemaType>,
    /// A schema that the file refers to; may be given often
    #[arg(long = "reference", value_name = "NAME=SUBJECT:VERSION", value_parser = reference)]
    references: Vec<Reference>,
    /// Let the registry bring what does not matter into one order first
    #[arg(long)]
    normalize: bool,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    registry: Registry,
}

impl List {
    /// Lists.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let deleted = self.deleted;
        let path = format!("/schemas?latestOnly=true&deleted={deleted}");
        let listed = self.registry.ask("GET", &path, None)?;
        let mut rows = match listed {
            Some(Value::Array(rows)) => rows,
            _ => Vec::new(),
        };
        let subject = |row: &Value| row["subject"].as_str().unwrap_or_default().to_owned();
        rows.retain(|row| subject(row).starts_with(&self.prefix));
        rows.sort_by_key(subject);
        if rows.is_empty() {
            output::note("there is no such subject")?;
        }
        let cells = |row: &Value| {
            let kind = row["schemaType"].as_str().unwrap_or("AVRO").to_owned();
            let state = match row["deleted"].as_bool() {
                Some(true) => "deleted",
                _ => "",
            };
            vec![
                subject(row),
                row["version"].to_string(),
                row["id"].to_string(),
                kind,
                state.to_owned(),
            ]
        };
        let header = ["SUBJECT", "VERSION", "ID", "TYPE", ""];
        output::rows(self.output.format, &header, &rows, cells)?;
        Ok(Outcome::Done)
    }
}

impl Get {
    /// Prints it.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let path = match (&self.subject, self.id) {
            (_, Some(id)) => format!("/schemas/ids/{id}"),
            (Some(subject), None) => {
                format!("/subjects/{}/versions/{}", encoded(subject), self.version)
            }
            (None, None) => return Err(Usage("name a subject or an id".to_owned()).into()),
        };
        let Some(found) = self.registry.ask("GET", &path, None)? else {
            output::note("the registry has no such schema")?;
            return Ok(Outcome::Negative);
        };
        match self.output.format {
            Format::Table => {
                let text = found["schema"]
                    .as_str()
                    .context("the registry gave no schema")?;
                output::text(&format!("{}\n", text.trim_end()))?;
            }
            format => output::one(format, &found)?,
        }
        Ok(Outcome::Done)
    }
}

impl Register {
    /// Registers.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let file = self.file.display();
        let kind = self.kind.or_else(|| files::kind_of(&self.file));
        let kind = kind.ok_or_else(|| Usage(format!("say with --type what {file} is")))?;
        let text = std::fs::read_to_string(&self.file)
            .with_context(|| format!("{file} cannot be read"))?;
        let body = json!({
            "schema": text,
            "schemaType": kind,
            "references": self.references,
        });
        let (subject, normalize) = (encoded(&self.subject), self.normalize);
        let path = format!("/subjects/{subject}/versions?normalize={normalize}");
        let answer = self.registry.ask("POST", &path, Some(&body))?;
        let mut answer = answer.context("what answers there has no subjects")?;
        if answer.get("version").is_none() {
            // Registries before 8 say the id alone.
            let path = format!("/subjects/{subject}?normalize={normalize}");
            if let Some(found) = self.registry.ask("POST", &path, Some(&body))? {
                answer["version"] = found["version"].clone();
            }
        }
        let row = json!({
            "subject": self.subject,
            "version": answer["version"],
            "id": answer["id"],
            "guid": answer["guid"],
        });
        let cells = |row: &Value| {
            vec![
                self.subject.clone(),
                row["version"].to_string(),
                row["id"].to_string(),
            ]
        };
        output::rows(
            self.output.format,
            &["SUBJECT", "VERSION", "ID"],
            &[row],
            cells,
        )?;
        Ok(Outcome::Done)
    }
}
