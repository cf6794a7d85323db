//! What a run found, in a form that can be kept beside others and made a table of.

use serde::{Deserialize, Serialize};

/// What a run of the suite found of one transport.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// [`super::Fixture::name`].
    pub name: String,
    /// [`super::Fixture::title`].
    pub title: String,
    /// The names of its capabilities, in order.
    pub capabilities: Vec<String>,
    /// Every case that was run, in order.
    pub cases: Vec<CaseReport>,
}

/// What was found of one case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseReport {
    /// The case.
    pub name: String,
    /// Its group.
    pub group: char,
    /// The faults that it passed under.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// How it ended.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    /// It holds.
    Passed,
    /// It could not be tried.
    Skipped {
        /// Why, for the reader of the table.
        reason: String,
    },
    /// It does not hold.
    Failed {
        /// What was seen.
        why: String,
    },
}

impl Report {
    /// The report as JSON, to be written to `conformance-<name>.json` in cargo's folder for tests.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("texts and lists are always JSON");
        text.push('\n');
        text
    }

    /// Reads what [`Report::to_json`] wrote.
    ///
    /// # Errors
    /// Says where it is no report.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The cases that failed, as lines of text.
    pub fn failures(&self) -> Vec<String> {
        let failed = |case: &CaseReport| match &case.verdict {
            Verdict::Failed { why } => Some(format!("{}: {}: {why}", case.group, case.name)),
            Verdict::Passed | Verdict::Skipped { .. } => None,
        };
        self.cases.iter().filter_map(failed).collect()
    }

    /// For a test's last line: panics with every failure, and where nothing was passed at all.
    ///
    /// # Panics
    /// As said.
    pub fn assert_passed(&self) {
        let failures = self.failures();
        let count = failures.len();
        assert!(
            failures.is_empty(),
            "{}: {count} of {} cases failed:\n{}",
            self.title,
            self.cases.len(),
            failures.join("\n")
        );
        let passed = |case: &CaseReport| case.verdict == Verdict::Passed;
        assert!(
            self.cases.iter().any(passed),
            "{}: nothing was tried",
            self.title
        );
    }
}
