//! The table of `compat/README.md`: which client shows which feature, from what the clients' own
//! scripts list.
//!
//! Invariants: every client has a case for every feature, or says why it lacks it; the table in the
//! page is the one that the scripts give (`WHARF_REWRITE=1` writes it).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};

use super::clients::{CLIENTS, Found};
use super::{Context, Outcome};
use crate::shell::{self, say};

/// The features, in the order of the rows, and what a case of each shows.
const FEATURES: &[(&str, &str)] = &[
    (
        "codecs",
        "produce and consume with every codec the client has",
    ),
    (
        "headers",
        "headers keep their order, repeated keys, null and empty values",
    ),
    (
        "nulls",
        "null keys and values (tombstones) are not empty ones",
    ),
    (
        "large",
        "messages of several MB where the topic allows them; a larger one is refused",
    ),
    ("keys", "a key goes to one partition, in order"),
    ("times", "create times are kept, offsets found by time"),
    ("append-time", "log append time"),
    ("idempotent", "idempotent producer"),
    (
        "transactions",
        "commit and abort, read committed and uncommitted",
    ),
    (
        "pipeline",
        "consume, change, produce, with the offsets in the transaction",
    ),
    (
        "fencing",
        "a second producer with the same transactional id",
    ),
    (
        "resume",
        "offsets and their metadata are committed and found again",
    ),
    (
        "resets",
        "a group without offsets begins at the beginning or the end",
    ),
    (
        "rebalance",
        "members join and leave under load, nothing is passed over",
    ),
    ("cooperative", "the same with cooperative-sticky"),
    (
        "consumer-protocol",
        "the same with the consumer protocol (KIP-848)",
    ),
    ("static", "static members"),
    ("topics", "topics are created, listed and deleted"),
    ("partitions", "partitions are added"),
    ("configs", "settings are described and altered"),
    ("groups", "groups are listed, described and deleted"),
    ("deletion", "records are deleted up to an offset"),
    ("cluster", "the cluster is described"),
];
const BEGIN: &str =
    "<!-- features: written by `WHARF_REWRITE=1 cargo xtask test --only compat/features` -->\n";
const END: &str = "<!-- end of features -->\n";

/// What a client's `--list` tells.
#[derive(Debug, Default)]
struct Listed {
    /// Names of cases by feature.
    cases: BTreeMap<String, BTreeSet<String>>,
    /// Why the client lacks a feature.
    lacks: BTreeMap<String, String>,
}

impl Listed {
    /// Reads `CASE FEATURE: NAME` and `SKIP FEATURE: why`.
    fn of(text: &str) -> Self {
        let mut listed = Self::default();
        for line in text.lines() {
            let Some((feature, what)) = line.get(5..).and_then(|rest| rest.split_once(": ")) else {
                continue;
            };
            if line.starts_with("CASE ") {
                let names = listed.cases.entry(feature.to_owned()).or_default();
                names.insert(what.to_owned());
            } else if line.starts_with("SKIP ") {
                listed.lacks.insert(feature.to_owned(), what.to_owned());
            }
        }
        listed
    }

    fn cell(&self, feature: &str) -> Option<String> {
        match (self.cases.get(feature), self.lacks.contains_key(feature)) {
            (_, true) => Some("lacks".to_owned()),
            (Some(cases), false) => Some(cases.len().to_string()),
            (None, false) => None,
        }
    }
}

/// The part `compat/features`.
pub(super) fn part(cx: &Context<'_>) -> Result<Outcome> {
    let mut clients = Vec::new();
    for client in CLIENTS {
        let mut command = match (client.find)(cx, client.name)? {
            Found::Command(command) => command,
            Found::Missing(why) => return Ok(Outcome::skipped(why)),
        };
        let log = cx.workspace.log(&format!("features-{}", client.name));
        let mut text = String::new();
        let status = shell::logged(command.arg("--list"), &log, |line| {
            text.push_str(line);
            text.push('\n');
        })?;
        if !status.success() {
            shell::show_tail(&log);
        }
        clients.push((client.name, Listed::of(&text)));
    }
    let (mut passed, mut failed) = (0, 0);
    for line in gaps(&clients) {
        say(format!("    {line}"));
        failed += 1;
    }
    passed += FEATURES.len() * clients.len() - failed.min(FEATURES.len() * clients.len());
    let page = cx.workspace.root.join("compat/README.md");
    let text = fs::read_to_string(&page).context("compat/README.md")?;
    let wanted = replaced(&text, &table(&clients))?;
    if text == wanted {
        passed += 1;
    } else if std::env::var_os("WHARF_REWRITE").is_some() {
        fs::write(&page, wanted)?;
        passed += 1;
    } else {
        say("    the table in compat/README.md is not the scripts': WHARF_REWRITE=1 writes it");
        failed += 1;
    }
    Ok(Outcome::of(passed, failed))
}

