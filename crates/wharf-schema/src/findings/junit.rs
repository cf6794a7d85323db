//! JUnit's XML, as build servers read it: a case for each schema, failed when an error was found.

use super::{Finding, Severity, xml};

/// What was looked at, with what was found there.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// The file or the subject.
    pub name: &'a str,
    /// All that was found.
    pub findings: &'a [Finding],
}

/// One suite of these cases.
pub fn junit(suite: &str, cases: &[Case<'_>]) -> String {
    let failed = |case: &&Case<'_>| {
        let mut findings = case.findings.iter();
        findings.any(|finding| finding.severity == Severity::Error)
    };
    let counts = format!(
        "tests=\"{}\" failures=\"{}\"",
        cases.len(),
        cases.iter().filter(failed).count()
    );
    let suite = xml(suite);
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  <testsuite name=\"{suite}\" {counts} errors=\"0\" skipped=\"0\">\n"
    );
    for case in cases {
        let name = xml(case.name);
        text.push_str(&format!(
            "    <testcase classname=\"{suite}\" name=\"{name}\">\n"
        ));
        for finding in case.findings {
            text.push_str(&element(finding));
        }
        text.push_str("    </testcase>\n");
    }
    text.push_str("  </testsuite>\n</testsuites>\n");
    text
}

fn element(finding: &Finding) -> String {
    let detail = finding.detail.as_deref().unwrap_or_default();
    let place = match finding.line {
        Some(line) => format!("line {line}, {}", finding.path),
        None => finding.path.clone(),
    };
    match finding.severity {
        Severity::Error => format!(
            "      <failure type=\"{}\" message=\"{}\">{}</failure>\n",
            xml(&finding.rule),
            xml(&finding.message),
            xml(format!("{place}\n{detail}").trim_end())
        ),
        Severity::Warning | Severity::Note => format!(
            "      <system-out>{}</system-out>\n",
            xml(&format!(
                "{} {}: {} ({place})",
                finding.severity.as_str(),
                finding.rule,
                finding.message
            ))
        ),
    }
}
