//! The project's own rules, checked over the files that git knows and what cargo knows of them.
//!
//! A rule answers with one line per finding, naming the file and what to do. Rules read; they
//! change nothing. `cargo test -p xtask` runs the same rules.

mod architecture;
mod documents;
mod files;

use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, Result};

use crate::shell::{self, say};
use crate::suite::Outcome;
use crate::workspace::Workspace;

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask tidy    every finding, one a line; the rules are in xtask/src/tidy/";

/// A rule: what must hold, and what is found against it.
struct Rule {
    name: &'static str,
    find: fn(&Workspace, &[Source]) -> Result<Vec<String>>,
}

const RULES: &[Rule] = &[
    Rule {
        name: "every Rust file says what it is for",
        find: files::heads,
    },
    Rule {
        name: "files stay short",
        find: files::lengths,
    },
    Rule {
        name: "no blob is large",
        find: files::sizes,
    },
    Rule {
        name: "an open end names its issue",
        find: files::open_ends,
    },
    Rule {
        name: "no test is switched off",
        find: files::ignored_tests,
    },
    Rule {
        name: "no path of somebody's machine",
        find: files::machine_paths,
    },
    Rule {
        name: "pure crates reach files only through the disk",
        find: files::direct_access,
    },
    Rule {
        name: "the crate table is the crates",
        find: architecture::table,
    },
    Rule {
        name: "edges between crates are the listed ones",
        find: architecture::edges,
    },
    Rule {
        name: "pure crates stay pure",
        find: architecture::purity,
    },
    Rule {
        name: "every invariant names what holds it",
        find: architecture::invariants,
    },
    Rule {
        name: "every error code has its page",
        find: documents::pages,
    },
    Rule {
        name: "every page is in the index, and every link leads somewhere",
        find: documents::index,
    },
    Rule {
        name: "every documented promise names its test",
        find: documents::promises,
    },
    Rule {
        name: "the page of the transports is what was found of them",
        find: documents::transports,
    },
    Rule {
        name: "every documented trap names its test",
        find: documents::traps,
    },
];

/// A file that git knows or would add, with its path from the root.
struct Source {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path
            .extension()
            .is_some_and(|extension| extension == "rs")
    }

    /// The text, unless the file is not text.
    fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }
}

fn sources(root: &Path) -> Result<Vec<Source>> {
    let folder = root.to_str().context("the checkout's path is not UTF-8")?;
    let known = [
        "-C",
        folder,
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ];
    let list = shell::answer("git", &known).context("git ls-files failed")?;
    let mut sources = Vec::new();
    for line in list.lines() {
        let path = PathBuf::from(line);
        match fs::read(root.join(&path)) {
            Ok(bytes) => sources.push(Source { path, bytes }),
            // Deleted, but not yet committed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context(line.to_owned()),
        }
    }
    Ok(sources)
}

/// The Rust files, with their paths from the root.
pub(crate) fn rust_files(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let sources = sources(&workspace.root)?.into_iter();
    Ok(sources
        .filter(Source::is_rust)
        .map(|source| source.path)
        .collect())
}

/// Findings of every rule, each under its rule's name. A rule that cannot be checked found that.
fn findings(workspace: &Workspace) -> Result<Vec<(&'static str, Vec<String>)>> {
    let sources = sources(&workspace.root)?;
    let found = |rule: &Rule| {
        (rule.find)(workspace, &sources).unwrap_or_else(|error| vec![format!("{error:#}")])
    };
    Ok(RULES.iter().map(|rule| (rule.name, found(rule))).collect())
}

/// Runs the rules as a part of the suite: each rule is one test.
pub(crate) fn part(workspace: &Workspace) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for (rule, found) in findings(workspace)? {
        if found.is_empty() {
            outcome.passed += 1;
            continue;
        }
        outcome.failed += 1;
        say(format!("    {rule}:"));
        for line in found {
            say(format!("      {line}"));
        }
    }
    Ok(outcome)
}

/// Runs the rules alone.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    let outcome = part(workspace)?;
    say(format!(
        "{} passed, {} failed",
        outcome.passed, outcome.failed
    ));
    Ok(outcome.failed == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_project_follows_its_own_rules() {
        let workspace = Workspace::find().expect("the tests run inside the checkout");
        let found = findings(&workspace).expect("the rules can be checked");
        let broken: Vec<_> = found
            .into_iter()
            .filter(|(_, lines)| !lines.is_empty())
            .collect();
        assert!(broken.is_empty(), "{broken:#?}");
    }
}