/// Features that a client neither shows nor says that it lacks, and those that nobody knows.
fn gaps(clients: &[(&str, Listed)]) -> Vec<String> {
    let mut found = Vec::new();
    for (client, listed) in clients {
        for (feature, _) in FEATURES {
            if listed.cell(feature).is_none() {
                found.push(format!(
                    "{client} has no case for {feature}, and no reason why not"
                ));
            }
        }
        let known =
            |name: &str| name == "other" || FEATURES.iter().any(|(feature, _)| *feature == name);
        let named = listed.cases.keys().chain(listed.lacks.keys());
        for feature in named.filter(|name| !known(name)) {
            found.push(format!(
                "{client} names a feature that is not one: {feature}"
            ));
        }
    }
    found
}

fn table(clients: &[(&str, Listed)]) -> String {
    let mut text = String::from("| feature | what it shows |");
    let names: Vec<&str> = clients.iter().map(|(name, _)| *name).collect();
    writeln!(text, " {} |", names.join(" | ")).expect("a string takes everything");
    text.push_str(&"|---".repeat(2 + clients.len()));
    text.push_str("|\n");
    for (feature, about) in FEATURES {
        let cells: Vec<String> = clients
            .iter()
            .map(|(_, listed)| listed.cell(feature).unwrap_or_default())
            .collect();
        writeln!(text, "| {feature} | {about} | {} |", cells.join(" | "))
            .expect("a string takes everything");
    }
    text.push_str("\nWhat clients lack:\n\n");
    for (client, listed) in clients {
        for (feature, why) in &listed.lacks {
            writeln!(text, "- {client}, {feature}: {why}").expect("a string takes everything");
        }
    }
    text
}

/// The page with another table between the marks.
fn replaced(page: &str, table: &str) -> Result<String> {
    let marks = "compat/README.md lost the marks around the table";
    let (before, rest) = page.split_once(BEGIN).context(marks)?;
    let (_, after) = rest.split_once(END).context(marks)?;
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> Listed {
        let lines: Vec<String> = FEATURES
            .iter()
            .map(|(feature, _)| format!("CASE {feature}: it works"))
            .collect();
        Listed::of(&lines.join("\n"))
    }

    #[test]
    fn a_feature_without_a_case_needs_a_reason() {
        let mut listed = complete();
        assert_eq!(gaps(&[("kcat", complete())]), Vec::<String>::new());
        listed.cases.remove("static");
        assert_eq!(gaps(&[("kcat", listed)]).len(), 1);
        let mut lacking = complete();
        lacking.cases.remove("static");
        lacking
            .lacks
            .insert("static".to_owned(), "not there".to_owned());
        assert_eq!(gaps(&[("kcat", lacking)]), Vec::<String>::new());
    }

    #[test]
    fn an_unknown_feature_is_named() {
        let listed = Listed::of("CASE teleport: it does");
        assert!(
            gaps(&[("kcat", listed)])
                .iter()
                .any(|line| line.contains("teleport"))
        );
    }

    #[test]
    fn the_table_counts_cases_and_gives_reasons() {
        let mut listed = complete();
        listed
            .lacks
            .insert("static".to_owned(), "not there".to_owned());
        let text = table(&[("kcat", listed)]);
        assert!(
            text.contains("| fencing | a second producer with the same transactional id | 1 |"),
            "{text}"
        );
        assert!(
            text.contains("| static | static members | lacks |"),
            "{text}"
        );
        assert!(text.contains("- kcat, static: not there\n"), "{text}");
        let page = format!("head\n{BEGIN}old\n{END}foot\n");
        assert_eq!(
            replaced(&page, "new\n").expect("the marks"),
            format!("head\n{BEGIN}new\n{END}foot\n")
        );
    }
}
