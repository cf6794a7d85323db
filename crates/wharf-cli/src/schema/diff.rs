//! `wharf schema diff`: every difference between two schemas, in both directions.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use wharf_schema::Limits;
use wharf_schema::compat::{Comparison, Direction, Policy};
use wharf_schema::findings::{Change, Finding, changes};
use wharf_schema::model::SchemaType;

use super::files::{self, Source, Tree};
use super::format::{self, FormatArguments, Looked};
use super::registry::Registry;
use crate::cli::{Outcome, Usage};

/// Show every difference between two schemas, with records that show it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf schema diff old.avsc new.avsc
  wharf schema diff orders-value:3 order.avsc
  wharf schema diff orders-value:3 orders-value:latest -o json

A schema is a file, or SUBJECT:VERSION of the registry.
Backward is what the new schema makes of records that the old one wrote, forward the other way round.

Exit codes: 0 compatible in both directions, 1 something breaks, 2 wrong usage, 3 could not run.")]
pub(crate) struct Diff {
    /// The schema before
    #[arg(value_name = "OLD")]
    old: String,
    /// The schema after
    #[arg(value_name = "NEW")]
    new: String,
    /// The kind of schema [default: by the file's ending]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<SchemaType>,
    /// Allow what only a closed content model forbids (JSON Schema)
    #[arg(long)]
    lenient: bool,
    /// Where else imports are looked for; may be given often
    #[arg(long = "root", value_name = "DIR")]
    roots: Vec<PathBuf>,
    #[command(flatten)]
    output: FormatArguments,
    #[command(flatten)]
    registry: Registry,
}

/// One direction.
#[derive(Debug, Serialize)]
struct Compared {
    #[serde(skip)]
    name: String,
    direction: Direction,
    is_compatible: bool,
    differences: Vec<Change>,
    #[serde(skip)]
    findings: Vec<Finding>,
}

impl Looked for Compared {
    fn name(&self) -> &str {
        &self.name
    }

    fn verdict(&self) -> String {
        match (self.differences.len(), self.is_compatible) {
            (0, _) => "no difference".to_owned(),
            (count, true) => format!("compatible, differences: {count}"),
            (count, false) => format!("NOT compatible, differences: {count}"),
        }
    }

    fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

impl Diff {
    /// Compares.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let (old_source, new_source) = (self.load(&self.old)?, self.load(&self.new)?);
        let invalid = |name: &str, error: wharf_schema::Invalid| {
            Usage(format!("{name} is no valid schema: {error}"))
        };
        let old = old_source
            .parse()
            .map_err(|error| invalid(&self.old, error))?;
        let new = new_source
            .parse()
            .map_err(|error| invalid(&self.new, error))?;
        let policy = match self.lenient {
            true => Policy::Lenient,
            false => Policy::Strict,
        };
        let mut compared = Vec::new();
        for direction in [Direction::Backward, Direction::Forward] {
            let (reader, writer) = match direction {
                Direction::Backward => (&new, &old),
                Direction::Forward => (&old, &new),
            };
            let comparison = Comparison {
                version: 0,
                direction,
                differences: reader.reads(writer, policy, &Limits::default())?,
            };
            let differences = changes(&comparison);
            let finding = |change: &Change| {
                let mut finding = change.finding(direction, new_source.kind, &new_source.text);
                finding.file = Path::new(&self.new).exists().then(|| self.new.clone());
                finding
            };
            compared.push(Compared {
                name: match direction {
                    Direction::Backward => format!("backward: {} reads {}", self.new, self.old),
                    Direction::Forward => format!("forward: {} reads {}", self.old, self.new),
                },
                direction,
                is_compatible: differences.iter().all(|change| change.is_compatible),
                findings: differences.iter().map(finding).collect(),
                differences,
            });
        }
        format::print(self.output.format, "wharf schema diff", &compared, &[])?;
        Ok(match compared.iter().all(|one| one.is_compatible) {
            true => Outcome::Done,
            false => Outcome::Negative,
        })
    }

    /// A file if there is one of that name, else a version of the registry.
    fn load(&self, name: &str) -> anyhow::Result<Source> {
        let path = Path::new(name);
        if path.is_file() {
            let kind = self.kind.or_else(|| files::kind_of(path));
            let kind = kind.ok_or_else(|| Usage(format!("say with --type what {name} is")))?;
            let loaded = Tree::Working.load(path, kind, &self.roots)?;
            return loaded.ok_or_else(|| anyhow::anyhow!("{name} is gone"));
        }
        let versioned = name.rsplit_once(':').filter(|(_, version)| {
            *version == "latest" || version.bytes().all(|byte| byte.is_ascii_digit())
        });
        let Some((subject, version)) = versioned else {
            let what = format!("{name} is neither a file nor SUBJECT:VERSION");
            return Err(Usage(what).into());
        };
        let found = self.registry.version(subject, version)?;
        let missing = || Usage(format!("the registry has no {subject} version {version}"));
        Ok(found.ok_or_else(missing)?.1)
    }
}
