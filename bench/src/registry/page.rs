//! The generated page of the registries' measurements.

use std::fmt::Write as _;

use super::servers::Who;
use super::{CHECKS as REPEATED, CONNECTIONS, Figure, Outcome, PACED, Report, Unit};
use crate::report::{Target, number, verdicts};

/// The rows by what they are measured with.
pub(super) const LOOKUPS: [&str; 6] = [
    "lookup-id",
    "paced-id",
    "lookup-content",
    "paced-content",
    "register",
    "register-one",
];
pub(super) const CHECKS: [&str; 3] = ["check-avro", "check-json", "check-protobuf"];
pub(super) const STARTS: [&str; 3] = ["start-some", "start-many", "memory"];

/// The targets: how long 10,000 schemas may take to load, and a lookup, in milliseconds.
const LOADED_MAX: f64 = 1_000.0;
const LOOKUP_MAX: f64 = 1.0;

/// What a row says to people.
fn title(row: &str, report: &Report) -> String {
    let [some, many, versions] = report.sizes;
    match row {
        "lookup-id" => format!("lookups by id, {CONNECTIONS} at once"),
        "paced-id" => format!("a lookup by id at {PACED}/s, p99"),
        "lookup-content" => format!("lookups by content, {CONNECTIONS} at once"),
        "paced-content" => format!("a lookup by content at {PACED}/s, p99"),
        "register" => format!("registrations, {CONNECTIONS} at once"),
        "register-one" => "one registration after the other, p99".to_owned(),
        "check-avro" => format!("BACKWARD_TRANSITIVE over {versions} versions, Avro"),
        "check-json" => format!("BACKWARD_TRANSITIVE over {versions} versions, JSON Schema"),
        "check-protobuf" => format!("BACKWARD_TRANSITIVE over {versions} versions, Protobuf"),
        "start-some" => format!("start with {some} schemas"),
        "start-many" => format!("start with {many} schemas"),
        _ => format!("memory with {some} schemas"),
    }
}

/// A figure with its unit and, where it is a rate, its percentiles.
pub(super) fn shown(figure: &Figure) -> String {
    let value = number(figure.value);
    let mut text = match figure.unit {
        Unit::PerSecond => format!("{value}/s"),
        Unit::Millis => format!("{value} ms"),
        Unit::Mebibytes => format!("{value} MiB"),
    };
    if let Some(speed) = &figure.speed {
        let (p50, p99) = (number(speed.p50), number(speed.p99));
        let more = match figure.unit {
            Unit::PerSecond => format!(" (p50 {p50} ms, p99 {p99} ms)"),
            _ => format!(" (p50 {p50} ms)"),
        };
        text.push_str(&more);
    }
    if let Some(note) = &figure.note {
        let more = format!(" ({note})");
        text.push_str(&more);
    }
    text
}

/// How many times better Wharf is; below 1 it is worse.
fn ratio(wharf: &Figure, other: &Figure) -> f64 {
    match wharf.unit {
        Unit::PerSecond => wharf.value / other.value,
        Unit::Millis | Unit::Mebibytes => other.value / wharf.value,
    }
}

/// The targets and how they were met, as rows of a table.
pub(super) fn targets(report: &Report) -> String {
    let mut rows = Vec::<Target>::new();
    for (text, row, most) in [
        (
            "10,000 schemas are loaded within 1 s",
            "start-some",
            LOADED_MAX,
        ),
        ("a lookup by id: p99 at most 1 ms", "paced-id", LOOKUP_MAX),
        (
            "a lookup by content: p99 at most 1 ms",
            "paced-content",
            LOOKUP_MAX,
        ),
    ] {
        let figure = report.figure(row, Who::Wharf);
        let measured =
            figure.map(|figure| (format!("{} ms", number(figure.value)), figure.value <= most));
        rows.push((text.to_owned(), measured));
    }
    for who in Who::ALL.into_iter().filter(|who| *who != Who::Wharf) {
        let ratios = report.rows.keys().filter_map(|&row| {
            let (wharf, other) = (report.figure(row, Who::Wharf)?, report.figure(row, who)?);
            Some((row, ratio(wharf, other)))
        });
        let ratios: Vec<_> = ratios.collect();
        let behind = ratios.iter().filter(|(_, ratio)| *ratio < 1.0);
        let behind: Vec<&str> = behind.map(|(row, _)| *row).collect();
        let measured = (!ratios.is_empty()).then(|| {
            let (all, ahead) = (ratios.len(), ratios.len() - behind.len());
            let but = match behind.is_empty() {
                true => String::new(),
                false => format!(", not on {}", behind.join(", ")),
            };
            (format!("on {ahead} of {all}{but}"), behind.is_empty())
        });
        rows.push((format!("ahead of {} on every row", who.title()), measured));
    }
    verdicts(rows)
}

/// Writes the page.
pub(super) fn write(report: &Report) -> String {
    let mut page = String::new();
    head(&mut page, report).expect("a string takes everything");
    table(&mut page, report).expect("a string takes everything");
    notes(&mut page, report).expect("a string takes everything");
    page
}

fn head(page: &mut String, report: &Report) -> std::fmt::Result {
    let machine = &report.machine;
    writeln!(
        page,
        "# Benchmarks of the schema registry\n\n\
         Generated by `cargo xtask bench registry`; do not edit.\n\
         [How to run it](../how-to/benchmark.md#the-registry), [the figures as JSON](registry.json), [the broker's benchmarks](README.md).\n\n\
         Everything was measured in one run, one registry after the other; client and registry share the machine.\n\
         {machine}; a synced write of 4 KiB takes {:.0} µs (p50).\n\n\
         ## The targets\n\n{}",
        report.limits.sync_p50_micros,
        targets(report)
    )?;
    writeln!(
        page,
        "\n## Who is measured\n\n| registry | version | a registered schema is |\n|---|---|---|"
    )?;
    for (who, version) in &report.versions {
        let absent = absent(report, *who).map(missing);
        let registered = absent.unwrap_or_else(|| who.registered().to_owned());
        writeln!(page, "| {} | {version} | {registered} |", who.title())?;
    }
    Ok(())
}

