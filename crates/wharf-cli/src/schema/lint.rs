//! `wharf schema lint`: what is legal today and hurts later.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use wharf_schema::Limits;
use wharf_schema::findings::{Described, Finding, Severity};
use wharf_schema::lint::{self, Choice, RULES};
use wharf_schema::model::SchemaType;

use super::files::{self, Tree};
use super::format::{self, Format, FormatArguments, Looked};
use super::git::Revision;
use crate::cli::{Outcome, Usage};
use crate::output;

/// Look for what is legal today and hurts later.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf schema lint schemas/
  wharf schema lint schemas/ --allow avro-field-doc -o github
  wharf schema lint order.proto --against origin/main
  wharf schema lint --list                 every rule

Exit codes: 0 at most notes, 1 errors or warnings, 2 wrong usage, 3 could not run.")]
pub(crate) struct Lint {
    /// Files, or directories with .avsc, .proto and .json files
    #[arg(required_unless_present = "list", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Only this rule; may be given often
    #[arg(long = "rule", value_name = "ID")]
    rules: Vec<String>,
    /// Not this rule; may be given often
    #[arg(long = "allow", value_name = "ID")]
    allowed: Vec<String>,
    /// Also look at what was removed since this git revision
    #[arg(long, value_name = "REV")]
    against: Option<String>,
    /// List the rules
    #[arg(long, conflicts_with = "paths")]
    list: bool,
    /// The kind of schema [default: by the file's ending]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<SchemaType>,
    #[command(flatten)]
    output: FormatArguments,
}

#[derive(Debug, Serialize)]
struct Linted {
    file: String,
    findings: Vec<Finding>,
}

impl Looked for Linted {
    fn name(&self) -> &str {
        &self.file
    }

    fn verdict(&self) -> String {
        let count = |severity| {
            let findings = self.findings.iter();
            findings
                .filter(|finding| finding.severity == severity)
                .count()
        };
        if self.findings.is_empty() {
            return "nothing found".to_owned();
        }
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        let notes = count(Severity::Note);
        format!("errors: {errors}, warnings: {warnings}, notes: {notes}")
    }

    fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

#[derive(Debug, Serialize)]
struct Row {
    id: &'static str,
    #[serde(rename = "type")]
    kind: SchemaType,
    severity: Severity,
    finds: &'static str,
    why: &'static str,
    fix: &'static str,
}

impl Lint {
    /// Looks.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        if self.list {
            return list(self.output.format);
        }
        let choice = Choice {
            only: self.rules.iter().cloned().collect(),
            allowed: self.allowed.iter().cloned().collect(),
        };
        if let Some(unknown) = choice.unknown() {
            let what =
                format!("there is no rule {unknown:?}; `wharf schema lint --list` shows all");
            return Err(Usage(what).into());
        }
        let mut linted = Vec::new();
        for file in files::find(&self.paths, self.kind)? {
            linted.push(self.look(&file, &choice)?);
        }
        let described = |rule: &lint::Rule| Described {
            id: rule.id.to_owned(),
            summary: rule.summary.to_owned(),
        };
        let described: Vec<Described> = RULES.iter().map(described).collect();
        format::print(self.output.format, "wharf schema lint", &linted, &described)?;
        let worst = linted
            .iter()
            .filter_map(|one| lint::worst(&one.findings))
            .max();
        Ok(match worst {
            None | Some(Severity::Note) => Outcome::Done,
            Some(Severity::Warning | Severity::Error) => Outcome::Negative,
        })
    }

    fn look(&self, file: &std::path::Path, choice: &Choice) -> anyhow::Result<Linted> {
        let name = file.display().to_string();
        let kind = self.kind.or_else(|| files::kind_of(file));
        let kind = kind.ok_or_else(|| Usage(format!("say with --type what {name} is")))?;
        let Some(source) = Tree::Working.load(file, kind, &self.paths)? else {
            return Err(Usage(format!("there is no file {name}")).into());
        };
        let previous = match &self.against {
            None => None,
            Some(revision) => {
                let directory = match file.parent() {
                    Some(parent) if !parent.as_os_str().is_empty() => parent,
                    _ => std::path::Path::new("."),
                };
                Revision::find(directory, revision)?.read(file)?
            }
        };
        let limits = Limits::default();
        let looked = source.parse().and_then(|_parsed| {
            lint::lint(kind, &source.text, previous.as_deref(), choice, &limits)
        });
        let invalid = |error: wharf_schema::Invalid| Finding {
            rule: "INVALID_SCHEMA".to_owned(),
            severity: Severity::Error,
            message: error.what,
            file: None,
            line: None,
            path: "/".to_owned(),
            detail: None,
        };
        let mut findings = looked.unwrap_or_else(|error| vec![invalid(error)]);
        for finding in &mut findings {
            finding.file = Some(name.clone());
        }
        Ok(Linted {
            file: name,
            findings,
        })
    }
}

fn list(format: Format) -> anyhow::Result<Outcome> {
    let row = |rule: &lint::Rule| Row {
        id: rule.id,
        kind: rule.kind,
        severity: rule.severity,
        finds: rule.summary,
        why: rule.why,
        fix: rule.fix,
    };
    let rows: Vec<Row> = RULES.iter().map(row).collect();
    let cells = |row: &Row| {
        let severity = row.severity.as_str().to_owned();
        vec![row.id.to_owned(), severity, row.finds.to_owned()]
    };
    let format = match format {
        Format::Text => output::Format::Table,
        Format::Json => output::Format::Json,
        Format::Jsonl => output::Format::Jsonl,
        Format::Yaml => output::Format::Yaml,
        Format::Markdown => {
            output::text(&lint::markdown())?;
            return Ok(Outcome::Done);
        }
        Format::Sarif | Format::Junit | Format::Github => {
            return Err(Usage("a list of rules has no such format".to_owned()).into());
        }
    };
    output::rows(format, &["RULE", "SEVERITY", "FINDS"], &rows, cells)?;
    Ok(Outcome::Done)
}
