//! `wharf schema check`: may the schemas be changed as the files have it? Against a registry's
//! versions, or against the same files at a git revision.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use wharf_schema::compat::{self, Comparison, Policy};
use wharf_schema::findings::{Change, Finding, Severity, changes};
use wharf_schema::model::{Level, Reference, SchemaType};
use wharf_schema::{Limits, Parsed};

use super::files::{self, Tree};
use super::format::{self, FormatArguments, Looked};
use super::git::Revision;
use super::registry::{Registry, reference};
use crate::cli::{Outcome, Usage};
use crate::output;

/// Check whether schemas may be changed as files have it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf schema check schemas/ --against origin/main
  wharf schema check schemas/ --against HEAD --level FULL -o github
  wharf schema check schemas/ --against v1.4.0 -o sarif > schemas.sarif
  wharf schema check order.avsc --subject orders-value
  wharf schema check schemas/ --registry http://registry.internal:8081 -o junit

With --against nothing is asked but git: a file is compared with the file of the same path at the
revision. Without it, it is compared with the versions of its subject in the registry; the subject
is --subject, or the file's name without its ending.

Exit codes: 0 compatible, 1 something breaks, 2 wrong usage, 3 could not run.")]
pub(crate) struct Check {
    /// Files, or directories with .avsc, .proto and .json files
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Compare with the files at this git revision
    #[arg(long, value_name = "REV", conflicts_with_all = ["subject", "references"])]
    against: Option<String>,
    /// The level [default: the registry's; BACKWARD with --against]
    #[arg(long, value_name = "LEVEL")]
    level: Option<Level>,
    /// Allow what only a closed content model forbids (JSON Schema)
    #[arg(long)]
    lenient: bool,
    /// The subject; for one file
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// The kind of schema [default: by the file's ending]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<SchemaType>,
    /// A schema that the file refers to; may be given often
    #[arg(long = "reference", value_name = "NAME=SUBJECT:VERSION", value_parser = reference)]
    references: Vec<Reference>,
    /// Where else imports are looked for; may be given often
    #[arg(long = "root", value_name = "DIR")]
    roots: Vec<PathBuf>,
    #[command(flatten)]
    output: FormatArguments,
    #[command(flatten)]
    registry: Registry,
}

/// What became of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// There was none before.
    New,
    /// It is the same.
    Unchanged,
    /// It may be changed so.
    Compatible,
    /// It may not.
    Incompatible,
    /// The file is gone.
    Deleted,
    /// It is no schema.
    Invalid,
}

/// A file that was looked at.
#[derive(Debug, Serialize)]
struct Checked {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(rename = "type")]
    kind: SchemaType,
    verdict: Verdict,
    level: Level,
    against: String,
    comparisons: Vec<Compared>,
    #[serde(skip)]
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct Compared {
    with: String,
    direction: compat::Direction,
    differences: Vec<Change>,
}

impl Looked for Checked {
    fn name(&self) -> &str {
        &self.file
    }

    fn verdict(&self) -> String {
        let (level, against) = (self.level, &self.against);
        match self.verdict {
            Verdict::New => format!("new: {against} does not have it"),
            Verdict::Unchanged => format!("unchanged since {against}"),
            Verdict::Compatible => format!("compatible with {against} ({level})"),
            Verdict::Incompatible => format!("NOT compatible with {against} ({level})"),
            Verdict::Deleted => format!("deleted since {against}"),
            Verdict::Invalid => "not a valid schema".to_owned(),
        }
    }

    fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

/// An older schema, and what to call it.
struct Older {
    name: String,
    parsed: Parsed,
}

impl Check {
    /// Checks.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let checked = match &self.against {
            Some(name) => self.with_revision(name)?,
            None => self.with_registry()?,
        };
        if checked.is_empty() {
            output::note("no schema was found there")?;
        }
        format::print(self.output.format, "wharf schema check", &checked, &[])?;
        let bad =
            |checked: &Checked| matches!(checked.verdict, Verdict::Incompatible | Verdict::Invalid);
        Ok(match checked.iter().any(bad) {
            true => Outcome::Negative,
            false => Outcome::Done,
        })
    }

    fn with_revision(&self, name: &str) -> anyhow::Result<Vec<Checked>> {
        let level = self.level.unwrap_or_default();
        let policy = self.policy(Policy::Strict);
        let mut checked = Vec::new();
        for path in &self.paths {
            let directory = nearest_directory(path);
            let revision = Revision::find(&directory, name)?;
            let roots = self.roots_with(path);
            let now = match path.exists() {
                true => files::find(std::slice::from_ref(path), self.kind)?,
                false => Vec::new(),
            };
            for file in &now {
                checked.push(self.file_with_revision(file, &revision, &roots, level, policy)?);
            }
            let before = revision.list(path)?;
            if !path.exists() && before.is_empty() {
                let path = path.display();
                return Err(Usage(format!("{path} is neither there nor in {name}")).into());
            }
            let gone = before.into_iter().filter(|file| !file.exists());
            for file in gone {
                if let Some(kind) = self.kind.or_else(|| files::kind_of(&file)) {
                    checked.push(deleted(&file, kind, level, name));
                }
            }
        }
        checked.sort_by(|a, b| a.file.cmp(&b.file));
        checked.dedup_by(|a, b| a.file == b.file);
        Ok(checked)
    }

    fn file_with_revision(
        &self,
        file: &Path,
        revision: &Revision,
        roots: &[PathBuf],
        level: Level,
        policy: Policy,
    ) -> anyhow::Result<Checked> {
        let kind = self.kind_of(file)?;
        let mut checked = Checked::new(file, kind, level, revision.name());
        let Some(new) = Tree::Working.load(file, kind, roots)? else {
            anyhow::bail!("{} is gone", file.display());
        };
        let parsed = match new.parse() {
            Ok(parsed) => parsed,
            Err(error) => return Ok(checked.invalid(&error.what)),
        };
        let Some(old) = Tree::At(revision).load(file, kind, roots)? else {
            return Ok(checked);
        };
        match old.parse() {
            // What was no schema broke nobody.
            Err(error) => {
                let what = format!("at {} it was no valid schema: {error}", revision.name());
                checked
                    .findings
                    .push(note("INVALID_BEFORE", what, &checked.file));
            }
            Ok(old) => {
                let older = [Older {
                    name: revision.name().to_owned(),
                    parsed: old,
                }];
                checked.compare(&parsed, &new.text, &older, policy)?;
            }
        }
        Ok(checked)
    }

    fn with_registry(&self) -> anyhow::Result<Vec<Checked>> {
        let found = files::find(&self.paths, self.kind)?;
        if self.subject.is_some() && found.len() != 1 {
            return Err(Usage("--subject is for one file".to_owned()).into());
        }
        let mut all = Vec::new();
        for file in &found {
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            let subject = self.subject.clone().unwrap_or_else(|| stem.into_owned());
            let rule = self.registry.rule(&subject)?;
            let level = self.level.unwrap_or(rule.level);
            let kind = self.kind_of(file)?;
            let mut checked = Checked::new(file, kind, level, &subject);
            let Some(mut new) = Tree::Working.load(file, kind, &self.roots_with(file))? else {
                let file = file.display();
                return Err(Usage(format!("there is no file {file}")).into());
            };
            if !self.references.is_empty() {
                new.dependencies = self.registry.dependencies(&self.references)?;
            }
            match new.parse() {
                Err(error) => checked = checked.invalid(&error.what),
                Ok(parsed) => {
                    let versions = self.registry.versions(&subject, level.is_transitive())?;
                    let mut older = Vec::new();
                    for version in versions {
                        older.push(Older {
                            name: format!("{subject} version {}", version.version),
                            parsed: version.source.parse()?,
                        });
                    }
                    checked.compare(&parsed, &new.text, &older, self.policy(rule.policy))?;
                }
            }
            checked.subject = Some(subject);
            all.push(checked);
        }
        Ok(all)
    }

    fn policy(&self, otherwise: Policy) -> Policy {
        match self.lenient {
            true => Policy::Lenient,
            false => otherwise,
        }
    }

    fn kind_of(&self, file: &Path) -> anyhow::Result<SchemaType> {
        let kind = self.kind.or_else(|| files::kind_of(file));
        let unknown = || Usage(format!("say with --type what {} is", file.display()));
        Ok(kind.ok_or_else(unknown)?)
    }

    fn roots_with(&self, path: &Path) -> Vec<PathBuf> {
        let own = path.is_dir().then(|| path.to_owned());
        self.roots.iter().cloned().chain(own).collect()
    }
}

