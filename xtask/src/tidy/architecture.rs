//! Rules that compare ARCHITECTURE.md with what cargo knows.
//!
//! The crate table's columns are: crate, reason, depends on, holds. Edges are the normal
//! dependencies between crates below `crates/`; those of tests do not count, but nothing at all
//! may depend on the simulator.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, Package};

use super::Source;
use crate::workspace::Workspace;

const PAGE: &str = "ARCHITECTURE.md";
/// What a pure crate must not reach, however indirectly: sockets, files, clocks.
const IMPURE: &[&str] = &["tokio", "mio", "socket2", "async-std", "smol", "hyper"];

struct Entry {
    name: String,
    reason: String,
    depends_on: BTreeSet<String>,
}

fn page(sources: &[Source]) -> Result<&str> {
    let found = sources
        .iter()
        .find(|source| source.path.to_str() == Some(PAGE));
    found
        .and_then(Source::text)
        .with_context(|| format!("there is no {PAGE}"))
}

/// The words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn entries(page: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| `wharf")) {
        let mut cells = line.trim_matches('|').split('|');
        let mut cell = || cells.next().unwrap_or_default();
        let name = quoted(cell()).next().unwrap_or_default().to_owned();
        let reason = cell().trim().to_owned();
        let depends_on = quoted(cell()).map(str::to_owned).collect();
        entries.push(Entry {
            name,
            reason,
            depends_on,
        });
    }
    entries
}

/// The crates below `crates/`.
fn crates(workspace: &Workspace) -> BTreeMap<&str, &Package> {
    let folder = workspace.root.join("crates");
    workspace
        .members()
        .filter(|package| package.manifest_path.as_std_path().starts_with(&folder))
        .map(|package| (package.name.as_str(), package))
        .collect()
}

fn difference(what: &str, listed: &BTreeSet<String>, real: &BTreeSet<String>) -> Vec<String> {
    let gone = listed
        .difference(real)
        .map(|name| format!("{PAGE}: {what} {name} is not there"));
    let new = real
        .difference(listed)
        .map(|name| format!("{PAGE}: {what} {name} is not listed"));
    gone.chain(new).collect()
}

pub(super) fn table(workspace: &Workspace, sources: &[Source]) -> Result<Vec<String>> {
    let listed = entries(page(sources)?)
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    let real = crates(workspace)
        .keys()
        .map(|&name| name.to_owned())
        .collect();
    Ok(difference("the crate", &listed, &real))
}

pub(super) fn edges(workspace: &Workspace, sources: &[Source]) -> Result<Vec<String>> {
    let crates = crates(workspace);
    let mut found = Vec::new();
    for entry in entries(page(sources)?) {
        let Some(package) = crates.get(entry.name.as_str()) else {
            continue;
        };
        let real: BTreeSet<String> = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind == DependencyKind::Normal)
            .filter(|dependency| crates.contains_key(dependency.name.as_str()))
            .map(|dependency| dependency.name.clone())
            .collect();
        found.extend(difference(
            &format!("the edge {} →", entry.name),
            &entry.depends_on,
            &real,
        ));
    }
    for package in workspace.members() {
        if package
            .dependencies
            .iter()
            .any(|dependency| dependency.name == "wharf-sim")
        {
            found.push(format!("{}: nothing may depend on wharf-sim", package.name));
        }
    }
    Ok(found)
}

pub(super) fn purity(workspace: &Workspace, sources: &[Source]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in entries(page(sources)?)
        .iter()
        .filter(|entry| entry.reason.contains("pure"))
    {
        for reached in reached(workspace, &entry.name)? {
            if IMPURE.contains(&reached.as_str()) {
                found.push(format!("{}: is pure, but reaches {reached}", entry.name));
            }
        }
    }
    Ok(found)
}

/// Every package that `name` depends on outside of its tests, directly or not.
fn reached(workspace: &Workspace, name: &str) -> Result<BTreeSet<String>> {
    let graph = workspace
        .metadata
        .resolve
        .as_ref()
        .context("cargo resolved nothing")?;
    let nodes: BTreeMap<_, _> = graph.nodes.iter().map(|node| (&node.id, node)).collect();
    let start = workspace
        .members()
        .find(|package| package.name.as_str() == name);
    let mut open: Vec<_> = start.map(|package| &package.id).into_iter().collect();
    let (mut seen, mut names) = (BTreeSet::new(), BTreeSet::new());
    while let Some(id) = open.pop() {
        let Some(node) = nodes.get(id).filter(|_| seen.insert(id)) else {
            continue;
        };
        names.insert(workspace.metadata[id].name.to_string());
        let normal = node.deps.iter().filter(|dependency| {
            dependency
                .dep_kinds
                .iter()
                .any(|kind| kind.kind == DependencyKind::Normal)
        });
        open.extend(normal.map(|dependency| &dependency.pkg));
    }
    Ok(names)
}

/// Every row of the table of invariants names, in its last cell, a test or lint that exists.
pub(super) fn invariants(_: &Workspace, sources: &[Source]) -> Result<Vec<String>> {
    let page = page(sources)?;
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| invariant"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut found = Vec::new();
    let mut count = 0;
    for row in rows {
        count += 1;
        let holder = row
            .trim_end_matches('|')
            .rsplit('|')
            .next()
            .unwrap_or_default();
        let mut names = quoted(holder).peekable();
        if names.peek().is_none() {
            found.push(format!("{PAGE}: nothing holds: {row}"));
        }
        found.extend(
            names
                .filter(|name| !super::documents::is_known(name, sources))
                .map(|name| format!("{PAGE}: there is no {name}")),
        );
    }
    if count == 0 {
        found.push(format!("{PAGE}: there is no table of invariants"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_the_crate_table_is_read() {
        let page = "| crate | reason |\n|---|---|\n\
                    | `wharf-log` | pure | `wharf-message`, `wharf-x` | journal |\n\
                    | `wharf-message` | alone, pure | – | words |\n";
        let entries = entries(page);
        let [log, message] = entries.as_slice() else {
            panic!("two rows expected")
        };
        assert_eq!(
            (log.name.as_str(), log.reason.as_str()),
            ("wharf-log", "pure")
        );
        assert_eq!(
            log.depends_on,
            ["wharf-message", "wharf-x"].map(str::to_owned).into()
        );
        assert!(message.depends_on.is_empty());
    }

    #[test]
    fn a_difference_is_told_in_both_directions() {
        let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(
            difference("the crate", &set(&["a", "b"]), &set(&["b", "c"])).len(),
            2
        );
        assert!(difference("the crate", &set(&["a"]), &set(&["a"])).is_empty());
    }
}