fn table(page: &mut String, report: &Report) -> std::fmt::Result {
    let everyone: Vec<Who> = report.versions.keys().copied().collect();
    let others: Vec<Who> = everyone
        .iter()
        .copied()
        .filter(|who| *who != Who::Wharf)
        .collect();
    let absent: Vec<Who> = everyone
        .iter()
        .copied()
        .filter(|who| absent(report, *who).is_some())
        .collect();
    let mut header = "\n## The rows\n\n| row | what |".to_owned();
    let mut line = "|---|---|".to_owned();
    for who in &everyone {
        write!(header, " {} |", who.title())?;
        line.push_str("---|");
    }
    for who in &others {
        write!(header, " Wharf to {} |", who.title())?;
        line.push_str("---:|");
    }
    writeln!(page, "{header}\n{line}")?;
    for row in LOOKUPS.into_iter().chain(CHECKS).chain(STARTS) {
        let Some(outcomes) = report.rows.get(row) else {
            continue;
        };
        write!(page, "| `{row}` | {} |", title(row, report))?;
        for who in &everyone {
            let cell = match outcomes.get(who) {
                Some(Outcome::Measured(figure)) => shown(figure),
                Some(Outcome::Missing(why)) if !absent.contains(who) => missing(why),
                _ => "–".to_owned(),
            };
            write!(page, " {cell} |")?;
        }
        for who in &others {
            let both = report.figure(row, Who::Wharf).zip(report.figure(row, *who));
            let cell = both.map_or_else(
                || "–".to_owned(),
                |(wharf, other)| format!("{} ×", number(ratio(wharf, other))),
            );
            write!(page, " {cell} |")?;
        }
        writeln!(page)?;
    }
    Ok(())
}

/// Why somebody was not measured at all, which is then said once instead of in each row.
fn absent(report: &Report, who: Who) -> Option<&str> {
    let mut outcomes = report.rows.values().filter_map(|row| row.get(&who));
    let Some(Outcome::Missing(first)) = outcomes.next() else {
        return None;
    };
    outcomes
        .all(|other| matches!(other, Outcome::Missing(why) if why == first))
        .then_some(first)
}

/// What a table says of somebody who was not measured.
fn missing(why: &str) -> String {
    let why = why.replace('|', "/").replace('\n', " ");
    format!(
        "not measured: {}",
        why.chars().take(200).collect::<String>()
    )
}

fn notes(page: &mut String, report: &Report) -> std::fmt::Result {
    let [some, ..] = report.sizes;
    writeln!(
        page,
        "\nRatios say how many times better Wharf is: more requests in a second, less time, less memory.\n\n\
         - All get the same requests, from one thread, over connections that stay open; every answer is checked.\n\
         - Lookups are scattered over {some} Avro schemas of 21 fields, each with an id and a subject of its own.\n  By content means that the schema itself is sent, and its id and version are asked for.\n\
         - A latency at a rate counts from when a request was due, so it feels every stall.\n\
         - Registrations are of schemas that are new, each under a new subject.\n\
         - The versions of a comparison differ in one field (Avro), in the length of their texts (JSON Schema) or in an option of their file (Protobuf); each of {REPEATED} comparisons has a schema of its own, after one that is not counted; the figure is their median.\n\
         - A start is counted from the process to the last schema's answer, of what the registry itself had stored.\n\
         - Memory is what the process has resident, after a start where it keeps its schemas, and in brackets what of it came with them; of a virtual machine that is what its heap happens to have taken."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64, unit: Unit) -> Figure {
        Figure {
            value,
            unit,
            speed: None,
            note: None,
        }
    }

    fn report(wharf: Figure, other: Figure) -> Report {
        let mut report = Report::default();
        report.add("start-some", Who::Wharf, Ok(wharf));
        report.add("start-some", Who::Apicurio, Ok(other));
        report
    }

    #[test]
    fn more_is_better_where_it_is_a_rate_and_less_elsewhere() {
        let rates = |one, other| {
            ratio(
                &figure(one, Unit::PerSecond),
                &figure(other, Unit::PerSecond),
            )
        };
        let times = |one, other| ratio(&figure(one, Unit::Millis), &figure(other, Unit::Millis));
        assert!(rates(4.0, 2.0) > 1.0 && rates(1.0, 2.0) < 1.0);
        assert!(times(1.0, 2.0) > 1.0 && times(4.0, 2.0) < 1.0);
    }

    #[test]
    fn the_targets_name_the_rows_on_which_another_is_ahead() {
        let ahead = report(figure(10.0, Unit::Millis), figure(20.0, Unit::Millis));
        let text = targets(&ahead);
        assert!(
            text.contains("ahead of Apicurio on every row | on 1 of 1 | met"),
            "{text}"
        );
        assert!(
            text.contains("ahead of AxonOps on every row | – | not measured"),
            "{text}"
        );
        let behind = report(figure(2_000.0, Unit::Millis), figure(20.0, Unit::Millis));
        let text = targets(&behind);
        assert!(
            text.contains("on 0 of 1, not on start-some | missed"),
            "{text}"
        );
        assert!(text.contains("within 1 s | 2000 ms | missed"), "{text}");
    }

    #[test]
    fn what_is_missing_says_why_within_the_table() {
        assert_eq!(missing("a|b\nc"), "not measured: a/b c");
    }
}
