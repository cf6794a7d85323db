//! A report as text, Markdown and findings; its JSON is the report itself.

mod markdown;
mod text;

pub use markdown::markdown;
pub use text::text;

use super::report::{Affected, Consumer, DirectionName, Report};
use crate::compat::Direction;
use crate::findings::{Finding, Severity};

/// What breaks and whom, as findings of the file: for SARIF. `source` is the proposed text.
pub fn findings(report: &Report, source: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for comparison in report
        .comparisons
        .iter()
        .filter(|compared| compared.is_wanted)
    {
        let direction = match comparison.direction {
            DirectionName::Backward => Direction::Backward,
            DirectionName::Forward => Direction::Forward,
        };
        let broken = comparison
            .differences
            .iter()
            .filter(|change| !change.is_compatible);
        for change in broken {
            let mut finding = change.finding(direction, report.kind, source);
            finding.message = format!("{} (version {})", finding.message, comparison.version);
            findings.push(finding);
        }
    }
    for consumer in &report.consumers {
        if consumer.affected != Affected::Yes {
            continue;
        }
        findings.push(Finding {
            rule: match consumer.is_unlisted {
                true => "UNLISTED_CONSUMER_AFFECTED",
                false => "CONSUMER_AFFECTED",
            }
            .to_owned(),
            severity: Severity::Error,
            message: format!(
                "{} is affected ({}): {}",
                consumer.name,
                consumer.grade.as_str(),
                consumer.why.join("; ")
            ),
            file: None,
            line: None,
            path: report.subject.clone(),
            detail: None,
        });
    }
    for finding in &mut findings {
        finding.file.clone_from(&report.file);
    }
    findings
}

/// A time in UTC, to the second.
fn time(milliseconds: i64) -> String {
    wharf_message::Timestamp::from_millis(milliseconds)
        .to_rfc3339()
        .split('.')
        .next()
        .map(|text| format!("{}Z", text.trim_end_matches('Z')))
        .unwrap_or_default()
}

/// The consumers under the headings of the report, in its order.
fn parts(report: &Report) -> Vec<(&'static str, Vec<&Consumer>)> {
    let of = |unlisted: bool, affected: &[Affected]| {
        let consumers = report.consumers.iter();
        let wanted = |consumer: &&Consumer| {
            consumer.is_unlisted == unlisted && affected.contains(&consumer.affected)
        };
        consumers.filter(wanted).collect::<Vec<_>>()
    };
    let all = [Affected::Yes, Affected::Unknown, Affected::No];
    let parts = vec![
        ("In traffic, in no catalogue", of(true, &all)),
        ("In the catalogue, affected", of(false, &[Affected::Yes])),
        (
            "In the catalogue, not known",
            of(false, &[Affected::Unknown]),
        ),
        ("In the catalogue, not affected", of(false, &[Affected::No])),
    ];
    parts
        .into_iter()
        .filter(|(_, consumers)| !consumers.is_empty())
        .collect()
}

/// In a word or two.
fn affected(consumer: &Consumer) -> &'static str {
    match consumer.affected {
        Affected::Yes => "AFFECTED",
        Affected::Unknown => "not known",
        Affected::No => "not affected",
    }
}

/// What a version's retained records are, in one sentence.
fn kept(version: &super::report::Retained) -> String {
    if version.records == 0 {
        return version.reach.clone();
    }
    let partitions: Vec<String> = version
        .places
        .iter()
        .map(|place| {
            format!(
                "{}-{} offsets {}..{}",
                place.topic, place.partition, place.first, place.last
            )
        })
        .collect();
    let from = version.oldest.map(time).unwrap_or_default();
    let to = version.newest.map(time).unwrap_or_default();
    let until = version
        .unreachable_at
        .map(|at| format!(" (not before {})", time(at)))
        .unwrap_or_default();
    let readable = match version.is_readable {
        true => "the proposed schema reads them",
        false => "the proposed schema CANNOT read them",
    };
    format!(
        "{} of {from} to {to} in {}; {readable}; {}{until}",
        super::counted(version.records, "record"),
        partitions.join(", "),
        version.reach
    )
}

/// Whether a version may be deleted for good, in one sentence.
fn deletable(version: &super::report::Retained) -> String {
    let answer = match version.hard_delete.is_safe {
        Some(true) => "safe",
        Some(false) => "not safe",
        None => "not known",
    };
    format!("{answer}: {}", version.hard_delete.reasons.join("; "))
}
