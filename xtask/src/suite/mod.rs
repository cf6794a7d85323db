//! `cargo xtask test`: every part in order, the counts, and what was skipped and why.
//!
//! Invariants: the last line is `N passed, N failed, N skipped`; a part that could not run is in
//! the list of skipped ones with its reason, and fails the run where `CI=true`; a part that fails
//! does not keep the later ones from running.

mod buf;
mod claims;
mod clients;
mod compare;
mod compat;
mod debezium;
mod features;
mod parts;
mod registry;
mod step_functions;
mod transports;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use crate::shell::{self, say};
use crate::workspace::Workspace;

pub(crate) use parts::Context;

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask test                          everything
  cargo xtask test --only rust              the Rust tests
  cargo xtask test --only compat            real clients against the real binary
  cargo xtask test --only compat/kcat,kill  two parts
  CI=true cargo xtask test                  a part that has to be skipped fails the run";

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Run these parts only (comma-separated; a name before the slash means all below it)
    #[arg(long, value_delimiter = ',', value_parser = parts::selector())]
    only: Vec<String>,
    /// Name the parts and stop
    #[arg(long)]
    list: bool,
}

/// What came of one part.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How many tests or cases passed.
    pub(crate) passed: usize,
    /// How many failed.
    pub(crate) failed: usize,
    /// What could not run, and why.
    pub(crate) skipped: Vec<String>,
    /// The passed and failed of each server, where a part runs against several.
    servers: Vec<(&'static str, (usize, usize))>,
}

impl Outcome {
    /// An outcome with nothing skipped.
    pub(crate) fn of(passed: usize, failed: usize) -> Self {
        Self {
            passed,
            failed,
            ..Self::default()
        }
    }

    /// A part that cannot run here.
    pub(crate) fn skipped(reason: impl Into<String>) -> Self {
        Self {
            skipped: vec![reason.into()],
            ..Self::default()
        }
    }
}

struct Row {
    name: &'static str,
    outcome: Outcome,
    took: Duration,
}

/// Runs the selected parts. Answers whether all is well.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    if options.list {
        for part in parts::PARTS {
            say(format!("{:<24} {}", part.name, part.about));
        }
        return Ok(true);
    }
    let context = Context::new(workspace)?;
    let mut rows = Vec::new();
    for part in parts::PARTS {
        if !parts::selected(part.name, &options.only) || harness::interrupted() {
            continue;
        }
        context.before(part);
        say(format!("▶ {}: {}", part.name, part.about));
        let began = Instant::now();
        let outcome = (part.run)(&context).unwrap_or_else(|error| {
            say(format!("    {error:#}"));
            Outcome::of(0, 1)
        });
        let took = began.elapsed();
        let mark = match (outcome.failed, outcome.passed) {
            (0, 0) => "–",
            (0, _) => "✓",
            (_, _) => "✗",
        };
        say(format!(
            "{mark} {}: {} passed, {} failed, {} skipped ({:.0} s)",
            part.name,
            outcome.passed,
            outcome.failed,
            outcome.skipped.len(),
            took.as_secs_f64()
        ));
        rows.push(Row {
            name: part.name,
            outcome,
            took,
        });
    }
    context.clean_up(rows.iter().all(|row| row.outcome.failed == 0));
    if harness::interrupted() {
        say("Interrupted: the parts after this one were not run.");
    }
    let (text, good) = closing(&rows, std::env::var("CI").is_ok_and(|ci| ci == "true"));
    say(text);
    Ok(good)
}

/// The table, the list of skipped things, the closing line; and whether all is well.
fn closing(rows: &[Row], strict: bool) -> (String, bool) {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["part", "passed", "failed", "skipped", "seconds"]);
    for row in rows {
        table.add_row([
            row.name.to_owned(),
            row.outcome.passed.to_string(),
            row.outcome.failed.to_string(),
            row.outcome.skipped.len().to_string(),
            format!("{:.0}", row.took.as_secs_f64()),
        ]);
        for (server, (passed, failed)) in &row.outcome.servers {
            table.add_row([
                format!("  {server}"),
                passed.to_string(),
                failed.to_string(),
            ]);
        }
    }
    let skipped: Vec<String> = rows
        .iter()
        .flat_map(|row| {
            row.outcome
                .skipped
                .iter()
                .map(move |why| format!("  {}: {why}\n", row.name))
        })
        .collect();
    let heading = match (skipped.is_empty(), strict) {
        (true, _) => "Nothing was skipped.",
        (false, true) => "Skipped, which CI=true does not allow:",
        (false, false) => "Skipped:",
    };
    let passed: usize = rows.iter().map(|row| row.outcome.passed).sum();
    let failed: usize = rows.iter().map(|row| row.outcome.failed).sum();
    let text = format!(
        "\n{table}\n\n{heading}\n{}{passed} passed, {failed} failed, {} skipped",
        skipped.concat(),
        skipped.len()
    );
    (
        text,
        failed == 0 && passed > 0 && (skipped.is_empty() || !strict),
    )
}