impl Checked {
    fn new(file: &Path, kind: SchemaType, level: Level, against: &str) -> Self {
        Self {
            file: file.display().to_string(),
            subject: None,
            kind,
            verdict: Verdict::New,
            level,
            against: against.to_owned(),
            comparisons: Vec::new(),
            findings: Vec::new(),
        }
    }

    fn invalid(mut self, what: &str) -> Self {
        self.verdict = Verdict::Invalid;
        self.findings.push(Finding {
            severity: Severity::Error,
            ..note("INVALID_SCHEMA", what.to_owned(), &self.file)
        });
        self
    }

    /// Compares with older ones, oldest first.
    fn compare(
        &mut self,
        new: &Parsed,
        text: &str,
        older: &[Older],
        policy: Policy,
    ) -> anyhow::Result<()> {
        let Some(latest) = older.last() else {
            return Ok(());
        };
        let numbered: Vec<(i32, Parsed)> = (0..)
            .zip(older)
            .map(|(index, older)| (index, older.parsed.clone()))
            .collect();
        let compared = compat::check(self.level, policy, new, &numbered, &Limits::default());
        let compared = match compared {
            Ok(compared) => compared,
            Err(error) => {
                // Nothing was proved, so nothing passes.
                self.verdict = Verdict::Incompatible;
                self.findings.push(Finding {
                    severity: Severity::Error,
                    ..note("NOT_COMPARABLE", error.what, &self.file)
                });
                return Ok(());
            }
        };
        let breaks = |comparison: &Comparison| comparison.incompatibilities().next().is_some();
        self.verdict = match compared.iter().any(breaks) {
            true => Verdict::Incompatible,
            false if latest.parsed.canonical() == new.canonical() => Verdict::Unchanged,
            false => Verdict::Compatible,
        };
        for comparison in &compared {
            let index = usize::try_from(comparison.version).unwrap_or_default();
            let with = older.get(index).map_or("", |older| &older.name);
            let differences = changes(comparison);
            let broken = differences.iter().filter(|change| !change.is_compatible);
            for change in broken {
                let mut finding = change.finding(comparison.direction, self.kind, text);
                finding.file = Some(self.file.clone());
                if older.len() > 1 {
                    finding.message = format!("{} (compared with {with})", finding.message);
                }
                self.findings.push(finding);
            }
            self.comparisons.push(Compared {
                with: with.to_owned(),
                direction: comparison.direction,
                differences,
            });
        }
        Ok(())
    }
}

fn deleted(file: &Path, kind: SchemaType, level: Level, revision: &str) -> Checked {
    let mut checked = Checked::new(file, kind, level, revision);
    checked.verdict = Verdict::Deleted;
    let what =
        "the file is gone; a registry still has its versions, and retained records need them";
    let finding = Finding {
        severity: Severity::Warning,
        ..note("SCHEMA_DELETED", what.to_owned(), &checked.file)
    };
    checked.findings.push(finding);
    checked
}

fn note(rule: &str, message: String, file: &str) -> Finding {
    Finding {
        rule: rule.to_owned(),
        severity: Severity::Note,
        message,
        file: Some(file.to_owned()),
        line: None,
        path: "/".to_owned(),
        detail: None,
    }
}

/// The path itself or the nearest directory above it that is there.
fn nearest_directory(path: &Path) -> PathBuf {
    let there = path.ancestors().find(|above| above.is_dir());
    match there {
        Some(above) if !above.as_os_str().is_empty() => above.to_owned(),
        _ => PathBuf::from("."),
    }
}
