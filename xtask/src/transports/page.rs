//! The page: an introduction that helps to choose, and tables of what was found.

use std::fmt::Write;

use wharf_message::transport::Capability;
use wharf_message::transport::conformance::{CASES, GROUPS, Mode, Report, Verdict};

const INTRODUCTION: &str = include_str!("introduction.md");

/// The reasons of skipped cases, each with its number.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn number(&mut self, reason: &str) -> usize {
        let known = self.0.iter().position(|note| note == reason);
        known.unwrap_or_else(|| {
            self.0.push(reason.to_owned());
            self.0.len() - 1
        }) + 1
    }
}

/// The page that these reports make.
pub(crate) fn page(reports: &[Report]) -> String {
    let mut page = INTRODUCTION.to_owned();
    let mut notes = Notes::default();
    page.push_str("\n## What each can do\n\n");
    page.push_str(&capabilities(reports));
    page.push_str("\n## What was shown\n\n");
    page.push_str(
        "A cell with ✔ is a case that passed against the server in the column's heading, \
         in the last recorded run.\n\
         A case marked with † passed again under each kind of fault: \
         deliveries doubled, keys reordered, crashes before and after settling, lost connections.\n\
         A dash is a case that could not be tried, with the number of the reason below.\n",
    );
    for (letter, title) in GROUPS {
        let _written = write!(
            page,
            "\n### {letter}. {title}\n\n{}",
            heading("case", reports)
        );
        for case in CASES.iter().filter(|case| case.group == *letter) {
            let mark = if case.mode == Mode::UnderFaults {
                " †"
            } else {
                ""
            };
            let cells = reports
                .iter()
                .map(|report| cell(report, case.name, &mut notes));
            let cells: Vec<String> = cells.collect();
            let sentence = case.name.replace('_', " ");
            let _written = writeln!(page, "| {sentence}{mark} | {} |", cells.join(" | "));
        }
    }
    page.push_str("\n### Why a case was not tried\n\n");
    for (number, note) in notes.0.iter().enumerate() {
        let _written = writeln!(page, "{}. {note}", number + 1);
    }
    if notes.0.is_empty() {
        page.push_str("Every case was tried on every transport.\n");
    }
    page
}

fn heading(first: &str, reports: &[Report]) -> String {
    let titles: Vec<&str> = reports.iter().map(|report| &*report.title).collect();
    let rule = ":-:|".repeat(reports.len());
    format!("| {first} | {} |\n|---|{rule}\n", titles.join(" | "))
}

fn capabilities(reports: &[Report]) -> String {
    let mut table = heading("capability", reports);
    for capability in Capability::ALL {
        let has = |report: &Report| {
            report
                .capabilities
                .iter()
                .any(|name| name == capability.name())
        };
        let cells = reports
            .iter()
            .map(|report| if has(report) { "✔" } else { "–" });
        let cells: Vec<&str> = cells.collect();
        let (name, meaning) = (capability.name(), capability.meaning());
        let _written = writeln!(table, "| `{name}`: {meaning} | {} |", cells.join(" | "));
    }
    table
}

fn cell(report: &Report, case: &str, notes: &mut Notes) -> String {
    let found = report.cases.iter().find(|found| found.name == case);
    match found.map(|found| &found.verdict) {
        Some(Verdict::Passed) => "✔".to_owned(),
        Some(Verdict::Skipped { reason }) => {
            format!(
                "– ({})",
                notes.number(&format!("{}: {reason}.", report.title))
            )
        }
        // Neither is ever kept; the page does not hide it all the same.
        Some(Verdict::Failed { .. }) => "✘".to_owned(),
        None => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use wharf_message::transport::conformance::CaseReport;

    use super::*;

    #[test]
    fn a_skipped_case_shows_its_reason_once_and_an_untried_one_is_not_hidden() {
        let verdicts = [
            Verdict::Passed,
            Verdict::Skipped {
                reason: "it cannot".to_owned(),
            },
            Verdict::Skipped {
                reason: "it cannot".to_owned(),
            },
        ];
        let cases = CASES
            .iter()
            .zip(verdicts)
            .map(|(case, verdict)| CaseReport {
                name: case.name.to_owned(),
                group: case.group,
                faults: Vec::new(),
                verdict,
            });
        let report = Report {
            name: "one".to_owned(),
            title: "One 1.0".to_owned(),
            capabilities: vec!["schedule".to_owned()],
            cases: cases.collect(),
        };
        let page = page(&[report]);
        assert_eq!(page.matches("1. One 1.0: it cannot.").count(), 1);
        assert_eq!(page.matches("– (1)").count(), 2);
        assert!(page.contains("| ? |"));
        let schedule = format!("| `schedule`: {} | ✔ |", Capability::Schedule.meaning());
        assert!(page.contains(&schedule));
    }
}
