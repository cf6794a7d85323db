//! Rules that pair a document with the code: error pages, promises and the tests that show them.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use super::Source;
use crate::transports;
use crate::workspace::Workspace;

const TABLE: &str = "crates/wharf-message/src/code.rs";
const PAGES: &str = "docs/errors/";
const PROMISES: &[&str] = &[
    "docs/specs/delivery.md",
    "docs/specs/schemas.md",
    "docs/specs/saga.md",
    "docs/specs/saga-expressions.md",
    "docs/specs/choreography.md",
];
const INDEX: &str = "docs/README.md";
const TRAPS: &str = "docs/specs/traps.md";

fn named<'a>(sources: &'a [Source], path: &str) -> Result<&'a str> {
    let found = sources
        .iter()
        .find(|source| source.path.to_str() == Some(path));
    found
        .and_then(Source::text)
        .with_context(|| format!("there is no {path}"))
}

/// The numbers in the `codes!` table: lines of the form `NAME = 1001, "title";`.
fn numbers(table: &str) -> BTreeSet<String> {
    let number = |line: &str| {
        let (name, rest) = line.trim().split_once(" = ")?;
        let (number, _) = rest.split_once(", \"")?;
        let constant = name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        (constant && number.parse::<u16>().is_ok()).then(|| format!("WHARF-{number:0>4}"))
    };
    table.lines().filter_map(number).collect()
}

pub(super) fn pages(_: &Workspace, sources: &[Source]) -> Result<Vec<String>> {
    let codes = numbers(named(sources, TABLE)?);
    let pages: BTreeSet<String> = sources
        .iter()
        .filter_map(|source| {
            source
                .path
                .to_str()?
                .strip_prefix(PAGES)?
                .strip_suffix(".md")
        })
        .filter(|name| name.starts_with("WHARF-"))
        .map(str::to_owned)
        .collect();
    let lacking = codes
        .difference(&pages)
        .map(|code| format!("{PAGES}{code}.md is missing"));
    let orphaned = pages
        .difference(&codes)
        .map(|page| format!("{PAGES}{page}.md has no code"));
    let mut found: Vec<String> = lacking.chain(orphaned).collect();
    if codes.is_empty() {
        found.push(format!("{TABLE}: no code was found"));
    }
    Ok(found)
}

/// Where the links of a page lead to, as paths from the root. Links to elsewhere are left out.
fn links(source: &Source) -> Vec<String> {
    let text = source.text().unwrap_or_default();
    let targets = text.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    let targets = targets.filter(|target| !target.contains("://") && !target.contains(' '));
    let folder = source.path.parent().unwrap_or(Path::new(""));
    let path = |target: &str| {
        let (path, _) = target.split_once('#').unwrap_or((target, ""));
        let mut parts: Vec<&str> = folder.iter().filter_map(|part| part.to_str()).collect();
        for part in path.split('/') {
            match part {
                ".." => _ = parts.pop(),
                "." | "" => {}
                name => parts.push(name),
            }
        }
        (!path.is_empty()).then(|| parts.join("/"))
    };
    targets.filter_map(path).collect()
}

/// Every page is in the index of its folder of documents, and what a page links to is there.
pub(super) fn index(_: &Workspace, sources: &[Source]) -> Result<Vec<String>> {
    let paths: BTreeSet<&str> = sources
        .iter()
        .filter_map(|source| source.path.to_str())
        .collect();
    let is_there = |path: &str| {
        let inside = format!("{path}/");
        paths.contains(path) || paths.iter().any(|other| other.starts_with(&inside))
    };
    let pages = sources
        .iter()
        .filter(|source| source.path.extension().is_some_and(|end| end == "md"));
    let (mut found, mut listed) = (Vec::new(), BTreeSet::new());
    for page in pages.clone() {
        let name = page.path.display();
        for target in links(page) {
            if !is_there(&target) {
                found.push(format!("{name}: there is no {target}"));
            }
            if page.path == Path::new(INDEX) {
                listed.insert(target);
            }
        }
    }
    let lacking = pages
        .filter_map(|page| page.path.to_str())
        .filter(|path| path.starts_with("docs/") && !path.starts_with(PAGES) && *path != INDEX);
    let lacking = lacking.filter(|path| !listed.contains(*path));
    found.extend(lacking.map(|path| format!("{INDEX}: {path} is missing")));
    Ok(found)
}

/// Every line with a MUST is followed, before the next one, by `Shown by` and tests that exist.
pub(super) fn promises(_: &Workspace, sources: &[Source]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for page in PROMISES {
        let mut promise: Option<&str> = None;
        for line in named(sources, page)?.lines() {
            if let Some(shown) = line.trim().strip_prefix("Shown by") {
                let names: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
                if names.is_empty() {
                    found.push(format!("{page}: no test is named: {line}"));
                }
                let unknown = names.into_iter().filter(|name| !is_known(name, sources));
                found.extend(unknown.map(|name| format!("{page}: there is no {name}")));
                promise = None;
            } else if line.contains("MUST") {
                found.extend(promise.replace(line).map(|line| unshown(page, line)));
            }
        }
        found.extend(promise.map(|line| unshown(page, line)));
    }
    Ok(found)
}

