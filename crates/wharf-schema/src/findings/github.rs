//! Workflow commands of GitHub Actions: each finding becomes an annotation of a line of the change.

use super::{Finding, Severity};

/// One line for each finding.
pub fn github(findings: &[Finding]) -> String {
    let mut lines = String::new();
    for finding in findings {
        let command = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "notice",
        };
        let mut properties = Vec::new();
        if let Some(file) = &finding.file {
            properties.push(format!("file={}", property(file)));
        }
        if let Some(line) = finding.line {
            properties.push(format!("line={line}"));
        }
        properties.push(format!("title={}", property(&finding.rule)));
        let detail = finding
            .detail
            .as_deref()
            .map(|detail| format!("\n{detail}"));
        let text = format!("{}{}", finding.message, detail.unwrap_or_default());
        lines.push_str(&format!(
            "::{command} {}::{}\n",
            properties.join(","),
            data(&text)
        ));
    }
    lines
}

fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
