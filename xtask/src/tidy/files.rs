//! Rules about single files: heads, lengths, sizes, open ends, paths.
//!
//! What a rule forbids is spelled in pieces here, so that this file does not break it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::Source;
use crate::workspace::Workspace;

/// A longer file holds more than one idea.
const LINES_MAX: usize = 600;
/// A larger blob belongs into a generator.
const BYTES_MAX: usize = 256 * 1024;
/// Files longer than [`LINES_MAX`], with the length they must not outgrow. It only gets shorter.
const RATCHET: &str = "xtask/long-files.toml";

pub(super) fn heads(_: &Workspace, sources: &[Source]) -> Result<Vec<String>> {
    let headless = |source: &&Source| source.is_rust() && !source.bytes.starts_with(b"//!");
    let line = |source: &Source| {
        format!(
            "{}: start it with //! and say what it is for",
            source.path.display()
        )
    };
    Ok(sources.iter().filter(headless).map(line).collect())
}

pub(super) fn lengths(workspace: &Workspace, sources: &[Source]) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(workspace.root.join(RATCHET)).context(RATCHET)?;
    let mut allowed: BTreeMap<String, usize> = toml::from_str(&text).context(RATCHET)?;
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let path = source.path.display().to_string();
        let lines = source.bytes.iter().filter(|&&byte| byte == b'\n').count();
        let limit = allowed.remove(&path);
        match limit {
            Some(limit) if lines > limit => {
                found.push(format!(
                    "{path}: grew from {limit} to {lines} lines; split it"
                ));
            }
            Some(_) if lines <= LINES_MAX => {
                found.push(format!("{path}: short again; take it out of {RATCHET}"));
            }
            None if lines > LINES_MAX => {
                found.push(format!(
                    "{path}: {lines} lines; split it (at most {LINES_MAX})"
                ));
            }
            Some(_) | None => {}
        }
    }
    found.extend(
        allowed
            .keys()
            .map(|path| format!("{path}: gone; take it out of {RATCHET}")),
    );
    Ok(found)
}

pub(super) fn sizes(_: &Workspace, sources: &[Source]) -> Result<Vec<String>> {
    let large = |source: &&Source| source.bytes.len() > BYTES_MAX;
    let line = |source: &Source| format!("{}: {} bytes", source.path.display(), source.bytes.len());
    Ok(sources.iter().filter(large).map(line).collect())
}

/// Looks at every line of the text files and collects the lines it objects to.
fn lines<'a>(
    sources: impl IntoIterator<Item = &'a Source>,
    objects: impl Fn(&str) -> Option<&'static str>,
) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for (index, line) in source.text().unwrap_or_default().lines().enumerate() {
            if let Some(why) = objects(line) {
                found.push(format!("{}:{}: {why}", source.path.display(), index + 1));
            }
        }
    }
    found
}

pub(super) fn open_ends(_: &Workspace, sources: &[Source]) -> Result<Vec<String>> {
    Ok(lines(sources, |line| {
        open_end(line).then_some("name the issue: (#12)")
    }))
}

/// Whether the line has a marker of unfinished work without an issue's number after it.
fn open_end(line: &str) -> bool {
    [concat!("TO", "DO"), concat!("FIX", "ME")]
        .iter()
        .any(|marker| {
            line.match_indices(marker).any(|(at, _)| {
                let after = line.get(at + marker.len()..).unwrap_or_default();
                let number = after.strip_prefix("(#").unwrap_or_default();
                !number.starts_with(|c: char| c.is_ascii_digit())
            })
        })
}

pub(super) fn ignored_tests(_: &Workspace, sources: &[Source]) -> Result<Vec<String>> {
    let marker = concat!("#[ig", "nore");
    Ok(lines(
        sources.iter().filter(|source| source.is_rust()),
        |line| line.contains(marker).then_some("run it or delete it"),
    ))
}

/// The crates that reach files, sockets and clocks only through what they are handed.
const PURE: &[&str] = &["wharf-message", "wharf-log", "wharf-broker", "wharf-kafka"];
/// The one place where a pure crate touches files: the real `Disk`.
const DISK: &str = "crates/wharf-log/src/disk/";

pub(super) fn direct_access(_: &Workspace, sources: &[Source]) -> Result<Vec<String>> {
    let inside = |source: &&Source| {
        let path = source.path.to_string_lossy();
        !path.starts_with(DISK)
            && PURE
                .iter()
                .any(|name| path.starts_with(&format!("crates/{name}/src/")))
    };
    let objects = |line: &str| {
        let direct = ["std::fs", "std::net", "std::env", "std::process"];
        direct
            .iter()
            .any(|module| line.contains(module))
            .then_some("take it as an argument")
    };
    Ok(lines(sources.iter().filter(inside), objects))
}

pub(super) fn machine_paths(_: &Workspace, sources: &[Source]) -> Result<Vec<String>> {
    Ok(lines(sources, |line| {
        machine_path(line).then_some("a path of one machine only")
    }))
}

/// Whether the line names an absolute path below somebody's home or work folder.
fn machine_path(line: &str) -> bool {
    let folders = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
    ];
    folders.iter().any(|folder| {
        line.match_indices(folder).any(|(at, _)| {
            let before = line.get(..at).and_then(|before| before.chars().next_back());
            !before.is_some_and(|c| c.is_alphanumeric() || "._-}/".contains(c))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_end_needs_its_issue() {
        let marker = concat!("TO", "DO");
        assert!(open_end(&format!("// {marker}: later")));
        assert!(open_end(&format!("// {marker}(me): later")));
        assert!(!open_end(&format!("// {marker}(#12): later")));
        assert!(!open_end("// nothing to do"));
    }

    #[test]
    fn a_machine_path_is_absolute() {
        assert!(machine_path(concat!("cd /wo", "rk/main")));
        assert!(machine_path(concat!("\"/ro", "ot/x\"")));
        assert!(!machine_path(concat!("https://example.invalid/wo", "rk/")));
        assert!(!machine_path("crates/network/mod.rs"));
    }
}
