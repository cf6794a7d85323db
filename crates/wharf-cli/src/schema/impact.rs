//! `wharf schema impact`: who is affected by a change of a schema, from what a node has seen.
//!
//! The node gives the evidence, the report is made here: evidence that was saved gives the same report
//! again, byte for byte.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};
use wharf_schema::Limits;
use wharf_schema::findings::{self, Case};
use wharf_schema::impact::{self, Catalogue, Evidence};
use wharf_schema::model::{Level, Reference, SchemaType};
use wharf_server::Problem;

use super::files::{self, Tree};
use super::format::{Format, FormatArguments};
use super::registry::reference;
use crate::cli::{Outcome, Usage};
use crate::node_api::NodeApi;
use crate::output;

/// Show who is affected by a change of a schema.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf schema impact order.json --subject shop.orders-value
  wharf schema impact order.json --subject shop.orders-value --catalogue catalogue.yaml
  wharf schema impact order.json --subject shop.orders-value -o markdown > comment.md
  wharf schema impact order.json --subject shop.orders-value --save-evidence evidence.json
  wharf schema impact --evidence evidence.json -o sarif

The node says which groups read the topic and how far, which schema ids are retained and unread, and
who asked for the schema. Consumers that it saw and that no catalogue has come first.

Exit codes: 0 nothing breaks, 1 something breaks, 2 wrong usage, 3 could not run.")]
pub(crate) struct Impact {
    /// The proposed schema
    #[arg(value_name = "FILE", required_unless_present = "evidence")]
    file: Option<PathBuf>,
    /// The subject it would be registered under
    #[arg(long, value_name = "SUBJECT", required_unless_present = "evidence")]
    subject: Option<String>,
    /// A topic with its records [default: the one the subject is named after]; may be given often
    #[arg(long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,
    /// A file that says who reads what, beside the node's own
    #[arg(long, value_name = "FILE")]
    catalogue: Option<PathBuf>,
    /// The level [default: the subject's]
    #[arg(long, value_name = "LEVEL")]
    level: Option<Level>,
    /// Allow what only a closed content model forbids (JSON Schema) [default: the subject's policy]
    #[arg(long)]
    lenient: bool,
    /// The kind of schema [default: by the file's ending]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<SchemaType>,
    /// A schema that the file refers to; may be given often
    #[arg(long = "reference", value_name = "NAME=SUBJECT:VERSION", value_parser = reference)]
    references: Vec<Reference>,
    /// Where else imports are looked for; may be given often
    #[arg(long = "root", value_name = "DIR")]
    roots: Vec<PathBuf>,
    /// How long the node may look through retained records, at most a minute
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    scan: Duration,
    /// Keep the evidence in this file
    #[arg(long, value_name = "FILE")]
    save_evidence: Option<PathBuf>,
    /// Report on evidence that was kept, and ask no node
    #[arg(long, value_name = "FILE", conflicts_with_all = ["file", "subject", "catalogue", "save_evidence"])]
    evidence: Option<PathBuf>,
    #[command(flatten)]
    output: FormatArguments,
    #[command(flatten)]
    node: NodeApi,
}

impl Impact {
    /// Reports.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let evidence = match (&self.evidence, &self.file, &self.subject) {
            (Some(kept), _, _) => {
                let name = kept.display();
                let text = std::fs::read_to_string(kept)
                    .with_context(|| format!("{name} cannot be read"))?;
                serde_json::from_str(&text).with_context(|| format!("{name} is no evidence"))?
            }
            (None, Some(file), Some(subject)) => self.gather(file, subject)?,
            _ => return Err(Usage("name a file and its subject".to_owned()).into()),
        };
        if let Some(path) = &self.save_evidence {
            std::fs::write(path, serde_json::to_string_pretty(&evidence)? + "\n")
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        let report = impact::report(&evidence, &Limits::default()).map_err(|invalid| {
            let file = evidence.proposed.file.as_deref();
            let what = format!("{} is no valid schema", file.unwrap_or("the text"));
            Problem::plain(
                what,
                invalid.what,
                "correct it; `wharf schema lint` shows the place",
            )
        })?;
        let found = || impact::findings(&report, &evidence.proposed.text);
        match self.output.format {
            Format::Text => output::text(&impact::text(&report))?,
            Format::Markdown => output::text(&impact::markdown(&report))?,
            Format::Json => output::json(&report)?,
            Format::Jsonl => output::one(output::Format::Jsonl, &report)?,
            Format::Yaml => output::one(output::Format::Yaml, &report)?,
            Format::Sarif => output::text(&findings::sarif(&found(), &[]))?,
            Format::Github => output::text(&findings::github(&found()))?,
            Format::Junit => {
                let case = Case {
                    name: &report.subject,
                    findings: &found(),
                };
                output::text(&findings::junit("wharf schema impact", &[case]))?;
            }
        }
        Ok(match report.decision.breaks {
            true => Outcome::Negative,
            false => Outcome::Done,
        })
    }

    /// Asks the node, and adds what files say.
    fn gather(&self, file: &Path, subject: &str) -> anyhow::Result<Evidence> {
        let name = file.display().to_string();
        let kind = self.kind.or_else(|| files::kind_of(file));
        let kind = kind.ok_or_else(|| Usage(format!("say with --type what {name} is")))?;
        let loaded = Tree::Working.load(file, kind, &self.roots)?;
        let source = loaded.ok_or_else(|| Usage(format!("there is no file {name}")))?;
        let mut asked = json!({
            "subject": subject,
            "schema": source.text,
            "schemaType": kind,
            "references": self.references,
            "topics": self.topics,
            "file": name,
            "scanMs": u64::try_from(self.scan.as_millis()).unwrap_or(u64::MAX),
        });
        if let Some(level) = self.level {
            asked["level"] = json!(level);
        }
        if self.lenient {
            asked["policy"] = json!("LENIENT");
        }
        let path = "/api/v1/schemas/impact?format=evidence";
        let answer = self.node.send("POST", path, Some(&asked), self.scan)?;
        let body: Value = answer.good("`wharf schema list` shows the subjects there are")?;
        let mut evidence: Evidence =
            serde_json::from_value(body).context("the node's evidence cannot be read")?;
        if self.references.is_empty() {
            evidence.proposed.dependencies = source.dependencies;
        }
        if let Some(path) = &self.catalogue {
            let topics: Vec<String> = evidence.topics.iter().map(|it| it.name.clone()).collect();
            let declared = declared(path, subject, &topics)?;
            evidence.catalogue.get_or_insert_default().extend(declared);
        }
        Ok(evidence)
    }
}

/// What a catalogue says of a subject.
fn declared(
    path: &Path,
    subject: &str,
    topics: &[String],
) -> anyhow::Result<Vec<impact::Declared>> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("{name} cannot be read"))?;
    let catalogue: Catalogue = serde_yaml_ng::from_str(&text)
        .map_err(|error| Usage(format!("{name} is no catalogue: {error}")))?;
    let beside = path.parent().unwrap_or(Path::new(""));
    let load = |file: &str| {
        let path = beside.join(file);
        let kind = files::kind_of(&path).ok_or_else(|| format!("{file} is no schema's name"))?;
        let text = std::fs::read_to_string(&path);
        Ok((kind, text.map_err(|error| format!("{file}: {error}"))?))
    };
    let declared = catalogue.declared(subject, topics, &name, load);
    declared.map_err(|reason| Usage(reason).into())
}