/// Reads the closing lines that count: `test result: ok. 3 passed; 0 failed; …` (cargo) and
/// `3 passed, 0 failed` (the scripts under `compat/`).
fn count(line: &str) -> Option<(usize, usize)> {
    let line = line.trim();
    let counts = match line.strip_prefix("test result: ") {
        Some(rest) => rest.split_once(". ")?.1,
        None => line,
    };
    let mut words = counts
        .split([' ', ',', ';'])
        .filter(|word| !word.is_empty());
    let passed = words.next()?.parse().ok()?;
    let failed = (words.next()? == "passed")
        .then(|| words.next())??
        .parse()
        .ok()?;
    (words.next()? == "failed").then_some((passed, failed))
}

/// Runs a program that closes with a line that [`count`] reads. A program that fails without
/// counting a failure counts as one.
fn counted(
    workspace: &Workspace,
    log: &Path,
    mut command: std::process::Command,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut failures = Vec::new();
    let status = shell::logged(&mut command, log, |line| {
        if line.starts_with("FAIL ") || line.ends_with(" ... FAILED") {
            failures.push(line.to_owned());
        }
        if let Some((passed, failed)) = count(line) {
            outcome.passed += passed;
            outcome.failed += failed;
        }
    })?;
    if !status.success() && outcome.failed == 0 {
        outcome.failed = 1;
    }
    if status.success() && outcome.passed == 0 {
        say(format!("    {} counted no test", workspace.relative(log)));
        outcome.failed += 1;
    }
    if outcome.failed > 0 {
        shell::show_tail(log);
        failures.iter().for_each(say);
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_lines_of_cargo_and_of_the_scripts_are_counted() {
        let cargo = "test result: ok. 3 passed; 1 failed; 0 ignored; 0 measured; 2 filtered out";
        assert_eq!(count(cargo), Some((3, 1)));
        assert_eq!(
            count("test result: FAILED. 0 passed; 2 failed; 0 ignored"),
            Some((0, 2))
        );
        assert_eq!(count("12 passed, 0 failed"), Some((12, 0)));
        assert_eq!(count("12 passed, 3 failed, 1 skipped"), Some((12, 3)));
    }

    #[test]
    fn other_lines_count_nothing() {
        for line in [
            "",
            "running 3 tests",
            "3 passed",
            "passed, failed",
            "test a::b ... ok",
            "7 of 9",
        ] {
            assert_eq!(count(line), None, "{line}");
        }
    }

    #[test]
    fn a_run_is_good_only_when_something_passed_and_nothing_failed() {
        let row = |passed, failed, skipped: &[&str]| Row {
            name: "part",
            outcome: Outcome {
                passed,
                failed,
                skipped: skipped.iter().map(|&why| why.to_owned()).collect(),
                servers: vec![("on wharf", (passed, failed))],
            },
            took: Duration::ZERO,
        };
        let good = |rows: &[Row], strict| closing(rows, strict).1;
        assert!(good(&[row(1, 0, &[])], true));
        assert!(good(&[row(1, 0, &["no kcat"])], false));
        assert!(!good(&[row(1, 0, &["no kcat"])], true));
        assert!(!good(&[row(1, 1, &[])], false));
        assert!(!good(&[], false));
        let (text, _) = closing(&[row(1, 0, &["no kcat"]), row(2, 1, &[])], false);
        assert_eq!(
            text.lines().last(),
            Some("3 passed, 1 failed, 1 skipped"),
            "{text}"
        );
        assert!(text.contains("  part: no kcat\n"), "{text}");
    }
}
