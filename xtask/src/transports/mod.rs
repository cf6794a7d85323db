//! The guarantee table: what the conformance suite found of every transport, as a page.
//!
//! The tests of each transport leave a report in cargo's folder for tests. `docs/transports.json`
//! keeps them all, and `docs/transports.md` is made of it and of nothing else, so that no cell of
//! the table is written by hand. A report with a failed case, or of other cases than there are now,
//! is never kept.

mod page;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use clap::Args;
use wharf_message::transport::conformance::{CASES, CaseReport, Mode, Report, Verdict};
use wharf_message::transport::faults::FAULTS;

pub(crate) use self::page::page;

use crate::shell::say;
use crate::workspace::Workspace;

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask test --only rust,transports   runs the conformance suite on every transport
  cargo xtask transports                    takes over what it found and writes the page
  cargo xtask transports --check            says where the page differs from what was found";

/// What the page is made of.
pub(crate) const RESULTS: &str = "docs/transports.json";
/// The page.
pub(crate) const PAGE: &str = "docs/transports.md";

/// The columns, in order; others come after them by name.
const COLUMNS: [&str; 6] = [
    "memory",
    "embedded",
    "kafka-wharf",
    "kafka-apache",
    "rabbitmq",
    "nats",
];

/// What to do.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Change nothing; the exit code says whether the page is what was found
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let recorded = recorded(&folder(workspace), SystemTime::UNIX_EPOCH)?;
    let (results, page_path) = (workspace.root.join(RESULTS), workspace.root.join(PAGE));
    let kept = match fs::read_to_string(&results) {
        Ok(text) => read(&text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).context(RESULTS),
    };
    if options.check {
        let mut found: Vec<String> = gaps(&kept);
        found.extend(differences(&kept, &recorded));
        if fs::read_to_string(&page_path).context(PAGE)? != page(&kept) {
            found.push(format!("{PAGE} is not what {RESULTS} says"));
        }
        found.iter().for_each(say);
        return Ok(found.is_empty());
    }
    let broken: Vec<String> = recorded.iter().flat_map(Report::failures).collect();
    if !broken.is_empty() {
        bail!(
            "nothing is kept as long as cases fail:\n{}",
            broken.join("\n")
        );
    }
    let reports = merged(kept, recorded);
    let gaps = gaps(&reports);
    gaps.iter().for_each(say);
    fs::write(&results, written(&reports)?).context(RESULTS)?;
    fs::write(&page_path, page(&reports)).context(PAGE)?;
    say(format!("{PAGE}: {} transports", reports.len()));
    Ok(gaps.is_empty())
}

/// Where what the tests found since a time is not what the page says. For the suite, after them.
pub(crate) fn news(workspace: &Workspace, since: SystemTime) -> Result<Vec<String>> {
    let kept = fs::read_to_string(workspace.root.join(RESULTS)).context(RESULTS)?;
    let recorded = recorded(&folder(workspace), since)?;
    Ok(differences(&read(&kept)?, &recorded))
}

/// Cargo's folder for what tests leave.
fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("tmp")
}

/// The reports that the tests left since a time.
fn recorded(folder: &Path, since: SystemTime) -> Result<Vec<Report>> {
    let mut reports = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry?;
        if entry.metadata()?.modified()? < since {
            continue;
        }
        let path = entry.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with("conformance-") && name.ends_with(".json")) {
            let text = fs::read_to_string(&path)?;
            let report = Report::from_json(&text);
            reports.push(report.with_context(|| path.display().to_string())?);
        }
    }
    reports.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(reports)
}

/// Reads [`RESULTS`].
pub(crate) fn read(text: &str) -> Result<Vec<Report>> {
    serde_json::from_str(text).context(RESULTS)
}

/// As [`RESULTS`]: one case a line, so that a change is a line of a diff.
fn written(reports: &[Report]) -> Result<String> {
    let mut texts = Vec::new();
    for report in reports {
        let cases = report.cases.iter().map(serde_json::to_string);
        let cases: Vec<String> = cases.collect::<Result<_, _>>()?;
        texts.push(format!(
            "{{\n \"name\": {},\n \"title\": {},\n \"capabilities\": {},\n \"cases\": [\n  {}\n ]\n}}",
            serde_json::to_string(&report.name)?,
            serde_json::to_string(&report.title)?,
            serde_json::to_string(&report.capabilities)?,
            cases.join(",\n  ")
        ));
    }
    Ok(format!("[{}]\n", texts.join(", ")))
}

