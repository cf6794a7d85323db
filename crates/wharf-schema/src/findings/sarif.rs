//! SARIF 2.1.0 (OASIS), as code scanning reads it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Finding, Severity};

/// A rule, for the list of rules that goes with the results.
#[derive(Clone, Debug)]
pub struct Described {
    /// Its id.
    pub id: String,
    /// What it says, in one line.
    pub summary: String,
}

/// One run of the tool `wharf` with these results. Rules that are not described get their id as
/// their description, for every result must name a rule of the run.
pub fn sarif(findings: &[Finding], described: &[Described]) -> String {
    let mut rules: BTreeMap<&str, &str> = BTreeMap::new();
    for finding in findings {
        let known = described.iter().find(|rule| rule.id == finding.rule);
        let summary = known.map_or(finding.rule.as_str(), |rule| &rule.summary);
        rules.insert(&finding.rule, summary);
    }
    let rules: Vec<Value> = rules
        .into_iter()
        .map(|(id, summary)| json!({"id": id, "shortDescription": {"text": summary}}))
        .collect();
    let results: Vec<Value> = findings.iter().map(result).collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "wharf",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "results": results,
        }],
    });
    format!("{log:#}\n")
}

fn result(finding: &Finding) -> Value {
    let level = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let detail = finding
        .detail
        .as_deref()
        .map(|detail| format!("\n{detail}"));
    let text = format!("{}{}", finding.message, detail.unwrap_or_default());
    let mut location = json!({});
    if let Some(file) = &finding.file {
        location["physicalLocation"] = json!({"artifactLocation": {"uri": uri(file)}});
        if let Some(line) = finding.line {
            location["physicalLocation"]["region"] = json!({"startLine": line});
        }
    }
    location["logicalLocations"] = json!([{"fullyQualifiedName": finding.path}]);
    json!({
        "ruleId": finding.rule,
        "level": level,
        "message": {"text": text},
        "locations": [location],
    })
}

/// A path as a relative URI: what may not stand in one is written as its bytes.
fn uri(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte);
    path.bytes()
        .map(|byte| match byte {
            b'\\' => "/".to_owned(),
            byte if plain(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