/// The page of the transports is made of its results, and they are of every case.
pub(super) fn transports(_: &Workspace, sources: &[Source]) -> Result<Vec<String>> {
    let reports = transports::read(named(sources, transports::RESULTS)?)?;
    let mut found = transports::gaps(&reports);
    if transports::page(&reports) != named(sources, transports::PAGE)? {
        let page = transports::PAGE;
        found.push(format!(
            "{page} is not what its results say: run cargo xtask transports"
        ));
    }
    Ok(found)
}

/// Every row of the tables of traps ends with the tests that show it, and each of them exists where
/// it is said to be.
pub(super) fn traps(_: &Workspace, sources: &[Source]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut rows = 0;
    for line in named(sources, TRAPS)?.lines() {
        let Some(shown) = shown_by(line) else {
            continue;
        };
        rows += 1;
        if shown.is_empty() {
            found.push(format!("{TRAPS}: no test is named: {line}"));
        }
        let unknown = shown.into_iter().filter(|name| !is_test(name, sources));
        found.extend(unknown.map(|name| format!("{TRAPS}: there is no {name}")));
    }
    if rows == 0 {
        found.push(format!("{TRAPS}: no trap was found"));
    }
    Ok(found)
}

/// The tests in the last column of a table's row; `None` for any other line, and for the two lines
/// that begin a table.
fn shown_by(line: &str) -> Option<Vec<&str>> {
    let row = line.strip_prefix("| ")?.strip_suffix(" |")?;
    let (_, last) = row.rsplit_once(" | ")?;
    (last != "shown by").then(|| last.split('`').skip(1).step_by(2).collect())
}

/// Whether there is a test of this name: `crate::module::name`, or `folder/of/clients::name` with a
/// case that may be a sentence. Modules are files or folders on the way.
fn is_test(name: &str, sources: &[Source]) -> bool {
    let parts: Vec<&str> = name.split("::").collect();
    let [home, modules @ .., case] = &parts[..] else {
        return false;
    };
    let homes = [
        format!("crates/{home}/"),
        format!("tests/{home}/"),
        format!("{home}/"),
    ];
    let definitions = [
        format!("fn {case}("),
        format!("fn {case}<"),
        format!("def {case}("),
        format!("\"{case}\""),
    ];
    let is_there = |source: &Source| {
        let path = source.path.to_str().unwrap_or_default();
        let on_the_way: Vec<&str> = path.split(['/', '.']).collect();
        homes.iter().any(|home| path.starts_with(home))
            && modules.iter().all(|module| on_the_way.contains(module))
    };
    (!modules.is_empty() || home.contains('/'))
        && sources.iter().any(|source| {
            is_there(source)
                && source
                    .text()
                    .is_some_and(|text| definitions.iter().any(|d| text.contains(d)))
        })
}

fn unshown(page: &str, line: &str) -> String {
    format!("{page}: no test shows: {line}")
}

/// Whether a name in a document is a file, a function, a test case or a lint of this project.
pub(super) fn is_known(name: &str, sources: &[Source]) -> bool {
    let is_file = |source: &Source| source.path.to_str() == Some(name);
    let definition = |keyword: &str| format!("{keyword} {name}(");
    let patterns = [
        definition("fn"),
        // A case that runs on several databases.
        format!("fn {name}<"),
        definition("def"),
        format!("\"{name}\""),
        format!("{name} = \""),
    ];
    sources.iter().any(|source| {
        is_file(source)
            || (source
                .path
                .extension()
                .is_some_and(|e| e == "rs" || e == "py" || e == "toml")
                && source
                    .text()
                    .is_some_and(|text| patterns.iter().any(|p| text.contains(p))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source {
            path: path.into(),
            bytes: text.into(),
        }
    }

    #[test]
    fn a_test_is_found_where_it_is_said_to_be_and_nowhere_else() {
        let sources = [
            source("crates/a/tests/it/one.rs", "fn holds() {} fn lasts<T>() {}"),
            source("compat/b/run.mjs", "test(\"it goes on\", "),
        ];
        for known in [
            "a::one::holds",
            "a::it::one::holds",
            "a::one::lasts",
            "compat/b::it goes on",
        ] {
            assert!(is_test(known, &sources), "{known}");
        }
        for unknown in [
            "holds",
            "a::holds",
            "b::one::holds",
            "a::two::holds",
            "a::one::hold",
        ] {
            assert!(!is_test(unknown, &sources), "{unknown}");
        }
    }

    #[test]
    fn the_tests_of_a_trap_are_in_its_last_column() {
        assert_eq!(shown_by("| a `b` | c | `d`, `e` |"), Some(vec!["d", "e"]));
        assert_eq!(shown_by("| a | b | nothing |"), Some(vec![]));
        for other in ["| trap | what | shown by |", "|---|---|---|", "text", ""] {
            assert_eq!(shown_by(other), None, "{other}");
        }
    }

    #[test]
    fn links_are_followed_from_where_they_are() {
        let text = "[a](b.md#c), [d](../e/), [f](https://g), [h](#i) and `x[0](y z)`";
        let found = links(&source("docs/specs/page.md", text));
        assert_eq!(found, ["docs/specs/b.md", "docs/e"]);
    }

    #[test]
    fn the_numbers_of_the_code_table_are_read() {
        let table = "codes! {\n    PORT_IN_USE = 1001, \"The address\";\n    let x = 5, \"no\";\n}";
        assert_eq!(numbers(table), ["WHARF-1001".to_owned()].into());
    }
}