/// The kept reports with the recorded ones in their places.
fn merged(kept: Vec<Report>, recorded: Vec<Report>) -> Vec<Report> {
    let is_old = |report: &Report| recorded.iter().all(|newer| newer.name != report.name);
    let mut reports: Vec<Report> = kept.into_iter().filter(is_old).collect();
    reports.extend(recorded);
    let place = |report: &Report| COLUMNS.iter().position(|name| *name == report.name);
    reports.sort_by_key(|report| (place(report).unwrap_or(COLUMNS.len()), report.name.clone()));
    reports
}

/// Where reports are not of exactly the cases that there are, or hold a failed one.
pub(crate) fn gaps(reports: &[Report]) -> Vec<String> {
    let mut found = Vec::new();
    let expected: Vec<&str> = CASES.iter().map(|case| case.name).collect();
    for report in reports {
        let cases: Vec<&str> = report.cases.iter().map(|case| &*case.name).collect();
        let name = &report.name;
        if cases != expected {
            found.push(format!(
                "{RESULTS}: {name} was not tried with the cases that there are now: run its tests"
            ));
        }
        let is_untried = |case: &CaseReport| {
            let known = CASES.iter().find(|known| known.name == case.name);
            case.verdict == Verdict::Passed
                && known.is_some_and(|known| known.mode == Mode::UnderFaults)
                && case.faults.len() != FAULTS.len()
        };
        let untried = report.cases.iter().filter(|case| is_untried(case));
        found.extend(untried.map(|case| {
            let case = &case.name;
            format!("{RESULTS}: {name}: {case} was not tried under every fault: run its tests")
        }));
        let failed = report.failures().into_iter();
        found.extend(failed.map(|failed| format!("{RESULTS}: {name}: {failed}")));
    }
    found
}

/// Where what was recorded now is not what is kept.
fn differences(kept: &[Report], recorded: &[Report]) -> Vec<String> {
    let mut found = Vec::new();
    for newer in recorded {
        let name = &newer.name;
        let Some(older) = kept.iter().find(|report| report.name == *name) else {
            found.push(format!("{name} is not in {RESULTS}"));
            continue;
        };
        if older.capabilities != newer.capabilities {
            found.push(format!("{name} has other capabilities now"));
        }
        for case in &newer.cases {
            let known = older.cases.iter().find(|known| known.name == case.name);
            if known != Some(case) {
                let before = known.map_or("unknown", state);
                let now = state(case);
                found.push(format!(
                    "{name}: {}: {now}, and {before} in {RESULTS}",
                    case.name
                ));
            }
        }
    }
    found
}

fn state(case: &CaseReport) -> &str {
    match &case.verdict {
        Verdict::Passed => "passed",
        Verdict::Skipped { reason } => reason,
        Verdict::Failed { why } => why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(name: &str) -> Report {
        let cases = CASES.iter().map(|case| CaseReport {
            name: case.name.to_owned(),
            group: case.group,
            faults: match case.mode {
                Mode::UnderFaults => FAULTS.iter().map(|fault| fault.name().to_owned()).collect(),
                Mode::Once | Mode::Alone => Vec::new(),
            },
            verdict: Verdict::Passed,
        });
        Report {
            name: name.to_owned(),
            title: name.to_uppercase(),
            capabilities: vec!["durable".to_owned()],
            cases: cases.collect(),
        }
    }

    #[test]
    fn results_survive_being_written_and_newer_ones_take_their_places() {
        let reports = merged(
            vec![report("nats"), report("other")],
            vec![report("embedded")],
        );
        let names: Vec<&str> = reports.iter().map(|report| &*report.name).collect();
        assert_eq!(names, ["embedded", "nats", "other"]);
        let text = written(&reports).expect("is JSON");
        assert_eq!(read(&text).expect("what was written"), reports);
    }

    #[test]
    fn a_failed_a_missing_and_a_changed_case_are_told() {
        let whole = report("nats");
        assert!(gaps(std::slice::from_ref(&whole)).is_empty());
        let mut broken = whole.clone();
        broken.cases[0].verdict = Verdict::Failed {
            why: "lost".to_owned(),
        };
        assert_eq!(gaps(std::slice::from_ref(&broken)).len(), 1);
        let mut untried = whole.clone();
        untried.cases[0].faults.pop();
        assert_eq!(gaps(&[untried]).len(), 1);
        let mut short = whole.clone();
        short.cases.pop();
        assert_eq!(gaps(&[short]).len(), 1);
        assert_eq!(
            differences(std::slice::from_ref(&whole), &[broken]).len(),
            1
        );
        assert_eq!(differences(&[], &[whole]).len(), 1);
    }
}
