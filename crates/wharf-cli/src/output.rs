//! Everything that is printed: tables for people, JSON and YAML for programs, errors in three lines.
//!
//! Only data goes to stdout. A reader that goes away (`| head`) ends the command quietly. What strangers
//! wrote (names, errors, inputs) goes through [`clean`] or [`cell`] before people see it, so that it never
//! reaches a terminal with characters that control it.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;
use serde_json::Value;
use wharf_server::Problem;

use crate::cli::{self, Usage};

/// The formats of data on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    #[default]
    Table,
    /// One JSON document
    Json,
    /// One JSON document per line and row
    Jsonl,
    /// One YAML document
    Yaml,
}

/// `-o`, for commands whose output is rows.
#[derive(Debug, Args)]
pub(crate) struct OutputArguments {
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

/// When output is coloured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl ColorWhen {
    /// Makes this the choice of every stream of the process.
    pub(crate) fn write_global(self) {
        match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}

/// Prints rows. `cells` gives a row's cells for the table; the other formats serialize the row.
pub(crate) fn rows<T: Serialize>(
    format: Format,
    header: &[&str],
    rows: &[T],
    cells: impl Fn(&T) -> Vec<String>,
) -> anyhow::Result<()> {
    match format {
        Format::Table => table(header, rows.iter().map(cells)),
        Format::Json => json(&rows),
        Format::Jsonl => rows.iter().try_for_each(|row| one(Format::Jsonl, row)),
        Format::Yaml => text(&serde_yaml_ng::to_string(rows)?),
    }
}

/// Prints one thing. As a table there is no general form: the caller prints that itself.
pub(crate) fn one<T: Serialize>(format: Format, value: &T) -> anyhow::Result<()> {
    match format {
        Format::Table | Format::Json => json(value),
        Format::Jsonl => text(&(serde_json::to_string(value)? + "\n")),
        Format::Yaml => text(&serde_yaml_ng::to_string(value)?),
    }
}

/// Prints columns without borders, as wide as the terminal where there is one.
fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    rows.for_each(|row| {
        table.add_row(row);
    });
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    text(&lines.collect::<String>())
}

/// Prints a JSON document, indented.
pub(crate) fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    text(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Prints text to stdout.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    bytes(text.as_bytes())
}

/// Prints bytes to stdout.
pub(crate) fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(())
}

/// A value as people read it in a cell.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => clean(text),
        Value::Array(all) => all.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => clean(&other.to_string()),
    }
}

/// A text without characters that control a terminal.
pub(crate) fn clean(text: &str) -> String {
    let plain = |c: char| !c.is_control();
    if text.chars().all(plain) {
        return text.to_owned();
    }
    let escape = |c: char| match plain(c) {
        true => c.to_string(),
        false => c.escape_default().to_string(),
    };
    text.chars().map(escape).collect()
}

/// Says something to the person, on stderr.
pub(crate) fn note(text: &str) -> anyhow::Result<()> {
    writeln!(anstream::stderr().lock(), "{text}")?;
    Ok(())
}

/// Prints a problem to stderr: what happened, why, what to do.
pub(crate) fn print_problem(problem: &Problem) -> io::Result<()> {
    let code = problem
        .code
        .map(|code| format!("[{code}]"))
        .unwrap_or_default();
    let more = problem
        .code
        .map(|code| format!(" (wharf explain {code})"))
        .unwrap_or_default();
    let mut stderr = anstream::stderr().lock();
    writeln!(stderr, "\x1b[1;31merror{code}\x1b[0m: {}", problem.what)?;
    writeln!(stderr, "  why: {}", problem.why)?;
    writeln!(stderr, "  fix: {}{more}", problem.fix)
}

/// Prints what went wrong and gives the exit code for it.
pub(crate) fn fail(error: &anyhow::Error) -> ExitCode {
    let reader_gone = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    if error.downcast_ref::<io::Error>().is_some_and(reader_gone) {
        return ExitCode::from(cli::DONE);
    }
    // Nobody is left to tell when stderr is gone; the exit code still says it.
    if let Some(problem) = error.downcast_ref::<Problem>() {
        drop(print_problem(problem));
        return ExitCode::from(cli::COULD_NOT_RUN);
    }
    let mut stderr = anstream::stderr().lock();
    drop(writeln!(stderr, "\x1b[1;31merror\x1b[0m: {error}"));
    for cause in error.chain().skip(1) {
        drop(writeln!(stderr, "  why: {cause}"));
    }
    if error.is::<Usage>() {
        drop(writeln!(
            stderr,
            "  fix: `wharf --help` and `wharf COMMAND --help` show how"
        ));
        return ExitCode::from(cli::USAGE);
    }
    ExitCode::from(cli::COULD_NOT_RUN)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_strangers_wrote_cannot_control_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\n\u{9b}"), "a\\u{1b}[2Jb\\n\\u{9b}");
        assert_eq!(clean("Köln · ✓"), "Köln · ✓");
        assert_eq!(
            cell(&json!(["a\x1b", { "b\u{9b}": 1 }])),
            "a\\u{1b}, {\"b\\u{9b}\":1}"
        );
    }
}
