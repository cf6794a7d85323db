//! The formats of `check`, `diff`, `lint` and `impact`: what people read, and what pipelines do.

use clap::{Args, ValueEnum};
use serde::Serialize;
use wharf_schema::findings::{self, Case, Described, Finding, Severity};

use crate::output;

/// A format of findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
    /// One JSON document per line and schema
    Jsonl,
    /// One YAML document
    Yaml,
    /// For a pull request
    Markdown,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// JUnit's XML, for build servers
    Junit,
    /// Annotations of GitHub Actions
    Github,
}

/// `-o`, for commands whose output is findings.
#[derive(Debug, Args)]
pub(crate) struct FormatArguments {
    /// The format of the output
    #[arg(
        short = 'o',
        long = "output",
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub(crate) format: Format,
}

/// One thing that was looked at: a file or a pair, with what was found.
pub(crate) trait Looked: Serialize {
    /// The file or the subject.
    fn name(&self) -> &str;
    /// What became of it, in a word or two.
    fn verdict(&self) -> String;
    /// All that was found, with file and line.
    fn findings(&self) -> &[Finding];
}

/// Prints all that was looked at.
pub(crate) fn print<T: Looked>(
    format: Format,
    suite: &str,
    looked: &[T],
    described: &[Described],
) -> anyhow::Result<()> {
    let all = || {
        let findings = looked.iter().flat_map(|one| one.findings().iter().cloned());
        findings.collect::<Vec<Finding>>()
    };
    match format {
        Format::Text => output::text(&text(looked)),
        Format::Json => output::json(&looked),
        Format::Jsonl => looked
            .iter()
            .try_for_each(|one| output::one(output::Format::Jsonl, one)),
        Format::Yaml => output::one(output::Format::Yaml, &looked),
        Format::Markdown => output::text(&markdown(suite, looked)),
        Format::Sarif => output::text(&findings::sarif(&all(), described)),
        Format::Github => output::text(&findings::github(&all())),
        Format::Junit => {
            let case = |one| {
                let one: &T = one;
                Case {
                    name: one.name(),
                    findings: one.findings(),
                }
            };
            let cases: Vec<Case<'_>> = looked.iter().map(case).collect();
            output::text(&findings::junit(suite, &cases))
        }
    }
}

fn text<T: Looked>(looked: &[T]) -> String {
    let width = looked.iter().map(|one| one.name().len()).max();
    let width = width.unwrap_or_default();
    let mut text = String::new();
    for one in looked {
        text.push_str(&format!("{:width$}  {}\n", one.name(), one.verdict()));
        for finding in one.findings() {
            let place = match finding.line {
                Some(line) => format!("line {line}, {}", finding.path),
                None => finding.path.clone(),
            };
            text.push_str(&format!(
                "  {} {}  ({place})\n    {}\n",
                finding.severity.as_str(),
                finding.rule,
                finding.message
            ));
            for line in finding.detail.iter().flat_map(|detail| detail.lines()) {
                text.push_str(&format!("    {line}\n"));
            }
        }
    }
    text
}

fn markdown<T: Looked>(suite: &str, looked: &[T]) -> String {
    let mut text = format!("## {suite}\n\n| schema | verdict | findings |\n|---|---|---|\n");
    for one in looked {
        text.push_str(&format!(
            "| `{}` | {} | {} |\n",
            cell(one.name()),
            cell(&one.verdict()),
            one.findings().len()
        ));
    }
    for one in looked {
        let worth = |finding: &&Finding| finding.severity > Severity::Note;
        for finding in one.findings().iter().filter(worth) {
            text.push_str(&format!(
                "\n- **{}** `{}` at `{}` of `{}`: {}\n",
                finding.severity.as_str(),
                finding.rule,
                cell(&finding.path),
                cell(one.name()),
                finding.message
            ));
            if let Some(detail) = &finding.detail {
                let lines = detail.lines().map(|line| format!("      {line}\n"));
                text.push_str(&format!("\n{}", lines.collect::<String>()));
            }
        }
    }
    text
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
        .replace('\n', " ")
        .replace('`', "'")
}
